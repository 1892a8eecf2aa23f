//! Triggers as operators see them.

use std::sync::Arc;

use super::Trigger;
use super::tally::Counts;

/// A trigger and what it is doing.
#[derive(Debug, Clone)]
pub struct TriggerView {
    /// What it is.
    pub trigger: Arc<Trigger>,
    /// `disabled`, `armed`, `running`, `cooldown`, `backoff`, `error`, or `detached` while there is
    /// no queue of the name.
    pub state: &'static str,
    /// Why, where the state does not say all.
    pub reason: Option<String>,
    /// What it has done.
    pub counts: Counts,
}

/// What a trigger has done.
#[derive(Debug, Clone)]
pub struct TriggerCounts {
    /// Its vhost.
    pub vhost: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// The counters.
    pub counts: Counts,
}

/// Why a trigger fires, or does not.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// What it is doing.
    pub view: TriggerView,
    /// What its queue has, unless there is no such queue.
    pub queue: Option<QueueFacts>,
    /// Whether the whole condition holds.
    pub holds: bool,
    /// Each condition, the outermost first.
    pub conditions: Vec<ConditionView>,
    /// Whatever else must be for it to fire, and is not, in sentences.
    pub missing: Vec<String>,
}

/// A queue, as its trigger sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFacts {
    /// Messages that wait.
    pub ready: u64,
    /// Messages that are out.
    pub unacknowledged: u64,
    /// Consumers.
    pub consumers: u64,
    /// Runs of this trigger.
    pub running: u64,
    /// Messages of this trigger that wait to be tried again.
    pub retries: u64,
}

/// A condition and what is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionView {
    /// The condition, as people write it.
    pub condition: String,
    /// How deep it stands within others.
    pub depth: usize,
    /// Whether it holds.
    pub holds: bool,
    /// Messages that qualify.
    pub present: u64,
    /// How old the oldest of them is.
    pub oldest_age_ms: Option<u64>,
    /// What is missing, in a sentence; nothing if it holds.
    pub missing: Option<String>,
    /// When it will hold if nothing changes, in milliseconds of Unix time.
    pub holds_from_ms: Option<u64>,
}
