//! From an accepted socket to a connection that is driven: who is it, does its proxy say who it is,
//! and does it come by TLS.
//!
//! Invariants: everything here has a deadline, and the session's own begins with the socket; what a
//! client may do as a local one is decided by the socket's peer, which no header can talk up.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Hall;
use super::buffer::ReadBuffer;
use super::driver::{self, Arrival, TaskWaker};
use super::listener::Accepted;
use super::lobby::Place;
use super::proxy::{self, TrustedProxies};
use super::tls::Tls;
use crate::broker::Now;
use crate::broker::logins::Source;
use crate::session::PeerAddress;
use crate::tls::ListenerTls;

/// What a listener asks of whoever comes by TCP.
#[derive(Debug, Clone, Default)]
pub struct Entrance {
    /// They come by TLS.
    pub tls: Option<ByTls>,
    /// They come through one of these, which says on whose behalf.
    pub proxies: Option<Arc<TrustedProxies>>,
}

/// TLS at the entrance.
#[derive(Debug, Clone)]
pub struct ByTls {
    /// Certificates, and who is let in.
    pub with: Arc<ListenerTls>,
    /// How long the handshake may take, in milliseconds.
    pub handshake_ms_max: u64,
}

/// Why someone was not let in.
#[derive(Debug, thiserror::Error)]
enum NotLetIn {
    #[error("it went away")]
    Gone(#[source] io::Error),
    #[error("{0} is not among the proxies that are trusted")]
    NotTrusted(SocketAddr),
    #[error(transparent)]
    NoHeader(#[from] proxy::NoHeader),
    #[error("others needed its place before it had logged in")]
    Dismissed,
    #[error("the proxy's header has not come in time")]
    LateHeader,
    #[error("the TLS handshake has failed: {0}")]
    Tls(io::Error),
    #[error("the TLS handshake has taken too long")]
    LateTls,
}

/// Lets a client in and serves it to its end. It is in the lobby from the call on.
pub(super) fn enter(
    accepted: Accepted,
    entrance: Entrance,
    hall: Hall,
) -> impl Future<Output = ()> + Send {
    let waker = Arc::new(TaskWaker::default());
    let now = hall.clock.now();
    let source = match &accepted {
        Accepted::Tcp(_, from) => Source::from(from.ip()),
        Accepted::Unix(_, peer) => peer.source,
    };
    let guest = Arc::<TaskWaker>::clone(&waker);
    let place = hall.lobby.enter(source, guest, now);
    async move {
        match accepted {
            Accepted::Unix(socket, peer) => {
                let arrival = Arrival { peer, now, early: ReadBuffer::new(), waker, place };
                driver::drive(socket, arrival, hall).await;
            }
            Accepted::Tcp(socket, from) => {
                let visitor = Visitor { from, now, waker, place };
                match visitor.enter(socket, &entrance, &hall).await {
                    Ok((arrival, Way::Plain(socket))) => {
                        driver::drive(socket, arrival, hall).await;
                    }
                    Ok((arrival, Way::Tls(tls))) => {
                        // On the heap, so that the tasks of connections without TLS stay small.
                        Box::pin(driver::drive(*tls, arrival, hall)).await;
                    }
                    Err(NotLetIn::Gone(error)) => {
                        tracing::debug!(peer = %from, %error, "went away before it was let in");
                    }
                    Err(why) => tracing::info!(peer = %from, %why, "not let in"),
                }
            }
        }
    }
}

/// How a client came in.
enum Way {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

/// Someone who has come by TCP.
struct Visitor {
    from: SocketAddr,
    now: Now,
    waker: Arc<TaskWaker>,
    place: Place,
}

impl Visitor {
    async fn enter(
        self,
        socket: TcpStream,
        entrance: &Entrance,
        hall: &Hall,
    ) -> Result<(Arrival, Way), NotLetIn> {
        let Self { from, now, waker, mut place } = self;
        let mut addresses = (from, socket.local_addr().map_err(NotLetIn::Gone)?);
        let mut is_loopback = is_local(from);
        let mut early = ReadBuffer::new();
        if let Some(trusted) = &entrance.proxies {
            if !trusted.contains(from.ip()) {
                return Err(NotLetIn::NotTrusted(from));
            }
            let header = read_header(&socket, &mut early);
            let header = within(hall.settings.handshake_ms_max, &waker, header).await?;
            if let Some(said) = header.unwrap_or(Err(NotLetIn::LateHeader))? {
                addresses = said;
                // The header can only take the privilege away.
                is_loopback &= is_local(said.0);
                // One client of many behind the proxy: it has the limits of its own address.
                drop(place);
                let guest = Arc::<TaskWaker>::clone(&waker);
                place = hall.lobby.enter(Source::from(said.0.ip()), guest, now);
            }
        }
        let shown = |address: SocketAddr| (address.ip().to_canonical().to_string(), address.port());
        let (peer, host) = (shown(addresses.0), shown(addresses.1));
        let source = Source::from(addresses.0.ip());
        let mut peer = PeerAddress { peer, host, is_loopback, source, tls: None };
        let Some(by_tls) = &entrance.tls else {
            return Ok((Arrival { peer, now, early, waker, place }, Way::Plain(socket)));
        };
        let accepted = Box::pin(Tls::accept(socket, early, by_tls.with.config()));
        let accepted = within(by_tls.handshake_ms_max, &waker, accepted).await?;
        let tls = accepted.ok_or(NotLetIn::LateTls)?.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => NotLetIn::Tls(error),
            _ => NotLetIn::Gone(error),
        })?;
        peer.tls = Some(Arc::new(by_tls.with.view(tls.session())));
        let early = ReadBuffer::new();
        Ok((Arrival { peer, now, early, waker, place }, Way::Tls(Box::new(tls))))
    }
}

fn is_local(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// A future's outcome, unless it takes too long or somebody else needs the place.
async fn within<T>(
    ms_max: u64,
    waker: &TaskWaker,
    future: impl Future<Output = T>,
) -> Result<Option<T>, NotLetIn> {
    tokio::select! {
        outcome = timeout(Duration::from_millis(ms_max), future) => Ok(outcome.ok()),
        () = waker.dismissed() => Err(NotLetIn::Dismissed),
    }
}

/// Reads a proxy's header; what follows it stays in the buffer.
async fn read_header(
    socket: &TcpStream,
    early: &mut ReadBuffer,
) -> Result<Option<(SocketAddr, SocketAddr)>, NotLetIn> {
    loop {
        if let Some(header) = proxy::parse(early.pending())? {
            early.consume(header.len);
            return Ok(header.addresses);
        }
        socket.ready(Interest::READABLE).await.map_err(NotLetIn::Gone)?;
        match socket.try_read(early.room()) {
            Ok(0) => return Err(NotLetIn::Gone(io::ErrorKind::UnexpectedEof.into())),
            Ok(n) => early.filled(n, false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(NotLetIn::Gone(error)),
        }
    }
}
