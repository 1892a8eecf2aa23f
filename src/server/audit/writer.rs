//! The lines that wait, and the thread that writes them.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::{QUEUED_BYTES_MAX, WAIT_MAX, line};
use crate::broker::Now;

/// The pause before what could not be written is tried again.
const PAUSE: Duration = Duration::from_secs(1);
/// Lines name who comes from where: nobody else's business.
const MODE: u32 = 0o600;

/// Whether a line is worth waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Without room it is counted and left out.
    Counted,
    /// Without room whoever brings it waits a while.
    Waits,
}

/// What those who bring lines and the thread share.
pub(super) struct Shared {
    node: String,
    /// Left out since the node started.
    lost: Arc<AtomicU64>,
    state: Mutex<State>,
    /// There is something to do for the thread.
    work: Condvar,
    /// There is room again.
    room: Condvar,
}

#[derive(Default)]
struct State {
    lines: String,
    /// Left out since the last line.
    lost: u64,
    reopen: bool,
    closing: bool,
}

impl Shared {
    pub(super) fn new(node: &str, lost: Arc<AtomicU64>) -> Self {
        let (state, work, room) = (Mutex::default(), Condvar::new(), Condvar::new());
        Self { node: node.to_owned(), lost, state, work, room }
    }

    /// Adds a line. If some were left out before it, it comes after a line that says so.
    pub(super) fn push(&self, line: String, urgency: Urgency, now: Now) {
        let mut state = self.state();
        if urgency == Urgency::Waits {
            let is_full = |state: &mut State| !state.has_room() && !state.closing;
            let waited = self.room.wait_timeout_while(state, WAIT_MAX, is_full);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if !state.has_room() {
            if state.lost == 0 {
                tracing::error!("the audit log is not written fast enough: lines are left out");
            }
            state.lost += 1;
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if state.lost > 0 {
            let lost = json!({"lines": std::mem::take(&mut state.lost)});
            state.lines.push_str(&line::of_log("audit.lost", &self.node, now, &lost));
        }
        state.lines.push_str(&line);
        drop(state);
        self.work.notify_one();
    }

    pub(super) fn reopen(&self) {
        self.state().reopen = true;
        self.work.notify_one();
    }

    pub(super) fn close(&self) {
        self.state().closing = true;
        self.work.notify_one();
        self.room.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_room(&self) -> bool {
        self.lines.len() < QUEUED_BYTES_MAX
    }
}

/// Opens the file for appending.
pub(super) fn open(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    OpenOptions::new().append(true).create(true).mode(MODE).open(path)
}

/// Writes lines until the log is closed and all are written, or cannot be.
pub(super) fn run(path: &Path, file: File, shared: &Shared) {
    let mut target = Target { path, file, lines: String::new(), written: 0, has_failed: false };
    loop {
        let is_idle = |state: &mut State| state.lines.is_empty() && !state.reopen && !state.closing;
        let state = shared.work.wait_while(shared.state(), is_idle);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        let (reopen, closing) = (std::mem::take(&mut state.reopen), state.closing);
        std::mem::swap(&mut target.lines, &mut state.lines);
        drop(state);
        shared.room.notify_all();
        if reopen {
            target.reopen();
        }
        while !target.write() {
            let state = shared.state();
            if state.closing {
                tracing::error!("the end of the audit log could not be written");
                return;
            }
            let stays_closed = |state: &mut State| !state.closing && !state.reopen;
            drop(shared.work.wait_timeout_while(state, PAUSE, stays_closed));
            shared.state().reopen = false;
            target.reopen();
        }
        if closing && shared.state().lines.is_empty() {
            return;
        }
    }
}

/// The file, and what is being written to it.
struct Target<'p> {
    path: &'p Path,
    file: File,
    lines: String,
    /// Bytes of the lines that are in the file.
    written: usize,
    has_failed: bool,
}

impl Target<'_> {
    /// Writes what there is; false when something is left.
    fn write(&mut self) -> bool {
        while self.written < self.lines.len() {
            match self.file.write(&self.lines.as_bytes()[self.written..]) {
                Ok(n) if n > 0 => self.written += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    self.fail("written to", &result.err());
                    return false;
                }
            }
        }
        if std::mem::take(&mut self.has_failed) {
            tracing::info!("the audit log is written to again");
        }
        self.lines.clear();
        self.written = 0;
        true
    }

    /// Opens what the path names now. If that is another file, a line of which the old one has a
    /// part is written there whole.
    fn reopen(&mut self) {
        let file = match open(self.path) {
            Ok(file) => file,
            Err(error) => return self.fail("opened", &Some(error)),
        };
        if identity(&file) != identity(&self.file) {
            let written = &self.lines.as_bytes()[..self.written];
            self.written = written.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        }
        self.file = file;
    }

    fn fail(&mut self, what: &str, error: &Option<io::Error>) {
        if !std::mem::replace(&mut self.has_failed, true) {
            let path = self.path.display();
            let why = error.as_ref().map_or_else(|| "no room".to_owned(), ToString::to_string);
            tracing::error!("the audit log {path} cannot be {what}: {why}");
        }
    }
}

/// What tells a file from others, whatever it is called now.
fn identity(file: &File) -> Option<(u64, u64)> {
    file.metadata().ok().map(|file| (file.dev(), file.ino()))
}
