//! The pages against `spec/metrics.toml`, and what their numbers are made of.

use std::collections::{BTreeMap, BTreeSet};

use super::sample::Sample;
use super::{ProcessStats, render, render_detailed, render_per_object};
use crate::broker::alarms::Alarms;

const SPEC: &str = include_str!("../../spec/metrics.toml");

fn process() -> ProcessStats {
    ProcessStats {
        now_ms: 1_700_000_090_500,
        pid: 1,
        resident_memory_bytes: Some(1),
        memory_limit_bytes: Some(2),
        memory_total_bytes: Some(3),
        open_fds: Some(4),
        max_fds: Some(5),
        disk_free_bytes: Some(6),
        disk_free_limit_bytes: Some(7),
        threads: Some(8),
        processors: 9,
    }
}

fn list(table: &toml::Table, kind: &str) -> Vec<toml::Table> {
    let entries = table[kind].as_array().expect("a list of tables");
    entries.iter().map(|entry| entry.as_table().expect("a table").clone()).collect()
}

fn text<'a>(table: &'a toml::Table, field: &str) -> &'a str {
    table[field].as_str().expect("text")
}

/// Names with their types and help texts, as a page announces them. Checks on the way that every
/// sample belongs to the metric announced before it.
fn announced(page: &str) -> BTreeMap<String, (String, String)> {
    let mut metrics = BTreeMap::new();
    let mut current = String::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a name and a type");
            current = name.to_owned();
            let before = metrics.insert(current.clone(), (kind.to_owned(), String::new()));
            assert_eq!(before, None, "{name} is announced twice");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a name and a text");
            assert_eq!(name, current);
            metrics.get_mut(name).expect("TYPE comes first").1 = help.to_owned();
        } else {
            let name = line.split(['{', ' ']).next().expect("a name");
            let suffix = name.strip_prefix(&current).unwrap_or_else(|| panic!("{line}"));
            assert!(["", "_bucket", "_sum", "_count"].contains(&suffix), "{line}");
        }
    }
    metrics
}

const ALL_FAMILIES: [&str; 14] = [
    "connection_churn_metrics",
    "node_coarse_metrics",
    "node_metrics",
    "node_persister_metrics",
    "auth_attempt_metrics",
    "queue_coarse_metrics",
    "queue_metrics",
    "queue_delivery_metrics",
    "connection_coarse_metrics",
    "connection_metrics",
    "channel_metrics",
    "vhost_status",
    "exchange_bindings",
    "exchange_names",
];

fn detailed(families: &[&str], vhosts: &[&str]) -> String {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    render_detailed(&Sample::new(), &process(), &owned(families), &owned(vhosts))
}

/// The value of the sample that starts with this name and labels.
fn value(page: &str, series: &str) -> Option<f64> {
    let line =
        page.lines().find(|line| line.strip_prefix(series).is_some_and(|r| r.starts_with(' ')));
    line?.rsplit_once(' ')?.1.parse().ok()
}

#[test]
fn the_pages_show_exactly_what_the_specification_lists() {
    let spec: toml::Table = SPEC.parse().expect("spec/metrics.toml is TOML");
    let sample = Sample::new();
    for (page, rendered) in [
        ("aggregated", render(&sample, &process())),
        ("per-object", render_per_object(&sample, &process())),
        ("detailed", detailed(&ALL_FAMILIES, &[])),
    ] {
        let mut promised = BTreeMap::new();
        for metric in list(&spec, "metric") {
            let pages = metric["pages"].as_array().expect("a list of pages");
            if pages.iter().any(|listed| listed.as_str() == Some(page)) {
                let name = text(&metric, "name");
                let name = match name.strip_prefix("rabbitmq_") {
                    Some(rest) if page == "detailed" && metric.contains_key("family") => {
                        format!("rabbitmq_detailed_{rest}")
                    }
                    _ => name.to_owned(),
                };
                let (kind, help) = (text(&metric, "type"), text(&metric, "help"));
                promised.insert(name, (kind.to_owned(), help.to_owned()));
            }
        }
        assert_eq!(announced(&rendered), promised, "{page}");
    }
}

#[test]
fn an_alarm_in_effect_is_one() {
    let sample = Sample::new();
    let shown = || {
        let page = render(&sample, &process());
        ["memory_used", "free_disk_space"]
            .map(|name| value(&page, &format!("rabbitmq_alarms_{name}_watermark")))
    };
    assert_eq!(shown(), [Some(0.0), Some(0.0)]);
    *sample.alarms.lock().expect("not poisoned") = Alarms { memory: false, disk: true };
    assert_eq!(shown(), [Some(0.0), Some(1.0)]);
    *sample.alarms.lock().expect("not poisoned") = Alarms { memory: true, disk: false };
    assert_eq!(shown(), [Some(1.0), Some(0.0)]);
}

#[test]
fn no_metric_is_both_shown_and_absent() {
    let spec: toml::Table = SPEC.parse().expect("spec/metrics.toml is TOML");
    let shown: BTreeSet<String> =
        list(&spec, "metric").iter().map(|m| text(m, "name").to_owned()).collect();
    let mut absent = BTreeSet::new();
    for group in list(&spec, "absent") {
        assert!(!text(&group, "reason").is_empty());
        for name in group["names"].as_array().expect("a list of names") {
            let name = name.as_str().expect("a name");
            assert!(!shown.contains(name), "{name}");
            assert!(absent.insert(name.to_owned()), "{name} is listed twice");
        }
    }
}

#[test]
fn the_summed_page_adds_objects_up() {
    let page = render(&Sample::new(), &process());
    for (series, wanted) in [
        ("rabbitmq_queue_messages_ready", 5.0),
        ("rabbitmq_queue_messages", 7.0),
        ("rabbitmq_queue_messages_bytes", 70.0),
        ("rabbitmq_queues", 2.0),
        ("rabbitmq_consumers", 1.0),
        ("rabbitmq_channels", 1.0),
        ("rabbitmq_channel_messages_unconfirmed", 3.0),
        ("rabbitmq_erlang_uptime_seconds", 90.5),
        ("rabbitmq_global_messages_received_total{protocol=\"amqp091\"}", 9.0),
        ("rabbitmq_auth_attempts_total{protocol=\"amqp091\"}", 1.0),
        ("leveret_store_written_bytes_total", 400.0),
        ("leveret_queues_unsynced", 1.0),
        ("process_start_time_seconds", 1_700_000_000.0),
    ] {
        assert_eq!(value(&page, series), Some(wanted), "{series}");
    }
    let delivered = "rabbitmq_global_messages_delivered_total\
                     {protocol=\"amqp091\",queue_type=\"rabbit_classic_queue\"}";
    assert_eq!(value(&page, delivered), Some(7.0));
}

#[test]
fn message_sizes_are_counted_cumulatively_up_to_infinity() {
    let page = render(&Sample::new(), &process());
    for (series, wanted) in [
        ("_bucket{protocol=\"amqp091\",le=\"100\"}", 1.0),
        ("_bucket{protocol=\"amqp091\",le=\"1000\"}", 1.0),
        ("_bucket{protocol=\"amqp091\",le=\"10000\"}", 3.0),
        ("_bucket{protocol=\"amqp091\",le=\"+Inf\"}", 3.0),
        ("_count{protocol=\"amqp091\"}", 3.0),
        ("_sum{protocol=\"amqp091\"}", 2050.0),
    ] {
        let series = format!("rabbitmq_message_size_bytes{series}");
        assert_eq!(value(&page, &series), Some(wanted), "{series}");
    }
}

#[test]
fn every_page_has_one_identity_series_with_its_endpoint() {
    let sample = Sample::new();
    for (endpoint, page) in [
        ("aggregated", render(&sample, &process())),
        ("per-object", render_per_object(&sample, &process())),
        ("detailed", detailed(&[], &[])),
    ] {
        let series: Vec<&str> =
            page.lines().filter(|l| l.starts_with("rabbitmq_identity_info{")).collect();
        assert_eq!(
            series,
            [format!(
                "rabbitmq_identity_info{{rabbitmq_node=\"rabbit@here\",rabbitmq_cluster=\"sample\",\
                 rabbitmq_cluster_permanent_id=\"rabbitmq-cluster-id-1\",\
                 rabbitmq_endpoint=\"{endpoint}\"}} 1"
            )]
        );
    }
}

#[test]
fn the_detailed_page_keeps_to_the_families_and_vhosts_asked_for() {
    let page = detailed(&["queue_coarse_metrics"], &["other"]);
    assert_eq!(
        value(&page, "rabbitmq_detailed_queue_messages{vhost=\"other\",queue=\"audit \\\"x\\\"\"}"),
        Some(0.0)
    );
    assert!(!page.contains("vhost=\"/\""));
    assert!(!page.contains("_connections_opened_total"));
    assert!(page.contains("rabbitmq_detailed_queue_info{"));
}

#[test]
fn consumers_are_not_announced_twice_when_two_families_have_them() {
    let page = detailed(&["queue_consumer_count", "queue_metrics"], &[]);
    assert_eq!(page.matches("# TYPE rabbitmq_detailed_queue_consumers ").count(), 1);
    assert!(
        detailed(&["queue_consumer_count"], &[]).contains("rabbitmq_detailed_queue_consumers{")
    );
}

#[test]
fn what_the_system_does_not_tell_is_left_out() {
    let page = render(&Sample::new(), &ProcessStats::default());
    assert!(!page.contains("rabbitmq_process_open_fds"));
    assert!(!page.contains("rabbitmq_disk_space_available_bytes"));
}
