//! The broker as operators see it: [`Inspect`] on top of the registries.

use std::sync::Arc;
use std::sync::PoisonError;

use super::Broker;
use super::access::{Candidate, Identity, NamedLimits as _, Permission, TopicPermission, User};
use super::alarms::Alarms;
use super::inspect::{
    Inspect, LimitsView, MessageSizes, NodeView, PermissionView, TopicPermissionView, UserView,
};
use super::logins::LoginFailures;
use super::trigger::Trigger;
use super::trigger::views::TriggerCounts;
use super::vhost::Vhost;
use super::views::{
    BindingView, ConnectionView, ExchangeView, NodeCounters, QueueTally, QueueView,
};
use crate::protocol::refusal;
use crate::store::StoreCounters;

impl Broker {
    pub(super) fn vhosts_for(&self, vhost: Option<&str>) -> Vec<Arc<Vhost>> {
        match vhost {
            Some(name) => self.vhost(name).into_iter().collect(),
            None => self.vhosts.iter().map(|entry| Arc::clone(entry.value())).collect(),
        }
    }
}

fn user_view(user: &User) -> UserView {
    UserView {
        name: user.name.clone(),
        tags: user.tags.clone(),
        password_hash: user.password.to_base64(),
        hashing_algorithm: user.password.hashing().name(),
        limits: user.limits.set(),
    }
}

impl Inspect for Broker {
    fn node(&self) -> NodeView {
        let settings = self.settings();
        NodeView {
            name: settings.node_name.clone(),
            cluster_name: settings.cluster_name.clone(),
            cluster_id: format!("leveret-cluster-id-{}", settings.node_name),
            product_name: settings.product_name.clone(),
            product_version: settings.product_version.clone(),
            compat_version: settings.version.clone(),
            started_at_ms: self.started.unix_ms,
            default_queue_type: settings.default_queue_kind.name(),
        }
    }

    fn vhosts(&self) -> Vec<String> {
        self.vhosts.iter().map(|entry| entry.key().to_string()).collect()
    }

    fn is_traced(&self, vhost: &str) -> bool {
        self.vhost(vhost).is_some_and(|vhost| vhost.is_traced())
    }

    fn each_tally(&self, visit: &mut dyn FnMut(&QueueTally)) {
        for queue in self.queues_in_order() {
            visit(&queue.tally());
        }
    }

    fn queues(&self, vhost: Option<&str>) -> Vec<QueueView> {
        self.vhosts_for(vhost).iter().flat_map(|vhost| vhost.queue_views()).collect()
    }

    fn queue(&self, vhost: &str, name: &str) -> Option<QueueView> {
        let queue = self.vhost(vhost)?.queue(name.as_bytes())?;
        Some(queue.view())
    }

    fn exchanges(&self, vhost: Option<&str>) -> Vec<ExchangeView> {
        self.vhosts_for(vhost).iter().flat_map(|vhost| vhost.exchange_views()).collect()
    }

    fn bindings(&self, vhost: Option<&str>) -> Vec<BindingView> {
        self.vhosts_for(vhost).iter().flat_map(|vhost| vhost.binding_views()).collect()
    }

    fn connections(&self) -> Vec<ConnectionView> {
        let view = |handle: &super::ConnectionHandle| {
            handle.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
        };
        self.connections.iter().map(|entry| view(entry.value())).collect()
    }

    fn close_connection(&self, name: &str, reason: &str) -> bool {
        let found = self.connections.iter().find_map(|entry| {
            let handle = Arc::clone(entry.value());
            let view = handle.view.lock().unwrap_or_else(PoisonError::into_inner);
            let matches = view.name == name;
            drop(view);
            matches.then_some(handle)
        });
        let Some(handle) = found else { return false };
        let refusal = refusal::connection_closed_by_operator(reason);
        handle.outbox.close(refusal);
        true
    }

    fn counters(&self) -> &NodeCounters {
        &self.counters
    }

    fn alarms(&self) -> Alarms {
        Self::alarms(self)
    }

    fn store_counters(&self) -> StoreCounters {
        self.store.counters()
    }

    fn store_failure(&self) -> Option<String> {
        self.store.failure().map(|failure| failure.to_string())
    }

    fn users(&self) -> Vec<UserView> {
        self.access.users().iter().map(|user| user_view(user)).collect()
    }

    fn permissions(&self) -> Vec<PermissionView> {
        let rows = self.access.permissions().into_iter();
        let view = |(user, vhost, own): (String, String, Arc<Permission>)| {
            let [configure, write, read] = own.texts().map(str::to_owned);
            PermissionView { user, vhost, configure, write, read }
        };
        rows.map(view).collect()
    }

    fn topic_permissions(&self) -> Vec<TopicPermissionView> {
        let rows = self.access.topic_permissions().into_iter();
        let views = rows.flat_map(|(user, vhost, own)| {
            let view = |(exchange, topic): (&String, &TopicPermission)| TopicPermissionView {
                user: user.clone(),
                vhost: vhost.clone(),
                exchange: exchange.clone(),
                write: topic.write().to_owned(),
                read: topic.read().to_owned(),
            };
            own.iter().map(view).collect::<Vec<_>>()
        });
        views.collect()
    }

    fn vhost_limits(&self, vhost: &str) -> LimitsView {
        self.vhost(vhost).map(|vhost| vhost.limits().set()).unwrap_or_default()
    }

    fn authenticate(
        &self,
        user: &str,
        password: &[u8],
        peer_is_loopback: bool,
    ) -> Option<Identity> {
        let who = Candidate { name: user, from_loopback: peer_is_loopback };
        self.access.log_in(who, password)
    }

    fn trigger_counts(&self) -> Vec<TriggerCounts> {
        let vhosts = self.vhosts_for(None);
        let triggers = vhosts.iter().flat_map(|vhost| vhost.triggers());
        let counts = |trigger: Arc<Trigger>| TriggerCounts {
            vhost: Arc::clone(&trigger.vhost),
            name: Arc::clone(&trigger.name),
            counts: trigger.tally.counts(),
        };
        triggers.map(counts).collect()
    }

    fn publishers(&self) -> Option<u64> {
        Some(self.counters.publishers.load(std::sync::atomic::Ordering::Relaxed))
    }

    fn message_sizes(&self) -> Option<MessageSizes> {
        let read = |counter: &std::sync::atomic::AtomicU64| {
            counter.load(std::sync::atomic::Ordering::Relaxed)
        };
        let counts = std::array::from_fn(|at| read(&self.counters.message_sizes[at]));
        Some(MessageSizes { counts, sum_bytes: read(&self.counters.message_bytes) })
    }

    fn may_enter(&self, who: &Identity, vhost: &str, peer: &str) -> bool {
        who.may_enter(&self.access, vhost, Some(peer))
    }

    fn login_failures(&self) -> &LoginFailures {
        &self.login_failures
    }
}
