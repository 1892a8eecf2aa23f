//! A queue's triggers: whether they fire, what they hand over, and what becomes of it.
//!
//! At the end of every change the queue looks at its triggers ([`State::look_at_triggers`]). That
//! tells when the next of them is due: if at once, the queue is given to the engine as an effect,
//! which takes what is to be told, or run, after the lock is released; if later, a deadline is
//! noted. What is done with it then stands in `trigger_calls`.
//!
//! A firing hands over all messages that qualify at that moment, batch by batch (`owed`), so that a
//! `depth` of ten is ten messages and not the first of them. What is to be tried again stays leased
//! and is handed over together once more when its time has come, even if nothing else is; it needs
//! no new firing.
//!
//! A trigger that fires once switches itself off when it does, and owes what it fired for until
//! that is done with: the store knows how much ([`Armed::debt`]), so a restart forgets nothing.
//!
//! Invariants: `running` counts the runs that were taken and have not ended; a message in `retries`
//! is leased; `tells` and `runs` are set exactly while the engine knows that it is to ask.

use std::sync::Arc;

use super::Effects;
use super::Queue;
use super::leases::LeaseHandle;
use super::ready::Ready;
use super::state::State;
use super::trigger_gather::Gathered;
use super::watches::Watched;
use crate::broker::trigger::condition::{Condition, Facts, Kind, NEVER, NOW};
use crate::broker::trigger::spec::Mode;
use crate::broker::trigger::tally::Suppressed;
use crate::broker::trigger::{Debt, Trigger};

/// Messages of a trigger that wait to be tried again before it starts nothing new.
const RETRIES_MAX: usize = 1_000;
/// The longest pause of a trigger that goes in circles, or fails.
const PAUSE_MS_MAX: u64 = 60_000;
/// The first pause of one that cannot be started.
const ERROR_PAUSE_MS: u64 = 5_000;

/// The triggers of one queue.
#[derive(Debug)]
pub(super) struct QueueTriggers {
    pub(super) armed: Vec<Armed>,
    /// Since when nobody consumes.
    pub(super) idle_since_ms: Option<u64>,
    /// The last moment that was known. What is due by then is due.
    pub(super) now_ms: u64,
    /// When the next one is due, if none is yet.
    due_ms: u64,
    /// The engine is to ask what there is to tell...
    pub(super) tells: bool,
    /// ...or to run.
    pub(super) runs: bool,
    /// Whose turn it is to start something.
    pub(super) turn: usize,
}

/// A trigger at its queue.
#[derive(Debug)]
pub(super) struct Armed {
    pub(super) trigger: Arc<Trigger>,
    /// By the conditions' numbers.
    pub(super) places: Box<[Place]>,
    pub(super) running: u32,
    /// Messages of a firing that are still to be handed over; of one that fires once and hands
    /// nothing over, starts or events.
    pub(super) owed: u64,
    /// The same, handed over and not done with.
    pub(super) out: u64,
    pub(super) gathered: Option<Box<Gathered>>,
    pub(super) retries: Vec<Batch>,
    pub(super) pause: Option<Box<Pause>>,
    /// An event has told of the condition, which has held ever since.
    pub(super) raised: bool,
    /// It was to fire once, and has.
    pub(super) spent: bool,
    /// Failures in a row.
    pub(super) failures: u32,
    pub(super) pace: Pace,
}

/// Why and how long a trigger starts nothing.
#[derive(Debug)]
pub(super) struct Pause {
    pub(super) until_ms: u64,
    pub(super) why: Suppressed,
    pub(super) reason: String,
}

/// Messages that are handed over together again.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) due_ms: u64,
    pub(super) leases: Vec<LeaseHandle>,
    /// Attempts so far.
    pub(super) attempts: u32,
    pub(super) cause: String,
}

/// How often it started something lately.
#[derive(Debug, Default)]
pub(super) struct Pace {
    from_ms: u64,
    starts: u32,
    /// How often in a row it was too often.
    trips: u32,
}

/// A condition's place at the queue.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) source: Source,
    /// How many of those that have come `every` was told of.
    pub(super) told: u64,
    /// A schedule's next time.
    pub(super) next_ms: u64,
}

/// Where it is known how many messages qualify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// All do.
    All,
    /// Those of a level and the higher ones.
    From(u8),
    /// A watch counts them.
    Watch(usize),
}

/// What a trigger is to start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// A batch that was handed over before, by its place.
    Again(usize),
    /// What waits, or was gathered of it.
    Anew,
}

impl Default for QueueTriggers {
    fn default() -> Self {
        let armed = Vec::new();
        let (tells, runs) = (false, false);
        Self { armed, idle_since_ms: None, now_ms: 0, due_ms: NEVER, tells, runs, turn: 0 }
    }
}

/// A queue, as one of its triggers sees it.
pub(super) struct View<'v> {
    pub(super) places: &'v [Place],
    pub(super) ready: &'v Ready,
    pub(super) idle_since_ms: Option<u64>,
    pub(super) now_ms: u64,
}

impl Facts for View<'_> {
    fn count(&self, place: usize) -> u64 {
        match self.places[place].source {
            Source::All => self.ready.len() as u64,
            Source::From(level) => self.ready.len_from(level),
            Source::Watch(watch) => self.ready.watched(watch).map_or(0, |it| it.count()),
        }
    }

    fn oldest_ms(&self, place: usize) -> Option<u64> {
        match self.places[place].source {
            Source::All => self.ready.oldest_ms(0),
            Source::From(level) => self.ready.oldest_ms(level),
            Source::Watch(watch) => self.ready.watched(watch)?.oldest_ms(),
        }
    }

    fn untold(&self, place: usize) -> u64 {
        let Place { source: Source::Watch(watch), told, .. } = self.places[place] else {
            return self.count(place);
        };
        let watch = self.ready.watched(watch);
        watch.map_or(0, |it| it.came().saturating_sub(told).min(it.count()))
    }

    fn came_within(&self, place: usize, _: u64) -> u64 {
        let Source::Watch(watch) = self.places[place].source else { return 0 };
        self.ready.watched(watch).map_or(0, |it| it.came_within(self.now_ms))
    }

    fn idle_since_ms(&self) -> Option<u64> {
        self.idle_since_ms
    }

    fn next_ms(&self, place: usize) -> u64 {
        self.places[place].next_ms
    }
}

impl Place {
    fn new(
        condition: &Condition,
        mode: Mode,
        places: bool,
        ready: &mut Ready,
        now_ms: u64,
    ) -> Self {
        let selection = &condition.selection;
        let ages = matches!(condition.kind, Kind::Age { .. }) || condition.max_wait_ms.is_some();
        let window_ms = match condition.kind {
            Kind::Rate { window_ms, .. } => Some(window_ms),
            _ => None,
        };
        let tells_each = condition.is_every() && mode != Mode::Deliver;
        let by_level = selection.headers.is_empty() && ready.knows_priority(selection.min_priority);
        let source = if tells_each || window_ms.is_some() || !by_level {
            let selection = Arc::new(selection.clone());
            Source::Watch(ready.watch(Watched { selection, ages, window_ms, places }))
        } else if selection.is_all() {
            Source::All
        } else {
            Source::From(selection.min_priority)
        };
        let next_ms = match condition.kind {
            Kind::Schedule(schedule) => schedule.after(now_ms),
            _ => NEVER,
        };
        Self { source, told: 0, next_ms }
    }
}

impl Armed {
    pub(super) fn new(trigger: Arc<Trigger>, queue: u64, ready: &mut Ready, now_ms: u64) -> Self {
        let mode = trigger.spec.mode;
        let conditions = trigger.spec.condition.all();
        let place = |(at, condition): &(usize, &Condition)| {
            let places = *at == 0 && mode == Mode::Deliver;
            Place::new(condition, mode, places, ready, now_ms)
        };
        let debt = trigger.debt.filter(|debt| debt.queue == queue);
        Self {
            places: conditions.iter().map(place).collect(),
            trigger: Arc::clone(&trigger),
            running: 0,
            owed: debt.map_or(0, |debt| debt.count),
            out: 0,
            gathered: None,
            retries: Vec::new(),
            pause: None,
            raised: false,
            spent: debt.is_some(),
            failures: 0,
            pace: Pace::default(),
        }
    }

    pub(super) fn unwatch(&self, ready: &mut Ready) {
        for place in &self.places {
            if let Source::Watch(watch) = place.source {
                ready.unwatch(watch);
            }
        }
    }

    pub(super) fn view<'v>(&'v self, of: &'v QueueFactsNow<'v>) -> View<'v> {
        let &QueueFactsNow { ready, idle_since_ms, now_ms } = of;
        View { places: &self.places, ready, idle_since_ms, now_ms }
    }

    /// Whether a message that qualifies may be taken, in memory or not.
    fn can_take(&self, ready: &Ready) -> bool {
        match self.source() {
            Source::All => ready.has_any_from(0),
            Source::From(level) => ready.has_any_from(level),
            Source::Watch(watch) => ready.watched(watch).is_some_and(|it| it.has_some()),
        }
    }

    /// What it has fired for and is not done with, if it is to fire only once.
    pub(super) fn debt(&self, queue: u64) -> Option<Debt> {
        if !self.spent || !self.trigger.spec.one_shot {
            return None;
        }
        let waiting = self.retries.iter().map(|batch| &batch.leases);
        let waiting: usize = waiting.map(Vec::len).sum();
        let count = self.owed + self.out + waiting as u64;
        (count > 0).then_some(Debt { queue, count })
    }

    /// More than waits is not owed: it may have expired.
    pub(super) fn limit_owed(&mut self, of: &QueueFactsNow<'_>) {
        if self.owed > 0 && self.trigger.spec.mode == Mode::Deliver {
            let gathered = self.gathered.as_ref().map_or(0, |gathered| gathered.leases.len());
            self.owed = self.owed.min(self.view(of).count(0) + gathered as u64);
        }
    }

    /// From when on there is something new to start, as far as the queue goes.
    fn holds_from(&self, of: &QueueFactsNow<'_>) -> u64 {
        let view = self.view(of);
        let spec = &self.trigger.spec;
        if let Some(gathered) = &self.gathered {
            return if gathered.is_whole { NOW } else { NEVER };
        }
        if spec.mode == Mode::Deliver && !self.can_take(of.ready) {
            return NEVER;
        }
        if self.owed > 0 {
            return NOW;
        }
        if self.spent {
            return NEVER;
        }
        let from_ms = spec.condition.holds_from(&view);
        // Whoever is at work was started for what waited then; more are for what has come since.
        if spec.mode == Mode::Notify && self.running > 0 {
            let each = match spec.condition.kind {
                Kind::Every => return from_ms,
                Kind::First => 1,
                Kind::Depth { count } => count,
                _ => return NEVER,
            };
            let enough = each.saturating_mul(u64::from(self.running) + 1);
            return if view.count(0) >= enough { from_ms } else { NEVER };
        }
        from_ms
    }

    /// When it is due, if nothing changes.
    fn due_ms(&mut self, of: &QueueFactsNow<'_>) -> u64 {
        if !self.is_on() {
            return NEVER;
        }
        self.trigger.tally.evaluated();
        self.limit_owed(of);
        self.pass_schedules(of);
        let mut new_ms = self.holds_from(of);
        if new_ms > of.now_ms {
            self.raised = false;
        } else if self.has_told() {
            new_ms = NEVER;
        } else if let Some(why) = self.held_back(of) {
            self.trigger.tally.suppressed(why);
            new_ms = NEVER;
        }
        let mut due_ms = new_ms.min(self.retry_ms());
        if let Some(pause) = self.pause.as_ref().filter(|pause| pause.until_ms > of.now_ms) {
            if due_ms <= of.now_ms {
                self.trigger.tally.suppressed(pause.why);
            }
            due_ms = due_ms.max(pause.until_ms);
        }
        let times = self.places.iter().map(|place| place.next_ms);
        due_ms.min(times.filter(|ms| *ms > of.now_ms).min().unwrap_or(NEVER))
    }

    /// Whether it starts things, if only those that it still owes.
    pub(super) fn is_on(&self) -> bool {
        self.trigger.spec.enabled || self.spent
    }

    /// Whether an event has told of what holds, and that is enough.
    fn has_told(&self) -> bool {
        self.raised && self.trigger.spec.cooldown_ms == 0
    }

    fn retry_ms(&self) -> u64 {
        if self.running >= self.trigger.spec.concurrency {
            return NEVER;
        }
        self.retries.iter().map(|batch| batch.due_ms).min().unwrap_or(NEVER)
    }

    /// Why it starts nothing though its condition holds, other than a pause.
    pub(super) fn held_back(&self, of: &QueueFactsNow<'_>) -> Option<Suppressed> {
        let spec = &self.trigger.spec;
        if self.running >= spec.concurrency {
            return Some(Suppressed::Running);
        }
        if self.gathered.is_some() {
            return None;
        }
        if spec.only_without_consumers && of.idle_since_ms.is_none() {
            return Some(Suppressed::Consumers);
        }
        let retries: usize = self.retries.iter().map(|batch| batch.leases.len()).sum();
        (retries >= RETRIES_MAX).then_some(Suppressed::Retries)
    }

    /// A time that comes while there is nothing to do for it is over.
    fn pass_schedules(&mut self, of: &QueueFactsNow<'_>) {
        let now_ms = of.now_ms;
        if self.places.iter().all(|place| place.next_ms > now_ms) {
            return;
        }
        let trigger = Arc::clone(&self.trigger);
        for (place, condition) in trigger.spec.condition.all() {
            if let Kind::Schedule(schedule) = condition.kind
                && self.places[place].next_ms <= now_ms
                && self.view(of).count(place) == 0
            {
                self.places[place].next_ms = schedule.after(now_ms);
            }
        }
    }

    /// What there is to start now.
    pub(super) fn start(&mut self, of: &QueueFactsNow<'_>) -> Option<Start> {
        let is_meant = self.trigger.spec.mode != Mode::Event && self.is_on();
        if !is_meant || self.is_paused(of.now_ms) {
            return None;
        }
        if self.retry_ms() <= of.now_ms {
            let first = self.retries.iter().enumerate().min_by_key(|(_, batch)| batch.due_ms);
            return first.map(|(at, _)| Start::Again(at));
        }
        self.may_fire(of).then_some(Start::Anew)
    }

    /// Whether there is something to tell of now.
    pub(super) fn may_tell(&mut self, of: &QueueFactsNow<'_>) -> bool {
        let Mode::Event = self.trigger.spec.mode else { return false };
        let is_ready = self.is_on() && !self.is_paused(of.now_ms);
        is_ready && !self.has_told() && self.may_fire(of)
    }

    fn may_fire(&self, of: &QueueFactsNow<'_>) -> bool {
        self.holds_from(of) <= of.now_ms && self.held_back(of).is_none()
    }

    fn is_paused(&mut self, now_ms: u64) -> bool {
        if self.pause.as_ref().is_some_and(|pause| pause.until_ms <= now_ms) {
            self.pause = None;
        }
        self.pause.is_some()
    }

    /// It fires: once for whatever its conditions were waiting for.
    pub(super) fn fire(&mut self, now_ms: u64) {
        let trigger = Arc::clone(&self.trigger);
        trigger.tally.fired(now_ms);
        for (place, condition) in trigger.spec.condition.all() {
            match condition.kind {
                Kind::Every => self.places[place].told += 1,
                Kind::Schedule(schedule) if self.places[place].next_ms <= now_ms => {
                    self.places[place].next_ms = schedule.after(now_ms);
                }
                _ => {}
            }
        }
    }

    /// What it fired for is to be told again.
    pub(super) fn take_back(&mut self) {
        let trigger = Arc::clone(&self.trigger);
        for (place, condition) in trigger.spec.condition.all() {
            if condition.is_every() {
                self.places[place].told = self.places[place].told.saturating_sub(1);
            }
        }
    }

    /// It starts something. Too many of these are a loop.
    pub(super) fn started(&mut self, now_ms: u64) {
        let trigger = Arc::clone(&self.trigger);
        let spec = &trigger.spec;
        let pace = &mut self.pace;
        if now_ms >= pace.from_ms.saturating_add(spec.starts_interval_ms) {
            if pace.starts < spec.starts_max {
                pace.trips = 0;
            }
            (pace.from_ms, pace.starts) = (now_ms, 0);
        }
        pace.starts += 1;
        if pace.starts >= spec.starts_max {
            pace.trips += 1;
            let ms = grown(spec.starts_interval_ms, pace.trips - 1);
            let (starts, interval_ms) = (pace.starts, spec.starts_interval_ms);
            let reason = format!("{starts} starts within {interval_ms} ms settled nothing");
            self.pause(Suppressed::Backoff, now_ms.saturating_add(ms), reason);
        }
    }

    /// What it started has got something done.
    pub(super) fn progressed(&mut self) {
        self.pace.starts = self.pace.starts.saturating_sub(1);
        if self.pace.starts < self.trigger.spec.starts_max {
            self.pace.trips = 0;
        }
    }

    /// It has failed; the longer the more often.
    pub(super) fn failed(&mut self, why: Suppressed, now_ms: u64, reason: String) {
        let first_ms = match why {
            Suppressed::Error => ERROR_PAUSE_MS,
            _ => self.trigger.spec.retry_delay_ms,
        };
        let until_ms = now_ms.saturating_add(grown(first_ms, self.failures));
        self.failures = self.failures.saturating_add(1);
        self.pause(why, until_ms, reason);
    }

    /// Pauses it, unless it pauses for longer already.
    pub(super) fn pause(&mut self, why: Suppressed, until_ms: u64, reason: String) {
        if self.pause.as_ref().is_none_or(|pause| pause.until_ms < until_ms) {
            self.pause = Some(Box::new(Pause { until_ms, why, reason }));
        }
    }
}

/// A pause that has doubled so many times.
fn grown(ms: u64, times: u32) -> u64 {
    ms.saturating_mul(1 << times.min(10)).min(PAUSE_MS_MAX.max(ms))
}

/// What a queue's triggers look at.
#[derive(Clone, Copy)]
pub(super) struct QueueFactsNow<'q> {
    pub(super) ready: &'q Ready,
    pub(super) idle_since_ms: Option<u64>,
    pub(super) now_ms: u64,
}

impl State {
    /// Looks at the triggers and notes when the next of them is due.
    pub(super) fn look_at_triggers(&mut self, queue: &Arc<Queue>, effects: &mut Effects) {
        let (consumers, used_ms) = (self.consumers(), self.used_ms());
        let Some(triggers) = &mut self.triggers else { return };
        triggers.idle_since_ms = match (consumers, triggers.idle_since_ms) {
            (0, None) => Some(used_ms),
            (0, since_ms) => since_ms,
            _ => None,
        };
        let of = QueueFactsNow {
            ready: &self.ready,
            idle_since_ms: triggers.idle_since_ms,
            now_ms: triggers.now_ms,
        };
        triggers.due_ms = NEVER;
        for armed in &mut triggers.armed {
            let due_ms = armed.due_ms(&of);
            if due_ms > triggers.now_ms {
                triggers.due_ms = triggers.due_ms.min(due_ms);
                continue;
            }
            let (flag, ask) = match armed.trigger.spec.mode {
                Mode::Event => (&mut triggers.tells, &mut effects.tells),
                _ => (&mut triggers.runs, &mut effects.runs),
            };
            if !std::mem::replace(flag, true) {
                ask.push(Arc::clone(queue));
            }
        }
    }

    /// When a trigger is due that is not yet.
    pub(super) fn trigger_due_ms(&self) -> Option<u64> {
        self.triggers.as_ref().map(|triggers| triggers.due_ms)
    }
}
