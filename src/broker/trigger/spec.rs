//! What a trigger is defined as.

use std::sync::Arc;

use super::condition::Condition;
use super::run::Action;

/// A trigger's definition.
#[derive(Debug, Clone, PartialEq)]
pub struct TriggerSpec {
    /// The queue that it watches; it need not be there.
    pub queue: Arc<str>,
    /// When it fires.
    pub condition: Condition,
    /// What becomes of the messages then.
    pub mode: Mode,
    /// What it does then.
    pub action: TriggerAction,
    /// Messages handed over at once, at most.
    pub batch_max: u32,
    /// Runs at once, at most.
    pub concurrency: u32,
    /// Failed attempts after which a message is dead-lettered.
    pub attempts_max: u32,
    /// What waits that is to be tried again.
    pub retry_delay_ms: u64,
    /// The pause after each run, or between events while the condition goes on to hold.
    pub cooldown_ms: u64,
    /// So many starts that settle nothing...
    pub starts_max: u32,
    /// ...within so long are a loop, and make it pause.
    pub starts_interval_ms: u64,
    /// It fires once and is disabled then.
    pub one_shot: bool,
    /// It fires only while nobody consumes.
    pub only_without_consumers: bool,
    /// It may fire.
    pub enabled: bool,
}

impl TriggerSpec {
    /// A definition with nothing out of the ordinary.
    #[must_use]
    pub fn new(
        queue: Arc<str>,
        condition: Condition,
        mode: Mode,
        action: TriggerAction,
        only_without_consumers: bool,
    ) -> Self {
        Self {
            queue,
            condition,
            mode,
            action,
            batch_max: 1,
            concurrency: 1,
            attempts_max: 3,
            retry_delay_ms: 1_000,
            cooldown_ms: 0,
            starts_max: 200,
            starts_interval_ms: 2_000,
            one_shot: false,
            only_without_consumers,
            enabled: true,
        }
    }
}

/// What becomes of the messages when a trigger fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// They stay: whoever is started connects and consumes.
    Notify,
    /// They are handed over, and settled by the outcome.
    Deliver,
    /// They stay: a message tells of them.
    Event,
}

impl Mode {
    /// As written in definitions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::Deliver => "deliver",
            Self::Event => "event",
        }
    }
}

/// What a trigger does.
#[derive(Debug, Clone, PartialEq)]
pub enum TriggerAction {
    /// The edge runs something.
    Run(Arc<Action>),
    /// A message is published.
    Publish {
        /// Where.
        exchange: Arc<str>,
        /// With which key.
        routing_key: Arc<str>,
        /// What whoever gets it is to start; the trigger's name, if nothing else.
        process: Option<Arc<str>>,
        /// Any text for whoever gets it.
        data: String,
    },
}
