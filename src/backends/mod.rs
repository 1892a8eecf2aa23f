//! Who else is asked who someone is and what they may do, besides the node's own records.
//!
//! Each implements the broker's trait for them; the order in which they are asked is the
//! configuration's (`auth_backends.N`). They may ask other machines and take their time: the broker
//! calls them aside. What time it is they are told.

pub mod http;
pub mod https;
pub mod oauth2;

use std::sync::Arc;

use crate::broker::access::{ChainLink, Link};
use crate::config::settings::{Auth, AuthBackend};

/// Why a backend cannot be asked as configured.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct BackendError {
    /// The key of the configuration.
    pub key: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

/// The time, in milliseconds of Unix time.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// Whom to ask, as configured; each backend is made once.
///
/// # Errors
/// When a backend that is to be asked cannot be, or not as it stands beside another.
pub fn chain(auth: &Auth, clock: &Clock) -> Result<Vec<ChainLink>, BackendError> {
    for pair in &auth.backends {
        if (pair.authn, pair.authz) == (AuthBackend::Internal, Some(AuthBackend::OAuth2)) {
            let reason = "nobody could log in: oauth2 as authz reads the token that was shown as \
                          the password, and internal as authn knows passwords only";
            return Err(BackendError { key: "auth_backends", reason: reason.to_owned() });
        }
    }
    let is_named = |backend| {
        auth.backends.iter().any(|pair| pair.authn == backend || pair.authz == Some(backend))
    };
    let (mut http, mut oauth2) = (Link::Records, Link::Records);
    if is_named(AuthBackend::Http) {
        http = Link::Backend(Arc::new(http::HttpBackend::new(auth.http.clone())?));
    }
    if is_named(AuthBackend::OAuth2) {
        oauth2 = Link::Backend(Arc::new(oauth2::OAuth2::new(&auth.oauth2, Arc::clone(clock))?));
    }
    let link = |backend| match backend {
        AuthBackend::Internal => Link::Records,
        AuthBackend::Http => http.clone(),
        AuthBackend::OAuth2 => oauth2.clone(),
    };
    let links = auth.backends.iter().map(|pair| ChainLink {
        authenticates: link(pair.authn),
        authorises: pair.authz.filter(|authz| *authz != pair.authn).map(link),
    });
    Ok(links.collect())
}
