//! `/api/permissions` and `/api/topic-permissions`, of all and of one user or vhost.

use serde_json::{Value as Json, json};

use super::reply::{Refusal, Reply};
use super::request::Request;
use super::users::named;
use crate::broker::access::{Permission, TopicPermission};
use crate::broker::inspect::{PermissionView, TopicPermissionView};

/// `GET /api/permissions`, `/api/users/{user}/permissions`, `/api/vhosts/{vhost}/permissions`.
pub(super) fn list(request: &Request) -> Result<Reply, Refusal> {
    check_user(request)?;
    Ok(Reply::list(entries(request).iter().map(entry)))
}

/// `GET /api/permissions/{vhost}/{user}`.
pub(super) fn show(request: &Request) -> Result<Reply, Refusal> {
    let entries = entries(request);
    let found = entries.first().ok_or_else(Refusal::not_found)?;
    Ok(Reply::Document(entry(found)))
}

/// `PUT /api/permissions/{vhost}/{user}`.
pub(super) fn put(request: &Request) -> Result<Reply, Refusal> {
    let fields = request.required(&["configure", "write", "read"])?;
    let [configure, write, read] = [0, 1, 2].map(|at| text(&fields, at));
    let permission = Permission::new([configure?, write?, read?])
        .map_err(|error| Refusal::bad_request(error.to_string()))?;
    let (user, vhost) = (request.name("user"), request.name("vhost"));
    let set = request.administer().set_permission(user, vhost, permission, request.by()?);
    Ok(set.map_err(Refusal::from)?.into())
}

/// `DELETE /api/permissions/{vhost}/{user}`.
pub(super) fn delete(request: &Request) -> Result<Reply, Refusal> {
    let (user, vhost) = (request.name("user"), request.name("vhost"));
    request
        .administer()
        .clear_permission(user, vhost, request.by()?)?
        .then_some(Reply::Done)
        .ok_or_else(Refusal::not_found)
}

/// `GET /api/topic-permissions`, those of a user, of a vhost, and
/// `/api/topic-permissions/{vhost}/{user}[/{exchange}]`.
pub(super) fn list_topics(request: &Request) -> Result<Reply, Refusal> {
    check_user(request)?;
    let entries = topic_entries(request);
    if entries.is_empty() && names_both(request) {
        return Err(Refusal::not_found());
    }
    Ok(Reply::list(entries.iter().map(topic_entry)))
}

/// `PUT /api/topic-permissions/{vhost}/{user}[/{exchange}]`: the body names the exchange, too.
pub(super) fn put_topic(request: &Request) -> Result<Reply, Refusal> {
    let fields = request.required(&["exchange", "write", "read"])?;
    let (exchange, write, read) = (text(&fields, 0)?, text(&fields, 1)?, text(&fields, 2)?);
    let (user, vhost) = (request.name("user"), request.name("vhost"));
    let topic = TopicPermission::new(user, vhost, write, read)
        .map_err(|error| Refusal::bad_request(error.to_string()))?;
    let set =
        request.administer().set_topic_permission(user, vhost, exchange, topic, request.by()?);
    Ok(set.map_err(Refusal::from)?.into())
}

/// `DELETE /api/topic-permissions/{vhost}/{user}[/{exchange}]`.
pub(super) fn delete_topic(request: &Request) -> Result<Reply, Refusal> {
    let (user, vhost) = (request.name("user"), request.name("vhost"));
    let only = Some(request.name("exchange")).filter(|name| !name.is_empty());
    request
        .administer()
        .clear_topic_permissions(user, vhost, only, request.by()?)?
        .then_some(Reply::Done)
        .ok_or_else(Refusal::not_found)
}

fn check_user(request: &Request) -> Result<(), Refusal> {
    if request.name("user").is_empty() { Ok(()) } else { named(request).map(|_| ()) }
}

fn names_both(request: &Request) -> bool {
    !request.name("user").is_empty() && !request.name("vhost").is_empty()
}

fn text<'f>(fields: &'f [(&str, Json)], at: usize) -> Result<&'f str, Refusal> {
    match fields.get(at) {
        Some((_, Json::String(text))) => Ok(text),
        Some((name, other)) => {
            Err(Refusal::bad_request(format!("{name} should be a text but was {other}")))
        }
        None => Err(Refusal::internal()),
    }
}

/// Whether the path, as far as it names a user and a vhost, names these.
fn is_named(request: &Request, user: &str, vhost: &str) -> bool {
    let fits = |name: &str, own: &str| name.is_empty() || name == own;
    fits(request.name("user"), user) && fits(request.name("vhost"), vhost)
}

fn entries(request: &Request) -> Vec<PermissionView> {
    let mut entries = request.inspect().permissions();
    entries.retain(|entry| is_named(request, &entry.user, &entry.vhost));
    entries.sort_by(|a, b| (&a.vhost, &a.user).cmp(&(&b.vhost, &b.user)));
    entries
}

fn topic_entries(request: &Request) -> Vec<TopicPermissionView> {
    let exchange = request.name("exchange");
    let mut entries = request.inspect().topic_permissions();
    entries.retain(|entry| {
        is_named(request, &entry.user, &entry.vhost)
            && (exchange.is_empty() || entry.exchange == exchange)
    });
    entries.sort_by(|a, b| (&a.vhost, &a.user, &a.exchange).cmp(&(&b.vhost, &b.user, &b.exchange)));
    entries
}

fn entry(permission: &PermissionView) -> Json {
    json!({
        "user": permission.user,
        "vhost": permission.vhost,
        "configure": permission.configure,
        "write": permission.write,
        "read": permission.read,
    })
}

fn topic_entry(topic: &TopicPermissionView) -> Json {
    json!({
        "user": topic.user,
        "vhost": topic.vhost,
        "exchange": topic.exchange,
        "write": topic.write,
        "read": topic.read,
    })
}
