//! What exchanges find, against the plainest way to find it: every binding looked at by itself.

use std::collections::BTreeMap;

use leveret::broker::exchange::topic::WILDCARDS_MAX;
use leveret::broker::exchange::{Destination, End, Kind, Matcher, Traits};
use leveret::protocol::Properties;
use leveret::protocol::table::{RawTable, Table, Value};

use super::input::Input;

/// Steps of a plan: a plain search looks at all bindings for each message.
const STEPS_MAX: usize = 256;

/// Bindings come and go, and in between messages find what a plain search finds.
pub fn topic(bytes: &[u8]) {
    let mut world = World::new(Kind::Topic);
    let mut input = Input::new(bytes);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let (what, id) = (input.byte(), input.byte() % 8);
        let key = key(&mut input);
        match what % 4 {
            0 | 1 => {
                let taken = world.bind(&key, &Table::new(), id);
                let hashes = words(&key).iter().filter(|word| **word == "#").count();
                assert_eq!(taken, hashes <= WILDCARDS_MAX, "{key:?}");
            }
            2 => world.unbind(&key, &Table::new(), id),
            _ => world.route(&key, &Table::new(), |(pattern, _), key, _| {
                topic_matches(&words(pattern), &words(key))
            }),
        }
    }
    world.empty();
}

/// The same for headers exchanges.
pub fn headers(bytes: &[u8]) {
    let mut world = World::new(Kind::Headers);
    let mut input = Input::new(bytes);
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let (what, id) = (input.byte(), input.byte() % 8);
        let fields = fields(&mut input);
        match what % 4 {
            0 | 1 => {
                let mut arguments = fields;
                let mode = input.pick(&["", "all", "any", "all-with-x", "any-with-x", "some"]);
                if !mode.is_empty() {
                    arguments.insert("x-match", mode);
                }
                // A binding is remembered so that it can go again.
                let taken = world.bind("", &arguments, id);
                assert_eq!(taken, mode != "some");
            }
            2 => world.unbind_nth(usize::from(input.byte())),
            _ => world
                .route("", &fields, |(_, arguments), _, headers| headers_match(arguments, headers)),
        }
    }
    world.empty();
}

/// Whatever the type: one key's destinations come in order, each once, and only what is bound.
pub fn exchange(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let kind = input.pick(&Kind::ALL);
    let arguments = raw_table(&mut input);
    let Ok(mut matcher) = Matcher::new(kind, &arguments, 7) else { return };
    let mut bound: Vec<(Vec<u8>, Table, u8)> = Vec::new();
    for _ in 0..STEPS_MAX {
        if input.is_empty() {
            break;
        }
        let (what, id) = (input.byte(), input.byte() % 8);
        let key = input.short().to_vec();
        let arguments = raw_table(&mut input);
        match what % 3 {
            0 => {
                let is_fine = matcher.check(&key, &arguments).is_ok();
                let name = format!("queue {id}");
                let end = End { destination: Destination::Queue(id.into()), name: &name };
                assert_eq!(matcher.bind(&key, &arguments, end).is_ok(), is_fine);
                if is_fine {
                    bound.push((key, arguments, id));
                }
            }
            1 => {
                let at = usize::from(input.byte());
                if at < bound.len() {
                    let (key, arguments, id) = bound.swap_remove(at);
                    matcher.unbind(&key, &arguments, Destination::Queue(id.into()));
                    bound.retain(|it| *it != (key.clone(), arguments.clone(), id));
                }
            }
            _ => {
                let raw = input.short();
                let Ok(properties) = Properties::parse(raw) else { continue };
                let keys = [key.as_slice(), b"other"];
                let keys = &keys[..1 + usize::from(what >> 7)];
                let traits = Traits { keys, properties: &properties, message: None };
                let mut found = Vec::new();
                matcher.matches(traits, &mut found);
                assert!(keys.len() > 1 || found.is_sorted_by(|a, b| a < b), "{found:?}");
                for destination in found {
                    let Destination::Queue(found) = destination else { panic!("no queue") };
                    assert!(bound.iter().any(|(_, _, id)| u64::from(*id) == found));
                }
            }
        }
    }
}

type Binding = (String, Table);

struct World {
    matcher: Matcher,
    bindings: BTreeMap<(String, Vec<u8>, u64), Binding>,
}

impl World {
    fn new(kind: Kind) -> Self {
        let matcher = Matcher::new(kind, &Table::new(), 0).expect("it needs no arguments");
        Self { matcher, bindings: BTreeMap::new() }
    }

    fn bind(&mut self, key: &str, arguments: &Table, id: u8) -> bool {
        let end = End { destination: Destination::Queue(id.into()), name: "some" };
        let taken = self.matcher.bind(key.as_bytes(), arguments, end).is_ok();
        if taken {
            let id = (key.to_owned(), encoded(&arguments.sorted()), id.into());
            self.bindings.insert(id, (key.to_owned(), arguments.clone()));
        }
        taken
    }

    fn unbind(&mut self, key: &str, arguments: &Table, id: u8) {
        self.matcher.unbind(key.as_bytes(), arguments, Destination::Queue(id.into()));
        self.bindings.remove(&(key.to_owned(), encoded(&arguments.sorted()), id.into()));
    }

    fn unbind_nth(&mut self, n: usize) {
        let Some((id, (key, arguments))) = self.bindings.iter().nth(n) else { return };
        let (id, key, arguments) = (id.clone(), key.clone(), arguments.clone());
        self.matcher.unbind(key.as_bytes(), &arguments, Destination::Queue(id.2));
        self.bindings.remove(&id);
    }

    fn route(&self, key: &str, headers: &Table, matches: impl Fn(&Binding, &str, &Table) -> bool) {
        let raw = encoded(headers);
        let properties = Properties {
            headers: Some(RawTable::parse(&raw).expect("a table")),
            ..Properties::default()
        };
        let traits = Traits { keys: &[key.as_bytes()], properties: &properties, message: None };
        let mut found = Vec::new();
        self.matcher.matches(traits, &mut found);
        let mut due: Vec<Destination> = self
            .bindings
            .iter()
            .filter(|(_, binding)| matches(binding, key, headers))
            .map(|((_, _, id), _)| Destination::Queue(*id))
            .collect();
        due.sort_unstable();
        due.dedup();
        assert_eq!(found, due, "{key:?} {headers:?} among {:?}", self.bindings);
    }

    /// Takes every binding away: then nothing is found any more.
    fn empty(mut self) {
        while !self.bindings.is_empty() {
            self.unbind_nth(0);
        }
        assert!(self.matcher.is_empty());
    }
}

/// A key of at most 15 words, most of them common.
fn key(input: &mut Input<'_>) -> String {
    let count = input.byte() % 16;
    let pool = ["a", "b", "c", "", "*", "#", "aa", "longer-word"];
    let words = (0..count).map(|_| match input.byte() {
        n @ 0..=239 => pool[usize::from(n) % pool.len()].to_owned(),
        n => format!("w{}", n % 3),
    });
    words.collect::<Vec<_>>().join(".")
}

fn words(key: &str) -> Vec<&str> {
    if key.is_empty() { Vec::new() } else { key.split('.').collect() }
}

fn topic_matches(pattern: &[&str], key: &[&str]) -> bool {
    match pattern.split_first() {
        None => key.is_empty(),
        Some((&"#", rest)) => (0..=key.len()).any(|skipped| topic_matches(rest, &key[skipped..])),
        Some((word, rest)) => {
            let Some((first, others)) = key.split_first() else { return false };
            (*word == "*" || word == first) && topic_matches(rest, others)
        }
    }
}

/// At most seven fields of few names and values.
fn fields(input: &mut Input<'_>) -> Table {
    let mut table = Table::new();
    for _ in 0..input.byte() % 8 {
        let name = input.pick(&["a", "b", "c", "x-a", "x-b", ""]);
        let value = match input.byte() % 8 {
            0 => Value::Void,
            1 => Value::from(input.byte() % 2 == 1),
            2 => Value::I8(0),
            3 => Value::I64(i64::from(input.byte() % 2)),
            4 => Value::LongStr(b"0".to_vec()),
            5 => Value::Bytes(b"0".to_vec()),
            6 => Value::F64(f64::from(input.byte() % 2)),
            _ => Value::F32(0.0),
        };
        // Of fields with one name a table made here keeps the last.
        table.insert(name, value);
    }
    table
}

fn headers_match(arguments: &Table, headers: &Table) -> bool {
    let mode = match arguments.get("x-match") {
        Some(Value::LongStr(mode)) => mode.as_slice(),
        _ => b"all",
    };
    let with_x = mode.ends_with(b"-with-x");
    let mut conditions = arguments.iter().filter(|(name, _)| match with_x {
        true => name.as_bytes() != b"x-match",
        false => !name.as_bytes().starts_with(b"x-"),
    });
    let is_met = |name: &[u8], due: &Value| {
        let found = headers.iter().find(|(other, _)| other.as_bytes() == name);
        found.is_some_and(|(_, value)| *due == Value::Void || equal(due, value))
    };
    if mode.starts_with(b"any") {
        conditions.any(|(name, due)| is_met(name.as_bytes(), due))
    } else {
        conditions.all(|(name, due)| is_met(name.as_bytes(), due))
    }
}

fn equal(a: &Value, b: &Value) -> bool {
    let text = |value: &Value| match value {
        Value::LongStr(text) | Value::Bytes(text) => Some(text.clone()),
        _ => None,
    };
    let float = |value: &Value| match value {
        Value::F64(n) => Some(*n),
        Value::F32(n) => Some(f64::from(*n)),
        _ => None,
    };
    match (a, b) {
        (Value::Void, _) | (_, Value::Void) => false,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        _ => {
            (text(a).is_some() && text(a) == text(b))
                || (float(a).is_some() && float(a) == float(b))
                || (a.as_integer().is_some() && a.as_integer() == b.as_integer())
        }
    }
}

/// A table of bytes as they come, or an empty one.
fn raw_table(input: &mut Input<'_>) -> Table {
    RawTable::parse(input.short()).map_or_else(|_| Table::new(), |table| table.to_table())
}

fn encoded(table: &Table) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.encode_body(&mut bytes);
    bytes
}
