//! Connection and channel state machines, without IO.
//!
//! The edge feeds bytes and moments in and takes bytes out; in between, a [`Connection`] follows
//! the protocol, calls the broker and turns refusals into closes. It never waits: what must wait
//! for the disk is remembered, and the edge is woken through the connection's waker.
//!
//! The edge's loop, per turn: [`handle_input`](Connection::handle_input) with what was read,
//! [`handle_events`](Connection::handle_events) when woken,
//! [`handle_timeout`](Connection::handle_timeout) when due; then write
//! [`output`](Connection::output), read on only while [`wants_input`](Connection::wants_input),
//! sleep no longer than [`next_timeout_ms`](Connection::next_timeout_ms), and drop the socket once
//! [`is_finished`](Connection::is_finished).

mod channel;
mod connection;
mod core;
mod handshake;
mod held;
mod ledger;
pub mod output;
mod refused;
mod routes;
mod sasl;
mod throttle;
mod unacked;

use std::sync::Arc;

use crate::broker::logins::Source;
use crate::broker::views::{CertificateView, TlsView};
pub use connection::Connection;
pub use sasl::Mechanism;

/// Limits and defaults of every connection, from the configuration.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// Offered in tune: channels open at once; 0 is no limit.
    pub channel_max: u16,
    /// Offered in tune: bytes of a frame.
    pub frame_max: u32,
    /// The smallest `frame_max` taken in tune-ok.
    pub frame_min: u32,
    /// The limit for frames before tune-ok.
    pub frame_max_initial: u32,
    /// Offered in tune: seconds between heartbeats.
    pub heartbeat_s: u16,
    /// The largest body taken, in bytes.
    pub message_bytes_max: u64,
    /// From accept to open-ok at most.
    pub handshake_ms_max: u64,
    /// How long a refused login waits for its answer.
    pub login_refused_ms: u64,
    /// How long a login waits before it is looked at when others from there have failed too often.
    pub login_rests_ms: u64,
    /// Consumers on one channel; 0 is no limit.
    pub consumers_per_channel_max: usize,
    /// How long a delivery may stay unacknowledged before its channel is closed.
    pub ack_ms_max: u64,
    /// Bytes waiting for the disk above which publishers rest.
    pub store_backlog_bytes_max: u64,
    /// The login mechanisms offered, in order.
    pub mechanisms: Vec<Mechanism>,
    /// Whom ANONYMOUS logs in as.
    pub anonymous_user: Option<String>,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self {
            channel_max: 2047,
            frame_max: 131_072,
            frame_min: 4096,
            frame_max_initial: 8192,
            heartbeat_s: 60,
            message_bytes_max: 16 * 1024 * 1024,
            handshake_ms_max: 10_000,
            login_refused_ms: 1_000,
            login_rests_ms: 5_000,
            consumers_per_channel_max: 0,
            ack_ms_max: 1_800_000,
            store_backlog_bytes_max: 64 * 1024 * 1024,
            mechanisms: vec![Mechanism::Plain, Mechanism::AmqPlain],
            anonymous_user: None,
        }
    }
}

/// Where a connection comes from and where it arrived.
#[derive(Debug, Clone)]
pub struct PeerAddress {
    /// The client's address and port.
    pub peer: (String, u16),
    /// Our address and port.
    pub host: (String, u16),
    /// Whether the client is on this machine.
    pub is_loopback: bool,
    /// The client's address, as far as limits are concerned.
    pub source: Source,
    /// How the connection is secured, if it comes by TLS.
    pub tls: Option<Arc<TlsView>>,
}

impl PeerAddress {
    /// "peer:port -> host:port", as RabbitMQ names connections.
    #[must_use]
    pub fn connection_name(&self) -> String {
        format!("{}:{} -> {}:{}", self.peer.0, self.peer.1, self.host.0, self.host.1)
    }

    /// The certificate that the client has shown and that was found good.
    #[must_use]
    pub fn certificate(&self) -> Option<&CertificateView> {
        self.tls.as_ref()?.certificate.as_ref()
    }
}
