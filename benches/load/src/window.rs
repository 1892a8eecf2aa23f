//! The unconfirmed messages of one channel, as the client keeps them.
//!
//! Tags count from 1. A confirm of a tag that is not outstanding is an error, because a broker
//! must confirm each publish exactly once.

use crate::connection::ClientError;
use crate::wire::Covers;

/// Stands for a settled message; a pending one has a time of at least 1, and 1 when not measured.
const SETTLED: u64 = 0;

/// Messages sent and not yet confirmed, with their times.
#[derive(Debug)]
pub(crate) struct Window {
    size: usize,
    outstanding: usize,
    ring: Vec<u64>,
    lowest: u64,
    next: u64,
}

impl Window {
    /// Room for `size` messages; 0 is without confirms, and then there is always room.
    pub(crate) fn new(size: usize) -> Self {
        // Confirms may come out of order, so the span of tags may be larger than their number.
        let ring = vec![SETTLED; (size * 4).next_power_of_two()];
        Self { size, outstanding: 0, ring, lowest: 1, next: 1 }
    }

    /// How many messages wait for their confirm.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// How many more messages may be sent now.
    pub(crate) fn room(&self) -> usize {
        if self.size == 0 {
            return usize::MAX;
        }
        let span = usize::try_from(self.next - self.lowest).unwrap_or(usize::MAX);
        (self.size - self.outstanding).min(self.ring.len() - span)
    }

    /// Notes a message that is about to be sent; `sent_ns` 0 is "not measured". Ask for room first.
    pub(crate) fn sent(&mut self, sent_ns: u64) {
        let at = self.at(self.next);
        self.ring[at] = sent_ns.max(SETTLED + 1);
        self.next += 1;
        self.outstanding += 1;
    }

    /// Settles what a confirm covers and hands over each one's time. Returns their number.
    pub(crate) fn settle(
        &mut self,
        tag: u64,
        covers: Covers,
        mut each: impl FnMut(u64),
    ) -> Result<u64, ClientError> {
        let unknown = || ClientError::Unexpected(format!("a confirm of tag {tag}"));
        if tag >= self.next {
            return Err(unknown());
        }
        let last = if tag == 0 { self.next - 1 } else { tag };
        let first = if covers == Covers::UpTo { self.lowest } else { last };
        let mut settled = 0;
        if first >= self.lowest {
            for tag in first..=last {
                let at = self.at(tag);
                let sent_ns = std::mem::replace(&mut self.ring[at], SETTLED);
                if sent_ns != SETTLED {
                    settled += 1;
                    each(sent_ns);
                }
            }
        }
        if settled == 0 {
            return Err(unknown());
        }
        self.outstanding -= settled;
        while self.lowest < self.next && self.ring[self.at(self.lowest)] == SETTLED {
            self.lowest += 1;
        }
        Ok(settled as u64)
    }

    fn at(&self, tag: u64) -> usize {
        usize::try_from(tag).unwrap_or(0) & (self.ring.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(window: &mut Window, tag: u64, covers: Covers) -> Option<Vec<u64>> {
        let mut times = Vec::new();
        window.settle(tag, covers, |time| times.push(time)).ok().map(|_| times)
    }

    #[test]
    fn each_message_is_settled_once_in_any_order() {
        let mut window = Window::new(4);
        for time in 11..15 {
            window.sent(time);
        }
        assert_eq!(window.room(), 0);
        assert_eq!(settled(&mut window, 2, Covers::One), Some(vec![12]));
        assert_eq!(settled(&mut window, 3, Covers::UpTo), Some(vec![11, 13]));
        assert_eq!(settled(&mut window, 2, Covers::One), None);
        assert_eq!(settled(&mut window, 3, Covers::UpTo), None);
        assert_eq!(settled(&mut window, 5, Covers::One), None);
        assert_eq!((window.outstanding(), window.room()), (1, 3));
    }

    #[test]
    fn the_oldest_unconfirmed_message_limits_the_span() {
        let mut window = Window::new(2);
        window.sent(1);
        for tag in 2..9 {
            assert_eq!(window.room(), 1, "before tag {tag}");
            window.sent(tag);
            settled(&mut window, tag, Covers::One).unwrap();
        }
        assert_eq!(window.room(), 0, "eight tags fill the ring");
        settled(&mut window, 1, Covers::One).unwrap();
        assert_eq!(window.room(), 2);
    }

    #[test]
    fn without_confirms_there_is_always_room() {
        assert_eq!(Window::new(0).room(), usize::MAX);
    }
}
