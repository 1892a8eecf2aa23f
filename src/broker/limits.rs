//! The limits that protect the node, by name: where each is counted when it is hit.
//!
//! A limit is named after its configuration key, so that what an operator reads on the metrics page
//! or in the log is what can be changed. Most are hit by being refused something: the refusal's id
//! says which. What a limit is, and the words of its refusal, belong to whoever enforces it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Now;
use super::seldom::Seldom;

/// A limit that someone can hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Channels of one connection.
    ChannelMax,
    /// Channels of the node.
    ChannelMaxPerNode,
    /// Exchanges of the node.
    ClusterExchangeLimit,
    /// Queues of the node.
    ClusterQueueLimit,
    /// Open connections.
    ConnectionMax,
    /// Consumers of one channel.
    ConsumerMaxPerChannel,
    /// Sockets for which descriptors are left.
    Descriptors,
    /// A frame's size, once tuned.
    FrameMax,
    /// Connections that have not logged in.
    HalfOpenMax,
    /// Those of one address.
    HalfOpenMaxPerAddress,
    /// The time from connecting to connection.open.
    HandshakeTimeout,
    /// A frame's size before that.
    InitialFrameMax,
    /// Failed logins of one address.
    LoginFailuresPerMinute,
    /// A message's size.
    MaxMessageSize,
    /// What waits for a requester that does not read its replies.
    ReplyBacklog,
    /// Vhosts of the node.
    VhostMax,
}

impl Limit {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 16] = [
        Self::ChannelMax,
        Self::ChannelMaxPerNode,
        Self::ClusterExchangeLimit,
        Self::ClusterQueueLimit,
        Self::ConnectionMax,
        Self::ConsumerMaxPerChannel,
        Self::Descriptors,
        Self::FrameMax,
        Self::HalfOpenMax,
        Self::HalfOpenMaxPerAddress,
        Self::HandshakeTimeout,
        Self::InitialFrameMax,
        Self::LoginFailuresPerMinute,
        Self::MaxMessageSize,
        Self::ReplyBacklog,
        Self::VhostMax,
    ];

    /// The configuration key that sets it, or what it is called where none does.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ChannelMax => "channel_max",
            Self::ChannelMaxPerNode => "channel_max_per_node",
            Self::ClusterExchangeLimit => "cluster_exchange_limit",
            Self::ClusterQueueLimit => "cluster_queue_limit",
            Self::ConnectionMax => "connection_max",
            Self::ConsumerMaxPerChannel => "consumer_max_per_channel",
            Self::Descriptors => "descriptors",
            Self::FrameMax => "frame_max",
            Self::HalfOpenMax => "leveret.half_open.max",
            Self::HalfOpenMaxPerAddress => "leveret.half_open.max_per_address",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::InitialFrameMax => "initial_frame_max",
            Self::LoginFailuresPerMinute => "leveret.login.failures_per_minute",
            Self::MaxMessageSize => "max_message_size",
            Self::ReplyBacklog => "reply_backlog",
            Self::VhostMax => "vhost_max",
        }
    }

    /// The limit that a refusal (by its id in `spec/errors.toml`) enforces, if that is its only
    /// sense. Which limit a frame is too large for depends on when it comes.
    #[must_use]
    pub fn of_refusal(id: &str) -> Option<Self> {
        Some(match id {
            "basic.consumer-max" => Self::ConsumerMaxPerChannel,
            "basic.message-too-large" | "content.announced-too-large" => Self::MaxMessageSize,
            "channel.max-reached" => Self::ChannelMax,
            "channel.node-limit" => Self::ChannelMaxPerNode,
            "connection.node-limit" => Self::ConnectionMax,
            "exchange.cluster-limit" => Self::ClusterExchangeLimit,
            "queue.cluster-limit" => Self::ClusterQueueLimit,
            _ => return None,
        })
    }
}

/// How often each limit was hit since the node started.
#[derive(Debug, Default)]
pub struct LimitHits {
    hits: [AtomicU64; Limit::ALL.len()],
    said: [Seldom; Limit::ALL.len()],
}

impl LimitHits {
    /// A limit was hit.
    pub fn note(&self, limit: Limit) {
        self.hits[limit as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// A limit was hit that clients can hit as often as they like. How often it was since the log
    /// last said so, if it is to say so now.
    pub fn note_aloud(&self, limit: Limit, now: Now) -> Option<u64> {
        self.note(limit);
        self.said[limit as usize].happened(now)
    }

    /// How often a limit was hit.
    #[must_use]
    pub fn of(&self, limit: Limit) -> u64 {
        self.hits[limit as usize].load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_hit_often_is_counted_each_time_and_said_once_a_second() {
        let hits = LimitHits::default();
        let hit = |limit, mono_ms| hits.note_aloud(limit, Now { mono_ms, unix_ms: 0 });
        assert_eq!(hit(Limit::ChannelMax, 0), Some(1));
        assert_eq!(hit(Limit::ChannelMax, 500), None);
        assert_eq!(hit(Limit::MaxMessageSize, 500), Some(1), "another limit");
        assert_eq!(hit(Limit::ChannelMax, 1_000), Some(2));
        assert_eq!(hits.of(Limit::ChannelMax), 3);
    }

    #[test]
    fn every_limit_has_a_counter_of_its_own() {
        let hits = LimitHits::default();
        for (place, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, place, "{}", limit.name());
            hits.note(limit);
        }
        assert!(Limit::ALL.into_iter().all(|limit| hits.of(limit) == 1));
    }
}
