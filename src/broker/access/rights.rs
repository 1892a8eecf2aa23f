//! What one connection's user may do in its vhost, remembered for as long as nothing changes.
//!
//! Owns the answers that a connection has had. They hold for one generation of the records:
//! [`refresh`](Rights::refresh) looks whether that has moved, which costs one load when it has
//! not, and forgets them only when something about this user is different.

use std::collections::HashMap;
use std::sync::Arc;

use super::Access;
use super::grants::{Permission, Right, TopicPermissions};
use super::user::{IMPERSONATOR, User};
use crate::protocol::refusal::{self, Refusal};

/// Answers that are remembered for one right and one kind of resource: names are the client's.
const KNOWN_MAX: usize = 256;
/// What the default exchange is called where permissions are looked at.
const DEFAULT_EXCHANGE: &str = "amq.default";

/// What a right is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// An exchange, by name.
    Exchange(&'a str),
    /// A queue, by name.
    Queue(&'a str),
}

impl<'a> Resource<'a> {
    /// The kind, and the name as permissions see it.
    fn parts(self) -> (&'static str, &'a str) {
        match self {
            Self::Exchange("") => ("exchange", DEFAULT_EXCHANGE),
            Self::Exchange(name) => ("exchange", name),
            Self::Queue(name) => ("queue", name),
        }
    }

    fn index(self) -> usize {
        match self {
            Self::Exchange(_) => 0,
            Self::Queue(_) => 1,
        }
    }
}

/// What [`Rights::refresh`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refreshed {
    /// Nothing that matters here has changed.
    Same,
    /// The user may do other things than before.
    Changed,
    /// There is no such user any more.
    UserGone,
}

/// A user's rights in a vhost.
#[derive(Debug)]
pub struct Rights {
    user: Arc<User>,
    vhost: Arc<str>,
    generation: u64,
    permission: Option<Arc<Permission>>,
    topics: Option<Arc<TopicPermissions>>,
    /// By right and kind.
    known: [[HashMap<Box<str>, bool>; 2]; 3],
}

impl Rights {
    /// Those of a user who has logged in.
    #[must_use]
    pub fn new(access: &Access, user: Arc<User>, vhost: Arc<str>) -> Self {
        let generation = access.generation();
        let permission = access.permission(&user.name, &vhost);
        let topics = access.topic_permissions_in(&user.name, &vhost);
        Self { user, vhost, generation, permission, topics, known: Default::default() }
    }

    /// Whose they are.
    #[must_use]
    pub fn user(&self) -> &Arc<User> {
        &self.user
    }

    /// Whether messages may bear another user's name.
    #[must_use]
    pub fn may_impersonate(&self) -> bool {
        self.user.has_tag(IMPERSONATOR)
    }

    /// Looks whether anything has changed.
    pub fn refresh(&mut self, access: &Access) -> Refreshed {
        let generation = access.generation();
        if generation == self.generation {
            return Refreshed::Same;
        }
        self.generation = generation;
        let Some(user) = access.user(&self.user.name) else { return Refreshed::UserGone };
        let permission = access.permission(&user.name, &self.vhost);
        let topics = access.topic_permissions_in(&user.name, &self.vhost);
        self.user = user;
        if permission == self.permission && topics == self.topics {
            return Refreshed::Same;
        }
        self.permission = permission;
        self.topics = topics;
        self.known = Default::default();
        Refreshed::Changed
    }

    /// Refuses what the user may not do.
    ///
    /// # Errors
    /// `access.refused`.
    pub fn check(&mut self, right: Right, resource: Resource<'_>) -> Result<(), Refusal> {
        if self.allows(right, resource) {
            return Ok(());
        }
        let (kind, name) = resource.parts();
        let resource = format!("{kind} '{name}' in vhost '{}'", self.vhost);
        Err(refusal::access_refused(right.name(), resource, &self.user.name))
    }

    /// Refuses someone who has no right at all on it: they are not even told whether it is there.
    ///
    /// # Errors
    /// `access.refused`.
    pub fn check_any(&mut self, resource: Resource<'_>) -> Result<(), Refusal> {
        match Right::ALL.into_iter().any(|right| self.allows(right, resource)) {
            true => Ok(()),
            false => self.check(Right::Configure, resource),
        }
    }

    /// Refuses someone who would have messages go from one place to an exchange without being
    /// published there: that takes reading here and writing there.
    ///
    /// # Errors
    /// `access.refused`.
    pub fn check_on_way(&mut self, from: Resource<'_>, to: &[u8]) -> Result<(), Refusal> {
        self.check(Right::Read, from)?;
        self.check(Right::Write, Resource::Exchange(&String::from_utf8_lossy(to)))
    }

    /// Refuses keys that a topic permission does not let through.
    ///
    /// # Errors
    /// `access.topic-refused`.
    pub fn check_topic(&self, right: Right, exchange: &str, key: &[u8]) -> Result<(), Refusal> {
        let own = self.topics.as_ref().and_then(|topics| topics.get(exchange));
        let Some(own) = own else { return Ok(()) };
        let key = String::from_utf8_lossy(key);
        if own.allows(right, &key) {
            return Ok(());
        }
        let (vhost, user) = (&*self.vhost, &*self.user.name);
        Err(refusal::access_topic_refused(right.name(), &key, exchange, vhost, user))
    }

    fn allows(&mut self, right: Right, resource: Resource<'_>) -> bool {
        let Some(permission) = &self.permission else { return false };
        let (_, name) = resource.parts();
        let known = &mut self.known[right as usize][resource.index()];
        if let Some(answer) = known.get(name) {
            return *answer;
        }
        let answer = permission.allows(right, name);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(name.into(), answer);
        answer
    }
}
