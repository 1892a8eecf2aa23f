//! Frames: a head of seven bytes (kind, channel, payload length), the payload, an end octet.
//!
//! [`parse`] finds one whole frame at the start of a buffer and borrows its payload; the length is
//! checked as soon as the head is there, so an oversized frame is refused before it is buffered.
//! The writers append whole frames to the caller's buffer. The caller cuts bodies to the peer's
//! `frame_max`; methods and content headers are never split.

use super::method::Method;

/// The octet that ends every frame.
pub const FRAME_END: u8 = 0xCE;

/// Bytes of a frame's head.
pub const HEAD_BYTES: usize = 7;

/// Bytes of a frame apart from its payload: a body frame carries at most `frame_max` less this.
pub const OVERHEAD_BYTES: usize = HEAD_BYTES + 1;

/// What a frame's payload may be over the strict limit, as in RabbitMQ: a frame's overhead.
const SLACK_BYTES: u32 = 8;

/// The largest payload taken when `frame_max` is 0 ("no limit").
pub const UNLIMITED_PAYLOAD_BYTES_MAX: u32 = 128 * 1024 * 1024;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// A method: class id, method id, arguments.
    Method = 1,
    /// A content header: class id, body size, properties.
    Header = 2,
    /// A piece of a content's body.
    Body = 3,
    /// Nothing: a sign of life, on channel 0.
    Heartbeat = 8,
}

impl FrameKind {
    /// The kind with this number on the wire.
    #[must_use]
    #[inline]
    pub const fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            1 => Some(Self::Method),
            2 => Some(Self::Header),
            3 => Some(Self::Body),
            8 => Some(Self::Heartbeat),
            _ => None,
        }
    }
}

/// A whole frame, borrowed from the buffer it arrived in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it carries.
    pub kind: FrameKind,
    /// The channel it belongs to; 0 is the connection itself.
    pub channel: u16,
    /// The bytes between head and end octet.
    pub payload: &'a [u8],
}

/// Bytes that are not a frame. Ends the connection with FRAME_ERROR; `kind` is the number on the
/// wire, which RabbitMQ's texts quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The payload is longer than was agreed.
    #[error("frame of type {kind} on channel {channel} announces {size} bytes, limit {limit}")]
    TooLarge {
        /// The frame's type.
        kind: u8,
        /// Its channel.
        channel: u16,
        /// The payload length it announces.
        size: u32,
        /// The longest payload that was agreed on.
        limit: u32,
    },
    /// The octet after the payload is not [`FRAME_END`].
    #[error("frame of type {kind} on channel {channel} ends with octet {octet}")]
    BadEnd {
        /// The frame's type.
        kind: u8,
        /// Its channel.
        channel: u16,
        /// The octet found.
        octet: u8,
    },
    /// No such frame type.
    #[error("frame of unknown type {kind} on channel {channel}")]
    UnknownKind {
        /// The frame's type.
        kind: u8,
        /// Its channel.
        channel: u16,
    },
}

/// Finds the frame at the start of `input`: the frame and how many bytes it takes, or `None` while
/// more bytes are needed.
///
/// `frame_max` is the agreed size of whole frames, 0 for no limit. As RabbitMQ does, a payload may
/// be as long as `frame_max` itself, [`OVERHEAD_BYTES`] over the strict limit.
///
/// # Errors
/// When the announced length is over the limit (known from the head alone), or, once the frame is
/// whole, when its end octet or its type is wrong.
#[inline]
pub fn parse(input: &[u8], frame_max: u32) -> Result<Option<(Frame<'_>, usize)>, FrameError> {
    let Some((head, rest)) = input.split_first_chunk::<HEAD_BYTES>() else {
        return Ok(None);
    };
    let [kind, c0, c1, s0, s1, s2, s3] = *head;
    let channel = u16::from_be_bytes([c0, c1]);
    let size = u32::from_be_bytes([s0, s1, s2, s3]);
    if size > payload_bytes_max(frame_max) {
        let limit = match frame_max {
            0 => UNLIMITED_PAYLOAD_BYTES_MAX,
            _ => frame_max.saturating_sub(SLACK_BYTES),
        };
        return Err(FrameError::TooLarge { kind, channel, size, limit });
    }
    let size = size as usize;
    let Some(&octet) = rest.get(size) else {
        return Ok(None);
    };
    if octet != FRAME_END {
        return Err(FrameError::BadEnd { kind, channel, octet });
    }
    let payload = &rest[..size];
    match FrameKind::from_octet(kind) {
        Some(kind) => Ok(Some((Frame { kind, channel, payload }, size + OVERHEAD_BYTES))),
        None => Err(FrameError::UnknownKind { kind, channel }),
    }
}

/// The longest payload that [`parse`] takes.
#[inline]
const fn payload_bytes_max(frame_max: u32) -> u32 {
    if frame_max == 0 { UNLIMITED_PAYLOAD_BYTES_MAX } else { frame_max }
}

/// Appends a method frame.
#[inline]
pub fn method(out: &mut Vec<u8>, channel: u16, method: &Method<'_>) {
    head(out, FrameKind::Method, channel, 0);
    let start = out.len();
    method.encode(out);
    let size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start - 4..start].copy_from_slice(&size.to_be_bytes());
    out.push(FRAME_END);
}

/// Appends a content header frame. `properties` are flags and values, as
/// [`Properties::encode`](super::Properties::encode) writes them or as they were received.
#[inline]
pub fn content_header(
    out: &mut Vec<u8>,
    channel: u16,
    class_id: u16,
    body_size: u64,
    properties: &[u8],
) {
    head(out, FrameKind::Header, channel, 12 + properties.len());
    let mut fixed = [0; 12];
    fixed[..2].copy_from_slice(&class_id.to_be_bytes());
    fixed[4..].copy_from_slice(&body_size.to_be_bytes());
    out.extend_from_slice(&fixed);
    out.extend_from_slice(properties);
    out.push(FRAME_END);
}

/// Appends a whole body frame, copying its payload.
#[inline]
pub fn body(out: &mut Vec<u8>, channel: u16, payload: &[u8]) {
    body_head(out, channel, payload.len());
    out.extend_from_slice(payload);
    out.push(FRAME_END);
}

/// Appends the head of a body frame whose payload of `len` bytes is written apart; the caller then
/// writes the payload and [`FRAME_END`].
#[inline]
pub fn body_head(out: &mut Vec<u8>, channel: u16, len: usize) {
    head(out, FrameKind::Body, channel, len);
}

/// Appends a heartbeat frame.
#[inline]
pub fn heartbeat(out: &mut Vec<u8>) {
    head(out, FrameKind::Heartbeat, 0, 0);
    out.push(FRAME_END);
}

#[inline]
fn head(out: &mut Vec<u8>, kind: FrameKind, channel: u16, len: usize) {
    let [c0, c1] = channel.to_be_bytes();
    let [s0, s1, s2, s3] = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    out.extend_from_slice(&[kind as u8, c0, c1, s0, s1, s2, s3]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, channel: u16, payload: &[u8], end: u8) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend(channel.to_be_bytes());
        bytes.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
        bytes.extend(payload);
        bytes.push(end);
        bytes
    }

    #[test]
    fn a_whole_frame_is_found_and_what_follows_left_alone() {
        let mut bytes = frame(3, 7, b"hello", FRAME_END);
        let whole = bytes.len();
        bytes.extend(b"next");
        let (found, used) = parse(&bytes, 4096).unwrap().unwrap();
        assert_eq!(found, Frame { kind: FrameKind::Body, channel: 7, payload: b"hello" });
        assert_eq!(used, whole);
    }

    #[test]
    fn a_cut_frame_asks_for_more() {
        let bytes = frame(1, 1, &[0, 10, 0, 11], FRAME_END);
        for cut in 0..bytes.len() {
            assert_eq!(parse(&bytes[..cut], 4096), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn the_length_is_judged_from_the_head_with_eight_bytes_of_slack() {
        let head = |size: u32| [&[3, 0, 1][..], &size.to_be_bytes()].concat();
        assert_eq!(parse(&head(4096), 4096), Ok(None));
        let refused = FrameError::TooLarge { kind: 3, channel: 1, size: 4097, limit: 4088 };
        assert_eq!(parse(&head(4097), 4096), Err(refused));
    }

    #[test]
    fn without_a_limit_there_still_is_one() {
        let limit = UNLIMITED_PAYLOAD_BYTES_MAX;
        let head = |size: u32| [&[3, 0, 1][..], &size.to_be_bytes()].concat();
        assert_eq!(parse(&head(limit), 0), Ok(None));
        let refused = FrameError::TooLarge { kind: 3, channel: 1, size: limit + 1, limit };
        assert_eq!(parse(&head(limit + 1), 0), Err(refused));
    }

    #[test]
    fn a_wrong_end_octet_is_refused() {
        let bytes = frame(9, 2, b"x", 0x00);
        let refused = FrameError::BadEnd { kind: 9, channel: 2, octet: 0 };
        assert_eq!(parse(&bytes, 4096), Err(refused));
    }

    #[test]
    fn an_unknown_type_is_refused() {
        for kind in [0, 4, 5, 6, 7, 9, 255] {
            let bytes = frame(kind, 2, b"x", FRAME_END);
            let refused = FrameError::UnknownKind { kind, channel: 2 };
            assert_eq!(parse(&bytes, 4096), Err(refused));
        }
    }

    #[test]
    fn written_frames_are_found_again() {
        let mut out = Vec::new();
        heartbeat(&mut out);
        content_header(&mut out, 3, 60, 5, &[0x10, 0, 2]);
        body(&mut out, 3, b"hello");
        let expected: [(FrameKind, u16, &[u8]); 3] = [
            (FrameKind::Heartbeat, 0, b""),
            (FrameKind::Header, 3, &[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0x10, 0, 2]),
            (FrameKind::Body, 3, b"hello"),
        ];
        let mut rest = &out[..];
        for (kind, channel, payload) in expected {
            let (found, used) = parse(rest, 4096).unwrap().unwrap();
            assert_eq!(found, Frame { kind, channel, payload });
            rest = &rest[used..];
        }
        assert!(rest.is_empty());
    }
}
