//! `leveret triggers`: a broker's triggers, by way of its management API.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use leveret::broker::moment::rfc3339;
use leveret::config::load;
use serde_json::{Value as Json, json};

use crate::api::{Answer, ApiArgs};
use crate::exit;

/// `leveret triggers`.
#[derive(Debug, Args)]
pub(crate) struct TriggersArgs {
    #[command(subcommand)]
    command: TriggersCommand,
    #[command(flatten)]
    api: ApiArgs,
    /// The vhost.
    #[arg(long, global = true, default_value = "/")]
    vhost: String,
}

#[derive(Debug, Subcommand)]
enum TriggersCommand {
    /// Lists the vhost's triggers.
    List,
    /// Sets a trigger from a JSON file, or standard input: "-".
    Set {
        /// Its name.
        name: String,
        /// Its definition.
        file: PathBuf,
    },
    /// Deletes a trigger.
    Delete {
        /// Its name.
        name: String,
    },
    /// Enables a trigger.
    Enable {
        /// Its name.
        name: String,
    },
    /// Disables a trigger.
    Disable {
        /// Its name.
        name: String,
    },
    /// Says why a trigger fires, or does not.
    Explain {
        /// Its name.
        name: String,
    },
    /// Writes the triggers of all vhosts that one may see as a definitions file: under the key
    /// "triggers", each as "set" takes it, with its name and vhost. Secrets are left out.
    Export,
    /// Sets every trigger under the key "triggers" of a definitions file, or standard input: "-".
    /// Other keys are left alone; so are triggers that the file does not name.
    Import {
        /// The definitions.
        file: PathBuf,
    },
    /// Lists a trigger's last hundred runs, the latest first, with the end of what each wrote.
    Runs {
        /// Its name.
        name: String,
    },
}

/// What the exit code says.
pub(crate) const HELP: &str = "\
Exit codes:
   0  done
  65  the definition is refused, or there is no such trigger or vhost
  69  the broker cannot be reached
  77  the login is wrong, or its user may not";

/// Does it, or says on standard error why not.
pub(crate) fn triggers(args: &TriggersArgs) -> ExitCode {
    match done(args) {
        Ok(text) => {
            let _ = write!(std::io::stdout(), "{text}");
            ExitCode::SUCCESS
        }
        Err((code, error)) => {
            eprintln!("leveret: {error}");
            ExitCode::from(code)
        }
    }
}

fn done(args: &TriggersArgs) -> Result<String, (u8, String)> {
    let vhost = format!("triggers/{}", encoded(&args.vhost));
    let of = |name: &str| format!("{vhost}/{}", encoded(name));
    let (method, path, body) = match &args.command {
        TriggersCommand::List => ("GET", vhost, None),
        TriggersCommand::Set { name, file } => ("PUT", of(name), Some(definition(file)?)),
        TriggersCommand::Delete { name } => ("DELETE", of(name), None),
        TriggersCommand::Enable { name } => ("PUT", format!("{}/enable", of(name)), None),
        TriggersCommand::Disable { name } => ("PUT", format!("{}/disable", of(name)), None),
        TriggersCommand::Explain { name } => ("GET", format!("{}/explain", of(name)), None),
        TriggersCommand::Runs { name } => ("GET", format!("{}/runs", of(name)), None),
        TriggersCommand::Export => ("GET", "triggers".to_owned(), None),
        TriggersCommand::Import { file } => return import(&args.api, file).map(|()| String::new()),
    };
    let answer = asked(&args.api, method, &path, body.as_deref())?;
    Ok(match args.command {
        TriggersCommand::Export => exported(answer),
        TriggersCommand::List => listed(&answer),
        TriggersCommand::Explain { .. } => explained(&answer),
        TriggersCommand::Runs { .. } => runs(&answer),
        _ => String::new(),
    })
}

fn asked(
    api: &ApiArgs,
    method: &str,
    path: &str,
    body: Option<&[u8]>,
) -> Result<Answer, (u8, String)> {
    let answer = api.ask(method, path, body)?;
    if !answer.is_success() {
        let code = if answer.status == 401 { exit::DENIED } else { exit::DAMAGED };
        return Err((code, answer.reason()));
    }
    Ok(answer)
}

/// What the API shows, without what comes of itself: states, and what queues and policies declare.
fn exported(answer: Answer) -> String {
    let Json::Array(mut triggers) = answer.document else { return String::new() };
    triggers.retain(|one| !one["name"].as_str().is_some_and(|name| name.starts_with("queue:")));
    for one in triggers.iter_mut().filter_map(Json::as_object_mut) {
        one.remove("status");
    }
    format!("{:#}\n", json!({ "triggers": triggers }))
}

/// Sets them one by one, in the order of the file; what one of them lacks leaves those before it.
fn import(api: &ApiArgs, file: &Path) -> Result<(), (u8, String)> {
    let refused = |reason: String| (exit::DAMAGED, format!("{}: {reason}", file.display()));
    let definitions: Json =
        serde_json::from_slice(&definition(file)?).map_err(|error| refused(error.to_string()))?;
    let triggers = definitions["triggers"].as_array();
    let triggers = triggers.ok_or_else(|| refused("there is no list \"triggers\"".to_owned()))?;
    for (at, trigger) in triggers.iter().enumerate() {
        let text = |name: &str| {
            trigger[name]
                .as_str()
                .ok_or_else(|| refused(format!("triggers[{at}]: {name}: a string is missing")))
        };
        let (vhost, name) = (text("vhost")?, text("name")?);
        let mut body = trigger.clone();
        if let Some(fields) = body.as_object_mut() {
            ["vhost", "name", "status"].iter().for_each(|key| drop(fields.remove(*key)));
        }
        let path = format!("triggers/{}/{}", encoded(vhost), encoded(name));
        let set = asked(api, "PUT", &path, Some(body.to_string().as_bytes()));
        set.map_err(|(code, error)| {
            (code, format!("trigger '{name}' in vhost '{vhost}': {error}"))
        })?;
    }
    Ok(())
}

fn definition(file: &Path) -> Result<Vec<u8>, (u8, String)> {
    if file.as_os_str() == "-" {
        let mut text = Vec::new();
        let read = std::io::stdin().read_to_end(&mut text);
        return read.map(|_| text).map_err(|error| (exit::IO, error.to_string()));
    }
    let text = load::read_file(file);
    let refused = |error| (exit::IO, format!("{}: {error}", file.display()));
    text.map(String::into_bytes).map_err(refused)
}

fn listed(answer: &Answer) -> String {
    let triggers = answer.document.as_array().map_or(&[][..], Vec::as_slice);
    let line = |one: &Json| {
        let field = |name: &str| shown(&one[name]);
        let (state, fired) = (shown(&one["status"]["state"]), shown(&one["status"]["fired"]));
        let condition = shown(&one["condition"]["type"]);
        let (name, queue, mode) = (field("name"), field("queue"), field("mode"));
        format!("{name}\t{queue}\t{condition}\t{mode}\t{state}\t{fired}\n")
    };
    let head = "name\tqueue\tcondition\tmode\tstate\tfired\n".to_owned();
    triggers.iter().map(line).fold(head, |all, line| all + &line)
}

fn explained(answer: &Answer) -> String {
    let all = &answer.document;
    let mut text = format!("{} is {}\n", shown(&all["name"]), shown(&all["state"]));
    if let Some(reason) = all["reason"].as_str() {
        text += &format!("  because: {reason}\n");
    }
    for condition in all["conditions"].as_array().into_iter().flatten() {
        let depth = condition["depth"].as_u64().unwrap_or(0);
        let indent = "  ".repeat(usize::try_from(depth).unwrap_or(0) + 1);
        let holds = if condition["holds"] == true { "holds" } else { "does not hold" };
        let (what, present) = (shown(&condition["condition"]), shown(&condition["present"]));
        text += &format!("{indent}{what}: {holds}, {present} messages");
        if let Some(missing) = condition["missing"].as_str() {
            text += &format!("; missing: {missing}");
        }
        text.push('\n');
    }
    for missing in all["missing"].as_array().into_iter().flatten() {
        text += &format!("  also: {}\n", shown(missing));
    }
    text
}

fn runs(answer: &Answer) -> String {
    let runs = answer.document.as_array().map_or(&[][..], Vec::as_slice);
    let mut text = "run\tstarted\ttook_ms\tmessages\tsettled\tattempt\tresult\texit\n".to_owned();
    for run in runs {
        let field = |name: &str| shown(&run[name]);
        let started = run["started_ms"].as_u64().map_or_else(String::new, rfc3339);
        let (id, took, messages) = (field("id"), field("took_ms"), field("messages"));
        let (settled, attempt) = (field("settled"), field("attempt"));
        let (result, exit) = (field("result"), field("exit"));
        text += &format!(
            "{id}\t{started}\t{took}\t{messages}\t{settled}\t{attempt}\t{result}\t{exit}\n"
        );
        let tail = run["stderr_tail"].as_str().unwrap_or_default();
        tail.lines().for_each(|line| text += &format!("  {}\n", plain(line)));
    }
    text
}

/// What a program wrote, without what a terminal would obey.
fn plain(line: &str) -> String {
    line.chars().map(|letter| if letter.is_control() { '\u{fffd}' } else { letter }).collect()
}

fn shown(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// A name as a part of a path.
fn encoded(name: &str) -> String {
    let octet = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(octet).collect()
}
