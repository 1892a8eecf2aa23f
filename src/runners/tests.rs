//! What the runners' unit tests run.

use std::sync::Arc;

use crate::broker::message::{Envelope, Message};
use crate::broker::trigger::run::{Action, Cause, Handed, HandedId, Run};
use crate::protocol::properties::Properties;
use crate::protocol::table::{RawTable, Table};

pub(super) fn run(messages: Vec<Handed>) -> Run {
    Run {
        id: 7,
        vhost: "/".into(),
        trigger: "send".into(),
        queue: "mail".into(),
        action: Arc::new(Action::Program { name: "cat".into(), data: "some data".to_owned() }),
        cause: Cause {
            condition: "depth 1".to_owned(),
            ready: 1,
            oldest_age_ms: Some(5),
            fired_ms: 1_795_000_000_000,
        },
        messages,
        batch_attempt: 1,
        retry_delay_ms: 1_000,
    }
}

/// A message with this body, persistent and seen before.
pub(super) fn handed(body: &[u8]) -> Handed {
    let properties = Properties { delivery_mode: Some(2), ..Properties::default() };
    build(&properties, false, body)
}

/// A message with this id.
pub(super) fn handed_as(id: &str) -> Handed {
    let properties = Properties { message_id: Some(id.as_bytes()), ..Properties::default() };
    build(&properties, false, b"body")
}

/// A message with these headers, which may name blind copies.
pub(super) fn handed_with(headers: &Table, hides_bcc: bool) -> Handed {
    let mut encoded = Vec::new();
    headers.encode_body(&mut encoded);
    let headers = RawTable::parse(&encoded).unwrap();
    build(&Properties { headers: Some(headers), ..Properties::default() }, hides_bcc, b"body")
}

pub(super) fn build(properties: &Properties<'_>, hides_bcc: bool, body: &[u8]) -> Handed {
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    let envelope = Envelope {
        exchange: b"amq.topic",
        routing_key: b"mail.out",
        properties: &encoded,
        persistent: true,
        hides_bcc,
        published_ms: 1_795_000_000_123,
    };
    let message = Message::new(&envelope, body);
    Handed { id: HandedId { queue: 4, place: 9 }, message, redelivered: true, attempt: 2 }
}
