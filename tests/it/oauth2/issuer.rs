//! Who signs the tests' tokens, with keys made when the tests run.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, crypto, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256};
use serde_json::Value;

static USUAL: LazyLock<Issuer> = LazyLock::new(|| Issuer::rsa("key-1"));

/// Someone with a key.
pub(super) struct Issuer {
    /// What the key is called.
    pub(super) kid: String,
    /// Its public part.
    pub(super) public_pem: String,
    algorithm: Algorithm,
    signing: EncodingKey,
}

impl Issuer {
    /// The one whom most tests trust: making an RSA key takes its time.
    pub(super) fn usual() -> &'static Self {
        &USUAL
    }

    pub(super) fn rsa(kid: &str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let signing = EncodingKey::from_rsa_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self::with(kid, &pair, Algorithm::RS256, signing)
    }

    pub(super) fn ec(kid: &str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let signing = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self::with(kid, &pair, Algorithm::ES256, signing)
    }

    pub(super) fn ed25519(kid: &str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        let signing = EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self::with(kid, &pair, Algorithm::EdDSA, signing)
    }

    fn with(kid: &str, pair: &KeyPair, algorithm: Algorithm, signing: EncodingKey) -> Self {
        Self { kid: kid.to_owned(), public_pem: pair.public_key_pem(), algorithm, signing }
    }

    /// A token that names the key.
    pub(super) fn sign(&self, claims: &Value) -> String {
        self.sign_as(Some(&self.kid), self.algorithm, claims)
    }

    /// A token that names this key, or none.
    pub(super) fn sign_as(&self, kid: Option<&str>, with: Algorithm, claims: &Value) -> String {
        let kid = kid.map(str::to_owned);
        encode(&Header { kid, ..Header::new(with) }, claims, &self.signing).unwrap()
    }

    /// A token with any header.
    pub(super) fn sign_header(&self, header: &Value, claims: &Value) -> String {
        let unsigned = of_parts(header, &claims.to_string(), "");
        let message = unsigned.trim_end_matches('.');
        let signature = crypto::sign(message.as_bytes(), &self.signing, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }

    /// The public key as key sets have it.
    pub(super) fn jwk(&self) -> Value {
        let mut jwk = Jwk::from_encoding_key(&self.signing, self.algorithm).unwrap();
        jwk.common.key_id = Some(self.kid.clone());
        serde_json::to_value(jwk).unwrap()
    }
}

/// A token signed with a secret.
pub(super) fn sign_with_secret(secret: &[u8], kid: &str, claims: &Value) -> String {
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::HS256) };
    encode(&header, claims, &EncodingKey::from_secret(secret)).unwrap()
}

/// A token of any three parts.
pub(super) fn of_parts(header: &Value, claims: &str, signature: &str) -> String {
    let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{signature}", encoded(&header.to_string()), encoded(claims))
}
