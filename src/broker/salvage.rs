//! Making whole again what definitions could be saved from a damaged directory.
//!
//! A start refuses a definition that refers to one that is missing, and messages of a queue that is
//! not defined. So whatever refers to a lost vhost gets that vhost again, messages of a lost queue
//! get a queue to be found in, and what cannot be made again (a binding without its end) is left
//! out. All of that is told; nothing else is changed.

use std::collections::{BTreeMap, BTreeSet};

use super::access::VhostLimits;
use super::definitions::{
    BindingKey, DefinitionKey, DestinationName, Record, put_vhost, queue_record,
};
use crate::protocol::table::{Table, Value};
use crate::store::Op;

/// Definitions that a start accepts.
#[derive(Debug, Default)]
pub struct Repaired {
    /// They, as the store keeps them.
    pub ops: Vec<Op>,
    /// Those that are as they were.
    pub kept: Vec<DefinitionKey>,
    /// What was left out, and why.
    pub dropped: Vec<String>,
    /// What was made in the place of what is lost, and why.
    pub made: Vec<String>,
    queues: BTreeMap<u64, String>,
}

impl Repaired {
    /// What the queue of an id is called by people.
    #[must_use]
    pub fn queue_name(&self, id: u64) -> String {
        self.queues.get(&id).cloned().unwrap_or_else(|| format!("the queue with the id {id}"))
    }

    /// Whether any user is left who might log in.
    #[must_use]
    pub fn has_users(&self) -> bool {
        self.kept.iter().any(|key| matches!(key, DefinitionKey::User { .. }))
    }
}

/// Sorts out saved definitions, as keys and records. `queues` are the ids of queues of which
/// messages were saved, with their highest priority; those without a definition come into `vhost`.
#[must_use]
pub fn repair(metas: Vec<(Vec<u8>, Vec<u8>)>, queues: &BTreeMap<u64, u8>, vhost: &str) -> Repaired {
    let mut repair = Repair::default();
    for (key, value) in metas {
        repair.look_at(&key, value);
    }
    let definitions = std::mem::take(&mut repair.definitions);
    for (key, value) in definitions {
        repair.take(key, value);
    }
    for (id, level_max) in queues {
        if !repair.ids.contains(id) {
            repair.make_queue(*id, *level_max, vhost);
        }
    }
    repair.repaired
}

#[derive(Default)]
struct Repair {
    definitions: Vec<(DefinitionKey, Vec<u8>)>,
    vhosts: BTreeSet<String>,
    exchanges: BTreeSet<(String, String)>,
    queues: BTreeSet<(String, String)>,
    ids: BTreeSet<u64>,
    repaired: Repaired,
}

impl Repair {
    /// First all of them are looked at, to know what there is.
    fn look_at(&mut self, key: &[u8], value: Vec<u8>) {
        let definition = DefinitionKey::decode(key).and_then(|key| {
            let record = Record::decode(&value)?;
            Ok((key, record))
        });
        let (key, record) = match definition {
            Ok(definition) => definition,
            Err(error) => {
                self.repaired.dropped.push(error.to_string());
                return;
            }
        };
        match &key {
            DefinitionKey::Vhost { name } => {
                self.vhosts.insert(name.clone());
            }
            DefinitionKey::Exchange { vhost, name } => {
                self.exchanges.insert((vhost.clone(), name.clone()));
                if let Ok(id) = record.number("delayed") {
                    self.name_queue(id, format!("what is delayed by {key}"));
                }
            }
            DefinitionKey::Queue { vhost, name } => match record.number("id") {
                Ok(id) => {
                    self.queues.insert((vhost.clone(), name.clone()));
                    self.name_queue(id, key.to_string());
                }
                Err(error) => {
                    self.repaired.dropped.push(format!("{key}: {error}"));
                    return;
                }
            },
            _ => {}
        }
        self.definitions.push((key, value));
    }

    fn name_queue(&mut self, id: u64, name: String) {
        self.ids.insert(id);
        self.repaired.queues.insert(id, name);
    }

    fn take(&mut self, key: DefinitionKey, value: Vec<u8>) {
        if let DefinitionKey::Binding(binding) = &key
            && let Some(missing) = self.missing_end(binding)
        {
            self.repaired.dropped.push(format!("{key}: {missing} is lost"));
            return;
        }
        let vhost = match &key {
            DefinitionKey::NextQueueId
            | DefinitionKey::User { .. }
            | DefinitionKey::Vhost { .. } => None,
            DefinitionKey::Publisher { queue, .. } => {
                if !self.ids.contains(queue) {
                    self.repaired.dropped.push(format!("{key}: the queue is lost"));
                    return;
                }
                None
            }
            DefinitionKey::Binding(BindingKey { vhost, .. })
            | DefinitionKey::Policy { vhost, .. }
            | DefinitionKey::Permission { vhost, .. }
            | DefinitionKey::TopicPermission { vhost, .. }
            | DefinitionKey::Exchange { vhost, .. }
            | DefinitionKey::Queue { vhost, .. }
            | DefinitionKey::Trigger { vhost, .. } => Some(vhost.clone()),
        };
        if let Some(vhost) = vhost {
            let why = format!("for {key}");
            self.need_vhost(&vhost, &why);
        }
        self.repaired.ops.push(Op::PutMeta { key: key.encode(), value });
        self.repaired.kept.push(key);
    }

    fn missing_end(&self, binding: &BindingKey) -> Option<String> {
        let BindingKey { vhost, source, destination, .. } = binding;
        let has_exchange = |name: &String| {
            // Every vhost has these.
            name.is_empty()
                || name.starts_with("amq.")
                || self.exchanges.contains(&(vhost.clone(), name.clone()))
        };
        if !has_exchange(source) {
            return Some(format!("exchange '{source}'"));
        }
        match destination {
            DestinationName::Exchange(name) if !has_exchange(name) => {
                Some(format!("exchange '{name}'"))
            }
            DestinationName::Queue(name)
                if !self.queues.contains(&(vhost.clone(), name.clone())) =>
            {
                Some(format!("queue '{name}'"))
            }
            _ => None,
        }
    }

    fn need_vhost(&mut self, name: &str, why: &str) {
        if self.vhosts.insert(name.to_owned()) {
            self.repaired.ops.push(put_vhost(name, VhostLimits::default()));
            self.repaired.made.push(format!("vhost '{name}' {why}"));
        }
    }

    fn make_queue(&mut self, id: u64, level_max: u8, vhost: &str) {
        self.need_vhost(vhost, "for messages whose queue is lost");
        let mut name = format!("salvaged.{id}");
        while !self.queues.insert((vhost.to_owned(), name.clone())) {
            name.push('_');
        }
        let mut arguments = Table::new();
        if level_max > 0 {
            arguments.insert("x-max-priority", Value::I32(level_max.into()));
        }
        let key = DefinitionKey::Queue { vhost: vhost.to_owned(), name };
        self.repaired.ops.push(key.put(queue_record(id, false, &arguments)));
        let lost = format!("for the messages of a queue (id {id}) whose definition is lost");
        self.repaired.made.push(format!("{key} {lost}"));
        self.name_queue(id, key.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(op: &Op) -> (Vec<u8>, Vec<u8>) {
        match op {
            Op::PutMeta { key, value } => (key.clone(), value.clone()),
            other => panic!("{other:?}"),
        }
    }

    fn queue(name: &str, id: u64) -> Op {
        let key = DefinitionKey::Queue { vhost: "v".into(), name: name.into() };
        key.put(queue_record(id, false, &Table::new()))
    }

    fn binding(destination: &str) -> Op {
        let key = DefinitionKey::Binding(BindingKey {
            vhost: "v".into(),
            source: "amq.direct".into(),
            destination: DestinationName::Queue(destination.into()),
            routing_key: b"k".to_vec(),
            arguments: Vec::new(),
        });
        key.put(Record::default())
    }

    #[test]
    fn what_is_whole_stays_as_it_is() {
        let ops = [put_vhost("v", VhostLimits::default()), queue("q", 7), binding("q")];
        let metas: Vec<_> = ops.iter().map(meta).collect();
        let repaired = repair(metas.clone(), &BTreeMap::from([(7, 0)]), "/");
        assert_eq!(repaired.ops.iter().map(meta).collect::<Vec<_>>(), metas);
        assert_eq!((repaired.dropped.len(), repaired.made.len()), (0, 0));
        assert_eq!(repaired.queue_name(7), "queue 'q' in vhost 'v'");
        assert!(!repaired.has_users());
    }

    #[test]
    fn what_others_refer_to_is_made_again_or_they_are_left_out() {
        let publisher = DefinitionKey::Publisher { queue: 3, name: b"p".to_vec() };
        let ops = [queue("q", 7), binding("gone"), publisher.put(Record::default())];
        let mut metas: Vec<_> = ops.iter().map(meta).collect();
        metas.push((vec![b'f', 0], vec![1]));
        let repaired = repair(metas, &BTreeMap::from([(7, 0), (9, 4)]), "/");
        assert_eq!(repaired.kept.len(), 1);
        assert_eq!(repaired.made.len(), 3, "{:?}", repaired.made);
        assert!(repaired.made[0].starts_with("vhost 'v' for queue 'q'"), "{:?}", repaired.made);
        assert!(repaired.made[2].starts_with("queue 'salvaged.9' in vhost '/'"));
        assert_eq!(repaired.dropped.len(), 3, "{:?}", repaired.dropped);
        assert!(repaired.dropped.iter().any(|it| it.contains("queue 'gone' is lost")));
        assert_eq!(repaired.queue_name(9), "queue 'salvaged.9' in vhost '/'");
    }
}
