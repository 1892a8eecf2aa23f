//! Records in blocks with checksums: the form of RocksDB's logs and of its manifest.
//!
//! A file consists of blocks of 32 KiB, a block of fragments: a checksum (4 bytes), a length (2), a
//! kind (1), in logs that may be used again the log's number (4), and the bytes. A record is one
//! fragment or several.
//!
//! Where a log ends cannot be seen from the file alone: in one that was used before, what comes
//! next is the middle of some older record, as it would be after damage. So a reader that finds no
//! fragment looks on. Whole records of the same log further on mean that this is not its end, and
//! that something is missing; their absence means nothing. Whether it matters, the mark tells (see
//! `check`).

use std::borrow::Cow;

const BLOCK_BYTES: usize = 32 << 10;
const HEADER_BYTES: usize = 7;
const REUSABLE_HEADER_BYTES: usize = 11;
/// Kinds from here on may be skipped by who does not know them.
const IGNORABLE: u8 = 0x80;

/// A whole record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::rocks) struct Record<'a> {
    /// Where it begins in the file.
    pub(in crate::store::rocks) offset: u64,
    pub(in crate::store::rocks) bytes: Cow<'a, [u8]>,
}

/// A place where no record of this log stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::rocks) struct Broken {
    pub(in crate::store::rocks) offset: u64,
    pub(in crate::store::rocks) reason: &'static str,
}

/// What a reader comes upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::rocks) enum Found<'a> {
    Record(Record<'a>),
    /// Nothing can be read here. The reader goes on behind it, if anything comes there.
    Broken(Broken),
}

/// Where in a record a fragment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    First,
    Middle,
    Last,
    /// Nothing of a record.
    Aside,
}

struct Fragment<'a> {
    part: Part,
    bytes: &'a [u8],
    end: usize,
}

/// Reads a log's records in order, and past places that cannot be read.
#[derive(Debug, Clone)]
pub(in crate::store::rocks) struct LogReader<'a> {
    file: &'a [u8],
    /// The log's number, by which fragments of an earlier use are known.
    number: u64,
    /// Whether the file may have been used before.
    reused: bool,
    at: usize,
}

impl<'a> LogReader<'a> {
    /// Reads a whole file.
    pub(in crate::store::rocks) fn new(file: &'a [u8], number: u64) -> Self {
        Self { file, number, reused: true, at: 0 }
    }

    /// Reads a file that was never used before, as a manifest is.
    pub(in crate::store::rocks) fn of_one_use(file: &'a [u8]) -> Self {
        Self { file, number: 0, reused: false, at: 0 }
    }

    /// The next thing; `None` at the file's end.
    pub(in crate::store::rocks) fn next(&mut self) -> Option<Found<'a>> {
        let mut begun: Option<(usize, Cow<'a, [u8]>)> = None;
        loop {
            self.skip_block_end();
            let at = self.at;
            if at >= self.file.len() {
                return begun.map(|(begin, _)| broken(begin, "the file ends within a record"));
            }
            let fragment = match self.fragment(at) {
                Ok(fragment) => fragment,
                Err(reason) => {
                    self.seek_next(at);
                    let begin = begun.map_or(at, |(begin, _)| begin);
                    return Some(broken(begin, reason));
                }
            };
            match (fragment.part, &mut begun) {
                (Part::Aside, _) => self.at = fragment.end,
                (Part::Whole, None) => {
                    self.at = fragment.end;
                    return Some(record(at, Cow::Borrowed(fragment.bytes)));
                }
                (Part::First, None) => {
                    self.at = fragment.end;
                    begun = Some((at, Cow::Borrowed(fragment.bytes)));
                }
                (Part::Middle, Some((_, bytes))) => {
                    self.at = fragment.end;
                    bytes.to_mut().extend_from_slice(fragment.bytes);
                }
                (Part::Last, Some(_)) => {
                    self.at = fragment.end;
                    let (begin, mut bytes) = begun.take()?;
                    bytes.to_mut().extend_from_slice(fragment.bytes);
                    return Some(record(begin, bytes));
                }
                (Part::Whole | Part::First, Some((begin, _))) => {
                    return Some(broken(*begin, "a record without its end"));
                }
                (Part::Middle | Part::Last, None) => {
                    self.at = fragment.end;
                    return Some(broken(at, "a record without its beginning"));
                }
            }
        }
    }

    /// Where a record of this log begins from here on, if one does: in this block wherever that is,
    /// in later ones not behind what cannot be read.
    pub(in crate::store::rocks) fn resumes(&self) -> Option<u64> {
        let mut reader = self.clone();
        loop {
            reader.skip_block_end();
            let at = reader.at;
            if at >= reader.file.len() {
                return None;
            }
            match reader.fragment(at) {
                Ok(Fragment { part: Part::Whole | Part::First, .. }) => return Some(at as u64),
                Ok(fragment) => reader.at = fragment.end,
                // A log has megabytes of an earlier use behind its end, and every start looks here.
                Err(_) => reader.at = block_end(at),
            }
        }
    }

    /// The fragment at a place, or why there is none.
    fn fragment(&self, at: usize) -> Result<Fragment<'a>, &'static str> {
        let block_end = block_end(at);
        let block = &self.file[at..block_end.min(self.file.len())];
        let is_last = block_end > self.file.len();
        let cut = |reason| if is_last { "the file ends within a record" } else { reason };
        let (header, rest) = block
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or_else(|| cut("no record begins here"))?;
        let [c0, c1, c2, c3, l0, l1, kind] = *header;
        let checksum = u32::from_le_bytes([c0, c1, c2, c3]);
        let len = usize::from(u16::from_le_bytes([l0, l1]));
        if kind == 0 && len == 0 {
            return Err("zeroes where a record was due");
        }
        let known = part(kind).filter(|(reusable, _)| self.reused || !reusable);
        let (reusable, part) = known.ok_or("an unknown kind of record")?;
        let header_bytes = if reusable { REUSABLE_HEADER_BYTES } else { HEADER_BYTES };
        let end = header_bytes + len;
        if end > block.len() {
            return Err(cut("a record's length does not fit"));
        }
        if crc32c::masked(&block[HEADER_BYTES - 1..end]) != checksum {
            return Err("a record's checksum does not fit");
        }
        if reusable {
            let number = rest.first_chunk().map(|number| u32::from_le_bytes(*number));
            // As RocksDB compares them: the lower half.
            if number.map(u64::from) != Some(self.number & u64::from(u32::MAX)) {
                return Err("what an earlier use of the file left");
            }
        }
        Ok(Fragment { part, bytes: &block[header_bytes..end], end: at + end })
    }

    /// Goes to the next place where a fragment stands: within the block wherever that is, in the
    /// next one at its beginning.
    fn seek_next(&mut self, behind: usize) {
        let end = block_end(behind).min(self.file.len());
        self.at = (behind + 1..end).find(|at| self.looks_like_fragment(*at)).unwrap_or(end);
    }

    fn looks_like_fragment(&self, at: usize) -> bool {
        // Cheap questions first: this is asked at every byte of a block.
        let Some(&kind) = self.file.get(at + HEADER_BYTES - 1) else { return false };
        let Some((reusable, part)) = part(kind) else { return false };
        let number = self.number.to_le_bytes();
        let found = self.file.get(at + HEADER_BYTES..at + REUSABLE_HEADER_BYTES);
        let is_ours = !reusable || found.is_some_and(|found| *found == number[..4]);
        part != Part::Aside && is_ours && self.fragment(at).is_ok()
    }

    /// What is left of a block and too short for a fragment is padding.
    fn skip_block_end(&mut self) {
        let left = BLOCK_BYTES - self.at % BLOCK_BYTES;
        let rest = self.file.get(self.at..self.at + left).unwrap_or_default();
        let is_padding = left < REUSABLE_HEADER_BYTES && rest.iter().all(|byte| *byte == 0);
        if left < HEADER_BYTES || is_padding {
            self.at += left;
        }
    }
}

/// Where the block of a place ends.
fn block_end(at: usize) -> usize {
    (at / BLOCK_BYTES + 1) * BLOCK_BYTES
}

fn broken<'a>(at: usize, reason: &'static str) -> Found<'a> {
    Found::Broken(Broken { offset: at as u64, reason })
}

fn record(at: usize, bytes: Cow<'_, [u8]>) -> Found<'_> {
    Found::Record(Record { offset: at as u64, bytes })
}

/// What a fragment's kind says: whether the log's number stands before its bytes, and which part of
/// a record it is.
fn part(kind: u8) -> Option<(bool, Part)> {
    Some(match kind {
        1 => (false, Part::Whole),
        2 => (false, Part::First),
        3 => (false, Part::Middle),
        4 => (false, Part::Last),
        5 => (true, Part::Whole),
        6 => (true, Part::First),
        7 => (true, Part::Middle),
        8 => (true, Part::Last),
        // Of the settings that such fragments speak of we use none; from 10 on, odd kinds have the
        // log's number.
        10 | IGNORABLE.. => (kind % 2 == 1, Part::Aside),
        11 => (true, Part::Aside),
        _ => return None,
    })
}

/// CRC-32C, with which RocksDB checks its logs and, if told so, its tables.
pub(super) mod crc32c {
    const TABLES: [[u32; 256]; 8] = tables();

    const fn tables() -> [[u32; 256]; 8] {
        const POLYNOMIAL: u32 = 0x82f6_3b78;
        let mut tables = [[0; 256]; 8];
        let mut byte = 0;
        let mut start: u32 = 0;
        while byte < 256 {
            let mut crc = start;
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { crc >> 1 ^ POLYNOMIAL } else { crc >> 1 };
                bit += 1;
            }
            tables[0][byte] = crc;
            byte += 1;
            start += 1;
        }
        let mut table = 1;
        while table < 8 {
            let mut byte = 0;
            while byte < 256 {
                let before = tables[table - 1][byte];
                tables[table][byte] = before >> 8 ^ tables[0][(before & 0xff) as usize];
                byte += 1;
            }
            table += 1;
        }
        tables
    }

    /// The checksum of some bytes, eight at a time.
    pub(in crate::store::rocks) fn of(bytes: &[u8]) -> u32 {
        let at = |table: usize, word: u32, shift: u32| {
            TABLES[table][usize::from((word >> shift).to_le_bytes()[0])]
        };
        let mut crc = u32::MAX;
        let (eights, rest) = bytes.as_chunks::<8>();
        for &[a, b, c, d, e, f, g, h] in eights {
            let low = crc ^ u32::from_le_bytes([a, b, c, d]);
            let high = u32::from_le_bytes([e, f, g, h]);
            crc = at(7, low, 0)
                ^ at(6, low, 8)
                ^ at(5, low, 16)
                ^ at(4, low, 24)
                ^ at(3, high, 0)
                ^ at(2, high, 8)
                ^ at(1, high, 16)
                ^ at(0, high, 24);
        }
        for byte in rest {
            crc = crc >> 8 ^ at(0, crc ^ u32::from(*byte), 0);
        }
        !crc
    }

    /// As it is stored: a checksum of bytes that hold checksums would be weak.
    pub(in crate::store::rocks) fn masked(bytes: &[u8]) -> u32 {
        of(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes a log as RocksDB does.
    fn written(number: u32, records: &[&[u8]]) -> Vec<u8> {
        let mut file = Vec::new();
        for record in records {
            let mut rest = *record;
            let mut is_first = true;
            loop {
                let left = BLOCK_BYTES - file.len() % BLOCK_BYTES;
                if left < REUSABLE_HEADER_BYTES {
                    file.resize(file.len() + left, 0);
                    continue;
                }
                let len = rest.len().min(left - REUSABLE_HEADER_BYTES);
                let kind = match (is_first, len == rest.len()) {
                    (true, true) => 5,
                    (true, false) => 6,
                    (false, false) => 7,
                    (false, true) => 8,
                };
                let mut checked = vec![kind];
                checked.extend(number.to_le_bytes());
                checked.extend(&rest[..len]);
                file.extend(crc32c::masked(&checked).to_le_bytes());
                file.extend(u16::try_from(len).unwrap().to_le_bytes());
                file.extend(checked);
                rest = &rest[len..];
                is_first = false;
                if rest.is_empty() {
                    break;
                }
            }
        }
        file
    }

    fn read(file: &[u8], number: u64) -> (Vec<Vec<u8>>, Vec<Broken>) {
        let mut reader = LogReader::new(file, number);
        let (mut records, mut breaks) = (Vec::new(), Vec::new());
        while let Some(found) = reader.next() {
            match found {
                Found::Record(record) => records.push(record.bytes.into_owned()),
                Found::Broken(broken) => breaks.push(broken),
            }
        }
        (records, breaks)
    }

    #[test]
    fn the_checksum_is_the_one_that_everyone_computes() {
        assert_eq!(crc32c::of(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c::of(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn records_of_every_length_are_read_back() {
        let long = vec![7; 40_000];
        for len in (0..4).chain(BLOCK_BYTES - 60..BLOCK_BYTES + 10) {
            let middle = vec![3; len];
            let records: [&[u8]; 4] = [b"first", &middle, &long, b"last"];
            let (found, breaks) = read(&written(9, &records), 9);
            assert!(found == records, "{len}");
            assert_eq!(breaks, []);
        }
    }

    #[test]
    fn behind_damage_reading_goes_on_with_the_next_record() {
        let records: Vec<Vec<u8>> = (0..200).map(|at| vec![at; 500]).collect();
        let all: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        let whole = written(9, &all);
        for flipped in (0..whole.len()).step_by(997) {
            let mut file = whole.clone();
            file[flipped] ^= 1;
            let (found, breaks) = read(&file, 9);
            assert!(found.len() + 1 >= all.len(), "{} left of {}", found.len(), all.len());
            assert_eq!(breaks.is_empty(), found.len() == all.len(), "at {flipped}");
            assert!(breaks.iter().all(|broken| broken.offset <= flipped as u64));
        }
    }

    #[test]
    fn what_an_earlier_use_left_is_no_part_of_the_log_and_no_sign_of_damage() {
        let old = vec![1; 3_000];
        let before = written(8, &[old.as_slice(); 40]);
        for len in [10, 2_999, 3_000, 40_000] {
            let mut file = before.clone();
            let new = written(9, &[&vec![2; len]]);
            file[..new.len()].copy_from_slice(&new);
            let mut reader = LogReader::new(&file, 9);
            assert!(matches!(reader.next(), Some(Found::Record(_))));
            let end = reader.next();
            assert!(matches!(end, Some(Found::Broken(_))), "{end:?}");
            assert_eq!(reader.resumes(), None);
        }
    }

    #[test]
    fn a_hole_is_known_by_what_comes_behind_it() {
        let records: Vec<Vec<u8>> = (0..100).map(|at| vec![at; 1_000]).collect();
        let all: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
        let mut file = written(9, &all);
        file[20_000] ^= 4;
        let mut reader = LogReader::new(&file, 9);
        let broken = loop {
            match reader.next().unwrap() {
                Found::Record(_) => {}
                Found::Broken(broken) => break broken,
            }
        };
        assert!((19_000..20_000).contains(&broken.offset));
        assert!(reader.resumes().is_some_and(|at| (20_000..22_000).contains(&at)));
    }

    #[test]
    fn a_cut_file_ends_within_a_record() {
        let file = written(9, &[b"a whole one", &[5; 50_000]]);
        for len in (23..file.len()).step_by(331) {
            let mut reader = LogReader::new(&file[..len], 9);
            assert!(matches!(reader.next(), Some(Found::Record(_))));
            match reader.next() {
                Some(Found::Broken(broken)) => {
                    assert_eq!((broken.offset, reader.resumes()), (22, None));
                }
                other => panic!("{other:?} at {len}"),
            }
        }
    }
}
