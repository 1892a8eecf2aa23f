//! The table of routes. `spec/http-api.toml` describes the same routes for people; a test compares.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection, RawPathParamsRejection};
use axum::extract::{DefaultBodyLimit, Extension, Query, RawPathParams};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::any;

use super::http::Peer;
use super::login::at_pace;
use super::reply::{Refusal, Reply};
use super::request::{Access, Incoming, Request, answer};
use super::sampler::Sampler;
use super::{
    Context, backups, bindings, connections, consumers, exchanges, health, limits, nodes, overview,
    permissions, policies, queues, triggers, users, vhosts,
};
use crate::config::settings::Management;

/// What a path and a method lead to.
pub(super) struct Route {
    pub(super) method: Method,
    /// In axum's form: a name in braces stands for any segment, percent-decoded.
    pub(super) path: &'static str,
    pub(super) access: Access,
    pub(super) handle: Handler,
}

type Handler = fn(&Request) -> Result<Reply, Refusal>;

const fn get(path: &'static str, access: Access, handle: Handler) -> Route {
    Route { method: Method::GET, path, access, handle }
}

const fn delete(path: &'static str, access: Access, handle: Handler) -> Route {
    Route { method: Method::DELETE, path, access, handle }
}

const fn put(path: &'static str, access: Access, handle: Handler) -> Route {
    Route { method: Method::PUT, path, access, handle }
}

const fn post(path: &'static str, access: Access, handle: Handler) -> Route {
    Route { method: Method::POST, path, access, handle }
}

use Access::{Administrator, Management as User, Monitoring, Open, Policymaker};

/// The routes; those of one path stand together.
pub(super) static ROUTES: &[Route] = &[
    get("/api/overview", User, overview::show),
    get("/api/cluster-name", User, overview::cluster_name),
    get("/api/whoami", User, users::whoami),
    get("/api/extensions", User, overview::extensions),
    get("/api/feature-flags", User, overview::feature_flags),
    get("/api/nodes", Monitoring, nodes::list),
    get("/api/nodes/{node}", Monitoring, nodes::show),
    get("/api/vhosts", User, vhosts::list),
    get("/api/vhosts/{vhost}", Administrator, vhosts::show),
    put("/api/vhosts/{vhost}", Administrator, vhosts::put),
    delete("/api/vhosts/{vhost}", Administrator, vhosts::delete),
    get("/api/vhosts/{vhost}/permissions", Administrator, permissions::list),
    get("/api/vhosts/{vhost}/topic-permissions", Administrator, permissions::list_topics),
    get("/api/vhosts/{vhost}/connections", User, connections::list),
    get("/api/vhosts/{vhost}/channels", User, connections::channels),
    get("/api/queues", User, queues::list),
    get("/api/queues/detailed", User, queues::list),
    get("/api/queues/{vhost}", User, queues::list),
    get("/api/queues/{vhost}/{queue}", User, queues::show),
    get("/api/queues/{vhost}/{queue}/bindings", User, bindings::of_queue),
    get("/api/exchanges", User, exchanges::list),
    get("/api/exchanges/{vhost}", User, exchanges::list),
    get("/api/exchanges/{vhost}/{exchange}", User, exchanges::show),
    get("/api/exchanges/{vhost}/{exchange}/bindings/source", User, bindings::of_source),
    get("/api/exchanges/{vhost}/{exchange}/bindings/destination", User, bindings::of_destination),
    get("/api/bindings", User, bindings::list),
    get("/api/bindings/{vhost}", User, bindings::list),
    get("/api/bindings/{vhost}/e/{source}/{kind}/{destination}", User, bindings::between),
    get("/api/bindings/{vhost}/e/{source}/{kind}/{destination}/{props}", User, bindings::show),
    get("/api/connections", User, connections::list),
    get("/api/connections/{connection}", User, connections::show),
    delete("/api/connections/{connection}", User, connections::close),
    get("/api/connections/{connection}/channels", User, connections::its_channels),
    get("/api/connections/username/{user}", User, connections::of_user),
    delete("/api/connections/username/{user}", User, connections::close_of_user),
    get("/api/channels", User, connections::channels),
    get("/api/channels/{channel}", User, connections::channel),
    get("/api/consumers", User, consumers::list),
    get("/api/consumers/{vhost}", User, consumers::list),
    get("/api/users", Administrator, users::list),
    get("/api/users/without-permissions", Administrator, users::without_permissions),
    post("/api/users/bulk-delete", Administrator, users::bulk_delete),
    get("/api/users/{user}", Administrator, users::show),
    put("/api/users/{user}", Administrator, users::put),
    delete("/api/users/{user}", Administrator, users::delete),
    get("/api/users/{user}/permissions", Administrator, permissions::list),
    get("/api/users/{user}/topic-permissions", Administrator, permissions::list_topics),
    get("/api/permissions", Administrator, permissions::list),
    get("/api/permissions/{vhost}/{user}", Administrator, permissions::show),
    put("/api/permissions/{vhost}/{user}", Administrator, permissions::put),
    delete("/api/permissions/{vhost}/{user}", Administrator, permissions::delete),
    get("/api/topic-permissions", Administrator, permissions::list_topics),
    get("/api/topic-permissions/{vhost}/{user}", Administrator, permissions::list_topics),
    put("/api/topic-permissions/{vhost}/{user}", Administrator, permissions::put_topic),
    delete("/api/topic-permissions/{vhost}/{user}", Administrator, permissions::delete_topic),
    get(
        "/api/topic-permissions/{vhost}/{user}/{exchange}",
        Administrator,
        permissions::list_topics,
    ),
    put("/api/topic-permissions/{vhost}/{user}/{exchange}", Administrator, permissions::put_topic),
    delete(
        "/api/topic-permissions/{vhost}/{user}/{exchange}",
        Administrator,
        permissions::delete_topic,
    ),
    get("/api/vhost-limits", User, limits::of_vhosts),
    get("/api/vhost-limits/{vhost}", User, limits::of_vhosts),
    put("/api/vhost-limits/{vhost}/{limit}", Administrator, limits::put_of_vhost),
    delete("/api/vhost-limits/{vhost}/{limit}", Administrator, limits::delete_of_vhost),
    get("/api/user-limits", User, limits::of_users),
    get("/api/user-limits/{user}", User, limits::of_users),
    put("/api/user-limits/{user}/{limit}", Administrator, limits::put_of_user),
    delete("/api/user-limits/{user}/{limit}", Administrator, limits::delete_of_user),
    get("/api/auth/hash_password/{password}", Administrator, users::hash_password),
    get("/api/policies", User, policies::list),
    get("/api/policies/{vhost}", User, policies::list),
    get("/api/policies/{vhost}/{policy}", Policymaker, policies::show),
    put("/api/policies/{vhost}/{policy}", Policymaker, policies::put),
    delete("/api/policies/{vhost}/{policy}", Policymaker, policies::delete),
    get("/api/operator-policies", User, policies::list_operator),
    get("/api/operator-policies/{vhost}", User, policies::list_operator),
    get("/api/operator-policies/{vhost}/{policy}", Administrator, policies::show_operator),
    put("/api/operator-policies/{vhost}/{policy}", Administrator, policies::put_operator),
    delete("/api/operator-policies/{vhost}/{policy}", Administrator, policies::delete_operator),
    get("/api/backups", Administrator, backups::list),
    put("/api/backups/{backup}", Administrator, backups::put),
    get("/api/triggers", User, triggers::list),
    get("/api/triggers/{vhost}", User, triggers::list),
    get("/api/triggers/{vhost}/{trigger}", User, triggers::show),
    put("/api/triggers/{vhost}/{trigger}", Policymaker, triggers::put),
    delete("/api/triggers/{vhost}/{trigger}", Policymaker, triggers::delete),
    put("/api/triggers/{vhost}/{trigger}/enable", Policymaker, triggers::enable),
    put("/api/triggers/{vhost}/{trigger}/disable", Policymaker, triggers::disable),
    get("/api/triggers/{vhost}/{trigger}/explain", User, triggers::explain),
    get("/api/triggers/{vhost}/{trigger}/runs", User, triggers::runs),
    get("/api/aliveness-test/{vhost}", User, health::store),
    get("/api/healthchecks/node", User, health::store),
    get("/api/healthchecks/node/{node}", User, health::store),
    get("/api/health/checks/alarms", User, health::alarms),
    get("/api/health/checks/local-alarms", User, health::local_alarms),
    get("/api/health/checks/virtual-hosts", User, health::store),
    get("/api/health/checks/node-is-quorum-critical", User, health::single_node),
    get("/api/health/checks/node-is-mirror-sync-critical", User, health::single_node),
    get("/api/health/checks/port-listener/{port}", User, health::port_listener),
    get("/api/health/checks/protocol-listener/{protocols}", User, health::protocol_listener),
    get(
        "/api/health/checks/certificate-expiration/{within}/{unit}",
        User,
        health::certificate_expiration,
    ),
    get("/api/health/checks/is-in-service", Open, health::in_service),
    get("/api/health/checks/ready-to-serve-clients", Open, health::in_service),
];

/// The application: every route, under the configured prefix.
pub(super) fn app(context: Arc<Context>, sampler: Arc<Sampler>, settings: &Management) -> Router {
    let mut api = Router::new();
    for routes in ROUTES.chunk_by(|a, b| a.path == b.path) {
        let path = routes.first().map_or("", |route| route.path);
        let (context, sampler) = (Arc::clone(&context), Arc::clone(&sampler));
        let handler = move |method: Method,
                            peer: Extension<Peer>,
                            names: Names,
                            query: Asked,
                            headers: HeaderMap,
                            body: Body| {
            let (context, sampler) = (Arc::clone(&context), Arc::clone(&sampler));
            async move {
                match incoming(peer.0, names, query, headers, body) {
                    Ok(incoming) => dispatch(routes, &method, context, sampler, incoming).await,
                    Err(refusal) => refusal.into_response(),
                }
            }
        };
        api = api.route(path, any(handler));
    }
    let app = if settings.path_prefix.is_empty() {
        api
    } else {
        Router::new().nest(&settings.path_prefix, api)
    };
    // The server has refused longer bodies than it takes before they come here.
    app.layer(DefaultBodyLimit::disable())
        .fallback(|| async { Refusal::not_found().into_response() })
}

type Names = Result<RawPathParams, RawPathParamsRejection>;
type Body = Result<Bytes, BytesRejection>;
type Asked = Result<Query<Vec<(String, String)>>, QueryRejection>;

fn incoming(
    peer: Peer,
    names: Names,
    query: Asked,
    headers: HeaderMap,
    body: Body,
) -> Result<Incoming, Refusal> {
    let names = names.map_err(|_| Refusal::bad_request("the path is not UTF-8"))?;
    let Query(query) = query.map_err(|_| Refusal::bad_request("the query is malformed"))?;
    Ok(Incoming {
        peer: peer.0,
        headers,
        names: names.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
        query,
        body: body.map_err(|_| Refusal::bad_request("the body could not be read"))?,
    })
}

async fn dispatch(
    routes: &'static [Route],
    method: &Method,
    context: Arc<Context>,
    sampler: Arc<Sampler>,
    incoming: Incoming,
) -> Response {
    if method == Method::OPTIONS {
        return allowed(routes);
    }
    // HEAD is GET; the server leaves the body out.
    let wanted = if method == Method::HEAD { &Method::GET } else { method };
    let Some(route) = routes.iter().find(|route| route.method == *wanted) else {
        let mut response = Refusal::method_not_allowed().into_response();
        response.headers_mut().extend(allowed(routes).headers().clone());
        return response;
    };
    let (peer, shared) = (incoming.peer, Arc::clone(&context));
    let shows_login = route.access != Open && incoming.headers.contains_key(header::AUTHORIZATION);
    let make = move || answer(route, context, sampler, incoming);
    at_pace(&shared, peer, shows_login, make).await
}

fn allowed(routes: &[Route]) -> Response {
    let mut methods = vec!["HEAD", "OPTIONS"];
    methods.extend(routes.iter().map(|route| route.method.as_str()));
    methods.sort_unstable();
    let mut response = StatusCode::OK.into_response();
    if let Ok(value) = HeaderValue::from_str(&methods.join(", ")) {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}
