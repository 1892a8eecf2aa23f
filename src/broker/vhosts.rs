//! Vhosts that come and go while the node runs.
//!
//! Owns their creation and deletion. A vhost's definitions, queues and permissions are deleted in
//! one batch with it, submitted under its topology lock. Connections that are in it are closed;
//! until they are, they hold on to something that takes no definitions and stores nothing.

use std::sync::{Arc, PoisonError};

use super::Broker;
use super::access::{Permission, VhostLimits};
use super::bindings::stored_binding;
use super::definitions::{DefinitionKey, put_vhost};
use super::limits::Limit;
use super::policy::{Policies, PolicyKind};
use super::recovery::add_vhost;
use crate::protocol::refusal;
use crate::store::{Batch, Lsn};

/// There are as many vhosts as there may be; in RabbitMQ's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot create vhost '{name}': vhost limit of {max} is reached")]
pub struct TooManyVhosts {
    name: String,
    max: usize,
}

impl Broker {
    /// Creates a vhost that `owner` may do everything in, if the node knows a user of that name, as
    /// in RabbitMQ. `None` when there is one of this name, else when it is durable.
    ///
    /// # Errors
    /// When there are as many as there may be.
    pub fn create_vhost(&self, name: &str, owner: &str) -> Result<Option<Lsn>, TooManyVhosts> {
        let _changing = self.vhost_changes.lock().unwrap_or_else(PoisonError::into_inner);
        if self.vhost(name).is_some() {
            return Ok(None);
        }
        let max = self.settings.vhosts_max;
        if max > 0 && self.vhosts.len() >= max {
            self.counters.limits.note(Limit::VhostMax);
            return Err(TooManyVhosts { name: name.to_owned(), max });
        }
        let owned = self.access.user(owner).map(|_| Permission::full());
        let mut ops = vec![put_vhost(name, VhostLimits::default())];
        ops.extend(owned.as_ref().map(|permission| permission.put(owner, name)));
        // Before anyone can see it: what is declared in it must follow it into the store.
        let lsn = self.submit(Batch { ops, awaited: true });
        if let Some(permission) = owned {
            self.access.permit(owner, name, permission);
        }
        add_vhost(self, name, Policies::default());
        Ok(Some(lsn))
    }

    /// Deletes a vhost with everything in it, and closes the connections to it. `None` when there
    /// is none of this name, else when that is durable.
    pub fn delete_vhost(&self, name: &str) -> Option<Lsn> {
        let _changing = self.vhost_changes.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, vhost) = self.vhosts.remove(name)?;
        let mut ops = vec![DefinitionKey::Vhost { name: name.to_owned() }.delete()];
        let mut change = vhost.change();
        vhost.close();
        for binding in change.all() {
            if let Some(source) = vhost.exchanges_by_id.get(&binding.source)
                && let Some(key) = stored_binding(&vhost, &source.spec, &binding)
            {
                ops.push(DefinitionKey::Binding(key).delete());
            }
        }
        for kind in [PolicyKind::User, PolicyKind::Operator] {
            for policy in vhost.policy_specs(kind) {
                let (vhost, name) = (name.to_owned(), policy.name);
                ops.push(DefinitionKey::Policy { vhost, kind, name }.delete());
            }
        }
        for trigger in vhost.triggers() {
            let (vhost, name) = (name.to_owned(), trigger.name.to_string());
            ops.push(DefinitionKey::Trigger { vhost, name }.delete());
        }
        for exchange in &vhost.exchanges {
            let (vhost, name) = (name.to_owned(), exchange.spec.name.to_string());
            ops.push(DefinitionKey::Exchange { vhost, name }.delete());
        }
        for queue in vhost.queues_by_id.iter().map(|entry| Arc::clone(entry.value())) {
            queue.close();
            if queue.spec().durable {
                queue.forget_publishers(&mut ops);
                ops.push(queue.drop_messages());
                let (vhost, name) = (name.to_owned(), queue.name().to_string());
                ops.push(DefinitionKey::Queue { vhost, name }.delete());
            }
        }
        ops.extend(self.access.forget_vhost(name));
        let lsn = self.submit(Batch { ops, awaited: true });
        vhost.exchanges.clear();
        vhost.exchanges_by_id.clear();
        vhost.queues.clear();
        vhost.queues_by_id.clear();
        change.note();
        drop(change);
        let deleted = refusal::vhost_deleted(name);
        self.close_connections_where(|view| view.vhost == name, &deleted);
        Some(lsn)
    }
}
