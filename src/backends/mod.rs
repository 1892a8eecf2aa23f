//! Who else is asked who someone is and what they may do, besides the node's own records.
//!
//! Each backend implements [`Backend`]; the order in which they are asked is the configuration's
//! (`auth_backends.N`). They may ask other machines and take their time: the broker calls them
//! aside.

pub mod http;

use std::sync::Arc;

use crate::broker::access::{Backend, ChainLink, Link};
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

/// Whom to ask, as configured; each backend is made once.
///
/// # Errors
/// When a backend that is to be asked cannot be.
pub fn chain(auth: &Auth) -> Result<Vec<ChainLink>, BackendError> {
    let named = auth.backends.iter().flat_map(|pair| [Some(pair.authn), pair.authz]);
    let asks_http = named.flatten().any(|backend| backend == AuthBackend::Http);
    let http = asks_http.then(|| http::HttpBackend::new(auth.http.clone())).transpose()?;
    let http = http.map(|backend| Arc::new(backend) as Arc<dyn Backend>);
    let link = |backend| match (backend, &http) {
        (AuthBackend::Http, Some(http)) => Link::Backend(Arc::clone(http)),
        _ => Link::Records,
    };
    let links = auth.backends.iter().map(|pair| ChainLink {
        authenticates: link(pair.authn),
        authorises: pair.authz.filter(|authz| *authz != pair.authn).map(link),
    });
    Ok(links.collect())
}
