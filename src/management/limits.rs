//! `/api/vhost-limits` and `/api/user-limits`.

use serde_json::{Value as Json, json};

use super::reply::{Refusal, Reply};
use super::request::Request;
use super::users;
use crate::broker::access::{AccessError, AdministerError};
use crate::broker::inspect::LimitsView;

/// `GET /api/vhost-limits` and `/api/vhost-limits/{vhost}`.
pub(super) fn of_vhosts(request: &Request) -> Result<Reply, Refusal> {
    let vhosts = match request.name("vhost") {
        "" => request.visible_vhosts()?,
        one => vec![one.to_owned()],
    };
    let limits = vhosts.iter().map(|vhost| (vhost, request.inspect().vhost_limits(vhost)));
    let set = limits.filter(|(_, limits)| !limits.is_empty());
    Ok(Reply::list(set.map(|(vhost, limits)| json!({"vhost": vhost, "value": value(&limits)}))))
}

/// `PUT /api/vhost-limits/{vhost}/{name}`.
pub(super) fn put_of_vhost(request: &Request) -> Result<Reply, Refusal> {
    set_of_vhost(request, Some(asked(request)?))
}

/// `DELETE /api/vhost-limits/{vhost}/{name}`.
pub(super) fn delete_of_vhost(request: &Request) -> Result<Reply, Refusal> {
    set_of_vhost(request, None)
}

/// `GET /api/user-limits` and `/api/user-limits/{user}`: users see their own.
pub(super) fn of_users(request: &Request) -> Result<Reply, Refusal> {
    let caller = request.caller()?;
    let mut users = match request.name("user") {
        "" => users::sorted(request),
        _ => vec![users::named(request)?],
    };
    users.retain(|user| caller.is_monitoring() || caller.name() == user.name);
    let set = users.into_iter().filter(|user| !user.limits.is_empty());
    Ok(Reply::list(set.map(|user| json!({"user": user.name, "value": value(&user.limits)}))))
}

/// `PUT /api/user-limits/{user}/{name}`.
pub(super) fn put_of_user(request: &Request) -> Result<Reply, Refusal> {
    set_of_user(request, Some(asked(request)?))
}

/// `DELETE /api/user-limits/{user}/{name}`.
pub(super) fn delete_of_user(request: &Request) -> Result<Reply, Refusal> {
    set_of_user(request, None)
}

fn set_of_vhost(request: &Request, max: Option<i64>) -> Result<Reply, Refusal> {
    let (vhost, name) = (request.name("vhost"), request.name("limit"));
    let set = request.administer().set_vhost_limit(vhost, name, max, request.by()?);
    set.map_err(|error| unrecognised(error, name, max, "limits"))?;
    Ok(Reply::Done)
}

fn set_of_user(request: &Request, max: Option<i64>) -> Result<Reply, Refusal> {
    let (user, name) = (request.name("user"), request.name("limit"));
    let set = request.administer().set_user_limit(user, name, max, request.by()?);
    set.map_err(|error| unrecognised(error, name, max, "user-limits"))?;
    Ok(Reply::Done)
}

fn unrecognised(error: AdministerError, name: &str, max: Option<i64>, of: &str) -> Refusal {
    match error {
        AdministerError::Access(AccessError::NoLimit(_)) => {
            let max = max.unwrap_or_default();
            let term = format!("Unrecognised terms [{{<<\"{name}\">>,{max}}}] in {of}");
            Refusal::bad_request(term)
        }
        other => other.into(),
    }
}

fn asked(request: &Request) -> Result<i64, Refusal> {
    let fields = request.required(&["value"])?;
    let value = fields.first().map_or(&Json::Null, |(_, value)| value);
    value.as_i64().ok_or_else(|| {
        let name = request.name("limit");
        Refusal::bad_request(format!("{name} should be a number, actually was {value}"))
    })
}

/// The limits as a document.
pub(super) fn value(limits: &LimitsView) -> Json {
    limits.iter().map(|(name, max)| ((*name).to_owned(), Json::from(*max))).collect()
}
