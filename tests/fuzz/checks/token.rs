//! Tokens in the place of passwords, and the key sets that they are checked with.

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use leveret::backends::oauth2::OAuth2;
use leveret::broker::access::{Backend as _, Candidate, Resource, Right};
use leveret::config::settings;

use super::input::{Input, text};

/// A header that names the key.
const HEADER: &[u8] = b"{\"alg\":\"HS256\",\"kid\":\"k\"}";
const SECRET: &[u8] = b"a secret that is long enough for anyone";
/// The secret, as a key set has it.
const KEY_SET: &str = r#"{"keys":[{"kty":"oct","kid":"k","alg":"HS256",
    "k":"YSBzZWNyZXQgdGhhdCBpcyBsb25nIGVub3VnaCBmb3IgYW55b25l"}]}"#;
const NOW_MS: u64 = 1_795_000_000_000;

/// A file of this thread's, in memory if there is such a place.
fn file(name: &str) -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    let thread = format!("{:?}", std::thread::current().id());
    let number: String = thread.chars().filter(char::is_ascii_digit).collect();
    folder.join(format!("leveret-check-{}-{number}-{name}", std::process::id()))
}

fn issuer(key_set: &str, name: &str) -> Option<OAuth2> {
    let path = file(name);
    std::fs::write(&path, key_set).expect("a file of our own");
    let settings = settings::OAuth2 {
        resource_server_id: "rabbitmq".into(),
        jwks_file: Some(path.clone()),
        algorithms: vec!["HS256".into(), "RS256".into(), "ES256".into(), "EdDSA".into()],
        default_key: Some("k".into()),
        additional_scopes_key: Some("extra.scopes".into()),
        scope_aliases: [("admin".into(), vec!["rabbitmq.tag:administrator".into()])].into(),
        ..settings::OAuth2::default()
    };
    let oauth2 = OAuth2::new(&settings, Arc::new(|| NOW_MS)).ok();
    // Keys are read when a token first names one.
    if let Some(oauth2) = &oauth2 {
        let someone = Candidate { name: "whoever", from_loopback: true };
        drop(oauth2.log_in(someone, signed(HEADER, b"{}").as_bytes()));
    }
    drop(std::fs::remove_file(path));
    oauth2
}

/// A token with this header and these claims, signed with the secret.
fn signed(header: &[u8], claims: &[u8]) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_secret(SECRET);
    let signature = jsonwebtoken::crypto::sign(signed.as_bytes(), &key, Algorithm::HS256);
    format!("{signed}.{}", signature.expect("a key of our own"))
}

/// Only a token that the key has signed lets anyone in, whatever it says; what it says is never
/// more than it says. A key set is read or left.
pub fn token(bytes: &[u8]) {
    static ISSUER: LazyLock<OAuth2> =
        LazyLock::new(|| issuer(KEY_SET, "known").expect("a key of our own"));
    let mut input = Input::new(bytes);
    let someone = Candidate { name: "whoever", from_loopback: true };
    let taken = match input.byte() % 8 {
        0 | 1 => {
            let taken = ISSUER.log_in(someone, input.rest());
            assert!(taken.is_none(), "nobody can sign without the key");
            return;
        }
        2 => {
            drop(issuer(&text(input.rest()), "some"));
            return;
        }
        3 => {
            let header = input.short().to_vec();
            ISSUER.log_in(someone, signed(&header, input.rest()).as_bytes())
        }
        _ => ISSUER.log_in(someone, signed(HEADER, input.rest()).as_bytes()),
    };
    let Some(outsider) = taken else { return };
    assert!((1..=255).contains(&outsider.name.len()));
    let who = &outsider.authority;
    for vhost in ["/", "", "a b", "*"] {
        let mut anything = false;
        for right in Right::ALL {
            for resource in [Resource::Queue("q"), Resource::Exchange("amq.topic")] {
                anything |= who.allows(right, vhost, resource);
            }
            who.allows_topic(right, vhost, "amq.topic", "a.b");
        }
        assert!(!anything || who.may_enter(vhost, None), "who may do something may enter");
    }
    assert!(who.expires_unix_ms().is_none_or(|end_ms| end_ms > NOW_MS));
}
