//! A small broker's views, as data, for tests of what is made of them.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use crate::broker::Now;
use crate::broker::access::{Hashing, Identity, PasswordHash, User, UserLimits};
use crate::broker::alarms::Alarms;
use crate::broker::inspect::{
    Inspect, LimitsView, MessageSizes, NodeView, PermissionView, PolicyView, TopicPermissionView,
    UserView,
};
use crate::broker::logins::LoginFailures;
use crate::broker::operate::{Change, Operate, OperateError};
use crate::broker::policy::{AppliedPolicyView, Policy, PolicyKind, PolicySpec};
use crate::broker::trigger::tally::Counts;
use crate::broker::trigger::views::TriggerCounts;
use crate::broker::views::{
    Activity, BindingView, ChannelView, ConnectionView, ConsumerView, ExchangeView, NodeCounters,
    QueueCounters, QueueTally, QueueView,
};
use crate::protocol::table::Table;
use crate::store::{BackedUp, Durability, Lsn, QueueKey, StoreCounters, StoreError};

/// The views. Users' passwords are their names.
#[derive(Debug, Default)]
pub(crate) struct Sample {
    pub(crate) vhosts: Vec<String>,
    pub(crate) queues: Vec<QueueView>,
    pub(crate) exchanges: Vec<ExchangeView>,
    pub(crate) bindings: Vec<BindingView>,
    pub(crate) connections: Vec<ConnectionView>,
    pub(crate) users: Vec<UserView>,
    pub(crate) permissions: Vec<PermissionView>,
    pub(crate) counters: NodeCounters,
    pub(crate) alarms: Mutex<Alarms>,
    pub(crate) traced: Mutex<Vec<String>>,
    pub(crate) policies: Mutex<Vec<(PolicyKind, PolicyView)>>,
    pub(crate) closed: Mutex<Vec<(String, String)>>,
    pub(crate) login_failures: LoginFailures,
}

/// The queue `jobs` in `/`, with a consumer, and the empty queue `audit "x"` in `other`.
pub(crate) fn queues() -> Vec<QueueView> {
    let jobs = QueueView {
        key: QueueKey { shard: 0, queue: 1 },
        vhost: "/".to_owned(),
        name: "jobs".to_owned(),
        kind: "quorum",
        durable: true,
        auto_delete: false,
        owner: None,
        arguments: Table::new().with("x-queue-type", "quorum").with("x-max-length", 10_i32),
        policy: AppliedPolicyView {
            policy: Some("short".to_owned()),
            operator_policy: None,
            definition: Table::new().with("max-length", 5_i32),
        },
        delivery_limit: Some(20),
        durability: Some(Durability::Os),
        messages_ready: 5,
        messages_unacked: 2,
        messages_persistent: 7,
        messages_paged_out: 4,
        bytes_ready: 50,
        bytes_unacked: 20,
        bytes_persistent: 70,
        bytes_paged_out: 40,
        head_timestamp_s: Some(1_795_000_000),
        consumers: vec![ConsumerView {
            tag: "worker".to_owned(),
            activity: Activity::Up,
            connection: CONNECTION.to_owned(),
            channel: 1,
            ack_required: true,
            exclusive: false,
            prefetch_count: 10,
            priority: 0,
            arguments: Table::new(),
        }],
        counters: QueueCounters {
            published: 9,
            delivered_manual_ack: 4,
            acknowledged: 2,
            ..QueueCounters::default()
        },
    };
    let audit = jobs.clone();
    let audit = QueueView {
        key: QueueKey { shard: 0, queue: 2 },
        vhost: "other".to_owned(),
        name: "audit \"x\"".to_owned(),
        kind: "classic",
        owner: Some(CONNECTION.to_owned()),
        durable: false,
        arguments: Table::new(),
        policy: AppliedPolicyView::default(),
        delivery_limit: None,
        durability: None,
        messages_ready: 0,
        messages_unacked: 0,
        messages_persistent: 0,
        messages_paged_out: 0,
        bytes_ready: 0,
        bytes_unacked: 0,
        bytes_persistent: 0,
        bytes_paged_out: 0,
        head_timestamp_s: None,
        consumers: Vec::new(),
        counters: QueueCounters::default(),
        ..audit
    };
    vec![audit, jobs]
}

/// The name of the one connection.
pub(crate) const CONNECTION: &str = "127.0.0.1:50000 -> 127.0.0.1:5672";

fn connection() -> ConnectionView {
    ConnectionView {
        name: CONNECTION.to_owned(),
        user_provided_name: Some("worker-1".to_owned()),
        user: "app".to_owned(),
        vhost: "/".to_owned(),
        peer: ("127.0.0.1".to_owned(), 50_000),
        host: ("127.0.0.1".to_owned(), 5672),
        tls: None,
        auth_mechanism: "PLAIN".to_owned(),
        channel_max: 2047,
        frame_max: 131_072,
        heartbeat_s: 60,
        connected_at_ms: 1_700_000_001_000,
        client_properties: Table::new().with("product", "pika"),
        blocked: false,
        received_bytes: 1000,
        sent_bytes: 2000,
        channels: vec![ChannelView {
            number: 1,
            consumers: 1,
            unacked: 2,
            unconfirmed: 3,
            uncommitted: 0,
            global_prefetch: 0,
            prefetch: 10,
            confirm: true,
            transactional: false,
        }],
    }
}

fn user(name: &str, tags: &[&str]) -> UserView {
    UserView {
        name: name.to_owned(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        password_hash: "hash".to_owned(),
        hashing_algorithm: "rabbit_password_hashing_sha256",
        limits: LimitsView::new(),
    }
}

/// The policy `short` of `/`.
fn policy() -> PolicyView {
    let spec = PolicySpec {
        name: "short".to_owned(),
        pattern: "^jobs".to_owned(),
        priority: 0,
        apply_to: "queues".to_owned(),
        definition: Table::new().with("max-length", 5_i32),
    };
    PolicyView { vhost: "/".to_owned(), spec }
}

fn exchange(vhost: &str, name: &str, kind: &str) -> ExchangeView {
    ExchangeView {
        vhost: vhost.to_owned(),
        name: name.to_owned(),
        kind: kind.to_owned(),
        durable: true,
        auto_delete: false,
        internal: false,
        arguments: Table::new(),
        policy: AppliedPolicyView::default(),
        messages_delayed: None,
    }
}

fn binding(vhost: &str, source: &str, queue: &str, key: &str) -> BindingView {
    BindingView {
        vhost: vhost.to_owned(),
        source: source.to_owned(),
        destination: queue.to_owned(),
        destination_kind: "queue",
        routing_key: key.to_owned(),
        arguments: Table::new(),
    }
}

impl Sample {
    /// Two vhosts, two queues, one connection and one user of each kind.
    pub(crate) fn new() -> Self {
        let permission = |user: &str, vhost: &str| PermissionView {
            user: user.to_owned(),
            vhost: vhost.to_owned(),
            configure: ".*".to_owned(),
            write: ".*".to_owned(),
            read: "^jobs$".to_owned(),
        };
        Self {
            traced: Mutex::default(),
            policies: Mutex::new(
                [PolicyKind::User, PolicyKind::Operator].map(|kind| (kind, policy())).into(),
            ),
            vhosts: vec!["/".to_owned(), "other".to_owned()],
            queues: queues(),
            exchanges: vec![
                exchange("/", "", "direct"),
                exchange("/", "amq.topic", "topic"),
                exchange("other", "", "direct"),
            ],
            bindings: vec![
                binding("/", "", "jobs", "jobs"),
                binding("/", "amq.topic", "jobs", "a.#/~ b"),
                binding("other", "", "audit \"x\"", "audit \"x\""),
            ],
            connections: vec![connection()],
            users: vec![
                user("root", &["administrator"]),
                user("watch", &["monitoring"]),
                user("team", &["management"]),
                user("maker", &["policymaker"]),
                user("app", &[]),
            ],
            permissions: vec![
                permission("root", "/"),
                permission("team", "/"),
                permission("maker", "/"),
                permission("app", "/"),
            ],
            counters: NodeCounters {
                received: AtomicU64::new(9),
                delivered_manual_ack: AtomicU64::new(4),
                get_auto_ack: AtomicU64::new(3),
                auth_failed: AtomicU64::new(1),
                ..NodeCounters::default()
            },
            closed: Mutex::default(),
            login_failures: LoginFailures::new(20),
            alarms: Mutex::default(),
        }
    }
}

fn of<T: Clone>(all: &[T], vhost: Option<&str>, its: impl Fn(&T) -> &str) -> Vec<T> {
    all.iter().filter(|one| vhost.is_none_or(|vhost| its(one) == vhost)).cloned().collect()
}

impl Operate for Sample {
    fn policies(&self, kind: PolicyKind, vhost: Option<&str>) -> Vec<PolicyView> {
        let policies = self.policies.lock().expect("not poisoned");
        let mut views: Vec<PolicyView> =
            policies.iter().filter(|(of, _)| *of == kind).map(|(_, view)| view.clone()).collect();
        views.retain(|view| vhost.is_none_or(|vhost| view.vhost == vhost));
        views
    }

    fn set_policy(
        &self,
        kind: PolicyKind,
        vhost: &str,
        policy: PolicySpec,
        maker: &Identity,
        now: Now,
    ) -> Result<Change, OperateError> {
        let spec = Policy::new(kind, policy)?.spec().clone();
        let replaced = self.clear_policy(kind, vhost, &spec.name, &maker.user.name, now)?;
        let view = PolicyView { vhost: vhost.to_owned(), spec };
        self.policies.lock().expect("not poisoned").push((kind, view));
        Ok(if replaced { Change::Replaced } else { Change::Created })
    }

    fn clear_policy(
        &self,
        kind: PolicyKind,
        vhost: &str,
        name: &str,
        _: &str,
        _: Now,
    ) -> Result<bool, OperateError> {
        let mut policies = self.policies.lock().expect("not poisoned");
        let before = policies.len();
        policies.retain(|(of, policy)| {
            *of != kind || policy.vhost != vhost || policy.spec.name != name
        });
        Ok(policies.len() < before)
    }

    fn create_vhost(&self, name: &str, _: &str, _: Now) -> Result<bool, OperateError> {
        Ok(!self.vhosts.iter().any(|known| known == name))
    }

    fn delete_vhost(&self, name: &str, _: &str, _: Now) -> Result<bool, OperateError> {
        Ok(self.vhosts.iter().any(|known| known == name))
    }

    fn set_tracing(&self, vhost: &str, on: bool) -> Result<(), OperateError> {
        let mut traced = self.traced.lock().expect("not poisoned");
        traced.retain(|other| other != vhost);
        traced.extend(on.then(|| vhost.to_owned()));
        Ok(())
    }

    fn back_up(&self, name: &str) -> Result<(String, BackedUp), OperateError> {
        let path = format!("backups/{name}");
        if name == "taken" {
            return Err(StoreError::Exists { path }.into());
        }
        Ok((path, BackedUp { batch: Lsn(7), files: 5, bytes: 1_000 }))
    }

    fn backups(&self) -> Vec<String> {
        vec!["taken".to_owned()]
    }

    fn note(&self, _: &'static str, _: Option<&str>, _: Table, _: Now) {}
}

impl Inspect for Sample {
    fn trigger_counts(&self) -> Vec<TriggerCounts> {
        let counts = Counts { fired: 3, last_fired_ms: 1_700_000_000_500, ..Counts::default() };
        vec![TriggerCounts { vhost: "/".into(), name: "mail".into(), counts }]
    }

    fn node(&self) -> NodeView {
        NodeView {
            name: "rabbit@here".to_owned(),
            cluster_name: "sample".to_owned(),
            cluster_id: "rabbitmq-cluster-id-1".to_owned(),
            product_name: "Leveret".to_owned(),
            product_version: "0.1.0".to_owned(),
            compat_version: "4.2.4".to_owned(),
            started_at_ms: 1_700_000_000_000,
            default_queue_type: "classic",
        }
    }

    fn vhosts(&self) -> Vec<String> {
        self.vhosts.clone()
    }

    fn is_traced(&self, vhost: &str) -> bool {
        self.traced.lock().expect("not poisoned").iter().any(|traced| traced == vhost)
    }

    fn each_tally(&self, visit: &mut dyn FnMut(&QueueTally)) {
        for queue in &self.queues {
            visit(&QueueTally {
                key: queue.key,
                counters: queue.counters,
                messages_ready: queue.messages_ready,
                messages_unacked: queue.messages_unacked,
            });
        }
    }

    fn queues(&self, vhost: Option<&str>) -> Vec<QueueView> {
        of(&self.queues, vhost, |queue| &queue.vhost)
    }

    fn queue(&self, vhost: &str, name: &str) -> Option<QueueView> {
        self.queues.iter().find(|queue| queue.vhost == vhost && queue.name == name).cloned()
    }

    fn exchanges(&self, vhost: Option<&str>) -> Vec<ExchangeView> {
        of(&self.exchanges, vhost, |exchange| &exchange.vhost)
    }

    fn bindings(&self, vhost: Option<&str>) -> Vec<BindingView> {
        of(&self.bindings, vhost, |binding| &binding.vhost)
    }

    fn connections(&self) -> Vec<ConnectionView> {
        self.connections.clone()
    }

    fn close_connection(&self, name: &str, reason: &str) -> bool {
        let known = self.connections.iter().any(|connection| connection.name == name);
        self.closed.lock().expect("not poisoned").push((name.to_owned(), reason.to_owned()));
        known
    }

    fn counters(&self) -> &NodeCounters {
        &self.counters
    }

    fn alarms(&self) -> Alarms {
        *self.alarms.lock().expect("not poisoned")
    }

    fn store_counters(&self) -> StoreCounters {
        StoreCounters { syncs: 3, bytes_written: 400, ..StoreCounters::default() }
    }

    fn store_failure(&self) -> Option<String> {
        None
    }

    fn users(&self) -> Vec<UserView> {
        self.users.clone()
    }

    fn permissions(&self) -> Vec<PermissionView> {
        self.permissions.clone()
    }

    fn topic_permissions(&self) -> Vec<TopicPermissionView> {
        let text = str::to_owned;
        vec![TopicPermissionView {
            user: text("root"),
            vhost: text("/"),
            exchange: text("amq.topic"),
            write: text(".*"),
            read: text(".*"),
        }]
    }

    fn vhost_limits(&self, _: &str) -> LimitsView {
        LimitsView::new()
    }

    fn authenticate(&self, user: &str, password: &[u8], _: bool) -> Option<Identity> {
        let found = self.users.iter().find(|known| known.name == user)?;
        let user = User {
            name: found.name.clone(),
            password: PasswordHash::none(Hashing::default()),
            tags: found.tags.clone(),
            limits: UserLimits::default(),
        };
        let identity = Identity { user: Arc::new(user), authority: None };
        (password == found.name.as_bytes()).then_some(identity)
    }

    fn may_enter(&self, who: &Identity, vhost: &str, _: &str) -> bool {
        let user = &who.user.name;
        self.permissions.iter().any(|entry| entry.user == *user && entry.vhost == vhost)
    }

    fn login_failures(&self) -> &LoginFailures {
        &self.login_failures
    }

    fn publishers(&self) -> Option<u64> {
        Some(1)
    }

    fn message_sizes(&self) -> Option<MessageSizes> {
        let mut sizes = MessageSizes { sum_bytes: 2_050, ..MessageSizes::default() };
        sizes.counts[0] = 1;
        sizes.counts[2] = 2;
        Some(sizes)
    }
}
