//! AMQP 0-9-1 on the wire: just what a load generator sends and has to understand.
//!
//! Written from the specification and independent of the broker's codec, so that an error in one
//! is not hidden by the same error in the other. Nothing here does IO except [`Inbound::fill`].

use std::io::{self, Read};

/// What opens a connection (AMQP 0-9-1, 4.2.2).
pub(crate) const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";
/// Frame kinds (4.2.3).
pub(crate) const FRAME_METHOD: u8 = 1;
/// See [`FRAME_METHOD`].
pub(crate) const FRAME_HEADER: u8 = 2;
/// See [`FRAME_METHOD`].
pub(crate) const FRAME_BODY: u8 = 3;
/// See [`FRAME_METHOD`].
pub(crate) const FRAME_HEARTBEAT: u8 = 8;

/// Bytes of a frame beside its payload: seven before it and the end octet.
pub(crate) const FRAME_OVERHEAD_BYTES: usize = 8;
const FRAME_HEAD_BYTES: usize = 7;
const FRAME_END: u8 = 0xCE;

/// A class and a method id.
pub(crate) type MethodId = (u16, u16);

/// The methods that the generator names.
pub(crate) mod method {
    use super::MethodId;

    pub(crate) const CONNECTION_START: MethodId = (10, 10);
    pub(crate) const CONNECTION_START_OK: MethodId = (10, 11);
    pub(crate) const CONNECTION_TUNE: MethodId = (10, 30);
    pub(crate) const CONNECTION_TUNE_OK: MethodId = (10, 31);
    pub(crate) const CONNECTION_OPEN: MethodId = (10, 40);
    pub(crate) const CONNECTION_OPEN_OK: MethodId = (10, 41);
    pub(crate) const CONNECTION_CLOSE: MethodId = (10, 50);
    pub(crate) const CONNECTION_CLOSE_OK: MethodId = (10, 51);
    pub(crate) const CONNECTION_BLOCKED: MethodId = (10, 60);
    pub(crate) const CONNECTION_UNBLOCKED: MethodId = (10, 61);
    pub(crate) const CHANNEL_OPEN: MethodId = (20, 10);
    pub(crate) const CHANNEL_OPEN_OK: MethodId = (20, 11);
    pub(crate) const CHANNEL_CLOSE: MethodId = (20, 40);
    pub(crate) const CHANNEL_CLOSE_OK: MethodId = (20, 41);
    pub(crate) const EXCHANGE_DECLARE: MethodId = (40, 10);
    pub(crate) const EXCHANGE_DECLARE_OK: MethodId = (40, 11);
    pub(crate) const EXCHANGE_DELETE: MethodId = (40, 20);
    pub(crate) const EXCHANGE_DELETE_OK: MethodId = (40, 21);
    pub(crate) const QUEUE_DECLARE: MethodId = (50, 10);
    pub(crate) const QUEUE_DECLARE_OK: MethodId = (50, 11);
    pub(crate) const QUEUE_BIND: MethodId = (50, 20);
    pub(crate) const QUEUE_BIND_OK: MethodId = (50, 21);
    pub(crate) const QUEUE_PURGE: MethodId = (50, 30);
    pub(crate) const QUEUE_PURGE_OK: MethodId = (50, 31);
    pub(crate) const QUEUE_DELETE: MethodId = (50, 40);
    pub(crate) const QUEUE_DELETE_OK: MethodId = (50, 41);
    pub(crate) const QUEUE_UNBIND: MethodId = (50, 50);
    pub(crate) const QUEUE_UNBIND_OK: MethodId = (50, 51);
    pub(crate) const BASIC_QOS: MethodId = (60, 10);
    pub(crate) const BASIC_QOS_OK: MethodId = (60, 11);
    pub(crate) const BASIC_CONSUME: MethodId = (60, 20);
    pub(crate) const BASIC_CONSUME_OK: MethodId = (60, 21);
    pub(crate) const BASIC_CANCEL: MethodId = (60, 30);
    pub(crate) const BASIC_PUBLISH: MethodId = (60, 40);
    pub(crate) const BASIC_DELIVER: MethodId = (60, 60);
    pub(crate) const BASIC_ACK: MethodId = (60, 80);
    pub(crate) const BASIC_NACK: MethodId = (60, 120);
    pub(crate) const CONFIRM_SELECT: MethodId = (85, 10);
    pub(crate) const CONFIRM_SELECT_OK: MethodId = (85, 11);
    pub(crate) const TX_SELECT: MethodId = (90, 10);
    pub(crate) const TX_SELECT_OK: MethodId = (90, 11);
    pub(crate) const TX_COMMIT: MethodId = (90, 20);
    pub(crate) const TX_COMMIT_OK: MethodId = (90, 21);
}

/// Why bytes from the broker were not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WireError {
    /// The first octet of a frame is none of the four kinds.
    #[error("a frame of unknown kind {0}")]
    FrameKind(u8),
    /// A method or header frame does not end with the frame-end octet.
    #[error("a frame ends with octet {0:#04x}")]
    FrameEnd(u8),
    /// A frame that is larger than the generator's buffer.
    #[error("a frame of {0} bytes")]
    FrameSize(usize),
    /// Arguments end too early.
    #[error("arguments that end too early")]
    Truncated,
}

/// A value of an argument table; the four kinds that declarations use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// `t`.
    Bool(bool),
    /// `l`, as stock clients send whole numbers.
    Int(i64),
    /// `S`.
    Text(String),
    /// `F`.
    Table(Table),
}

/// An argument table in the order in which it is sent.
pub(crate) type Table = Vec<(String, Value)>;

/// Writes the arguments of one method.
pub(crate) struct Arguments<'a>(&'a mut Vec<u8>);

impl<'a> Arguments<'a> {
    /// Appends to `out`.
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self(out)
    }

    /// An octet, or up to eight packed bits.
    pub(crate) fn octet(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    /// A short.
    pub(crate) fn short(&mut self, value: u16) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A long.
    pub(crate) fn long(&mut self, value: u32) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A longlong.
    pub(crate) fn longlong(&mut self, value: u64) -> &mut Self {
        self.0.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// A short string; what does not fit in 255 bytes is cut off.
    pub(crate) fn short_string(&mut self, value: &str) -> &mut Self {
        let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
        self.0.push(length);
        self.0.extend_from_slice(&value.as_bytes()[..usize::from(length)]);
        self
    }

    /// A long string.
    pub(crate) fn long_string(&mut self, value: &[u8]) -> &mut Self {
        self.sized(|out| out.extend_from_slice(value))
    }

    /// A field table.
    pub(crate) fn table(&mut self, table: &[(String, Value)]) -> &mut Self {
        self.sized(|out| {
            for (name, value) in table {
                Arguments::new(out).short_string(name).value(value);
            }
        })
    }

    fn value(&mut self, value: &Value) -> &mut Self {
        match value {
            Value::Bool(value) => self.octet(b't').octet(u8::from(*value)),
            Value::Int(value) => {
                self.0.push(b'l');
                self.0.extend_from_slice(&value.to_be_bytes());
                self
            }
            Value::Text(value) => self.octet(b'S').long_string(value.as_bytes()),
            Value::Table(value) => self.octet(b'F').table(value),
        }
    }

    /// Writes something and the number of its bytes, as a long, before it.
    fn sized(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        let at = self.0.len();
        self.0.extend_from_slice(&[0; 4]);
        write(self.0);
        set_length(self.0, at);
        self
    }
}

/// Appends a method frame.
pub(crate) fn put_method(
    out: &mut Vec<u8>,
    channel: u16,
    (class, method): MethodId,
    arguments: impl FnOnce(&mut Arguments<'_>),
) {
    put_frame(out, FRAME_METHOD, channel, |out| {
        let mut writer = Arguments::new(out);
        writer.short(class).short(method);
        arguments(&mut writer);
    });
}

/// Appends a content header and as many body frames as `frame_bytes_max` asks for. `properties`
/// are the flags and the values. Returns where in `out` the body's first frame's payload starts.
pub(crate) fn put_content(
    out: &mut Vec<u8>,
    channel: u16,
    properties: &[u8],
    body: &[u8],
    frame_bytes_max: usize,
) -> usize {
    put_frame(out, FRAME_HEADER, channel, |out| {
        let body_bytes = body.len() as u64;
        Arguments::new(out).short(method::BASIC_PUBLISH.0).short(0).longlong(body_bytes);
        out.extend_from_slice(properties);
    });
    let start = out.len() + FRAME_HEAD_BYTES;
    for part in body.chunks(frame_bytes_max - FRAME_OVERHEAD_BYTES) {
        put_frame(out, FRAME_BODY, channel, |out| out.extend_from_slice(part));
    }
    start
}

/// Appends a heartbeat.
pub(crate) fn put_heartbeat(out: &mut Vec<u8>) {
    put_frame(out, FRAME_HEARTBEAT, 0, |_| ());
}

/// Appends an acknowledgement (`Basic.Ack`).
pub(crate) fn put_ack(out: &mut Vec<u8>, channel: u16, tag: u64, covers: Covers) {
    put_method(out, channel, method::BASIC_ACK, |arguments| {
        arguments.longlong(tag).octet(u8::from(covers == Covers::UpTo));
    });
}

/// What an acknowledgement settles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Covers {
    /// The named tag.
    One,
    /// Every tag up to the named one (`multiple`).
    UpTo,
}

fn put_frame(out: &mut Vec<u8>, kind: u8, channel: u16, payload: impl FnOnce(&mut Vec<u8>)) {
    out.push(kind);
    out.extend_from_slice(&channel.to_be_bytes());
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    payload(out);
    set_length(out, at);
    out.push(FRAME_END);
}

/// Fills in the long at `at` with the number of bytes that follow it.
fn set_length(out: &mut [u8], at: usize) {
    let length = u32::try_from(out.len() - at - 4).expect("invariant: no more than a frame");
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
}

/// Reads the arguments of one method.
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Reads from the start of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// An octet, or packed bits.
    pub(crate) fn octet(&mut self) -> Result<u8, WireError> {
        self.array::<1>().map(|[octet]| octet)
    }

    /// A short.
    pub(crate) fn short(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    /// A long.
    pub(crate) fn long(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_be_bytes)
    }

    /// A longlong.
    pub(crate) fn longlong(&mut self) -> Result<u64, WireError> {
        self.array().map(u64::from_be_bytes)
    }

    /// A short string.
    pub(crate) fn short_string(&mut self) -> Result<&'a [u8], WireError> {
        let length = self.octet()?;
        self.take(usize::from(length))
    }

    /// Passes over a number of bytes.
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(WireError::Truncated)?;
        self.0 = rest;
        Ok(*taken)
    }
}

/// A frame in the receive buffer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// The frame kind.
    pub(crate) kind: u8,
    /// The channel; 0 is the connection.
    pub(crate) channel: u16,
    /// The payload; of a body frame only its start, as much as has arrived.
    pub(crate) payload: &'a [u8],
    /// The size of the whole payload, in bytes.
    pub(crate) payload_bytes: usize,
}

impl<'a> Frame<'a> {
    /// The method of a method frame and a reader over its arguments.
    pub(crate) fn method(&self) -> Result<(MethodId, Fields<'a>), WireError> {
        let mut fields = Fields::new(self.payload);
        let id = (fields.short()?, fields.short()?);
        Ok((id, fields))
    }
}

/// How much of a body frame must have arrived before it is handed out.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyView {
    /// This many bytes, or all of a shorter one; the rest is passed over, wherever a read cuts it.
    Start(usize),
    /// All of it.
    #[default]
    Whole,
}

/// The receive buffer of one connection. Frames are read in place. The default is an empty one that
/// holds nothing: it stands in while the real one is lent out.
#[derive(Debug, Default)]
pub(crate) struct Inbound {
    buffer: Box<[u8]>,
    body_view: BodyView,
    start: usize,
    end: usize,
    skip: usize,
}

impl Inbound {
    /// A buffer of the given size in bytes, which is also the limit of a frame seen whole.
    pub(crate) fn with_capacity(bytes: usize, body_view: BodyView) -> Self {
        let buffer = vec![0; bytes].into_boxed_slice();
        Self { buffer, body_view, start: 0, end: 0, skip: 0 }
    }

    /// Reads once. Returns the number of bytes; 0 means that the peer closed the connection.
    pub(crate) fn fill(&mut self, from: &mut impl Read) -> io::Result<usize> {
        let read = from.read(self.space())?;
        self.end += read;
        Ok(read)
    }

    /// Room for the next read; follow it with [`Inbound::filled`].
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        &mut self.buffer[self.end..]
    }

    /// Says how many bytes were read into [`Inbound::space`].
    pub(crate) fn filled(&mut self, bytes: usize) {
        self.end += bytes;
    }

    /// The next frame, if enough of it has arrived.
    pub(crate) fn next(&mut self) -> Result<Option<Frame<'_>>, WireError> {
        let skipped = self.skip.min(self.end - self.start);
        self.skip -= skipped;
        self.start += skipped;
        let Some((head, rest)) = self.buffer[self.start..self.end].split_first_chunk::<7>() else {
            return Ok(None);
        };
        let [kind, channel_high, channel_low, length @ ..] = *head;
        let payload_bytes = u32::from_be_bytes(length) as usize;
        let channel = u16::from_be_bytes([channel_high, channel_low]);
        let whole = FRAME_OVERHEAD_BYTES + payload_bytes;
        if let (FRAME_BODY, BodyView::Start(wanted)) = (kind, self.body_view) {
            if rest.len() < payload_bytes.min(wanted) {
                return Ok(None);
            }
            let here = rest.len().min(payload_bytes);
            let at = self.start + FRAME_HEAD_BYTES;
            let present = (self.end - self.start).min(whole);
            self.start += present;
            self.skip = whole - present;
            let payload = &self.buffer[at..at + here];
            return Ok(Some(Frame { kind, channel, payload, payload_bytes }));
        }
        if !matches!(kind, FRAME_METHOD | FRAME_HEADER | FRAME_BODY | FRAME_HEARTBEAT) {
            return Err(WireError::FrameKind(kind));
        }
        if whole > self.buffer.len() {
            return Err(WireError::FrameSize(whole));
        }
        let Some(frame) = self.buffer[self.start..self.end].get(..whole) else {
            return Ok(None);
        };
        if frame[whole - 1] != FRAME_END {
            return Err(WireError::FrameEnd(frame[whole - 1]));
        }
        self.start += whole;
        let payload = &frame[FRAME_HEAD_BYTES..whole - 1];
        Ok(Some(Frame { kind, channel, payload, payload_bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(view: BodyView, chunk: usize, bytes: &[u8]) -> Vec<(u8, usize, Vec<u8>)> {
        let mut inbound = Inbound::with_capacity(512, view);
        let mut seen = Vec::new();
        for mut part in bytes.chunks(chunk) {
            while !part.is_empty() {
                inbound.fill(&mut part).unwrap();
                while let Some(frame) = inbound.next().unwrap() {
                    let peek = frame.payload.len().min(16);
                    seen.push((frame.kind, frame.payload_bytes, frame.payload[..peek].to_vec()));
                }
            }
        }
        seen
    }

    #[test]
    fn frames_are_the_same_however_the_bytes_are_cut() {
        let mut bytes = Vec::new();
        put_ack(&mut bytes, 1, 7, Covers::UpTo);
        put_content(&mut bytes, 1, &[0, 0], &[9; 1000], 400);
        put_heartbeat(&mut bytes);
        put_content(&mut bytes, 1, &[0, 0], &[], 400);
        let whole = frames(BodyView::Whole, usize::MAX, &bytes);
        let kinds: Vec<_> = whole.iter().map(|(kind, size, _)| (*kind, *size)).collect();
        assert_eq!(kinds, [(1, 13), (2, 14), (3, 392), (3, 392), (3, 216), (8, 0), (2, 14)]);
        for chunk in 1..64 {
            assert_eq!(frames(BodyView::Whole, chunk, &bytes), whole, "pieces of {chunk}");
            assert_eq!(frames(BodyView::Start(16), chunk, &bytes), whole, "pieces of {chunk}");
        }
    }

    #[test]
    fn an_ack_is_encoded_as_the_specification_says() {
        let mut bytes = Vec::new();
        put_ack(&mut bytes, 3, 0x0102, Covers::UpTo);
        let expected = b"\x01\x00\x03\x00\x00\x00\x0d\x00\x3c\x00\x50\0\0\0\0\0\0\x01\x02\x01\xce";
        assert_eq!(bytes, expected);
    }

    #[test]
    fn a_wrong_kind_or_end_octet_is_an_error() {
        let mut inbound = Inbound::with_capacity(64, BodyView::Whole);
        inbound.fill(&mut &b"\x04\0\0\0\0\0\0\xce"[..]).unwrap();
        assert_eq!(inbound.next().unwrap_err(), WireError::FrameKind(4));
        let mut inbound = Inbound::with_capacity(64, BodyView::Whole);
        inbound.fill(&mut &b"\x08\0\0\0\0\0\0\xcf"[..]).unwrap();
        assert_eq!(inbound.next().unwrap_err(), WireError::FrameEnd(0xcf));
    }

    #[test]
    fn tables_nest_and_carry_their_length() {
        let mut bytes = Vec::new();
        let inner = vec![("a".to_owned(), Value::Bool(true))];
        let table = vec![
            ("n".to_owned(), Value::Int(-2)),
            ("s".to_owned(), Value::Text("xy".to_owned())),
            ("t".to_owned(), Value::Table(inner)),
        ];
        Arguments(&mut bytes).table(&table);
        let expected: &[u8] = b"\0\0\0\x1f\x01nl\xff\xff\xff\xff\xff\xff\xff\xfe\
            \x01sS\0\0\0\x02xy\x01tF\0\0\0\x04\x01at\x01";
        assert_eq!(bytes, expected);
    }
}
