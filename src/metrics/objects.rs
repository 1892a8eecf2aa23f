//! Metrics of queues, connections, channels and exchanges: each by itself or summed up.

use std::cell::OnceCell;
use std::collections::HashMap;

use super::node::{UNROUTABLE_DROPPED, UNROUTABLE_RETURNED, load};
use super::text::{Kind, Page};
use super::{PREFIX, single};
use crate::broker::inspect::Inspect;
use crate::broker::views::{ChannelView, ConnectionView, NodeCounters, QueueView};

/// Snapshots of the broker's objects, taken when first needed and once for a page, so that a page
/// agrees with itself.
pub(super) struct Objects<'a> {
    inspect: &'a dyn Inspect,
    queues: OnceCell<Vec<QueueView>>,
    connections: OnceCell<Vec<ConnectionView>>,
}

impl<'a> Objects<'a> {
    pub(super) const fn new(inspect: &'a dyn Inspect) -> Self {
        Self { inspect, queues: OnceCell::new(), connections: OnceCell::new() }
    }

    pub(super) fn queues(&self) -> &[QueueView] {
        self.queues.get_or_init(|| {
            let mut queues = self.inspect.queues(None);
            queues.sort_by(|a, b| (&a.vhost, &a.name).cmp(&(&b.vhost, &b.name)));
            queues
        })
    }

    pub(super) fn connections(&self) -> &[ConnectionView] {
        self.connections.get_or_init(|| {
            let mut connections = self.inspect.connections();
            connections.sort_by(|a, b| a.name.cmp(&b.name));
            connections
        })
    }

    pub(super) fn channels(&self) -> u64 {
        self.connections().iter().map(|connection| connection.channels.len() as u64).sum()
    }

    pub(super) fn consumers(&self) -> u64 {
        self.queues().iter().map(consumers).sum()
    }
}

/// Which page the metrics are for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    /// What stands before each name.
    pub(super) prefix: &'a str,
    /// The vhosts to show; all when empty.
    pub(super) vhosts: &'a [String],
}

impl Scope<'_> {
    fn shows(&self, vhost: &str) -> bool {
        self.vhosts.is_empty() || self.vhosts.iter().any(|shown| shown == vhost)
    }
}

/// A group of metrics that `/metrics/detailed` knows by name.
pub(super) struct Family {
    /// Its name.
    pub(super) name: &'static str,
    /// Whether another family has all of it.
    pub(super) subset: bool,
    metrics: Metrics,
}

enum Metrics {
    Queue(&'static [Metric<QueueView>]),
    Connection(&'static [Metric<ConnectionView>]),
    Channel(&'static [Metric<ChannelView>]),
}

type Metric<T> = (&'static str, Kind, &'static str, fn(&T) -> u64);

/// Families of objects.
pub(super) const FAMILIES: &[Family] = &[
    family("queue_coarse_metrics", Metrics::Queue(QUEUE_COARSE)),
    Family {
        name: "queue_consumer_count",
        subset: true,
        metrics: Metrics::Queue(QUEUE_CONSUMER_COUNT),
    },
    family("queue_metrics", Metrics::Queue(QUEUE)),
    family("queue_delivery_metrics", Metrics::Queue(QUEUE_DELIVERY)),
    family("connection_coarse_metrics", Metrics::Connection(CONNECTION_COARSE)),
    family("connection_metrics", Metrics::Connection(CONNECTION)),
    family("channel_metrics", Metrics::Channel(CHANNEL)),
];

/// The families that bring `queue_info` with them.
pub(super) const QUEUE_FAMILIES: [&str; 3] =
    ["queue_coarse_metrics", "queue_consumer_count", "queue_metrics"];

const fn family(name: &'static str, metrics: Metrics) -> Family {
    Family { name, subset: false, metrics }
}

impl Family {
    /// Writes the family's metrics, object by object.
    pub(super) fn write(&self, page: &mut Page, scope: Scope<'_>, objects: &Objects<'_>) {
        match self.metrics {
            Metrics::Queue(metrics) => {
                for &(name, kind, help, value) in metrics {
                    let mut family = page.family(scope.prefix, name, kind, help);
                    for queue in objects.queues().iter().filter(|q| scope.shows(&q.vhost)) {
                        let labels = [("vhost", &*queue.vhost), ("queue", &*queue.name)];
                        family.sample(&labels, value(queue));
                    }
                }
            }
            Metrics::Connection(metrics) => {
                for &(name, kind, help, value) in metrics {
                    let mut family = page.family(scope.prefix, name, kind, help);
                    for connection in objects.connections() {
                        family.sample(&[("channel", &connection.name)], value(connection));
                    }
                }
            }
            Metrics::Channel(metrics) => {
                for &(name, kind, help, value) in metrics {
                    let mut family = page.family(scope.prefix, name, kind, help);
                    for (name, channel) in channels(objects) {
                        family.sample(&[("channel", &name)], value(channel));
                    }
                }
            }
        }
    }
}

/// Channels with their names, "connection (number)".
fn channels<'a>(objects: &'a Objects<'_>) -> impl Iterator<Item = (String, &'a ChannelView)> {
    objects.connections().iter().flat_map(|connection| {
        connection
            .channels
            .iter()
            .map(|channel| (format!("{} ({})", connection.name, channel.number), channel))
    })
}

/// Writes the sums over all objects. Counters are the node's since start: a sum over the objects
/// that exist would fall whenever one goes.
pub(super) fn totals(page: &mut Page, counters: &NodeCounters, objects: &Objects<'_>) {
    for family in FAMILIES.iter().filter(|family| !family.subset) {
        match family.metrics {
            Metrics::Queue(metrics) => sums(page, metrics, objects.queues().iter()),
            Metrics::Connection(metrics) => sums(page, metrics, objects.connections().iter()),
            Metrics::Channel(metrics) => {
                let all = objects.connections().iter().flat_map(|c| &c.channels);
                sums(page, metrics, all);
            }
        }
    }
    for &(name, help, counter) in SINCE_START {
        single(page, PREFIX, name, Kind::Counter, help, load(counter(counters)));
    }
}

fn sums<'a, T: 'a>(
    page: &mut Page,
    metrics: &[Metric<T>],
    objects: impl Iterator<Item = &'a T> + Clone,
) {
    for &(name, kind, help, value) in metrics {
        if kind == Kind::Gauge {
            let sum = objects.clone().map(value).fold(0, u64::saturating_add);
            single(page, PREFIX, name, kind, help, sum);
        }
    }
}

/// Writes what is known of each queue besides numbers.
pub(super) fn queue_info(page: &mut Page, scope: Scope<'_>, objects: &Objects<'_>) {
    let help = "A metric with a constant '1' value and labels that provide some queue details";
    let mut family = page.family(scope.prefix, "queue_info", Kind::Gauge, help);
    for queue in objects.queues().iter().filter(|queue| scope.shows(&queue.vhost)) {
        let queue_type = format!("rabbit_{}_queue", queue.kind);
        family.sample(
            &[
                ("vhost", &*queue.vhost),
                ("queue", &*queue.name),
                ("queue_type", &*queue_type),
                ("membership", "leader"),
            ],
            1,
        );
    }
}

/// Writes the families that RabbitMQ calls cluster-wide.
pub(super) fn cluster(
    page: &mut Page,
    scope: Scope<'_>,
    inspect: &dyn Inspect,
    wanted: &dyn Fn(&str) -> bool,
) {
    const CLUSTER: &str = "rabbitmq_cluster_";
    if wanted("vhost_status") {
        let help = "Whether a given vhost is running";
        let mut family = page.family(CLUSTER, "vhost_status", Kind::Gauge, help);
        for vhost in inspect.vhosts().iter().filter(|vhost| scope.shows(vhost)) {
            family.sample(&[("vhost", vhost)], 1);
        }
    }
    if !wanted("exchange_bindings") && !wanted("exchange_names") {
        return;
    }
    let mut exchanges = inspect.exchanges(None);
    exchanges.retain(|exchange| scope.shows(&exchange.vhost));
    exchanges.sort_by(|a, b| (&a.vhost, &a.name).cmp(&(&b.vhost, &b.name)));
    if wanted("exchange_bindings") {
        let mut counts: HashMap<(String, String), u64> = HashMap::new();
        for binding in inspect.bindings(None) {
            *counts.entry((binding.vhost, binding.source)).or_default() += 1;
        }
        let help = "Number of bindings for an exchange. This value is cluster-wide.";
        let mut family = page.family(CLUSTER, "exchange_bindings", Kind::Gauge, help);
        for exchange in &exchanges {
            let key = (exchange.vhost.clone(), exchange.name.clone());
            let count = counts.get(&key).copied().unwrap_or_default();
            let labels = exchange_labels(&exchange.vhost, &exchange.name, &exchange.kind);
            family.sample(&labels, count);
        }
    }
    if wanted("exchange_names") {
        let help = "Enumerates exchanges without any additional info. This value is \
                    cluster-wide. A cheaper alternative to `exchange_bindings`";
        let mut family = page.family(CLUSTER, "exchange_name", Kind::Gauge, help);
        for exchange in &exchanges {
            family.sample(&exchange_labels(&exchange.vhost, &exchange.name, &exchange.kind), 1);
        }
    }
}

fn exchange_labels<'a>(
    vhost: &'a str,
    name: &'a str,
    kind: &'a str,
) -> [(&'static str, &'a str); 3] {
    [("vhost", vhost), ("exchange", name), ("type", kind)]
}

fn consumers(queue: &QueueView) -> u64 {
    queue.consumers.len() as u64
}

const QUEUE_COARSE: &[Metric<QueueView>] = &[
    ("queue_messages_ready", Kind::Gauge, "Messages ready to be delivered to consumers", |q| {
        q.messages_ready
    }),
    (
        "queue_messages_unacked",
        Kind::Gauge,
        "Messages delivered to consumers but not yet acknowledged",
        |q| q.messages_unacked,
    ),
    (
        "queue_messages",
        Kind::Gauge,
        "Sum of ready and unacknowledged messages - total queue depth",
        |q| q.messages_ready.saturating_add(q.messages_unacked),
    ),
];

const QUEUE_CONSUMER_COUNT: &[Metric<QueueView>] =
    &[("queue_consumers", Kind::Gauge, "Consumers on a queue", consumers)];

const QUEUE: &[Metric<QueueView>] = &[
    ("queue_consumers", Kind::Gauge, "Consumers on a queue", consumers),
    ("queue_messages_persistent", Kind::Gauge, "Persistent messages", |q| q.messages_persistent),
    (
        "queue_messages_bytes",
        Kind::Gauge,
        "Size in bytes of ready and unacknowledged messages",
        |q| q.bytes_ready.saturating_add(q.bytes_unacked),
    ),
    ("queue_messages_ready_bytes", Kind::Gauge, "Size in bytes of ready messages", |q| {
        q.bytes_ready
    }),
    (
        "queue_messages_unacked_bytes",
        Kind::Gauge,
        "Size in bytes of all unacknowledged messages",
        |q| q.bytes_unacked,
    ),
    (
        "queue_messages_ram",
        Kind::Gauge,
        "Ready and unacknowledged messages stored in memory",
        QueueView::messages_in_memory,
    ),
    (
        "queue_messages_ram_bytes",
        Kind::Gauge,
        "Size of ready and unacknowledged messages stored in memory",
        QueueView::bytes_in_memory,
    ),
    ("queue_messages_ready_ram", Kind::Gauge, "Ready messages stored in memory", |q| {
        q.messages_ready.saturating_sub(q.messages_paged_out)
    }),
    ("queue_messages_unacked_ram", Kind::Gauge, "Unacknowledged messages stored in memory", |q| {
        q.messages_unacked
    }),
    ("queue_messages_persistent_bytes", Kind::Gauge, "Size in bytes of persistent messages", |q| {
        q.bytes_persistent
    }),
    ("queue_messages_paged_out", Kind::Gauge, "Messages paged out to disk", |q| {
        q.messages_paged_out
    }),
    (
        "queue_messages_paged_out_bytes",
        Kind::Gauge,
        "Size in bytes of messages paged out to disk",
        |q| q.bytes_paged_out,
    ),
];

const QUEUE_DELIVERY: &[Metric<QueueView>] = &[
    ("queue_get_ack_total", Kind::Counter, QUEUE_GET_ACK, |q| q.counters.get_manual_ack),
    ("queue_get_total", Kind::Counter, QUEUE_GET, |q| q.counters.get_auto_ack),
    ("queue_messages_delivered_ack_total", Kind::Counter, QUEUE_DELIVERED_ACK, |q| {
        q.counters.delivered_manual_ack
    }),
    ("queue_messages_delivered_total", Kind::Counter, QUEUE_DELIVERED, |q| {
        q.counters.delivered_auto_ack
    }),
    ("queue_messages_redelivered_total", Kind::Counter, QUEUE_REDELIVERED, |q| {
        q.counters.redelivered
    }),
    ("queue_messages_acked_total", Kind::Counter, QUEUE_ACKED, |q| q.counters.acknowledged),
    ("queue_get_empty_total", Kind::Counter, QUEUE_GET_EMPTY, |q| q.counters.get_empty),
];

const QUEUE_GET_ACK: &str =
    "Total number of messages fetched from a queue with basic.get in manual acknowledgement mode";
const QUEUE_GET: &str = "Total number of messages fetched from a queue with basic.get in \
    automatic acknowledgement mode";
const QUEUE_DELIVERED_ACK: &str =
    "Total number of messages delivered from a queue to consumers in manual acknowledgement mode";
const QUEUE_DELIVERED: &str = "Total number of messages delivered from a queue to consumers in \
                               automatic acknowledgement mode";
const QUEUE_REDELIVERED: &str = "Total number of messages redelivered from a queue to consumers";
const QUEUE_ACKED: &str = "Total number of messages acknowledged by consumers on a queue";
const QUEUE_GET_EMPTY: &str =
    "Total number of times basic.get operations fetched no message on a queue";

const CONNECTION_COARSE: &[Metric<ConnectionView>] = &[
    (
        "connection_incoming_bytes_total",
        Kind::Counter,
        "Total number of bytes received on a connection",
        |c| c.received_bytes,
    ),
    (
        "connection_outgoing_bytes_total",
        Kind::Counter,
        "Total number of bytes sent on a connection",
        |c| c.sent_bytes,
    ),
];

const CONNECTION: &[Metric<ConnectionView>] =
    &[("connection_channels", Kind::Gauge, "Channels on a connection", |c| {
        c.channels.len() as u64
    })];

const CHANNEL: &[Metric<ChannelView>] = &[
    ("channel_consumers", Kind::Gauge, "Consumers on a channel", |c| c.consumers),
    ("channel_messages_unacked", Kind::Gauge, "Delivered but not yet acknowledged messages", |c| {
        c.unacked
    }),
    (
        "channel_messages_unconfirmed",
        Kind::Gauge,
        "Published but not yet confirmed messages",
        |c| c.unconfirmed,
    ),
    ("consumer_prefetch", Kind::Gauge, "Limit of unacknowledged messages for each consumer", |c| {
        u64::from(c.prefetch)
    }),
    ("channel_prefetch", Kind::Gauge, "Deprecated and will be removed in a future version", |c| {
        u64::from(c.global_prefetch)
    }),
];

type SinceStart = (&'static str, &'static str, fn(&NodeCounters) -> &std::sync::atomic::AtomicU64);

/// Counters of channels and queues in their summed form, from the node's own counters.
const SINCE_START: &[SinceStart] = &[
    (
        "channel_messages_published_total",
        "Total number of messages published into an exchange on a channel",
        |c| &c.received,
    ),
    (
        "channel_messages_confirmed_total",
        "Total number of messages published into an exchange and confirmed on the channel",
        |c| &c.confirmed,
    ),
    ("channel_messages_unroutable_returned_total", UNROUTABLE_RETURNED, |c| &c.unroutable_returned),
    ("channel_messages_unroutable_dropped_total", UNROUTABLE_DROPPED, |c| &c.unroutable_dropped),
    (
        "channel_get_ack_total",
        "Total number of messages fetched with basic.get in manual acknowledgement mode",
        |c| &c.get_manual_ack,
    ),
    (
        "channel_get_total",
        "Total number of messages fetched with basic.get in automatic acknowledgement mode",
        |c| &c.get_auto_ack,
    ),
    (
        "channel_messages_delivered_ack_total",
        "Total number of messages delivered to consumers in manual acknowledgement mode",
        |c| &c.delivered_manual_ack,
    ),
    (
        "channel_messages_delivered_total",
        "Total number of messages delivered to consumers in automatic acknowledgement mode",
        |c| &c.delivered_auto_ack,
    ),
    (
        "channel_messages_redelivered_total",
        "Total number of messages redelivered to consumers",
        |c| &c.redelivered,
    ),
    ("channel_messages_acked_total", "Total number of messages acknowledged by consumers", |c| {
        &c.acknowledged
    }),
    (
        "channel_get_empty_total",
        "Total number of times basic.get operations fetched no message",
        |c| &c.get_empty,
    ),
    ("queue_get_ack_total", QUEUE_GET_ACK, |c| &c.get_manual_ack),
    ("queue_get_total", QUEUE_GET, |c| &c.get_auto_ack),
    ("queue_messages_delivered_ack_total", QUEUE_DELIVERED_ACK, |c| &c.delivered_manual_ack),
    ("queue_messages_delivered_total", QUEUE_DELIVERED, |c| &c.delivered_auto_ack),
    ("queue_messages_redelivered_total", QUEUE_REDELIVERED, |c| &c.redelivered),
    ("queue_messages_acked_total", QUEUE_ACKED, |c| &c.acknowledged),
    ("queue_get_empty_total", QUEUE_GET_EMPTY, |c| &c.get_empty),
];
