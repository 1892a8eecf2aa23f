//! The command: arguments, configuration, runtime, signals. Nothing else.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Parser, Subcommand};
use leveret::config::encrypted::{Cipher, Hash};
use leveret::config::{Loader, Settings, load};
use leveret::runners::launcher;
use rustix::fs::Access;
use rustix::process::{Resource, getrlimit, setrlimit};

mod api;
mod backup;
mod doors;
mod encrypt;
mod exit;
mod log;
mod run;
mod salvage;
mod triggers;

/// A message is allocated by the thread of its publisher and freed by that of its consumer, and
/// RocksDB frees in other threads than it allocates in, too. The C library's allocator answers with
/// locks, and keeps what idle threads once had. This one serves Rust and C++ alike, and what is not
/// in use goes back to the system within ten seconds, by a thread of its own that also sees to it
/// while nobody allocates. Figures: benches/README.md.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// A message broker that speaks AMQP 0-9-1 as RabbitMQ does.
#[derive(Debug, Parser)]
#[command(name = "leveret", version, about, after_help = exit::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the broker until it is told to stop (SIGTERM or SIGINT).
    #[command(after_help = exit::HELP)]
    Server(ServerArgs),
    /// Encrypts a password, read from standard input, for the configuration file.
    #[command(after_help = ENCRYPT_HELP)]
    Encrypt(EncryptArgs),
    /// Has a running broker make a backup of everything that it keeps.
    #[command(after_help = BACKUP_HELP)]
    Backup(BackupArgs),
    /// Checks a backup and makes a data directory of it.
    #[command(after_help = RESTORE_HELP)]
    Restore(RestoreArgs),
    /// Says what can be saved of a damaged data directory and what is lost, and writes what can be
    /// saved to a new directory when told to. The damaged one is never changed.
    #[command(after_help = SALVAGE_HELP)]
    Salvage(SalvageArgs),
    /// Lists, sets, switches and explains a running broker's triggers.
    #[command(after_help = triggers::HELP)]
    Triggers(triggers::TriggersArgs),
    /// What the broker starts programs with; not for people.
    #[command(name = launcher::SUBCOMMAND, hide = true)]
    Launch {
        /// Its order, as `launcher` reads it.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        order: Vec<OsString>,
    },
}

#[derive(Debug, Args)]
struct BackupArgs {
    /// The backup's name: it is made in the broker's leveret.backup.dir.
    name: String,
    #[command(flatten)]
    api: api::ApiArgs,
}

/// What the exit code of backup says.
const BACKUP_HELP: &str = "\
Exit codes:
   0  the backup is whole and on disk
  69  the broker cannot be reached, or the backup failed: its log says why
  73  there is a backup of this name
  77  the login is wrong, or no administrator's";

#[derive(Debug, Args)]
struct RestoreArgs {
    /// The backup.
    #[arg(long, value_name = "BACKUP")]
    from: PathBuf,
    /// The data directory to make; it must not exist yet, or be empty. Without it the backup is
    /// only checked.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// What the exit code of restore says.
const RESTORE_HELP: &str = "\
Exit codes:
   0  restored, or found to be whole
  65  the backup is damaged, or is none
  73  there is something in the data directory
  74  it could not be read or written
  76  the backup is of another version";

#[derive(Debug, Args)]
struct SalvageArgs {
    /// The damaged directory. No broker may be using it.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Where to write what can be saved; it must not exist yet. Without it nothing is written.
    #[arg(long, value_name = "NEWDIR")]
    write_to: Option<PathBuf>,
    /// Reads the directory although its VERSION names another version.
    #[arg(long)]
    ignore_version: bool,
}

/// What the exit code of salvage says.
const SALVAGE_HELP: &str = "\
Exit codes:
   0  everything can be read, or what can be was written
  65  something is damaged (without --write-to)
  73  NEWDIR exists
  75  a broker uses the directory
  76  the data are of another version";

#[derive(Debug, Args)]
struct EncryptArgs {
    /// The file that leveret.secrets.passphrase_file names: its first line is the passphrase.
    #[arg(long, value_name = "FILE")]
    passphrase_file: PathBuf,
    /// As many as leveret.secrets.iterations says.
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    iterations: u32,
    /// As leveret.secrets.cipher says: aes_128_cbc or aes_256_cbc.
    #[arg(long, default_value = "aes_128_cbc", value_parser = encrypt::cipher)]
    cipher: Cipher,
    /// As leveret.secrets.hash says: sha256 or sha512.
    #[arg(long, default_value = "sha256", value_parser = encrypt::hash)]
    hash: Hash,
}

/// How the result is used.
const ENCRYPT_HELP: &str = "\
The result goes where the password would stand:
  default_pass = encrypted:...
  leveret.secrets.passphrase_file = FILE
RabbitMQ's rabbitmqctl encrypt_conf_value makes the same of a value.";

#[derive(Debug, Args)]
struct ServerArgs {
    /// Where messages and definitions are kept [default: /var/lib/leveret as root, else
    /// ~/.local/share/leveret].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A file in the form of rabbitmq.conf; may be given several times.
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// One of that file's keys; wins over files. May be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Server(args) => server(&args),
        Command::Encrypt(args) => encrypt::encrypt(&args),
        Command::Backup(args) => backup::backup(&args),
        Command::Restore(args) => backup::restore(&args),
        Command::Salvage(args) => salvage::run(&args),
        Command::Triggers(args) => triggers::triggers(&args),
        Command::Launch { order } => launcher::launch(&order),
    }
}

fn server(args: &ServerArgs) -> ExitCode {
    let (settings, warnings) = match configure(args) {
        Ok(configured) => configured,
        Err(error) => {
            eprintln!("leveret: {error}");
            return ExitCode::from(exit::CONFIG);
        }
    };
    let file = match log::start(&settings.log) {
        Ok(file) => file,
        Err(error) => {
            eprintln!("leveret: cannot write the log: {error}");
            return ExitCode::from(run::RunError::from(error).exit_code());
        }
    };
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    raise_descriptor_limit();
    match run::run(Arc::new(settings), file, || configure(args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            eprintln!("leveret: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn configure(args: &ServerArgs) -> Result<(Settings, Vec<String>), String> {
    let mut loader =
        Loader::new().default_data_dir(default_data_dir()).environment(std::env::vars());
    for path in &args.config {
        let text = load::read_file(path).map_err(|error| format!("{}: {error}", path.display()))?;
        loader = loader.file(path.display().to_string(), text);
    }
    for assignment in &args.set {
        loader = loader.set(assignment);
    }
    let loaded = loader.load().map_err(|error| error.to_string())?;
    let mut settings = loaded.settings;
    if let Some(dir) = &args.data_dir {
        settings.store.path.clone_from(dir);
    }
    let warnings = loaded.warnings.iter().map(ToString::to_string).collect();
    Ok((settings, warnings))
}

/// The system's place where this user may write there, else the user's own.
fn default_data_dir() -> PathBuf {
    let system = Settings::default().store.path;
    let may_write = std::fs::create_dir_all(&system).is_ok()
        && rustix::fs::access(&system, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    match std::env::var_os("HOME") {
        Some(home) if !may_write => PathBuf::from(home).join(".local/share/leveret"),
        _ => system,
    }
}

/// A connection is a descriptor, and so is a table file: takes as many as the system grants.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!("cannot raise the limit of open files: {error}");
        }
    }
}
