//! Health checks: 200 `{"status":"ok"}`, or 503 with what is wrong.
//!
//! What can go wrong with a single node is its store, its listeners, and what it runs short of, so
//! that is what the checks look at. A store that has failed fails every check that asks after the
//! node.

use std::collections::BTreeSet;

use serde_json::{Value as Json, json};

use super::reply::{Refusal, Reply};
use super::request::Request;

/// Whether the store still writes: the check behind `aliveness-test`, `healthchecks/node` and
/// `virtual-hosts`.
pub(super) fn store(request: &Request) -> Result<Reply, Refusal> {
    let node = request.name("node");
    if !node.is_empty() && node != request.inspect().node().name {
        return Err(Refusal::not_found());
    }
    Ok(match request.inspect().store_failure() {
        None => ok(json!({})),
        Some(reason) => failed(&format!("the store has stopped: {reason}"), json!({})),
    })
}

/// Whether the node takes work: asked without a login, so it tells no reasons.
pub(super) fn in_service(request: &Request) -> Result<Reply, Refusal> {
    Ok(match request.inspect().store_failure() {
        None => ok(json!({})),
        Some(_) => failed("this node is not currently available to serve", json!({})),
    })
}

/// Whether an alarm is in effect anywhere: on the one node there is.
pub(super) fn alarms(request: &Request) -> Result<Reply, Refusal> {
    Ok(without_alarms(request, "There are alarms in effect in the cluster"))
}

/// Whether an alarm is in effect on this node.
pub(super) fn local_alarms(request: &Request) -> Result<Reply, Refusal> {
    Ok(without_alarms(request, "There are alarms in effect on the node"))
}

/// Memory and disk run low, or the store has stopped.
fn without_alarms(request: &Request, reason: &str) -> Reply {
    let inspect = request.inspect();
    let node = inspect.node().name;
    let store = inspect.store_failure().map(|_| "store");
    let alarm = |resource| json!({"node": node, "resource": resource});
    let alarms: Vec<Json> = inspect.alarms().resources().chain(store).map(alarm).collect();
    if alarms.is_empty() { ok(json!({})) } else { failed(reason, json!({"alarms": alarms})) }
}

/// Whether other nodes could go on without this one: there are none.
pub(super) fn single_node(_: &Request) -> Result<Reply, Refusal> {
    Ok(ok(json!({"reason": "single node cluster"})))
}

/// Whether anything listens on a port.
pub(super) fn port_listener(request: &Request) -> Result<Reply, Refusal> {
    let port: u16 =
        request.name("port").parse().map_err(|_| Refusal::bad_request("Invalid port"))?;
    let ports: BTreeSet<u16> = request.context.listeners.iter().map(|l| l.port).collect();
    Ok(if ports.contains(&port) {
        ok(json!({"port": port}))
    } else {
        failed("No active listener", json!({"missing": port, "ports": ports}))
    })
}

/// Whether every one of some protocols, separated by commas, has a listener.
pub(super) fn protocol_listener(request: &Request) -> Result<Reply, Refusal> {
    let active: BTreeSet<&str> = request.context.listeners.iter().map(|l| l.protocol).collect();
    let wanted: BTreeSet<String> = request.name("protocols").split(',').map(normalise).collect();
    let missing: Vec<&String> =
        wanted.iter().filter(|name| !active.contains(name.as_str())).collect();
    Ok(if missing.is_empty() {
        ok(json!({"protocols": active}))
    } else {
        failed("No active listener", json!({"missing": missing, "protocols": active}))
    })
}

/// Whether a certificate expires soon: there are none, so only the question is checked.
pub(super) fn certificate_expiration(request: &Request) -> Result<Reply, Refusal> {
    let within: Result<u32, _> = request.name("within").parse();
    if within.is_err() {
        return Err(Refusal::bad_request("Invalid expiration value."));
    }
    match request.name("unit") {
        "days" | "weeks" | "months" | "years" => Ok(ok(json!({}))),
        _ => {
            Err(Refusal::bad_request("Time unit not recognised. Use: days, weeks, months, years."))
        }
    }
}

fn ok(more: Json) -> Reply {
    Reply::Document(with("ok", more))
}

fn failed(reason: &str, more: Json) -> Reply {
    let mut body = with("failed", more);
    body["reason"] = json!(reason);
    Reply::Unhealthy(body)
}

fn with(status: &str, mut more: Json) -> Json {
    more["status"] = json!(status);
    more
}

/// The names of protocols that operators use, as listeners are called.
fn normalise(name: &str) -> String {
    let lower = name.trim().to_ascii_lowercase();
    let known = match lower.as_str() {
        "amqp091" | "amqp0.9.1" | "amqp0-9-1" | "amqp0_9_1" | "amqp10" | "amqp1.0" | "amqp1-0"
        | "amqp1_0" => "amqp",
        "amqps" => "amqp/ssl",
        "prometheus" => "http/prometheus",
        "management" => "http",
        "https" => "https",
        other => other,
    };
    known.to_owned()
}
