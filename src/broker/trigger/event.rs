//! What mode `event` publishes: a CloudEvents message, with MQTM's field names in its headers, so
//! that any client can be the trigger monitor.
//!
//! It is transient, as IBM's are: what persists is the condition, which is told of anew after a
//! restart.

use std::sync::Arc;

use serde_json::json;

use super::Trigger;
use super::run::Cause;
use super::spec::TriggerAction;
use crate::broker::Now;
use crate::broker::message::{Envelope, Message};
use crate::broker::moment::rfc3339;
use crate::protocol::properties::Properties;
use crate::protocol::table::{RawTable, Table};

/// An event that is to be published.
#[derive(Debug)]
pub(in crate::broker) struct EventWish {
    pub(in crate::broker) trigger: Arc<Trigger>,
    pub(in crate::broker) cause: Cause,
}

impl EventWish {
    /// The message, under this number. `None` for a trigger that publishes nothing.
    pub(in crate::broker) fn message(&self, node: &str, id: u64, now: Now) -> Option<Message> {
        let Self { trigger, cause } = self;
        let TriggerAction::Publish { exchange, routing_key, process, data } = &trigger.spec.action
        else {
            return None;
        };
        let (vhost, name, queue) = (&*trigger.vhost, &*trigger.name, &*trigger.spec.queue);
        let id = format!("{node}/{id}");
        let headers = Table::new()
            .with("StrucId", "TM")
            .with("Version", 1_i32)
            .with("QName", queue)
            .with("ProcessName", process.as_deref().unwrap_or(name))
            .with("TriggerData", &**data)
            .with("QMgrName", node)
            .with("cloudEvents:specversion", "1.0")
            .with("cloudEvents:type", EVENT_TYPE)
            .with("cloudEvents:id", &*id);
        let body = json!({
            "specversion": "1.0",
            "id": id,
            "source": format!("/vhosts/{}/queues/{}", encoded(vhost), encoded(queue)),
            "type": EVENT_TYPE,
            "subject": name,
            "time": rfc3339(cause.fired_ms),
            "datacontenttype": "application/json",
            "data": {
                "node": node,
                "vhost": vhost,
                "queue": queue,
                "trigger": name,
                "condition": cause.condition,
                "messages_ready": cause.ready,
                "oldest_age_ms": cause.oldest_age_ms,
                "trigger_data": data,
            },
        });
        let mut encoded_headers = Vec::new();
        headers.encode_body(&mut encoded_headers);
        let properties = Properties {
            headers: Some(RawTable::parse(&encoded_headers).ok()?),
            content_type: Some(b"application/cloudevents+json"),
            message_id: (id.len() <= 255).then_some(id.as_bytes()),
            type_: Some(EVENT_TYPE.as_bytes()),
            timestamp: Some(now.unix_ms / 1_000),
            ..Properties::default()
        };
        let mut encoded = Vec::new();
        properties.encode(&mut encoded);
        let envelope = Envelope {
            exchange: exchange.as_bytes(),
            routing_key: routing_key.as_bytes(),
            properties: &encoded,
            persistent: false,
            hides_bcc: false,
            published_ms: now.unix_ms,
        };
        Some(Message::new(&envelope, body.to_string().as_bytes()))
    }
}

/// The type of what is published, as CloudEvents has it.
const EVENT_TYPE: &str = "leveret.trigger.fired";

/// A name as a part of a path.
fn encoded(name: &str) -> String {
    let octet = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(octet).collect()
}
