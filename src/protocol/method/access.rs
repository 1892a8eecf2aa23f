//! Class access. Access tickets: gone from 0-9-1, still answered for old clients.
//!
//! Generated from `spec/amqp-0-9-1.toml` by `tests/it/codegen.rs`; do not edit.
//! `UPDATE_SPEC=1 cargo test codegen` writes it anew.

use nom::number::complete::{be_u8, be_u16};

use crate::protocol::wire::{Fault, put_short_bytes, short_bytes, text, whole};

/// `access.request`: asks for a ticket; permissions do not depend on it.
///
/// Sent by the client; answered with [`RequestOk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The realm.
    pub realm: &'a str,
    /// Exclusive access.
    pub exclusive: bool,
    /// Passive access.
    pub passive: bool,
    /// Active access.
    pub active: bool,
    /// Write access.
    pub write: bool,
    /// Read access.
    pub read: bool,
}

impl Default for Request<'_> {
    fn default() -> Self {
        Self {
            realm: "/data",
            exclusive: false,
            passive: true,
            active: true,
            write: true,
            read: true,
        }
    }
}

impl<'a> Request<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let (realm, bits) = whole((short_bytes, be_u8), fields)?;
        Ok(Self {
            realm: text(realm)?,
            exclusive: bits & 1 != 0,
            passive: bits & 2 != 0,
            active: bits & 4 != 0,
            write: bits & 8 != 0,
            read: bits & 16 != 0,
        })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 30, 0, 10]);
        put_short_bytes(out, self.realm.as_bytes());
        out.push(
            u8::from(self.exclusive)
                | u8::from(self.passive) << 1
                | u8::from(self.active) << 2
                | u8::from(self.write) << 3
                | u8::from(self.read) << 4,
        );
    }
}

/// `access.request-ok`: grants a ticket, always the same one.
///
/// Sent by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestOk {
    /// The ticket.
    pub ticket: u16,
}

impl Default for RequestOk {
    fn default() -> Self {
        Self { ticket: 1 }
    }
}

impl RequestOk {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        let ticket = whole(be_u16, fields)?;
        Ok(Self { ticket })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 30, 0, 11]);
        out.extend_from_slice(&self.ticket.to_be_bytes());
    }
}
