//! What the broker submits: every operation must have a reason, everything promised must be there,
//! and what belongs together must be one batch.

use std::collections::BTreeSet;

use super::{Auto, CopyKey, Defines, Judge, Place, Record, Settling, Step, Transaction};
use crate::simulation::disk::{Change, Submitted};

impl Judge {
    /// The step's requests have been taken, and this was submitted.
    pub(crate) fn submitted(&mut self, batches: &[Submitted]) {
        for batch in batches {
            // Copies that have arrived elsewhere, and the places that they must leave.
            let mut moving: Vec<((u64, u64), CopyKey)> = Vec::new();
            for (at, change) in batch.changes.iter().enumerate() {
                match change {
                    Change::Enqueue { queue, seq, id, first_death, is_later } => {
                        if *is_later {
                            // Not one of the plan's queues: the exchange's own.
                            self.keys.entry(*queue).or_insert(None);
                        }
                        if let Some(place) = self.keys.get(queue).copied() {
                            let to = (batch.lsn, *queue, *seq);
                            self.enqueued(to, place, *id, first_death.as_deref(), &mut moving);
                        }
                    }
                    Change::Settle { queue, seq } => {
                        let from = (*queue, *seq);
                        for key in self.stored.remove(&from).unwrap_or_default() {
                            let is_moving = moving.iter().position(|it| *it == (from, key));
                            match is_moving {
                                Some(at) => drop(moving.swap_remove(at)),
                                None => self.settled(batch, at, key),
                            }
                        }
                    }
                    Change::Purge { queue, from, to, messages } => {
                        self.purged(batch.lsn, *queue, (*from, *to), *messages);
                    }
                    Change::Definition => {}
                }
            }
            if let Some((_, key)) = moving.first() {
                let shown = self.shown(*key);
                self.fail(format!("torn: in two places after a batch: {shown}"));
            }
        }
        let defined = |batch: &&Submitted| {
            let is_one =
                |change: &Change| matches!(change, Change::Definition | Change::Purge { .. });
            batch.changes.iter().any(is_one)
        };
        let step = std::mem::take(&mut self.step);
        self.unseen.extend(&step.autos);
        if let Some(Defines { asker, changed }) = &step.defines {
            let last = batches.iter().rfind(defined).map_or(0, |batch| batch.lsn);
            if let Some(channel) = self.channels.get_mut(asker) {
                channel.answers.push_back((last, changed.clone()));
            }
        }
        self.complete(step, batches.first().map_or(u64::MAX, |batch| batch.lsn));
    }

    fn enqueued(
        &mut self,
        (lsn, queue, seq): (u64, u64, u64),
        place: Option<usize>,
        id: u32,
        first_death: Option<&str>,
        moving: &mut Vec<((u64, u64), CopyKey)>,
    ) {
        let Some(sent) = self.sent.get(&id) else {
            return self.fail(format!("a message was stored that nobody has sent: {id}"));
        };
        let home = first_death.and_then(|name| self.plan.queue(name)).or(place);
        let keys: Vec<CopyKey> = match home {
            Some(home) => vec![(id, home)],
            None => sent.homes.iter().map(|home| (id, *home)).collect(),
        };
        for key in keys {
            let Some(copy) = self.copies.get(&key) else {
                return self.fail(format!("stored where it was not sent: {key:?}"));
            };
            let sent = &self.sent[&id];
            let is_new = sent.taken_ms.is_some() && !self.has_arrived(key);
            let is_expected = match (copy.place, place) {
                // A delayed message waits in the exchange first.
                (Place::Nowhere, None) => is_new && Self::is_delayed(sent),
                (Place::Nowhere, Some(to)) => is_new && to == key.1 && !Self::is_delayed(sent),
                // A new number; its old one was settled just now.
                (Place::In(from), Some(to)) if from == to => {
                    matches!(copy.records.last(), Some(Record::Gone { lsn: at }) if *at == lsn)
                }
                // What is not stored may go from queue to queue unseen.
                (Place::In(from), Some(to)) if !copy.is_stored() => {
                    (copy.loose || self.may_die(key, from)) && self.leads_to(from, to)
                }
                (Place::In(from), Some(to)) => {
                    self.may_die(key, from) && self.plan.queues[from].dead_letters_to == Some(to)
                }
                (Place::Waiting, Some(to)) => to == key.1 && self.is_due(key.0),
                _ => false,
            };
            if !is_expected {
                let shown = self.shown(key);
                return self.fail(format!("stored in {place:?} without a reason: {shown}"));
            }
            if let Some(Record::At { queue, seq, .. }) = copy.records.last() {
                moving.push(((*queue, *seq), key));
            }
            let now_ms = self.now_ms;
            let copy = self.copies.get_mut(&key).unwrap();
            if place.map(Place::In) != Some(copy.place) {
                self.tally.dead_letters += u64::from(matches!(copy.place, Place::In(_)));
                copy.arrive(now_ms);
            }
            let arrived_ms = copy.arrived_ms;
            copy.records.push(Record::At { lsn, queue, seq, arrived_ms });
            copy.place = place.map_or(Place::Waiting, Place::In);
            copy.loose = false;
            self.stored.entry((queue, seq)).or_default().push(key);
        }
    }

    /// Where a message that is in a queue was published to.
    fn home(&self, first_death: Option<&str>, at: usize) -> usize {
        first_death.and_then(|name| self.plan.queue(name)).unwrap_or(at)
    }

    /// Whether the delay of a message is over.
    fn is_due(&self, id: u32) -> bool {
        let sent = &self.sent[&id];
        let taken_ms = sent.taken_ms.unwrap_or(u64::MAX);
        taken_ms.saturating_add(sent.delay_ms.unwrap_or(0)) <= self.now_ms
    }

    fn has_arrived(&self, key: CopyKey) -> bool {
        !self.copies[&key].records.is_empty()
    }

    /// A stored copy is settled that has not arrived elsewhere before.
    fn settled(&mut self, batch: &Submitted, at: usize, key: CopyKey) {
        let copy = &self.copies[&key];
        let persistent = self.sent[&key.0].persistent;
        let is_kept = |at: usize| self.plan.queues[at].stores(persistent);
        // Where it goes without being stored there, whether it may go, and whether it may have been
        // given to someone who does not acknowledge: that will be seen.
        let (goes_to, is_allowed, auto) = match copy.place {
            Place::Waiting => (Some(key.1), !is_kept(key.1) && self.is_due(key.0), None),
            Place::In(from) => {
                let plan = &self.plan.queues[from];
                let is_numbered_anew = batch.changes[at..].iter().any(|change| {
                    matches!(change, Change::Enqueue { queue, id, first_death, .. }
                        if *id == key.0
                            && self.keys.get(queue) == Some(&Some(from))
                            && self.home(first_death.as_deref(), from) == key.1)
                });
                if is_numbered_anew {
                    let unlimited = plan.quorum && plan.delivery_limit.is_none();
                    let came = self.step.requeued.contains(&(key, from));
                    (Some(from), unlimited && came, None)
                } else if self.step.acked.contains(&key) {
                    (None, true, None)
                } else {
                    let to = plan.dead_letters_to;
                    let dies = self.may_die(key, from) && to.is_none_or(|to| !is_kept(to));
                    let goes = dies || self.step.purged.contains(&from);
                    let is_auto = self.is_auto(from) && copy.out.is_none();
                    let auto =
                        is_auto.then_some(Auto { from, surely: !goes, recovered: copy.recovered });
                    (to.filter(|_| dies), goes || is_auto, auto)
                }
            }
            Place::Nowhere | Place::Gone => (None, false, None),
        };
        if !is_allowed {
            let shown = self.shown(key);
            self.fail(format!("settled without a reason: {shown}"));
        }
        let now_ms = self.now_ms;
        let expires = self.sent[&key.0].ttl_ms.is_some();
        let may_vanish =
            goes_to.is_some_and(|to| self.plan.queues[to].drops() || (to == key.1 && expires));
        let place = self.copies[&key].place;
        let is_purged = matches!(place, Place::In(at) if self.step.purged.contains(&at));
        self.step.autos.extend(auto.map(|_| key));
        let copy = self.copies.get_mut(&key).unwrap();
        copy.records.push(Record::Gone { lsn: batch.lsn });
        copy.auto = auto;
        match (goes_to, copy.place) {
            (Some(to), Place::In(from)) if from == to => {}
            (Some(to), before) => {
                self.tally.dead_letters += u64::from(before != Place::Waiting);
                copy.arrive(now_ms);
                copy.place = Place::In(to);
                copy.loose = may_vanish || is_purged;
            }
            (None, _) => copy.place = Place::Gone,
        }
    }

    /// Whether someone takes messages from this queue without acknowledging them.
    fn is_auto(&self, queue: usize) -> bool {
        self.channels.values().any(|channel| {
            channel.consumers.values().any(|it| it.queue == queue && it.no_ack)
                || channel.gets.iter().any(|get| *get == (queue, true))
        })
    }

    /// Whether a copy may become a dead letter, or be dropped, now.
    fn may_die(&self, key: CopyKey, from: usize) -> bool {
        let (copy, plan) = (&self.copies[&key], &self.plan.queues[from]);
        let own_ms = self.sent[&key.0].ttl_ms.filter(|_| from == key.1);
        let ttl_ms = plan.ttl_ms.into_iter().chain(own_ms).min();
        let has_expired = ttl_ms.is_some_and(|ms| copy.arrived_ms + ms <= self.now_ms);
        let is_over = plan.length_max.filter(|_| !plan.rejects).is_some_and(|max| {
            // Or comes with the same batch.
            let may_be_here = |(key, copy): &(&CopyKey, &super::Copy)| match copy.place {
                Place::In(at) => at == from || self.leads_to(at, from),
                Place::Waiting => key.1 == from && self.is_due(key.0),
                Place::Nowhere => key.1 == from && self.step.published.contains(&key.0),
                Place::Gone => false,
            };
            self.copies.iter().filter(may_be_here).count() as u64 > max
        });
        let comes_too_often = plan.delivery_limit.is_some_and(|max| {
            let came = self.step.requeued.contains(&(key, from));
            came && copy.returns > max
        });
        let is_rejected = self.step.rejected.contains(&(key, from));
        has_expired || is_over || comes_too_often || is_rejected
    }

    fn purged(&mut self, lsn: u64, queue: u64, (from, to): (u64, u64), messages: u64) {
        let Some(place) = self.keys.get(&queue).copied() else { return };
        let range = (queue, from)..(queue, to);
        let found: Vec<(u64, u64)> = self.stored.range(range).map(|(at, _)| *at).collect();
        let is_asked = place.is_some_and(|place| self.step.purged.contains(&place));
        if found.len() as u64 != messages || !is_asked {
            self.fail(format!("{messages} of queue {queue} purged, {} are there", found.len()));
        }
        for at in found {
            for key in self.stored.remove(&at).unwrap_or_default() {
                let copy = self.copies.get_mut(&key).unwrap();
                copy.records.push(Record::Gone { lsn });
                copy.place = Place::Gone;
                if copy.out.is_some() {
                    let shown = self.shown(key);
                    self.fail(format!("purged from a client's hands: {shown}"));
                }
            }
        }
    }

    /// What the step's requests promised has been submitted, in whole batches.
    fn complete(&mut self, step: Step, since: u64) {
        for id in &step.published {
            self.complete_publish(*id);
        }
        for key in &step.acked {
            if self.copies[key].place != Place::Gone && !self.has_failed {
                let shown = self.shown(*key);
                self.fail(format!("acknowledged, and not settled: {shown}"));
            }
        }
        for (key, from) in &step.rejected {
            self.complete_death(*key, *from);
        }
        for (key, from) in &step.requeued {
            let limit = self.plan.queues[*from].delivery_limit;
            let copy = &self.copies[key];
            if limit.is_some_and(|max| copy.returns > max) {
                self.complete_death(*key, *from);
            }
        }
        for (at, transaction) in step.commits {
            self.complete_commit(at, &transaction, since);
        }
    }

    fn complete_publish(&mut self, id: u32) {
        let sent = &self.sent[&id];
        let is_kept =
            |home: usize| Self::is_delayed(sent) || self.plan.queues[home].stores(sent.persistent);
        let kept: Vec<usize> = sent.homes.iter().copied().filter(|home| is_kept(*home)).collect();
        let first = |home: &usize| self.copies[&(id, *home)].records.first().map(|it| it.lsn());
        let batches: BTreeSet<u64> = kept.iter().filter_map(first).collect();
        let missing: Vec<usize> =
            kept.iter().copied().filter(|home| first(home).is_none()).collect();
        if batches.len() > 1 {
            self.fail(format!("torn: message {id} is in the batches {batches:?}"));
        }
        if let Some(home) = missing.iter().find(|home| !self.plan.queues[**home].rejects)
            && !self.has_failed
        {
            self.fail(format!("not stored: message {id} in {home}, {:?}", self.sent[&id]));
        }
        if !missing.is_empty() {
            self.sent.get_mut(&id).unwrap().refused = true;
            for home in missing {
                self.copies.get_mut(&(id, home)).unwrap().place = Place::Gone;
            }
        }
    }

    /// A copy that had to leave its queue has done so; where nothing was stored it does it here.
    fn complete_death(&mut self, key: CopyKey, from: usize) {
        let (place, is_stored) = (self.copies[&key].place, self.copies[&key].is_stored());
        if place != Place::In(from) {
            return;
        }
        let to = self.plan.queues[from].dead_letters_to;
        let is_kept =
            to.is_some_and(|to| self.plan.queues[to].stores(self.sent[&key.0].persistent));
        if (is_stored || is_kept) && !self.has_failed {
            let shown = self.shown(key);
            return self.fail(format!("rejected, and not gone: {shown}"));
        }
        let (now_ms, may_vanish) = (self.now_ms, to.is_some_and(|to| self.plan.queues[to].drops()));
        let copy = self.copies.get_mut(&key).unwrap();
        copy.arrive(now_ms);
        copy.place = to.map_or(Place::Gone, Place::In);
        copy.loose = may_vanish;
        self.tally.dead_letters += u64::from(to.is_some());
    }

    /// Everything that a transaction does to the store is one batch, but for dead letters.
    fn complete_commit(&mut self, at: (usize, u16), transaction: &Transaction, since: u64) {
        let mut batches = BTreeSet::new();
        let mut last = 0;
        let awaits_sync = |queue: u64| {
            let place = self.keys.get(&queue).copied().flatten();
            place.is_none_or(|at| !self.plan.queues[at].os)
        };
        for id in &transaction.published {
            let sent = &self.sent[id];
            for home in &sent.homes {
                let is_delayed = Self::is_delayed(sent);
                let is_kept = is_delayed || self.plan.queues[*home].stores(sent.persistent);
                let record = self.copies[&(*id, *home)].records.first();
                let Some(lsn) = record.filter(|_| is_kept).map(|it| it.lsn()) else { continue };
                batches.insert(lsn);
                if is_delayed || !self.plan.queues[*home].os {
                    last = last.max(lsn);
                }
            }
        }
        let mut done = Vec::new();
        for (_, key, _, how) in &transaction.settled {
            let records = &self.copies[key].records;
            if let (Settling::Ack, [.., Record::At { queue, .. }, Record::Gone { lsn }]) =
                (how, &records[..])
                && *lsn >= since
            {
                batches.insert(*lsn);
                if awaits_sync(*queue) {
                    last = last.max(*lsn);
                    done.push(*key);
                }
            }
        }
        if batches.len() > 1 && !self.has_failed {
            self.fail(format!("torn: a transaction is in the batches {batches:?}"));
        }
        if let Some(channel) = self.channels.get_mut(&at) {
            channel.commits.push_back((last, done, transaction.published.clone()));
        }
        self.tally.committed += 1;
    }
}
