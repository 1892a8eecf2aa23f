//! Memory that was freed goes back to the system, also while the broker has nothing to do.
//!
//! mimalloc gives each thread a heap of its own. What others have freed of it its thread finds out
//! when it has allocated for a while, and only then do empty pages go back: a thread that has
//! nothing to do keeps all it ever had. Messages and definitions are freed by other threads than
//! allocated them, so an idle broker kept everything: 348 MiB after a million bindings had come and
//! gone, of which 22 were in use. So every few seconds each worker that is about to wait does what
//! a busy one does now and then.
//!
//! Only workers of the runtime do: they allocate what comes from clients.

use std::cell::Cell;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

use tokio::time::sleep;

/// How often. What the first round frees goes back in the next one: mimalloc waits a moment to see
/// whether it is used again.
const PAUSE: Duration = Duration::from_secs(4);
/// Allocations after which mimalloc looks through a thread's heap (its option `generic_collect`),
/// counting those that its free lists of small sizes do not serve.
const ROUND: usize = 10_000;
/// The size of such an allocation, in bytes.
const BYTES: usize = 2_048;

static ROUNDS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static LOOKED: Cell<u64> = const { Cell::new(0) };
}

/// A worker is about to wait: once in a round it looks through its heap, which takes well under a
/// millisecond.
pub(crate) fn look_through() {
    let round = ROUNDS.load(Ordering::Relaxed);
    if LOOKED.replace(round) != round {
        for _ in 0..ROUND {
            drop(black_box(Vec::<u8>::with_capacity(BYTES)));
        }
    }
}

/// Begins a round every few seconds, and wakes the workers that wait. Never returns.
pub(crate) async fn watch() {
    let workers = available_parallelism().map_or(1, usize::from);
    loop {
        sleep(PAUSE).await;
        ROUNDS.fetch_add(1, Ordering::Relaxed);
        // One that is not woken looks the next time.
        (0..2 * workers).for_each(|_| drop(tokio::spawn(async {})));
    }
}
