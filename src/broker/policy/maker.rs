//! What whoever sets a policy must be allowed to, where it has messages flow on: dead letters out
//! of queues, what finds no queue out of exchanges.
//!
//! A declaration with the same in its arguments takes reading what is declared and writing where it
//! leads. RabbitMQ asks nothing of a policy's maker; here a policy cannot be a way around rights.
//! Administrators are not asked, for they give themselves whatever right they like.
//!
//! Invariant: a policy leads on only from what its maker could read when it was made, whatever is
//! declared later. That is kept as a pattern with the policy, so only those have one to show whose
//! rights are in the node's records: others must be administrators.

use std::sync::Arc;

use super::{Object, Policy};
use crate::broker::access::{ADMINISTRATOR, Identity, Permission, Resource, Right, Rights};
use crate::broker::definitions::{DefinitionError, Record};
use crate::broker::vhost::Vhost;
use crate::broker::{Broker, Now};
use crate::protocol::refusal::{self, Refusal};
use crate::protocol::table::Value;

/// The keys that have messages flow on.
pub(super) const LEADING: [&str; 3] =
    ["alternate-exchange", "dead-letter-exchange", "dead-letter-routing-key"];

/// The field of a policy's record with the names that its maker could read.
const FIELD: &str = "maker_reads";

/// What a policy may lead messages out of; all there is if nothing else is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reach(Option<Arc<Permission>>);

impl Reach {
    /// Whether something of this name is within it.
    pub(super) fn has(&self, object: Object, name: &str) -> bool {
        let name = resource(object, name).name();
        self.0.as_ref().is_none_or(|maker| maker.allows(Right::Read, name))
    }

    pub(super) fn keep(&self, record: Record) -> Record {
        match &self.0 {
            None => record,
            Some(maker) => {
                let reads = maker.text(Right::Read).as_bytes().to_vec();
                record.with(FIELD, Value::LongStr(reads))
            }
        }
    }

    pub(super) fn from_record(record: &Record) -> Result<Self, DefinitionError> {
        if !record.has(FIELD) {
            return Ok(Self::default());
        }
        let maker = Permission::new(["", "", record.text(FIELD)?]);
        let maker = maker.map_err(|error| DefinitionError(error.to_string()))?;
        Ok(Self(Some(Arc::new(maker))))
    }
}

impl Broker {
    /// Refuses a policy that leads messages to where its maker may not write. Returns what it may
    /// lead them out of.
    pub(super) fn check_maker(
        &self,
        vhost: &Vhost,
        policy: &Policy,
        maker: &Identity,
        now: Now,
    ) -> Result<Reach, Refusal> {
        let user = &maker.user;
        if user.has_tag(ADMINISTRATOR) {
            return Ok(Reach::default());
        }
        let trigger = &policy.wishes.trigger;
        if trigger.process.is_some() || trigger.initiation_exchange.is_some() {
            // It would start a program, or tell of queues, for whoever may only ask for less.
            let whatever = format!("triggers of whatever '{}' matches", policy.spec.pattern);
            return Err(refusal::access_refused(Right::Configure.name(), whatever, &user.name));
        }
        if !policy.leads_on() {
            return Ok(Reach::default());
        }
        let own = self.access.permission(&user.name, vhost.name());
        let Some(own) = own.filter(|_| maker.authority.is_none()) else {
            let pattern = &policy.spec.pattern;
            let whatever = format!("whatever '{pattern}' matches in vhost '{}'", vhost.name());
            return Err(refusal::access_refused(Right::Read.name(), whatever, &user.name));
        };
        let mut rights = Rights::new(&self.access, maker.clone(), Arc::clone(vhost.name()), now);
        let leads_to = [&policy.wishes.dead_letter_exchange, &policy.alternate_exchange];
        for exchange in leads_to.into_iter().flatten() {
            rights.check(Right::Write, Resource::Exchange(exchange))?;
        }
        Ok(Reach(Some(own)))
    }
}

/// Refuses a policy that would lead messages out of something there is that its maker may not read.
/// Call it with the vhost's topology held.
pub(super) fn check_reach(vhost: &Vhost, policy: &Policy, user: &str) -> Result<(), Refusal> {
    let check = |object, name: &str| {
        if !policy.asks_on(object, name) || policy.reach.has(object, name) {
            return Ok(());
        }
        let resource = resource(object, name);
        let (kind, name) = (resource.kind(), resource.name());
        let resource = format!("{kind} '{name}' in vhost '{}'", vhost.name());
        Err(refusal::access_refused(Right::Read.name(), resource, user))
    };
    for exchange in &vhost.exchanges {
        check(Object::Exchange, &exchange.spec.name)?;
    }
    vhost
        .queues
        .iter()
        .try_for_each(|queue| check(Object::Queue(queue.spec().args.kind), queue.name()))
}

fn resource(object: Object, name: &str) -> Resource<'_> {
    match object {
        Object::Exchange => Resource::Exchange(name),
        Object::Queue(_) => Resource::Queue(name),
    }
}
