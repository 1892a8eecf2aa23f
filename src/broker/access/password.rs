//! Password hashes, in the forms in which RabbitMQ's definitions hold them, and argon2id.
//!
//! RabbitMQ's hashes are a salt of four bytes and the digest of salt and password. Ours is the
//! PHC string of argon2id. Comparing takes the same time wherever two hashes differ.

use argon2::password_hash::phc;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::Md5;
use sha2::{Digest, Sha256, Sha512};
use subtle::ConstantTimeEq as _;

const SALT_BYTES: usize = 4;
/// What argon2id takes of memory for one password, in KiB: OWASP's first choice.
const ARGON2_MEMORY_KIB: u32 = 19_456;
const ARGON2_PASSES: u32 = 2;
const ARGON2_SALT_BYTES: usize = 16;
/// A stored hash is refused above this: an argon2id string says itself how much it costs.
const HASH_BYTES_MAX: usize = 512;

/// How a password is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hashing {
    /// Salted SHA-256, RabbitMQ's default.
    #[default]
    Sha256,
    /// Salted SHA-512.
    Sha512,
    /// Salted MD5: only to read what RabbitMQ 3.5 and older wrote.
    Md5,
    /// argon2id: slow by intent, and not known to RabbitMQ.
    Argon2id,
}

impl Hashing {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Sha256, Self::Sha512, Self::Md5, Self::Argon2id];

    /// Its name in definitions: RabbitMQ's modules, and our own.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "rabbit_password_hashing_sha256",
            Self::Sha512 => "rabbit_password_hashing_sha512",
            Self::Md5 => "rabbit_password_hashing_md5",
            Self::Argon2id => "argon2id",
        }
    }

    /// The one of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hashing| hashing.name() == name)
    }

    /// Whether it takes milliseconds: too long for a thread that moves messages.
    #[must_use]
    pub const fn is_slow(self) -> bool {
        matches!(self, Self::Argon2id)
    }
}

/// A password's hash.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    hashing: Hashing,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PasswordHash").field("hashing", &self.hashing).finish_non_exhaustive()
    }
}

/// Why a hash was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// It is not base64.
    #[error("a password hash is base64")]
    NotBase64,
    /// It is too long, or costs too much to compare with.
    #[error("a password hash of an unknown form")]
    Unknown,
}

impl PasswordHash {
    /// Hashes a password; `entropy` makes its salt.
    #[must_use]
    pub fn new(hashing: Hashing, password: &[u8], entropy: impl FnOnce(&mut [u8])) -> Self {
        let mut random = [0; ARGON2_SALT_BYTES];
        entropy(&mut random);
        let bytes = match hashing {
            Hashing::Argon2id => argon2id(password, &random),
            _ => {
                let salt = &random[..SALT_BYTES];
                [salt, &digest(hashing, salt, password)].concat()
            }
        };
        Self { hashing, bytes }
    }

    /// The hash of no password: nobody can log in with it.
    #[must_use]
    pub const fn none(hashing: Hashing) -> Self {
        Self { hashing, bytes: Vec::new() }
    }

    /// A hash as definitions hold it. An empty one belongs to no password.
    ///
    /// # Errors
    /// When it cannot be one.
    pub fn from_base64(hashing: Hashing, text: &str) -> Result<Self, HashError> {
        let bytes = STANDARD.decode(text).map_err(|_| HashError::NotBase64)?;
        Self::from_bytes(hashing, bytes)
    }

    pub(super) fn from_bytes(hashing: Hashing, bytes: Vec<u8>) -> Result<Self, HashError> {
        let fits = match hashing {
            _ if bytes.is_empty() => true,
            Hashing::Argon2id => affordable(&bytes),
            _ => bytes.len() == SALT_BYTES + digest(hashing, &[], &[]).len(),
        };
        if fits { Ok(Self { hashing, bytes }) } else { Err(HashError::Unknown) }
    }

    /// How it was made.
    #[must_use]
    pub const fn hashing(&self) -> Hashing {
        self.hashing
    }

    /// Its bytes, as they are stored.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As definitions hold it.
    #[must_use]
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.bytes)
    }

    /// Whether it is this password's.
    #[must_use]
    pub fn is_of(&self, password: &[u8]) -> bool {
        if self.hashing == Hashing::Argon2id {
            let Ok(text) = str::from_utf8(&self.bytes) else { return false };
            return Argon2::default().verify_password(password, text).is_ok();
        }
        let (salt, expected) = self.bytes.split_at(SALT_BYTES.min(self.bytes.len()));
        digest(self.hashing, salt, password).ct_eq(expected).into()
    }
}

fn digest(hashing: Hashing, salt: &[u8], password: &[u8]) -> Vec<u8> {
    fn of<D: Digest>(salt: &[u8], password: &[u8]) -> Vec<u8> {
        D::new().chain_update(salt).chain_update(password).finalize().to_vec()
    }
    match hashing {
        Hashing::Sha512 => of::<Sha512>(salt, password),
        Hashing::Md5 => of::<Md5>(salt, password),
        Hashing::Sha256 | Hashing::Argon2id => of::<Sha256>(salt, password),
    }
}

fn argon2id(password: &[u8], salt: &[u8]) -> Vec<u8> {
    let params = Params::new(ARGON2_MEMORY_KIB, ARGON2_PASSES, 1, None);
    let params = params.expect("invariant: constants within their limits");
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password_with_salt(password, salt);
    hash.expect("invariant: checked parameters").to_string().into_bytes()
}

/// Whether an argon2id string can be read and costs no more than ten of ours.
fn affordable(bytes: &[u8]) -> bool {
    let text = str::from_utf8(bytes).ok().filter(|text| text.len() <= HASH_BYTES_MAX);
    let Some(Ok(hash)) = text.map(phc::PasswordHash::new) else { return false };
    let Ok(params) = Params::try_from(&hash) else { return false };
    hash.algorithm == ARGON2ID_IDENT
        && params.m_cost() <= 10 * ARGON2_MEMORY_KIB
        && params.t_cost() <= 10 * ARGON2_PASSES
        && params.p_cost() <= 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn salt(bytes: &mut [u8]) {
        bytes.fill(7);
    }

    #[test]
    fn each_way_of_hashing_knows_its_password_and_survives_definitions() {
        for hashing in Hashing::ALL {
            assert_eq!(Hashing::from_name(hashing.name()), Some(hashing));
            let hash = PasswordHash::new(hashing, b"secret", salt);
            assert!(hash.is_of(b"secret"), "{hashing:?}");
            assert!(!hash.is_of(b"Secret"), "{hashing:?}");
            assert!(!hash.is_of(b""), "{hashing:?}");
            let read = PasswordHash::from_base64(hashing, &hash.to_base64()).unwrap();
            assert_eq!(read, hash);
            assert!(!PasswordHash::none(hashing).is_of(b""), "{hashing:?}");
        }
    }

    /// From RabbitMQ's documentation of password hashes.
    #[test]
    fn a_hash_that_rabbitmq_made_is_understood() {
        let hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
        let hash = PasswordHash::from_base64(Hashing::Sha256, hash).unwrap();
        assert!(hash.is_of(b"test12"));
    }

    #[test]
    fn what_cannot_be_a_hash_or_costs_too_much_is_refused() {
        let read = PasswordHash::from_base64;
        assert_eq!(read(Hashing::Sha256, "!"), Err(HashError::NotBase64));
        assert_eq!(read(Hashing::Sha256, "AAAA"), Err(HashError::Unknown));
        assert_eq!(read(Hashing::Argon2id, "AAAA"), Err(HashError::Unknown));
        let dear = "$argon2id$v=19$m=4000000,t=2,p=1$c29tZXNhbHQ$RdescudvJCsgt3ub+b9dWRWJTmaaJObG";
        assert_eq!(read(Hashing::Argon2id, &STANDARD.encode(dear)), Err(HashError::Unknown));
        assert!(read(Hashing::Sha256, "").is_ok(), "no password");
    }
}
