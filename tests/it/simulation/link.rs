//! One connection of a simulation: the session, and what is under way to and from it.
//!
//! Bytes arrive in pieces and in turns, as a socket would bring them. What the connection says is
//! judged when it says it, not when its client's side takes it: from then on the broker counts a
//! delivery as out. The client looks at it later, or never.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use leveret::broker::logins::Source;
use leveret::broker::outbox::Wake;
use leveret::broker::{Broker, Now};
use leveret::session::{Connection, PeerAddress, SessionSettings};

use super::client::Request;
use super::judge::Asked;
use crate::support::received::{Reader, Received};

pub(super) struct Link {
    pub(super) connection: Connection,
    woken: Arc<Waker>,
    /// Sent by the client and not taken yet, and how much of that has arrived.
    to_server: Vec<u8>,
    arrived: usize,
    /// Bytes that the client has sent, and those that the connection has taken.
    sent: u64,
    taken: u64,
    /// Where each request ends.
    asked: VecDeque<(u64, u16, Asked)>,
    reader: Reader,
    /// Bytes of the connection's output that were heard, and what of them is not whole yet.
    heard: usize,
    from_server: Vec<u8>,
    /// What was heard and not written to the client's side.
    said: Vec<Received>,
    /// What the client has not looked at.
    pub(super) inbox: VecDeque<Received>,
    /// The client's side takes nothing for now.
    pub(super) stalled: bool,
}

#[derive(Default)]
struct Waker(AtomicBool);

impl Wake for Waker {
    fn wake(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// What a connection has done.
#[derive(Default)]
pub(super) struct Done {
    pub(super) worked: bool,
    /// Requests that it has taken.
    pub(super) asked: Vec<(u16, Asked)>,
    /// What it has said since.
    pub(super) said: Vec<Received>,
    /// The same as bytes.
    pub(super) bytes: Vec<u8>,
}

impl Link {
    pub(super) fn new(
        broker: &Arc<Broker>,
        session: &Arc<SessionSettings>,
        number: usize,
        now: Now,
    ) -> Self {
        let woken = Arc::new(Waker::default());
        let peer = PeerAddress {
            peer: ("127.0.0.1".into(), 1_024 + u16::try_from(number % 60_000).unwrap()),
            host: ("127.0.0.1".into(), 5672),
            is_loopback: true,
            source: Source(1),
            tls: None,
        };
        let waker = Arc::clone(&woken) as Arc<dyn Wake>;
        let (broker, session) = (Arc::clone(broker), Arc::clone(session));
        Self {
            connection: Connection::new(broker, session, peer, waker, now),
            woken,
            to_server: Vec::new(),
            arrived: 0,
            sent: 0,
            taken: 0,
            asked: VecDeque::new(),
            reader: Reader::default(),
            heard: 0,
            from_server: Vec::new(),
            said: Vec::new(),
            inbox: VecDeque::new(),
            stalled: false,
        }
    }

    /// The client sends something.
    pub(super) fn send(&mut self, bytes: &[u8], channel: u16, asked: Asked) {
        self.to_server.extend_from_slice(bytes);
        self.sent += bytes.len() as u64;
        self.asked.push_back((self.sent, channel, asked));
    }

    /// The client sends a request.
    pub(super) fn request(&mut self, request: Request) {
        self.send(&request.bytes, request.channel, request.asked);
    }

    /// Bytes that the client has sent and the connection has not taken.
    pub(super) fn unheard_bytes(&self) -> usize {
        self.to_server.len()
    }

    /// More of what the client has sent arrives.
    pub(super) fn arrive(&mut self, bytes: usize) {
        self.arrived = self.to_server.len().min(self.arrived.saturating_add(bytes));
    }

    /// The connection looks after what has happened elsewhere, if anything has.
    pub(super) fn look_after(&mut self, now: Now) -> Done {
        let has_room = self.connection.has_more_output() && self.connection.output().is_empty();
        let worked = self.woken.0.swap(false, Ordering::SeqCst) || has_room;
        if worked {
            self.connection.handle_events(now);
        }
        Done { worked, ..self.listen(now) }
    }

    /// The connection takes what has arrived.
    pub(super) fn take(&mut self, now: Now) -> Done {
        let limit = self.arrived.min(self.together());
        if !self.connection.wants_input() || limit == 0 {
            return Done::default();
        }
        let used = self.connection.handle_input(&self.to_server[..limit], now);
        self.to_server.drain(..used);
        self.arrived -= used;
        self.taken += used as u64;
        let mut asked = Vec::new();
        while self.asked.front().is_some_and(|(end, ..)| *end <= self.taken) {
            asked.extend(self.asked.pop_front().map(|(_, channel, asked)| (channel, asked)));
        }
        Done { worked: used > 0, asked, ..self.listen(now) }
    }

    /// Bytes up to the first request that gives back what one before it fetches: taken together
    /// nobody could tell whether the fetched message was given back, too.
    fn together(&self) -> usize {
        let (mut end, mut fetches) = (self.taken, false);
        for (next, _, asked) in &self.asked {
            if fetches && asked.gives_back() {
                return usize::try_from(end - self.taken).unwrap();
            }
            fetches |= matches!(asked, Asked::Get { .. });
            end = *next;
        }
        usize::MAX
    }

    /// What the connection has said since this was last asked.
    pub(super) fn listen(&mut self, now: Now) -> Done {
        let mut done = Done::default();
        // What was still to be written when a client agreed to a close is dropped.
        self.heard = self.heard.min(self.connection.output().len());
        while self.connection.output().len() > self.heard {
            let mut slices = Vec::new();
            self.connection.output().slices(&mut slices);
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            done.bytes.extend_from_slice(&bytes[self.heard..]);
            self.heard = bytes.len();
            if self.connection.output().len() > self.heard {
                // It shows only so much at once.
                self.connection.handle_written(self.heard, now);
                self.heard = 0;
            }
        }
        self.from_server.extend_from_slice(&done.bytes);
        done.said = self.reader.read(&mut self.from_server, 131_072);
        self.said.extend(done.said.iter().cloned());
        done
    }

    /// The client's side takes what was said. True when there was something.
    pub(super) fn write(&mut self, now: Now) -> bool {
        if self.stalled || (self.connection.output().is_empty() && self.said.is_empty()) {
            return false;
        }
        while !self.connection.output().is_empty() {
            let mut slices = Vec::new();
            self.connection.output().slices(&mut slices);
            let bytes = slices.iter().map(|slice| slice.len()).sum();
            self.connection.handle_written(bytes, now);
        }
        self.heard = 0;
        self.inbox.extend(self.said.drain(..));
        true
    }
}
