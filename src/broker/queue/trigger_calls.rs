//! The calls by which triggers come to a queue, take from it, and give back: see
//! [`triggers`](super::triggers) for when they do.

use std::sync::Arc;

use super::leases::LeaseHandle;
use super::state::State;
use super::trigger_gather::Gathered;
use super::triggers::{Armed, Batch as Retries, QueueFactsNow, QueueTriggers, Start};
use super::{Acks, Attempt, DeathReason, Effects, Entry, Queue, Settled, SwitchedOff};
use crate::broker::Now;
use crate::broker::outbox::ConsumerId;
use crate::broker::trigger::condition::Facts as _;
use crate::broker::trigger::run::{
    Cause, Ended, Handed, HandedId, Outcome, Run, Verdict, Verdicts,
};
use crate::broker::trigger::spec::{Mode, TriggerAction, TriggerSpec};
use crate::broker::trigger::tally::{Result as RunResult, RunView, STDERR_BYTES_KEPT, Suppressed};
use crate::broker::trigger::{EventWish, Trigger};
use crate::store::{Batch, Op};

/// Events that are told of at once.
const EVENTS_AT_ONCE: usize = 100;

/// A run that was taken, until it ends.
#[derive(Debug)]
pub(in crate::broker) struct RunOut {
    pub(in crate::broker) queue: Arc<Queue>,
    pub(in crate::broker) trigger: Arc<Trigger>,
    leases: Vec<LeaseHandle>,
    attempt: u32,
    cause: String,
    started_ms: u64,
}

/// What became of a run's messages.
#[derive(Debug, Default)]
struct Settlement {
    settled: usize,
    failed: usize,
    /// What is to be tried again, by the moment.
    again: std::collections::BTreeMap<u64, Vec<LeaseHandle>>,
}

impl Queue {
    /// The trigger that it has by its declaration, or a policy.
    pub(in crate::broker) fn wanted_trigger(&self) -> Option<TriggerSpec> {
        self.lock().rules().trigger.spec(&self.spec.name)
    }

    /// Whether it has any triggers.
    pub(in crate::broker) fn has_triggers(&self) -> bool {
        self.lock().triggers.is_some()
    }

    /// Whether it has a trigger of this name.
    pub(in crate::broker) fn has_trigger(&self, name: &str) -> bool {
        self.lock().armed_mut(name).is_some()
    }

    /// Sets a trigger in place of the one with its name. What that one has out goes on.
    pub(in crate::broker) fn arm(self: &Arc<Self>, trigger: &Arc<Trigger>, now: Now) {
        let mut state = self.lock();
        if !state.gone {
            state.note_time(now);
            state.arm(self, trigger);
        }
    }

    /// Takes a trigger away. What waited to be tried again comes back; what is out goes on, and
    /// what is not done with then comes back.
    pub(in crate::broker) fn disarm(self: &Arc<Self>, name: &str, now: Now, effects: &mut Effects) {
        let mut state = self.lock();
        let mut batch = Batch::default();
        state.disarm(self, name, &mut batch.ops, effects);
        state.dispatch(self, now, &mut batch.ops, effects);
        self.submit(batch);
    }

    /// Lets new triggers see the whole queue, and act.
    pub(in crate::broker) fn look(self: &Arc<Self>, now: Now, effects: &mut Effects) {
        self.count_cold();
        let mut state = self.lock();
        let mut batch = Batch::default();
        state.note_time(now);
        state.dispatch(self, now, &mut batch.ops, effects);
        self.submit(batch);
    }

    /// Takes the next run that a trigger wants, if one does, under this number.
    pub(in crate::broker) fn start_run(
        self: &Arc<Self>,
        id: u64,
        now: Now,
        effects: &mut Effects,
    ) -> Option<(Run, RunOut)> {
        let mut state = self.lock();
        let mut batch = Batch::default();
        state.note_time(now);
        state.expire(self, now, &mut batch.ops, effects);
        let mut triggers = state.triggers.take()?;
        let started = state.start_run(self, &mut triggers, id, now, effects);
        state.triggers = Some(triggers);
        state.rest(self, effects);
        self.submit(batch);
        started
    }

    /// Ends a run: its messages are settled, given back, or kept to be tried again.
    pub(in crate::broker) fn end_run(
        self: &Arc<Self>,
        id: u64,
        out: &RunOut,
        outcome: &Outcome,
        now: Now,
        effects: &mut Effects,
    ) {
        let mut state = self.lock();
        let mut batch = Batch { ops: Vec::new(), awaited: true };
        state.note_time(now);
        state.end_run(self, id, out, outcome, now, &mut batch.ops, effects);
        state.dispatch(self, now, &mut batch.ops, effects);
        self.submit(batch);
    }

    /// Takes what there is to tell.
    pub(in crate::broker) fn take_events(
        self: &Arc<Self>,
        now: Now,
        effects: &mut Effects,
    ) -> Vec<EventWish> {
        let mut state = self.lock();
        state.note_time(now);
        let events = state.take_events(self.key().queue, now, effects);
        state.rest(self, effects);
        events
    }

    /// A trigger has switched itself off. What it owes is still handed over.
    pub(in crate::broker) fn note_spent(
        self: &Arc<Self>,
        off: &Arc<Trigger>,
        now: Now,
        effects: &mut Effects,
    ) {
        let mut state = self.lock();
        state.note_time(now);
        if let Some(armed) = state.armed_mut(&off.name) {
            armed.trigger = Arc::clone(off);
        }
        state.rest(self, effects);
    }

    /// An event has reached a queue, or none.
    pub(in crate::broker) fn note_told(
        self: &Arc<Self>,
        trigger: &str,
        reached: bool,
        now: Now,
        effects: &mut Effects,
    ) {
        let mut state = self.lock();
        let Some(armed) = state.armed_mut(trigger) else { return };
        let once = armed.units(0);
        armed.out = armed.out.saturating_sub(once);
        if reached {
            armed.failures = 0;
        } else {
            armed.raised = false;
            armed.take_back();
            armed.owed += once;
            let reason = "the event reached no queue: nobody listens".to_owned();
            armed.failed(Suppressed::Backoff, now.unix_ms, reason);
        }
        armed.tell_debt(self.key().queue, effects);
        state.rest(self, effects);
    }

    /// Lets triggers try again that could not start what they were to start.
    pub(in crate::broker) fn forget_errors(self: &Arc<Self>, now: Now, effects: &mut Effects) {
        let mut state = self.lock();
        let Some(triggers) = &mut state.triggers else { return };
        for armed in &mut triggers.armed {
            if armed.pause.as_ref().is_some_and(|pause| pause.why == Suppressed::Error) {
                (armed.pause, armed.failures) = (None, 0);
            }
        }
        state.note_time(now);
        state.rest(self, effects);
    }
}

impl State {
    /// Notes what time it is: what is due by then is due.
    pub(super) fn note_time(&mut self, now: Now) {
        if let Some(triggers) = &mut self.triggers {
            triggers.now_ms = triggers.now_ms.max(now.unix_ms);
        }
    }

    pub(super) fn armed_mut(&mut self, name: &str) -> Option<&mut Armed> {
        let triggers = self.triggers.as_mut()?;
        triggers.armed.iter_mut().find(|armed| *armed.trigger.name == *name)
    }

    fn arm(&mut self, queue: &Arc<Queue>, trigger: &Arc<Trigger>) {
        let triggers = self.triggers.get_or_insert_default();
        let now_ms = triggers.now_ms;
        let key = queue.key().queue;
        let mut new = Armed::new(Arc::clone(trigger), key, &mut self.ready, now_ms);
        let place = triggers.armed.iter_mut().find(|it| it.trigger.name == trigger.name);
        let Some(place) = place else { return triggers.armed.push(new) };
        place.unwatch(&mut self.ready);
        new.running = place.running;
        if trigger.spec.enabled {
            new.retries = std::mem::take(&mut place.retries);
        }
        let left = std::mem::replace(place, new).into_leases();
        let (mut no_ops, mut none) = (Vec::new(), Effects::default());
        left.into_iter().for_each(|lease| self.give_back(queue, lease, &mut no_ops, &mut none));
    }

    fn disarm(&mut self, queue: &Arc<Queue>, name: &str, ops: &mut Vec<Op>, effects: &mut Effects) {
        let Some(triggers) = &mut self.triggers else { return };
        let Some(at) = triggers.armed.iter().position(|it| *it.trigger.name == *name) else {
            return;
        };
        let old = triggers.armed.remove(at);
        if triggers.armed.is_empty() {
            self.triggers = None;
        }
        old.unwatch(&mut self.ready);
        for lease in old.into_leases() {
            self.give_back(queue, lease, ops, effects);
        }
    }

    /// Ends a lease as if the message had never been taken; what it is marked with stays.
    fn give_back(
        &mut self,
        queue: &Arc<Queue>,
        lease: LeaseHandle,
        ops: &mut Vec<Op>,
        effects: &mut Effects,
    ) {
        if let Some(entry) = self.leases.take(lease) {
            self.requeue(queue, ConsumerId::NONE, entry, Attempt::Unsent, ops, effects);
        }
    }

    // ---- starting ----------------------------------------------------------------------------

    fn start_run(
        &mut self,
        queue: &Arc<Queue>,
        triggers: &mut QueueTriggers,
        id: u64,
        now: Now,
        effects: &mut Effects,
    ) -> Option<(Run, RunOut)> {
        triggers.runs = false;
        let (count, idle_since_ms) = (triggers.armed.len(), triggers.idle_since_ms);
        for step in 0..count {
            let at = (triggers.turn + step) % count;
            let armed = &mut triggers.armed[at];
            let of = QueueFactsNow { ready: &self.ready, idle_since_ms, now_ms: now.unix_ms };
            let Some(start) = armed.start(&of) else { continue };
            let cause = armed.cause(&of);
            let Some((cause, taken)) = self.take_for(armed, start, cause, now) else { continue };
            triggers.turn = at + 1;
            armed.running += 1;
            armed.started(now.unix_ms);
            armed.out += armed.units(taken.leases.len());
            armed.tell_debt(queue.key().queue, effects);
            return Some(self.run(queue, armed, id, cause, taken));
        }
        None
    }

    /// What a run is given: why, leases, and how often they were tried together. `None` when what
    /// it wants must be read first.
    fn take_for(
        &mut self,
        armed: &mut Armed,
        start: Start,
        mut cause: Cause,
        now: Now,
    ) -> Option<(Cause, Retries)> {
        if let Start::Again(at) = start {
            return Some((cause, armed.retries.swap_remove(at)));
        }
        let mut leases = Vec::new();
        if armed.trigger.spec.mode == Mode::Deliver {
            if armed.gathered.is_none() {
                armed.gathered = Some(Box::new(Gathered::new(cause)));
                self.gather(armed);
            }
            let gathered = armed.gathered.take_if(|gathered| gathered.is_whole)?;
            (cause, leases) = (gathered.cause, gathered.leases);
        }
        if armed.owed == 0 {
            armed.fire(now.unix_ms);
            armed.owed = if leases.is_empty() { armed.units(0) } else { cause.ready };
            armed.spent |= armed.trigger.spec.one_shot;
        }
        armed.owed = armed.owed.saturating_sub(armed.units(leases.len()));
        let of = QueueFactsNow { ready: &self.ready, idle_since_ms: None, now_ms: now.unix_ms };
        armed.limit_owed(&of);
        let again = Retries { due_ms: 0, leases, attempts: 0, cause: cause.condition.clone() };
        Some((cause, again))
    }

    fn run(
        &mut self,
        queue: &Arc<Queue>,
        armed: &Armed,
        id: u64,
        cause: Cause,
        taken: Retries,
    ) -> (Run, RunOut) {
        let trigger = Arc::clone(&armed.trigger);
        trigger.tally.started();
        let TriggerAction::Run(action) = &trigger.spec.action else {
            unreachable!("invariant: only what tells has no action to run")
        };
        let attempt = taken.attempts + 1;
        let handed = |entry: &mut Entry| Handed {
            id: HandedId { queue: queue.key().queue, place: entry.seq.0 },
            message: entry.message.clone(),
            redelivered: entry.redelivered(),
            attempt: entry.deliveries + 1,
        };
        let leases = taken.leases.iter();
        let messages = leases.filter_map(|lease| self.leases.get(*lease).map(handed)).collect();
        let started_ms = cause.fired_ms;
        let cause = Cause { condition: taken.cause, ..cause };
        let run = Run {
            id,
            vhost: Arc::clone(&trigger.vhost),
            trigger: Arc::clone(&trigger.name),
            queue: Arc::clone(queue.name()),
            action: Arc::clone(action),
            cause: cause.clone(),
            messages,
            batch_attempt: attempt,
            retry_delay_ms: trigger.spec.retry_delay_ms,
        };
        let (queue, cause, leases) = (Arc::clone(queue), cause.condition, taken.leases);
        (run, RunOut { queue, trigger, leases, attempt, cause, started_ms })
    }

    // ---- ending ------------------------------------------------------------------------------

    #[expect(clippy::too_many_arguments, reason = "a transition and its surroundings")]
    fn end_run(
        &mut self,
        queue: &Arc<Queue>,
        id: u64,
        out: &RunOut,
        outcome: &Outcome,
        now: Now,
        ops: &mut Vec<Op>,
        effects: &mut Effects,
    ) {
        let mut done = Settlement::default();
        let (result, exit, tail) = match outcome {
            Outcome::Ended(ended) => {
                done = self.settle_run(queue, out, ended, now, ops, effects);
                let tail = tail(&ended.stderr_tail, STDERR_BYTES_KEPT);
                (result_of(ended, &done, out.leases.len()), ended.exit.to_string(), tail)
            }
            Outcome::CouldNotStart { reason } => {
                out.leases.iter().for_each(|lease| self.give_back(queue, *lease, ops, effects));
                (RunResult::NotStarted, reason.clone(), String::new())
            }
            Outcome::Stopped => {
                for lease in &out.leases {
                    if let Some(entry) = self.leases.get(*lease) {
                        entry.maybe_delivered = true;
                    }
                    self.give_back(queue, *lease, ops, effects);
                }
                (RunResult::Stopped, "the node stopped".to_owned(), String::new())
            }
        };
        let took_ms = match outcome {
            Outcome::Ended(ended) => ended.took_ms,
            _ => now.unix_ms.saturating_sub(out.started_ms),
        };
        let view = RunView {
            id,
            started_ms: out.started_ms,
            took_ms,
            cause: out.cause.clone(),
            messages: out.leases.len(),
            settled: done.settled,
            attempt: out.attempt,
            result: result.name(),
            exit,
            stderr_tail: tail,
        };
        out.trigger.tally.ended(result, view);
        let settled = done.settled > 0;
        let (handed, key) = (out.leases.len(), queue.key().queue);
        let Some(armed) = self.armed_mut(&out.trigger.name) else {
            return self.give_all_back(queue, done, ops, effects);
        };
        armed.running = armed.running.saturating_sub(1);
        armed.out = armed.out.saturating_sub(armed.units(handed));
        if settled {
            armed.progressed();
        }
        armed.after(outcome, result, handed, now.unix_ms);
        if let Outcome::Ended(Ended { disable: true, .. }) = outcome {
            (armed.spent, armed.owed) = (true, 0);
            let trigger = Arc::clone(&armed.trigger);
            effects.switched_off.push(SwitchedOff { trigger, debt: None });
            let waiting = armed.take_leases();
            done.again.entry(0).or_default().extend(waiting);
            self.give_all_back(queue, done, ops, effects);
        } else if armed.is_on() {
            for (due_ms, leases) in done.again {
                let (attempts, cause) = (out.attempt, out.cause.clone());
                armed.retries.push(Retries { due_ms, leases, attempts, cause });
            }
            armed.tell_debt(key, effects);
        } else {
            self.give_all_back(queue, done, ops, effects);
        }
    }

    fn give_all_back(
        &mut self,
        queue: &Arc<Queue>,
        done: Settlement,
        ops: &mut Vec<Op>,
        effects: &mut Effects,
    ) {
        for lease in done.again.into_values().flatten() {
            self.give_back(queue, lease, ops, effects);
        }
    }

    fn settle_run(
        &mut self,
        queue: &Arc<Queue>,
        out: &RunOut,
        ended: &Ended,
        now: Now,
        ops: &mut Vec<Op>,
        effects: &mut Effects,
    ) -> Settlement {
        let spec = &out.trigger.spec;
        let mut done = Settlement::default();
        for (place, lease) in out.leases.iter().enumerate() {
            let verdict = ended.verdicts.at(place);
            let limit = self.rules().delivery_limit.unwrap_or(u32::MAX);
            let Some(entry) = self.leases.get(*lease) else { continue };
            entry.maybe_delivered = true;
            let mut again_ms = spec.retry_delay_ms;
            match verdict {
                Verdict::Ack | Verdict::Reject => done.settled += 1,
                Verdict::Retry { delay_ms } => again_ms = delay_ms.unwrap_or(again_ms),
                Verdict::Failed => {
                    entry.deliveries = entry.deliveries.saturating_add(1);
                    done.failed += 1;
                }
            }
            let exhausted = entry.deliveries >= spec.attempts_max || entry.deliveries > limit;
            let end = match verdict {
                Verdict::Ack => None,
                Verdict::Reject => Some(DeathReason::Rejected),
                Verdict::Failed if exhausted => Some(DeathReason::DeliveryLimit),
                Verdict::Retry { .. } | Verdict::Failed => {
                    let due_ms = now.unix_ms.saturating_add(again_ms);
                    done.again.entry(due_ms).or_default().push(*lease);
                    continue;
                }
            };
            let Some(entry) = self.leases.take(*lease) else { continue };
            match end {
                None => {
                    let settled = Settled::of(&entry, ConsumerId::NONE, Acks::Manual);
                    self.settle(queue.spec(), &[settled], ops);
                }
                Some(_) if self.gone => {}
                Some(reason) => self.die(queue, entry, reason, ops, effects),
            }
        }
        done
    }

    // ---- telling -----------------------------------------------------------------------------

    fn take_events(&mut self, queue: u64, now: Now, effects: &mut Effects) -> Vec<EventWish> {
        let Some(triggers) = &mut self.triggers else { return Vec::new() };
        triggers.tells = false;
        let mut events = Vec::new();
        let of = QueueFactsNow {
            ready: &self.ready,
            idle_since_ms: triggers.idle_since_ms,
            now_ms: now.unix_ms,
        };
        for armed in &mut triggers.armed {
            while events.len() < EVENTS_AT_ONCE && armed.may_tell(&of) {
                let (trigger, cause) = (Arc::clone(&armed.trigger), armed.cause(&of));
                armed.fire(now.unix_ms);
                armed.started(now.unix_ms);
                let spec = &trigger.spec;
                armed.raised = !spec.condition.is_every();
                armed.spent |= spec.one_shot;
                armed.out += armed.units(0);
                armed.owed = 0;
                armed.tell_debt(queue, effects);
                if spec.cooldown_ms > 0 {
                    let until_ms = now.unix_ms.saturating_add(spec.cooldown_ms);
                    armed.pause(Suppressed::Cooldown, until_ms, String::new());
                }
                events.push(EventWish { trigger, cause });
            }
        }
        events
    }
}

impl Armed {
    /// What handing over so many messages counts for: a start, where none are handed over, only if
    /// it is the one that is owed.
    fn units(&self, leases: usize) -> u64 {
        match self.trigger.spec.mode {
            Mode::Deliver => leases as u64,
            Mode::Notify | Mode::Event => u64::from(self.trigger.spec.one_shot),
        }
    }

    /// What it owes has changed, if it is to fire only once and has.
    fn tell_debt(&self, queue: u64, effects: &mut Effects) {
        if self.spent && self.trigger.spec.one_shot {
            let (trigger, debt) = (Arc::clone(&self.trigger), self.debt(queue));
            effects.switched_off.push(SwitchedOff { trigger, debt });
        }
    }

    /// Takes what it keeps leased, other than for runs under way.
    fn take_leases(&mut self) -> Vec<LeaseHandle> {
        let again = std::mem::take(&mut self.retries).into_iter().flat_map(|batch| batch.leases);
        let gathered = self.gathered.take().into_iter().flat_map(|gathered| gathered.leases);
        again.chain(gathered).collect()
    }

    fn into_leases(mut self) -> Vec<LeaseHandle> {
        self.take_leases()
    }

    fn cause(&self, of: &QueueFactsNow<'_>) -> Cause {
        let view = self.view(of);
        Cause {
            condition: self.trigger.spec.condition.to_string(),
            ready: view.count(0),
            oldest_age_ms: view.oldest_ms(0).map(|ms| of.now_ms.saturating_sub(ms)),
            fired_ms: of.now_ms,
        }
    }

    /// What a run's end means for the next one.
    fn after(&mut self, outcome: &Outcome, result: RunResult, handed: usize, now_ms: u64) {
        let handed = self.units(handed);
        let trigger = Arc::clone(&self.trigger);
        let spec = &trigger.spec;
        let is_notify = spec.mode == Mode::Notify;
        match outcome {
            Outcome::CouldNotStart { reason } => {
                self.owed = self.owed.saturating_add(handed);
                self.take_back();
                self.failed(Suppressed::Error, now_ms, reason.clone());
                return;
            }
            Outcome::Ended(ended) if result != RunResult::Succeeded => {
                if let Some(pause_ms) = ended.pause_ms {
                    let reason = format!("{}: not ready for anything", ended.exit);
                    self.pause(Suppressed::Backoff, now_ms.saturating_add(pause_ms), reason);
                }
                if is_notify {
                    // What it was started for still waits.
                    self.take_back();
                    self.owed = self.owed.saturating_add(handed);
                    let reason = ended.exit.to_string();
                    match ended.verdicts.at(0) {
                        Verdict::Retry { delay_ms: Some(ms) } => {
                            self.pause(Suppressed::Backoff, now_ms.saturating_add(ms), reason);
                        }
                        _ => self.failed(Suppressed::Backoff, now_ms, reason),
                    }
                }
            }
            Outcome::Ended(_) => self.failures = 0,
            Outcome::Stopped => self.owed = self.owed.saturating_add(handed),
        }
        if spec.cooldown_ms > 0 {
            let until_ms = now_ms.saturating_add(spec.cooldown_ms);
            self.pause(Suppressed::Cooldown, until_ms, String::new());
        }
    }
}

fn result_of(ended: &Ended, done: &Settlement, handed: usize) -> RunResult {
    if handed == 0 {
        return match ended.verdicts.at(0) {
            Verdict::Ack => RunResult::Succeeded,
            Verdict::Retry { .. } => RunResult::Retried,
            Verdict::Reject | Verdict::Failed => RunResult::Failed,
        };
    }
    let rejected = match &ended.verdicts {
        Verdicts::All(verdict) => *verdict == Verdict::Reject,
        Verdicts::Each(verdicts) => verdicts.contains(&Verdict::Reject),
    };
    if done.settled == handed {
        if rejected { RunResult::Partly } else { RunResult::Succeeded }
    } else if done.settled > 0 {
        RunResult::Partly
    } else if done.failed > 0 {
        RunResult::Failed
    } else {
        RunResult::Retried
    }
}

/// The end of a text, of at most so many bytes.
fn tail(text: &str, bytes_max: usize) -> String {
    let mut from = text.len().saturating_sub(bytes_max);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text[from..].to_owned()
}
