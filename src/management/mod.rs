//! The management API: RabbitMQ's HTTP routes and JSON, so that its tools and libraries work
//! unchanged. Also serves the metrics page, since HTTP lives here.
//!
//! Every answer is made from the broker's snapshots when it is asked for; the only thing kept is
//! the sampler's last two readings, for rates. Who may see what is decided in one place
//! ([`request`]), by the access class of a route and the vhost in its path, before a handler runs.
//! `spec/http-api.toml` lists RabbitMQ's routes, ours and what is missing; a test compares.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `routes` | the table of routes: path, method, access class, handler |
//! | `login` | who asks, and what failing to log in costs |
//! | `request` | from an HTTP request to a handler and back: access, visibility |
//! | `reply` | answers and refusals as JSON |
//! | `list` | sorting, paging, filtering and projecting of lists |
//! | `http` | the server loop and its limits |
//! | `audit` | what requests leave for the audit log |
//! | `sampler` | rates |
//! | `metrics_page` | the routes of the metrics page |
//! | `overview`, `nodes`, `queues`, ... | one resource each |

mod audit;
mod backups;
mod bindings;
mod connections;
mod consumers;
mod exchanges;
mod health;
mod http;
mod limits;
mod list;
mod login;
mod metrics_page;
mod nodes;
mod overview;
mod permissions;
mod policies;
mod queues;
mod reply;
mod request;
mod routes;
mod sampler;
mod triggers;
mod users;
mod vhosts;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Extension;

use crate::broker::Now;
use crate::broker::access::Administer;
use crate::broker::inspect::Inspect;
use crate::broker::operate::Operate;
use crate::broker::trigger::operate::OperateTriggers;
use crate::config::settings::{Management, Prometheus};
use crate::metrics::ProcessReader;
use crate::protocol::table::json as value;
use crate::tls::ListenerTls;
use http::Limits;
pub use http::{Door, Doors};
pub use login::LoginPace;
use sampler::Sampler;

/// A socket that the node listens on.
#[derive(Debug, Clone)]
pub struct Listener {
    /// RabbitMQ's name of the protocol: `amqp`, `amqp/ssl`, `http`, `https`, `http/prometheus`,
    /// `https/prometheus`.
    pub protocol: &'static str,
    /// The address; `::` is every one. A Unix socket's path.
    pub ip: String,
    /// The port; 0 of a Unix socket.
    pub port: u16,
    /// Its TLS, if it has any.
    pub tls: Option<Arc<ListenerTls>>,
}

/// What the API and the metrics page are made from.
pub struct Context {
    /// The broker, to look at.
    pub inspect: Arc<dyn Inspect>,
    /// The broker, to change.
    pub operate: Arc<dyn Operate>,
    /// The broker's users, to change.
    pub administer: Arc<dyn Administer>,
    /// The broker's triggers.
    pub triggers: Arc<dyn OperateTriggers>,
    /// The process.
    pub process: ProcessReader,
    /// The sockets that the node listens on.
    pub listeners: Vec<Listener>,
    /// What failing to log in costs.
    pub pace: LoginPace,
    /// The clock.
    pub now: Box<dyn Fn() -> Now + Send + Sync>,
}

/// Serves the management API until `shutdown` resolves, then finishes the requests under way.
///
/// # Errors
/// When no listener can be used at all.
pub async fn serve(
    doors: impl Into<Doors>,
    context: Arc<Context>,
    settings: &Management,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let sampler = Arc::new(Sampler::default());
    let app = routes::app(Arc::clone(&context), Arc::clone(&sampler), settings);
    let limits = Limits {
        connections_max: settings.connections_max,
        body_bytes_max: settings.body_bytes_max,
    };
    let sampling = sampler::run(sampler, context);
    tokio::select! {
        served = http::run(doors.into(), app, limits, shutdown) => served,
        () = sampling => Ok(()),
    }
}

/// The API without a server around it, asked from `peer`: for whoever asks within the process.
#[doc(hidden)]
pub fn app(context: Arc<Context>, settings: &Management, peer: SocketAddr) -> Router {
    let app = routes::app(context, Arc::new(Sampler::default()), settings);
    app.layer(Extension(http::Peer(peer)))
}

/// Serves the metrics page until `shutdown` resolves, then finishes the requests under way.
///
/// # Errors
/// When no listener can be used at all.
pub async fn serve_metrics(
    doors: impl Into<Doors>,
    context: Arc<Context>,
    settings: &Prometheus,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let app = metrics_page::app(context, settings);
    let limits = Limits { connections_max: settings.connections_max, body_bytes_max: 0 };
    http::run(doors.into(), app, limits, shutdown).await
}

#[cfg(test)]
mod tests;
