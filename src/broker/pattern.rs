//! Regular expressions that operators write: in permissions and in policies.
//!
//! They are searched for, not anchored, and take what Erlang's do as far as `fancy-regex` has it.
//! Whoever writes one can cost little: its text, its compiled form and the steps of a search are
//! bounded, and a search that takes too many steps has found nothing.

use fancy_regex::{Regex, RegexBuilder};

/// The longest pattern, in bytes.
const TEXT_BYTES_MAX: usize = 1_024;
/// Steps that a search may take before the name counts as not matching.
const BACKTRACK_MAX: usize = 100_000;
/// Bytes that a compiled pattern may take.
const COMPILED_BYTES_MAX: usize = 1 << 20;

/// A pattern of names.
#[derive(Debug, Clone)]
pub(super) struct Pattern(Regex);

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// What is wrong with it: it is no regular expression, or too large.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("it is longer than {TEXT_BYTES_MAX} bytes"));
        }
        let regex = RegexBuilder::new(text)
            .backtrack_limit(BACKTRACK_MAX)
            .delegate_size_limit(COMPILED_BYTES_MAX)
            .build();
        regex.map(Self).map_err(|error| error.to_string())
    }

    /// Whether it is found in a name.
    pub(super) fn is_in(&self, name: &str) -> bool {
        self.0.is_match(name).unwrap_or(false)
    }

    /// Its text.
    pub(super) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

/// A text in which nothing stands for anything but itself.
pub(super) fn literally(text: &str) -> String {
    fancy_regex::escape(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_searched_for_and_costs_little() {
        assert!(Pattern::new("rders").unwrap().is_in("orders.eu"));
        assert!(!Pattern::new("^rders").unwrap().is_in("orders.eu"));
        assert!(Pattern::new("^(?!amq[.])").unwrap().is_in("orders"));
        assert!(!Pattern::new("^(?!amq[.])").unwrap().is_in("amq.topic"));
        assert!(Pattern::new("(").is_err());
        assert!(Pattern::new(&"a".repeat(TEXT_BYTES_MAX + 1)).is_err());
        assert!(Pattern::new("(((a{1000}){1000}){1000})").is_err(), "too large when compiled");
        let slow = Pattern::new(r"^(a+)+\1b$").unwrap();
        assert!(!slow.is_in(&"a".repeat(200)), "given up");
    }
}
