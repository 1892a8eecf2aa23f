//! How a connection ends, and what its client is told of a mistake.

use super::{CLOSE_OK_MS_MAX, Connection, OUTPUT_BYTES_MAX, Phase};
use crate::broker::limits::Limit;
use crate::broker::queue::Effects;
use crate::protocol::frame::{self, Frame, FrameError, FrameKind};
use crate::protocol::method::{Method, MethodError, connection as methods};
use crate::protocol::properties::ContentHeader;
use crate::protocol::refusal::{self, Octets, Refusal, Snippet};
use crate::session::output::Output;
use crate::session::refused;

/// RabbitMQ's pause before it drops a client that failed to log in or to tune.
const SILENT_CLOSE_MS: u64 = 3_000;
/// How long after the time for its handshake a client may still be there to be told of a mistake.
const HANDSHAKE_GRACE_MS: u64 = 500;
/// Class and method in a close that no method caused.
pub(super) const NO_METHOD: (u16, u16) = (0, 0);
/// Class and method at the start of a method frame.
const METHOD_ID_BYTES: usize = 4;

/// How a running connection ends.
pub(super) enum End {
    Refused { refusal: Refusal, id: (u16, u16) },
    ClosedByClient,
}

impl End {
    pub(super) fn refused(refusal: Refusal, id: (u16, u16)) -> Self {
        Self::Refused { refusal, id }
    }
}

impl Connection {
    pub(super) fn on_frame_error(&mut self, error: FrameError, input: &[u8]) {
        let is_whole = matches!(error, FrameError::UnknownKind { .. });
        // Whole by now, unless it is too large: then its payload is not quoted.
        let payload = || {
            let size = input.get(3..frame::HEAD_BYTES).and_then(|size| size.try_into().ok());
            let size = u32::from_be_bytes(size.unwrap_or_default()) as usize;
            Snippet(input.get(frame::HEAD_BYTES..frame::HEAD_BYTES + size).unwrap_or_default())
        };
        let refusal = match error {
            FrameError::TooLarge { kind, size, limit, .. } => {
                let hit = match self.phase {
                    Phase::ExpectOpen(_) | Phase::Running(_) => Limit::FrameMax,
                    _ => Limit::InitialFrameMax,
                };
                self.broker.counters().limits.note(hit);
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

    pub(super) fn on_frame_while_closing(&mut self, frame: &Frame<'_>) {
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

    /// A mistake that the client is told if it is logged in and tuned. Before that it sees its
    /// socket closed after a pause.
    pub(super) fn refuse_mistake(&mut self, refusal: Refusal, id: (u16, u16)) {
        match self.phase {
            Phase::ExpectOpen(_) | Phase::Running(_) => self.refuse(refusal, id),
            _ => self.doom(&refusal.for_log()),
        }
    }

    pub(super) fn on_end(&mut self, end: End) {
        match end {
            End::Refused { refusal, id } => self.refuse(refusal, id),
            End::ClosedByClient => {
                let until_ms = self.close_until_ms();
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
    pub(super) fn refuse(&mut self, refusal: Refusal, (class_id, method_id): (u16, u16)) {
        let until_ms = self.close_until_ms();
        match std::mem::replace(&mut self.phase, Phase::Finished) {
            Phase::Running(mut running) => {
                refused::tell(&self.broker, &mut running.core.effects, &refusal);
                self.out = running.end(&self.broker);
            }
            Phase::ExpectOpen(tuned) => {
                let mut effects = Effects {
                    actor: Some(tuned.login.identity.user.name.as_str().into()),
                    connection: Some(self.peer.connection_name().into()),
                    ..Effects::default()
                };
                refused::tell(&self.broker, &mut effects, &refusal);
                self.broker.finish(&mut effects, self.now);
            }
            _ => {}
        }
        let close = methods::Close {
            reply_code: refusal.code.0,
            reply_text: &refusal.text,
            class_id,
            method_id,
        };
        frame::method(self.out.buffer(), 0, &Method::ConnectionClose(close));
        if let Some(limit) = Limit::of_refusal(refusal.id) {
            self.broker.counters().limits.note(limit);
        }
        self.ended_because = Some(refusal.for_log());
        self.phase = Phase::Closing { until_ms };
    }

    /// Until when a close may stay unanswered.
    fn close_until_ms(&self) -> u64 {
        let heartbeat_ms = match &self.phase {
            Phase::Running(running) => running.heartbeat_ms,
            Phase::ExpectOpen(tuned) => u64::from(tuned.heartbeat_s) * 1000,
            _ => return self.before_login_until_ms(),
        };
        let patience_ms = match heartbeat_ms {
            0 => CLOSE_OK_MS_MAX,
            interval => interval.min(CLOSE_OK_MS_MAX),
        };
        self.now.mono_ms + patience_ms
    }

    pub(super) fn doom(&mut self, why: &str) {
        self.ended_because = Some(why.to_owned());
        self.phase = Phase::Doomed { until_ms: self.before_login_until_ms() };
    }

    /// When a client that is not logged in loses its socket: after RabbitMQ's pause, but soon after
    /// the end of the time for its handshake all the same.
    fn before_login_until_ms(&self) -> u64 {
        let latest_ms = self.handshake_until_ms().saturating_add(HANDSHAKE_GRACE_MS);
        latest_ms.min(self.now.mono_ms + SILENT_CLOSE_MS)
    }

    pub(super) fn finish(&mut self, why: &str) {
        self.ended_because = Some(why.to_owned());
        self.phase = Phase::Finished;
    }
}

/// Whether a frame's payload can be what its kind says.
pub(super) fn check_shape(frame: &Frame<'_>) -> Result<(), Refusal> {
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
pub(super) fn method_id(frame: &Frame<'_>) -> (u16, u16) {
    match frame.payload {
        [c0, c1, m0, m1, ..] => (u16::from_be_bytes([*c0, *c1]), u16::from_be_bytes([*m0, *m1])),
        _ => NO_METHOD,
    }
}

/// What a client is told of a method that cannot be read.
pub(super) fn undecodable(frame: &Frame<'_>, error: &MethodError) -> End {
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
pub(super) fn unexpected(frame: &Frame<'_>) -> Refusal {
    refusal::frame_unexpected(frame.kind as u8, Snippet(frame.payload))
}
