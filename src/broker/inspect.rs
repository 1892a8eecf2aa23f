//! What the management API and the metrics page may ask of the broker.
//!
//! Every answer is a snapshot taken by the call, in no particular order; the caller sorts. No call
//! waits for a client or the disk, and no lock outlives a call. Access rights are the caller's
//! business, except [`Inspect::authenticate`] and [`Inspect::may_enter`].

use std::collections::BTreeMap;

use super::access::Identity;
use super::alarms::Alarms;
use super::logins::LoginFailures;
use super::policy::PolicySpec;
use super::trigger::views::TriggerCounts;
use super::views::{
    BindingView, ConnectionView, ExchangeView, NodeCounters, QueueTally, QueueView,
};
use crate::store::StoreCounters;

/// A user as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserView {
    /// Its name.
    pub name: String,
    /// What it may do besides messaging: `administrator`, `monitoring`, `policymaker`,
    /// `management`; others mean nothing here.
    pub tags: Vec<String>,
    /// The stored hash, as definitions files hold it (base64 of salt and hash).
    pub password_hash: String,
    /// How it was made, such as `rabbit_password_hashing_sha256`.
    pub hashing_algorithm: &'static str,
    /// What it may have open at once.
    pub limits: LimitsView,
}

/// Limits that are set, by RabbitMQ's names.
pub type LimitsView = BTreeMap<&'static str, i64>;

/// Which routing keys a user may use with a topic exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPermissionView {
    /// The user.
    pub user: String,
    /// The vhost.
    pub vhost: String,
    /// The exchange, which need not be there.
    pub exchange: String,
    /// Pattern of the routing keys it may publish with.
    pub write: String,
    /// Pattern of the binding keys it may bind with.
    pub read: String,
}

/// What a user may do in a vhost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PermissionView {
    /// The user.
    pub user: String,
    /// The vhost.
    pub vhost: String,
    /// Pattern of the names it may declare and delete.
    pub configure: String,
    /// Pattern of the names it may write to.
    pub write: String,
    /// Pattern of the names it may read from.
    pub read: String,
}

/// A policy of a vhost.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyView {
    /// The vhost.
    pub vhost: String,
    /// The policy.
    pub spec: PolicySpec,
}

/// What the node says of itself. Set once, at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// `rabbit@host`.
    pub name: String,
    /// The cluster's name; the node's if it has none of its own.
    pub cluster_name: String,
    /// Names this data directory for good, however it is called.
    pub cluster_id: String,
    /// The product, for people.
    pub product_name: String,
    /// Its version.
    pub product_version: String,
    /// The RabbitMQ version whose behaviour clients may expect.
    pub compat_version: String,
    /// When it started, in milliseconds of Unix time.
    pub started_at_ms: u64,
    /// The type of queues declared without one: "classic" or "quorum".
    pub default_queue_type: &'static str,
}

/// How large published messages were, since start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MessageSizes {
    /// Messages up to each of [`MessageSizes::BOUNDS_BYTES`] and above the bound before it; the
    /// last entry counts those above every bound.
    pub counts: [u64; 9],
    /// Body bytes altogether.
    pub sum_bytes: u64,
}

impl MessageSizes {
    /// RabbitMQ's bounds.
    pub const BOUNDS_BYTES: [u64; 8] =
        [100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 50_000_000, 100_000_000];
}

/// The broker as operators see it.
pub trait Inspect: Send + Sync {
    /// What the node says of itself.
    fn node(&self) -> NodeView;

    /// The vhosts' names.
    fn vhosts(&self) -> Vec<String>;

    /// Whether what is published and delivered in a vhost is traced.
    fn is_traced(&self, vhost: &str) -> bool;

    /// Shows what is counted of each queue, without a copy of them all.
    fn each_tally(&self, visit: &mut dyn FnMut(&QueueTally));

    /// The queues of one vhost, or of all.
    fn queues(&self, vhost: Option<&str>) -> Vec<QueueView>;

    /// A queue.
    fn queue(&self, vhost: &str, name: &str) -> Option<QueueView>;

    /// The exchanges of one vhost, or of all; each vhost's default exchange is among them.
    fn exchanges(&self, vhost: Option<&str>) -> Vec<ExchangeView>;

    /// An exchange; the default one's name is empty.
    fn exchange(&self, vhost: &str, name: &str) -> Option<ExchangeView> {
        self.exchanges(Some(vhost)).into_iter().find(|exchange| exchange.name == name)
    }

    /// The bindings of one vhost, or of all; each queue's implicit binding to the default exchange
    /// is among them.
    fn bindings(&self, vhost: Option<&str>) -> Vec<BindingView>;

    /// The client connections that have opened a vhost, with their channels.
    fn connections(&self) -> Vec<ConnectionView>;

    /// Closes a client's connection with `CONNECTION_FORCED - reason`. False when there is none of
    /// that name; true does not mean that it is gone already.
    fn close_connection(&self, name: &str, reason: &str) -> bool;

    /// The counters since start.
    fn counters(&self) -> &NodeCounters;

    /// What the node runs short of.
    fn alarms(&self) -> Alarms;

    /// What the store has done since start.
    fn store_counters(&self) -> StoreCounters;

    /// Why the store stopped, once it has.
    fn store_failure(&self) -> Option<String>;

    /// The users.
    fn users(&self) -> Vec<UserView>;

    /// Every user's permissions.
    fn permissions(&self) -> Vec<PermissionView>;

    /// Every user's topic permissions.
    fn topic_permissions(&self) -> Vec<TopicPermissionView>;

    /// What a vhost may hold at most.
    fn vhost_limits(&self, vhost: &str) -> LimitsView;

    /// The one who shows this password, or token, if they may log in from where they are. Slow by
    /// intent (it hashes), and the same for an unknown user as for a wrong password; and it may ask
    /// another machine.
    fn authenticate(&self, user: &str, password: &[u8], peer_is_loopback: bool)
    -> Option<Identity>;

    /// Whether a user may enter a vhost, coming from this address. May ask another machine.
    fn may_enter(&self, who: &Identity, vhost: &str, peer: &str) -> bool;

    /// Where logins have failed lately.
    fn login_failures(&self) -> &LoginFailures;

    /// What each trigger has done.
    fn trigger_counts(&self) -> Vec<TriggerCounts> {
        Vec::new()
    }

    /// Channels that have published; `None` when nobody counts them.
    fn publishers(&self) -> Option<u64> {
        None
    }

    /// How large published messages were; `None` when nobody counts them.
    fn message_sizes(&self) -> Option<MessageSizes> {
        None
    }
}
