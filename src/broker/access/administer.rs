//! Users, permissions and limits as operators change them.
//!
//! Every call returns once its change is durable, and tells the event exchange what was done and
//! by whom. Access rights are the caller's business.

use super::changes::{AccessError, UserChange};
use super::grants::{Permission, TopicPermission};
use super::password::{Hashing, PasswordHash};
use super::user::NamedLimits as _;
use crate::broker::events::fields::user_action;
use crate::broker::operate::Change;
use crate::broker::{Broker, Now};
use crate::protocol::table::{Table, Value};
use crate::store::StoreError;

/// Why a change was not made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AdministerError {
    /// It makes no sense.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Who changes something, and when.
#[derive(Debug, Clone, Copy)]
pub struct By<'a> {
    /// The user.
    pub actor: &'a str,
    /// The moment.
    pub now: Now,
}

type Made<T> = Result<T, AdministerError>;

/// The broker's users as operators change them.
pub trait Administer: Send + Sync {
    /// How passwords are hashed.
    fn hashing(&self) -> Hashing;

    /// Hashes a password as configured. Slow by intent.
    fn hash_password(&self, password: &[u8]) -> PasswordHash;

    /// Creates a user, or gives one another password and other tags.
    ///
    /// # Errors
    /// When the store has failed.
    fn put_user(&self, name: &str, change: UserChange, by: By<'_>) -> Made<Change>;

    /// Deletes a user; false when there is none of this name.
    ///
    /// # Errors
    /// When the store has failed.
    fn delete_user(&self, name: &str, by: By<'_>) -> Made<bool>;

    /// Gives a user a permission in a vhost.
    ///
    /// # Errors
    /// When there is no such user or vhost, or the store has failed.
    fn set_permission(
        &self,
        user: &str,
        vhost: &str,
        permission: Permission,
        by: By<'_>,
    ) -> Made<Change>;

    /// Takes a user's permission in a vhost away; false when there was none.
    ///
    /// # Errors
    /// When there is no such user or vhost, or the store has failed.
    fn clear_permission(&self, user: &str, vhost: &str, by: By<'_>) -> Made<bool>;

    /// Gives a user a topic permission for an exchange.
    ///
    /// # Errors
    /// When there is no such user or vhost, or the store has failed.
    fn set_topic_permission(
        &self,
        user: &str,
        vhost: &str,
        exchange: &str,
        topic: TopicPermission,
        by: By<'_>,
    ) -> Made<Change>;

    /// Takes a user's topic permissions in a vhost away, for one exchange or for all; false when
    /// there were none.
    ///
    /// # Errors
    /// When there is no such user or vhost, or the store has failed.
    fn clear_topic_permissions(
        &self,
        user: &str,
        vhost: &str,
        only: Option<&str>,
        by: By<'_>,
    ) -> Made<bool>;

    /// Sets a limit of a user, or lifts it.
    ///
    /// # Errors
    /// When there is no such user or limit, or the store has failed.
    fn set_user_limit(&self, user: &str, name: &str, max: Option<i64>, by: By<'_>) -> Made<()>;

    /// Sets a limit of a vhost, or lifts it.
    ///
    /// # Errors
    /// When there is no such vhost or limit, or the store has failed.
    fn set_vhost_limit(&self, vhost: &str, name: &str, max: Option<i64>, by: By<'_>) -> Made<()>;
}

impl Administer for Broker {
    fn hashing(&self) -> Hashing {
        self.access.hashing()
    }

    fn hash_password(&self, password: &[u8]) -> PasswordHash {
        Self::hash_password(self, password)
    }

    fn put_user(&self, name: &str, change: UserChange, by: By<'_>) -> Made<Change> {
        let tags = change.tags.clone();
        let made = Self::put_user(self, name, change);
        let named = || user_action(by.actor).with("name", name);
        match &made.before {
            None => self.emit("user.created", by.now, named),
            Some(_) => self.emit("user.password.changed", by.now, named),
        }
        let were = || made.before.as_ref().map(|user| with_tags(name_of(name), &user.tags));
        self.emit_change("user.tags.set", by.now, were, || with_tags(named(), &tags));
        self.wait_durable(made.lsn)?;
        Ok(Change::of(made.before.is_some()))
    }

    fn delete_user(&self, name: &str, by: By<'_>) -> Made<bool> {
        let Some(made) = Self::delete_user(self, name) else { return Ok(false) };
        let was = || Some(with_tags(name_of(name), &made.before.tags));
        let deleted = || user_action(by.actor).with("name", name);
        self.emit_change("user.deleted", by.now, was, deleted);
        self.wait_durable(made.lsn)?;
        Ok(true)
    }

    fn set_permission(
        &self,
        user: &str,
        vhost: &str,
        permission: Permission,
        by: By<'_>,
    ) -> Made<Change> {
        let set = permission.clone();
        let made = Self::set_permission(self, user, vhost, permission)?;
        let was = || {
            let permission = made.before.as_deref()?;
            Some(with_patterns(place_of(user, vhost), permission))
        };
        self.emit_change("permission.created", by.now, was, || {
            with_patterns(place(by, user, vhost), &set)
        });
        self.wait_durable(made.lsn)?;
        Ok(Change::of(made.before.is_some()))
    }

    fn clear_permission(&self, user: &str, vhost: &str, by: By<'_>) -> Made<bool> {
        let Some(made) = Self::clear_permission(self, user, vhost)? else { return Ok(false) };
        let was = || Some(with_patterns(place_of(user, vhost), &made.before));
        self.emit_change("permission.deleted", by.now, was, || place(by, user, vhost));
        self.wait_durable(made.lsn)?;
        Ok(true)
    }

    fn set_topic_permission(
        &self,
        user: &str,
        vhost: &str,
        exchange: &str,
        topic: TopicPermission,
        by: By<'_>,
    ) -> Made<Change> {
        let set = topic.clone();
        let made = Self::set_topic_permission(self, user, vhost, exchange, topic)?;
        let was = || {
            let topic = made.before.as_ref()?;
            Some(with_topic(place_of(user, vhost), exchange, topic))
        };
        self.emit_change("topic.permission.created", by.now, was, || {
            with_topic(place(by, user, vhost), exchange, &set)
        });
        self.wait_durable(made.lsn)?;
        Ok(Change::of(made.before.is_some()))
    }

    fn clear_topic_permissions(
        &self,
        user: &str,
        vhost: &str,
        only: Option<&str>,
        by: By<'_>,
    ) -> Made<bool> {
        let made = Self::clear_topic_permissions(self, user, vhost, only)?;
        for (exchange, topic) in &made.before {
            let was = || Some(with_topic(place_of(user, vhost), exchange, topic));
            let deleted = || place(by, user, vhost).with("exchange", &**exchange);
            self.emit_change("topic.permission.deleted", by.now, was, deleted);
        }
        self.wait_durable(made.lsn)?;
        Ok(!made.before.is_empty())
    }

    fn set_user_limit(&self, user: &str, name: &str, max: Option<i64>, by: By<'_>) -> Made<()> {
        let made = Self::set_user_limit(self, user, name, max)?;
        let was = || Some(made.before.to_table().with("username", user));
        let key = limit_key(["user.limits.set", "user.limits.cleared"], max);
        self.emit_change(key, by.now, was, || limit(by, name, max).with("username", user));
        Ok(self.wait_durable(made.lsn)?)
    }

    fn set_vhost_limit(&self, vhost: &str, name: &str, max: Option<i64>, by: By<'_>) -> Made<()> {
        let made = Self::set_vhost_limit(self, vhost, name, max)?;
        let was = || Some(made.before.to_table().with("vhost", vhost));
        let key = limit_key(["vhost.limits.set", "vhost.limits.cleared"], max);
        self.emit_change(key, by.now, was, || limit(by, name, max).with("vhost", vhost));
        Ok(self.wait_durable(made.lsn)?)
    }
}

fn place(by: By<'_>, user: &str, vhost: &str) -> Table {
    user_action(by.actor).with("user", user).with("vhost", vhost)
}

fn place_of(user: &str, vhost: &str) -> Table {
    Table::new().with("user", user).with("vhost", vhost)
}

fn name_of(user: &str) -> Table {
    Table::new().with("name", user)
}

fn with_tags(fields: Table, tags: &[String]) -> Table {
    fields.with("tags", tags.iter().map(|tag| Value::from(&**tag)).collect::<Vec<_>>())
}

fn with_patterns(fields: Table, permission: &Permission) -> Table {
    let [configure, write, read] = permission.texts();
    fields.with("configure", configure).with("write", write).with("read", read)
}

fn with_topic(fields: Table, exchange: &str, topic: &TopicPermission) -> Table {
    fields.with("exchange", exchange).with("write", topic.write()).with("read", topic.read())
}

fn limit_key([set, cleared]: [&'static str; 2], max: Option<i64>) -> &'static str {
    if max.is_some() { set } else { cleared }
}

fn limit(by: By<'_>, name: &str, max: Option<i64>) -> Table {
    let fields = user_action(by.actor).with("name", "limits");
    match max {
        Some(max) => fields.with(name, Value::I64(max)),
        None => fields,
    }
}
