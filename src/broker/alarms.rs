//! What the node runs short of: while it does, connections that publish are not read.
//!
//! The broker measures nothing itself; the edge tells it, and connections look once per turn.
//! Invariant: whoever saw an alarm is woken after the last of them has been cleared.
//!
//! An alarm that is set clears only well on the other side of its limit, so that publishers are not
//! stopped and let go every second: memory at 95 % of its watermark, disk at 105 % of its limit.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::{Broker, ConnectionHandle, Now};
use crate::protocol::table::Table;

const MEMORY: u8 = 1;
const DISK: u8 = 2;
/// The part of a limit that a level has to be away from it before its alarm clears: 5 %.
const MARGIN: u64 = 20;

/// The alarms in effect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Alarms {
    /// The process uses more memory than it is meant to.
    pub memory: bool,
    /// The file system of the data directory has less free space than it is meant to.
    pub disk: bool,
}

impl Alarms {
    /// None at all.
    pub const NONE: Self = Self { memory: false, disk: false };

    /// Whether any is in effect.
    #[must_use]
    pub fn any(self) -> bool {
        self.memory || self.disk
    }

    /// What runs low, as RabbitMQ names it and in its order.
    pub fn resources(self) -> impl Iterator<Item = &'static str> {
        [(self.disk, "disk"), (self.memory, "memory")]
            .into_iter()
            .filter_map(|(is_low, name)| is_low.then_some(name))
    }

    fn bits(self) -> u8 {
        u8::from(self.memory) * MEMORY + u8::from(self.disk) * DISK
    }

    fn of(bits: u8) -> Self {
        Self { memory: bits & MEMORY != 0, disk: bits & DISK != 0 }
    }
}

/// What the edge has measured; `None` is what it cannot know.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Levels {
    /// Memory that the process occupies.
    pub memory_used_bytes: Option<u64>,
    /// Above it the alarm is set.
    pub memory_limit_bytes: Option<u64>,
    /// Free space where the data is.
    pub disk_free_bytes: Option<u64>,
    /// Below it the alarm is set.
    pub disk_free_limit_bytes: Option<u64>,
}

impl Levels {
    /// The same where so many bytes of what is free are owed to what has been written already.
    #[must_use]
    pub fn owing(self, bytes: u64) -> Self {
        let disk_free_bytes = self.disk_free_bytes.map(|free| free.saturating_sub(bytes));
        Self { disk_free_bytes, ..self }
    }

    /// The alarms that follow upon those before. What is not known leaves its alarm as it is.
    #[must_use]
    pub fn alarms(&self, before: Alarms) -> Alarms {
        let memory = match (self.memory_used_bytes, self.memory_limit_bytes) {
            (Some(used), Some(limit)) if before.memory => used > limit - limit / MARGIN,
            (Some(used), Some(limit)) => used > limit,
            _ => before.memory,
        };
        let disk = match (self.disk_free_bytes, self.disk_free_limit_bytes) {
            (Some(free), Some(limit)) if before.disk => free < limit.saturating_add(limit / MARGIN),
            (Some(free), Some(limit)) => free < limit,
            _ => before.disk,
        };
        Alarms { memory, disk }
    }
}

/// The reason as clients are told it: `low on disk & memory`.
impl Display for Alarms {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let resources: Vec<_> = self.resources().collect();
        write!(f, "low on {}", resources.join(" & "))
    }
}

/// [`Alarms`] that everyone sees.
#[derive(Debug, Default)]
pub(super) struct AlarmState(AtomicU8);

impl Broker {
    /// The alarms in effect.
    #[must_use]
    pub fn alarms(&self) -> Alarms {
        Alarms::of(self.alarms.0.load(Ordering::Acquire))
    }

    /// Sets the alarms in effect; returns those before. Once none is left, connections go on. Call
    /// it with no lock held.
    pub fn set_alarms(&self, alarms: Alarms, now: Now) -> Alarms {
        let before = Alarms::of(self.alarms.0.swap(alarms.bits(), Ordering::AcqRel));
        for (resource, was_low, is_low) in
            [("memory", before.memory, alarms.memory), ("disk", before.disk, alarms.disk)]
        {
            let key = match (was_low, is_low) {
                (false, true) => "alarm.set",
                (true, false) => "alarm.cleared",
                _ => continue,
            };
            let node = self.settings.node_name.as_str();
            self.emit(key, now, || Table::new().with("source", resource).with("node", node));
        }
        if before.any() && !alarms.any() {
            let all: Vec<Arc<ConnectionHandle>> =
                self.connections.iter().map(|entry| Arc::clone(entry.value())).collect();
            all.iter().for_each(|handle| handle.outbox.wake());
        }
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_names_what_runs_low_in_rabbitmqs_order() {
        let reason = |memory, disk| Alarms { memory, disk }.to_string();
        assert_eq!(reason(true, false), "low on memory");
        assert_eq!(reason(false, true), "low on disk");
        assert_eq!(reason(true, true), "low on disk & memory");
    }

    #[test]
    fn a_memory_alarm_clears_only_well_below_its_watermark() {
        let after = |memory: bool, used: u64| {
            let known = Levels { memory_used_bytes: Some(used), ..Levels::default() };
            let levels = Levels { memory_limit_bytes: Some(1_000), ..known };
            levels.alarms(Alarms { memory, disk: false }).memory
        };
        assert!(!after(false, 1_000));
        assert!(after(false, 1_001));
        assert!(after(true, 951));
        assert!(!after(true, 950));
    }

    #[test]
    fn a_disk_alarm_clears_only_well_above_its_limit() {
        let after = |disk: bool, free: u64| {
            let known = Levels { disk_free_bytes: Some(free), ..Levels::default() };
            let levels = Levels { disk_free_limit_bytes: Some(1_000), ..known };
            levels.alarms(Alarms { memory: false, disk }).disk
        };
        assert!(!after(false, 1_000));
        assert!(after(false, 999));
        assert!(after(true, 1_049));
        assert!(!after(true, 1_050));
    }

    #[test]
    fn what_cannot_be_measured_leaves_its_alarm_as_it_is() {
        let both = Alarms { memory: true, disk: true };
        assert_eq!(Levels::default().alarms(both), both);
        assert_eq!(Levels::default().alarms(Alarms::NONE), Alarms::NONE);
    }
}
