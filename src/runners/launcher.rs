//! What stands between the broker and a program: `leveret launch`, which makes itself small and
//! then becomes the program.
//!
//! The broker may not do this after a fork (no `unsafe`), and forking a process of its size would
//! be slow. So it starts its own binary anew, as a process that has nothing yet, and that one gives
//! up whatever the program is not to have: descriptors, groups, the user, privileges, resources.
//!
//! The two share a socket, which the launcher finds as its standard input. Through it come the
//! descriptors that the program gets: standard input, and one for results as number 3. Back goes
//! one octet, [`READY`], right before the program takes the process over, which closes the socket;
//! or a reason why it did not. So nothing that a program does or any code it exits with can be
//! taken for a failed start, nor the other way round.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, IntoRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use rustix::fs::Mode;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{
    Gid, Resource, Rlimit, Signal, Uid, getppid, set_parent_process_death_signal, setrlimit,
    setsid, umask,
};
use rustix::thread::{set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

/// The subcommand under which the binary finds its way here.
pub const SUBCOMMAND: &str = "launch";
/// Sent when nothing but the program itself is missing.
pub(super) const READY: u8 = b'+';
/// The descriptor that takes results.
const RESULTS: RawFd = 3;
/// What nobody in particular may do with files the program makes.
const UMASK: u32 = 0o077;

/// What is launched, and with how little.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The user and group to become; needs root.
    pub account: Option<(u32, u32)>,
    /// Who launches; the program does not outlive it.
    pub parent: u32,
    /// Whether there is a descriptor for results.
    pub has_results: bool,
    /// Where the program starts.
    pub directory: String,
    /// What it may use.
    pub limits: Limits,
    /// The program and its arguments. Its environment is the launcher's.
    pub command: Vec<String>,
}

/// What a program may use of each resource; `None` is whatever the broker may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// Address space.
    pub memory_bytes: Option<u64>,
    /// Processor time.
    pub cpu_seconds: Option<u64>,
    /// Descriptors at once.
    pub open_files: Option<u64>,
    /// Processes and threads of its user at once; of no effect on root.
    pub processes: Option<u64>,
    /// The size of a file that it writes.
    pub file_bytes: Option<u64>,
}

impl Limits {
    /// Each with its name.
    fn fields(&mut self) -> [(&'static str, &mut Option<u64>); 5] {
        [
            ("memory_bytes", &mut self.memory_bytes),
            ("cpu_seconds", &mut self.cpu_seconds),
            ("open_files", &mut self.open_files),
            ("processes", &mut self.processes),
            ("file_bytes", &mut self.file_bytes),
        ]
    }
}

impl Order {
    /// The order as arguments of `leveret launch`.
    #[must_use]
    pub fn to_words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if let Some((user, group)) = self.account {
            words.extend([format!("user={user}"), format!("group={group}")]);
        }
        words.push(format!("parent={}", self.parent));
        if self.has_results {
            words.push("results=1".to_owned());
        }
        words.push(format!("directory={}", self.directory));
        for (name, limit) in self.limits.clone().fields() {
            words.extend(limit.map(|limit| format!("{name}={limit}")));
        }
        words.push("--".to_owned());
        words.extend(self.command.iter().cloned());
        words
    }

    /// Reads the arguments of `leveret launch`.
    fn from_words(words: &[OsString]) -> Option<Self> {
        let mut words = words.iter().map(|word| word.to_str());
        let (mut user, mut group, mut parent) = (None, None, None);
        let (mut directory, mut has_results, mut limits) = (None, false, Limits::default());
        loop {
            let word = words.next()??;
            if word == "--" {
                break;
            }
            let (name, value) = word.split_once('=')?;
            match name {
                "user" => user = Some(value.parse().ok()?),
                "group" => group = Some(value.parse().ok()?),
                "parent" => parent = Some(value.parse().ok()?),
                "results" => has_results = true,
                "directory" => directory = Some(value.to_owned()),
                name => {
                    let mut fields = limits.fields().into_iter();
                    let (_, limit) = fields.find(|(field, _)| *field == name)?;
                    *limit = Some(value.parse().ok()?);
                }
            }
        }
        let command: Option<Vec<String>> = words.map(|word| Some(word?.to_owned())).collect();
        Some(Self {
            account: user.zip(group),
            parent: parent?,
            has_results,
            directory: directory?,
            limits,
            command: command.filter(|command| !command.is_empty())?,
        })
    }
}

/// Becomes the program, or tells the broker why not. Must be called before there is any other
/// thread.
#[must_use]
pub fn launch(words: &[OsString]) -> ExitCode {
    let (Ok(()), Some(order)) = (close_inherited(), Order::from_words(words)) else {
        return ExitCode::FAILURE;
    };
    let Ok((mut broker, descriptors)) = receive(order.has_results) else {
        return ExitCode::FAILURE;
    };
    let reason = match become_program(&order, &mut broker, descriptors) {
        Err(reason) => reason,
        Ok(never) => match never {},
    };
    let _ = broker.write_all(reason.as_bytes());
    ExitCode::FAILURE
}

/// Closes everything but the three standard descriptors. The broker opens nothing that its children
/// inherit; whoever started the broker may have.
fn close_inherited() -> io::Result<()> {
    let listed = std::fs::read_dir("/proc/self/fd")?;
    let names: Vec<_> = listed.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
    let numbers = names.iter().filter_map(|name| name.to_str()?.parse::<RawFd>().ok());
    for number in numbers.filter(|number| *number > 2) {
        // The listing's own is among them and closed already.
        let _ = nix::unistd::close(number);
    }
    Ok(())
}

/// The program's descriptors.
struct Descriptors {
    input: OwnedFd,
    /// Number [`RESULTS`].
    results: Option<OwnedFd>,
}

/// Takes what the broker sends, and the socket itself out of the way.
fn receive(has_results: bool) -> io::Result<(File, Descriptors)> {
    let malformed = || io::Error::from(io::ErrorKind::InvalidData);
    let mut octet = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    // Nothing else is open: the descriptors get the lowest numbers there are, in their order.
    recvmsg(
        rustix::stdio::stdin(),
        &mut [IoSliceMut::new(&mut octet)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut received = control.drain().flat_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => descriptors.collect::<Vec<_>>(),
        _ => Vec::new(),
    });
    let results = if has_results { received.next() } else { None };
    let input = received.next().ok_or_else(malformed)?;
    if results.as_ref().is_some_and(|results| results.as_raw_fd() != RESULTS) {
        return Err(malformed());
    }
    let broker = fcntl_dupfd_cloexec(rustix::stdio::stdin(), RESULTS + 1)?;
    Ok((File::from(broker), Descriptors { input, results }))
}

/// There is no way back from becoming the program.
enum Never {}

fn become_program(
    order: &Order,
    broker: &mut File,
    descriptors: Descriptors,
) -> Result<Never, String> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: rustix::io::Errno| format!("{what}: {}", io::Error::from(error))
    };
    rustix::stdio::dup2_stdin(&descriptors.input).map_err(failed("standard input"))?;
    drop(descriptors.input);
    if let Some(results) = descriptors.results {
        fcntl_setfd(&results, FdFlags::empty()).map_err(failed("descriptor 3"))?;
        let _stays_open = results.into_raw_fd();
    }
    // A session of its own: no terminal, and a process group that can be ended as a whole.
    setsid().map_err(failed("setsid"))?;
    // Resources first: root may raise what it gives. Only memory waits until all else is done.
    let memory = restrict(&order.limits)?;
    if let Some((user, group)) = order.account {
        let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
        set_thread_groups(&[]).map_err(failed("supplementary groups"))?;
        set_thread_res_gid(group, group, group).map_err(failed("the group"))?;
        set_thread_res_uid(user, user, user).map_err(failed("the user"))?;
    }
    set_no_new_privs(true).map_err(failed("no_new_privs"))?;
    umask(Mode::from_raw_mode(UMASK));
    // Only now: becoming another user forgets it.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(failed("the parent's death"))?;
    if getppid().is_none_or(|parent| parent.as_raw_nonzero().get().unsigned_abs() != order.parent) {
        return Err("the broker has gone".to_owned());
    }
    std::env::set_current_dir(&order.directory)
        .map_err(|error| format!("cannot start in {}: {error}", order.directory))?;
    let (program, arguments) = order.command.split_first().ok_or("there is no command")?;
    let mut command = Command::new(program);
    command.args(arguments);
    broker.write_all(&[READY]).map_err(|error| format!("the broker has gone: {error}"))?;
    if let Some(memory) = memory {
        setrlimit(Resource::As, memory).map_err(failed("limits.memory_bytes"))?;
    }
    let error = command.exec();
    Err(format!("cannot run {program}: {error}"))
}

/// Sets all limits but that of memory, which is returned.
fn restrict(limits: &Limits) -> Result<Option<Rlimit>, String> {
    let of = |limit: u64, more: u64| Rlimit {
        current: Some(limit),
        maximum: Some(limit.saturating_add(more)),
    };
    let no_core = Some(of(0, 0));
    // Past the first second too many a program is told, past the next one killed.
    let set = [
        ("core", Resource::Core, no_core),
        ("limits.cpu_seconds", Resource::Cpu, limits.cpu_seconds.map(|limit| of(limit, 1))),
        ("limits.open_files", Resource::Nofile, limits.open_files.map(|limit| of(limit, 0))),
        ("limits.processes", Resource::Nproc, limits.processes.map(|limit| of(limit, 0))),
        ("limits.file_bytes", Resource::Fsize, limits.file_bytes.map(|limit| of(limit, 0))),
    ];
    for (name, resource, limit) in set {
        let Some(limit) = limit else { continue };
        setrlimit(resource, limit)
            .map_err(|error| format!("{name}: {}", io::Error::from(error)))?;
    }
    Ok(limits.memory_bytes.map(|limit| of(limit, 0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Order {
        Order {
            account: Some((1000, 1001)),
            parent: 77,
            has_results: true,
            directory: "/var/lib/a=b".to_owned(),
            limits: Limits { cpu_seconds: Some(5), file_bytes: Some(0), ..Limits::default() },
            command: ["/bin/echo", "--", "user=0", ""].map(str::to_owned).into(),
        }
    }

    fn reread(order: &Order) -> Option<Order> {
        let words: Vec<OsString> = order.to_words().into_iter().map(OsString::from).collect();
        Order::from_words(&words)
    }

    #[test]
    fn an_order_arrives_as_it_was_given() {
        assert_eq!(reread(&order()), Some(order()));
        let plain =
            Order { account: None, has_results: false, limits: Limits::default(), ..order() };
        assert_eq!(reread(&plain), Some(plain));
    }

    #[test]
    fn an_order_that_is_not_whole_is_none() {
        for words in
            [&["parent=1"][..], &["parent=1", "directory=/", "--"], &["shell=1", "--", "x"]]
        {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            assert_eq!(Order::from_words(&words), None);
        }
    }
}
