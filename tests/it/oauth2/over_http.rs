//! Tokens elsewhere than in the place of an AMQP password: at the management API
//! (`Authorization: Bearer`, as in RabbitMQ), and where another backend has said who someone is.

use leveret::backends;
use leveret::broker::access::{
    Backend as _, Hashing, PasswordHash, Resource, Right, User, UserLimits,
};
use leveret::config::settings::{Auth, AuthBackend, BackendPair};
use serde_json::{Value, json};

use super::{ALL, Issuer, SharedClock, backend, claims_with, trusting};
use crate::management::{Node, http};

async fn ask(node: &Node, token: &str, path: &str) -> (u16, Value) {
    let header = format!("authorization: Bearer {token}\r\n");
    let (status, body) = http(node.http, "GET", path, &header).await;
    (status, serde_json::from_str(&body).unwrap())
}

/// A token of these scopes.
fn token(scopes: &[&str]) -> String {
    Issuer::usual().sign(&claims_with(json!({ "scope": scopes })))
}

#[tokio::test]
async fn a_bearer_is_who_the_token_says_sees_what_it_lets_them_see_and_until_it_ends() {
    let (node, clock) = (Node::start().await, SharedClock::new());
    let pairs = [AuthBackend::Internal, AuthBackend::OAuth2];
    let auth = Auth {
        backends: pairs.map(|authn| BackendPair { authn, authz: None }).into(),
        oauth2: trusting(Issuer::usual()),
        ..Auth::default()
    };
    let chain = backends::chain(&auth, &clock.clock()).unwrap();
    node.broker().access().ask_others(chain, Box::new(|work| work()));
    assert_eq!(node.put("/api/vhosts/other", "").await.0, 201);
    let app = token(&["rabbitmq.tag:management", "rabbitmq.read:other/*"]);
    let me = json!({"name": "app", "tags": ["management"], "is_internal_user": false});
    assert_eq!(ask(&node, &app, "/api/whoami").await, (200, me));
    let (_, vhosts) = ask(&node, &app, "/api/vhosts").await;
    assert_eq!((&vhosts[0]["name"], vhosts.as_array().unwrap().len()), (&json!("other"), 1));
    assert_eq!(ask(&node, &app, "/api/queues/%2F").await.0, 401);
    let boss = token(&["rabbitmq.tag:administrator"]);
    assert_eq!(ask(&node, &boss, "/api/users").await.0, 200);
    let untagged = token(&["rabbitmq.read:*/*"]);
    let (status, refused) = ask(&node, &untagged, "/api/whoami").await;
    assert_eq!((status, &refused["reason"]), (401, &json!("Not management user")));
    let forged = Issuer::rsa("key-1").sign(&claims_with(json!({})));
    let (status, refused) = ask(&node, &forged, "/api/whoami").await;
    assert_eq!((status, &refused["reason"]), (401, &json!("Not_Authorized")));
    // As by AMQP, a token may stand in the place of the password.
    assert_eq!(node.ask_as(&format!("whoever:{app}"), "GET", "/api/whoami", "").await.0, 200);
    clock.advance(3_600_000);
    assert_eq!(ask(&node, &app, "/api/whoami").await.0, 401);
}

#[test]
fn what_another_backend_has_looked_at_says_what_its_bearer_may_if_it_is_a_token() {
    let backend = backend(&trusting(Issuer::usual())).unwrap();
    let (password, limits) = (PasswordHash::none(Hashing::Sha256), UserLimits::default());
    let user = User { name: "theirs".into(), password, tags: Vec::new(), limits };
    let authority = backend.vouch(&user, token(&ALL).as_bytes()).unwrap();
    assert!(authority.allows(Right::Read, "/", Resource::Queue("q")));
    assert!(authority.expires_unix_ms().is_some());
    assert!(backend.vouch(&user, b"a password").is_none());
}

#[test]
fn passwords_in_the_nodes_records_are_no_tokens() {
    let pair = BackendPair { authn: AuthBackend::Internal, authz: Some(AuthBackend::OAuth2) };
    let oauth2 = trusting(Issuer::usual());
    let auth = Auth { backends: vec![pair], oauth2, ..Auth::default() };
    let error = backends::chain(&auth, &SharedClock::new().clock()).unwrap_err();
    assert_eq!(error.key, "auth_backends");
    assert!(error.reason.starts_with("nobody could log in: oauth2 as authz"), "{}", error.reason);
}
