//! A client: its side of the handshake, what it sends, and what it expects to see.
//!
//! Expectations take what has arrived in order, per channel, and fail when something else is there,
//! or nothing. How long that takes to be certain is the transport's affair: in this process
//! nothing is ever waited for, as the world has come to rest before a call returns.

use std::cell::RefCell;
use std::collections::VecDeque;

use leveret::protocol::frame;
use leveret::protocol::method::{Method, basic, channel, connection};
use leveret::protocol::table::{RawTable, Table, Value};

use super::received::{Content, Reader, Received};
use super::requests::{PAYLOAD_BYTES_MAX, Request};
use super::transport::{Patience, Transport};

/// The header of AMQP 0-9-1.
pub(crate) const PROTOCOL_HEADER: &[u8; 8] = b"AMQP\x00\x00\x09\x01";

/// How a client introduces itself.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    pub(crate) mechanism: String,
    /// What answers the mechanism; PLAIN's form of user and password when empty.
    pub(crate) response: Vec<u8>,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) vhost: String,
    pub(crate) capabilities: Vec<&'static str>,
    pub(crate) channel_max: u16,
    pub(crate) frame_max: u32,
    pub(crate) heartbeat_s: u16,
}

impl Default for Login {
    /// As RabbitMQ's own clients do, without heartbeats.
    fn default() -> Self {
        Self {
            mechanism: "PLAIN".into(),
            response: Vec::new(),
            user: "guest".into(),
            password: "guest".into(),
            vhost: "/".into(),
            capabilities: vec!["authentication_failure_close", "consumer_cancel_notify"],
            channel_max: 2047,
            frame_max: 131_072,
            heartbeat_s: 0,
        }
    }
}

/// A client of a [`World`](super::World).
pub(crate) struct Client {
    transport: Box<dyn Transport>,
    inbox: RefCell<Inbox>,
}

#[derive(Default)]
struct Inbox {
    /// What has arrived and is no whole frame yet, or was not looked at.
    bytes: Vec<u8>,
    reader: Reader,
    received: VecDeque<Received>,
}

impl Client {
    pub(super) fn new(transport: Box<dyn Transport>) -> Self {
        Self { transport, inbox: RefCell::default() }
    }

    // ---- the handshake -----------------------------------------------------------------------

    /// The whole handshake.
    pub(crate) fn log_in(&self, login: &Login) {
        self.say_hello();
        self.start_ok(login);
        self.tune_ok(login);
        self.send(0, open_vhost(&login.vhost));
        self.expect(0, Method::ConnectionOpenOk(Default::default()));
    }

    /// Sends the protocol header and takes connection.start; returns its server properties.
    pub(crate) fn say_hello(&self) -> Table {
        self.send_bytes(PROTOCOL_HEADER);
        let start = self.take(0);
        let Method::ConnectionStart(start) = start.method() else {
            panic!("connection.start was due, not {start:?}");
        };
        start.server_properties.to_table()
    }

    /// Sends connection.start-ok.
    pub(crate) fn start_ok(&self, login: &Login) {
        let mut capabilities = Table::new();
        for capability in &login.capabilities {
            capabilities.insert(*capability, true);
        }
        let mut properties = Vec::new();
        Table::new()
            .with("product", "transcript")
            .with("connection_name", "a test")
            .with("capabilities", capabilities)
            .encode_body(&mut properties);
        let plain = format!("\0{}\0{}", login.user, login.password).into_bytes();
        let response = if login.response.is_empty() { &plain } else { &login.response };
        let start_ok = connection::StartOk {
            client_properties: RawTable::parse(&properties).unwrap(),
            mechanism: &login.mechanism,
            response,
            locale: "en_US",
        };
        self.send(0, Method::ConnectionStartOk(start_ok));
    }

    /// Takes connection.tune and answers it.
    pub(crate) fn tune_ok(&self, login: &Login) {
        let tune = self.take(0);
        assert!(matches!(tune.method(), Method::ConnectionTune(_)), "{tune:?}");
        let tune_ok = connection::TuneOk {
            channel_max: login.channel_max,
            frame_max: login.frame_max,
            heartbeat: login.heartbeat_s,
        };
        self.send(0, Method::ConnectionTuneOk(tune_ok));
    }

    /// Opens a channel.
    pub(crate) fn open(&self, channel: u16) {
        self.send(channel, Method::ChannelOpen(Default::default()));
        self.expect(channel, Method::ChannelOpenOk(Default::default()));
    }

    /// Ends the connection in good manners, and hangs up.
    pub(crate) fn close(&self) {
        self.send(0, close_connection());
        self.expect(0, Method::ConnectionCloseOk(Default::default()));
        self.expect_nothing();
        self.vanish();
    }

    // ---- sending -----------------------------------------------------------------------------

    /// Sends a request.
    pub(crate) fn send(&self, channel: u16, request: impl Request) {
        let mut bytes = Vec::new();
        request.write(channel, &mut bytes);
        self.send_bytes(&bytes);
    }

    /// Sends several requests in one piece, so that one turn handles them all.
    pub(crate) fn send_at_once(&self, channel: u16, requests: &[&dyn Request]) {
        let mut bytes = Vec::new();
        requests.iter().for_each(|request| request.write(channel, &mut bytes));
        self.send_bytes(&bytes);
    }

    /// Sends bytes as they are.
    pub(crate) fn send_bytes(&self, bytes: &[u8]) {
        self.transport.send(bytes);
    }

    /// Sends a frame that may be as wrong as a test wants it.
    pub(crate) fn send_frame(&self, kind: u8, channel: u16, payload: &[u8]) {
        let mut bytes = vec![kind];
        bytes.extend(channel.to_be_bytes());
        bytes.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
        bytes.extend(payload);
        bytes.push(frame::FRAME_END);
        self.send_bytes(&bytes);
    }

    /// Sends a request and takes its answer, which must be its `-ok`.
    pub(crate) fn ok(&self, channel: u16, request: impl Request) -> Received {
        let mut bytes = Vec::new();
        request.write(channel, &mut bytes);
        let payload = &bytes[frame::HEAD_BYTES..];
        let id = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
        let due = match (id(0), id(2)) {
            (40, 40) => (40, 51),
            (class, method) => (class, method + 1),
        };
        self.send_bytes(&bytes);
        let answer = self.take(channel);
        assert_eq!(answer.method().id(), due, "the answer is {:?}", answer.method());
        answer
    }

    /// Declares a queue; returns its name, its ready messages and its consumers.
    pub(crate) fn declare(&self, channel: u16, request: impl Request) -> (String, u32, u32) {
        match self.ok(channel, request).method() {
            Method::QueueDeclareOk(ok) => (ok.queue.into(), ok.message_count, ok.consumer_count),
            other => panic!("{other:?}"),
        }
    }

    /// The ready messages of a queue.
    pub(crate) fn depth(&self, channel: u16, queue: &str) -> u32 {
        self.declare(channel, super::queue(queue).passive()).1
    }

    /// Fetches a message that must be there, to be acknowledged.
    pub(crate) fn fetch(&self, channel: u16, queue: &str) -> Content {
        self.ok(channel, super::get(queue)).content().unwrap()
    }

    /// Fetches, without acknowledgements, until nothing is left; returns the bodies.
    pub(crate) fn drain(&self, channel: u16, queue: &str) -> Vec<String> {
        let mut bodies = Vec::new();
        loop {
            self.send(channel, super::get(queue).no_ack());
            let answer = self.take(channel);
            match answer.content() {
                Some(message) => bodies.push(message.text().to_owned()),
                None => {
                    assert_eq!(answer.method(), Method::BasicGetEmpty(basic::GetEmpty));
                    return bodies;
                }
            }
        }
    }

    /// Goes away without a word, as a client that was killed.
    pub(crate) fn vanish(&self) {
        self.transport.lose();
    }

    /// Is lost to a fault of the broker: the task that serves it panics.
    pub(crate) fn is_lost_to_a_panic(&self) {
        self.transport.crash();
    }

    /// No longer takes what is written to it.
    pub(crate) fn stop_reading(&self) {
        self.read_on(0);
    }

    /// Takes so many bytes of what is written to it, and then stops.
    pub(crate) fn read_on(&self, bytes: usize) {
        self.transport.set_reading(Some(bytes));
    }

    /// Takes everything that is written to it again.
    pub(crate) fn go_on_reading(&self) {
        self.transport.set_reading(None);
    }

    // ---- seeing ------------------------------------------------------------------------------

    /// The next thing on a channel, if there is one.
    pub(crate) fn next(&self, channel: u16) -> Option<Received> {
        self.find(channel, Patience::Rest)
    }

    /// The next thing on a channel, which must be there.
    #[track_caller]
    pub(crate) fn take(&self, channel: u16) -> Received {
        self.find(channel, Patience::Due).unwrap_or_else(|| {
            let others = &self.inbox.borrow().received;
            panic!("nothing came on channel {channel}; elsewhere: {others:?}")
        })
    }

    fn find(&self, channel: u16, patience: Patience) -> Option<Received> {
        let mut inbox = self.inbox.borrow_mut();
        let at = |inbox: &Inbox| inbox.received.iter().position(|it| it.channel == channel);
        while at(&inbox).is_none() && self.receive(&mut inbox, patience) {}
        let found = at(&inbox).and_then(|at| inbox.received.remove(at))?;
        self.transport.answered(channel);
        Some(found)
    }

    /// Exactly this is next on a channel.
    #[track_caller]
    pub(crate) fn expect(&self, channel: u16, due: Method<'_>) {
        let received = self.take(channel);
        assert_eq!(received.method(), due);
    }

    /// A message is next on a channel, delivered, fetched or returned.
    #[track_caller]
    pub(crate) fn message(&self, channel: u16) -> Content {
        let received = self.take(channel);
        received.content().unwrap_or_else(|| panic!("a message was due: {:?}", received.method()))
    }

    /// Messages with these bodies are next on a channel; returns them.
    #[track_caller]
    pub(crate) fn messages<const N: usize>(&self, channel: u16, due: [&str; N]) -> Vec<Content> {
        let messages: Vec<Content> = due.iter().map(|_| self.message(channel)).collect();
        assert_eq!(messages.iter().map(Content::text).collect::<Vec<_>>(), due);
        messages
    }

    /// All messages that have come on a channel, which must be all that has come.
    pub(crate) fn all_messages(&self, channel: u16) -> Vec<Content> {
        std::iter::from_fn(|| self.next(channel)).map(|it| it.content().unwrap()).collect()
    }

    /// Nothing more has come, on any channel.
    #[track_caller]
    pub(crate) fn expect_nothing(&self) {
        let inbox = self.everything();
        let shown: Vec<_> =
            inbox.received.iter().map(|it| (it.channel, it.method(), it.content())).collect();
        assert!(shown.is_empty(), "nothing was due: {shown:#?}");
    }

    /// The server closes a channel for this reason. The client agrees, and that is all that comes.
    /// Returns which method was refused.
    #[track_caller]
    pub(crate) fn expect_channel_close(&self, channel: u16, code: u16, text: &str) -> (u16, u16) {
        let received = self.take(channel);
        let Method::ChannelClose(close) = received.method() else {
            panic!("channel.close with {text:?} was due: {:?}", received.method());
        };
        assert_eq!((close.reply_code, close.reply_text), (code, text));
        self.send(channel, Method::ChannelCloseOk(channel::CloseOk));
        assert_eq!(self.next(channel), None, "after channel.close");
        assert!(!self.is_gone());
        (close.class_id, close.method_id)
    }

    /// The server closes the connection for this reason. The client agrees, and the server drops
    /// it. Returns which method was refused.
    #[track_caller]
    pub(crate) fn expect_connection_close(&self, code: u16, text: &str) -> (u16, u16) {
        let received = self.take(0);
        let Method::ConnectionClose(close) = received.method() else {
            panic!("connection.close with {text:?} was due: {:?}", received.method());
        };
        assert_eq!((close.reply_code, close.reply_text), (code, text));
        assert!(!self.is_gone(), "the server waits for close-ok");
        self.send(0, Method::ConnectionCloseOk(connection::CloseOk));
        self.expect_gone();
        (close.class_id, close.method_id)
    }

    /// Answers a refusal: sends the request, and the server closes the channel.
    #[track_caller]
    pub(crate) fn refused(&self, channel: u16, request: impl Request, code: u16, text: &str) {
        self.send(channel, request);
        self.expect_channel_close(channel, code, text);
        self.open(channel);
    }

    /// The server has dropped the transport, and has nothing more to say.
    #[track_caller]
    pub(crate) fn expect_gone(&self) {
        let gone = self.transport.is_closed(Patience::Due);
        self.expect_nothing();
        let reason = self.ended_because();
        assert!(gone, "the transport is still there; ended because {reason:?}");
    }

    /// Whether the server has dropped the transport.
    pub(crate) fn is_gone(&self) -> bool {
        self.transport.is_closed(Patience::Rest)
    }

    /// Why the server ended the connection, as its log would say.
    pub(crate) fn ended_because(&self) -> Option<String> {
        self.transport.ended_because()
    }

    /// Whether the server takes input.
    pub(crate) fn is_listened_to(&self) -> bool {
        self.transport.is_listened_to()
    }

    /// Bytes sent that the server has not taken.
    pub(crate) fn unheard_bytes(&self) -> usize {
        self.transport.unheard_bytes()
    }

    /// Bytes written to it that it has not read.
    pub(crate) fn unread_bytes(&self) -> usize {
        self.transport.unread_bytes()
    }

    /// Bytes received before any frame was looked for: what answers a bad protocol header.
    pub(crate) fn raw_bytes(&self) -> Vec<u8> {
        let mut inbox = self.inbox.borrow_mut();
        while self.transport.receive(&mut inbox.bytes, Patience::Rest) {}
        std::mem::take(&mut inbox.bytes)
    }

    /// Heartbeats seen so far.
    pub(crate) fn heartbeats(&self) -> usize {
        self.everything().reader.heartbeats
    }

    /// The inbox once all has come that will.
    fn everything(&self) -> std::cell::RefMut<'_, Inbox> {
        let mut inbox = self.inbox.borrow_mut();
        while self.receive(&mut inbox, Patience::Rest) {}
        inbox
    }

    /// Reads what has come meanwhile; false when nothing did.
    fn receive(&self, inbox: &mut Inbox, patience: Patience) -> bool {
        if !self.transport.receive(&mut inbox.bytes, patience) {
            return false;
        }
        let frame_max = u32::try_from(PAYLOAD_BYTES_MAX + frame::OVERHEAD_BYTES).unwrap();
        let received = inbox.reader.read(&mut inbox.bytes, frame_max);
        let vhost = self.transport.vhost();
        inbox.received.extend(received.into_iter().map(|it| it.with_vhost_as_root(vhost)));
        true
    }
}

/// connection.open.
pub(crate) fn open_vhost(vhost: &str) -> Method<'_> {
    Method::ConnectionOpen(connection::Open { virtual_host: vhost })
}

/// connection.close, as a client that is done.
pub(crate) fn close_connection() -> Method<'static> {
    let reply_text = "done";
    let close = connection::Close { reply_code: 200, reply_text, class_id: 0, method_id: 0 };
    Method::ConnectionClose(close)
}

/// A value of a table, for short.
pub(crate) fn text(value: &str) -> Value {
    Value::from(value)
}
