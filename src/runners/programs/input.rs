//! What a program is told: arguments, environment, standard input.
//!
//! Names, keys and headers come from anyone who may publish, bodies all the more. None of it meets
//! a shell: names are whole arguments or values of variables, bodies go to standard input alone.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;

use serde_json::Value as Json;

use super::file::{Argument, Input, Program};
use crate::broker::message::Message;
use crate::broker::trigger::run::{Action, Handed, Run};
use crate::runners::shown;

/// The longest value of a variable: the kernel takes no longer ones than 128 KiB, and all of them
/// together must leave room for the arguments.
const VALUE_BYTES_MAX: usize = 32 * 1024;

/// What one run of a program is started with.
pub(super) struct Told {
    pub(super) command: Vec<String>,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) input: Content,
}

/// What goes to standard input.
pub(super) enum Content {
    Nothing,
    Body(Message),
    Bytes(Vec<u8>),
}

impl Content {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Nothing => &[],
            Self::Body(message) => message.body(),
            Self::Bytes(bytes) => bytes,
        }
    }
}

impl Told {
    /// # Errors
    /// Why this program cannot be started for this run.
    pub(super) fn new(program: &Program, run: &Run) -> Result<Self, String> {
        let command = program.command.iter().map(|it| argument(it, run));
        let mut environment = Environment::default();
        for name in &program.pass_environment {
            if let Some(value) = std::env::var_os(name) {
                environment.0.push((name.into(), value));
            }
        }
        for (name, value) in &program.environment {
            environment.0.push((name.into(), value.into()));
        }
        environment.run(run);
        let input = match (program.input, &*run.messages) {
            (_, []) => Content::Nothing,
            (Input::Raw, [handed]) => {
                environment.message(handed);
                Content::Body(handed.message.clone())
            }
            (Input::Raw, messages) => {
                let count = messages.len();
                return Err(format!(
                    "input = \"raw\" takes one message, and the trigger hands over {count}: \
                     its batch_max must be 1, or input another"
                ));
            }
            (Input::Ndjson, messages) => Content::Bytes(lines(messages)),
            (Input::LengthPrefixed, messages) => Content::Bytes(with_lengths(messages)?),
        };
        Ok(Self { command: command.collect::<Result<_, _>>()?, environment: environment.0, input })
    }
}

fn data(run: &Run) -> &str {
    match &*run.action {
        Action::Program { data, .. } => data,
        Action::Webhook(_) => "",
    }
}

fn argument(argument: &Argument, run: &Run) -> Result<String, String> {
    let (name, value) = match argument {
        Argument::Fixed(text) => return Ok(text.clone()),
        Argument::Count => return Ok(run.messages.len().to_string()),
        Argument::Run => return Ok(run.id.to_string()),
        Argument::Data => ("data", data(run)),
        Argument::Queue => ("queue", &*run.queue),
        Argument::Trigger => ("trigger", &*run.trigger),
        Argument::Vhost => ("vhost", &*run.vhost),
    };
    if value.contains('\0') || value.len() > VALUE_BYTES_MAX {
        return Err(format!("{{{name}}} cannot be an argument: it has a zero byte or is too long"));
    }
    Ok(value.to_owned())
}

#[derive(Default)]
struct Environment(Vec<(OsString, OsString)>);

impl Environment {
    /// A value that cannot be a variable's is left out.
    fn set(&mut self, name: &str, value: impl Into<Vec<u8>>) {
        let value = value.into();
        if !value.contains(&0) && value.len() <= VALUE_BYTES_MAX {
            self.0.push((format!("LEVERET_{name}").into(), OsString::from_vec(value)));
        }
    }

    fn run(&mut self, run: &Run) {
        self.set("VHOST", &*run.vhost);
        self.set("QUEUE", &*run.queue);
        self.set("TRIGGER", &*run.trigger);
        self.set("RUN", run.id.to_string());
        self.set("COUNT", run.messages.len().to_string());
        self.set("DATA", data(run));
        self.set("ATTEMPT", run.batch_attempt.to_string());
        self.set("CAUSE", &*run.cause.condition);
    }

    fn message(&mut self, handed: &Handed) {
        let message = &handed.message;
        self.set("ROUTING_KEY", message.routing_key());
        self.set("EXCHANGE", message.exchange());
        self.set("REDELIVERED", handed.redelivered.to_string());
        let properties = shown::read_properties(message);
        let texts = [
            ("MESSAGE_ID", properties.message_id),
            ("CORRELATION_ID", properties.correlation_id),
            ("CONTENT_TYPE", properties.content_type),
            ("TYPE", properties.type_),
            ("REPLY_TO", properties.reply_to),
            ("APP_ID", properties.app_id),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                self.set(name, text);
            }
        }
        let numbers =
            [("PRIORITY", properties.priority.map(u64::from)), ("TIMESTAMP", properties.timestamp)];
        for (name, number) in numbers {
            if let Some(number) = number {
                self.set(name, number.to_string());
            }
        }
        if let Some(headers @ Json::Object(_)) = shown::all_properties(message).get("headers") {
            self.set("HEADERS", headers.to_string());
        }
    }
}

fn lines(messages: &[Handed]) -> Vec<u8> {
    let mut lines = Vec::new();
    for (id, handed) in messages.iter().enumerate() {
        lines.extend_from_slice(shown::object(id, handed).to_string().as_bytes());
        lines.push(b'\n');
    }
    lines
}

fn with_lengths(messages: &[Handed]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    for (id, handed) in messages.iter().enumerate() {
        let object = shown::object(id, handed).to_string();
        let length = u32::try_from(object.len()).map_err(|_| "a message is too long".to_owned())?;
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(object.as_bytes());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::table::Table;
    use crate::runners::programs::file::own_user;
    use crate::runners::tests::{handed, handed_with, run};

    fn program(rest: &str) -> Program {
        let user = if own_user() == 0 { "user = 65534\ngroup = 65534" } else { "" };
        Program::read(&format!("{user}\nqueues = ['*:*']\n{rest}")).unwrap()
    }

    fn variables(told: &Told) -> Vec<(&str, &str)> {
        let of = |it: &'_ OsString| -> &'_ str { Box::leak(it.to_str().unwrap().into()) };
        told.environment.iter().map(|(name, value)| (of(name), of(value))).collect()
    }

    #[test]
    fn placeholders_are_whole_arguments_whatever_is_in_them() {
        let program =
            program("command = ['/bin/echo', '--', '{queue}', '{data}', '{count}', '{}']");
        let mut run = run(vec![handed(b"x")]);
        run.queue = "a \"b\"\n$(touch x)".into();
        let told = Told::new(&program, &run).unwrap();
        let expected = ["/bin/echo", "--", "a \"b\"\n$(touch x)", "some data", "1", "{}"];
        assert_eq!(told.command, expected);
        run.queue = "a\0b".into();
        let refused = Told::new(&program, &run).err().unwrap();
        assert!(refused.starts_with("{queue} cannot be an argument"), "{refused}");
    }

    #[test]
    fn one_message_is_told_in_variables_and_its_body_is_the_input() {
        let program =
            program("command = ['/bin/cat']\nenvironment = {A = '1', LEVERET_RUN = 'no'}");
        let table = Table::new().with("tries", 3);
        let told = Told::new(&program, &run(vec![handed_with(&table, false)])).unwrap();
        assert_eq!(told.input.bytes(), b"body");
        let expected = [
            ("A", "1"),
            ("LEVERET_RUN", "no"),
            ("LEVERET_VHOST", "/"),
            ("LEVERET_QUEUE", "mail"),
            ("LEVERET_TRIGGER", "send"),
            ("LEVERET_RUN", "7"),
            ("LEVERET_COUNT", "1"),
            ("LEVERET_DATA", "some data"),
            ("LEVERET_ATTEMPT", "1"),
            ("LEVERET_CAUSE", "depth 1"),
            ("LEVERET_ROUTING_KEY", "mail.out"),
            ("LEVERET_EXCHANGE", "amq.topic"),
            ("LEVERET_REDELIVERED", "true"),
            ("LEVERET_HEADERS", "{\"tries\":3}"),
        ];
        assert_eq!(variables(&told), expected);
    }

    #[test]
    fn a_value_that_cannot_be_a_variable_is_left_out() {
        let program = program("command = ['/bin/cat']");
        let table = Table::new().with("long", "x".repeat(VALUE_BYTES_MAX));
        let mut run = run(vec![handed_with(&table, false)]);
        run.queue = "a\0b".into();
        let told = Told::new(&program, &run).unwrap();
        let names: Vec<&str> = variables(&told).iter().map(|(name, _)| *name).collect();
        assert!(names.contains(&"LEVERET_VHOST"));
        assert!(!names.contains(&"LEVERET_QUEUE") && !names.contains(&"LEVERET_HEADERS"));
    }

    #[test]
    fn several_messages_are_objects_on_lines_or_behind_their_lengths() {
        let messages = vec![handed(b"one\ntwo"), handed(b"three")];
        let lines = program("command = ['/bin/cat']\ninput = 'ndjson'");
        let told = Told::new(&lines, &run(messages.clone())).unwrap();
        let text = str::from_utf8(told.input.bytes()).unwrap();
        let objects: Vec<Json> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(objects[0]["body"], "one\ntwo");
        assert_eq!((&objects[1]["id"], objects.len()), (&Json::from(1), 2));

        let prefixed = program("command = ['/bin/cat']\ninput = 'length-prefixed'");
        let told = Told::new(&prefixed, &run(messages.clone())).unwrap();
        let (length, rest) = told.input.bytes().split_first_chunk::<4>().unwrap();
        let first = &rest[..u32::from_be_bytes(*length) as usize];
        assert_eq!(serde_json::from_slice::<Json>(first).unwrap(), objects[0]);

        let raw = program("command = ['/bin/cat']");
        let refused = Told::new(&raw, &run(messages)).err().unwrap();
        assert!(refused.contains("the trigger hands over 2"), "{refused}");
    }

    #[test]
    fn without_messages_there_is_no_input() {
        let told = Told::new(&program("command = ['/bin/cat']"), &run(Vec::new())).unwrap();
        assert!(matches!(told.input, Content::Nothing));
        assert!(variables(&told).contains(&("LEVERET_COUNT", "0")));
    }
}
