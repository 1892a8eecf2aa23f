//! The broker's process when its disk refuses: it ends at once, with a code that says why.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use leveret::protocol::method::{Method, connection};
use leveret::protocol::table::{RawTable, Table};

use crate::support::client::{PROTOCOL_HEADER, open_vhost};
use crate::support::{Request, props, publish, queue};

/// EX_IOERR of `sysexits.h`.
const EXIT_IO: i32 = 74;

/// All that a client sends who publishes until the disk is full, and then says nothing more.
pub(super) fn talk() -> Vec<u8> {
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
    queue("jobs").durable().write(1, &mut out);
    for _ in 0..100 {
        publish("", "jobs", vec![7; 64 << 10]).with(props().persistent()).write(1, &mut out);
    }
    out
}

#[test]
fn a_broker_whose_disk_refuses_is_gone_within_a_second_however_its_clients_behave() {
    let dir = tempfile::tempdir().unwrap();
    // A file may grow to 2 or 4 MiB (shells count differently).
    let mut broker = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 4096; exec \"$0\" \"$@\""])
        .args([env!("CARGO_BIN_EXE_leveret"), "server", "--data-dir"])
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
    let mut idle = TcpStream::connect(address).unwrap();
    idle.write_all(PROTOCOL_HEADER).unwrap();
    let mut publisher = TcpStream::connect(address).unwrap();
    // The broker may end while it is told.
    let _ = publisher.write_all(&talk());
    let failed = log.find(|line| line.contains("the store has failed")).unwrap();
    let since = now();
    assert!(failed.contains("File too large"), "{failed}");
    let status = broker.wait().unwrap();
    let elapsed = since.elapsed();
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?} to end");
    assert_eq!(status.code(), Some(EXIT_IO));
}

#[expect(clippy::disallowed_methods, reason = "how long the process takes is what is tested")]
fn now() -> Instant {
    Instant::now()
}
