//! A table file: blocks with checksums, and the entries in them.
//!
//! From its end: a footer of 53 bytes says where the metaindex is, which says where the index is,
//! which says where each block of entries is. A block is checked before anything in it is believed,
//! so one that is damaged costs its own entries and no others. Where the way from the end is lost,
//! with a file that was cut for one, the blocks are found from the beginning instead: a block's
//! end is where its checksum fits.

use std::borrow::Cow;
use std::fmt::{self, Display, Formatter};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use twox_hash::XxHash3_64;

use super::Input;
use super::log::crc32c;

const FOOTER_BYTES: u64 = 53;
const MAGIC: u64 = 0x88e2_41b7_85f4_cff7;
const EXTENDED_MAGIC: [u8; 4] = [0x3e, 0x00, 0x7a, 0x00];
/// How a block is compressed, and a checksum.
const TRAILER_BYTES: usize = 5;
/// The versions of the format that have the footer above.
const FORMATS: std::ops::RangeInclusive<u32> = 6..=7;
/// How long a block may be that is looked for from its beginning.
const SOUGHT_BYTES_MAX: usize = 512 << 10;

/// What is wrong with a place in a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::rocks) struct Flaw {
    pub(in crate::store::rocks) offset: u64,
    pub(in crate::store::rocks) reason: String,
}

impl Display for Flaw {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "at offset {}: {}", self.offset, self.reason)
    }
}

fn flaw(offset: u64, reason: impl Into<String>) -> Flaw {
    Flaw { offset, reason: reason.into() }
}

/// Where a block is, without its trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::rocks) struct Handle {
    pub(in crate::store::rocks) offset: u64,
    pub(in crate::store::rocks) bytes: u64,
}

impl Handle {
    fn read(input: &mut Input<'_>) -> Option<Self> {
        Some(Self { offset: input.varint()?, bytes: input.varint()? })
    }
}

/// A block of entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::rocks) struct Block {
    pub(in crate::store::rocks) handle: Handle,
    /// None of its keys is larger, and all of the next block's are.
    pub(in crate::store::rocks) to: Vec<u8>,
}

/// A version of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::rocks) struct Entry {
    pub(in crate::store::rocks) key: Vec<u8>,
    pub(in crate::store::rocks) sequence: u64,
    /// `None` says that it was deleted.
    pub(in crate::store::rocks) value: Option<Vec<u8>>,
}

/// Every older version of the keys from one up to another was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::rocks) struct RangeDeletion {
    pub(in crate::store::rocks) from: Vec<u8>,
    pub(in crate::store::rocks) to: Vec<u8>,
    pub(in crate::store::rocks) sequence: u64,
}

/// How a table's blocks are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Checks {
    kind: ChecksumKind,
    /// Makes a block's checksum depend on the file and the place.
    base: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChecksumKind {
    Crc32c,
    Xxh3,
}

impl Checks {
    fn of(self, offset: u64, bytes: &[u8]) -> u32 {
        self.kind.of(bytes).wrapping_add(self.modifier(offset))
    }

    fn modifier(self, offset: u64) -> u32 {
        if self.base == 0 { 0 } else { self.base ^ folded(offset) }
    }
}

impl ChecksumKind {
    /// Of a block and the byte behind it.
    fn of(self, bytes: &[u8]) -> u32 {
        match self {
            Self::Crc32c => crc32c::masked(bytes),
            Self::Xxh3 => match bytes.split_last() {
                None => 0,
                Some((last, bytes)) => {
                    let hash = lower(XxHash3_64::oneshot(bytes));
                    hash ^ u32::from(*last).wrapping_mul(0x6b90_83d9)
                }
            },
        }
    }
}

/// The lower half of a number.
fn lower(number: u64) -> u32 {
    let [a, b, c, d, ..] = number.to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

fn folded(offset: u64) -> u32 {
    lower(offset).wrapping_add(lower(offset >> 32))
}

/// A table file, to be read block by block.
#[derive(Debug)]
pub(in crate::store::rocks) struct Table {
    file: File,
    file_bytes: u64,
    checks: Checks,
    /// Its blocks of entries, in the order of their keys.
    pub(in crate::store::rocks) blocks: Vec<Block>,
    pub(in crate::store::rocks) range_deletions: Vec<RangeDeletion>,
    /// What of the file cannot be read, apart from blocks of entries that the index knows.
    pub(in crate::store::rocks) flaws: Vec<Flaw>,
}

impl Table {
    /// Opens a table that is whole, as far as its footer, its index and what else it ends with go.
    pub(in crate::store::rocks) fn open(path: &Path) -> Result<Self, Flaw> {
        let mut table = Self::new(path)?;
        let metaindex = table.read_footer()?;
        table.read_index(metaindex)?;
        match table.flaws.pop() {
            Some(flaw) => Err(flaw),
            None => Ok(table),
        }
    }

    /// Opens what is left of a table: by its footer and its index, or else by what stands in it.
    pub(in crate::store::rocks) fn open_damaged(path: &Path) -> Result<Self, Flaw> {
        let mut table = Self::new(path)?;
        let footer = table.read_footer();
        let indexed = match &footer {
            Ok(metaindex) => table.read_index(*metaindex),
            Err(flaw) => Err(flaw.clone()),
        };
        if let Err(flaw) = indexed {
            table.flaws.push(flaw);
            table.find_blocks(footer.is_ok());
        }
        Ok(table)
    }

    fn new(path: &Path) -> Result<Self, Flaw> {
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (file_bytes, file) = opened.map_err(|error| flaw(0, error.to_string()))?;
        Ok(Self {
            file,
            file_bytes,
            checks: Checks { kind: ChecksumKind::Xxh3, base: 0 },
            blocks: Vec::new(),
            range_deletions: Vec::new(),
            flaws: Vec::new(),
        })
    }

    /// Reads and checks every block.
    pub(in crate::store::rocks) fn verify(&self) -> Result<(), Flaw> {
        self.blocks.iter().try_for_each(|block| self.entries(block).map(drop))
    }

    /// The entries in a block.
    pub(in crate::store::rocks) fn entries(&self, block: &Block) -> Result<Vec<Entry>, Flaw> {
        let bytes = self.block(block.handle)?;
        let entries = entries(&bytes);
        entries
            .ok_or_else(|| flaw(block.handle.offset, "a block whose entries cannot be understood"))
    }

    fn read(&self, offset: u64, len: u64) -> Result<Vec<u8>, Flaw> {
        let end = offset.checked_add(len).filter(|end| *end <= self.file_bytes);
        let len = end.and_then(|_| usize::try_from(len).ok());
        let len = len.ok_or_else(|| flaw(offset, "it lies beyond the file's end"))?;
        let mut bytes = vec![0; len];
        let read = self.file.read_exact_at(&mut bytes, offset);
        read.map_err(|error| flaw(offset, error.to_string()))?;
        Ok(bytes)
    }

    /// Where the metaindex is.
    fn read_footer(&mut self) -> Result<Handle, Flaw> {
        let offset = self.file_bytes.saturating_sub(FOOTER_BYTES);
        let mut footer = self.read(offset, FOOTER_BYTES)?;
        let parsed = parse_footer(&footer);
        let (checks, metaindex_bytes, stored) =
            parsed.ok_or_else(|| flaw(offset, "no footer of a table"))?;
        footer[5..9].fill(0);
        if checks.of(offset, &footer) != stored {
            return Err(flaw(offset, "the footer's checksum does not fit"));
        }
        self.checks = checks;
        let bytes = u64::from(metaindex_bytes);
        let metaindex = offset.checked_sub(bytes + TRAILER_BYTES as u64);
        let metaindex = metaindex.map(|offset| Handle { offset, bytes });
        metaindex.ok_or_else(|| flaw(offset, "a metaindex larger than the file"))
    }

    fn read_index(&mut self, metaindex: Handle) -> Result<(), Flaw> {
        let bytes = self.block(metaindex)?;
        let malformed = || flaw(metaindex.offset, "a metaindex that cannot be understood");
        let mut index = None;
        for (name, value) in pairs(&bytes).ok_or_else(malformed)? {
            let handle = || Handle::read(&mut Input(value)).ok_or_else(malformed);
            match &*name {
                b"rocksdb.index" => index = Some(handle()?),
                b"rocksdb.range_del" => {
                    if let Err(flaw) = self.read_range_deletions(handle()?) {
                        self.flaws.push(flaw);
                    }
                }
                b"rocksdb.properties" => {
                    if let Err(flaw) = self.block(handle()?) {
                        self.flaws.push(flaw);
                    }
                }
                _ => {}
            }
        }
        let index = index.ok_or_else(malformed)?;
        let bytes = self.block(index)?;
        let blocks = index_entries(&bytes);
        self.blocks =
            blocks.ok_or_else(|| flaw(index.offset, "an index that cannot be understood"))?;
        Ok(())
    }

    fn read_range_deletions(&mut self, handle: Handle) -> Result<(), Flaw> {
        let bytes = self.block(handle)?;
        let deletions = range_deletions(&bytes);
        self.range_deletions = deletions
            .ok_or_else(|| flaw(handle.offset, "range deletions that cannot be understood"))?;
        Ok(())
    }

    /// A block's bytes, checked and decompressed.
    fn block(&self, handle: Handle) -> Result<Vec<u8>, Flaw> {
        let stored = self.read(handle.offset, handle.bytes.saturating_add(TRAILER_BYTES as u64))?;
        let malformed = |reason: &str| flaw(handle.offset, format!("a block {reason}"));
        let (checked, checksum) =
            stored.split_last_chunk::<4>().ok_or_else(|| malformed("shorter than its checksum"))?;
        if self.checks.of(handle.offset, checked) != u32::from_le_bytes(*checksum) {
            let bytes = handle.bytes;
            return Err(malformed(&format!("of {bytes} bytes whose checksum does not fit")));
        }
        let (kind, block) = checked.split_last().ok_or_else(|| malformed("without a kind"))?;
        let block = decompressed(*kind, block);
        block.map(Cow::into_owned).ok_or_else(|| malformed("that cannot be decompressed"))
    }

    /// Finds the blocks from the file's beginning on, as far as one ends where the next one begins.
    fn find_blocks(&mut self, has_footer: bool) {
        let mut offset = 0;
        let mut last = Vec::new();
        let mut base = has_footer.then_some(self.checks.base);
        while offset < self.file_bytes {
            let wanted = (self.file_bytes - offset).min((SOUGHT_BYTES_MAX + TRAILER_BYTES) as u64);
            let Ok(bytes) = self.read(offset, wanted) else { break };
            let Some(found) = self.find_block(offset, &bytes, base) else { break };
            let FoundBlock { handle, contents, found_base } = found;
            base = Some(found_base);
            self.checks.base = found_base;
            match contents {
                // In the order of keys come entries, and nothing else that lies in a table.
                Contents::Entries { first, end } if first > last => {
                    last.clone_from(&end);
                    self.blocks.push(Block { handle, to: end });
                }
                Contents::RangeDeletions(deletions) => self.range_deletions = deletions,
                Contents::Entries { .. } | Contents::Other => {}
            }
            offset = handle.offset + handle.bytes + TRAILER_BYTES as u64;
        }
        // What a table ends with is lost already, and said to be.
        if self.blocks.is_empty() || offset + FOOTER_BYTES < self.file_bytes {
            self.flaws.push(flaw(offset, "nothing that can be read from here on"));
        }
    }

    fn find_block(&self, offset: u64, bytes: &[u8], base: Option<u32>) -> Option<FoundBlock> {
        let last = bytes.len().checked_sub(TRAILER_BYTES)?;
        for len in 0..=last {
            let (block, rest) = bytes.split_at(len);
            let Some((&[kind, c0, c1, c2, c3], _)) = rest.split_first_chunk() else { break };
            if !matches!(kind, STORED | LZ4) {
                continue;
            }
            let stored = u32::from_le_bytes([c0, c1, c2, c3]);
            let found_base = match base {
                Some(base) => {
                    let checks = Checks { base, ..self.checks };
                    if checks.of(offset, &bytes[..=len]) != stored {
                        continue;
                    }
                    base
                }
                // What tells files apart is not known: then what stands in the block has to
                // convince, and the blocks that follow.
                None if len < 2 * TRAILER_BYTES => continue,
                None => 0,
            };
            let Some(decompressed) = decompressed(kind, block) else { continue };
            let contents = Contents::of(&decompressed);
            let found_base = match base {
                Some(_) => found_base,
                None if matches!(contents, Contents::Other) => continue,
                None => {
                    let modifier = stored.wrapping_sub(self.checks.kind.of(&bytes[..=len]));
                    modifier ^ folded(offset)
                }
            };
            let handle = Handle { offset, bytes: len as u64 };
            return Some(FoundBlock { handle, contents, found_base });
        }
        None
    }
}

struct FoundBlock {
    handle: Handle,
    contents: Contents,
    found_base: u32,
}

/// What stands in a block that was found by its place alone.
enum Contents {
    Entries { first: Vec<u8>, end: Vec<u8> },
    RangeDeletions(Vec<RangeDeletion>),
    Other,
}

impl Contents {
    fn of(block: &[u8]) -> Self {
        if let Some(entries) = entries(block)
            && let (Some(first), Some(last)) = (entries.first(), entries.last())
            && entries.is_sorted_by(|a, b| a.key <= b.key)
        {
            return Self::Entries { first: first.key.clone(), end: last.key.clone() };
        }
        match range_deletions(block) {
            Some(deletions) if !deletions.is_empty() => Self::RangeDeletions(deletions),
            _ => Self::Other,
        }
    }
}

const STORED: u8 = 0;
const LZ4: u8 = 4;

fn decompressed(kind: u8, block: &[u8]) -> Option<Cow<'_, [u8]>> {
    match kind {
        STORED => Some(Cow::Borrowed(block)),
        LZ4 => {
            let mut input = Input(block);
            let len = input.length()?;
            // No more than can be: a byte stands for 255 at most.
            (len <= block.len().saturating_mul(255)).then_some(())?;
            lz4_flex::block::decompress(input.0, len).ok().map(Cow::Owned)
        }
        _ => None,
    }
}

fn parse_footer(footer: &[u8]) -> Option<(Checks, u32, u32)> {
    let mut input = Input(footer);
    let kind = match input.byte()? {
        1 => ChecksumKind::Crc32c,
        4 => ChecksumKind::Xxh3,
        _ => return None,
    };
    (input.bytes(4)? == EXTENDED_MAGIC).then_some(())?;
    let stored = input.fixed32()?;
    let base = input.fixed32()?;
    let metaindex_bytes = input.fixed32()?;
    input.bytes(24)?;
    FORMATS.contains(&input.fixed32()?).then_some(())?;
    (input.fixed64()? == MAGIC).then_some(())?;
    Some((Checks { kind, base }, metaindex_bytes, stored))
}

/// A block without what stands at its end for searching, and where in it keys stand whole.
fn parts(block: &[u8]) -> Option<(&[u8], Vec<usize>)> {
    const UNIFORM: u32 = 1 << 29;
    let (rest, packed) = block.split_last_chunk::<4>()?;
    let restarts = u32::from_le_bytes(*packed) & !UNIFORM;
    // Bits above say that the block has more parts than we ask RocksDB for.
    (restarts < 1 << 28).then_some(())?;
    let restarts_bytes = usize::try_from(restarts).ok()?.checked_mul(4)?;
    let (entries, restarts) = rest.split_at_checked(rest.len().checked_sub(restarts_bytes)?)?;
    let (restarts, _) = restarts.as_chunks::<4>();
    let offsets = restarts.iter().map(|at| usize::try_from(u32::from_le_bytes(*at)).ok());
    Some((entries, offsets.collect::<Option<Vec<usize>>>()?))
}

/// A block's keys and values.
fn pairs(block: &[u8]) -> Option<Vec<(Vec<u8>, &[u8])>> {
    let (entries, _) = parts(block)?;
    let mut input = Input(entries);
    let mut pairs: Vec<(Vec<u8>, &[u8])> = Vec::new();
    while !input.is_empty() {
        let shared = input.length()?;
        let (rest, value) = (input.length()?, input.length()?);
        let before = pairs.last().map_or(&[][..], |(key, _)| key);
        let key = [before.get(..shared)?, input.bytes(rest)?].concat();
        pairs.push((key, input.bytes(value)?));
    }
    Some(pairs)
}

const DELETION: u8 = 0x0;
const VALUE: u8 = 0x1;
const RANGE_DELETION: u8 = 0xf;

/// A key as tables have it: the user's, the write's number and what the write did.
fn split_key(key: &[u8]) -> Option<(&[u8], u64, u8)> {
    let (user_key, packed) = key.split_last_chunk::<8>()?;
    let packed = u64::from_le_bytes(*packed);
    Some((user_key, packed >> 8, packed.to_le_bytes()[0]))
}

fn entries(block: &[u8]) -> Option<Vec<Entry>> {
    let entry = |(key, value): (Vec<u8>, &[u8])| {
        let (key, sequence, kind) = split_key(&key)?;
        let value = match kind {
            VALUE => Some(value.to_vec()),
            DELETION if value.is_empty() => None,
            _ => return None,
        };
        Some(Entry { key: key.to_vec(), sequence, value })
    };
    pairs(block)?.into_iter().map(entry).collect()
}

fn range_deletions(block: &[u8]) -> Option<Vec<RangeDeletion>> {
    let deletion = |(key, value): (Vec<u8>, &[u8])| {
        let (from, sequence, kind) = split_key(&key)?;
        let (from, to) = (from.to_vec(), value.to_vec());
        (kind == RANGE_DELETION).then_some(RangeDeletion { from, to, sequence })
    };
    pairs(block)?.into_iter().map(deletion).collect()
}

/// Where the index says that blocks are.
fn index_entries(block: &[u8]) -> Option<Vec<Block>> {
    let (entries, restarts) = parts(block)?;
    let mut blocks: Vec<Block> = Vec::new();
    let ends = restarts.iter().skip(1).copied().chain([entries.len()]);
    for (start, end) in restarts.iter().copied().zip(ends) {
        let mut input = Input(entries.get(start..end)?);
        let mut before: Option<Handle> = None;
        while !input.is_empty() {
            let (shared, rest) = (input.length()?, input.length()?);
            let last = blocks.last().map_or(&[][..], |block| &block.to);
            let to = [last.get(..shared)?, input.bytes(rest)?].concat();
            let handle = match before {
                None => Handle::read(&mut input)?,
                Some(before) => {
                    // Blocks follow one another; only the difference in length is told.
                    let folded = input.varint()?;
                    let difference = (folded >> 1).cast_signed() ^ -(folded & 1).cast_signed();
                    Handle {
                        offset: before.offset + before.bytes + TRAILER_BYTES as u64,
                        bytes: before.bytes.checked_add_signed(difference)?,
                    }
                }
            };
            before = Some(handle);
            blocks.push(Block { handle, to });
        }
    }
    Some(blocks)
}

#[cfg(test)]
mod tests {
    use rocksdb::DB;

    use super::*;
    use crate::store::rocks::Options;
    use crate::store::rocks::files::numbered;

    /// A database with one table: values of several sizes, one deleted, and a range deleted.
    fn table() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let mut options = Options::default().to_rocksdb(true);
        options.create_if_missing(true);
        let db = DB::open(&options, dir.path()).unwrap();
        for at in 0..3_000_u32 {
            let value = vec![b'a' + at.to_le_bytes()[0] % 26; 100 + at as usize % 50];
            db.put(at.to_be_bytes(), value).unwrap();
        }
        db.put(3_000_u32.to_be_bytes(), vec![1; 200_000]).unwrap();
        db.delete(5_000_u32.to_be_bytes()).unwrap();
        let mut batch = rocksdb::WriteBatch::default();
        batch.delete_range(6_000_u32.to_be_bytes(), 7_000_u32.to_be_bytes());
        db.write(batch).unwrap();
        db.flush().unwrap();
        drop(db);
        let (_, path) = numbered(dir.path(), "sst").unwrap().remove(0);
        (dir, path)
    }

    fn all(table: &Table) -> (Vec<Entry>, usize) {
        let (mut entries, mut lost) = (Vec::new(), 0);
        for block in &table.blocks {
            match table.entries(block) {
                Ok(found) => entries.extend(found),
                Err(_) => lost += 1,
            }
        }
        (entries, lost)
    }

    #[test]
    fn a_table_of_rocksdbs_is_read_whole() {
        let (_dir, path) = table();
        let table = Table::open(&path).unwrap();
        assert_eq!(table.flaws, []);
        let (entries, lost) = all(&table);
        assert_eq!((entries.len(), lost), (3_002, 0));
        assert_eq!(entries[7].key, 7_u32.to_be_bytes());
        assert_eq!(entries[7].value.as_deref(), Some(&[b'a' + 7; 107][..]));
        assert_eq!(entries[3_000].value.as_ref().map(Vec::len), Some(200_000));
        assert_eq!(entries[3_001].value, None);
        let deletion = &table.range_deletions[0];
        assert_eq!(deletion.from, 6_000_u32.to_be_bytes());
        assert_eq!(deletion.to, 7_000_u32.to_be_bytes());
        assert!(deletion.sequence > entries[3_001].sequence);
        table.verify().unwrap();
    }

    #[test]
    fn a_damaged_block_costs_its_own_entries_and_no_others() {
        let (_dir, path) = table();
        let whole = std::fs::read(&path).unwrap();
        let (entries, _) = all(&Table::open(&path).unwrap());
        let largest = 3_000 * 16 / 300;
        for flipped in (0..whole.len()).step_by(whole.len() / 60) {
            let mut file = whole.clone();
            file[flipped] ^= 0x10;
            std::fs::write(&path, file).unwrap();
            let table = Table::open(&path).and_then(|table| table.verify());
            let refused = table.unwrap_err();
            let table = Table::open_damaged(&path).unwrap();
            assert!(refused.offset <= flipped as u64, "{refused} after a flip at {flipped}");
            let (left, lost) = all(&table);
            assert!(lost <= 1, "{lost} blocks at {flipped}");
            assert!(left.len() + largest >= entries.len(), "{} left, {flipped}", left.len());
            assert!(left.iter().all(|entry| entries.contains(entry)));
        }
    }

    #[test]
    fn a_table_that_was_cut_is_read_up_to_there() {
        let (_dir, path) = table();
        let whole = std::fs::read(&path).unwrap();
        let opened = Table::open(&path).unwrap();
        let (entries, _) = all(&opened);
        let blocks: Vec<Handle> = opened.blocks.iter().map(|block| block.handle).collect();
        for len in (1..whole.len()).step_by(whole.len() / 25) {
            std::fs::write(&path, &whole[..len]).unwrap();
            assert!(Table::open(&path).is_err());
            let table = Table::open_damaged(&path).unwrap();
            let is_there =
                |block: &&Handle| block.offset + block.bytes + TRAILER_BYTES as u64 <= len as u64;
            assert!(!table.flaws.is_empty(), "cut to {len}");
            let expected = blocks.iter().take_while(is_there).count();
            let found: Vec<Handle> = table.blocks.iter().map(|block| block.handle).collect();
            assert_eq!(found, blocks[..expected], "cut to {len}");
            let (left, lost) = all(&table);
            assert_eq!((lost, &entries[..left.len()]), (0, &left[..]));
        }
    }
}
