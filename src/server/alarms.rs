//! Watches what the node may run short of, and tells the broker and the log.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::clock::Clock;
use crate::broker::alarms::Levels;
use crate::broker::{Broker, Now};

/// How often memory and disk are looked at...
const LOOK_MS_MAX: u64 = 1_000;
/// ...and how often where a disk could soon be full.
const LOOK_MS_MIN: u64 = 50;
/// How fast a disk fills up at most, in bytes a millisecond: the log, and tables at the same time.
const FILL_BYTES_PER_MS: u64 = 1_000_000;

/// Looks once: sets the alarms that `levels` call for, clears the others, and logs what changed.
/// What the store has yet to write of what it holds does not count as free. Returns after how many
/// milliseconds to look again.
pub fn look_for_alarms(broker: &Broker, levels: &Levels, now: Now) -> u64 {
    let levels = levels.owing(broker.store().counters().owed_bytes);
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
    look_again_ms(free, limit)
}

/// Before a disk can have come from what is free to the limit, within reason.
fn look_again_ms(free: u64, limit: u64) -> u64 {
    match free.checked_sub(limit) {
        Some(left) => (left / FILL_BYTES_PER_MS).clamp(LOOK_MS_MIN, LOOK_MS_MAX),
        None => LOOK_MS_MAX / 2,
    }
}

/// Looks every second, and more often when the disk fills up. A file system may take its time to
/// answer, so it is asked apart from the tasks; a fault in measuring leaves the alarms as they are.
pub async fn watch_alarms<M>(broker: Arc<Broker>, clock: Clock, measure: M)
where
    M: Fn() -> Levels + Clone + Send + 'static,
{
    loop {
        let again_ms = match tokio::task::spawn_blocking(measure.clone()).await {
            Ok(levels) => look_for_alarms(&broker, &levels, clock.now()),
            Err(error) => {
                tracing::error!(%error, "memory and disk could not be measured");
                LOOK_MS_MAX
            }
        };
        sleep(Duration::from_millis(again_ms)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_looked_at_more_often_the_sooner_it_could_be_full() {
        assert_eq!(look_again_ms(1 << 40, 50_000_000), 1_000);
        assert_eq!(look_again_ms(250_000_000, 50_000_000), 200);
        assert_eq!(look_again_ms(50_000_000, 50_000_000), 50);
        assert_eq!(look_again_ms(40_000_000, 50_000_000), 500);
        assert_eq!(look_again_ms(0, 0), 50);
    }

    #[test]
    fn what_the_store_owes_is_not_free() {
        let levels = Levels { disk_free_bytes: Some(9), ..Levels::default() };
        assert_eq!(levels.owing(4).disk_free_bytes, Some(5));
        assert_eq!(levels.owing(10).disk_free_bytes, Some(0));
        assert_eq!(Levels::default().owing(1).disk_free_bytes, None);
    }
}
