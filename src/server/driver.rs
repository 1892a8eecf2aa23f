//! Drives one connection: the only place where its socket is read and written.
//!
//! A turn reads once, lets the state machine work, and writes once, vectored. What the peer does
//! not read stays in the connection's output, which in turn stops its input and its deliveries;
//! nothing here buffers without a limit.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::Interest;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, sleep, sleep_until};

use super::Hall;
use super::buffer::ReadBuffer;
use super::clock::Clock;
use super::lobby::{Guest, Place};
use super::transport::Transport;
use crate::broker::Now;
use crate::broker::outbox::Wake;
use crate::session::{Connection, PeerAddress};

/// How soon a connection that rests for the disk looks again.
const STORE_PAUSE_MS: u64 = 5;
/// A deadline met so late says that this process stood still...
const LATE_MS: u64 = 100;
/// ...and that sockets may not have been looked at since; after a moment they have.
const AFTER_LATE: Duration = Duration::from_millis(5);

/// Wakes a connection's task, or tells it to go.
#[derive(Debug, Default)]
pub(super) struct TaskWaker {
    woken: AtomicBool,
    dismissed: AtomicBool,
    notify: Notify,
}

impl Wake for TaskWaker {
    fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.notify.notify_one();
        }
    }
}

impl TaskWaker {
    /// Waits until it is told to go. For those who are not woken for anything else yet.
    pub(super) async fn dismissed(&self) {
        while !self.dismissed.load(Ordering::Acquire) {
            self.notify.notified().await;
        }
    }
}

impl Guest for TaskWaker {
    fn dismiss(&self) {
        self.dismissed.store(true, Ordering::Release);
        self.wake();
    }
}

/// A client that has come in.
pub(super) struct Arrival {
    /// Who it is.
    pub(super) peer: PeerAddress,
    /// When its socket was accepted.
    pub(super) now: Now,
    /// What was read of it and not used.
    pub(super) early: ReadBuffer,
    /// How its task is reached.
    pub(super) waker: Arc<TaskWaker>,
    /// Its place in the lobby.
    pub(super) place: Place,
}

/// Drives a connection from its arrival to its end.
pub(super) async fn drive<T: Transport>(mut transport: T, arrival: Arrival, hall: Hall) {
    let Hall { broker, settings, clock, .. } = hall;
    let Arrival { peer, now, early, waker, place } = arrival;
    let wake: Arc<dyn Wake> = Arc::<TaskWaker>::clone(&waker);
    let name = peer.connection_name();
    let mut connection = Connection::new(broker, settings, peer, wake, now);
    tracing::debug!(connection = %name, "accepted");
    let ended = turns(&mut transport, early, &mut connection, &waker, place, clock).await;
    match ended {
        Ok(()) => transport.close().await,
        Err(error) => connection.abort(&error.to_string(), clock.now()),
    }
    match connection.ended_because() {
        Some(why) => tracing::info!(connection = %name, why, "closed"),
        None => tracing::debug!(connection = %name, "closed"),
    }
}

async fn turns<T: Transport>(
    transport: &mut T,
    mut input: ReadBuffer,
    connection: &mut Connection,
    waker: &TaskWaker,
    place: Place,
    clock: Clock,
) -> io::Result<()> {
    let mut place = Some(place);
    let mut budget = 0u32;
    let mut stood_still = false;
    loop {
        let wrote_all = write(transport, connection, clock)?;
        if connection.is_finished() {
            return Ok(());
        }
        if place.is_some() {
            if connection.is_logged_in() {
                place = None;
                transport.may_have_more();
            } else if waker.dismissed.load(Ordering::Acquire) {
                return Err(io::Error::other("others needed its place before it had logged in"));
            }
        }
        // After a while of uninterrupted work, others get their turn.
        budget += 1;
        if budget.is_multiple_of(32) {
            tokio::task::yield_now().await;
        }
        // However much there is to say, the peer gets a word in edgeways.
        let has_more_output = wrote_all && connection.has_more_output();
        if has_more_output {
            connection.handle_events(clock.now());
        }
        if connection.wants_input()
            && !input.pending().is_empty()
            && hand_on(&mut input, connection, clock.now()) > 0
        {
            continue;
        }
        let wants_input = connection.wants_input();
        if wants_input {
            input.release_if_empty();
        }
        let mut interest = None;
        if wants_input {
            interest = Some(Interest::READABLE);
        }
        if !wrote_all {
            interest = Some(interest.map_or(Interest::WRITABLE, |i| i | Interest::WRITABLE));
        }
        if !has_more_output {
            wait(transport, connection, waker, clock, interest).await?;
        }
        let now = clock.now();
        if waker.woken.swap(false, Ordering::AcqRel) {
            connection.handle_events(now);
        }
        if connection.wants_input() {
            match transport.try_read(input.room()) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    input.filled(n, place.is_none());
                    hand_on(&mut input, connection, now);
                    input.shrink();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        // Last: what the peer has sent while this process was stopped is not late.
        let late_ms = connection.next_timeout_ms().and_then(|due| now.mono_ms.checked_sub(due));
        match late_ms {
            Some(late_ms) if late_ms > LATE_MS && !stood_still => {
                stood_still = true;
                sleep(AFTER_LATE).await;
            }
            Some(_) => connection.handle_timeout(now),
            None => stood_still = false,
        }
    }
}

/// Lets the connection take what was read; returns how much it took. Until it is open, that may
/// be a password.
fn hand_on(input: &mut ReadBuffer, connection: &mut Connection, now: Now) -> usize {
    let may_be_secret = connection.is_opening();
    let used = connection.handle_input(input.pending(), now);
    if may_be_secret {
        input.wipe(used);
    }
    input.consume(used);
    used
}

/// Waits until there is something to do.
async fn wait<T: Transport>(
    transport: &T,
    connection: &Connection,
    waker: &TaskWaker,
    clock: Clock,
    interest: Option<Interest>,
) -> io::Result<()> {
    let mut due = connection.next_timeout_ms().map(|at| Instant::from_std(clock.instant(at)));
    if !connection.wants_input() && connection.waits_for_store() {
        let soon = Instant::now() + Duration::from_millis(STORE_PAUSE_MS);
        due = Some(due.map_or(soon, |due| due.min(soon)));
    }
    let ready = async {
        match interest {
            Some(interest) => transport.ready(interest).await,
            None => std::future::pending().await,
        }
    };
    let timeout = async {
        match due {
            Some(due) => sleep_until(due).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = waker.notify.notified() => Ok(()),
        ready = ready => ready,
        () = timeout => Ok(()),
    }
}

/// Writes what there is; true when all of it is written.
fn write<T: Transport>(
    transport: &mut T,
    connection: &mut Connection,
    clock: Clock,
) -> io::Result<bool> {
    loop {
        let written = {
            let mut slices: Vec<IoSlice<'_>> = Vec::new();
            connection.output().slices(&mut slices);
            if slices.is_empty() {
                return transport.try_flush();
            }
            transport.try_write(&slices)
        };
        match written {
            Ok(n) => connection.handle_written(n, clock.now()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}
