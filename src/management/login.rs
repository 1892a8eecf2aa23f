//! Who asks: from the `authorization` header to a caller, and what failing to be one costs.
//!
//! `Basic` shows a name and a password, `Bearer` a token in the place of both. Whoever knows those
//! who log in by AMQP is asked about these: the node's records, a web service, the signature of the
//! token; and each request asks again.
//!
//! Invariants: addresses have one allowance of failed logins, for AMQP and HTTP together. A login
//! from where too many have failed waits before it is looked at, right or wrong; so many wait at
//! once and no more, others are told 429. A refused login is told so after a pause, which begins
//! before the password was looked at. No thread waits with them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::Context;
use super::reply::Refusal;
use super::request::Caller;
use crate::broker::Now;
use crate::broker::limits::Limit;
use crate::broker::logins::Source;
use crate::broker::views::NodeCounters;
use crate::protocol::table::Table;
use crate::secret::Secret;

/// Logins that may wait at once: each keeps a connection from others.
const WAITING_MAX: usize = 64;

/// What failing to log in costs.
#[derive(Debug)]
pub struct LoginPace {
    refusal: Duration,
    rest: Duration,
    waiting: Semaphore,
}

impl LoginPace {
    /// A refused login is told so after `refusal_ms`; one from where too many have failed waits for
    /// `rest_ms` before it is looked at.
    #[must_use]
    pub fn new(refusal_ms: u64, rest_ms: u64) -> Self {
        let (refusal, rest) = (Duration::from_millis(refusal_ms), Duration::from_millis(rest_ms));
        Self { refusal, rest, waiting: Semaphore::new(WAITING_MAX) }
    }
}

/// What a caller has shown, or a stranger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shown {
    /// What they call themselves; nothing with a token.
    pub(super) user: String,
    password: Secret,
}

impl Shown {
    /// What a header shows; `None` when it is none that can be read.
    pub(super) fn by(header: &str) -> Option<Self> {
        let (scheme, rest) = header.split_once(' ')?;
        let rest = rest.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return (!rest.is_empty()).then(|| Self { user: String::new(), password: rest.into() });
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let decoded = Secret::from(STANDARD.decode(rest).ok()?);
        let colon = decoded.expose().iter().position(|byte| *byte == b':')?;
        let (user, password) = decoded.expose().split_at(colon);
        let user = String::from_utf8(user.to_vec()).ok()?;
        Some(Self { user, password: password.get(1..)?.into() })
    }

    fn in_headers(headers: &HeaderMap) -> Option<Self> {
        Self::by(headers.get(header::AUTHORIZATION)?.to_str().ok()?)
    }
}

/// The user that a request's `authorization` header shows, if it may use the API at all. A failure
/// is counted.
pub(super) fn log_in(
    context: &Context,
    headers: &HeaderMap,
    peer: SocketAddr,
) -> Result<Caller, Refusal> {
    let shown = Shown::in_headers(headers);
    let shown = shown.ok_or_else(|| Refusal::not_authenticated("Login failed"))?;
    let is_loopback = peer.ip().to_canonical().is_loopback();
    let inspect = &*context.inspect;
    let identity = inspect.authenticate(&shown.user, shown.password.expose(), is_loopback);
    let Some(identity) = identity else {
        NodeCounters::add(&inspect.counters().http_auth_failed, 1);
        let now = (context.now)();
        inspect.login_failures().note(Source::from(peer.ip()), now.mono_ms);
        return Err(Refusal::not_authenticated("Not_Authorized"));
    };
    let caller = Caller::from(identity);
    if !caller.may_log_in() {
        NodeCounters::add(&inspect.counters().http_auth_failed, 1);
        return Err(Refusal::not_authorised("Not management user"));
    }
    NodeCounters::add(&inspect.counters().http_auth_succeeded, 1);
    Ok(caller)
}

/// Has an answer made aside, not on a thread that moves messages, at the pace of logins if one is
/// shown.
pub(super) async fn at_pace(
    context: &Arc<Context>,
    peer: SocketAddr,
    shows_login: bool,
    make: impl FnOnce() -> Result<Response, Refusal> + Send + 'static,
) -> Response {
    if shows_login && let Err(refusal) = rest(context, peer, (context.now)()).await {
        return refusal.into_response();
    }
    let began_ms = (context.now)().mono_ms;
    match tokio::task::spawn_blocking(make).await {
        Ok(Ok(response)) => response,
        Ok(Err(refusal)) => {
            if shows_login && refusal.login {
                let took = Duration::from_millis((context.now)().mono_ms.saturating_sub(began_ms));
                sleep(context.pace.refusal.saturating_sub(took)).await;
            }
            refusal.into_response()
        }
        Err(_) => Refusal::internal().into_response(),
    }
}

/// Waits, if too many logins from there have failed. 429 where too many wait already.
async fn rest(context: &Context, peer: SocketAddr, now: Now) -> Result<(), Refusal> {
    if !context.inspect.login_failures().is_exceeded(Source::from(peer.ip()), now.mono_ms) {
        return Ok(());
    }
    let limit = Limit::LoginFailuresPerMinute;
    context.inspect.counters().limits.note(limit);
    let rest = context.pace.rest;
    let place = context.pace.waiting.try_acquire();
    let _place = place.map_err(|_| Refusal::too_many_logins(rest.as_secs().max(1)))?;
    let details =
        Table::new().with("limit", limit.name()).with("connection_name", peer.to_string());
    context.operate.note("limit.hit", None, details, now);
    sleep(rest).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_may_hold_colons_and_a_name_may_not() {
        let header = format!("Basic {}", STANDARD.encode("guest:a:b"));
        let shown = Shown { user: "guest".to_owned(), password: "a:b".into() };
        assert_eq!(Shown::by(&header), Some(shown));
    }

    #[test]
    fn a_token_names_nobody_but_itself() {
        let shown = Shown { user: String::new(), password: "a.b.c".into() };
        assert_eq!(Shown::by("bearer  a.b.c"), Some(shown));
    }

    #[test]
    fn other_schemes_and_rubbish_are_no_login() {
        for header in ["Digest abc", "Bearer ", "Basic", "Basic !!!", "Basic Z3Vlc3Q=", ""] {
            assert_eq!(Shown::by(header), None, "{header}");
        }
    }
}
