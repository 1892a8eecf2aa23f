//! The programs that triggers may start: only those that are in files of the operator's.
//!
//! A program is a file `NAME.toml` in one directory, read at start and on SIGHUP. Nothing that
//! comes by a network can add one or change it, whatever rights it has. A file, or a directory,
//! that someone else than root or the broker's own user may write is refused: whoever can write it
//! would run programs. A file that is refused leaves the others as they are.

mod answer;
mod family;
pub(super) mod file;
mod input;
mod running;
mod start;

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use crate::broker::trigger::run::Allowed;
use file::Program;
pub(super) use running::run;
pub(super) use start::Starter;

/// The largest file of a program.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// Rights of others than the owner to write.
const OTHERS_WRITE: u32 = 0o022;

/// The programs there are.
#[derive(Debug)]
pub struct Programs {
    dir: Option<PathBuf>,
    read: RwLock<Read>,
}

/// What the directory held when it was read.
#[derive(Debug, Default)]
struct Read {
    /// Why none can be started.
    refused: Option<String>,
    programs: BTreeMap<String, Result<Arc<Program>, String>>,
}

impl Programs {
    /// Reads those of a directory; without one there are none. What is refused is logged.
    #[must_use]
    pub fn open(dir: Option<PathBuf>) -> Self {
        let programs = Self { dir, read: RwLock::default() };
        programs.read_again();
        programs
    }

    /// Reads the directory again. Runs that have begun go on as they began.
    pub fn read_again(&self) {
        let Some(dir) = &self.dir else { return };
        let read = read(dir);
        if let Some(reason) = &read.refused {
            tracing::error!("no program can be started: {reason}");
        }
        for (name, program) in &read.programs {
            if let Err(reason) = program {
                tracing::error!("program {name:?} cannot be started: {reason}");
            }
        }
        let good = read.programs.values().filter(|program| program.is_ok()).count();
        tracing::info!("programs in {}: {good}", dir.display());
        *self.read.write().unwrap_or_else(PoisonError::into_inner) = read;
    }

    /// A program.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub fn get(&self, name: &str) -> Result<Arc<Program>, String> {
        let Some(dir) = &self.dir else {
            return Err("leveret.triggers.programs_dir is not set: there are no programs".into());
        };
        let read = self.read.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(reason) = &read.refused {
            return Err(reason.clone());
        }
        let missing = || {
            let file = dir.join(format!("{name}.toml"));
            Err(format!("there was no {} when programs were last read", file.display()))
        };
        read.programs.get(name).cloned().unwrap_or_else(missing)
    }
}

impl Allowed for Programs {
    fn refusal(&self, program: &str, vhost: &str, queue: &str) -> Option<String> {
        let found = self.get(program).ok()?;
        found.check_queue(program, vhost, queue).err()
    }
}

fn read(dir: &Path) -> Read {
    let listed = trusted(dir, &fs::metadata(dir)).and_then(|()| {
        let entries = fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        entries.map_err(|error| format!("{}: {error}", dir.display()))
    });
    let entries = match listed {
        Ok(entries) => entries,
        Err(reason) => return Read { refused: Some(reason), ..Read::default() },
    };
    let mut programs = BTreeMap::new();
    for path in entries.iter().map(fs::DirEntry::path) {
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
        programs.insert(name.to_owned(), read_program(&path).map(Arc::new));
    }
    Read { refused: None, programs }
}

fn read_program(path: &Path) -> Result<Program, String> {
    let shown = |error: io::Error| format!("{}: {error}", path.display());
    // What is looked at is what is read: the file is opened first.
    let file = File::open(path).map_err(shown)?;
    trusted(path, &file.metadata())?;
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(shown)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("{}: larger than {FILE_BYTES_MAX} bytes", path.display()));
    }
    let refused =
        |fault: file::Fault| format!("{}:{}: {}", path.display(), fault.line, fault.reason);
    Program::read(&text).map_err(refused)
}

/// Whether nobody but root and the broker's own user may write it.
fn trusted(path: &Path, metadata: &io::Result<Metadata>) -> Result<(), String> {
    let fault = match metadata {
        Err(error) => error.to_string(),
        Ok(it) if it.mode() & OTHERS_WRITE != 0 => {
            format!("mode {:04o} lets others than its owner write it", it.mode() & 0o7777)
        }
        Ok(it) if it.uid() != 0 && it.uid() != file::own_user() => {
            format!("user {} owns it, neither root nor the broker's own user", it.uid())
        }
        Ok(_) => return Ok(()),
    };
    Err(format!("{}: {fault}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        dir
    }

    fn good() -> String {
        let user = if file::own_user() == 0 { "user = 65534\ngroup = 65534\n" } else { "" };
        format!("command = [\"/bin/true\"]\n{user}queues = [\"*:*\"]\n")
    }

    fn allow_writing(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_bad_file_is_named_with_its_line_and_the_others_go_on() {
        let dir = directory(&[
            ("good.toml", &good()),
            ("bad.toml", "command = [\"/bin/true\"]\nqueues = 7\n"),
            ("readme.txt", "not a program"),
        ]);
        let programs = Programs::open(Some(dir.path().to_owned()));
        assert!(programs.get("good").is_ok());
        let reason = programs.get("bad").unwrap_err();
        assert!(reason.contains("bad.toml:2: invalid type: integer"), "{reason}");
        let reason = programs.get("readme").unwrap_err();
        assert!(reason.contains("there was no"), "{reason}");
    }

    #[test]
    fn files_are_read_again_when_asked_for() {
        let dir = directory(&[]);
        let programs = Programs::open(Some(dir.path().to_owned()));
        assert!(programs.get("late").is_err());
        fs::write(dir.path().join("late.toml"), good()).unwrap();
        assert!(programs.get("late").is_err());
        programs.read_again();
        assert!(programs.get("late").is_ok());
    }

    #[test]
    fn a_file_that_others_may_write_is_refused() {
        let dir = directory(&[("group.toml", &good()), ("all.toml", &good())]);
        allow_writing(&dir.path().join("group.toml"), 0o664);
        allow_writing(&dir.path().join("all.toml"), 0o646);
        let programs = Programs::open(Some(dir.path().to_owned()));
        for (name, mode) in [("group", "0664"), ("all", "0646")] {
            let reason = programs.get(name).unwrap_err();
            let expected = format!("mode {mode} lets others than its owner write it");
            assert!(reason.contains(&expected), "{reason}");
        }
    }

    #[test]
    fn of_a_directory_that_others_may_write_nothing_is_started() {
        let dir = directory(&[("good.toml", &good())]);
        allow_writing(dir.path(), 0o777);
        let programs = Programs::open(Some(dir.path().to_owned()));
        let reason = programs.get("good").unwrap_err();
        assert!(reason.contains("mode 0777 lets others than its owner write it"), "{reason}");
        allow_writing(dir.path(), 0o755);
        programs.read_again();
        assert!(programs.get("good").is_ok());
    }

    #[test]
    fn a_file_of_another_user_is_refused() {
        if file::own_user() != 0 {
            return; // Nobody else can give files away.
        }
        let dir = directory(&[("given.toml", &good())]);
        let path = dir.path().join("given.toml");
        std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
        let programs = Programs::open(Some(dir.path().to_owned()));
        let reason = programs.get("given").unwrap_err();
        assert!(reason.contains("user 65534 owns it"), "{reason}");
    }

    #[test]
    fn without_a_directory_there_are_no_programs() {
        let reason = Programs::open(None).get("any").unwrap_err();
        assert!(reason.contains("leveret.triggers.programs_dir is not set"), "{reason}");
        let programs = Programs::open(Some("/nonexistent/programs".into()));
        let reason = programs.get("any").unwrap_err();
        assert!(reason.contains("/nonexistent/programs: No such file"), "{reason}");
    }
}
