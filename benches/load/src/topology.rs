//! What a load declares before it runs, and deletes after it.

use crate::connection::Options;
use crate::connection::{ClientError, Connection, QueueOptions, Target};

/// An exchange of the load's own.
#[derive(Debug, Clone)]
pub(crate) struct Exchange {
    /// Its name.
    pub(crate) name: String,
    /// `fanout`, `topic` and so on.
    pub(crate) kind: &'static str,
    /// Survives a restart.
    pub(crate) durable: bool,
}

/// Queues, and an exchange with its bindings when the default one will not do.
#[derive(Debug, Clone)]
pub(crate) struct Topology {
    /// The exchange to publish to; `None` is the default one.
    pub(crate) exchange: Option<Exchange>,
    /// The queues' names.
    pub(crate) queues: Vec<String>,
    /// What they are declared with.
    pub(crate) options: QueueOptions,
    /// Queue numbers and binding keys.
    pub(crate) bindings: Vec<(usize, String)>,
    /// Whether they exist before the load.
    pub(crate) begin: Begin,
    /// Whether they stay after it.
    pub(crate) end: End,
}

/// What to do before the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// Delete what is there under these names and declare anew.
    Declare,
    /// Take the queues as an earlier load left them.
    Existing,
}

/// What to do after the load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Delete everything declared.
    Delete,
    /// Leave it, with its messages.
    Keep,
}

impl Topology {
    /// Declares, or looks at, everything. Returns how many messages are ready already.
    pub(crate) fn set_up(&self, target: &Target) -> Result<u64, ClientError> {
        let mut connection = Connection::open(target, Options::default())?;
        if self.begin == Begin::Existing {
            let mut ready = 0;
            for queue in &self.queues {
                ready += u64::from(connection.ready_in(queue)?);
            }
            connection.close()?;
            return Ok(ready);
        }
        for queue in &self.queues {
            connection.delete_queue(queue)?;
            connection.declare_queue(queue, &self.options)?;
        }
        if let Some(Exchange { name, kind, durable }) = &self.exchange {
            connection.delete_exchange(name)?;
            connection.declare_exchange(name, kind, *durable, &[])?;
            let bindings = self.bindings.iter();
            let bindings: Vec<(&str, &str)> =
                bindings.map(|(queue, key)| (&*self.queues[*queue], &**key)).collect();
            connection.bind_all(name, &bindings)?;
        }
        connection.close()?;
        Ok(0)
    }

    /// Deletes everything, unless it is to stay.
    pub(crate) fn tear_down(&self, target: &Target) -> Result<(), ClientError> {
        if self.end == End::Keep {
            return Ok(());
        }
        let mut connection = Connection::open(target, Options::default())?;
        for queue in &self.queues {
            connection.delete_queue(queue)?;
        }
        if let Some(exchange) = &self.exchange {
            connection.delete_exchange(&exchange.name)?;
        }
        connection.close()
    }
}
