//! What a broker process costs, read from outside: CPU, memory, writes and syncs.
//!
//! A broker is one process with all its descendants (RabbitMQ's port programs belong to it).
//! Everything comes from `/proc`; only Leveret's number of syncs is asked of the broker itself.
//! What a hypervisor gave to others is read there, too: in that time nothing here runs.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const TICK_NS: u64 = 10_000_000; // 100 Hz, as on every Linux since 2.6
const PAGE_BYTES: u64 = 4096;
const SAMPLE_EVERY: Duration = Duration::from_millis(100);
const METRICS_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// How long after the last of many is there what a broker takes for each is read: allocators keep
/// freed pages for a while (jemalloc ten seconds), and what was needed to make them is not kept.
pub(crate) const MEMORY_SETTLES: Duration = Duration::from_secs(12);

/// The costs up to one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// User and system time of all threads, in nanoseconds (to 10 ms).
    pub(crate) cpu_ns: u64,
    /// Bytes caused to be written to the disk.
    pub(crate) disk_bytes: u64,
    /// Write system calls.
    pub(crate) writes: u64,
    /// Syncs, as the broker counts them.
    pub(crate) syncs: Option<u64>,
    /// The machine's processors, all together.
    pub(crate) machine: Machine,
}

/// The time of all processors of this machine, in ticks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    /// All of it, idle or not.
    pub(crate) all: u64,
    /// What others had of it while something here was ready to run.
    pub(crate) stolen: u64,
}

impl Machine {
    /// Of `/proc/stat`.
    fn read(stat: &str) -> Self {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
        let ticks = line.split_ascii_whitespace().map_while(|ticks| ticks.parse::<u64>().ok());
        // Time as a guest's host stands in the first one already.
        let ticks: Vec<u64> = ticks.take(8).collect();
        Self { all: ticks.iter().sum(), stolen: ticks.get(7).copied().unwrap_or(0) }
    }

    /// The stolen share of the time since `before`.
    pub(crate) fn stolen_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all).max(1);
        self.stolen.saturating_sub(before.stolen) as f64 / all as f64
    }
}

/// A broker that is watched while a load runs.
pub(crate) struct Watch {
    pid: u32,
    metrics: Option<String>,
    rss_before: u64,
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    sampler: Option<JoinHandle<()>>,
}

/// Resident memory in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    /// When the watch began.
    pub(crate) before: u64,
    /// The largest of all samples.
    pub(crate) peak: u64,
    /// At the time of asking.
    pub(crate) now: u64,
}

impl Watch {
    /// Begins to watch. `metrics` is the address of a Prometheus page, `http://host:port/path`.
    pub(crate) fn start(pid: u32, metrics: Option<String>) -> Self {
        let rss_before = rss_bytes(&family(pid));
        let peak = Arc::new(AtomicU64::new(rss_before));
        let stop = Arc::new(AtomicBool::new(false));
        let sampler = thread::spawn({
            let (peak, stop) = (Arc::clone(&peak), Arc::clone(&stop));
            move || {
                let members = family(pid);
                while !stop.load(Relaxed) {
                    peak.fetch_max(rss_bytes(&members), Relaxed);
                    thread::sleep(SAMPLE_EVERY);
                }
            }
        });
        Self { pid, metrics, rss_before, peak, stop, sampler: Some(sampler) }
    }

    /// The costs so far.
    pub(crate) fn cost(&self) -> Cost {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let mut cost = Cost { machine: Machine::read(&stat), ..Cost::default() };
        for pid in family(self.pid) {
            cost.cpu_ns += cpu_ns(pid);
            let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
            cost.disk_bytes += field(&io, "write_bytes:");
            cost.writes += field(&io, "syscw:");
        }
        cost.syncs =
            self.metrics.as_deref().and_then(|url| counter(url, "leveret_store_syncs_total"));
        cost
    }

    /// The memory before, at most, and now.
    pub(crate) fn memory(&self) -> Memory {
        let now = rss_bytes(&family(self.pid));
        let peak = self.peak.fetch_max(now, Relaxed).max(now);
        Memory { before: self.rss_before, peak, now }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(sampler) = self.sampler.take() {
            let _ = sampler.join();
        }
    }
}

/// The process and all its descendants.
fn family(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Some(parent) = stat_field(pid, 1) {
            children.entry(u32::try_from(parent).unwrap_or(0)).or_default().push(pid);
        }
    }
    let mut members = vec![root];
    let mut at = 0;
    while at < members.len() {
        members.extend(children.remove(&members[at]).unwrap_or_default());
        at += 1;
    }
    members
}

fn cpu_ns(pid: u32) -> u64 {
    let ticks = stat_field(pid, 11).unwrap_or(0) + stat_field(pid, 12).unwrap_or(0);
    ticks * TICK_NS
}

/// A number of `/proc/<pid>/stat`, counted from the state, which follows the name in brackets.
fn stat_field(pid: u32, at: usize) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split_ascii_whitespace().nth(at)?.parse().ok()
}

fn rss_bytes(pids: &[u32]) -> u64 {
    let pages = |pid| {
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
        statm.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()
    };
    pids.iter().filter_map(pages).sum::<u64>() * PAGE_BYTES
}

fn field(text: &str, name: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// The sum of a counter's series on a Prometheus page.
fn counter(url: &str, name: &str) -> Option<u64> {
    let page = fetch(url)?;
    let mut total = None;
    for line in page.lines() {
        let Some(rest) = line.strip_prefix(name) else { continue };
        if !rest.starts_with(['{', ' ']) {
            continue;
        }
        let value: f64 = rest.rsplit(' ').next()?.parse().ok()?;
        *total.get_or_insert(0) += whole(value);
    }
    total
}

fn fetch(url: &str) -> Option<String> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(host).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut page = Vec::new();
    stream.take(METRICS_BYTES_MAX).read_to_end(&mut page).ok()?;
    Some(String::from_utf8_lossy(&page).into_owned())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter's value")]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::process::{self, Command};

    #[test]
    fn a_process_is_measured_with_its_descendants() {
        let own = process::id();
        let mut child = Command::new("sleep").arg("10").spawn().unwrap();
        assert!(family(own).contains(&child.id()));
        assert!(rss_bytes(&[own]) > 100_000);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!family(own).contains(&child.id()));
    }

    #[test]
    fn what_a_hypervisor_took_is_a_share_of_all_time() {
        let before = Machine::read("cpu  100 0 50 800 20 0 10 20 0 0\ncpu0 1 2 3\n");
        assert_eq!(before, Machine { all: 1_000, stolen: 20 });
        let after = Machine::read("cpu  150 0 60 900 20 0 10 60 9 9\n");
        assert!((after.stolen_since(before) - 0.2).abs() < 1e-9);
        assert_eq!(Machine::read("intr 1 2"), Machine::default());
    }

    #[test]
    fn a_counter_is_the_sum_of_its_series() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/metrics", listener.local_addr().unwrap());
        let server = thread::spawn(move || {
            let (mut peer, _) = listener.accept().unwrap();
            // What is left unread when the socket closes would take the answer with it.
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                peer.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            peer.write_all(
                b"HTTP/1.1 200 OK\r\n\r\n# HELP a_total x\na_total{q=\"1\"} 3\n\
                a_total{q=\"2\"} 4\na_total_more 9\n",
            )
            .unwrap();
        });
        assert_eq!(counter(&url, "a_total"), Some(7));
        server.join().unwrap();
    }
}
