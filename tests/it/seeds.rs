//! The fuzz targets' seeds as plain tests: what was found by fuzzing, and inputs that reach far
//! into each check. `tests/fuzz/run` goes on from them.

use std::time::Instant;

use crate::checks::{self, TARGETS};
use crate::spec;

/// For one input, and generous: the tests run beside others, and not optimised.
const MS_MAX: u128 = 10_000;

#[test]
#[expect(clippy::disallowed_methods, reason = "how long it takes is part of what is tested")]
fn every_seed_of_the_fuzz_targets_holds_in_little_time_and_memory() {
    let mut folders: Vec<String> = std::fs::read_dir(spec::root().join("tests/fuzz/seeds"))
        .unwrap()
        .map(|folder| folder.unwrap().file_name().into_string().unwrap())
        .collect();
    folders.sort();
    assert_eq!(folders, TARGETS.map(|(target, _)| target.to_owned()));
    for target in folders {
        let folder = spec::root().join("tests/fuzz/seeds").join(&target);
        let mut seeds = 0;
        for seed in std::fs::read_dir(&folder).unwrap() {
            let path = seed.unwrap().path();
            let bytes = std::fs::read(&path).unwrap();
            println!("{}", path.display());
            let begun = Instant::now();
            checks::run(&target, &bytes);
            let ms = begun.elapsed().as_millis();
            assert!(ms < MS_MAX, "{} took {ms} ms", path.display());
            seeds += 1;
        }
        assert!(seeds > 0, "no seeds in {}", folder.display());
    }
}
