//! `/api/whoami`, `/api/users` and `/api/permissions`.

use serde_json::{Value as Json, json};

use super::reply::{Refusal, Reply};
use super::request::Request;
use crate::broker::inspect::{PermissionView, UserView};

/// `GET /api/whoami`.
pub(super) fn whoami(request: &Request) -> Result<Reply, Refusal> {
    let caller = request.caller()?;
    let me = json!({"name": caller.name, "tags": caller.tags, "is_internal_user": true});
    Ok(Reply::Document(me))
}

/// `GET /api/users`.
pub(super) fn list(request: &Request) -> Result<Reply, Refusal> {
    Ok(Reply::list(sorted(request).iter().map(one)))
}

/// `GET /api/users/without-permissions`.
pub(super) fn without_permissions(request: &Request) -> Result<Reply, Refusal> {
    let permissions = request.inspect().permissions();
    let mut users = sorted(request);
    users.retain(|user| permissions.iter().all(|entry| entry.user != user.name));
    Ok(Reply::list(users.iter().map(one)))
}

/// `GET /api/users/{user}`.
pub(super) fn show(request: &Request) -> Result<Reply, Refusal> {
    Ok(Reply::Document(one(&named(request)?)))
}

/// `GET /api/permissions`, `/api/users/{user}/permissions`, `/api/vhosts/{vhost}/permissions`.
pub(super) fn permissions(request: &Request) -> Result<Reply, Refusal> {
    if !request.name("user").is_empty() {
        named(request)?;
    }
    Ok(Reply::list(entries(request).iter().map(entry)))
}

/// `GET /api/permissions/{vhost}/{user}`.
pub(super) fn permission(request: &Request) -> Result<Reply, Refusal> {
    let entries = entries(request);
    let found = entries.first().ok_or_else(Refusal::not_found)?;
    Ok(Reply::Document(entry(found)))
}

fn named(request: &Request) -> Result<UserView, Refusal> {
    let mut users = request.inspect().users().into_iter();
    users.find(|user| user.name == request.name("user")).ok_or_else(Refusal::not_found)
}

fn sorted(request: &Request) -> Vec<UserView> {
    let mut users = request.inspect().users();
    users.sort_by(|a, b| a.name.cmp(&b.name));
    users
}

/// The entries of the user and the vhost in the path, as far as it names them.
fn entries(request: &Request) -> Vec<PermissionView> {
    let (user, vhost) = (request.name("user"), request.name("vhost"));
    let mut entries = request.inspect().permissions();
    entries.retain(|entry| {
        (user.is_empty() || entry.user == user) && (vhost.is_empty() || entry.vhost == vhost)
    });
    entries.sort_by(|a, b| (&a.vhost, &a.user).cmp(&(&b.vhost, &b.user)));
    entries
}

fn one(user: &UserView) -> Json {
    json!({
        "name": user.name,
        "tags": user.tags,
        "password_hash": user.password_hash,
        "hashing_algorithm": user.hashing_algorithm,
        "limits": {},
    })
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
