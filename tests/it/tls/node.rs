//! A node in this process with one door, of whatever kind a test is about.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use leveret::broker::inspect::Inspect;
use leveret::broker::views::ConnectionView;
use leveret::broker::{Broker, BrokerSettings};
use leveret::config::settings::{CertificateLogin, TlsOptions};
use leveret::protocol::method::connection;
use leveret::server::clock::Clock;
use leveret::server::{self, ByTls, Door, Entrance, Hall, LobbyLimits, LocalListener};
use leveret::session::{Mechanism, SessionSettings};
use leveret::store::memory::MemoryStore;
use leveret::tls::ListenerTls;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;

use super::authority::host;
use crate::management::Client;

/// The longest a test waits for what must happen.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How clients are to call the server.
pub(super) const HOST: &str = "broker.example";

pub(super) struct Node {
    /// Where it listens; of no use for a Unix socket.
    pub(super) amqp: SocketAddr,
    pub(super) broker: Arc<Broker>,
    pub(super) tls: Option<Arc<ListenerTls>>,
    stop: watch::Sender<bool>,
    served: JoinHandle<()>,
}

impl Node {
    /// One whose user is guest, and who asks this of its clients.
    pub(super) async fn with(entrance: Entrance) -> Self {
        Self::with_user(entrance, "guest").await
    }

    /// One whose user is this.
    pub(super) async fn with_user(entrance: Entrance, user: &str) -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into(), entrance, user).await
    }

    /// One that listens on this address, and whose user is guest.
    pub(super) async fn on(address: IpAddr, entrance: Entrance) -> Self {
        Self::at(address, entrance, "guest").await
    }

    async fn at(address: IpAddr, entrance: Entrance, user: &str) -> Self {
        let listener = TcpListener::bind((address, 0)).await.unwrap();
        let amqp = listener.local_addr().unwrap();
        let tls = entrance.tls.as_ref().map(|tls| Arc::clone(&tls.with));
        Self::behind(Door::tcp(listener, entrance), amqp, tls, user)
    }

    /// One that listens on a Unix socket.
    pub(super) fn local(path: &Path) -> Self {
        let listener = LocalListener::bind(path, 0o600, 10).unwrap();
        Self::behind(Door::local(listener), "[::]:0".parse().unwrap(), None, "guest")
    }

    /// One that clients come to by TLS.
    pub(super) async fn by_tls(options: TlsOptions) -> Self {
        Self::with(by_tls(options, CertificateLogin::default())).await
    }

    fn behind(door: Door, amqp: SocketAddr, tls: Option<Arc<ListenerTls>>, user: &str) -> Self {
        let clock = Clock::start();
        let entropy = Box::new(|bytes: &mut [u8]| bytes.fill(7));
        let store = Arc::new(MemoryStore::new());
        let settings =
            BrokerSettings { default_user: user.to_owned(), ..BrokerSettings::default() };
        let broker = Broker::open(settings, store, entropy, clock.now()).unwrap();
        let session = SessionSettings {
            mechanisms: vec![Mechanism::Plain, Mechanism::External],
            handshake_ms_max: 1_000,
            ..SessionSettings::default()
        };
        let (stop, stopped) = watch::channel(false);
        let limits = LobbyLimits::default();
        let hall = Hall::new(Arc::clone(&broker), Arc::new(session), limits, 1_000, clock);
        let served = server::serve_amqp(door, hall, stopped);
        Self { amqp, broker, tls, stop, served: tokio::spawn(served) }
    }

    /// A TLS connection, as far as its client can tell by itself.
    pub(super) async fn dial(&self, config: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(self.amqp).await.unwrap();
        let connector = TlsConnector::from(Arc::clone(config));
        connector.connect(host(HOST), stream).await.unwrap()
    }

    /// A client that has logged in by TLS as guest.
    pub(super) async fn log_in(&self, config: &Arc<ClientConfig>) -> Client<TlsStream<TcpStream>> {
        Client::over(self.dial(config).await, plain(), 0).await
    }

    /// The one connection there is, as operators see it.
    pub(super) fn connection(&self) -> ConnectionView {
        let mut connections = self.broker.connections();
        assert_eq!(connections.len(), 1);
        connections.remove(0)
    }

    /// Stops it.
    pub(super) async fn stop(self) {
        self.stop.send(true).unwrap();
        self.served.await.unwrap();
    }
}

/// An entrance by TLS with these options.
pub(super) fn by_tls(options: TlsOptions, login: CertificateLogin) -> Entrance {
    let with = Arc::new(ListenerTls::open("ssl_options", options, login).unwrap());
    Entrance { tls: Some(ByTls { with, handshake_ms_max: 500 }), proxies: None }
}

/// Logs in as guest.
pub(super) fn plain() -> connection::StartOk<'static> {
    connection::StartOk { response: b"\0guest\0guest", ..connection::StartOk::default() }
}

/// Logs in by certificate.
pub(super) fn external() -> connection::StartOk<'static> {
    connection::StartOk { mechanism: "EXTERNAL", ..connection::StartOk::default() }
}
