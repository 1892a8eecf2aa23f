//! A queue as operators see it, and what is counted of it.

use super::Queue;
use super::entry::Entry;
use super::state::State;
use crate::broker::views::{ConsumerView, QueueTally, QueueView};
use crate::protocol::properties::Properties;
use crate::protocol::table::Table;
use crate::store::QueueKey;

impl Queue {
    /// What is counted of it.
    #[must_use]
    pub fn tally(&self) -> QueueTally {
        let state = self.lock();
        QueueTally {
            key: self.key(),
            counters: state.counters,
            messages_ready: state.ready.len() as u64,
            messages_unacked: state.unacked().messages,
        }
    }

    /// As operators see it.
    #[must_use]
    pub fn view(&self) -> QueueView {
        let state = self.lock();
        let spec = &self.spec;
        QueueView {
            vhost: spec.vhost.to_string(),
            name: spec.name.to_string(),
            kind: spec.args.kind.name(),
            durable: spec.durable,
            auto_delete: spec.auto_delete,
            owner: spec.owner.as_ref().map(|(_, name)| name.to_string()),
            arguments: spec.arguments.clone(),
            durability: spec.durable.then(|| self.durability(&state)),
            consumers: state.consumer_views(),
            ..state.view(self.key())
        }
    }
}

impl State {
    fn consumer_views(&self) -> Vec<ConsumerView> {
        self.consumers.iter().flat_map(|consumers| consumers.views()).collect()
    }

    /// The numbers of a [`QueueView`]; its caller fills in the rest.
    fn view(&self, key: QueueKey) -> QueueView {
        QueueView {
            key,
            vhost: String::new(),
            name: String::new(),
            kind: "",
            durable: false,
            auto_delete: false,
            owner: None,
            arguments: Table::default(),
            policy: self.policy.view(),
            delivery_limit: self.rules().delivery_limit,
            durability: None,
            messages_ready: self.ready.len() as u64,
            messages_unacked: self.unacked().messages,
            messages_persistent: self.ready.stored().messages + self.unacked().stored,
            messages_paged_out: self.ready.cold().messages,
            bytes_ready: self.ready.bytes(),
            bytes_unacked: self.unacked().bytes,
            bytes_persistent: self.ready.stored().bytes + self.unacked().stored_bytes,
            bytes_paged_out: self.ready.cold().bytes,
            head_timestamp_s: self.ready.heads().next().and_then(timestamp_s),
            consumers: Vec::new(),
            counters: self.counters,
        }
    }
}

/// When a message was sent, as its publisher says.
fn timestamp_s(entry: &Entry) -> Option<u64> {
    Properties::parse(entry.message.properties()).ok()?.timestamp
}
