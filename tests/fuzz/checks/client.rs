//! What a client sees, as strictly as the protocol has it: what a server may not send is a panic.

use std::collections::BTreeMap;

use leveret::protocol::frame::{self, FrameKind};
use leveret::protocol::method::Method;
use leveret::protocol::properties::{ContentHeader, Properties};

/// The largest frame that any client of a check agrees to.
const FRAME_BYTES_MAX: u32 = 131_072;

/// Reads what is written to one client.
#[derive(Default)]
pub struct Reader {
    bytes: Vec<u8>,
    /// A content that is not whole yet, on its channel.
    open: Option<(u16, Content, Option<u64>)>,
    channels: BTreeMap<u16, Channel>,
    ended: Ended,
    /// Bodies of fetched and delivered messages, oldest first, if they are to be kept.
    pub bodies: Option<Vec<Vec<u8>>>,
    /// The last connection.close or channel.close.
    pub refusal: Option<(u16, String)>,
    /// The last publish that was confirmed.
    pub confirmed: u64,
}

/// How a channel stands, as far as its client was told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Channel {
    Open,
    /// The server has closed it.
    Closed,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Ended {
    #[default]
    No,
    /// connection.close came.
    ByServer,
    /// close-ok came.
    Wholly,
}

#[derive(Default)]
struct Content {
    body: Vec<u8>,
    returned: bool,
}

impl Reader {
    /// Takes what was written.
    pub fn read(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.bytes);
        let mut rest = bytes.as_slice();
        // The answer to another version is no frame.
        if rest.starts_with(b"AMQP") {
            assert!(matches!(rest[4..], [0, 0, 9, 1] | [3, 1, 0, 0]), "{rest:?}");
            return;
        }
        while let Some((found, used)) =
            frame::parse(rest, FRAME_BYTES_MAX).expect("the server sends frames that fit")
        {
            assert!(self.ended != Ended::Wholly, "{found:?} after close-ok");
            self.frame(found.kind, found.channel, found.payload);
            rest = &rest[used..];
        }
        self.bytes = rest.to_vec();
    }

    fn frame(&mut self, kind: FrameKind, channel: u16, payload: &[u8]) {
        match (kind, &mut self.open) {
            (FrameKind::Heartbeat, _) => assert!(channel == 0 && payload.is_empty()),
            (FrameKind::Method, None) => {
                let method = Method::decode(payload).expect("methods can be read");
                assert!(method.is_from_server(), "{method:?}");
                self.method(channel, &method);
            }
            (FrameKind::Header, Some((on, _, size @ None))) => {
                assert_eq!(channel, *on);
                let header = ContentHeader::parse(payload).expect("headers can be read");
                assert_eq!((header.class_id, header.weight), (60, 0));
                Properties::parse(header.properties).expect("properties can be read");
                *size = Some(header.body_size);
                self.finish();
            }
            (FrameKind::Body, Some((on, content, Some(size)))) => {
                assert_eq!(channel, *on);
                assert!(!payload.is_empty());
                content.body.extend_from_slice(payload);
                assert!(content.body.len() as u64 <= *size, "no more than was announced");
                self.finish();
            }
            (kind, _) => panic!("{kind:?} at the wrong time"),
        }
    }

    fn finish(&mut self) {
        if let Some((_, content, Some(size))) = &self.open
            && content.body.len() as u64 == *size
        {
            let (_, content, _) = self.open.take().expect("just seen");
            if let Some(bodies) = &mut self.bodies
                && !content.returned
            {
                bodies.push(content.body);
            }
        }
    }

    fn method(&mut self, channel: u16, method: &Method<'_>) {
        let of_connection = method.id().0 == 10;
        assert_eq!(of_connection, channel == 0, "{method:?} on channel {channel}");
        if self.ended == Ended::ByServer {
            assert!(matches!(method, Method::ConnectionCloseOk(_)), "{method:?} after the end");
        }
        if self.channels.get(&channel) == Some(&Channel::Closed) {
            let ends = matches!(method, Method::ChannelCloseOk(_) | Method::ChannelOpenOk(_));
            assert!(ends, "{method:?} on a closed channel");
        }
        match method {
            Method::ConnectionClose(close) => {
                self.ended = Ended::ByServer;
                self.refusal = Some((close.reply_code, close.reply_text.to_owned()));
            }
            // Both closed at once: each further close of the client's is answered as well.
            Method::ConnectionCloseOk(_) if self.ended == Ended::ByServer => {}
            Method::ConnectionCloseOk(_) => self.ended = Ended::Wholly,
            Method::ChannelOpenOk(_) => {
                self.channels.insert(channel, Channel::Open);
            }
            Method::ChannelClose(close) => {
                self.channels.insert(channel, Channel::Closed);
                self.refusal = Some((close.reply_code, close.reply_text.to_owned()));
            }
            Method::ChannelCloseOk(_) => {
                self.channels.remove(&channel);
            }
            Method::BasicAck(ack) => {
                assert!(ack.delivery_tag > 0);
                self.confirmed = self.confirmed.max(ack.delivery_tag);
            }
            Method::BasicDeliver(_) | Method::BasicGetOk(_) | Method::BasicReturn(_) => {
                let returned = matches!(method, Method::BasicReturn(_));
                let content = Content { body: Vec::new(), returned };
                self.open = Some((channel, content, None));
            }
            _ => {
                let known = channel == 0 || self.channels.contains_key(&channel);
                assert!(known, "{method:?} on a channel that is not open");
            }
        }
    }
}
