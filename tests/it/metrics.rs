//! The metrics page on a running broker: its numbers are what happened.

use leveret::protocol::Method;
use leveret::protocol::method::queue;

use crate::management::{Client, Node, http};

/// The value of a series.
async fn value(node: &Node, page: &str, series: &str) -> Option<f64> {
    let (status, text) = http(node.metrics, "GET", page, "").await;
    assert_eq!(status, 200, "{page}");
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

#[tokio::test]
async fn what_clients_do_is_counted_on_the_next_scrape() {
    let node = Node::start().await;
    assert_eq!(value(&node, "/metrics", "rabbitmq_queues").await, Some(0.0));
    assert_eq!(value(&node, "/metrics", "rabbitmq_connections_opened_total").await, Some(0.0));
    let mut client = Client::open(node.amqp).await;
    let declare = queue::Declare { queue: "jobs", durable: true, ..queue::Declare::default() };
    client.send(1, &Method::QueueDeclare(declare)).await;
    client.expect(|method| matches!(method, Method::QueueDeclareOk(_))).await;
    for (series, wanted) in [
        ("rabbitmq_queues", 1.0),
        ("rabbitmq_connections", 1.0),
        ("rabbitmq_connections_opened_total", 1.0),
        ("rabbitmq_queues_created_total", 1.0),
        ("rabbitmq_queue_messages_ready", 0.0),
        ("rabbitmq_auth_attempts_succeeded_total{protocol=\"amqp091\"}", 1.0),
    ] {
        assert_eq!(value(&node, "/metrics", series).await, Some(wanted), "{series}");
    }
    let series = "rabbitmq_queue_messages{vhost=\"/\",queue=\"jobs\"}";
    assert_eq!(value(&node, "/metrics/per-object", series).await, Some(0.0));
}

/// The names that RabbitMQ's Overview dashboard queries.
const OVERVIEW: [&str; 40] = [
    "rabbitmq_build_info",
    "rabbitmq_channels",
    "rabbitmq_channels_closed_total",
    "rabbitmq_channels_opened_total",
    "rabbitmq_connections",
    "rabbitmq_connections_closed_total",
    "rabbitmq_connections_opened_total",
    "rabbitmq_disk_space_available_bytes",
    "rabbitmq_disk_space_available_limit_bytes",
    "rabbitmq_erlang_uptime_seconds",
    "rabbitmq_global_consumers",
    "rabbitmq_global_messages_acknowledged_total",
    "rabbitmq_global_messages_confirmed_total",
    "rabbitmq_global_messages_delivered_consume_auto_ack_total",
    "rabbitmq_global_messages_delivered_consume_manual_ack_total",
    "rabbitmq_global_messages_delivered_get_auto_ack_total",
    "rabbitmq_global_messages_delivered_get_manual_ack_total",
    "rabbitmq_global_messages_delivered_total",
    "rabbitmq_global_messages_get_empty_total",
    "rabbitmq_global_messages_received_confirm_total",
    "rabbitmq_global_messages_received_total",
    "rabbitmq_global_messages_redelivered_total",
    "rabbitmq_global_messages_routed_total",
    "rabbitmq_global_messages_unroutable_dropped_total",
    "rabbitmq_global_messages_unroutable_returned_total",
    "rabbitmq_global_publishers",
    "rabbitmq_identity_info",
    "rabbitmq_message_size_bytes_bucket",
    "rabbitmq_message_size_bytes_count",
    "rabbitmq_message_size_bytes_sum",
    "rabbitmq_process_max_fds",
    "rabbitmq_process_open_fds",
    "rabbitmq_process_resident_memory_bytes",
    "rabbitmq_queue_messages_ready",
    "rabbitmq_queue_messages_unacked",
    "rabbitmq_queues",
    "rabbitmq_queues_created_total",
    "rabbitmq_queues_declared_total",
    "rabbitmq_queues_deleted_total",
    "rabbitmq_resident_memory_limit_bytes",
];

#[tokio::test]
async fn the_overview_dashboard_finds_its_series_from_the_start() {
    let node = Node::start().await;
    let (_, page) = http(node.metrics, "GET", "/metrics", "").await;
    for name in OVERVIEW {
        let found = page
            .lines()
            .any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        assert!(found, "{name}");
    }
}
