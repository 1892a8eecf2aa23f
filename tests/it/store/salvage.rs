//! What is saved of a damaged directory: everything that can be read, with what is missing counted,
//! and without a change to the directory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use leveret::broker::message::Message;
use leveret::store::rocks::salvage::{Findings, KeyName, Take, salvage};
use leveret::store::{QueueKey, QueueSeq, StoreError};

use super::damage::Killed;
use super::disk::{copied, files};
use super::model::Random;

/// A queue, and a message's number in it.
type Place = (QueueKey, u64);

#[derive(Default)]
struct Taken {
    messages: BTreeMap<Place, Vec<u8>>,
    metas: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Take for Taken {
    fn message(
        &mut self,
        queue: QueueKey,
        seq: QueueSeq,
        message: Message,
    ) -> Result<(), StoreError> {
        assert!(self.messages.insert((queue, seq.0), message.body().to_vec()).is_none());
        Ok(())
    }

    fn meta(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        assert!(self.metas.insert(key.to_vec(), value.to_vec()).is_none());
        Ok(())
    }
}

fn salvaged(dir: &Path) -> (Findings, Taken) {
    let before = files(dir);
    let mut taken = Taken::default();
    let findings = salvage(dir, false, &mut taken).unwrap();
    assert!(files(dir) == before, "something was changed");
    (findings, taken)
}

/// Every message that was there in the end, and every one that ever was.
fn messages(killed: &Killed) -> (BTreeSet<Place>, BTreeMap<Place, Vec<u8>>) {
    let of = |state: &super::model::State| {
        let queues = state.queues.clone().into_iter();
        queues
            .flat_map(|(queue, state)| {
                state.bodies.into_iter().map(move |(seq, body)| ((queue, seq), body))
            })
            .collect::<BTreeMap<_, _>>()
    };
    let ever = killed.states.iter().flat_map(of).collect();
    (of(killed.last()).into_keys().collect(), ever)
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn of_a_whole_directory_everything_is_kept_and_nothing_is_said() {
    let killed = Killed::new();
    let (findings, taken) = salvaged(killed.dir.path());
    assert_eq!(findings.flaws, []);
    let (there, ever) = messages(&killed);
    assert_eq!(taken.messages.keys().copied().collect::<BTreeSet<_>>(), there);
    assert!(taken.messages.iter().all(|(key, body)| ever[key] == *body));
    assert_eq!(taken.metas, killed.last().meta);
    assert_eq!(findings.marked, Some(findings.applied));
    for level in &findings.levels {
        assert_eq!(level.counted, Some(level.found), "{:?}", level.queue);
    }
}

#[test]
fn whatever_file_is_missing_or_cut_the_others_are_saved() {
    let killed = Killed::new();
    let (there, ever) = messages(&killed);
    for path in files(killed.dir.path()).into_keys() {
        let file = path.strip_prefix(killed.dir.path()).unwrap();
        for keeps in [None, Some(2), Some(100)] {
            let copy = copied(killed.dir.path());
            let damaged = copy.path().join(file);
            match keeps {
                None => fs::remove_file(&damaged).unwrap(),
                Some(part) => {
                    let bytes = fs::read(&damaged).unwrap();
                    fs::write(&damaged, &bytes[..bytes.len() / part]).unwrap();
                }
            }
            let (findings, taken) = salvaged(copy.path());
            let kept: BTreeSet<_> = taken.messages.keys().copied().collect();
            assert!(taken.messages.iter().all(|(key, body)| ever.get(key) == Some(body)));
            let lost = there.difference(&kept).count();
            let is_said = !findings.flaws.is_empty()
                || findings.marked.is_some_and(|marked| marked > findings.applied);
            assert!(lost == 0 || is_said, "{lost} lost with {}", name(file));
            // Of tables and logs only their own messages are lost; of others none at all.
            let kind = file.extension().unwrap_or_default();
            let holds_messages = kind == "sst" || kind == "log";
            assert!(holds_messages || lost == 0, "{lost} lost with {}", name(file));
            assert!(kept.len() > there.len() / 4, "{} kept without {}", kept.len(), name(file));
        }
    }
}

#[test]
fn a_flipped_bit_costs_little_and_is_said_where() {
    let killed = Killed::new();
    let (there, ever) = messages(&killed);
    let mut random = Random(23);
    for kind in [".sst", ".log", "MANIFEST", "CURRENT", "VERSION", "mark"] {
        let of_kind = killed.of_kind(kind);
        for _ in 0..12 {
            let at = random.below(of_kind.len() as u64);
            let file = &of_kind[usize::try_from(at).unwrap()];
            let copy = copied(killed.dir.path());
            let mut bytes = fs::read(copy.path().join(file)).unwrap();
            let bit = random.below(8 * bytes.len() as u64);
            bytes[usize::try_from(bit / 8).unwrap()] ^= 1 << (bit % 8);
            fs::write(copy.path().join(file), bytes).unwrap();
            let before = files(copy.path());
            let mut taken = Taken::default();
            let findings = match salvage(copy.path(), false, &mut taken) {
                Ok(findings) => findings,
                // A digit of the version may become another one.
                Err(StoreError::Version { .. }) if kind == "VERSION" => {
                    salvage(copy.path(), true, &mut taken).unwrap()
                }
                Err(error) => panic!("{error}"),
            };
            assert!(files(copy.path()) == before, "something was changed");
            let kept: BTreeSet<_> = taken.messages.keys().copied().collect();
            assert!(taken.messages.iter().all(|(key, body)| ever.get(key) == Some(body)));
            let lost = there.difference(&kept).count();
            assert!(lost <= 40, "{lost} of {} lost by a flip in {}", there.len(), name(file));
            if lost > 0 {
                let named = findings
                    .flaws
                    .iter()
                    .any(|flaw| name(&flaw.path) == name(file) && flaw.offset.is_some());
                assert!(named, "{:?}", findings.flaws);
            }
        }
    }
}

#[test]
fn what_the_counts_say_is_there_and_is_not_is_counted() {
    let killed = Killed::new();
    let (there, _) = messages(&killed);
    let mut random = Random(29);
    let mut counted = 0;
    for file in killed.of_kind(".sst").iter().cycle().take(20) {
        let copy = copied(killed.dir.path());
        let mut bytes = fs::read(copy.path().join(file)).unwrap();
        let at = random.below(bytes.len() as u64);
        bytes[usize::try_from(at).unwrap()] ^= 1;
        fs::write(copy.path().join(file), bytes).unwrap();
        let (findings, taken) = salvaged(copy.path());
        let is_message = |key: &[u8]| matches!(KeyName::of(key), KeyName::Message(..));
        let only_messages = findings.flaws.iter().all(|flaw| {
            let between = flaw.between.as_ref();
            between.is_none_or(|keys| is_message(&keys.after) && is_message(&keys.before))
        });
        if findings.flaws.is_empty() || !only_messages {
            continue;
        }
        let kept: BTreeSet<_> = taken.messages.keys().copied().collect();
        for level in &findings.levels {
            let of_queue = |keys: &BTreeSet<Place>| {
                keys.iter().filter(|(queue, _)| *queue == level.queue).count() as u64
            };
            assert_eq!(level.found, of_queue(&kept));
            assert_eq!(level.counted, Some(of_queue(&there)), "{:?}", level.queue);
            counted += u64::from(level.counted != Some(level.found));
        }
    }
    assert!(counted > 0, "no flip has cost a message");
}

#[test]
fn a_directory_in_use_or_of_another_version_is_left_alone() {
    let killed = Killed::new();
    let dir = killed.dir.path();
    let refused = |ignore| salvage(dir, ignore, &mut Taken::default()).unwrap_err();
    let holder = fs::File::open(dir.join("VERSION")).unwrap();
    holder.lock().unwrap();
    assert!(matches!(refused(false), StoreError::Locked { .. }));
    drop(holder);
    fs::write(dir.join("VERSION"), "leveret store 7\n").unwrap();
    assert!(matches!(refused(false), StoreError::Version { .. }));
    assert!(salvage(dir, true, &mut Taken::default()).is_ok());
    fs::remove_dir_all(dir.join("db")).unwrap();
    assert!(matches!(refused(true), StoreError::Io { .. }));
}
