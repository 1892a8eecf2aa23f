//! What was read and not yet handled: a buffer that grows with what a peer says and gives its
//! memory back when the peer falls silent.

use zeroize::Zeroize as _;

/// The read buffer while little is said.
const READ_BYTES_MIN: usize = 16 * 1024;
/// The read buffer of a busy publisher.
const READ_BYTES_MAX: usize = 512 * 1024;
/// Turns with short reads after which the buffer shrinks.
const SHORT_READS_MAX: u32 = 64;

/// The bytes read and not yet handled.
pub(super) struct ReadBuffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    short_reads: u32,
}

impl ReadBuffer {
    pub(super) fn new() -> Self {
        Self { bytes: Vec::new(), start: 0, end: 0, short_reads: 0 }
    }

    pub(super) fn pending(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Overwrites the first `n` bytes of what is pending.
    pub(super) fn wipe(&mut self, n: usize) {
        self.bytes[self.start..self.start + n].zeroize();
    }

    pub(super) fn consume(&mut self, n: usize) {
        self.start += n;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Room for the next read; grows when what is there is one unfinished frame.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.start > 0 && self.bytes.len() - self.end < self.bytes.len() / 2 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.bytes.is_empty() {
            self.bytes.resize(READ_BYTES_MIN, 0);
        } else if self.end == self.bytes.len() {
            self.bytes.resize(self.bytes.len() * 2, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// So many bytes were read. A peer that `may_have_more` memory gets it for reading faster.
    pub(super) fn filled(&mut self, n: usize, may_have_more: bool) {
        self.end += n;
        if may_have_more && self.end == self.bytes.len() && self.bytes.len() < READ_BYTES_MAX {
            self.short_reads = 0;
            self.bytes.resize((self.bytes.len() * 2).min(READ_BYTES_MAX), 0);
        } else if n < self.bytes.len() / 8 {
            self.short_reads += 1;
        } else {
            self.short_reads = 0;
        }
    }

    /// Gives memory back when the connection has become quiet.
    pub(super) fn shrink(&mut self) {
        if self.short_reads > SHORT_READS_MAX && self.end - self.start <= READ_BYTES_MIN / 2 {
            self.short_reads = 0;
            if self.bytes.len() > READ_BYTES_MIN {
                self.bytes.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
                self.bytes.truncate(READ_BYTES_MIN);
                self.bytes.shrink_to_fit();
            }
        }
    }

    /// Gives all memory back while nothing is pending: for connections that wait.
    pub(super) fn release_if_empty(&mut self) {
        if self.start == self.end && self.bytes.len() <= READ_BYTES_MIN {
            *self = Self::new();
        }
    }
}
