//! The API over real sockets, on views of a small broker.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::request::Access;
use super::routes::ROUTES;
use super::{Context, Listener, LoginPace, serve, serve_metrics};
use crate::broker::access::Administer;
use crate::broker::inspect::Inspect;
use crate::broker::operate::Operate;
use crate::broker::{Broker, BrokerSettings, Now};
use crate::config::Settings;
use crate::metrics::ProcessReader;
use crate::metrics::sample::{CONNECTION, Sample};
use crate::store::memory::MemoryStore;

const SPEC: &str = include_str!("../../spec/http-api.toml");
/// The one connection's name in a path.
const CONNECTION_PATH: &str = "127.0.0.1%3A50000%20-%3E%20127.0.0.1%3A5672";

struct Server {
    address: SocketAddr,
    sample: Arc<Sample>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<()>>,
}

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Answer {
    fn json(&self) -> Json {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

/// A node with nothing in it but its first user.
fn node() -> Arc<Broker> {
    let entropy = Box::new(|bytes: &mut [u8]| bytes.fill(7));
    let (settings, store) = (BrokerSettings::default(), Arc::new(MemoryStore::new()));
    Broker::open(settings, store, entropy, Now::default()).expect("an empty store")
}

fn context(sample: &Arc<Sample>, settings: &Settings) -> Arc<Context> {
    let listener = |protocol, port| Listener { protocol, ip: "::".to_owned(), port, tls: None };
    let node = node();
    Arc::new(Context {
        inspect: Arc::clone(sample) as Arc<dyn Inspect>,
        operate: Arc::clone(sample) as Arc<dyn Operate>,
        administer: Arc::clone(&node) as Arc<dyn Administer>,
        triggers: node,
        process: ProcessReader::new(settings),
        listeners: vec![listener("amqp", 5672), listener("http", 15_672)],
        pace: LoginPace::new(0, 0),
        now: Box::new(|| Now { mono_ms: 60_000, unix_ms: 1_700_000_060_000 }),
    })
}

impl Server {
    async fn start() -> Self {
        Self::with(Settings::default()).await
    }

    async fn with(settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let sample = Arc::new(Sample::new());
        let context = context(&sample, &settings);
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async move {
            let shutdown = async { drop(stopped.await) };
            serve(listener, context, &settings.management, shutdown).await
        });
        Self { address, sample, stop, served }
    }

    async fn start_metrics(settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let sample = Arc::new(Sample::new());
        let context = context(&sample, &settings);
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(async move {
            let shutdown = async { drop(stopped.await) };
            serve_metrics(listener, context, &settings.prometheus, shutdown).await
        });
        Self { address, sample, stop, served }
    }

    async fn send(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        stream.write_all(request.as_bytes()).await.expect("written");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("read");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Answer { status: status.expect("a status"), headers, body: body.to_owned() }
    }

    async fn request(&self, method: &str, path: &str, user: Option<&str>, more: &str) -> Answer {
        let login = user.map_or_else(String::new, |user| {
            let login = STANDARD.encode(format!("{user}:{user}"));
            format!("authorization: Basic {login}\r\n")
        });
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{login}{more}\r\n"
        );
        self.send(&request).await
    }

    async fn get(&self, path: &str, user: &str) -> Answer {
        self.request("GET", path, Some(user), "").await
    }

    /// What an administrator is answered with 200.
    async fn json(&self, path: &str) -> Json {
        let answer = self.get(path, "root").await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        assert_eq!(answer.headers["content-type"], "application/json");
        answer.json()
    }
}

fn names(list: &Json) -> Vec<&str> {
    let items = list.as_array().expect("a list");
    items.iter().map(|item| item["name"].as_str().expect("a name")).collect()
}

/// A path of the table with names filled in that exist.
fn filled(path: &str) -> String {
    let path = match path {
        // One whose names must fit together.
        "/api/bindings/{vhost}/e/{source}/{kind}/{destination}/{props}" => {
            "/api/bindings/%2F/e/amq.topic/q/jobs/a.%2523%252F%257E%2Bb"
        }
        path => path,
    };
    path.replace("{vhost}", "%2F")
        .replace("{queue}", "jobs")
        .replace("{exchange}", "amq.topic")
        .replace("{source}", "amq.topic")
        .replace("{kind}", "q")
        .replace("{destination}", "jobs")
        .replace("{connection}", CONNECTION_PATH)
        .replace("{channel}", &format!("{CONNECTION_PATH}%20(1)"))
        .replace("{user}", "root")
        .replace("{node}", "rabbit@here")
        .replace("{port}", "5672")
        .replace("{protocols}", "amqp")
        .replace("{within}", "1")
        .replace("{unit}", "months")
        .replace("{policy}", "short")
        .replace("{trigger}", "tell")
}

#[test]
fn the_specification_lists_the_routes_that_there_are() {
    let spec: toml::Table = SPEC.parse().expect("spec/http-api.toml is TOML");
    let text = |entry: &toml::Value, field: &str| entry[field].as_str().expect("text").to_owned();
    let mut described: Vec<_> = spec["route"]
        .as_array()
        .expect("a list of tables")
        .iter()
        .map(|entry| (text(entry, "path"), text(entry, "method"), text(entry, "access")))
        .collect();
    let mut there: Vec<_> = ROUTES
        .iter()
        .map(|route| {
            let access = format!("{:?}", route.access).to_lowercase();
            (route.path.to_owned(), route.method.to_string(), access)
        })
        .collect();
    described.sort();
    there.sort();
    assert_eq!(described, there);
    for group in spec["absent"].as_array().expect("a list of tables") {
        assert!(!text(group, "reason").is_empty());
        for route in group["routes"].as_array().expect("a list") {
            let route = route.as_str().expect("text");
            let (methods, path) = route.split_once(' ').expect("methods and a path");
            for method in methods.split(',') {
                let known = there.iter().any(|(p, m, _)| p == path && m == method);
                assert!(!known, "{method} {path} is there");
            }
        }
    }
}

#[tokio::test]
async fn every_route_lets_in_exactly_those_of_its_access_class() {
    let server = Server::start().await;
    let trigger = r#"{"queue": "jobs", "condition": {"type": "first"}, "mode": "event",
        "action": {"type": "event", "exchange": "amq.topic", "routing_key": "t"}}"#;
    let with = format!("content-length: {}\r\n\r\n{trigger}", trigger.len());
    let made = server.request("PUT", "/api/triggers/%2F/tell", Some("root"), &with).await;
    assert_eq!(made.status, 201);
    for route in ROUTES {
        let path = filled(route.path);
        for (user, tag) in [
            (Some("root"), "administrator"),
            (Some("watch"), "monitoring"),
            (Some("team"), "management"),
            (Some("maker"), "policymaker"),
            (Some("app"), "no tag"),
            (None, "no login"),
        ] {
            let own = route.path.contains("{vhost}") && tag == "monitoring";
            let others = route.path.contains("{connection}") || route.path.contains("{channel}");
            let wanted = match (route.access, tag) {
                (Access::Open, _) | (_, "administrator") => 200,
                (_, "no tag" | "no login") | (Access::Administrator, _) => 401,
                // `watch` has no permission in the vhost of the path.
                (Access::Management, _) if own => 401,
                (Access::Policymaker, "policymaker") => 200,
                (Access::Policymaker, _) => 401,
                // Only administrators close others' connections.
                (Access::Management, _) if route.method == "DELETE" => 401,
                (_, "monitoring") => 200,
                (Access::Monitoring, _) => 401,
                // `team` is not the user of the connection.
                (Access::Management, _) if route.path.contains("{channel}") => 404,
                (Access::Management, _) if others => 401,
                (Access::Management, _) => 200,
            };
            let method = route.method.as_str();
            if wanted == 200 && method != "GET" {
                continue; // what it does is for other tests
            }
            let status = server.request(method, &path, user, "").await.status;
            assert_eq!(status, wanted, "{tag}: {method} {path}");
        }
    }
}

#[tokio::test]
async fn a_login_is_asked_for_and_a_wrong_one_refused() {
    let server = Server::start().await;
    let none = server.request("GET", "/api/overview", None, "").await;
    assert_eq!(none.status, 401);
    assert_eq!(none.headers["www-authenticate"], "Basic realm=\"RabbitMQ Management\"");
    assert_eq!(none.json(), json!({"error": "not_authorized", "reason": "Login failed"}));
    let wrong = format!("authorization: Basic {}\r\n", STANDARD.encode("root:wrong"));
    let wrong = server.request("GET", "/api/overview", None, &wrong).await;
    assert_eq!(wrong.status, 401);
    assert_eq!(wrong.json(), json!({"error": "not_authorized", "reason": "Not_Authorized"}));
    let untagged = server.get("/api/overview", "app").await;
    assert_eq!(untagged.status, 401);
    assert_eq!(
        untagged.json(),
        json!({"error": "not_authorised", "reason": "Not management user"})
    );
}

#[tokio::test]
async fn lists_hold_what_is_in_the_callers_vhosts_only() {
    let server = Server::start().await;
    let list = |path: &'static str, user: &'static str| {
        let server = &server;
        async move { server.get(path, user).await.json() }
    };
    assert_eq!(names(&list("/api/queues", "root").await), ["jobs", "audit \"x\""]);
    assert_eq!(names(&list("/api/queues", "team").await), ["jobs"]);
    assert_eq!(names(&list("/api/queues", "watch").await), [""; 0]);
    assert_eq!(names(&list("/api/vhosts", "watch").await), ["/", "other"]);
    assert_eq!(names(&list("/api/vhosts", "team").await), ["/"]);
    assert_eq!(names(&list("/api/exchanges", "team").await), ["", "amq.topic"]);
    assert_eq!(list("/api/bindings", "team").await.as_array().map(Vec::len), Some(2));
    assert_eq!(names(&list("/api/connections", "watch").await), [CONNECTION]);
    assert_eq!(names(&list("/api/connections", "team").await), [""; 0]);
    assert_eq!(list("/api/consumers", "root").await.as_array().map(Vec::len), Some(1));
    assert_eq!(list("/api/consumers", "team").await, json!([]));
    let refused = server.get("/api/queues/other", "team").await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.json()["reason"], "User not authorised to access virtual host");
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let server = Server::start().await;
    for path in [
        "/api/queues/nowhere",
        "/api/queues/%2F/nothing",
        "/api/queues/%2F/nothing/bindings",
        "/api/exchanges/%2F/nothing",
        "/api/bindings/%2F/e/amq.topic/x/jobs",
        "/api/bindings/%2F/e/amq.topic/q/jobs/other",
        "/api/connections/nobody",
        "/api/channels/nobody",
        "/api/nodes/elsewhere",
        "/api/users/nobody",
        "/api/permissions/%2F/nobody",
        "/api/nothing",
        "/",
    ] {
        let answer = server.get(path, "root").await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json(), json!({"error": "Object Not Found", "reason": "Not Found"}));
    }
}

#[tokio::test]
async fn a_queue_has_rabbitmqs_fields() {
    let server = Server::start().await;
    let queue = server.json("/api/queues/%2F/jobs").await;
    for (field, value) in [
        ("name", json!("jobs")),
        ("vhost", json!("/")),
        ("type", json!("quorum")),
        ("durable", json!(true)),
        ("auto_delete", json!(false)),
        ("exclusive", json!(false)),
        ("arguments", json!({"x-queue-type": "quorum", "x-max-length": 10})),
        ("node", json!("rabbit@here")),
        ("leader", json!("rabbit@here")),
        ("state", json!("running")),
        ("messages", json!(7)),
        ("messages_ready", json!(5)),
        ("messages_unacknowledged", json!(2)),
        ("message_bytes", json!(70)),
        ("consumers", json!(1)),
        ("message_stats", json!({"publish": 9, "deliver": 4, "deliver_get": 4, "ack": 2})),
    ] {
        assert_eq!(queue[field], value, "{field}");
    }
    let consumer = &queue["consumer_details"][0];
    assert_eq!(consumer["consumer_tag"], "worker");
    assert_eq!(consumer["channel_details"]["user"], "app");
    let exclusive = server.json("/api/queues/other/audit%20%22x%22").await;
    assert_eq!(exclusive["exclusive"], true);
    assert_eq!(exclusive["owner_pid_details"]["name"], CONNECTION);
    assert_eq!(exclusive["messages"], 0, "a queue always tells its length");
}

#[tokio::test]
async fn bindings_are_found_from_both_ends_and_by_their_key() {
    let server = Server::start().await;
    let binding = json!({
        "source": "amq.topic", "vhost": "/", "destination": "jobs",
        "destination_type": "queue", "routing_key": "a.#/~ b", "arguments": {},
        "properties_key": "a.%23%2F%7E+b",
    });
    for path in
        ["/api/bindings/%2F/e/amq.topic/q/jobs", "/api/exchanges/%2F/amq.topic/bindings/source"]
    {
        assert_eq!(server.json(path).await, json!([binding]), "{path}");
    }
    // The key is encoded once more in a path.
    let by_key = server.json("/api/bindings/%2F/e/amq.topic/q/jobs/a.%2523%252F%257E%2Bb").await;
    assert_eq!(by_key, binding);
    let implicit = server.json("/api/bindings/%2F/e/amq.default/q/jobs").await;
    assert_eq!(implicit[0]["source"], "");
    let of_queue = server.json("/api/queues/%2F/jobs/bindings").await;
    assert_eq!(of_queue.as_array().map(Vec::len), Some(2));
    assert_eq!(server.json("/api/exchanges/%2F/amq.topic/bindings/destination").await, json!([]));
    assert_eq!(server.json("/api/exchanges/%2F/amq.default").await["name"], "");
}

#[tokio::test]
async fn connections_channels_and_consumers_point_at_each_other() {
    let server = Server::start().await;
    let connection = server.json(&format!("/api/connections/{CONNECTION_PATH}")).await;
    for (field, value) in [
        ("name", json!(CONNECTION)),
        ("user_provided_name", json!("worker-1")),
        ("node", json!("rabbit@here")),
        ("protocol", json!("AMQP 0-9-1")),
        ("type", json!("network")),
        ("user", json!("app")),
        ("peer_port", json!(50_000)),
        ("channels", json!(1)),
        ("timeout", json!(60)),
        ("connected_at", json!(1_700_000_001_000_u64)),
        ("client_properties", json!({"product": "pika"})),
        ("recv_oct", json!(1000)),
    ] {
        assert_eq!(connection[field], value, "{field}");
    }
    let channel = server.json(&format!("/api/channels/{CONNECTION_PATH}%20(1)")).await;
    assert_eq!(channel["number"], 1);
    assert_eq!(channel["connection_details"]["name"], CONNECTION);
    assert_eq!(channel["messages_unconfirmed"], 3);
    assert_eq!(channel["consumer_details"][0]["queue"], json!({"name": "jobs", "vhost": "/"}));
    let consumers = server.json("/api/consumers/%2F").await;
    assert_eq!(consumers[0]["channel_details"]["name"], channel["name"]);
}

#[tokio::test]
async fn a_connection_is_closed_with_the_operators_reason() {
    let server = Server::start().await;
    let path = format!("/api/connections/{CONNECTION_PATH}");
    assert_eq!(server.request("DELETE", &path, Some("watch"), "").await.status, 401);
    let closed = server.request("DELETE", &path, Some("root"), "x-reason: too old\r\n").await;
    assert_eq!((closed.status, closed.body.as_str()), (204, ""));
    let closed = server.request("DELETE", "/api/connections/username/app", Some("root"), "").await;
    assert_eq!(closed.status, 204);
    let closed = server.sample.closed.lock().expect("not poisoned").clone();
    let call = |reason: &str| (CONNECTION.to_owned(), reason.to_owned());
    assert_eq!(closed, [call("too old"), call("Closed via management plugin")]);
}

#[tokio::test]
async fn the_overview_has_every_object_that_tools_insist_on() {
    let server = Server::start().await;
    let overview = server.json("/api/overview").await;
    assert_eq!(overview["rabbitmq_version"], "4.2.4");
    assert_eq!(overview["product_name"], "Leveret");
    assert_eq!(overview["message_stats"]["publish"], 9);
    assert_eq!(overview["queue_totals"]["messages"], 7);
    assert_eq!(
        overview["object_totals"],
        json!({"connections": 1, "channels": 1, "exchanges": 3, "queues": 2, "consumers": 1})
    );
    assert_eq!(overview["listeners"][0]["protocol"], "amqp");
    assert_eq!(overview["contexts"][0]["port"], "15672");
    assert_eq!(overview["churn_rates"]["connection_created"], 0);
    let own = server.get("/api/overview", "team").await.json();
    assert_eq!(own["object_totals"]["queues"], 1);
    assert_eq!(own["message_stats"], json!({}), "the node's counters are not for everybody");
    assert_eq!(own["listeners"], json!([]));
}

#[tokio::test]
async fn users_and_permissions_are_listed() {
    let server = Server::start().await;
    assert_eq!(names(&server.json("/api/users").await), ["app", "maker", "root", "team", "watch"]);
    assert_eq!(names(&server.json("/api/users/without-permissions").await), ["watch"]);
    assert_eq!(
        server.json("/api/users/root").await,
        json!({
            "name": "root", "tags": ["administrator"], "password_hash": "hash",
            "hashing_algorithm": "rabbit_password_hashing_sha256", "limits": {},
        })
    );
    let permission =
        json!({"user": "app", "vhost": "/", "configure": ".*", "write": ".*", "read": "^jobs$"});
    assert_eq!(server.json("/api/permissions/%2F/app").await, permission);
    assert_eq!(server.json("/api/users/app/permissions").await, json!([permission]));
    assert_eq!(server.json("/api/vhosts/%2F/permissions").await.as_array().map(Vec::len), Some(4));
    assert_eq!(server.json("/api/whoami").await["tags"], json!(["administrator"]));
}

#[tokio::test]
async fn health_checks_say_ok_or_what_is_missing() {
    let server = Server::start().await;
    let checks = "/api/health/checks";
    assert_eq!(server.json("/api/aliveness-test/%2F").await, json!({"status": "ok"}));
    assert_eq!(server.json(&format!("{checks}/alarms")).await, json!({"status": "ok"}));
    assert_eq!(
        server.json(&format!("{checks}/node-is-quorum-critical")).await,
        json!({"status": "ok", "reason": "single node cluster"})
    );
    let amqp = server.json(&format!("{checks}/protocol-listener/AMQP091,http")).await;
    assert_eq!(amqp, json!({"status": "ok", "protocols": ["amqp", "http"]}));
    for (check, missing) in
        [("port-listener/1883", json!(1883)), ("protocol-listener/mqtt", json!(["mqtt"]))]
    {
        let failed = server.get(&format!("{checks}/{check}"), "root").await;
        assert_eq!(failed.status, 503, "{check}");
        assert_eq!(failed.json()["status"], "failed");
        assert_eq!(failed.json()["reason"], "No active listener");
        assert_eq!(failed.json()["missing"], missing);
    }
    let bad = server.get(&format!("{checks}/port-listener/amqp"), "root").await;
    assert_eq!((bad.status, bad.json()["error"].clone()), (400, json!("bad_request")));
    let bad = server.get(&format!("{checks}/certificate-expiration/1/moons"), "root").await;
    assert_eq!(bad.status, 400);
}

#[tokio::test]
async fn a_backup_has_a_name_that_is_not_taken_and_lies_where_it_was_configured() {
    let server = Server::start().await;
    let put = |name: &'static str| server.request("PUT", name, Some("root"), "");
    let made = put("/api/backups/nightly").await;
    assert_eq!((made.status, &made.json()["path"]), (200, &json!("backups/nightly")));
    let taken = put("/api/backups/taken").await;
    assert_eq!(
        (taken.status, &taken.json()["reason"]),
        (400, &json!("backups/taken: exists already"))
    );
    assert_eq!(put("/api/backups/..%2Fescaped").await.status, 400);
    assert_eq!(server.json("/api/backups").await, json!([{"name": "taken"}]));
}

#[tokio::test]
async fn lists_are_paged_and_columns_chosen() {
    let server = Server::start().await;
    let page = server.json("/api/queues/?page=1&name=JOB&columns=name,messages").await;
    assert_eq!(page["items"], json!([{"name": "jobs", "messages": 7}]));
    assert_eq!(page["total_count"], 2);
    let bad = server.get("/api/queues?page=9", "root").await;
    assert_eq!((bad.status, bad.json()["error"].clone()), (400, json!("page_out_of_range")));
}

#[tokio::test]
async fn methods_that_a_path_does_not_have_are_refused_and_told() {
    let server = Server::start().await;
    let refused = server.request("PATCH", "/api/queues", Some("root"), "").await;
    assert_eq!(refused.status, 405);
    assert_eq!(refused.json()["error"], "method_not_allowed");
    assert_eq!(refused.headers["allow"], "GET, HEAD, OPTIONS");
    let options = server.request("OPTIONS", "/api/connections/x", None, "").await;
    assert_eq!(options.status, 200);
    assert_eq!(options.headers["allow"], "DELETE, GET, HEAD, OPTIONS");
    let head = server.request("HEAD", "/api/whoami", Some("root"), "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_unread() {
    let server = Server::start().await;
    let announced = "content-length: 99999999\r\n";
    let refused = server.request("DELETE", "/api/connections/x", Some("root"), announced).await;
    assert_eq!(refused.status, 413);
    let endless = "transfer-encoding: chunked\r\n";
    let refused = server.request("DELETE", "/api/connections/x", Some("root"), endless).await;
    assert_eq!(refused.status, 413);
}

#[tokio::test]
async fn routes_stand_under_the_configured_prefix() {
    let mut settings = Settings::default();
    settings.management.path_prefix = "/mq/one".to_owned();
    let server = Server::with(settings).await;
    assert_eq!(server.json("/mq/one/api/whoami").await["name"], "root");
    assert_eq!(server.get("/api/whoami", "root").await.status, 404);
    assert_eq!(server.get("/mq/one/api/nothing", "root").await.json()["reason"], "Not Found");
}

#[tokio::test]
async fn a_server_that_is_stopped_ends_though_clients_stay_connected() {
    let server = Server::start().await;
    let mut idle = TcpStream::connect(server.address).await.expect("connected");
    assert_eq!(server.get("/api/whoami", "root").await.status, 200);
    server.stop.send(()).expect("still serving");
    server.served.await.expect("no panic").expect("no error");
    assert_eq!(idle.read(&mut [0]).await.expect("closed in order"), 0);
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_served_once_another_ends() {
    let mut settings = Settings::default();
    settings.management.connections_max = 1;
    let server = Server::with(settings).await;
    let mut first = TcpStream::connect(server.address).await.expect("connected");
    first
        .write_all(b"GET /api/health/checks/is-in-service HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("written");
    let mut answer = [0; 15];
    first.read_exact(&mut answer).await.expect("the first is served");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
    let second = server.get("/api/whoami", "root");
    let mut second = std::pin::pin!(second);
    for _ in 0..100 {
        tokio::select! {
            biased;
            _ = &mut second => panic!("the second was served beside the first"),
            () = tokio::task::yield_now() => {}
        }
    }
    drop(first);
    assert_eq!(second.await.status, 200);
}

#[tokio::test]
async fn the_metrics_pages_are_served_as_text_without_a_login() {
    let server = Server::start_metrics(Settings::default()).await;
    let page = server.request("GET", "/metrics", None, "").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.headers["content-type"], "text/plain; version=0.0.4");
    assert!(page.body.contains("\nrabbitmq_queue_messages_ready 5\n"));
    let page = server.request("GET", "/metrics/per-object", None, "").await;
    assert!(page.body.contains("\nrabbitmq_queue_messages_ready{vhost=\"/\",queue=\"jobs\"} 5\n"));
    let path = "/metrics/detailed?family=queue_coarse_metrics&vhost=other&vhost=%2F";
    let page = server.request("GET", path, None, "").await;
    assert!(page.body.contains("rabbitmq_detailed_queue_messages{vhost=\"/\",queue=\"jobs\"} 7"));
    assert_eq!(server.request("GET", "/metrics/nothing", None, "").await.status, 404);
}

#[tokio::test]
async fn the_metrics_page_can_ask_for_a_login_with_the_monitoring_tag() {
    let mut settings = Settings::default();
    settings.prometheus.authentication = true;
    settings.prometheus.path = "/custom".to_owned();
    settings.prometheus.per_object = true;
    let server = Server::start_metrics(settings).await;
    assert_eq!(server.request("GET", "/custom", None, "").await.status, 401);
    assert_eq!(server.get("/custom", "team").await.status, 401);
    let page = server.get("/custom", "watch").await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("rabbitmq_endpoint=\"per-object\""));
}
