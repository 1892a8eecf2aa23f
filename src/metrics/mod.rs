//! The Prometheus page: RabbitMQ's names, types and help texts, so that its dashboards and alert
//! rules work unchanged.
//!
//! Everything is computed when the page is asked for, from the broker's snapshots and counters;
//! nothing is gathered in between. `spec/metrics.toml` lists every metric of RabbitMQ's that is
//! shown and every one that is not, with the reason; a test compares it with the pages. A number
//! that we do not have is left out, never shown as 0. Metrics of our own start with `leveret_`.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `text` | the exposition format |
//! | `node` | metrics of the node: process, disk, store, counters since start |
//! | `objects` | metrics of queues, connections, channels and exchanges |
//! | `triggers` | metrics of triggers |
//! | [`process`] | what the operating system says of the process |

mod node;
mod objects;
pub mod process;
mod text;
mod triggers;

pub use process::{ProcessReader, ProcessStats};
pub use text::CONTENT_TYPE;

use crate::broker::inspect::Inspect;
use objects::{Objects, Scope};
use text::{Kind, Page};

const PREFIX: &str = "rabbitmq_";
const DETAILED_PREFIX: &str = "rabbitmq_detailed_";

/// The page `/metrics`: sums over all objects.
#[must_use]
pub fn render(inspect: &dyn Inspect, process: &ProcessStats) -> String {
    let mut page = Page::default();
    let objects = Objects::new(inspect);
    node::counters(&mut page, PREFIX, inspect, process);
    objects::totals(&mut page, inspect.counters(), &objects);
    node::alone(&mut page, inspect, process, &objects);
    triggers::totals(&mut page, inspect);
    node::identity(&mut page, inspect, "aggregated");
    page.finish()
}

/// The page `/metrics/per-object`: every queue, connection and channel by itself.
#[must_use]
pub fn render_per_object(inspect: &dyn Inspect, process: &ProcessStats) -> String {
    let mut page = Page::default();
    let objects = Objects::new(inspect);
    node::counters(&mut page, PREFIX, inspect, process);
    let scope = Scope { prefix: PREFIX, vhosts: &[] };
    for family in objects::FAMILIES {
        if !family.subset {
            family.write(&mut page, scope, &objects);
        }
    }
    node::alone(&mut page, inspect, process, &objects);
    objects::queue_info(&mut page, scope, &objects);
    triggers::each(&mut page, inspect);
    node::identity(&mut page, inspect, "per-object");
    page.finish()
}

/// The page `/metrics/detailed`: only the families asked for, of the vhosts asked for (all of them
/// when none is named). Unknown families and vhosts are passed over, as RabbitMQ does.
#[must_use]
pub fn render_detailed(
    inspect: &dyn Inspect,
    process: &ProcessStats,
    families: &[String],
    vhosts: &[String],
) -> String {
    let mut page = Page::default();
    let objects = Objects::new(inspect);
    let wanted = |name: &str| families.iter().any(|family| family == name);
    node::chosen(&mut page, DETAILED_PREFIX, inspect, process, &wanted);
    let scope = Scope { prefix: DETAILED_PREFIX, vhosts };
    let with_all_queue_metrics = wanted("queue_metrics");
    for family in objects::FAMILIES {
        if wanted(family.name) && !(family.subset && with_all_queue_metrics) {
            family.write(&mut page, scope, &objects);
        }
    }
    objects::cluster(&mut page, scope, inspect, &wanted);
    if objects::QUEUE_FAMILIES.iter().any(|name| wanted(name)) {
        objects::queue_info(&mut page, scope, &objects);
    }
    node::identity(&mut page, inspect, "detailed");
    page.finish()
}

/// Writes a metric that has one sample without labels.
fn single(
    page: &mut Page,
    prefix: &str,
    name: &str,
    kind: Kind,
    help: &str,
    value: impl Into<text::Number>,
) {
    page.family(prefix, name, kind, help).sample(&[], value);
}

#[cfg(test)]
pub(crate) mod sample;
#[cfg(test)]
mod tests;
