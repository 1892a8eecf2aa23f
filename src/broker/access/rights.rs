//! What one connection's user may do in its vhost, remembered for as long as nothing changes.
//!
//! Owns the answers that a connection has had. Those of the node's records hold for one generation:
//! [`refresh`](Rights::refresh) looks whether that has moved, which costs one load when it has
//! not, and forgets them only when something about this user is different. Those of others hold
//! for as long as they say.

use std::collections::HashMap;
use std::sync::Arc;

use super::Access;
use super::backend::{Authority, Identity, Outside};
use super::grants::{Permission, Right, TopicPermissions};
use super::user::{IMPERSONATOR, User};
use crate::broker::Now;
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

    /// "exchange" or "queue".
    #[must_use]
    pub fn kind(self) -> &'static str {
        self.parts().0
    }

    /// The name as permissions see it.
    #[must_use]
    pub fn name(self) -> &'a str {
        self.parts().1
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
    /// The login has ended: it was for a time.
    Expired,
}

/// Who decides.
#[derive(Debug)]
enum Source {
    /// The node's records, as they were in this generation.
    Records {
        generation: u64,
        permission: Option<Arc<Permission>>,
        topics: Option<Arc<TopicPermissions>>,
    },
    /// Another authority, whose answers hold until then on the monotonic clock.
    Other { authority: Arc<dyn Authority>, until_ms: Option<u64>, outside: Arc<Outside> },
}

/// A user's rights in a vhost.
#[derive(Debug)]
pub struct Rights {
    user: Arc<User>,
    vhost: Arc<str>,
    source: Source,
    expires_unix_ms: Option<u64>,
    /// By right and kind.
    known: [[HashMap<Box<str>, bool>; 2]; 3],
}

impl Rights {
    /// Those of someone who has logged in.
    #[must_use]
    pub fn new(access: &Access, identity: Identity, vhost: Arc<str>, now: Now) -> Self {
        let Identity { user, authority } = identity;
        let expires_unix_ms = authority.as_ref().and_then(|it| it.expires_unix_ms());
        let source = match authority {
            Some(authority) => {
                let until_ms = holds_until(&*authority, now);
                Source::Other { authority, until_ms, outside: Arc::clone(&access.outside) }
            }
            None => records(access, &user.name, &vhost),
        };
        Self { user, vhost, source, expires_unix_ms, known: Default::default() }
    }

    /// Whose they are.
    #[must_use]
    pub fn user(&self) -> &Arc<User> {
        &self.user
    }

    /// Who the user is, for whoever is to decide anew.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let authority = match &self.source {
            Source::Records { .. } => None,
            Source::Other { authority, .. } => Some(Arc::clone(authority)),
        };
        Identity { user: Arc::clone(&self.user), authority }
    }

    /// Whether messages may bear another user's name.
    #[must_use]
    pub fn may_impersonate(&self) -> bool {
        self.user.has_tag(IMPERSONATOR)
    }

    /// When [`refresh`](Self::refresh) is due though nothing has happened, on the monotonic clock.
    #[must_use]
    pub fn due_ms(&self, now: Now) -> Option<u64> {
        let expires_ms = self
            .expires_unix_ms
            .map(|at| now.mono_ms.saturating_add(at.saturating_sub(now.unix_ms)));
        let until_ms = match &self.source {
            Source::Records { .. } => None,
            Source::Other { until_ms, .. } => *until_ms,
        };
        expires_ms.into_iter().chain(until_ms).min()
    }

    /// Looks whether anything has changed.
    pub fn refresh(&mut self, access: &Access, now: Now) -> Refreshed {
        if self.expires_unix_ms.is_some_and(|at| at <= now.unix_ms) {
            return Refreshed::Expired;
        }
        match &mut self.source {
            Source::Records { generation, .. } if *generation == access.generation() => {
                return Refreshed::Same;
            }
            Source::Other { authority, until_ms, .. } => {
                if until_ms.is_none_or(|until_ms| now.mono_ms < until_ms) {
                    return Refreshed::Same;
                }
                *until_ms = holds_until(&**authority, now);
            }
            Source::Records { permission, topics, .. } => {
                let fresh = records(access, &self.user.name, &self.vhost);
                let Source::Records { permission: now_may, topics: now_uses, .. } = &fresh else {
                    return Refreshed::Same;
                };
                let is_same = *now_may == *permission && *now_uses == *topics;
                self.source = fresh;
                match access.user(&self.user.name) {
                    Some(user) => self.user = user,
                    None => return Refreshed::UserGone,
                }
                if is_same {
                    return Refreshed::Same;
                }
            }
        }
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
        let key = String::from_utf8_lossy(key);
        let allowed = match &self.source {
            Source::Records { topics, .. } => {
                let own = topics.as_ref().and_then(|topics| topics.get(exchange));
                own.is_none_or(|own| own.allows(right, &key))
            }
            Source::Other { authority, outside, .. } => {
                outside.run(|| authority.allows_topic(right, &self.vhost, exchange, &key))
            }
        };
        if allowed {
            return Ok(());
        }
        let (vhost, user) = (&*self.vhost, &*self.user.name);
        Err(refusal::access_topic_refused(right.name(), &key, exchange, vhost, user))
    }

    fn allows(&mut self, right: Right, resource: Resource<'_>) -> bool {
        let name = resource.name();
        let known = &mut self.known[right as usize][resource.index()];
        if let Some(answer) = known.get(name) {
            return *answer;
        }
        let answer = match &self.source {
            Source::Records { permission, .. } => {
                permission.as_ref().is_some_and(|own| own.allows(right, name))
            }
            Source::Other { authority, outside, .. } => {
                outside.run(|| authority.allows(right, &self.vhost, resource))
            }
        };
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(name.into(), answer);
        answer
    }
}

fn records(access: &Access, user: &str, vhost: &str) -> Source {
    Source::Records {
        // Before what it is about: what changes meanwhile is looked at again.
        generation: access.generation(),
        permission: access.permission(user, vhost),
        topics: access.topic_permissions_in(user, vhost),
    }
}

fn holds_until(authority: &dyn Authority, now: Now) -> Option<u64> {
    authority.answers_hold_ms().map(|hold_ms| now.mono_ms.saturating_add(hold_ms))
}
