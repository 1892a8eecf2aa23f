//! Messages that leave their queue for others: dead letters, with their history, for the
//! dead-letter exchange, and those whose delay is over for where their exchange leads.
//!
//! The arrival in the target queues and the departure from the queue of origin are in one batch of
//! the store, submitted while every target is locked: a crash shows either both or neither. Many
//! messages that leave a queue at once share batches. Headers follow RabbitMQ 4 (`x-death`,
//! `x-first-death-*`, `x-last-death-*`; `x-delay`).

use std::sync::Arc;

use super::exchange::Traits;
use super::message::{Envelope, Message};
use super::queue::delays::{DELAY_HEADER, delay_ms};
use super::queue::{
    DeathReason, Departing, Departure, Effects, Publisher, Queue, QueueChange, Transit,
};
use super::vhost::{Exchange, Vhost};
use super::{Broker, Now};
use crate::protocol::properties::Properties;
use crate::protocol::table::{RawTable, ShortString, Table, Value};
use crate::store::{Batch, Lsn};

/// Messages that move in one batch, at most: their targets stay locked meanwhile.
const MOVED_AT_ONCE_MAX: usize = 256;

impl Broker {
    /// Moves everything in `effects.departing` on, in its order. Targets may add further
    /// effects. Returns where the store has it.
    pub(super) fn send_on(&self, effects: &mut Effects, publisher: Publisher, now: Now) -> Lsn {
        let mut departing = std::mem::take(&mut effects.departing).into_iter().peekable();
        let mut last = Lsn::ZERO;
        while let Some(first) = departing.next() {
            let origin = Arc::clone(&first.queue);
            let mut moving = vec![first];
            while moving.len() < MOVED_AT_ONCE_MAX
                && let Some(next) = departing.next_if(|next| Arc::ptr_eq(&next.queue, &origin))
            {
                moving.push(next);
            }
            last = last.max(self.move_on(&origin, moving, effects, publisher, now));
        }
        last
    }

    /// Moves messages that leave one queue, as one batch. Those that reach no queue and are not to
    /// be dropped stay with it.
    fn move_on(
        &self,
        origin: &Arc<Queue>,
        moving: Vec<Departing>,
        effects: &mut Effects,
        publisher: Publisher,
        now: Now,
    ) -> Lsn {
        let vhost = self.vhost(&origin.spec().vhost);
        let route = |leaving: &Departing| {
            let vhost = vhost.as_ref()?;
            match leaving.departure {
                Departure::Died(reason) => route_dead(vhost, leaving, reason, now),
                Departure::Due => route_due(vhost, leaving, now),
            }
        };
        let routed: Vec<Option<Route>> = moving.iter().map(route).collect();
        let mut targets: Vec<&Arc<Queue>> =
            routed.iter().flatten().flat_map(|route| &route.targets).collect();
        targets.sort_unstable_by_key(|queue| queue.key());
        targets.dedup_by_key(|queue| queue.key());
        let mut changes: Vec<_> = targets.into_iter().map(Queue::begin).collect();
        let mut batch = Batch { ops: Vec::new(), awaited: publisher == Publisher::Waits };
        let mut moved = Transit::default();
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        for (leaving, route) in moving.into_iter().zip(&routed) {
            let mut has_arrived = route.as_ref().is_some_and(|route| route.goes_round);
            if let Some(Route { message, targets, .. }) = route {
                for target in targets {
                    if let Ok(at) = changes.binary_search_by_key(&target.key(), QueueChange::key) {
                        let (message, ops) = (message.clone(), &mut batch.ops);
                        has_arrived |= changes[at].offer(message, now, ops, effects);
                    }
                }
            }
            if !has_arrived && leaving.rules.keeps_dead_letters {
                kept.push(leaving);
                continue;
            }
            if leaving.entry.stored {
                batch.ops.push(leaving.entry.settle(origin.key()));
            }
            moved.add(leaving.entry.transit());
            gone.push(leaving.entry.seq);
        }
        let lsn = self.submit(batch);
        drop(changes);
        origin.finish_transit(moved, &gone);
        if !kept.is_empty() {
            origin.keep_dead(kept, now, effects);
        }
        lsn
    }
}

/// Where a message goes that leaves its queue.
struct Route {
    message: Message,
    targets: Vec<Arc<Queue>>,
    /// There were targets, but it has been in them all: it would go round for ever.
    goes_round: bool,
}

/// Finds the targets and builds the message for them; `None` when it cannot go anywhere: the
/// exchange is missing, or the queue's dead-letter routing key is longer than any key can be.
fn route_dead(vhost: &Vhost, dead: &Departing, reason: DeathReason, now: Now) -> Option<Route> {
    let rules = &dead.rules;
    let exchange_name = rules.dead_letter_exchange.as_deref()?;
    let exchange = vhost.exchange(exchange_name.as_bytes())?;
    let old = &dead.entry.message;
    let properties = Properties::parse(old.properties()).ok()?;
    let mut headers = properties.headers.map(|raw| raw.to_table()).unwrap_or_default();
    let own_keys = routing_keys(old.routing_key(), &headers);
    let mut blind_keys = Vec::new();
    if old.hides_bcc() {
        blind_keys = header_keys(&headers, "BCC");
        headers.remove("BCC");
    }
    let keys = match &rules.dead_letter_routing_key {
        // No message can carry such a key, so none is routed by it.
        Some(key) if key.len() > ShortString::BYTES_MAX => return None,
        Some(key) => vec![key.to_vec()],
        None => own_keys.iter().chain(&blind_keys).cloned().collect(),
    };
    let headers = with_death(headers, dead, reason, &own_keys, properties.expiration, now);
    let mut encoded_headers = Vec::new();
    headers.encode_body(&mut encoded_headers);
    // The history grows by a bounded entry per queue; a table that outgrew the codec's limits
    // cannot be delivered, so the message is dropped as an unroutable one would be.
    let raw = RawTable::parse(&encoded_headers).ok()?;
    let key_refs: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    let properties = Properties { headers: Some(raw), expiration: None, ..properties };
    let mut encoded = Vec::new();
    properties.encode(&mut encoded);
    let envelope = Envelope {
        exchange: exchange_name.as_bytes(),
        routing_key: keys.first().map_or(&[], Vec::as_slice),
        properties: &encoded,
        persistent: old.is_persistent(),
        hides_bcc: false,
        published_ms: now.unix_ms,
    };
    let message = old.readdressed(&envelope);
    let traits = Traits { keys: &key_refs, properties: &properties, message: Some(&message) };
    let mut targets = Vec::new();
    vhost.route(&exchange, traits, &mut targets);
    let found = !targets.is_empty();
    targets.retain(|target| !is_cycle(&headers, target.name(), reason));
    let goes_round = found && targets.is_empty();
    Some(Route { message, targets, goes_round })
}

/// The same for a message whose delay is over: its exchange matches it now. The delay in its
/// headers turns negative, which shows where it has been and delays it no more.
fn route_due(vhost: &Vhost, due: &Departing, now: Now) -> Option<Route> {
    let exchange = vhost.exchange(due.queue.spec().delays_for.as_deref()?.as_bytes())?;
    // One of the same name may have come in its place.
    exchange.delayed.as_ref().filter(|kept| Arc::ptr_eq(kept, &due.queue))?;
    let old = &due.entry.message;
    let properties = Properties::parse(old.properties()).ok()?;
    let mut headers = properties.headers.map(|raw| raw.to_table()).unwrap_or_default();
    let over = delay_ms(properties.headers).and_then(|ms| i64::try_from(ms).ok()).unwrap_or(0);
    let over = i32::try_from(-over).map_or(Value::I64(-over), Value::I32);
    headers.insert(DELAY_HEADER, over);
    let mut encoded_headers = Vec::new();
    headers.encode_body(&mut encoded_headers);
    let headers = Some(RawTable::parse(&encoded_headers).ok()?);
    let mut encoded = Vec::new();
    Properties { headers, ..properties }.encode(&mut encoded);
    let message = old.readdressed(&Envelope {
        exchange: old.exchange(),
        routing_key: old.routing_key(),
        properties: &encoded,
        persistent: old.is_persistent(),
        hides_bcc: old.hides_bcc(),
        published_ms: now.unix_ms,
    });
    let mut targets = Vec::new();
    with_keys(&message, |traits| vhost.route_due(&exchange, traits, &mut targets));
    Some(Route { message, targets, goes_round: false })
}

impl Vhost {
    /// Routes a message that was kept for a while, from any exchange.
    pub(super) fn route_again(
        &self,
        exchange: &Arc<Exchange>,
        message: &Message,
        targets: &mut Vec<Arc<Queue>>,
    ) {
        with_keys(message, |traits| {
            self.route(exchange, traits, targets);
        });
    }
}

/// Hands on what exchanges look at in a message that is built.
pub(super) fn with_keys(message: &Message, then: impl FnOnce(Traits<'_>)) {
    let Ok(properties) = Properties::parse(message.properties()) else { return };
    let headers = properties.headers.map(|raw| raw.to_table()).unwrap_or_default();
    let mut keys = routing_keys(message.routing_key(), &headers);
    if message.hides_bcc() {
        keys.append(&mut header_keys(&headers, "BCC"));
    }
    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
    then(Traits { keys: &keys, properties: &properties, message: Some(message) });
}

/// The key a message was published with, then those of its CC header, unless an earlier dead-letter
/// routing key has replaced them all.
fn routing_keys(key: &[u8], headers: &Table) -> Vec<Vec<u8>> {
    let mut keys = vec![key.to_vec()];
    if let Some(Value::Array(deaths)) = headers.get("x-death")
        && let Some(Value::Table(latest)) = deaths.first()
        && let Some(Value::Array(before)) = latest.get("routing-keys")
        && before.first().and_then(Value::as_long_str) != Some(key)
    {
        return keys;
    }
    keys.append(&mut header_keys(headers, "CC"));
    keys
}

/// The keys in a CC or BCC header.
fn header_keys(headers: &Table, name: &str) -> Vec<Vec<u8>> {
    let Some(Value::Array(keys)) = headers.get(name) else { return Vec::new() };
    keys.iter().filter_map(|key| key.as_long_str().map(<[u8]>::to_vec)).collect()
}

fn text(value: &str) -> Value {
    Value::LongStr(value.as_bytes().to_vec())
}

/// The headers with this death in front of `x-death`, or counted in the entry that it repeats.
fn with_death(
    mut headers: Table,
    dead: &Departing,
    reason: DeathReason,
    keys: &[Vec<u8>],
    expiration: Option<&[u8]>,
    now: Now,
) -> Table {
    let queue: &str = dead.queue.name();
    let reason = reason.as_str();
    let exchange = dead.entry.message.exchange().to_vec();
    let mut deaths = match headers.remove("x-death") {
        // A history that did not come from us (no first death beside it) is not continued.
        Some(Value::Array(deaths)) if headers.get("x-first-death-queue").is_some() => deaths,
        _ => Vec::new(),
    };
    let repeated = deaths.iter().position(|death| is_death_of(death, queue, reason));
    let death = match repeated.map(|at| deaths.remove(at)) {
        Some(Value::Table(mut death)) => {
            let count = death.get("count").and_then(Value::as_integer).unwrap_or(0);
            death.insert("count", Value::I64(count.saturating_add(1)));
            death
        }
        _ => {
            let mut death = Table::default();
            death.insert("count", Value::I64(1));
            death.insert("reason", text(reason));
            death.insert("queue", text(queue));
            death.insert("time", Value::Timestamp(now.unix_ms / 1000));
            death.insert("exchange", Value::LongStr(exchange.clone()));
            let keys = keys.iter().map(|key| Value::LongStr(key.clone())).collect();
            death.insert("routing-keys", Value::Array(keys));
            if let Some(expiration) = expiration {
                death.insert("original-expiration", Value::LongStr(expiration.to_vec()));
            }
            death
        }
    };
    deaths.insert(0, Value::Table(death));
    headers.insert("x-death", Value::Array(deaths));
    if headers.get("x-first-death-queue").is_none() {
        headers.insert("x-first-death-exchange", Value::LongStr(exchange.clone()));
        headers.insert("x-first-death-queue", text(queue));
        headers.insert("x-first-death-reason", text(reason));
    }
    headers.insert("x-last-death-exchange", Value::LongStr(exchange));
    headers.insert("x-last-death-queue", text(queue));
    headers.insert("x-last-death-reason", text(reason));
    headers
}

fn is_death_of(death: &Value, queue: &str, reason: &str) -> bool {
    field_of(death, "queue") == Some(queue) && field_of(death, "reason") == Some(reason)
}

fn field_of<'d>(death: &'d Value, name: &str) -> Option<&'d str> {
    match death {
        Value::Table(death) => death.get(name).and_then(Value::as_str),
        _ => None,
    }
}

/// Whether the message has been in `target` before without a client having rejected it since: it
/// would go round for ever.
fn is_cycle(headers: &Table, target: &str, reason: DeathReason) -> bool {
    if reason == DeathReason::Rejected {
        return false;
    }
    let Some(Value::Array(deaths)) = headers.get("x-death") else { return false };
    let Some(at) = deaths.iter().position(|death| field_of(death, "queue") == Some(target)) else {
        return false;
    };
    deaths.iter().take(at + 1).all(|death| field_of(death, "reason") != Some("rejected"))
}
