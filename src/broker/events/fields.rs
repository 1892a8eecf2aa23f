//! What events say of what happened, with RabbitMQ's names and types.
//!
//! Process ids stand for connections and channels there, and events name each other's: here they
//! are made of the node's name, its start, and the numbers of the two. Arguments are shown as
//! Erlang prints them, one text for each.

use crate::broker::Broker;
use crate::broker::exchange::{Destination, erlang_term};
use crate::broker::outbox::ConnectionId;
use crate::broker::policy::PolicySpec;
use crate::broker::queue::QueueSpec;
use crate::broker::vhost::{Binding, Exchange, Vhost};
use crate::broker::views::ConnectionView;
use crate::protocol::table::{Table, Value};

/// An integer of an event: they all have 64 bits.
pub(crate) fn integer(n: impl Into<u64>) -> Value {
    Value::I64(i64::try_from(n.into()).unwrap_or(i64::MAX))
}

/// A process id for a channel of a connection, or for the connection itself: channel 0.
#[must_use]
pub fn process_id(broker: &Broker, connection: ConnectionId, channel: u16) -> String {
    let (node, started_s) = (&broker.settings().node_name, broker.started.unix_ms / 1_000);
    format!("<{node}.{started_s}.{}.{channel}>", connection.0)
}

/// Arguments, or whatever else a client sent in a table.
#[must_use]
pub fn arguments(table: &Table) -> Value {
    let printed = table.iter().map(|(key, value)| {
        let list: Table = [(key.clone(), value.clone())].into_iter().collect();
        let printed = erlang_term(&Value::Table(list));
        let entry = printed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        Value::from(entry.unwrap_or(&printed))
    });
    Value::Array(printed.collect())
}

/// An address as the tuple that it is in Erlang: `{127,0,0,1}`, or `{0,0,0,0,0,0,0,1}`.
#[must_use]
pub fn address(address: &str) -> String {
    let parts = if address.contains(':') {
        words(address)
    } else {
        address.split('.').map(|part| part.parse().ok()).collect()
    };
    let Some(parts) = parts else { return address.to_owned() };
    let parts: Vec<String> = parts.iter().map(u16::to_string).collect();
    format!("{{{}}}", parts.join(","))
}

/// The eight numbers of an IPv6 address; `None` for a form that is not made of hexadecimals only.
fn words(address: &str) -> Option<Vec<u16>> {
    let parse = |text: &str| -> Option<Vec<u16>> {
        let words = text.split(':').filter(|word| !word.is_empty());
        words.map(|word| u16::from_str_radix(word, 16).ok()).collect()
    };
    let (before, after) = address.split_once("::").unwrap_or((address, ""));
    let (mut words, mut after) = (parse(before)?, parse(after)?);
    words.resize(8usize.checked_sub(after.len())?, 0);
    words.append(&mut after);
    Some(words)
}

/// Something that has a name in a vhost.
pub(in crate::broker) fn name(vhost: &Vhost, name: &str) -> Table {
    Table::new().with("name", name).with("vhost", &**vhost.name())
}

pub(in crate::broker) fn exchange(vhost: &Vhost, exchange: &Exchange) -> Table {
    let spec = &exchange.spec;
    name(vhost, &spec.name)
        .with("type", spec.kind.name())
        .with("durable", spec.durable)
        .with("auto_delete", spec.auto_delete)
        .with("internal", spec.internal)
        .with("arguments", arguments(&spec.arguments))
        .with("policy", exchange.policy_name().unwrap_or_default())
}

pub(in crate::broker) fn queue(broker: &Broker, spec: &QueueSpec) -> Table {
    let owner = spec.owner.as_ref().map(|(owner, _)| process_id(broker, *owner, 0));
    deleted_queue(spec)
        .with("durable", spec.durable)
        .with("auto_delete", spec.auto_delete)
        .with("arguments", arguments(&spec.arguments))
        .with("owner_pid", owner.unwrap_or_default())
        .with("exclusive", spec.owner.is_some())
}

pub(in crate::broker) fn deleted_queue(spec: &QueueSpec) -> Table {
    Table::new()
        .with("name", &*spec.name)
        .with("vhost", &*spec.vhost)
        .with("type", spec.args.kind.module())
}

/// A binding whose ends the registries still know.
pub(in crate::broker) fn binding(vhost: &Vhost, source: &Exchange, binding: &Binding) -> Table {
    let (kind, destination) = match binding.destination {
        Destination::Queue(id) => {
            ("queue", vhost.queues_by_id.get(&id).map(|queue| queue.name().to_string()))
        }
        Destination::Exchange(id) => {
            let exchange = vhost.exchanges_by_id.get(&id);
            ("exchange", exchange.map(|exchange| exchange.spec.name.to_string()))
        }
    };
    Table::new()
        .with("source_name", &*source.spec.name)
        .with("source_kind", "exchange")
        .with("destination_name", destination.unwrap_or_default())
        .with("destination_kind", kind)
        .with("routing_key", binding.key())
        .with("arguments", arguments(&binding.arguments()))
        .with("vhost", &**vhost.name())
}

pub(in crate::broker) fn policy(vhost: &Vhost, spec: &PolicySpec) -> Table {
    name(vhost, &spec.name)
        .with("pattern", &*spec.pattern)
        .with("definition", widened(&spec.definition))
        .with("priority", spec.priority)
        .with("apply-to", &*spec.apply_to)
}

/// A table whose integers are those of an event.
fn widened(table: &Table) -> Table {
    let widen = |value: &Value| match value {
        Value::Table(table) => Value::Table(widened(table)),
        value => value.as_integer().map_or_else(|| value.clone(), Value::I64),
    };
    table.iter().map(|(key, value)| (key.clone(), widen(value))).collect()
}

/// A connection that has opened its vhost.
#[must_use]
pub fn connection(broker: &Broker, id: ConnectionId, view: &ConnectionView) -> Table {
    let mut fields = Table::new()
        .with("type", "network")
        .with("pid", process_id(broker, id, 0))
        .with("name", &*view.name)
        .with("port", integer(view.host.1))
        .with("peer_port", integer(view.peer.1))
        .with("host", address(&view.host.0))
        .with("peer_host", address(&view.peer.0))
        .with("ssl", view.tls.is_some());
    let tls = view.tls.as_deref().cloned().unwrap_or_default();
    let certificate = tls.certificate.unwrap_or_default();
    for (of_tls, value) in [
        ("peer_cert_subject", &*certificate.subject),
        ("peer_cert_issuer", &*certificate.issuer),
        ("peer_cert_serial_number", &*certificate.serial_number),
        ("peer_cert_validity", &*certificate.validity),
        ("ssl_protocol", tls.protocol),
        ("ssl_key_exchange", tls.key_exchange),
        ("ssl_cipher", tls.cipher),
        ("ssl_hash", tls.hash),
    ] {
        fields.insert(of_tls, value);
    }
    fields
        .insert("auth_mechanism", &*view.auth_mechanism)
        .insert("protocol", PROTOCOL)
        .insert("user", &*view.user)
        .insert("vhost", &*view.vhost)
        .insert("timeout", integer(view.heartbeat_s))
        .insert("frame_max", integer(view.frame_max))
        .insert("channel_max", integer(view.channel_max))
        .insert("client_properties", arguments(&view.client_properties))
        .insert("connected_at", integer(view.connected_at_ms))
        .insert("node", &*broker.settings().node_name);
    with_own_name(fields, view)
}

/// A connection that had opened its vhost.
#[must_use]
pub fn closed_connection(broker: &Broker, id: ConnectionId, view: &ConnectionView) -> Table {
    let fields = Table::new()
        .with("name", &*view.name)
        .with("pid", process_id(broker, id, 0))
        .with("node", &*broker.settings().node_name)
        .with("client_properties", arguments(&view.client_properties));
    with_own_name(fields, view)
}

fn with_own_name(fields: Table, view: &ConnectionView) -> Table {
    match &view.user_provided_name {
        Some(name) => fields.with("user_provided_name", &**name),
        None => fields,
    }
}

/// AMQP 0-9-1, in Erlang.
pub const PROTOCOL: &str = "{0,9,1}";

/// A vhost that came or went, and who did it.
#[must_use]
pub fn vhost(name: &str, actor: &str) -> Table {
    user_action(actor).with("name", name)
}

/// The beginning of what is told of something that an operator did.
#[must_use]
pub fn user_action(actor: &str) -> Table {
    Table::new().with("user_who_performed_action", actor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_tuples() {
        for (text, tuple) in [
            ("127.0.0.1", "{127,0,0,1}"),
            ("::1", "{0,0,0,0,0,0,0,1}"),
            ("::", "{0,0,0,0,0,0,0,0}"),
            ("2001:db8::a:ff", "{8193,3512,0,0,0,0,10,255}"),
            ("1:2:3:4:5:6:7:8", "{1,2,3,4,5,6,7,8}"),
            ("::ffff:10.0.0.1", "::ffff:10.0.0.1"),
            ("somewhere", "somewhere"),
        ] {
            assert_eq!(address(text), tuple);
        }
    }
}
