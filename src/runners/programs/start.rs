//! Starting programs: the broker's side of [`launcher`].
//!
//! One thread starts them all and lives as long as the runners do: a program dies with the thread
//! that started it, so that none outlives the broker (`launcher` asks the kernel for that).

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice, PipeReader, PipeWriter, pipe};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::AsyncReadExt as _;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::file::{Program, Results};
use super::input::{Content, Told};
use super::running::Process;
use crate::runners::launcher::{self, Order, READY};

/// How long it may take until a program has the process to itself.
const START_MS_MAX: u64 = 10_000;
/// The longest reason that is read.
const REASON_BYTES_MAX: u64 = 4_096;

/// Starts programs.
#[derive(Debug, Clone)]
pub(in crate::runners) struct Starter(Sender<Start>);

/// What the thread is to start, and where it says how it went.
struct Start {
    order: Order,
    environment: Vec<(OsString, OsString)>,
    wanted: Wanted,
    answer: oneshot::Sender<io::Result<Launched>>,
}

/// The descriptors that make a difference.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    input: bool,
    output: bool,
    results: bool,
}

/// A process that is on its way to becoming the program.
struct Launched {
    process: Process,
    status: UnixStream,
    pipes: Pipes,
}

/// The broker's ends of a program's descriptors.
pub(super) struct Pipes {
    pub(super) input: Option<PipeWriter>,
    pub(super) output: Option<PipeReader>,
    pub(super) errors: PipeReader,
    pub(super) results: Option<PipeReader>,
}

impl Starter {
    /// A starter that has programs launched by this binary.
    ///
    /// # Errors
    /// When there can be no thread for it.
    pub(in crate::runners) fn new(launcher: PathBuf) -> io::Result<Self> {
        let (starts, queued) = channel::<Start>();
        thread::Builder::new().name("launch".to_owned()).spawn(move || {
            for Start { order, environment, wanted, answer } in queued {
                // Whoever has gone takes no answer, and the process ends as it is dropped.
                let _ = answer.send(start(&launcher, &order, environment, wanted));
            }
        })?;
        Ok(Self(starts))
    }

    /// Starts a program, up to where it has the process to itself.
    ///
    /// # Errors
    /// Why it could not be started.
    pub(super) async fn start(
        &self,
        program: &Program,
        told: &mut Told,
    ) -> Result<(Process, Pipes), String> {
        let order = Order {
            account: program.account,
            parent: std::process::id(),
            has_results: program.results == Results::Lines,
            directory: program.directory.clone(),
            limits: program.limits,
            command: std::mem::take(&mut told.command),
        };
        let wanted = Wanted {
            input: !matches!(told.input, Content::Nothing),
            output: program.results == Results::BatchItemFailures,
            results: order.has_results,
        };
        let environment = std::mem::take(&mut told.environment);
        let (answer, answered) = oneshot::channel();
        let gone = || "the broker starts no programs any more".to_owned();
        self.0.send(Start { order, environment, wanted, answer }).map_err(|_| gone())?;
        let launched = answered.await.map_err(|_| gone())?;
        let Launched { process, status, pipes } =
            launched.map_err(|error| format!("no process could be made: {error}"))?;
        let told = timeout(Duration::from_millis(START_MS_MAX), read_status(status)).await;
        match told.map_err(|_| format!("it had not started after {START_MS_MAX} ms"))? {
            Err(error) => Err(format!("the launcher was not heard: {error}")),
            Ok(told) => match told.split_first() {
                Some((&READY, [])) => Ok((process, pipes)),
                Some((&READY, reason)) => Err(String::from_utf8_lossy(reason).into_owned()),
                Some(_) => Err(String::from_utf8_lossy(&told).into_owned()),
                None => Err("the launcher has died".to_owned()),
            },
        }
    }
}

/// What the launcher says until the program takes its place.
async fn read_status(status: UnixStream) -> io::Result<Vec<u8>> {
    status.set_nonblocking(true)?;
    let mut told = Vec::new();
    let status = tokio::net::UnixStream::from_std(status)?;
    status.take(REASON_BYTES_MAX).read_to_end(&mut told).await?;
    Ok(told)
}

fn start(
    launcher: &PathBuf,
    order: &Order,
    environment: Vec<(OsString, OsString)>,
    wanted: Wanted,
) -> io::Result<Launched> {
    let piped = |wanted: bool| wanted.then(pipe).transpose().map(Option::unzip);
    let (status, theirs) = UnixStream::pair()?;
    let (their_input, input) = piped(wanted.input)?;
    let (output, their_output) = piped(wanted.output)?;
    let (results, their_results) = piped(wanted.results)?;
    let (errors, their_errors) = pipe()?;
    let mut command = Command::new(launcher);
    command
        .arg0("leveret")
        .arg(launcher::SUBCOMMAND)
        .args(order.to_words())
        .env_clear()
        .envs(environment)
        .stdin(OwnedFd::from(theirs))
        .stdout(their_output.map_or_else(Stdio::null, Stdio::from))
        .stderr(their_errors);
    let child = command.spawn()?;
    // The launcher's ends that are left here would keep the pipes open.
    drop(command);
    let process = Process::new(child);
    let their_input = match their_input {
        Some(input) => OwnedFd::from(input),
        None => File::open("/dev/null")?.into(),
    };
    let results_first = their_results.as_ref().map(|results| results.as_fd());
    send(&status, results_first.into_iter().chain([their_input.as_fd()]))?;
    Ok(Launched { process, status, pipes: Pipes { input, output, errors, results } })
}

/// Hands descriptors over.
fn send<'fd>(
    to: &UnixStream,
    descriptors: impl Iterator<Item = BorrowedFd<'fd>>,
) -> io::Result<()> {
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fits = control.push(SendAncillaryMessage::ScmRights(&descriptors));
    debug_assert!(fits, "there is room for two");
    sendmsg(to, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}
