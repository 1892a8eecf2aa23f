//! Content headers and the properties of class basic.
//!
//! A message's properties are kept as the publisher's bytes: flags of two octets, then the values
//! whose flags are set, highest bit first. [`Properties`] (generated) reads or writes them all;
//! [`Summary`] checks them all and tells what the hot path asks for.

mod basic;
pub mod json;

use nom::Parser;
use nom::number::complete::{be_u8, be_u16, be_u64};

pub use basic::Properties;

use super::table::{RawTable, TableError};
use super::wire::{Fault, long_bytes, short_bytes};

/// The flag that would announce a second word of flags. Class basic has no use for one.
const CONTINUATION: u16 = 1;

/// How a property is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Layout {
    Octet,
    ShortStr,
    Table,
    Timestamp,
}

/// Why bytes are not the properties of class basic. RabbitMQ answers with INTERNAL_ERROR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PropertiesError {
    /// Bytes are missing or left over.
    #[error("content properties are cut short or too long")]
    Malformed,
    /// A second word of flags is announced.
    #[error("content properties announce more flags than class basic has")]
    Continuation,
    /// The headers are malformed.
    #[error("headers: {0}")]
    Headers(#[from] TableError),
}

impl From<Fault> for PropertiesError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Table(error) => Self::Headers(error),
            Fault::Structure | Fault::Utf8 => Self::Malformed,
        }
    }
}

/// The payload of a content header frame. The properties are not looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentHeader<'a> {
    /// The class of the method that the content belongs to.
    pub class_id: u16,
    /// Unused, must be 0.
    pub weight: u16,
    /// Bytes of the body that follows.
    pub body_size: u64,
    /// Property flags and values.
    pub properties: &'a [u8],
}

impl<'a> ContentHeader<'a> {
    /// Bytes before the properties.
    pub const FIXED_BYTES: usize = 12;

    /// Reads the payload of a header frame; `None` when it is shorter than its fixed part, which
    /// RabbitMQ treats as a frame of unknown type.
    #[must_use]
    #[inline]
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        let (properties, (class_id, weight, body_size)) =
            (be_u16::<_, Fault>, be_u16, be_u64).parse(payload).ok()?;
        Some(Self { class_id, weight, body_size, properties })
    }
}

/// What routing and queueing ask of a message's properties, gathered while all are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// The delivery mode, if given.
    pub delivery_mode: Option<u8>,
    /// The priority, if given.
    pub priority: Option<u8>,
    /// There are headers.
    pub has_headers: bool,
    /// There is an expiration.
    pub has_expiration: bool,
    /// There is a reply address.
    pub has_reply_to: bool,
    /// There is a user id.
    pub has_user_id: bool,
}

impl Summary {
    /// Checks properties as strictly as [`Properties::parse`] does.
    ///
    /// # Errors
    /// When bytes are missing or left over, the headers are malformed or the continuation flag is
    /// set.
    #[inline]
    pub fn peek(bytes: &[u8]) -> Result<Self, PropertiesError> {
        let (mut input, flags) =
            be_u16::<_, Fault>(bytes).map_err(|_| PropertiesError::Malformed)?;
        if flags & CONTINUATION != 0 {
            return Err(PropertiesError::Continuation);
        }
        let mut summary = Self {
            has_headers: flags & basic::HEADERS != 0,
            has_expiration: flags & basic::EXPIRATION != 0,
            has_reply_to: flags & basic::REPLY_TO != 0,
            has_user_id: flags & basic::USER_ID != 0,
            ..Self::default()
        };
        for (flag, layout) in basic::LAYOUT {
            if flags & flag == 0 {
                continue;
            }
            input = match layout {
                Layout::Octet => {
                    let (rest, octet) = step(be_u8, input)?;
                    match flag {
                        basic::DELIVERY_MODE => summary.delivery_mode = Some(octet),
                        _ => summary.priority = Some(octet),
                    }
                    rest
                }
                Layout::ShortStr => step(short_bytes, input)?.0,
                Layout::Timestamp => step(be_u64, input)?.0,
                Layout::Table => {
                    let (rest, headers) = step(long_bytes, input)?;
                    RawTable::parse(headers)?;
                    rest
                }
            };
        }
        if input.is_empty() { Ok(summary) } else { Err(PropertiesError::Malformed) }
    }

    /// Whether the message asks to survive a restart.
    #[must_use]
    pub const fn is_persistent(&self) -> bool {
        matches!(self.delivery_mode, Some(2))
    }
}

/// What a queue asks of a message's properties, found without looking at the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hints<'a> {
    /// The priority, if given.
    pub priority: Option<u8>,
    /// The expiration, if given.
    pub expiration: Option<&'a [u8]>,
}

impl<'a> Hints<'a> {
    /// Reads properties that were checked when they came; of others, as much as can be read.
    #[must_use]
    pub fn of(bytes: &'a [u8]) -> Self {
        let mut hints = Self::default();
        let Ok((mut input, flags)) = be_u16::<_, Fault>(bytes) else { return hints };
        for (flag, layout) in basic::LAYOUT {
            if flags & flag == 0 {
                continue;
            }
            let rest = match layout {
                Layout::Octet => step(be_u8, input).map(|(rest, octet)| {
                    if flag == basic::PRIORITY {
                        hints.priority = Some(octet);
                    }
                    rest
                }),
                Layout::ShortStr => step(short_bytes, input).map(|(rest, text)| {
                    if flag == basic::EXPIRATION {
                        hints.expiration = Some(text);
                    }
                    rest
                }),
                Layout::Timestamp => step(be_u64, input).map(|(rest, _)| rest),
                Layout::Table => step(long_bytes, input).map(|(rest, _)| rest),
            };
            // Nothing behind the expiration is asked for.
            match rest {
                Ok(rest) if flag != basic::EXPIRATION => input = rest,
                _ => break,
            }
        }
        hints
    }
}

#[inline]
fn step<'a, P>(mut parser: P, input: &'a [u8]) -> Result<(&'a [u8], P::Output), PropertiesError>
where
    P: Parser<&'a [u8], Error = Fault>,
{
    parser.parse(input).map_err(|_| PropertiesError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All fourteen properties, and their bytes.
    fn full() -> (Properties<'static>, Vec<u8>) {
        let properties = Properties {
            content_type: Some(b"text/plain"),
            content_encoding: Some(b""),
            headers: Some(RawTable::parse(b"\x01kV").unwrap()),
            delivery_mode: Some(2),
            priority: Some(9),
            correlation_id: Some(b"c"),
            reply_to: Some(b"r"),
            expiration: Some(b"60000"),
            message_id: Some(b"m"),
            timestamp: Some(1_795_000_000),
            type_: Some(b"t"),
            user_id: Some(b"guest"),
            app_id: Some(b"\xFF not UTF-8"),
            cluster_id: Some(b"cl"),
        };
        let mut bytes = Vec::new();
        properties.encode(&mut bytes);
        (properties, bytes)
    }

    #[test]
    fn properties_read_back_as_they_were_written() {
        let (properties, bytes) = full();
        assert_eq!(&bytes[..14], b"\xFF\xFC\x0Atext/plain\x00");
        assert_eq!(Properties::parse(&bytes), Ok(properties));
        assert_eq!(Properties::parse(&[0, 0]), Ok(Properties::default()));
    }

    #[test]
    fn a_summary_tells_what_is_there() {
        let (_, bytes) = full();
        let summary = Summary::peek(&bytes).unwrap();
        assert_eq!((summary.delivery_mode, summary.priority), (Some(2), Some(9)));
        assert!(summary.is_persistent());
        assert!(summary.has_headers && summary.has_expiration);
        assert!(summary.has_reply_to && summary.has_user_id);
        assert_eq!(Summary::peek(&[0, 0]), Ok(Summary::default()));
        let hints = Hints { priority: Some(9), expiration: Some(b"60000") };
        assert_eq!(Hints::of(&bytes), hints);
        let cut = Hints { expiration: None, ..hints };
        assert_eq!(Hints::of(&bytes[..30]), cut);
        assert_eq!(Hints::of(&[0, 0]), Hints::default());
        assert!(!Summary::peek(&[0x10, 0, 1]).unwrap().is_persistent());
    }

    #[test]
    fn cut_or_overlong_properties_are_refused() {
        let (_, bytes) = full();
        for cut in 0..bytes.len() {
            assert_eq!(Properties::parse(&bytes[..cut]), Err(PropertiesError::Malformed));
            assert_eq!(Summary::peek(&bytes[..cut]), Err(PropertiesError::Malformed));
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(Properties::parse(&longer), Err(PropertiesError::Malformed));
        assert_eq!(Summary::peek(&longer), Err(PropertiesError::Malformed));
    }

    #[test]
    fn a_second_word_of_flags_is_refused() {
        for bytes in [&[0x00, 0x01][..], &[0x10, 0x01, 0x00, 0x00, 2]] {
            assert_eq!(Properties::parse(bytes), Err(PropertiesError::Continuation));
            assert_eq!(Summary::peek(bytes), Err(PropertiesError::Continuation));
        }
    }

    #[test]
    fn malformed_headers_are_refused_even_by_a_summary() {
        let bytes = b"\x20\x00\x00\x00\x00\x03\x01kZ";
        let error = PropertiesError::Headers(TableError::UnknownType(b'Z'));
        assert_eq!(Properties::parse(bytes), Err(error));
        assert_eq!(Summary::peek(bytes), Err(error));
    }

    #[test]
    fn a_content_header_keeps_the_properties_as_they_came() {
        let payload = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0x10, 0, 2];
        let header = ContentHeader::parse(&payload).unwrap();
        assert_eq!((header.class_id, header.weight, header.body_size), (60, 0, 256));
        assert_eq!(header.properties, [0x10, 0, 2]);
        for cut in 0..12 {
            assert_eq!(ContentHeader::parse(&payload[..cut]), None);
        }
    }
}
