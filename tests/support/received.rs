//! What a client sees: methods, and contents with their method.

use leveret::protocol::frame::{self, FrameKind};
use leveret::protocol::method::Method;
use leveret::protocol::properties::{ContentHeader, Properties};
use leveret::protocol::table::{Table, Value};

/// A method as it arrived, with its content if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) channel: u16,
    method: Vec<u8>,
    properties: Vec<u8>,
    body: Vec<u8>,
}

/// A message in a client's hands, delivered, fetched or returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    /// Empty when it was fetched or returned.
    pub(crate) consumer_tag: String,
    /// 0 when it was returned.
    pub(crate) delivery_tag: u64,
    pub(crate) redelivered: bool,
    pub(crate) exchange: String,
    pub(crate) routing_key: String,
    /// What basic.get-ok says is left.
    pub(crate) message_count: u32,
    /// What basic.return says.
    pub(crate) reply: Option<(u16, String)>,
    /// Flags and values as they arrived.
    pub(crate) raw_properties: Vec<u8>,
    pub(crate) body: Vec<u8>,
}

impl Received {
    /// The method.
    pub(crate) fn method(&self) -> Method<'_> {
        Method::decode(&self.method).expect("the server sends methods that can be read")
    }

    /// The same with the names of this vhost in a refusal's text changed to `/`.
    pub(super) fn with_vhost_as_root(mut self, vhost: &str) -> Self {
        let (start, text) = match self.method() {
            Method::ChannelClose(close) => (6, close.reply_text),
            Method::ConnectionClose(close) => (6, close.reply_text),
            _ => return self,
        };
        let end = start + 1 + text.len();
        let text = text.replace(&format!("vhost '{vhost}'"), "vhost '/'");
        let length = u8::try_from(text.len()).unwrap();
        self.method.splice(start..end, [length].into_iter().chain(text.into_bytes()));
        self
    }

    /// The message, if this is one.
    pub(crate) fn content(&self) -> Option<Content> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut content = Content {
            consumer_tag: String::new(),
            delivery_tag: 0,
            redelivered: false,
            exchange: String::new(),
            routing_key: String::new(),
            message_count: 0,
            reply: None,
            raw_properties: self.properties.clone(),
            body: self.body.clone(),
        };
        match self.method() {
            Method::BasicDeliver(deliver) => {
                content.consumer_tag = text(deliver.consumer_tag);
                content.delivery_tag = deliver.delivery_tag;
                content.redelivered = deliver.redelivered;
                content.exchange = text(deliver.exchange);
                content.routing_key = text(deliver.routing_key);
            }
            Method::BasicGetOk(ok) => {
                content.delivery_tag = ok.delivery_tag;
                content.redelivered = ok.redelivered;
                content.exchange = text(ok.exchange);
                content.routing_key = text(ok.routing_key);
                content.message_count = ok.message_count;
            }
            Method::BasicReturn(returned) => {
                content.reply = Some((returned.reply_code, text(returned.reply_text)));
                content.exchange = text(returned.exchange);
                content.routing_key = text(returned.routing_key);
            }
            _ => return None,
        }
        Some(content)
    }
}

impl Content {
    /// The properties.
    pub(crate) fn properties(&self) -> Properties<'_> {
        Properties::parse(&self.raw_properties).expect("the server sends properties that parse")
    }

    /// The headers; empty when there are none.
    pub(crate) fn headers(&self) -> Table {
        self.properties().headers.map(|headers| headers.to_table()).unwrap_or_default()
    }

    /// One header.
    pub(crate) fn header(&self, name: &str) -> Option<Value> {
        self.headers().get(name).cloned()
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// What was written to a client, frame by frame.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    open: Option<(Received, Option<u64>)>,
    /// Heartbeats seen.
    pub(super) heartbeats: usize,
}

impl Reader {
    /// Takes whole frames off the start of `bytes`; returns what they complete.
    ///
    /// # Panics
    /// When the bytes are not what AMQP allows a server to send: that is a failed test.
    pub(crate) fn read(&mut self, bytes: &mut Vec<u8>, frame_max: u32) -> Vec<Received> {
        let mut whole = Vec::new();
        let mut at = 0;
        while let Some((frame, used)) =
            frame::parse(&bytes[at..], frame_max).expect("the server sends frames that fit")
        {
            at += used;
            if frame.kind == FrameKind::Heartbeat {
                self.heartbeats += 1;
                continue;
            }
            whole.extend(self.frame(frame.kind, frame.channel, frame.payload));
        }
        bytes.drain(..at);
        whole
    }

    fn frame(&mut self, kind: FrameKind, channel: u16, payload: &[u8]) -> Option<Received> {
        let (received, missing) = match (kind, self.open.take()) {
            (FrameKind::Method, None) => {
                let method = payload.to_vec();
                let received =
                    Received { channel, method, properties: Vec::new(), body: Vec::new() };
                if received.content().is_none() {
                    return Some(received);
                }
                (received, None)
            }
            (FrameKind::Header, Some((mut received, None))) => {
                assert_eq!(channel, received.channel, "a header of another channel in between");
                let header = ContentHeader::parse(payload).unwrap();
                assert_eq!((header.class_id, header.weight), (60, 0));
                received.properties = header.properties.to_vec();
                (received, Some(header.body_size))
            }
            (FrameKind::Body, Some((mut received, Some(missing)))) => {
                assert_eq!(channel, received.channel, "a body of another channel in between");
                received.body.extend_from_slice(payload);
                let missing = missing.checked_sub(payload.len() as u64);
                (received, Some(missing.expect("a body is as long as announced")))
            }
            (kind, open) => panic!("a {kind:?} frame out of order, behind {open:?}"),
        };
        if missing == Some(0) {
            return Some(received);
        }
        self.open = Some((received, missing));
        None
    }
}
