//! The result of a run: one line for people, one JSON object for programs.

use std::fs;

use serde::Serialize;

use crate::broker_process::{Cost, Memory};
use crate::latency::LatencySummary;
use crate::verify::Verdict;

/// Everything measured in one run. What does not apply is left out.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Report {
    /// The workload in a few words.
    pub(crate) workload: String,
    /// Messages published while measuring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) published: Option<Flow>,
    /// Messages confirmed while measuring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) confirmed: Option<Flow>,
    /// Messages delivered while measuring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) delivered: Option<Flow>,
    /// Other operations: calls, connections opened, queues declared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) operations: Option<Flow>,
    /// Messages published and not delivered within the time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) missing: Option<u64>,
    /// Messages that the broker refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) nacked: Option<u64>,
    /// From send to confirm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) confirm_latency: Option<LatencySummary>,
    /// From send to arrival, or of a whole operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<LatencySummary>,
    /// What the broker spent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) broker: Option<BrokerReport>,
    /// The generator's own CPU seconds.
    pub(crate) generator_cpu_s: f64,
    /// The generator's own CPU microseconds per message or operation.
    pub(crate) generator_cpu_us: f64,
    /// The check of every message's number, if it was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) verdict: Option<Verdict>,
    /// Broker memory per connection, in KiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kib_per_connection: Option<f64>,
    /// Broker memory per queue or binding, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bytes_each: Option<f64>,
    /// The broker's CPU time while connections were idle, in percent of one core's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) core_percent: Option<f64>,
    /// The crowd that stood around meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) crowd: Option<CrowdReport>,
    /// What refused logins took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) timing: Option<TimingReport>,
    /// The machine's load average over one minute, at the end.
    pub(crate) load_average: f64,
}

/// Connections that never logged in.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct CrowdReport {
    /// How many came, those included that came back.
    pub(crate) came: u64,
    /// How many were there at the end.
    pub(crate) standing: u64,
    /// The latency of the same flow without them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) quiet_latency: Option<LatencySummary>,
}

/// How long refused logins took, and whether that tells them apart.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct TimingReport {
    /// The median for a user that does not exist, in microseconds.
    pub(crate) unknown_user_us: f64,
    /// The median for a wrong password.
    pub(crate) wrong_password_us: f64,
    /// One divided by the other.
    pub(crate) ratio: f64,
    /// Welch's t of the two means: beyond 4.5 they differ.
    pub(crate) welch_t: f64,
}

/// How many, and how fast over the time in which they moved.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Flow {
    /// How many.
    pub(crate) count: u64,
    /// From the first to the last, or from the start of measuring.
    pub(crate) seconds: f64,
    /// One divided by the other.
    pub(crate) per_s: f64,
}

impl Flow {
    /// `count` in `seconds`.
    pub(crate) fn new(count: u64, seconds: f64) -> Self {
        Self { count, seconds, per_s: if seconds > 0.0 { count as f64 / seconds } else { 0.0 } }
    }
}

/// The broker's cost, seen from outside.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct BrokerReport {
    /// CPU seconds of all its threads and descendants.
    pub(crate) cpu_s: f64,
    /// CPU microseconds per message or operation.
    pub(crate) cpu_us: f64,
    /// The generator's CPU as a share of the broker's.
    pub(crate) generator_share: f64,
    /// Bytes written to disk per message or operation.
    pub(crate) disk_bytes: f64,
    /// Write system calls per message or operation.
    pub(crate) writes: f64,
    /// Syncs, as the broker counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) syncs: Option<u64>,
    /// The share of the machine's processor time that its hypervisor gave to others.
    pub(crate) stolen_share: f64,
    /// Resident memory before the run, in MiB.
    pub(crate) rss_before_mib: f64,
    /// At its highest.
    pub(crate) rss_peak_mib: f64,
    /// At the end, before anything is deleted.
    pub(crate) rss_after_mib: f64,
}

impl BrokerReport {
    /// What was spent from one moment to another on `messages`.
    pub(crate) fn new(
        from: Cost,
        to: Cost,
        memory: Memory,
        messages: u64,
        generator_cpu_s: f64,
    ) -> Self {
        let each = messages.max(1) as f64;
        let cpu_s = (to.cpu_ns - from.cpu_ns) as f64 / 1e9;
        let mib = |bytes: u64| bytes as f64 / (1024.0 * 1024.0);
        Self {
            cpu_s,
            cpu_us: cpu_s * 1e6 / each,
            generator_share: if cpu_s > 0.0 { generator_cpu_s / cpu_s } else { 0.0 },
            disk_bytes: to.disk_bytes.saturating_sub(from.disk_bytes) as f64 / each,
            writes: to.writes.saturating_sub(from.writes) as f64 / each,
            syncs: to.syncs.zip(from.syncs).map(|(to, from)| to.saturating_sub(from)),
            stolen_share: to.machine.stolen_since(from.machine),
            rss_before_mib: mib(memory.before),
            rss_peak_mib: mib(memory.peak),
            rss_after_mib: mib(memory.now),
        }
    }
}

impl Report {
    /// Whether nothing was missing or wrong.
    pub(crate) fn is_clean(&self) -> bool {
        self.missing.unwrap_or(0) == 0 && self.verdict.is_none_or(|verdict| verdict.is_clean())
    }

    /// The report in one line.
    pub(crate) fn line(&self) -> String {
        let mut parts = vec![self.workload.clone()];
        for (name, flow) in [
            ("published", self.published),
            ("confirmed", self.confirmed),
            ("delivered", self.delivered),
            ("done", self.operations),
        ] {
            parts.extend(flow.map(|flow| format!("{name} {} at {:.0}/s", flow.count, flow.per_s)));
        }
        let missing = self.missing.filter(|&count| count > 0);
        parts.extend(missing.map(|count| format!("MISSING {count}")));
        parts.extend(self.nacked.filter(|&count| count > 0).map(|count| format!("nacked {count}")));
        for (name, latency) in [("confirm", self.confirm_latency), ("latency", self.latency)] {
            parts.extend(latency.map(|l| {
                format!(
                    "{name} p50 {:.0} p99 {:.0} p99.9 {:.0} max {:.0} us",
                    l.p50_us, l.p99_us, l.p999_us, l.max_us
                )
            }));
        }
        if let Some(broker) = self.broker {
            parts.push(format!(
                "broker {:.2} us each, rss {:.0} > {:.0} > {:.0} MiB, disk {:.0} B each",
                broker.cpu_us,
                broker.rss_before_mib,
                broker.rss_peak_mib,
                broker.rss_after_mib,
                broker.disk_bytes
            ));
            parts.extend(broker.syncs.map(|syncs| format!("syncs {syncs}")));
            let stolen = Some(broker.stolen_share * 100.0).filter(|&percent| percent >= 0.5);
            parts.extend(stolen.map(|percent| format!("stolen {percent:.0} %")));
        }
        let share = self.broker.map(|b| format!(" ({:.0} %)", b.generator_share * 100.0));
        let cpu_us = self.generator_cpu_us;
        parts.push(format!("generator {cpu_us:.3} us each{}", share.unwrap_or_default()));
        parts.extend(self.kib_per_connection.map(|kib| format!("{kib:.1} KiB per connection")));
        parts.extend(self.core_percent.map(|percent| format!("{percent:.2} % of a core")));
        parts.extend(self.bytes_each.map(|bytes| format!("{bytes:.0} B each")));
        parts.extend(self.crowd.map(|crowd| {
            let CrowdReport { came, standing, quiet_latency } = crowd;
            let quiet = quiet_latency.map_or(0.0, |latency| latency.p99_us);
            format!("{came} came, {standing} stand; p99 without them {quiet:.0} us")
        }));
        parts.extend(self.timing.map(|t| {
            format!(
                "unknown user {:.1} us, wrong password {:.1} us, ratio {:.3}, t {:.2}",
                t.unknown_user_us, t.wrong_password_us, t.ratio, t.welch_t
            )
        }));
        parts.extend(self.verdict.map(|v| {
            format!(
                "lost {} duplicated {} unexpected {} disordered {}",
                v.lost, v.duplicated, v.unexpected, v.disordered
            )
        }));
        parts.join("; ")
    }
}

/// The machine's load average over one minute.
pub(crate) fn load_average() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or(0.0)
}
