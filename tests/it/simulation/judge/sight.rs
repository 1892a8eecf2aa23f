//! What clients see: that they were to see it, marked as it must be, and no promise too early.

use leveret::protocol::method::Method;
use leveret::store::Progress;

use super::{CopyKey, Judge, Place, Record};
use crate::simulation::message;
use crate::support::Content;
use crate::support::received::Received;

impl Judge {
    /// Something is written to a client while the store has come so far.
    pub(crate) fn wrote(&mut self, link: usize, received: &Received, reached: Progress) {
        let at = (link, received.channel);
        if let Some(content) = received.content() {
            return match content.reply {
                Some(_) => self.returned(&content),
                None => self.delivered(at, &content),
            };
        }
        match received.method() {
            Method::BasicAck(ack) => self.confirmed(at, ack.delivery_tag, ack.multiple, reached),
            Method::BasicNack(nack) => self.refused(at, nack.delivery_tag),
            Method::BasicGetEmpty(_) => {
                let channel = self.channels.get_mut(&at).unwrap();
                channel.gets.pop_front();
            }
            Method::ChannelCloseOk(_) => {
                self.channels.remove(&at);
            }
            Method::TxCommitOk(_) => self.committed(at, reached),
            Method::QueueDeclareOk(_)
            | Method::QueueDeleteOk(_)
            | Method::QueueBindOk(_)
            | Method::QueueUnbindOk(_)
            | Method::QueuePurgeOk(_)
            | Method::ExchangeDeclareOk(_)
            | Method::ExchangeDeleteOk(_) => self.defined(at, reached),
            Method::ConnectionClose(_) if self.has_failed => self.lose(link),
            Method::ChannelClose(_) | Method::ConnectionClose(_) | Method::BasicCancel(_) => {
                self.fail(format!("a client is told {:?}", received.method()));
            }
            _ => {}
        }
    }

    /// A step is over: whatever was settled without a client's word was given to someone, or died.
    pub(crate) fn rest(&mut self) {
        for key in std::mem::take(&mut self.unseen) {
            let auto = self.copies.get_mut(&key).unwrap().auto.take();
            if auto.is_some_and(|auto| auto.surely) {
                let shown = self.shown(key);
                self.fail(format!("settled, and given to nobody: {shown}"));
            }
        }
    }

    fn returned(&mut self, content: &Content) {
        let Some(sent) = message::id(&content.body).and_then(|id| self.sent.get(&id)) else {
            return self.fail("a message was returned that nobody has sent");
        };
        if !sent.mandatory || !sent.homes.is_empty() {
            self.fail(format!("returned, though it had somewhere to go: {sent:?}"));
        }
    }

    fn delivered(&mut self, at: (usize, u16), content: &Content) {
        let Some(id) = message::id(&content.body).filter(|id| self.sent.contains_key(id)) else {
            return self.fail(format!("unexpected: {content:?}"));
        };
        let Some(channel) = self.channels.get_mut(&at) else {
            return self.fail(format!("delivered on {at:?}, which is not open: {content:?}"));
        };
        let tag = &content.consumer_tag;
        let consumer = channel.consumers.get(tag).map(|it| (it.queue, it.no_ack));
        let asked = if tag.is_empty() { channel.gets.pop_front() } else { consumer };
        let Some((from, no_ack)) = asked else {
            return self.fail(format!("nobody asked for {content:?}"));
        };
        if content.delivery_tag <= channel.last_tag {
            return self.fail(format!("a delivery tag is used again: {content:?}"));
        }
        channel.last_tag = content.delivery_tag;
        let first_death = content.header("x-first-death-queue");
        let first_death = first_death.as_ref().and_then(|name| name.as_str());
        let home = first_death.and_then(|name| self.plan.queue(name)).unwrap_or(from);
        let key = (id, home);
        let Some(copy) = self.copies.get(&key) else {
            return self.fail(format!("unexpected: {id} was not sent to {home}"));
        };
        self.tally.delivered += 1;
        self.tally.redelivered += u64::from(content.redelivered);
        let is_auto = copy.auto.is_some_and(|auto| auto.from == from);
        let is_here = copy.place == Place::In(from)
            || is_auto
            || (copy.loose && matches!(copy.place, Place::In(at) if self.leads_to(at, from)));
        if !is_here && self.has_failed {
            // What was to become of it could not be stored; a restart will tell.
            return;
        }
        if !is_here {
            let shown = self.shown(key);
            return self.fail(format!("delivered from {from}, where it is not: {shown}"));
        }
        if let Some(other) = copy.out {
            let shown = self.shown(key);
            return self.fail(format!("delivered to {at:?} while {other:?} has it: {shown}"));
        }
        if copy.place != Place::In(from) && !is_auto {
            // It has come here unseen.
            let now_ms = self.now_ms;
            let copy = self.copies.get_mut(&key).unwrap();
            copy.arrive(now_ms);
            copy.place = Place::In(from);
        }
        let copy = &self.copies[&key];
        let was_seen = copy.seen.contains(&from);
        let recovered = copy.auto.filter(|_| is_auto).map_or(copy.recovered, |auto| auto.recovered);
        if (was_seen || recovered) && !content.redelivered {
            let shown = self.shown(key);
            return self.fail(format!("seen before, and not marked as redelivered: {shown}"));
        }
        if content.redelivered && !was_seen && !recovered {
            let shown = self.shown(key);
            return self.fail(format!("never seen, and marked as redelivered: {shown}"));
        }
        self.check_group(key, from);
        self.check_order(at, key, content, from);
        let copy = self.copies.get_mut(&key).unwrap();
        copy.seen.insert(from);
        if copy.auto.take().is_some() && is_auto {
            if !no_ack {
                let shown = self.shown(key);
                self.fail(format!("settled before it was acknowledged: {shown}"));
            }
            self.copies.get_mut(&key).unwrap().place = Place::Gone;
            return;
        }
        if no_ack {
            if copy.is_stored() && !self.has_failed {
                let shown = self.shown(key);
                return self.fail(format!("delivered for good, and not settled: {shown}"));
            }
            copy.place = Place::Gone;
            return;
        }
        copy.out = Some(at);
        let channel = self.channels.get_mut(&at).unwrap();
        let consumer = (!tag.is_empty()).then(|| tag.clone());
        channel.out.insert(content.delivery_tag, (key, consumer));
        if let Some(consumer) = channel.consumers.get_mut(tag) {
            consumer.held += 1;
            if consumer.prefetch > 0 && consumer.held > u64::from(consumer.prefetch) {
                let (held, max) = (consumer.held, consumer.prefetch);
                self.fail(format!("consumer {tag} holds {held}, and asked for {max}"));
            }
        }
    }

    /// Of a group one message is out at a time.
    fn check_group(&mut self, key: CopyKey, from: usize) {
        let Some(group) = self.sent[&key.0].group.filter(|_| self.plan.queues[from].groups) else {
            return;
        };
        let other = self.copies.iter().find(|(other, copy)| {
            copy.place == Place::In(from)
                && copy.out.is_some()
                && self.sent[&other.0].group == Some(group)
        });
        if let Some((other, _)) = other {
            let text = format!("{other:?} of group {group} is out, and {key:?} was delivered");
            self.fail(text);
        }
    }

    /// What one channel published to one queue comes to a consumer in that order.
    fn check_order(&mut self, at: (usize, u16), key: CopyKey, content: &Content, from: usize) {
        let sent = &self.sent[&key.0];
        if content.redelivered || key.1 != from || sent.delay_ms.is_some() {
            return;
        }
        if self.plan.queues[from].groups {
            return;
        }
        let levels = self.plan.queues[from].priority_max.unwrap_or(0);
        let origin = (sent.origin, sent.priority.min(levels));
        let channel = self.channels.get_mut(&at).unwrap();
        let Some(consumer) = channel.consumers.get_mut(&content.consumer_tag) else { return };
        let before = consumer.last.get(&origin).copied().unwrap_or(0);
        consumer.last.insert(origin, before.max(key.0));
        if before > key.0 && key.0 >= self.in_order_from {
            let shown = self.shown(key);
            self.fail(format!("out of order: {before} came before {shown}"));
        }
    }

    fn confirmed(&mut self, at: (usize, u16), tag: u64, multiple: bool, reached: Progress) {
        let last = usize::try_from(tag).unwrap();
        let Some(channel) = self.channels.get_mut(&at) else { return };
        let from = if multiple { channel.answered } else { channel.answered.max(last - 1) };
        if last > channel.confirms.len() || last <= channel.answered || from > last {
            return self.fail(format!("confirm {tag} on {at:?} is for nothing"));
        }
        if from != channel.answered {
            return self.fail(format!("confirm {tag} on {at:?} leaves one out"));
        }
        let ids = channel.confirms[from..last].to_vec();
        channel.answered = last;
        for id in ids {
            self.tally.confirmed += 1;
            self.check_kept(id, reached);
            let sent = self.sent.get_mut(&id).unwrap();
            sent.confirmed = true;
            if sent.refused {
                self.fail(format!("confirmed, though refused: message {id}"));
            }
        }
    }

    /// Every copy of a message is as safe as its queue promises.
    fn check_kept(&mut self, id: u32, reached: Progress) {
        let sent = &self.sent[&id];
        for home in &sent.homes {
            let (copy, plan) = (&self.copies[&(id, *home)], &self.plan.queues[*home]);
            let is_delayed = Self::is_delayed(sent);
            let is_kept = is_delayed || plan.stores(sent.persistent);
            if !is_kept || (sent.refused && plan.rejects) {
                continue;
            }
            let due = if plan.os && !is_delayed {
                reached.written.max(reached.synced)
            } else {
                reached.synced
            };
            let first = copy.records.first().map(|it| it.lsn());
            if first.is_none_or(|lsn| lsn > due.0) {
                let shown = self.shown((id, *home));
                return self.fail(format!("confirmed too early, at {reached:?}: {shown}"));
            }
        }
    }

    fn refused(&mut self, at: (usize, u16), tag: u64) {
        let last = usize::try_from(tag).unwrap();
        let Some(channel) = self.channels.get_mut(&at) else { return };
        if last != channel.answered + 1 {
            return self.fail(format!("refusal {tag} on {at:?} is out of turn"));
        }
        channel.answered = last;
        let id = channel.confirms[last - 1];
        self.tally.refused += 1;
        let sent = &self.sent[&id];
        let may_be = sent.homes.iter().any(|home| self.plan.queues[*home].rejects);
        if !may_be {
            self.fail(format!("refused by no queue: message {id}"));
        }
        self.sent.get_mut(&id).unwrap().refused = true;
    }

    fn committed(&mut self, at: (usize, u16), reached: Progress) {
        let Some(channel) = self.channels.get_mut(&at) else { return };
        let Some((last, settled, published)) = channel.commits.pop_front() else {
            return self.fail("commit-ok without a commit");
        };
        if last > reached.synced.0 {
            return self.fail(format!("commit-ok at {reached:?} for {last}"));
        }
        for key in settled {
            let copy = self.copies.get_mut(&key).unwrap();
            copy.surely_gone |= matches!(copy.records.last(), Some(Record::Gone { .. }));
        }
        for id in published {
            self.sent.get_mut(&id).unwrap().confirmed = true;
        }
    }

    fn defined(&mut self, at: (usize, u16), reached: Progress) {
        let Some(channel) = self.channels.get_mut(&at) else { return };
        let Some((last, changed)) = channel.answers.pop_front() else { return };
        if last > reached.synced.0 {
            self.fail(format!("{changed:?} answered at {reached:?}, submitted as {last}"));
        }
        for (what, exists) in changed {
            self.defined.insert(what, Some(exists));
        }
    }
}
