//! What webhooks are sent: CloudEvents (1.0, HTTP binding).
//!
//! One message is its own body with what is known of it in `ce-` headers; several are one document
//! of the batch format; a trigger that hands nothing over sends one event that says why it fired.
//! Values come from anyone who may publish: what cannot stand in a header is percent-encoded, as
//! the binding has it, and a value that is too long for one is left out.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value as Json, json};

use super::signature;
use crate::broker::moment::rfc3339;
use crate::broker::trigger::run::{Handed, Run};
use crate::protocol::table::json;
use crate::runners::shown;

const OCTETS: &str = "application/octet-stream";
/// The longest value of a header.
const VALUE_BYTES_MAX: usize = 4_096;

/// The call of a webhook, without where it goes.
pub(super) struct Call {
    pub(super) id: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

/// What a run sends.
pub(super) fn call(node: &str, run: &Run) -> Call {
    match &*run.messages {
        [] => firing(node, run),
        [handed] => message(node, run, handed),
        batch => several(node, run, batch),
    }
}

fn message(node: &str, run: &Run, handed: &Handed) -> Call {
    let id = signature::message_id(node, handed);
    let properties = shown::read_properties(&handed.message);
    let content_type = in_header(properties.content_type).unwrap_or(OCTETS);
    let mut headers = vec![("content-type".to_owned(), content_type.to_owned())];
    if let Some(encoding) = in_header(properties.content_encoding) {
        headers.push(("content-encoding".to_owned(), encoding.to_owned()));
    }
    for (name, value) in attributes(&id, run, handed) {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let value = encoded(&value, |byte| matches!(byte, b'!'..=b'~') && byte != b'"');
        if value.len() <= VALUE_BYTES_MAX {
            headers.push((format!("ce-{name}"), value));
        }
    }
    Call { id, headers, body: handed.message.body().to_vec() }
}

/// A property, if it can stand in a header as it is.
fn in_header(text: Option<&[u8]>) -> Option<&str> {
    let text = str::from_utf8(text?).ok()?;
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    (is_plain && !text.is_empty()).then_some(text)
}

fn several(node: &str, run: &Run, batch: &[Handed]) -> Call {
    let ids: Vec<String> = batch.iter().map(|it| signature::message_id(node, it)).collect();
    let events = batch.iter().zip(&ids).map(|(handed, id)| {
        let mut event = attributes(id, run, handed);
        let properties = shown::read_properties(&handed.message);
        for (name, text) in [
            ("datacontenttype", properties.content_type),
            ("contentencoding", properties.content_encoding),
        ] {
            event.extend(text.map(|text| (name.to_owned(), json::text(text))));
        }
        let body = handed.message.body();
        let media = properties.content_type.unwrap_or_default();
        let (name, data) = match serde_json::from_slice(body) {
            Ok(value) if is_json(media) => ("data", value),
            _ => ("data_base64", Json::from(STANDARD.encode(body))),
        };
        event.insert(name.to_owned(), data);
        Json::Object(event)
    });
    let body = Json::Array(events.collect()).to_string().into_bytes();
    let headers = document("application/cloudevents-batch+json");
    Call { id: signature::batch_id(ids.iter().map(String::as_str)), headers, body }
}

/// `application/json`, `application/problem+json; charset=utf-8`...
fn is_json(media: &[u8]) -> bool {
    let end = media.iter().position(|byte| *byte == b';').unwrap_or(media.len());
    let media = media[..end].trim_ascii().to_ascii_lowercase();
    media.ends_with(b"/json") || media.ends_with(b"+json")
}

fn firing(node: &str, run: &Run) -> Call {
    let id = signature::run_id(node, run);
    let cause = &run.cause;
    let event = json!({
        "specversion": "1.0",
        "id": id,
        "source": source(run),
        "type": "leveret.trigger",
        "subject": &*run.trigger,
        "time": rfc3339(cause.fired_ms),
        "datacontenttype": "application/json",
        "data": {
            "vhost": &*run.vhost,
            "queue": &*run.queue,
            "trigger": &*run.trigger,
            "condition": cause.condition,
            "ready": cause.ready,
            "oldest_age_ms": cause.oldest_age_ms,
        },
    });
    let headers = document("application/cloudevents+json");
    Call { id, headers, body: event.to_string().into_bytes() }
}

fn document(media: &str) -> Vec<(String, String)> {
    vec![("content-type".to_owned(), format!("{media}; charset=utf-8"))]
}

/// What is known of a message, by the names of CloudEvents and more of that kind.
fn attributes(id: &str, run: &Run, handed: &Handed) -> Map<String, Json> {
    let message = &handed.message;
    let mut properties = shown::all_properties(message);
    let mut attributes = Map::new();
    let mut add = |name: &str, value: Json| attributes.insert(name.to_owned(), value);
    add("specversion", "1.0".into());
    add("id", id.into());
    add("source", source(run).into());
    add("type", "leveret.message".into());
    add("time", rfc3339(message.published_ms()).into());
    if !message.routing_key().is_empty() {
        add("subject", json::text(message.routing_key()));
    }
    add("exchange", json::text(message.exchange()));
    add("trigger", (&*run.trigger).into());
    add("redelivered", handed.redelivered.into());
    add("attempt", handed.attempt.into());
    for (name, property) in [
        ("messageid", "message_id"),
        ("correlationid", "correlation_id"),
        ("replyto", "reply_to"),
        ("appid", "app_id"),
        ("messagetype", "type"),
        ("priority", "priority"),
    ] {
        if let Some(value) = properties.remove(property) {
            add(name, value);
        }
    }
    // An attribute is no object.
    if let Some(headers) = properties.remove("headers") {
        add("headers", headers.to_string().into());
    }
    attributes
}

fn source(run: &Run) -> String {
    let name =
        |name: &str| encoded(name, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    format!("/vhosts/{}/queues/{}", name(&run.vhost), name(&run.queue))
}

/// Percent-encodes what may not stand as it is.
fn encoded(text: &str, may_stand: impl Fn(u8) -> bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if may_stand(byte) && byte != b'%' {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::properties::Properties;
    use crate::protocol::table::Table;
    use crate::runners::tests::{build, handed, handed_with, run};

    fn header<'c>(call: &'c Call, name: &str) -> Option<&'c str> {
        let found = call.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str())
    }

    #[test]
    fn one_message_is_its_body_with_headers() {
        let properties = Properties {
            content_type: Some(b"text/plain"),
            message_id: Some(b"order 7"),
            priority: Some(3),
            ..Properties::default()
        };
        let mut run = run(vec![build(&properties, false, b"hello")]);
        run.queue = "a/\r\nb\"c".into();
        let call = call("rabbit@a", &run);
        assert_eq!(call.body, b"hello");
        let expected = [
            ("content-type", "text/plain"),
            ("ce-specversion", "1.0"),
            ("ce-id", &*call.id),
            ("ce-source", "/vhosts/%252F/queues/a%252F%250D%250Ab%2522c"),
            ("ce-type", "leveret.message"),
            ("ce-time", "2026-11-18T11:06:40.123Z"),
            ("ce-subject", "mail.out"),
            ("ce-exchange", "amq.topic"),
            ("ce-redelivered", "true"),
            ("ce-attempt", "2"),
            ("ce-messageid", "order%207"),
            ("ce-priority", "3"),
        ];
        for (name, value) in expected {
            assert_eq!(header(&call, name), Some(value), "{name}");
        }
    }

    #[test]
    fn nothing_that_a_publisher_sends_makes_another_header() {
        let table = Table::new().with("a", "x\r\nx-evil: 1");
        let call = call("rabbit@a", &run(vec![handed_with(&table, false)]));
        assert_eq!(header(&call, "ce-headers"), Some(r"{%22a%22:%22x\r\nx-evil:%201%22}"));
        let bad = Properties { content_type: Some(b"a\r\nx-evil: 1"), ..Properties::default() };
        let call = super::call("rabbit@a", &run(vec![build(&bad, false, b"")]));
        assert_eq!(header(&call, "content-type"), Some(OCTETS));
        let long = Table::new().with("a", "x".repeat(VALUE_BYTES_MAX));
        let call = super::call("rabbit@a", &run(vec![handed_with(&long, false)]));
        assert_eq!(header(&call, "ce-headers"), None);
    }

    #[test]
    fn several_messages_are_a_batch_of_events() {
        let json = Properties {
            content_type: Some(b"Application/JSON; charset=utf-8"),
            ..Properties::default()
        };
        let batch = vec![build(&json, false, b"{\"a\":1}"), handed(b"\xff\x00")];
        let call = call("rabbit@a", &run(batch));
        let media = "application/cloudevents-batch+json; charset=utf-8";
        assert_eq!(header(&call, "content-type"), Some(media));
        let events: Json = serde_json::from_slice(&call.body).unwrap();
        assert_eq!(events[0]["data"], json!({"a": 1}));
        assert_eq!(events[1]["data_base64"], json!("/wA="));
        assert_eq!(events[0]["attempt"], json!(2));
        assert_eq!(events[0]["source"], json!("/vhosts/%2F/queues/mail"));
        assert!(call.id.starts_with("batch_"));
        assert!(events[0]["id"].as_str().unwrap().starts_with("msg_"));
    }

    #[test]
    fn without_messages_the_event_tells_why_the_trigger_fired() {
        let call = call("rabbit@a", &run(Vec::new()));
        let event: Json = serde_json::from_slice(&call.body).unwrap();
        assert_eq!(event["type"], "leveret.trigger");
        let data = json!({
            "vhost": "/", "queue": "mail", "trigger": "send", "condition": "depth 1", "ready": 1,
            "oldest_age_ms": 5,
        });
        assert_eq!(event["data"], data);
        assert_eq!(event["id"], json!(call.id));
    }
}
