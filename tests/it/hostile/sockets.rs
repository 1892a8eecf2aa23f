//! The same by way of sockets: crowds that never log in, and a process that runs out of
//! descriptors.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::client::PROTOCOL_HEADER;

const PATIENCE: Duration = Duration::from_secs(20);

/// A broker in a process of its own.
struct Node {
    child: Child,
    amqp: SocketAddr,
    metrics: SocketAddr,
    _data: tempfile::TempDir,
}

impl Node {
    /// Starts one with these settings that may have so many files open.
    fn start(descriptors: usize, settings: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (amqp, metrics) = (free(), free());
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n $0 && exec \"$@\""]).arg(descriptors.to_string());
        command.arg(env!("CARGO_BIN_EXE_leveret")).arg("server").arg("--data-dir").arg(data.path());
        for setting in [
            format!("listeners.tcp.1={amqp}"),
            "prometheus.tcp.ip=127.0.0.1".into(),
            format!("prometheus.tcp.port={}", metrics.port()),
            "leveret.management.enabled=false".into(),
        ] {
            command.arg("--set").arg(setting);
        }
        for setting in settings {
            command.arg("--set").arg(setting);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let node = Self { child, amqp, metrics, _data: data };
        until(|| [amqp, metrics].iter().all(|door| TcpStream::connect(door).is_ok()));
        until(|| node.metric("leveret_connections_half_open") == 0.0);
        node
    }

    /// A connection that has sent the protocol header.
    fn stranger(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.amqp).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = stream.write_all(PROTOCOL_HEADER);
        stream
    }

    /// The value of a series on the metrics page.
    fn metric(&self, series: &str) -> f64 {
        let mut stream = TcpStream::connect(self.metrics).unwrap();
        let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{series} is not on the page")).parse().unwrap()
    }

    /// Processor time used so far, in clock ticks.
    fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// The whole way of a durable message: login, declaration, publish, confirm.
    fn keeps_a_message(&self) -> bool {
        let mut stream = self.stranger();
        let mut session = Vec::new();
        let start_ok = b"\0\x0a\0\x0b\0\0\0\0\x05PLAIN\0\0\0\x0c\0guest\0guest\x05en_US";
        for (channel, payload) in [
            (0_u16, &start_ok[..]),
            (0, b"\0\x0a\0\x1f\x07\xff\0\x02\0\0\0\0"),
            (0, b"\0\x0a\0\x28\x01/\0\0"),
            (1, b"\0\x14\0\x0a\0"),
            (1, b"\0\x55\0\x0a\0"),
            (1, b"\0\x32\0\x0a\0\0\x04kept\x02\0\0\0\0"),
            (1, b"\0\x3c\0\x28\0\0\0\x04kept\0"),
        ] {
            frame(&mut session, 1, channel, payload);
        }
        frame(&mut session, 2, 1, b"\0\x3c\0\0\0\0\0\0\0\0\0\x01\x10\0\x02");
        frame(&mut session, 3, 1, b"x");
        if stream.write_all(&session).is_err() {
            return false;
        }
        let confirmed = b"\0\x3c\0\x50\0\0\0\0\0\0\0\x01";
        let (mut seen, mut buffer) = (Vec::<u8>::new(), [0; 4096]);
        loop {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return false,
                Ok(n) => seen.extend(&buffer[..n]),
            }
            if seen.windows(confirmed.len()).any(|window| window == confirmed) {
                return true;
            }
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, channel: u16, payload: &[u8]) {
    out.push(kind);
    out.extend(channel.to_be_bytes());
    out.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    out.extend(payload);
    out.push(0xce);
}

#[track_caller]
fn until(mut is_true: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_true() {
        assert!(begun.elapsed() < PATIENCE, "it never became true");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether the broker has closed a connection, waiting for that if it has to.
fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn the_oldest_of_those_who_never_log_in_makes_room() {
    let node = Node::start(512, &["leveret.half_open.max=10"]);
    let mut strangers: Vec<_> = (0..15).map(|_| node.stranger()).collect();
    for stranger in &mut strangers[..5] {
        assert!(is_closed(stranger));
    }
    assert!(node.keeps_a_message(), "whoever logs in finds room");
    assert_eq!(node.metric("leveret_connections_half_open"), 9.0);
    let hits = "leveret_limit_hits_total{limit=\"leveret.half_open.max\"}";
    assert_eq!(node.metric(hits), 6.0);
}

#[test]
fn one_address_has_a_limit_of_its_own() {
    let node = Node::start(512, &["leveret.half_open.max_per_address=4"]);
    let mut strangers: Vec<_> = (0..7).map(|_| node.stranger()).collect();
    for stranger in &mut strangers[..3] {
        assert!(is_closed(stranger));
    }
    let hits = "leveret_limit_hits_total{limit=\"leveret.half_open.max_per_address\"}";
    assert_eq!(node.metric(hits), 3.0);
}

#[test]
fn a_crowd_takes_little_memory() {
    let limits = ["leveret.half_open.max=infinity", "leveret.half_open.max_per_address=infinity"];
    let node = Node::start(4_096, &limits);
    let resident = "rabbitmq_process_resident_memory_bytes";
    assert!(node.keeps_a_message());
    let before = node.metric(resident);
    let crowd: Vec<_> = (0..1_000)
        .map(|_| {
            let mut stranger = node.stranger();
            // Most of the largest frame that is taken: it has to be kept until it is whole.
            stranger.write_all(b"\x01\0\0\0\0\x20\0").unwrap();
            stranger.write_all(&[0; 8_000]).unwrap();
            stranger
        })
        .collect();
    until(|| node.metric("leveret_connections_half_open") >= 1_000.0);
    let each = (node.metric(resident) - before) / 1_000.0;
    assert!(each <= 32.0 * 1024.0, "{each} bytes each");
    drop(crowd);
}

#[test]
fn when_descriptors_run_out_clients_are_refused_and_the_store_goes_on() {
    let node = Node::start(256, &["leveret.half_open.max_per_address=infinity"]);
    assert!(node.keeps_a_message());
    // More than there are descriptors, and all at once.
    let mut crowd: Vec<_> = (0..400).filter_map(|_| TcpStream::connect(node.amqp).ok()).collect();
    let hits = "leveret_limit_hits_total{limit=\"descriptors\"}";
    until(|| node.metric(hits) > 0.0);
    assert!(node.metric("rabbitmq_process_open_fds") < 256.0 - 32.0, "some are left");
    // Nobody hurries while nothing can be done about it.
    let (before, begun) = (node.ticks(), Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    let share = (node.ticks() - before) as f64 / 100.0 / begun.elapsed().as_secs_f64();
    assert!(share < 0.2, "{share} of a processor");
    // The store writes on, and whoever comes when there is room again gets in.
    crowd.drain(..200);
    until(|| node.keeps_a_message());
    drop(crowd);
}
