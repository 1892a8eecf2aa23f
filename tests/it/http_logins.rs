//! Who gets into the management API: whoever gets in by AMQP, and at what pace those who do not.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use leveret::backends;
use leveret::broker::events::{Event, Listener};
use leveret::broker::limits::Limit;
use leveret::broker::logins::Source;
use leveret::broker::{Broker, Now};
use leveret::config::settings::{Auth, AuthBackend, BackendPair, HttpMethod};
use leveret::management::LoginPace;
use leveret::protocol::table::Value;
use serde_json::{Value as Json, json};

use crate::backend_http::{Form, Service};
use crate::management::{Node, http};

// ---- a web service -----------------------------------------------------------------------------

/// Knows `app` by the password "s3cret", who manages, and may enter `seen`.
fn rule(path: &str, form: &Form) -> String {
    let is = |name: &str, value: &str| form.get(name).is_some_and(|own| own == value);
    let allowed = match path {
        "/auth/user" if is("username", "app") && is("password", "s3cret") => {
            return "allow management mine".to_owned();
        }
        "/auth/vhost" => is("vhost", "seen"),
        _ => false,
    };
    if allowed { "allow".to_owned() } else { "deny".to_owned() }
}

#[tokio::test]
async fn a_web_service_says_who_manages_and_which_vhosts_they_see() {
    let service = Service::start(rule);
    let node = Node::start().await;
    let pairs = [AuthBackend::Internal, AuthBackend::Http];
    let auth = Auth {
        backends: pairs.map(|authn| BackendPair { authn, authz: None }).into(),
        http: service.settings(HttpMethod::Post),
        ..Auth::default()
    };
    let timeless: backends::Clock = Arc::new(|| 0);
    let chain = backends::chain(&auth, &timeless).unwrap();
    node.broker().access().ask_others(chain, Box::new(|work| work()));
    assert_eq!(node.put("/api/vhosts/seen", "").await.0, 201);
    let get = |path: &'static str| {
        let node = &node;
        async move {
            let (status, body) = node.ask_as("app:s3cret", "GET", path, "").await;
            (status, serde_json::from_str::<Json>(&body).unwrap())
        }
    };
    let me = json!({"name": "app", "tags": ["management", "mine"], "is_internal_user": false});
    assert_eq!(get("/api/whoami").await, (200, me));
    let (_, vhosts) = get("/api/vhosts").await;
    assert_eq!((&vhosts[0]["name"], vhosts.as_array().unwrap().len()), (&json!("seen"), 1));
    assert_eq!(get("/api/queues/seen").await, (200, json!([])));
    let (status, refused) = get("/api/queues/%2F").await;
    let reason = &refused["reason"];
    assert_eq!((status, reason), (401, &json!("User not authorised to access virtual host")));
    assert_eq!(get("/api/users").await.0, 401, "no administrator");
    assert_eq!(node.ask_as("app:wrong", "GET", "/api/whoami", "").await.0, 401);
    assert_eq!(service.asked("/auth/vhost")[0]["ip"], "127.0.0.1");
    assert_eq!(service.asked("/auth/vhost")[0]["tags"], "management mine");
    // guest is still the node's own.
    let own = node.json("/api/whoami").await;
    assert_eq!(own["is_internal_user"], true);
}

#[tokio::test]
async fn what_an_outsider_creates_is_not_given_to_a_user_who_does_not_exist() {
    let service = Service::start(|path, _| match path {
        "/auth/user" => "allow administrator".to_owned(),
        _ => "allow".to_owned(),
    });
    let node = Node::start().await;
    let pair = BackendPair { authn: AuthBackend::Http, authz: None };
    let http = service.settings(HttpMethod::Get);
    let auth = Auth { backends: vec![pair], http, ..Auth::default() };
    let timeless: backends::Clock = Arc::new(|| 0);
    let chain = backends::chain(&auth, &timeless).unwrap();
    node.broker().access().ask_others(chain, Box::new(|work| work()));
    assert_eq!(node.send_as("boss:x", "PUT", "/api/vhosts/new", "").await.0, 201);
    let (_, permissions) = node.ask_as("boss:x", "GET", "/api/vhosts/new/permissions", "").await;
    assert_eq!(permissions, "[]");
}

// ---- failed logins -----------------------------------------------------------------------------

/// Keeps what the audit log would be told of limits.
#[derive(Debug, Default)]
struct Heard(Mutex<Vec<String>>);

impl Listener for Heard {
    fn wants(&self, key: &str) -> bool {
        key == "limit.hit"
    }

    fn hear(&self, event: &Event, _: Now) {
        let limit = event.fields.get("limit").and_then(Value::as_str).unwrap();
        self.0.lock().unwrap().push(limit.to_owned());
    }
}

const LIMIT: Limit = Limit::LoginFailuresPerMinute;

fn hits(broker: &Broker) -> u64 {
    broker.counters().limits.of(LIMIT)
}

/// A node to which too many wrong passwords have been shown.
async fn node_after_failures(pace: LoginPace) -> Node {
    let node = Node::at_pace(pace).await;
    for _ in 0..20 {
        assert_eq!(node.ask_as("guest:wrong", "GET", "/api/whoami", "").await.0, 401);
    }
    node
}

#[tokio::test]
async fn after_too_many_failures_a_login_waits_before_it_is_looked_at() {
    let node = node_after_failures(LoginPace::new(0, 200)).await;
    let heard = Arc::new(Heard::default());
    node.broker().listen(vec![Arc::<Heard>::clone(&heard)]);
    for (login, status) in [("guest:guest", 200), ("guest:wrong", 401)] {
        let began_ms = node.now().mono_ms;
        assert_eq!(node.ask_as(login, "GET", "/api/whoami", "").await.0, status);
        let took_ms = node.now().mono_ms - began_ms;
        assert!(took_ms >= 200, "{login}: {took_ms}");
    }
    assert_eq!(hits(&node.broker()), 2);
    assert_eq!(*heard.0.lock().unwrap(), [LIMIT.name(), LIMIT.name()]);
    // Whoever shows no login is asked for one, and no failure is counted.
    assert_eq!(http(node.http, "GET", "/api/whoami", "").await.0, 401);
    assert_eq!(hits(&node.broker()), 2);
    let counters = node.json("/api/overview").await;
    assert!(counters.is_object());
}

#[tokio::test]
async fn failures_over_http_count_for_amqp_and_on_the_metrics_page() {
    let node = node_after_failures(LoginPace::new(0, 0)).await;
    let here = Source::from(node.http.ip());
    let now = node.now();
    assert!(node.broker().login_failures().is_exceeded(here, now.mono_ms));
    let (_, page) = http(node.metrics, "GET", "/metrics", "").await;
    let failed = "rabbitmq_auth_attempts_failed_total{protocol=\"http\"} 20\n";
    assert!(page.contains(failed), "{page}");
}

#[tokio::test]
async fn so_many_logins_wait_and_no_more() {
    let node = node_after_failures(LoginPace::new(0, 3_600_000)).await;
    let login = format!("authorization: Basic {}\r\n", STANDARD.encode("guest:guest"));
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (address, login) = (node.http, login.clone());
        waiting.spawn(async move { http(address, "GET", "/api/whoami", &login).await });
    }
    while hits(&node.broker()) < 64 {
        tokio::task::yield_now().await;
    }
    let (status, body) = http(node.http, "GET", "/api/whoami", &login).await;
    let reason = "too many logins from this address have failed";
    assert_eq!(status, 429, "{body}");
    assert_eq!(
        serde_json::from_str::<Json>(&body).unwrap(),
        json!({"error": "too_many_requests", "reason": reason})
    );
    assert!(waiting.try_join_next().is_none(), "the others wait");
}

#[tokio::test]
async fn a_refused_login_is_told_so_after_a_pause() {
    let node = Node::at_pace(LoginPace::new(200, 0)).await;
    for login in ["guest:wrong", "nobody:wrong"] {
        let began_ms = node.now().mono_ms;
        assert_eq!(node.ask_as(login, "GET", "/api/whoami", "").await.0, 401);
        let took_ms = node.now().mono_ms - began_ms;
        assert!(took_ms >= 200, "{login}: {took_ms}");
    }
}
