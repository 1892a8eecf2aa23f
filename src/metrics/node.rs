//! Metrics of the node itself.

use std::sync::atomic::{AtomicU64, Ordering};

use super::objects::Objects;
use super::process::ProcessStats;
use super::text::{Kind, Page};
use super::{PREFIX, single};
use crate::broker::alarms::Alarms;
use crate::broker::inspect::{Inspect, MessageSizes};
use crate::broker::limits::Limit;
use crate::broker::views::{NodeCounters, QueueView};
use crate::store::Durability;

/// Families of the node that `/metrics/detailed` knows by name.
const FAMILIES: [(&str, Writer); 5] = [
    ("connection_churn_metrics", churn),
    ("node_coarse_metrics", coarse),
    ("node_metrics", limits),
    ("node_persister_metrics", persister),
    ("auth_attempt_metrics", logins),
];

type Writer = fn(&mut Page, &str, &dyn Inspect, &ProcessStats);

/// Writes all of the node's families.
pub(super) fn counters(
    page: &mut Page,
    prefix: &str,
    inspect: &dyn Inspect,
    process: &ProcessStats,
) {
    chosen(page, prefix, inspect, process, &|_| true);
}

/// Writes those of the node's families that are wanted.
pub(super) fn chosen(
    page: &mut Page,
    prefix: &str,
    inspect: &dyn Inspect,
    process: &ProcessStats,
    wanted: &dyn Fn(&str) -> bool,
) {
    for (name, write) in FAMILIES {
        if wanted(name) {
            write(page, prefix, inspect, process);
        }
    }
}

/// Metrics that have no family: totals, alarms, the global counters, the store's own.
pub(super) fn alone(
    page: &mut Page,
    inspect: &dyn Inspect,
    process: &ProcessStats,
    objects: &Objects<'_>,
) {
    totals(page, objects);
    alarms(page, inspect.alarms());
    global_publishing(page, inspect, objects);
    global_delivery(page, inspect.counters());
    if let Some(sizes) = inspect.message_sizes() {
        message_sizes(page, &sizes);
    }
    let started_s = milliseconds(inspect.node().started_at_ms);
    let help = "Start time of the process since unix epoch in seconds";
    single(page, "", "process_start_time_seconds", Kind::Gauge, help, started_s);
    limit_hits(page, inspect.counters());
    store(page, inspect, objects);
    if let Some(threads) = process.threads {
        let help = "Threads of the broker's process";
        single(page, "", "leveret_process_threads", Kind::Gauge, help, threads);
    }
}

/// Who this is. Every panel of RabbitMQ's dashboards joins on `identity_info`.
pub(super) fn identity(page: &mut Page, inspect: &dyn Inspect, endpoint: &str) {
    let node = inspect.node();
    let help = "RabbitMQ & Erlang/OTP version info";
    page.family(PREFIX, "build_info", Kind::Untyped, help).sample(
        &[
            ("rabbitmq_version", &node.compat_version),
            ("prometheus_plugin_version", &node.product_version),
            ("prometheus_client_version", &node.product_version),
            ("erlang_version", "n/a"),
            ("product_name", &node.product_name),
            ("product_version", &node.product_version),
        ],
        1,
    );
    let help = "RabbitMQ node & cluster identity info";
    page.family(PREFIX, "identity_info", Kind::Untyped, help).sample(
        &[
            ("rabbitmq_node", &node.name),
            ("rabbitmq_cluster", &node.cluster_name),
            ("rabbitmq_cluster_permanent_id", &node.cluster_id),
            ("rabbitmq_endpoint", endpoint),
        ],
        1,
    );
}

fn churn(page: &mut Page, prefix: &str, inspect: &dyn Inspect, _: &ProcessStats) {
    let c = inspect.counters();
    for (name, help, counter) in [
        ("connections_opened_total", "Total number of connections opened", &c.connections_opened),
        (
            "connections_closed_total",
            "Total number of connections closed or terminated",
            &c.connections_closed,
        ),
        ("channels_opened_total", "Total number of channels opened", &c.channels_opened),
        ("channels_closed_total", "Total number of channels closed", &c.channels_closed),
        ("queues_declared_total", "Total number of queues declared", &c.queues_declared),
        ("queues_created_total", "Total number of queues created", &c.queues_created),
        ("queues_deleted_total", "Total number of queues deleted", &c.queues_deleted),
    ] {
        single(page, prefix, name, Kind::Counter, help, load(counter));
    }
}

fn coarse(page: &mut Page, prefix: &str, _: &dyn Inspect, process: &ProcessStats) {
    gauges(
        page,
        prefix,
        [
            ("process_open_fds", "Open file descriptors", process.open_fds),
            (
                "process_resident_memory_bytes",
                "Memory used in bytes",
                process.resident_memory_bytes,
            ),
            (
                "disk_space_available_bytes",
                "Disk space available in bytes",
                process.disk_free_bytes,
            ),
        ],
    );
}

fn limits(page: &mut Page, prefix: &str, inspect: &dyn Inspect, process: &ProcessStats) {
    gauges(
        page,
        prefix,
        [
            ("process_max_fds", "Open file descriptors limit", process.max_fds),
            (
                "resident_memory_limit_bytes",
                "Memory high watermark in bytes",
                process.memory_limit_bytes,
            ),
            (
                "disk_space_available_limit_bytes",
                "Free disk space low watermark in bytes",
                process.disk_free_limit_bytes,
            ),
        ],
    );
    let uptime_ms = process.now_ms.saturating_sub(inspect.node().started_at_ms);
    let uptime_s = milliseconds(uptime_ms);
    single(page, prefix, "erlang_uptime_seconds", Kind::Gauge, "Node uptime", uptime_s);
}

fn persister(page: &mut Page, prefix: &str, inspect: &dyn Inspect, _: &ProcessStats) {
    let store = inspect.store_counters();
    for (name, help, value) in [
        ("io_write_ops_total", "Total number of I/O write operations", store.writes),
        ("io_write_bytes_total", "Total number of I/O bytes written", store.bytes_written),
        ("io_sync_ops_total", "Total number of I/O sync operations", store.syncs),
    ] {
        single(page, prefix, name, Kind::Counter, help, value);
    }
}

fn logins(page: &mut Page, prefix: &str, inspect: &dyn Inspect, _: &ProcessStats) {
    let c = inspect.counters();
    let by = [
        (PROTOCOL, load(&c.auth_succeeded), load(&c.auth_failed)),
        (("protocol", "http"), load(&c.http_auth_succeeded), load(&c.http_auth_failed)),
    ];
    let all = |(_, succeeded, failed): (_, u64, u64)| succeeded.saturating_add(failed);
    for (name, help, values) in [
        ("auth_attempts_total", "Total number of authentication attempts", by.map(all)),
        (
            "auth_attempts_succeeded_total",
            "Total number of successful authentication attempts",
            by.map(|(_, succeeded, _)| succeeded),
        ),
        (
            "auth_attempts_failed_total",
            "Total number of failed authentication attempts",
            by.map(|(.., failed)| failed),
        ),
    ] {
        let mut family = page.family(prefix, name, Kind::Counter, help);
        for ((protocol, ..), value) in by.iter().zip(values) {
            family.sample(&[*protocol], value);
        }
    }
}

fn totals(page: &mut Page, objects: &Objects<'_>) {
    for (name, help, value) in [
        ("connections", "Connections currently open", objects.connections().len() as u64),
        ("channels", "Channels currently open", objects.channels()),
        ("consumers", "Consumers currently connected", objects.consumers()),
        ("queues", "Queues available", objects.queues().len() as u64),
    ] {
        single(page, PREFIX, name, Kind::Gauge, help, value);
    }
}

/// Nobody counts descriptors against a limit, so that alarm is never in effect.
fn alarms(page: &mut Page, alarms: Alarms) {
    let set = u64::from;
    let memory = "is 1 if VM memory watermark alarm is in effect";
    single(page, PREFIX, "alarms_memory_used_watermark", Kind::Untyped, memory, set(alarms.memory));
    let disk = "is 1 if free disk space watermark alarm is in effect";
    single(page, PREFIX, "alarms_free_disk_space_watermark", Kind::Untyped, disk, set(alarms.disk));
    let descriptors = "is 1 if file descriptor limit alarm is in effect";
    single(page, PREFIX, "alarms_file_descriptor_limit", Kind::Untyped, descriptors, 0);
    let peers = "Number of peers in the cluster the current node cannot reach.";
    single(page, PREFIX, "unreachable_cluster_peers_count", Kind::Gauge, peers, 0);
}

const PROTOCOL: (&str, &str) = ("protocol", "amqp091");
/// Deliveries are not counted by queue type yet; all stand under the type most queues have.
const QUEUE_TYPE: (&str, &str) = ("queue_type", "rabbit_classic_queue");

fn global_publishing(page: &mut Page, inspect: &dyn Inspect, objects: &Objects<'_>) {
    let c = inspect.counters();
    for (name, help, counter) in [
        (
            "messages_received_total",
            "Total number of messages received from publishers",
            &c.received,
        ),
        (
            "messages_received_confirm_total",
            "Total number of messages received from publishers expecting confirmations",
            &c.received_confirm,
        ),
        (
            "messages_routed_total",
            "Total number of messages routed to queues or streams",
            &c.routed,
        ),
        ("messages_unroutable_dropped_total", UNROUTABLE_DROPPED, &c.unroutable_dropped),
        ("messages_unroutable_returned_total", UNROUTABLE_RETURNED, &c.unroutable_returned),
        (
            "messages_confirmed_total",
            "Total number of messages confirmed to publishers",
            &c.confirmed,
        ),
    ] {
        let mut family = page.family("rabbitmq_global_", name, Kind::Counter, help);
        family.sample(&[PROTOCOL], load(counter));
    }
    if let Some(publishers) = inspect.publishers() {
        let help = "Current number of publishers";
        let mut family = page.family("rabbitmq_global_", "publishers", Kind::Gauge, help);
        family.sample(&[PROTOCOL], publishers);
    }
    let help = "Current number of consumers";
    let mut family = page.family("rabbitmq_global_", "consumers", Kind::Gauge, help);
    family.sample(&[PROTOCOL], objects.consumers());
}

pub(super) const UNROUTABLE_DROPPED: &str = "Total number of messages published as non-mandatory \
    into an exchange and dropped as unroutable";
pub(super) const UNROUTABLE_RETURNED: &str = "Total number of messages published as mandatory into \
    an exchange and returned to the publisher as unroutable";

fn global_delivery(page: &mut Page, c: &NodeCounters) {
    let (manual, auto) = (load(&c.delivered_manual_ack), load(&c.delivered_auto_ack));
    let (get_manual, get_auto) = (load(&c.get_manual_ack), load(&c.get_auto_ack));
    let delivered = [manual, auto, get_manual, get_auto].into_iter().fold(0, u64::saturating_add);
    for (name, help, value) in [
        ("messages_delivered_total", "Total number of messages delivered to consumers", delivered),
        (
            "messages_delivered_consume_manual_ack_total",
            "Total number of messages delivered to consumers using basic.consume with manual \
             acknowledgment",
            manual,
        ),
        (
            "messages_delivered_consume_auto_ack_total",
            "Total number of messages delivered to consumers using basic.consume with automatic \
             acknowledgment",
            auto,
        ),
        (
            "messages_delivered_get_manual_ack_total",
            "Total number of messages delivered to consumers using basic.get with manual \
             acknowledgment",
            get_manual,
        ),
        (
            "messages_delivered_get_auto_ack_total",
            "Total number of messages delivered to consumers using basic.get with automatic \
             acknowledgment",
            get_auto,
        ),
        (
            "messages_get_empty_total",
            "Total number of times basic.get operations fetched no message",
            load(&c.get_empty),
        ),
        (
            "messages_redelivered_total",
            "Total number of messages redelivered to consumers",
            load(&c.redelivered),
        ),
        (
            "messages_acknowledged_total",
            "Total number of messages acknowledged by consumers",
            load(&c.acknowledged),
        ),
    ] {
        let mut family = page.family("rabbitmq_global_", name, Kind::Counter, help);
        family.sample(&[PROTOCOL, QUEUE_TYPE], value);
    }
}

fn message_sizes(page: &mut Page, sizes: &MessageSizes) {
    let help = "Size of messages received from publishers";
    let mut family = page.family(PREFIX, "message_size_bytes", Kind::Histogram, help);
    let mut so_far: u64 = 0;
    for (i, count) in sizes.counts.iter().enumerate() {
        so_far = so_far.saturating_add(*count);
        let bound = MessageSizes::BOUNDS_BYTES.get(i);
        let bound = bound.map_or_else(|| "+Inf".to_owned(), ToString::to_string);
        family.suffixed("_bucket", &[PROTOCOL, ("le", &bound)], so_far);
    }
    family.suffixed("_count", &[PROTOCOL], so_far);
    family.suffixed("_sum", &[PROTOCOL], sizes.sum_bytes);
}

fn limit_hits(page: &mut Page, c: &NodeCounters) {
    let help = "Connections that have not logged in";
    single(page, "leveret_", "connections_half_open", Kind::Gauge, help, load(&c.half_open));
    let help = "How often a limit was hit, by the configuration key that sets it";
    let mut family = page.family("leveret_", "limit_hits_total", Kind::Counter, help);
    for limit in Limit::ALL {
        family.sample(&[("limit", limit.name())], c.limits.of(limit));
    }
    let help = "Lines that the audit log had to leave out";
    let lost = load(&c.audit_lines_lost);
    single(page, "leveret_", "audit_lines_lost_total", Kind::Counter, help, lost);
}

fn store(page: &mut Page, inspect: &dyn Inspect, objects: &Objects<'_>) {
    let c = inspect.store_counters();
    for (name, help, value) in [
        ("batches_total", "Batches of changes handed to the store", c.batches),
        ("ops_total", "Changes that the store applied", c.ops),
        ("writes_total", "Group commits that the store wrote", c.writes),
        ("syncs_total", "Syncs of the store's log that returned", c.syncs),
        ("written_bytes_total", "Bytes that the store handed to its log", c.bytes_written),
        (
            "annihilated_messages_total",
            "Messages that were settled before they were written, and so never were",
            c.annihilated,
        ),
    ] {
        single(page, "leveret_store_", name, Kind::Counter, help, value);
    }
    let help = "Durable queues that confirm a message before it is on disk";
    let of_the_system = |queue: &QueueView| queue.durability == Some(Durability::Os);
    let unsynced = objects.queues().iter().filter(|queue| of_the_system(queue)).count();
    single(page, "leveret_queues_", "unsynced", Kind::Gauge, help, unsynced as u64);
    let help = "1 once the store has failed and confirms nothing any more";
    let failed = u64::from(inspect.store_failure().is_some());
    single(page, "leveret_store_", "failed", Kind::Gauge, help, failed);
}

fn gauges<const N: usize>(page: &mut Page, prefix: &str, gauges: [(&str, &str, Option<u64>); N]) {
    for (name, help, value) in gauges {
        if let Some(value) = value {
            single(page, prefix, name, Kind::Gauge, help, value);
        }
    }
}

/// A counter's value.
pub(super) fn load(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

#[expect(clippy::cast_precision_loss, reason = "a time: exact for 285,000 years")]
pub(super) fn milliseconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
