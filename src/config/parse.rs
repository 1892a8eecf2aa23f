//! The grammar of `rabbitmq.conf`, on nom: `key.sub = value`, one setting a line.
//!
//! Rules, as RabbitMQ's reader has them: `#` starts a comment, also after a value; a value with a
//! `#` in it stands in single quotes, where `\'` is a quote; three single quotes hold a value of
//! several lines; a `\.` in a key is a dot within a name; blank space around keys, `=` and values
//! is dropped. Values are returned as text; `value` makes sense of them.

use nom::branch::alt;
use nom::bytes::complete::{tag, take_till, take_until, take_while, take_while1};
use nom::character::complete::{char, none_of, satisfy};
use nom::combinator::{eof, map, not, success, value};
use nom::multi::{fold_many0, many1, separated_list1};
use nom::sequence::{delimited, preceded};
use nom::{IResult, Parser};

/// Longest accepted key, in bytes. RabbitMQ's longest is under 100.
const KEY_BYTES_MAX: usize = 1024;

/// One setting as it stands in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The names between the dots.
    pub(super) key: Vec<String>,
    /// The value's text, unquoted.
    pub(super) value: String,
    /// Its line, counted from 1.
    pub(super) line: u32,
}

/// A line that is neither a setting nor a comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Malformed {
    /// Its line, counted from 1.
    pub(super) line: u32,
    /// What is wrong with it.
    pub(super) reason: &'static str,
}

/// Reads a whole file. Goes on after a malformed line, so that all of them can be reported at once.
pub(super) fn file(text: &str) -> (Vec<Entry>, Vec<Malformed>) {
    let mut entries = Vec::new();
    let mut malformed = Vec::new();
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut line = 1;
    while !rest.is_empty() {
        let after = match statement(rest) {
            Ok((after, Some((key, value)))) => {
                entries.push(Entry { key, value, line });
                after
            }
            Ok((after, None)) => after,
            Err(_) => {
                malformed.push(Malformed { line, reason: diagnose(rest) });
                skip_line(rest)
            }
        };
        line += newlines(&rest[..rest.len() - after.len()]);
        rest = after;
    }
    (entries, malformed)
}

/// Reads `KEY=VALUE` as given on the command line. The value is taken whole: no comments there.
pub(super) fn assignment(text: &str) -> Result<(Vec<String>, String), &'static str> {
    let (rest, key) = preceded(blank, key).parse(text).map_err(|_| "expected KEY=VALUE")?;
    let (value, _) = equals(rest).map_err(|_| "expected KEY=VALUE")?;
    let unquoted = delimited(blank, alt((triple_quoted, quoted)), blank).parse(value);
    Ok(match unquoted {
        Ok(("", value)) => (key, value),
        _ => (key, value.trim().to_owned()),
    })
}

/// A key as written in a file, for messages.
pub(super) fn written(key: &[String]) -> String {
    key.iter().map(|name| name.replace('.', "\\.")).collect::<Vec<_>>().join(".")
}

type Setting = (Vec<String>, String);

/// One line (or a quoted value's several), its end included.
fn statement(input: &str) -> IResult<&str, Option<Setting>> {
    delimited(
        blank,
        alt((map(setting, Some), value(None, success(())))),
        (blank, comment, line_end),
    )
    .parse(input)
}

fn setting(input: &str) -> IResult<&str, Setting> {
    let (rest, key) = key(input)?;
    let (rest, ()) = equals(rest)?;
    let (rest, value) = alt((triple_quoted, quoted, bare)).parse(rest)?;
    Ok((rest, (key, value)))
}

fn key(input: &str) -> IResult<&str, Vec<String>> {
    let (rest, names) = separated_list1(char('.'), name).parse(input)?;
    if input.len() - rest.len() > KEY_BYTES_MAX {
        return Err(nom::Err::Error(nom::error::Error::new(
            input,
            nom::error::ErrorKind::TooLarge,
        )));
    }
    Ok((rest, names))
}

/// A name between dots. Wider than RabbitMQ's (letters, digits, `-`, `_`): names such as users' are
/// judged where they are used, not here.
fn name(input: &str) -> IResult<&str, String> {
    let plain = satisfy(|c| !c.is_whitespace() && !matches!(c, '.' | '=' | '#' | '\'' | '\\'));
    map(many1(alt((value('.', tag("\\.")), plain))), |chars| chars.into_iter().collect())
        .parse(input)
}

fn equals(input: &str) -> IResult<&str, ()> {
    value((), (blank, char('='), blank)).parse(input)
}

fn triple_quoted(input: &str) -> IResult<&str, String> {
    map(delimited(tag("'''"), take_until("'''"), tag("'''")), |text: &str| text.trim().to_owned())
        .parse(input)
}

fn quoted(input: &str) -> IResult<&str, String> {
    let character = alt((value('\'', tag("\\'")), none_of("'\r\n")));
    let text = fold_many0(character, String::new, |mut text, c| {
        text.push(c);
        text
    });
    delimited(char('\''), text, char('\'')).parse(input)
}

/// Unquoted text up to a comment or the line's end. A quote that does not end is not text.
fn bare(input: &str) -> IResult<&str, String> {
    let text = take_while1(|c| !matches!(c, '#' | '\r' | '\n'));
    let text = preceded(not(char('\'')), text);
    map(text, |text: &str| text.trim_end().to_owned()).parse(input)
}

fn comment(input: &str) -> IResult<&str, ()> {
    if input.starts_with('#') {
        return value((), take_till(|c| c == '\n')).parse(input);
    }
    Ok((input, ()))
}

fn blank(input: &str) -> IResult<&str, &str> {
    take_while(|c| matches!(c, ' ' | '\t')).parse(input)
}

fn line_end(input: &str) -> IResult<&str, ()> {
    alt((value((), tag("\r\n")), value((), char('\n')), value((), eof))).parse(input)
}

/// Names the likely mistake in a line that could not be read.
fn diagnose(input: &str) -> &'static str {
    let line = input.lines().next().unwrap_or_default().trim();
    if let Some(rest) = line.strip_prefix('[') {
        let erlang = rest.trim_start().starts_with('{');
        return if erlang {
            "this is Erlang terms; rabbitmq.conf holds 'key = value' lines"
        } else {
            "sections are not part of rabbitmq.conf; write 'key = value'"
        };
    }
    match line.split_once('=') {
        None => "expected 'key = value'",
        Some((_, value)) if value.trim().is_empty() => "the value is missing",
        Some((_, value)) if value.trim_start().starts_with('\'') => {
            "the quoted value does not end, or more follows it"
        }
        Some(_) => "the key is malformed",
    }
}

fn skip_line(input: &str) -> &str {
    input.split_once('\n').map_or("", |(_, after)| after)
}

fn newlines(text: &str) -> u32 {
    u32::try_from(text.matches('\n').count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Vec<(String, String, u32)> {
        let (entries, malformed) = file(text);
        assert_eq!(malformed, []);
        entries.into_iter().map(|e| (e.key.join("|"), e.value, e.line)).collect()
    }

    fn entry(key: &str, value: &str, line: u32) -> (String, String, u32) {
        (key.to_owned(), value.to_owned(), line)
    }

    #[test]
    fn settings_comments_and_blank_lines_are_told_apart() {
        let text = "# a comment\n\n  heartbeat=30 \nlisteners.tcp.1 = :::5672 # why\r\n";
        assert_eq!(
            read(text),
            [entry("heartbeat", "30", 3), entry("listeners|tcp|1", ":::5672", 4)]
        );
    }

    #[test]
    fn a_quoted_value_keeps_hashes_quotes_and_outer_space() {
        assert_eq!(
            read(r"default_pass = ' it\'s #1 ' # not part of it"),
            [entry("default_pass", " it's #1 ", 1)]
        );
    }

    #[test]
    fn three_quotes_span_lines_and_the_next_line_keeps_its_number() {
        assert_eq!(
            read("a = '''\n one\n two\n'''\nb = 2"),
            [entry("a", "one\n two", 1), entry("b", "2", 5)]
        );
    }

    #[test]
    fn an_escaped_dot_stays_within_its_name() {
        assert_eq!(read(r"loopback_users.a\.b = true"), [entry("loopback_users|a.b", "true", 1)]);
    }

    #[test]
    fn every_malformed_line_is_reported_and_the_rest_is_read() {
        let (entries, malformed) = file("[{rabbit, []}].\na = 1\nheartbeat\nb =\nc = 'open\nd = 2");
        assert_eq!(entries.iter().map(|e| e.line).collect::<Vec<_>>(), [2, 6]);
        assert_eq!(malformed.iter().map(|m| m.line).collect::<Vec<_>>(), [1, 3, 4, 5]);
        assert_eq!(malformed[3].reason, "the quoted value does not end, or more follows it");
    }

    #[test]
    fn an_assignment_takes_its_value_whole() {
        let read = |text| assignment(text).expect("well-formed");
        assert_eq!(read("a.b=c#d").1, "c#d");
        assert_eq!(read("a.b = 'c # d'").1, "c # d");
        assert_eq!(read("a=").1, "");
        assert!(assignment("heartbeat").is_err());
    }

    #[test]
    fn a_byte_order_mark_is_skipped() {
        assert_eq!(read("\u{feff}a = 1"), [entry("a", "1", 1)]);
    }
}
