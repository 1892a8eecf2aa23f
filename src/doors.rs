//! What the configuration has the broker listen on, bound and described.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use leveret::config::Settings;
use leveret::config::settings::{CertificateLogin, ListenAddress, TcpOptions, TlsOptions};
use leveret::management::{self, Listener};
use leveret::server::{ByTls, Door, Entrance, LocalListener, TrustedProxies};
use leveret::tls::{ListenerTls, TlsError};
use tokio::net::{TcpListener, TcpSocket};

use crate::run::RunError;

/// "For ever", in milliseconds, to whoever counts them.
const NEVER_MS: u64 = u64::MAX / 2;

/// The TLS of those listeners that have it.
pub(crate) struct Tls {
    amqp: Option<Arc<ListenerTls>>,
    management: Option<Arc<ListenerTls>>,
    metrics: Option<Arc<ListenerTls>>,
}

impl Tls {
    /// Reads the certificates of every TLS listener there is to be.
    pub(crate) fn open(settings: &Settings) -> Result<Self, TlsError> {
        let open = |wanted: bool, prefix: &'static str, options: &TlsOptions, login| {
            let open = || ListenerTls::open(prefix, options.clone(), login).map(Arc::new);
            wanted.then(open).transpose()
        };
        let (management, metrics) = (&settings.management, &settings.prometheus);
        let none = CertificateLogin::default();
        let login = settings.auth.certificate_login;
        Ok(Self {
            amqp: open(!settings.listeners.ssl.is_empty(), "ssl_options", &settings.tls, login)?,
            management: open(
                management.tls_listener.is_some(),
                "management.ssl",
                &management.tls,
                none,
            )?,
            metrics: open(metrics.tls_listener.is_some(), "prometheus.ssl", &metrics.tls, none)?,
        })
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<ListenerTls>> {
        [&self.amqp, &self.management, &self.metrics].into_iter().flatten().cloned().collect()
    }

    /// Reads the certificates that these settings name. What cannot be used changes nothing.
    pub(crate) fn reload(&self, settings: &Settings, now_s: u64) {
        for (tls, options) in [
            (&self.amqp, &settings.tls),
            (&self.management, &settings.management.tls),
            (&self.metrics, &settings.prometheus.tls),
        ] {
            let Some(tls) = tls else { continue };
            leveret::server::note_reload(tls.prefix(), &tls.reload(options.clone(), now_s));
        }
    }
}

/// Everything that is listened on.
pub(crate) struct Doors {
    pub(crate) amqp: Vec<Door>,
    pub(crate) management: Vec<management::Door>,
    pub(crate) metrics: Vec<management::Door>,
    /// The same, as operators see it.
    pub(crate) listeners: Vec<Listener>,
}

impl Doors {
    /// Binds every listener.
    pub(crate) fn open(settings: &Settings, tls: &Tls) -> Result<Self, RunError> {
        let mut doors = Self {
            amqp: Vec::new(),
            management: Vec::new(),
            metrics: Vec::new(),
            listeners: Vec::new(),
        };
        let proxies = trusted_proxies(settings);
        let handshake_ms_max = settings.listeners.ssl_handshake_timeout_ms;
        let handshake_ms_max = handshake_ms_max.or(settings.limits.handshake_timeout_ms);
        for address in settings.listeners.tcp.values() {
            let listener = doors.listen("amqp", *address, &settings.tcp, None)?;
            let entrance = Entrance { tls: None, proxies: proxies.clone() };
            doors.amqp.push(Door::tcp(listener, entrance));
        }
        for address in settings.listeners.ssl.values() {
            let listener = doors.listen("amqp/ssl", *address, &settings.tcp, tls.amqp.as_ref())?;
            let by_tls = tls
                .amqp
                .clone()
                .map(|with| ByTls { with, handshake_ms_max: handshake_ms_max.unwrap_or(NEVER_MS) });
            doors
                .amqp
                .push(Door::tcp(listener, Entrance { tls: by_tls, proxies: proxies.clone() }));
        }
        for path in settings.listeners.unix.values() {
            let mode = settings.listeners.unix_mode;
            let bound = LocalListener::bind(path, mode, settings.tcp.backlog);
            let shown = path.display().to_string();
            let refused = |error| RunError::Listen { address: shown.clone(), error };
            doors.amqp.push(Door::local(bound.map_err(refused)?));
            tracing::info!("AMQP 0-9-1 on {shown}");
            doors.listeners.push(Listener { protocol: "amqp", ip: shown, port: 0, tls: None });
        }
        let (management, metrics) = (&settings.management, &settings.prometheus);
        for (protocol, address, tls) in [
            ("http", management.listener, None),
            ("https", management.tls_listener, tls.management.clone()),
        ] {
            let door = doors.http(protocol, address, tls)?;
            doors.management.extend(door);
        }
        for (protocol, address, tls) in [
            ("http/prometheus", metrics.listener, None),
            ("https/prometheus", metrics.tls_listener, tls.metrics.clone()),
        ] {
            let door = doors.http(protocol, address, tls)?;
            doors.metrics.extend(door);
        }
        Ok(doors)
    }

    fn http(
        &mut self,
        protocol: &'static str,
        address: Option<ListenAddress>,
        tls: Option<Arc<ListenerTls>>,
    ) -> Result<Option<management::Door>, RunError> {
        let Some(address) = address else { return Ok(None) };
        let listener = self.listen(protocol, address, &TcpOptions::default(), tls.as_ref())?;
        Ok(Some(management::Door { listener, tls }))
    }

    fn listen(
        &mut self,
        protocol: &'static str,
        address: ListenAddress,
        options: &TcpOptions,
        tls: Option<&Arc<ListenerTls>>,
    ) -> Result<TcpListener, RunError> {
        let listener = listen(address, options)?;
        let bound = listener.local_addr()?;
        let what = match protocol {
            "amqp" => "AMQP 0-9-1",
            "amqp/ssl" => "AMQP 0-9-1 by TLS",
            "http" => "management API",
            "https" => "management API by TLS",
            "https/prometheus" => "metrics by TLS",
            _ => "metrics",
        };
        tracing::info!("{what} on {bound}");
        let (ip, port) = (bound.ip().to_string(), bound.port());
        self.listeners.push(Listener { protocol, ip, port, tls: tls.cloned() });
        Ok(listener)
    }
}

/// Whatever of the configuration does not fit together, as far as listeners go.
pub(crate) fn check(settings: &Settings) -> Result<(), RunError> {
    let listeners = &settings.listeners;
    if listeners.proxy_protocol && listeners.trusted_proxies.is_empty() {
        let reason = "name the load balancers, such as \
                      leveret.proxy_protocol.trusted.1 = 10.0.0.5; others are not let in";
        return Err(RunError::Setting { key: "proxy_protocol".into(), reason: reason.into() });
    }
    Ok(())
}

/// The load balancers whose headers are believed, if clients come through any.
fn trusted_proxies(settings: &Settings) -> Option<Arc<TrustedProxies>> {
    let networks = settings.listeners.trusted_proxies.values().map(|it| (it.ip, it.bits));
    let trusted = || Arc::new(TrustedProxies(networks.collect()));
    settings.listeners.proxy_protocol.then(trusted)
}

/// Binds a listener. Accepted sockets inherit its options (`man 7 tcp`).
fn listen(address: ListenAddress, options: &TcpOptions) -> Result<TcpListener, RunError> {
    let shown = address.to_string();
    let on = |address: SocketAddr| {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.set_nodelay(options.nodelay)?;
        socket.set_keepalive(options.keepalive)?;
        if let Some(bytes) = options.sndbuf_bytes {
            socket.set_send_buffer_size(bytes)?;
        }
        if let Some(bytes) = options.recbuf_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind(address)?;
        socket.listen(options.backlog)
    };
    let bound = match address.ip {
        Some(ip) => on((ip, address.port).into()),
        // Every interface: IPv6 takes IPv4 along where the system has it.
        None => on((Ipv6Addr::UNSPECIFIED, address.port).into())
            .or_else(|_| on((Ipv4Addr::UNSPECIFIED, address.port).into())),
    };
    bound.map_err(|error| RunError::Listen { address: shown, error })
}
