//! `leveret backup`: has a running broker make a backup. `leveret restore`: makes a data directory
//! of one.

use std::io::Write as _;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use leveret::backends::https;
use leveret::config::load;
use leveret::secret::Secret;
use leveret::store::rocks::{check_backup, restore as restore_backup};
use ureq::Agent;

use crate::{BackupArgs, RestoreArgs, exit};

/// Where the password may be, if it is in no file.
const PASSWORD: &str = "LEVERET_PASSWORD";

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
    let config = |error| (exit::CONFIG, error);
    let password = match &args.password_file {
        Some(path) => load::read_passphrase(path)
            .map_err(|error| config(format!("{}: {error}", path.display())))?,
        None => Secret::from(std::env::var(PASSWORD).unwrap_or_else(|_| "guest".to_owned())),
    };
    let tls = https::trusting(args.cacertfile.as_deref()).map_err(config)?;
    let agent: Agent =
        Agent::config_builder().tls_config(tls).http_status_as_error(false).build().into();
    let login = [args.user.as_bytes(), b":", password.expose()].concat();
    let url = format!("{}/api/backups/{}", args.url.trim_end_matches('/'), args.name);
    let unavailable = |error: ureq::Error| (exit::UNAVAILABLE, format!("{}: {error}", args.url));
    let mut answer = agent
        .put(&url)
        .header("authorization", format!("Basic {}", STANDARD.encode(login)))
        .send_empty()
        .map_err(unavailable)?;
    let text = answer.body_mut().read_to_string().map_err(unavailable)?;
    let fields: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    let field = |name: &str| fields.get(name).map(ToString::to_string).unwrap_or_default();
    if answer.status().is_success() {
        let path = field("path");
        let path = path.trim_matches('"');
        return Ok(format!("{path}: {} files, {} bytes", field("files"), field("bytes")));
    }
    let code = match answer.status().as_u16() {
        401 => exit::DENIED,
        400 if text.contains("exists already") => exit::EXISTS,
        _ => exit::UNAVAILABLE,
    };
    let reason = fields.get("reason").and_then(|reason| reason.as_str());
    Err((code, format!("{}: {}", answer.status(), reason.unwrap_or(&text))))
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
