//! `/api/whoami` and `/api/users`.

use serde_json::{Map, Value as Json, json};

use super::limits;
use super::reply::{Refusal, Reply};
use super::request::Request;
use crate::broker::access::{Hashing, PasswordHash, UserChange};
use crate::broker::inspect::UserView;
use crate::secret::Secret;

/// `GET /api/whoami`.
pub(super) fn whoami(request: &Request) -> Result<Reply, Refusal> {
    let caller = request.caller()?;
    let is_internal = caller.identity().authority.is_none();
    let me = json!({"name": caller.name(), "tags": caller.tags(), "is_internal_user": is_internal});
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

/// `PUT /api/users/{user}`: creates the user, or gives it another password and other tags. Without
/// a password nobody can log in with one.
pub(super) fn put(request: &Request) -> Result<Reply, Refusal> {
    let (name, mut fields) = (request.name("user"), request.document()?);
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        let reason = format!("a user's name has 1 to {NAME_BYTES_MAX} bytes");
        return Err(Refusal::bad_request(reason));
    }
    let change = UserChange { tags: tags(&fields)?, password: password(request, &mut fields)? };
    let put = request.administer().put_user(name, change, request.by()?);
    Ok(put.map_err(Refusal::from)?.into())
}

/// `DELETE /api/users/{user}`: its connections are closed.
pub(super) fn delete(request: &Request) -> Result<Reply, Refusal> {
    let deleted = request.administer().delete_user(request.name("user"), request.by()?)?;
    if deleted { Ok(Reply::Done) } else { Err(Refusal::not_found()) }
}

/// `POST /api/users/bulk-delete`: in order, up to the first that is not there.
pub(super) fn bulk_delete(request: &Request) -> Result<Reply, Refusal> {
    let fields = request.required(&["users"])?;
    let users = fields.first().and_then(|(_, users)| users.as_array());
    let users: Option<Vec<&str>> = users.and_then(|all| all.iter().map(Json::as_str).collect());
    let users = users.ok_or_else(|| Refusal::bad_request("users should be a list of names"))?;
    for user in users {
        if !request.administer().delete_user(user, request.by()?)? {
            return Err(Refusal::bad_request(format!("no_such_user: {user}")));
        }
    }
    Ok(Reply::Done)
}

/// `GET /api/auth/hash_password/{password}`.
pub(super) fn hash_password(request: &Request) -> Result<Reply, Refusal> {
    let hash = request.administer().hash_password(request.name("password").as_bytes());
    Ok(Reply::Document(json!({"ok": hash.to_base64()})))
}

/// A list, or names with commas in between.
fn tags(fields: &Map<String, Json>) -> Result<Vec<String>, Refusal> {
    let names: Option<Vec<&str>> = match fields.get("tags") {
        None => return Err(Refusal::bad_request("tags_not_present")),
        Some(Json::String(names)) => Some(names.split(',').collect()),
        Some(Json::Array(names)) => names.iter().map(Json::as_str).collect(),
        Some(_) => None,
    };
    let names = names.ok_or_else(|| Refusal::bad_request("tags should be a list of names"))?;
    let named = names.into_iter().map(str::trim).filter(|name| !name.is_empty());
    Ok(named.map(str::to_owned).collect())
}

fn password(request: &Request, fields: &mut Map<String, Json>) -> Result<PasswordHash, Refusal> {
    let mut text = |name: &str| match fields.remove(name) {
        None | Some(Json::Null) => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(_) => Err(Refusal::bad_request(format!("{name} should be a text"))),
    };
    // First, so that it is wiped whatever else is wrong.
    let password = text("password")?.map(Secret::from);
    let hashing = match text("hashing_algorithm")? {
        None => request.administer().hashing(),
        Some(name) => Hashing::from_name(&name)
            .ok_or_else(|| Refusal::bad_request(format!("unknown hashing_algorithm '{name}'")))?,
    };
    match (password, text("password_hash")?) {
        (Some(_), Some(_)) => {
            Err(Refusal::bad_request("both_password_and_password_hash_are_provided"))
        }
        (None, None) => Ok(PasswordHash::none(hashing)),
        (Some(password), None) if password.is_empty() => Ok(PasswordHash::none(hashing)),
        (Some(password), None) => Ok(request.administer().hash_password(password.expose())),
        (None, Some(hash)) => PasswordHash::from_base64(hashing, &hash)
            .map_err(|error| Refusal::bad_request(error.to_string())),
    }
}

/// As long as a short string: clients name it in one.
const NAME_BYTES_MAX: usize = 255;

/// The user that the path names.
pub(super) fn named(request: &Request) -> Result<UserView, Refusal> {
    let mut users = request.inspect().users().into_iter();
    users.find(|user| user.name == request.name("user")).ok_or_else(Refusal::not_found)
}

/// Every user, by name.
pub(super) fn sorted(request: &Request) -> Vec<UserView> {
    let mut users = request.inspect().users();
    users.sort_by(|a, b| a.name.cmp(&b.name));
    users
}

fn one(user: &UserView) -> Json {
    json!({
        "name": user.name,
        "tags": user.tags,
        "password_hash": user.password_hash,
        "hashing_algorithm": user.hashing_algorithm,
        "limits": limits::value(&user.limits),
    })
}
