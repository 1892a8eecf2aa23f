//! Which tokens are taken, who shows them, and for how long.

use jsonwebtoken::Algorithm;
use leveret::protocol::method::{Method, connection};
use serde_json::json;

use super::issuer::{of_parts, sign_with_secret};
use super::*;
use crate::support::client::open_vhost;

#[test]
fn a_token_gives_each_right_where_its_scopes_say_so() {
    let realm = Realm::new();
    let client = realm.client_for(&[
        "rabbitmq.configure:%2F/app-*",
        "rabbitmq.write:%2F/app-*",
        "rabbitmq.write:*/amq.default",
        "rabbitmq.read:*/app-r",
    ]);
    client.declare(1, queue("app-r"));
    client.declare(1, queue("app-w"));
    client.send(1, publish("", "app-r", "1"));
    assert_eq!(client.drain(1, "app-r"), ["1"]);
    let refused = |request: &dyn Fn(u16), channel, right: &str, resource: &str| {
        client.open(channel);
        request(channel);
        let text = format!(
            "ACCESS_REFUSED - {right} access to {resource} in vhost '/' refused for user 'app'"
        );
        client.expect_channel_close(channel, 403, &text);
    };
    refused(&|at| client.send(at, queue("other")), 2, "configure", "queue 'other'");
    refused(&|at| client.send(at, get("app-w")), 3, "read", "queue 'app-w'");
    let unwritable = &|at| client.send(at, publish("amq.direct", "k", "1"));
    refused(unwritable, 4, "write", "exchange 'amq.direct'");
}

#[test]
fn users_of_the_node_log_in_beside_those_with_tokens() {
    let realm = Realm::new();
    realm.world.client();
    realm.client_for(&ALL);
}

#[test]
fn who_has_no_scope_in_a_vhost_may_not_enter_it() {
    let realm = Realm::new();
    for scopes in [&["rabbitmq.read:other/*", "rabbitmq.tag:administrator"][..], &[]] {
        let stranger = realm.world.stranger();
        stranger.say_hello();
        stranger.start_ok(&showing(&Issuer::usual().sign(&claims(scopes))));
        stranger.tune_ok(&Login::default());
        stranger.send(0, open_vhost("/"));
        let text = "NOT_ALLOWED - access to vhost '/' refused for user 'app'";
        stranger.expect_connection_close(530, text);
    }
}

#[test]
fn topic_exchanges_let_through_the_keys_of_the_third_part() {
    let realm = Realm::new();
    let client = realm.client_for(&[
        "rabbitmq.configure:*/*",
        "rabbitmq.read:*/amq.topic/blue.*",
        "rabbitmq.write:*/*",
        "rabbitmq.write:*/amq.topic/{sub}.*",
    ]);
    client.declare(1, queue("q"));
    client.ok(1, bind("q", "amq.topic", "blue.#"));
    client.send(1, publish("amq.topic", "app.1", "1"));
    // A scope without a third part is no scope for keys.
    client.send(1, publish("amq.topic", "other", "2"));
    let text = "ACCESS_REFUSED - write access to topic 'other' in exchange 'amq.topic' in vhost \
                '/' refused for user 'app'";
    client.expect_channel_close(1, 403, text);
    client.open(2);
    let text = "ACCESS_REFUSED - read access to topic 'red.#' in exchange 'amq.topic' in vhost \
                '/' refused for user 'app'";
    client.refused(2, bind("q", "amq.topic", "red.#"), 403, text);
}

#[test]
fn tags_come_from_scopes() {
    let mut scopes = ALL.to_vec();
    scopes.extend(["rabbitmq.tag:monitoring", "rabbitmq.tag:impersonator", "tag:administrator"]);
    let token = Issuer::usual().sign(&claims(&scopes));
    let seen = seen(&trusting(Issuer::usual()), &token).unwrap();
    assert_eq!(seen.tags, ["impersonator", "monitoring"]);
}

#[test]
fn the_name_is_the_first_claim_that_is_text() {
    let mut settings = trusting(Issuer::usual());
    let name = |settings: &settings::OAuth2, others| {
        seen(settings, &Issuer::usual().sign(&claims_with(others))).unwrap().name
    };
    assert_eq!(name(&settings, json!({ "client_id": "c" })), "app");
    assert_eq!(name(&settings, json!({ "client_id": "c", "sub": null })), "c");
    assert_eq!(name(&settings, json!({ "sub": null })), "unknown");
    settings.preferred_username_claims = vec!["preferred_username".into(), "email".into()];
    assert_eq!(name(&settings, json!({ "email": "a@b", "preferred_username": 7 })), "a@b");
    assert_eq!(name(&settings, json!({ "email": "a@b", "preferred_username": "ann" })), "ann");
    assert_eq!(name(&settings, json!({})), "app");
}

#[test]
fn tokens_that_are_not_for_here_and_now_are_refused() {
    let realm = Realm::new();
    let now_s = world::EPOCH_S;
    for others in [
        json!({ "aud": "other" }),
        json!({ "aud": ["other", "rabbitmq2", 7] }),
        json!({ "aud": { "rabbitmq": "rabbitmq" } }),
        json!({ "aud": null }),
        json!({ "exp": now_s }),
        json!({ "exp": now_s - 3_600 }),
        json!({ "exp": -1 }),
        json!({ "exp": null }),
        json!({ "exp": "tomorrow" }),
        json!({ "exp": [now_s + 3_600] }),
        json!({ "nbf": now_s + 600 }),
        json!({ "nbf": "today" }),
        json!({ "sub": "" }),
        json!({ "sub": "x".repeat(256) }),
    ] {
        realm.refuses(&Issuer::usual().sign(&claims_with(others)));
    }
}

#[test]
fn tokens_that_are_for_here_and_now_are_taken() {
    let realm = Realm::new();
    let now_s = world::EPOCH_S;
    for others in [
        json!({ "aud": "rabbitmq" }),
        json!({ "aud": "other rabbitmq" }),
        json!({ "exp": now_s + 10 }),
        json!({ "exp": 10.5 + 1_795_000_000_f64 }),
        json!({ "exp": u64::MAX }),
        json!({ "nbf": now_s }),
        // Clocks differ.
        json!({ "nbf": now_s + 30 }),
        json!({ "nbf": 0 }),
    ] {
        realm.client(&Issuer::usual().sign(&claims_with(others)));
    }
}

#[test]
fn the_audience_and_the_end_may_be_left_out_where_the_configuration_says_so() {
    let settings =
        settings::OAuth2 { verify_aud: false, require_exp: false, ..trusting(Issuer::usual()) };
    let realm = Realm::of(&settings);
    realm.client(&Issuer::usual().sign(&claims_with(json!({ "aud": "other" }))));
    let client = realm.client(&Issuer::usual().sign(&claims_with(json!({ "exp": null }))));
    realm.advance(1_000 * 3_600 * 24 * 365);
    client.declare(1, queue("q"));
    realm.refuses(&Issuer::usual().sign(&claims_with(json!({ "exp": 1 }))));
}

#[test]
fn a_connection_ends_with_its_token_unless_a_new_one_is_shown() {
    let realm = Realm::new();
    let token = |exp_s| Issuer::usual().sign(&claims_with(json!({ "exp": exp_s })));
    let first = token(world::EPOCH_S + 60);
    let (client, other) = (realm.client(&first), realm.client(&first));
    realm.advance(50_000);
    let renewed = token(world::EPOCH_S + 120);
    client.send(0, update_secret(&renewed));
    client.expect(0, Method::ConnectionUpdateSecretOk(Default::default()));
    realm.advance(10_000);
    other.expect_connection_close(320, "CONNECTION_FORCED - credential expired");
    client.declare(1, queue("q"));
    realm.advance(60_000);
    client.expect_connection_close(320, "CONNECTION_FORCED - credential expired");
    realm.refuses(&renewed);
}

#[test]
fn a_new_token_gives_its_own_rights_and_no_other_name() {
    let realm = Realm::new();
    let client = realm.client_for(&ALL);
    client.declare(1, queue("q"));
    let fewer = Issuer::usual().sign(&claims(&["rabbitmq.write:*/*"]));
    client.send(0, update_secret(&fewer));
    client.expect(0, Method::ConnectionUpdateSecretOk(Default::default()));
    let text = "ACCESS_REFUSED - read access to queue 'q' in vhost '/' refused for user 'app'";
    client.refused(1, get("q"), 403, text);
    let text = "NOT_ALLOWED - New secret was refused by one of the backends";
    let expired = json!({ "exp": world::EPOCH_S - 1 });
    for others in [json!({ "sub": "somebody-else" }), expired] {
        let client = realm.client_for(&ALL);
        client.send(0, update_secret(&Issuer::usual().sign(&claims_with(others))));
        client.expect_connection_close(530, text);
    }
    let client = realm.client_for(&ALL);
    let huge = Issuer::usual().sign(&claims_with(json!({ "padding": "x".repeat(64 * 1024) })));
    client.send(0, update_secret(&huge));
    client.expect_connection_close(530, text);
}

fn update_secret(token: &str) -> Method<'_> {
    let new_secret = token.as_bytes();
    Method::ConnectionUpdateSecret(connection::UpdateSecret { new_secret, reason: "soon" })
}

#[test]
fn signatures_by_others_are_refused() {
    let realm = Realm::new();
    let usual = Issuer::usual();
    let stranger = Issuer::rsa("key-1");
    realm.refuses(&stranger.sign(&claims(&ALL)));
    realm.refuses(&stranger.sign_as(None, Algorithm::RS256, &claims(&ALL)));
    realm.refuses(&usual.sign_as(Some("key-2"), Algorithm::RS256, &claims(&ALL)));
    realm.refuses(&usual.sign_as(Some("../key-1"), Algorithm::RS256, &claims(&ALL)));
    // Another algorithm's signature with a key of the same name.
    realm.refuses(&Issuer::ec("key-1").sign(&claims(&ALL)));
    // Claims that were not signed, with a signature of others.
    let token = usual.sign(&claims(&["rabbitmq.read:*/*"]));
    let signature = token.rsplit('.').next().unwrap();
    let header = json!({ "alg": "RS256", "kid": "key-1" });
    realm.refuses(&of_parts(&header, &claims(&ALL).to_string(), signature));
    realm.refuses(&token[..token.len() - 2]);
    realm.refuses(&format!("{token}AA"));
}

#[test]
fn a_token_cannot_choose_how_it_is_checked() {
    let mut settings = trusting(Issuer::usual());
    let open = settings::OAuth2::ALGORITHMS.map(str::to_owned).to_vec();
    let all = claims(&ALL);
    let text = all.to_string();
    let mut forged = Vec::new();
    for alg in ["none", "None", "NONE", "", "HS256", "ES256", "RS1"] {
        for signature in ["", "AAAA"] {
            forged.push(of_parts(&json!({ "alg": alg, "kid": "key-1" }), &text, signature));
        }
    }
    // The public key, which everybody may know, as if it were a secret.
    let public = &Issuer::usual().public_pem;
    for secret in [public.as_bytes(), public.trim_end().as_bytes(), b""] {
        forged.push(sign_with_secret(secret, "key-1", &all));
    }
    // A key that the token brings along or points at.
    let stranger = Issuer::rsa("key-9");
    let header = json!({ "alg": "RS256", "jwk": stranger.jwk(), "jku": "https://127.0.0.1/" });
    let token = stranger.sign(&all);
    forged.push(of_parts(&header, &text, token.rsplit('.').next().unwrap()));
    for algorithms in [Vec::new(), open] {
        settings.algorithms = algorithms;
        let backend = backend(&settings).unwrap();
        for token in &forged {
            assert!(backend.log_in(nobody(), token.as_bytes()).is_none(), "{token}");
        }
    }
}

#[test]
fn only_the_configured_algorithms_are_taken() {
    let usual = Issuer::usual();
    let mut settings = trusting(usual);
    settings.algorithms = vec!["RS512".into(), "ES256".into()];
    let backend = backend(&settings).unwrap();
    let takes = |algorithm| {
        let token = usual.sign_as(None, algorithm, &claims(&ALL));
        backend.log_in(nobody(), token.as_bytes()).is_some()
    };
    assert!(takes(Algorithm::RS512));
    assert!(!takes(Algorithm::RS256));
    assert!(!takes(Algorithm::PS512));
}

#[test]
fn headers_that_must_be_understood_are_not() {
    let critical = json!({ "alg": "RS256", "kid": "key-1", "crit": ["exp"], "exp": 1 });
    let usual = Issuer::usual();
    let token = usual.sign_header(&critical, &claims(&ALL));
    assert!(seen(&trusting(usual), &token).is_none());
    let plain = json!({ "alg": "RS256", "kid": "key-1", "unknown": { "is": "fine" } });
    let token = usual.sign_header(&plain, &claims(&ALL));
    assert!(seen(&trusting(usual), &token).is_some());
}

#[test]
fn what_is_no_token_is_refused() {
    let backend = backend(&trusting(Issuer::usual())).unwrap();
    let header = json!({ "alg": "RS256", "kid": "key-1" });
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let long = Issuer::usual().sign(&claims_with(json!({ "padding": "x".repeat(64 * 1024) })));
    for junk in [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        "a.b.c".into(),
        "password".into(),
        "\u{0}\u{ff}.\u{0}.\u{0}".into(),
        of_parts(&header, "not json", "AAAA"),
        of_parts(&header, &deep, "AAAA"),
        of_parts(&json!([]), "{}", "AAAA"),
        of_parts(&json!({ "alg": { "alg": "RS256" } }), "{}", "AAAA"),
        of_parts(&json!({ "alg": "RS256", "kid": ["key-1"] }), "{}", "AAAA"),
        long,
    ] {
        assert!(backend.log_in(nobody(), junk.as_bytes()).is_none(), "{junk:.40}");
    }
    assert!(backend.log_in(nobody(), &[0xff; 300]).is_none());
}

#[test]
fn signed_claims_of_strange_shapes_give_nothing() {
    let usual = Issuer::usual();
    let backend = backend(&trusting(usual)).unwrap();
    let login = |claims: &Value| backend.log_in(nobody(), usual.sign(claims).as_bytes());
    for claims in [json!([]), json!("rabbitmq"), json!(null), json!({})] {
        assert!(login(&claims).is_none(), "{claims}");
    }
    for scope in [json!(null), json!(7), json!({ "rabbitmq": ["read:*/*"] }), json!([[ALL[0]], {}])]
    {
        let seen = login(&claims_with(json!({ "scope": scope }))).unwrap();
        assert!(!seen.authority.may_enter("/", None), "{scope}");
        assert_eq!(seen.tags, [""; 0]);
    }
    let many =
        |count| -> Vec<String> { (0..count).map(|n| format!("rabbitmq.read:*/{n}")).collect() };
    assert!(login(&claims_with(json!({ "scope": many(2048) }))).is_some());
    assert!(login(&claims_with(json!({ "scope": many(2049) }))).is_none());
}
