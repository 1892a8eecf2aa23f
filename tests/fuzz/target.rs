//! The fuzz target that `FUZZ_TARGET` names: any bytes go to its check.
#![no_main]

use std::sync::LazyLock;

static TARGET: LazyLock<String> =
    LazyLock::new(|| std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target"));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| leveret_fuzz::run(&TARGET, bytes));
