//! Patterns in scopes: `*` stands for any text, `%2A` for a star, `+` for a space, `{claim}` for
//! what the token's claim says.
//!
//! Matching takes the first place where each piece is found and does not go back, as RabbitMQ's
//! does: `*.log` is not found in `a.log.log`. What a variable stands for is taken letter for
//! letter, whatever letters those are: whoever may choose a claim's text cannot choose a star.

use std::borrow::Cow;

use super::token::Claims;

/// A pattern for one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wildcard {
    /// What stands between the stars.
    pieces: Vec<Piece>,
}

/// Texts, and between each two of them the name of the vhost.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece(Vec<Vec<u8>>);

/// A piece of a pattern as it is written.
enum Part<'a> {
    Text(&'a str),
    Variable(&'a str),
}

impl Wildcard {
    /// Reads a pattern; `None` when it is malformed.
    pub(super) fn parse(pattern: &str, claims: &Claims) -> Option<Self> {
        let mut pieces = vec![Piece(vec![Vec::new()])];
        for part in parts(pattern)? {
            match part {
                Part::Text(text) => {
                    for (at, text) in text.split('*').enumerate() {
                        if at > 0 {
                            pieces.push(Piece(vec![Vec::new()]));
                        }
                        pieces.last_mut()?.push(&decoded(text)?);
                    }
                }
                Part::Variable("vhost") => pieces.last_mut()?.0.push(Vec::new()),
                Part::Variable(name) => {
                    let text = claims.text(name).unwrap_or(name);
                    pieces.last_mut()?.push(text.as_bytes());
                }
            }
        }
        Some(Self { pieces })
    }

    /// Whether the name fits, in this vhost.
    pub(super) fn matches(&self, name: &str, vhost: &str) -> bool {
        let Some((first, rest)) = self.pieces.split_first() else { return false };
        let Some(mut left) = name.as_bytes().strip_prefix(&*first.text(vhost)) else {
            return false;
        };
        for (at, piece) in rest.iter().enumerate() {
            let piece = piece.text(vhost);
            if piece.is_empty() && at + 1 == rest.len() {
                return true;
            }
            if left.is_empty() {
                return false;
            }
            match position(left, &piece) {
                Some(at) => left = &left[at + piece.len()..],
                None => return false,
            }
        }
        left.is_empty()
    }
}

impl Piece {
    fn push(&mut self, text: &[u8]) {
        if let Some(last) = self.0.last_mut() {
            last.extend_from_slice(text);
        }
    }

    fn text(&self, vhost: &str) -> Cow<'_, [u8]> {
        match self.0.as_slice() {
            [text] => Cow::Borrowed(text),
            texts => Cow::Owned(texts.join(vhost.as_bytes())),
        }
    }
}

/// The texts and the variables of a pattern. A brace that is never closed, or a name in braces that
/// RabbitMQ would not take for one, makes it malformed.
fn parts(mut pattern: &str) -> Option<Vec<Part<'_>>> {
    let mut parts = Vec::new();
    while let Some((text, rest)) = pattern.split_once('{') {
        let (name, rest) = rest.split_once('}')?;
        if name.contains(['{', '.', '*']) {
            return None;
        }
        parts.extend([Part::Text(text), Part::Variable(name)]);
        pattern = rest;
    }
    parts.push(Part::Text(pattern));
    Some(parts)
}

/// The bytes that a text of a query string stands for.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        bytes.push(match byte {
            b'%' => {
                let (digits, after) = rest.split_first_chunk::<2>()?;
                rest = after;
                let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
                u8::try_from(high? * 16 + low?).ok()?
            }
            b'+' => b' ',
            other => other,
        });
    }
    Some(bytes)
}

fn position(text: &[u8], piece: &[u8]) -> Option<usize> {
    match piece {
        [] => Some(0),
        piece => text.windows(piece.len()).position(|window| window == piece),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matches(name: &str, pattern: &str) -> bool {
        let claims = Claims::of(&json!({ "team": "blue", "wild": "*", "roles": ["a"] }));
        let pattern = Wildcard::parse(pattern, &claims);
        pattern.is_some_and(|pattern| pattern.matches(name, "the vhost"))
    }

    #[test]
    fn patterns_match_what_rabbitmqs_match() {
        for (name, pattern) in [
            ("", ""),
            ("", "*"),
            ("foo", "foo"),
            ("with / and %", "with%20%2F%20and%20%25"),
            ("plus  spaces", "plus++spaces"),
            ("a * star", "a+%2a+star"),
            ("a * star", "a * star"),
            ("wildcard * and anything else is matched", "wildcard * is matched"),
            ("foo", "*"),
            ("foo", "*oo"),
            ("foo", "*foo"),
            ("foo", "fo*"),
            ("foo", "foo*"),
            ("line * with * special", "*with+%2A+special"),
            ("string", "*str*ing*"),
            ("str*ing", "*str*ing*"),
            ("some long string", "some*string"),
            ("some long string", "*some*string*"),
            ("some long string", "*+*+*"),
            ("some long string", "s*e*str*"),
            ("юникод", "юн*од"),
        ] {
            assert!(matches(name, pattern), "{name} should match {pattern}");
        }
    }

    #[test]
    fn patterns_refuse_what_rabbitmqs_refuse() {
        for (name, pattern) in [
            ("foo", ""),
            ("", "foo"),
            ("", "**"),
            ("foo", "fo"),
            ("foo", "fooo"),
            ("case", "CASE"),
            ("bare % sign", "bare % sign"),
            ("bare %", "bare %"),
            ("bare %2", "bare %2"),
            ("bare %zz", "bare %zz"),
            ("a * star and more", "a+%2a+star"),
            ("foo", "*r"),
            ("foo", "*foobar"),
            ("foo", "b*"),
            ("foo", "barfoo*"),
            ("some string", "*+*+*"),
            ("some long string", "some*other*string"),
            ("some long string", "s*z*str*"),
            ("string", "*some*string*"),
            // The first place is taken, and no other one tried.
            ("foofoo", "*foo"),
            ("a.log.log", "*.log"),
            ("foo", "foo**"),
        ] {
            assert!(!matches(name, pattern), "{name} should not match {pattern}");
        }
    }

    #[test]
    fn variables_stand_for_claims_letter_for_letter() {
        assert!(matches("the vhost", "{vhost}"));
        assert!(matches("q-the vhost-1", "q-{vhost}-*"));
        assert!(matches("the vhostthe vhost", "{vhost}{vhost}"));
        assert!(matches("blue-jobs", "{team}-*"));
        assert!(!matches("red-jobs", "{team}-*"));
        assert!(matches("*", "{wild}"));
        assert!(!matches("anything", "{wild}"));
        // What no claim says, or not in words, stands for itself.
        assert!(matches("nobody", "{nobody}"));
        assert!(matches("roles", "{roles}"));
        for malformed in ["{vhost", "{a.b}", "{*}", "{a{b}"] {
            assert!(!matches(malformed, malformed), "{malformed}");
        }
    }
}
