//! The workloads of the command line, put together from publishers, consumers and a topology.

use crate::batch::Content;
use crate::connection::{AckMode, QueueOptions, Target};
use crate::consumer::ConsumerPlan;
use crate::engine::{Load, Span, WatchPlan};
use crate::publisher::PublisherPlan;
use crate::topology::{Begin, End, Exchange, Topology};
use crate::wire::Table;

/// Up to this window every message is timed; above it, and without one, one in 16 is.
const WINDOW_TIMED_MAX: usize = 100;

/// The knobs that the workloads have in common; see the command line for each.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) name: String,
    pub(crate) target: Target,
    pub(crate) watch: WatchPlan,
    pub(crate) prefix: String,
    pub(crate) timeout_s: f64,
    pub(crate) publishers: u16,
    pub(crate) consumers: usize,
    pub(crate) queues: usize,
    pub(crate) body_bytes: usize,
    pub(crate) persistent: bool,
    pub(crate) durable: bool,
    pub(crate) auto_delete: bool,
    /// Priorities that messages carry, from 0, in turn; 0 is none.
    pub(crate) priorities: u8,
    pub(crate) arguments: Table,
    pub(crate) acks: AckMode,
    pub(crate) prefetch: u16,
    pub(crate) window: usize,
    pub(crate) burst: usize,
    pub(crate) rate: Option<f64>,
    pub(crate) count: Option<u64>,
    pub(crate) warm_up: f64,
    pub(crate) measured: f64,
    pub(crate) verify: bool,
}

/// Publishers to queues by the default exchange, and their consumers. A publisher has the queues
/// whose number is its own modulo the number of publishers, or shares one when queues are fewer.
pub(crate) fn pubsub(shape: Shape) -> Load {
    let names = shape.queue_names();
    let keys = |publisher: usize| share(&names, publisher, usize::from(shape.publishers));
    let publishers = shape.publishers(None, keys);
    shape.load(publishers, None, Vec::new())
}

/// Only the publishers of [`pubsub`]; the messages stay.
pub(crate) fn fill(shape: Shape) -> Load {
    let mut load = pubsub(shape);
    load.consumers.clear();
    load.topology.end = End::Keep;
    load
}

/// Only the consumers of [`pubsub`], for what [`fill`] left.
pub(crate) fn drain(shape: Shape) -> Load {
    let mut load = pubsub(shape);
    load.publishers.clear();
    load.topology.begin = Begin::Existing;
    load.span = Span::Count;
    load
}

/// A fanout exchange; every queue gets every message.
pub(crate) fn fanout(mut shape: Shape) -> Load {
    shape.queues = shape.queues.max(shape.consumers);
    let publishers = shape.publishers(Some("fanout"), |_| vec![String::new()]);
    let bindings = (0..shape.queues).map(|queue| (queue, String::new())).collect();
    let copies = shape.queues as u64;
    Load { copies, ..shape.load(publishers, Some("fanout"), bindings) }
}

/// A topic exchange. Binding `i` belongs to queue `i` modulo the queues, and is the only one to
/// match routing key `i`; the three forms of patterns take turns.
pub(crate) fn topic(shape: Shape, bindings: usize, keys: usize) -> Load {
    let keys: Vec<String> =
        (0..keys.clamp(1, bindings.max(1))).map(|i| format!("a.{i}.z")).collect();
    let pattern = |binding: usize| match binding % 3 {
        0 => format!("a.{binding}.*"),
        1 => format!("*.{binding}.z"),
        _ => format!("a.{binding}.#"),
    };
    let patterns = (0..bindings.max(1)).map(|i| (i % shape.queues, pattern(i))).collect();
    let publishers = shape.publishers(Some("topic"), |_| keys.clone());
    shape.load(publishers, Some("topic"), patterns)
}

/// The queue of remote calls.
pub(crate) fn request_queue(prefix: &str) -> Topology {
    Topology {
        exchange: None,
        queues: vec![format!("{prefix}.rpc")],
        options: QueueOptions { durable: false, auto_delete: false, arguments: Vec::new() },
        bindings: Vec::new(),
        begin: Begin::Declare,
        end: End::Delete,
    }
}

impl Shape {
    fn queue_names(&self) -> Vec<String> {
        (0..self.queues).map(|queue| format!("{}.q{queue}", self.prefix)).collect()
    }

    fn publishers(
        &self,
        exchange: Option<&str>,
        keys: impl Fn(usize) -> Vec<String>,
    ) -> Vec<(Content, PublisherPlan)> {
        let exchange = exchange.map(|kind| format!("{}.{kind}", self.prefix)).unwrap_or_default();
        let timed = self.rate.is_some() || (1..=WINDOW_TIMED_MAX).contains(&self.window);
        (0..self.publishers)
            .map(|publisher| {
                let content = Content {
                    exchange: exchange.clone(),
                    keys: keys(usize::from(publisher)),
                    body_bytes: self.body_bytes,
                    persistent: self.persistent,
                    priorities: self.priorities,
                    reply_to: None,
                    frame_bytes_max: 0,
                };
                let plan = PublisherPlan {
                    publisher,
                    window: self.window,
                    burst: self.burst,
                    rate: self.rate,
                    count: self.count,
                    sample_every: if timed { 1 } else { 16 },
                };
                (content, plan)
            })
            .collect()
    }

    fn load(
        self,
        publishers: Vec<(Content, PublisherPlan)>,
        exchange: Option<&'static str>,
        bindings: Vec<(usize, String)>,
    ) -> Load {
        let numbered: Vec<(usize, String)> = self.queue_names().into_iter().enumerate().collect();
        let consumers = (0..self.consumers)
            .map(|consumer| ConsumerPlan {
                queues: share(&numbered, consumer, self.consumers),
                acks: self.acks,
                prefetch: self.prefetch,
                verify_publishers: self.verify.then_some(usize::from(self.publishers)),
            })
            .collect();
        let exchange = exchange.map(|kind| Exchange {
            name: format!("{}.{kind}", self.prefix),
            kind,
            durable: self.durable,
        });
        let span = match self.count {
            Some(_) => Span::Count,
            None => Span::Seconds { warm_up: self.warm_up, measured: self.measured },
        };
        Load {
            topology: Topology {
                exchange,
                queues: self.queue_names(),
                options: QueueOptions {
                    durable: self.durable,
                    auto_delete: self.auto_delete,
                    arguments: self.arguments,
                },
                bindings,
                begin: Begin::Declare,
                end: End::Delete,
            },
            name: self.name,
            target: self.target,
            watch: self.watch,
            publishers,
            consumers,
            copies: 1,
            span,
            timeout_s: self.timeout_s,
        }
    }
}

/// What falls to one of `takers`: every so-many-th item, or one shared with others.
fn share<T: Clone>(items: &[T], taker: usize, takers: usize) -> Vec<T> {
    if items.len() <= takers {
        return vec![items[taker % items.len()].clone()];
    }
    items.iter().skip(taker).step_by(takers).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_are_shared_out_whether_they_are_more_or_fewer() {
        assert_eq!(share(&[0, 1, 2, 3, 4], 1, 2), [1, 3]);
        assert_eq!(share(&[0, 1], 3, 5), [1]);
        assert_eq!(share(&[0, 1], 1, 2), [1]);
    }
}
