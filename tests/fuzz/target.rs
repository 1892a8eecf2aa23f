//! The fuzz target that `FUZZ_TARGET` names: any bytes go to its check, and must not take long.
//!
//! What counts is the processor's time: how long it takes depends on whoever else is running.
#![no_main]

use std::sync::LazyLock;

use rustix::time::{ClockId, clock_gettime};

/// For 64 KiB of anything, in an instrumented build.
const MS_MAX: i64 = 1_000;

static TARGET: LazyLock<String> =
    LazyLock::new(|| std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target"));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let begun = cpu_ms();
    leveret_fuzz::run(&TARGET, bytes);
    let ms = cpu_ms() - begun;
    assert!(ms <= MS_MAX, "{ms} ms of processor time");
});

fn cpu_ms() -> i64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec * 1_000 + time.tv_nsec / 1_000_000
}
