//! What a broker must live through: a disk that is full, a backlog that memory does not hold, a
//! clock that jumps. Nobody ends it until that is over; then it is killed, and all the same nothing
//! may be missing.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

use super::CrashError;
use super::body::Random;
use super::clients::{ClientPlan, Fresh, Signals};
use super::cycles::{Cycles, Table};
use super::lives::{Lives, Next};
use crate::batch::properties;
use crate::clock::{self, seconds_between};
use crate::connection::{CHANNEL, Connection, Options, Target, refuse_close};
use crate::wire::{FRAME_METHOD, method, put_content, put_method};

/// How long it may take until a disk has been filled.
const FILL_S: f64 = 120.0;
/// How long a backlog may grow by nothing before it is taken as it is.
const BLOCKED_S: f64 = 10.0;
/// What must be free when publishers are blocked, as a share of the disk.
const FREE_SHARE: f64 = 0.05;
/// How long after there is room again publishers may stay blocked.
const UNBLOCK_S: f64 = 2.0;
/// How soon something must move that is to move.
const MOVE_S: f64 = 10.0;
/// Deliveries that show that consumers drain.
const DRAINED: u64 = 500;
const POLL: Duration = Duration::from_millis(20);
const HOUR_S: i64 = 3_600;
/// How far the clock jumps, in turn.
const JUMPS_S: [i64; 4] = [HOUR_S, -HOUR_S, 87_600 * HOUR_S, -87_600 * HOUR_S];

/// What presses.
#[derive(Debug, Clone)]
pub(crate) enum Pressure {
    /// The disk fills up with a ballast of so many bytes on it, which goes in the end.
    Disk {
        /// A file on the broker's file system.
        ballast: PathBuf,
        /// Its size.
        bytes: u64,
    },
    /// So many bytes wait, in a broker that may use less memory.
    Memory {
        /// Bytes of bodies; those of the plan are all of one size.
        bytes: u64,
    },
    /// The broker's clock is what this file says: seconds to be added (`tests/crash/clock.c`).
    Clock {
        /// The file.
        file: PathBuf,
    },
}

/// Runs the test, writing the table to `out`. Returns whether all promises were kept.
pub(crate) fn run(
    plan: &Cycles,
    pressure: &Pressure,
    out: &mut impl Write,
) -> Result<bool, CrashError> {
    let mut table = Table::begin(plan.clients.seed, out)?;
    let mut random = Random::new(plan.clients.seed);
    if let Pressure::Clock { file } = pressure {
        set_clock(file, 0)?;
    }
    let mut lives = Lives::begin(&plan.lives, random.next())?;
    for (cycle, run) in (0..plan.cycles).zip(1..) {
        let mut clients = plan.clients.clone();
        clients.run.run = run;
        clients.seed = random.next();
        clients.directory = plan.clients.directory.join(format!("run-{run}"));
        clients.holds = true;
        super::run_clients(&clients, Fresh::Yes, |signals| {
            let mut under = Under { clients: &clients, lives: &mut lives, signals };
            match pressure {
                Pressure::Disk { ballast, bytes } => under.full_disk(ballast, *bytes)?,
                Pressure::Memory { bytes } => under.backlog(*bytes)?,
                Pressure::Clock { file } => {
                    let jumps = JUMPS_S.len() as u64;
                    let jump = usize::try_from(cycle % jumps).unwrap_or(0);
                    under.jump(file, JUMPS_S[jump])?;
                }
            }
            under.lives.kill(&clients.directory, Next::Drain)?;
            signals.hold_consuming.store(false, Relaxed);
            Ok(())
        })?;
        table.checked(1, &clients.directory, plan)?;
        if !table.is_kept() {
            break;
        }
    }
    table.end(&lives)
}

/// A broker under load and pressure. Consumers do not begin until they are told.
struct Under<'r, 'l, 'p> {
    clients: &'r ClientPlan,
    lives: &'l mut Lives<'p>,
    signals: &'r Signals,
}

impl Under<'_, '_, '_> {
    fn full_disk(&mut self, ballast: &Path, bytes: u64) -> Result<(), CrashError> {
        fill(ballast, bytes)?;
        let mut watcher = Watcher::open(&self.clients.target)?;
        self.wait(FILL_S, "publishers are not blocked though the disk is full", |_| {
            watcher.is_blocked()
        })?;
        let free = free_share(ballast)?;
        if free < FREE_SHARE {
            let text = format!("blocked when {:.1} % of the disk were left", free * 100.0);
            return Err(CrashError::Breach(text));
        }
        self.signals.hold_consuming.store(false, Relaxed);
        self.wait(MOVE_S, "consumers do not drain while publishers are blocked", |signals| {
            Ok(signals.delivered.load(Relaxed) >= DRAINED)
        })?;
        fs::remove_file(ballast)?;
        self.wait(UNBLOCK_S, "publishers stay blocked though there is room", |_| {
            Ok(!watcher.is_blocked()?)
        })?;
        let confirmed = self.signals.confirmed.load(Relaxed);
        self.wait(MOVE_S, "nothing is confirmed after publishers were blocked", |signals| {
            Ok(signals.confirmed.load(Relaxed) > confirmed)
        })
    }

    fn backlog(&mut self, bytes: u64) -> Result<(), CrashError> {
        let mut watcher = Watcher::open(&self.clients.target)?;
        let wanted = bytes / self.clients.body_bytes.1.max(1) as u64;
        let (mut seen, mut moved_ns, mut was_blocked) = (0, clock::now_ns(), false);
        loop {
            let (confirmed, now_ns) = (self.signals.confirmed.load(Relaxed), clock::now_ns());
            if confirmed > seen {
                (seen, moved_ns) = (confirmed, now_ns);
            }
            if self.lives.has_ended()? {
                // Its memory's limit was the end of it; the alarm must have come first.
                let text = format!("gone after {confirmed} messages, without an alarm");
                return if was_blocked { Ok(()) } else { Err(CrashError::Breach(text)) };
            }
            was_blocked |= watcher.is_blocked()?;
            if confirmed >= wanted || was_blocked && seconds_between(moved_ns, now_ns) > BLOCKED_S {
                return Ok(());
            }
            if seconds_between(moved_ns, now_ns) > FILL_S {
                return Err(CrashError::Breach("a backlog stopped growing".to_owned()));
            }
            thread::sleep(POLL);
        }
    }

    fn jump(&mut self, file: &Path, seconds: i64) -> Result<(), CrashError> {
        self.wait(MOVE_S, "nothing is confirmed", |signals| {
            Ok(signals.confirmed.load(Relaxed) >= DRAINED)
        })?;
        let connections = self.signals.connections.load(Relaxed);
        set_clock(file, seconds)?;
        // Longer than a heartbeat's patience, and than anything takes that looks for what expires.
        thread::sleep(Duration::from_millis(3_500));
        let confirmed = self.signals.confirmed.load(Relaxed);
        self.wait(MOVE_S, "nothing is confirmed after the clock jumped", |signals| {
            Ok(signals.confirmed.load(Relaxed) > confirmed)
        })?;
        if self.signals.connections.load(Relaxed) != connections {
            let text = format!("connections did not survive a jump by {seconds} s");
            return Err(CrashError::Breach(text));
        }
        self.signals.hold_consuming.store(false, Relaxed);
        self.wait(MOVE_S, "nothing is delivered after the clock jumped", |signals| {
            Ok(signals.delivered.load(Relaxed) >= DRAINED)
        })?;
        Ok(set_clock(file, 0)?)
    }

    /// Waits for something that must come while the broker lives.
    fn wait(
        &mut self,
        limit_s: f64,
        otherwise: &str,
        mut come: impl FnMut(&Signals) -> Result<bool, CrashError>,
    ) -> Result<(), CrashError> {
        let since_ns = clock::now_ns();
        while !come(self.signals)? {
            if self.lives.has_ended()? {
                return Err(CrashError::Breach("it ended by itself".to_owned()));
            }
            if seconds_between(since_ns, clock::now_ns()) > limit_s {
                return Err(CrashError::Breach(otherwise.to_owned()));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

/// A publisher of next to nothing, who hears when publishers are blocked.
struct Watcher {
    connection: Connection,
    blocked: bool,
}

impl Watcher {
    fn open(target: &Target) -> Result<Self, CrashError> {
        Ok(Self { connection: Connection::open(target, Options::default())?, blocked: false })
    }

    fn is_blocked(&mut self) -> Result<bool, CrashError> {
        if !self.blocked {
            let mut out = Vec::new();
            put_method(&mut out, CHANNEL, method::BASIC_PUBLISH, |arguments| {
                arguments.short(0).short_string("").short_string("nobody's").octet(0);
            });
            put_content(&mut out, CHANNEL, &properties(false, None, None), b"?", 4096);
            self.connection.send(&out)?;
        }
        self.connection.fill_now()?;
        while let Some(frame) =
            self.connection.inbound.next().map_err(crate::connection::ClientError::from)?
        {
            if frame.kind != FRAME_METHOD {
                continue;
            }
            match frame.method().map_err(crate::connection::ClientError::from)?.0 {
                method::CONNECTION_BLOCKED => self.blocked = true,
                method::CONNECTION_UNBLOCKED => self.blocked = false,
                id => refuse_close(id, frame.payload)?,
            }
        }
        Ok(self.blocked)
    }
}

/// A file that occupies so many bytes.
fn fill(path: &Path, bytes: u64) -> io::Result<()> {
    let file = File::create(path)?;
    Ok(rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, bytes)?)
}

/// What is free of a file's file system, for those who are not root.
fn free_share(path: &Path) -> io::Result<f64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail as f64 / found.f_blocks.max(1) as f64)
}

/// Written under another name first: the broker reads it whenever it asks for the time.
fn set_clock(file: &Path, seconds: i64) -> io::Result<()> {
    let draft = file.with_extension("new");
    fs::write(&draft, format!("{seconds:+}\n"))?;
    fs::rename(&draft, file)
}
