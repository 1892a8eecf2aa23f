//! `/api/bindings` and the bindings of a queue or an exchange.
//!
//! A binding between two ends is told from others by its `properties_key`, made from its routing
//! key and its arguments; clients put it into paths as they got it.

use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use super::reply::{Refusal, Reply};
use super::request::Request;
use super::value;
use crate::broker::views::BindingView;

/// `GET /api/bindings` and `/api/bindings/{vhost}`.
pub(super) fn list(request: &Request) -> Result<Reply, Refusal> {
    Ok(Reply::list(these(request, |_| true)?.iter().map(one)))
}

/// `GET /api/queues/{vhost}/{queue}/bindings`.
pub(super) fn of_queue(request: &Request) -> Result<Reply, Refusal> {
    let queue = request.name("queue");
    let known = request.inspect().queue(request.name("vhost"), queue);
    known.ok_or_else(Refusal::not_found)?;
    let its = these(request, |b| b.destination_kind == "queue" && b.destination == queue)?;
    Ok(Reply::list(its.iter().map(one)))
}

/// `GET /api/exchanges/{vhost}/{exchange}/bindings/source`: those that start there.
pub(super) fn of_source(request: &Request) -> Result<Reply, Refusal> {
    let exchange = existing_exchange(request)?;
    let its = these(request, |b| b.source == exchange)?;
    Ok(Reply::list(its.iter().map(one)))
}

/// `GET /api/exchanges/{vhost}/{exchange}/bindings/destination`: those that lead there.
pub(super) fn of_destination(request: &Request) -> Result<Reply, Refusal> {
    let exchange = existing_exchange(request)?;
    let its = these(request, |b| b.destination_kind == "exchange" && b.destination == exchange)?;
    Ok(Reply::list(its.iter().map(one)))
}

/// `GET /api/bindings/{vhost}/e/{source}/{kind}/{destination}`.
pub(super) fn between(request: &Request) -> Result<Reply, Refusal> {
    Ok(Reply::list(between_ends(request)?.iter().map(one)))
}

/// `GET /api/bindings/{vhost}/e/{source}/{kind}/{destination}/{props}`.
pub(super) fn show(request: &Request) -> Result<Reply, Refusal> {
    let wanted = request.name("props");
    let mut bindings = between_ends(request)?.into_iter();
    let binding = bindings.find(|binding| properties_key(binding) == wanted);
    Ok(Reply::Document(one(&binding.ok_or_else(Refusal::not_found)?)))
}

fn these(
    request: &Request,
    wanted: impl Fn(&BindingView) -> bool,
) -> Result<Vec<BindingView>, Refusal> {
    let mut bindings = request.collect(|inspect, vhost| inspect.bindings(vhost))?;
    bindings.retain(wanted);
    bindings.sort_by(|a, b| {
        let key = |b: &BindingView| {
            (b.vhost.clone(), b.source.clone(), b.destination.clone(), b.routing_key.clone())
        };
        key(a).cmp(&key(b))
    });
    Ok(bindings)
}

fn between_ends(request: &Request) -> Result<Vec<BindingView>, Refusal> {
    let inspect = request.inspect();
    let (vhost, source) = (request.name("vhost"), request.exchange("source"));
    let (kind, destination) = match request.name("kind") {
        "q" => ("queue", request.name("destination")),
        "e" => ("exchange", request.exchange("destination")),
        _ => return Err(Refusal::not_found()),
    };
    let there = match kind {
        "queue" => inspect.queue(vhost, destination).is_some(),
        _ => inspect.exchange(vhost, destination).is_some(),
    };
    if !there || inspect.exchange(vhost, source).is_none() {
        return Err(Refusal::not_found());
    }
    these(request, |binding| {
        binding.source == source
            && binding.destination_kind == kind
            && binding.destination == destination
    })
}

fn existing_exchange(request: &Request) -> Result<&str, Refusal> {
    let name = request.exchange("exchange");
    let known = request.inspect().exchange(request.name("vhost"), name);
    known.map(|_| name).ok_or_else(Refusal::not_found)
}

fn one(binding: &BindingView) -> Json {
    json!({
        "source": binding.source,
        "vhost": binding.vhost,
        "destination": binding.destination,
        "destination_type": binding.destination_kind,
        "routing_key": binding.routing_key,
        "arguments": value::table(&binding.arguments),
        "properties_key": properties_key(binding),
    })
}

/// `~` for an empty key without arguments, else the key, form-encoded, and, if there are arguments,
/// `~` and a digest of them.
fn properties_key(binding: &BindingView) -> String {
    let key = form_encode(&binding.routing_key);
    if binding.arguments.is_empty() {
        return if key.is_empty() { "~".to_owned() } else { key };
    }
    let mut encoded = Vec::new();
    binding.arguments.encode(&mut encoded);
    let digest = Sha256::digest(&encoded);
    let digest: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("{key}~{digest}")
}

/// A space becomes `+`; letters, digits and `-._` stay. `~` is what separates, so it does not.
fn form_encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b' ' => encoded.push('+'),
            b'-' | b'.' | b'_' => encoded.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => encoded.push(char::from(byte)),
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::table::Table;

    fn key(routing_key: &str, arguments: Table) -> String {
        properties_key(&BindingView {
            vhost: "/".to_owned(),
            source: "x".to_owned(),
            destination: "q".to_owned(),
            destination_kind: "queue",
            routing_key: routing_key.to_owned(),
            arguments,
        })
    }

    #[test]
    fn a_key_without_arguments_is_the_routing_key_encoded() {
        assert_eq!(key("", Table::new()), "~");
        assert_eq!(key("a.b-c_d", Table::new()), "a.b-c_d");
        assert_eq!(key("a b/~#é", Table::new()), "a+b%2F%7E%23%C3%A9");
    }

    #[test]
    fn arguments_tell_bindings_apart() {
        let one = key("k", Table::new().with("x-match", "all"));
        let other = key("k", Table::new().with("x-match", "any"));
        assert!(one.starts_with("k~") && other.starts_with("k~"));
        assert_ne!(one, other);
        assert_eq!(one, key("k", Table::new().with("x-match", "all")));
        assert!(key("", Table::new().with("a", 1_i32)).starts_with('~'));
    }
}
