//! An event as a line of the audit log: one JSON object, readable without knowing Erlang.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use crate::broker::Now;
use crate::broker::events::{ACTOR, Event};
use crate::broker::moment::rfc3339;
use crate::protocol::table::{self, Table};

/// The line, with its end.
pub(super) fn of_event(event: &Event, node: &str, now: Now) -> String {
    let mut details = of_table(&event.fields);
    let actor = match details.remove(ACTOR) {
        None if event.key.contains("authentication") => details.remove("name"),
        actor => actor,
    };
    details.iter_mut().for_each(|(name, value)| make_readable(name, value));
    let mut line = Line::new(event.key, node, now);
    if let Some(actor) = actor {
        line.add("user", &actor);
    }
    if let Some(connection) = &event.connection {
        line.add("connection", &Json::from(&**connection));
    }
    let before = event.before.as_ref().map(|before| Json::Object(of_table(before)));
    let details = Json::Object(details);
    match event.key.rsplit('.').next() {
        Some("deleted" | "cleared") if !is_of_the_node(event.key) => {
            line.add("before", &before.unwrap_or(details));
        }
        Some("created" | "set" | "changed") if !is_of_the_node(event.key) => {
            line.add("before", &before.unwrap_or(Json::Null));
            line.add("after", &details);
        }
        _ => line.add("details", &details),
    }
    line.end()
}

/// A line of the log about itself.
pub(super) fn of_log(key: &str, node: &str, now: Now, details: &Json) -> String {
    let mut line = Line::new(key, node, now);
    line.add("details", details);
    line.end()
}

/// Whether it tells what the node or a client is up to, and not what is defined.
fn is_of_the_node(key: &str) -> bool {
    ["alarm.", "connection."].iter().any(|prefix| key.starts_with(prefix))
}

/// A JSON object in the making, in the order in which people read.
struct Line(String);

impl Line {
    fn new(key: &str, node: &str, now: Now) -> Self {
        let mut line = Self("{".to_owned());
        line.add("time", &Json::from(rfc3339(now.unix_ms)));
        line.add("event", &Json::from(key));
        line.add("node", &Json::from(node));
        line
    }

    fn add(&mut self, name: &str, value: &Json) {
        let comma = if self.0.len() > 1 { "," } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{comma}{}:{value}", Json::from(name));
    }

    fn end(mut self) -> String {
        self.0.push_str("}\n");
        self.0
    }
}

fn of_table(table: &Table) -> Map<String, Json> {
    match table::json::table(table) {
        Json::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// What RabbitMQ's events hold as Erlang terms: addresses are tuples, a text is a list of
/// characters.
fn make_readable(name: &str, value: &mut Json) {
    match (name, &*value) {
        ("host" | "peer_host", Json::String(tuple)) => {
            if let Some(address) = address(tuple) {
                *value = json!(address);
            }
        }
        ("error", Json::Array(characters)) => {
            let character = |code: &Json| char::from_u32(u32::try_from(code.as_u64()?).ok()?);
            if let Some(text) = characters.iter().map(character).collect::<Option<String>>() {
                *value = json!(text);
            }
        }
        _ => {}
    }
}

/// `127.0.0.1` for `{127,0,0,1}`.
fn address(tuple: &str) -> Option<String> {
    let parts = tuple.strip_prefix('{')?.strip_suffix('}')?.split(',');
    let parts = parts.map(|part| part.parse().ok()).collect::<Option<Vec<u16>>>()?;
    match *parts.as_slice() {
        [a, b, c, d] => Some(format!("{a}.{b}.{c}.{d}")),
        [a, b, c, d, e, f, g, h] => {
            Some(std::net::Ipv6Addr::new(a, b, c, d, e, f, g, h).to_string())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_everyone_reads_them() {
        assert_eq!(address("{127,0,0,1}").as_deref(), Some("127.0.0.1"));
        assert_eq!(address("{0,0,0,0,0,0,0,1}").as_deref(), Some("::1"));
        assert_eq!(address("somewhere"), None);
    }
}
