//! Triggers over HTTP.

use leveret::broker::trigger::run::Runs as _;
use leveret::protocol::Method;
use leveret::protocol::method::queue;
use serde_json::{Value as Json, json};

use crate::management::{Client, Node};

const PATH: &str = "/api/triggers/%2F/send%20mail";

fn body() -> Json {
    json!({
        "queue": "mail",
        "condition": {"type": "depth", "count": 10, "min_priority": 5, "max_wait_ms": 30_000},
        "mode": "deliver",
        "action": {"type": "program", "name": "send-mail", "data": "any text"},
        "batch_max": 10,
    })
}

async fn put_user(node: &Node, name: &str, tags: &str) {
    let user = json!({"password": "secret", "tags": tags}).to_string();
    assert_eq!(node.put(&format!("/api/users/{name}"), &user).await.0, 201);
    let permission = json!({"configure": "", "write": "^hooks$", "read": "^mail$"}).to_string();
    assert_eq!(node.put(&format!("/api/permissions/%2F/{name}"), &permission).await.0, 201);
}

#[tokio::test]
async fn a_trigger_is_put_shown_explained_switched_and_deleted() {
    let node = Node::start().await;
    assert_eq!(node.put(PATH, &body().to_string()).await.0, 201);
    assert_eq!(node.put(PATH, &body().to_string()).await.0, 204);
    let shown = node.json(PATH).await;
    assert_eq!((&shown["vhost"], &shown["name"]), (&json!("/"), &json!("send mail")));
    assert_eq!(shown["condition"], body()["condition"]);
    assert_eq!((&shown["attempts_max"], &shown["starts_max"]), (&json!(3), &json!(200)));
    assert_eq!(shown["status"]["state"], "detached");
    assert_eq!(node.put(PATH, &shown.to_string()).await.0, 204, "as it was shown");
    assert_eq!(node.json("/api/triggers").await.as_array().unwrap().len(), 1);
    let mut client = Client::open(node.amqp).await;
    let declare = queue::Declare { queue: "mail", ..queue::Declare::default() };
    client.send(1, &Method::QueueDeclare(declare)).await;
    client.expect(|method| matches!(method, Method::QueueDeclareOk(_))).await;
    let explained = node.json(&format!("{PATH}/explain")).await;
    assert_eq!((&explained["state"], &explained["holds"]), (&json!("armed"), &json!(false)));
    assert_eq!(explained["conditions"][0]["missing"], "10 more messages");
    assert_eq!(explained["facts"]["messages_ready"], 0);
    assert_eq!(node.json(&format!("{PATH}/runs")).await, json!([]));
    assert_eq!(node.put(&format!("{PATH}/disable"), "").await.0, 204);
    let explained = node.json(&format!("{PATH}/explain")).await;
    assert_eq!(explained["missing"][0], "the trigger is disabled: enable it");
    assert_eq!(node.put(&format!("{PATH}/enable"), "").await.0, 204);
    assert_eq!(node.json(PATH).await["enabled"], true);
    assert!(node.broker().next_run(node.now()).is_none());
    assert_eq!(node.ask("DELETE", PATH, "").await.0, 204);
    assert_eq!(node.ask("DELETE", PATH, "").await.0, 404);
    assert_eq!(node.ask("GET", &format!("{PATH}/explain"), "").await.0, 404);
    assert_eq!(node.put(&format!("{PATH}/enable"), "").await.0, 404);
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_the_fields_name() {
    let node = Node::start().await;
    let mut wrong = body();
    wrong["condition"]["count"] = json!("ten");
    let (status, answer) = node.put(PATH, &wrong.to_string()).await;
    let reason = format!("condition.count: must be a whole number from 1 to {}", u64::MAX);
    let expected = json!({"error": "bad_request", "reason": reason});
    assert_eq!((status, serde_json::from_str::<Json>(&answer).unwrap()), (400, expected));
    let own = "/api/triggers/%2F/queue%3Amail";
    let (status, answer) = node.put(own, &body().to_string()).await;
    assert!(status == 400 && answer.contains("belongs to its queue"), "{answer}");
    assert_eq!(node.put("/api/triggers/nowhere/t", &body().to_string()).await.0, 404);
}

#[tokio::test]
async fn programs_are_for_administrators_and_others_need_the_rights_to_what_they_touch() {
    let node = Node::start().await;
    put_user(&node, "maker", "policymaker").await;
    put_user(&node, "viewer", "management").await;
    let put = async |login: &str, action: Json, queue: &str| {
        let mut all = body();
        (all["action"], all["queue"]) = (action, json!(queue));
        if all["action"]["type"] == "event" {
            for name in ["mode", "batch_max"] {
                all.as_object_mut().unwrap().remove(name);
            }
        }
        node.send_as(login, "PUT", PATH, &all.to_string()).await.0
    };
    let program = || json!({"type": "program", "name": "p"});
    let webhook = || json!({"type": "webhook", "url": "https://example.org"});
    let event = |exchange: &str| json!({"type": "event", "exchange": exchange});
    let maker = "maker:secret";
    assert_eq!(put("viewer:secret", webhook(), "mail").await, 401);
    assert_eq!(put(maker, program(), "mail").await, 401);
    assert_eq!(put(maker, webhook(), "secrets").await, 401);
    assert_eq!(put(maker, webhook(), "mail").await, 201);
    assert_eq!(put(maker, event("amq.topic"), "mail").await, 401);
    assert_eq!(put(maker, event("hooks"), "mail").await, 204);
    assert_eq!(put("guest:guest", program(), "mail").await, 204);
    for (switch, status) in [("disable", 204), ("enable", 401)] {
        let path = format!("{PATH}/{switch}");
        assert_eq!(node.send_as(maker, "PUT", &path, "").await.0, status);
    }
    assert_eq!(node.ask_as("viewer:secret", "GET", PATH, "").await.0, 200);
}

#[tokio::test]
async fn a_webhooks_secret_is_not_shown() {
    let node = Node::start().await;
    let mut all = body();
    let url = "https://example.org";
    all["action"] = json!({"type": "webhook", "url": url, "secret": "whsec_hidden"});
    assert_eq!(node.put(PATH, &all.to_string()).await.0, 201);
    let shown = node.json(PATH).await.to_string();
    assert!(shown.contains(url) && !shown.contains("whsec_hidden"), "{shown}");
}
