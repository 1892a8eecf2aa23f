//! A connection: frames in, frames out, channels in between.
//!
//! The phases are a private enum; every input either fits the phase or ends the connection with the
//! code that RabbitMQ gives. A running connection works in turns: it decodes what was read (up to a
//! budget, so that it never keeps others waiting), hands the gathered work to the queues, writes
//! what the queues assigned to its consumers, and sends the confirms that have become durable.
//!
//! Invariants: after the connection has ended, in whichever way, no queue holds a consumer of it
//! and no message is left with it; a client that was sent connection.close is listened to only for
//! its close-ok.

use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;

use super::channel::{AckState, Channel};
use super::core::Core;
use super::handshake::{self, HandshakeEnd, Login, Tuned};
use super::held::Resumption;
use super::output::Output;
use super::throttle::Throttle;
use super::{PeerAddress, SessionSettings};
use crate::broker::events::fields;
use crate::broker::outbox::{ConnectionId, Item, Outbox, Wake};
use crate::broker::queue::DeleteCondition;
use crate::broker::vhost::Vhost;
use crate::broker::views::{ConnectionView, NodeCounters};
use crate::broker::{Asker, Broker, ConnectionHandle, ConnectionPlace, Now};
use crate::protocol::frame::{self, Frame, FrameError, FrameKind};
use crate::protocol::header::{HEADER_BYTES, ProtocolHeader};
use crate::protocol::method::{Method, MethodError, channel as channel_methods, connection};
use crate::protocol::properties::ContentHeader;
use crate::protocol::refusal::{self, Octets, Refusal, Scope, Snippet};
use crate::protocol::reply_code::ReplyCode;
use crate::protocol::table::Value;
use crate::store::{DurableWaker, Lsn};

/// Bytes decoded in one turn before others get theirs.
const TURN_BYTES_MAX: usize = 256 * 1024;
/// Output above which no more deliveries are encoded: the peer does not keep up.
const OUTPUT_BYTES_MAX: usize = 512 * 1024;
/// Output above which input rests: the peer asks but does not read the answers.
const OUTPUT_PAUSES_INPUT_BYTES: usize = 4 * 1024 * 1024;
/// RabbitMQ's pause before it drops a client that failed to log in or to tune.
const SILENT_CLOSE_MS: u64 = 3_000;
/// The longest wait for close-ok.
const CLOSE_OK_MS_MAX: u64 = 30_000;
/// How stale the operators' view of a busy connection may be.
const VIEW_MS_MAX: u64 = 1_000;
/// Class and method in a close that no method caused.
const NO_METHOD: (u16, u16) = (0, 0);
/// basic.publish, the method that contents follow.
const PUBLISH: (u16, u16) = (60, 40);
/// Class and method at the start of a method frame.
const METHOD_ID_BYTES: usize = 4;

enum Phase {
    ExpectHeader,
    ExpectStartOk,
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
            Self::ExpectHeader | Self::ExpectStartOk => "starting",
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
    _place: ConnectionPlace,
    /// The position the store will wake us for.
    awaited: Option<Lsn>,
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

/// Wakes a connection when the store's watermark moves.
struct DurableSignal(Arc<dyn Wake>);

impl DurableWaker for DurableSignal {
    fn wake(&self) {
        self.0.wake();
    }
}

/// How a running connection ends.
enum End {
    Refused { refusal: Refusal, id: (u16, u16) },
    ClosedByClient,
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
        }
        let mut used = 0;
        while used < TURN_BYTES_MAX && used < input.len() && self.wants_input() {
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
            | Phase::ExpectStartOk
            | Phase::ExpectTuneOk(_)
            | Phase::ExpectOpen(_) => {
                if at >= self.accepted_ms + self.settings.handshake_ms_max {
                    self.finish("handshake timeout");
                }
            }
            Phase::Running(running) => {
                running.core.now = now;
                let interval = running.heartbeat_ms;
                if interval > 0 && at >= self.read_ms + 2 * interval {
                    self.abort("missed heartbeats from client");
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
            Phase::ExpectHeader
            | Phase::ExpectStartOk
            | Phase::ExpectTuneOk(_)
            | Phase::ExpectOpen(_) => Some(self.accepted_ms + self.settings.handshake_ms_max),
            Phase::Running(running) => {
                let heartbeat = (running.heartbeat_ms > 0).then(|| {
                    let write = self.written_ms + running.heartbeat_ms / 2;
                    write.min(self.read_ms + 2 * running.heartbeat_ms)
                });
                let view = running.view_stale.then_some(running.view_ms + VIEW_MS_MAX);
                heartbeat.into_iter().chain(view).chain(running.core.ack_check_ms).min()
            }
            Phase::Closing { until_ms } | Phase::Doomed { until_ms } => Some(*until_ms),
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
        match &self.phase {
            Phase::Running(running) => {
                running.core.holds_until().is_none()
                    && !running.throttle.is_blocked()
                    && running.core.out.len() < OUTPUT_PAUSES_INPUT_BYTES
                    && !self.waits_for_store()
            }
            Phase::Finished => false,
            _ => true,
        }
    }

    /// Whether [`wants_input`](Self::wants_input) is false because the disk does not keep up: then
    /// nothing will wake the connection, and the edge looks again shortly.
    #[must_use]
    pub fn waits_for_store(&self) -> bool {
        self.broker.store().backlog_bytes() >= self.settings.store_backlog_bytes_max
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
    pub fn abort(&mut self, reason: &str) {
        if let Phase::Running(running) = std::mem::replace(&mut self.phase, Phase::Finished) {
            running.end(&self.broker);
            self.ended_because = Some(reason.to_owned());
        }
        self.out = Output::default();
    }

    // ---- input -------------------------------------------------------------------------------

    /// Handles what stands at the start of `input`; returns the bytes used, 0 for "more needed".
    fn input_step(&mut self, input: &[u8]) -> usize {
        if matches!(self.phase, Phase::ExpectHeader) {
            return self.on_protocol_header(input);
        }
        if let Phase::Doomed { .. } = self.phase {
            return input.len();
        }
        let frame_max = match &self.phase {
            Phase::Running(running) => running.core.frame_max,
            Phase::ExpectOpen(tuned) => tuned.frame_max,
            Phase::Closing { .. } => self.settings.frame_max,
            _ => self.settings.frame_max_initial,
        };
        match frame::parse(input, frame_max) {
            Ok(None) => 0,
            Ok(Some((frame, used))) => {
                self.on_frame(&frame);
                used
            }
            Err(error) => {
                self.on_frame_error(error, input);
                input.len()
            }
        }
    }

    fn on_protocol_header(&mut self, input: &[u8]) -> usize {
        match ProtocolHeader::parse(input) {
            None => 0,
            Some(ProtocolHeader::Accepted) => {
                handshake::start(&self.broker, &self.settings, self.out.buffer());
                self.phase = Phase::ExpectStartOk;
                HEADER_BYTES
            }
            Some(ProtocolHeader::Refused { answer }) => {
                self.out.buffer().extend_from_slice(&answer);
                self.finish("not AMQP 0-9-1");
                input.len()
            }
        }
    }

    fn on_frame_error(&mut self, error: FrameError, input: &[u8]) {
        let is_whole = matches!(error, FrameError::UnknownKind { .. });
        // Whole by now, unless it is too large: then its payload is not quoted.
        let payload = || {
            let size = input.get(3..frame::HEAD_BYTES).and_then(|size| size.try_into().ok());
            let size = u32::from_be_bytes(size.unwrap_or_default()) as usize;
            Snippet(input.get(frame::HEAD_BYTES..frame::HEAD_BYTES + size).unwrap_or_default())
        };
        let refusal = match error {
            FrameError::TooLarge { kind, size, limit, .. } => {
                refusal::frame_too_large(kind, size, limit)
            }
            FrameError::BadEnd { kind, octet, .. } => {
                refusal::frame_bad_end(kind, payload(), octet)
            }
            FrameError::UnknownKind { kind, .. } => refusal::frame_unknown_type(kind, payload()),
        };
        self.refuse_mistake(refusal, NO_METHOD);
        if let (false, Phase::Closing { until_ms }) = (is_whole, &mut self.phase) {
            // Where the next frame starts is anyone's guess: little is worth waiting for.
            *until_ms = self.now.mono_ms + SILENT_CLOSE_MS;
        }
    }

    fn on_frame(&mut self, frame: &Frame<'_>) {
        match &mut self.phase {
            Phase::Running(running) => {
                running.core.now = self.now;
                if let Err(end) = running.on_frame(frame) {
                    self.on_end(end);
                }
            }
            Phase::Closing { .. } => self.on_frame_while_closing(frame),
            _ => self.on_handshake_frame(frame),
        }
    }

    fn on_frame_while_closing(&mut self, frame: &Frame<'_>) {
        if frame.kind != FrameKind::Method || frame.channel != 0 {
            return;
        }
        match Method::decode(frame.payload) {
            Ok(Method::ConnectionCloseOk(_)) => {
                // Whoever agrees to the close has read what came before it, or never will.
                self.out = Output::default();
                self.phase = Phase::Finished;
            }
            Ok(Method::ConnectionClose(_)) if self.out.len() < OUTPUT_BYTES_MAX => {
                let ok = Method::ConnectionCloseOk(Default::default());
                frame::method(self.out.buffer(), 0, &ok);
            }
            _ => {}
        }
    }

    // ---- handshake ---------------------------------------------------------------------------

    fn on_handshake_frame(&mut self, frame: &Frame<'_>) {
        if let Err(refusal) = check_shape(frame) {
            return self.refuse_mistake(refusal, NO_METHOD);
        }
        match (frame.kind, frame.channel) {
            (FrameKind::Method, 0) => {}
            (FrameKind::Heartbeat, 0) => return,
            _ => return self.refuse_mistake(unexpected(frame), NO_METHOD),
        }
        let method = match Method::decode(frame.payload) {
            Ok(method) => method,
            Err(MethodError::MalformedUtf8 { .. }) => {
                let refusal = refusal::method_malformed_utf8();
                return self.refuse_mistake(refusal, method_id(frame));
            }
            Err(_) => return self.doom("malformed method during the handshake"),
        };
        let phase = std::mem::replace(&mut self.phase, Phase::Finished);
        let next = match (phase, &method) {
            (Phase::ExpectStartOk, Method::ConnectionStartOk(start_ok)) => {
                let (broker, settings) = (&self.broker, &self.settings);
                handshake::on_start_ok(broker, settings, &self.peer, start_ok, self.now).map(
                    |login| {
                        handshake::tune(settings, self.out.buffer());
                        Phase::ExpectTuneOk(Box::new(login))
                    },
                )
            }
            (Phase::ExpectTuneOk(login), Method::ConnectionTuneOk(tune_ok)) => {
                handshake::on_tune_ok(&self.settings, *login, tune_ok)
                    .map(|tuned| Phase::ExpectOpen(Box::new(tuned)))
            }
            (Phase::ExpectOpen(tuned), Method::ConnectionOpen(open)) => {
                match handshake::on_open(&self.broker, &tuned.login.user, open) {
                    Ok((vhost, place)) => Ok(self.open(*tuned, vhost, place)),
                    Err(end) => {
                        self.phase = Phase::ExpectOpen(tuned);
                        Err(end)
                    }
                }
            }
            // Not even connection.close is in order yet.
            (phase, method) => {
                self.phase = phase;
                let refusal = refusal::connection_unexpected_method(self.phase.name());
                return self.refuse_mistake(refusal, method.id());
            }
        };
        match next {
            Ok(next) => self.phase = next,
            Err(HandshakeEnd::Refused(refusal)) => {
                // RabbitMQ refuses a login before it notes which method brought it.
                let is_login = matches!(method, Method::ConnectionStartOk(_));
                self.refuse(refusal, if is_login { NO_METHOD } else { method.id() });
            }
            Err(HandshakeEnd::Silent(why)) => self.doom(why),
        }
    }

    /// A mistake that the client is told if it is logged in and tuned. Before that it sees its
    /// socket closed after a pause.
    fn refuse_mistake(&mut self, refusal: Refusal, id: (u16, u16)) {
        match self.phase {
            Phase::ExpectOpen(_) | Phase::Running(_) => self.refuse(refusal, id),
            _ => self.doom(&refusal.text),
        }
    }

    fn open(&mut self, tuned: Tuned, vhost: Arc<Vhost>, place: ConnectionPlace) -> Phase {
        let name: Arc<str> = self.peer.connection_name().into();
        let asker = Asker { connection: self.id, connection_name: Arc::clone(&name) };
        let outbox = Arc::new(Outbox::new(self.id, Arc::clone(&self.waker)));
        let view = self.first_view(&tuned, &name, &vhost);
        let handle = Arc::new(ConnectionHandle {
            id: self.id,
            outbox: Arc::clone(&outbox),
            view: Mutex::new(view),
        });
        self.broker.add_connection(&handle);
        let ok = Method::ConnectionOpenOk(Default::default());
        frame::method(self.out.buffer(), 0, &ok);
        let mut core = Core::new(
            Arc::clone(&self.broker),
            Arc::clone(&self.settings),
            vhost,
            tuned.login.user,
            asker,
            outbox,
            std::mem::take(&mut self.out),
        );
        core.capabilities = tuned.login.capabilities;
        core.frame_max = tuned.frame_max;
        core.now = self.now;
        let mut running = Running {
            core,
            _place: place,
            channels: FxHashMap::default(),
            confirms_due: Vec::new(),
            throttle: Throttle::default(),
            channel_max: tuned.channel_max,
            heartbeat_ms: u64::from(tuned.heartbeat_s) * 1000,
            handle,
            awaited: None,
            view_ms: self.now.mono_ms,
            view_stale: false,
        };
        running.tell_created();
        Phase::Running(Box::new(running))
    }

    fn first_view(&self, tuned: &Tuned, name: &str, vhost: &Vhost) -> ConnectionView {
        let login = &tuned.login;
        let own_name = login.client_properties.get("connection_name").and_then(Value::as_str);
        ConnectionView {
            name: name.to_owned(),
            user_provided_name: own_name.map(str::to_owned),
            user: login.user.name.clone(),
            vhost: vhost.name().to_string(),
            peer: self.peer.peer.clone(),
            host: self.peer.host.clone(),
            auth_mechanism: login.mechanism.clone(),
            channel_max: tuned.channel_max,
            frame_max: tuned.frame_max,
            heartbeat_s: tuned.heartbeat_s,
            connected_at_ms: self.now.unix_ms,
            client_properties: login.client_properties.clone(),
            blocked: false,
            received_bytes: self.received_bytes,
            sent_bytes: self.sent_bytes,
            channels: Vec::new(),
        }
    }

    // ---- the end -----------------------------------------------------------------------------

    fn on_end(&mut self, end: End) {
        match end {
            End::Refused { refusal, id } => self.refuse(refusal, id),
            End::ClosedByClient => {
                let until_ms = self.now.mono_ms + self.close_ok_ms_max();
                if let Phase::Running(running) = std::mem::replace(&mut self.phase, Phase::Finished)
                {
                    self.out = running.end(&self.broker);
                }
                let ok = Method::ConnectionCloseOk(Default::default());
                frame::method(self.out.buffer(), 0, &ok);
                // The client hangs up; what it had still in flight is read and forgotten, since a
                // socket closed with unread bytes would cost it the answer.
                self.phase = Phase::Doomed { until_ms };
            }
        }
    }

    /// Sends connection.close and waits for its answer. Everything held is given back at once.
    fn refuse(&mut self, refusal: Refusal, (class_id, method_id): (u16, u16)) {
        let until_ms = self.now.mono_ms + self.close_ok_ms_max();
        if let Phase::Running(running) = std::mem::replace(&mut self.phase, Phase::Finished) {
            self.out = running.end(&self.broker);
        }
        let close = connection::Close {
            reply_code: refusal.code.0,
            reply_text: &refusal.text,
            class_id,
            method_id,
        };
        frame::method(self.out.buffer(), 0, &Method::ConnectionClose(close));
        self.ended_because = Some(refusal.text);
        self.phase = Phase::Closing { until_ms };
    }

    /// How long a close may stay unanswered.
    fn close_ok_ms_max(&self) -> u64 {
        let heartbeat_ms = match &self.phase {
            Phase::Running(running) => running.heartbeat_ms,
            Phase::ExpectOpen(tuned) => u64::from(tuned.heartbeat_s) * 1000,
            _ => return SILENT_CLOSE_MS,
        };
        match heartbeat_ms {
            0 => CLOSE_OK_MS_MAX,
            interval => interval.min(CLOSE_OK_MS_MAX),
        }
    }

    fn doom(&mut self, why: &str) {
        self.ended_because = Some(why.to_owned());
        self.phase = Phase::Doomed { until_ms: self.now.mono_ms + SILENT_CLOSE_MS };
    }

    fn finish(&mut self, why: &str) {
        self.ended_because = Some(why.to_owned());
        self.phase = Phase::Finished;
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
        let aborted = std::panic::AssertUnwindSafe(|| self.abort("its task ended"));
        let _ = std::panic::catch_unwind(aborted);
    }
}

impl Running {
    fn on_frame(&mut self, frame: &Frame<'_>) -> Result<(), End> {
        check_shape(frame).map_err(|refusal| End::refused(refusal, NO_METHOD))?;
        match frame.kind {
            FrameKind::Heartbeat if frame.channel == 0 => Ok(()),
            FrameKind::Heartbeat => Err(End::refused(unexpected(frame), NO_METHOD)),
            FrameKind::Method if frame.channel == 0 => self.on_connection_method(frame),
            FrameKind::Method => self.on_method_frame(frame),
            FrameKind::Header | FrameKind::Body => self.on_content_frame(frame),
        }
    }

    fn on_method_frame(&mut self, frame: &Frame<'_>) -> Result<(), End> {
        let state = self.channels.get_mut(&frame.channel);
        if let Some(ChannelState::Open(channel)) = &state
            && channel.expects_content()
        {
            return Err(End::refused(channel.unexpected_method(), PUBLISH));
        }
        if state.is_none() {
            self.check_channel_max()?;
        }
        let method = Method::decode(frame.payload).map_err(|error| undecodable(frame, &error))?;
        let result = match self.channels.get_mut(&frame.channel) {
            Some(ChannelState::Open(channel)) => match &method {
                Method::ChannelOpen(_) => Err(refusal::channel_already_open()),
                Method::ChannelClose(_) => {
                    self.close_channel(frame.channel);
                    let ok = Method::ChannelCloseOk(Default::default());
                    self.core.send(frame.channel, &ok);
                    Ok(())
                }
                method => channel.on_method(&mut self.core, method),
            },
            Some(ChannelState::Closing) => {
                match &method {
                    Method::ChannelCloseOk(_) => {
                        self.channels.remove(&frame.channel);
                    }
                    Method::ChannelClose(_) => {
                        let ok = Method::ChannelCloseOk(Default::default());
                        self.core.send(frame.channel, &ok);
                    }
                    _ => {}
                }
                Ok(())
            }
            None => match &method {
                Method::ChannelOpen(_) => {
                    self.open_channel(frame.channel);
                    Ok(())
                }
                _ => Err(refusal::channel_not_open()),
            },
        };
        result.or_else(|refusal| self.refused(frame.channel, refusal, method.id()))
    }

    fn on_content_frame(&mut self, frame: &Frame<'_>) -> Result<(), End> {
        if frame.channel == 0 {
            return Err(End::refused(unexpected(frame), NO_METHOD));
        }
        let result = match self.channels.get_mut(&frame.channel) {
            Some(ChannelState::Open(channel)) if channel.expects_content() => match frame.kind {
                FrameKind::Header => channel.on_header(&mut self.core, frame.payload),
                _ => channel.on_body(&mut self.core, frame.payload),
            },
            Some(ChannelState::Closing) => return Ok(()),
            state => {
                if state.is_none() {
                    self.check_channel_max()?;
                }
                return Err(End::refused(refusal::content_unexpected_header(), NO_METHOD));
            }
        };
        self.throttle.on_content(&mut self.core);
        result.or_else(|refusal| self.refused(frame.channel, refusal, PUBLISH))
    }

    fn on_connection_method(&mut self, frame: &Frame<'_>) -> Result<(), End> {
        let method = Method::decode(frame.payload).map_err(|error| undecodable(frame, &error))?;
        match method {
            Method::ConnectionClose(_) => Err(End::ClosedByClient),
            // The internal user records know no secrets that expire: the new one is ignored. The
            // right to be here is looked at again, as in RabbitMQ.
            Method::ConnectionUpdateSecret(_) => {
                let (user, vhost) = (&self.core.user.name, self.core.vhost.name());
                if !self.core.broker.users().may_enter(user, vhost) {
                    let refusal = refusal::connection_vhost_refused(vhost, user);
                    return Err(End::refused(refusal, method.id()));
                }
                self.core.send(0, &Method::ConnectionUpdateSecretOk(Default::default()));
                Ok(())
            }
            _ => Err(End::refused(refusal::connection_unexpected_method("running"), method.id())),
        }
    }

    /// Whether one more channel fits. Whatever comes on a number without a channel makes one in
    /// RabbitMQ, so this is looked at before anything else.
    fn check_channel_max(&self) -> Result<(), End> {
        let (open, max) = (self.channels.len(), usize::from(self.channel_max));
        if max > 0 && open >= max {
            return Err(End::refused(refusal::channel_max_reached(open, max), NO_METHOD));
        }
        Ok(())
    }

    fn open_channel(&mut self, number: u16) {
        let channel = Box::new(Channel::new(number));
        channel.tell_created(&mut self.core);
        self.channels.insert(number, ChannelState::Open(channel));
        NodeCounters::add(&self.core.broker.counters().channels_opened, 1);
        self.core.view_changed = true;
        self.core.send(number, &Method::ChannelOpenOk(Default::default()));
    }

    fn close_channel(&mut self, number: u16) {
        if let Some(ChannelState::Open(channel)) = self.channels.remove(&number) {
            self.confirms_due.retain(|other| *other != number);
            self.core.confirming.retain(|other| *other != number);
            channel.end(&mut self.core);
            NodeCounters::add(&self.core.broker.counters().channels_closed, 1);
        }
    }

    /// Closes what the refusal closes.
    fn refused(&mut self, number: u16, refusal: Refusal, id: (u16, u16)) -> Result<(), End> {
        if refusal.scope == Scope::Connection {
            // A fault of RabbitMQ's own does not say over which method it stumbled.
            let id = if refusal.code == ReplyCode::INTERNAL_ERROR { NO_METHOD } else { id };
            return Err(End::refused(refusal, id));
        }
        // What was published before the mistake counts.
        self.core.flush();
        self.close_channel(number);
        let close = channel_methods::Close {
            reply_code: refusal.code.0,
            reply_text: &refusal.text,
            class_id: id.0,
            method_id: id.1,
        };
        self.core.send(number, &Method::ChannelClose(close));
        self.channels.insert(number, ChannelState::Closing);
        Ok(())
    }

    fn close_channels_that_do_not_acknowledge(&mut self) -> Result<(), End> {
        let mut late = Vec::new();
        for (number, state) in &self.channels {
            let ChannelState::Open(channel) = state else { continue };
            match channel.acks(&self.core) {
                AckState::None => {}
                AckState::Waits => self.core.watch_acks(),
                AckState::Overdue { limit_ms } => late.push((*number, limit_ms)),
            }
        }
        for (number, limit_ms) in late {
            let refusal = refusal::basic_ack_timeout(number, limit_ms);
            self.refused(number, refusal, NO_METHOD)?;
        }
        Ok(())
    }

    // ---- turns -------------------------------------------------------------------------------

    fn end_turn(&mut self, waker: &Arc<dyn Wake>) -> Result<(), End> {
        if let Some(refusal) = self.core.outbox.closing() {
            return Err(End::refused(refusal.clone(), NO_METHOD));
        }
        self.throttle.look(&mut self.core);
        self.flush();
        self.deliver();
        // Deliveries that need no acknowledgement are settled at once, which lets queues assign
        // more; that wakes this connection again instead of keeping it in the loop.
        self.flush();
        if std::mem::take(&mut self.core.has_room_again) {
            let mut starved = Resumption::default();
            for state in self.channels.values() {
                if let ChannelState::Open(channel) = state {
                    channel.add_consumers(&mut starved);
                }
            }
            starved.run(0, &mut self.core);
        }
        self.settle_confirms();
        self.await_store(waker)?;
        self.core.fold_tally();
        Ok(())
    }

    fn flush(&mut self) {
        self.core.flush();
        let at = self.core.flushed;
        for number in std::mem::take(&mut self.core.confirming) {
            if let Some(ChannelState::Open(channel)) = self.channels.get_mut(&number)
                && channel.assign_confirms(at)
            {
                self.confirms_due.push(number);
            }
        }
        for number in std::mem::take(&mut self.core.credit_freed) {
            if let Some(ChannelState::Open(channel)) = self.channels.get_mut(&number) {
                channel.hand_on_shared_credit(&mut self.core);
            }
        }
    }

    /// Encodes what the queues assigned, as far as the peer keeps up.
    fn deliver(&mut self) {
        self.core.outbox.drain(&mut self.core.inbox);
        let (mut items, mut bytes) = (0, 0);
        while self.core.out.len() < OUTPUT_BYTES_MAX {
            let Some(item) = self.core.inbox.pop_front() else { break };
            match item {
                Item::Deliver(delivery) => {
                    items += 1;
                    bytes += delivery.entry.message.memory_bytes();
                    let unsent = match self.channels.get_mut(&delivery.channel) {
                        Some(ChannelState::Open(channel)) => {
                            channel.deliver(&mut self.core, delivery).err()
                        }
                        _ => Some(delivery),
                    };
                    if let Some(delivery) = unsent {
                        self.core.give_back(delivery);
                    }
                }
                Item::Reply { channel: number, message } => {
                    items += 1;
                    bytes += message.memory_bytes();
                    if let Some(ChannelState::Open(channel)) = self.channels.get_mut(&number) {
                        channel.deliver_reply(&mut self.core, &message);
                    }
                }
                Item::Cancelled { channel: number, consumer } => {
                    if let Some(ChannelState::Open(channel)) = self.channels.get_mut(&number) {
                        channel.consumer_cancelled(&mut self.core, consumer);
                    }
                }
            }
        }
        if self.core.inbox.is_empty() && self.core.inbox.capacity() > 1024 {
            self.core.inbox.shrink_to(64);
        }
        self.core.release_outbox(items, bytes);
    }

    fn settle_confirms(&mut self) {
        let durable = self.core.broker.store().durable();
        self.core.release_held(durable);
        let mut due = std::mem::take(&mut self.confirms_due);
        due.retain(|number| match self.channels.get_mut(number) {
            Some(ChannelState::Open(channel)) => channel.settle_confirms(&mut self.core, durable),
            _ => false,
        });
        self.confirms_due = due;
    }

    /// Asks the store to wake us for the next position that something waits for.
    fn await_store(&mut self, waker: &Arc<dyn Wake>) -> Result<(), End> {
        let confirms =
            self.confirms_due.iter().filter_map(|number| match self.channels.get(number) {
                Some(ChannelState::Open(channel)) => channel.waits_for(),
                _ => None,
            });
        let Some(next) = confirms.chain(self.core.holds_until()).min() else { return Ok(()) };
        let store = self.core.broker.store();
        if self.awaited.is_some_and(|lsn| lsn <= store.durable()) {
            self.awaited = None;
        }
        if self.awaited.is_none_or(|lsn| next < lsn) {
            if store.failure().is_some() {
                return Err(End::refused(refusal::connection_internal_error(), NO_METHOD));
            }
            self.awaited = Some(next);
            store.notify(next, Arc::new(DurableSignal(Arc::clone(waker))));
        } else if store.failure().is_some() {
            return Err(End::refused(refusal::connection_internal_error(), NO_METHOD));
        }
        Ok(())
    }

    fn refresh_view(&mut self, received_bytes: u64, sent_bytes: u64) {
        self.view_ms = self.core.now.mono_ms;
        self.view_stale = false;
        let channels = self.channels.values().filter_map(|state| match state {
            ChannelState::Open(channel) => Some(channel.view()),
            ChannelState::Closing => None,
        });
        let mut view = self.handle.view.lock().unwrap_or_else(PoisonError::into_inner);
        view.blocked = self.throttle.is_blocked();
        view.received_bytes = received_bytes;
        view.sent_bytes = sent_bytes;
        view.channels = channels.collect();
        view.channels.sort_by_key(|channel| channel.number);
    }

    fn tell_created(&mut self) {
        let Core { broker, effects, asker, .. } = &mut self.core;
        let view = self.handle.view.lock().unwrap_or_else(PoisonError::into_inner);
        broker
            .told(effects)
            .tell("connection.created", || fields::connection(broker, asker.connection, &view));
    }

    fn tell_closed(&mut self) {
        let Core { broker, effects, asker, .. } = &mut self.core;
        let view = self.handle.view.lock().unwrap_or_else(PoisonError::into_inner);
        broker.told(effects).notice("connection.closed", || {
            fields::closed_connection(broker, asker.connection, &view)
        });
    }

    /// Ends every channel, deletes exclusive queues, and hands back what is still to be written.
    fn end(mut self: Box<Self>, broker: &Arc<Broker>) -> Output {
        self.core.flush();
        let numbers: Vec<u16> = self.channels.keys().copied().collect();
        for number in numbers {
            self.close_channel(number);
        }
        for queue in self.core.exclusive_queues.take_all() {
            let condition = DeleteCondition::OwnerGone;
            broker.delete_gone_queue(&queue, condition, &mut self.core.effects);
        }
        self.tell_closed();
        broker.finish(&mut self.core.effects, self.core.now);
        self.core.fold_tally();
        broker.remove_connection(self.core.id());
        self.core.out
    }
}

/// Whether a frame's payload can be what its kind says.
fn check_shape(frame: &Frame<'_>) -> Result<(), Refusal> {
    let fits = match frame.kind {
        FrameKind::Method => frame.payload.len() >= METHOD_ID_BYTES,
        FrameKind::Header => frame.payload.len() >= ContentHeader::FIXED_BYTES,
        FrameKind::Body => true,
        FrameKind::Heartbeat => frame.payload.is_empty(),
    };
    if fits {
        return Ok(());
    }
    Err(refusal::frame_unknown_type(frame.kind as u8, Snippet(frame.payload)))
}

/// The ids at the start of a method frame, known or not.
fn method_id(frame: &Frame<'_>) -> (u16, u16) {
    match frame.payload {
        [c0, c1, m0, m1, ..] => (u16::from_be_bytes([*c0, *c1]), u16::from_be_bytes([*m0, *m1])),
        _ => NO_METHOD,
    }
}

/// What a client is told of a method that cannot be read.
fn undecodable(frame: &Frame<'_>, error: &MethodError) -> End {
    let on_connection = frame.channel == 0;
    match error {
        MethodError::MalformedUtf8 { .. } => {
            let id = if on_connection { method_id(frame) } else { NO_METHOD };
            End::refused(refusal::method_malformed_utf8(), id)
        }
        MethodError::Malformed { .. } | MethodError::Table { .. } if on_connection => {
            End::refused(refusal::connection_internal_error(), NO_METHOD)
        }
        // RabbitMQ quotes the arguments, and drops the socket without a word for unknown methods
        // and malformed tables; the word costs nothing.
        MethodError::NoMethod
        | MethodError::UnknownMethod { .. }
        | MethodError::Malformed { .. }
        | MethodError::Table { .. } => {
            let arguments = frame.payload.get(METHOD_ID_BYTES..).unwrap_or_default();
            End::refused(refusal::method_undecodable(Octets(arguments)), method_id(frame))
        }
    }
}

/// A frame of a kind that has no business on its channel.
fn unexpected(frame: &Frame<'_>) -> Refusal {
    refusal::frame_unexpected(frame.kind as u8, Snippet(frame.payload))
}

impl End {
    fn refused(refusal: Refusal, id: (u16, u16)) -> Self {
        Self::Refused { refusal, id }
    }
}
