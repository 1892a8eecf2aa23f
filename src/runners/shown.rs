//! Messages as programs and web servers are shown them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json, json};

use crate::broker::message::Message;
use crate::broker::trigger::run::Handed;
use crate::protocol::properties::{self, Properties};
use crate::protocol::table::json;

/// A message as an object; `id` is its place in its batch.
pub(super) fn object(id: usize, handed: &Handed) -> Json {
    let message = &handed.message;
    let (body, encoding) = match str::from_utf8(message.body()) {
        Ok(text) => (text.to_owned(), "utf8"),
        Err(_) => (STANDARD.encode(message.body()), "base64"),
    };
    json!({
        "id": id,
        "body": body,
        "encoding": encoding,
        "properties": Json::Object(all_properties(message)),
        "routing_key": json::text(message.routing_key()),
        "exchange": json::text(message.exchange()),
        "redelivered": handed.redelivered,
        "attempt": handed.attempt,
    })
}

/// A message's properties, as the management API shows them.
pub(super) fn all_properties(message: &Message) -> Map<String, Json> {
    let mut shown = properties::json::properties(&read_properties(message));
    if message.hides_bcc()
        && let Some(Json::Object(headers)) = shown.get_mut("headers")
    {
        headers.remove("BCC");
    }
    shown
}

/// The same, to be read one by one. Its headers may name blind copies.
pub(super) fn read_properties(message: &Message) -> Properties<'_> {
    Properties::parse(message.properties()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runners::tests::{handed, handed_with};

    #[test]
    fn a_message_is_shown_with_all_there_is_to_know() {
        let shown = object(3, &handed(b"caf\xc3\xa9"));
        let expected = json!({
            "id": 3, "body": "café", "encoding": "utf8", "properties": {"delivery_mode": 2},
            "routing_key": "mail.out", "exchange": "amq.topic", "redelivered": true, "attempt": 2,
        });
        assert_eq!(shown, expected);
        let shown = object(0, &handed(b"\xff\x00"));
        assert_eq!((&shown["body"], &shown["encoding"]), (&json!("/wA="), &json!("base64")));
    }

    #[test]
    fn blind_copies_are_not_shown() {
        let headers = |it: &Handed| object(0, it)["properties"]["headers"].clone();
        let table = crate::protocol::table::Table::new().with("BCC", "secret").with("a", 1);
        assert_eq!(headers(&handed_with(&table, false)), json!({"BCC": "secret", "a": 1}));
        assert_eq!(headers(&handed_with(&table, true)), json!({"a": 1}));
    }
}
