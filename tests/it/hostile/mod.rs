//! Attacks that other brokers fell to, as tests of what becomes of them here: before login, in the
//! decoders, by sequences that make no sense, by names that are made to grow, by not reading.
//!
//! `docs/bad-input.md` lists the advisories that they come from. Memory and time are measured, not
//! assumed: everything in this process happens on the test's own thread, whose allocations
//! `allocation-counter` counts. What is sent is built before the measuring begins.
#![allow(clippy::disallowed_methods, reason = "how long things take is what is tested")]

mod before_login;
mod contents;
mod decoders;
mod names;
mod sequences;
mod sockets;
mod unread;

use std::time::Instant;

use allocation_counter::AllocationInfo;

/// What `work` allocated at most at once, in bytes, and how long it took, in milliseconds.
fn cost(work: impl FnOnce()) -> (u64, u128) {
    let mut elapsed_ms = 0;
    let AllocationInfo { bytes_max, .. } = allocation_counter::measure(|| {
        let begun = Instant::now();
        work();
        elapsed_ms = begun.elapsed().as_millis();
    });
    (bytes_max, elapsed_ms)
}
