//! `leveret backup`: has a running broker make a backup. `leveret restore`: makes a data directory
//! of one.

use std::io::Write as _;
use std::process::ExitCode;

use leveret::store::rocks::{check_backup, restore as restore_backup};

use crate::{BackupArgs, RestoreArgs, exit};

/// Asks a broker for a backup and says where it is.
pub(crate) fn backup(args: &BackupArgs) -> ExitCode {
    match asked(args) {
        Ok(answer) => {
            let _ = writeln!(std::io::stdout(), "{answer}");
            ExitCode::SUCCESS
        }
        Err((code, error)) => {
            eprintln!("leveret: {error}");
            ExitCode::from(code)
        }
    }
}

fn asked(args: &BackupArgs) -> Result<String, (u8, String)> {
    let answer = args.api.ask("PUT", &format!("backups/{}", args.name), None)?;
    let field = |name: &str| answer.document.get(name).map(ToString::to_string);
    let field = |name: &str| field(name).unwrap_or_default();
    if answer.is_success() {
        let path = field("path");
        let path = path.trim_matches('"');
        return Ok(format!("{path}: {} files, {} bytes", field("files"), field("bytes")));
    }
    let code = match answer.status {
        401 => exit::DENIED,
        400 if answer.reason().contains("exists already") => exit::EXISTS,
        _ => exit::UNAVAILABLE,
    };
    Err((code, answer.reason()))
}

/// Checks a backup, and makes a data directory of it if one is named.
pub(crate) fn restore(args: &RestoreArgs) -> ExitCode {
    let done = match &args.data_dir {
        Some(dir) => restore_backup(&args.from, dir).map(|made| (made, dir.display())),
        None => check_backup(&args.from).map(|made| (made, args.from.display())),
    };
    match done {
        Ok((made, place)) => {
            let (files, bytes) = (made.files, made.bytes);
            let what = if args.data_dir.is_some() { "restored" } else { "whole" };
            let _ = writeln!(std::io::stdout(), "{place}: {what}, {files} files, {bytes} bytes");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("leveret: {error}");
            ExitCode::from(exit::of_store(&error))
        }
    }
}
