//! Class connection. The life of a connection, on channel 0.
//!
//! Generated from `spec/amqp-0-9-1.toml` by `tests/it/codegen.rs`; do not edit.
//! `UPDATE_SPEC=1 cargo test codegen` writes it anew.

use nom::number::complete::{be_u8, be_u16, be_u32};

use crate::protocol::table::RawTable;
use crate::protocol::wire::{
    Fault, long_bytes, nothing, put_long_bytes, put_short_bytes, short_bytes, text, whole,
};

/// `connection.start`: opens the handshake: who the server is and how to log in.
///
/// Sent by the server; answered with [`StartOk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start<'a> {
    /// The protocol's major version.
    pub version_major: u8,
    /// The protocol's minor version.
    pub version_minor: u8,
    /// What the sender says of itself.
    pub server_properties: RawTable<'a>,
    /// Login mechanisms, separated by spaces.
    pub mechanisms: &'a [u8],
    /// Message locales, separated by spaces.
    pub locales: &'a [u8],
}

impl Default for Start<'_> {
    fn default() -> Self {
        Self {
            version_major: 0,
            version_minor: 9,
            server_properties: RawTable::EMPTY,
            mechanisms: b"PLAIN",
            locales: b"en_US",
        }
    }
}

impl<'a> Start<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let (version_major, version_minor, server_properties, mechanisms, locales) =
            whole((be_u8, be_u8, long_bytes, long_bytes, long_bytes), fields)?;
        Ok(Self {
            version_major,
            version_minor,
            server_properties: RawTable::parse(server_properties)?,
            mechanisms,
            locales,
        })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 10, 0, 10]);
        out.push(self.version_major);
        out.push(self.version_minor);
        put_long_bytes(out, self.server_properties.as_bytes());
        put_long_bytes(out, self.mechanisms);
        put_long_bytes(out, self.locales);
    }
}

/// `connection.start-ok`: chooses a login mechanism and begins with it.
///
/// Sent by the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StartOk<'a> {
    /// What the sender says of itself.
    pub client_properties: RawTable<'a>,
    /// The chosen mechanism.
    pub mechanism: &'a str,
    /// The mechanism's first response.
    pub response: &'a [u8],
    /// The chosen locale.
    pub locale: &'a str,
}

impl Default for StartOk<'_> {
    fn default() -> Self {
        Self {
            client_properties: RawTable::EMPTY,
            mechanism: "PLAIN",
            response: &[],
            locale: "en_US",
        }
    }
}

impl<'a> StartOk<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let (client_properties, mechanism, response, locale) =
            whole((long_bytes, short_bytes, long_bytes, short_bytes), fields)?;
        Ok(Self {
            client_properties: RawTable::parse(client_properties)?,
            mechanism: text(mechanism)?,
            response,
            locale: text(locale)?,
        })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 10, 0, 11]);
        put_long_bytes(out, self.client_properties.as_bytes());
        put_short_bytes(out, self.mechanism.as_bytes());
        put_long_bytes(out, self.response);
        put_short_bytes(out, self.locale.as_bytes());
    }
}

/// `connection.secure`: asks for another round of the login mechanism.
///
/// Sent by the server; answered with [`SecureOk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Secure<'a> {
    /// The mechanism's challenge.
    pub challenge: &'a [u8],
}

impl<'a> Secure<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let challenge = whole(long_bytes, fields)?;
        Ok(Self { challenge })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 10, 0, 20]);
        put_long_bytes(out, self.challenge);
    }
}

/// `connection.secure-ok`: answers a challenge.
///
/// Sent by the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SecureOk<'a> {
    /// The mechanism's response.
    pub response: &'a [u8],
}

impl<'a> SecureOk<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let response = whole(long_bytes, fields)?;
        Ok(Self { response })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 10, 0, 21]);
        put_long_bytes(out, self.response);
    }
}

/// `connection.tune`: proposes the connection's limits.
///
/// Sent by the server; answered with [`TuneOk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tune {
    /// Channels at most; 0 for no limit.
    pub channel_max: u16,
    /// Bytes of a whole frame at most; 0 for no limit.
    pub frame_max: u32,
    /// Heartbeat interval in seconds; 0 for none.
    pub heartbeat: u16,
}

impl Tune {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        let (channel_max, frame_max, heartbeat) = whole((be_u16, be_u32, be_u16), fields)?;
        Ok(Self { channel_max, frame_max, heartbeat })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 10, 0, 30]);
        out.extend_from_slice(&self.channel_max.to_be_bytes());
        out.extend_from_slice(&self.frame_max.to_be_bytes());
        out.extend_from_slice(&self.heartbeat.to_be_bytes());
    }
}

/// `connection.tune-ok`: settles the connection's limits.
///
/// Sent by the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TuneOk {
    /// Channels at most; 0 for no limit.
    pub channel_max: u16,
    /// Bytes of a whole frame at most; 0 for no limit.
    pub frame_max: u32,
    /// Heartbeat interval in seconds; 0 for none.
    pub heartbeat: u16,
}

impl TuneOk {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        let (channel_max, frame_max, heartbeat) = whole((be_u16, be_u32, be_u16), fields)?;
        Ok(Self { channel_max, frame_max, heartbeat })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 10, 0, 31]);
        out.extend_from_slice(&self.channel_max.to_be_bytes());
        out.extend_from_slice(&self.frame_max.to_be_bytes());
        out.extend_from_slice(&self.heartbeat.to_be_bytes());
    }
}

/// `connection.open`: enters a virtual host.
///
/// Sent by the client; answered with [`OpenOk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open<'a> {
    /// The name of a virtual host.
    pub virtual_host: &'a str,
}

impl Default for Open<'_> {
    fn default() -> Self {
        Self { virtual_host: "/" }
    }
}

impl<'a> Open<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let (virtual_host, capabilities, _bits) = whole((short_bytes, short_bytes, be_u8), fields)?;
        text(capabilities)?;
        Ok(Self { virtual_host: text(virtual_host)? })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 10, 0, 40]);
        put_short_bytes(out, self.virtual_host.as_bytes());
        put_short_bytes(out, b"");
        out.push(0);
    }
}

/// `connection.open-ok`: the connection is ready for use.
///
/// Sent by the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenOk;

impl OpenOk {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        let known_hosts = whole(short_bytes, fields)?;
        text(known_hosts)?;
        Ok(Self)
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 10, 0, 41]);
        put_short_bytes(out, b"");
    }
}

/// `connection.close`: ends the connection and says why.
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
        out.extend_from_slice(&[0, 10, 0, 50]);
        out.extend_from_slice(&self.reply_code.to_be_bytes());
        put_short_bytes(out, self.reply_text.as_bytes());
        out.extend_from_slice(&self.class_id.to_be_bytes());
        out.extend_from_slice(&self.method_id.to_be_bytes());
    }
}

/// `connection.close-ok`: confirms the end of the connection.
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
        out.extend_from_slice(&[0, 10, 0, 51]);
    }
}

/// `connection.blocked`: the server takes no more messages for now.
///
/// Sent by the server. An extension of RabbitMQ's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Blocked<'a> {
    /// What runs low.
    pub reason: &'a str,
}

impl<'a> Blocked<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let reason = whole(short_bytes, fields)?;
        Ok(Self { reason: text(reason)? })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 10, 0, 60]);
        put_short_bytes(out, self.reason.as_bytes());
    }
}

/// `connection.unblocked`: the server takes messages again.
///
/// Sent by the server. An extension of RabbitMQ's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unblocked;

impl Unblocked {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        whole(nothing, fields)?;
        Ok(Self)
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 10, 0, 61]);
    }
}

/// `connection.update-secret`: replaces the credential of a running connection before it expires.
///
/// Sent by the client; answered with [`UpdateSecretOk`]. An extension of RabbitMQ's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UpdateSecret<'a> {
    /// The new credential.
    pub new_secret: &'a [u8],
    /// Why it is replaced.
    pub reason: &'a str,
}

impl<'a> UpdateSecret<'a> {
    #[inline]
    pub(super) fn decode(fields: &'a [u8]) -> Result<Self, Fault> {
        let (new_secret, reason) = whole((long_bytes, short_bytes), fields)?;
        Ok(Self { new_secret, reason: text(reason)? })
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 10, 0, 70]);
        put_long_bytes(out, self.new_secret);
        put_short_bytes(out, self.reason.as_bytes());
    }
}

/// `connection.update-secret-ok`: the new credential is in use.
///
/// Sent by the server. An extension of RabbitMQ's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UpdateSecretOk;

impl UpdateSecretOk {
    #[inline]
    pub(super) fn decode(fields: &[u8]) -> Result<Self, Fault> {
        whole(nothing, fields)?;
        Ok(Self)
    }

    #[inline]
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[0, 10, 0, 71]);
    }
}
