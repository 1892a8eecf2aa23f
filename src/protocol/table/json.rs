//! Field tables as JSON, the way RabbitMQ's management plugin writes them.
//!
//! Integers of every type and timestamps are numbers, byte strings that are UTF-8 are strings and
//! others a sentence with their base64, void is null. Types are lost on the way, as they are there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value as Json};

use super::{RawTable, ShortString, Table, Value};

/// A table as an object. Of two entries with one key the last counts.
#[must_use]
pub fn table(table: &Table) -> Json {
    let entry =
        |(key, value): (&ShortString, &Value)| (key.to_string_lossy().into_owned(), json(value));
    Json::Object(table.iter().map(entry).collect::<Map<_, _>>())
}

fn json(value: &Value) -> Json {
    match value {
        Value::Bool(b) => Json::Bool(*b),
        Value::I8(n) => Json::from(*n),
        Value::U8(n) => Json::from(*n),
        Value::I16(n) => Json::from(*n),
        Value::U16(n) => Json::from(*n),
        Value::I32(n) => Json::from(*n),
        Value::U32(n) => Json::from(*n),
        Value::I64(n) => Json::from(*n),
        Value::Timestamp(seconds) => Json::from(*seconds),
        Value::F32(n) => real(f64::from(*n)),
        Value::F64(n) => real(*n),
        // The nearest number there is, which dividing by a power of ten does not always give.
        Value::Decimal { scale, value } => {
            real(format!("{value}e-{scale}").parse().unwrap_or(f64::NAN))
        }
        Value::LongStr(bytes) | Value::Bytes(bytes) => text(bytes),
        Value::Array(values) => Json::Array(values.iter().map(json).collect()),
        Value::Table(inner) => table(inner),
        Value::Void => Json::Null,
    }
}

fn real(n: f64) -> Json {
    Number::from_f64(n).map_or(Json::Null, Json::Number)
}

/// A byte string: text, or a sentence with its base64.
#[must_use]
pub fn text(bytes: &[u8]) -> Json {
    match std::str::from_utf8(bytes) {
        Ok(text) => Json::from(text),
        Err(_) => Json::from(format!("Not UTF-8, base64 is: {}", STANDARD.encode(bytes))),
    }
}

/// An object as a table; `None` when a key is longer than a table's can be, or the nesting deeper
/// than the codec takes. Whole numbers become 64-bit integers, others doubles.
#[must_use]
pub fn to_table(fields: &Map<String, Json>) -> Option<Table> {
    let table = nested(fields, TABLE_DEPTH_MAX)?;
    let mut encoded = Vec::new();
    table.encode_body(&mut encoded);
    RawTable::parse_kept(&encoded).ok()?;
    Some(table)
}

/// More than the codec takes: what is deeper is refused without walking on.
const TABLE_DEPTH_MAX: u32 = 64;

fn nested(fields: &Map<String, Json>, depth: u32) -> Option<Table> {
    let mut table = Table::new();
    for (key, field) in fields {
        if key.len() > ShortString::BYTES_MAX {
            return None;
        }
        table.insert(key.as_str(), to_value(field, depth.checked_sub(1)?)?);
    }
    Some(table)
}

fn to_value(field: &Json, depth: u32) -> Option<Value> {
    Some(match field {
        Json::Null => Value::Void,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => match n.as_i64() {
            Some(n) => Value::I64(n),
            None => Value::F64(n.as_f64()?),
        },
        Json::String(text) => Value::LongStr(text.clone().into_bytes()),
        Json::Array(items) => {
            let depth = depth.checked_sub(1)?;
            Value::Array(items.iter().map(|item| to_value(item, depth)).collect::<Option<_>>()?)
        }
        Json::Object(fields) => Value::Table(nested(fields, depth)?),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_every_type_become_json() {
        let mut arguments = Table::new()
            .with("x-queue-type", "quorum")
            .with("x-max-length", 10_i32)
            .with("ratio", 0.5_f64)
            .with("inner", Table::new().with("flag", true))
            .with("list", vec![Value::U8(1), Value::Void]);
        arguments.insert("price", Value::Decimal { scale: 2, value: 1999 });
        arguments.insert("when", Value::Timestamp(1_700_000_000));
        arguments.insert("raw", Value::LongStr(vec![0xff, 0xfe]));
        arguments.insert("nan", Value::F32(f32::NAN));
        assert_eq!(
            table(&arguments),
            json!({
                "x-queue-type": "quorum",
                "x-max-length": 10,
                "ratio": 0.5,
                "inner": {"flag": true},
                "list": [1, null],
                "price": 19.99,
                "when": 1_700_000_000_u64,
                "raw": "Not UTF-8, base64 is: //4=",
                "nan": null,
            })
        );
    }
}
