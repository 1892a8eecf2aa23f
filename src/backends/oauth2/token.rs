//! A token's bytes: its signature, and the claims it vouches for.
//!
//! Invariant: [`Claims`] exist only of tokens that were signed by one of the broker's keys. Which
//! key and which algorithm is the broker's choice: keys that a token brings along or points at are
//! not looked at, and an algorithm must both be allowed and fit the key, so that nobody's public
//! key can pass for a shared secret.

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use serde_json::{Map, Value};
use thiserror::Error;

use super::keys::Keys;

/// The longest token. Real ones take one or two kilobytes; before login a frame holds less anyway.
const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// Why a token is not taken.
#[derive(Debug, Error)]
pub(super) enum Refused {
    /// It is signed with an algorithm that is not allowed, or not with this key.
    #[error("its algorithm is not allowed, or does not fit the key")]
    Algorithm,
    /// It is meant for others.
    #[error("its audience is not this resource server")]
    Audience,
    /// A time is not a number.
    #[error("its claim '{0}' is not a number")]
    ClaimType(&'static str),
    /// It must not be taken without understanding something that we do not.
    #[error("it has a critical header that is not understood")]
    Critical,
    /// It has not begun.
    #[error("it is not valid yet")]
    Early,
    /// It never ends.
    #[error("it has no exp claim")]
    Endless,
    /// It has ended.
    #[error("it has expired")]
    Late,
    /// It is too long.
    #[error("it is longer than {TOKEN_BYTES_MAX} bytes")]
    Long,
    /// It is no token.
    #[error("it is not a signed JSON Web Token")]
    Malformed,
    /// Whoever it is about cannot be called that.
    #[error("its user name is empty or too long")]
    Name,
    /// It has too many scopes.
    #[error("it has too many scopes")]
    Scopes,
    /// The signature is not by the key.
    #[error("its signature is not valid")]
    Signature,
    /// It is signed with a key that is not known.
    #[error("its signing key is not known")]
    UnknownKey,
}

/// What a token says, once it is known who says it.
#[derive(Debug)]
pub(super) struct Claims(Map<String, Value>);

/// The claims of a token that one of the keys has signed. When they hold is not looked at.
pub(super) fn verified(
    token: &[u8],
    keys: &Keys,
    algorithms: &[Algorithm],
) -> Result<Claims, Refused> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Refused::Long);
    }
    let header = jsonwebtoken::decode_header(token).map_err(|_| Refused::Malformed)?;
    if header.crit.is_some() {
        return Err(Refused::Critical);
    }
    if !algorithms.contains(&header.alg) {
        return Err(Refused::Algorithm);
    }
    let key = keys.find(header.kid.as_deref()).ok_or(Refused::UnknownKey)?;
    if !key.fits(header.alg) {
        return Err(Refused::Algorithm);
    }
    let validation = only_the_signature(header.alg);
    match jsonwebtoken::decode(token, key.decoding(), &validation) {
        Ok(decoded) => Ok(Claims(decoded.claims)),
        Err(error) if *error.kind() == ErrorKind::InvalidSignature => Err(Refused::Signature),
        Err(_) => Err(Refused::Malformed),
    }
}

/// The library would ask the system what time it is.
fn only_the_signature(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    validation
}

impl Claims {
    #[cfg(test)]
    pub(super) fn of(claims: &Value) -> Self {
        Self(claims.as_object().cloned().unwrap_or_default())
    }

    /// All of them.
    pub(super) fn all(&self) -> &Map<String, Value> {
        &self.0
    }

    /// A claim that is text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// A claim that is a list of texts, or one text with spaces between.
    pub(super) fn texts(&self, name: &str) -> Vec<&str> {
        match self.0.get(name) {
            Some(Value::String(text)) => words(text).collect(),
            Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// A moment, in whole seconds of Unix time.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a moment before 1970 is one that is long gone, and the cast saturates"
    )]
    pub(super) fn seconds(&self, name: &'static str) -> Result<Option<u64>, Refused> {
        match self.0.get(name) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(seconds) => Ok(Some(seconds as u64)),
                None => Err(Refused::ClaimType(name)),
            },
        }
    }
}

/// What stands between spaces.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter(|word| !word.is_empty())
}
