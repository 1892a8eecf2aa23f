//! Crashes amid changes of what is defined: what was answered must be there after them.
//!
//! One client makes call after call over AMQP and the management API: it declares and deletes
//! queues and exchanges, binds and unbinds, purges, and puts and deletes policies and users, until
//! the broker is gone. No name is ever used again, so that whatever was deleted must never come
//! back. A call that was not answered may have been done or not; either stays so from then on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use super::CrashError;
use super::body::Random;
use super::clients::Signals;
use super::counts::Counts;
use super::cycles::{Cycles, Table};
use super::http::Api;
use super::lives::{Lives, Next};
use crate::batch::properties;
use crate::connection::{CHANNEL, ClientError, Connection, Options, QueueOptions};
use crate::wire::{method, put_content, put_method};

/// Above this many things more are deleted than made.
const THINGS_MAX: usize = 200;
/// Messages of a queue that is there to be purged.
const MESSAGES: u32 = 5;

/// Something that is defined, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Queue(u64),
    Exchange(u64),
    /// Of a queue to an exchange.
    Binding(u64, u64),
    Policy(u64),
    User(u64),
    /// The messages of a queue of its own.
    Messages(u64),
}

/// What is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    There,
    Gone,
    /// A call about it was not answered.
    Unknown,
}

/// Runs the test, writing the table to `out`. Returns whether all promises were kept.
pub(crate) fn run(plan: &Cycles, api: &Api, out: &mut impl Write) -> Result<bool, CrashError> {
    let mut table = Table::begin(plan.clients.seed, out)?;
    let mut random = Random::new(plan.clients.seed);
    let mut lives = Lives::begin(&plan.lives, random.next())?;
    fs::create_dir_all(&plan.clients.directory)?;
    let mut changes = Changes::new(plan, api, random.next())?;
    let mut unchecked = 0;
    for cycle in 1..=plan.cycles {
        unchecked += 1;
        // What has been there for long is looked at from time to time and at the end.
        let all = cycle % plan.check_every == 0 || cycle == plan.cycles;
        let next = if all { Next::Drain } else { Next::Cycle };
        let (signals, over) = (Signals::default(), AtomicBool::new(false));
        thread::scope(|scope| {
            let changing = scope.spawn(|| changes.go_on(&over));
            let ended = lives.cycle(&plan.clients.directory, next, &signals);
            over.store(true, Relaxed);
            let changed = changing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            ended?;
            Ok::<(), CrashError>(changed?)
        })?;
        if all {
            let counts = changes.check(&plan.clients.directory)?;
            table.add(std::mem::take(&mut unchecked), counts, &plan.allowed)?;
        }
        if !table.is_kept() {
            break;
        }
    }
    table.end(&lives)
}

/// The calls, and what they have come to.
struct Changes<'p> {
    plan: &'p Cycles,
    api: &'p Api,
    random: Random,
    journal: File,
    things: BTreeMap<Thing, State>,
    next: u64,
    counts: Counts,
}

impl<'p> Changes<'p> {
    fn new(plan: &'p Cycles, api: &'p Api, seed: u64) -> io::Result<Self> {
        let journal = File::create(plan.clients.directory.join("changes"))?;
        let (things, counts) = (BTreeMap::new(), Counts::default());
        Ok(Self { plan, api, random: Random::new(seed), journal, things, next: 0, counts })
    }

    /// Makes calls until one is not answered or it is over.
    fn go_on(&mut self, over: &AtomicBool) -> io::Result<()> {
        while !over.load(Relaxed) {
            let Ok(mut connection) =
                Connection::open(&self.plan.clients.target, Options::default())
            else {
                thread::sleep(super::POLL);
                continue;
            };
            while !over.load(Relaxed) {
                let (thing, wanted) = self.choose();
                writeln!(self.journal, "? {thing:?} {wanted:?}")?;
                self.counts.attempted += 1;
                self.note(thing, State::Unknown);
                if let Err(error) = self.make(&mut connection, thing, wanted) {
                    writeln!(self.journal, "! {error}")?;
                    break;
                }
                self.counts.confirmed += 1;
                self.note(thing, wanted);
                writeln!(self.journal, "= {thing:?} {wanted:?}")?;
            }
        }
        Ok(())
    }

    /// What a call about a thing means for it and for what goes with it.
    fn note(&mut self, thing: Thing, state: State) {
        self.things.insert(thing, state);
        for (other, known) in &mut self.things {
            let Thing::Binding(queue, exchange) = *other else { continue };
            let goes = [Thing::Queue(queue), Thing::Exchange(exchange)].contains(&thing);
            if goes && *known != State::Gone {
                *known = state;
            }
        }
    }

    /// The next call: something new, or something there that is to go.
    fn choose(&mut self) -> (Thing, State) {
        let there: Vec<Thing> = self
            .things
            .iter()
            .filter(|(_, state)| **state == State::There)
            .map(|(thing, _)| *thing)
            .collect();
        let goes = if there.len() > THINGS_MAX { 70 } else { 40 };
        if !there.is_empty() && self.random.between(1, 100) <= goes {
            return (self.one_of(&there), State::Gone);
        }
        let queues: Vec<Thing> =
            there.iter().copied().filter(|it| matches!(it, Thing::Queue(_))).collect();
        let exchanges: Vec<Thing> =
            there.iter().copied().filter(|it| matches!(it, Thing::Exchange(_))).collect();
        self.next += 1;
        let number = self.next;
        let thing = match self.random.between(0, 6) {
            0 => Thing::Exchange(number),
            1 => Thing::Policy(number),
            2 => Thing::User(number),
            3 => Thing::Messages(number),
            4 | 5 if !queues.is_empty() && !exchanges.is_empty() => {
                let (queue, exchange) = (self.one_of(&queues), self.one_of(&exchanges));
                match (queue, exchange) {
                    (Thing::Queue(queue), Thing::Exchange(exchange))
                        if !self.things.contains_key(&Thing::Binding(queue, exchange)) =>
                    {
                        Thing::Binding(queue, exchange)
                    }
                    _ => Thing::Queue(number),
                }
            }
            _ => Thing::Queue(number),
        };
        (thing, State::There)
    }

    fn one_of(&mut self, things: &[Thing]) -> Thing {
        let last = things.len() as u64 - 1;
        things[usize::try_from(self.random.between(0, last)).unwrap_or(0)]
    }

    fn name(&self, number: u64) -> String {
        format!("{}.{number}", self.plan.clients.prefix)
    }

    /// Makes a call and waits for its answer.
    fn make(
        &self,
        connection: &mut Connection,
        thing: Thing,
        wanted: State,
    ) -> Result<(), ClientError> {
        let there = wanted == State::There;
        let durable = QueueOptions { durable: true, auto_delete: false, arguments: Vec::new() };
        match thing {
            Thing::Queue(number) if there => {
                connection.declare_queue(&self.name(number), &durable).map(drop)
            }
            Thing::Queue(number) => connection.delete_queue(&self.name(number)),
            Thing::Exchange(number) if there => {
                connection.declare_exchange(&self.name(number), "direct", true, &[])
            }
            Thing::Exchange(number) => connection.delete_exchange(&self.name(number)),
            Thing::Binding(queue, exchange) => {
                let (queue, exchange) = (self.name(queue), self.name(exchange));
                if there {
                    connection.bind(&queue, &exchange, "key")
                } else {
                    connection.unbind(&queue, &exchange, "key")
                }
            }
            Thing::Policy(_) | Thing::User(_) => self.ask(thing, wanted),
            Thing::Messages(number) if there => self.fill(connection, number, &durable),
            Thing::Messages(number) => connection.purge_queue(&self.name(number)),
        }
    }

    fn ask(&self, thing: Thing, wanted: State) -> Result<(), ClientError> {
        let body = match thing {
            Thing::Policy(_) => {
                r#"{"pattern":"^nothing$","definition":{"max-length":7},"apply-to":"queues"}"#
            }
            _ => r#"{"password":"secret","tags":"monitoring"}"#,
        };
        let method = if wanted == State::There { "PUT" } else { "DELETE" };
        match self.api.call(method, &self.path(thing), body)? {
            (200..=299, _) => Ok(()),
            (status, body) => Err(ClientError::Unexpected(format!("{thing:?}: {status} {body}"))),
        }
    }

    /// Declares a queue in transaction mode's stead: its messages are committed before it returns.
    fn fill(
        &self,
        connection: &mut Connection,
        number: u64,
        options: &QueueOptions,
    ) -> Result<(), ClientError> {
        let name = self.name(number);
        connection.declare_queue(&name, options)?;
        connection.open_channel(CHANNEL + 1)?;
        connection.call(CHANNEL + 1, method::TX_SELECT, method::TX_SELECT_OK, |_| ())?;
        let mut out = Vec::new();
        for _ in 0..MESSAGES {
            put_method(&mut out, CHANNEL + 1, method::BASIC_PUBLISH, |arguments| {
                arguments.short(0).short_string("").short_string(&name).octet(0);
            });
            let frame_bytes_max = connection.frame_bytes_max;
            let persistent = properties(true, None, None);
            put_content(&mut out, CHANNEL + 1, &persistent, name.as_bytes(), frame_bytes_max);
        }
        connection.send(&out)?;
        connection.call(CHANNEL + 1, method::TX_COMMIT, method::TX_COMMIT_OK, |_| ())?;
        connection.close_channel(CHANNEL + 1)
    }

    fn path(&self, thing: Thing) -> String {
        match thing {
            Thing::Queue(number) | Thing::Messages(number) => {
                format!("/api/queues/%2F/{}", self.name(number))
            }
            Thing::Exchange(number) => format!("/api/exchanges/%2F/{}", self.name(number)),
            Thing::Binding(queue, exchange) => {
                let (queue, exchange) = (self.name(queue), self.name(exchange));
                format!("/api/bindings/%2F/e/{exchange}/q/{queue}")
            }
            Thing::Policy(number) => format!("/api/policies/%2F/{}", self.name(number)),
            Thing::User(number) => format!("/api/users/{}", self.name(number)),
        }
    }

    /// Compares everything with what is known of it. What was not known is known from then on.
    fn check(&mut self, directory: &Path) -> Result<Counts, CrashError> {
        let mut counts = std::mem::take(&mut self.counts);
        let mut complaints = String::new();
        for (thing, known) in self.things.clone() {
            let found = self.look(thing)?;
            counts.delivered += 1;
            match (known, found) {
                (State::Unknown, State::There) => counts.recovered += 1,
                (State::There, State::There) | (State::Gone | State::Unknown, State::Gone) => {}
                (State::Gone, _) => {
                    counts.resurrected += 1;
                    complaints += &format!("{thing:?} came back\n");
                }
                _ => {
                    counts.lost += 1;
                    complaints += &format!("{thing:?}: {known:?}, and now {found:?}\n");
                }
            }
            if found == State::Gone {
                // Looked at once more at the next check, and then no longer: time is limited.
                if known == State::Gone {
                    self.things.remove(&thing)
                } else {
                    self.things.insert(thing, State::Gone)
                };
            } else {
                self.things.insert(thing, found);
            }
        }
        if !complaints.is_empty() {
            fs::write(directory.join("complaints"), complaints)?;
        }
        Ok(counts)
    }

    /// What is found of a thing; `Unknown` is something in between.
    fn look(&self, thing: Thing) -> Result<State, CrashError> {
        if let Thing::Messages(number) = thing {
            let mut connection = Connection::open(&self.plan.clients.target, Options::default())?;
            return Ok(match connection.ready_in(&self.name(number)) {
                Ok(0) => State::Gone,
                Ok(MESSAGES) => State::There,
                Err(ClientError::Closed { code: 404, .. }) => State::Gone,
                Ok(_) => State::Unknown,
                Err(error) => return Err(error.into()),
            });
        }
        let (status, body) = self.api.call("GET", &self.path(thing), "")?;
        let listed = !matches!(thing, Thing::Binding(..)) || body.contains("\"routing_key\"");
        match status {
            200 if listed => Ok(State::There),
            200 | 404 => Ok(State::Gone),
            _ => Err(CrashError::Breach(format!("{thing:?}: {status} {body}"))),
        }
    }
}
