//! `/api/consumers`, and the consumers of a queue or a channel.

use std::collections::HashMap;

use serde_json::{Value as Json, json};

use super::reply::{Refusal, Reply};
use super::request::Request;
use super::value;
use crate::broker::views::{Activity, ConnectionView, ConsumerView, QueueView};

/// `GET /api/consumers` and `/api/consumers/{vhost}`.
pub(super) fn list(request: &Request) -> Result<Reply, Refusal> {
    let caller = request.caller()?;
    let mut queues = request.collect(|inspect, vhost| inspect.queues(vhost))?;
    queues.sort_by(|a, b| (&a.vhost, &a.name).cmp(&(&b.vhost, &b.name)));
    let connections = request.inspect().connections();
    let by_name = by_name(&connections);
    let node = request.inspect().node().name;
    let mut items = Vec::new();
    for queue in &queues {
        for consumer in &queue.consumers {
            let connection = by_name.get(consumer.connection.as_str()).copied();
            let own = connection.is_some_and(|connection| connection.user == caller.name());
            if caller.is_monitoring() || own {
                items.push(one(queue, consumer, connection, &node));
            }
        }
    }
    Ok(Reply::list(items))
}

/// The consumers of a queue.
pub(super) fn of_queue(queue: &QueueView, connections: &[ConnectionView], node: &str) -> Json {
    let by_name = by_name(connections);
    let consumers = queue.consumers.iter().map(|consumer| {
        one(queue, consumer, by_name.get(consumer.connection.as_str()).copied(), node)
    });
    consumers.collect()
}

/// The consumers of a channel.
pub(super) fn of_channel(
    queues: &[QueueView],
    connection: &ConnectionView,
    channel: u16,
    node: &str,
) -> Json {
    let consumers = queues.iter().flat_map(|queue| {
        let its = move |consumer: &&ConsumerView| {
            consumer.connection == connection.name && consumer.channel == channel
        };
        let shown = move |consumer| one(queue, consumer, Some(connection), node);
        queue.consumers.iter().filter(its).map(shown)
    });
    consumers.collect()
}

fn by_name(connections: &[ConnectionView]) -> HashMap<&str, &ConnectionView> {
    connections.iter().map(|connection| (connection.name.as_str(), connection)).collect()
}

fn one(
    queue: &QueueView,
    consumer: &ConsumerView,
    connection: Option<&ConnectionView>,
    node: &str,
) -> Json {
    let mut channel_details = json!({
        "name": format!("{} ({})", consumer.connection, consumer.channel),
        "number": consumer.channel,
        "connection_name": consumer.connection,
        "node": node,
    });
    if let Some(connection) = connection {
        channel_details["peer_host"] = json!(connection.peer.0);
        channel_details["peer_port"] = json!(connection.peer.1);
        channel_details["user"] = json!(connection.user);
    }
    let activity = match consumer.activity {
        Activity::Up => "up",
        Activity::SingleActive => "single_active",
        Activity::Waiting => "waiting",
    };
    json!({
        "consumer_tag": consumer.tag,
        "active": consumer.activity != Activity::Waiting,
        "activity_status": activity,
        "ack_required": consumer.ack_required,
        "exclusive": consumer.exclusive,
        "prefetch_count": consumer.prefetch_count,
        "priority": consumer.priority,
        "arguments": value::table(&consumer.arguments),
        "queue": {"name": queue.name, "vhost": queue.vhost},
        "channel_details": channel_details,
    })
}
