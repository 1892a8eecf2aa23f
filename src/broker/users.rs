//! Users: names, password hashes, tags, and the vhosts they may enter.
//!
//! Owns authentication against the node's own records. Passwords are kept as RabbitMQ keeps them
//! (a 4-byte salt, then SHA-256 of salt and password), so that definitions can move both ways.
//! A wrong password and an unknown user take the same work and get the same answer.

use dashmap::DashMap;
use sha2::{Digest, Sha256};

use super::definitions::{DefinitionError, DefinitionKey, Record};
use crate::protocol::table::Value;
use crate::store::Op;

const SALT_BYTES: usize = 4;

/// Someone who may log in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name.
    pub name: String,
    /// Salt, then SHA-256 of salt and password.
    password_hash: Vec<u8>,
    /// RabbitMQ's tags: "administrator", "monitoring", "management", "policymaker".
    pub tags: Vec<String>,
}

/// What a user may do in a vhost: patterns for configure, write and read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// Patterns of names, in the order configure, write, read.
    pub patterns: [String; 3],
}

/// The users of a node.
#[derive(Debug)]
pub struct Users {
    users: DashMap<String, User>,
    permissions: DashMap<(String, String), Permission>,
    loopback_only: Vec<String>,
}

impl User {
    /// A user with this password; `salt` comes from the caller's entropy.
    #[must_use]
    pub fn new(name: &str, password: &[u8], salt: [u8; SALT_BYTES], tags: Vec<String>) -> Self {
        let mut password_hash = salt.to_vec();
        password_hash.extend_from_slice(&salted_hash(&salt, password));
        Self { name: name.to_owned(), password_hash, tags }
    }

    /// The operation that stores the user.
    #[must_use]
    pub fn put(&self) -> Op {
        let record = Record::default()
            .with("algorithm", Value::LongStr(b"rabbit_password_hashing_sha256".to_vec()))
            .with("hash", Value::LongStr(self.password_hash.clone()))
            .with("tags", Value::LongStr(self.tags.join(",").into_bytes()));
        DefinitionKey::User { name: self.name.clone() }.put(record)
    }

    pub(super) fn from_record(name: String, record: &Record) -> Result<Self, DefinitionError> {
        let tags = record.text("tags")?.split(',').filter(|tag| !tag.is_empty());
        Ok(Self {
            name,
            password_hash: record.bytes("hash")?.to_vec(),
            tags: tags.map(str::to_owned).collect(),
        })
    }

    /// The hash as definitions files hold it.
    #[must_use]
    pub fn password_hash_base64(&self) -> String {
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &self.password_hash)
    }

    fn password_matches(&self, password: &[u8]) -> bool {
        let (salt, expected) =
            self.password_hash.split_at(SALT_BYTES.min(self.password_hash.len()));
        let given = salted_hash(salt, password);
        // Every byte is compared, whatever the first difference.
        given.len() == expected.len()
            && given.iter().zip(expected).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
    }
}

impl Permission {
    /// The operation that stores the permission.
    #[must_use]
    pub fn put(&self, user: &str, vhost: &str) -> Op {
        let pattern = |at: usize| Value::LongStr(self.patterns[at].clone().into_bytes());
        let record = Record::default()
            .with("configure", pattern(0))
            .with("write", pattern(1))
            .with("read", pattern(2));
        DefinitionKey::Permission { user: user.to_owned(), vhost: vhost.to_owned() }.put(record)
    }

    pub(super) fn from_record(record: &Record) -> Result<Self, DefinitionError> {
        let text = |name: &str| record.text(name).map(str::to_owned);
        Ok(Self { patterns: [text("configure")?, text("write")?, text("read")?] })
    }
}

impl Users {
    pub(super) fn new(loopback_only: Vec<String>) -> Self {
        Self { users: DashMap::new(), permissions: DashMap::new(), loopback_only }
    }

    pub(super) fn insert(&self, user: User) {
        self.users.insert(user.name.clone(), user);
    }

    pub(super) fn permit(&self, user: String, vhost: String, permission: Permission) {
        self.permissions.insert((user, vhost), permission);
    }

    /// Takes all permissions in a vhost away. Returns who had one.
    pub(super) fn forget_vhost(&self, vhost: &str) -> Vec<String> {
        let mut users = Vec::new();
        self.permissions.retain(|(user, of), _| {
            if of == vhost {
                users.push(user.clone());
            }
            of != vhost
        });
        users
    }

    /// The user of this name and password, unless it may only come from a loopback address and does
    /// not. Blank passwords are always refused.
    #[must_use]
    pub fn authenticate(&self, name: &str, password: &[u8], from_loopback: bool) -> Option<User> {
        let known = self.find_for_peer(name, from_loopback);
        let stand_in = || User::new("", b"", [0; SALT_BYTES], Vec::new());
        let user = known.clone().unwrap_or_else(stand_in);
        let matches = user.password_matches(password);
        known.filter(|_| matches && !password.is_empty())
    }

    /// The user of this name, unless it may only come from a loopback address and does not.
    #[must_use]
    pub fn find_for_peer(&self, name: &str, from_loopback: bool) -> Option<User> {
        if !from_loopback && self.loopback_only.iter().any(|only| only == name) {
            return None;
        }
        self.users.get(name).map(|user| user.value().clone())
    }

    /// Whether the user may open a connection to the vhost.
    #[must_use]
    pub fn may_enter(&self, user: &str, vhost: &str) -> bool {
        self.permissions.contains_key(&(user.to_owned(), vhost.to_owned()))
    }

    /// Every user, by name.
    #[must_use]
    pub fn all(&self) -> Vec<User> {
        let mut users: Vec<User> = self.users.iter().map(|entry| entry.value().clone()).collect();
        users.sort_by(|a, b| a.name.cmp(&b.name));
        users
    }

    /// Every permission, as (user, vhost, permission).
    #[must_use]
    pub fn permissions(&self) -> Vec<(String, String, Permission)> {
        let row = |entry: dashmap::mapref::multiple::RefMulti<'_, (String, String), Permission>| {
            (entry.key().0.clone(), entry.key().1.clone(), entry.value().clone())
        };
        let mut rows: Vec<_> = self.permissions.iter().map(row).collect();
        rows.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        rows
    }
}

fn salted_hash(salt: &[u8], password: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(salt);
    hash.update(password);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        let users = Users::new(vec!["guest".into()]);
        users.insert(User::new("guest", b"guest", [1, 2, 3, 4], vec!["administrator".into()]));
        users.insert(User::new("app", b"secret", [5, 6, 7, 8], Vec::new()));
        users
    }

    #[test]
    fn only_the_right_password_from_the_right_place_logs_in() {
        let users = users();
        assert!(users.authenticate("guest", b"guest", true).is_some());
        assert!(users.authenticate("guest", b"guest", false).is_none(), "guest is loopback only");
        assert!(users.authenticate("app", b"secret", false).is_some());
        assert!(users.authenticate("app", b"Secret", true).is_none());
        assert!(users.authenticate("app", b"", true).is_none());
        assert!(users.authenticate("nobody", b"", true).is_none());
        assert!(users.authenticate("nobody", b"secret", true).is_none());
    }

    #[test]
    fn a_stored_user_reads_back_and_still_logs_in() {
        let user = User::new("app", b"secret", [5, 6, 7, 8], vec!["monitoring".into()]);
        let Op::PutMeta { value, .. } = user.put() else { panic!("a definition is stored") };
        let read = User::from_record("app".into(), &Record::decode(&value).unwrap()).unwrap();
        assert_eq!(read, user);
        assert!(read.password_matches(b"secret"));
    }
}
