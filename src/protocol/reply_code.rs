//! Reply codes: why something was refused, as a number.
//!
//! Generated from `spec/amqp-0-9-1.toml` by `tests/it/codegen.rs`; do not edit.
//! `UPDATE_SPEC=1 cargo test codegen` writes it anew.

/// A reply code. Soft codes close the channel, hard ones the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyCode(pub u16);

impl ReplyCode {
    /// All went well; clients close with it.
    pub const REPLY_SUCCESS: Self = Self(200);

    /// The content is larger than the peer can take now. Never sent by RabbitMQ.
    pub const CONTENT_TOO_LARGE: Self = Self(311);

    /// A mandatory message reached no queue. Only in basic.return.
    pub const NO_ROUTE: Self = Self(312);

    /// An immediate message found no consumer. Never sent by RabbitMQ.
    pub const NO_CONSUMERS: Self = Self(313);

    /// An operator or a shutdown ends the connection.
    pub const CONNECTION_FORCED: Self = Self(320);

    /// An unknown virtual host. RabbitMQ says NOT_ALLOWED instead.
    pub const INVALID_PATH: Self = Self(402);

    /// The user lacks the permission, or the name is reserved.
    pub const ACCESS_REFUSED: Self = Self(403);

    /// No such exchange or queue.
    pub const NOT_FOUND: Self = Self(404);

    /// The queue belongs to another connection.
    pub const RESOURCE_LOCKED: Self = Self(405);

    /// A precondition does not hold: other arguments, in use, an unknown delivery tag.
    pub const PRECONDITION_FAILED: Self = Self(406);

    /// A frame or a method that cannot be decoded.
    pub const FRAME_ERROR: Self = Self(501);

    /// A frame with illegal values.
    pub const SYNTAX_ERROR: Self = Self(502);

    /// A method that is not allowed in this place.
    pub const COMMAND_INVALID: Self = Self(503);

    /// A channel that is not open, or is open already.
    pub const CHANNEL_ERROR: Self = Self(504);

    /// A frame out of order, usually within a content.
    pub const UNEXPECTED_FRAME: Self = Self(505);

    /// The server ran out of something it needs.
    pub const RESOURCE_ERROR: Self = Self(506);

    /// Something that the server's rules forbid.
    pub const NOT_ALLOWED: Self = Self(530);

    /// Something that the server does not offer.
    pub const NOT_IMPLEMENTED: Self = Self(540);

    /// A fault within the server.
    pub const INTERNAL_ERROR: Self = Self(541);

    /// The code's name, such as "NOT_FOUND"; "UNKNOWN" for numbers without one.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::REPLY_SUCCESS => "REPLY_SUCCESS",
            Self::CONTENT_TOO_LARGE => "CONTENT_TOO_LARGE",
            Self::NO_ROUTE => "NO_ROUTE",
            Self::NO_CONSUMERS => "NO_CONSUMERS",
            Self::CONNECTION_FORCED => "CONNECTION_FORCED",
            Self::INVALID_PATH => "INVALID_PATH",
            Self::ACCESS_REFUSED => "ACCESS_REFUSED",
            Self::NOT_FOUND => "NOT_FOUND",
            Self::RESOURCE_LOCKED => "RESOURCE_LOCKED",
            Self::PRECONDITION_FAILED => "PRECONDITION_FAILED",
            Self::FRAME_ERROR => "FRAME_ERROR",
            Self::SYNTAX_ERROR => "SYNTAX_ERROR",
            Self::COMMAND_INVALID => "COMMAND_INVALID",
            Self::CHANNEL_ERROR => "CHANNEL_ERROR",
            Self::UNEXPECTED_FRAME => "UNEXPECTED_FRAME",
            Self::RESOURCE_ERROR => "RESOURCE_ERROR",
            Self::NOT_ALLOWED => "NOT_ALLOWED",
            Self::NOT_IMPLEMENTED => "NOT_IMPLEMENTED",
            Self::INTERNAL_ERROR => "INTERNAL_ERROR",
            _ => "UNKNOWN",
        }
    }

    /// Whether it closes the connection, whatever channel raised it.
    #[must_use]
    pub const fn is_hard(self) -> bool {
        matches!(
            self,
            Self::CONNECTION_FORCED
                | Self::INVALID_PATH
                | Self::FRAME_ERROR
                | Self::SYNTAX_ERROR
                | Self::COMMAND_INVALID
                | Self::CHANNEL_ERROR
                | Self::UNEXPECTED_FRAME
                | Self::RESOURCE_ERROR
                | Self::NOT_ALLOWED
                | Self::NOT_IMPLEMENTED
                | Self::INTERNAL_ERROR
        )
    }
}
