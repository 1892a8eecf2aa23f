//! Watches what the node may run short of, and tells the broker and the log.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::clock::Clock;
use crate::broker::alarms::Levels;
use crate::broker::{Broker, Now};

/// How often memory and disk are looked at.
const LOOK_MS: u64 = 1_000;

/// Looks once: sets the alarms that `levels` call for, clears the others, and logs what changed.
pub fn look_for_alarms(broker: &Broker, levels: &Levels, now: Now) {
    let alarms = levels.alarms(broker.alarms());
    let before = broker.set_alarms(alarms, now);
    let node = &broker.settings().node_name;
    let shown = |bytes: Option<u64>| bytes.unwrap_or_default();
    let (used, limit) = (shown(levels.memory_used_bytes), shown(levels.memory_limit_bytes));
    match (before.memory, alarms.memory) {
        (false, true) => tracing::warn!(
            "memory resource limit alarm set on node {node}: {used} bytes used, {limit} allowed; \
             connections that publish are blocked until it clears"
        ),
        (true, false) => tracing::warn!(
            "memory resource limit alarm cleared on node {node}: {used} bytes used, {limit} allowed"
        ),
        _ => {}
    }
    let (free, limit) = (shown(levels.disk_free_bytes), shown(levels.disk_free_limit_bytes));
    match (before.disk, alarms.disk) {
        (false, true) => tracing::warn!(
            "disk resource limit alarm set on node {node}: {free} bytes free, {limit} required; \
             connections that publish are blocked until it clears"
        ),
        (true, false) => tracing::warn!(
            "disk resource limit alarm cleared on node {node}: {free} bytes free, {limit} required"
        ),
        _ => {}
    }
}

/// Looks every second. A file system may take its time to answer, so it is asked apart from the
/// tasks; a fault in measuring leaves the alarms as they are.
pub async fn watch_alarms<M>(broker: Arc<Broker>, clock: Clock, measure: M)
where
    M: Fn() -> Levels + Clone + Send + 'static,
{
    loop {
        match tokio::task::spawn_blocking(measure.clone()).await {
            Ok(levels) => look_for_alarms(&broker, &levels, clock.now()),
            Err(error) => tracing::error!(%error, "memory and disk could not be measured"),
        }
        sleep(Duration::from_millis(LOOK_MS)).await;
    }
}
