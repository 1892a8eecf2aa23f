//! The process in front of a data directory that it cannot use: one line says why and where, the
//! exit code says what kind of trouble it is, and nothing in the directory is changed.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use super::damage::Killed;
use super::disk::{files, newest};

const DAMAGED: i32 = 65;
const IN_USE: i32 = 75;
const VERSION: i32 = 76;
const DENIED: i32 = 77;
/// Nobody, on every system.
const NOBODY: u32 = 65_534;

fn server(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_leveret"));
    command
        .args(["server", "--data-dir"])
        .arg(data)
        .args(["--set", "listeners.tcp.1=127.0.0.1:0"])
        .args(["--set", "leveret.management.enabled=false"])
        .args(["--set", "prometheus.tcp.listener=none"]);
    command
}

/// Starts a broker that must not start. Answers with what it says on standard error.
fn refused(command: &mut Command, data: &Path, code: i32) -> String {
    let before = files(data);
    let Output { status, stderr, .. } = command.stdout(Stdio::null()).output().unwrap();
    let text = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(code), "{text}");
    assert!(files(data) == before, "something was changed: {text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

#[test]
fn damage_a_foreign_version_and_a_second_process_have_exit_codes_of_their_own() {
    let killed = Killed::new();
    let data = killed.dir.path();
    let holder = fs::File::open(data.join("VERSION")).unwrap();
    holder.lock().unwrap();
    let text = refused(&mut server(data), data, IN_USE);
    assert!(text.ends_with(": in use by another process\n"), "{text}");
    drop(holder);

    let log = newest(data, "log");
    let bytes = fs::read(&log).unwrap();
    fs::write(&log, &bytes[..bytes.len() / 2]).unwrap();
    let text = refused(&mut server(data), data, DAMAGED);
    assert!(text.contains(&format!("{}: damaged: at offset ", log.display())), "{text}");
    fs::write(&log, bytes).unwrap();

    fs::write(data.join("VERSION"), "leveret store 1\n").unwrap();
    let text = refused(&mut server(data), data, VERSION);
    assert!(text.contains("VERSION: data of layout version 1, this build reads"), "{text}");
}

#[test]
fn a_directory_that_may_not_be_written_to_is_refused_before_anything_is_read() {
    let killed = Killed::new();
    let data = killed.dir.path();
    let is_root = fs::metadata(data).unwrap().uid() == 0;
    if !is_root {
        fs::set_permissions(data.join("db"), fs::Permissions::from_mode(0o500)).unwrap();
        let text = refused(&mut server(data), data, DENIED);
        assert!(text.contains("db: Permission denied"), "{text}");
        fs::set_permissions(data.join("db"), fs::Permissions::from_mode(0o700)).unwrap();
        return;
    }
    // The superuser may write everywhere, and what it made there its owner could not use.
    let version = data.join("VERSION");
    chown(&version, Some(NOBODY), Some(NOBODY)).unwrap();
    let text = refused(&mut server(data), data, DENIED);
    assert!(text.contains("VERSION: belongs to user 65534"), "{text}");
    chown(&version, Some(0), Some(0)).unwrap();
    // Somebody else may not.
    let mut command = server(data);
    command.uid(NOBODY).gid(NOBODY);
    // Wherever tests are built, others may not be let in to run what is there.
    if let Ok(output) = Command::new(env!("CARGO_BIN_EXE_leveret"))
        .arg("--version")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        && output.status.success()
    {
        let text = refused(&mut command, data, DENIED);
        assert!(text.contains("Permission denied"), "{text}");
    }
}
