//! `/api/overview` and other facts about the whole.

use serde_json::{Value as Json, json};

use super::reply::{Refusal, Reply};
use super::request::Request;
use super::{Context, Listener};
use crate::broker::exchange::Kind;
use crate::broker::views::QueueView;

/// The exchange types, as RabbitMQ lists them.
pub(super) fn exchange_types() -> Json {
    let one = |kind: Kind| -> Json {
        json!({"name": kind.name(), "description": kind.description(), "enabled": true})
    };
    Kind::ALL.into_iter().map(one).collect()
}

/// The HTTP listeners, as RabbitMQ lists them under `contexts`.
pub(super) fn contexts(context: &Context) -> Json {
    let node = context.inspect.node().name;
    let listeners = context.listeners.iter().filter_map(|listener| {
        let description = match listener.protocol {
            "http" | "https" => "RabbitMQ Management",
            "http/prometheus" | "https/prometheus" => "RabbitMQ Prometheus",
            _ => return None,
        };
        Some(json!({
            "node": node,
            "description": description,
            "path": "/",
            "ip": listener.ip,
            "port": listener.port.to_string(),
            "ssl_opts": ssl_opts(listener),
        }))
    });
    listeners.collect()
}

/// The files of a listener's certificates.
fn ssl_opts(listener: &Listener) -> Json {
    let Some(tls) = &listener.tls else { return json!([]) };
    let options = tls.options();
    json!({
        "certfile": options.identity.certfile,
        "keyfile": options.identity.keyfile,
        "cacertfile": options.cacertfile,
    })
}

/// Totals over queues: ready, unacknowledged and consumers.
pub(super) fn totals(queues: &[QueueView]) -> (u64, u64, u64) {
    queues.iter().fold((0u64, 0u64, 0u64), |(ready, unacked, consumers), queue| {
        (
            ready.saturating_add(queue.messages_ready),
            unacked.saturating_add(queue.messages_unacked),
            consumers.saturating_add(queue.consumers.len() as u64),
        )
    })
}

/// `GET /api/overview`. Those without the monitoring tag see totals of their vhosts only.
pub(super) fn show(request: &Request) -> Result<Reply, Refusal> {
    let inspect = request.inspect();
    let caller = request.caller()?;
    let node = inspect.node();
    let rates = request.sampler.rates();
    let (queues, exchanges, all) = if caller.is_monitoring() {
        (inspect.queues(None), inspect.exchanges(None), true)
    } else {
        let queues = request.collect(|inspect, vhost| inspect.queues(vhost))?;
        (queues, request.collect(|inspect, vhost| inspect.exchanges(vhost))?, false)
    };
    let connections = request.connections()?;
    let channels: usize = connections.iter().map(|connection| connection.channels.len()).sum();
    let (ready, unacked, consumers) = totals(&queues);
    let mut overview = json!({
        "management_version": node.compat_version,
        "rabbitmq_version": node.compat_version,
        "product_name": node.product_name,
        "product_version": node.product_version,
        "erlang_version": "n/a",
        "erlang_full_version": "n/a",
        "rates_mode": "basic",
        "sample_retention_policies": {"global": [], "basic": [], "detailed": []},
        "exchange_types": exchange_types(),
        "cluster_name": node.cluster_name,
        "cluster_tags": {},
        "node_tags": {},
        "default_queue_type": node.default_queue_type,
        "disable_stats": false,
        "enable_queue_totals": false,
        "is_op_policy_updating_enabled": false,
        "statistics_db_event_queue": 0,
        "message_stats": {},
        "queue_totals": {
            "messages": ready.saturating_add(unacked),
            "messages_ready": ready,
            "messages_unacknowledged": unacked,
        },
        "object_totals": {
            "connections": connections.len(),
            "channels": channels,
            "exchanges": exchanges.len(),
            "queues": queues.len(),
            "consumers": consumers,
        },
        "listeners": [],
        "contexts": [],
    });
    if all {
        overview["message_stats"] = rates.node_messages(inspect.counters());
        overview["churn_rates"] = rates.churn(inspect.counters());
        overview["queue_totals"] = rates.node_depth(ready, unacked);
        overview["node"] = json!(node.name);
        overview["listeners"] = listeners(&request.context);
        overview["contexts"] = contexts(&request.context);
    }
    Ok(Reply::Document(overview))
}

/// `GET /api/cluster-name`.
pub(super) fn cluster_name(request: &Request) -> Result<Reply, Refusal> {
    Ok(Reply::Document(json!({"name": request.inspect().node().cluster_name})))
}

/// `GET /api/feature-flags`: what RabbitMQ made optional once and clients ask for. Each is there
/// for good, as far as its description goes.
pub(super) fn feature_flags(_: &Request) -> Result<Reply, Refusal> {
    let flags = [
        ("direct_exchange_routing_v2", "Direct exchanges look their bindings up by key"),
        ("quorum_queue", "Queues of type quorum"),
        (
            "stream_queue",
            "Dead-lettering at least once, which comes with this flag in RabbitMQ; queues of type \
             stream are not supported yet",
        ),
    ];
    Ok(Reply::list(flags.map(|(name, description)| {
        json!({
            "name": name,
            "desc": description,
            "doc_url": "",
            "provided_by": "leveret",
            "stability": "required",
            "state": "enabled",
        })
    })))
}

/// `GET /api/extensions`: there are none.
pub(super) fn extensions(_: &Request) -> Result<Reply, Refusal> {
    Ok(Reply::list([]))
}

fn listeners(context: &Context) -> Json {
    let node = context.inspect.node().name;
    let mut listeners: Vec<&Listener> = context.listeners.iter().collect();
    listeners.sort_by_key(|listener| (listener.protocol, listener.port));
    let listeners = listeners.into_iter().map(|listener| {
        json!({
            "node": node,
            "protocol": listener.protocol,
            "ip_address": listener.ip,
            "port": listener.port,
            "socket_opts": {},
            "tls": listener.tls.is_some(),
        })
    });
    listeners.collect()
}
