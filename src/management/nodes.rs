//! `/api/nodes`: this node. What there is no truthful number for is left out.

use serde_json::{Value as Json, json};

use super::Listener;
use super::overview::{contexts, exchange_types};
use super::reply::{Refusal, Reply};
use super::request::Request;

/// `GET /api/nodes`.
pub(super) fn list(request: &Request) -> Result<Reply, Refusal> {
    Ok(Reply::list([node(request)]))
}

/// `GET /api/nodes/{node}`.
pub(super) fn show(request: &Request) -> Result<Reply, Refusal> {
    if request.name("node") != request.inspect().node().name {
        return Err(Refusal::not_found());
    }
    Ok(Reply::Document(node(request)))
}

fn node(request: &Request) -> Json {
    let context = &request.context;
    let inspect = request.inspect();
    let about = inspect.node();
    let alarms = inspect.alarms();
    let process = context.process.read((context.now)().unix_ms);
    let mut node = json!({
        "name": about.name,
        "type": "disc",
        "running": true,
        "being_drained": false,
        "os_pid": process.pid.to_string(),
        "uptime": process.now_ms.saturating_sub(about.started_at_ms),
        "processors": process.processors,
        "sockets_used": inspect.connections().len(),
        "mem_alarm": alarms.memory,
        "disk_free_alarm": alarms.disk,
        "mem_calculation_strategy": "rss",
        "rates_mode": "basic",
        "partitions": [],
        "cluster_links": [],
        "enabled_plugins": plugins(&context.listeners),
        "applications": [{
            "name": "rabbit",
            "description": about.product_name,
            "version": about.compat_version,
        }],
        "exchange_types": exchange_types(),
        "auth_mechanisms": [],
        "contexts": contexts(context),
        "config_files": [],
        "log_files": [],
        "db_dir": context.process.data_dir().to_string_lossy(),
        "rabbitmq_version": about.compat_version,
        "metrics_gc_queue_length": {},
    });
    for (name, value) in [
        ("fd_used", process.open_fds),
        ("fd_total", process.max_fds),
        ("mem_used", process.resident_memory_bytes),
        ("mem_limit", process.memory_limit_bytes),
        ("disk_free", process.disk_free_bytes),
        ("disk_free_limit", process.disk_free_limit_bytes),
    ] {
        if let Some(value) = value {
            node[name] = json!(value);
        }
    }
    let store = inspect.store_counters();
    for (name, value) in [
        ("io_write_count", store.writes),
        ("io_write_bytes", store.bytes_written),
        ("io_sync_count", store.syncs),
    ] {
        node[name] = json!(value);
    }
    let churn = request.sampler.rates().churn(inspect.counters());
    if let (Json::Object(node), Json::Object(churn)) = (&mut node, churn) {
        node.extend(churn);
    }
    node
}

/// What RabbitMQ would need these plugins for is built in; they count as enabled while it listens.
fn plugins(listeners: &[Listener]) -> Vec<&'static str> {
    let plugin = |listener: &Listener| match listener.protocol {
        "http" | "https" => Some("rabbitmq_management"),
        "http/prometheus" | "https/prometheus" => Some("rabbitmq_prometheus"),
        _ => None,
    };
    let mut plugins: Vec<_> = listeners.iter().filter_map(plugin).collect();
    plugins.sort_unstable();
    plugins.dedup();
    plugins
}
