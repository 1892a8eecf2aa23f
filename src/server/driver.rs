//! Drives one connection: the only place where its socket is read and written.
//!
//! A turn reads once, lets the state machine work, and writes once, vectored. What the peer does
//! not read stays in the connection's output, which in turn stops its input and its deliveries;
//! nothing here buffers without a limit.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, sleep_until};
use zeroize::Zeroize as _;

use super::Hall;
use super::clock::Clock;
use super::lobby::{Guest, Place};
use crate::broker::Now;
use crate::broker::outbox::Wake;
use crate::session::{Connection, PeerAddress};

/// The read buffer while little is said.
const READ_BYTES_MIN: usize = 16 * 1024;
/// The read buffer of a busy publisher.
const READ_BYTES_MAX: usize = 512 * 1024;
/// Turns with short reads after which the buffer shrinks.
const SHORT_READS_MAX: u32 = 64;
/// How soon a connection that rests for the disk looks again.
const STORE_PAUSE_MS: u64 = 5;

/// Wakes a connection's task.
#[derive(Debug, Default)]
struct TaskWaker {
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

impl Guest for TaskWaker {
    fn dismiss(&self) {
        self.dismissed.store(true, Ordering::Release);
        self.wake();
    }
}

/// The bytes read and not yet handled.
struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    short_reads: u32,
}

impl ReadBuffer {
    fn new() -> Self {
        Self { bytes: Vec::new(), start: 0, end: 0, short_reads: 0 }
    }

    fn pending(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Overwrites the first `n` bytes of what is pending.
    fn wipe(&mut self, n: usize) {
        self.bytes[self.start..self.start + n].zeroize();
    }

    fn consume(&mut self, n: usize) {
        self.start += n;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Room for the next read; grows when what is there is one unfinished frame.
    fn room(&mut self) -> &mut [u8] {
        if self.start > 0 && self.bytes.len() - self.end < self.bytes.len() / 2 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.bytes.is_empty() {
            self.bytes.resize(READ_BYTES_MIN, 0);
        } else if self.end == self.bytes.len() {
            self.bytes.resize(self.bytes.len() * 2, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// So many bytes were read. A peer that `may_have_more` memory gets it for reading faster.
    fn filled(&mut self, n: usize, may_have_more: bool) {
        self.end += n;
        if may_have_more && self.end == self.bytes.len() && self.bytes.len() < READ_BYTES_MAX {
            self.short_reads = 0;
            self.bytes.resize((self.bytes.len() * 2).min(READ_BYTES_MAX), 0);
        } else if n < self.bytes.len() / 8 {
            self.short_reads += 1;
        } else {
            self.short_reads = 0;
        }
    }

    /// Gives memory back when the connection has become quiet.
    fn shrink(&mut self) {
        if self.short_reads > SHORT_READS_MAX && self.end - self.start <= READ_BYTES_MIN / 2 {
            self.short_reads = 0;
            if self.bytes.len() > READ_BYTES_MIN {
                self.bytes.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
                self.bytes.truncate(READ_BYTES_MIN);
                self.bytes.shrink_to_fit();
            }
        }
    }

    /// Gives all memory back while nothing is pending: for connections that wait.
    fn release_if_empty(&mut self) {
        if self.start == self.end && self.bytes.len() <= READ_BYTES_MIN {
            *self = Self::new();
        }
    }
}

/// A connection from accept to its end, to be driven. It is in the lobby from now on.
pub(super) fn drive(
    socket: TcpStream,
    peer: PeerAddress,
    hall: Hall,
) -> impl Future<Output = ()> + Send {
    let Hall { broker, settings, lobby, clock, .. } = hall;
    let waker = Arc::new(TaskWaker::default());
    let place = lobby.enter(peer.source, Arc::<TaskWaker>::clone(&waker), clock.now());
    let wake: Arc<dyn Wake> = Arc::<TaskWaker>::clone(&waker);
    let name = peer.connection_name();
    let mut connection = Connection::new(broker, settings, peer, wake, clock.now());
    async move {
        tracing::debug!(connection = %name, "accepted");
        let ended = turns(&socket, &mut connection, &waker, place, clock).await;
        if let Err(error) = ended {
            connection.abort(&error.to_string());
        }
        match connection.ended_because() {
            Some(why) => tracing::info!(connection = %name, why, "closed"),
            None => tracing::debug!(connection = %name, "closed"),
        }
    }
}

async fn turns(
    socket: &TcpStream,
    connection: &mut Connection,
    waker: &TaskWaker,
    place: Place,
    clock: Clock,
) -> io::Result<()> {
    let mut place = Some(place);
    let mut input = ReadBuffer::new();
    let mut budget = 0u32;
    loop {
        let wrote_all = write(socket, connection, clock)?;
        if connection.is_finished() {
            return Ok(());
        }
        if place.is_some() {
            if connection.is_logged_in() {
                place = None;
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
            wait(socket, connection, waker, clock, interest).await?;
        }
        let now = clock.now();
        if waker.woken.swap(false, Ordering::AcqRel) {
            connection.handle_events(now);
        }
        if connection.next_timeout_ms().is_some_and(|due| due <= now.mono_ms) {
            connection.handle_timeout(now);
        }
        if connection.wants_input() {
            match socket.try_read(input.room()) {
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
async fn wait(
    socket: &TcpStream,
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
            Some(interest) => socket.ready(interest).await.map(|_| ()),
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
fn write(socket: &TcpStream, connection: &mut Connection, clock: Clock) -> io::Result<bool> {
    loop {
        let written = {
            let mut slices: Vec<IoSlice<'_>> = Vec::new();
            connection.output().slices(&mut slices);
            match slices.as_slice() {
                [] => return Ok(true),
                [one] => socket.try_write(one),
                many => socket.try_write_vectored(many),
            }
        };
        match written {
            Ok(n) => connection.handle_written(n, clock.now()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}
