//! Class tx. Transactions of one channel.
//!
//! Generated from `spec/amqp-0-9-1.toml` by `tests/it/codegen.rs`; do not edit.
//! `UPDATE_SPEC=1 cargo test codegen` writes it anew.

use crate::protocol::wire::{Fault, nothing, whole};

/// `tx.select`: from now on publishes and acknowledgements wait for a commit.
///
/// Sent by the client; answered with [`SelectOk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Select;

impl Select {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        whole(nothing, fields)?;
        Ok(Self)
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 90, 0, 10]);
    }
}

/// `tx.select-ok`: the channel is in transaction mode.
///
/// Sent by the server.
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
        out.extend_from_slice(&[0, 90, 0, 11]);
    }
}

/// `tx.commit`: carries out what has gathered.
///
/// Sent by the client; answered with [`CommitOk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Commit;

impl Commit {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        whole(nothing, fields)?;
        Ok(Self)
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 90, 0, 20]);
    }
}

/// `tx.commit-ok`: it is done.
///
/// Sent by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CommitOk;

impl CommitOk {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        whole(nothing, fields)?;
        Ok(Self)
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 90, 0, 21]);
    }
}

/// `tx.rollback`: drops what has gathered.
///
/// Sent by the client; answered with [`RollbackOk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rollback;

impl Rollback {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        whole(nothing, fields)?;
        Ok(Self)
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 90, 0, 30]);
    }
}

/// `tx.rollback-ok`: it is dropped.
///
/// Sent by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RollbackOk;

impl RollbackOk {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        whole(nothing, fields)?;
        Ok(Self)
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 90, 0, 31]);
    }
}
