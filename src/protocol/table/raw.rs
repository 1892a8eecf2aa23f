//! The borrowed view: checked bytes, walked on demand.
//!
//! Invariant: the bytes of a [`RawTable`] or [`RawArray`] that leaves this module have been checked
//! to the last level, so that walking them cannot fail.

use nom::bytes::complete::take;
use nom::error::{ErrorKind, ParseError};
use nom::number::complete::{
    be_f32, be_f64, be_i8, be_i16, be_i32, be_i64, be_u8, be_u16, be_u32, be_u64,
};
use nom::{IResult, Parser};

use super::owned::{ShortString, Table, Value, scalars_equal};
use super::{ENTRIES_ADDED_MAX, ENTRIES_MAX, NESTING_MAX, TableError};

type Parsed<'a, T> = IResult<&'a [u8], T, TableError>;

impl<I> ParseError<I> for TableError {
    fn from_error_kind(_: I, _: ErrorKind) -> Self {
        Self::Truncated
    }

    fn append(_: I, _: ErrorKind, other: Self) -> Self {
        other
    }
}

/// A checked field table, without its length prefix. Keys are bytes; with duplicate keys look-ups
/// find the first, as RabbitMQ's do.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct RawTable<'a>(&'a [u8]);

impl<'a> RawTable<'a> {
    /// The table without entries.
    pub const EMPTY: RawTable<'static> = RawTable(&[]);

    /// Checks the body of a table (the bytes after its length) to the last level.
    ///
    /// # Errors
    /// When it is cut short, holds an unknown type or is over a limit.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TableError> {
        Self::parse_up_to(bytes, ENTRIES_MAX)
    }

    /// Checks the body of a table that was received within the limits and kept since, perhaps with
    /// entries that the broker added.
    ///
    /// # Errors
    /// When it is cut short, holds an unknown type or is over a limit.
    pub fn parse_kept(bytes: &'a [u8]) -> Result<Self, TableError> {
        Self::parse_up_to(bytes, ENTRIES_MAX + ENTRIES_ADDED_MAX)
    }

    fn parse_up_to(bytes: &'a [u8], entries_max: usize) -> Result<Self, TableError> {
        let mut entries_left = entries_max;
        check_table(bytes, NESTING_MAX, &mut entries_left)?;
        Ok(Self(bytes))
    }

    /// The entries in their order, duplicates included.
    #[must_use]
    pub fn iter(&self) -> TableIter<'a> {
        TableIter(self.0)
    }

    /// The first value with this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<ValueRef<'a>> {
        self.iter().find(|(name, _)| *name == key.as_bytes()).map(|(_, value)| value)
    }

    /// A copy that outlives the buffer; order and duplicates stay.
    #[must_use]
    pub fn to_table(&self) -> Table {
        self.iter().map(|(key, value)| (ShortString::cut(key), value.to_value())).collect()
    }

    /// The bytes, without the length prefix.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// True when there are no entries.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for RawTable<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let entries = self.iter().map(|(key, value)| (String::from_utf8_lossy(key), value));
        f.debug_map().entries(entries).finish()
    }
}

impl<'a> IntoIterator for RawTable<'a> {
    type Item = (&'a [u8], ValueRef<'a>);
    type IntoIter = TableIter<'a>;

    fn into_iter(self) -> TableIter<'a> {
        self.iter()
    }
}

/// Walks a [`RawTable`].
#[derive(Debug, Clone)]
pub struct TableIter<'a>(&'a [u8]);

impl<'a> Iterator for TableIter<'a> {
    type Item = (&'a [u8], ValueRef<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let (rest, found) = entry(self.0).ok()?;
        self.0 = rest;
        Some(found)
    }
}

/// A checked array, without its length prefix.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct RawArray<'a>(&'a [u8]);

impl<'a> RawArray<'a> {
    /// The values in their order.
    pub fn iter(&self) -> impl Iterator<Item = ValueRef<'a>> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (after, found) = value(rest).ok()?;
            rest = after;
            Some(found)
        })
    }

    /// The bytes, without the length prefix.
    #[must_use]
    pub const fn as_bytes(&self) -> &'a [u8] {
        self.0
    }

    /// True when there are no values.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for RawArray<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// A value within received bytes. The variants are RabbitMQ's types; each names its tag.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ValueRef<'a> {
    /// `t`: any octet but 0 is true.
    Bool(bool),
    /// `b`
    I8(i8),
    /// `B`
    U8(u8),
    /// `s`: not a short string, whatever the specification says.
    I16(i16),
    /// `u`
    U16(u16),
    /// `I`
    I32(i32),
    /// `i`
    U32(u32),
    /// `l` and `L`
    I64(i64),
    /// `f`
    F32(f32),
    /// `d`
    F64(f64),
    /// `D`: `value` divided by ten to the power of `scale`.
    Decimal {
        /// Digits after the decimal point.
        scale: u8,
        /// The digits.
        value: u32,
    },
    /// `S`: any bytes.
    LongStr(&'a [u8]),
    /// `x`
    Bytes(&'a [u8]),
    /// `A`
    Array(RawArray<'a>),
    /// `T`: seconds of Unix time.
    Timestamp(u64),
    /// `F`
    Table(RawTable<'a>),
    /// `V`
    Void,
}

impl<'a> ValueRef<'a> {
    /// The value of any integer type. Timestamps and decimals are not integers.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        match *self {
            Self::I8(n) => Some(n.into()),
            Self::U8(n) => Some(n.into()),
            Self::I16(n) => Some(n.into()),
            Self::U16(n) => Some(n.into()),
            Self::I32(n) => Some(n.into()),
            Self::U32(n) => Some(n.into()),
            Self::I64(n) => Some(n),
            _ => None,
        }
    }

    /// The value of a bool.
    #[must_use]
    pub const fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// The bytes of a long string.
    #[must_use]
    pub const fn as_long_str(&self) -> Option<&'a [u8]> {
        match *self {
            Self::LongStr(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A long string that is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.as_long_str()?).ok()
    }

    /// The table.
    #[must_use]
    pub const fn as_table(&self) -> Option<RawTable<'a>> {
        match *self {
            Self::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The array.
    #[must_use]
    pub const fn as_array(&self) -> Option<RawArray<'a>> {
        match *self {
            Self::Array(array) => Some(array),
            _ => None,
        }
    }

    /// The type as RabbitMQ's error texts name it.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Bool(_) => "bool",
            Self::I8(_) => "byte",
            Self::U8(_) => "unsignedbyte",
            Self::I16(_) => "short",
            Self::U16(_) => "unsignedshort",
            Self::I32(_) => "signedint",
            Self::U32(_) => "unsignedint",
            Self::I64(_) => "long",
            Self::F32(_) => "float",
            Self::F64(_) => "double",
            Self::Decimal { .. } => "decimal",
            Self::LongStr(_) => "longstr",
            Self::Bytes(_) => "binary",
            Self::Array(_) => "array",
            Self::Timestamp(_) => "timestamp",
            Self::Table(_) => "table",
            Self::Void => "void",
        }
    }

    /// Whether this equals an owned value in the sense of [`values_equal`](super::values_equal),
    /// without copying unless both are tables or arrays.
    #[must_use]
    pub fn equals(&self, other: &Value) -> bool {
        match (self, other) {
            (Self::Array(_), Value::Array(_)) | (Self::Table(_), Value::Table(_)) => {
                self.to_value() == *other
            }
            _ => other.as_scalar().is_some_and(|other| scalars_equal(self, &other)),
        }
    }

    /// A copy that outlives the buffer.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match *self {
            Self::Bool(value) => Value::Bool(value),
            Self::I8(n) => Value::I8(n),
            Self::U8(n) => Value::U8(n),
            Self::I16(n) => Value::I16(n),
            Self::U16(n) => Value::U16(n),
            Self::I32(n) => Value::I32(n),
            Self::U32(n) => Value::U32(n),
            Self::I64(n) => Value::I64(n),
            Self::F32(n) => Value::F32(n),
            Self::F64(n) => Value::F64(n),
            Self::Decimal { scale, value } => Value::Decimal { scale, value },
            Self::LongStr(bytes) => Value::LongStr(bytes.to_vec()),
            Self::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
            Self::Array(array) => Value::Array(array.iter().map(|item| item.to_value()).collect()),
            Self::Timestamp(seconds) => Value::Timestamp(seconds),
            Self::Table(table) => Value::Table(table.to_table()),
            Self::Void => Value::Void,
        }
    }
}

/// Checks a table's entries. `levels` counts down so that a hostile table cannot exhaust the
/// stack; `entries_left` so that a small one cannot make much work.
fn check_table(bytes: &[u8], levels: usize, entries_left: &mut usize) -> Result<(), TableError> {
    let levels = levels.checked_sub(1).ok_or(TableError::TooDeep)?;
    let mut input = bytes;
    while !input.is_empty() {
        let (rest, (_, found)) = entry(input).map_err(into_error)?;
        check_value(found, levels, entries_left)?;
        input = rest;
    }
    Ok(())
}

fn check_array(bytes: &[u8], levels: usize, entries_left: &mut usize) -> Result<(), TableError> {
    let levels = levels.checked_sub(1).ok_or(TableError::TooDeep)?;
    let mut input = bytes;
    while !input.is_empty() {
        let (rest, found) = value(input).map_err(into_error)?;
        check_value(found, levels, entries_left)?;
        input = rest;
    }
    Ok(())
}

fn check_value(
    value: ValueRef<'_>,
    levels: usize,
    entries_left: &mut usize,
) -> Result<(), TableError> {
    *entries_left = entries_left.checked_sub(1).ok_or(TableError::TooManyEntries)?;
    match value {
        ValueRef::Table(table) => check_table(table.0, levels, entries_left),
        ValueRef::Array(array) => check_array(array.0, levels, entries_left),
        _ => Ok(()),
    }
}

fn into_error(error: nom::Err<TableError>) -> TableError {
    match error {
        nom::Err::Error(error) | nom::Err::Failure(error) => error,
        nom::Err::Incomplete(_) => TableError::Truncated,
    }
}

fn entry(input: &[u8]) -> Parsed<'_, (&[u8], ValueRef<'_>)> {
    (key, value).parse(input)
}

fn key(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (input, len) = be_u8(input)?;
    take(len)(input)
}

fn sized(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (input, len) = be_u32(input)?;
    take(len)(input)
}

/// One value with its tag. What is inside tables and arrays is left to the caller to check.
fn value(input: &[u8]) -> Parsed<'_, ValueRef<'_>> {
    let (input, tag) = be_u8(input)?;
    match tag {
        b't' => be_u8.map(|octet| ValueRef::Bool(octet != 0)).parse(input),
        b'b' => be_i8.map(ValueRef::I8).parse(input),
        b'B' => be_u8.map(ValueRef::U8).parse(input),
        b's' => be_i16.map(ValueRef::I16).parse(input),
        b'u' => be_u16.map(ValueRef::U16).parse(input),
        b'I' => be_i32.map(ValueRef::I32).parse(input),
        b'i' => be_u32.map(ValueRef::U32).parse(input),
        b'l' | b'L' => be_i64.map(ValueRef::I64).parse(input),
        b'f' => be_f32.map(ValueRef::F32).parse(input),
        b'd' => be_f64.map(ValueRef::F64).parse(input),
        b'D' => {
            (be_u8, be_u32).map(|(scale, value)| ValueRef::Decimal { scale, value }).parse(input)
        }
        b'S' => sized.map(ValueRef::LongStr).parse(input),
        b'x' => sized.map(ValueRef::Bytes).parse(input),
        b'A' => sized.map(|bytes| ValueRef::Array(RawArray(bytes))).parse(input),
        b'T' => be_u64.map(ValueRef::Timestamp).parse(input),
        b'F' => sized.map(|bytes| ValueRef::Table(RawTable(bytes))).parse(input),
        b'V' => Ok((input, ValueRef::Void)),
        unknown => Err(nom::Err::Failure(TableError::UnknownType(unknown))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(levels: usize, tag: u8) -> Vec<u8> {
        let mut body = Vec::new();
        for level in 1..levels {
            let key: &[u8] = if tag == b'F' || level + 1 == levels { &[1, b'k'] } else { &[] };
            let len = u32::try_from(body.len()).unwrap();
            body = [key, &[tag], &len.to_be_bytes(), &body].concat();
        }
        body
    }

    #[test]
    fn a_look_up_finds_the_first_of_duplicate_keys() {
        let table = RawTable::parse(b"\x01ab\x01\x01ab\x02\x01bV").unwrap();
        assert_eq!(table.get("a"), Some(ValueRef::I8(1)));
        assert_eq!(table.get("b"), Some(ValueRef::Void));
        assert_eq!(table.get("c"), None);
        assert_eq!(table.iter().count(), 3);
        assert_eq!(table.to_table().len(), 3);
    }

    #[test]
    fn keys_need_not_be_text() {
        let table = RawTable::parse(b"\x02\xff\x00V\x00V").unwrap();
        let keys: Vec<&[u8]> = table.iter().map(|(key, _)| key).collect();
        assert_eq!(keys, [&b"\xff\x00"[..], b""]);
    }

    #[test]
    fn any_octet_but_zero_is_true() {
        for (octet, expected) in [(0, false), (1, true), (2, true), (255, true)] {
            let bytes = [1, b'k', b't', octet];
            assert_eq!(RawTable::parse(&bytes).unwrap().get("k"), Some(ValueRef::Bool(expected)));
        }
    }

    #[test]
    fn both_tags_of_long_are_signed() {
        for tag in *b"lL" {
            let bytes = [&[1, b'k', tag][..], &[0xFF; 8]].concat();
            assert_eq!(RawTable::parse(&bytes).unwrap().get("k"), Some(ValueRef::I64(-1)));
        }
    }

    #[test]
    fn a_table_cut_anywhere_within_an_entry_is_refused() {
        let bytes = b"\x01kS\x00\x00\x00\x02hi";
        assert!(RawTable::parse(bytes).is_ok());
        for cut in 1..bytes.len() {
            assert_eq!(RawTable::parse(&bytes[..cut]), Err(TableError::Truncated), "at {cut}");
        }
    }

    #[test]
    fn what_is_nested_is_checked_too() {
        let cut_within = b"\x01kF\x00\x00\x00\x02\x05x";
        assert_eq!(RawTable::parse(cut_within), Err(TableError::Truncated));
        let unknown_within = b"\x01kA\x00\x00\x00\x01Z";
        assert_eq!(RawTable::parse(unknown_within), Err(TableError::UnknownType(b'Z')));
    }

    #[test]
    fn types_that_rabbitmq_does_not_know_are_refused() {
        for tag in *b"UzZ\x00_" {
            let bytes = [&[1, b'k', tag][..], &[0; 16]].concat();
            assert_eq!(RawTable::parse(&bytes), Err(TableError::UnknownType(tag)));
        }
    }

    #[test]
    fn nesting_ends_at_32_levels() {
        for tag in *b"FA" {
            assert!(RawTable::parse(&nested(NESTING_MAX, tag)).is_ok());
            let deeper = nested(NESTING_MAX + 1, tag);
            assert_eq!(RawTable::parse(&deeper), Err(TableError::TooDeep));
        }
    }

    #[test]
    fn entries_are_counted_across_all_levels() {
        let voids = b"\x00V".repeat(ENTRIES_MAX - 1);
        let len = u32::try_from(voids.len()).unwrap();
        let full = [&[0, b'F'][..], &len.to_be_bytes(), &voids].concat();
        assert!(RawTable::parse(&full).is_ok());
        let over = [&full[..], &[0, b'V']].concat();
        assert_eq!(RawTable::parse(&over), Err(TableError::TooManyEntries));
    }
}
