//! The fields that methods and properties are made of: readers over complete slices, and writers.
//!
//! Reading a method has two steps, in RabbitMQ's order: first its structure (every field present,
//! nothing left over), then the contents of its fields (UTF-8, tables). A method that is wrong in
//! both ways is refused for its structure.

use nom::bytes::complete::take;
use nom::combinator::all_consuming;
use nom::error::{ErrorKind, ParseError};
use nom::number::complete::{be_u8, be_u32};
use nom::{IResult, Parser};

use super::table::TableError;

/// Why fields cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Bytes are missing or left over.
    Structure,
    /// A short string is not UTF-8.
    Utf8,
    /// A field table is malformed.
    Table(TableError),
}

impl<I> ParseError<I> for Fault {
    fn from_error_kind(_: I, _: ErrorKind) -> Self {
        Self::Structure
    }

    fn append(_: I, _: ErrorKind, other: Self) -> Self {
        other
    }
}

impl From<TableError> for Fault {
    fn from(error: TableError) -> Self {
        Self::Table(error)
    }
}

/// The outcome of one field reader.
pub(super) type Parsed<'a, T> = IResult<&'a [u8], T, Fault>;

/// Runs a reader that must use up the whole input.
#[inline]
pub(super) fn whole<'a, P>(parser: P, input: &'a [u8]) -> Result<P::Output, Fault>
where
    P: Parser<&'a [u8], Error = Fault>,
{
    match all_consuming(parser).parse(input) {
        Ok((_, output)) => Ok(output),
        Err(nom::Err::Error(fault) | nom::Err::Failure(fault)) => Err(fault),
        Err(nom::Err::Incomplete(_)) => Err(Fault::Structure),
    }
}

/// The fields of a method that has none.
#[inline]
pub(super) fn nothing(input: &[u8]) -> Parsed<'_, ()> {
    Ok((input, ()))
}

/// A short string: an octet of length, then that many bytes.
#[inline]
pub(super) fn short_bytes(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (input, len) = be_u8(input)?;
    take(len)(input)
}

/// A long string or the body of a table: four octets of length, then that many bytes.
#[inline]
pub(super) fn long_bytes(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (input, len) = be_u32(input)?;
    take(len)(input)
}

/// A short string of a method without content, which must be UTF-8.
#[inline]
pub(super) fn text(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|_| Fault::Utf8)
}

/// Appends a short string. What is over 255 bytes is cut: a short string cannot hold it, and every
/// name that the broker keeps came in as one.
#[inline]
pub(super) fn put_short_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    debug_assert!(bytes.len() <= usize::from(u8::MAX), "a short string of {} bytes", bytes.len());
    let len = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    out.push(len);
    out.extend_from_slice(&bytes[..usize::from(len)]);
}

/// Appends a long string, or a table's body with its length.
#[inline]
pub(super) fn put_long_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(&bytes[..len as usize]);
}

/// The longest part of a text that fits into so many bytes and ends at a character's boundary.
pub(super) fn cut_text(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut_text("häuser", 10), "häuser");
        assert_eq!(cut_text("häuser", 3), "hä");
        assert_eq!(cut_text("häuser", 2), "h");
        assert_eq!(cut_text("häuser", 0), "");
    }

    #[test]
    fn structure_is_judged_before_contents() {
        let parser = |input| (be_u8, short_bytes).parse(input);
        assert_eq!(whole(parser, &[1, 2, b'h', b'i']), Ok((1, &b"hi"[..])));
        assert_eq!(whole(parser, &[1, 3, b'h', b'i']), Err(Fault::Structure));
        assert_eq!(whole(parser, &[1, 1, b'h', b'i']), Err(Fault::Structure));
        assert_eq!(text(&[0xC3]), Err(Fault::Utf8));
    }
}
