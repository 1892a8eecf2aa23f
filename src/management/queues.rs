//! `/api/queues`.

use serde_json::{Value as Json, json};

use super::consumers;
use super::list::Items;
use super::reply::{Refusal, Reply};
use super::request::Request;
use super::sampler::Rates;
use super::value;
use crate::broker::views::{Activity, ConsumerView, QueueView};
use crate::store::Durability;

/// `GET /api/queues`, `/api/queues/detailed` and `/api/queues/{vhost}`.
pub(super) fn list(request: &Request) -> Result<Reply, Refusal> {
    let mut queues = request.collect(|inspect, vhost| inspect.queues(vhost))?;
    queues.sort_by(|a, b| (&a.vhost, &a.name).cmp(&(&b.vhost, &b.name)));
    let node = request.inspect().node().name;
    let rates = request.sampler.rates();
    let names = queues.iter().map(|queue| queue.name.clone()).collect();
    let make = move |i: usize| queues.get(i).map_or(Json::Null, |queue| one(queue, &node, &rates));
    Ok(Reply::List(Items::Named { names, make: Box::new(make) }))
}

/// `GET /api/queues/{vhost}/{queue}`.
pub(super) fn show(request: &Request) -> Result<Reply, Refusal> {
    let inspect = request.inspect();
    let queue = inspect.queue(request.name("vhost"), request.name("queue"));
    let queue = queue.ok_or_else(Refusal::not_found)?;
    let node = inspect.node().name;
    let mut shown = one(&queue, &node, &request.sampler.rates());
    shown["consumer_details"] = consumers::of_queue(&queue, &inspect.connections(), &node);
    shown["deliveries"] = json!([]);
    shown["incoming"] = json!([]);
    Ok(Reply::Document(shown))
}

fn one(queue: &QueueView, node: &str, rates: &Rates) -> Json {
    let exclusive_consumer = queue.consumers.iter().find(|consumer| consumer.exclusive);
    let is_active = |consumer: &&ConsumerView| consumer.activity == Activity::SingleActive;
    let active_consumer = queue.consumers.iter().find(is_active);
    let mut shown = json!({
        "name": queue.name,
        "vhost": queue.vhost,
        "type": queue.kind,
        "durable": queue.durable,
        "durability": queue.durability.map(Durability::name),
        "auto_delete": queue.auto_delete,
        "exclusive": queue.owner.is_some(),
        "internal": false,
        "arguments": value::table(&queue.arguments),
        "node": node,
        "state": "running",
        "messages_persistent": queue.messages_persistent,
        "messages_ram": queue.messages_in_memory(),
        "messages_ready_ram": queue.messages_ready.saturating_sub(queue.messages_paged_out),
        "messages_unacknowledged_ram": queue.messages_unacked,
        "messages_paged_out": queue.messages_paged_out,
        "message_bytes": queue.bytes_ready.saturating_add(queue.bytes_unacked),
        "message_bytes_ram": queue.bytes_in_memory(),
        "message_bytes_persistent": queue.bytes_persistent,
        "message_bytes_paged_out": queue.bytes_paged_out,
        "head_message_timestamp": queue.head_timestamp_s,
        "message_bytes_ready": queue.bytes_ready,
        "message_bytes_unacknowledged": queue.bytes_unacked,
        "consumers": queue.consumers.len(),
        "exclusive_consumer_tag": exclusive_consumer.map(|consumer| &consumer.tag),
        "single_active_consumer_tag": active_consumer.map(|consumer| &consumer.tag),
        "policy": queue.policy.policy,
        "operator_policy": queue.policy.operator_policy,
        "effective_policy_definition": value::table(&queue.policy.definition),
        "message_stats": rates.queue_messages(queue),
    });
    if let (Json::Object(shown), Json::Object(depth)) = (&mut shown, rates.queue_depth(queue)) {
        shown.extend(depth);
    }
    if let Some(owner) = &queue.owner {
        shown["owner_pid_details"] = json!({"name": owner});
    }
    if queue.arguments.get("x-message-deduplication").is_some() {
        shown["messages_deduplicated"] = json!(queue.counters.deduplicated);
    }
    if queue.kind == "quorum" {
        shown["delivery_limit"] =
            queue.delivery_limit.map_or_else(|| json!("unlimited"), |n| json!(n));
        shown["leader"] = json!(node);
        shown["members"] = json!([node]);
        shown["online"] = json!([node]);
    }
    shown
}
