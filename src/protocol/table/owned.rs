//! The owned form: tables that the broker keeps (arguments) or builds (replies, x-death).

use super::raw::ValueRef;
use crate::protocol::wire::cut_text;

/// A key or name of at most 255 bytes, usually but not always UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ShortString(Box<[u8]>);

impl ShortString {
    /// The longest short string, in bytes.
    pub const BYTES_MAX: usize = 255;

    /// The first 255 bytes.
    #[must_use]
    pub fn cut(bytes: &[u8]) -> Self {
        Self(bytes[..bytes.len().min(Self::BYTES_MAX)].into())
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, if it is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// The text, with what is not UTF-8 replaced.
    #[must_use]
    pub fn to_string_lossy(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }
}

impl From<&str> for ShortString {
    /// Cuts what is over 255 bytes, at a character's boundary.
    fn from(text: &str) -> Self {
        Self(cut_text(text, Self::BYTES_MAX).as_bytes().into())
    }
}

impl From<String> for ShortString {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl std::fmt::Debug for ShortString {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(&self.to_string_lossy(), f)
    }
}

/// An owned value; [`ValueRef`] says which tags the types have on the wire.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// True or false.
    Bool(bool),
    /// A signed octet.
    I8(i8),
    /// An unsigned octet.
    U8(u8),
    /// A signed 16-bit integer.
    I16(i16),
    /// An unsigned 16-bit integer.
    U16(u16),
    /// A signed 32-bit integer.
    I32(i32),
    /// An unsigned 32-bit integer.
    U32(u32),
    /// A signed 64-bit integer.
    I64(i64),
    /// A 32-bit float.
    F32(f32),
    /// A 64-bit float.
    F64(f64),
    /// `value` divided by ten to the power of `scale`.
    Decimal {
        /// Digits after the decimal point.
        scale: u8,
        /// The digits.
        value: u32,
    },
    /// A long string: any bytes.
    LongStr(Vec<u8>),
    /// A byte array.
    Bytes(Vec<u8>),
    /// Values in order.
    Array(Vec<Self>),
    /// Seconds of Unix time.
    Timestamp(u64),
    /// A table.
    Table(Table),
    /// No value.
    Void,
}

impl Value {
    /// The value of any integer type. Timestamps and decimals are not integers.
    #[must_use]
    pub fn as_integer(&self) -> Option<i64> {
        self.as_scalar()?.as_integer()
    }

    /// The value of a bool.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        self.as_scalar()?.as_bool()
    }

    /// The bytes of a long string.
    #[must_use]
    pub fn as_long_str(&self) -> Option<&[u8]> {
        self.as_scalar()?.as_long_str()
    }

    /// A long string that is UTF-8.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        self.as_scalar()?.as_str()
    }

    /// The table.
    #[must_use]
    pub const fn as_table(&self) -> Option<&Table> {
        match self {
            Self::Table(table) => Some(table),
            _ => None,
        }
    }

    /// The values of an array.
    #[must_use]
    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }

    /// The type as RabbitMQ's error texts name it.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Array(_) => "array",
            Self::Table(_) => "table",
            _ => self.as_scalar().map_or("void", |scalar| scalar.type_name()),
        }
    }

    /// The value in its borrowed form, unless it is an array or a table.
    pub(super) fn as_scalar(&self) -> Option<ValueRef<'_>> {
        Some(match self {
            Self::Bool(value) => ValueRef::Bool(*value),
            Self::I8(n) => ValueRef::I8(*n),
            Self::U8(n) => ValueRef::U8(*n),
            Self::I16(n) => ValueRef::I16(*n),
            Self::U16(n) => ValueRef::U16(*n),
            Self::I32(n) => ValueRef::I32(*n),
            Self::U32(n) => ValueRef::U32(*n),
            Self::I64(n) => ValueRef::I64(*n),
            Self::F32(n) => ValueRef::F32(*n),
            Self::F64(n) => ValueRef::F64(*n),
            Self::Decimal { scale, value } => ValueRef::Decimal { scale: *scale, value: *value },
            Self::LongStr(bytes) => ValueRef::LongStr(bytes),
            Self::Bytes(bytes) => ValueRef::Bytes(bytes),
            Self::Timestamp(seconds) => ValueRef::Timestamp(*seconds),
            Self::Void => ValueRef::Void,
            Self::Array(_) | Self::Table(_) => return None,
        })
    }

    /// Appends the tag and the value. 64-bit integers are tagged `l`, as RabbitMQ's are.
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Bool(value) => out.extend_from_slice(&[b't', u8::from(*value)]),
            Self::I8(n) => tagged(out, b'b', &n.to_be_bytes()),
            Self::U8(n) => tagged(out, b'B', &n.to_be_bytes()),
            Self::I16(n) => tagged(out, b's', &n.to_be_bytes()),
            Self::U16(n) => tagged(out, b'u', &n.to_be_bytes()),
            Self::I32(n) => tagged(out, b'I', &n.to_be_bytes()),
            Self::U32(n) => tagged(out, b'i', &n.to_be_bytes()),
            Self::I64(n) => tagged(out, b'l', &n.to_be_bytes()),
            Self::F32(n) => tagged(out, b'f', &n.to_be_bytes()),
            Self::F64(n) => tagged(out, b'd', &n.to_be_bytes()),
            Self::Decimal { scale, value } => {
                out.extend_from_slice(&[b'D', *scale]);
                out.extend_from_slice(&value.to_be_bytes());
            }
            Self::LongStr(bytes) => sized(out, b'S', |out| out.extend_from_slice(bytes)),
            Self::Bytes(bytes) => sized(out, b'x', |out| out.extend_from_slice(bytes)),
            Self::Array(values) => {
                sized(out, b'A', |out| values.iter().for_each(|value| value.encode(out)));
            }
            Self::Timestamp(seconds) => tagged(out, b'T', &seconds.to_be_bytes()),
            Self::Table(table) => sized(out, b'F', |out| table.encode_body(out)),
            Self::Void => out.push(b'V'),
        }
    }
}

macro_rules! value_from {
    ($($from:ty => $variant:ident),* $(,)?) => {
        $(impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}

value_from! {
    bool => Bool, i8 => I8, u8 => U8, i16 => I16, u16 => U16, i32 => I32, u32 => U32, i64 => I64,
    f32 => F32, f64 => F64, &str => LongStr, String => LongStr, &[u8] => LongStr,
    Vec<Value> => Array, Table => Table,
}

/// Whether two values are equal as RabbitMQ compares them: integers of any type by value, the two
/// float types with each other, long strings with byte arrays; everything else only within its
/// type. Tables and arrays are equal when their entries are the same in type, value and order.
#[must_use]
pub fn values_equal(a: &Value, b: &Value) -> bool {
    match (a.as_scalar(), b.as_scalar()) {
        (Some(a), Some(b)) => scalars_equal(&a, &b),
        _ => a == b,
    }
}

/// [`values_equal`] for values that are neither arrays nor tables.
pub(super) fn scalars_equal(a: &ValueRef<'_>, b: &ValueRef<'_>) -> bool {
    let float = |value: &ValueRef<'_>| match *value {
        ValueRef::F32(n) => Some(f64::from(n)),
        ValueRef::F64(n) => Some(n),
        _ => None,
    };
    if let (Some(a), Some(b)) = (a.as_integer(), b.as_integer()) {
        return a == b;
    }
    if let (Some(a), Some(b)) = (float(a), float(b)) {
        return a == b;
    }
    match (a, b) {
        (ValueRef::LongStr(a), ValueRef::Bytes(b)) | (ValueRef::Bytes(a), ValueRef::LongStr(b)) => {
            a == b
        }
        _ => a == b,
    }
}

/// An owned field table: entries in the order in which they were added.
#[derive(Clone, PartialEq, Default)]
pub struct Table(Vec<(ShortString, Value)>);

impl Table {
    /// A table without entries.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Sets a key: replaces the value of its first entry, or adds one at the end.
    pub fn insert(&mut self, key: impl Into<ShortString>, value: impl Into<Value>) -> &mut Self {
        let (key, value) = (key.into(), value.into());
        match self.0.iter_mut().find(|(name, _)| *name == key) {
            Some((_, current)) => *current = value,
            None => self.0.push((key, value)),
        }
        self
    }

    /// [`insert`](Self::insert) for building a table in one expression.
    #[must_use]
    pub fn with(mut self, key: impl Into<ShortString>, value: impl Into<Value>) -> Self {
        self.insert(key, value);
        self
    }

    /// The first value with this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| name.as_bytes() == key.as_bytes()).map(|(_, value)| value)
    }

    /// Removes every entry with this key and returns the first's value.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.0.iter().position(|(name, _)| name.as_bytes() == key.as_bytes())?;
        let (_, value) = self.0.remove(at);
        self.0.retain(|(name, _)| name.as_bytes() != key.as_bytes());
        Some(value)
    }

    /// The same entries in key order; those of the same key keep theirs.
    #[must_use]
    pub fn sorted(&self) -> Self {
        let mut sorted = self.clone();
        sorted.0.sort_by(|(a, _), (b, _)| a.cmp(b));
        sorted
    }

    /// The entries in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&ShortString, &Value)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the table as a field: its length in four octets, then its body.
    pub fn encode(&self, out: &mut Vec<u8>) {
        with_length(out, |out| self.encode_body(out));
    }

    /// Appends the entries without the length: what [`RawTable::parse`](super::RawTable::parse)
    /// reads.
    pub fn encode_body(&self, out: &mut Vec<u8>) {
        for (key, value) in &self.0 {
            out.push(u8::try_from(key.0.len()).expect("invariant: a short string"));
            out.extend_from_slice(&key.0);
            value.encode(out);
        }
    }
}

impl FromIterator<(ShortString, Value)> for Table {
    /// Keeps duplicates, as a received table may hold them.
    fn from_iter<I: IntoIterator<Item = (ShortString, Value)>>(entries: I) -> Self {
        Self(entries.into_iter().collect())
    }
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

fn tagged(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

fn sized(out: &mut Vec<u8>, tag: u8, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(tag);
    with_length(out, write);
}

/// Writes something after its length, which is filled in once it is known.
fn with_length(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out);
    let len = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&len.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::RawTable;
    use super::*;

    /// A table with a value of every type.
    fn every_type() -> Table {
        let mut table = Table::new();
        table
            .insert("bool", true)
            .insert("i8", -1_i8)
            .insert("u8", 255_u8)
            .insert("i16", i16::MIN)
            .insert("u16", u16::MAX)
            .insert("i32", i32::MIN)
            .insert("u32", u32::MAX)
            .insert("i64", i64::MIN)
            .insert("f32", 1.5_f32)
            .insert("f64", -2.5_f64)
            .insert("decimal", Value::Decimal { scale: 2, value: 314 })
            .insert("text", "grüße")
            .insert("bytes", Value::Bytes(vec![0, 255]))
            .insert("array", vec![Value::from(1_i32), Value::from("two"), Value::Void])
            .insert("timestamp", Value::Timestamp(1_795_000_000))
            .insert("table", Table::new().with("inner", Table::new()))
            .insert("void", Value::Void);
        table
    }

    #[test]
    fn a_value_of_every_type_reads_back_as_it_was_written() {
        let table = every_type();
        let mut body = Vec::new();
        table.encode_body(&mut body);
        let raw = RawTable::parse(&body).unwrap();
        assert_eq!(raw.to_table(), table);
        for ((key, value), (raw_key, raw_value)) in table.iter().zip(raw) {
            assert_eq!(key.as_bytes(), raw_key);
            assert_eq!(value.type_name(), raw_value.type_name(), "{key:?}");
            assert_eq!(value.as_integer(), raw_value.as_integer(), "{key:?}");
            assert!(raw_value.equals(value), "{key:?}");
        }
    }

    #[test]
    fn types_have_the_names_and_tags_of_rabbitmq() {
        let mut body = Vec::new();
        every_type().encode_body(&mut body);
        let mut rest = &body[..];
        let tags: String = RawTable::parse(&body)
            .unwrap()
            .iter()
            .map(|(key, value)| {
                let tag = char::from(rest[1 + key.len()]);
                let mut one = Vec::new();
                Table::from_iter([(ShortString::cut(key), value.to_value())]).encode_body(&mut one);
                rest = &rest[one.len()..];
                tag
            })
            .collect();
        assert_eq!(tags, "tbBsuIilfdDSxATFV");
        let names: Vec<&str> = every_type().iter().map(|(_, value)| value.type_name()).collect();
        assert_eq!(
            names.join(" "),
            "bool byte unsignedbyte short unsignedshort signedint unsignedint long float double \
             decimal longstr binary array timestamp table void"
        );
    }

    #[test]
    fn a_table_is_written_after_its_length() {
        let mut out = vec![9];
        Table::new().with("a", 7_u8).encode(&mut out);
        assert_eq!(out, [9, 0, 0, 0, 4, 1, b'a', b'B', 7]);
    }

    #[test]
    fn inserting_replaces_and_removing_forgets_every_duplicate() {
        let key = |name: &str| ShortString::from(name);
        let mut table: Table =
            [(key("a"), Value::from(1_i32)), (key("b"), Value::Void), (key("a"), Value::Void)]
                .into_iter()
                .collect();
        table.insert("a", 2_i32);
        assert_eq!(table.len(), 3);
        assert_eq!(table.get("a"), Some(&Value::I32(2)));
        assert_eq!(table.remove("a"), Some(Value::I32(2)));
        assert_eq!(table.remove("a"), None);
        assert_eq!(table, Table::new().with("b", Value::Void));
    }

    #[test]
    fn numbers_are_compared_by_value_within_their_class() {
        let integers = [Value::I8(7), Value::U8(7), Value::I16(7), Value::U32(7), Value::I64(7)];
        for a in &integers {
            for b in &integers {
                assert!(values_equal(a, b), "{a:?} and {b:?}");
            }
            for other in [Value::F64(7.0), Value::Timestamp(7), Value::from("7"), Value::I32(8)] {
                assert!(!values_equal(a, &other), "{a:?} and {other:?}");
            }
        }
        assert!(values_equal(&Value::F32(0.5), &Value::F64(0.5)));
        assert!(values_equal(&Value::from("x"), &Value::Bytes(vec![b'x'])));
    }

    #[test]
    fn tables_and_arrays_are_equal_when_their_entries_are_the_same() {
        let table = |n: Value| Value::from(Table::new().with("n", n));
        assert!(values_equal(&table(Value::I32(1)), &table(Value::I32(1))));
        assert!(!values_equal(&table(Value::I32(1)), &table(Value::I64(1))));
        assert!(!values_equal(&table(Value::I32(1)), &Value::Void));
    }

    #[test]
    fn a_key_is_cut_to_255_bytes() {
        assert_eq!(ShortString::from("k".repeat(300)).as_bytes().len(), 255);
        assert_eq!(ShortString::from("ä".repeat(200)).as_bytes().len(), 254);
        assert_eq!(ShortString::cut(&[0xFF; 300]).as_bytes().len(), 255);
    }
}
