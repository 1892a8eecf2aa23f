//! Who may log in, and what each may do: the node's own records (RabbitMQ's internal backend).
//!
//! Owns users, permissions and topic permissions, and the counts against their limits. Connections
//! do not ask here for every method: each keeps a [`Rights`] with what it was told, and looks
//! anew when the [`generation`](Access::generation) has moved. Every change moves it after the
//! change is visible, and then wakes the connections it is about, so that what was revoked ends at
//! once, not when a cache happens to expire.
//!
//! A wrong password and an unknown user take the same work and get the same answer. Changes are
//! made one at a time (`changes.rs`): the records in the store follow each other as the states here
//! do.

mod administer;
mod backend;
mod changes;
mod grants;
mod password;
mod rights;
mod user;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use backend::Outside;
use dashmap::DashMap;

pub use administer::{Administer, AdministerError, By};
pub use backend::{Aside, Authority, Backend, ChainLink, Identity, Link, Outsider};
pub use changes::{AccessError, UserChange};
pub use grants::{PatternError, Permission, Right, TopicPermission, TopicPermissions};
pub use password::{HashError, Hashing, PasswordHash};
pub use rights::{Refreshed, Resource, Rights};
pub use user::{ADMINISTRATOR, IMPERSONATOR, NamedLimits, User, UserLimits, VhostLimits};

/// A user's name and a vhost's.
type Place = (String, String);

/// The node's users and their permissions.
#[derive(Debug)]
pub struct Access {
    users: DashMap<String, Arc<User>>,
    permissions: DashMap<Place, Arc<Permission>>,
    topics: DashMap<Place, Arc<TopicPermissions>>,
    counts: DashMap<String, Arc<Counts>>,
    loopback_only: Vec<String>,
    hashing: Hashing,
    /// What the password of an unknown user is compared with.
    stand_in: PasswordHash,
    outside: Arc<Outside>,
    generation: AtomicU64,
    /// Held while something changes, until its record is submitted and it can be seen.
    changing: Mutex<()>,
}

/// What a user has open.
#[derive(Debug, Default)]
struct Counts {
    connections: Arc<AtomicU64>,
    channels: Arc<AtomicU64>,
}

/// A place under a limit; free again when this is dropped.
#[derive(Debug)]
pub struct Taken(Arc<AtomicU64>);

impl Taken {
    /// Takes a place if there is one, however many ask at once. Less than nothing is no limit.
    #[must_use]
    pub fn from(count: &Arc<AtomicU64>, max: Option<i64>) -> Option<Self> {
        let max = max.and_then(|max| u64::try_from(max).ok());
        let take = |taken| max.is_none_or(|max| taken < max).then_some(taken + 1);
        count.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).ok()?;
        Some(Self(Arc::clone(count)))
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Someone who says who they are.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Who they say they are.
    pub name: &'a str,
    /// Whether they come from a loopback address.
    pub from_loopback: bool,
}

impl Access {
    pub(super) fn new(loopback_only: Vec<String>, hashing: Hashing) -> Self {
        Self {
            users: DashMap::new(),
            permissions: DashMap::new(),
            topics: DashMap::new(),
            counts: DashMap::new(),
            loopback_only,
            hashing,
            stand_in: PasswordHash::new(hashing, b"", |salt| salt.fill(0)),
            outside: Arc::default(),
            generation: AtomicU64::new(1),
            changing: Mutex::default(),
        }
    }

    /// Moves with every change of a user or a permission.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// How passwords are hashed that are set from now on.
    #[must_use]
    pub fn hashing(&self) -> Hashing {
        self.hashing
    }

    // ---- logging in --------------------------------------------------------------------------

    /// The user of this name and password in the node's records, unless it may only come from a
    /// loopback address and does not. Blank passwords are always refused.
    #[must_use]
    fn authenticate(&self, who: Candidate<'_>, password: &[u8]) -> Option<Arc<User>> {
        let known = self.find_for_peer(who);
        let hash = known.as_ref().map_or(&self.stand_in, |user| &user.password);
        let matches = hash.is_of(password);
        known.filter(|_| matches && !password.is_empty())
    }

    /// Whether comparing this user's password takes too long where messages are moved.
    fn is_slow_for(&self, name: &str) -> bool {
        let own = self.users.get(name).map(|user| user.password.hashing());
        own.unwrap_or(self.hashing).is_slow()
    }

    /// The user of this name, unless it may only come from a loopback address and does not.
    #[must_use]
    pub fn find_for_peer(&self, who: Candidate<'_>) -> Option<Arc<User>> {
        if self.must_be_nearer(who) { None } else { self.user(who.name) }
    }

    fn must_be_nearer(&self, who: Candidate<'_>) -> bool {
        !who.from_loopback && self.loopback_only.iter().any(|only| only == who.name)
    }

    // ---- what is there -----------------------------------------------------------------------

    /// A user.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<Arc<User>> {
        self.users.get(name).map(|user| Arc::clone(user.value()))
    }

    /// Every user, by name.
    #[must_use]
    pub fn users(&self) -> Vec<Arc<User>> {
        let mut users: Vec<_> = self.users.iter().map(|user| Arc::clone(user.value())).collect();
        users.sort_by(|a, b| a.name.cmp(&b.name));
        users
    }

    /// Whether the user may open a connection to the vhost.
    #[must_use]
    pub fn may_enter(&self, user: &str, vhost: &str) -> bool {
        self.permissions.contains_key(&place(user, vhost))
    }

    /// A user's permission in a vhost.
    #[must_use]
    pub fn permission(&self, user: &str, vhost: &str) -> Option<Arc<Permission>> {
        self.permissions.get(&place(user, vhost)).map(|own| Arc::clone(own.value()))
    }

    /// Every permission, as (user, vhost, permission).
    #[must_use]
    pub fn permissions(&self) -> Vec<(String, String, Arc<Permission>)> {
        sorted(&self.permissions)
    }

    fn topic_permissions_in(&self, user: &str, vhost: &str) -> Option<Arc<TopicPermissions>> {
        self.topics.get(&place(user, vhost)).map(|own| Arc::clone(own.value()))
    }

    /// Every user's topic permissions in each vhost, as (user, vhost, permissions).
    #[must_use]
    pub fn topic_permissions(&self) -> Vec<(String, String, Arc<TopicPermissions>)> {
        sorted(&self.topics)
    }

    // ---- what is open ------------------------------------------------------------------------

    /// Takes a place among a user's connections; `None` when they have as many as they may.
    #[must_use]
    pub fn take_connection(&self, user: &User) -> Option<Taken> {
        Taken::from(&self.counts(&user.name).connections, user.limits.connections_max)
    }

    /// Takes a place among a user's channels; `None` when they have as many as they may.
    #[must_use]
    pub fn take_channel(&self, user: &User) -> Option<Taken> {
        Taken::from(&self.counts(&user.name).channels, user.limits.channels_max)
    }

    fn counts(&self, user: &str) -> Arc<Counts> {
        if let Some(counts) = self.counts.get(user) {
            return Arc::clone(counts.value());
        }
        Arc::clone(self.counts.entry(user.to_owned()).or_default().value())
    }

    // ---- what comes back at start, and changes -----------------------------------------------

    pub(super) fn insert(&self, user: User) {
        self.users.insert(user.name.clone(), Arc::new(user));
    }

    pub(super) fn permit(&self, user: &str, vhost: &str, permission: Permission) {
        self.permissions.insert(place(user, vhost), Arc::new(permission));
    }

    pub(super) fn permit_topic(
        &self,
        user: &str,
        vhost: &str,
        exchange: String,
        topic: TopicPermission,
    ) {
        let mut own = self.topics.entry(place(user, vhost)).or_default();
        Arc::make_mut(own.value_mut()).insert(exchange, topic);
    }

    fn moved(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }
}

fn place(user: &str, vhost: &str) -> Place {
    (user.to_owned(), vhost.to_owned())
}

fn sorted<T>(places: &DashMap<Place, Arc<T>>) -> Vec<(String, String, Arc<T>)> {
    let row = |entry: dashmap::mapref::multiple::RefMulti<'_, Place, Arc<T>>| {
        let (user, vhost) = entry.key().clone();
        (user, vhost, Arc::clone(entry.value()))
    };
    let mut rows: Vec<_> = places.iter().map(row).collect();
    rows.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        let access = Access::new(vec!["guest".into()], Hashing::Sha256);
        for (name, password) in [("guest", b"guest".as_slice()), ("app", b"secret")] {
            access.insert(User {
                name: name.into(),
                password: PasswordHash::new(Hashing::Sha256, password, |salt| salt.fill(9)),
                tags: Vec::new(),
                limits: UserLimits { connections_max: Some(2), channels_max: None },
            });
        }
        access
    }

    #[test]
    fn only_the_right_password_from_the_right_place_logs_in() {
        let access = access();
        let logs_in = |name, password: &[u8], from_loopback| {
            access.authenticate(Candidate { name, from_loopback }, password).is_some()
        };
        assert!(logs_in("guest", b"guest", true));
        assert!(!logs_in("guest", b"guest", false), "guest is loopback only");
        assert!(logs_in("app", b"secret", false));
        assert!(!logs_in("app", b"Secret", true));
        assert!(!logs_in("app", b"", true));
        assert!(!logs_in("nobody", b"", true));
        assert!(!logs_in("nobody", b"secret", true));
    }

    #[test]
    fn a_user_has_as_many_connections_as_it_may() {
        let access = access();
        let app = access.user("app").unwrap();
        let first = access.take_connection(&app).unwrap();
        let _second = access.take_connection(&app).unwrap();
        assert!(access.take_connection(&app).is_none());
        assert!(access.take_connection(&access.user("guest").unwrap()).is_some(), "its own");
        drop(first);
        assert!(access.take_connection(&app).is_some());
        let channels: Vec<_> = (0..100).map(|_| access.take_channel(&app).unwrap()).collect();
        assert_eq!(channels.len(), 100, "no limit");
    }
}
