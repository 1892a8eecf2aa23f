//! Changes of users, permissions and limits: stored, made visible, and felt at once by the
//! connections they are about.

use std::sync::{Arc, MutexGuard, PoisonError};

use super::grants::{Permission, TopicPermission};
use super::password::PasswordHash;
use super::user::{NamedLimits, User, UserLimits, VhostLimits};
use super::{Access, place};
use crate::broker::Broker;
use crate::broker::definitions::put_vhost;
use crate::protocol::refusal;
use crate::store::{Batch, Lsn, Op};

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// There is no user of this name.
    #[error("no_such_user: {0}")]
    NoUser(String),
    /// There is no user or no vhost of this name.
    #[error("vhost_or_user_not_found")]
    NoPlace,
    /// There is no vhost of this name.
    #[error("no_such_vhost: {0}")]
    NoVhost(String),
    /// Limits have other names.
    #[error("'{0}' is not a limit")]
    NoLimit(String),
}

/// What becomes of a user's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserChange {
    /// The hash of the new password.
    pub password: PasswordHash,
    /// The new tags.
    pub tags: Vec<String>,
}

/// A change that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made<T> {
    /// What was there before.
    pub before: T,
    /// Where the store has it.
    pub lsn: Lsn,
}

impl Access {
    fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all permissions in a vhost away. Returns the operations that forget them. The caller
    /// moves on those it concerns: their vhost is gone.
    pub(in crate::broker) fn forget_vhost(&self, vhost: &str) -> Vec<Op> {
        let _changing = self.change();
        self.forget(|_, of| of == vhost)
    }

    fn forget(&self, mut is_meant: impl FnMut(&str, &str) -> bool) -> Vec<Op> {
        let mut ops = Vec::new();
        self.permissions.retain(|(user, vhost), _| {
            let meant = is_meant(user, vhost);
            if meant {
                ops.push(Permission::delete(user, vhost));
            }
            !meant
        });
        self.topics.retain(|(user, vhost), topics| {
            let meant = is_meant(user, vhost);
            if meant {
                ops.extend(topics.keys().map(|it| TopicPermission::delete(user, vhost, it)));
            }
            !meant
        });
        ops
    }
}

impl Broker {
    /// Creates a user, or gives one another password and other tags. Returns the record before.
    pub fn put_user(&self, name: &str, change: UserChange) -> Made<Option<Arc<User>>> {
        let changing = self.access.change();
        let before = self.access.user(name);
        let limits = before.as_ref().map(|user| user.limits).unwrap_or_default();
        let UserChange { password, tags } = change;
        let lsn = self.keep_user(User { name: name.to_owned(), password, tags, limits });
        drop(changing);
        self.rights_changed(name);
        Made { before, lsn }
    }

    /// Deletes a user with their permissions, and closes their connections. `None` when there is
    /// none of this name.
    pub fn delete_user(&self, name: &str) -> Option<Made<Arc<User>>> {
        let changing = self.access.change();
        let (_, before) = self.access.users.remove(name)?;
        let mut ops = vec![User::delete(name)];
        ops.extend(self.access.forget(|user, _| user == name));
        self.access.counts.remove(name);
        let lsn = self.submit(Batch { ops, awaited: true });
        self.access.moved();
        drop(changing);
        let deleted = refusal::connection_user_deleted(name);
        self.close_connections_where(|view| view.user == name, &deleted);
        Some(Made { before, lsn })
    }

    /// Gives a user a permission in a vhost. Returns the one before.
    ///
    /// # Errors
    /// When there is no such user or no such vhost.
    pub fn set_permission(
        &self,
        user: &str,
        vhost: &str,
        permission: Permission,
    ) -> Result<Made<Option<Arc<Permission>>>, AccessError> {
        let changing = self.access.change();
        self.check_place(user, vhost)?;
        let before = self.access.permission(user, vhost);
        let lsn = self.submit(Batch { ops: vec![permission.put(user, vhost)], awaited: true });
        self.access.permit(user, vhost, permission);
        drop(changing);
        self.rights_changed(user);
        Ok(Made { before, lsn })
    }

    /// Takes a user's permission in a vhost away; `None` when there was none.
    ///
    /// # Errors
    /// When there is no such user or no such vhost.
    pub fn clear_permission(
        &self,
        user: &str,
        vhost: &str,
    ) -> Result<Option<Made<Arc<Permission>>>, AccessError> {
        let changing = self.access.change();
        self.check_place(user, vhost)?;
        let Some((_, before)) = self.access.permissions.remove(&place(user, vhost)) else {
            return Ok(None);
        };
        let ops = vec![Permission::delete(user, vhost)];
        let lsn = self.submit(Batch { ops, awaited: true });
        drop(changing);
        self.rights_changed(user);
        Ok(Some(Made { before, lsn }))
    }

    /// Gives a user a topic permission for an exchange, which need not be there. Returns the one
    /// before.
    ///
    /// # Errors
    /// When there is no such user or no such vhost.
    pub fn set_topic_permission(
        &self,
        user: &str,
        vhost: &str,
        exchange: &str,
        topic: TopicPermission,
    ) -> Result<Made<Option<TopicPermission>>, AccessError> {
        let changing = self.access.change();
        self.check_place(user, vhost)?;
        let before = self.access.topic_permissions_in(user, vhost);
        let before = before.and_then(|topics| topics.get(exchange).cloned());
        let ops = vec![topic.put(user, vhost, exchange)];
        let lsn = self.submit(Batch { ops, awaited: true });
        self.access.permit_topic(user, vhost, exchange.to_owned(), topic);
        drop(changing);
        self.rights_changed(user);
        Ok(Made { before, lsn })
    }

    /// Takes a user's topic permissions in a vhost away: for one exchange, or for all. Returns
    /// those that were there.
    ///
    /// # Errors
    /// When there is no such user or no such vhost.
    pub fn clear_topic_permissions(
        &self,
        user: &str,
        vhost: &str,
        only: Option<&str>,
    ) -> Result<Made<Vec<(String, TopicPermission)>>, AccessError> {
        let changing = self.access.change();
        self.check_place(user, vhost)?;
        let own = self.access.topic_permissions_in(user, vhost).unwrap_or_default();
        let is_meant = |name: &str| only.is_none_or(|only| only == name);
        let mut kept = (*own).clone();
        let cleared: Vec<_> = kept.extract_if(.., |name, _| is_meant(name)).collect();
        let delete = |(exchange, _): &(String, _)| TopicPermission::delete(user, vhost, exchange);
        let ops = cleared.iter().map(delete).collect();
        let lsn = self.submit(Batch { ops, awaited: true });
        if kept.is_empty() {
            self.access.topics.remove(&place(user, vhost));
        } else {
            self.access.topics.insert(place(user, vhost), Arc::new(kept));
        }
        drop(changing);
        self.rights_changed(user);
        Ok(Made { before: cleared, lsn })
    }

    /// Sets one of a user's limits, or lifts it. What is open above it stays open.
    ///
    /// # Errors
    /// When there is no such user or no such limit.
    pub fn set_user_limit(
        &self,
        user: &str,
        name: &str,
        max: Option<i64>,
    ) -> Result<Made<UserLimits>, AccessError> {
        let changing = self.access.change();
        let found = self.access.user(user).ok_or_else(|| AccessError::NoUser(user.to_owned()))?;
        let before = found.limits;
        let limits = with_limit(before, name, max)?;
        let lsn = self.keep_user(User { limits, ..(*found).clone() });
        drop(changing);
        self.rights_changed(user);
        Ok(Made { before, lsn })
    }

    /// Sets one of a vhost's limits, or lifts it. What is there above it stays.
    ///
    /// # Errors
    /// When there is no such vhost or no such limit.
    pub fn set_vhost_limit(
        &self,
        vhost: &str,
        name: &str,
        max: Option<i64>,
    ) -> Result<Made<VhostLimits>, AccessError> {
        let _changing = self.vhost_changes.lock().unwrap_or_else(PoisonError::into_inner);
        let no_vhost = || AccessError::NoVhost(vhost.to_owned());
        let vhost = self.vhost(vhost).ok_or_else(no_vhost)?;
        let before = vhost.limits();
        let limits = with_limit(before, name, max)?;
        let put = put_vhost(vhost.name(), limits);
        let lsn = self.submit(Batch { ops: vec![put], awaited: true });
        vhost.set_limits(limits);
        Ok(Made { before, lsn })
    }

    /// Stores and shows a user's record; called while nothing else changes.
    fn keep_user(&self, user: User) -> Lsn {
        let lsn = self.submit(Batch { ops: vec![user.put()], awaited: true });
        self.access.insert(user);
        lsn
    }

    /// Lets a user's connections look at what they may do now.
    fn rights_changed(&self, user: &str) {
        self.access.moved();
        for handle in self.connections_where(|view| view.user == user) {
            handle.outbox.wake();
        }
    }

    fn check_place(&self, user: &str, vhost: &str) -> Result<(), AccessError> {
        match (self.access.user(user), self.vhost(vhost)) {
            (Some(_), Some(_)) => Ok(()),
            _ => Err(AccessError::NoPlace),
        }
    }
}

fn with_limit<L: NamedLimits>(
    mut limits: L,
    name: &str,
    max: Option<i64>,
) -> Result<L, AccessError> {
    *limits.limit(name).ok_or_else(|| AccessError::NoLimit(name.to_owned()))? = max;
    Ok(limits)
}
