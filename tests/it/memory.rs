//! What the broker's process takes from the system, and gives back.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use leveret::protocol::method::{Method, connection, queue as queues};
use leveret::protocol::table::{RawTable, Table};

use crate::support::client::{PROTOCOL_HEADER, open_vhost};
use crate::support::{Request, publish, queue};

const MIB: u64 = 1 << 20;
const BODY_BYTES: usize = 1_000;
const MESSAGES: usize = 150_000;

/// A login, a queue that is not durable, and its messages.
fn talk() -> Vec<u8> {
    let mut out = PROTOCOL_HEADER.to_vec();
    let mut properties = Vec::new();
    Table::new().encode_body(&mut properties);
    let start_ok = connection::StartOk {
        client_properties: RawTable::parse(&properties).unwrap(),
        mechanism: "PLAIN",
        response: b"\0guest\0guest",
        locale: "en_US",
    };
    let tune_ok = connection::TuneOk { channel_max: 9, frame_max: 131_072, heartbeat: 0 };
    Method::ConnectionStartOk(start_ok).write(0, &mut out);
    Method::ConnectionTuneOk(tune_ok).write(0, &mut out);
    open_vhost("/").write(0, &mut out);
    Method::ChannelOpen(Default::default()).write(1, &mut out);
    queue("jobs").write(1, &mut out);
    for _ in 0..MESSAGES {
        publish("", "jobs", vec![7; BODY_BYTES]).write(1, &mut out);
    }
    out
}

fn resident_bytes(broker: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// Looks until it is so; how long is measured from outside, by a process that rests.
#[expect(clippy::disallowed_methods, reason = "nobody tells of what a process has given back")]
fn until(what: &str, is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < Duration::from_secs(60), "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_broker_that_rests_gives_back_what_its_messages_took() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = Command::new(env!("CARGO_BIN_EXE_leveret"))
        .args(["server", "--data-dir"])
        .arg(dir.path().join("data"))
        .args(["--set", "listeners.tcp.1=127.0.0.1:0", "--set", "log.console=true"])
        .args(["--set", "leveret.management.enabled=false"])
        .args(["--set", "prometheus.tcp.listener=none"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(broker.stdout.take().unwrap()).lines().map(Result::unwrap);
    let listening = log.find(|line| line.contains("AMQP 0-9-1 on ")).unwrap();
    let (_, address) = listening.split_once("AMQP 0-9-1 on ").unwrap();
    let at_rest = resident_bytes(&broker);
    let held = (MESSAGES * BODY_BYTES) as u64;

    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(&talk()).unwrap();
    until("messages are held", || resident_bytes(&broker) > at_rest + held);

    let mut purge = Vec::new();
    Method::QueuePurge(queues::Purge { queue: "jobs", nowait: false }).write(1, &mut purge);
    client.write_all(&purge).unwrap();
    let given_back = || resident_bytes(&broker) < at_rest + 20 * MIB;
    until("memory is given back", given_back);

    broker.kill().unwrap();
    broker.wait().unwrap();
    let mut answers = Vec::new();
    let _ = client.read_to_end(&mut answers);
    assert!(!answers.is_empty());
}
