//! What the store gives back after damage: every record is refused or understood.

use std::sync::Arc;

use leveret::broker::definitions::{DefinitionKey, Record};
use leveret::broker::inspect::Inspect as _;
use leveret::broker::message::Message;
use leveret::broker::{Broker, BrokerSettings, Now};
use leveret::store::memory::MemoryStore;
use leveret::store::{Batch, Op, QueueKey, QueueSeq, Store};

use super::input::Input;
use super::node::entropy;

/// A cursor's record is refused, or written again as it was.
pub fn cursor(bytes: &[u8]) {
    // Nearly nothing has a sum that fits: it is tried with one made here, too.
    let summed = [bytes, &crc32fast::hash(bytes).to_le_bytes()].concat();
    for record in [bytes, &summed] {
        if let Ok(again) = leveret::store::reencoded_cursor(record) {
            // A number can be written with more bytes than it needs.
            assert!(again.len() <= record.len());
            assert_eq!(leveret::store::reencoded_cursor(&again), Ok(again));
        }
    }
}

/// A message's record is refused, or its parts are the record.
pub fn message(bytes: &[u8]) {
    let Ok(message) = Message::from_record(bytes) else { return };
    let (head, body) = message.record_parts();
    assert_eq!([head, body].concat(), bytes);
    let parts = [message.exchange(), message.routing_key(), message.properties(), message.body()];
    let within = parts.iter().map(|part| part.len()).sum::<usize>();
    assert!(within <= bytes.len());
    assert_eq!(message.body_len(), message.body().len());
}

/// A node whose definitions are these starts or says why not, and what started can be looked at.
pub fn definitions(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let store = MemoryStore::new();
    let mut ops = Vec::new();
    while !input.is_empty() && ops.len() < 64 {
        let (what, key) = (input.byte(), input.short());
        let len = usize::from(input.u16()) % 2_048;
        let value = input.take(len);
        let decoded = DefinitionKey::decode(key);
        if let Ok(known) = &decoded {
            assert_eq!(DefinitionKey::decode(&known.encode()).as_ref(), Ok(known));
        }
        if let Ok(record) = Record::decode(value) {
            let Op::PutMeta { value, .. } = DefinitionKey::NextQueueId.put(record) else {
                continue;
            };
            assert!(Record::decode(&value).is_ok());
        }
        match (what % 8, decoded) {
            // Mostly what could have been written.
            (0, _) => ops.push(Op::PutMeta { key: key.to_vec(), value: value.to_vec() }),
            (1, _) => {
                let queue = QueueKey { shard: 0, queue: u64::from(what / 8) };
                if let Ok(message) = Message::from_record(value) {
                    let seq = QueueSeq::new(0, 1 + ops.len() as u64);
                    ops.push(Op::Enqueue { queue, seq, message });
                }
            }
            (_, Ok(_)) => ops.push(Op::PutMeta { key: key.to_vec(), value: value.to_vec() }),
            _ => {}
        }
    }
    store.submit(Batch { ops, awaited: true });
    let store = Arc::new(store.restarted()) as Arc<dyn Store>;
    let now = Now { mono_ms: 1_000, unix_ms: 1_795_000_000_000 };
    let Ok(broker) = Broker::open(BrokerSettings::default(), store, entropy(), now) else { return };
    for _ in 0..1_000 {
        if !broker.read_back(now) {
            break;
        }
    }
    broker.handle_deadlines(now);
    let seen = (broker.queues(None), broker.exchanges(None), broker.bindings(None));
    let users = (broker.users(), broker.permissions(), broker.topic_permissions());
    drop((seen, users));
}
