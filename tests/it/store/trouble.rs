//! An operator's bad day, with the real commands: a backup of a running broker, a log that is
//! damaged while it is down, a start that is refused, what can be saved, and the backup restored.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use leveret::protocol::method::{Method, connection};
use serde_json::Value as Json;

use super::disk::{files, newest};
use super::ending::talk;
use crate::support::Request;

const DAMAGED: i32 = 65;
const EXISTS: i32 = 73;
const DENIED: i32 = 77;
/// What `talk` publishes.
const MESSAGES: u64 = 100;

struct Broker {
    process: Child,
    _log: Lines<BufReader<ChildStdout>>,
    amqp: String,
    http: String,
}

impl Broker {
    fn start(data: &Path) -> Self {
        let mut process = leveret(&["server", "--data-dir"])
            .arg(data)
            .args(["--set", "listeners.tcp.1=127.0.0.1:0", "--set", "log.console=true"])
            .args(["--set", "management.tcp.ip=127.0.0.1", "--set", "management.tcp.port=0"])
            .args(["--set", "prometheus.tcp.listener=none"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut after = |text: &str| {
            let line = log.by_ref().map(Result::unwrap).find(|line| line.contains(text)).unwrap();
            line.split_once(text).unwrap().1.to_owned()
        };
        let amqp = after("AMQP 0-9-1 on ");
        let http = after("management API on ");
        after("Server startup complete");
        Self { process, _log: log, amqp, http }
    }

    /// Has everything published that `talk` says, and waits until the broker has taken it.
    fn publish(&self) {
        let mut stream = TcpStream::connect(&self.amqp).unwrap();
        let mut all = talk();
        let close =
            connection::Close { reply_code: 200, reply_text: "", class_id: 0, method_id: 0 };
        Method::ConnectionClose(close).write(0, &mut all);
        stream.write_all(&all).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    }

    fn messages(&self) -> u64 {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        // guest:guest
        let login = "authorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\nconnection: close\r\n";
        let request = format!("GET /api/queues/%2F/jobs HTTP/1.1\r\nhost: x\r\n{login}\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body: Json = serde_json::from_str(body).unwrap();
        body["messages"].as_u64().unwrap_or_else(|| panic!("{body}"))
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn leveret(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.args(args);
    command
}

/// Runs a command to its end: its exit code, and what it says.
fn run(command: &mut Command) -> (i32, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = String::from_utf8([stdout, stderr].concat()).unwrap();
    (status.code().unwrap(), text)
}

#[test]
fn what_can_be_saved_is_said_and_saved_and_a_backup_has_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let broker = Broker::start(&data);
    broker.publish();
    let backup = |more: &[&str]| {
        let url = format!("http://{}", broker.http);
        run(leveret(&["backup", "nightly", "--url", &url]).args(more))
    };
    let (code, text) = backup(&["--user", "nobody"]);
    assert_eq!(code, DENIED, "{text}");
    let (code, text) = backup(&[]);
    assert_eq!(code, 0, "{text}");
    let made = data.join("backups/nightly");
    assert!(text.starts_with(&format!("{}: ", made.display())), "{text}");
    let (code, text) = backup(&[]);
    assert_eq!(code, EXISTS, "{text}");
    // Behind the backup once more, so that the log has something to lose.
    broker.publish();
    broker.kill();

    let log = newest(&data.join("db"), "log");
    let mut bytes = fs::read(&log).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, bytes).unwrap();
    let before = files(&data);
    let (code, text) = run(leveret(&["server", "--data-dir"]).arg(&data));
    assert_eq!(code, DAMAGED, "{text}");
    assert!(text.contains(&format!("{}: damaged: at offset ", log.display())), "{text}");

    let (code, text) = run(leveret(&["salvage", "--data-dir"]).arg(&data));
    assert_eq!(code, DAMAGED, "{text}");
    let log = log.file_name().unwrap().to_str().unwrap();
    for said in [
        &*format!("  db/{log} at offset "),
        "\nLost:\n",
        " messages of queue 'jobs' in vhost '/'",
        "  1 users\n",
        "Nothing was written.",
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
    let new = dir.path().join("new");
    let salvage = || {
        let mut command = leveret(&["salvage", "--data-dir"]);
        run(command.arg(&data).arg("--write-to").arg(&new))
    };
    let (code, text) = salvage();
    assert_eq!(code, 0, "{text}");
    assert_eq!(salvage().0, EXISTS);
    assert!(files(&data) == before);
    let saved = Broker::start(&new).messages();
    assert!((MESSAGES..2 * MESSAGES).contains(&saved), "{saved}");
    let kept = format!("  {saved} messages of queue 'jobs' in vhost '/'");
    assert!(text.contains(&kept), "{saved}: {text}");

    let restored = dir.path().join("restored");
    let (code, text) =
        run(leveret(&["restore", "--from"]).arg(&made).arg("--data-dir").arg(&restored));
    assert_eq!(code, 0, "{text}");
    assert_eq!(Broker::start(&restored).messages(), MESSAGES);
}
