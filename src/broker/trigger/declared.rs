//! Triggers that a queue's declaration, or a policy, asks for: IBM's way, where a queue has one.
//!
//! Such a trigger is called `queue:` and the queue's name. It comes and goes with what asks for it
//! and is not stored by itself; no other trigger can have such a name.

use std::sync::Arc;

use super::Trigger;
use super::condition::{Condition, Kind, Selection};
use super::run::Action;
use super::spec::{Mode, TriggerAction, TriggerSpec};
use super::tally::Tally;
use crate::broker::Now;
use crate::broker::queue::{Effects, Queue};
use crate::broker::vhost::Vhost;

/// What the names of such triggers begin with.
pub const DECLARED: &str = "queue:";

/// `x-trigger-type`, or a policy's `trigger-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TriggerType {
    /// Once for each message.
    Every,
    /// When there is a message.
    First,
    /// When there are `x-trigger-depth` messages.
    Depth,
    /// Never, whatever a policy says.
    None,
}

impl TriggerType {
    /// The type of this name.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"every" => Some(Self::Every),
            b"first" => Some(Self::First),
            b"depth" => Some(Self::Depth),
            b"none" => Some(Self::None),
            _ => None,
        }
    }
}

/// What a declaration or a policy asks for; any part may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TriggerWishes {
    /// `x-trigger-type`.
    pub kind: Option<TriggerType>,
    /// `x-trigger-depth`, messages.
    pub depth: Option<u64>,
    /// `x-trigger-min-priority`.
    pub min_priority: Option<u8>,
    /// `x-trigger-max-wait`, milliseconds.
    pub max_wait_ms: Option<u64>,
    /// `x-trigger-process`: a program.
    pub process: Option<Arc<str>>,
    /// `x-trigger-data`.
    pub data: Option<Arc<str>>,
    /// `x-initiation-exchange`.
    pub initiation_exchange: Option<Arc<str>>,
}

impl TriggerWishes {
    /// A declaration's wishes over a policy's: of each part the declaration's, if it has it.
    #[must_use]
    pub fn over(&self, policy: &Self) -> Self {
        let text = |own: &Option<Arc<str>>, policy: &Option<Arc<str>>| {
            own.as_ref().or(policy.as_ref()).cloned()
        };
        Self {
            kind: self.kind.or(policy.kind),
            depth: self.depth.or(policy.depth),
            min_priority: self.min_priority.or(policy.min_priority),
            max_wait_ms: self.max_wait_ms.or(policy.max_wait_ms),
            process: text(&self.process, &policy.process),
            data: text(&self.data, &policy.data),
            initiation_exchange: text(&self.initiation_exchange, &policy.initiation_exchange),
        }
    }

    /// The trigger that this makes of a queue. `None` when there is nothing to be started or told,
    /// or not said when.
    #[must_use]
    pub fn spec(&self, queue: &Arc<str>) -> Option<TriggerSpec> {
        let kind = match self.kind? {
            TriggerType::Every => Kind::Every,
            TriggerType::First => Kind::First,
            TriggerType::Depth => Kind::Depth { count: self.depth? },
            TriggerType::None => return None,
        };
        let max_wait_ms = self.max_wait_ms.filter(|_| matches!(kind, Kind::Depth { .. }));
        let min_priority = self.min_priority.unwrap_or(0);
        let selection = Selection { min_priority, headers: Vec::new() };
        let data = self.data.as_deref().unwrap_or_default().to_owned();
        let (mode, action) = match (&self.initiation_exchange, &self.process) {
            (Some(exchange), process) => {
                let (exchange, routing_key) = (Arc::clone(exchange), Arc::clone(queue));
                let process = process.clone();
                (Mode::Event, TriggerAction::Publish { exchange, routing_key, process, data })
            }
            (None, Some(name)) => {
                let program = Action::Program { name: Arc::clone(name), data };
                (Mode::Notify, TriggerAction::Run(Arc::new(program)))
            }
            (None, None) => return None,
        };
        let alone = mode == Mode::Notify || kind != Kind::Every;
        let condition = Condition { kind, selection, max_wait_ms };
        Some(TriggerSpec::new(Arc::clone(queue), condition, mode, action, alone))
    }
}

impl Vhost {
    /// Gives a queue the trigger that it is declared with, or takes it away. Called with the
    /// topology lock held.
    pub(in crate::broker) fn arm_declared(
        &self,
        queue: &Arc<Queue>,
        now: Now,
        effects: &mut Effects,
    ) {
        let wanted = queue.wanted_trigger();
        if wanted.is_none() && !queue.has_triggers() {
            return;
        }
        let name = format!("{DECLARED}{}", queue.name());
        let old = self.trigger(&name);
        let Some(spec) = wanted else {
            if self.write_triggers().remove(&name).is_some() {
                queue.disarm(&name, now, effects);
            }
            return;
        };
        if old.as_ref().is_some_and(|old| old.spec == spec && queue.has_trigger(&name)) {
            return;
        }
        let trigger = Arc::new(match old {
            Some(old) => old.redefined(spec),
            None => Trigger {
                vhost: Arc::clone(self.name()),
                name: name.into(),
                spec,
                tally: Arc::new(Tally::default()),
                debt: None,
            },
        });
        queue.arm(&trigger, now);
        self.write_triggers().insert(trigger);
        effects.armed.push(Arc::clone(queue));
    }

    /// Forgets the trigger that a queue was declared with. Called with the topology lock held.
    pub(in crate::broker) fn forget_declared(&self, queue: &Queue) {
        self.write_triggers().remove(&format!("{DECLARED}{}", queue.name()));
    }
}
