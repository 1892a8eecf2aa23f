//! Queue arguments: what they mean, which values they take, and when two declarations are the same.
//!
//! Owns `spec/arguments.toml`'s behaviour. A declaration is understood once, into [`QueueArgs`];
//! the table itself is kept as declared, for equivalence checks and for operators.

use std::sync::Arc;

use super::dedup::DedupArgs;
use super::rules::{DeadLetterStrategy, Wishes};
use crate::broker::dedup::{CACHE_SIZE, CACHE_SIZE_MAX, CACHE_TTL, DEDUPLICATION, HEADER};
use crate::broker::trigger::declared::{TriggerType, TriggerWishes};
use crate::protocol::table::{Table, Value};
use crate::store::Durability;

/// Kinds of queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueueKind {
    /// The default.
    #[default]
    Classic,
    /// Always durable, stores every message, limits deliveries.
    Quorum,
}

impl QueueKind {
    /// As written in `x-queue-type`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Quorum => "quorum",
        }
    }

    /// As RabbitMQ prints it in refusals.
    #[must_use]
    pub fn module(self) -> &'static str {
        match self {
            Self::Classic => "rabbit_classic_queue",
            Self::Quorum => "rabbit_quorum_queue",
        }
    }
}

/// What a full queue does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// Drops (or dead-letters) from its head.
    #[default]
    DropHead,
    /// Refuses the new message; a publisher in confirm mode gets a nack.
    RejectPublish,
    /// The same, and the refused message is dead-lettered.
    RejectPublishDlx,
}

impl Overflow {
    /// What `x-overflow` or a policy's `overflow` says.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        match name {
            b"drop-head" => Some(Self::DropHead),
            b"reject-publish" => Some(Self::RejectPublish),
            b"reject-publish-dlx" => Some(Self::RejectPublishDlx),
            _ => None,
        }
    }
}

/// The arguments of a queue, understood.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueArgs {
    /// `x-queue-type`.
    pub kind: QueueKind,
    /// `x-max-priority`.
    pub priority_max: Option<u8>,
    /// `x-single-active-consumer`.
    pub single_active_consumer: bool,
    /// `x-message-groups`: messages of one group leave one after the other.
    pub message_groups: bool,
    /// `x-message-deduplication` and what belongs to it.
    pub deduplication: Option<Box<DedupArgs>>,
    /// What policies can ask for, too; most queues ask for nothing.
    pub wishes: Option<Box<Wishes>>,
}

/// The longest time that RabbitMQ accepts for a TTL or an expiry: ten years.
pub const DURATION_MS_MAX: i64 = 315_360_000_000;

/// Why an argument was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ArgumentError {
    /// Its value is not acceptable; the reason is in RabbitMQ's notation.
    Invalid {
        /// The argument.
        argument: &'static str,
        /// Why.
        reason: String,
    },
    /// The dead-letter exchange is not named by a string.
    NotAName {
        /// The argument.
        argument: &'static str,
        /// The type it has.
        type_name: &'static str,
    },
    /// It belongs to another kind of queue.
    WrongKind {
        /// The argument.
        argument: String,
        /// This queue's kind.
        kind: QueueKind,
    },
}

const COMMON: &[&str] = &[
    "x-queue-type",
    "x-expires",
    "x-message-ttl",
    "x-max-length",
    "x-max-length-bytes",
    "x-overflow",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-single-active-consumer",
    "x-queue-leader-locator",
    "x-message-groups",
    "x-durability",
    "x-trigger-type",
    "x-trigger-depth",
    "x-trigger-min-priority",
    "x-trigger-max-wait",
    "x-trigger-process",
    "x-trigger-data",
    "x-initiation-exchange",
    DEDUPLICATION,
    CACHE_SIZE,
    CACHE_TTL,
    HEADER,
];
const CLASSIC_ONLY: &[&str] =
    &["x-max-priority", "x-queue-mode", "x-queue-version", "x-queue-master-locator"];
const QUORUM_ONLY: &[&str] = &[
    "x-delivery-limit",
    "x-quorum-initial-group-size",
    "x-max-in-memory-length",
    "x-max-in-memory-bytes",
    "x-dead-letter-strategy",
];
const STREAM_ONLY: &[&str] = &[
    "x-max-age",
    "x-stream-max-segment-size-bytes",
    "x-stream-filter-size-bytes",
    "x-initial-cluster-size",
];

impl QueueArgs {
    /// The highest of its levels of messages.
    #[must_use]
    pub fn level_max(&self) -> u8 {
        self.priority_max.unwrap_or(0)
    }

    /// Understands the arguments of a declaration.
    ///
    /// # Errors
    /// At the first argument whose type or value RabbitMQ would refuse. Unknown arguments pass.
    pub fn parse(table: &Table) -> Result<Self, ArgumentError> {
        // RabbitMQ looks at this one before all others.
        if let Some(other) =
            table.get("x-dead-letter-exchange").filter(|value| value.as_long_str().is_none())
        {
            let argument = "x-dead-letter-exchange";
            return Err(ArgumentError::NotAName { argument, type_name: other.type_name() });
        }
        let kind = parse_kind(table)?;
        let foreign: &[&[&str]] = match kind {
            QueueKind::Classic => &[QUORUM_ONLY, STREAM_ONLY],
            QueueKind::Quorum => &[CLASSIC_ONLY, STREAM_ONLY],
        };
        for argument in foreign.iter().copied().flatten() {
            if table.get(argument).is_some() {
                return Err(ArgumentError::WrongKind { argument: (*argument).into(), kind });
            }
        }
        let wishes = Wishes {
            expires_ms: duration(table, "x-expires", 1)?,
            message_ttl_ms: duration(table, "x-message-ttl", 0)?,
            length_max: non_negative(table, "x-max-length")?,
            length_bytes_max: non_negative(table, "x-max-length-bytes")?,
            overflow: parse_overflow(table, kind)?,
            dead_letter_exchange: text(table, "x-dead-letter-exchange")?
                .map(|name| String::from_utf8_lossy(name).into()),
            dead_letter_routing_key: text(table, "x-dead-letter-routing-key")?.map(Arc::from),
            dead_letter_strategy: word(
                table,
                "x-dead-letter-strategy",
                DeadLetterStrategy::from_name,
                "invalid_dlx_strategy",
            )?,
            delivery_limit: integer(table, "x-delivery-limit")?,
            ack_ms_max: None,
            trigger: parse_trigger(table)?,
            durability: word(table, "x-durability", Durability::from_name, "invalid_durability")?,
        };
        let args = Self {
            kind,
            priority_max: parse_priority(table)?,
            single_active_consumer: flag(table, "x-single-active-consumer")?,
            message_groups: flag(table, "x-message-groups")?,
            deduplication: parse_deduplication(table)?.map(Box::new),
            wishes: None,
        };
        if wishes.dead_letter_routing_key.is_some() && wishes.dead_letter_exchange.is_none() {
            return Err(invalid("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined"));
        }
        for argument in ["x-queue-leader-locator", "x-queue-master-locator"] {
            text(table, argument)?;
        }
        if let Some(mode) = text(table, "x-queue-mode")?
            && !matches!(mode, b"default" | b"lazy")
        {
            let mode = String::from_utf8_lossy(mode);
            return Err(invalid("x-queue-mode", format!("\"unsupported queue mode '{mode}'\"")));
        }
        if let Some(version) = integer(table, "x-queue-version")?
            && !matches!(version, 1 | 2)
        {
            let reason = format!("\"unsupported queue version '{version}'\"");
            return Err(invalid("x-queue-version", reason));
        }
        let wishes = (wishes != Wishes::default()).then(|| Box::new(wishes));
        Ok(Self { wishes, ..args })
    }
}

/// The first argument known to this kind of queue whose value differs between two declarations,
/// with the received and the current value as RabbitMQ prints them.
#[must_use]
pub fn inequivalent(
    kind: QueueKind,
    received: &Table,
    current: &Table,
) -> Option<(&'static str, String, String)> {
    let own = match kind {
        QueueKind::Classic => CLASSIC_ONLY,
        QueueKind::Quorum => QUORUM_ONLY,
    };
    for argument in COMMON.iter().chain(own).copied() {
        // A type that is not named is the classic one, and RabbitMQ shows it as if it were named.
        let classic = Value::LongStr(b"classic".to_vec());
        let or_default = |table: &Table| match table.get(argument) {
            None if argument == "x-queue-type" => Some(classic.clone()),
            value => value.cloned(),
        };
        let (new, old) = (or_default(received), or_default(current));
        let (new, old) = (new.as_ref(), old.as_ref());
        let same = match (new, old) {
            (None, None) => true,
            (Some(new), Some(old)) => same_value(new, old),
            _ => false,
        };
        if !same {
            let (received, current) = printed(new, old);
            return Some((argument, received, current));
        }
    }
    None
}

/// Equal as RabbitMQ compares arguments: integers of any width by value, else type and value.
fn same_value(a: &Value, b: &Value) -> bool {
    match (a.as_integer(), b.as_integer()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// A received and a current argument as RabbitMQ prints them when they differ: the values alone
/// when both are there, else the one that is with its type, and "none".
#[must_use]
pub fn printed(received: Option<&Value>, current: Option<&Value>) -> (String, String) {
    let typed = |value: Option<&Value>| {
        value.map_or_else(
            || "none".to_owned(),
            |value| format!("the value '{}' of type '{}'", shown(value), value.type_name()),
        )
    };
    match (received, current) {
        (Some(received), Some(current)) => {
            (format!("'{}'", shown(received)), format!("'{}'", shown(current)))
        }
        _ => (typed(received), typed(current)),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Bool(b) => b.to_string(),
        _ => match (value.as_integer(), value.as_str()) {
            (Some(n), _) => n.to_string(),
            (None, Some(text)) => text.into(),
            (None, None) => format!("{value:?}"),
        },
    }
}

fn parse_kind(table: &Table) -> Result<QueueKind, ArgumentError> {
    match text(table, "x-queue-type")? {
        None | Some(b"classic") => Ok(QueueKind::Classic),
        Some(b"quorum") => Ok(QueueKind::Quorum),
        Some(other) => {
            let other = String::from_utf8_lossy(other);
            Err(invalid("x-queue-type", format!("\"unsupported queue type '{other}'\"")))
        }
    }
}

/// One of a few words; any other is refused as `otherwise`.
fn word<T>(
    table: &Table,
    argument: &'static str,
    meaning: fn(&[u8]) -> Option<T>,
    otherwise: &str,
) -> Result<Option<T>, ArgumentError> {
    let word = text(table, argument)?;
    word.map(|word| meaning(word).ok_or_else(|| invalid(argument, otherwise))).transpose()
}

fn parse_overflow(table: &Table, kind: QueueKind) -> Result<Option<Overflow>, ArgumentError> {
    let (argument, otherwise) = ("x-overflow", "invalid_overflow");
    match (word(table, argument, Overflow::from_name, otherwise)?, kind) {
        (Some(Overflow::RejectPublishDlx), QueueKind::Quorum) => Err(invalid(argument, otherwise)),
        (overflow, _) => Ok(overflow),
    }
}

fn parse_priority(table: &Table) -> Result<Option<u8>, ArgumentError> {
    let Some(n) = non_negative(table, "x-max-priority")? else { return Ok(None) };
    u8::try_from(n)
        .map(Some)
        .map_err(|_| invalid("x-max-priority", format!("{{max_value_exceeded,{n}}}")))
}

fn parse_trigger(table: &Table) -> Result<TriggerWishes, ArgumentError> {
    let named = |argument| {
        let name = text(table, argument)?;
        Ok::<_, ArgumentError>(name.map(|name| Arc::from(&*String::from_utf8_lossy(name))))
    };
    let otherwise = "invalid_trigger_type";
    let duration_max = DURATION_MS_MAX.unsigned_abs();
    let min_priority = within(table, "x-trigger-min-priority", 0, 255)?;
    let trigger = TriggerWishes {
        kind: word(table, "x-trigger-type", TriggerType::from_name, otherwise)?,
        depth: positive(table, "x-trigger-depth", u64::MAX)?,
        min_priority: min_priority.map(|n| u8::try_from(n).unwrap_or(u8::MAX)),
        max_wait_ms: positive(table, "x-trigger-max-wait", duration_max)?,
        process: named("x-trigger-process")?,
        data: named("x-trigger-data")?,
        initiation_exchange: named("x-initiation-exchange")?,
    };
    if trigger.kind == Some(TriggerType::Depth) && trigger.depth.is_none() {
        return Err(invalid("x-trigger-type", "depth_but_no_trigger_depth_defined"));
    }
    Ok(trigger)
}

fn parse_deduplication(table: &Table) -> Result<Option<DedupArgs>, ArgumentError> {
    let args = DedupArgs {
        cache_size: positive(table, CACHE_SIZE, CACHE_SIZE_MAX)?,
        cache_ttl_ms: positive(table, CACHE_TTL, DURATION_MS_MAX.unsigned_abs())?,
        header: text(table, HEADER)?.map(|name| String::from_utf8_lossy(name).into_owned()),
    };
    Ok(flag(table, DEDUPLICATION)?.then_some(args))
}

fn text<'t>(table: &'t Table, name: &'static str) -> Result<Option<&'t [u8]>, ArgumentError> {
    let Some(value) = table.get(name) else { return Ok(None) };
    value
        .as_long_str()
        .map(Some)
        .ok_or_else(|| invalid(name, format!("{{unacceptable_type,{}}}", value.type_name())))
}

fn flag(table: &Table, name: &'static str) -> Result<bool, ArgumentError> {
    match table.get(name) {
        None => Ok(false),
        Some(Value::Bool(set)) => Ok(*set),
        Some(other) => Err(invalid(name, format!("{{unacceptable_type,{}}}", other.type_name()))),
    }
}

fn integer(table: &Table, name: &'static str) -> Result<Option<i64>, ArgumentError> {
    let Some(value) = table.get(name) else { return Ok(None) };
    value
        .as_integer()
        .map(Some)
        .ok_or_else(|| invalid(name, format!("\"expected integer, got {}\"", value.type_name())))
}

fn non_negative(table: &Table, name: &'static str) -> Result<Option<u64>, ArgumentError> {
    let Some(n) = integer(table, name)? else { return Ok(None) };
    u64::try_from(n).map(Some).map_err(|_| invalid(name, format!("{{value_negative,{n}}}")))
}

fn duration(table: &Table, name: &'static str, min: u64) -> Result<Option<u64>, ArgumentError> {
    within(table, name, min, DURATION_MS_MAX.unsigned_abs())
}

fn positive(table: &Table, name: &'static str, max: u64) -> Result<Option<u64>, ArgumentError> {
    within(table, name, 1, max)
}

fn within(
    table: &Table,
    name: &'static str,
    min: u64,
    max: u64,
) -> Result<Option<u64>, ArgumentError> {
    let Some(n) = non_negative(table, name)? else { return Ok(None) };
    if n < min {
        return Err(invalid(name, format!("{{value_zero,{n}}}")));
    }
    if n > max {
        return Err(invalid(name, format!("{{value_too_large,{n}}}")));
    }
    Ok(Some(n))
}

fn invalid(argument: &'static str, reason: impl Into<String>) -> ArgumentError {
    ArgumentError::Invalid { argument, reason: reason.into() }
}
