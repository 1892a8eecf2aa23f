//! How a simulation comes to rest, and to its end: everyone leaves, all that is left is drained,
//! and nothing is left then, nor after one more crash.

use leveret::protocol::method::Method;
use leveret::store::Store as _;

use super::{FRAME_BYTES_MAX, World};
use crate::checks::node::handshake;
use crate::simulation::client::{DELAY_MS_MAX, PUBLISHING};
use crate::simulation::judge::{Asked, End, Settling};
use crate::support::client::close_connection;
use crate::support::*;

const TURNS_MAX: usize = 20_000;
/// Time passes so much at a time.
const PACE_MS: u64 = 500;

impl World {
    /// Lets everything happen that is under way, but for what clients would do.
    pub(super) fn settle_down(&mut self) {
        self.release_read();
        for _ in 0..TURNS_MAX {
            let numbers: Vec<usize> = self.links.keys().copied().collect();
            let mut worked = false;
            for number in numbers {
                let link = self.links.get_mut(&number).unwrap();
                link.stalled = false;
                link.arrive(usize::MAX);
                worked |= self.turn(number);
            }
            let unsynced = self.disk.faulty.unsynced();
            worked |= self.disk.reached().synced < self.disk.faulty.submitted();
            self.disk.faulty.write_first(u64::MAX);
            self.disk.faulty.sync_first(unsynced);
            let read_back = self.broker.read_back(self.now);
            worked |= read_back;
            self.tell(|| format!("rest: worked {worked}, read back {read_back}"));
            self.judge_disk();
            if self.broker.timers().next().is_some_and(|at_ms| at_ms <= self.now.unix_ms) {
                self.handle_deadlines();
                worked = true;
            }
            if !worked || self.disk.failure().is_some() || self.judge.violation().is_some() {
                return;
            }
        }
        let timer = self.broker.timers().next();
        self.judge.fail(format!(
            "it never comes to rest: {:?} of {:?}, a timer at {timer:?}, held {} of {}",
            self.disk.reached(),
            self.disk.faulty.submitted(),
            self.broker.paging().held_bytes(),
            self.queue_memory_bytes,
        ));
    }

    /// Everyone leaves, all that is left is drained, and nothing is left then.
    pub(super) fn finish(&mut self) {
        self.disk.fail_next_read(false);
        if self.disk.failure().is_some() {
            self.crash(End::Power);
        }
        self.settle_down();
        for at in 0..self.clients.len() {
            if let Some((number, _)) = self.clients[at]
                && self.links.contains_key(&number)
                && self.judge.unanswered(number, PUBLISHING) > 0
            {
                self.judge
                    .fail(format!("client {at}, link {number}, waits for a confirm for ever"));
            }
        }
        let numbers: Vec<usize> = self.links.keys().copied().collect();
        for number in numbers {
            let mut link = self.links.remove(&number).unwrap();
            self.judge.lose(number);
            link.connection.abort("the end", self.now);
            self.judge_disk();
        }
        // Long enough for what is delayed, and then expires in one queue after another, each time
        // up to a pace late.
        let ttls_ms = self.plan.queues.iter().filter_map(|queue| queue.ttl_ms);
        let longest_ms = DELAY_MS_MAX + PACE_MS + ttls_ms.map(|ms| ms + PACE_MS).sum::<u64>();
        for _ in 0..longest_ms.div_ceil(PACE_MS) {
            self.pass(PACE_MS);
            self.settle_down();
        }
        self.check_counts();
        self.check_expired();
        self.drain();
        let left = self.judge.left();
        if !left.is_empty() {
            self.judge.fail(format!("lost: nobody got {left:?}"));
        }
        self.check_empty();
        if self.judge.violation().is_none() && !self.settings.disk_lies {
            self.crash(End::Power);
            self.check_empty();
        }
    }

    fn drain(&mut self) {
        let number = self.connect();
        let link = self.links.get_mut(&number).unwrap();
        let mut bytes = handshake(FRAME_BYTES_MAX, 0);
        Method::ChannelOpen(Default::default()).write(1, &mut bytes);
        link.send(&bytes, 0, Asked::Other);
        self.judge.open(number, 1, false);
        for (at, queue) in self.plan.queues.iter().enumerate() {
            let tag = format!("drain-{at}");
            let mut bytes = Vec::new();
            consume(&queue.name, &tag).write(1, &mut bytes);
            let asked = Asked::Consume { tag, queue: at, no_ack: false, prefetch: 0 };
            self.links.get_mut(&number).unwrap().send(&bytes, 1, asked);
        }
        loop {
            self.settle_down();
            let link = self.links.get_mut(&number).unwrap();
            let came = std::mem::take(&mut link.inbox);
            let tags = came.iter().filter_map(|received| received.content());
            let Some(last) = tags.map(|content| content.delivery_tag).max() else { break };
            let mut bytes = Vec::new();
            ack_up_to(last).write(1, &mut bytes);
            let asked = Asked::Settle { tag: last, multiple: true, how: Settling::Ack };
            link.send(&bytes, 1, asked);
            if self.judge.violation().is_some() {
                break;
            }
        }
        let mut bytes = Vec::new();
        close_connection().write(0, &mut bytes);
        self.links.get_mut(&number).unwrap().send(&bytes, 0, Asked::CloseConnection);
        self.settle_down();
    }
}
