//! Encrypted values, in RabbitMQ's form: `encrypted:` and base64 of salt, initial vector and what
//! AES in CBC mode made of the value. The key comes from a passphrase by PBKDF2.
//! `rabbitmqctl encrypt_conf_value` and `leveret encrypt` write what either reads.
//!
//! What is encrypted is the value as an Erlang term. The form has no checksum: a wrong passphrase
//! shows in what it leads to, which is refused unless it is padding and a term to the last byte.

use aes::{Aes128, Aes256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cbc::cipher::block_padding::NoPadding;
use cbc::cipher::{BlockModeDecrypt as _, BlockModeEncrypt as _, KeyIvInit as _};
use pbkdf2::pbkdf2_hmac;
use sha2::{Sha256, Sha512};
use zeroize::Zeroizing;

use super::value::Reason;
use crate::secret::Secret;

/// What an encrypted value begins with.
pub const PREFIX: &str = "encrypted:";
/// Random bytes that encrypting takes: a salt and an initial vector.
pub const RANDOM_BYTES: usize = SALT_BYTES + VECTOR_BYTES;

const SALT_BYTES: usize = 16;
const VECTOR_BYTES: usize = 16;
const BLOCK_BYTES: usize = 16;
/// RabbitMQ before 3.8 padded to twice the cipher's block.
const PADDING_BYTES_MAX: usize = 32;

/// AES in CBC mode, by the length of its key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Cipher {
    /// `aes_128_cbc`, RabbitMQ's default since 3.9.
    #[default]
    Aes128,
    /// `aes_256_cbc`, its default before.
    Aes256,
}

impl Cipher {
    /// By the names that RabbitMQ gives them.
    pub const NAMES: [(&str, Self); 2] =
        [("aes_128_cbc", Self::Aes128), ("aes_256_cbc", Self::Aes256)];
}

/// What a passphrase is hashed with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Hash {
    /// `sha256`, RabbitMQ's default since 3.9.
    #[default]
    Sha256,
    /// `sha512`, its default before.
    Sha512,
}

impl Hash {
    /// By the names that RabbitMQ gives them.
    pub const NAMES: [(&str, Self); 2] = [("sha256", Self::Sha256), ("sha512", Self::Sha512)];
}

/// How values are encrypted. They do not say it themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Algorithm {
    /// What encrypts.
    pub cipher: Cipher,
    /// What a passphrase is hashed with.
    pub hash: Hash,
    /// How often.
    pub iterations: u32,
}

impl Default for Algorithm {
    /// RabbitMQ's. A single iteration: nothing for passphrases that can be guessed.
    fn default() -> Self {
        Self { cipher: Cipher::default(), hash: Hash::default(), iterations: 1 }
    }
}

/// What encrypts and decrypts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vault {
    passphrase: Secret,
    algorithm: Algorithm,
}

impl Vault {
    /// One for this passphrase.
    #[must_use]
    pub fn new(passphrase: Secret, algorithm: Algorithm) -> Self {
        Self { passphrase, algorithm }
    }

    /// The value as a configuration holds it, prefix included.
    #[must_use]
    pub fn encrypt(&self, value: &Secret, random: [u8; RANDOM_BYTES]) -> String {
        let (salt, vector) = random.split_at(SALT_BYTES);
        let mut data = Zeroizing::new(vec![VERSION, BINARY]);
        let length = u32::try_from(value.expose().len()).unwrap_or(u32::MAX);
        data.extend_from_slice(&length.to_be_bytes());
        data.extend_from_slice(value.expose());
        let padding = BLOCK_BYTES - data.len() % BLOCK_BYTES;
        let padded = data.len() + padding;
        data.resize(padded, u8::try_from(padding).unwrap_or_default());
        let encrypted = match self.algorithm.cipher {
            Cipher::Aes128 => {
                cbc::Encryptor::<Aes128>::new_from_slices(&*self.key::<16>(salt), vector)
                    .is_ok_and(|it| it.encrypt_padded::<NoPadding>(&mut data, padded).is_ok())
            }
            Cipher::Aes256 => {
                cbc::Encryptor::<Aes256>::new_from_slices(&*self.key::<32>(salt), vector)
                    .is_ok_and(|it| it.encrypt_padded::<NoPadding>(&mut data, padded).is_ok())
            }
        };
        assert!(
            encrypted,
            "invariant: key and vector are as long as the cipher's, blocks are whole"
        );
        let mut all = random.to_vec();
        all.extend_from_slice(&data);
        format!("{PREFIX}{}", STANDARD.encode(all))
    }

    /// What an encrypted value holds, which comes without its prefix.
    ///
    /// # Errors
    /// When it is not in the form, or was encrypted otherwise.
    pub fn decrypt(&self, encoded: &str) -> Result<Secret, Reason> {
        let malformed = || "not an encrypted value: expected 48 bytes or more in base64".to_owned();
        let all = STANDARD.decode(encoded).map_err(|_| malformed())?;
        let (salt, rest) = all.split_at_checked(SALT_BYTES).ok_or_else(malformed)?;
        let (vector, data) = rest.split_at_checked(VECTOR_BYTES).ok_or_else(malformed)?;
        if data.is_empty() || data.len() % BLOCK_BYTES != 0 {
            return Err(malformed());
        }
        let mut data = Zeroizing::new(data.to_vec());
        let is_whole = match self.algorithm.cipher {
            Cipher::Aes128 => {
                cbc::Decryptor::<Aes128>::new_from_slices(&*self.key::<16>(salt), vector)
                    .is_ok_and(|it| it.decrypt_padded::<NoPadding>(&mut data).is_ok())
            }
            Cipher::Aes256 => {
                cbc::Decryptor::<Aes256>::new_from_slices(&*self.key::<32>(salt), vector)
                    .is_ok_and(|it| it.decrypt_padded::<NoPadding>(&mut data).is_ok())
            }
        };
        let text = unpadded(&data).filter(|_| is_whole).and_then(text_of_term);
        text.ok_or_else(|| {
            "cannot be decrypted: was it encrypted with this passphrase, cipher, hash and number \
             of iterations?"
                .to_owned()
        })
    }

    fn key<const BYTES: usize>(&self, salt: &[u8]) -> Zeroizing<[u8; BYTES]> {
        let (passphrase, iterations) = (self.passphrase.expose(), self.algorithm.iterations);
        let mut key = Zeroizing::new([0; BYTES]);
        match self.algorithm.hash {
            Hash::Sha256 => pbkdf2_hmac::<Sha256>(passphrase, salt, iterations, &mut *key),
            Hash::Sha512 => pbkdf2_hmac::<Sha512>(passphrase, salt, iterations, &mut *key),
        }
        key
    }
}

/// The data without its padding: so many bytes of this value.
fn unpadded(data: &[u8]) -> Option<&[u8]> {
    let padding = usize::from(*data.last()?);
    let at = data.len().checked_sub(padding)?;
    let is_padding = (1..=PADDING_BYTES_MAX).contains(&padding)
        && data[at..].iter().all(|byte| usize::from(*byte) == padding);
    is_padding.then(|| &data[..at])
}

// Erlang's external term format.
const VERSION: u8 = 131;
const BINARY: u8 = 109;
const STRING: u8 = 107;
const ATOM: u8 = 100;
const ATOM_UTF8: u8 = 118;
const SMALL_ATOM: u8 = 115;
const SMALL_ATOM_UTF8: u8 = 119;

/// The text that a term is: a binary, a string, or an atom, as RabbitMQ's tool makes of a value
/// without quotes.
fn text_of_term(term: &[u8]) -> Option<Secret> {
    let (tag, rest) = match term {
        [VERSION, tag, rest @ ..] => (*tag, rest),
        _ => return None,
    };
    let length_bytes = match tag {
        BINARY => 4,
        STRING | ATOM | ATOM_UTF8 => 2,
        SMALL_ATOM | SMALL_ATOM_UTF8 => 1,
        _ => return None,
    };
    let (length, text) = rest.split_at_checked(length_bytes)?;
    let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    (text.len() == length).then(|| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(cipher: Cipher, hash: Hash, iterations: u32) -> Vault {
        Vault::new("mypassphrase".into(), Algorithm { cipher, hash, iterations })
    }

    #[test]
    fn what_rabbitmq_encrypted_is_read() {
        let default = Vault::new("mypassphrase".into(), Algorithm::default());
        // rabbitmqctl encode '<<"s3cret-value">>' mypassphrase (RabbitMQ 3.10.8)
        let binary = "YC+dnbq1RLEDJR1DHs0p/4xbuTvFFgVYx09yTwD9gjwyPK9gDJqiNtw8jv6rgAVe\
                      D4slWtwPtoO2+Yeqlrui3g==";
        assert_eq!(default.decrypt(binary), Ok("s3cret-value".into()));
        // rabbitmqctl encode '"s3cret-string"' mypassphrase --iterations 10000
        let string = "QsgLdXAHvi8DuNI/uL7Uyu3zzdjI80kLrnEXOxAyrqSp8+CfplM190j/+EN8cKHl\
                      sncF1eHEvEib82uYR1ff+Q==";
        let slower = vault(Cipher::Aes128, Hash::Sha256, 10_000);
        assert_eq!(slower.decrypt(string), Ok("s3cret-string".into()));
        assert!(default.decrypt(string).is_err(), "the iterations are part of the key");
        // ... --cipher aes_256_cbc --hash sha512 --iterations 1000, the defaults before 3.9
        let older = "SivZJk1nELB6RUmldp0y03dSV6LtXvYI+W7BdVZ5MRiEhajttfOviTe/S4nHDUEw\
                     HK34zlKDf6iXQqL7FMpGBg==";
        let before = vault(Cipher::Aes256, Hash::Sha512, 1_000);
        assert_eq!(before.decrypt(older), Ok("s3cret-strong".into()));
    }

    #[test]
    fn what_is_encrypted_here_reads_back_whatever_its_length() {
        for (length, (cipher, hash)) in (0..100).flat_map(|length| {
            [(Cipher::Aes128, Hash::Sha512), (Cipher::Aes256, Hash::Sha256)].map(|it| (length, it))
        }) {
            let value = Secret::from("x".repeat(length));
            let vault = vault(cipher, hash, 2);
            let encrypted = vault.encrypt(&value, [7; RANDOM_BYTES]);
            let encoded = encrypted.strip_prefix(PREFIX).unwrap();
            assert_eq!(vault.decrypt(encoded), Ok(value), "{length}");
            let stranger = Vault::new("another".into(), vault.algorithm).decrypt(encoded);
            assert!(stranger.unwrap_err().starts_with("cannot be decrypted"), "{length}");
        }
    }

    #[test]
    fn rubbish_is_no_encrypted_value() {
        for rubbish in ["", "!", "AAAA", &"A".repeat(40), &"A".repeat(88)] {
            let refused = vault(Cipher::Aes128, Hash::Sha256, 2).decrypt(rubbish);
            assert!(refused.unwrap_err().starts_with("not an encrypted value"), "{rubbish}");
        }
    }
}
