//! The HTTP/1.1 server loop, by TLS or not, with a limit on everything a client could hold on to.
//!
//! Connections beyond their limit wait in the listener's backlog. A request's head must arrive
//! within [`HEAD_TIMEOUT`], its answer be made within [`REQUEST_TIMEOUT`], and a connection ends
//! after [`CONNECTION_LIFETIME`], so that no client, slow or stalled, keeps its place for ever. A
//! body larger than the limit is refused unread, going by its announced length; one of unknown
//! length is not taken.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service as _;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::reply::Refusal;
use crate::tls::ListenerTls;

/// How long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request's body and the making of its answer may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a connection may last before it is asked to end.
const CONNECTION_LIFETIME: Duration = Duration::from_secs(600);
/// How long a connection that was asked to end may take to.
const GRACE: Duration = Duration::from_secs(10);
/// The longest request head, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// How long to wait after an accept that failed, usually for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a TLS handshake may take.
const TLS_TIMEOUT: Duration = Duration::from_secs(5);

/// What one server listens on.
pub struct Doors(Vec<Door>);

/// A listener, and its TLS if clients come by that.
pub struct Door {
    /// The listener.
    pub listener: TcpListener,
    /// Its certificates, and who is let in.
    pub tls: Option<Arc<ListenerTls>>,
}

impl From<Vec<Door>> for Doors {
    fn from(doors: Vec<Door>) -> Self {
        Self(doors)
    }
}

impl From<TcpListener> for Doors {
    fn from(listener: TcpListener) -> Self {
        Self(vec![Door { listener, tls: None }])
    }
}

impl Doors {
    /// Waits for the next client at any of them. A door that fails does not keep others waiting.
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr, Option<Arc<ListenerTls>>)> {
        poll_fn(|cx| {
            let mut failed = None;
            for door in &self.0 {
                match door.listener.poll_accept(cx) {
                    Poll::Ready(Ok((stream, peer))) => {
                        return Poll::Ready(Ok((stream, peer, door.tls.clone())));
                    }
                    Poll::Ready(Err(error)) => failed = Some(error),
                    Poll::Pending => {}
                }
            }
            failed.map_or(Poll::Pending, |error| Poll::Ready(Err(error)))
        })
        .await
    }
}

/// The client's address, as an extension of each request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// What one server takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Connections at once.
    pub(super) connections_max: usize,
    /// The largest request body, in bytes.
    pub(super) body_bytes_max: usize,
}

/// Accepts and serves connections until `shutdown` resolves; then accepts no more and gives those
/// there are [`GRACE`] to finish.
pub(super) async fn run(
    doors: Doors,
    app: Router,
    limits: Limits,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(limits.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    let (ending, ended) = watch::channel(());
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        while connections.try_join_next().is_some() {}
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (doors.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            next = next => next,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, peer, tls)) => {
                let (app, ended) = (app.clone(), ended.clone());
                connections.spawn(async move {
                    match tls {
                        None => connection(stream, peer, app, limits, ended).await,
                        Some(tls) => {
                            if let Some(stream) = by_tls(stream, peer, &tls).await {
                                connection(stream, peer, app, limits, ended).await;
                            }
                        }
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an HTTP connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(doors);
    drop(ending);
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// Does the TLS handshake.
async fn by_tls(
    stream: TcpStream,
    peer: SocketAddr,
    tls: &ListenerTls,
) -> Option<TlsStream<TcpStream>> {
    let accepted = TlsAcceptor::from(tls.config()).accept(stream);
    match timeout(TLS_TIMEOUT, accepted).await {
        Ok(Ok(stream)) => return Some(stream),
        Ok(Err(error)) => tracing::info!(%peer, %error, "the TLS handshake has failed"),
        Err(_) => tracing::info!(%peer, "the TLS handshake has taken too long"),
    }
    None
}

async fn connection(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    app: Router,
    limits: Limits,
    mut ended: watch::Receiver<()>,
) {
    let app = TowerToHyperService::new(app);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(Peer(peer));
        if let Some(login) = request.headers_mut().get_mut(AUTHORIZATION) {
            login.set_sensitive(true);
        }
        trim_path(&mut request);
        let fits = body_fits(&request, limits.body_bytes_max);
        let answer = app.call(request);
        async move {
            if !fits {
                return Ok(Refusal::too_large().into_response());
            }
            match timeout(REQUEST_TIMEOUT, answer).await {
                Ok(answer) => answer,
                Err(_) => Ok::<Response, _>(StatusCode::REQUEST_TIMEOUT.into_response()),
            }
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut served = std::pin::pin!(served);
    tokio::select! {
        result = &mut served => {
            if let Err(error) = result {
                tracing::debug!(%peer, %error, "an HTTP connection broke");
            }
            return;
        }
        // Resolves when the sender is gone.
        _ = ended.changed() => {}
        () = sleep(CONNECTION_LIFETIME) => {}
    }
    served.as_mut().graceful_shutdown();
    if timeout(GRACE, served).await.is_err() {
        tracing::debug!(%peer, "an HTTP connection did not end in time");
    }
}

fn body_fits(request: &Request<Incoming>, bytes_max: usize) -> bool {
    let bytes = request.body().size_hint().upper();
    bytes.is_some_and(|bytes| bytes <= bytes_max as u64)
}

/// A slash at the end of a path means nothing, as with RabbitMQ's server.
fn trim_path(request: &mut Request<Incoming>) {
    let path = request.uri().path();
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() || trimmed.len() == path.len() {
        return;
    }
    let query = request.uri().query().map_or_else(String::new, |query| format!("?{query}"));
    if let Ok(uri) = format!("{trimmed}{query}").parse() {
        *request.uri_mut() = uri;
    }
}
