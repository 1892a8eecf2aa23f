//! Class confirm. Publisher confirms.
//!
//! Generated from `spec/amqp-0-9-1.toml` by `tests/it/codegen.rs`; do not edit.
//! `UPDATE_SPEC=1 cargo test codegen` writes it anew.

use nom::number::complete::be_u8;

use crate::protocol::wire::{Fault, nothing, whole};

/// `confirm.select`: from now on the server confirms each publish on this channel.
///
/// Sent by the client; answered with [`SelectOk`]. An extension of RabbitMQ's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Select {
    /// The peer sends no reply.
    pub nowait: bool,
}

impl Select {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        let bits = whole(be_u8, fields)?;
        Ok(Self { nowait: bits & 1 != 0 })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 85, 0, 10]);
        out.push(u8::from(self.nowait));
    }
}

/// `confirm.select-ok`: the channel is in confirm mode.
///
/// Sent by the server. An extension of RabbitMQ's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SelectOk;

impl SelectOk {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        whole(nothing, fields)?;
        Ok(Self)
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 85, 0, 11]);
    }
}
