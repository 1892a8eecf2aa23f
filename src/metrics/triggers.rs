//! Metrics of triggers: what they have done, all together or one by one.

use super::text::{Kind, Page};
use crate::broker::inspect::Inspect;
use crate::broker::trigger::tally::{Counts, Result as RunResult, Suppressed, TOOK_BOUNDS_MS};

const PREFIX: &str = "leveret_trigger_";

/// Whose numbers these are: nobody's, or a trigger's.
struct Row {
    labels: Vec<(&'static str, String)>,
    counts: Counts,
}

/// All together; nothing while there are no triggers.
pub(super) fn totals(page: &mut Page, inspect: &dyn Inspect) {
    let all = inspect.trigger_counts();
    if all.is_empty() {
        return;
    }
    let help = "Triggers";
    let count = all.len() as u64;
    page.family("leveret_", "triggers", Kind::Gauge, help).sample(&[], count);
    let mut counts = Counts::default();
    all.iter().for_each(|one| counts.add(&one.counts));
    write(page, &[Row { labels: Vec::new(), counts }]);
}

/// One by one.
pub(super) fn each(page: &mut Page, inspect: &dyn Inspect) {
    let all = inspect.trigger_counts();
    let row = |one: crate::broker::trigger::views::TriggerCounts| Row {
        labels: vec![("vhost", one.vhost.to_string()), ("trigger", one.name.to_string())],
        counts: one.counts,
    };
    write(page, &all.into_iter().map(row).collect::<Vec<_>>());
}

fn write(page: &mut Page, rows: &[Row]) {
    let mut plain = |name, kind, help, value: fn(&Counts) -> u64| {
        let mut family = page.family(PREFIX, name, kind, help);
        for row in rows {
            family.sample(&labels(row, None), value(&row.counts));
        }
    };
    let help = "How often a condition was looked at";
    plain("evaluated_total", Kind::Counter, help, |counts| counts.evaluated);
    plain("fired_total", Kind::Counter, "How often a trigger fired", |counts| counts.fired);
    plain("runs_running", Kind::Gauge, "Runs under way", |counts| counts.running);
    let help = "How often a trigger did not fire though its condition held";
    let mut family = page.family(PREFIX, "suppressed_total", Kind::Counter, help);
    for row in rows {
        for why in Suppressed::ALL {
            let value = row.counts.suppressed[why as usize];
            family.sample(&labels(row, Some(("reason", why.name()))), value);
        }
    }
    let mut family = page.family(PREFIX, "runs_total", Kind::Counter, "Runs that are over");
    for row in rows {
        for result in RunResult::ALL {
            let value = row.counts.runs[result as usize];
            family.sample(&labels(row, Some(("result", result.name()))), value);
        }
    }
    let help = "When a trigger fired last, in seconds of Unix time";
    let mut family = page.family(PREFIX, "last_fired_timestamp_seconds", Kind::Gauge, help);
    for row in rows.iter().filter(|row| row.counts.last_fired_ms > 0) {
        family.sample(&labels(row, None), super::node::milliseconds(row.counts.last_fired_ms));
    }
    durations(page, rows);
}

fn durations(page: &mut Page, rows: &[Row]) {
    let help = "How long runs take";
    let mut family = page.family(PREFIX, "run_duration_seconds", Kind::Histogram, help);
    for row in rows {
        let mut so_far = 0;
        for (bound_ms, count) in TOOK_BOUNDS_MS.iter().zip(row.counts.took) {
            so_far += count;
            let bound = super::node::milliseconds(*bound_ms).to_string();
            family.suffixed("_bucket", &labels(row, Some(("le", &bound))), so_far);
        }
        let all: u64 = row.counts.runs.iter().sum();
        family.suffixed("_bucket", &labels(row, Some(("le", "+Inf"))), all);
        family.suffixed("_count", &labels(row, None), all);
        let sum_s = super::node::milliseconds(row.counts.took_ms);
        family.suffixed("_sum", &labels(row, None), sum_s);
    }
}

fn labels<'r>(row: &'r Row, more: Option<(&'r str, &'r str)>) -> Vec<(&'r str, &'r str)> {
    let own = row.labels.iter().map(|(name, value)| (*name, value.as_str()));
    own.chain(more).collect()
}
