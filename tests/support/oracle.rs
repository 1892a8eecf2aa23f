//! A broker in another process, reached by TCP, that transcripts are held against.
//!
//! `LEVERET_ORACLE` names it: `HOST:PORT` of a RabbitMQ whose management API listens 10000 ports
//! higher and where every test gets a vhost of its own, or the path of a leveret binary, which
//! every test starts for itself. `interop/oracle/run` sets it, and judges what comes out.
//!
//! Here a test has to wait: for what is due, until it comes; for nothing, until all has been quiet
//! for [`REST`]. Clients are connected to different processes within the broker, so before another
//! one speaks, what the last one said gets a moment to take effect. The clock cannot be moved;
//! time really passes, and what would take too long is skipped.
#![allow(clippy::disallowed_methods, reason = "here time passes by itself")]
#![expect(clippy::disallowed_methods, reason = "the other broker's time is the real one")]

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

use leveret::protocol::frame;
use tempfile::TempDir;

use super::client::open_vhost;
use super::transport::{Patience, Transport};

/// How long something that is due may take.
const DUE: Duration = Duration::from_secs(5);
/// Quiet for so long, nothing more will come.
const REST: Duration = Duration::from_millis(120);
/// What another client said has taken effect after so long.
const EFFECT: Duration = Duration::from_millis(40);
/// The same once it has been answered.
const ANSWERED: Duration = Duration::from_millis(5);
/// A client that hung up has been missed after so long.
const MISSED: Duration = Duration::from_millis(200);
/// The longest that a test may move the clock.
const LONGEST_MS: u64 = 61_000;
/// `advance(999)` looks just before a deadline: at most so much before it, as requests take time.
const BEFORE: Duration = Duration::from_millis(700);
/// Any other step has passed its deadline: by so much.
const BEYOND: Duration = Duration::from_millis(30);

/// Ends the test as one that cannot be run against a broker elsewhere.
#[track_caller]
pub(super) fn skip(why: &str) -> ! {
    panic!("skipped: {why}")
}

/// The broker and its clock.
pub(super) struct Oracle {
    address: String,
    home: Home,
    /// When the last advance ended.
    since: Cell<Instant>,
    /// By how much it stopped short.
    owed: Cell<Duration>,
    last: Cell<Last>,
    /// Every socket: a client that goes out of a test's sight has not hung up.
    sockets: RefCell<Vec<TcpStream>>,
}

/// Where a test has the broker to itself.
enum Home {
    Vhost(String),
    Process { child: RefCell<Child>, _data: TempDir },
}

/// What was said last, by whom, and when it has surely taken effect.
#[derive(Clone, Copy)]
struct Last {
    connection: usize,
    channel: u16,
    at: Instant,
    effect: Instant,
}

impl Oracle {
    /// Whether tests run against a broker elsewhere.
    pub(super) fn is_asked_for() -> bool {
        std::env::var_os("LEVERET_ORACLE").is_some()
    }

    /// The broker that the environment names, with nothing in it.
    pub(super) fn from_environment() -> Option<Self> {
        let named = std::env::var("LEVERET_ORACLE").ok()?;
        let (address, home) = if named.contains('/') { start(&named) } else { fresh_vhost(&named) };
        let now = Instant::now();
        Some(Self {
            address,
            home,
            since: Cell::new(now),
            owed: Cell::default(),
            last: Cell::new(Last { connection: 0, channel: 0, at: now, effect: now }),
            sockets: RefCell::default(),
        })
    }

    pub(super) fn connect(self: &Rc<Self>, from: &str) -> Wire {
        if !from.starts_with("127.") {
            skip("a client comes from an address that this machine has not");
        }
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        let arrived = Arc::new((Mutex::new(Arrived::default()), Condvar::new()));
        let mut reader = stream.try_clone().unwrap();
        let shared = Arc::clone(&arrived);
        std::thread::spawn(move || read_on(&mut reader, &shared));
        let mut sockets = self.sockets.borrow_mut();
        sockets.push(stream.try_clone().unwrap());
        Wire { oracle: Rc::clone(self), id: sockets.len(), stream, arrived }
    }

    /// Lets so much time pass, a bit less if the test looks just before a deadline.
    pub(super) fn advance(&self, ms: u64) {
        if ms > LONGEST_MS {
            skip(&format!("{} seconds have to pass", ms / 1_000));
        }
        let step = Duration::from_millis(ms);
        let start = Instant::now();
        if ms % 10 == 9 {
            let target = self.since.get() + step - BEFORE.min(step / 2);
            std::thread::sleep(target.saturating_duration_since(start));
            self.owed.set(step.saturating_sub(start.elapsed()));
        } else {
            std::thread::sleep(step + self.owed.take() + BEYOND);
        }
        self.since.set(Instant::now());
    }

    /// Seconds of Unix time.
    pub(super) fn unix_s(&self) -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
    }

    /// Waits until what was said by others has taken effect, and notes down who speaks now.
    fn speak(&self, connection: usize, bytes: &[u8]) {
        let last = self.last.get();
        let channel = match bytes {
            [_, high, low, ..] if bytes.len() >= frame::HEAD_BYTES => {
                u16::from_be_bytes([*high, *low])
            }
            // A piece of something.
            _ => last.channel,
        };
        // A queue counts its messages before it takes new ones, and takes dead letters when it can.
        let looks = bytes
            .get(frame::HEAD_BYTES..)
            .is_some_and(|payload| LOOKS.iter().any(|method| payload.starts_with(method)));
        if looks || (last.connection, last.channel) != (connection, channel) {
            std::thread::sleep(last.effect.saturating_duration_since(Instant::now()));
        }
        let at = Instant::now();
        self.last.set(Last { connection, channel, at, effect: at + EFFECT });
    }
}

/// What tells a queue's state: queue.declare, purge, delete; basic.get.
const LOOKS: [[u8; 4]; 4] = [[0, 50, 0, 10], [0, 50, 0, 30], [0, 50, 0, 40], [0, 60, 0, 70]];

impl Drop for Oracle {
    fn drop(&mut self) {
        for socket in self.sockets.borrow().iter() {
            let _unless_gone = socket.shutdown(Shutdown::Both);
        }
        match &self.home {
            Home::Vhost(vhost) => {
                api(&self.address, "DELETE", &format!("vhosts/{vhost}"), "");
            }
            Home::Process { child, .. } => {
                let mut child = child.borrow_mut();
                let _ended = child.kill().and_then(|()| child.wait());
            }
        }
    }
}

/// A leveret of the test's own.
fn start(binary: &str) -> (String, Home) {
    let data = tempfile::tempdir().unwrap();
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = free().to_string();
    let mut command = Command::new(binary);
    command.arg("server").arg("--data-dir").arg(data.path());
    for (name, value) in [
        ("listeners.tcp.1", address.clone()),
        ("management.tcp.ip", "127.0.0.1".into()),
        ("management.tcp.port", free().port().to_string()),
        ("prometheus.tcp.ip", "127.0.0.1".into()),
        ("prometheus.tcp.port", free().port().to_string()),
    ] {
        command.arg("--set").arg(format!("{name}={value}"));
    }
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let home = Home::Process { child: RefCell::new(child), _data: data };
    let begun = Instant::now();
    while TcpStream::connect(&address).is_err() {
        assert!(begun.elapsed() < 4 * DUE, "{binary} does not listen on {address}");
        std::thread::sleep(Duration::from_millis(10));
    }
    (address, home)
}

/// A vhost of the test's own, with a short name: a refusal's text has an end.
fn fresh_vhost(address: &str) -> (String, Home) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let vhost = format!("t{}", COUNT.fetch_add(1, Ordering::Relaxed));
    api(address, "DELETE", &format!("vhosts/{vhost}"), "");
    let made = api(address, "PUT", &format!("vhosts/{vhost}"), "");
    assert_eq!(made, 201, "the answer to the creation of a vhost");
    let all = r#"{"configure": ".*", "write": ".*", "read": ".*"}"#;
    let granted = api(address, "PUT", &format!("permissions/{vhost}/guest"), all);
    assert!(granted / 100 == 2, "permissions: {granted}");
    (address.to_owned(), Home::Vhost(vhost))
}

/// A request to the management API; returns the status, 0 if there was no answer.
fn api(address: &str, method: &str, path: &str, body: &str) -> u16 {
    let (host, port) = address.rsplit_once(':').unwrap();
    let port = port.parse::<u16>().unwrap() + 10_000;
    let mut stream = TcpStream::connect((host, port)).unwrap();
    let length = body.len();
    // guest:guest
    let request = format!(
        "{method} /api/{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Basic Z3Vlc3Q6Z3Vlc3Q=\r\n\
         Connection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n\
         {body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _read = stream.read_to_string(&mut answer);
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

/// A client's socket.
pub(super) struct Wire {
    oracle: Rc<Oracle>,
    id: usize,
    stream: TcpStream,
    arrived: Arc<(Mutex<Arrived>, Condvar)>,
}

/// What a socket has brought and nobody has looked at.
#[derive(Default)]
struct Arrived {
    bytes: Vec<u8>,
    last: Option<Instant>,
    closed: bool,
}

/// Reads for as long as the broker writes, so that neither waits for the other.
fn read_on(stream: &mut TcpStream, shared: &(Mutex<Arrived>, Condvar)) {
    let mut buffer = [0; 65_536];
    loop {
        let read = stream.read(&mut buffer).unwrap_or(0);
        let mut arrived = shared.0.lock().unwrap();
        arrived.bytes.extend_from_slice(&buffer[..read]);
        arrived.last = Some(Instant::now());
        arrived.closed = read == 0;
        shared.1.notify_all();
        if arrived.closed {
            return;
        }
    }
}

impl Wire {
    /// Waits until `done`, as long as patience lasts; returns what has arrived by then.
    fn wait(
        &self,
        patience: Patience,
        done: impl Fn(&Arrived) -> bool,
    ) -> std::sync::MutexGuard<'_, Arrived> {
        let called = Instant::now();
        let mut arrived = self.arrived.0.lock().unwrap();
        loop {
            let until = match patience {
                Patience::Due => called + DUE,
                Patience::Rest => {
                    self.oracle.last.get().at.max(arrived.last.unwrap_or(called)) + REST
                }
            };
            let left = until.saturating_duration_since(Instant::now());
            if done(&arrived) || left.is_zero() {
                return arrived;
            }
            arrived = self.arrived.1.wait_timeout(arrived, left).unwrap().0;
        }
    }
}

impl Transport for Wire {
    fn send(&self, bytes: &[u8]) {
        self.oracle.speak(self.id, bytes);
        let mut bytes = bytes.to_vec();
        let [mut root, mut own] = [Vec::new(), Vec::new()];
        frame::method(&mut root, 0, &open_vhost("/"));
        frame::method(&mut own, 0, &open_vhost(self.vhost()));
        if let Some(at) = bytes.windows(root.len()).position(|it| it == root) {
            bytes.splice(at..at + root.len(), own);
        }
        // A broker that has hung up is noticed by whoever reads.
        let _written = (&self.stream).write_all(&bytes);
    }

    fn receive(&self, into: &mut Vec<u8>, patience: Patience) -> bool {
        let mut arrived = self.wait(patience, |it| it.closed || !it.bytes.is_empty());
        let came = !arrived.bytes.is_empty();
        into.append(&mut arrived.bytes);
        came
    }

    fn is_closed(&self, patience: Patience) -> bool {
        self.wait(patience, |it| it.closed).closed
    }

    fn lose(&self) {
        // What was said before is heard: an answer that nobody reads can cost it.
        std::thread::sleep(self.oracle.last.get().effect.saturating_duration_since(Instant::now()));
        let _unless_gone = self.stream.shutdown(Shutdown::Both);
        let at = Instant::now();
        self.oracle.last.set(Last { connection: 0, channel: 0, at, effect: at + MISSED });
    }

    fn answered(&self, channel: u16) {
        let last = self.oracle.last.get();
        if (last.connection, last.channel) == (self.id, channel) {
            let effect = last.effect.min(Instant::now() + ANSWERED);
            self.oracle.last.set(Last { effect, ..last });
        }
    }

    fn vhost(&self) -> &str {
        match &self.oracle.home {
            Home::Vhost(vhost) => vhost,
            Home::Process { .. } => "/",
        }
    }
}
