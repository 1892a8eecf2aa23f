//! What clients ask for, once the broker has taken it.

use std::collections::BTreeMap;

use super::{
    Asked, Channel, Consumer, Copy, CopyKey, Defines, Judge, Place, Settling, Step, Transaction,
};
use crate::support::Then;

impl Judge {
    /// A channel is open, in transaction mode or not.
    pub(crate) fn open(&mut self, link: usize, channel: u16, is_transactional: bool) {
        let transaction = is_transactional.then(Transaction::default);
        self.channels.insert((link, channel), Channel { transaction, ..Channel::default() });
    }

    /// The broker has taken a request.
    pub(crate) fn taken(&mut self, link: usize, number: u16, asked: &Asked) {
        let at = (link, number);
        if matches!(asked, Asked::CloseConnection) {
            return self.lose(link);
        }
        let Some(channel) = self.channels.get_mut(&at) else { return };
        match asked {
            Asked::Other | Asked::CloseConnection => {}
            Asked::Publish(id) => match &mut channel.transaction {
                Some(transaction) => transaction.published.push(*id),
                None => {
                    channel.confirms.push(*id);
                    self.publish(*id);
                }
            },
            Asked::Settle { tag, multiple, how } => self.settle(at, *tag, *multiple, *how),
            Asked::Recover | Asked::CloseChannel => self.give_back(at),
            Asked::Consume { tag, queue, no_ack, prefetch } => {
                let (queue, no_ack, prefetch) = (*queue, *no_ack, *prefetch);
                let consumer = Consumer { queue, no_ack, prefetch, held: 0, last: BTreeMap::new() };
                channel.consumers.insert(tag.clone(), consumer);
            }
            Asked::Cancel => self.forget_order(),
            Asked::Get { queue, no_ack } => channel.gets.push_back((*queue, *no_ack)),
            Asked::Commit => self.commit(at),
            Asked::Rollback => {
                let transaction = channel.transaction.as_mut().unwrap();
                transaction.published.clear();
                for (tag, copy, consumer, _) in std::mem::take(&mut transaction.settled) {
                    channel.out.insert(tag, (copy, consumer));
                }
            }
            Asked::Purge { queue } => {
                self.step.purged.insert(*queue);
                self.step.defines = Some(Defines { asker: at, changed: Vec::new() });
                for copy in self.copies.values_mut() {
                    copy.loose |= copy.place == Place::In(*queue) && !copy.is_stored();
                }
            }
            Asked::Define { what, exists, takes } => {
                let mut changed = vec![(what.clone(), *exists)];
                changed.extend(takes.iter().map(|what| (what.clone(), false)));
                for (what, _) in &changed {
                    self.defined.insert(what.clone(), None);
                }
                self.step.defines = Some(Defines { asker: at, changed });
            }
        }
    }

    /// A message has arrived.
    pub(super) fn publish(&mut self, id: u32) {
        let sent = self.sent.get_mut(&id).unwrap();
        sent.taken_ms = Some(self.now_ms);
        self.step.published.push(id);
        for home in &sent.homes {
            let queue = &self.plan.queues[*home];
            if sent.delay_ms.is_none() && !queue.stores(sent.persistent) {
                let copy = self.copies.get_mut(&(id, *home)).unwrap();
                copy.place = Place::In(*home);
                copy.arrived_ms = self.now_ms;
                copy.loose = queue.rejects || queue.drops() || sent.ttl_ms.is_some();
            }
        }
    }

    pub(super) fn settle(&mut self, at: (usize, u16), tag: u64, multiple: bool, how: Settling) {
        let channel = self.channels.get_mut(&at).unwrap();
        let tags: Vec<u64> = if multiple {
            channel.out.range(..=tag).map(|(tag, _)| *tag).collect()
        } else {
            vec![tag]
        };
        for tag in tags {
            let Some((copy, consumer)) = channel.out.remove(&tag) else {
                return self.fail(format!("no delivery {tag} to settle on {at:?}"));
            };
            match &mut channel.transaction {
                Some(transaction) => transaction.settled.push((tag, copy, consumer, how)),
                None => {
                    free(channel, consumer.as_deref());
                    self.step.settle(&mut self.copies, copy, how);
                }
            }
        }
    }

    fn commit(&mut self, at: (usize, u16)) {
        let channel = self.channels.get_mut(&at).unwrap();
        let transaction = std::mem::take(channel.transaction.as_mut().unwrap());
        for (_, copy, consumer, how) in &transaction.settled {
            free(channel, consumer.as_deref());
            self.step.settle(&mut self.copies, *copy, *how);
        }
        transaction.published.iter().for_each(|id| self.publish(*id));
        self.step.commits.push((at, transaction));
    }

    /// Everything that a channel holds comes back.
    pub(super) fn give_back(&mut self, at: (usize, u16)) {
        let channel = self.channels.get_mut(&at).unwrap();
        let mut copies: Vec<CopyKey> = Vec::new();
        for (_, (copy, consumer)) in std::mem::take(&mut channel.out) {
            free(channel, consumer.as_deref());
            copies.push(copy);
        }
        if let Some(transaction) = &mut channel.transaction {
            let given_up = std::mem::take(transaction);
            for (_, copy, consumer, _) in given_up.settled {
                free(channel, consumer.as_deref());
                copies.push(copy);
            }
        }
        self.forget_order();
        for copy in copies {
            self.step.settle(&mut self.copies, copy, Settling::Refuse(Then::Requeue));
        }
    }

    /// A connection is gone: what it held comes back.
    pub(crate) fn lose(&mut self, link: usize) {
        let numbers: Vec<_> =
            self.channels.range((link, 0)..(link + 1, 0)).map(|(at, _)| *at).collect();
        for at in numbers {
            self.give_back(at);
            self.channels.remove(&at);
        }
    }

    /// Something may come back that no client has seen.
    pub(super) fn forget_order(&mut self) {
        self.in_order_from = self.sent.last_key_value().map_or(0, |(id, _)| id + 1);
    }
}

impl Step {
    pub(super) fn settle(
        &mut self,
        copies: &mut BTreeMap<CopyKey, Copy>,
        key: CopyKey,
        how: Settling,
    ) {
        let copy = copies.get_mut(&key).unwrap();
        copy.out = None;
        let Place::In(queue) = copy.place else { return };
        match how {
            Settling::Ack => {
                self.acked.push(key);
                if !copy.is_stored() {
                    copy.place = Place::Gone;
                }
            }
            Settling::Refuse(Then::Discard) => self.rejected.push((key, queue)),
            Settling::Refuse(Then::Requeue) => {
                copy.returns += 1;
                self.requeued.push((key, queue));
            }
        }
    }
}

/// A consumer holds one less.
fn free(channel: &mut Channel, consumer: Option<&str>) {
    if let Some(consumer) = consumer.and_then(|tag| channel.consumers.get_mut(tag)) {
        consumer.held -= 1;
    }
}
