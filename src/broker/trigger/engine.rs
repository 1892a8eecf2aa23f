//! The engine: from a queue that wants something run to the edge that runs it, and back; and how
//! triggers come and go.
//!
//! Invariants: a run is in `out` from the moment it is taken until it is ended; a queue is in
//! `wanting` once for each time that it asked, and asks again only after it was asked.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use serde_json::Value as Json;

use super::json::{Reader, SpecError};
use super::run::{Action, Allowed, Outcome, Run, Runs};
use super::spec::{TriggerAction, TriggerSpec};
use super::tally::Tally;
use super::views::{Explanation, TriggerView};
use super::{Debt, EventWish, Trigger};
use crate::broker::definitions::{DefinitionError, DefinitionKey, Record, number_value};
use crate::broker::outbox::Wake;
use crate::broker::queue::{Effects, Publisher, Queue, RunOut, SwitchedOff};
use crate::broker::vhost::Vhost;
use crate::broker::{Broker, Now};
use crate::protocol::table::{Table, Value};
use crate::store::{Batch, Lsn};

/// What the node keeps in mind about runs.
#[derive(Default)]
pub(in crate::broker) struct Engine {
    wanting: Mutex<VecDeque<Weak<Queue>>>,
    out: Mutex<HashMap<u64, RunOut>>,
    waker: OnceLock<Arc<dyn Wake>>,
    allowed: OnceLock<Arc<dyn Allowed>>,
    last_id: AtomicU64,
}

/// What became of a trigger that was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TriggerSet {
    /// Whether it replaced one of the same name.
    pub replaced: bool,
    /// When that is durable.
    pub lsn: Lsn,
}

impl Engine {
    /// An engine whose runs have numbers that none had before, if the clock has moved on since.
    pub(in crate::broker) fn new(started: Now) -> Self {
        let first = (started.unix_ms / 1_000) << 20;
        Self { last_id: AtomicU64::new(first), ..Self::default() }
    }

    fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A queue wants something run.
    fn want(&self, queue: &Arc<Queue>) {
        self.wanting().push_back(Arc::downgrade(queue));
        if let Some(waker) = self.waker.get() {
            waker.wake();
        }
    }

    fn wanting(&self) -> MutexGuard<'_, VecDeque<Weak<Queue>>> {
        self.wanting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn out(&self) -> MutexGuard<'_, HashMap<u64, RunOut>> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runs for Broker {
    fn set_runs_waker(&self, waker: Arc<dyn Wake>) {
        let _only_once = self.engine.waker.set(waker);
    }

    fn set_allowed(&self, allowed: Arc<dyn Allowed>) {
        let _only_once = self.engine.allowed.set(allowed);
    }

    fn next_run(&self, now: Now) -> Option<Run> {
        loop {
            let queue = self.engine.wanting().pop_front()?;
            let Some(queue) = queue.upgrade() else { continue };
            let mut effects = Effects::default();
            let id = self.engine.next_id();
            let started = queue.start_run(id, now, &mut effects);
            let started = started.map(|(run, out)| {
                self.engine.out().insert(id, out);
                run
            });
            self.finish(&mut effects, now);
            if started.is_some() {
                return started;
            }
        }
    }

    fn run_ended(&self, id: u64, outcome: Outcome, now: Now) {
        let out = self.engine.out().remove(&id);
        let Some(out) = out else { return };
        let mut effects = Effects::default();
        out.queue.end_run(id, &out, &outcome, now, &mut effects);
        self.finish(&mut effects, now);
    }

    fn programs_changed(&self, now: Now) {
        let mut effects = Effects::default();
        for vhost in self.vhosts_for(None) {
            let queues: Vec<_> = vhost.queues.iter().map(|it| Arc::clone(it.value())).collect();
            queues.iter().for_each(|queue| queue.forget_errors(now, &mut effects));
        }
        self.finish(&mut effects, now);
    }
}

impl Broker {
    /// Does what queues' triggers want, with no lock held.
    pub(in crate::broker) fn serve_triggers(&self, effects: &mut Effects, now: Now) {
        for queue in std::mem::take(&mut effects.armed) {
            queue.look(now, effects);
        }
        for queue in std::mem::take(&mut effects.tells) {
            for event in queue.take_events(now, effects) {
                let reached = self.publish_event(&event, now, effects);
                queue.note_told(&event.trigger.name, reached, now, effects);
            }
        }
        effects.runs.drain(..).for_each(|queue| self.engine.want(&queue));
        for off in std::mem::take(&mut effects.switched_off) {
            self.switch_off(&off, now, effects);
        }
    }

    /// Whether it reached a queue.
    fn publish_event(&self, event: &EventWish, now: Now, effects: &mut Effects) -> bool {
        let TriggerAction::Publish { exchange, .. } = &event.trigger.spec.action else {
            return false;
        };
        let vhost = self.vhost(&event.trigger.vhost);
        let Some(vhost) = vhost else { return false };
        let Some(exchange) = vhost.exchange(exchange.as_bytes()) else { return false };
        let id = self.engine.next_id();
        let Some(message) = event.message(&self.settings.node_name, id, now) else { return false };
        let publisher = Publisher::GoesOn;
        self.publish_from(&vhost, &exchange, &message, publisher, now, effects).is_some()
    }

    /// Refuses a trigger whose program is there, and not for its queue.
    pub(super) fn check_allowed(&self, vhost: &Vhost, spec: &TriggerSpec) -> Result<(), SpecError> {
        let TriggerAction::Run(action) = &spec.action else { return Ok(()) };
        let Action::Program { name, .. } = &**action else { return Ok(()) };
        let allowed = self.engine.allowed.get();
        let refusal = allowed.and_then(|it| it.refusal(name, vhost.name(), &spec.queue));
        let refused = |reason| Err(SpecError { field: "action.name".to_owned(), reason });
        refusal.map_or(Ok(()), refused)
    }

    /// Sets a trigger in place of the one with its name, if there is one. Its queue obeys it when
    /// this returns.
    pub fn set_trigger(
        &self,
        vhost: &Arc<Vhost>,
        name: &str,
        spec: TriggerSpec,
        now: Now,
        effects: &mut Effects,
    ) -> TriggerSet {
        let change = vhost.change();
        let old = vhost.trigger(name);
        let trigger = Arc::new(match &old {
            Some(old) => old.redefined(spec),
            None => Trigger {
                vhost: Arc::clone(vhost.name()),
                name: name.into(),
                spec,
                tally: Arc::new(Tally::default()),
                debt: None,
            },
        });
        let put = trigger_key(vhost, name).put(record(&trigger));
        let lsn = self.define(vhost, Batch { ops: vec![put], awaited: true });
        let replaced = vhost.write_triggers().insert(Arc::clone(&trigger));
        if let Some(old) = replaced.as_ref().filter(|old| old.spec.queue != trigger.spec.queue)
            && let Some(queue) = vhost.queue(old.spec.queue.as_bytes())
        {
            queue.disarm(name, now, effects);
        }
        let queue = vhost.queue(trigger.spec.queue.as_bytes());
        if let Some(queue) = &queue {
            queue.arm(&trigger, now);
        }
        effects.armed.extend(queue);
        let was = || replaced.as_deref().map(fields);
        self.told(effects).change_aside("trigger.set", was, || fields(&trigger));
        drop(change);
        TriggerSet { replaced: replaced.is_some(), lsn }
    }

    /// Takes a trigger away. `None` when there is none of this name, else when that is durable.
    pub fn delete_trigger(
        &self,
        vhost: &Arc<Vhost>,
        name: &str,
        now: Now,
        effects: &mut Effects,
    ) -> Option<Lsn> {
        let change = vhost.change();
        let removed = vhost.write_triggers().remove(name)?;
        let ops = vec![trigger_key(vhost, name).delete()];
        let lsn = self.define(vhost, Batch { ops, awaited: true });
        if let Some(queue) = vhost.queue(removed.spec.queue.as_bytes()) {
            queue.disarm(name, now, effects);
        }
        let was = || Some(fields(&removed));
        self.told(effects).change_aside("trigger.deleted", was, || fields(&removed));
        drop(change);
        Some(lsn)
    }

    /// Switches a trigger on or off. `None` when there is none of this name.
    pub fn enable_trigger(
        &self,
        vhost: &Arc<Vhost>,
        name: &str,
        enabled: bool,
        now: Now,
        effects: &mut Effects,
    ) -> Option<Lsn> {
        let spec = TriggerSpec { enabled, ..vhost.trigger(name)?.spec.clone() };
        Some(self.set_trigger(vhost, name, spec, now, effects).lsn)
    }

    /// A trigger has switched itself off, or done something of what it owed then: what it has out,
    /// and what it owes, goes on, also after a restart.
    fn switch_off(
        &self,
        SwitchedOff { trigger, debt }: &SwitchedOff,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(vhost) = self.vhost(&trigger.vhost) else { return };
        let change = vhost.change();
        let Some(current) = vhost.trigger(&trigger.name) else { return };
        let spec = TriggerSpec { enabled: false, ..trigger.spec.clone() };
        let switches = current.spec == trigger.spec && current.spec.enabled;
        let goes_on = current.spec == spec && current.debt.is_some();
        if !switches && !goes_on {
            return;
        }
        let off = Arc::new(Trigger { debt: *debt, ..current.redefined(spec) });
        let put = trigger_key(&vhost, &off.name).put(record(&off));
        self.define(&vhost, Batch { ops: vec![put], awaited: false });
        vhost.write_triggers().insert(Arc::clone(&off));
        if let Some(queue) = vhost.queue(off.spec.queue.as_bytes()) {
            queue.note_spent(&off, now, effects);
        }
        if switches {
            let mut told = self.told(effects);
            told.nobody_asked();
            told.change_aside("trigger.set", || Some(fields(&current)), || fields(&off));
        }
        drop(change);
    }

    /// The triggers of one vhost, or of all, as operators see them.
    #[must_use]
    pub fn trigger_views(&self, vhost: Option<&str>, now: Now) -> Vec<TriggerView> {
        let of_one = |vhost: &Arc<Vhost>| {
            let view = |trigger| self.trigger_view(vhost, &trigger, now);
            vhost.triggers().into_iter().map(view).collect::<Vec<_>>()
        };
        self.vhosts_for(vhost).iter().flat_map(of_one).collect()
    }

    fn trigger_view(&self, vhost: &Vhost, trigger: &Arc<Trigger>, now: Now) -> TriggerView {
        self.explain(vhost, trigger, now).view
    }

    /// Why a trigger fires, or does not.
    #[must_use]
    pub fn explain(&self, vhost: &Vhost, trigger: &Arc<Trigger>, now: Now) -> Explanation {
        let queue = vhost.queue(trigger.spec.queue.as_bytes());
        let explained = queue.and_then(|queue| queue.explain(trigger, now));
        explained.unwrap_or_else(|| Explanation::without_queue(trigger))
    }
}

fn trigger_key(vhost: &Vhost, name: &str) -> DefinitionKey {
    DefinitionKey::Trigger { vhost: vhost.name().to_string(), name: name.to_owned() }
}

fn record(trigger: &Trigger) -> Record {
    let text = trigger.spec.to_json(Reader::Store).to_string();
    let record = Record::default().with("definition", Value::LongStr(text.into_bytes()));
    let Some(Debt { queue, count }) = trigger.debt else { return record };
    record.with("owed_queue", number_value(queue)).with("owed", number_value(count))
}

/// What a trigger owes, by its record.
fn debt(record: &Record) -> Result<Option<Debt>, DefinitionError> {
    if !record.has("owed") {
        return Ok(None);
    }
    Ok(Some(Debt { queue: record.number("owed_queue")?, count: record.number("owed")? }))
}

/// A trigger as it was kept.
pub(in crate::broker) fn from_record(
    vhost: &Vhost,
    name: &str,
    record: &Record,
) -> Result<Trigger, DefinitionError> {
    let json: Json = serde_json::from_str(record.text("definition")?)
        .map_err(|error| DefinitionError(error.to_string()))?;
    let spec = TriggerSpec::from_json(&json).map_err(|error| DefinitionError(error.to_string()))?;
    let (vhost, name) = (Arc::clone(vhost.name()), name.into());
    Ok(Trigger { vhost, name, spec, tally: Arc::default(), debt: debt(record)? })
}

/// A trigger as the audit log has it.
fn fields(trigger: &Trigger) -> Table {
    Table::new()
        .with("name", &*trigger.name)
        .with("vhost", &*trigger.vhost)
        .with("definition", &*trigger.spec.to_json(Reader::Anyone).to_string())
}
