//! What a program's file says, checked: a [`Program`] can be started as far as the file goes.

use std::ops::{Range, RangeInclusive};

use nix::unistd::{Group, User};
use serde::Deserialize;
use toml::Spanned;

use crate::runners::launcher::Limits;
use crate::runners::wildcard;

const MS_MAX: u64 = 24 * 60 * 60 * 1000;
const GRACE_MS_MAX: u64 = 60 * 1000;
const OUTPUT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Descriptors that a program may have unless its file says otherwise; the broker's own limit is
/// as high as it goes.
const OPEN_FILES: u64 = 1024;

/// A program that triggers may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    pub(super) command: Vec<Argument>,
    /// The user and group to become, where they are not the broker's.
    pub(in crate::runners) account: Option<(u32, u32)>,
    pub(super) directory: String,
    pub(super) environment: Vec<(String, String)>,
    pub(super) pass_environment: Vec<String>,
    pub(super) timeout_ms: u64,
    pub(super) grace_ms: u64,
    pub(super) input: Input,
    pub(super) results: Results,
    pub(super) output_bytes_max: u64,
    queues: Vec<(String, String)>,
    pub(super) limits: Limits,
}

/// An argument of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Argument {
    /// As it stands.
    Fixed(String),
    Count,
    Data,
    Queue,
    Run,
    Trigger,
    Vhost,
}

/// What an argument may be besides a text.
const PLACEHOLDERS: [(&str, Argument); 6] = [
    ("{count}", Argument::Count),
    ("{data}", Argument::Data),
    ("{queue}", Argument::Queue),
    ("{run}", Argument::Run),
    ("{trigger}", Argument::Trigger),
    ("{vhost}", Argument::Vhost),
];

/// What a program reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Input {
    /// The body of one message.
    #[default]
    Raw,
    /// A JSON object a line, one for each message.
    Ndjson,
    /// The same objects, each behind its length.
    LengthPrefixed,
}

/// How a program says what becomes of the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Results {
    /// By its exit code, for all of them.
    #[default]
    ExitCode,
    /// By lines on descriptor 3.
    Lines,
    /// By one JSON document on its standard output.
    BatchItemFailures,
}

/// What is wrong with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::runners) struct Fault {
    pub(in crate::runners) line: usize,
    pub(in crate::runners) reason: String,
}

/// Something wrong, and where in the text.
type Refused = (Range<usize>, String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    command: Spanned<Vec<Spanned<String>>>,
    user: Option<Spanned<Account>>,
    group: Option<Spanned<Account>>,
    directory: Option<Spanned<String>>,
    #[serde(default)]
    environment: toml::Table,
    #[serde(default)]
    pass_environment: Vec<Spanned<String>>,
    timeout_ms: Option<Spanned<u64>>,
    grace_ms: Option<Spanned<u64>>,
    #[serde(default)]
    input: Input,
    #[serde(default)]
    results: Results,
    output_bytes_max: Option<Spanned<u64>>,
    queues: Vec<Spanned<String>>,
    #[serde(default)]
    limits: LimitsForm,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Account {
    Number(u32),
    Name(String),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsForm {
    memory_bytes: Option<u64>,
    cpu_seconds: Option<u64>,
    open_files: Option<u64>,
    processes: Option<u64>,
    file_bytes: Option<u64>,
}

impl Program {
    /// Reads the text of a file.
    pub(in crate::runners) fn read(text: &str) -> Result<Self, Fault> {
        let at = |span: Option<Range<usize>>| {
            let before = text.get(..span.map_or(0, |span| span.start)).unwrap_or_default();
            before.matches('\n').count() + 1
        };
        let form: Form = toml::from_str(text).map_err(|error| Fault {
            line: at(error.span()),
            reason: error.message().trim().to_owned(),
        })?;
        check(form).map_err(|(span, reason)| Fault { line: at(Some(span)), reason })
    }

    /// What is run, as it is written.
    pub(in crate::runners) fn written(&self) -> Vec<String> {
        let word = |argument: &Argument| match argument {
            Argument::Fixed(text) => text.clone(),
            argument => {
                let mut names = PLACEHOLDERS.iter();
                let named = names.find_map(|(name, it)| (it == argument).then_some(*name));
                named.unwrap_or_default().to_owned()
            }
        };
        self.command.iter().map(word).collect()
    }

    /// Refuses to be started, under its name, by a trigger on a queue that it is not for.
    pub(super) fn check_queue(&self, name: &str, vhost: &str, queue: &str) -> Result<(), String> {
        if self.allows(vhost, queue) {
            return Ok(());
        }
        Err(format!(
            "program {name:?} may not be started for queue {queue:?} of vhost {vhost:?}: `queues` \
             in its file does not name it"
        ))
    }

    fn allows(&self, vhost: &str, queue: &str) -> bool {
        self.queues
            .iter()
            .any(|(vhosts, queues)| wildcard::fits(vhosts, vhost) && wildcard::fits(queues, queue))
    }
}

/// The user as whom the broker runs.
pub(super) fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn check(form: Form) -> Result<Program, Refused> {
    let account = account(&form)?;
    let environment = environment(form.environment).map_err(|it| (form.command.span(), it))?;
    let directory = match &form.directory {
        Some(it) if !it.as_ref().starts_with('/') || it.as_ref().contains('\0') => {
            return Err((it.span(), "directory must be an absolute path".to_owned()));
        }
        Some(it) => it.as_ref().clone(),
        None => "/".to_owned(),
    };
    for name in &form.pass_environment {
        if !is_variable(name.as_ref()) {
            return Err((name.span(), format!("{:?} cannot be a variable", name.as_ref())));
        }
    }
    let LimitsForm { memory_bytes, cpu_seconds, open_files, processes, file_bytes } = form.limits;
    let open_files = open_files.or(Some(OPEN_FILES));
    Ok(Program {
        command: command(&form.command)?,
        account,
        directory,
        environment,
        pass_environment: form.pass_environment.into_iter().map(Spanned::into_inner).collect(),
        timeout_ms: number(form.timeout_ms, "timeout_ms", 30_000, 1..=MS_MAX)?,
        grace_ms: number(form.grace_ms, "grace_ms", 5_000, 0..=GRACE_MS_MAX)?,
        input: form.input,
        results: form.results,
        output_bytes_max: number(
            form.output_bytes_max,
            "output_bytes_max",
            65_536,
            1..=OUTPUT_BYTES_MAX,
        )?,
        queues: form.queues.iter().map(queues).collect::<Result<_, _>>()?,
        limits: Limits { memory_bytes, cpu_seconds, open_files, processes, file_bytes },
    })
}

fn command(form: &Spanned<Vec<Spanned<String>>>) -> Result<Vec<Argument>, Refused> {
    let Some(program) = form.as_ref().first() else {
        return Err((form.span(), "command is empty".to_owned()));
    };
    if !program.as_ref().starts_with('/') {
        let reason = "command begins with the absolute path of what is to be run; there is no \
                      shell and no search for it";
        return Err((program.span(), reason.to_owned()));
    }
    form.as_ref().iter().map(argument).collect()
}

fn argument(form: &Spanned<String>) -> Result<Argument, Refused> {
    let text = form.as_ref();
    for (name, argument) in PLACEHOLDERS {
        if text == name {
            return Ok(argument);
        }
        if text.contains(name) {
            return Err((form.span(), format!("{name} can only be a whole argument")));
        }
    }
    if text.contains('\0') {
        return Err((form.span(), "an argument cannot contain a zero byte".to_owned()));
    }
    Ok(Argument::Fixed(text.clone()))
}

/// As whom it runs: never as root, and as someone else only if the broker is root.
fn account(form: &Form) -> Result<Option<(u32, u32)>, Refused> {
    let broker = own_user();
    let Some(user) = &form.user else {
        if broker == 0 {
            let reason = "user is missing: the broker runs as root, which programs may not";
            return Err((form.command.span(), reason.to_owned()));
        }
        return match &form.group {
            None => Ok(None),
            Some(group) => Err((group.span(), "group needs a user".to_owned())),
        };
    };
    let (number, primary) = find_user(user)?;
    if broker != 0 {
        if number != broker {
            let reason = "only a broker that runs as root can run programs as another user";
            return Err((user.span(), reason.to_owned()));
        }
        return match &form.group {
            None => Ok(None),
            Some(group) => Err((group.span(), "group needs a broker that runs as root".into())),
        };
    }
    let group = match &form.group {
        Some(group) => find_group(group)?,
        None => primary.ok_or_else(|| {
            (user.span(), format!("user {number} is in no list of users: group is needed"))
        })?,
    };
    if number == 0 {
        return Err((user.span(), "programs do not run as root".to_owned()));
    }
    if group == 0 {
        let span = form.group.as_ref().map_or_else(|| user.span(), Spanned::span);
        return Err((span, "programs do not run with root's group".to_owned()));
    }
    Ok(Some((number, group)))
}

/// A user's number and group.
fn find_user(form: &Spanned<Account>) -> Result<(u32, Option<u32>), Refused> {
    let (found, number) = match form.as_ref() {
        Account::Number(number) => (User::from_uid((*number).into()), Some(*number)),
        Account::Name(name) => (User::from_name(name), None),
    };
    match (found, number, form.as_ref()) {
        (Ok(Some(user)), ..) => Ok((user.uid.as_raw(), Some(user.gid.as_raw()))),
        (Ok(None), Some(number), _) => Ok((number, None)),
        (Err(error), ..) => Err((form.span(), format!("users cannot be looked up: {error}"))),
        (Ok(None), None, account) => Err((form.span(), format!("there is no user {account}"))),
    }
}

fn find_group(form: &Spanned<Account>) -> Result<u32, Refused> {
    let name = match form.as_ref() {
        Account::Number(number) => return Ok(*number),
        Account::Name(name) => name,
    };
    match Group::from_name(name) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err((form.span(), format!("there is no group {name:?}"))),
        Err(error) => Err((form.span(), format!("groups cannot be looked up: {error}"))),
    }
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Name(name) => write!(f, "{name:?}"),
        }
    }
}

fn environment(table: toml::Table) -> Result<Vec<(String, String)>, String> {
    let variable = |(name, value): (String, toml::Value)| {
        let toml::Value::String(value) = value else {
            return Err(format!("environment.{name} must be text"));
        };
        if !is_variable(&name) || value.contains('\0') {
            return Err(format!("environment.{name:?} cannot be a variable"));
        }
        Ok((name, value))
    };
    table.into_iter().map(variable).collect()
}

fn is_variable(name: &str) -> bool {
    !name.is_empty() && !name.contains(['=', '\0'])
}

fn number(
    form: Option<Spanned<u64>>,
    name: &str,
    default: u64,
    range: RangeInclusive<u64>,
) -> Result<u64, Refused> {
    let Some(form) = form else { return Ok(default) };
    if range.contains(form.as_ref()) {
        return Ok(*form.as_ref());
    }
    let (least, most) = (range.start(), range.end());
    Err((form.span(), format!("{name} must be from {least} to {most}")))
}

fn queues(form: &Spanned<String>) -> Result<(String, String), Refused> {
    let Some((vhost, queue)) = form.as_ref().split_once(':') else {
        let reason = "queues are named as VHOST:QUEUE, with * for any text";
        return Err((form.span(), reason.to_owned()));
    };
    Ok((vhost.to_owned(), queue.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that says who runs it, as the broker's user may demand.
    fn file(rest: &str) -> String {
        let user = if own_user() == 0 { "user = 65534\ngroup = 65534" } else { "" };
        format!("{user}\n{rest}")
    }

    fn fault(text: &str) -> Fault {
        Program::read(text).unwrap_err()
    }

    const LEAST: &str = "command = ['/bin/cat']\nqueues = ['/:mail.*']\n";

    #[test]
    fn what_a_file_does_not_say_has_defaults() {
        let program = Program::read(&file(LEAST)).unwrap();
        assert_eq!(program.command, [Argument::Fixed("/bin/cat".to_owned())]);
        assert_eq!((program.timeout_ms, program.grace_ms), (30_000, 5_000));
        assert_eq!((program.directory.as_str(), program.output_bytes_max), ("/", 65_536));
        assert_eq!((program.input, program.results), (Input::Raw, Results::ExitCode));
        let limits = Limits { open_files: Some(1024), ..Limits::default() };
        assert_eq!(program.limits, limits);
    }

    #[test]
    fn a_file_may_say_everything() {
        let text = file(
            r#"
            command = ["/usr/bin/python3", "/opt/mail/send.py", "--", "{queue}", "{vhost}",
                       "{trigger}", "{run}", "{count}", "{data}"]
            directory = "/tmp"
            environment = { SMTP_HOST = "127.0.0.1" }
            pass_environment = ["PATH"]
            timeout_ms = 1000
            grace_ms = 0
            input = "length-prefixed"
            results = "batch-item-failures"
            output_bytes_max = 1024
            queues = ["/:mail.*", "*:all"]
            [limits]
            memory_bytes = 268435456
            cpu_seconds = 30
            open_files = 64
            processes = 64
            file_bytes = 10485760
            "#,
        );
        let program = Program::read(&text).unwrap();
        assert_eq!(program.command.last(), Some(&Argument::Data));
        assert_eq!(program.environment, [("SMTP_HOST".to_owned(), "127.0.0.1".to_owned())]);
        assert_eq!(program.input, Input::LengthPrefixed);
        assert_eq!(program.limits.processes, Some(64));
        for (vhost, queue) in [("/", "mail.out"), ("any", "all")] {
            assert!(program.allows(vhost, queue), "{vhost} {queue}");
        }
        for (vhost, queue) in [("other", "mail.out"), ("/", "mail"), ("any", "all.more")] {
            assert!(!program.allows(vhost, queue), "{vhost} {queue}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let refused = [
            ("command = 'cat mail'", 2, "invalid type: string"),
            ("command = []\nqueues = []", 2, "command is empty"),
            ("command = ['cat']\nqueues = []", 2, "command begins with the absolute path"),
            ("command = ['/bin/cat', '--queue={queue}']\nqueues = []", 2, "whole argument"),
            ("command = ['/bin/cat']\nqueues = [\n'mail']", 4, "VHOST:QUEUE"),
            ("command = ['/bin/cat']\nqueues = []\nshell = true", 4, "unknown field `shell`"),
            ("command = ['/bin/cat']", 1, "missing field `queues`"),
            ("command = ['/bin/cat']\nqueues = []\n\ntimeout_ms = 0", 5, "from 1 to 86400000"),
            ("command = ['/bin/cat']\nqueues = []\ninput = 'xml'", 4, "unknown variant `xml`"),
            ("command = ['/bin/cat']\nqueues = []\ndirectory = 'tmp'", 4, "absolute path"),
            ("command = ['/bin/cat']\nqueues = []\npass_environment = ['A=B']", 4, "variable"),
            ("command = ['/bin/cat']\nqueues = []\nenvironment = {A = 1}", 2, "must be text"),
            ("command = [", 2, ""),
        ];
        let user_lines = if own_user() == 0 { 1 } else { 0 };
        for (text, line, reason) in refused {
            let fault = fault(&file(text));
            assert!(fault.reason.contains(reason), "{text}: {fault:?}");
            let line = if line == 1 { 1 } else { line + user_lines };
            assert_eq!(fault.line, line, "{text}: {fault:?}");
        }
    }

    #[test]
    fn programs_never_run_as_root() {
        if own_user() != 0 {
            return;
        }
        let refused = [
            ("", "user is missing: the broker runs as root"),
            ("user = 'root'", "programs do not run as root"),
            ("user = 0", "programs do not run as root"),
            ("user = 65534\ngroup = 0", "programs do not run with root's group"),
            ("user = 65534\ngroup = 'root'", "programs do not run with root's group"),
            ("user = 'no such user'", "there is no user \"no such user\""),
            ("user = 4123456789", "group is needed"),
        ];
        for (user, reason) in refused {
            let fault = fault(&format!("{user}\n{LEAST}"));
            assert!(fault.reason.contains(reason), "{user}: {fault:?}");
        }
    }

    #[test]
    fn a_broker_that_is_not_root_runs_programs_as_itself() {
        let own = own_user();
        if own == 0 {
            return;
        }
        assert_eq!(Program::read(&format!("user = {own}\n{LEAST}")).unwrap().account, None);
        let fault = fault(&format!("user = 1\n{LEAST}"));
        assert!(fault.reason.contains("only a broker that runs as root"), "{fault:?}");
    }
}
