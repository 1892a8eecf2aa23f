//! The keys that sign tokens: those of the configuration, and those of a key set (JWKS) that is
//! fetched again when a token names a key that is not there.
//!
//! Invariants: a key set that cannot be had or makes no sense leaves the keys as they were; it is
//! asked for at most once in [`FETCH_MS_MIN`], whatever keys strangers make up; whoever has a key
//! that is known waits for nobody.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jsonwebtoken::jwk::{Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

use super::jwks::KeySet;
use crate::backends::{BackendError, Clock};
use crate::config::settings;

/// How long a key set is left alone.
const FETCH_MS_MIN: u64 = 10_000;

/// By their ids; a key of a key set may have none.
type ById = HashMap<Option<String>, Arc<Key>>;

/// A key that signatures are checked with.
pub(super) struct Key {
    decoding: DecodingKey,
    /// The only algorithm it is for, if it says so.
    algorithm: Option<KeyAlgorithm>,
}

/// All keys.
pub(super) struct Keys {
    configured: ById,
    default_id: Option<String>,
    set: Option<KeySet>,
    fetched: RwLock<ById>,
    /// When the key set was last asked for.
    asked_ms: Mutex<Option<u64>>,
    clock: Clock,
}

impl Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

impl Key {
    /// Whether it can check this algorithm's signatures, and is meant to.
    pub(super) fn fits(&self, algorithm: Algorithm) -> bool {
        let is_meant = |own: &KeyAlgorithm| own.to_string() == format!("{algorithm:?}");
        self.decoding.family() == algorithm.family() && self.algorithm.as_ref().is_none_or(is_meant)
    }

    /// The key as the library has it.
    pub(super) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }

    /// A public key, or a certificate.
    fn read(path: &Path) -> Result<Self, String> {
        let pem = fs::read(path).map_err(|error| error.to_string())?;
        let decoding = DecodingKey::from_rsa_pem(&pem)
            .or_else(|_| DecodingKey::from_ec_pem(&pem))
            .or_else(|_| DecodingKey::from_ed_pem(&pem))
            .map_err(|_| "expected an RSA, EC or Ed25519 public key or a certificate in PEM")?;
        Ok(Self { decoding, algorithm: None })
    }

    /// A key of a key set, with its id; none when it is for something else or of another kind.
    fn from_set(key: &Value) -> Option<(Option<String>, Self)> {
        let jwk: Jwk = serde_json::from_value(key.clone()).ok()?;
        let common = jwk.common.clone();
        if common.public_key_use.is_some_and(|what| what != PublicKeyUse::Signature) {
            return None;
        }
        let decoding = DecodingKey::from_jwk(&jwk).ok()?;
        Some((common.key_id, Self { decoding, algorithm: common.key_algorithm }))
    }
}

impl Keys {
    /// Reads the configured keys.
    pub(super) fn load(settings: &settings::OAuth2, clock: Clock) -> Result<Self, BackendError> {
        let mut configured = ById::new();
        for (id, path) in &settings.signing_keys {
            let key = Key::read(path).map_err(|reason| BackendError {
                key: "auth_oauth2.signing_keys",
                reason: format!("'{id}', {}: {reason}", path.display()),
            })?;
            configured.insert(Some(id.clone()), Arc::new(key));
        }
        let set = KeySet::of(settings)?;
        if configured.is_empty() && set.is_none() {
            let reason = "there is no key to check tokens with, nor a jwks_uri".to_owned();
            return Err(BackendError { key: "auth_oauth2.signing_keys", reason });
        }
        let default_id = settings.default_key.clone();
        if default_id.is_some() && set.is_none() && !configured.contains_key(&default_id) {
            let reason = "there is no signing key of this name".to_owned();
            return Err(BackendError { key: "auth_oauth2.default_key", reason });
        }
        let (fetched, asked_ms) = (RwLock::default(), Mutex::default());
        Ok(Self { configured, default_id, set, fetched, asked_ms, clock })
    }

    /// The key that a token names, or the default one.
    pub(super) fn find(&self, id: Option<&str>) -> Option<Arc<Key>> {
        let id = id.map(str::to_owned).or_else(|| self.default_id.clone());
        self.known(&id).or_else(|| {
            self.fetch();
            self.known(&id)
        })
    }

    fn known(&self, id: &Option<String>) -> Option<Arc<Key>> {
        let fetched = self.fetched.read().unwrap_or_else(PoisonError::into_inner);
        fetched.get(id).or_else(|| self.configured.get(id)).map(Arc::clone)
    }

    /// Asks for the key set, unless that was done just now: whoever comes while somebody else asks
    /// waits for the same answer.
    fn fetch(&self) {
        let Some(set) = &self.set else { return };
        let mut asked_ms = self.asked_ms.lock().unwrap_or_else(PoisonError::into_inner);
        if asked_ms.is_some_and(|asked_ms| (self.clock)() < asked_ms + FETCH_MS_MIN) {
            return;
        }
        match set.fetch().and_then(|text| parsed(&text)) {
            Ok(keys) => {
                tracing::info!("{} signing keys from {set}", keys.len());
                *self.fetched.write().unwrap_or_else(PoisonError::into_inner) = keys;
            }
            Err(reason) => tracing::warn!("no signing keys from {set}: {reason}"),
        }
        // From the answer on: a slow one is not asked again at once.
        *asked_ms = Some((self.clock)());
    }
}

/// The keys of a key set that are of use.
fn parsed(text: &str) -> Result<ById, String> {
    let set: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let keys = set.get("keys").and_then(Value::as_array).ok_or("it is not a key set")?;
    let keys: ById =
        keys.iter().filter_map(Key::from_set).map(|(id, key)| (id, Arc::new(key))).collect();
    if keys.is_empty() { Err("it has no key of use".to_owned()) } else { Ok(keys) }
}
