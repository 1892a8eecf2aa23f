//! What binding arguments mean: as a binding's identity, as values to compare with headers, as
//! `x-match`, and as text the way RabbitMQ prints them.
//!
//! RabbitMQ compares Erlang terms with `=:=`. At the top of a table only the value counts, not its
//! type: integers of all widths are one kind, so are the two floats, so are strings and byte
//! arrays. Inside arrays and tables each value carries its type, and order counts too.

use super::BindError;
use crate::protocol::table::{Table, Value, ValueRef};

/// What tells bindings of the same destination apart: empty for the usual one, without arguments.
/// One word wide, for there may be millions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(super) struct Label(Option<Box<Spelling>>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Spelling(Box<[u8]>);

impl From<&[u8]> for Label {
    fn from(bytes: &[u8]) -> Self {
        Self((!bytes.is_empty()).then(|| Box::new(Spelling(bytes.into()))))
    }
}

/// The label of a binding. Matchers that keep the key elsewhere leave it out (empty). Arguments are
/// the same in any order, but not with other types: that is RabbitMQ's identity of a binding.
pub(super) fn label(key: &[u8], arguments: &Table) -> Label {
    if key.is_empty() && arguments.is_empty() {
        return Label::default();
    }
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&key.len().to_le_bytes());
    bytes.extend_from_slice(key);
    arguments.sorted().encode_body(&mut bytes);
    bytes.as_slice().into()
}

/// Appends what an argument's value is looked up by. Void has bytes that are never looked up: as an
/// argument it asks for presence, and as a header it equals nothing.
pub(super) fn push_argument(value: &Value, bytes: &mut Vec<u8>) {
    match value {
        Value::Array(array) if array.is_empty() => bytes.push(EMPTY_LIST),
        Value::Table(table) if table.is_empty() => bytes.push(EMPTY_LIST),
        Value::Array(_)
        | Value::Bool(_)
        | Value::Decimal { .. }
        | Value::F64(_)
        | Value::Table(_)
        | Value::Void => push_typed(value.clone(), bytes),
        Value::Bytes(string) | Value::LongStr(string) => push_string(string, bytes),
        Value::F32(number) => push_typed(Value::F64(f64::from(*number)), bytes),
        Value::I8(_)
        | Value::I16(_)
        | Value::I32(_)
        | Value::I64(_)
        | Value::U8(_)
        | Value::U16(_)
        | Value::U32(_) => push_integer(value.as_integer().map_or(0, i128::from), bytes),
        Value::Timestamp(seconds) => push_integer(i128::from(*seconds), bytes),
    }
}

/// Appends what a header's value looks up: the bytes of an argument that it equals.
pub(in crate::broker) fn push_header(value: ValueRef<'_>, bytes: &mut Vec<u8>) {
    match value {
        // RabbitMQ turns a header's seconds into milliseconds before it compares, an argument's
        // not: a timestamp equals itself only at zero, and a number can equal a timestamp.
        ValueRef::Timestamp(seconds) => push_integer(i128::from(seconds) * 1000, bytes),
        ValueRef::Bytes(string) | ValueRef::LongStr(string) => push_string(string, bytes),
        other => push_argument(&other.to_value(), bytes),
    }
}

/// The four ways to match, by the value of `x-match`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mode {
    /// One met condition is enough; otherwise all must be met.
    pub(super) any: bool,
    /// Arguments whose names start with `x-` count too, apart from `x-match` itself.
    pub(super) with_x: bool,
}

impl Mode {
    /// Reads `x-match`: `all` when absent, the first one when there are several.
    pub(super) fn of(arguments: &Table) -> Result<Self, BindError> {
        let found = arguments.iter().find(|(name, _)| name.as_bytes() == X_MATCH);
        let Some((_, value)) = found else { return Ok(Self { any: false, with_x: false }) };
        let Value::LongStr(text) = value else {
            return Err(BindError::InvalidXMatchType {
                type_name: value.type_name(),
                value: erlang_term(value),
            });
        };
        match text.as_slice() {
            b"all" => Ok(Self { any: false, with_x: false }),
            b"any" => Ok(Self { any: true, with_x: false }),
            b"all-with-x" => Ok(Self { any: false, with_x: true }),
            b"any-with-x" => Ok(Self { any: true, with_x: true }),
            _ => Err(BindError::InvalidXMatch { value: erlang_term(value) }),
        }
    }

    /// Whether an argument of this name is a condition at all.
    pub(super) fn considers(self, name: &[u8]) -> bool {
        if self.with_x { name != X_MATCH } else { !name.starts_with(b"x-") }
    }
}

const X_MATCH: &[u8] = b"x-match";

// First bytes that no type has as its tag.
const EMPTY_LIST: u8 = 0;
const INTEGER: u8 = 1;
const STRING: u8 = 2;

fn push_integer(number: i128, bytes: &mut Vec<u8>) {
    bytes.push(INTEGER);
    bytes.extend_from_slice(&number.to_le_bytes());
}

fn push_string(string: &[u8], bytes: &mut Vec<u8>) {
    bytes.push(STRING);
    bytes.extend_from_slice(string);
}

fn push_typed(value: Value, bytes: &mut Vec<u8>) {
    let start = bytes.len();
    Table::new().with("", value).encode_body(bytes);
    // Without the empty name's length.
    bytes.remove(start);
}

/// A value as Erlang's `~tp` prints it, on one line.
pub(in crate::broker) fn erlang_term(value: &Value) -> String {
    match value {
        Value::Array(array) => {
            let item = |item| format!("{{{},{}}}", Value::type_name(item), erlang_term(item));
            erlang_list(array.iter().map(item))
        }
        Value::Bool(truth) => truth.to_string(),
        Value::Bytes(string) | Value::LongStr(string) => erlang_binary(string),
        Value::Decimal { scale, value } => format!("{{{scale},{value}}}"),
        // `{:?}` keeps the `.0` that makes a whole number a float in Erlang too.
        Value::F32(number) => format!("{:?}", f64::from(*number)),
        Value::F64(number) => format!("{number:?}"),
        Value::I8(_)
        | Value::I16(_)
        | Value::I32(_)
        | Value::I64(_)
        | Value::U8(_)
        | Value::U16(_)
        | Value::U32(_) => value.as_integer().map(|number| number.to_string()).unwrap_or_default(),
        Value::Table(table) => erlang_list(table.iter().map(|(name, item)| {
            let name = erlang_binary(name.as_bytes());
            format!("{{{name},{},{}}}", item.type_name(), erlang_term(item))
        })),
        Value::Timestamp(seconds) => seconds.to_string(),
        Value::Void => "undefined".to_owned(),
    }
}

fn erlang_list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

/// A binary as Erlang prints it: quoted when it is plain text, byte by byte otherwise.
pub(super) fn erlang_binary(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "<<>>".to_owned();
    }
    let plain = |byte: &u8| matches!(byte, b' '..=b'~');
    if bytes.iter().all(plain) {
        let text = String::from_utf8_lossy(bytes).replace('\\', "\\\\").replace('"', "\\\"");
        return format!("<<\"{text}\">>");
    }
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    format!("<<{}>>", numbers.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_print_as_erlang_terms() {
        let table = Table::new().with("a", 1i32);
        let printed = [
            (Value::LongStr(b"most".to_vec()), "longstr", "<<\"most\">>"),
            (Value::LongStr(b"a\"b\\".to_vec()), "longstr", "<<\"a\\\"b\\\\\">>"),
            (Value::LongStr(vec![]), "longstr", "<<>>"),
            (Value::Bytes(vec![0, 200]), "binary", "<<0,200>>"),
            (Value::Bool(true), "bool", "true"),
            (Value::I32(-5), "signedint", "-5"),
            (Value::I64(5), "long", "5"),
            (Value::F64(1.0), "double", "1.0"),
            (Value::Decimal { scale: 2, value: 314 }, "decimal", "{2,314}"),
            (Value::Timestamp(7), "timestamp", "7"),
            (Value::Array(vec![Value::U8(1), Value::Void]), "array", ARRAY),
            (Value::Table(table), "table", "[{<<\"a\">>,signedint,1}]"),
            (Value::Void, "void", "undefined"),
        ];
        for (value, name, term) in printed {
            assert_eq!((value.type_name(), erlang_term(&value).as_str()), (name, term));
        }
    }

    const ARRAY: &str = "[{unsignedbyte,1},{void,undefined}]";

    #[test]
    fn a_label_depends_on_types_but_not_on_the_order_of_arguments() {
        let one = Table::new().with("a", 1i32).with("b", Value::Void);
        let turned = Table::new().with("b", Value::Void).with("a", 1i32);
        let wider = Table::new().with("a", 1i64).with("b", Value::Void);
        assert_eq!(label(b"k", &one), label(b"k", &turned));
        assert_ne!(label(b"k", &one), label(b"k", &wider));
        assert_ne!(label(b"k", &one), label(b"l", &one));
        assert_ne!(label(b"k", &Table::default()), label(b"", &Table::default()));
        assert_eq!(label(b"", &Table::default()), Label::default());
    }
}
