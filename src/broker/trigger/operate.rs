//! Triggers as operators change and see them.
//!
//! Every change returns once it is durable, and is told with whoever made it. A trigger cannot be a
//! way around rights: whoever sets one must be allowed to read its queue, and to write where its
//! events go; and a program is started for administrators only.

use std::sync::Arc;

use super::run::Action;
use super::spec::{TriggerAction, TriggerSpec};
use super::tally::RunView;
use super::views::{Explanation, TriggerView};
use crate::broker::access::{ADMINISTRATOR, Identity, Resource, Right, Rights};
use crate::broker::operate::{Change, OperateError};
use crate::broker::queue::Effects;
use crate::broker::vhost::Vhost;
use crate::broker::{Broker, Now};
use crate::protocol::refusal::{self, Refusal};

/// The broker's triggers as operators change them.
pub trait OperateTriggers: Send + Sync {
    /// The triggers of one vhost, or of all.
    fn triggers(&self, vhost: Option<&str>, now: Now) -> Vec<TriggerView>;

    /// Why a trigger fires, or does not.
    fn explain_trigger(&self, vhost: &str, name: &str, now: Now) -> Option<Explanation>;

    /// A trigger's last runs, the latest first.
    fn trigger_runs(&self, vhost: &str, name: &str) -> Option<Vec<RunView>>;

    /// Sets a trigger in place of the one with its name, if there is one.
    ///
    /// # Errors
    /// When there is no such vhost, its maker has no right to it, its program may not be started
    /// for its queue, or the store has failed.
    fn set_trigger(
        &self,
        vhost: &str,
        name: &str,
        spec: TriggerSpec,
        maker: &Identity,
        now: Now,
    ) -> Result<Change, OperateError>;

    /// Switches a trigger on or off; false when there is none of this name.
    ///
    /// # Errors
    /// As for setting it.
    fn enable_trigger(
        &self,
        vhost: &str,
        name: &str,
        enabled: bool,
        maker: &Identity,
        now: Now,
    ) -> Result<bool, OperateError>;

    /// Takes a trigger away; false when there was none of this name.
    ///
    /// # Errors
    /// When there is no such vhost, or the store has failed.
    fn delete_trigger(
        &self,
        vhost: &str,
        name: &str,
        actor: &str,
        now: Now,
    ) -> Result<bool, OperateError>;
}

impl OperateTriggers for Broker {
    fn triggers(&self, vhost: Option<&str>, now: Now) -> Vec<TriggerView> {
        self.trigger_views(vhost, now)
    }

    fn explain_trigger(&self, vhost: &str, name: &str, now: Now) -> Option<Explanation> {
        let vhost = self.vhost(vhost)?;
        let trigger = vhost.trigger(name)?;
        Some(self.explain(&vhost, &trigger, now))
    }

    fn trigger_runs(&self, vhost: &str, name: &str) -> Option<Vec<RunView>> {
        Some(self.vhost(vhost)?.trigger(name)?.tally.last_runs())
    }

    fn set_trigger(
        &self,
        vhost: &str,
        name: &str,
        spec: TriggerSpec,
        maker: &Identity,
        now: Now,
    ) -> Result<Change, OperateError> {
        let vhost = self.vhost(vhost).ok_or_else(|| OperateError::NoVhost(vhost.to_owned()))?;
        self.check_trigger_maker(&vhost, &spec, maker, now)?;
        self.check_allowed(&vhost, &spec)?;
        let mut effects = by(&maker.user.name);
        let set = Self::set_trigger(self, &vhost, name, spec, now, &mut effects);
        self.finish(&mut effects, now);
        self.wait_durable(set.lsn)?;
        Ok(Change::of(set.replaced))
    }

    fn enable_trigger(
        &self,
        vhost: &str,
        name: &str,
        enabled: bool,
        maker: &Identity,
        now: Now,
    ) -> Result<bool, OperateError> {
        let vhost = self.vhost(vhost).ok_or_else(|| OperateError::NoVhost(vhost.to_owned()))?;
        let Some(trigger) = vhost.trigger(name) else { return Ok(false) };
        if enabled {
            self.check_trigger_maker(&vhost, &trigger.spec, maker, now)?;
            self.check_allowed(&vhost, &trigger.spec)?;
        }
        let mut effects = by(&maker.user.name);
        let set = Self::enable_trigger(self, &vhost, name, enabled, now, &mut effects);
        self.finish(&mut effects, now);
        let Some(lsn) = set else { return Ok(false) };
        self.wait_durable(lsn)?;
        Ok(true)
    }

    fn delete_trigger(
        &self,
        vhost: &str,
        name: &str,
        actor: &str,
        now: Now,
    ) -> Result<bool, OperateError> {
        let vhost = self.vhost(vhost).ok_or_else(|| OperateError::NoVhost(vhost.to_owned()))?;
        let mut effects = by(actor);
        let deleted = Self::delete_trigger(self, &vhost, name, now, &mut effects);
        self.finish(&mut effects, now);
        let Some(lsn) = deleted else { return Ok(false) };
        self.wait_durable(lsn)?;
        Ok(true)
    }
}

fn by(actor: &str) -> Effects {
    Effects { actor: Some(actor.into()), ..Effects::default() }
}

impl Broker {
    /// Refuses a trigger that its maker has no right to.
    fn check_trigger_maker(
        &self,
        vhost: &Arc<Vhost>,
        spec: &TriggerSpec,
        maker: &Identity,
        now: Now,
    ) -> Result<(), Refusal> {
        let user = &maker.user;
        if user.has_tag(ADMINISTRATOR) {
            return Ok(());
        }
        let exchange = match &spec.action {
            TriggerAction::Publish { exchange, .. } => Some(exchange),
            TriggerAction::Run(action) => match &**action {
                Action::Webhook(_) => None,
                Action::Program { name, .. } => {
                    let program = format!("program '{name}'");
                    return Err(refusal::access_refused("start", program, &user.name));
                }
            },
        };
        let mut rights = Rights::new(&self.access, maker.clone(), Arc::clone(vhost.name()), now);
        rights.check(Right::Read, Resource::Queue(&spec.queue))?;
        exchange.map_or(Ok(()), |name| rights.check(Right::Write, Resource::Exchange(name)))
    }
}
