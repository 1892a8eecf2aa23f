//! The properties of class basic.
//!
//! Generated from `spec/amqp-0-9-1.toml` by `tests/it/codegen.rs`; do not edit.
//! `UPDATE_SPEC=1 cargo test codegen` writes it anew.

use nom::combinator::cond;
use nom::number::complete::{be_u8, be_u64};

use super::{CONTINUATION, Layout, PropertiesError};
use crate::protocol::table::RawTable;
use crate::protocol::wire::{long_bytes, put_long_bytes, put_short_bytes, short_bytes, whole};

/// The properties of a message, borrowed from the bytes they were read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Properties<'a> {
    /// The MIME type of the body.
    pub content_type: Option<&'a [u8]>,
    /// The MIME encoding of the body.
    pub content_encoding: Option<&'a [u8]>,
    /// The application's headers, and RabbitMQ's.
    pub headers: Option<RawTable<'a>>,
    /// 2 asks to survive a restart; 1 does not.
    pub delivery_mode: Option<u8>,
    /// The message's priority in a priority queue.
    pub priority: Option<u8>,
    /// What ties a reply to its request.
    pub correlation_id: Option<&'a [u8]>,
    /// Where replies should go.
    pub reply_to: Option<&'a [u8]>,
    /// The message's time to live: milliseconds in decimal.
    pub expiration: Option<&'a [u8]>,
    /// The application's id of the message.
    pub message_id: Option<&'a [u8]>,
    /// When the message was made: seconds of Unix time.
    pub timestamp: Option<u64>,
    /// The application's name for this kind of message.
    pub type_: Option<&'a [u8]>,
    /// Who published it; the server checks it against the connection's user.
    pub user_id: Option<&'a [u8]>,
    /// The publishing application.
    pub app_id: Option<&'a [u8]>,
    /// Deprecated; carried along.
    pub cluster_id: Option<&'a [u8]>,
}

impl<'a> Properties<'a> {
    /// Reads and checks property flags and values.
    ///
    /// # Errors
    /// When bytes are missing or left over, the headers are malformed or the
    /// continuation flag is set.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, PropertiesError> {
        let Some((flags, values)) = bytes.split_first_chunk::<2>() else {
            return Err(PropertiesError::Malformed);
        };
        let flags = u16::from_be_bytes(*flags);
        if flags & CONTINUATION != 0 {
            return Err(PropertiesError::Continuation);
        }
        let (
            content_type,
            content_encoding,
            headers,
            delivery_mode,
            priority,
            correlation_id,
            reply_to,
            expiration,
            message_id,
            timestamp,
            type_,
            user_id,
            app_id,
            cluster_id,
        ) = whole(
            (
                cond(flags & CONTENT_TYPE != 0, short_bytes),
                cond(flags & CONTENT_ENCODING != 0, short_bytes),
                cond(flags & HEADERS != 0, long_bytes),
                cond(flags & DELIVERY_MODE != 0, be_u8),
                cond(flags & PRIORITY != 0, be_u8),
                cond(flags & CORRELATION_ID != 0, short_bytes),
                cond(flags & REPLY_TO != 0, short_bytes),
                cond(flags & EXPIRATION != 0, short_bytes),
                cond(flags & MESSAGE_ID != 0, short_bytes),
                cond(flags & TIMESTAMP != 0, be_u64),
                cond(flags & TYPE != 0, short_bytes),
                cond(flags & USER_ID != 0, short_bytes),
                cond(flags & APP_ID != 0, short_bytes),
                cond(flags & CLUSTER_ID != 0, short_bytes),
            ),
            values,
        )?;
        Ok(Self {
            content_type,
            content_encoding,
            headers: headers.map(RawTable::parse).transpose()?,
            delivery_mode,
            priority,
            correlation_id,
            reply_to,
            expiration,
            message_id,
            timestamp,
            type_,
            user_id,
            app_id,
            cluster_id,
        })
    }

    /// Appends flags and values.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        let mut flags = 0_u16;
        out.extend_from_slice(&[0; 2]);
        if let Some(value) = self.content_type {
            flags |= CONTENT_TYPE;
            put_short_bytes(out, value);
        }
        if let Some(value) = self.content_encoding {
            flags |= CONTENT_ENCODING;
            put_short_bytes(out, value);
        }
        if let Some(value) = self.headers {
            flags |= HEADERS;
            put_long_bytes(out, value.as_bytes());
        }
        if let Some(value) = self.delivery_mode {
            flags |= DELIVERY_MODE;
            out.push(value);
        }
        if let Some(value) = self.priority {
            flags |= PRIORITY;
            out.push(value);
        }
        if let Some(value) = self.correlation_id {
            flags |= CORRELATION_ID;
            put_short_bytes(out, value);
        }
        if let Some(value) = self.reply_to {
            flags |= REPLY_TO;
            put_short_bytes(out, value);
        }
        if let Some(value) = self.expiration {
            flags |= EXPIRATION;
            put_short_bytes(out, value);
        }
        if let Some(value) = self.message_id {
            flags |= MESSAGE_ID;
            put_short_bytes(out, value);
        }
        if let Some(value) = self.timestamp {
            flags |= TIMESTAMP;
            out.extend_from_slice(&value.to_be_bytes());
        }
        if let Some(value) = self.type_ {
            flags |= TYPE;
            put_short_bytes(out, value);
        }
        if let Some(value) = self.user_id {
            flags |= USER_ID;
            put_short_bytes(out, value);
        }
        if let Some(value) = self.app_id {
            flags |= APP_ID;
            put_short_bytes(out, value);
        }
        if let Some(value) = self.cluster_id {
            flags |= CLUSTER_ID;
            put_short_bytes(out, value);
        }
        out[start..start + 2].copy_from_slice(&flags.to_be_bytes());
    }
}

pub(super) const CONTENT_TYPE: u16 = 1 << 15;
pub(super) const CONTENT_ENCODING: u16 = 1 << 14;
pub(super) const HEADERS: u16 = 1 << 13;
pub(super) const DELIVERY_MODE: u16 = 1 << 12;
pub(super) const PRIORITY: u16 = 1 << 11;
pub(super) const CORRELATION_ID: u16 = 1 << 10;
pub(super) const REPLY_TO: u16 = 1 << 9;
pub(super) const EXPIRATION: u16 = 1 << 8;
pub(super) const MESSAGE_ID: u16 = 1 << 7;
pub(super) const TIMESTAMP: u16 = 1 << 6;
pub(super) const TYPE: u16 = 1 << 5;
pub(super) const USER_ID: u16 = 1 << 4;
pub(super) const APP_ID: u16 = 1 << 3;
pub(super) const CLUSTER_ID: u16 = 1 << 2;

/// Every property in the order of its value, with its layout.
pub(super) const LAYOUT: [(u16, Layout); 14] = [
    (CONTENT_TYPE, Layout::ShortStr),
    (CONTENT_ENCODING, Layout::ShortStr),
    (HEADERS, Layout::Table),
    (DELIVERY_MODE, Layout::Octet),
    (PRIORITY, Layout::Octet),
    (CORRELATION_ID, Layout::ShortStr),
    (REPLY_TO, Layout::ShortStr),
    (EXPIRATION, Layout::ShortStr),
    (MESSAGE_ID, Layout::ShortStr),
    (TIMESTAMP, Layout::Timestamp),
    (TYPE, Layout::ShortStr),
    (USER_ID, Layout::ShortStr),
    (APP_ID, Layout::ShortStr),
    (CLUSTER_ID, Layout::ShortStr),
];
