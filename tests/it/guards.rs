//! The guard against messages that become dearer: `benches/instructions --check`, with counts that
//! are given instead of taken. `make guard` takes them.

use std::path::Path;
use std::process::Command;

use crate::spec;

/// What the guard says of counts, and whether it lets them pass.
fn check(baseline: &str, counts: &str) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, lines: &str| {
        let path = dir.path().join(name);
        let taken_with = "[taken-with]\nmachine = \"m\"\n[instructions]\n";
        std::fs::write(&path, format!("{taken_with}{lines}\n")).unwrap();
        path
    };
    run(&write("baseline", baseline), &write("counts", counts))
}

fn run(baseline: &Path, counts: &Path) -> (bool, String) {
    let mut command = Command::new(spec::root().join("benches/instructions"));
    command.arg("--check").arg("--baseline").arg(baseline).arg("--counts").arg(counts);
    let done = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stderr), "");
    (done.status.success(), String::from_utf8(done.stdout).unwrap())
}

#[test]
fn a_case_that_costs_five_percent_more_fails_with_both_numbers() {
    assert_eq!(check("ack = 1000.0", "ack = 1049.0"), (true, String::new()));
    let (passes, said) = check("ack = 1000.0\npublish = 10", "ack = 1051.0\npublish = 10");
    assert!(!passes);
    assert_eq!(said, "FAILED ack: 1051.0 instructions, 1000.0 in the baseline: +5.1 %\n");
}

#[test]
fn a_case_that_has_become_cheaper_is_told_and_passes() {
    let (passes, said) = check("ack = 1000.0", "ack = 940.0");
    assert!(passes);
    assert!(said.starts_with("ack: 940.0 instructions, 1000.0 in the baseline: -6.0 %"), "{said}");
}

#[test]
fn a_case_without_a_line_and_a_line_without_a_case_fail() {
    let (passes, said) = check("ack = 1.0", "publish = 1.0");
    assert!(!passes);
    assert!(said.contains("FAILED publish: 1.0 instructions and no baseline"), "{said}");
    assert!(said.contains("FAILED ack: a baseline and no such case"), "{said}");
}

#[test]
fn another_kind_of_machine_has_nothing_to_compare_with() {
    let dir = tempfile::tempdir().unwrap();
    let counts = dir.path().join("counts");
    std::fs::write(&counts, "[taken-with]\nmachine = \"other\"\n[instructions]\n").unwrap();
    let (passes, said) = run(&spec::root().join("benches/instructions.toml"), &counts);
    assert!(passes);
    assert!(said.ends_with("nothing to compare with\n"), "{said}");
}
