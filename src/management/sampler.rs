//! Rates: two readings of the counters, taken [`INTERVAL`] apart, and the difference between them.
//!
//! Until the second reading there are no rates, and then none are shown: a rate of 0 is never made
//! up. A queue that is new since the last reading has none either. Queues of which nothing was ever
//! counted are not kept one by one: there may be a great many of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustc_hash::FxHashMap;
use serde_json::{Map, Value as Json, json};
use tokio::time::{MissedTickBehavior, interval};

use super::Context;
use crate::broker::inspect::Inspect;
use crate::broker::views::{NodeCounters, QueueCounters, QueueTally, QueueView};
use crate::store::QueueKey;

/// RabbitMQ's default (`collect_statistics_interval`).
const INTERVAL: Duration = Duration::from_secs(5);

/// A counter of the node under its name in JSON.
pub(super) type NodeStat = (&'static str, fn(&NodeCounters) -> u64);
/// A counter of a queue under its name in JSON.
pub(super) type QueueStat = (&'static str, fn(&QueueCounters) -> u64);

/// What `message_stats` of the node consists of.
pub(super) const NODE_MESSAGES: &[NodeStat] = &[
    ("publish", |c| load(&c.received)),
    ("confirm", |c| load(&c.confirmed)),
    ("drop_unroutable", |c| load(&c.unroutable_dropped)),
    ("return_unroutable", |c| load(&c.unroutable_returned)),
    ("deliver", |c| load(&c.delivered_manual_ack)),
    ("deliver_no_ack", |c| load(&c.delivered_auto_ack)),
    ("get", |c| load(&c.get_manual_ack)),
    ("get_no_ack", |c| load(&c.get_auto_ack)),
    ("get_empty", |c| load(&c.get_empty)),
    ("deliver_get", |c| {
        let parts = [
            load(&c.delivered_manual_ack),
            load(&c.delivered_auto_ack),
            load(&c.get_manual_ack),
            load(&c.get_auto_ack),
        ];
        parts.into_iter().fold(0, u64::saturating_add)
    }),
    ("redeliver", |c| load(&c.redelivered)),
    ("ack", |c| load(&c.acknowledged)),
];

/// What `churn_rates` consists of.
pub(super) const NODE_CHURN: &[NodeStat] = &[
    ("connection_created", |c| load(&c.connections_opened)),
    ("connection_closed", |c| load(&c.connections_closed)),
    ("channel_created", |c| load(&c.channels_opened)),
    ("channel_closed", |c| load(&c.channels_closed)),
    ("queue_declared", |c| load(&c.queues_declared)),
    ("queue_created", |c| load(&c.queues_created)),
    ("queue_deleted", |c| load(&c.queues_deleted)),
];

/// What `message_stats` of a queue consists of.
pub(super) const QUEUE_MESSAGES: &[QueueStat] = &[
    ("publish", |c| c.published),
    ("deliver", |c| c.delivered_manual_ack),
    ("deliver_no_ack", |c| c.delivered_auto_ack),
    ("get", |c| c.get_manual_ack),
    ("get_no_ack", |c| c.get_auto_ack),
    ("get_empty", |c| c.get_empty),
    ("deliver_get", |c| {
        let parts =
            [c.delivered_manual_ack, c.delivered_auto_ack, c.get_manual_ack, c.get_auto_ack];
        parts.into_iter().fold(0, u64::saturating_add)
    }),
    ("redeliver", |c| c.redelivered),
    ("ack", |c| c.acknowledged),
];

/// Keeps the last two readings.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    readings: Mutex<Readings>,
}

#[derive(Debug, Default)]
struct Readings {
    before: Option<Arc<Reading>>,
    last: Option<Arc<Reading>>,
}

#[derive(Debug)]
struct Reading {
    at_ms: u64,
    node: Vec<u64>,
    ready: u64,
    unacked: u64,
    /// The queues of which something was counted.
    queues: FxHashMap<QueueKey, QueueTally>,
    /// The last of all queues that there were. Their numbers ascend and are not used again.
    newest: Option<QueueKey>,
}

impl Reading {
    fn take(inspect: &dyn Inspect, at_ms: u64) -> Self {
        let counters = inspect.counters();
        let stats = NODE_MESSAGES.iter().chain(NODE_CHURN);
        let mut reading = Self {
            at_ms,
            node: stats.map(|(_, of)| of(counters)).collect(),
            ready: 0,
            unacked: 0,
            queues: FxHashMap::default(),
            newest: None,
        };
        inspect.each_tally(&mut |queue| {
            reading.newest = reading.newest.max(Some(queue.key));
            if *queue == QueueTally::nothing(queue.key) {
                return;
            }
            reading.ready = reading.ready.saturating_add(queue.messages_ready);
            reading.unacked = reading.unacked.saturating_add(queue.messages_unacked);
            reading.queues.insert(queue.key, *queue);
        });
        reading
    }

    /// What was counted of a queue; `None` when it was not there yet.
    fn queue(&self, key: QueueKey) -> Option<QueueTally> {
        let is_known = self.newest.is_some_and(|newest| key <= newest);
        let counted = self.queues.get(&key).copied();
        counted.or_else(|| is_known.then(|| QueueTally::nothing(key)))
    }
}

impl Sampler {
    /// Takes a reading.
    pub(super) fn read(&self, inspect: &dyn Inspect, at_ms: u64) {
        let reading = Arc::new(Reading::take(inspect, at_ms));
        let mut readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        readings.before = readings.last.replace(reading);
    }

    /// The rates between the last two readings.
    pub(super) fn rates(&self) -> Rates {
        let readings = self.readings.lock().unwrap_or_else(PoisonError::into_inner);
        Rates(match (&readings.before, &readings.last) {
            (Some(before), Some(last)) if last.at_ms > before.at_ms => {
                Some((Arc::clone(before), Arc::clone(last)))
            }
            _ => None,
        })
    }
}

/// The rates between two readings, if there are two.
#[derive(Debug, Clone)]
pub(super) struct Rates(Option<(Arc<Reading>, Arc<Reading>)>);

impl Rates {
    /// `message_stats` of the node: counters that have counted, with their rates.
    pub(super) fn node_messages(&self, counters: &NodeCounters) -> Json {
        let stats = NODE_MESSAGES.iter().enumerate();
        object(stats.filter_map(|(i, (name, of))| {
            let count = of(counters);
            (count > 0).then(|| (*name, count, self.node_rate(i)))
        }))
    }

    /// `churn_rates`: every counter, with its rate.
    pub(super) fn churn(&self, counters: &NodeCounters) -> Json {
        let stats = NODE_CHURN.iter().enumerate();
        object(
            stats.map(|(i, (name, of))| {
                (*name, of(counters), self.node_rate(NODE_MESSAGES.len() + i))
            }),
        )
    }

    /// `messages`, `messages_ready` and `messages_unacknowledged` of the node, with their rates.
    pub(super) fn node_depth(&self, ready: u64, unacked: u64) -> Json {
        let rate = |of: fn(&Reading) -> u64| self.rate(|reading| Some(of(reading)));
        depth(ready, unacked, rate(|r| r.ready), rate(|r| r.unacked))
    }

    /// `message_stats` of a queue: counters that have counted, with their rates.
    pub(super) fn queue_messages(&self, queue: &QueueView) -> Json {
        let key = queue.key;
        object(QUEUE_MESSAGES.iter().filter_map(|(name, of)| {
            let count = of(&queue.counters);
            let rate = || self.rate(|reading| Some(of(&reading.queue(key)?.counters)));
            (count > 0).then(|| (*name, count, rate()))
        }))
    }

    /// `messages`, `messages_ready` and `messages_unacknowledged` of a queue, with their rates.
    pub(super) fn queue_depth(&self, queue: &QueueView) -> Json {
        let key = queue.key;
        let ready = self.rate(|reading| Some(reading.queue(key)?.messages_ready));
        let unacked = self.rate(|reading| Some(reading.queue(key)?.messages_unacked));
        depth(queue.messages_ready, queue.messages_unacked, ready, unacked)
    }

    fn node_rate(&self, index: usize) -> Option<f64> {
        self.rate(|reading| reading.node.get(index).copied())
    }

    /// Per second.
    #[expect(clippy::cast_precision_loss, reason = "a rate for people: 53 bits are plenty")]
    fn rate(&self, of: impl Fn(&Reading) -> Option<u64>) -> Option<f64> {
        let (before, last) = self.0.as_ref()?;
        let (from, to) = (of(before)?, of(last)?);
        let elapsed_ms = last.at_ms.checked_sub(before.at_ms).filter(|ms| *ms > 0)?;
        let difference = if to >= from { (to - from) as f64 } else { -((from - to) as f64) };
        Some(difference * 1000.0 / elapsed_ms as f64)
    }
}

fn object<'a>(stats: impl Iterator<Item = (&'a str, u64, Option<f64>)>) -> Json {
    let mut fields = Map::new();
    for (name, count, rate) in stats {
        put(&mut fields, name, count, rate);
    }
    Json::Object(fields)
}

fn depth(ready: u64, unacked: u64, ready_rate: Option<f64>, unacked_rate: Option<f64>) -> Json {
    let all_rate = ready_rate.zip(unacked_rate).map(|(ready, unacked)| ready + unacked);
    object(
        [
            ("messages", ready.saturating_add(unacked), all_rate),
            ("messages_ready", ready, ready_rate),
            ("messages_unacknowledged", unacked, unacked_rate),
        ]
        .into_iter(),
    )
}

fn put(fields: &mut Map<String, Json>, name: &str, count: u64, rate: Option<f64>) {
    fields.insert(name.to_owned(), json!(count));
    if let Some(rate) = rate {
        fields.insert(format!("{name}_details"), json!({ "rate": rate }));
    }
}

fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// Takes a reading now and every [`INTERVAL`]. Never returns.
pub(super) async fn run(sampler: Arc<Sampler>, context: Arc<Context>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (sampler, context) = (Arc::clone(&sampler), Arc::clone(&context));
        let reading = tokio::task::spawn_blocking(move || {
            sampler.read(&*context.inspect, (context.now)().unix_ms);
        });
        if reading.await.is_err() {
            tracing::warn!("statistics could not be read");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::sample::Sample;

    #[test]
    fn rates_are_differences_over_the_time_between_two_readings() {
        let mut sample = Sample::new();
        let sampler = Sampler::default();
        sampler.read(&sample, 10_000);
        let none = sampler.rates().node_messages(&sample.counters);
        assert_eq!(none["publish"], 9);
        assert!(none.get("publish_details").is_none(), "one reading makes no rate");

        sample.counters.received.store(59, Ordering::Relaxed);
        sample.queues[1].counters.published = 19;
        sample.queues[1].messages_ready = 0;
        sampler.read(&sample, 15_000);
        let rates = sampler.rates();
        let node = rates.node_messages(&sample.counters);
        assert_eq!(node["publish_details"]["rate"], 10.0);
        let queue = &sample.queues[1];
        assert_eq!(rates.queue_messages(queue)["publish_details"]["rate"], 2.0);
        assert_eq!(rates.queue_depth(queue)["messages_ready_details"]["rate"], -1.0);
        assert_eq!(rates.node_depth(0, 2)["messages_details"]["rate"], -1.0);
    }

    #[test]
    fn a_queue_that_is_new_has_no_rate_yet() {
        let mut sample = Sample::new();
        let sampler = Sampler::default();
        sampler.read(&Sample::default(), 10_000);
        sampler.read(&sample, 15_000);
        let queue = sample.queues.remove(1);
        assert!(sampler.rates().queue_messages(&queue).get("publish_details").is_none());
    }

    #[test]
    fn a_queue_of_which_nothing_was_counted_yet_has_a_rate_and_takes_no_memory() {
        let mut sample = Sample::new();
        let sampler = Sampler::default();
        let counted = std::mem::take(&mut sample.queues[1].counters);
        (sample.queues[1].messages_ready, sample.queues[1].messages_unacked) = (0, 0);
        sampler.read(&sample, 10_000);
        let key = sample.queues[1].key;
        let kept = sampler.readings.lock().unwrap().last.clone().unwrap();
        assert!(!kept.queues.contains_key(&key));
        sample.queues[1].counters = QueueCounters { published: 10, ..counted };
        sampler.read(&sample, 15_000);
        let rates = sampler.rates();
        let shown = rates.queue_messages(&sample.queues[1]);
        assert_eq!(shown["publish_details"]["rate"], 2.0);
    }

    #[test]
    fn only_counters_that_have_counted_are_shown() {
        let shown = Sampler::default().rates().node_messages(&NodeCounters::default());
        assert_eq!(shown, json!({}));
    }
}
