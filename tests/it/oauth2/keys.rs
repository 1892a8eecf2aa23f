//! Where keys come from: files, key sets in files, key sets at an address.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::thread;

use jsonwebtoken::Algorithm;
use rcgen::generate_simple_self_signed;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::issuer::sign_with_secret;
use super::*;

/// A backend with a key set in a file, and its clock.
fn with_key_set(file: &Path, key_set: &Value) -> (OAuth2, SharedClock) {
    fs::write(file, key_set.to_string()).unwrap();
    let settings = settings::OAuth2 {
        resource_server_id: "rabbitmq".into(),
        jwks_file: Some(file.to_owned()),
        ..settings::OAuth2::default()
    };
    let clock = SharedClock::new();
    (OAuth2::new(&settings, clock.clock()).unwrap(), clock)
}

fn takes(backend: &OAuth2, token: &str) -> bool {
    backend.log_in(nobody(), token.as_bytes()).is_some()
}

#[test]
fn each_kind_of_key_signs_tokens() {
    for issuer in [Issuer::rsa("k"), Issuer::ec("k"), Issuer::ed25519("k")] {
        assert!(seen(&trusting(&issuer), &issuer.sign(&claims(&ALL))).is_some());
    }
}

#[test]
fn the_key_is_the_one_that_the_token_names() {
    let (first, second) = (Issuer::ec("first"), Issuer::ec("second"));
    let mut settings = trusting(&first);
    settings.signing_keys.insert("second".into(), key_file(&second));
    for (token, taken) in [
        (first.sign(&claims(&ALL)), true),
        (second.sign(&claims(&ALL)), true),
        (second.sign_as(Some("first"), Algorithm::ES256, &claims(&ALL)), false),
        // The default key.
        (first.sign_as(None, Algorithm::ES256, &claims(&ALL)), true),
        (second.sign_as(None, Algorithm::ES256, &claims(&ALL)), false),
    ] {
        assert_eq!(seen(&settings, &token).is_some(), taken, "{token}");
    }
    settings.default_key = None;
    let nameless = first.sign_as(None, Algorithm::ES256, &claims(&ALL));
    assert!(seen(&settings, &nameless).is_none());
}

#[test]
fn a_backend_that_cannot_work_says_what_is_wrong() {
    let usual = trusting(Issuer::usual());
    let none = settings::OAuth2 { resource_server_id: String::new(), ..usual.clone() };
    let keyless = settings::OAuth2 { signing_keys: Default::default(), ..usual.clone() };
    let default_key = Some("other".into());
    let other = settings::OAuth2 { default_key, ..usual.clone() };
    let path = tempfile::tempdir().unwrap().path().join("gone.pem");
    let gone = settings::OAuth2 { signing_keys: [("a".into(), path.clone())].into(), ..usual };
    let file = tempfile::NamedTempFile::new().unwrap();
    let junk = [("b".into(), file.path().to_owned())].into();
    let junk = settings::OAuth2 { signing_keys: junk, ..gone.clone() };
    let jwks_uri = Some("https://127.0.0.1/".into());
    let roots = settings::OAuth2 { jwks_uri, cacertfile: Some(path), ..keyless.clone() };
    for (settings, key) in [
        (none, "auth_oauth2.resource_server_id"),
        (keyless, "auth_oauth2.signing_keys"),
        (other, "auth_oauth2.default_key"),
        (gone, "auth_oauth2.signing_keys"),
        (junk, "auth_oauth2.signing_keys"),
        (roots, "auth_oauth2.https.cacertfile"),
    ] {
        assert_eq!(backend(&settings).unwrap_err().key, key);
    }
}

#[test]
fn a_key_set_is_read_again_for_a_key_that_is_not_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let (old, new) = (Issuer::ec("old"), Issuer::rsa("new"));
    let (backend, clock) = with_key_set(&file, &json!({ "keys": [old.jwk()] }));
    let (by_old, by_new) = (old.sign(&claims(&ALL)), new.sign(&claims(&ALL)));
    assert!(takes(&backend, &by_old));
    assert!(!takes(&backend, &by_new));
    fs::write(&file, json!({ "keys": [new.jwk()] }).to_string()).unwrap();
    // It was read just now.
    assert!(!takes(&backend, &by_new));
    clock.advance(10_000);
    assert!(takes(&backend, &by_new));
    assert!(!takes(&backend, &by_old));
    // What makes no sense changes nothing.
    for junk in ["", "[]", "{}", "{\"keys\":[]}", "{\"keys\":[7,{\"kty\":\"?\"}]}"] {
        fs::write(&file, junk).unwrap();
        clock.advance(10_000);
        assert!(!takes(&backend, &by_old));
        assert!(takes(&backend, &by_new), "{junk}");
    }
}

#[test]
fn a_key_is_for_what_it_says_it_is_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    let with = |issuer: &Issuer, name: &str, value: Value| {
        let mut jwk = issuer.jwk();
        jwk[name] = value;
        jwk
    };
    let rsa = ["a", "b", "c"].map(Issuer::rsa);
    let nameless = Issuer::ec("nameless");
    let mut no_kid = nameless.jwk();
    no_kid.as_object_mut().unwrap().remove("kid");
    let secret = json!({ "kty": "oct", "kid": "secret", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQ" });
    let keys = [
        json!({ "kty": "unheard-of", "kid": "z" }),
        json!("junk"),
        with(&rsa[0], "use", json!("enc")),
        with(&rsa[1], "alg", json!("RS512")),
        with(&rsa[2], "alg", json!("RSA-OAEP")),
        no_kid,
        secret,
    ];
    let (backend, _) = with_key_set(&file, &json!({ "keys": keys }));
    let all = claims(&ALL);
    assert!(!takes(&backend, &rsa[0].sign(&all)));
    assert!(!takes(&backend, &rsa[1].sign(&all)));
    assert!(takes(&backend, &rsa[1].sign_as(Some("b"), Algorithm::RS512, &all)));
    assert!(!takes(&backend, &rsa[2].sign(&all)));
    assert!(takes(&backend, &nameless.sign_as(None, Algorithm::ES256, &all)));
    // Secrets only where the configuration says so.
    let by_secret = sign_with_secret(b"secret-secret-secret", "secret", &all);
    assert!(!takes(&backend, &by_secret));
    let settings = settings::OAuth2 {
        resource_server_id: "rabbitmq".into(),
        jwks_file: Some(file),
        algorithms: vec!["HS256".into()],
        ..settings::OAuth2::default()
    };
    assert!(seen(&settings, &by_secret).is_some());
    assert!(seen(&settings, &sign_with_secret(b"another", "secret", &all)).is_none());
}

/// An identity provider on this machine that answers so often, and its certificate's file.
fn provider(folder: &Path, answers: Vec<String>) -> (settings::OAuth2, thread::JoinHandle<()>) {
    let own = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let cacertfile = folder.join("ca.pem");
    fs::write(&cacertfile, own.cert.pem()).unwrap();
    let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    let config = config.with_single_cert(vec![own.cert.der().clone()], key).unwrap();
    let listener = TcpListener::bind("localhost:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let config = Arc::new(config);
    let serving = thread::spawn(move || {
        for answer in answers {
            let (socket, _) = listener.accept().unwrap();
            let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(tls, socket);
            let mut request = Vec::new();
            let mut part = [0; 1024];
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read(&mut part) {
                    Ok(read @ 1..) => request.extend_from_slice(&part[..read]),
                    // Who does not trust the certificate says no more.
                    _ => break,
                }
            }
            let _ = stream.write_all(answer.as_bytes());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    let settings = settings::OAuth2 {
        resource_server_id: "rabbitmq".into(),
        jwks_uri: Some(format!("https://localhost:{port}/keys")),
        cacertfile: Some(cacertfile),
        ..settings::OAuth2::default()
    };
    (settings, serving)
}

fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}

#[test]
fn a_key_set_is_fetched_from_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::ec("k");
    let keys = json!({ "keys": [issuer.jwk()] }).to_string();
    let elsewhere = "HTTP/1.1 302 Found\r\nLocation: https://localhost:1/\r\nContent-Length: 0\r\n\
                     Connection: close\r\n\r\n";
    let answers = vec![
        answer("503 Service Unavailable", &keys),
        elsewhere.to_owned(),
        answer("200 OK", &"x".repeat(2 * 1024 * 1024)),
        answer("200 OK", &keys),
    ];
    let failures = answers.len() - 1;
    let (settings, serving) = provider(folder.path(), answers);
    let clock = SharedClock::new();
    let backend = OAuth2::new(&settings, clock.clock()).unwrap();
    let token = issuer.sign(&claims(&ALL));
    for _ in 0..failures {
        assert!(!takes(&backend, &token));
        clock.advance(10_000);
    }
    assert!(takes(&backend, &token));
    serving.join().unwrap();
    // The provider is gone; its keys are not.
    clock.advance(10_000);
    assert!(!takes(&backend, &Issuer::ec("other").sign(&claims(&ALL))));
    assert!(takes(&backend, &token));
}

#[test]
fn keys_are_taken_from_nobody_whom_no_certificate_vouches_for() {
    let (here, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let issuer = Issuer::ec("k");
    let keys = json!({ "keys": [issuer.jwk()] }).to_string();
    let (settings, serving) = provider(here.path(), vec![answer("200 OK", &keys)]);
    let (other, _) = provider(elsewhere.path(), Vec::new());
    let settings = settings::OAuth2 { cacertfile: other.cacertfile, ..settings };
    assert!(seen(&settings, &issuer.sign(&claims(&ALL))).is_none());
    serving.join().unwrap();
}
