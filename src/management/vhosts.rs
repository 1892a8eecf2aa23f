//! `/api/vhosts`.

use serde_json::{Value as Json, json};

use super::overview::totals;
use super::reply::{Refusal, Reply};
use super::request::Request;

/// `GET /api/vhosts`: those that the caller may know of.
pub(super) fn list(request: &Request) -> Result<Reply, Refusal> {
    let vhosts = request.visible_vhosts()?;
    Ok(Reply::list(vhosts.iter().map(|vhost| one(request, vhost))))
}

/// `GET /api/vhosts/{vhost}`.
pub(super) fn show(request: &Request) -> Result<Reply, Refusal> {
    Ok(Reply::Document(one(request, request.name("vhost"))))
}

fn one(request: &Request, vhost: &str) -> Json {
    let inspect = request.inspect();
    let node = inspect.node();
    let (ready, unacked, _) = totals(&inspect.queues(Some(vhost)));
    json!({
        "name": vhost,
        "description": "",
        "tags": [],
        "default_queue_type": node.default_queue_type,
        "metadata": {
            "description": "",
            "tags": [],
            "default_queue_type": node.default_queue_type,
        },
        "tracing": false,
        "protected_from_deletion": false,
        "cluster_state": {node.name: "running"},
        "messages": ready.saturating_add(unacked),
        "messages_ready": ready,
        "messages_unacknowledged": unacked,
    })
}
