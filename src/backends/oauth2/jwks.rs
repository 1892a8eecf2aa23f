//! Where a key set (JWKS) comes from: a file that somebody else keeps fresh, or the identity
//! provider's address.
//!
//! What is fetched comes by HTTPS, from whom a certificate vouches for, without following
//! redirections, in limited time and size.

use std::fmt;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use ureq::Agent;

use crate::backends::{BackendError, https};
use crate::config::settings;

/// A login waits this long at most.
const FETCH_S_MAX: u64 = 5;
const SET_BYTES_MAX: u64 = 1024 * 1024;

/// Where keys are.
#[derive(Debug)]
pub(super) enum KeySet {
    /// In a file.
    File(PathBuf),
    /// At an address.
    Address { url: String, agent: Agent },
}

impl fmt::Display for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Address { url, .. } => url.fmt(f),
        }
    }
}

impl KeySet {
    /// The configured one.
    pub(super) fn of(settings: &settings::OAuth2) -> Result<Option<Self>, BackendError> {
        if let Some(path) = &settings.jwks_file {
            return Ok(Some(Self::File(path.clone())));
        }
        let Some(url) = settings.jwks_uri.clone() else { return Ok(None) };
        let tls = https::trusting(settings.cacertfile.as_deref())
            .map_err(|reason| BackendError { key: "auth_oauth2.https.cacertfile", reason })?;
        let agent = Agent::config_builder()
            .https_only(true)
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(FETCH_S_MAX)))
            .tls_config(tls)
            .build()
            .new_agent();
        Ok(Some(Self::Address { url, agent }))
    }

    /// Its text.
    pub(super) fn fetch(&self) -> Result<String, String> {
        match self {
            Self::File(path) => {
                let file = fs::File::open(path).map_err(|error| error.to_string())?;
                let mut text = String::new();
                let read = file.take(SET_BYTES_MAX).read_to_string(&mut text);
                read.map(|_| text).map_err(|error| error.to_string())
            }
            Self::Address { url, agent } => {
                let mut answer = agent.get(url).call().map_err(|error| error.to_string())?;
                if answer.status() != 200 {
                    return Err(format!("the answer is {}", answer.status()));
                }
                let body = answer.body_mut().with_config().limit(SET_BYTES_MAX);
                body.read_to_string().map_err(|error| error.to_string())
            }
        }
    }
}
