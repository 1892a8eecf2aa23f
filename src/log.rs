//! The ordinary log: where its lines go, which ones, and a file that can be rotated.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use leveret::config::settings::{Log, LogLevel};
use leveret::server::audit::LoginLog;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::fmt::format::{DefaultFields, Format};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

/// Starts the log as configured: the console, a file, or both. Returns the file.
pub(crate) fn start(log: &Log) -> io::Result<Option<Arc<LogFile>>> {
    let console = log.console.then(|| {
        let writer = if log.console_to_stderr {
            BoxMakeWriter::new(io::stderr)
        } else {
            BoxMakeWriter::new(io::stdout)
        };
        log_layer(writer).with_filter(log_filter(log.console_level, log))
    });
    let file = log.file.as_ref().map(|name| LogFile::open(log.path(name))).transpose()?;
    let layer = file.clone().map(|file| {
        let writer = BoxMakeWriter::new(move || Lines(Arc::clone(&file)));
        log_layer(writer).with_ansi(false).with_filter(log_filter(log.file_level, log))
    });
    tracing_subscriber::registry().with(console).with(layer).init();
    Ok(file)
}

/// A file with the log's lines, which may be moved away.
pub(crate) struct LogFile {
    path: PathBuf,
    file: Mutex<File>,
}

impl LogFile {
    fn open(path: PathBuf) -> io::Result<Arc<Self>> {
        let file = Mutex::new(open(&path)?);
        Ok(Arc::new(Self { path, file }))
    }

    /// Goes on in what the path names now. What cannot be opened changes nothing.
    pub(crate) fn reopen(&self) {
        match open(&self.path) {
            Ok(file) => *self.file.lock().unwrap_or_else(PoisonError::into_inner) = file,
            Err(error) => {
                tracing::error!("the log {} cannot be opened anew: {error}", self.path.display());
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    OpenOptions::new().append(true).create(true).open(path)
}

/// Who writes lines: each whole, into the file that is open then.
struct Lines(Arc<LogFile>);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.file.lock().unwrap_or_else(PoisonError::into_inner).write(line)
    }

    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        self.0.file.lock().unwrap_or_else(PoisonError::into_inner).write_all(line)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log_layer<S>(writer: BoxMakeWriter) -> fmt::Layer<S, DefaultFields, Format, BoxMakeWriter>
where
    S: tracing::Subscriber + for<'l> LookupSpan<'l>,
{
    fmt::layer().with_target(false).with_writer(writer)
}

/// RabbitMQ's categories as far as they exist here: connections log from their entrance
/// and their driver.
fn log_filter(level: LogLevel, log: &Log) -> Targets {
    let category = |name: &str| log.categories.get(name).map_or(level, |own| (*own).max(level));
    Targets::new()
        .with_default(level_filter(category("default")))
        .with_target("leveret::server::driver", level_filter(category("connection")))
        .with_target(LoginLog::TARGET, level_filter(category("user")))
        .with_target("leveret::server::entrance", level_filter(category("connection")))
}

fn level_filter(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info | LogLevel::Notice => LevelFilter::INFO,
        LogLevel::Warning => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::None => LevelFilter::OFF,
    }
}
