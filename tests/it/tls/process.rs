//! TLS of the whole process: what its configuration says, what it refuses to start with, and what a
//! hangup or a changed file does.
#![cfg(feature = "rocksdb")]

use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use leveret::protocol::Method;
use leveret::protocol::method::queue;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::authority::{Authority, host, options};
use super::node::{HOST, plain};
use crate::management::Client;

/// EX_CONFIG of `sysexits.h`.
const EXIT_CONFIG: i32 = 78;

struct Broker {
    process: Child,
    log: Lines<BufReader<ChildStdout>>,
}

impl Broker {
    fn command(dir: &Path, config: &str) -> Command {
        std::fs::write(dir.join("leveret.conf"), config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
        command.current_dir(dir).args(["server", "--data-dir", "data", "--config"]);
        command.arg("leveret.conf");
        command
    }

    fn start(dir: &Path, config: &str) -> Self {
        let mut command = Self::command(dir, config);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let log = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, log }
    }

    /// The next line that holds this.
    fn line(&mut self, text: &str) -> String {
        self.log.by_ref().map(Result::unwrap).find(|line| line.contains(text)).unwrap()
    }

    /// Where it listens for what the log calls so.
    fn address(&mut self, what: &str) -> SocketAddr {
        let line = self.line(what);
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    fn tell(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A configuration with TLS everywhere, and nothing else.
fn by_tls_only(more: &str) -> String {
    let options =
        |prefix: &str| format!("{prefix}.certfile = server.pem\n{prefix}.keyfile = server.key\n");
    format!(
        "listeners.tcp = none\nlisteners.ssl.1 = 127.0.0.1:0\n{}\
         management.ssl.ip = 127.0.0.1\nmanagement.ssl.port = 0\n{}\
         prometheus.ssl.ip = 127.0.0.1\nprometheus.ssl.port = 0\n{}{more}",
        options("ssl_options"),
        options("management.ssl"),
        options("prometheus.ssl"),
    )
}

async fn get(address: SocketAddr, authority: &Authority, path: &str) -> (u16, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = TlsConnector::from(authority.trusting(None));
    let mut stream = connector.connect(host(HOST), stream).await.unwrap();
    let login = STANDARD.encode("guest:guest");
    let login = format!("authorization: Basic {login}\r\n");
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{login}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn every_door_can_be_one_of_tls_and_operators_see_which_are() {
    let (dir, authority) = (tempdir().unwrap(), Authority::new("an authority"));
    let server = authority.server(HOST);
    options(dir.path(), &server, &authority);
    let mut broker = Broker::start(dir.path(), &by_tls_only(""));
    let amqp = broker.address("AMQP 0-9-1 by TLS on");
    let management = broker.address("management API by TLS on");
    let metrics = broker.address("metrics by TLS on");
    broker.line("Server startup complete");
    let stream = TcpStream::connect(amqp).await.unwrap();
    let connector = TlsConnector::from(authority.trusting(None));
    let stream = connector.connect(host(HOST), stream).await.unwrap();
    let _client = Client::over(stream, plain(), 0).await;
    let json = async |path: &str| -> Json {
        let (status, body) = get(management, &authority, path).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    };
    let overview = json("/api/overview").await;
    let listeners = overview["listeners"].as_array().unwrap().iter();
    let listeners: Vec<(&str, &Json)> =
        listeners.map(|it| (it["protocol"].as_str().unwrap(), &it["tls"])).collect();
    let wanted = ["amqp/ssl", "https", "https/prometheus"];
    assert_eq!(listeners, wanted.map(|protocol| (protocol, &json!(true))));
    assert_eq!(overview["contexts"][0]["ssl_opts"]["certfile"], "server.pem");
    let connection = &json("/api/connections").await[0];
    assert_eq!(
        [&connection["ssl"], &connection["ssl_protocol"], &connection["ssl_cipher"]],
        [&json!(true), &json!("tlsv1.3"), &json!("aes_256_gcm")]
    );
    let checks = "/api/health/checks";
    for protocol in ["amqps", "https"] {
        let found = json(&format!("{checks}/protocol-listener/{protocol}")).await;
        assert_eq!(found["status"], "ok", "{protocol}");
    }
    let port = amqp.port();
    assert_eq!(json(&format!("{checks}/port-listener/{port}")).await["port"], port);
    assert_eq!(json(&format!("{checks}/certificate-expiration/1/months")).await["status"], "ok");
    let far = format!("{checks}/certificate-expiration/4000/years");
    let (status, body) = get(management, &authority, &far).await;
    let expired: Json = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &expired["reason"]), (503, &json!("Certificates expiring")));
    assert_eq!(expired["expired"].as_array().unwrap().len(), 3);
    assert_eq!(expired["expired"][0]["protocol"], "amqp/ssl");
    assert_eq!(expired["expired"][0]["certfile"], "server.pem");
    let (status, page) = get(metrics, &authority, "/metrics").await;
    assert_eq!(status, 200);
    assert!(page.contains("rabbitmq_build_info"));
}

#[tokio::test]
async fn a_hangup_or_a_changed_file_brings_the_new_certificate_and_a_bad_one_is_only_logged() {
    let (dir, authority) = (tempdir().unwrap(), Authority::new("an authority"));
    options(dir.path(), &authority.server(HOST), &authority);
    let mut broker = Broker::start(dir.path(), &by_tls_only(""));
    let amqp = broker.address("AMQP 0-9-1 by TLS on");
    broker.line("Server startup complete");
    let dial = async || {
        let stream = TcpStream::connect(amqp).await.unwrap();
        TlsConnector::from(authority.trusting(None)).connect(host(HOST), stream).await.unwrap()
    };
    let mut old = Client::over(dial().await, plain(), 0).await;
    let second = authority.server(HOST);
    second.write(dir.path(), "server");
    broker.tell(Signal::HUP);
    broker.line("ssl_options: new connections get the certificate that was read now");
    let shown = async || dial().await.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert_eq!(shown().await, second.chain[0]);
    std::fs::write(dir.path().join("server.key"), "rubbish").unwrap();
    broker.tell(Signal::HUP);
    // Each of the doors says so, in no order.
    let line = broker.line("ssl_options.keyfile: the key in server.key");
    assert!(line.contains("the old certificate stays in use"), "{line}");
    assert_eq!(shown().await, second.chain[0]);
    // Nobody says that this one is there.
    let third = authority.server(HOST);
    third.write(dir.path(), "server");
    broker.line("ssl_options: new connections get the certificate that was read now");
    assert_eq!(shown().await, third.chain[0]);
    let declare = queue::Declare { queue: "jobs", ..queue::Declare::default() };
    old.send(1, &Method::QueueDeclare(declare)).await;
    old.expect(|method| matches!(method, Method::QueueDeclareOk(_))).await;
}

#[test]
fn what_cannot_be_used_is_said_before_anything_is_opened() {
    let (dir, authority) = (tempdir().unwrap(), Authority::new("an authority"));
    options(dir.path(), &authority.server(HOST), &authority);
    for (config, wanted) in [
        ("listeners.ssl.1 = 0", "ssl_options.certfile: a TLS listener needs it"),
        (
            "listeners.ssl.1 = 0\nssl_options.certfile = server.pem",
            "ssl_options.keyfile: a TLS listener needs it",
        ),
        (
            "management.ssl.certfile = gone.pem\nmanagement.ssl.keyfile = server.key",
            "management.ssl.certfile: cannot read gone.pem: No such file",
        ),
        (
            &by_tls_only("ssl_options.verify = verify_peer"),
            "ssl_options.cacertfile: verify_peer needs the certificates of authorities",
        ),
        (
            &by_tls_only("prometheus.ssl.fail_if_no_peer_cert = true"),
            "prometheus.ssl.fail_if_no_peer_cert: it needs prometheus.ssl.verify = verify_peer",
        ),
        (
            &by_tls_only("ssl_options.ciphers.1 = AES256-SHA"),
            "ssl_options.ciphers: none of these cipher suites is there",
        ),
        ("proxy_protocol = true", "proxy_protocol: name the load balancers"),
    ] {
        let output = Broker::command(dir.path(), config).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(EXIT_CONFIG), "{config}: {said}");
        assert!(said.contains(wanted), "{wanted}: {said}");
        assert!(!dir.path().join("data").exists(), "the data directory was touched");
    }
}
