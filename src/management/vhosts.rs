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

/// `PUT /api/vhosts/{vhost}`: switches tracing on or off. Nothing else can be changed yet.
pub(super) fn put(request: &Request) -> Result<Reply, Refusal> {
    let (vhost, document) = (request.name("vhost"), request.document()?);
    if !request.inspect().vhosts().iter().any(|known| known == vhost) {
        return Err(Refusal::bad_request("vhosts cannot be created yet"));
    }
    if let Some(field) = FIXED.iter().find(|field| document.contains_key(**field)) {
        return Err(Refusal::bad_request(format!("{field} of a vhost cannot be changed yet")));
    }
    let tracing = match document.get("tracing") {
        None | Some(Json::Null) => return Ok(Reply::Done),
        Some(Json::Bool(on)) => *on,
        Some(Json::String(text)) if text == "true" => true,
        Some(Json::String(text)) if text == "false" => false,
        Some(other) => return Err(Refusal::bad_request(format!("not_boolean: {other}"))),
    };
    match request.operate().set_tracing(vhost, tracing) {
        Ok(()) => Ok(Reply::Done),
        Err(_) => Err(Refusal::not_found()),
    }
}

/// What RabbitMQ would change of a vhost besides.
const FIXED: [&str; 4] = ["description", "tags", "default_queue_type", "protected_from_deletion"];

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
        "tracing": inspect.is_traced(vhost),
        "protected_from_deletion": false,
        "cluster_state": {node.name: "running"},
        "messages": ready.saturating_add(unacked),
        "messages_ready": ready,
        "messages_unacknowledged": unacked,
    })
}
