//! What requests leave for those who keep an audit log: logins that failed, requests that were
//! refused, and those that change something, with who asked from where. What they changed the
//! broker tells itself.

use axum::http::{Method, StatusCode, header};

use super::Context;
use super::http::Peer;
use super::login::Shown;
use super::reply::Refusal;
use super::request::{Incoming, Request};
use super::routes::Route;
use crate::protocol::table::Table;

/// A request that was not let in.
pub(super) fn refused(route: &Route, context: &Context, incoming: &Incoming, refusal: &Refusal) {
    if refusal.status != StatusCode::UNAUTHORIZED {
        return;
    }
    // Browsers ask without a login first.
    let Some(header) = incoming.headers.get(header::AUTHORIZATION) else { return };
    // A token tells nobody's name before it has been found good.
    let user = header.to_str().ok().and_then(Shown::by).map(|shown| shown.user);
    if refusal.login {
        let details = details(route, incoming)
            .with("name", user.unwrap_or_default())
            .with("connection_name", incoming.peer.to_string());
        note(context, "http.authentication.failure", None, details);
    } else {
        let details = details(route, incoming).with("text", &*refusal.reason);
        note(context, "http.refused", user.as_deref(), details);
    }
}

/// A request that a handler has answered with this status.
pub(super) fn answered(route: &Route, request: &Request, status: StatusCode) {
    let key = match status {
        StatusCode::UNAUTHORIZED => "http.refused",
        _ if route.method == Method::GET => return,
        _ => "http.request",
    };
    let user = request.caller().ok().map(|caller| caller.name());
    let details = details(route, &request.incoming).with("status", i64::from(status.as_u16()));
    note(&request.context, key, user, details);
}

fn details(route: &Route, incoming: &Incoming) -> Table {
    // Of the names in a path one is none (`/api/auth/hash_password/{password}`).
    let names = incoming.names.iter().filter(|(name, _)| *name != "password");
    let names = names.fold(Table::new(), |names, (name, value)| names.with(&**name, &**value));
    Table::new()
        .with("method", route.method.as_str())
        .with("path", route.path)
        .with("names", names)
        .with("peer_host", incoming.peer.ip().to_canonical().to_string())
        .with("peer_port", i64::from(incoming.peer.port()))
}

/// A login to the metrics page that failed.
pub(super) fn metrics_refused(context: &Context, peer: Peer, refusal: &Refusal) {
    if refusal.login {
        let details = Table::new()
            .with("path", "the metrics page")
            .with("peer_host", peer.0.ip().to_canonical().to_string())
            .with("peer_port", i64::from(peer.0.port()))
            .with("connection_name", peer.0.to_string());
        note(context, "http.authentication.failure", None, details);
    }
}

fn note(context: &Context, key: &'static str, actor: Option<&str>, details: Table) {
    context.operate.note(key, actor, details, (context.now)());
}
