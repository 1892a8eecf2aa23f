//! Health checks: 200 `{"status":"ok"}`, or 503 with what is wrong.
//!
//! What can go wrong with a single node is its store, its listeners, and what it runs short of, so
//! that is what the checks look at. A store that has failed fails every check that asks after the
//! node.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::reply::{Refusal, Reply};
use super::request::Request;
use crate::tls::Dates;

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

/// Whether a listener's certificate, or that of an authority whose clients it lets in, ends soon or
/// has not begun.
pub(super) fn certificate_expiration(request: &Request) -> Result<Reply, Refusal> {
    let within: Result<u32, _> = request.name("within").parse();
    let within = within.map_err(|_| Refusal::bad_request("Invalid expiration value."))?;
    let days = match request.name("unit").to_ascii_lowercase().as_str() {
        "days" => 1.0,
        "weeks" => 7.0,
        "months" => 365.0 / 12.0,
        "years" => 365.0,
        _ => {
            let reason = "Time unit not recognised. Use: days, weeks, months, years.";
            return Err(Refusal::bad_request(reason));
        }
    };
    let within = Duration::from_secs_f64(f64::from(within) * days * 86_400.0).as_secs();
    let now_s = request.now().unix_ms / 1000;
    let ends = |dates: &[Dates]| -> Vec<String> {
        let ending = dates.iter().filter_map(|dates| {
            if dates.not_before_s > now_s {
                return Some("Certificate is not yet valid".to_owned());
            }
            (dates.not_after_s < now_s + within).then(|| dates.end())
        });
        ending.collect()
    };
    let node = request.inspect().node().name;
    let mut expired = Vec::new();
    for listener in &request.context.listeners {
        let Some(tls) = &listener.tls else { continue };
        let [own, authorities] = tls.dates().map(|dates| ends(&dates));
        if own.is_empty() && authorities.is_empty() {
            continue;
        }
        let options = tls.options();
        expired.push(json!({
            "node": node,
            "protocol": listener.protocol,
            "interface": listener.ip,
            "port": listener.port,
            "certfile": options.identity.certfile,
            "cacertfile": options.cacertfile,
            "certfile_expires_on": own,
            "cacertfile_expires_on": authorities,
        }));
    }
    Ok(if expired.is_empty() {
        ok(json!({}))
    } else {
        failed("Certificates expiring", json!({"expired": expired}))
    })
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
