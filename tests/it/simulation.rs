//! The broker over a disk that forgets, fails and is late, with clients that do anything; all of it
//! decided by one seed.
//!
//! Sessions and broker are the real ones; the disk is a
//! [`FaultyStore`](leveret::store::faulty::FaultyStore). `simulation/world.rs` says what happens,
//! `simulation/judge.rs` what must hold. A failure names its seed and the fewest steps that show
//! it; the same seed repeats it, with `SIMULATION_TELLS=1` told in full:
//! `SIMULATION_SEED=7 SIMULATION_STEPS=120 cargo test --test it -- simulation::nothing`.
//! `make simulate` runs other seeds, and many.
//!
//! Does it see anything? The broker was broken on purpose, one way at a time, and the seeds of the
//! suite run:
//!
//! | what the broker did | of 16 seeds | what was said of it |
//! | --- | ---: | --- |
//! | confirmed before the sync | 16 | confirmed too early |
//! | settled the number behind the right one, once in 16 | 16 | lost; not settled; no reason |
//! | sent every 8th dead letter nowhere, and settled it | 16 | settled without a reason |
//! | moved a dead letter in two batches | 16 | torn |
//! | stored a message for two queues in two batches | 15 | torn |
//! | did not flag what it had recovered | 14 | seen before, and not marked as redelivered |
//! | left a message out where a queue goes on in the store | 11 | (an assertion of the broker's) |
//! | forgot what was on its way to a cancelled consumer | 4 | lost; does not expire |
//!
//! A store that only says that it has synced is a test of its own, below.

mod client;
mod disk;
mod judge;
mod link;
mod message;
mod plan;
mod random;
mod world;

use judge::Tally;
use world::{Outcome, Settings, run};

/// What the suite runs: always the same, so that no change fails for what it has not done.
const SEEDS: u64 = 16;
const STEPS: u64 = 1_500;

/// Seeds of the suite in which the power goes after something was confirmed.
const SEEDS_WITH_A_POWER_CUT: &[u64] = &[3, 4, 6, 9, 10, 11, 12, 15];

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

fn simulate(seed: u64, steps: u64) -> Outcome {
    let is_told = variable("SIMULATION_TELLS").is_some();
    run(Settings { seed, steps, disk_lies: false, is_told })
}

/// The fewest steps of a seed that show something wrong, and what that is.
fn shortest(seed: u64, steps: u64, violation: String) -> (u64, String) {
    let (mut good, mut bad, mut shown) = (0, steps, violation);
    while good + 1 < bad {
        let middle = good + (bad - good) / 2;
        match simulate(seed, middle).violation {
            Some(violation) => (bad, shown) = (middle, violation),
            None => good = middle,
        }
    }
    (bad, shown)
}

#[test]
fn nothing_is_lost_torn_or_promised_too_early_whatever_breaks() {
    let steps = variable("SIMULATION_STEPS").unwrap_or(STEPS);
    let first = variable("SIMULATION_FIRST").unwrap_or(1);
    let seeds = match variable("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => first..first + variable("SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    let (mut tally, mut failed) = (Tally::default(), Vec::new());
    for seed in seeds.clone() {
        let outcome = simulate(seed, steps);
        tally.add(&outcome.tally);
        failed.extend(outcome.violation.map(|violation| (seed, violation)));
    }
    if let Some((seed, violation)) = failed.first() {
        let (steps, shown) = shortest(*seed, steps, violation.clone());
        let all: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
        panic!(
            "{shown}\n\nSIMULATION_SEED={seed} SIMULATION_STEPS={steps} \
             cargo test --test it -- simulation::nothing\n\nAll that fail: {all:?}"
        );
    }
    println!("seeds {seeds:?} of {steps} steps: {tally:?}");
}

#[test]
fn a_seed_repeats_itself_to_the_last_byte() {
    for seed in 1..4 {
        let (one, other) = (simulate(seed, STEPS), simulate(seed, STEPS));
        assert_eq!(one, other, "seed {seed}");
    }
}

#[test]
fn a_disk_that_says_it_has_synced_and_has_not_is_found_out() {
    for &seed in SEEDS_WITH_A_POWER_CUT {
        let outcome = run(Settings { seed, steps: STEPS, disk_lies: true, is_told: false });
        let violation = outcome.violation.unwrap_or_else(|| panic!("seed {seed} is not found out"));
        assert!(violation.starts_with("lost"), "seed {seed}: {violation}");
    }
}
