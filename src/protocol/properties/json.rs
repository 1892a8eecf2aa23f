//! Properties as JSON, the way RabbitMQ's management plugin writes them.
//!
//! Text that is not UTF-8 is a sentence with its base64, as in tables.

use serde_json::{Map, Value as Json};

use super::Properties;
use crate::protocol::table::json;

/// The properties that are set, as an object.
#[must_use]
pub fn properties(properties: &Properties<'_>) -> Map<String, Json> {
    let mut object = Map::new();
    let texts = [
        ("content_type", properties.content_type),
        ("content_encoding", properties.content_encoding),
        ("correlation_id", properties.correlation_id),
        ("reply_to", properties.reply_to),
        ("expiration", properties.expiration),
        ("message_id", properties.message_id),
        ("type", properties.type_),
        ("user_id", properties.user_id),
        ("app_id", properties.app_id),
        ("cluster_id", properties.cluster_id),
    ];
    for (name, text) in texts {
        object.extend(text.map(|text| (name.to_owned(), json::text(text))));
    }
    let numbers = [
        ("delivery_mode", properties.delivery_mode.map(u64::from)),
        ("priority", properties.priority.map(u64::from)),
        ("timestamp", properties.timestamp),
    ];
    for (name, number) in numbers {
        object.extend(number.map(|number| (name.to_owned(), Json::from(number))));
    }
    let headers = properties.headers.map(|headers| json::table(&headers.to_table()));
    object.extend(headers.map(|headers| ("headers".to_owned(), headers)));
    object
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protocol::table::{RawTable, Table};

    #[test]
    fn only_what_is_set_is_written() {
        assert_eq!(properties(&Properties::default()), Map::new());
        let mut headers = Vec::new();
        Table::new().with("tries", 3).encode_body(&mut headers);
        let set = Properties {
            content_type: Some(b"text/plain"),
            message_id: Some(b"\xff"),
            delivery_mode: Some(2),
            headers: Some(RawTable::parse(&headers).unwrap()),
            ..Properties::default()
        };
        let written = json!({
            "content_type": "text/plain",
            "message_id": "Not UTF-8, base64 is: /w==",
            "delivery_mode": 2,
            "headers": {"tries": 3},
        });
        assert_eq!(Json::Object(properties(&set)), written);
    }
}
