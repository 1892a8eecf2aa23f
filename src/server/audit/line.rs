//! An event as a line of the audit log: one JSON object, readable without knowing Erlang.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use crate::broker::Now;
use crate::broker::events::{ACTOR, Event};
use crate::protocol::table::{self, Table};

const DAY_S: u64 = 86_400;

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
        line.add("time", &Json::from(timestamp(now.unix_ms)));
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

/// `2026-11-27T19:33:11.123Z` (RFC 3339).
fn timestamp(unix_ms: u64) -> String {
    let (seconds, ms) = (unix_ms / 1_000, unix_ms % 1_000);
    let (days, of_day) = (seconds / DAY_S, seconds % DAY_S);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Year, month and day of a day since 1970-01-01. Years are counted from March here, so that the
/// day of a leap year is its last, and from the beginning of a period of 400, which all have as
/// many days.
fn date(days: u64) -> (u64, u64, u64) {
    const TO_1970: u64 = 719_468;
    const PERIOD: u64 = 146_097;
    let days = days + TO_1970;
    let (period, day) = (days / PERIOD, days % PERIOD);
    let year = (day - day / 1_460 + day / 36_524 - day / (PERIOD - 1)) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let from_march = (5 * day + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = period * 400 + year + u64::from(month <= 2);
    (year, month, day - (153 * from_march + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_as_everyone_reads_them() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_001, "2000-02-29T00:00:00.001Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_795_807_991_123, "2026-11-27T19:33:11.123Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (4_102_444_799_000, "2099-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(timestamp(unix_ms), text);
        }
    }

    #[test]
    fn addresses_are_written_as_everyone_reads_them() {
        assert_eq!(address("{127,0,0,1}").as_deref(), Some("127.0.0.1"));
        assert_eq!(address("{0,0,0,0,0,0,0,1}").as_deref(), Some("::1"));
        assert_eq!(address("somewhere"), None);
    }
}
