//! A run of a program, from its start to the end of everything it began.
//!
//! Invariants: a process that was started is waited for, whatever happens; when a run is over, its
//! whole process group is dead; what a program writes is read to its end, so that it never waits
//! for the broker, and no more of it is kept than may be.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Child;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::signal::unix::{self, SignalKind};
use tokio::time::{sleep, timeout};

use super::Programs;
use super::answer::{self, Written};
use super::family::Family;
use super::file::Program;
use super::input::{Content, Told};
use super::start::{Pipes, Starter};
use crate::broker::trigger::run::{Ended, Exit, Outcome, Run, Verdict, Verdicts};
use crate::runners::{Stop, tail};
use crate::server::clock::Clock;

/// How much of what a program writes to standard error is kept.
const TAIL_BYTES_MAX: u64 = 4_096;
/// How long its pipes are read once the program has ended. Nobody writes any more unless somebody
/// has left the process group.
const REST_MS_MAX: u64 = 500;
const CHUNK_BYTES: usize = 16 * 1024;

/// Runs a program for a trigger.
pub(in crate::runners) async fn run(
    programs: &Programs,
    starter: &Starter,
    name: &str,
    run: &Run,
    clock: Clock,
    stop: Stop,
) -> Outcome {
    let could_not_start = |reason| Outcome::CouldNotStart { reason };
    let (program, mut told) = match prepare(programs, name, run) {
        Ok(prepared) => prepared,
        Err(reason) => return could_not_start(reason),
    };
    let begun = clock.now().mono_ms;
    let started = starter.start(&program, &mut told).await;
    let opened = started.and_then(|(process, pipes)| {
        Ok((process, Streams::open(pipes).map_err(|error| error.to_string())?))
    });
    let (process, streams) = match opened {
        Ok(opened) => opened,
        Err(reason) => return could_not_start(format!("program {name:?}: {reason}")),
    };
    let heard = Heard::new(&program);
    let ended = {
        let served = heard.serve(streams, &told.input);
        let supervised = supervise(process, &program, stop);
        tokio::pin!(served, supervised);
        // Its pipes are served until it has ended, and then for what is left in them.
        let (ended, is_served) = tokio::select! {
            ended = &mut supervised => (ended, false),
            () = &mut served => (supervised.await, true),
        };
        if !is_served {
            let _ = timeout(Duration::from_millis(REST_MS_MAX), served).await;
        }
        ended
    };
    let lost =
        |error: io::Error| Stopped { exit: Exit::Unreachable(error.to_string()), by_node: false };
    let ended = ended.unwrap_or_else(lost);
    outcome(&program, run, ended, heard, clock.now().mono_ms.saturating_sub(begun))
}

fn prepare(programs: &Programs, name: &str, run: &Run) -> Result<(Arc<Program>, Told), String> {
    let program = programs.get(name)?;
    program.check_queue(name, &run.vhost, &run.queue)?;
    let told = Told::new(&program, run).map_err(|reason| format!("program {name:?}: {reason}"))?;
    Ok((program, told))
}

/// How a process came to its end.
struct Stopped {
    exit: Exit,
    /// It was ended because the node stops.
    by_node: bool,
}

fn outcome(program: &Program, run: &Run, ended: Stopped, heard: Heard, took_ms: u64) -> Outcome {
    let [written, errors] = [heard.answer, heard.errors].map(Kept::into_written);
    let other = match ended.by_node {
        true => Verdict::Retry { delay_ms: Some(0) },
        false => answer::of_exit(&ended.exit),
    };
    let answer = answer::read(program.results, other, &run.messages, &written);
    if ended.by_node && matches!(answer.verdicts, Verdicts::All(_)) {
        return Outcome::Stopped;
    }
    let mut stderr_tail = tail(&errors.bytes);
    if let Some(fault) = answer.fault {
        stderr_tail.push_str(&format!("\n(leveret: the answer is invalid: {fault})"));
    }
    Outcome::Ended(Ended {
        verdicts: answer.verdicts,
        exit: ended.exit,
        stderr_tail,
        took_ms,
        disable: false,
        pause_ms: None,
    })
}

/// Waits for the program's end, and sees to it when it takes too long or the node stops.
async fn supervise(mut process: Process, program: &Program, mut stop: Stop) -> io::Result<Stopped> {
    let mut exits = Exits::of(&process.child)?;
    let mut by_node = false;
    let is_late = tokio::select! {
        biased;
        exited = exits.seen() => { exited?; false }
        () = sleep(Duration::from_millis(program.timeout_ms)) => true,
        _ = stop.wait_for(|stop| *stop) => { by_node = true; false }
    };
    if is_late || by_node {
        let mut family = Family::default();
        family.meet(process.pid());
        process.signal_group(Signal::TERM);
        family.signal(Signal::TERM);
        let _ = timeout(Duration::from_millis(program.grace_ms), exits.seen()).await;
        family.meet(process.pid());
        process.signal_group(Signal::KILL);
        family.signal(Signal::KILL);
        exits.seen().await?;
    }
    // The process is dead but not waited for: its number, and so its group's, is nobody else's yet.
    process.signal_group(Signal::KILL);
    let status = process.child.wait()?;
    process.is_over = true;
    let exit = match (is_late, status.code()) {
        (true, _) => Exit::TimedOut,
        (false, Some(code)) => Exit::Code(code),
        (false, None) => Exit::Signal(status.signal().unwrap_or_default()),
    };
    Ok(Stopped { exit, by_node })
}

/// Tells of the end of a child that is left to be waited for.
struct Exits {
    child: Pid,
    signals: unix::Signal,
}

impl Exits {
    fn of(child: &Child) -> io::Result<Self> {
        let signals = unix::signal(SignalKind::child())?;
        Ok(Self { child: Pid::from_child(child), signals })
    }

    /// Returns once it has ended. Every child's end is a signal, of any of them.
    async fn seen(&mut self) -> io::Result<()> {
        let seen = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        while waitid(WaitId::Pid(self.child), seen)?.is_none() {
            self.signals.recv().await;
        }
        Ok(())
    }
}

/// A process that was started. Dropped before its end, it is killed with its group.
pub(super) struct Process {
    child: Child,
    is_over: bool,
}

impl Process {
    pub(super) fn new(child: Child) -> Self {
        Self { child, is_over: false }
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn signal_group(&self, signal: Signal) {
        // An error says that there is nobody any more.
        let _ = kill_process_group(self.pid(), signal);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.is_over {
            self.signal_group(Signal::KILL);
            // It may have had no group of its own yet.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// What a program says.
struct Heard {
    /// Its results: lines of descriptor 3, or its standard output.
    answer: Kept,
    /// The end of its standard error.
    errors: Kept,
}

impl Heard {
    fn new(program: &Program) -> Self {
        let answer = Kept::new(program.output_bytes_max, false);
        let errors = Kept::new(program.output_bytes_max.min(TAIL_BYTES_MAX), true);
        Self { answer, errors }
    }

    /// Writes what the program is to read and reads what it writes, all to the end.
    async fn serve(&self, streams: Streams, input: &Content) {
        let Streams { input: sender, answer, errors } = streams;
        let write = async {
            let Some(mut sender) = sender else { return };
            // A program need not read it all, or anything.
            let _ = sender.write_all(input.bytes()).await;
        };
        tokio::join!(write, self.answer.read(answer), self.errors.read(errors));
    }
}

/// What is kept of a stream: its beginning, or its end.
struct Kept {
    bytes_max: usize,
    is_tail: bool,
    written: Mutex<Written>,
}

impl Kept {
    fn new(bytes_max: u64, is_tail: bool) -> Self {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        Self { bytes_max, is_tail, written: Mutex::default() }
    }

    fn keep(&self, chunk: &[u8]) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_tail {
            written.bytes.extend_from_slice(chunk);
            let excess = written.bytes.len().saturating_sub(self.bytes_max);
            written.bytes.drain(..excess);
        } else {
            let room = self.bytes_max - written.bytes.len();
            written.is_cut |= chunk.len() > room;
            written.bytes.extend_from_slice(&chunk[..chunk.len().min(room)]);
        }
    }

    /// Reads to the end, whether anything is kept or not.
    async fn read(&self, pipe: Option<Receiver>) {
        let Some(mut pipe) = pipe else { return };
        let mut chunk = vec![0; CHUNK_BYTES];
        while let Ok(length @ 1..) = pipe.read(&mut chunk).await {
            self.keep(&chunk[..length]);
        }
    }

    fn into_written(self) -> Written {
        self.written.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The broker's ends of the pipes, as the runtime has them.
struct Streams {
    input: Option<Sender>,
    answer: Option<Receiver>,
    errors: Option<Receiver>,
}

impl Streams {
    fn open(pipes: Pipes) -> io::Result<Self> {
        let Pipes { input, output, errors, results } = pipes;
        let receiver = |pipe: io::PipeReader| Receiver::from_owned_fd(pipe.into());
        Ok(Self {
            input: input.map(|pipe| Sender::from_owned_fd(pipe.into())).transpose()?,
            // A program has one of them at most.
            answer: output.or(results).map(receiver).transpose()?,
            errors: Some(receiver(errors)?),
        })
    }
}
