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
use crate::broker::message::Message;
use crate::protocol::properties::Properties;
use crate::protocol::table::Table;

/// See the module's description.
#[derive(Debug)]
pub enum Besides {
    /// It only matches.
    Nothing,
    /// It remembers messages, for bindings that come later.
    Remembers(Mutex<History>),
}

impl Besides {
    /// What an exchange of this type and these arguments does.
    ///
    /// # Errors
    /// When the arguments make no sense for the type.
    pub fn new(kind: Kind, arguments: &Table) -> Result<Self, CreateError> {
        match kind {
            Kind::RecentHistory => Ok(Self::Remembers(Mutex::new(History::new(arguments)?))),
            _ => Ok(Self::Nothing),
        }
    }

    /// Whether messages have to be shown to it.
    #[must_use]
    pub fn needs_message(&self) -> bool {
        matches!(self, Self::Remembers(_))
    }

    /// A message has come, and is matched next.
    pub fn on_message(&self, message: &Message, properties: &Properties<'_>) {
        if let Self::Remembers(history) = self {
            let mut history = history.lock().unwrap_or_else(PoisonError::into_inner);
            history.add(message, properties);
        }
    }

    /// A binding was made. Returns the messages that its destination gets before any other, in
    /// their order.
    #[must_use]
    pub fn on_bind(&self) -> Vec<Message> {
        match self {
            Self::Nothing => Vec::new(),
            Self::Remembers(history) => {
                history.lock().unwrap_or_else(PoisonError::into_inner).messages()
            }
        }
    }
}
