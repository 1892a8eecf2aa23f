//! The management API on a running broker: what clients do over AMQP is what operators see over
//! HTTP, and what operators do reaches the clients.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use leveret::broker::alarms::Alarms;
use leveret::broker::{Broker, BrokerSettings, Now};
use leveret::config::Settings;
use leveret::management::{self, Context, Listener, LoginPace};
use leveret::metrics::ProcessReader;
use leveret::protocol::method::{basic, channel, connection, exchange, queue};
use leveret::protocol::{Method, RawTable, Table, frame};
use leveret::server::{self, clock::Clock};
use leveret::session::SessionSettings;
use leveret::store::memory::MemoryStore;
use serde_json::{Value as Json, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// One clock for every node of this process.
static CLOCK: OnceLock<Clock> = OnceLock::new();

/// A broker with its three doors open on free ports.
pub(crate) struct Node {
    pub(crate) amqp: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) metrics: SocketAddr,
    broker: Arc<Broker>,
    _stop: watch::Sender<bool>,
}

fn broker_settings() -> BrokerSettings {
    BrokerSettings {
        node_name: "rabbit@test".to_owned(),
        cluster_name: "tests".to_owned(),
        ..BrokerSettings::default()
    }
}

async fn free_port() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::at_pace(LoginPace::new(0, 0)).await
    }

    /// One where failed logins cost what they do.
    pub(crate) async fn at_pace(pace: LoginPace) -> Self {
        let clock = *CLOCK.get_or_init(Clock::start);
        let store = Arc::new(MemoryStore::new());
        let entropy = Box::new(|bytes: &mut [u8]| bytes.fill(7));
        let broker = Broker::open(broker_settings(), store, entropy, clock.now()).unwrap();
        let settings = Settings::default();
        let (stop, stopped) = watch::channel(false);
        let (listener, amqp) = free_port().await;
        let session = Arc::new(SessionSettings::default());
        let limits = server::LobbyLimits::default();
        let hall = server::Hall::new(Arc::clone(&broker), session, limits, 1_000, clock);
        tokio::spawn(server::serve_amqp(listener, hall, stopped.clone()));
        let (http_listener, http) = free_port().await;
        let (metrics_listener, metrics) = free_port().await;
        let door = |protocol, address: SocketAddr| Listener {
            protocol,
            ip: address.ip().to_string(),
            port: address.port(),
            tls: None,
        };
        let context = Arc::new(Context {
            inspect: Arc::clone(&broker) as Arc<dyn leveret::broker::inspect::Inspect>,
            operate: Arc::clone(&broker) as Arc<dyn leveret::broker::operate::Operate>,
            administer: Arc::clone(&broker) as Arc<dyn leveret::broker::access::Administer>,
            triggers: Arc::<Broker>::clone(&broker),
            process: ProcessReader::new(&Settings {
                store: leveret::config::settings::Store {
                    path: PathBuf::from("/"),
                    ..settings.store.clone()
                },
                ..settings.clone()
            }),
            listeners: vec![door("amqp", amqp), door("http", http)],
            pace,
            now: Box::new(move || clock.now()),
        });
        let ended = |mut stopped: watch::Receiver<bool>| async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let (for_pages, at_end) = (Arc::clone(&context), ended(stopped.clone()));
        let (api, pages) = (settings.management, settings.prometheus);
        tokio::spawn(async move {
            management::serve(http_listener, context, &api, at_end).await.unwrap();
        });
        let at_end = ended(stopped);
        tokio::spawn(async move {
            management::serve_metrics(metrics_listener, for_pages, &pages, at_end).await.unwrap();
        });
        Self { amqp, http, metrics, broker, _stop: stop }
    }

    pub(crate) fn broker(&self) -> Arc<Broker> {
        Arc::clone(&self.broker)
    }

    pub(crate) fn now(&self) -> Now {
        CLOCK.get().expect("a node has started").now()
    }

    /// Asks the management API as guest.
    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &str) -> (u16, String) {
        self.ask_as("guest:guest", method, path, headers).await
    }

    /// The same as someone else: `login` is a name and a password.
    pub(crate) async fn ask_as(
        &self,
        login: &str,
        method: &str,
        path: &str,
        headers: &str,
    ) -> (u16, String) {
        let headers = format!("authorization: Basic {}\r\n{headers}", STANDARD.encode(login));
        http(self.http, method, path, &headers).await
    }

    /// Puts a JSON document as guest.
    pub(crate) async fn put(&self, path: &str, document: &str) -> (u16, String) {
        self.send("PUT", path, document).await
    }

    /// Sends a JSON document as guest.
    pub(crate) async fn send(&self, method: &str, path: &str, document: &str) -> (u16, String) {
        self.send_as("guest:guest", method, path, document).await
    }

    /// The same as someone else.
    pub(crate) async fn send_as(
        &self,
        login: &str,
        method: &str,
        path: &str,
        document: &str,
    ) -> (u16, String) {
        let length = document.len();
        let headers = format!("content-type: application/json\r\ncontent-length: {length}\r\n");
        // The body stands where the next header would, after the empty line.
        self.ask_as(login, method, path, &format!("{headers}\r\n{document}")).await
    }

    pub(crate) async fn json(&self, path: &str) -> Json {
        let (status, body) = self.ask("GET", path, "").await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }
}

/// Sends a request and reads the answer: its status and body.
pub(crate) async fn http(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &str,
) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// An AMQP client, as little as it takes.
pub(crate) struct Client<S = TcpStream> {
    stream: S,
    input: Vec<u8>,
}

impl Client {
    /// Logs in as guest and opens channel 1.
    pub(crate) async fn open(amqp: SocketAddr) -> Self {
        Self::open_with(amqp, 0).await
    }

    /// The same with heartbeats.
    pub(crate) async fn open_with(amqp: SocketAddr, heartbeat: u16) -> Self {
        Self::open_as(amqp, "guest", "guest", heartbeat).await
    }

    /// The same as someone else.
    pub(crate) async fn open_as(
        amqp: SocketAddr,
        user: &str,
        password: &str,
        heartbeat: u16,
    ) -> Self {
        let stream = TcpStream::connect(amqp).await.unwrap();
        let plain = format!("\0{user}\0{password}");
        let response = plain.as_bytes();
        let start_ok = connection::StartOk { response, ..connection::StartOk::default() };
        Self::over(stream, start_ok, heartbeat).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Takes connection.start; returns how it prints.
    pub(crate) async fn greet(stream: S) -> (Self, String) {
        let mut client = Self { stream, input: Vec::new() };
        client.stream.write_all(b"AMQP\x00\x00\x09\x01").await.unwrap();
        let start = client.expect(|method| matches!(method, Method::ConnectionStart(_))).await;
        (client, start)
    }

    /// Logs in over any stream and opens channel 1.
    pub(crate) async fn over(stream: S, start_ok: connection::StartOk<'_>, heartbeat: u16) -> Self {
        let (mut client, _) = Self::greet(stream).await;
        client.send(0, &Method::ConnectionStartOk(start_ok)).await;
        client.expect(|method| matches!(method, Method::ConnectionTune(_))).await;
        let tune_ok = connection::TuneOk { channel_max: 10, frame_max: 131_072, heartbeat };
        client.send(0, &Method::ConnectionTuneOk(tune_ok)).await;
        client.send(0, &Method::ConnectionOpen(connection::Open { virtual_host: "/" })).await;
        client.expect(|method| matches!(method, Method::ConnectionOpenOk(_))).await;
        client.send(1, &Method::ChannelOpen(channel::Open)).await;
        client.expect(|method| matches!(method, Method::ChannelOpenOk(_))).await;
        client
    }

    pub(crate) async fn send(&mut self, channel: u16, method: &Method<'_>) {
        let mut out = Vec::new();
        frame::method(&mut out, channel, method);
        self.stream.write_all(&out).await.unwrap();
    }

    /// Sends a message; waits while the broker takes none.
    pub(crate) async fn publish(&mut self, channel: u16, exchange: &str, key: &str, body: &[u8]) {
        let publish = basic::Publish {
            exchange: exchange.as_bytes(),
            routing_key: key.as_bytes(),
            ..basic::Publish::default()
        };
        let mut out = Vec::new();
        frame::method(&mut out, channel, &Method::BasicPublish(publish));
        frame::content_header(&mut out, channel, 60, body.len() as u64, &[0, 0]);
        frame::body(&mut out, channel, body);
        self.stream.write_all(&out).await.unwrap();
    }

    /// Publishes a body of any size to a queue, in frames of the largest size.
    pub(crate) async fn publish_whole(&mut self, queue: &str, body: &[u8]) {
        let publish = basic::Publish { routing_key: queue.as_bytes(), ..basic::Publish::default() };
        let mut out = Vec::new();
        frame::method(&mut out, 1, &Method::BasicPublish(publish));
        frame::content_header(&mut out, 1, 60, body.len() as u64, &[0, 0]);
        for payload in body.chunks(131_072 - 8) {
            frame::body(&mut out, 1, payload);
        }
        self.stream.write_all(&out).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Reads the content that follows a method.
    pub(crate) async fn content(&mut self) -> Vec<u8> {
        let (mut body, mut size) = (Vec::new(), None);
        while size != Some(body.len()) {
            if let Some((found, used)) = frame::parse(&self.input, 131_072).unwrap() {
                match found.kind {
                    frame::FrameKind::Header => {
                        let announced = found.payload[4..12].try_into().unwrap();
                        size = Some(usize::try_from(u64::from_be_bytes(announced)).unwrap());
                    }
                    frame::FrameKind::Body => body.extend_from_slice(found.payload),
                    other => panic!("{other:?} in a content"),
                }
                self.input.drain(..used);
                continue;
            }
            let read = self.stream.read_buf(&mut self.input).await.unwrap();
            assert!(read > 0, "the broker closed the connection");
        }
        body
    }

    /// Whether the broker drops the connection, without another word.
    pub(crate) async fn ends_dropped(mut self) -> bool {
        let _ = self.stream.read_to_end(&mut self.input).await;
        self.input.is_empty()
    }

    /// Shuts down its side of the stream.
    pub(crate) async fn say_good_bye(mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Reads up to the wanted method; returns how many deliveries came before it.
    pub(crate) async fn count_until(&mut self, wanted: fn(&Method<'_>) -> bool) -> usize {
        let mut deliveries = 0;
        loop {
            let mut used_all = 0;
            while let Some((found, used)) = frame::parse(&self.input[used_all..], 131_072).unwrap()
            {
                used_all += used;
                if found.kind != frame::FrameKind::Method {
                    continue;
                }
                let method = Method::decode(found.payload).unwrap();
                if wanted(&method) {
                    self.input.drain(..used_all);
                    return deliveries;
                }
                deliveries += usize::from(matches!(method, Method::BasicDeliver(_)));
            }
            self.input.drain(..used_all);
            let read = self.stream.read_buf(&mut self.input).await.unwrap();
            assert!(read > 0, "the broker closed the connection");
        }
    }

    /// Reads the next method; it must be the expected one. Returns how it prints.
    pub(crate) async fn expect(&mut self, wanted: fn(&Method<'_>) -> bool) -> String {
        loop {
            if let Some((found, used)) = frame::parse(&self.input, 131_072).unwrap() {
                let method = Method::decode(found.payload).unwrap();
                assert!(wanted(&method), "{method:?}");
                let printed = format!("{method:?}");
                self.input.drain(..used);
                return printed;
            }
            let read = self.stream.read_buf(&mut self.input).await.unwrap();
            assert!(read > 0, "the broker closed the connection");
        }
    }
}

#[tokio::test]
async fn what_a_client_declares_is_what_an_operator_sees() {
    let node = Node::start().await;
    let mut client = Client::open(node.amqp).await;
    let declare = exchange::Declare {
        exchange: "events",
        type_: "topic",
        durable: true,
        ..exchange::Declare::default()
    };
    client.send(1, &Method::ExchangeDeclare(declare)).await;
    client.expect(|method| matches!(method, Method::ExchangeDeclareOk(_))).await;
    let mut arguments = Vec::new();
    Table::new().with("x-queue-type", "quorum").encode(&mut arguments);
    let declare = queue::Declare {
        queue: "jobs/1",
        durable: true,
        arguments: RawTable::parse(&arguments[4..]).unwrap(),
        ..queue::Declare::default()
    };
    client.send(1, &Method::QueueDeclare(declare)).await;
    client.expect(|method| matches!(method, Method::QueueDeclareOk(_))).await;
    let bind = queue::Bind {
        queue: "jobs/1",
        exchange: "events",
        routing_key: "a.#",
        ..queue::Bind::default()
    };
    client.send(1, &Method::QueueBind(bind)).await;
    client.expect(|method| matches!(method, Method::QueueBindOk(_))).await;

    let queue = node.json("/api/queues/%2F/jobs%2F1").await;
    assert_eq!((&queue["type"], &queue["messages"]), (&json!("quorum"), &json!(0)));
    assert_eq!(queue["arguments"], json!({"x-queue-type": "quorum"}));
    let exchange = node.json("/api/exchanges/%2F/events").await;
    assert_eq!((&exchange["type"], &exchange["durable"]), (&json!("topic"), &json!(true)));
    let bindings = node.json("/api/queues/%2F/jobs%2F1/bindings").await;
    let keys: Vec<&Json> =
        bindings.as_array().unwrap().iter().map(|binding| &binding["properties_key"]).collect();
    assert_eq!(keys, ["jobs%2F1", "a.%23"], "the implicit binding first");
    assert_eq!(node.json("/api/exchanges/%2F/amq.default").await["name"], "");
    let overview = node.json("/api/overview").await;
    assert_eq!(overview["object_totals"]["queues"], 1);
    assert_eq!(overview["object_totals"]["connections"], 1);
}

#[tokio::test]
async fn every_exchange_type_is_offered_and_shown() {
    let node = Node::start().await;
    let mut client = Client::open(node.amqp).await;
    let overview = node.json("/api/overview").await;
    let types = overview["exchange_types"].as_array().unwrap();
    let names: Vec<&str> = types.iter().filter_map(|kind| kind["name"].as_str()).collect();
    assert_eq!(
        names,
        [
            "direct",
            "fanout",
            "headers",
            "topic",
            "x-consistent-hash",
            "x-message-deduplication",
            "x-delayed-message",
            "x-local-random",
            "x-modulus-hash",
            "x-random",
            "x-recent-history",
        ]
    );
    let mut arguments = Vec::new();
    let table = Table::new().with("hash-header", "customer").with("x-cache-size", 5);
    table.with("x-delayed-type", "topic").encode(&mut arguments);
    for kind in types {
        assert_eq!(kind["enabled"], true);
        let name = kind["name"].as_str().unwrap();
        let declare = exchange::Declare {
            exchange: name,
            type_: name,
            arguments: RawTable::parse(&arguments[4..]).unwrap(),
            ..exchange::Declare::default()
        };
        client.send(1, &Method::ExchangeDeclare(declare)).await;
        client.expect(|method| matches!(method, Method::ExchangeDeclareOk(_))).await;
        let shown = node.json(&format!("/api/exchanges/%2F/{name}")).await;
        assert_eq!(shown["type"], name);
        let expected =
            json!({"hash-header": "customer", "x-cache-size": 5, "x-delayed-type": "topic"});
        assert_eq!(shown["arguments"], expected);
    }
}

#[tokio::test]
async fn a_client_whose_connection_an_operator_closes_is_told_why() {
    let node = Node::start().await;
    let mut client = Client::open(node.amqp).await;
    let connections = node.json("/api/connections").await;
    let name = connections[0]["name"].as_str().unwrap();
    assert_eq!(connections[0]["user"], "guest");
    let path = format!("/api/connections/{}", name.replace(' ', "%20").replace('>', "%3E"));
    assert_eq!(node.json(&path).await["protocol"], "AMQP 0-9-1");
    let (status, _) = node.ask("DELETE", &path, "x-reason: too old\r\n").await;
    assert_eq!(status, 204);
    let close = client.expect(|method| matches!(method, Method::ConnectionClose(_))).await;
    assert!(close.contains("320") && close.contains("CONNECTION_FORCED - too old"), "{close}");
}

#[tokio::test]
async fn alarms_and_whom_they_block_are_shown_and_fail_the_health_checks() {
    let node = Node::start().await;
    let mut client = Client::open(node.amqp).await;
    node.broker.set_alarms(Alarms { memory: true, disk: true }, Now::default());
    assert_eq!(node.json("/api/connections").await[0]["state"], "blocking");
    client.publish(1, "", "nowhere", b"x").await;
    while node.json("/api/connections").await[0]["state"] != "blocked" {}
    let about = node.json("/api/nodes/rabbit@test").await;
    assert_eq!((&about["mem_alarm"], &about["disk_free_alarm"]), (&json!(true), &json!(true)));
    for (check, reason) in [
        ("alarms", "There are alarms in effect in the cluster"),
        ("local-alarms", "There are alarms in effect on the node"),
    ] {
        let (status, body) = node.ask("GET", &format!("/api/health/checks/{check}"), "").await;
        let body: Json = serde_json::from_str(&body).unwrap();
        let alarm = |resource: &str| json!({"node": "rabbit@test", "resource": resource});
        let alarms = [alarm("disk"), alarm("memory")];
        assert_eq!(status, 503);
        assert_eq!(body, json!({"status": "failed", "reason": reason, "alarms": alarms}));
    }
    node.broker.set_alarms(Alarms::NONE, Now::default());
    while node.json("/api/connections").await[0]["state"] != "running" {}
    assert_eq!(node.json("/api/health/checks/local-alarms").await, json!({"status": "ok"}));
    assert_eq!(node.json("/api/nodes/rabbit@test").await["mem_alarm"], false);
}

#[tokio::test]
async fn a_single_active_consumer_is_told_from_those_that_wait() {
    const CONSUMERS: &str = "/api/consumers?columns=consumer_tag,active,activity_status";
    let node = Node::start().await;
    let mut client = Client::open(node.amqp).await;
    let mut arguments = Vec::new();
    Table::new().with("x-single-active-consumer", true).encode(&mut arguments);
    let declare = queue::Declare {
        queue: "jobs",
        arguments: RawTable::parse(&arguments[4..]).unwrap(),
        ..queue::Declare::default()
    };
    client.send(1, &Method::QueueDeclare(declare)).await;
    client.expect(|method| matches!(method, Method::QueueDeclareOk(_))).await;
    let queue = node.json("/api/queues/%2F/jobs").await;
    assert_eq!(queue["single_active_consumer_tag"], json!(null));
    for consumer_tag in ["first", "second"] {
        let consume = basic::Consume { queue: "jobs", consumer_tag, ..basic::Consume::default() };
        client.send(1, &Method::BasicConsume(consume)).await;
        client.expect(|method| matches!(method, Method::BasicConsumeOk(_))).await;
    }
    let consumers = node.json(CONSUMERS).await;
    let shown = |tag: &str, is_active: bool, status: &str| {
        let mut consumer = json!({"consumer_tag": tag, "activity_status": status});
        consumer["active"] = json!(is_active);
        consumer
    };
    let (first, second) =
        (shown("first", true, "single_active"), shown("second", false, "waiting"));
    assert_eq!(consumers, json!([first, second]));
    let queue = node.json("/api/queues/%2F/jobs").await;
    assert_eq!(queue["single_active_consumer_tag"], "first");
    let cancel = basic::Cancel { consumer_tag: "first", nowait: false };
    client.send(1, &Method::BasicCancel(cancel)).await;
    client.expect(|method| matches!(method, Method::BasicCancelOk(_))).await;
    let consumers = node.json(CONSUMERS).await;
    assert_eq!(consumers, json!([shown("second", true, "single_active")]));
    let queue = node.json("/api/queues/%2F/jobs").await;
    assert_eq!(queue["single_active_consumer_tag"], "second");
}

#[tokio::test]
async fn a_wrong_password_is_refused() {
    let node = Node::start().await;
    let login = STANDARD.encode("guest:wrong");
    let headers = format!("authorization: Basic {login}\r\n");
    let (status, body) = http(node.http, "GET", "/api/overview", &headers).await;
    assert_eq!(status, 401);
    let body: Json = serde_json::from_str(&body).unwrap();
    assert_eq!(body, json!({"error": "not_authorized", "reason": "Not_Authorized"}));
}

#[tokio::test]
async fn a_policy_is_put_shown_obeyed_and_deleted() {
    let node = Node::start().await;
    let mut client = Client::open(node.amqp).await;
    let declare = queue::Declare { queue: "jobs", ..queue::Declare::default() };
    client.send(1, &Method::QueueDeclare(declare)).await;
    client.expect(|method| matches!(method, Method::QueueDeclareOk(_))).await;
    let path = "/api/policies/%2F/short%20lists";
    let body = r#"{"pattern": "^jobs", "definition": {"max-length": 5}, "apply-to": "queues"}"#;
    assert_eq!(node.put(path, body).await.0, 201);
    assert_eq!(node.put(path, body).await.0, 204);
    let shown = json!({
        "vhost": "/",
        "name": "short lists",
        "pattern": "^jobs",
        "apply-to": "queues",
        "definition": {"max-length": 5},
        "priority": 0,
    });
    assert_eq!(node.json(path).await, shown);
    assert_eq!(node.json("/api/policies/%2F").await, json!([shown]));
    let narrow = r#"{"pattern": "", "definition": {"max-length": 3}, "priority": 7}"#;
    assert_eq!(node.put("/api/operator-policies/%2F/narrow", narrow).await.0, 201);
    let queue = node.json("/api/queues/%2F/jobs").await;
    assert_eq!(queue["policy"], "short lists");
    assert_eq!(queue["operator_policy"], "narrow");
    assert_eq!(queue["effective_policy_definition"], json!({"max-length": 3}));
    assert_eq!(node.ask("DELETE", path, "").await.0, 204);
    assert_eq!(node.ask("DELETE", path, "").await.0, 404);
    assert_eq!(node.json("/api/queues/%2F/jobs").await["policy"], json!(null));
}

#[tokio::test]
async fn a_policy_that_makes_no_sense_is_refused_as_rabbitmq_does() {
    let node = Node::start().await;
    let failed = |reason: &str| format!("Validation failed\n\n{reason}\n");
    for (body, reason) in [
        ("", "[{key_missing,pattern},{key_missing,definition}]".to_owned()),
        (r#"{"pattern": "a"}"#, "[{key_missing,definition}]".to_owned()),
        ("[]", "not_json".to_owned()),
        (r#"{"pattern": "#, "not_json".to_owned()),
        (r#"{"pattern": 5, "definition": {}}"#, failed("pattern should be a binary but was 5")),
        (r#"{"pattern": "", "definition": {}}"#, failed("no policy provided")),
        (
            r#"{"pattern": "", "definition": {"expires": 0}}"#,
            failed("0 is not a valid queue expiry"),
        ),
        (
            r#"{"pattern": "", "definition": {"max-priority": 5}}"#,
            failed("[{<<\"max-priority\">>,5}] are not recognised policy settings"),
        ),
    ] {
        let (status, answer) = node.put("/api/policies/%2F/p", body).await;
        let answer: Json = serde_json::from_str(&answer).unwrap();
        assert_eq!(status, 400, "{body}");
        assert_eq!(answer, json!({"error": "bad_request", "reason": reason}), "{body}");
    }
    assert_eq!(node.put("/api/policies/nowhere/p", "{}").await.0, 404);
    assert_eq!(node.json("/api/policies").await, json!([]));
}

#[tokio::test]
async fn a_vhost_is_put_and_deleted() {
    let node = Node::start().await;
    let path = "/api/vhosts/new%20one";
    assert_eq!(node.put(path, r#"{"tracing": true, "description": ""}"#).await.0, 201);
    assert_eq!(node.put(path, "{}").await.0, 204);
    let shown = node.json(path).await;
    assert_eq!((&shown["name"], &shown["tracing"]), (&json!("new one"), &json!(true)));
    let permissions = node.json(&format!("{path}/permissions")).await;
    assert_eq!(
        (&permissions[0]["user"], &permissions[0]["write"]),
        (&json!("guest"), &json!(".*"))
    );
    let too_long = format!("/api/vhosts/{}", "v".repeat(256));
    assert_eq!(node.put(&too_long, "{}").await.0, 400);
    assert_eq!(node.ask("DELETE", path, "").await.0, 204);
    assert_eq!(node.ask("DELETE", path, "").await.0, 404);
    assert_eq!(node.json("/api/vhosts").await.as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn tracing_of_a_vhost_is_switched_on_and_off() {
    let node = Node::start().await;
    let path = "/api/vhosts/%2F";
    assert_eq!(node.json(path).await["tracing"], false);
    for (body, on) in [
        (r#"{"tracing": true}"#, true),
        ("{}", true),
        ("", true),
        (r#"{"tracing": "false"}"#, false),
        (r#"{"name": "/", "tracing": "true"}"#, true),
    ] {
        assert_eq!(node.put(path, body).await, (204, String::new()), "{body}");
        assert_eq!(node.json(path).await["tracing"], on, "{body}");
        assert_eq!(node.json("/api/vhosts").await[0]["tracing"], on, "{body}");
    }
    for (path, body, reason) in [
        (path, r#"{"tracing": 1}"#, "not_boolean: 1"),
        (path, r#"{"description": "x"}"#, "description of a vhost cannot be set yet"),
    ] {
        let (status, answer) = node.put(path, body).await;
        let answer: Json = serde_json::from_str(&answer).unwrap();
        assert_eq!((status, &answer["reason"]), (400, &json!(reason)), "{body}");
    }
}
