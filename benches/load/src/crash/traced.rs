//! A broker under strace, which ends it or lets a call fail at an exactly known moment.
//!
//! The broker is the same binary; strace is its grandchild and of its process group. A call that a
//! signal is injected into is not executed: a kill at `fdatasync` comes after the write and before
//! the sync, one at the write of the mark after the sync and before anyone is told.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::PathBuf;

/// Which calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct Calls {
    /// The system call's name.
    pub(crate) name: String,
    /// Only calls that are about this file.
    pub(crate) path: Option<PathBuf>,
    /// The highest count at which it happens.
    pub(crate) most: u64,
}

/// What happens, and at which of the calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inject {
    /// SIGKILL.
    Kill(u64),
    /// The call fails, this once: EIO.
    Fail(u64),
}

/// One traced life.
#[derive(Debug, Clone)]
pub(crate) struct Trace {
    /// Which calls.
    pub(crate) calls: Calls,
    /// What happens.
    pub(crate) inject: Inject,
    /// What strace writes to.
    pub(crate) file: PathBuf,
}

impl Trace {
    /// The command that runs a shell command so.
    pub(crate) fn around(&self, command: &str) -> String {
        let Calls { name, path, .. } = &self.calls;
        let mut line = format!("exec strace -D -f -qq -y -ttt -o {}", quoted(self.file.display()));
        if let Some(path) = path {
            let _ = write!(line, " -P {}", quoted(path.display()));
        }
        let _ = match self.inject {
            Inject::Kill(when) => {
                write!(line, " -e trace={name} -e inject={name}:signal=SIGKILL:when={when}")
            }
            // Stops at these calls only; a signal could not be injected that way.
            Inject::Fail(when) => write!(
                line,
                " --seccomp-bpf -e trace={name} -e inject={name}:error=EIO:when={when}"
            ),
        };
        let _ = write!(line, " sh -c {}", quoted(command));
        line
    }

    /// When a call was made to fail, in Unix milliseconds.
    pub(crate) fn failed_at_ms(&self) -> io::Result<Option<f64>> {
        let text = match fs::read_to_string(&self.file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let injected = text.lines().find(|line| line.ends_with("(INJECTED)"));
        // The thread, the time in seconds, the call.
        let time = injected.and_then(|line| line.split_whitespace().nth(1));
        Ok(time.and_then(|time| time.parse::<f64>().ok()).map(|seconds| seconds * 1e3))
    }
}

fn quoted(text: impl ToString) -> String {
    format!("'{}'", text.to_string().replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_reaches_the_shell_as_it_was() {
        let calls = Calls { name: "write".to_owned(), path: Some("/a b".into()), most: 9 };
        let trace = Trace { calls, inject: Inject::Kill(3), file: "t".into() };
        let line = trace.around("echo 'it'");
        assert!(line.contains("-P '/a b' -e trace=write"), "{line}");
        assert!(line.contains("inject=write:signal=SIGKILL:when=3"), "{line}");
        assert!(line.ends_with(r"sh -c 'echo '\''it'\'''"), "{line}");
    }
}
