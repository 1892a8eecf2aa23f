//! Secrets put through every door of the real broker, which logs all that it can: none of them may
//! be in anything that it writes or answers. And what its audit log makes of requests and signals.
#![cfg(feature = "rocksdb")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use leveret::protocol::frame;
use leveret::protocol::method::{Method, connection};
use leveret::protocol::table::{RawTable, Table};
use rustix::process::Signal;
use serde_json::Value as Json;
use tempfile::TempDir;

use crate::support::client::{PROTOCOL_HEADER, open_vhost};

/// A broker in a process of its own, all of whose doors are open.
struct Broker {
    child: Child,
    dir: TempDir,
    amqp: SocketAddr,
    http: SocketAddr,
    metrics: SocketAddr,
    /// What it has written to standard output and error.
    console: Vec<std::thread::JoinHandle<Vec<u8>>>,
}

impl Broker {
    fn start(configuration: &str, files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files.iter().chain(&[("leveret.conf", configuration)]) {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
        command.current_dir(dir.path()).env("RUST_BACKTRACE", "full");
        command.args(["server", "--data-dir", "data", "--config", "leveret.conf"]);
        for set in [
            "listeners.tcp.1=127.0.0.1:0",
            "management.tcp.ip=127.0.0.1",
            "management.tcp.port=0",
            "prometheus.tcp.ip=127.0.0.1",
            "prometheus.tcp.port=0",
            "log.console.level=debug",
            "log.file=leveret.log",
            "log.file.level=debug",
            "leveret.audit.file=audit.jsonl",
        ] {
            command.args(["--set", set]);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(child.stdout.take().unwrap());
        let mut began = Vec::new();
        let mut doors = [None; 3];
        while began.is_empty() || !String::from_utf8_lossy(&began).contains("startup complete") {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "{}", String::from_utf8_lossy(&began));
            for (door, name) in doors.iter_mut().zip(["0-9-1 on ", "API on ", "metrics on "]) {
                if let Some((_, address)) = line.split_once(name) {
                    *door = Some(address.trim().parse().unwrap());
                }
            }
            began.extend_from_slice(line.as_bytes());
        }
        let mut stderr = child.stderr.take().unwrap();
        let out = std::thread::spawn(move || {
            log.read_to_end(&mut began).unwrap();
            began
        });
        let err = std::thread::spawn(move || {
            let mut all = Vec::new();
            stderr.read_to_end(&mut all).unwrap();
            all
        });
        let [amqp, http, metrics] = doors.map(Option::unwrap);
        Self { child, dir, amqp, http, metrics, console: vec![out, err] }
    }

    /// The answer to a request, head and all.
    fn ask(&self, request: &str, headers: &str, body: &str) -> Vec<u8> {
        self.ask_at(self.http, request, headers, body)
    }

    fn ask_at(&self, door: SocketAddr, request: &str, headers: &str, body: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(door).unwrap();
        let length = body.len();
        write!(
            stream,
            "{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer
    }

    /// Stops it; returns everything that it has left: the console's output and every file.
    fn stop(mut self) -> Vec<(String, Vec<u8>)> {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
        let mut left = Vec::new();
        for (name, console) in ["stdout", "stderr"].into_iter().zip(self.console.drain(..)) {
            left.push((name.to_owned(), console.join().unwrap()));
        }
        files(self.dir.path(), &mut left);
        left
    }
}

fn files(dir: &Path, left: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, left);
        } else {
            left.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}

/// A client that sends frames as it likes.
struct Peer(TcpStream);

impl Peer {
    fn connect(broker: &Broker) -> Self {
        let mut stream = TcpStream::connect(broker.amqp).unwrap();
        stream.write_all(PROTOCOL_HEADER).unwrap();
        let mut peer = Self(stream);
        peer.frame();
        peer
    }

    fn send(&mut self, method: &Method<'_>) {
        let mut bytes = Vec::new();
        frame::method(&mut bytes, 0, method);
        self.0.write_all(&bytes).unwrap();
    }

    /// The payload of the next frame.
    fn frame(&mut self) -> Vec<u8> {
        let mut head = [0; frame::HEAD_BYTES];
        self.0.read_exact(&mut head).unwrap();
        let size = u32::from_be_bytes(head[3..].try_into().unwrap()) as usize;
        let mut payload = vec![0; size + 1];
        self.0.read_exact(&mut payload).unwrap();
        payload.pop();
        payload
    }

    fn log_in(&mut self, mechanism: &str, response: &[u8]) {
        let capabilities = Table::new().with("authentication_failure_close", true);
        let mut properties = Vec::new();
        Table::new().with("capabilities", capabilities).encode_body(&mut properties);
        let client_properties = RawTable::parse(&properties).unwrap();
        let start_ok =
            connection::StartOk { client_properties, mechanism, response, locale: "en_US" };
        self.send(&Method::ConnectionStartOk(start_ok));
    }

    /// Logged in, tuned and in the vhost "/".
    fn open(broker: &Broker, user: &str, password: &str) -> Self {
        let mut peer = Self::connect(broker);
        peer.log_in("PLAIN", format!("\0{user}\0{password}").as_bytes());
        peer.frame();
        let (channel_max, frame_max, heartbeat) = (2047, 131_072, 0);
        let tune_ok = connection::TuneOk { channel_max, frame_max, heartbeat };
        peer.send(&Method::ConnectionTuneOk(tune_ok));
        peer.send(&open_vhost("/"));
        peer.frame();
        peer
    }

    /// Everything until the broker hangs up, or has been told to.
    fn rest(mut self) -> Vec<u8> {
        self.0.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let _until_reset = self.0.read_to_end(&mut rest);
        rest
    }
}

fn basic(user: &str, password: &str) -> String {
    format!("authorization: Basic {}\r\n", STANDARD.encode(format!("{user}:{password}")))
}

/// A login by AMQPLAIN, in its form.
fn amqplain(user: &str, password: &str) -> Vec<u8> {
    let mut response = Vec::new();
    Table::new().with("LOGIN", user).with("PASSWORD", password).encode_body(&mut response);
    response
}

/// A shorter text's base64 is found anywhere.
const ENCODED_BYTES_MIN: usize = 12;

/// Where `secret` stands, plain or as HTTP carries it.
fn found(secret: &str, left: &[(String, Vec<u8>)]) -> Vec<String> {
    let stands = |text: &str, bytes: &[u8]| {
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    // What follows "ops:" in base64, whatever comes before and after it.
    let encoded = [0, 1, 2].map(|before| {
        let text = STANDARD.encode(format!("{}{secret}", "x".repeat(before)));
        text[4..text.len() - 4].to_owned()
    });
    let mut places = Vec::new();
    for (name, bytes) in left {
        let is_encoded = || encoded.iter().any(|text| stands(text, bytes));
        if stands(secret, bytes) || (secret.len() >= ENCODED_BYTES_MIN && is_encoded()) {
            places.push(name.clone());
        }
    }
    places
}

const PASSWORD: &str = "planted-password-of-ops";
const PASSPHRASE: &str = "planted-passphrase";

/// `leveret encrypt`, as an operator uses it.
fn encrypted(password: &str) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), PASSPHRASE).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_leveret"))
        .args(["encrypt", "--passphrase-file"])
        .arg(file.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(format!("{password}\n").as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn start() -> Broker {
    let configuration = format!(
        "default_user = ops\ndefault_pass = {}\n\
         leveret.secrets.passphrase_file = passphrase\n",
        encrypted(PASSWORD)
    );
    Broker::start(&configuration, &[("passphrase", PASSPHRASE)])
}

#[test]
fn no_secret_that_came_by_any_door_is_written_or_answered() {
    let broker = start();
    let mut answers = Vec::new();

    // AMQP: logins that succeed and fail, in form and out of it.
    drop(Peer::open(&broker, "ops", PASSWORD));
    for (mechanism, response) in [
        ("PLAIN", b"\0ops\0planted-wrong-plain".to_vec()),
        ("PLAIN", b"ops planted-malformed-plain".to_vec()),
        ("AMQPLAIN", amqplain("ops", "planted-wrong-amqplain")),
        ("AMQPLAIN", b"\x05LOGIN planted-malformed-amqplain".to_vec()),
        ("SCRAM", b"planted-unknown-mechanism".to_vec()),
    ] {
        let mut peer = Peer::connect(&broker);
        peer.log_in(mechanism, &response);
        answers.push(peer.rest());
    }
    // A frame that holds nothing else, and does not end where it should.
    for (kind, end) in [(1, 0), (9, frame::FRAME_END)] {
        let mut peer = Peer::connect(&broker);
        let payload = b"planted-in-a-bad-frame";
        let mut bytes = vec![kind, 0, 0, 0, 0, 0, u8::try_from(payload.len()).unwrap()];
        bytes.extend_from_slice(payload);
        bytes.push(end);
        peer.0.write_all(&bytes).unwrap();
        peer.rest();
    }
    // A new secret for a connection, as it should be, and cut short.
    let mut peer = Peer::open(&broker, "ops", PASSWORD);
    let new_secret = b"planted-new-secret";
    let update = connection::UpdateSecret { new_secret, reason: "expired" };
    peer.send(&Method::ConnectionUpdateSecret(update));
    answers.push(peer.frame());
    peer.0.write_all(b"\x01\0\0\0\0\0\x1a\0\x0a\0\x46\0\0\0\xffplanted-cut-secret\xce").unwrap();
    answers.push(peer.rest());

    // HTTP: the same, and passwords in bodies, paths and queries.
    let ops = basic("ops", PASSWORD);
    for headers in [
        basic("ops", "planted-wrong-basic"),
        "authorization: Basic planted-rubbish-basic\r\n".to_owned(),
        "authorization: Bearer planted-bearer-token\r\n".to_owned(),
    ] {
        answers.push(broker.ask("GET /api/overview", &headers, ""));
        answers.push(broker.ask_at(broker.metrics, "GET /metrics", &headers, ""));
    }
    let user = r#"{"password": "planted-in-a-user", "tags": "management"}"#;
    answers.push(broker.ask("PUT /api/users/app", &ops, user));
    answers.push(broker.ask("PUT /api/users/app2", &ops, r#"{"password": "planted-cut-user"#));
    for login in [&ops, &basic("app", "planted-in-a-user")] {
        let path = "GET /api/auth/hash_password/planted-in-a-path";
        answers.push(broker.ask(path, login, ""));
    }
    let uri = r#"{"value": {"src-uri": "amqp://ops:planted-in-a-uri@far/", "src-queue": "q"}}"#;
    answers.push(broker.ask("PUT /api/parameters/shovel/%2F/s", &ops, uri));
    let definitions = r#"{"users": [{"name": "d", "password": "planted-in-definitions"}]}"#;
    answers.push(broker.ask("POST /api/definitions", &ops, definitions));
    answers.push(broker.ask("GET /api/overview?password=planted-in-a-query", &ops, ""));

    // What is shown and exported.
    for path in ["overview", "users", "connections", "definitions", "nodes", "permissions"] {
        answers.push(broker.ask(&format!("GET /api/{path}"), &ops, ""));
    }
    for path in ["", "/per-object", "/detailed"] {
        answers.push(broker.ask_at(broker.metrics, &format!("GET /metrics{path}"), "", ""));
    }

    let mut left = broker.stop();
    left.retain(|(name, _)| !name.ends_with("/passphrase") && !name.ends_with("/leveret.conf"));
    let log = left.iter().find(|(name, _)| name.ends_with("leveret.log")).unwrap();
    assert!(String::from_utf8_lossy(&log.1).contains("DEBUG"), "everything is logged");
    left.extend(answers.into_iter().map(|answer| ("an answer".to_owned(), answer)));
    let planted = [
        PASSWORD,
        PASSPHRASE,
        "planted-wrong-plain",
        "planted-malformed-plain",
        "planted-wrong-amqplain",
        "planted-malformed-amqplain",
        "planted-unknown-mechanism",
        "planted-in-a-bad-frame",
        "planted-new-secret",
        "planted-cut-secret",
        "planted-wrong-basic",
        "planted-rubbish-basic",
        "planted-bearer-token",
        "planted-in-a-user",
        "planted-cut-user",
        "planted-in-a-uri",
        "planted-in-definitions",
        "planted-in-a-query",
        "planted-in-a-path",
        // And whatever was overlooked above.
        "planted",
    ];
    for secret in planted {
        assert_eq!(found(secret, &left), [""; 0], "{secret}");
    }
}

#[test]
fn a_search_for_a_secret_finds_it_as_http_carries_it() {
    let left = vec![
        ("plain".to_owned(), b"... planted-secret ...".to_vec()),
        ("encoded".to_owned(), basic("someone", "planted-secret").into_bytes()),
        ("neither".to_owned(), b"planted".to_vec()),
    ];
    assert_eq!(found("planted-secret", &left), ["plain", "encoded"]);
}

#[test]
fn requests_leave_who_asked_what_from_where_in_the_audit_log() {
    let broker = start();
    let ops = basic("ops", PASSWORD);
    broker.ask("GET /api/overview", &ops, "");
    broker.ask("PUT /api/vhosts/stage", &ops, "");
    broker.ask("GET /api/overview", &basic("ops", "wrong"), "");
    broker.ask("GET /api/overview", "", "");
    broker.ask_at(broker.metrics, "GET /metrics", &ops, "");
    let left = broker.stop();
    let (_, audit) = left.iter().find(|(name, _)| name.ends_with("audit.jsonl")).unwrap();
    let lines: Vec<Json> = String::from_utf8_lossy(audit)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let events: Vec<_> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
    let keys = [
        "audit.started",
        "vhost.created",
        "http.request",
        "http.authentication.failure",
        "audit.stopped",
    ];
    assert_eq!(events, keys);
    let (request, failure) = (&lines[2], &lines[3]);
    assert_eq!(request["user"], "ops");
    let details = &request["details"];
    assert_eq!(
        (&details["method"], &details["path"]),
        (&"PUT".into(), &"/api/vhosts/{vhost}".into())
    );
    assert_eq!((&details["names"]["vhost"], &details["status"]), (&"stage".into(), &201.into()));
    assert_eq!(details["peer_host"], "127.0.0.1");
    assert_eq!(
        (&failure["user"], &failure["details"]["peer_host"]),
        (&"ops".into(), &"127.0.0.1".into())
    );
    let (_, log) = left.iter().find(|(name, _)| name.ends_with("leveret.log")).unwrap();
    let log = String::from_utf8_lossy(log);
    assert!(log.contains("User 'ops' failed to authenticate"), "{log}");
}

#[test]
fn a_hangup_has_both_logs_go_on_in_new_files() {
    let broker = start();
    let moved = [("audit.jsonl", "audit.1"), ("leveret.log", "leveret.1")];
    for (name, old) in moved {
        std::fs::rename(broker.dir.path().join(name), broker.dir.path().join(old)).unwrap();
    }
    let pid = rustix::process::Pid::from_child(&broker.child);
    rustix::process::kill_process(pid, Signal::HUP).unwrap();
    while moved.iter().any(|(name, _)| !broker.dir.path().join(name).exists()) {
        std::thread::yield_now();
    }
    broker.ask("PUT /api/vhosts/stage", &basic("ops", PASSWORD), "");
    let left = broker.stop();
    let holds = |name: &str, text: &str| {
        let file = left.iter().find(|(file, _)| file.ends_with(name)).unwrap();
        String::from_utf8_lossy(&file.1).contains(text)
    };
    assert!(holds("audit.1", "audit.started") && !holds("audit.1", "vhost.created"));
    assert!(holds("audit.jsonl", "vhost.created") && holds("audit.jsonl", "audit.stopped"));
    assert!(holds("leveret.1", "startup complete") && !holds("leveret.1", "stopping"));
    assert!(holds("leveret.log", "stopping"));
}
