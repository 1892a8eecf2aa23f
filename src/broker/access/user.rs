//! A user: a name, a password's hash, tags, and limits.

use std::collections::BTreeMap;

use super::password::{Hashing, PasswordHash};
use crate::broker::definitions::{DefinitionError, DefinitionKey, Record};
use crate::protocol::table::{Table, Value};
use crate::store::Op;

/// The tag of those who may do everything that can be done over HTTP.
pub const ADMINISTRATOR: &str = "administrator";
/// The tag of those who may publish in others' names.
pub const IMPERSONATOR: &str = "impersonator";

/// Someone who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// The password's hash.
    pub password: PasswordHash,
    /// RabbitMQ's tags ("administrator", "monitoring", "management", "policymaker",
    /// "impersonator"), and any others.
    pub tags: Vec<String>,
    /// What they may have open at once.
    pub limits: UserLimits,
}

/// What a user may have open at once; `None` and less than nothing are no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UserLimits {
    /// Connections.
    pub connections_max: Option<i64>,
    /// Channels.
    pub channels_max: Option<i64>,
}

/// What a vhost may hold; `None` and less than nothing are no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VhostLimits {
    /// Connections.
    pub connections_max: Option<i64>,
    /// Queues.
    pub queues_max: Option<i64>,
}

/// Limits that definitions name.
pub trait NamedLimits: Copy + Default {
    /// The names, as RabbitMQ has them.
    const NAMES: [&'static str; 2];

    /// The limit of this name.
    fn limit(&mut self, name: &str) -> Option<&mut Option<i64>>;

    /// Those that are set, by name.
    #[must_use]
    fn set(mut self) -> BTreeMap<&'static str, i64> {
        let named = |name: &'static str| Some((name, (*self.limit(name)?)?));
        Self::NAMES.into_iter().filter_map(named).collect()
    }

    /// As a record keeps them.
    #[must_use]
    fn to_table(self) -> Table {
        let set = self.set().into_iter();
        set.fold(Table::new(), |table, (name, n)| table.with(name, Value::I64(n)))
    }

    /// As a record keeps them.
    #[must_use]
    fn from_table(table: &Table) -> Self {
        let mut limits = Self::default();
        for name in Self::NAMES {
            if let Some(limit) = limits.limit(name) {
                *limit = table.get(name).and_then(Value::as_integer);
            }
        }
        limits
    }
}

impl NamedLimits for UserLimits {
    const NAMES: [&'static str; 2] = ["max-connections", "max-channels"];

    fn limit(&mut self, name: &str) -> Option<&mut Option<i64>> {
        match name {
            "max-connections" => Some(&mut self.connections_max),
            "max-channels" => Some(&mut self.channels_max),
            _ => None,
        }
    }
}

impl NamedLimits for VhostLimits {
    const NAMES: [&'static str; 2] = ["max-connections", "max-queues"];

    fn limit(&mut self, name: &str) -> Option<&mut Option<i64>> {
        match name {
            "max-connections" => Some(&mut self.connections_max),
            "max-queues" => Some(&mut self.queues_max),
            _ => None,
        }
    }
}

impl User {
    /// Whether they carry a tag.
    #[must_use]
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|own| own == tag)
    }

    /// The operation that stores the user.
    #[must_use]
    pub fn put(&self) -> Op {
        let record = Record::default()
            .with("algorithm", self.password.hashing().name().into())
            .with("hash", Value::LongStr(self.password.bytes().to_vec()))
            .with("tags", Value::LongStr(self.tags.join(",").into_bytes()))
            .with("limits", Value::Table(self.limits.to_table()));
        DefinitionKey::User { name: self.name.clone() }.put(record)
    }

    /// The operation that forgets a user.
    #[must_use]
    pub fn delete(name: &str) -> Op {
        DefinitionKey::User { name: name.to_owned() }.delete()
    }

    pub(in crate::broker) fn from_record(
        name: String,
        record: &Record,
    ) -> Result<Self, DefinitionError> {
        let algorithm = record.text("algorithm")?;
        let hashing = Hashing::from_name(algorithm)
            .ok_or_else(|| DefinitionError(format!("unknown password hashing '{algorithm}'")))?;
        let password = PasswordHash::from_bytes(hashing, record.bytes("hash")?.to_vec())
            .map_err(|error| DefinitionError(error.to_string()))?;
        let tags = record.text("tags")?.split(',').filter(|tag| !tag.is_empty());
        let tags = tags.map(str::to_owned).collect();
        let limits = record.table("limits").map(UserLimits::from_table).unwrap_or_default();
        Ok(Self { name, password, tags, limits })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_user_reads_back_as_it_was() {
        for hashing in Hashing::ALL {
            let user = User {
                name: "app".into(),
                password: PasswordHash::new(hashing, b"secret", |salt| salt.fill(3)),
                tags: vec!["monitoring".into(), "mine".into()],
                limits: UserLimits { connections_max: Some(3), channels_max: None },
            };
            let Op::PutMeta { value, .. } = user.put() else { panic!("a definition is stored") };
            let record = Record::decode(&value).unwrap();
            assert_eq!(User::from_record("app".into(), &record).unwrap(), user);
        }
    }
}
