//! Users, permissions and limits by way of the management API, and what becomes of clients.

use serde_json::json;

use crate::management::{Client, Node};

const PLAIN_USER: &str = r#"{"password":"secret","tags":"management"}"#;
const FULL: &str = r#"{"configure":".*","write":".*","read":".*"}"#;

async fn node_with_user() -> Node {
    let node = Node::start().await;
    assert_eq!(node.put("/api/users/app", PLAIN_USER).await.0, 201);
    assert_eq!(node.put("/api/permissions/%2F/app", FULL).await.0, 201);
    node
}

#[tokio::test]
async fn a_user_is_put_shown_logs_in_and_is_deleted() {
    let node = Node::start().await;
    assert_eq!(node.put("/api/users/app", PLAIN_USER).await.0, 201);
    let user = node.json("/api/users/app").await;
    assert_eq!(user["tags"], json!(["management"]));
    assert_eq!(user["hashing_algorithm"], "rabbit_password_hashing_sha256");
    assert_eq!(user["limits"], json!({}));
    let without = node.json("/api/users/without-permissions").await;
    assert_eq!(without[0]["name"], "app");
    assert_eq!(node.ask_as("app:secret", "GET", "/api/whoami", "").await.0, 200);
    // Again, with another password: the old one is no more.
    let again = r#"{"password":"other","tags":["management","policymaker"]}"#;
    assert_eq!(node.put("/api/users/app", again).await.0, 204);
    assert_eq!(node.ask_as("app:secret", "GET", "/api/whoami", "").await.0, 401);
    let (_, me) = node.ask_as("app:other", "GET", "/api/whoami", "").await;
    assert!(me.contains("policymaker"), "{me}");
    assert_eq!(node.ask_as("app:other", "GET", "/api/users", "").await.0, 401);
    assert_eq!(node.ask("DELETE", "/api/users/app", "").await.0, 204);
    assert_eq!(node.ask("DELETE", "/api/users/app", "").await.0, 404);
    assert_eq!(node.ask_as("app:other", "GET", "/api/whoami", "").await.0, 401);
}

#[tokio::test]
async fn a_hash_that_another_broker_made_logs_its_user_in() {
    let node = Node::start().await;
    // RabbitMQ's documentation has this hash of "test12".
    let hash = "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR";
    let user = format!(r#"{{"password_hash":"{hash}","tags":"management"}}"#);
    assert_eq!(node.put("/api/users/moved", &user).await.0, 201);
    assert_eq!(node.ask_as("moved:test12", "GET", "/api/whoami", "").await.0, 200);
    assert_eq!(node.json("/api/users/moved").await["password_hash"], hash);
    let hashed = node.json("/api/auth/hash_password/secret").await;
    let user = json!({"password_hash": hashed["ok"], "tags": "management"}).to_string();
    assert_eq!(node.put("/api/users/made", &user).await.0, 201);
    assert_eq!(node.ask_as("made:secret", "GET", "/api/whoami", "").await.0, 200);
}

#[tokio::test]
async fn a_user_without_a_password_cannot_log_in() {
    let node = Node::start().await;
    for user in [r#"{"tags":"management"}"#, r#"{"password":"","tags":"management"}"#] {
        assert!(node.put("/api/users/app", user).await.0 < 300);
        assert_eq!(node.ask_as("app:", "GET", "/api/whoami", "").await.0, 401);
    }
}

#[tokio::test]
async fn a_user_or_permission_that_makes_no_sense_is_refused_as_rabbitmq_does() {
    let node = node_with_user().await;
    for (path, document, reason) in [
        ("/api/users/x", r#"{"password":"p"}"#, "tags_not_present"),
        ("/api/users/x", r#"{"tags":5}"#, "tags should be a list of names"),
        ("/api/users/x", r#"{"tags":"","password_hash":"!"}"#, "a password hash is base64"),
        (
            "/api/users/x",
            r#"{"tags":"","password_hash":"AAAA","password":"p"}"#,
            "both_password_and_password_hash_are_provided",
        ),
        ("/api/permissions/%2F/app", r#"{"configure":"","write":""}"#, "[{key_missing,read}]"),
        ("/api/permissions/%2F/nobody", FULL, "vhost_or_user_not_found"),
        (
            "/api/topic-permissions/%2F/app",
            r#"{"exchange":"x","read":""}"#,
            "[{key_missing,write}]",
        ),
        (
            "/api/user-limits/app/max-queues",
            r#"{"value":1}"#,
            "Unrecognised terms [{<<\\\"max-queues\\\">>,1}] in user-limits",
        ),
        ("/api/vhost-limits/%2F/max-queues", "{}", "[{key_missing,value}]"),
        ("/api/user-limits/nobody/max-channels", r#"{"value":1}"#, "no_such_user: nobody"),
    ] {
        let (status, body) = node.put(path, document).await;
        assert_eq!(status, 400, "{path} {document}: {body}");
        assert!(body.contains(reason), "{path} {document}: {body}");
    }
    let broken = r#"{"configure":"(","write":"","read":""}"#;
    let (status, body) = node.put("/api/permissions/%2F/app", broken).await;
    assert!(status == 400 && body.contains("invalid regular expression '('"), "{body}");
    assert_eq!(node.json("/api/permissions/%2F/app").await["configure"], ".*", "as it was");
}

#[tokio::test]
async fn permissions_are_put_listed_and_deleted() {
    let node = node_with_user().await;
    let some = r#"{"configure":"^c","write":"^w","read":"^r"}"#;
    assert_eq!(node.put("/api/permissions/%2F/app", some).await.0, 204, "it was there");
    let shown = json!(
        {"user": "app", "vhost": "/", "configure": "^c", "write": "^w", "read": "^r"}
    );
    assert_eq!(node.json("/api/permissions/%2F/app").await, shown);
    assert_eq!(node.json("/api/users/app/permissions").await, json!([shown]));
    assert_eq!(node.json("/api/vhosts/%2F/permissions").await[0], shown);
    assert_eq!(node.ask("DELETE", "/api/permissions/%2F/app", "").await.0, 204);
    assert_eq!(node.ask("DELETE", "/api/permissions/%2F/app", "").await.0, 404);
    assert_eq!(node.ask("GET", "/api/permissions/%2F/app", "").await.0, 404);
}

#[tokio::test]
async fn topic_permissions_are_put_listed_and_deleted() {
    let node = node_with_user().await;
    let path = "/api/topic-permissions/%2F/app";
    let topic = |exchange: &str| format!(r#"{{"exchange":"{exchange}","write":"w","read":"r"}}"#);
    assert_eq!(node.put(path, &topic("amq.topic")).await.0, 201);
    assert_eq!(node.put(path, &topic("amq.topic")).await.0, 204);
    assert_eq!(node.put(path, &topic("missing")).await.0, 201);
    let one = json!(
        {"user": "app", "vhost": "/", "exchange": "amq.topic", "write": "w", "read": "r"}
    );
    for listed in [path, "/api/topic-permissions", "/api/users/app/topic-permissions"] {
        let listed = node.json(listed).await;
        assert_eq!((listed.as_array().map(Vec::len), &listed[0]), (Some(2), &one));
    }
    let only = format!("{path}/missing");
    assert_eq!(node.ask("DELETE", &only, "").await.0, 204);
    assert_eq!(node.ask("DELETE", &only, "").await.0, 404);
    assert_eq!(node.json("/api/vhosts/%2F/topic-permissions").await, json!([one]));
    assert_eq!(node.ask("DELETE", path, "").await.0, 204);
    assert_eq!(node.ask("GET", path, "").await.0, 404);
}

#[tokio::test]
async fn limits_are_put_shown_to_whom_they_concern_and_lifted() {
    let node = node_with_user().await;
    assert_eq!(node.put("/api/vhost-limits/%2F/max-queues", r#"{"value":3}"#).await.0, 204);
    assert_eq!(node.put("/api/user-limits/app/max-channels", r#"{"value":-1}"#).await.0, 204);
    let of_vhost = json!([{"vhost": "/", "value": {"max-queues": 3}}]);
    assert_eq!(node.json("/api/vhost-limits").await, of_vhost);
    assert_eq!(node.json("/api/vhost-limits/%2F").await, of_vhost);
    let of_user = json!([{"user": "app", "value": {"max-channels": -1}}]);
    assert_eq!(node.json("/api/user-limits").await, of_user);
    let (_, own) = node.ask_as("app:secret", "GET", "/api/user-limits/app", "").await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&own).unwrap(), of_user);
    let (_, others) = node.ask_as("app:secret", "GET", "/api/user-limits/guest", "").await;
    assert_eq!(others, "[]");
    let put = node.ask_as("app:secret", "PUT", "/api/user-limits/app/max-channels", "").await;
    assert_eq!(put.0, 401, "not by oneself");
    for path in ["/api/vhost-limits/%2F/max-queues", "/api/user-limits/app/max-channels"] {
        assert_eq!(node.ask("DELETE", path, "").await.0, 204);
    }
    assert_eq!(node.json("/api/vhost-limits").await, json!([]));
}

#[tokio::test]
async fn several_users_are_deleted_at_once() {
    let node = node_with_user().await;
    let users = r#"{"users":["app","nobody"]}"#;
    let (status, body) = node.send("POST", "/api/users/bulk-delete", users).await;
    assert!(status == 400 && body.contains("no_such_user: nobody"), "{body}");
    assert_eq!(node.ask("GET", "/api/users/app", "").await.0, 404, "it was deleted before");
}

#[tokio::test]
async fn a_deleted_users_client_is_told_why_its_connection_closes() {
    let node = node_with_user().await;
    let mut client = Client::open_as(node.amqp, "app", "secret", 0).await;
    assert_eq!(node.ask("DELETE", "/api/users/app", "").await.0, 204);
    let close = client
        .expect(|method| matches!(method, leveret::protocol::Method::ConnectionClose(_)))
        .await;
    assert!(close.contains("user 'app' is deleted"), "{close}");
}

#[tokio::test]
async fn a_policymaker_is_told_why_its_policy_may_not_have_messages_flow_there() {
    let node = Node::start().await;
    let maker = r#"{"password":"secret","tags":"policymaker"}"#;
    assert_eq!(node.put("/api/users/maker", maker).await.0, 201);
    let some = r#"{"configure":"","write":"^out$","read":"^own"}"#;
    assert_eq!(node.put("/api/permissions/%2F/maker", some).await.0, 201);
    let to = |exchange: &str| {
        json!({"pattern": "^own", "definition": {"dead-letter-exchange": exchange}}).to_string()
    };
    let put = |policy: String| {
        let node = &node;
        async move { node.send_as("maker:secret", "PUT", "/api/policies/%2F/p", &policy).await }
    };
    assert_eq!(put(to("out")).await.0, 201);
    let (status, answer) = put(to("elsewhere")).await;
    let reason = "ACCESS_REFUSED - write access to exchange 'elsewhere' in vhost '/' refused for \
                  user 'maker'";
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, answer), (401, json!({"error": "not_authorised", "reason": reason})));
    let kept = node.json("/api/policies/%2F/p").await;
    assert_eq!(kept["definition"]["dead-letter-exchange"], "out");
}
