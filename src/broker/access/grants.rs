//! What a user may do in a vhost: three patterns of names, and patterns of routing keys for topic
//! exchanges.
//!
//! Patterns are searched for in the name, not anchored; an empty one is found in the empty name
//! only. In topic patterns `{username}` and `{vhost}` stand for what they say, letter for letter,
//! whatever letters those are.

use std::collections::BTreeMap;

use crate::broker::definitions::{DefinitionError, DefinitionKey, Record};
use crate::broker::pattern::{Pattern, literally};
use crate::protocol::table::Value;
use crate::store::Op;

/// What someone wants to do with an exchange or a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// Create and delete it.
    Configure,
    /// Put messages in, and let others lead to it.
    Write,
    /// Take messages out, and lead from it to others.
    Read,
}

impl Right {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Configure, Self::Write, Self::Read];

    /// Its name in refusals and definitions.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Configure => "configure",
            Self::Write => "write",
            Self::Read => "read",
        }
    }
}

/// A pattern with the text that it was made of.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Written {
    text: String,
    pattern: Pattern,
}

impl Written {
    fn new(text: String, pattern: &str) -> Result<Self, String> {
        let pattern = Pattern::new(if pattern.is_empty() { "^$" } else { pattern })?;
        Ok(Self { text, pattern })
    }
}

/// A user's permissions in a vhost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    patterns: [Written; 3],
}

/// A pattern that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid regular expression '{pattern}': {reason}")]
pub struct PatternError {
    /// As it was given.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Permission {
    /// Patterns of names that may be configured, written to and read from.
    ///
    /// # Errors
    /// When one of them is no regular expression.
    pub fn new([configure, write, read]: [&str; 3]) -> Result<Self, PatternError> {
        let written = |text: &str| {
            let failed = |reason| PatternError { pattern: text.to_owned(), reason };
            Written::new(text.to_owned(), text).map_err(failed)
        };
        Ok(Self { patterns: [written(configure)?, written(write)?, written(read)?] })
    }

    /// Everything.
    #[must_use]
    pub fn full() -> Self {
        Self::new([".*"; 3]).expect("invariant: a regular expression")
    }

    /// The pattern for a right, as it was written.
    #[must_use]
    pub fn text(&self, right: Right) -> &str {
        &self.patterns[right as usize].text
    }

    /// Its patterns as they were written, in the order configure, write, read.
    #[must_use]
    pub fn texts(&self) -> [&str; 3] {
        Right::ALL.map(|right| self.text(right))
    }

    /// Whether it gives a right on what has this name.
    #[must_use]
    pub fn allows(&self, right: Right, name: &str) -> bool {
        self.patterns[right as usize].pattern.is_in(name)
    }

    /// The operation that stores it.
    #[must_use]
    pub fn put(&self, user: &str, vhost: &str) -> Op {
        let record = Right::ALL.into_iter().fold(Record::default(), |record, right| {
            record.with(right.name(), Value::LongStr(self.text(right).as_bytes().to_vec()))
        });
        key(user, vhost).put(record)
    }

    /// The operation that forgets that of a user in a vhost.
    #[must_use]
    pub fn delete(user: &str, vhost: &str) -> Op {
        key(user, vhost).delete()
    }

    pub(in crate::broker) fn from_record(record: &Record) -> Result<Self, DefinitionError> {
        let text = |right: Right| record.text(right.name());
        let patterns = [text(Right::Configure)?, text(Right::Write)?, text(Right::Read)?];
        Self::new(patterns).map_err(|error| DefinitionError(error.to_string()))
    }
}

fn key(user: &str, vhost: &str) -> DefinitionKey {
    DefinitionKey::Permission { user: user.to_owned(), vhost: vhost.to_owned() }
}

/// Which routing keys a user may publish to a topic exchange with, and bind with. Without one,
/// every key that the permission lets through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPermission {
    write: Written,
    read: Written,
}

/// A user's topic permissions in a vhost, by exchange.
pub type TopicPermissions = BTreeMap<String, TopicPermission>;

impl TopicPermission {
    /// Patterns of routing keys that may be published with, and of binding keys.
    ///
    /// # Errors
    /// When one of them is no regular expression.
    pub fn new(user: &str, vhost: &str, write: &str, read: &str) -> Result<Self, PatternError> {
        let written = |text: &str| {
            let failed = |reason| PatternError { pattern: text.to_owned(), reason };
            let filled =
                text.replace("{username}", &literally(user)).replace("{vhost}", &literally(vhost));
            Written::new(text.to_owned(), &filled).map_err(failed)
        };
        Ok(Self { write: written(write)?, read: written(read)? })
    }

    /// The pattern for writing, as it was written.
    #[must_use]
    pub fn write(&self) -> &str {
        &self.write.text
    }

    /// The pattern for reading, as it was written.
    #[must_use]
    pub fn read(&self) -> &str {
        &self.read.text
    }

    /// Whether it lets this key through.
    #[must_use]
    pub fn allows(&self, right: Right, key: &str) -> bool {
        match right {
            Right::Write => self.write.pattern.is_in(key),
            Right::Read => self.read.pattern.is_in(key),
            Right::Configure => false,
        }
    }

    pub(in crate::broker) fn put(&self, user: &str, vhost: &str, exchange: &str) -> Op {
        let text = |text: &str| Value::LongStr(text.as_bytes().to_vec());
        let record =
            Record::default().with("write", text(self.write())).with("read", text(self.read()));
        Self::key(user, vhost, exchange).put(record)
    }

    pub(in crate::broker) fn delete(user: &str, vhost: &str, exchange: &str) -> Op {
        Self::key(user, vhost, exchange).delete()
    }

    pub(in crate::broker) fn from_record(
        user: &str,
        vhost: &str,
        record: &Record,
    ) -> Result<Self, DefinitionError> {
        Self::new(user, vhost, record.text("write")?, record.text("read")?)
            .map_err(|error| DefinitionError(error.to_string()))
    }

    fn key(user: &str, vhost: &str, exchange: &str) -> DefinitionKey {
        let (user, vhost) = (user.to_owned(), vhost.to_owned());
        DefinitionKey::TopicPermission { user, vhost, exchange: exchange.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_searched_for_and_an_empty_one_is_found_nowhere_but_in_nothing() {
        let permission = Permission::new(["^app-", "out", ""]).unwrap();
        assert!(permission.allows(Right::Configure, "app-queue"));
        assert!(!permission.allows(Right::Configure, "my-app-queue"));
        assert!(permission.allows(Right::Write, "shout"));
        assert!(!permission.allows(Right::Read, "app-queue"));
        assert!(permission.allows(Right::Read, ""));
        let error = Permission::new([".*", "(", ".*"]).unwrap_err();
        assert_eq!(error.pattern, "(");
    }

    #[test]
    fn a_name_in_a_topic_pattern_is_no_pattern() {
        for user in [".*", "a|b", "[a-z]", "a-b", "(", "x"] {
            let own = TopicPermission::new(user, "/", r"^{username}[.]", "^{vhost}$").unwrap();
            assert!(own.allows(Right::Write, &format!("{user}.a")), "{user}");
            assert!(!own.allows(Right::Write, "q.a"), "{user}");
            assert!(own.allows(Right::Read, "/"));
        }
    }
}
