//! A connection: frames in, frames out, channels in between.
//!
//! The phases are a private enum; every input either fits the phase or ends the connection with the
//! code that RabbitMQ gives. Here is what the edge calls: `opening` leads to an open connection,
//! `running` does what its frames ask for and `turns` what follows from them, `closing` ends it.
//!
//! Invariants: after the connection has ended, in whichever way, no queue holds a consumer of it
//! and no message is left with it; a client that was sent connection.close is listened to only for
//! its close-ok.

mod closing;
mod opening;
mod running;
mod turns;

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::channel::Channel;
use super::core::Core;
use super::handshake::{Login, Tuned};
use super::output::Output;
use super::throttle::Throttle;
use super::{PeerAddress, SessionSettings};
use crate::broker::access::Taken;
use crate::broker::limits::Limit;
use crate::broker::outbox::{ConnectionId, Wake};
use crate::broker::{Broker, ConnectionHandle, Now};
use crate::protocol::frame::{self, FrameError};
use crate::protocol::refusal::Refusal;
use crate::store::Progress;

/// Bytes decoded in one turn before others get theirs.
const TURN_BYTES_MAX: usize = 256 * 1024;
/// Output above which no more deliveries are encoded: the peer does not keep up.
const OUTPUT_BYTES_MAX: usize = 512 * 1024;
/// Output above which input rests: the peer asks but does not read the answers.
const OUTPUT_PAUSES_INPUT_BYTES: usize = 4 * 1024 * 1024;
/// The longest wait for close-ok.
const CLOSE_OK_MS_MAX: u64 = 30_000;
/// How stale the operators' view of a busy connection may be.
const VIEW_MS_MAX: u64 = 1_000;

enum Phase {
    ExpectHeader,
    ExpectStartOk {
        /// When the login is looked at, once it is clear that it has to wait.
        rests_until_ms: Option<u64>,
    },
    /// The login was refused; its client is told at this moment.
    Refusing {
        refusal: Refusal,
        until_ms: u64,
    },
    ExpectTuneOk(Box<Login>),
    ExpectOpen(Box<Tuned>),
    Running(Box<Running>),
    /// connection.close was sent; only close and close-ok count.
    Closing {
        until_ms: u64,
    },
    /// Nothing is read any more; the socket closes at this moment.
    Doomed {
        until_ms: u64,
    },
    /// The socket closes once everything is written.
    Finished,
}

impl Phase {
    /// As RabbitMQ names it to clients.
    fn name(&self) -> &'static str {
        match self {
            Self::ExpectHeader | Self::ExpectStartOk { .. } | Self::Refusing { .. } => "starting",
            Self::ExpectTuneOk(_) => "tuning",
            Self::ExpectOpen(_) => "opening",
            Self::Running(_) => "running",
            Self::Closing { .. } | Self::Doomed { .. } | Self::Finished => "closed",
        }
    }
}

enum ChannelState {
    Open(Box<Channel>),
    /// channel.close was sent; everything but close-ok is ignored.
    Closing,
}

/// An open connection.
struct Running {
    core: Core,
    channels: FxHashMap<u16, ChannelState>,
    /// Channels with confirms that wait for the disk.
    confirms_due: Vec<u16>,
    throttle: Throttle,
    channel_max: u16,
    heartbeat_ms: u64,
    handle: Arc<ConnectionHandle>,
    /// Under the limits of the node, the vhost and the user.
    _places: [Taken; 3],
    /// The positions the store will wake us for.
    awaited: Progress,
    view_ms: u64,
    view_stale: bool,
}

/// A connection's state machine. See [`super`] for how the edge drives it.
pub struct Connection {
    broker: Arc<Broker>,
    settings: Arc<SessionSettings>,
    peer: PeerAddress,
    id: ConnectionId,
    waker: Arc<dyn Wake>,
    phase: Phase,
    /// Output while no channel is open yet, or any more.
    out: Output,
    now: Now,
    accepted_ms: u64,
    read_ms: u64,
    written_ms: u64,
    received_bytes: u64,
    sent_bytes: u64,
    /// Bytes of the last input that were not used: more than these is news from the peer.
    unused_bytes: usize,
    ended_because: Option<String>,
}

impl Connection {
    /// A connection that was just accepted. `waker` wakes the task that drives it.
    #[must_use]
    pub fn new(
        broker: Arc<Broker>,
        settings: Arc<SessionSettings>,
        peer: PeerAddress,
        waker: Arc<dyn Wake>,
        now: Now,
    ) -> Self {
        let id = broker.next_connection_id();
        Self {
            broker,
            settings,
            peer,
            id,
            waker,
            phase: Phase::ExpectHeader,
            out: Output::default(),
            now,
            accepted_ms: now.mono_ms,
            read_ms: now.mono_ms,
            written_ms: now.mono_ms,
            received_bytes: 0,
            sent_bytes: 0,
            unused_bytes: 0,
            ended_because: None,
        }
    }

    /// Where it comes from.
    #[must_use]
    pub fn peer(&self) -> &PeerAddress {
        &self.peer
    }

    /// Why it ended, if not by its client's wish; for the log.
    #[must_use]
    pub fn ended_because(&self) -> Option<&str> {
        self.ended_because.as_deref()
    }

    /// Takes bytes from the peer; returns how many were used. Call it again with the rest, and what
    /// has come since, while [`wants_input`](Self::wants_input).
    pub fn handle_input(&mut self, input: &[u8], now: Now) -> usize {
        self.now = now;
        if input.len() > self.unused_bytes {
            self.read_ms = now.mono_ms;
        }
        if let Phase::Running(running) = &mut self.phase {
            running.throttle.look(&mut running.core);
            if let Err(end) = running.look_at_rights() {
                self.on_end(end);
            }
        }
        let mut used = 0;
        // What a turn brings comes to the store at its end: looking once is enough.
        let input_bytes_max = if self.wants_input() { TURN_BYTES_MAX } else { 0 };
        while used < input_bytes_max && used < input.len() && self.listens() {
            match self.input_step(&input[used..]) {
                0 => break,
                n => used += n,
            }
        }
        self.received_bytes += used as u64;
        self.unused_bytes = input.len() - used;
        self.end_turn();
        used
    }

    /// Something happened elsewhere: deliveries, a moved watermark, a wish to close.
    pub fn handle_events(&mut self, now: Now) {
        self.now = now;
        self.end_turn();
    }

    /// A moment of [`next_timeout_ms`](Self::next_timeout_ms) has come.
    pub fn handle_timeout(&mut self, now: Now) {
        self.now = now;
        let at = now.mono_ms;
        if self.input_rests() {
            self.read_ms = at;
        }
        match &mut self.phase {
            Phase::ExpectHeader
            | Phase::ExpectStartOk { .. }
            | Phase::ExpectTuneOk(_)
            | Phase::ExpectOpen(_) => {
                if at >= self.handshake_until_ms() {
                    self.broker.counters().limits.note(Limit::HandshakeTimeout);
                    self.finish("handshake timeout");
                }
            }
            Phase::Refusing { until_ms, .. } => {
                if at >= *until_ms {
                    self.refuse_login();
                }
            }
            Phase::Running(running) => {
                running.core.now = now;
                let interval = running.heartbeat_ms;
                if interval > 0 && at >= self.read_ms + 2 * interval {
                    self.abort("missed heartbeats from client", now);
                    return;
                }
                if running.core.ack_check_ms.take_if(|check_ms| *check_ms <= at).is_some()
                    && let Err(end) = running.close_channels_that_do_not_acknowledge()
                {
                    return self.on_end(end);
                }
                let Phase::Running(running) = &mut self.phase else { return };
                if interval > 0 && at >= self.written_ms + interval / 2 {
                    frame::heartbeat(running.core.out.buffer());
                    self.written_ms = at;
                }
                self.end_turn();
            }
            Phase::Closing { until_ms } | Phase::Doomed { until_ms } => {
                if at >= *until_ms {
                    self.out = Output::default();
                    self.phase = Phase::Finished;
                }
            }
            Phase::Finished => {
                if at >= self.last_sign_ms() + CLOSE_OK_MS_MAX {
                    self.out = Output::default();
                }
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due, in monotonic milliseconds.
    #[must_use]
    pub fn next_timeout_ms(&self) -> Option<u64> {
        match &self.phase {
            Phase::ExpectStartOk { rests_until_ms: Some(at_ms) } if *at_ms > self.now.mono_ms => {
                Some(*at_ms.min(&self.handshake_until_ms()))
            }
            Phase::ExpectHeader
            | Phase::ExpectStartOk { .. }
            | Phase::ExpectTuneOk(_)
            | Phase::ExpectOpen(_) => Some(self.handshake_until_ms()),
            Phase::Running(running) => {
                let heartbeat = (running.heartbeat_ms > 0).then(|| {
                    let write = self.written_ms + running.heartbeat_ms / 2;
                    write.min(self.read_ms + 2 * running.heartbeat_ms)
                });
                let view = running.view_stale.then_some(running.view_ms + VIEW_MS_MAX);
                let rights = running.core.asker.rights.due_ms(running.core.now);
                let others = [view, running.core.ack_check_ms, rights];
                heartbeat.into_iter().chain(others.into_iter().flatten()).min()
            }
            Phase::Refusing { until_ms, .. }
            | Phase::Closing { until_ms }
            | Phase::Doomed { until_ms } => Some(*until_ms),
            Phase::Finished => {
                (!self.out.is_empty()).then(|| self.last_sign_ms() + CLOSE_OK_MS_MAX)
            }
        }
    }

    /// Whether input rests for the disk or an alarm, and not for what the peer leaves unread.
    fn input_rests(&self) -> bool {
        match &self.phase {
            Phase::Running(running) => {
                running.core.holds_until().is_some()
                    || running.core.unanswered_get.is_some()
                    || running.throttle.is_blocked()
                    || self.waits_for_store()
            }
            _ => false,
        }
    }

    /// When the peer last sent something, or took something.
    fn last_sign_ms(&self) -> u64 {
        self.read_ms.max(self.written_ms)
    }

    /// Whether bytes from the peer can be handled now. While not, leave them in the socket.
    #[must_use]
    pub fn wants_input(&self) -> bool {
        self.listens() && !(matches!(self.phase, Phase::Running(_)) && self.waits_for_store())
    }

    /// Whether nothing of this connection's own keeps it from handling more.
    fn listens(&self) -> bool {
        match &self.phase {
            Phase::Running(running) => {
                running.core.holds_until().is_none()
                    && running.core.unanswered_get.is_none()
                    && !running.throttle.is_blocked()
                    && running.core.out.len() < OUTPUT_PAUSES_INPUT_BYTES
            }
            Phase::ExpectStartOk { rests_until_ms: Some(at_ms) } => *at_ms <= self.now.mono_ms,
            Phase::Refusing { .. } | Phase::Finished => false,
            _ => true,
        }
    }

    /// Whether it is known whose connection this is.
    #[must_use]
    pub fn is_logged_in(&self) -> bool {
        matches!(self.phase, Phase::ExpectTuneOk(_) | Phase::ExpectOpen(_) | Phase::Running(_))
    }

    /// Whether [`wants_input`](Self::wants_input) is false because the disk does not keep up: then
    /// nothing will wake the connection, and the edge looks again shortly.
    #[must_use]
    pub fn waits_for_store(&self) -> bool {
        self.broker.store().backlog_bytes() >= self.settings.store_backlog_bytes_max
    }

    /// Whether its client has still to log in, or to say where to.
    #[must_use]
    pub fn is_opening(&self) -> bool {
        match self.phase {
            Phase::ExpectHeader
            | Phase::ExpectStartOk { .. }
            | Phase::Refusing { .. }
            | Phase::ExpectTuneOk(_)
            | Phase::ExpectOpen(_) => true,
            Phase::Running(_) | Phase::Closing { .. } | Phase::Doomed { .. } | Phase::Finished => {
                false
            }
        }
    }

    /// What is to be written.
    #[must_use]
    pub fn output(&self) -> &Output {
        match &self.phase {
            Phase::Running(running) => &running.core.out,
            _ => &self.out,
        }
    }

    /// `n` bytes of the output were written.
    pub fn handle_written(&mut self, n: usize, now: Now) {
        self.sent_bytes += n as u64;
        self.written_ms = now.mono_ms;
        if n > 0 && !self.wants_input() {
            // It is not listened to for what it has not read: that it reads is its sign of life.
            self.read_ms = now.mono_ms;
        }
        match &mut self.phase {
            Phase::Running(running) => running.core.out.advance(n),
            _ => self.out.advance(n),
        }
    }

    /// Whether deliveries wait only for the output to be written.
    #[must_use]
    pub fn has_more_output(&self) -> bool {
        match &self.phase {
            Phase::Running(running) => {
                !running.core.inbox.is_empty() && running.core.out.len() < OUTPUT_BYTES_MAX
            }
            _ => false,
        }
    }

    /// Whether the socket can be dropped.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Finished) && self.out.is_empty()
    }

    /// The transport is gone, or must go: everything the connection holds is given back.
    pub fn abort(&mut self, reason: &str, now: Now) {
        self.now = now;
        if let Phase::Running(mut running) = std::mem::replace(&mut self.phase, Phase::Finished) {
            // What dies by coming back dies now, however long the connection had nothing to do.
            running.core.now = now;
            running.end(&self.broker);
            self.ended_because = Some(reason.to_owned());
        }
        self.out = Output::default();
    }

    // ---- input -------------------------------------------------------------------------------

    /// Handles what stands at the start of `input`; returns the bytes used, 0 for "more needed".
    fn input_step(&mut self, input: &[u8]) -> usize {
        let (parsed, ended) = match &mut self.phase {
            Phase::Running(running) => {
                running.core.now = self.now;
                match frame::parse(input, running.core.frame_max) {
                    Ok(Some((frame, used))) => (Ok(used), running.on_frame(&frame).err()),
                    Ok(None) => return 0,
                    Err(error) => (Err(error), None),
                }
            }
            Phase::ExpectHeader => return self.on_protocol_header(input),
            Phase::Doomed { .. } => return input.len(),
            _ => (self.input_step_outside(input), None),
        };
        if let Some(end) = ended {
            self.on_end(end);
        }
        parsed.unwrap_or_else(|error| {
            self.on_frame_error(error, input);
            input.len()
        })
    }

    /// The same before the connection is open, and while it closes.
    fn input_step_outside(&mut self, input: &[u8]) -> Result<usize, FrameError> {
        let frame_max = match &self.phase {
            Phase::ExpectOpen(tuned) => tuned.frame_max,
            Phase::Closing { .. } => self.settings.frame_max,
            _ => self.settings.frame_max_initial,
        };
        let Some((frame, used)) = frame::parse(input, frame_max)? else { return Ok(0) };
        if self.login_has_to_rest() {
            return Ok(0);
        }
        match self.phase {
            Phase::Closing { .. } => self.on_frame_while_closing(&frame),
            _ => self.on_handshake_frame(&frame),
        }
        Ok(used)
    }

    fn end_turn(&mut self) {
        // While we do not listen, the client's silence says nothing about it.
        if self.input_rests() {
            self.read_ms = self.now.mono_ms;
        }
        let Phase::Running(running) = &mut self.phase else { return };
        running.core.now = self.now;
        let ended = running.end_turn(&self.waker);
        running.view_stale = true;
        let changed = std::mem::take(&mut running.core.view_changed);
        if changed || self.now.mono_ms >= running.view_ms + VIEW_MS_MAX {
            running.refresh_view(self.received_bytes, self.sent_bytes);
        }
        if let Err(end) = ended {
            self.on_end(end);
        }
    }
}

/// However its task ends (a panic drops it half-way through a turn), nothing may stay behind with
/// the broker.
impl Drop for Connection {
    fn drop(&mut self) {
        if !matches!(self.phase, Phase::Running(_)) {
            return;
        }
        // What panicked once may do so again while it is cleared away: it must not end the process.
        let aborted = std::panic::AssertUnwindSafe(|| self.abort("its task ended", self.now));
        let _ = std::panic::catch_unwind(aborted);
    }
}
