//! Definitions as they are stored: what outlives a restart besides messages.
//!
//! Owns the records' keys and values. A key is a kind and names, each with its length, so no name
//! can imitate another's key. A value is an AMQP field table with a version: our own codec reads
//! and writes it, and fields can be added. Arguments are kept in it as bytes, so that whatever the
//! codec took from a client fits a record.

use crate::broker::access::{NamedLimits as _, VhostLimits};
use crate::broker::policy::PolicyKind;
use crate::broker::vhost::ExchangeSpec;
use crate::protocol::table::{RawTable, Table, Value};
use crate::store::Op;

const VERSION: i32 = 1;

/// What a definition's key says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DefinitionKey {
    /// A policy. They come back first: what is declared in their vhost looks at them.
    Policy {
        /// Its vhost.
        vhost: String,
        /// Whose it is.
        kind: PolicyKind,
        /// Its name.
        name: String,
    },
    /// The id that the next queue gets.
    NextQueueId,
    /// A user.
    User {
        /// Its name.
        name: String,
    },
    /// A vhost.
    Vhost {
        /// Its name.
        name: String,
    },
    /// What a user may do in a vhost.
    Permission {
        /// The user.
        user: String,
        /// The vhost.
        vhost: String,
    },
    /// Which routing keys a user may use with a topic exchange.
    TopicPermission {
        /// The user.
        user: String,
        /// The vhost.
        vhost: String,
        /// The exchange.
        exchange: String,
    },
    /// An exchange.
    Exchange {
        /// Its vhost.
        vhost: String,
        /// Its name.
        name: String,
    },
    /// A queue.
    Queue {
        /// Its vhost.
        vhost: String,
        /// Its name.
        name: String,
    },
    /// A binding.
    Binding(BindingKey),
    /// A trigger.
    Trigger {
        /// Its vhost.
        vhost: String,
        /// Its name.
        name: String,
    },
    /// The highest number of a publisher's sequence that a queue has taken.
    Publisher {
        /// The queue's id.
        queue: u64,
        /// The publisher's name.
        name: Vec<u8>,
    },
}

/// A binding, by names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingKey {
    /// Its vhost.
    pub vhost: String,
    /// The exchange it starts from.
    pub source: String,
    /// Where it leads.
    pub destination: DestinationName,
    /// The binding key.
    pub routing_key: Vec<u8>,
    /// The arguments, encoded.
    pub arguments: Vec<u8>,
}

/// The end of a binding, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DestinationName {
    /// A queue.
    Queue(String),
    /// An exchange.
    Exchange(String),
}

/// A definition that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("definition record: {0}")]
pub struct DefinitionError(pub String);

impl std::fmt::Display for DefinitionKey {
    /// As an operator would call what is kept under the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Policy { vhost, name, .. } => write!(f, "policy '{name}' in vhost '{vhost}'"),
            Self::NextQueueId => f.write_str("the next queue's id"),
            Self::User { name } => write!(f, "user '{name}'"),
            Self::Vhost { name } => write!(f, "vhost '{name}'"),
            Self::Permission { user, vhost } => {
                write!(f, "permission of user '{user}' in vhost '{vhost}'")
            }
            Self::TopicPermission { user, vhost, exchange } => {
                let on = format!("exchange '{exchange}' in vhost '{vhost}'");
                write!(f, "topic permission of user '{user}' on {on}")
            }
            Self::Publisher { queue, name } => {
                let name = String::from_utf8_lossy(name);
                write!(f, "sequence of publisher '{name}' in queue {queue}")
            }
            Self::Exchange { vhost, name } => write!(f, "exchange '{name}' in vhost '{vhost}'"),
            Self::Queue { vhost, name } => write!(f, "queue '{name}' in vhost '{vhost}'"),
            Self::Trigger { vhost, name } => write!(f, "trigger '{name}' in vhost '{vhost}'"),
            Self::Binding(binding) => {
                let (kind, name) = match &binding.destination {
                    DestinationName::Queue(name) => ("queue", name),
                    DestinationName::Exchange(name) => ("exchange", name),
                };
                let BindingKey { vhost, source, .. } = binding;
                write!(f, "binding from exchange '{source}' to {kind} '{name}' in vhost '{vhost}'")
            }
        }
    }
}

impl DefinitionKey {
    /// The key's bytes. Kinds sort so that what others refer to comes first.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut put = |kind: u8, fields: &[&[u8]]| {
            out.push(kind);
            for field in fields {
                let len = u32::try_from(field.len()).expect("invariant: names fit a frame");
                out.extend_from_slice(&len.to_be_bytes());
                out.extend_from_slice(field);
            }
        };
        match self {
            Self::Policy { vhost, kind: PolicyKind::User, name } => {
                put(b'P', &[vhost.as_bytes(), b"user", name.as_bytes()]);
            }
            Self::Policy { vhost, kind: PolicyKind::Operator, name } => {
                put(b'P', &[vhost.as_bytes(), b"operator", name.as_bytes()]);
            }
            Self::NextQueueId => put(b'a', &[]),
            Self::User { name } => put(b'b', &[name.as_bytes()]),
            Self::Vhost { name } => put(b'c', &[name.as_bytes()]),
            Self::Permission { user, vhost } => put(b'd', &[user.as_bytes(), vhost.as_bytes()]),
            Self::TopicPermission { user, vhost, exchange } => {
                put(b't', &[user.as_bytes(), vhost.as_bytes(), exchange.as_bytes()]);
            }
            Self::Exchange { vhost, name } => put(b'e', &[vhost.as_bytes(), name.as_bytes()]),
            Self::Queue { vhost, name } => put(b'f', &[vhost.as_bytes(), name.as_bytes()]),
            Self::Trigger { vhost, name } => put(b'i', &[vhost.as_bytes(), name.as_bytes()]),
            Self::Publisher { queue, name } => put(b'h', &[&queue.to_be_bytes(), name]),
            Self::Binding(binding) => {
                let (kind, name): (&[u8], _) = match &binding.destination {
                    DestinationName::Queue(name) => (b"q", name),
                    DestinationName::Exchange(name) => (b"e", name),
                };
                put(
                    b'g',
                    &[
                        binding.vhost.as_bytes(),
                        binding.source.as_bytes(),
                        kind,
                        name.as_bytes(),
                        &binding.routing_key,
                        &binding.arguments,
                    ],
                );
            }
        }
        out
    }

    /// Reads a key back.
    ///
    /// # Errors
    /// When the bytes are no key of a known kind.
    pub fn decode(bytes: &[u8]) -> Result<Self, DefinitionError> {
        let bad = || DefinitionError(format!("unreadable key {bytes:02x?}"));
        let (&kind, rest) = bytes.split_first().ok_or_else(bad)?;
        let fields = split_fields(rest).ok_or_else(bad)?;
        let text = |at: usize| {
            let field = fields.get(at).ok_or_else(bad)?;
            String::from_utf8(field.to_vec()).map_err(|_| bad())
        };
        match (kind, fields.len()) {
            (b'P', 3) => {
                let kind = match fields[1] {
                    b"user" => PolicyKind::User,
                    b"operator" => PolicyKind::Operator,
                    _ => return Err(bad()),
                };
                Ok(Self::Policy { vhost: text(0)?, kind, name: text(2)? })
            }
            (b'a', 0) => Ok(Self::NextQueueId),
            (b'b', 1) => Ok(Self::User { name: text(0)? }),
            (b'c', 1) => Ok(Self::Vhost { name: text(0)? }),
            (b'd', 2) => Ok(Self::Permission { user: text(0)?, vhost: text(1)? }),
            (b't', 3) => {
                Ok(Self::TopicPermission { user: text(0)?, vhost: text(1)?, exchange: text(2)? })
            }
            (b'e', 2) => Ok(Self::Exchange { vhost: text(0)?, name: text(1)? }),
            (b'f', 2) => Ok(Self::Queue { vhost: text(0)?, name: text(1)? }),
            (b'i', 2) => Ok(Self::Trigger { vhost: text(0)?, name: text(1)? }),
            (b'h', 2) => Ok(Self::Publisher {
                queue: u64::from_be_bytes(fields[0].try_into().map_err(|_| bad())?),
                name: fields[1].to_vec(),
            }),
            (b'g', 6) => Ok(Self::Binding(BindingKey {
                vhost: text(0)?,
                source: text(1)?,
                destination: match fields[2] {
                    b"q" => DestinationName::Queue(text(3)?),
                    b"e" => DestinationName::Exchange(text(3)?),
                    _ => return Err(bad()),
                },
                routing_key: fields[4].to_vec(),
                arguments: fields[5].to_vec(),
            })),
            _ => Err(bad()),
        }
    }

    /// The operation that keeps `record` under this key.
    #[must_use]
    pub fn put(&self, record: Record) -> Op {
        Op::PutMeta { key: self.encode(), value: record.encode() }
    }

    /// The operation that forgets this key.
    #[must_use]
    pub fn delete(&self) -> Op {
        Op::DelMeta { key: self.encode() }
    }
}

fn split_fields(mut rest: &[u8]) -> Option<Vec<&[u8]>> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (len, tail) = rest.split_first_chunk::<4>()?;
        let (field, tail) = tail.split_at_checked(u32::from_be_bytes(*len) as usize)?;
        fields.push(field);
        rest = tail;
    }
    Some(fields)
}

/// A definition's value.
#[derive(Debug, Clone, PartialEq)]
pub struct Record(Table);

impl Default for Record {
    fn default() -> Self {
        let mut table = Table::default();
        table.insert("v", Value::I32(VERSION));
        Self(table)
    }
}

impl Record {
    /// Adds a field.
    #[must_use]
    pub fn with(mut self, name: &str, value: Value) -> Self {
        self.0.insert(name, value);
        self
    }

    /// Reads a value back.
    ///
    /// # Errors
    /// When the bytes are no table, or one of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, DefinitionError> {
        let raw = RawTable::parse(bytes)
            .map_err(|error| DefinitionError(format!("unreadable value: {error}")))?;
        let table = raw.to_table();
        match table.get("v").and_then(Value::as_integer) {
            Some(version) if version == i64::from(VERSION) => Ok(Self(table)),
            version => Err(DefinitionError(format!("unknown version {version:?}"))),
        }
    }

    /// Whether there is a field of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.get(name).is_some()
    }

    /// A flag; absent is false.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A number.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn number(&self, name: &str) -> Result<u64, DefinitionError> {
        u64::try_from(self.integer(name)?)
            .map_err(|_| DefinitionError(format!("number {name} is negative")))
    }

    /// A number that may be negative.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn integer(&self, name: &str) -> Result<i64, DefinitionError> {
        let integer = self.0.get(name).and_then(Value::as_integer);
        integer.ok_or_else(|| DefinitionError(format!("number {name} is missing")))
    }

    /// A text.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn text(&self, name: &str) -> Result<&str, DefinitionError> {
        self.0
            .get(name)
            .and_then(Value::as_str)
            .ok_or_else(|| DefinitionError(format!("text {name} is missing")))
    }

    /// Bytes.
    ///
    /// # Errors
    /// When there are none of that name.
    pub fn bytes(&self, name: &str) -> Result<&[u8], DefinitionError> {
        self.0
            .get(name)
            .and_then(Value::as_long_str)
            .ok_or_else(|| DefinitionError(format!("field {name} is missing")))
    }

    /// A table.
    #[must_use]
    pub fn table(&self, name: &str) -> Option<&Table> {
        match self.0.get(name) {
            Some(Value::Table(table)) => Some(table),
            _ => None,
        }
    }

    /// The arguments that something was declared with.
    ///
    /// # Errors
    /// When there are none, or they cannot be read.
    pub fn arguments(&self) -> Result<Table, DefinitionError> {
        read_arguments(self.bytes("arguments")?)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.0.encode_body(&mut out);
        out
    }
}

/// The operation that keeps a vhost.
#[must_use]
pub fn put_vhost(name: &str, limits: VhostLimits) -> Op {
    let record = Record::default().with("limits", Value::Table(limits.to_table()));
    DefinitionKey::Vhost { name: name.to_owned() }.put(record)
}

/// An exchange's record, with the id of the queue that keeps its delayed messages, if it has one.
#[must_use]
pub fn exchange_record(spec: &ExchangeSpec, delayed: Option<u64>) -> Record {
    let record = match delayed {
        Some(id) => Record::default().with("delayed", number_value(id)),
        None => Record::default(),
    };
    record
        .with("type", Value::LongStr(spec.kind.name().as_bytes().to_vec()))
        .with("auto_delete", Value::Bool(spec.auto_delete))
        .with("internal", Value::Bool(spec.internal))
        .with("arguments", arguments_value(&spec.arguments))
}

/// A queue's record.
#[must_use]
pub fn queue_record(id: u64, auto_delete: bool, arguments: &Table) -> Record {
    Record::default()
        .with("id", number_value(id))
        .with("auto_delete", Value::Bool(auto_delete))
        .with("arguments", arguments_value(arguments))
}

/// Arguments as a record keeps them.
fn arguments_value(arguments: &Table) -> Value {
    let mut bytes = Vec::new();
    arguments.encode_body(&mut bytes);
    Value::LongStr(bytes)
}

/// Arguments as they are kept in a record or in a binding's key.
///
/// # Errors
/// When they are no table.
pub fn read_arguments(bytes: &[u8]) -> Result<Table, DefinitionError> {
    RawTable::parse_kept(bytes)
        .map(|raw| raw.to_table())
        .map_err(|error| DefinitionError(format!("unreadable arguments: {error}")))
}

/// A number as a record keeps it.
#[must_use]
pub fn number_value(n: u64) -> Value {
    Value::I64(i64::try_from(n).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_as_they_were_and_do_not_collide() {
        let binding = |source: &str, key: &[u8]| {
            DefinitionKey::Binding(BindingKey {
                vhost: "/".into(),
                source: source.into(),
                destination: DestinationName::Queue("q".into()),
                routing_key: key.to_vec(),
                arguments: vec![1, 2, 3],
            })
        };
        let keys = [
            DefinitionKey::NextQueueId,
            DefinitionKey::User { name: "guest".into() },
            DefinitionKey::Vhost { name: "/".into() },
            DefinitionKey::Permission { user: "a".into(), vhost: "bc".into() },
            DefinitionKey::Permission { user: "ab".into(), vhost: "c".into() },
            DefinitionKey::TopicPermission {
                user: "a".into(),
                vhost: "/".into(),
                exchange: "amq.topic".into(),
            },
            DefinitionKey::Exchange { vhost: "/".into(), name: "x\0y".into() },
            DefinitionKey::Queue { vhost: "/".into(), name: String::new() },
            binding("a", b"bc"),
            binding("ab", b"c"),
        ];
        let mut encoded: Vec<Vec<u8>> = keys.iter().map(DefinitionKey::encode).collect();
        for (key, bytes) in keys.iter().zip(&encoded) {
            assert_eq!(&DefinitionKey::decode(bytes).unwrap(), key);
        }
        encoded.sort();
        encoded.dedup();
        assert_eq!(encoded.len(), keys.len());
    }

    #[test]
    fn a_record_of_another_version_is_refused() {
        let mut table = Table::default();
        table.insert("v", Value::I32(2));
        let mut bytes = Vec::new();
        table.encode_body(&mut bytes);
        assert!(Record::decode(&bytes).is_err());
    }
}
