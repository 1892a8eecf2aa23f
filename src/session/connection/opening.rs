//! From the protocol header to an open connection.
//!
//! What each step checks stands in [`handshake`]; here its outcome becomes the next phase, or the
//! end that RabbitMQ gives.

use std::sync::{Arc, Mutex};

use rustc_hash::FxHashMap;

use super::closing::{NO_METHOD, check_shape, method_id, unexpected};
use super::{Connection, Phase, Running};
use crate::broker::limits::Limit;
use crate::broker::outbox::Outbox;
use crate::broker::vhost::Vhost;
use crate::broker::views::ConnectionView;
use crate::broker::{Asker, ConnectionHandle};
use crate::protocol::frame::{self, Frame, FrameKind};
use crate::protocol::header::{HEADER_BYTES, ProtocolHeader};
use crate::protocol::method::{Method, MethodError};
use crate::protocol::refusal::{self, Refusal};
use crate::protocol::table::{Table, Value};
use crate::session::core::Core;
use crate::session::handshake::{self, Admission, HandshakeEnd, Tuned};
use crate::session::throttle::Throttle;
use crate::store::Progress;

/// How a TLS client begins: a handshake record of version 3.
const TLS_HANDSHAKE: &[u8] = &[0x16, 0x03];

impl Connection {
    pub(super) fn on_protocol_header(&mut self, input: &[u8]) -> usize {
        match ProtocolHeader::parse(input) {
            None => 0,
            Some(ProtocolHeader::Accepted) => {
                let out = self.out.buffer();
                handshake::start(&self.broker, &self.settings, &self.peer, out);
                self.phase = Phase::ExpectStartOk { rests_until_ms: None };
                HEADER_BYTES
            }
            Some(ProtocolHeader::Refused { answer }) => {
                self.out.buffer().extend_from_slice(&answer);
                let is_tls = input.starts_with(TLS_HANDSHAKE);
                self.finish(if is_tls { "TLS on a port without it" } else { "not AMQP 0-9-1" });
                input.len()
            }
        }
    }

    pub(super) fn on_handshake_frame(&mut self, frame: &Frame<'_>) {
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
            (Phase::ExpectStartOk { .. }, Method::ConnectionStartOk(start_ok)) => {
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
                match handshake::on_open(&self.broker, &self.peer, &tuned.login.identity, open) {
                    Ok(admission) => Ok(self.open(*tuned, admission)),
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
                if matches!(method, Method::ConnectionStartOk(_)) {
                    return self.refuse_login_later(refusal);
                }
                self.refuse(refusal, method.id());
            }
            Err(HandshakeEnd::Silent(why)) => self.doom(why),
        }
    }

    /// Until when the client may take to open its connection.
    pub(super) fn handshake_until_ms(&self) -> u64 {
        self.accepted_ms.saturating_add(self.settings.handshake_ms_max)
    }

    /// Whether what has just arrived is a login that is not to be looked at yet, since too many
    /// from where it comes have failed. It waits unread, the right password as well as a wrong one.
    pub(super) fn login_has_to_rest(&mut self) -> bool {
        let Phase::ExpectStartOk { rests_until_ms: rests_until_ms @ None } = &mut self.phase else {
            return false;
        };
        let now_ms = self.now.mono_ms;
        if !self.broker.login_failures().is_exceeded(self.peer.source, now_ms) {
            return false;
        }
        *rests_until_ms = Some(now_ms + self.settings.login_rests_ms);
        let limit = Limit::LoginFailuresPerMinute;
        self.broker.counters().limits.note(limit);
        self.broker.emit_aside("limit.hit", self.now, || {
            Table::new()
                .with("limit", limit.name())
                .with("connection_name", self.peer.connection_name())
        });
        self.settings.login_rests_ms > 0
    }

    /// A refused login is told so after a pause, which begins before the password was looked at:
    /// guessing takes its time, and the time says nothing.
    fn refuse_login_later(&mut self, refusal: Refusal) {
        let pause_ms = self.settings.login_refused_ms;
        let until_ms = self.handshake_until_ms().min(self.now.mono_ms + pause_ms);
        self.ended_because = Some(refusal.text.clone());
        self.phase = Phase::Refusing { refusal, until_ms };
        if pause_ms == 0 {
            self.refuse_login();
        }
    }

    pub(super) fn refuse_login(&mut self) {
        if let Phase::Refusing { refusal, .. } = std::mem::replace(&mut self.phase, Phase::Finished)
        {
            // RabbitMQ refuses a login before it notes which method brought it.
            self.refuse(refusal, NO_METHOD);
        }
    }

    fn open(&mut self, tuned: Tuned, admission: Admission) -> Phase {
        let Admission { vhost, places } = admission;
        let name: Arc<str> = self.peer.connection_name().into();
        let (by, identity) = ((self.id, Arc::clone(&name)), tuned.login.identity.clone());
        let asker = Asker::new(&self.broker, by, identity, &vhost, self.now);
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
            asker,
            outbox,
            std::mem::take(&mut self.out),
        );
        core.capabilities = tuned.login.capabilities;
        core.frame_max = tuned.frame_max;
        core.now = self.now;
        let mut running = Running {
            core,
            _places: places,
            channels: FxHashMap::default(),
            confirms_due: Vec::new(),
            throttle: Throttle::default(),
            channel_max: tuned.channel_max,
            heartbeat_ms: u64::from(tuned.heartbeat_s) * 1000,
            handle,
            awaited: Progress::NOW,
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
            user: login.identity.user.name.clone(),
            vhost: vhost.name().to_string(),
            peer: self.peer.peer.clone(),
            host: self.peer.host.clone(),
            tls: self.peer.tls.clone(),
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
}
