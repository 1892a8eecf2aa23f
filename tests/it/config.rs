//! Configuration as an operator meets it: the command refuses what it does not understand, says
//! where it stands and what was meant, and does not start.
#![cfg(feature = "rocksdb")]

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;

/// EX_CONFIG of `sysexits.h`.
const EXIT_CONFIG: i32 = 78;

struct Refused {
    code: Option<i32>,
    stderr: String,
}

/// Runs the broker on a configuration that it must refuse.
fn refused(file: &str, sets: &[&str]) -> Refused {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("leveret.conf"), file).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command.current_dir(dir.path()).env_remove("RABBITMQ_DEFAULT_USER");
    command.args(["server", "--data-dir", "data", "--config", "leveret.conf"]);
    for set in sets {
        command.args(["--set", set]);
    }
    let Output { status, stderr, .. } = command.output().unwrap();
    assert!(!dir.path().join("data").exists(), "the data directory was touched");
    Refused { code: status.code(), stderr: String::from_utf8_lossy(&stderr).into_owned() }
}

#[test]
fn a_misspelt_key_is_refused_with_its_line_and_what_was_meant() {
    let refused = refused("# limits\n\nhearbeat = 30\n", &[]);
    assert_eq!(refused.code, Some(EXIT_CONFIG));
    assert!(
        refused
            .stderr
            .contains("leveret.conf:3: unknown key 'hearbeat'; did you mean 'heartbeat'?"),
        "{}",
        refused.stderr
    );
}

#[test]
fn every_mistake_is_told_at_once() {
    let refused =
        refused("frame_max = 1\nssl_options.versions.1 = tlsv1\n", &["heartbeat", "vhost_max=0"]);
    assert_eq!(refused.code, Some(EXIT_CONFIG));
    for wanted in [
        "leveret.conf:1: frame_max: expected a number of bytes",
        "leveret.conf:2: ssl_options.versions.1: tlsv1 is not safe",
        "--set #1: expected KEY=VALUE, found 'heartbeat'",
        "--set #2: vhost_max: expected a whole number above 0 or infinity",
    ] {
        assert!(refused.stderr.contains(wanted), "{wanted}: {}", refused.stderr);
    }
}

#[test]
fn a_missing_file_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_leveret"))
        .args(["server", "--config", "/nowhere/leveret.conf"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(EXIT_CONFIG));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.contains("/nowhere/leveret.conf"), "{stderr}");
}

#[test]
fn a_hangup_has_the_watermarks_read_again_and_a_refused_file_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("rabbitmq.conf");
    std::fs::write(&file, "").unwrap();
    let mut broker = Command::new(env!("CARGO_BIN_EXE_leveret"))
        .args(["server", "--set", "listeners.tcp.1=127.0.0.1:0", "--set", "log.console=true"])
        .args(["--set", "leveret.management.enabled=false"])
        .args(["--set", "prometheus.tcp.listener=none", "--data-dir"])
        .arg(dir.path().join("data"))
        .arg("--config")
        .arg(&file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(broker.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut await_line = |text: &str| log.find(|line| line.contains(text)).unwrap();
    await_line("Server startup complete");
    let pid = rustix::process::Pid::from_child(&broker);
    let tell = |text: &str, signal| {
        std::fs::write(&file, text).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    };
    tell("vm_memory_high_watermark.relative = 0.000001", Signal::HUP);
    await_line("memory resource limit alarm set");
    tell("vm_memory_high_watermrk.relative = 0.6", Signal::HUP);
    let refused = await_line("the configuration is refused, nothing changes");
    assert!(refused.contains("rabbitmq.conf:1: unknown key"), "{refused}");
    tell("vm_memory_high_watermark.relative = 0.6\nheartbeat = 30", Signal::HUP);
    await_line("other keys have changed, too");
    await_line("memory resource limit alarm cleared");
    tell("", Signal::TERM);
    assert!(broker.wait().unwrap().success());
}
