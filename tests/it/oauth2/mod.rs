//! Users who show tokens: the OAuth 2 backend, in a chain after the node's own records.

mod issuer;
mod keys;
mod over_http;
mod scopes;
mod tokens;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use leveret::backends::oauth2::OAuth2;
use leveret::backends::{self, BackendError, Clock};
use leveret::broker::access::{Backend, Candidate, Outsider};
use leveret::config::settings::{self, Auth, AuthBackend, BackendPair};
use serde_json::{Value, json};

use self::issuer::Issuer;
use crate::support::*;

const LOGIN_REFUSED: &str = "ACCESS_REFUSED - Login was refused using authentication mechanism \
                             PLAIN. For details see the broker logfile.";

/// A broker called "rabbitmq" that takes an issuer's tokens.
struct Realm {
    world: World,
    clock: SharedClock,
}

/// A clock that a test sets.
#[derive(Clone)]
struct SharedClock(Arc<AtomicU64>);

impl SharedClock {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(world::EPOCH_S * 1_000)))
    }

    fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }

    fn clock(&self) -> Clock {
        let now = Arc::clone(&self.0);
        Arc::new(move || now.load(Ordering::SeqCst))
    }
}

impl Realm {
    fn of(settings: &settings::OAuth2) -> Self {
        let (world, clock) = (World::new(), SharedClock::new());
        let alone = |authn| BackendPair { authn, authz: None };
        let auth = Auth {
            backends: vec![alone(AuthBackend::Internal), alone(AuthBackend::OAuth2)],
            oauth2: settings.clone(),
            ..Auth::default()
        };
        let chain = backends::chain(&auth, &clock.clock()).unwrap();
        world.broker().access().ask_others(chain, Box::new(|work| work()));
        Self { world, clock }
    }

    fn new() -> Self {
        Self::of(&trusting(Issuer::usual()))
    }

    fn client(&self, token: &str) -> Client {
        self.world.client_as(&showing(token))
    }

    /// A client with a token of these scopes.
    fn client_for(&self, scopes: &[&str]) -> Client {
        self.client(&Issuer::usual().sign(&claims(scopes)))
    }

    fn refuses(&self, token: &str) {
        let stranger = self.world.stranger();
        stranger.say_hello();
        stranger.start_ok(&showing(token));
        self.advance(1_000);
        stranger.expect_connection_close(403, LOGIN_REFUSED);
    }

    fn advance(&self, ms: u64) {
        self.clock.advance(ms);
        self.world.advance(ms);
    }
}

/// The name is nobody's: only the token counts.
fn showing(token: &str) -> Login {
    Login { user: "whoever".into(), password: token.into(), ..Login::default() }
}

/// Settings with one key, which tokens need not name.
fn trusting(issuer: &Issuer) -> settings::OAuth2 {
    let file = key_file(issuer);
    settings::OAuth2 {
        resource_server_id: "rabbitmq".into(),
        signing_keys: [(issuer.kid.clone(), file)].into(),
        default_key: Some(issuer.kid.clone()),
        ..settings::OAuth2::default()
    }
}

/// Where an issuer's public key is. The folder lives as long as the tests.
fn key_file(issuer: &Issuer) -> PathBuf {
    let path = tempfile::tempdir().unwrap().keep().join("key.pem");
    fs::write(&path, &issuer.public_pem).unwrap();
    path
}

/// What a usual token says: for an hour.
fn claims(scopes: &[&str]) -> Value {
    json!({
        "sub": "app",
        "aud": ["other", "rabbitmq"],
        "exp": world::EPOCH_S + 3_600,
        "scope": scopes,
    })
}

/// Those claims with others.
fn claims_with(others: Value) -> Value {
    let mut claims = claims(&ALL);
    for (name, value) in others.as_object().unwrap() {
        match value {
            Value::Null => claims.as_object_mut().unwrap().remove(name),
            value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
        };
    }
    claims
}

/// Every right everywhere.
const ALL: [&str; 5] = [
    "rabbitmq.configure:*/*",
    "rabbitmq.write:*/*",
    "rabbitmq.read:*/*",
    "rabbitmq.write:*/*/*",
    "rabbitmq.read:*/*/*",
];

/// Whom a backend with these settings sees in a token.
fn seen(settings: &settings::OAuth2, token: &str) -> Option<Outsider> {
    backend(settings).unwrap().log_in(nobody(), token.as_bytes())
}

fn backend(settings: &settings::OAuth2) -> Result<OAuth2, BackendError> {
    OAuth2::new(settings, SharedClock::new().clock())
}

fn nobody() -> Candidate<'static> {
    Candidate { name: "", from_loopback: false }
}
