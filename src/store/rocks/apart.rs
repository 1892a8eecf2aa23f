//! Records that lie apart from their queues: that of a message in several queues, which is written
//! once, and large ones, which no merge of a queue's records has to copy.
//!
//! In a message's place stands a *link* then. Beside the record stand its *places*; once all of
//! them are settled it is dead. Nothing is counted for it: that would take memory for each message
//! of a backlog. Instead what was written *lately* is kept in mind, little as it is, and deleted by
//! the range when it is dead before long, as most is. What outlives that is *old*. A sweep reads
//! the places of the old ones, and not the records themselves, whenever a good part of them has
//! been settled or as much been written as the last one left; so a sweep's cost is a part of what
//! brought it about.
//!
//! Invariants: a link and what it names are written and found together; what lies apart is deleted
//! only behind the cursors' move that settled its last place, by the thread that writes.

use std::collections::VecDeque;

use rocksdb::{DBRawIterator, Snapshot, WriteBatch};
use rustc_hash::FxHashMap;

use super::apply::{LevelState, Reclaim};
use super::read::bounds;
use super::schema::{self, ALL_APART, ALL_PLACES, ApartId};
use super::tuning::store_error;
use crate::broker::message::Message;
use crate::store::varint::{put_varint, take_varint};
use crate::store::{LevelKey, QueueKey, StoreError};

/// A record in several queues lies apart from so many bytes on that need not be written again.
const SAVED_BYTES_MIN: usize = 512;
/// Bytes of records that count as written lately.
const LATELY_BYTES_MAX: u64 = 4 << 20;
/// The same in records.
const LATELY_RECORDS_MAX: usize = 4_096;
/// Bytes settled that are worth a sweep, and the part of what is old.
const SWEPT_BYTES_MIN: u64 = 64 << 20;
const SWEPT_PART: u64 = 8;
/// The same while there is nothing else to do.
const SWEPT_IDLE_BYTES_MIN: u64 = 1 << 20;
/// Places looked at while the queues are locked once.
const PLACES_AT_ONCE: usize = 512;

/// Where a message is in a queue.
pub(super) type Place = (LevelKey, u64);

/// What is kept in mind of records that lie apart.
#[derive(Debug)]
pub(super) struct Apart {
    /// A record of so many bytes lies apart even if one queue holds it.
    large_bytes_min: usize,
    /// In the order in which they were written.
    lately: VecDeque<Record>,
    lately_bytes: u64,
    /// Bytes of older ones, dead or alive.
    old_bytes: u64,
    /// The same after the last sweep.
    left_bytes: u64,
    /// Bytes of bodies settled since, apart or not, one for each queue.
    settled_bytes: u64,
    /// Places put since the start, and records.
    places_put: u64,
    records_put: u64,
    sweeping: bool,
    /// What a sweep has found dead, to be deleted.
    dead: Vec<Run>,
}

/// A record that lies apart, and where it is linked to.
#[derive(Debug)]
struct Record {
    id: ApartId,
    bytes: u64,
    places: Box<[Place]>,
}

/// Dead records in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    first: ApartId,
    last: ApartId,
    records: usize,
    bytes: u64,
}

type States = FxHashMap<LevelKey, LevelState>;

impl Record {
    fn is_dead(&self, states: &States) -> bool {
        self.places.iter().all(|(level, number)| {
            states.get(level).is_none_or(|state| state.cursor.is_settled(*number))
        })
    }

    /// Its places as they stand on disk: the record's bytes, the count, and for each the shard, the
    /// queue, the level and the number.
    fn encode_places(&self, out: &mut Vec<u8>) {
        out.clear();
        put_varint(out, self.bytes);
        put_varint(out, self.places.len() as u64);
        for (LevelKey { queue, level }, number) in &self.places {
            [queue.shard.into(), queue.queue, (*level).into(), *number]
                .into_iter()
                .for_each(|part| put_varint(out, part));
        }
    }

    fn decode(key: &[u8], mut value: &[u8]) -> Option<Self> {
        let id = schema::apart_of_key(key)?;
        let bytes = take_varint(&mut value)?;
        let count = take_varint(&mut value)?;
        let mut places = Vec::new();
        for _ in 0..count {
            let shard = u16::try_from(take_varint(&mut value)?).ok()?;
            let queue = QueueKey { shard, queue: take_varint(&mut value)? };
            let level = u8::try_from(take_varint(&mut value)?).ok()?;
            places.push((LevelKey { queue, level }, take_varint(&mut value)?));
        }
        value.is_empty().then(|| Self { id, bytes, places: places.into() })
    }
}

impl Run {
    fn of(record: &Record) -> Self {
        Self { first: record.id, last: record.id, records: 1, bytes: record.bytes }
    }

    fn delete(self, batch: &mut WriteBatch) {
        for key in [schema::places_key, schema::apart_key] {
            if self.records == 1 {
                batch.delete(key(self.first));
            } else {
                batch.delete_range(key(self.first), key(self.last.after()));
            }
        }
    }

    /// The keys of its records, first and last.
    pub(super) fn keys(self) -> [impl AsRef<[u8]> + use<>; 2] {
        [self.first, self.last].map(schema::apart_key)
    }
}

/// Gathers dead records in a row.
#[derive(Debug, Default)]
struct Runs {
    open: Option<Run>,
    done: Vec<Run>,
}

impl Runs {
    fn dead(&mut self, record: &Record) {
        match &mut self.open {
            Some(run) => {
                run.last = record.id;
                run.records += 1;
                run.bytes += record.bytes;
            }
            None => self.open = Some(Run::of(record)),
        }
    }

    fn alive(&mut self) {
        self.done.extend(self.open.take());
    }

    fn finish(mut self) -> Vec<Run> {
        self.alive();
        self.done
    }
}

impl Apart {
    /// At start: so many bytes lie on disk.
    pub(super) fn new(large_bytes_min: usize, found_bytes: u64) -> Self {
        Self {
            large_bytes_min,
            lately: VecDeque::new(),
            lately_bytes: 0,
            old_bytes: found_bytes,
            left_bytes: found_bytes,
            settled_bytes: 0,
            places_put: 0,
            records_put: 0,
            sweeping: false,
            dead: Vec::new(),
        }
    }

    /// Whether a record that so many places refer to lies apart from them.
    pub(super) fn lies_apart(&self, record_bytes: usize, places: usize) -> bool {
        match places {
            0 => false,
            _ if record_bytes >= self.large_bytes_min => true,
            _ => record_bytes.saturating_mul(places - 1) >= SAVED_BYTES_MIN,
        }
    }

    /// Whether a record could lie apart, in however many places it is.
    pub(super) fn may_lie_apart(&self, record_bytes: usize, in_several: bool) -> bool {
        // A few bytes each in hundreds of queues are not worth a search.
        const SMALLEST: usize = SAVED_BYTES_MIN / 8;
        record_bytes >= if in_several { SMALLEST } else { self.large_bytes_min }
    }

    /// Bytes of all that is on disk, dead or alive.
    pub(super) fn bytes(&self) -> u64 {
        self.lately_bytes + self.old_bytes
    }

    /// Puts a record that is linked to from these places.
    pub(super) fn put(
        &mut self,
        id: ApartId,
        message: &Message,
        places: Vec<Place>,
        scratch: &mut Vec<u8>,
        batch: &mut WriteBatch,
    ) {
        let bytes = message.memory_bytes() as u64;
        let record = Record { id, bytes, places: places.into() };
        record.encode_places(scratch);
        batch.put(schema::places_key(id), &*scratch);
        put_record(batch, schema::apart_key(id), message, scratch);
        self.places_put += record.places.len() as u64;
        self.records_put += 1;
        self.lately_bytes += bytes;
        self.lately.push_back(record);
    }

    /// Bodies of so many bytes are settled.
    pub(super) fn settled(&mut self, bytes: u64) {
        if self.old_bytes > 0 {
            self.settled_bytes += bytes;
        }
    }

    /// The end of a group, whose cursors have moved: deletes what is known to be dead, and says
    /// what else is to be done. Answers with the bytes deleted.
    pub(super) fn finish_group(
        &mut self,
        states: &States,
        batch: &mut WriteBatch,
        reclaims: &mut Vec<Reclaim>,
    ) -> u64 {
        let mut deleted = self.delete_found(batch, reclaims);
        if self.lately_bytes > LATELY_BYTES_MAX || self.lately.len() > LATELY_RECORDS_MAX {
            deleted += self.forget_lately(states, batch, LATELY_BYTES_MAX / 2);
        }
        let has_grown = self.old_bytes >= SWEPT_BYTES_MIN.max(2 * self.left_bytes);
        let settled = self.dead_bytes() >= SWEPT_BYTES_MIN.max(self.old_bytes / SWEPT_PART);
        self.ask_for_sweep(has_grown || settled, reclaims);
        deleted
    }

    /// The same while there is nothing else to do.
    pub(super) fn finish_idle(
        &mut self,
        states: &States,
        batch: &mut WriteBatch,
        reclaims: &mut Vec<Reclaim>,
    ) -> u64 {
        let mut deleted = self.delete_found(batch, reclaims);
        if self.lately.front().is_some_and(|record| record.is_dead(states)) {
            deleted += self.forget_lately(states, batch, 0);
        }
        let settled = self.dead_bytes() >= SWEPT_IDLE_BYTES_MIN.max(self.old_bytes / SWEPT_PART);
        let is_over = || states.values().all(|state| state.cursor.is_empty());
        let enough = self.settled_bytes > 0 && self.old_bytes > 0 && (settled || is_over());
        self.ask_for_sweep(enough, reclaims);
        deleted
    }

    /// Bytes that may have died since the last sweep: most messages have about as many places.
    fn dead_bytes(&self) -> u64 {
        let places_each = self.places_put.checked_div(self.records_put).unwrap_or(1);
        self.settled_bytes / places_each.max(1)
    }

    fn ask_for_sweep(&mut self, enough: bool, reclaims: &mut Vec<Reclaim>) {
        if enough && !self.sweeping {
            self.sweeping = true;
            self.settled_bytes = 0;
            reclaims.push(Reclaim::Sweep);
        }
    }

    fn delete_found(&mut self, batch: &mut WriteBatch, reclaims: &mut Vec<Reclaim>) -> u64 {
        if self.dead.is_empty() {
            return 0;
        }
        let mut deleted = 0;
        for run in self.dead.drain(..) {
            run.delete(batch);
            deleted += run.bytes;
            reclaims.push(Reclaim::Apart(run));
        }
        self.old_bytes = self.old_bytes.saturating_sub(deleted);
        self.sweeping = false;
        deleted
    }

    /// Deletes what is dead of what was written lately, and counts the rest as old, until no more
    /// than so many bytes are left.
    fn forget_lately(&mut self, states: &States, batch: &mut WriteBatch, left_bytes: u64) -> u64 {
        let mut runs = Runs::default();
        let few = LATELY_RECORDS_MAX / 2;
        while self.lately_bytes > left_bytes || self.lately.len() > few {
            let Some(record) = self.lately.pop_front() else { break };
            self.lately_bytes -= record.bytes;
            if record.is_dead(states) {
                runs.dead(&record);
            } else {
                runs.alive();
                self.old_bytes += record.bytes;
            }
        }
        let runs = runs.finish();
        runs.iter().for_each(|run| run.delete(batch));
        runs.iter().map(|run| run.bytes).sum()
    }

    /// A sweep begins: what it concerns lies below this name.
    fn begin_sweep(&self) -> Begun {
        Begun { below: self.lately.front().map(|record| record.id), old_bytes: self.old_bytes }
    }

    /// A sweep has found these dead, and of the others so many bytes. Only now is it known how much
    /// there is: after a start that is an estimate.
    fn swept(&mut self, begun: &Begun, dead: Vec<Run>, alive_bytes: u64) {
        let grown = self.old_bytes.saturating_sub(begun.old_bytes);
        let dead_bytes: u64 = dead.iter().map(|run| run.bytes).sum();
        self.left_bytes = alive_bytes + grown;
        self.old_bytes = self.left_bytes + dead_bytes;
        self.sweeping = !dead.is_empty();
        self.dead = dead;
    }
}

struct Begun {
    below: Option<ApartId>,
    old_bytes: u64,
}

/// Reads the places of all that is old and takes note of what is dead.
///
/// # Errors
/// When they cannot be read.
pub(super) fn sweep(shared: &super::commit::Shared) -> Result<(), StoreError> {
    let path = shared.path();
    // First, so that it holds nothing that is newer than what counts as old by then.
    let snapshot = shared.db.snapshot();
    let begun = shared.queues().apart.begin_sweep();
    let from = ALL_PLACES.0;
    let to = begun.below.map_or_else(|| ALL_PLACES.1.to_vec(), |id| schema::places_key(id).into());
    let mut places = snapshot.raw_iterator_opt(bounds(&from, &to));
    places.seek(from);
    let mut runs = Runs::default();
    let mut alive_bytes = 0;
    let mut some = Vec::with_capacity(PLACES_AT_ONCE);
    loop {
        let found = places.item().map(|(key, value)| {
            Record::decode(key, value).ok_or_else(|| {
                let reason = format!("the places under the key {key:02x?} are none");
                StoreError::Damaged { path: path.clone(), reason }
            })
        });
        let is_last = found.is_none();
        some.extend(found.transpose()?);
        if is_last || some.len() == PLACES_AT_ONCE {
            let queues = shared.queues();
            for record in some.drain(..) {
                if record.is_dead(&queues.states) {
                    runs.dead(&record);
                } else {
                    runs.alive();
                    alive_bytes += record.bytes;
                }
            }
        }
        if is_last {
            break;
        }
        places.next();
    }
    places.status().map_err(|error| store_error(&path, &error))?;
    shared.queues().apart.swept(&begun, runs.finish(), alive_bytes);
    shared.tidy_soon();
    Ok(())
}

/// Puts a message's record under a key.
pub(super) fn put_record(
    batch: &mut WriteBatch,
    key: impl AsRef<[u8]>,
    message: &Message,
    scratch: &mut Vec<u8>,
) {
    match message.record_parts() {
        (record, []) => batch.put(key, record),
        (head, body) => {
            // RocksDB takes a value in one piece only.
            scratch.clear();
            scratch.extend_from_slice(head);
            scratch.extend_from_slice(body);
            batch.put(key, scratch);
        }
    }
}

/// Reads what lies apart, best in the order in which it was written.
pub(super) struct Reader<'s> {
    records: DBRawIterator<'s>,
}

impl<'s> Reader<'s> {
    pub(super) fn new(snapshot: &'s Snapshot<'s>) -> Self {
        Self { records: snapshot.raw_iterator_opt(bounds(&ALL_APART.0, &ALL_APART.1)) }
    }

    /// The record that a link names; `None` when it is not there.
    pub(super) fn read(&mut self, id: ApartId, path: &str) -> Result<Option<&[u8]>, StoreError> {
        let key = schema::apart_key(id);
        if self.records.valid() {
            self.records.next();
        }
        if self.records.key() != Some(&key[..]) {
            self.records.seek(key);
        }
        self.records.status().map_err(|error| store_error(path, &error))?;
        let found = self.records.item().filter(|(found, _)| *found == key);
        Ok(found.map(|(_, record)| record))
    }
}
