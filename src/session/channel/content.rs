//! A content being received: the method, then its header, then body frames until the announced
//! size is reached.
//!
//! A body that comes in one frame is never gathered: it goes from the read buffer into its message.
//! Otherwise it is collected as it arrives; memory follows what was received, not what was
//! announced. A body over the configured limit is read to its end, as RabbitMQ does, but not kept.

use super::Channel;
use crate::protocol::method::basic::Publish;
use crate::protocol::properties::ContentHeader;
use crate::protocol::refusal::{self, Refusal, Snippet};
use crate::session::core::Core;

/// Class basic, the only one with content.
const CLASS_BASIC: u16 = 60;
/// RabbitMQ's ceiling for announced bodies.
const ANNOUNCED_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// What has arrived of a content. Kept for reuse when it is done.
#[derive(Debug, Default)]
pub(in crate::session) struct Content {
    pub(super) exchange: Vec<u8>,
    pub(super) routing_key: Vec<u8>,
    pub(super) mandatory: bool,
    pub(super) immediate: bool,
    pub(super) properties: Vec<u8>,
    /// Known once the header is there.
    pub(super) body_size: Option<u64>,
    received: u64,
    body: Vec<u8>,
}

/// The body of a finished content.
pub(super) enum Body<'b> {
    /// In the read buffer.
    Borrowed(&'b [u8]),
    /// Gathered from several frames.
    Gathered(Vec<u8>),
}

impl Channel {
    pub(super) fn begin_content(&mut self, publish: &Publish<'_>) {
        let mut content = self.spare.take().unwrap_or_default();
        content.exchange.clear();
        content.exchange.extend_from_slice(publish.exchange);
        content.routing_key.clear();
        content.routing_key.extend_from_slice(publish.routing_key);
        content.mandatory = publish.mandatory;
        content.immediate = publish.immediate;
        content.body_size = None;
        content.received = 0;
        content.body = Vec::new();
        self.content = Some(content);
    }

    /// Whether a header or a body is due, and a method is not.
    pub(in crate::session) fn expects_content(&self) -> bool {
        self.content.is_some()
    }

    /// A method arrived where a header or a body was due.
    pub(in crate::session) fn unexpected_method(&self) -> Refusal {
        match &self.content {
            Some(Content { body_size: None, .. }) => refusal::content_header_expected(CLASS_BASIC),
            _ => refusal::content_body_expected(),
        }
    }

    pub(in crate::session) fn on_header(
        &mut self,
        core: &mut Core,
        payload: &[u8],
    ) -> Result<(), Refusal> {
        let Some(content) = &mut self.content else { return Ok(()) };
        if content.body_size.is_some() {
            return Err(refusal::content_body_expected());
        }
        let Some(header) = ContentHeader::parse(payload) else {
            return Err(refusal::frame_unknown_type(2, Snippet(payload)));
        };
        if header.weight != 0 {
            return Err(refusal::content_header_expected(CLASS_BASIC));
        }
        if header.class_id != CLASS_BASIC {
            return Err(refusal::content_header_class_mismatch(CLASS_BASIC, header.class_id));
        }
        if header.body_size > ANNOUNCED_BYTES_MAX {
            return Err(refusal::content_announced_too_large(header.body_size));
        }
        content.properties.clear();
        content.properties.extend_from_slice(header.properties);
        content.body_size = Some(header.body_size);
        if header.body_size == 0 {
            return self.finish_content(core, Body::Borrowed(&[]));
        }
        Ok(())
    }

    pub(in crate::session) fn on_body(
        &mut self,
        core: &mut Core,
        payload: &[u8],
    ) -> Result<(), Refusal> {
        let Some(content) = &mut self.content else { return Ok(()) };
        let Some(body_size) = content.body_size else {
            return Err(refusal::content_header_expected(CLASS_BASIC));
        };
        let before = content.received;
        content.received += payload.len() as u64;
        if content.received > body_size {
            return Err(refusal::content_body_too_long());
        }
        if before == 0 && content.received == body_size {
            return self.finish_content(core, Body::Borrowed(payload));
        }
        if body_size <= core.settings.message_bytes_max {
            reserve(&mut content.body, payload.len(), body_size);
            content.body.extend_from_slice(payload);
        }
        if content.received == body_size {
            let body = std::mem::take(&mut content.body);
            return self.finish_content(core, Body::Gathered(body));
        }
        Ok(())
    }

    fn finish_content(&mut self, core: &mut Core, body: Body<'_>) -> Result<(), Refusal> {
        let Some(content) = self.content.take() else { return Ok(()) };
        let published = self.publish(core, &content, body);
        self.spare = Some(content);
        published
    }
}

/// Makes room for `more` bytes: doubling, but never beyond what was announced.
fn reserve(body: &mut Vec<u8>, more: usize, announced: u64) {
    let needed = body.len() + more;
    if needed > body.capacity() {
        let announced = usize::try_from(announced).unwrap_or(usize::MAX);
        let target = (body.capacity() * 2).max(needed).min(announced);
        body.reserve_exact(target - body.len());
    }
}
