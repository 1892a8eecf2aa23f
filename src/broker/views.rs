//! What the broker shows of itself: plain snapshots that the management API and the metrics page
//! read. Taken when asked for, never kept up to date in between; no lock outlives the call that
//! makes one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::limits::LimitHits;
use super::policy::AppliedPolicyView;
use crate::protocol::table::Table;
use crate::store::{Durability, QueueKey};

/// Node-wide counters since start. Connections add to them once per turn.
#[derive(Debug, Default)]
pub struct NodeCounters {
    /// Connections accepted and opened.
    pub connections_opened: AtomicU64,
    /// Connections ended.
    pub connections_closed: AtomicU64,
    /// Channels opened.
    pub channels_opened: AtomicU64,
    /// Channels ended.
    pub channels_closed: AtomicU64,
    /// Queue declarations answered, new or not.
    pub queues_declared: AtomicU64,
    /// Queues created.
    pub queues_created: AtomicU64,
    /// Queues deleted.
    pub queues_deleted: AtomicU64,
    /// Messages received from publishers.
    pub received: AtomicU64,
    /// Of those, on channels in confirm mode.
    pub received_confirm: AtomicU64,
    /// Messages that reached at least one queue.
    pub routed: AtomicU64,
    /// Publisher confirms sent.
    pub confirmed: AtomicU64,
    /// Unroutable messages dropped.
    pub unroutable_dropped: AtomicU64,
    /// Unroutable messages returned.
    pub unroutable_returned: AtomicU64,
    /// Deliveries to consumers that acknowledge.
    pub delivered_manual_ack: AtomicU64,
    /// Deliveries to consumers that do not.
    pub delivered_auto_ack: AtomicU64,
    /// Answers to basic.get that must be acknowledged.
    pub get_manual_ack: AtomicU64,
    /// Answers to basic.get without acknowledgement.
    pub get_auto_ack: AtomicU64,
    /// basic.get on an empty queue.
    pub get_empty: AtomicU64,
    /// Deliveries flagged as redelivered.
    pub redelivered: AtomicU64,
    /// Messages acknowledged.
    pub acknowledged: AtomicU64,
    /// Channels open now that have published.
    pub publishers: AtomicU64,
    /// Messages received, by size (see `inspect::MessageSizes`).
    pub message_sizes: [AtomicU64; 9],
    /// Body bytes received.
    pub message_bytes: AtomicU64,
    /// Logins that succeeded.
    pub auth_succeeded: AtomicU64,
    /// Logins that failed.
    pub auth_failed: AtomicU64,
    /// Requests over HTTP whose login succeeded.
    pub http_auth_succeeded: AtomicU64,
    /// Requests over HTTP whose login failed.
    pub http_auth_failed: AtomicU64,
    /// Connections open now that have not logged in.
    pub half_open: AtomicU64,
    /// Lines that the audit log had to leave out.
    pub audit_lines_lost: Arc<AtomicU64>,
    /// How often each limit was hit.
    pub limits: LimitHits,
}

impl NodeCounters {
    /// Adds to a counter; `n` is usually a turn's worth.
    pub fn add(counter: &AtomicU64, n: u64) {
        if n > 0 {
            counter.fetch_add(n, Ordering::Relaxed);
        }
    }
}

/// Message counters of one queue since it was created or recovered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueCounters {
    /// Messages that entered.
    pub published: u64,
    /// Deliveries to consumers that acknowledge.
    pub delivered_manual_ack: u64,
    /// Deliveries to consumers that do not.
    pub delivered_auto_ack: u64,
    /// basic.get answers that must be acknowledged.
    pub get_manual_ack: u64,
    /// basic.get answers without acknowledgement.
    pub get_auto_ack: u64,
    /// basic.get on the empty queue.
    pub get_empty: u64,
    /// Deliveries flagged as redelivered.
    pub redelivered: u64,
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Messages dropped because they had come before.
    pub deduplicated: u64,
}

/// Whether a consumer has a part in its queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// It takes messages like the others.
    Up,
    /// It is the single active consumer.
    SingleActive,
    /// It waits for the single active consumer to go.
    Waiting,
}

/// A consumer as operators see it.
#[derive(Debug, Clone, PartialEq)]
pub struct ConsumerView {
    /// Its tag.
    pub tag: String,
    /// Whether it gets anything.
    pub activity: Activity,
    /// Its connection's name, "peer:port -> host:port".
    pub connection: String,
    /// Its channel's number.
    pub channel: u16,
    /// Whether the client acknowledges.
    pub ack_required: bool,
    /// Whether it has the queue to itself.
    pub exclusive: bool,
    /// Its prefetch limit; 0 is none.
    pub prefetch_count: u16,
    /// Its priority.
    pub priority: i32,
    /// The arguments it was started with.
    pub arguments: Table,
}

/// What is counted of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueTally {
    /// Which queue.
    pub key: QueueKey,
    /// Its counters.
    pub counters: QueueCounters,
    /// Messages waiting.
    pub messages_ready: u64,
    /// Messages delivered and not acknowledged.
    pub messages_unacked: u64,
}

impl QueueTally {
    /// Of a queue that nobody has used.
    #[must_use]
    pub fn nothing(key: QueueKey) -> Self {
        let counters = QueueCounters::default();
        Self { key, counters, messages_ready: 0, messages_unacked: 0 }
    }
}

/// A queue as operators see it.
#[derive(Debug, Clone, PartialEq)]
pub struct QueueView {
    /// Which it is: never another's, not even that of a later queue of its name.
    pub key: QueueKey,
    /// Its vhost.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// "classic" or "quorum".
    pub kind: &'static str,
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last consumer.
    pub auto_delete: bool,
    /// The connection that owns it, if exclusive.
    pub owner: Option<String>,
    /// The arguments it was declared with.
    pub arguments: Table,
    /// The policies it obeys.
    pub policy: AppliedPolicyView,
    /// How often a message may come back, where that is limited.
    pub delivery_limit: Option<u32>,
    /// How safe a message is once its publisher is told; `None` for a queue that is not durable.
    pub durability: Option<Durability>,
    /// Messages waiting.
    pub messages_ready: u64,
    /// Messages delivered and not acknowledged.
    pub messages_unacked: u64,
    /// Messages that a restart would keep.
    pub messages_persistent: u64,
    /// Of the waiting ones, those that only the store has.
    pub messages_paged_out: u64,
    /// Body bytes waiting.
    pub bytes_ready: u64,
    /// Body bytes delivered and not acknowledged.
    pub bytes_unacked: u64,
    /// Body bytes that a restart would keep.
    pub bytes_persistent: u64,
    /// Body bytes that only the store has.
    pub bytes_paged_out: u64,
    /// When the first waiting message was sent, in seconds of Unix time, if its publisher said and
    /// it is in memory.
    pub head_timestamp_s: Option<u64>,
    /// Its consumers.
    pub consumers: Vec<ConsumerView>,
    /// Its counters.
    pub counters: QueueCounters,
}

impl QueueView {
    /// Messages in memory: all but those that only the store has.
    #[must_use]
    pub fn messages_in_memory(&self) -> u64 {
        let all = self.messages_ready.saturating_add(self.messages_unacked);
        all.saturating_sub(self.messages_paged_out)
    }

    /// Their body bytes.
    #[must_use]
    pub fn bytes_in_memory(&self) -> u64 {
        let all = self.bytes_ready.saturating_add(self.bytes_unacked);
        all.saturating_sub(self.bytes_paged_out)
    }
}

/// An exchange as operators see it.
#[derive(Debug, Clone, PartialEq)]
pub struct ExchangeView {
    /// Its vhost.
    pub vhost: String,
    /// Its name; empty for the default exchange.
    pub name: String,
    /// Its type, such as "topic".
    pub kind: String,
    /// Survives a restart.
    pub durable: bool,
    /// Goes with its last binding.
    pub auto_delete: bool,
    /// Cannot be published to.
    pub internal: bool,
    /// The arguments it was declared with.
    pub arguments: Table,
    /// The policies it obeys.
    pub policy: AppliedPolicyView,
    /// Messages that wait for their time, of a delayed exchange.
    pub messages_delayed: Option<u64>,
}

/// A binding as operators see it.
#[derive(Debug, Clone, PartialEq)]
pub struct BindingView {
    /// Its vhost.
    pub vhost: String,
    /// The exchange it starts from.
    pub source: String,
    /// The queue or exchange it leads to.
    pub destination: String,
    /// "queue" or "exchange".
    pub destination_kind: &'static str,
    /// The binding key.
    pub routing_key: String,
    /// The arguments.
    pub arguments: Table,
}

/// A channel as operators see it.
#[derive(Debug, Clone, PartialEq)]
pub struct ChannelView {
    /// Its number.
    pub number: u16,
    /// Consumers on it.
    pub consumers: u64,
    /// Deliveries not acknowledged.
    pub unacked: u64,
    /// Publishes not confirmed.
    pub unconfirmed: u64,
    /// Publishes and acknowledgements waiting for tx.commit.
    pub uncommitted: u64,
    /// The channel-wide prefetch limit; 0 is none.
    pub global_prefetch: u16,
    /// The prefetch limit for the next consumer; 0 is none.
    pub prefetch: u16,
    /// In confirm mode.
    pub confirm: bool,
    /// In transaction mode.
    pub transactional: bool,
}

/// A connection as operators see it.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionView {
    /// "peer:port -> host:port".
    pub name: String,
    /// What the client calls itself (`connection_name`).
    pub user_provided_name: Option<String>,
    /// The user.
    pub user: String,
    /// The vhost.
    pub vhost: String,
    /// The peer's address and port.
    pub peer: (String, u16),
    /// Our address and port.
    pub host: (String, u16),
    /// How it is secured, if it comes by TLS.
    pub tls: Option<Arc<TlsView>>,
    /// The login mechanism used.
    pub auth_mechanism: String,
    /// Negotiated limits.
    pub channel_max: u16,
    /// Negotiated frame size in bytes.
    pub frame_max: u32,
    /// Negotiated heartbeat in seconds.
    pub heartbeat_s: u16,
    /// Since when, in milliseconds of Unix time.
    pub connected_at_ms: u64,
    /// What the client said of itself.
    pub client_properties: Table,
    /// Whether it is not read until every alarm is over, since it published during one.
    pub blocked: bool,
    /// Bytes read from the socket.
    pub received_bytes: u64,
    /// Bytes written to the socket.
    pub sent_bytes: u64,
    /// Its channels.
    pub channels: Vec<ChannelView>,
}

/// What a TLS handshake has agreed on, in the words of RabbitMQ's API.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsView {
    /// "tlsv1.2" or "tlsv1.3".
    pub protocol: &'static str,
    /// How the keys were exchanged, such as "ecdhe_rsa"; "any" in TLS 1.3.
    pub key_exchange: &'static str,
    /// What encrypts, such as "aes_256_gcm".
    pub cipher: &'static str,
    /// What authenticates.
    pub hash: &'static str,
    /// The client's certificate, if it was asked for one and has shown one that is good.
    pub certificate: Option<CertificateView>,
}

/// A client's certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CertificateView {
    /// Whose it is, such as "CN=app,O=Example".
    pub subject: String,
    /// Who has signed it.
    pub issuer: String,
    /// Its number, in decimal.
    pub serial_number: String,
    /// From when to when it holds.
    pub validity: String,
    /// The user whom it logs in by EXTERNAL; none when it does not say.
    pub login: Option<String>,
}
