//! When a trigger fires: conditions, and from when on each of them holds.
//!
//! A condition is asked for a moment, not for a yes: the moment from which on it holds if nothing
//! changes meanwhile. So one answer serves both the change that makes it hold at once and the timer
//! that makes it hold later; `any_of` is the earliest of such moments, `all_of` the latest.
//!
//! Invariant: a condition that holds is only ever asked of messages that are committed and ready.

use std::fmt::{self, Display, Formatter, Write as _};

use crate::broker::header_key::headers;
use crate::broker::message::Message;
use crate::protocol::properties::Hints;
use crate::protocol::table::ValueRef;

/// A condition that holds now.
pub const NOW: u64 = 0;
/// A condition that no passing of time makes hold.
pub const NEVER: u64 = u64::MAX;

const DAY_MS: u64 = 86_400_000;

/// A condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// What is asked.
    pub kind: Kind,
    /// The messages of which it is asked.
    pub selection: Selection,
    /// It also holds once the oldest of these is that old.
    pub max_wait_ms: Option<u64>,
}

/// What a condition asks.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// A message has come: once for each.
    Every,
    /// There is a message.
    First,
    /// There are so many.
    Depth {
        /// How many.
        count: u64,
    },
    /// The oldest is that old.
    Age {
        /// How old.
        age_ms: u64,
    },
    /// So many have come within the last moments.
    Rate {
        /// How many.
        count: u64,
        /// Within how long.
        window_ms: u64,
    },
    /// Messages wait, and nobody has consumed for that long.
    NoConsumers {
        /// How long.
        for_ms: u64,
    },
    /// A time has come, and there is a message.
    Schedule(Schedule),
    /// One of these holds.
    AnyOf(Vec<Condition>),
    /// All of these hold.
    AllOf(Vec<Condition>),
}

/// Times that come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Schedule {
    /// After so many milliseconds each.
    Every(u64),
    /// Every day, so many minutes after midnight, UTC.
    DailyAt(u16),
}

/// Some of a queue's messages.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Selection {
    /// Those of this priority or a higher one.
    pub min_priority: u8,
    /// Those with all of these headers.
    pub headers: Vec<Header>,
}

/// A header that a message has.
#[derive(Debug, Clone, PartialEq)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// Its value; any if there is none here.
    pub value: Option<Scalar>,
}

/// A header's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    /// True or false.
    Bool(bool),
    /// An integer of any width.
    Integer(i64),
    /// A text.
    Text(String),
}

/// A queue, as conditions see it. Conditions are numbered as they are written down, each before
/// those within it, from 0.
pub trait Facts {
    /// How many messages qualify for a condition.
    fn count(&self, place: usize) -> u64;
    /// Since when the oldest of them waits; `None` when there is none, or it is not known yet.
    fn oldest_ms(&self, place: usize) -> Option<u64>;
    /// How many of them `every` has not been told of.
    fn untold(&self, place: usize) -> u64;
    /// How many came within the last moments.
    fn came_within(&self, place: usize, window_ms: u64) -> u64;
    /// Since when nobody consumes; `None` while somebody does.
    fn idle_since_ms(&self) -> Option<u64>;
    /// The next time of a schedule.
    fn next_ms(&self, place: usize) -> u64;
}

impl Condition {
    /// From when on it holds, in milliseconds of Unix time, if nothing changes: [`NOW`], a moment,
    /// or [`NEVER`].
    pub fn holds_from(&self, facts: &impl Facts) -> u64 {
        self.holds_from_at(0, facts)
    }

    /// The same for a condition with this number.
    pub fn holds_from_at(&self, place: usize, facts: &impl Facts) -> u64 {
        let some = || facts.count(place) > 0;
        let aged = |ms: u64| facts.oldest_ms(place).map_or(NEVER, |at| at.saturating_add(ms));
        let now_if = |holds: bool| if holds { NOW } else { NEVER };
        let own = match &self.kind {
            Kind::Every => now_if(facts.untold(place) > 0),
            Kind::First => now_if(some()),
            Kind::Depth { count } => now_if(facts.count(place) >= *count),
            Kind::Age { age_ms } => aged(*age_ms),
            Kind::Rate { count, window_ms } => {
                now_if(facts.came_within(place, *window_ms) >= *count)
            }
            Kind::NoConsumers { for_ms } => match facts.idle_since_ms().filter(|_| some()) {
                Some(since_ms) => since_ms.saturating_add(*for_ms),
                None => NEVER,
            },
            Kind::Schedule(_) if some() => facts.next_ms(place),
            Kind::Schedule(_) => NEVER,
            Kind::AnyOf(_) => {
                let inside = self.inside(place);
                inside.map(|(it, at)| it.holds_from_at(at, facts)).min().unwrap_or(NEVER)
            }
            Kind::AllOf(_) => {
                let inside = self.inside(place);
                inside.map(|(it, at)| it.holds_from_at(at, facts)).max().unwrap_or(NEVER)
            }
        };
        own.min(self.max_wait_ms.map_or(NEVER, aged))
    }

    /// It and those within it, each with its number.
    pub fn all(&self) -> Vec<(usize, &Self)> {
        let mut all = Vec::new();
        self.collect(0, &mut all);
        all
    }

    fn collect<'c>(&'c self, place: usize, all: &mut Vec<(usize, &'c Self)>) {
        all.push((place, self));
        for (within, at) in self.inside(place) {
            within.collect(at, all);
        }
    }

    fn within(&self) -> &[Self] {
        match &self.kind {
            Kind::AnyOf(of) | Kind::AllOf(of) => of,
            _ => &[],
        }
    }

    /// The conditions within it, with their numbers if it has this one.
    pub fn inside(&self, place: usize) -> impl Iterator<Item = (&Self, usize)> {
        self.within().iter().scan(place + 1, |next, condition| {
            let place = *next;
            *next += condition.size();
            Some((condition, place))
        })
    }

    /// How many there are, itself included.
    #[must_use]
    pub fn size(&self) -> usize {
        1 + self.within().iter().map(Self::size).sum::<usize>()
    }

    /// How often it is to be told of, if `every` is all it asks.
    #[must_use]
    pub fn is_every(&self) -> bool {
        self.kind == Kind::Every
    }
}

impl Schedule {
    /// Its first time after a moment.
    #[must_use]
    pub fn after(self, ms: u64) -> u64 {
        match self {
            Self::Every(every_ms) => ms.saturating_add(every_ms),
            Self::DailyAt(minute) => {
                let at_ms = ms - ms % DAY_MS + u64::from(minute) * 60_000;
                if at_ms > ms { at_ms } else { at_ms + DAY_MS }
            }
        }
    }
}

impl Selection {
    /// Whether every message is among them.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.min_priority == 0 && self.headers.is_empty()
    }

    /// Whether a message is among them.
    #[must_use]
    pub fn has(&self, message: &Message) -> bool {
        if self.min_priority > 0 {
            let priority = Hints::of(message.properties()).priority.unwrap_or(0);
            if priority < self.min_priority {
                return false;
            }
        }
        self.headers.is_empty() || self.has_headers(message)
    }

    fn has_headers(&self, message: &Message) -> bool {
        let Some(found) = headers(message) else { return false };
        self.headers.iter().all(|header| {
            let value = found.get(&header.name);
            value.is_some_and(|value| header.value.as_ref().is_none_or(|wanted| wanted.is(value)))
        })
    }
}

impl Scalar {
    fn is(&self, value: ValueRef<'_>) -> bool {
        match self {
            Self::Bool(wanted) => value.as_bool() == Some(*wanted),
            Self::Integer(wanted) => value.as_integer() == Some(*wanted),
            Self::Text(wanted) => value.as_long_str() == Some(wanted.as_bytes()),
        }
    }
}

impl Display for Condition {
    /// As people write it: `depth 10, min_priority 5, max_wait 30000 ms`.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let list = |f: &mut Formatter<'_>, word: &str, of: &[Self]| {
            f.write_str(word)?;
            for (at, condition) in of.iter().enumerate() {
                f.write_str(if at == 0 { " (" } else { "; " })?;
                condition.fmt(f)?;
            }
            f.write_char(')')
        };
        match &self.kind {
            Kind::Every => f.write_str("every")?,
            Kind::First => f.write_str("first")?,
            Kind::Depth { count } => write!(f, "depth {count}")?,
            Kind::Age { age_ms } => write!(f, "age {age_ms} ms")?,
            Kind::Rate { count, window_ms } => write!(f, "rate {count} within {window_ms} ms")?,
            Kind::NoConsumers { for_ms } => write!(f, "no_consumers for {for_ms} ms")?,
            Kind::Schedule(Schedule::Every(ms)) => write!(f, "schedule every {ms} ms")?,
            Kind::Schedule(Schedule::DailyAt(minute)) => {
                write!(f, "schedule daily at {:02}:{:02}", minute / 60, minute % 60)?;
            }
            Kind::AnyOf(of) => list(f, "any_of", of)?,
            Kind::AllOf(of) => list(f, "all_of", of)?,
        }
        if self.selection.min_priority > 0 {
            write!(f, ", min_priority {}", self.selection.min_priority)?;
        }
        for Header { name, value } in &self.selection.headers {
            match value {
                None => write!(f, ", header {name}")?,
                Some(Scalar::Bool(value)) => write!(f, ", header {name} = {value}")?,
                Some(Scalar::Integer(value)) => write!(f, ", header {name} = {value}")?,
                Some(Scalar::Text(value)) => write!(f, ", header {name} = \"{value}\"")?,
            }
        }
        if let Some(max_wait_ms) = self.max_wait_ms {
            write!(f, ", max_wait {max_wait_ms} ms")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: Kind) -> Condition {
        Condition { kind, selection: Selection::default(), max_wait_ms: None }
    }

    struct Queue {
        messages: u64,
        oldest_ms: Option<u64>,
        idle_since_ms: Option<u64>,
    }

    impl Facts for Queue {
        fn count(&self, _: usize) -> u64 {
            self.messages
        }
        fn oldest_ms(&self, _: usize) -> Option<u64> {
            self.oldest_ms
        }
        fn untold(&self, _: usize) -> u64 {
            self.messages
        }
        fn came_within(&self, _: usize, _: u64) -> u64 {
            self.messages
        }
        fn idle_since_ms(&self) -> Option<u64> {
            self.idle_since_ms
        }
        fn next_ms(&self, place: usize) -> u64 {
            1_000 * place as u64
        }
    }

    #[test]
    fn of_several_conditions_the_first_or_the_last_counts() {
        let queue = Queue { messages: 3, oldest_ms: Some(500), idle_since_ms: Some(600) };
        let age = of(Kind::Age { age_ms: 100 });
        let idle = of(Kind::NoConsumers { for_ms: 100 });
        let deep = of(Kind::Depth { count: 4 });
        let any = of(Kind::AnyOf(vec![idle.clone(), deep.clone(), age.clone()]));
        let all = of(Kind::AllOf(vec![idle, age, any.clone()]));
        assert_eq!(any.holds_from(&queue), 600);
        assert_eq!(all.holds_from(&queue), 700);
        assert_eq!(all.size(), 7);
        let impossible = of(Kind::AllOf(vec![all, deep]));
        assert_eq!(impossible.holds_from(&queue), NEVER);
    }

    #[test]
    fn what_stands_within_is_numbered_as_it_is_written_down() {
        let schedule = of(Kind::Schedule(Schedule::Every(1)));
        let inner = of(Kind::AnyOf(vec![schedule.clone(), schedule.clone()]));
        let outer = of(Kind::AllOf(vec![inner, schedule]));
        let places: Vec<_> = outer.all().iter().map(|(place, it)| (*place, it.size())).collect();
        assert_eq!(places, [(0, 5), (1, 3), (2, 1), (3, 1), (4, 1)]);
        let queue = Queue { messages: 1, oldest_ms: None, idle_since_ms: None };
        assert_eq!(outer.holds_from(&queue), 4_000);
    }

    #[test]
    fn enough_of_waiting_makes_a_depth_hold_that_is_not_reached() {
        let mut queue = Queue { messages: 3, oldest_ms: Some(500), idle_since_ms: None };
        let depth = Condition { max_wait_ms: Some(2_000), ..of(Kind::Depth { count: 4 }) };
        assert_eq!(depth.holds_from(&queue), 2_500);
        queue.messages = 4;
        assert_eq!(depth.holds_from(&queue), NOW);
        assert_eq!(depth.to_string(), "depth 4, max_wait 2000 ms");
    }

    #[test]
    fn a_time_of_day_comes_again_the_next_day() {
        let noon = Schedule::DailyAt(12 * 60);
        let midnight_ms = 20_000 * DAY_MS;
        assert_eq!(noon.after(midnight_ms), midnight_ms + DAY_MS / 2);
        assert_eq!(noon.after(midnight_ms + DAY_MS / 2), midnight_ms + DAY_MS + DAY_MS / 2);
    }
}
