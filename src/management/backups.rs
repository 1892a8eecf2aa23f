//! `/api/backups`: copies of everything that is kept, made while the broker runs. Not RabbitMQ's.
//!
//! Where they lie is configured (`leveret.backup.dir`). Whoever asks gives a name and no path, so
//! nothing can be written anywhere else.

use serde_json::{Value as Json, json};

use super::reply::{Refusal, Reply};
use super::request::Request;
use crate::broker::operate::OperateError;
use crate::store::StoreError;

const NAME_BYTES_MAX: usize = 100;

/// `PUT /api/backups/{backup}`: answers once it is whole and on disk.
pub(super) fn put(request: &Request) -> Result<Reply, Refusal> {
    let name = request.name("backup");
    if !is_name(name) {
        return Err(Refusal::bad_request(format!(
            "a backup's name has 1 to {NAME_BYTES_MAX} letters, digits, '-', '_' and '.', and \
             does not begin with '.'"
        )));
    }
    let (place, made) = match request.operate().back_up(name) {
        Ok(made) => made,
        Err(OperateError::Store(error @ StoreError::Exists { .. })) => {
            return Err(Refusal::bad_request(error.to_string()));
        }
        Err(error) => {
            tracing::error!("backup '{name}' has failed: {error}");
            return Err(Refusal::internal());
        }
    };
    tracing::info!("backup '{name}' in {place}, {} bytes", made.bytes);
    Ok(Reply::Document(json!({
        "name": name,
        "path": place,
        "batch": made.batch.0,
        "files": made.files,
        "bytes": made.bytes,
    })))
}

/// `GET /api/backups`: the names of those that there are.
pub(super) fn list(request: &Request) -> Result<Reply, Refusal> {
    let names = request.operate().backups();
    Ok(Reply::list(names.into_iter().map(|name| -> Json { json!({"name": name}) })))
}

fn is_name(name: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(fits)
        && !name.starts_with('.')
        && !name.ends_with(".unfinished")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_path() {
        for name in ["nightly", "2026-11-27_23.15"] {
            assert!(is_name(name), "{name}");
        }
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for name in ["", "..", ".hidden", "a/b", "../b", "a\0", "naïve", "x.unfinished", &long] {
            assert!(!is_name(name), "{name}");
        }
    }
}
