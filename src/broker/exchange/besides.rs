//! What an exchange does with messages besides matching them: most do nothing.
//!
//! An exchange that does something is shown each message it is about to match, and each binding
//! that is made. Routing usually comes before a message is built; it starts again with the message
//! where an exchange on the way needs it (`Routed::NeedsMessage`).
//!
//! Invariant: both calls are made with the exchange's matcher locked (shared for a message,
//! exclusively for a binding). So a message is either there when a binding is made or matched with
//! that binding, never both and never neither.

use std::sync::{Mutex, PoisonError};

use super::history::History;
use super::{CreateError, Kind};
use crate::broker::dedup::{CACHE_SIZE, CACHE_TTL, Cache, DEDUPLICATION, cache_number};
use crate::broker::message::Message;
use crate::broker::queue::delays::delay_ms;
use crate::protocol::properties::Properties;
use crate::protocol::table::{Table, Value};

/// What becomes of a message that an exchange was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is matched.
    Match,
    /// It is kept for a while, and matched then.
    Delay,
    /// It has come before: it goes nowhere.
    Duplicate,
}

/// See the module's description.
#[derive(Debug, Default)]
pub struct Besides {
    /// Values of messages that have come.
    seen: Option<Mutex<Cache>>,
    /// Messages are kept for as long as they ask.
    delays: bool,
    /// Messages for bindings that come later.
    history: Option<Mutex<History>>,
}

impl Besides {
    /// What an exchange of this type and these arguments does.
    ///
    /// # Errors
    /// When the arguments make no sense for the type.
    pub fn new(kind: Kind, arguments: &Table) -> Result<Self, CreateError> {
        let matching = kind.matching(arguments)?;
        let history = matching == Kind::RecentHistory;
        let deduplicates = match (kind, arguments.get(DEDUPLICATION)) {
            (Kind::Deduplication, _) if cache_number(arguments, CACHE_SIZE).is_none() => {
                return Err(CreateError::InvalidCacheSize);
            }
            (Kind::Deduplication, _) | (_, Some(Value::Bool(true))) => true,
            _ => false,
        };
        for (argument, error) in
            [(CACHE_SIZE, CreateError::InvalidCacheSize), (CACHE_TTL, CreateError::InvalidCacheTtl)]
        {
            let given = deduplicates && arguments.get(argument).is_some();
            if given && cache_number(arguments, argument).is_none() {
                return Err(error);
            }
        }
        Ok(Self {
            seen: deduplicates.then(|| Mutex::new(Cache::of_exchange(arguments))),
            delays: kind == Kind::Delayed,
            history: history.then(|| History::new(arguments).map(Mutex::new)).transpose()?,
        })
    }

    /// Whether messages have to be shown to it.
    #[must_use]
    pub fn needs_message(&self) -> bool {
        self.seen.is_some() || self.delays || self.history.is_some()
    }

    /// A message has come.
    #[must_use]
    pub fn on_message(&self, message: &Message, properties: &Properties<'_>) -> Verdict {
        if let Some(seen) = &self.seen {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if !seen.note(message, message.published_ms()) {
                return Verdict::Duplicate;
            }
        }
        if self.delays && delay_ms(properties.headers).is_some() {
            return Verdict::Delay;
        }
        self.on_due(message, properties);
        Verdict::Match
    }

    /// A message is matched: it has just come, or was kept until now.
    pub fn on_due(&self, message: &Message, properties: &Properties<'_>) {
        if let Some(history) = &self.history {
            let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
            history.add(message, properties);
        }
    }

    /// A message that has come was taken by nobody: it may come again.
    pub fn withdraw(&self, message: &Message) {
        if let Some(seen) = &self.seen {
            seen.lock().unwrap_or_else(PoisonError::into_inner).forget(message);
        }
    }

    /// A binding was made. Returns the messages that its destination gets before any other, in
    /// their order.
    #[must_use]
    pub fn on_bind(&self) -> Vec<Message> {
        self.history.as_ref().map_or_else(Vec::new, |history| {
            history.lock().unwrap_or_else(PoisonError::into_inner).messages()
        })
    }
}
