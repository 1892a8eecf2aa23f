//! OAuth 2: a signed token (JWT) in the place of the password says who someone is and, in its
//! scopes, what they may do, as RabbitMQ's plugin reads it.
//!
//! Owns what a token must hold to be taken: a signature by a known key with an allowed algorithm,
//! the audience, and a time that has begun and has not ended. A token is looked at once, at login;
//! its end is the login's end. Why a token was refused is logged, the token itself never.

mod jwks;
mod keys;
mod scopes;
mod token;
mod wildcard;

use std::fmt::{self, Debug};
use std::sync::Arc;

use jsonwebtoken::Algorithm;

use self::keys::Keys;
use self::scopes::Scopes;
use self::token::{Claims, Refused};
use crate::backends::{BackendError, Clock};
use crate::broker::access::{Authority, Backend, Candidate, Outsider, Resource, Right, User};
use crate::config::settings;

/// Claims that name someone when no configured one does.
const NAME_CLAIMS: [&str; 2] = ["sub", "client_id"];
/// Whoever has no name.
const NAMELESS: &str = "unknown";
/// User names are AMQP short strings.
const NAME_BYTES_MAX: usize = 255;
/// Clocks differ: a token may be this much younger than it says.
const EARLY_S_MAX: u64 = 60;

/// Algorithms that are taken unless the configuration names some: those where who can check a
/// token cannot make one.
const ASYMMETRIC: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// The backend.
pub struct OAuth2 {
    settings: settings::OAuth2,
    algorithms: Vec<Algorithm>,
    keys: Keys,
    clock: Clock,
}

impl Debug for OAuth2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OAuth2").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl OAuth2 {
    /// The backend with its keys read. Keys that are fetched are fetched when a token first needs
    /// one.
    ///
    /// # Errors
    /// No `resource_server_id`, no key at all, or a file that cannot be read or used.
    pub fn new(settings: &settings::OAuth2, clock: Clock) -> Result<Self, BackendError> {
        if settings.resource_server_id.is_empty() {
            let reason = "the backend needs it: tokens must be meant for this broker".to_owned();
            return Err(BackendError { key: "auth_oauth2.resource_server_id", reason });
        }
        let mut algorithms = Vec::new();
        for name in &settings.algorithms {
            let known = name.parse().map_err(|_| BackendError {
                key: "auth_oauth2.algorithms",
                reason: format!("'{name}' is not known"),
            })?;
            algorithms.push(known);
        }
        if algorithms.is_empty() {
            algorithms.extend(ASYMMETRIC);
        }
        let keys = Keys::load(settings, Arc::clone(&clock))?;
        Ok(Self { settings: settings.clone(), algorithms, keys, clock })
    }

    fn outsider(&self, token: &[u8]) -> Result<Outsider, Refused> {
        let claims = token::verified(token, &self.keys, &self.algorithms)?;
        self.check_audience(&claims)?;
        let expires_unix_ms = self.check_time(&claims)?;
        let name = self.name(&claims)?;
        let scopes = Scopes::of(&claims, &self.settings)?;
        let tags = scopes.tags().to_vec();
        Ok(Outsider { name, tags, authority: Arc::new(Bearer { scopes, expires_unix_ms }) })
    }

    fn check_audience(&self, claims: &Claims) -> Result<(), Refused> {
        if !self.settings.verify_aud {
            return Ok(());
        }
        let own = self.settings.resource_server_id.as_str();
        match claims.texts("aud").contains(&own) {
            true => Ok(()),
            false => Err(Refused::Audience),
        }
    }

    /// When the token ends, in milliseconds of Unix time.
    fn check_time(&self, claims: &Claims) -> Result<Option<u64>, Refused> {
        let now_s = (self.clock)() / 1_000;
        if claims.seconds("nbf")?.is_some_and(|begin_s| begin_s > now_s + EARLY_S_MAX) {
            return Err(Refused::Early);
        }
        match claims.seconds("exp")? {
            None if self.settings.require_exp => Err(Refused::Endless),
            None => Ok(None),
            Some(end_s) if end_s <= now_s => Err(Refused::Late),
            Some(end_s) => Ok(Some(end_s.saturating_mul(1_000))),
        }
    }

    fn name(&self, claims: &Claims) -> Result<String, Refused> {
        let preferred = self.settings.preferred_username_claims.iter().map(String::as_str);
        let named = preferred.chain(NAME_CLAIMS).find_map(|claim| claims.text(claim));
        let name = named.unwrap_or(NAMELESS);
        match name.len() {
            1..=NAME_BYTES_MAX => Ok(name.to_owned()),
            _ => Err(Refused::Name),
        }
    }
}

impl Backend for OAuth2 {
    fn name(&self) -> &'static str {
        "rabbit_auth_backend_oauth2"
    }

    fn log_in(&self, _: Candidate<'_>, password: &[u8]) -> Option<Outsider> {
        let refused = match self.outsider(password) {
            Ok(outsider) => return Some(outsider),
            Err(refused) => refused,
        };
        match refused {
            // Somebody's password, most likely: others in the chain may know them.
            Refused::Malformed => tracing::debug!("not a token: {refused}"),
            _ => tracing::info!("a token was refused: {refused}"),
        }
        None
    }

    /// As in RabbitMQ, what was shown elsewhere must be a token here: another backend has looked at
    /// it and said who that is.
    fn vouch(&self, user: &User, password: &[u8]) -> Option<Arc<dyn Authority>> {
        let who = Candidate { name: &user.name, from_loopback: false };
        self.log_in(who, password).map(|outsider| outsider.authority)
    }
}

/// Whoever shows a token may do what its scopes say.
#[derive(Debug)]
struct Bearer {
    scopes: Scopes,
    expires_unix_ms: Option<u64>,
}

impl Authority for Bearer {
    fn may_enter(&self, vhost: &str, _: Option<&str>) -> bool {
        self.scopes.reach(vhost)
    }

    fn allows(&self, right: Right, vhost: &str, resource: Resource<'_>) -> bool {
        self.scopes.allow(right, vhost, resource.name())
    }

    fn allows_topic(&self, right: Right, vhost: &str, exchange: &str, key: &str) -> bool {
        self.scopes.allow_topic(right, vhost, exchange, key)
    }

    fn expires_unix_ms(&self) -> Option<u64> {
        self.expires_unix_ms
    }
}
