//! What the engine hands to whoever runs programs and calls webhooks, and what it hears back.
//!
//! The engine decides when a trigger fires and leases the messages; the edge takes a [`Run`], does
//! it, and says how it went. Neither waits for the other: the edge is woken when there may be
//! something to take, takes one run whenever it has room for one, and must end every run that it
//! took exactly once. Messages are leased when their run is taken, not before, so what the edge has
//! no room for stays in its queue.
//!
//! Invariants: a run that was taken occupies its trigger until it is ended; a run that nobody
//! knows any more (its queue was deleted meanwhile) may still be ended, which changes nothing.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use crate::broker::Now;
use crate::broker::message::Message;
use crate::broker::outbox::Wake;
use crate::secret::Secret;

/// The engine, as the edge sees it that runs things.
pub trait Runs: Send + Sync {
    /// Sets who is woken when there may be a run to take. Only the first call counts.
    fn set_runs_waker(&self, waker: Arc<dyn Wake>);

    /// Sets who knows what may be run at all. Only the first call counts.
    fn set_allowed(&self, allowed: Arc<dyn Allowed>);

    /// Takes the next run, if a trigger wants one: until none does, or the edge has no room.
    fn next_run(&self, now: Now) -> Option<Run>;

    /// A run has ended. Call it once for each run that was taken, whatever became of it.
    fn run_ended(&self, id: u64, outcome: Outcome, now: Now);

    /// What could not be started before may be possible now: programs were read again.
    fn programs_changed(&self, now: Now);
}

/// What may be run, as far as it can be told before it is.
pub trait Allowed: Send + Sync {
    /// Why a program that is there may not be started for a queue; of one that is not there,
    /// nothing is known.
    fn refusal(&self, program: &str, vhost: &str, queue: &str) -> Option<String>;
}

/// Something to run.
#[derive(Debug, Clone)]
pub struct Run {
    /// Names the run on this node; no other has or had it.
    pub id: u64,
    /// The trigger's vhost.
    pub vhost: Arc<str>,
    /// The trigger.
    pub trigger: Arc<str>,
    /// The queue it watches.
    pub queue: Arc<str>,
    /// What to do.
    pub action: Arc<Action>,
    /// Why it fired.
    pub cause: Cause,
    /// What is handed over, in order; empty in mode `notify`.
    pub messages: Vec<Handed>,
    /// Counts the attempts at handing over these messages together, from 1.
    pub batch_attempt: u32,
    /// What messages wait that are to be tried again, unless a verdict says otherwise: where
    /// growing delays begin.
    pub retry_delay_ms: u64,
}

/// Why a trigger fired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// Its condition, as people write it: "depth 10, min_priority 5".
    pub condition: String,
    /// Messages that qualified then, those included that are handed over.
    pub ready: u64,
    /// The age of the oldest of them, if there was any.
    pub oldest_age_ms: Option<u64>,
    /// When, in milliseconds of Unix time.
    pub fired_ms: u64,
}

/// A message that is handed over.
#[derive(Debug, Clone)]
pub struct Handed {
    /// Names the message for as long as it stays in its queue, restarts included; no other message
    /// of this node has it.
    pub id: HandedId,
    /// The message. Clones share its bytes.
    pub message: Message,
    /// Whether somebody may have seen it before.
    pub redelivered: bool,
    /// Counts the attempts at it, from 1.
    pub attempt: u32,
}

/// The name of a message that is handed over: its queue and its place there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandedId {
    /// The queue's number on this node.
    pub queue: u64,
    /// The message's place in it.
    pub place: u64,
}

impl Display for HandedId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.queue, self.place)
    }
}

/// What a run does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// It starts one of the operator's programs.
    Program {
        /// The program's name.
        name: Arc<str>,
        /// Any text for it.
        data: String,
    },
    /// It calls a web address.
    Webhook(Webhook),
}

/// A web address to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// The address.
    pub url: String,
    /// What its calls are signed with.
    pub secret: Option<Secret>,
    /// Headers that are sent along.
    pub headers: Vec<(String, String)>,
    /// How long a call may take.
    pub timeout_ms: u64,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// It was done, well or not.
    Ended(Ended),
    /// It could not be begun: nothing is wrong with the messages, which go back as if they had
    /// never been taken. The trigger is in error until it is tried again.
    CouldNotStart {
        /// What an operator must know to mend it.
        reason: String,
    },
    /// The node stops and has ended it. Its messages go back and may have been seen; that does not
    /// count as an attempt.
    Stopped,
}

/// A run that was begun and is over.
#[derive(Debug, Clone)]
pub struct Ended {
    /// What becomes of the messages.
    pub verdicts: Verdicts,
    /// How it went.
    pub exit: Exit,
    /// The end of what it wrote for people, cut to what is worth keeping.
    pub stderr_tail: String,
    /// How long it took.
    pub took_ms: u64,
    /// Nothing more is to be sent there: the trigger is switched off (a webhook answered 410).
    pub disable: bool,
    /// Whoever was called is not ready for anything: the trigger starts nothing for so long.
    pub pause_ms: Option<u64>,
}

/// What becomes of the messages of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdicts {
    /// The same for all. In mode `notify`, where there are none: whether it went well.
    All(Verdict),
    /// One for each, in their order; those without one failed.
    Each(Vec<Verdict>),
}

impl Verdicts {
    /// The verdict on the message at a place in its batch.
    #[must_use]
    pub fn at(&self, place: usize) -> Verdict {
        match self {
            Self::All(verdict) => *verdict,
            Self::Each(verdicts) => verdicts.get(place).copied().unwrap_or(Verdict::Failed),
        }
    }
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is done with.
    Ack,
    /// It is handed over again later. This does not count as an attempt.
    Retry {
        /// How much later, if not as the trigger says.
        delay_ms: Option<u64>,
    },
    /// It is rejected for good: dead-lettered where that is set up, else dropped.
    Reject,
    /// The attempt failed: it is handed over again later, unless there were enough attempts.
    Failed,
}

/// How a run went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// A program ended with this code.
    Code(i32),
    /// A program was ended by this signal.
    Signal(i32),
    /// It took too long and was ended.
    TimedOut,
    /// A web server answered with this status.
    Status(u16),
    /// No answer was to be had, and why.
    Unreachable(String),
}

impl Display for Exit {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Unreachable(reason) => write!(f, "unreachable: {reason}"),
        }
    }
}
