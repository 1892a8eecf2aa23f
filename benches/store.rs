//! What a durable message costs: the store beside a plain file on the same disk, in the same run.
//!
//! `cargo bench --bench store -- [seconds=2] [recycled_logs=4] [write_buffer_mib=16] [only=...]`
//!
//! Every line is messages a second, CPU microseconds a message (all threads), syncs per 1,000
//! messages and bytes written per payload byte. The figure to trust on a busy machine is the ratio
//! of a line to the plain file's line above it, and the CPU time. Run it on the disk that matters:
//! the directory is made below `TMPDIR`.
//!
//! With `-- --count NAME MESSAGES` one case handles so many messages, for `benches/instructions` to
//! count: [`CASES`].
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "a benchmark prints")]
#![allow(clippy::unwrap_used, reason = "a benchmark may stop where it stands")]

mod counted;
mod disk;

use std::fs::{File, read_dir, read_to_string};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use leveret::broker::message::Message;
use leveret::store::rocks::{Options, RocksStore};
use leveret::store::{
    Backlog, Batch, Op, QueueKey, QueueSeq, ReadLimit, Recovery, Store, StoreCounters,
};

use counted::{Case, counted};
use disk::{body, message, wait_for};

const BODY_SIZES: [usize; 2] = [100, 1024];

/// Each message in a group of so many, or in a table, so that what is counted does not depend on
/// which threads run when.
const CASES: &[Case] = &[
    Case { name: "store-commit", run: |n| counted_commits(n, 100) },
    Case { name: "store-commit-alone", run: |n| counted_commits(n, 1) },
    Case { name: "store-settle", run: counted_settles },
    Case { name: "store-read", run: counted_reads },
];

fn main() {
    if counted(CASES) {
        return;
    }
    let settings = Settings::from_arguments();
    let dir = tempfile::tempdir().unwrap();
    println!("directory {}, {settings:?}", dir.path().display());
    let is_wanted = |name: &str| settings.only.as_ref().is_none_or(|only| name.contains(&**only));
    if is_wanted("open") {
        opening(&settings, dir.path());
    }
    if is_wanted("paired") {
        for (bytes, batch) in [(100, 1), (1024, 1), (1024, 10), (1024, 100)] {
            println!("\n{bytes} B, batches of {batch}, turn by turn");
            turn_by_turn(&settings, dir.path(), bytes, batch);
        }
    }
    for bytes in BODY_SIZES {
        if is_wanted("window") {
            println!("\n{bytes} B, one publisher that waits for every batch");
            for batch in [1, 10, 100, 1000] {
                plain_file(&settings, dir.path(), bytes, batch);
                one_publisher(&settings, dir.path(), bytes, batch);
            }
        }
        if is_wanted("group") {
            println!("\n{bytes} B, publishers that wait for every message");
            for publishers in [16, 64] {
                publishers_waiting(&settings, dir.path(), bytes, publishers);
            }
        }
        if is_wanted("stream") {
            println!("\n{bytes} B, batches of 100, waiting only for a backlog of 4 MiB");
            streaming(&settings, dir.path(), bytes, Consumer::None);
            streaming(&settings, dir.path(), bytes, Consumer::Behind(100_000));
            streaming(&settings, dir.path(), bytes, Consumer::Behind(2_000));
        }
    }
}

#[derive(Debug)]
struct Settings {
    seconds: u64,
    only: Option<String>,
    options: Options,
}

impl Settings {
    fn from_arguments() -> Self {
        let mut settings = Self { seconds: 2, only: None, options: Options::default() };
        for argument in std::env::args().skip(1) {
            match argument.split_once('=') {
                Some(("seconds", value)) => settings.seconds = value.parse().unwrap(),
                Some(("recycled_logs", value)) => {
                    settings.options.recycled_logs = value.parse().unwrap();
                }
                Some(("write_buffer_mib", value)) => {
                    settings.options.write_buffer_bytes = value.parse::<usize>().unwrap() << 20;
                }
                Some(("only", value)) => settings.only = Some(value.to_owned()),
                // Cargo adds `--bench`.
                _ => {}
            }
        }
        settings
    }

    fn open(&self, dir: &Path) -> RocksStore {
        RocksStore::open(dir.join("store"), self.options).unwrap()
    }
}

/// A run's figures so far.
struct Meter {
    start: Instant,
    cpu_start: Duration,
    until: Instant,
}

impl Meter {
    fn start(settings: &Settings) -> Self {
        let start = Instant::now();
        let until = start + Duration::from_secs(settings.seconds);
        Self { start, cpu_start: cpu_time(), until }
    }

    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    fn report(
        &self,
        name: &str,
        messages: u64,
        bytes: usize,
        before: StoreCounters,
        after: StoreCounters,
    ) {
        let seconds = self.start.elapsed().as_secs_f64();
        let cpu = (cpu_time() - self.cpu_start).as_secs_f64();
        let messages = messages as f64;
        let written = (after.bytes_written - before.bytes_written) as f64;
        println!(
            "{name:34} {:>10.0}/s {:>8.2} us {:>8.2} syncs/1000 {:>6.2} x",
            messages / seconds,
            cpu * 1e6 / messages,
            (after.syncs - before.syncs) as f64 * 1e3 / messages,
            written / (messages * bytes as f64),
        );
    }
}

/// Processor time of all threads. The kernel counts it in hundredths of a second.
fn cpu_time() -> Duration {
    let stat = read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks: u64 =
        fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}

fn resident_mib() -> f64 {
    let status = read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}

fn enqueue(queue: u64, seq: u64, body: &[u8]) -> Op {
    Op::Enqueue { queue: QueueKey { shard: 0, queue }, seq: QueueSeq(seq), message: message(body) }
}

fn settle(queue: u64, seq: u64, body_bytes: usize) -> Op {
    let body_bytes = body_bytes as u64;
    Op::Settle { queue: QueueKey { shard: 0, queue }, seq: QueueSeq(seq), body_bytes }
}

fn opening(settings: &Settings, dir: &Path) {
    let timed = |what: &str| {
        let start = Instant::now();
        let store = settings.open(dir);
        println!("{what}: {:.1} ms, {:.1} MiB resident", ms(start), resident_mib());
        let start = Instant::now();
        store.close().unwrap();
        drop(store);
        println!("closed in {:.1} ms", ms(start));
    };
    println!("before: {:.1} MiB resident", resident_mib());
    timed("opened, new");
    timed("opened, empty");
    std::fs::remove_dir_all(dir.join("store")).unwrap();
}

fn ms(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

fn plain_file(settings: &Settings, dir: &Path, bytes: usize, batch: u64) {
    let mut file = File::create(dir.join("plain")).unwrap();
    let mut record = Vec::new();
    let body = body(bytes);
    let meter = Meter::start(settings);
    let mut messages = 0;
    while meter.goes_on() {
        record.clear();
        for _ in 0..batch {
            record.extend_from_slice(&[0; 32]);
            record.extend_from_slice(&body);
        }
        let checksum = crc32fast::hash(&record);
        record.extend_from_slice(&checksum.to_le_bytes());
        file.write_all(&record).unwrap();
        file.sync_data().unwrap();
        messages += batch;
    }
    let written = StoreCounters {
        syncs: messages / batch,
        bytes_written: messages * (32 + bytes as u64),
        ..StoreCounters::default()
    };
    let name = format!("plain file, batches of {batch}");
    meter.report(&name, messages, bytes, StoreCounters::default(), written);
}

/// Four writers take turns of 50 ms, so that whatever else the machine does hits all alike: a plain
/// file that grows, one that is overwritten, a store without recycled logs and one with them.
fn turn_by_turn(settings: &Settings, dir: &Path, bytes: usize, batch: u64) {
    const TURN: Duration = Duration::from_millis(50);
    let stores = [0, settings.options.recycled_logs.max(1)].map(|recycled_logs| {
        let options = Options { recycled_logs, ..settings.options };
        let store = RocksStore::open(dir.join(format!("store{recycled_logs}")), options).unwrap();
        let mut seq = 0;
        warm_up(&store, &mut seq, settings);
        (store, seq)
    });
    let body = body(bytes);
    let record = [&[0; 32], &body[..]].concat().repeat(usize::try_from(batch).unwrap());
    let mut growing = File::create(dir.join("growing")).unwrap();
    let overwritten = File::create(dir.join("overwritten")).unwrap();
    let room = 64 << 20;
    overwritten.write_all_at(&vec![1; room], 0).unwrap();
    overwritten.sync_all().unwrap();
    let mut at = 0;
    let mut write: [Box<dyn FnMut()>; 4] = [
        Box::new(|| {
            growing.write_all(&record).unwrap();
            growing.sync_data().unwrap();
        }),
        Box::new(|| {
            overwritten.write_all_at(&record, at).unwrap();
            overwritten.sync_data().unwrap();
            at = (at + record.len() as u64) % (room - record.len()) as u64;
        }),
        {
            let (store, body) = (&stores[0].0, &body);
            let mut next = stores[0].1;
            Box::new(move || publish(store, &mut next, batch, body))
        },
        {
            let (store, body) = (&stores[1].0, &body);
            let mut next = stores[1].1;
            Box::new(move || publish(store, &mut next, batch, body))
        },
    ];
    let mut waits: [Vec<Duration>; 4] = Default::default();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(8 * settings.seconds) {
        for (write, waits) in write.iter_mut().zip(&mut waits) {
            let turn = Instant::now();
            while turn.elapsed() < TURN {
                let start = Instant::now();
                write();
                waits.push(start.elapsed());
            }
        }
    }
    let names = [
        "plain file that grows",
        "plain file overwritten",
        "store, new logs",
        "store, recycled logs",
    ];
    for (name, mut waits) in names.into_iter().zip(waits) {
        waits.sort_unstable();
        let total: Duration = waits.iter().sum();
        let at = |percent: usize| waits[waits.len() * percent / 100].as_secs_f64() * 1e6;
        println!(
            "{name:34} {:>8.0} batches/s, p50 {:>6.0} us, p90 {:>6.0} us, p99 {:>6.0} us",
            waits.len() as f64 / total.as_secs_f64(),
            at(50),
            at(90),
            at(99),
        );
    }
    drop(write);
    for (store, _) in stores {
        let counters = store.counters();
        println!("{:34} {counters:?}", "");
    }
    for entry in read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap()
        } else {
            std::fs::remove_file(path).unwrap()
        }
    }
}

fn publish(store: &RocksStore, next: &mut u64, batch: u64, body: &[u8]) {
    let ops = (*next..*next + batch).map(|seq| enqueue(1, seq, body)).collect();
    *next += batch;
    wait_for(store, store.submit(Batch { ops, awaited: true }));
}

fn one_publisher(settings: &Settings, dir: &Path, bytes: usize, batch: u64) {
    let store = settings.open(dir);
    let body = body(bytes);
    let mut seq = 0;
    warm_up(&store, &mut seq, settings);
    let before = store.counters();
    let meter = Meter::start(settings);
    let start = seq;
    while meter.goes_on() {
        publish(&store, &mut seq, batch, &body);
    }
    let name = format!("store, batches of {batch}");
    meter.report(&name, seq - start, bytes, before, store.counters());
    close(store, dir);
}

/// Fills the write buffers often enough for every log file to have been round once or twice.
fn warm_up(store: &RocksStore, seq: &mut u64, settings: &Settings) {
    let body = body(16_000);
    let messages = (16 * settings.options.write_buffer_bytes / body.len()) as u64;
    for _ in 0..messages {
        let lsn = store.submit(Batch { ops: vec![enqueue(1, *seq, &body)], awaited: false });
        *seq += 1;
        if store.backlog_bytes() > 4 << 20 {
            wait_for(store, lsn);
        }
    }
    let purge = Op::Purge {
        queue: QueueKey { shard: 0, queue: 1 },
        from: QueueSeq(0),
        to: QueueSeq(*seq),
        except: Vec::new(),
        messages,
        body_bytes: messages * body.len() as u64,
    };
    let lsn = store.submit(Batch { ops: vec![purge], awaited: true });
    wait_for(store, lsn);
    // Tables are still being written and merged: that is not the next measurement's work.
    loop {
        let before = cpu_time();
        thread::sleep(Duration::from_millis(200));
        if cpu_time() - before < Duration::from_millis(20) {
            break;
        }
    }
}

fn publishers_waiting(settings: &Settings, dir: &Path, bytes: usize, publishers: u64) {
    let store = settings.open(dir);
    let mut seq = 0;
    warm_up(&store, &mut seq, settings);
    let body = body(bytes);
    let before = store.counters();
    let meter = Meter::start(settings);
    let messages = AtomicU64::new(0);
    thread::scope(|scope| {
        for publisher in 0..publishers {
            let (store, body, meter, messages) = (&store, &body, &meter, &messages);
            scope.spawn(move || {
                let mut seq = 0;
                while meter.goes_on() {
                    let ops = vec![enqueue(2 + publisher, seq, body)];
                    wait_for(store, store.submit(Batch { ops, awaited: true }));
                    seq += 1;
                }
                messages.fetch_add(seq, Ordering::Relaxed);
            });
        }
    });
    let name = format!("store, {publishers} publishers");
    meter.report(&name, messages.into_inner(), bytes, before, store.counters());
    close(store, dir);
}

#[derive(Debug, Clone, Copy)]
enum Consumer {
    None,
    /// Settles in order, so many messages after they were published; reads them where they are not
    /// in memory any more.
    Behind(u64),
}

fn streaming(settings: &Settings, dir: &Path, bytes: usize, consumer: Consumer) {
    let store = settings.open(dir);
    let body = body(bytes);
    let mut seq = 0;
    warm_up(&store, &mut seq, settings);
    let (before, meter, start) = (store.counters(), Meter::start(settings), seq);
    let mut settled = seq;
    while meter.goes_on() {
        let ops = (seq..seq + 100).map(|seq| enqueue(1, seq, &body)).collect();
        let mut lsn = store.submit(Batch { ops, awaited: true });
        seq += 100;
        if let Consumer::Behind(messages) = consumer
            && seq - settled > messages
        {
            let queue = QueueKey { shard: 0, queue: 1 };
            if messages > 10_000 && settled % 1_000 == 0 {
                let limit = ReadLimit { messages: 1_000, bytes: usize::MAX };
                assert_eq!(store.read(queue, QueueSeq(settled), limit).unwrap().len(), 1_000);
            }
            let ops = (settled..settled + 100).map(|seq| settle(1, seq, body.len())).collect();
            lsn = store.submit(Batch { ops, awaited: false });
            settled += 100;
        }
        if store.backlog_bytes() > 4 << 20 {
            wait_for(&store, lsn);
        }
    }
    let name = match consumer {
        Consumer::None => "store, publish".to_owned(),
        Consumer::Behind(messages) => format!("store, publish and settle {messages} behind"),
    };
    meter.report(&name, seq - start, bytes, before, store.counters());
    println!(
        "{:34} {:.0} MiB resident, {:.0} MiB on disk, {} annihilated",
        "",
        resident_mib(),
        disk_mib(dir),
        store.counters().annihilated
    );
    let closing = Instant::now();
    drop(store);
    let closing = ms(closing);
    let opening = Instant::now();
    let store = settings.open(dir);
    let opened = ms(opening);
    let mut count = Count::default();
    store.recover(&mut count).unwrap();
    let (recovered, messages) = (ms(opening), count.messages);
    println!(
        "{:34} closed in {closing:.0} ms, opened in {opened:.0} ms, {messages} counted in \
         {recovered:.0} ms",
        ""
    );
    assert_eq!(messages, seq - settled);
    close(store, dir);
}

#[derive(Default)]
struct Count {
    messages: u64,
}

impl Recovery for Count {
    fn meta(&mut self, _: &[u8], _: &[u8]) {}
    fn backlog(&mut self, backlog: &Backlog) -> bool {
        self.messages += backlog.messages;
        false
    }
    fn message(&mut self, _: QueueKey, _: QueueSeq, _: Message) {}
}

fn disk_mib(dir: &Path) -> f64 {
    let files = read_dir(dir.join("store/db")).unwrap();
    let bytes = files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum::<u64>();
    bytes as f64 / f64::from(1 << 20)
}

fn close(store: RocksStore, dir: &Path) {
    store.close().unwrap();
    drop(store);
    std::fs::remove_dir_all(dir.join("store")).unwrap();
}

// ---- counted -----------------------------------------------------------------------------------

/// Messages in the store before anything is counted.
const FILLED: usize = 10_000;
const COUNTED_BYTES: usize = 100;
const AT_ONCE: usize = 1_000;

/// Puts messages into queue 1, so many in each group.
fn put(store: &RocksStore, messages: usize, group: usize) {
    let (body, mut next) = (body(COUNTED_BYTES), 0);
    for _ in 0..messages / group {
        publish(store, &mut next, group as u64, &body);
    }
}

/// One group after the other.
fn counted_commits(n: usize, group: usize) {
    let dir = tempfile::tempdir().unwrap();
    let store = RocksStore::open(dir.path(), Options::default()).unwrap();
    put(&store, n, group);
}

/// Of a full queue the first, in groups of 100.
fn counted_settles(n: usize) {
    assert!(n <= FILLED, "there are {FILLED} messages to settle");
    let dir = tempfile::tempdir().unwrap();
    let store = RocksStore::open(dir.path(), Options::default()).unwrap();
    put(&store, FILLED, AT_ONCE);
    for group in 0..n as u64 / 100 {
        let settles = (100 * group..100 * (group + 1)).map(|seq| settle(1, seq, COUNTED_BYTES));
        wait_for(&store, store.submit(Batch { ops: settles.collect(), awaited: true }));
    }
}

/// From a table, as after a restart.
fn counted_reads(n: usize) {
    assert!(n <= FILLED, "there are {FILLED} messages to read");
    let dir = tempfile::tempdir().unwrap();
    let store = RocksStore::open(dir.path(), Options::default()).unwrap();
    put(&store, FILLED, AT_ONCE);
    store.close().unwrap();
    drop(store);
    let store = RocksStore::open(dir.path(), Options::default()).unwrap();
    let limit = ReadLimit { messages: AT_ONCE, bytes: usize::MAX };
    for chunk in 0..n / AT_ONCE {
        let from = QueueSeq((chunk * AT_ONCE) as u64);
        let read = store.read(QueueKey { shard: 0, queue: 1 }, from, limit).unwrap();
        assert_eq!(read.len(), AT_ONCE);
    }
}
