//! Who else may say who someone is and what they may do: a chain of backends, of which the node's
//! own records are one.
//!
//! Backends may ask other machines, and passwords may be slow to compare; both are done *aside*, by
//! whatever the edge gives for it, so that the thread which moves messages is free meanwhile. No
//! lock is held then.

use std::fmt::Debug;
use std::sync::{Arc, OnceLock};

use super::grants::Right;
use super::password::{Hashing, PasswordHash};
use super::rights::Resource;
use super::user::User;
use super::{Access, Candidate};

/// Says who someone is. Calls may take as long as the other machine does.
pub trait Backend: Debug + Send + Sync {
    /// Its name, for the log.
    fn name(&self) -> &'static str;

    /// The one who shows this password, or token; `None` when it is not theirs.
    fn log_in(&self, who: Candidate<'_>, password: &[u8]) -> Option<Outsider>;

    /// Who says what someone may do whom another backend knows as this user, by this password or
    /// token; `None` when they may nothing.
    fn vouch(&self, user: &User, password: &[u8]) -> Option<Arc<dyn Authority>>;
}

/// Someone whom a backend knows.
#[derive(Debug, Clone)]
pub struct Outsider {
    /// What they are called here.
    pub name: String,
    /// Their tags.
    pub tags: Vec<String>,
    /// Who says what they may do.
    pub authority: Arc<dyn Authority>,
}

/// Says what one outsider may do. Calls may take as long as the other machine does.
pub trait Authority: Debug + Send + Sync {
    /// Whether they may open a connection to the vhost, coming from this address.
    fn may_enter(&self, vhost: &str, peer: Option<&str>) -> bool;

    /// Whether they have this right; names are as permissions see them.
    fn allows(&self, right: Right, vhost: &str, resource: Resource<'_>) -> bool;

    /// Whether they may use this key with a topic exchange.
    fn allows_topic(&self, right: Right, vhost: &str, exchange: &str, key: &str) -> bool;

    /// For how long an answer holds; `None`: for as long as the login does.
    fn answers_hold_ms(&self) -> Option<u64> {
        None
    }

    /// When the login ends, in milliseconds of Unix time.
    fn expires_unix_ms(&self) -> Option<u64> {
        None
    }
}

/// Someone who has logged in, and who says what they may do: the node's records, if nobody else.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Their record, or what stands for it.
    pub user: Arc<User>,
    /// Who else decides.
    pub authority: Option<Arc<dyn Authority>>,
}

/// Whom to ask.
#[derive(Debug, Clone)]
pub enum Link {
    /// The node's own records.
    Records,
    /// Another backend.
    Backend(Arc<dyn Backend>),
}

/// Whom to ask who someone is, and whom what they may do.
#[derive(Debug, Clone)]
pub struct ChainLink {
    /// Who they are.
    pub authenticates: Link,
    /// What they may do; the same one, if there is none.
    pub authorises: Option<Link>,
}

/// Does something slow where it keeps nothing else from going on.
pub type Aside = Box<dyn Fn(&mut dyn FnMut()) + Send + Sync>;

/// What the edge gives for asking others.
#[derive(Default)]
pub(super) struct Outside {
    chain: OnceLock<Vec<ChainLink>>,
    aside: OnceLock<Aside>,
}

impl Debug for Outside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outside").field("chain", &self.chain).finish_non_exhaustive()
    }
}

impl Outside {
    /// Does something slow.
    pub(super) fn run<T>(&self, work: impl FnOnce() -> T) -> T {
        let Some(aside) = self.aside.get() else { return work() };
        let (mut work, mut done) = (Some(work), None);
        aside(&mut || done = work.take().map(|work| work()));
        done.expect("invariant: whoever does it aside does it")
    }
}

impl Access {
    /// Sets whom to ask, in order, and how to do what is slow. Only before anyone is let in; the
    /// node's records alone, and at once, if never.
    pub fn ask_others(&self, chain: Vec<ChainLink>, aside: Aside) {
        let _ = self.outside.chain.set(chain);
        let _ = self.outside.aside.set(aside);
    }

    /// The one who shows this password: the first backend that knows them decides who they are.
    /// Who may only come from a loopback address must, whoever knows them, and whatever they called
    /// themselves.
    #[must_use]
    pub fn log_in(&self, who: Candidate<'_>, password: &[u8]) -> Option<Identity> {
        let Some(chain) = self.outside.chain.get() else {
            return self.log_in_here(who, password);
        };
        if self.must_be_nearer(who) {
            return None;
        }
        let known = chain.iter().find_map(|link| self.log_in_by(link, who, password))?;
        let known_as = Candidate { name: &known.user.name, ..who };
        (!self.must_be_nearer(known_as)).then_some(known)
    }

    fn log_in_by(&self, link: &ChainLink, who: Candidate<'_>, password: &[u8]) -> Option<Identity> {
        let known = match &link.authenticates {
            Link::Records => self.log_in_here(who, password)?,
            Link::Backend(backend) => {
                self.identity(self.outside.run(|| backend.log_in(who, password))?)
            }
        };
        match &link.authorises {
            None => Some(known),
            Some(Link::Records) => self.recorded(&known.user),
            Some(Link::Backend(backend)) => {
                let authority = self.outside.run(|| backend.vouch(&known.user, password))?;
                Some(Identity { authority: Some(authority), ..known })
            }
        }
    }

    /// Someone whom others know, with the rights in the node's records: they need one there, and
    /// have its tags besides those that others gave them.
    fn recorded(&self, user: &User) -> Option<Identity> {
        let mut user = user.clone();
        for tag in &self.user(&user.name)?.tags {
            if !user.has_tag(tag) {
                user.tags.push(tag.clone());
            }
        }
        Some(Identity { user: Arc::new(user), authority: None })
    }

    fn log_in_here(&self, who: Candidate<'_>, password: &[u8]) -> Option<Identity> {
        if who.name.is_empty() {
            return None; // shows a token: nobody is called that
        }
        let user = if self.is_slow_for(who.name) {
            self.outside.run(|| self.authenticate(who, password))
        } else {
            self.authenticate(who, password)
        };
        Some(Identity { user: user?, authority: None })
    }

    /// An outsider as one of the node's users: with the limits of the one of the same name.
    fn identity(&self, outsider: Outsider) -> Identity {
        let Outsider { name, tags, authority } = outsider;
        let limits = self.user(&name).map(|own| own.limits).unwrap_or_default();
        let password = PasswordHash::none(Hashing::default());
        let user = Arc::new(User { name, password, tags, limits });
        Identity { user, authority: Some(authority) }
    }
}

impl Identity {
    /// Whether they may open a connection to the vhost.
    #[must_use]
    pub fn may_enter(&self, access: &Access, vhost: &str, peer: Option<&str>) -> bool {
        match &self.authority {
            None => access.may_enter(&self.user.name, vhost),
            Some(authority) => access.outside.run(|| authority.may_enter(vhost, peer)),
        }
    }
}
