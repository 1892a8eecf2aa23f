//! The audit log: who logged in, who was refused, who changed what, and when; JSON, a line each.
//!
//! A [`Listener`] of the broker turns events into lines and hands them to one thread, which writes
//! them to a file. `docs/audit.md` describes the lines for people.
//!
//! Invariants: no connection's turn waits for the file. Between the two there is room for
//! [`QUEUED_BYTES_MAX`]; when it is used up, what clients cause is counted and left out, and a line
//! says how much that was, while an operator's change waits for up to [`WAIT_MAX`]. A line is in
//! the file whole or, while writing fails, in part until writing succeeds. Nothing secret comes
//! here: events hold no passwords, hashes or bodies.
//!
//! The file is reopened when it is told to (SIGHUP), for those who rotate it, and whenever writing
//! has failed.

mod line;
mod logins;
mod writer;

use std::fmt::{self, Formatter};
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use crate::broker::Now;
use crate::broker::events::{Event, Listener};
pub use logins::LoginLog;
use writer::{Shared, Urgency};

/// Bytes of lines that wait to be written, at most.
const QUEUED_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long an operator's change waits for room.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// What happens too often, and to nothing that lasts.
const UNHEARD: [&str; 2] = ["channel.", "consumer."];
/// What comes from clients, or from whoever would like to be one. Anything else operators do.
const FROM_CLIENTS: [&str; 11] = [
    "access.",
    "alarm.",
    "binding.",
    "connection.",
    "exchange.",
    "http.authentication.",
    "http.refused",
    "limit.hit",
    "queue.",
    "trigger.start.",
    "user.authentication.",
];

/// The audit log of a node.
pub struct AuditLog {
    node: String,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl AuditLog {
    /// Opens the file, which only its owner may read if it is new, and notes the node's start.
    /// Lines that are left out are counted in `lost`.
    ///
    /// # Errors
    /// When the file cannot be opened for writing.
    pub fn open(path: &Path, node: &str, lost: Arc<AtomicU64>, now: Now) -> io::Result<Self> {
        let file = writer::open(path)?;
        let shared = Arc::new(Shared::new(node, lost));
        let (path, for_thread) = (path.to_owned(), Arc::clone(&shared));
        let thread = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer::run(&path, file, &for_thread))?;
        let log = Self { node: node.to_owned(), shared, thread: Mutex::new(Some(thread)) };
        let version = json!({"version": env!("CARGO_PKG_VERSION")});
        log.note("audit.started", now, &version);
        Ok(log)
    }

    /// Has the file opened anew: it may have been moved away.
    pub fn reopen(&self) {
        self.shared.reopen();
    }

    /// Notes the node's stop and writes what is there. A file that takes nothing is given up.
    pub fn close(&self, now: Now) {
        self.note("audit.stopped", now, &json!({}));
        self.shared.close();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the audit log's thread has failed");
        }
    }

    fn note(&self, key: &str, now: Now, details: &serde_json::Value) {
        self.shared.push(line::of_log(key, &self.node, now, details), Urgency::Waits, now);
    }
}

impl Listener for AuditLog {
    fn wants(&self, key: &str) -> bool {
        !starts_with_any(key, &UNHEARD)
    }

    fn hear(&self, event: &Event, now: Now) {
        let from_clients = starts_with_any(event.key, &FROM_CLIENTS);
        let urgency = if from_clients { Urgency::Counted } else { Urgency::Waits };
        self.shared.push(line::of_event(event, &self.node, now), urgency, now);
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog").field("node", &self.node).finish_non_exhaustive()
    }
}

fn starts_with_any(key: &str, prefixes: &[&str]) -> bool {
    prefixes.iter().any(|prefix| key.starts_with(prefix))
}
