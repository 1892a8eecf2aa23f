//! What a peer is told when something is refused.
//!
//! One constructor per trigger of `spec/errors.toml`, generated into `texts.rs`: texts are
//! RabbitMQ's byte for byte and no other code spells one.

mod octets;
mod texts;

use std::fmt;

pub use octets::{Octets, Snippet};
pub use texts::*;

use super::reply_code::ReplyCode;
use super::wire::cut_text;

/// The longest reply text, in bytes: it travels in a short string.
pub const TEXT_BYTES_MAX: usize = 255;

/// What a longer one ends with.
const ELLIPSIS: &str = "...";

/// Whose texts quote what was received.
const QUOTING: [&str; 4] =
    ["frame.bad-end", "frame.unexpected", "frame.unknown-type", "method.undecodable"];

/// How far a refusal reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// The channel is closed.
    Channel,
    /// The connection is closed, whatever channel it arose on.
    Connection,
}

/// A refused request: what goes into channel.close or connection.close.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Refusal {
    /// The trigger, as `spec/errors.toml` names it.
    pub id: &'static str,
    /// What it closes.
    pub scope: Scope,
    /// The reply code.
    pub code: ReplyCode,
    /// The reply text: "CODE_NAME - explanation", at most [`TEXT_BYTES_MAX`] bytes.
    pub text: String,
}

impl Refusal {
    fn new(
        id: &'static str,
        scope: Scope,
        code: ReplyCode,
        explanation: fmt::Arguments<'_>,
    ) -> Self {
        let mut text = format!("{} - {explanation}", code.name());
        if text.len() > TEXT_BYTES_MAX {
            text.truncate(cut_text(&text, TEXT_BYTES_MAX - ELLIPSIS.len()).len());
            text.push_str(ELLIPSIS);
        }
        Self { id, scope, code, text }
    }

    /// What a log may say of it. Texts that quote a frame are for whoever sent it: a login may
    /// stand in it.
    #[must_use]
    pub fn for_log(&self) -> String {
        if QUOTING.contains(&self.id) {
            return format!("{} - {}", self.code.name(), self.id);
        }
        self.text.clone()
    }

    /// RabbitMQ says nothing but the code's name when it meets a fault of its own.
    fn bare(id: &'static str, scope: Scope, code: ReplyCode) -> Self {
        Self { id, scope, code, text: code.name().to_owned() }
    }
}

/// States that a test shows the behaviour with this id of `spec/errors.toml` or
/// `spec/arguments.toml`. Does nothing when run: `tests/it/coverage.rs` reads the sources, and
/// fails for ids that no test names and for names that no file of `spec/` knows.
#[macro_export]
macro_rules! covers {
    ($($id:literal),+ $(,)?) => {
        $(const _: &str = $id;)+
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_the_codes_name_and_the_explanation() {
        let refusal = queue_not_found("jobs", "/");
        assert_eq!(refusal.id, "queue.not-found");
        assert_eq!(refusal.scope, Scope::Channel);
        assert_eq!(refusal.code, ReplyCode::NOT_FOUND);
        assert_eq!(refusal.text, "NOT_FOUND - no queue 'jobs' in vhost '/'");
    }

    #[test]
    fn doubled_braces_of_a_template_are_braces() {
        assert_eq!(
            frame_too_large(3, 4097, 4088).text,
            "FRAME_ERROR - type 3, all octets = <<>>: {frame_too_large,4097,4088}"
        );
        assert_eq!(
            basic_invalid_cc("CC", "longstr").text,
            "PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,\"CC\",longstr}"
        );
    }

    #[test]
    fn a_fault_of_the_brokers_own_says_no_more_than_its_name() {
        let refusal = connection_internal_error();
        assert_eq!(refusal.scope, Scope::Connection);
        assert_eq!(refusal.text, "INTERNAL_ERROR");
    }

    #[test]
    fn a_log_does_not_quote_what_was_received() {
        let refusal = frame_bad_end(1, Snippet(b"guest:guest"), 0);
        assert!(refusal.text.contains("guest:guest"));
        assert_eq!(refusal.for_log(), "FRAME_ERROR - frame.bad-end");
        assert_eq!(queue_not_found("q", "/").for_log(), queue_not_found("q", "/").text);
    }

    #[test]
    fn a_text_that_does_not_fit_a_short_string_ends_in_an_ellipsis() {
        let fits = TEXT_BYTES_MAX - queue_not_found("", "/").text.len();
        let longest = queue_not_found("q".repeat(fits), "/").text;
        assert_eq!(longest.len(), TEXT_BYTES_MAX);
        assert!(longest.ends_with("q' in vhost '/'"));

        let longer = queue_not_found("q".repeat(fits + 1), "/").text;
        assert_eq!(longer.len(), TEXT_BYTES_MAX);
        assert!(longer.ends_with("q' in vhost..."), "{longer}");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        let refusal = queue_not_found("ä".repeat(200), "/");
        assert!(refusal.text.starts_with("NOT_FOUND - no queue 'ää"));
        assert!(refusal.text.ends_with("ä..."), "{}", refusal.text);
        assert_eq!(refusal.text.len(), TEXT_BYTES_MAX, "an umlaut takes two bytes");
    }
}
