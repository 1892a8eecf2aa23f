//! `/api/vhosts`.

use serde_json::{Value as Json, json};

use super::overview::totals;
use super::reply::{Refusal, Reply};
use super::request::Request;
use crate::broker::operate::OperateError;

/// `GET /api/vhosts`: those that the caller may know of.
pub(super) fn list(request: &Request) -> Result<Reply, Refusal> {
    let vhosts = request.visible_vhosts()?;
    Ok(Reply::list(vhosts.iter().map(|vhost| one(request, vhost))))
}

/// `GET /api/vhosts/{vhost}`.
pub(super) fn show(request: &Request) -> Result<Reply, Refusal> {
    Ok(Reply::Document(one(request, request.name("vhost"))))
}

/// `PUT /api/vhosts/{vhost}`: creates the vhost if there is none, and switches tracing on or off.
/// Nothing else can be said of it yet.
pub(super) fn put(request: &Request) -> Result<Reply, Refusal> {
    let (vhost, document) = (request.name("vhost"), request.document()?);
    if vhost.is_empty() || vhost.len() > NAME_BYTES_MAX {
        let reason = format!("a vhost's name has 1 to {NAME_BYTES_MAX} bytes");
        return Err(Refusal::bad_request(reason));
    }
    if let Some(field) = FIXED.iter().find(|field| document.get(**field).is_some_and(says_much)) {
        return Err(Refusal::bad_request(format!("{field} of a vhost cannot be set yet")));
    }
    let tracing = match document.get("tracing") {
        None | Some(Json::Null) => None,
        Some(Json::Bool(on)) => Some(*on),
        Some(Json::String(text)) if text == "true" => Some(true),
        Some(Json::String(text)) if text == "false" => Some(false),
        Some(other) => return Err(Refusal::bad_request(format!("not_boolean: {other}"))),
    };
    let owner = request.caller()?.name();
    let created = request.operate().create_vhost(vhost, owner, request.now());
    let created = created.map_err(|error| match error {
        OperateError::TooManyVhosts(error) => Refusal::bad_request(error.to_string()),
        _ => Refusal::internal(),
    })?;
    if let Some(on) = tracing {
        request.operate().set_tracing(vhost, on).map_err(|_| Refusal::not_found())?;
    }
    Ok(if created { Reply::Created } else { Reply::Done })
}

/// `DELETE /api/vhosts/{vhost}`: with everything in it; its connections are closed.
pub(super) fn delete(request: &Request) -> Result<Reply, Refusal> {
    let actor = request.caller()?.name();
    match request.operate().delete_vhost(request.name("vhost"), actor, request.now()) {
        Ok(true) => Ok(Reply::Done),
        Ok(false) => Err(Refusal::not_found()),
        Err(_) => Err(Refusal::internal()),
    }
}

/// What RabbitMQ could be told of a vhost besides.
const FIXED: [&str; 4] = ["description", "tags", "default_queue_type", "protected_from_deletion"];
/// As long as a short string: clients name it in one.
const NAME_BYTES_MAX: usize = 255;

/// Whether a field says anything that is not so in any case.
fn says_much(value: &Json) -> bool {
    match value {
        Json::Null | Json::Bool(false) => false,
        Json::String(text) => !matches!(text.as_str(), "" | "undefined" | "false"),
        Json::Array(items) => !items.is_empty(),
        _ => true,
    }
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
        "tracing": inspect.is_traced(vhost),
        "protected_from_deletion": false,
        "cluster_state": {node.name: "running"},
        "messages": ready.saturating_add(unacked),
        "messages_ready": ready,
        "messages_unacknowledged": unacked,
    })
}
