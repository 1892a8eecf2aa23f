//! The routes of the metrics page: `/metrics`, `/metrics/per-object`, `/metrics/detailed`.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Extension, Query};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::http::Peer;
use super::login::{at_pace, log_in};
use super::reply::Refusal;
use super::{Context, audit};
use crate::config::settings::Prometheus;
use crate::metrics;

/// Families and vhosts that one request may name; further ones are not looked at.
const NAMES_MAX: usize = 1000;

type Asked = Vec<(String, String)>;
type Render = fn(&Context, &Asked) -> String;

/// The application: the three pages under the configured path.
pub(super) fn app(context: Arc<Context>, settings: &Prometheus) -> Router {
    let whole: Render = if settings.per_object { per_object } else { aggregated };
    let mut app = Router::new();
    for (suffix, render) in
        [("", whole), ("/per-object", per_object as Render), ("/detailed", detailed as Render)]
    {
        let context = Arc::clone(&context);
        let authentication = settings.authentication;
        let handler = move |peer: Extension<Peer>, headers: HeaderMap, query: Query<Asked>| {
            let context = Arc::clone(&context);
            async move {
                let (peer, shared) = (peer.0, Arc::clone(&context));
                let shows_login = authentication && headers.contains_key(header::AUTHORIZATION);
                let make = move || {
                    if authentication {
                        let caller = log_in(&context, &headers, peer.0)
                            .inspect_err(|why| audit::metrics_refused(&context, peer, why))?;
                        if !caller.is_monitoring() {
                            return Err(Refusal::not_authorised("Not monitor user"));
                        }
                    }
                    Ok(page(render(&context, &query.0)))
                };
                at_pace(&shared, peer.0, shows_login, make).await
            }
        };
        app = app.route(&format!("{}{suffix}", settings.path), get(handler));
    }
    app.fallback(|| async { Refusal::not_found().into_response() })
}

fn aggregated(context: &Context, _: &Asked) -> String {
    metrics::render(&*context.inspect, &context.process.read((context.now)().unix_ms))
}

fn per_object(context: &Context, _: &Asked) -> String {
    metrics::render_per_object(&*context.inspect, &context.process.read((context.now)().unix_ms))
}

fn detailed(context: &Context, asked: &Asked) -> String {
    let values = |wanted: &str| -> Vec<String> {
        let named = asked.iter().filter(|(name, _)| name == wanted);
        named.take(NAMES_MAX).map(|(_, value)| value.clone()).collect()
    };
    let process = context.process.read((context.now)().unix_ms);
    metrics::render_detailed(&*context.inspect, &process, &values("family"), &values("vhost"))
}

fn page(text: String) -> Response {
    let mut response = text.into_response();
    let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
