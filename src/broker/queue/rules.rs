//! What a queue obeys: its declaration's wishes and its policies' joined into rules.
//!
//! Owns how they are joined (RabbitMQ's rules): of two numbers the lower counts, in whichever of
//! the three places it stands; what is not a number comes from the declaration, else from the
//! policy, except that an operator policy's overflow beats the user policy's. Rules are made anew
//! whenever a policy changes, and are immutable: whoever holds some may go on with them.

use std::sync::{Arc, LazyLock};

use super::args::{Overflow, QueueKind};
use crate::broker::trigger::declared::TriggerWishes;
use crate::store::Durability;

/// RabbitMQ's default delivery limit of quorum queues since 4.0.
const QUORUM_DELIVERY_LIMIT: i64 = 20;

/// What becomes of a dead letter that reaches no queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLetterStrategy {
    /// It is dropped.
    AtMostOnce,
    /// It waits, and is routed again from time to time.
    AtLeastOnce,
}

impl DeadLetterStrategy {
    /// What `x-dead-letter-strategy` says.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"at-most-once" => Some(Self::AtMostOnce),
            b"at-least-once" => Some(Self::AtLeastOnce),
            _ => None,
        }
    }
}

/// What a declaration or a policy asks for; any part may be missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// `x-message-ttl`, milliseconds.
    pub message_ttl_ms: Option<u64>,
    /// `x-expires`, milliseconds.
    pub expires_ms: Option<u64>,
    /// `x-max-length`, messages.
    pub length_max: Option<u64>,
    /// `x-max-length-bytes`, body bytes.
    pub length_bytes_max: Option<u64>,
    /// `x-overflow`.
    pub overflow: Option<Overflow>,
    /// `x-dead-letter-exchange`.
    pub dead_letter_exchange: Option<Arc<str>>,
    /// `x-dead-letter-routing-key`.
    pub dead_letter_routing_key: Option<Arc<[u8]>>,
    /// `x-delivery-limit`: how often a message may come back; negative is as often as it likes.
    pub delivery_limit: Option<i64>,
    /// `x-dead-letter-strategy`.
    pub dead_letter_strategy: Option<DeadLetterStrategy>,
    /// A policy's `consumer-timeout`, milliseconds; a declaration's is RabbitMQ's own affair.
    pub ack_ms_max: Option<u64>,
    /// `x-durability`.
    pub durability: Option<Durability>,
    /// `x-trigger-type` and what belongs to it.
    pub trigger: TriggerWishes,
}

impl Wishes {
    /// A user policy's wishes under an operator policy's.
    #[must_use]
    pub fn under(&self, operator: &Self) -> Self {
        Self {
            message_ttl_ms: lower(self.message_ttl_ms, operator.message_ttl_ms),
            expires_ms: lower(self.expires_ms, operator.expires_ms),
            length_max: lower(self.length_max, operator.length_max),
            length_bytes_max: lower(self.length_bytes_max, operator.length_bytes_max),
            overflow: operator.overflow.or(self.overflow),
            dead_letter_exchange: self.dead_letter_exchange.clone(),
            dead_letter_routing_key: self.dead_letter_routing_key.clone(),
            dead_letter_strategy: self.dead_letter_strategy,
            delivery_limit: stricter(self.delivery_limit, operator.delivery_limit),
            ack_ms_max: self.ack_ms_max,
            durability: operator.durability.or(self.durability),
            trigger: self.trigger.clone(),
        }
    }
}

/// What a queue obeys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// How long a message may wait, milliseconds.
    pub message_ttl_ms: Option<u64>,
    /// How long the queue may be unused, milliseconds.
    pub expires_ms: Option<u64>,
    /// How many messages may wait.
    pub length_max: Option<u64>,
    /// How many body bytes may wait.
    pub length_bytes_max: Option<u64>,
    /// What it does when it is full.
    pub overflow: Overflow,
    /// Where its dead letters go.
    pub dead_letter_exchange: Option<Arc<str>>,
    /// The key they go with, instead of their own.
    pub dead_letter_routing_key: Option<Arc<[u8]>>,
    /// Whether a dead letter that reaches no queue waits for one.
    pub keeps_dead_letters: bool,
    /// How often a message may come back.
    pub delivery_limit: Option<u32>,
    /// How long a delivery may stay unacknowledged, milliseconds.
    pub ack_ms_max: Option<u64>,
    /// How safe a message must be before its publisher is told; unset, as the store says.
    pub durability: Option<Durability>,
    /// The trigger that it has by itself.
    pub trigger: TriggerWishes,
}

impl Rules {
    /// The rules of a queue of which neither a declaration nor a policy asks for anything: such
    /// queues share them.
    #[must_use]
    pub fn plain(kind: QueueKind) -> Arc<Self> {
        static CLASSIC: LazyLock<Arc<Rules>> = LazyLock::new(|| unasked(QueueKind::Classic));
        static QUORUM: LazyLock<Arc<Rules>> = LazyLock::new(|| unasked(QueueKind::Quorum));
        Arc::clone(match kind {
            QueueKind::Classic => &CLASSIC,
            QueueKind::Quorum => &QUORUM,
        })
    }

    /// The rules of a queue of this kind.
    #[must_use]
    pub fn of(kind: QueueKind, declared: &Wishes, policy: &Wishes) -> Self {
        let overflow = declared.overflow.or(policy.overflow).unwrap_or_default();
        let delivery_limit = stricter(declared.delivery_limit, policy.delivery_limit);
        let dead_letter_exchange =
            declared.dead_letter_exchange.as_ref().or(policy.dead_letter_exchange.as_ref());
        let dead_letter_routing_key =
            declared.dead_letter_routing_key.as_ref().or(policy.dead_letter_routing_key.as_ref());
        let strategy = declared.dead_letter_strategy.or(policy.dead_letter_strategy);
        Self {
            // As in RabbitMQ: a full queue must be able to refuse, for dead letters fill it, too.
            keeps_dead_letters: kind == QueueKind::Quorum
                && strategy == Some(DeadLetterStrategy::AtLeastOnce)
                && overflow == Overflow::RejectPublish
                && dead_letter_exchange.is_some(),
            message_ttl_ms: lower(declared.message_ttl_ms, policy.message_ttl_ms),
            expires_ms: lower(declared.expires_ms, policy.expires_ms),
            length_max: lower(declared.length_max, policy.length_max),
            length_bytes_max: lower(declared.length_bytes_max, policy.length_bytes_max),
            overflow: match (kind, overflow) {
                // Only a policy can ask a quorum queue for it; it falls back to its default.
                (QueueKind::Quorum, Overflow::RejectPublishDlx) => Overflow::DropHead,
                (_, overflow) => overflow,
            },
            dead_letter_exchange: dead_letter_exchange.cloned(),
            dead_letter_routing_key: dead_letter_routing_key.cloned(),
            ack_ms_max: policy.ack_ms_max,
            durability: declared.durability.or(policy.durability),
            trigger: declared.trigger.over(&policy.trigger),
            delivery_limit: match kind {
                QueueKind::Classic => None,
                // A negative limit is none.
                QueueKind::Quorum => {
                    u32::try_from(delivery_limit.unwrap_or(QUORUM_DELIVERY_LIMIT)).ok()
                }
            },
        }
    }

    /// Whether publishes can be refused.
    #[must_use]
    pub fn may_reject(&self) -> bool {
        self.overflow != Overflow::DropHead
            && (self.length_max.is_some() || self.length_bytes_max.is_some())
    }
}

fn unasked(kind: QueueKind) -> Arc<Rules> {
    Arc::new(Rules::of(kind, &Wishes::default(), &Wishes::default()))
}

fn lower(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The lower of two limits where a negative one is no limit: it counts only against nothing.
fn stricter(one: Option<i64>, other: Option<i64>) -> Option<i64> {
    match (one, other) {
        (Some(one), Some(other)) if one < 0 || other < 0 => Some(one.max(other)),
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_numbers_the_lower_counts_and_no_limit_is_the_highest() {
        assert_eq!(lower(Some(3), Some(2)), Some(2));
        assert_eq!(lower(None, Some(2)), Some(2));
        assert_eq!(lower(None, None), None);
        for (one, other, expected) in [(5, 7, 5), (-1, 7, 7), (7, -1, 7), (-1, -2, -1), (0, 3, 0)] {
            assert_eq!(stricter(Some(one), Some(other)), Some(expected), "{one} {other}");
        }
    }

    #[test]
    fn a_declaration_beats_a_policy_where_there_is_no_number_to_compare() {
        let declared = Wishes {
            dead_letter_exchange: Some("declared".into()),
            overflow: Some(Overflow::RejectPublish),
            length_max: Some(10),
            ..Wishes::default()
        };
        let user = Wishes {
            dead_letter_exchange: Some("policy".into()),
            dead_letter_routing_key: Some(b"key"[..].into()),
            overflow: Some(Overflow::DropHead),
            length_max: Some(20),
            message_ttl_ms: Some(500),
            ..Wishes::default()
        };
        let operator = Wishes { length_max: Some(5), ..Wishes::default() };
        let rules = Rules::of(QueueKind::Classic, &declared, &user.under(&operator));
        assert_eq!(rules.dead_letter_exchange.as_deref(), Some("declared"));
        assert_eq!(rules.dead_letter_routing_key.as_deref(), Some(&b"key"[..]));
        assert_eq!((rules.length_max, rules.message_ttl_ms), (Some(5), Some(500)));
        assert_eq!(rules.overflow, Overflow::RejectPublish);
        assert!(rules.may_reject());
    }

    #[test]
    fn only_quorum_queues_limit_deliveries() {
        let none = Wishes::default();
        let five = Wishes { delivery_limit: Some(5), ..Wishes::default() };
        let unlimited = Wishes { delivery_limit: Some(-1), ..Wishes::default() };
        let limit = |kind, declared: &Wishes, policy: &Wishes| {
            Rules::of(kind, declared, policy).delivery_limit
        };
        assert_eq!(limit(QueueKind::Classic, &none, &five), None);
        assert_eq!(limit(QueueKind::Quorum, &none, &none), Some(20));
        assert_eq!(limit(QueueKind::Quorum, &unlimited, &none), None);
        assert_eq!(limit(QueueKind::Quorum, &unlimited, &five), Some(5));
    }
}
