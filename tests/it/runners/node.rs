//! A broker in a process of its own, with programs and a place where they may write.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::bench::{account, await_that};
use crate::support::{Client, Login, Publish, confirm_select, props, publish, queue, socket};

/// The node.
pub(super) struct Node {
    pub(super) dir: TempDir,
    settings: Vec<String>,
    child: Child,
    amqp: SocketAddr,
    pub(super) http: SocketAddr,
}

impl Node {
    /// One with these programs, as [`Bench`](super::bench::Bench) has them.
    pub(super) fn start(programs: &[(&str, &str)]) -> Self {
        Self::start_with(&[], programs)
    }

    /// The same, with these settings.
    pub(super) fn start_with(settings: &[&str], programs: &[(&str, &str)]) -> Self {
        let settings: Vec<String> = settings.iter().map(|it| (*it).to_owned()).collect();
        let dir = tempfile::tempdir().unwrap();
        let mode = fs::Permissions::from_mode;
        fs::set_permissions(dir.path(), mode(0o711)).unwrap();
        for (name, rights) in [("programs.d", 0o755), ("open", 0o777)] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::set_permissions(dir.path().join(name), mode(rights)).unwrap();
        }
        for (name, lines) in programs {
            write_program(&dir, name, lines);
        }
        let (child, amqp, http) = spawn(&dir, &settings);
        Self { dir, settings, child, amqp, http }
    }

    pub(super) fn write_program(&self, name: &str, lines: &str) {
        write_program(&self.dir, name, lines);
    }

    /// Has it read its files again.
    pub(super) fn reload(&self) {
        kill_process(self.pid(), Signal::HUP).unwrap();
    }

    /// Tells it to stop, and waits until it has.
    pub(super) fn stop(&mut self) {
        kill_process(self.pid(), Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    /// Starts it again on what is left.
    pub(super) fn start_again(&mut self) {
        (self.child, self.amqp, self.http) = spawn(&self.dir, &self.settings);
    }

    /// Kills it without warning.
    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// A client on channel 1 that gets confirms.
    pub(super) fn client(&self) -> Client {
        let client = socket::connect(self.amqp);
        client.log_in(&Login::default());
        client.open(1);
        client.ok(1, confirm_select());
        client
    }

    /// Declares a durable queue.
    pub(super) fn declare(&self, client: &Client, name: &str) {
        client.ok(1, queue(name).durable());
    }

    /// Sets a trigger.
    pub(super) fn set(&self, name: &str, definition: &Json) {
        let path = format!("/api/triggers/%2F/{name}");
        let (status, answer) = self.ask("PUT", &path, Some(definition));
        assert!((200..300).contains(&status), "{status}: {answer}");
    }

    pub(super) fn get(&self, path: &str) -> Json {
        let (status, answer) = self.ask("GET", path, None);
        assert_eq!(status, 200, "{path}: {answer}");
        serde_json::from_str(&answer).unwrap()
    }

    pub(super) fn explain(&self, name: &str) -> Json {
        self.get(&format!("/api/triggers/%2F/{name}/explain"))
    }

    /// Messages that wait, and those that are out.
    pub(super) fn depths(&self, queue: &str) -> (u64, u64) {
        let shown = self.get(&format!("/api/queues/%2F/{queue}?disable_stats=false"));
        let count = |name: &str| shown[name].as_u64().unwrap_or_default();
        (count("messages_ready"), count("messages_unacknowledged"))
    }

    /// Waits until nothing is left of a queue's messages.
    pub(super) fn await_empty(&self, queue: &str) {
        await_that(&format!("{queue} is empty"), || self.depths(queue) == (0, 0));
    }

    /// A request's status and answer.
    pub(super) fn ask(&self, method: &str, path: &str, body: Option<&Json>) -> (u16, String) {
        let body = body.map(Json::to_string).unwrap_or_default();
        let length = body.len();
        let mut stream = TcpStream::connect(self.http).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
             authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    pub(super) fn open_file(&self, name: &str) -> PathBuf {
        self.dir.path().join("open").join(name)
    }

    /// The lines that programs have added to a file.
    pub(super) fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.open_file(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    pub(super) fn await_lines(&self, name: &str, count: usize) -> Vec<String> {
        await_that(&format!("{name} has {count} lines"), || self.lines(name).len() >= count);
        self.lines(name)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a program that is a shell script.
pub(super) fn script(text: &str) -> String {
    format!("command = ['/bin/sh', '-c', '''{text}''']\npass_environment = ['PATH']")
}

/// A trigger that hands messages to a program.
pub(super) fn deliver(queue: &str, program: &str) -> Json {
    json!({
        "queue": queue,
        "condition": {"type": "every"},
        "mode": "deliver",
        "action": {"type": "program", "name": program},
        "retry_delay_ms": 10,
    })
}

pub(super) fn persistent(queue: &str, body: &str) -> Publish {
    publish("", queue, body).with(props().persistent())
}

/// Publishes and waits until the broker has it.
pub(super) fn put(client: &Client, message: Publish) {
    client.send(1, message);
    client.take(1);
}

fn write_program(dir: &TempDir, name: &str, lines: &str) {
    let open = dir.path().join("open").display().to_string();
    let text = format!("{}queues = ['*:*']\n{}\n", account(), lines.replace('@', &open));
    fs::write(dir.path().join("programs.d").join(format!("{name}.toml")), text).unwrap();
}

fn spawn(dir: &TempDir, settings: &[String]) -> (Child, SocketAddr, SocketAddr) {
    let programs = dir.path().join("programs.d").display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.arg("server").arg("--data-dir").arg(dir.path().join("data"));
    for set in [
        "listeners.tcp.1=127.0.0.1:0",
        "management.tcp.ip=127.0.0.1",
        "management.tcp.port=0",
        "prometheus.tcp.ip=127.0.0.1",
        "prometheus.tcp.port=0",
        "leveret.triggers.webhook.private_addresses=true",
        &format!("leveret.triggers.programs_dir={programs}"),
    ] {
        command.arg("--set").arg(set);
    }
    command.args(settings.iter().flat_map(|set| ["--set", set]));
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stdout.take().unwrap());
    let mut doors = [None; 2];
    let mut began = String::new();
    while !began.contains("startup complete") {
        let start = began.len();
        assert!(log.read_line(&mut began).unwrap() > 0, "{began}");
        for (door, name) in doors.iter_mut().zip(["0-9-1 on ", "API on "]) {
            if let Some((_, address)) = began[start..].split_once(name) {
                *door = Some(address.trim().parse().unwrap());
            }
        }
    }
    // Somebody must read on, or the broker waits to be read.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    let [amqp, http] = doors.map(Option::unwrap);
    (child, amqp, http)
}
