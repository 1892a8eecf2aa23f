//! Class channel. The life of a channel.
//!
//! Generated from `spec/amqp-0-9-1.toml` by `tests/it/codegen.rs`; do not edit.
//! `UPDATE_SPEC=1 cargo test codegen` writes it anew.

use nom::number::complete::{be_u8, be_u16};

use crate::protocol::wire::{
    Fault, long_bytes, nothing, put_long_bytes, put_short_bytes, short_bytes, text, whole,
};

/// `channel.open`: opens a channel.
///
/// Sent by the client; answered with [`OpenOk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Open;

impl Open {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        let out_of_band = whole(short_bytes, fields)?;
        text(out_of_band)?;
        Ok(Self)
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 20, 0, 10]);
        put_short_bytes(out, b"");
    }
}

/// `channel.open-ok`: the channel is open.
///
/// Sent by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenOk;

impl OpenOk {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        let _channel_id = whole(long_bytes, fields)?;
        Ok(Self)
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 20, 0, 11]);
        put_long_bytes(out, &[]);
    }
}

/// `channel.flow`: asks the peer to pause or resume its content.
///
/// Sent by either side; answered with [`FlowOk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow {
    /// Resume; otherwise pause.
    pub active: bool,
}

impl Flow {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        let bits = whole(be_u8, fields)?;
        Ok(Self { active: bits & 1 != 0 })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 20, 0, 20]);
        out.push(u8::from(self.active));
    }
}

/// `channel.flow-ok`: confirms the state asked for.
///
/// Sent by either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FlowOk {
    /// Content flows; otherwise it is paused.
    pub active: bool,
}

impl FlowOk {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        let bits = whole(be_u8, fields)?;
        Ok(Self { active: bits & 1 != 0 })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 20, 0, 21]);
        out.push(u8::from(self.active));
    }
}

/// `channel.close`: ends the channel and says why.
///
/// Sent by either side; answered with [`CloseOk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Close<'a> {
    /// The reply code.
    pub reply_code: u16,
    /// The reply code's name and an explanation.
    pub reply_text: &'a str,
    /// The class of the method at fault; 0 if none.
    pub class_id: u16,
    /// The method at fault; 0 if none.
    pub method_id: u16,
}

impl<'a> Close<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let (reply_code, reply_text, class_id, method_id) =
            whole((be_u16, short_bytes, be_u16, be_u16), fields)?;
        Ok(Self { reply_code, reply_text: text(reply_text)?, class_id, method_id })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 20, 0, 40]);
        out.extend_from_slice(&self.reply_code.to_be_bytes());
        put_short_bytes(out, self.reply_text.as_bytes());
        out.extend_from_slice(&self.class_id.to_be_bytes());
        out.extend_from_slice(&self.method_id.to_be_bytes());
    }
}

/// `channel.close-ok`: confirms the end of the channel.
///
/// Sent by either side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CloseOk;

impl CloseOk {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        whole(nothing, fields)?;
        Ok(Self)
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 20, 0, 41]);
    }
}
