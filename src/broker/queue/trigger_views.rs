//! Why a trigger fires, or does not: what its queue has, and what is missing.

use std::sync::Arc;

use super::Queue;
use super::state::State;
use super::triggers::{Armed, QueueFactsNow, View};
use crate::broker::Now;
use crate::broker::trigger::Trigger;
use crate::broker::trigger::condition::{Condition, Facts as _, Kind, NEVER};
use crate::broker::trigger::spec::Mode;
use crate::broker::trigger::tally::Suppressed;
use crate::broker::trigger::views::{ConditionView, Explanation, QueueFacts, TriggerView};

impl Queue {
    /// Why one of its triggers fires, or does not. `None` when it has none of this name.
    pub(in crate::broker) fn explain(
        &self,
        trigger: &Arc<Trigger>,
        now: Now,
    ) -> Option<Explanation> {
        let state = self.lock();
        let triggers = state.triggers.as_ref()?;
        let armed = triggers.armed.iter().find(|it| it.trigger.name == trigger.name)?;
        Some(state.explain(armed, triggers.idle_since_ms, now.unix_ms))
    }
}

impl State {
    fn explain(&self, armed: &Armed, idle_since_ms: Option<u64>, now_ms: u64) -> Explanation {
        let trigger = &armed.trigger;
        let of = QueueFactsNow { ready: &self.ready, idle_since_ms, now_ms };
        let view = armed.view(&of);
        let mut conditions = Vec::new();
        view.explain(&trigger.spec.condition, 0, 0, &mut conditions);
        let holds = conditions.first().is_some_and(|it| it.holds);
        let (state, reason) = armed.state(now_ms);
        let consumers = self.consumers() as u64;
        let mut missing = Vec::new();
        let mut miss = |sentence: String| missing.push(sentence);
        if !trigger.spec.enabled {
            miss("the trigger is disabled: enable it".to_owned());
        }
        if trigger.spec.only_without_consumers && consumers > 0 {
            miss(format!("it fires only without consumers, and the queue has {consumers}"));
        }
        if armed.running >= trigger.spec.concurrency {
            let running = armed.running;
            miss(format!("{running} runs are under way, and concurrency allows no more"));
        }
        if let Some(pause) = armed.pause.as_ref().filter(|pause| pause.until_ms > now_ms) {
            let left_ms = pause.until_ms - now_ms;
            let why = if pause.reason.is_empty() { "" } else { ": " };
            let name = pause.why.name();
            miss(format!("{name} for another {left_ms} ms{why}{}", pause.reason));
        }
        if let Some(gathered) = armed.gathered.as_ref().filter(|gathered| !gathered.is_whole) {
            let (so_far, most) = (gathered.leases.len(), trigger.spec.batch_max);
            miss(format!("messages are being read: there are {so_far} of {most} so far"));
        }
        if holds && armed.raised && trigger.spec.mode == Mode::Event {
            miss("it has told of this already: the condition must cease to hold first".to_owned());
        }
        Explanation {
            view: TriggerView {
                trigger: Arc::clone(trigger),
                state,
                reason,
                counts: trigger.tally.counts(),
            },
            queue: Some(QueueFacts {
                ready: self.ready.len() as u64,
                unacknowledged: self.unacked().messages,
                consumers,
                running: u64::from(armed.running),
                retries: armed.retries.iter().map(|batch| batch.leases.len() as u64).sum(),
            }),
            holds,
            conditions,
            missing,
        }
    }
}

impl Armed {
    /// What it is doing, and why.
    fn state(&self, now_ms: u64) -> (&'static str, Option<String>) {
        let pause = self.pause.as_ref().filter(|pause| pause.until_ms > now_ms);
        let reason = pause.map(|pause| pause.reason.clone()).filter(|reason| !reason.is_empty());
        let state = match pause.map(|pause| pause.why) {
            _ if !self.trigger.spec.enabled => "disabled",
            Some(Suppressed::Error) => "error",
            _ if self.running > 0 => "running",
            Some(Suppressed::Cooldown) => "cooldown",
            Some(_) => "backoff",
            None => "armed",
        };
        (state, reason)
    }
}

impl View<'_> {
    fn explain(
        &self,
        condition: &Condition,
        place: usize,
        depth: usize,
        all: &mut Vec<ConditionView>,
    ) {
        let from_ms = condition.holds_from_at(place, self);
        let holds = from_ms <= self.now_ms;
        let later = (from_ms != NEVER && !holds).then_some(from_ms);
        let missing = || self.missing(condition, place, later);
        all.push(ConditionView {
            condition: condition.to_string(),
            depth,
            holds,
            present: self.count(place),
            oldest_age_ms: self.oldest_ms(place).map(|ms| self.now_ms.saturating_sub(ms)),
            missing: (!holds).then(missing),
            holds_from_ms: later,
        });
        for (within, at) in condition.inside(place) {
            self.explain(within, at, depth + 1, all);
        }
    }

    fn missing(&self, condition: &Condition, place: usize, later: Option<u64>) -> String {
        let in_ms = later.map(|ms| ms - self.now_ms);
        let more = |missing: String| match in_ms {
            Some(ms) => format!("{missing}, or {ms} ms"),
            None => missing,
        };
        let present = self.count(place);
        match &condition.kind {
            Kind::Depth { count } => {
                more(format!("{} more messages", count.saturating_sub(present)))
            }
            Kind::Rate { count, window_ms } => {
                let came = self.came_within(place, *window_ms);
                more(format!("{} more within {window_ms} ms", count.saturating_sub(came)))
            }
            Kind::AnyOf(_) => more("one of the conditions within".to_owned()),
            Kind::AllOf(_) => more("those of the conditions within that do not hold".to_owned()),
            Kind::Every if present > 0 => "a message that it was not told of".to_owned(),
            Kind::NoConsumers { .. } if self.idle_since_ms.is_none() => {
                "the queue's consumers must leave".to_owned()
            }
            _ if present == 0 => "a message".to_owned(),
            _ => in_ms.map_or_else(
                || "the first message is being read".to_owned(),
                |ms| format!("{ms} ms"),
            ),
        }
    }
}

impl Explanation {
    /// Of a trigger whose queue is not there.
    pub(in crate::broker) fn without_queue(trigger: &Arc<Trigger>) -> Self {
        let queue = &trigger.spec.queue;
        let state = if trigger.spec.enabled { "detached" } else { "disabled" };
        let missing = format!("queue '{queue}' in vhost '{}': it is not there", trigger.vhost);
        Self {
            view: TriggerView {
                trigger: Arc::clone(trigger),
                state,
                reason: Some(missing.clone()),
                counts: trigger.tally.counts(),
            },
            queue: None,
            holds: false,
            conditions: Vec::new(),
            missing: vec![missing],
        }
    }
}
