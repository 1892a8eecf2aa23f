//! The memory of an `x-recent-history` exchange: the latest messages that came to it, whether or
//! not they found a queue.
//!
//! It is lost with the node, as in RabbitMQ. Beside the number that its owner chose it has a limit
//! of ours in bytes, for a client can choose both the number and the size of messages.
//!
//! Invariants: what is kept is the end of what came, without gaps but for messages that asked not
//! to be; neither limit is exceeded. Large bodies are shared with the queues, not copied.

use std::collections::VecDeque;

use super::CreateError;
use super::arguments::erlang_term;
use crate::broker::message::Message;
use crate::protocol::properties::Properties;
use crate::protocol::table::{Table, Value, ValueRef};

/// Messages kept where the exchange does not say how many.
pub const MESSAGES_DEFAULT: usize = 20;

/// Bytes that one exchange keeps at most. A message that is larger by itself is forgotten at once,
/// with those before it.
pub const BYTES_MAX: usize = 64 * 1024 * 1024;

const LENGTH: &str = "x-recent-history-length";
const NO_STORE: &str = "x-recent-history-no-store";

/// See the module's description.
#[derive(Debug)]
pub struct History {
    messages_max: usize,
    messages: VecDeque<Message>,
    bytes: usize,
}

impl History {
    /// Nothing yet.
    ///
    /// # Errors
    /// [`CreateError::InvalidHistoryLength`].
    pub fn new(arguments: &Table) -> Result<Self, CreateError> {
        let messages_max = match arguments.get(LENGTH) {
            None => MESSAGES_DEFAULT,
            // RabbitMQ knows these four types of integers here.
            Some(value @ (Value::I8(_) | Value::I16(_) | Value::I32(_) | Value::I64(_)))
                if value.as_integer().is_some_and(|length| length > 0) =>
            {
                let length = value.as_integer().and_then(|length| usize::try_from(length).ok());
                length.unwrap_or(usize::MAX)
            }
            Some(other) => {
                return Err(CreateError::InvalidHistoryLength { value: erlang_term(other) });
            }
        };
        Ok(Self { messages_max, messages: VecDeque::new(), bytes: 0 })
    }

    /// Keeps a message, unless its headers ask not to, and forgets the oldest beyond the limits.
    pub fn add(&mut self, message: &Message, properties: &Properties<'_>) {
        let no_store = properties.headers.and_then(|headers| headers.get(NO_STORE));
        if no_store == Some(ValueRef::Bool(true)) {
            return;
        }
        self.bytes += message.memory_bytes();
        self.messages.push_back(message.clone());
        while self.messages.len() > self.messages_max || self.bytes > BYTES_MAX {
            let Some(oldest) = self.messages.pop_front() else { return };
            self.bytes -= oldest.memory_bytes();
        }
    }

    /// What is kept, oldest first.
    #[must_use]
    pub fn messages(&self) -> Vec<Message> {
        self.messages.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::message::Envelope;

    fn message(bytes: usize) -> Message {
        let envelope = Envelope {
            exchange: b"x",
            routing_key: b"",
            properties: &[0, 0],
            persistent: false,
            hides_bcc: false,
            published_ms: 0,
        };
        Message::new(&envelope, &vec![b'm'; bytes])
    }

    fn kept(history: &History) -> Vec<usize> {
        history.messages().iter().map(Message::body_len).collect()
    }

    #[test]
    fn the_latest_messages_are_kept_within_both_limits() {
        let arguments = Table::new().with(LENGTH, 3i32);
        let mut history = History::new(&arguments).unwrap();
        let mut add = |bytes| {
            history.add(&message(bytes), &Properties::default());
            kept(&history)
        };
        for bytes in 1..=4 {
            add(bytes);
        }
        assert_eq!(add(5), [3, 4, 5]);
        let half = BYTES_MAX / 2;
        assert_eq!(add(half), [4, 5, half]);
        assert_eq!(add(half), [half], "two halves and their heads are too much");
        assert_eq!(add(BYTES_MAX), [] as [usize; 0]);
        assert_eq!(add(1), [1]);
    }
}
