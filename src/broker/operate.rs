//! What operators may ask the broker to change, besides what clients can: vhosts, policies,
//! tracing.
//!
//! Every call returns once its change is durable. Access rights are the caller's business, but for
//! where a policy may have messages flow.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::access::Identity;
use super::events;
use super::inspect::PolicyView;
use super::policy::{PolicyError, PolicyKind, PolicySpec};
use super::queue::Effects;
use super::trigger::json::SpecError;
use super::{Broker, Now, TooManyVhosts};
use crate::protocol::refusal::Refusal;
use crate::protocol::table::Table;
use crate::store::{BackedUp, DurableWaker, Lsn, Store, StoreError};

/// Why a change was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OperateError {
    /// There is no vhost of that name.
    #[error("vhost '{0}' not found")]
    NoVhost(String),
    /// The policy makes no sense.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The trigger makes no sense here.
    #[error(transparent)]
    Trigger(#[from] SpecError),
    /// There are as many vhosts as there may be.
    #[error(transparent)]
    TooManyVhosts(#[from] TooManyVhosts),
    /// Whoever asks has no right to it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Whether something is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was not there before.
    Created,
    /// It was there and is another one now.
    Replaced,
}

impl Change {
    /// The change of what was there before, or not.
    #[must_use]
    pub const fn of(was_there: bool) -> Self {
        if was_there { Self::Replaced } else { Self::Created }
    }
}

/// The broker as operators change it.
pub trait Operate: Send + Sync {
    /// The policies of one vhost, or of all.
    fn policies(&self, kind: PolicyKind, vhost: Option<&str>) -> Vec<PolicyView>;

    /// Sets a policy in place of the one with its name, if there is one.
    ///
    /// # Errors
    /// When there is no such vhost, the policy makes no sense, its maker has no right to have
    /// messages flow as it says, or the store has failed.
    fn set_policy(
        &self,
        kind: PolicyKind,
        vhost: &str,
        policy: PolicySpec,
        maker: &Identity,
        now: Now,
    ) -> Result<Change, OperateError>;

    /// Takes a policy away; false when there was none of this name.
    ///
    /// # Errors
    /// When there is no such vhost, or the store has failed.
    fn clear_policy(
        &self,
        kind: PolicyKind,
        vhost: &str,
        name: &str,
        actor: &str,
        now: Now,
    ) -> Result<bool, OperateError>;

    /// Creates a vhost in which `owner` may do everything; false when it was there.
    ///
    /// # Errors
    /// When there are as many as there may be, or the store has failed.
    fn create_vhost(&self, name: &str, owner: &str, now: Now) -> Result<bool, OperateError>;

    /// Deletes a vhost with everything in it; false when there is none of this name.
    ///
    /// # Errors
    /// When the store has failed.
    fn delete_vhost(&self, name: &str, actor: &str, now: Now) -> Result<bool, OperateError>;

    /// Switches tracing on or off in a vhost, until the node stops.
    ///
    /// # Errors
    /// When there is no such vhost.
    fn set_tracing(&self, vhost: &str, on: bool) -> Result<(), OperateError>;

    /// Makes a backup of everything that is kept, under a name that is not taken. Answers with
    /// where it is, and what it has.
    ///
    /// # Errors
    /// When the name is taken, another backup is under way, or the disk refuses.
    fn back_up(&self, name: &str) -> Result<(String, BackedUp), OperateError>;

    /// The names of the backups that there are.
    fn backups(&self) -> Vec<String>;

    /// Tells those who keep an audit log of what came of a request.
    fn note(&self, key: &'static str, actor: Option<&str>, details: Table, now: Now);
}

impl Operate for Broker {
    fn policies(&self, kind: PolicyKind, vhost: Option<&str>) -> Vec<PolicyView> {
        let of_one = |vhost: &Arc<super::vhost::Vhost>| {
            let name = vhost.name().to_string();
            let view = move |spec| PolicyView { vhost: name.clone(), spec };
            vhost.policy_specs(kind).into_iter().map(view).collect::<Vec<_>>()
        };
        self.vhosts_for(vhost).iter().flat_map(of_one).collect()
    }

    fn set_policy(
        &self,
        kind: PolicyKind,
        vhost: &str,
        policy: PolicySpec,
        maker: &Identity,
        now: Now,
    ) -> Result<Change, OperateError> {
        let vhost = self.vhost(vhost).ok_or_else(|| OperateError::NoVhost(vhost.to_owned()))?;
        let set = Self::set_policy(self, &vhost, kind, policy, maker, now)?;
        self.wait_durable(set.lsn)?;
        Ok(Change::of(set.replaced))
    }

    fn clear_policy(
        &self,
        kind: PolicyKind,
        vhost: &str,
        name: &str,
        actor: &str,
        now: Now,
    ) -> Result<bool, OperateError> {
        let vhost = self.vhost(vhost).ok_or_else(|| OperateError::NoVhost(vhost.to_owned()))?;
        let Some(lsn) = Self::clear_policy(self, &vhost, kind, name, actor, now) else {
            return Ok(false);
        };
        self.wait_durable(lsn)?;
        Ok(true)
    }

    fn create_vhost(&self, name: &str, owner: &str, now: Now) -> Result<bool, OperateError> {
        let Some(lsn) = Self::create_vhost(self, name, owner)? else { return Ok(false) };
        self.emit("vhost.created", now, || events::fields::vhost(name, owner));
        self.wait_durable(lsn)?;
        Ok(true)
    }

    fn delete_vhost(&self, name: &str, actor: &str, now: Now) -> Result<bool, OperateError> {
        let Some(lsn) = Self::delete_vhost(self, name) else { return Ok(false) };
        self.emit("vhost.deleted", now, || events::fields::vhost(name, actor));
        self.wait_durable(lsn)?;
        Ok(true)
    }

    fn set_tracing(&self, vhost: &str, on: bool) -> Result<(), OperateError> {
        let vhost = self.vhost(vhost).ok_or_else(|| OperateError::NoVhost(vhost.to_owned()))?;
        vhost.set_traced(on);
        Ok(())
    }

    fn back_up(&self, name: &str) -> Result<(String, BackedUp), OperateError> {
        let _one = self.backing_up.lock().unwrap_or_else(PoisonError::into_inner);
        let place = self.settings.backup_dir.join(name);
        let made = self.store.back_up(&place)?;
        Ok((place.display().to_string(), made))
    }

    fn backups(&self) -> Vec<String> {
        self.store.backups(&self.settings.backup_dir)
    }

    fn note(&self, key: &'static str, actor: Option<&str>, details: Table, now: Now) {
        let mut effects = Effects { actor: actor.map(Into::into), ..Effects::default() };
        self.told(&mut effects).aside(key, || details);
        self.finish(&mut effects, now);
    }
}

impl Broker {
    /// Waits until the store has made durable what it took at this place. Never call it where
    /// messages are moved.
    pub(super) fn wait_durable(&self, lsn: Lsn) -> Result<(), StoreError> {
        let store: &dyn Store = &**self.store();
        let bell = Arc::new(Bell::default());
        store.notify(lsn, Arc::clone(&bell) as Arc<dyn DurableWaker>);
        bell.wait();
        match store.failure() {
            Some(failure) if store.durable() < lsn => Err(failure),
            _ => Ok(()),
        }
    }
}

/// Rung once.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    ringing: Condvar,
}

impl Bell {
    fn wait(&self) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.ringing.wait_while(rung, |rung| !*rung).unwrap_or_else(PoisonError::into_inner));
    }
}

impl DurableWaker for Bell {
    fn wake(&self) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.ringing.notify_all();
    }
}
