//! Triggers: what is started, or told, when messages wait in a queue.
//!
//! A trigger watches one queue. Its [`condition`] is looked at at the end of every change of the
//! queue, under the queue's lock (`queue/triggers`), so it is never missed and never stale; what
//! follows is done after the lock is released. A run is handed to the edge ([`run`]), which wants
//! one whenever it has room; an event is published here.
//!
//! Triggers are *level-triggered*: whatever makes the condition hold, it fires, and for as long as
//! it holds it fires again once a run has ended. So nothing need be remembered about a firing:
//! after a crash the queue's messages say again what is to be done. What is leased to a run waits
//! in its queue again then, marked as perhaps seen.
//!
//! Invariants: a vhost's triggers change under its topology lock, and reach their queue before that
//! is released; a queue without triggers has nothing of all this but an empty pointer.

pub mod condition;
pub mod declared;
mod engine;
mod event;
pub mod json;
pub mod operate;
mod registry;
pub mod run;
pub mod spec;
pub mod tally;
pub mod views;

use std::sync::Arc;

pub use engine::TriggerSet;
pub(super) use engine::{Engine, from_record};
pub(super) use event::EventWish;
pub(super) use registry::Registry;
use spec::TriggerSpec;
use tally::Tally;

/// A trigger. It is immutable: a changed definition is another one, with the same tally.
#[derive(Debug)]
pub struct Trigger {
    /// Its vhost.
    pub vhost: Arc<str>,
    /// Its name there.
    pub name: Arc<str>,
    /// What it is defined as.
    pub spec: TriggerSpec,
    /// What it has done.
    pub tally: Arc<Tally>,
    /// What it has switched itself off for and is not done with.
    pub debt: Option<Debt>,
}

/// What a trigger that fires once still owes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Debt {
    /// The number of the queue of which it owes it, on this node.
    pub queue: u64,
    /// Messages; starts or events, if it hands none over.
    pub count: u64,
}

impl Trigger {
    /// The same trigger, with another definition. It owes nothing.
    #[must_use]
    pub fn redefined(&self, spec: TriggerSpec) -> Self {
        let (vhost, name) = (Arc::clone(&self.vhost), Arc::clone(&self.name));
        Self { vhost, name, spec, tally: Arc::clone(&self.tally), debt: None }
    }
}
