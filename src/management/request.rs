//! From an HTTP request to a handler and back. The one place where it is decided what a caller may
//! reach and see.
//!
//! Rules, as in RabbitMQ: whoever has one of the four tags may log in. An administrator sees every
//! vhost; others the vhosts they may enter, except that `monitoring` sees the names and totals of
//! all. Connections and channels are shown to their own user and to `monitoring`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value as Json};

use super::login::log_in;
use super::reply::{Refusal, Reply, document};
use super::sampler::Sampler;
use super::{Context, routes::Route};
use super::{audit, list};
use crate::broker::Now;
use crate::broker::access::{ADMINISTRATOR, Administer, By, Identity};
use crate::broker::inspect::Inspect;
use crate::broker::operate::Operate;
use crate::broker::trigger::operate::OperateTriggers;
use crate::broker::views::ConnectionView;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Users with the tag administrator.
    Administrator,
    /// Users with any of the four tags, if they may see the vhost in the path, if there is one.
    Management,
    /// Users with the tag monitoring or administrator.
    Monitoring,
    /// Users with the tag policymaker or administrator, if they may see the vhost in the path.
    Policymaker,
    /// Everybody, without a login.
    Open,
}

/// A user who has logged in.
#[derive(Debug, Clone)]
pub(super) struct Caller(Identity);

impl From<Identity> for Caller {
    fn from(identity: Identity) -> Self {
        Self(identity)
    }
}

impl Caller {
    /// What they are called.
    pub(super) fn name(&self) -> &str {
        &self.0.user.name
    }

    /// Their tags.
    pub(super) fn tags(&self) -> &[String] {
        &self.0.user.tags
    }

    /// Who they are, to the broker.
    pub(super) fn identity(&self) -> &Identity {
        &self.0
    }

    /// May do everything.
    pub(super) fn is_administrator(&self) -> bool {
        self.has(ADMINISTRATOR)
    }

    /// May see everything but other vhosts' queues.
    pub(super) fn is_monitoring(&self) -> bool {
        self.is_administrator() || self.has("monitoring")
    }

    /// May set policies in the vhosts it may see.
    pub(super) fn is_policymaker(&self) -> bool {
        self.is_administrator() || self.has("policymaker")
    }

    /// Has any of the four tags.
    pub(super) fn may_log_in(&self) -> bool {
        self.is_monitoring() || self.is_policymaker() || self.has("management")
    }

    /// May know of a vhost, as whoever decides that for connections to it says.
    fn may_enter(&self, context: &Context, vhost: &str, peer: SocketAddr) -> bool {
        let address = peer.ip().to_canonical().to_string();
        context.inspect.may_enter(&self.0, vhost, &address)
    }

    fn has(&self, tag: &str) -> bool {
        self.0.user.has_tag(tag)
    }
}

/// The vhosts that an answer covers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    /// All there are.
    All,
    /// These.
    Only(Vec<String>),
}

/// What a caller wants with a connection. Its own user may do either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// For administrators.
    Close,
    /// For administrators and monitoring.
    See,
}

/// What came over the wire, with the path's names and the query decoded.
pub(super) struct Incoming {
    pub(super) peer: SocketAddr,
    pub(super) headers: HeaderMap,
    pub(super) names: HashMap<String, String>,
    pub(super) query: Vec<(String, String)>,
    pub(super) body: Bytes,
}

/// An authorised request, as a handler sees it.
pub(super) struct Request {
    pub(super) context: Arc<Context>,
    pub(super) sampler: Arc<Sampler>,
    caller: Option<Caller>,
    pub(super) incoming: Incoming,
}

impl Request {
    /// Who asks. A route without a login has no handler that asks.
    pub(super) fn caller(&self) -> Result<&Caller, Refusal> {
        self.caller.as_ref().ok_or_else(|| Refusal::not_authenticated("Login failed"))
    }

    /// The broker.
    pub(super) fn inspect(&self) -> &dyn Inspect {
        &*self.context.inspect
    }

    /// The broker, to change.
    pub(super) fn operate(&self) -> &dyn Operate {
        &*self.context.operate
    }

    /// The broker's users, to change.
    pub(super) fn administer(&self) -> &dyn Administer {
        &*self.context.administer
    }

    /// The broker's triggers.
    pub(super) fn triggers(&self) -> &dyn OperateTriggers {
        &*self.context.triggers
    }

    /// Who changes something, and when.
    pub(super) fn by(&self) -> Result<By<'_>, Refusal> {
        Ok(By { actor: self.caller()?.name(), now: self.now() })
    }

    /// This moment.
    pub(super) fn now(&self) -> Now {
        (self.context.now)()
    }

    /// The fields of the JSON object in the body; none when there is no body, as in RabbitMQ.
    pub(super) fn document(&self) -> Result<Map<String, Json>, Refusal> {
        if self.incoming.body.is_empty() {
            return Ok(Map::new());
        }
        match serde_json::from_slice(&self.incoming.body) {
            Ok(Json::Object(fields)) => Ok(fields),
            _ => Err(Refusal::bad_request("not_json")),
        }
    }

    /// Fields of the document that must be there, in this order.
    pub(super) fn required<'n>(&self, names: &[&'n str]) -> Result<Vec<(&'n str, Json)>, Refusal> {
        let mut document = self.document()?;
        let missing: Vec<String> = names
            .iter()
            .filter(|name| !document.contains_key(**name))
            .map(|name| format!("{{key_missing,{name}}}"))
            .collect();
        if !missing.is_empty() {
            return Err(Refusal::bad_request(format!("[{}]", missing.join(","))));
        }
        let take = |name: &&'n str| Some((*name, document.remove(*name)?));
        Ok(names.iter().filter_map(take).collect())
    }

    /// A name in the path.
    pub(super) fn name(&self, which: &str) -> &str {
        self.incoming.names.get(which).map_or("", String::as_str)
    }

    /// The name of an exchange in the path: `amq.default` stands for the one without a name.
    pub(super) fn exchange(&self, which: &str) -> &str {
        match self.name(which) {
            "amq.default" => "",
            name => name,
        }
    }

    /// A header, if it is text.
    pub(super) fn header(&self, which: &str) -> Option<&str> {
        self.incoming.headers.get(which)?.to_str().ok()
    }

    /// The vhosts whose objects the answer may hold: the one in the path, or all that the caller
    /// may see.
    pub(super) fn scope(&self) -> Result<Scope, Refusal> {
        if let Some(vhost) = self.incoming.names.get("vhost") {
            return Ok(Scope::Only(vec![vhost.clone()]));
        }
        let caller = self.caller()?;
        if caller.is_administrator() {
            return Ok(Scope::All);
        }
        Ok(Scope::Only(self.accessible(caller)))
    }

    /// The vhosts that the caller may know of.
    pub(super) fn visible_vhosts(&self) -> Result<Vec<String>, Refusal> {
        let caller = self.caller()?;
        let mut vhosts =
            if caller.is_monitoring() { self.inspect().vhosts() } else { self.accessible(caller) };
        vhosts.sort();
        Ok(vhosts)
    }

    /// Collects the objects of every vhost within the scope.
    pub(super) fn collect<T>(
        &self,
        of: impl Fn(&dyn Inspect, Option<&str>) -> Vec<T>,
    ) -> Result<Vec<T>, Refusal> {
        Ok(match self.scope()? {
            Scope::All => of(self.inspect(), None),
            Scope::Only(vhosts) => {
                vhosts.iter().flat_map(|vhost| of(self.inspect(), Some(vhost))).collect()
            }
        })
    }

    /// The connections that the caller may see: all, or its own. Those of one vhost if the path
    /// names one.
    pub(super) fn connections(&self) -> Result<Vec<ConnectionView>, Refusal> {
        let caller = self.caller()?;
        let vhost = self.incoming.names.get("vhost");
        let mut connections = self.inspect().connections();
        connections.retain(|connection| {
            (caller.is_monitoring() || connection.user == caller.name())
                && vhost.is_none_or(|vhost| *vhost == connection.vhost)
        });
        Ok(connections)
    }

    /// The connection that the path names, if the caller may do this with it.
    pub(super) fn connection(&self, right: Right) -> Result<ConnectionView, Refusal> {
        let caller = self.caller()?;
        let name = self.name("connection");
        let connection = self.inspect().connections().into_iter().find(|c| c.name == name);
        let connection = connection.ok_or_else(Refusal::not_found)?;
        let entitled = match right {
            Right::Close => caller.is_administrator(),
            Right::See => caller.is_monitoring(),
        };
        if entitled || connection.user == caller.name() {
            return Ok(connection);
        }
        Err(Refusal::not_authorised("User not authorised to access object"))
    }

    fn accessible(&self, caller: &Caller) -> Vec<String> {
        let mut vhosts = self.inspect().vhosts();
        vhosts.retain(|vhost| caller.may_enter(&self.context, vhost, self.incoming.peer));
        vhosts
    }
}

/// A parameter of a query.
pub(super) fn parameter<'a>(query: &'a [(String, String)], which: &str) -> Option<&'a str> {
    query.iter().find(|(name, _)| name == which).map(|(_, value)| value.as_str())
}

/// Checks login and access, runs the handler and renders what it answers.
///
/// # Errors
/// Why the caller was not let in.
pub(super) fn answer(
    route: &Route,
    context: Arc<Context>,
    sampler: Arc<Sampler>,
    incoming: Incoming,
) -> Result<Response, Refusal> {
    let caller = authorise(route, &context, &incoming)
        .inspect_err(|refusal| audit::refused(route, &context, &incoming, refusal))?;
    let request = Request { context, sampler, caller, incoming };
    let response = (route.handle)(&request).and_then(|reply| render(reply, &request));
    let response = response.unwrap_or_else(IntoResponse::into_response);
    audit::answered(route, &request, response.status());
    Ok(response)
}

fn render(reply: Reply, request: &Request) -> Result<Response, Refusal> {
    Ok(match reply {
        Reply::Document(body) => {
            document(StatusCode::OK, &list::project_one(body, &request.incoming.query))
        }
        Reply::List(items) => {
            document(StatusCode::OK, &list::shape(items, &request.incoming.query)?)
        }
        Reply::Unhealthy(body) => document(StatusCode::SERVICE_UNAVAILABLE, &body),
        Reply::Created => StatusCode::CREATED.into_response(),
        Reply::Done => StatusCode::NO_CONTENT.into_response(),
    })
}

fn authorise(
    route: &Route,
    context: &Context,
    incoming: &Incoming,
) -> Result<Option<Caller>, Refusal> {
    let access = route.access;
    if access == Access::Open {
        return Ok(None);
    }
    let caller = log_in(context, &incoming.headers, incoming.peer)?;
    match access {
        Access::Administrator if !caller.is_administrator() => {
            return Err(Refusal::not_authorised("Not administrator user"));
        }
        Access::Monitoring if !caller.is_monitoring() => {
            return Err(Refusal::not_authorised("Not monitor user"));
        }
        Access::Policymaker if !caller.is_policymaker() => {
            return Err(Refusal::not_authorised("User not authorised to access object"));
        }
        _ => {}
    }
    if let Some(vhost) = incoming.names.get("vhost") {
        // What a PUT names last may be new: its handler looks.
        let may_be_new = route.method == Method::PUT && route.path.ends_with("{vhost}");
        let exists = may_be_new || context.inspect.vhosts().contains(vhost);
        let seen = caller.is_administrator() || caller.may_enter(context, vhost, incoming.peer);
        match (exists, seen) {
            (false, _) => return Err(Refusal::not_found()),
            (true, false) => {
                let reason = "User not authorised to access virtual host";
                return Err(Refusal::not_authorised(reason));
            }
            (true, true) => {}
        }
    }
    Ok(Some(caller))
}
