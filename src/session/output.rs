//! What is to be written to the peer: encoded frames, and large bodies chained instead of copied.
//!
//! Small things are copied into one buffer; a body with an allocation of its own is cut into frames
//! that refer to it. The edge asks for slices, writes them in one call, and says how much was
//! taken.
//!
//! Invariants: the bytes come out in the order in which they were appended; written bytes are at
//! most half of what the buffer holds (and [`COMPACT_BYTES_MIN`]), however the peer reads.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use crate::protocol::frame;

/// Bodies above this size are chained when they have an allocation of their own.
const CHAIN_BYTES_MIN: usize = 16 * 1024;
/// What the buffer keeps when it runs empty.
const IDLE_CAPACITY: usize = 16 * 1024;
/// Written bytes that stay at the buffer's start until it is worth moving the rest.
const COMPACT_BYTES_MIN: usize = 4 * 1024;
/// Slices handed out at once; the kernel takes at most 1,024.
const SLICES_MAX: usize = 64;

#[derive(Debug)]
enum Piece {
    Own(Vec<u8>),
    Shared { body: Arc<Vec<u8>>, from: usize, to: usize },
}

impl Piece {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Own(bytes) => bytes,
            Self::Shared { body, from, to } => &body[*from..*to],
        }
    }
}

/// Bytes on their way out.
#[derive(Debug, Default)]
pub struct Output {
    pieces: VecDeque<Piece>,
    tail: Vec<u8>,
    /// Bytes of the first piece (or of the tail, when there is none) that are written.
    written: usize,
    len: usize,
}

impl Output {
    /// Bytes not yet written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len + self.tail.len() - if self.pieces.is_empty() { self.written } else { 0 }
    }

    /// Whether everything is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The buffer to append small things to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Appends a body in frames of at most `payload_max` bytes.
    pub fn body(
        &mut self,
        channel: u16,
        body: &[u8],
        shared: Option<&Arc<Vec<u8>>>,
        payload_max: usize,
    ) {
        match shared {
            Some(shared) if body.len() >= CHAIN_BYTES_MIN => {
                let mut from = 0;
                while from < shared.len() {
                    let to = shared.len().min(from + payload_max);
                    frame::body_head(&mut self.tail, channel, to - from);
                    self.chain(shared, from, to);
                    self.tail.push(frame::FRAME_END);
                    from = to;
                }
            }
            _ => {
                for payload in body.chunks(payload_max) {
                    frame::body(&mut self.tail, channel, payload);
                }
            }
        }
    }

    fn chain(&mut self, body: &Arc<Vec<u8>>, from: usize, to: usize) {
        let mut own = std::mem::take(&mut self.tail);
        if self.pieces.is_empty() && self.written > 0 {
            own.drain(..self.written);
            self.written = 0;
        }
        self.len += own.len() + (to - from);
        if !own.is_empty() {
            self.pieces.push_back(Piece::Own(own));
        }
        self.pieces.push_back(Piece::Shared { body: Arc::clone(body), from, to });
    }

    /// What to write next, in order.
    pub fn slices<'o>(&'o self, out: &mut Vec<IoSlice<'o>>) {
        let mut skip = self.written;
        for piece in self.pieces.iter().take(SLICES_MAX) {
            out.push(IoSlice::new(&piece.bytes()[skip..]));
            skip = 0;
        }
        if out.len() < SLICES_MAX && self.tail.len() > skip {
            out.push(IoSlice::new(&self.tail[skip..]));
        }
    }

    /// `n` bytes were written.
    pub fn advance(&mut self, n: usize) {
        self.written += n;
        while let Some(piece) = self.pieces.front() {
            let piece_len = piece.bytes().len();
            if self.written < piece_len {
                return;
            }
            self.written -= piece_len;
            self.len -= piece_len;
            self.pieces.pop_front();
        }
        if self.written >= self.tail.len() {
            self.written = 0;
            self.tail.clear();
            if self.tail.capacity() > 4 * IDLE_CAPACITY {
                self.tail.shrink_to(IDLE_CAPACITY);
            }
        } else if self.written >= COMPACT_BYTES_MIN && self.written >= self.tail.len() / 2 {
            // No more is moved than was written since the last time.
            self.tail.drain(..self.written);
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(output: &mut Output, step: usize) -> Vec<u8> {
        let mut all = Vec::new();
        while !output.is_empty() {
            let mut slices = Vec::new();
            output.slices(&mut slices);
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            let n = step.min(bytes.len());
            all.extend_from_slice(&bytes[..n]);
            output.advance(n);
        }
        all
    }

    #[test]
    fn a_peer_that_reads_without_ever_catching_up_does_not_cost_more_and_more_memory() {
        let mut output = Output::default();
        let (mut sent, mut seen) = (0_u32, 0_u32);
        let mut sixty_four_kib = |output: &mut Output| {
            for _ in 0..16 * 1024 {
                output.buffer().extend_from_slice(&sent.to_be_bytes());
                sent += 1;
            }
        };
        sixty_four_kib(&mut output);
        for _ in 0..1_000 {
            sixty_four_kib(&mut output);
            for step in [1_000, 30_000, 64 * 1024 - 31_000] {
                let mut slices = Vec::new();
                output.slices(&mut slices);
                let next: Vec<u8> = slices[0][..step].to_vec();
                for number in next.chunks_exact(4) {
                    assert_eq!(number, seen.to_be_bytes());
                    seen += 1;
                }
                output.advance(step);
            }
            assert_eq!(output.len(), 64 * 1024);
        }
        assert!(output.tail.capacity() <= 512 * 1024, "{}", output.tail.capacity());
    }

    #[test]
    fn bytes_come_out_in_order_whatever_the_socket_takes() {
        let large: Arc<Vec<u8>> = Arc::new((0..50_000).map(|i| (i % 251) as u8).collect());
        for step in [1, 7, 1000, 1_000_000] {
            let mut output = Output::default();
            output.buffer().extend_from_slice(b"head");
            output.body(3, &large, Some(&large), 20_000);
            output.buffer().extend_from_slice(b"between");
            output.body(3, b"small", None, 2);
            let mut expected = b"head".to_vec();
            for chunk in large.chunks(20_000) {
                frame::body(&mut expected, 3, chunk);
            }
            expected.extend_from_slice(b"between");
            for chunk in [&b"sm"[..], b"al", b"l"] {
                frame::body(&mut expected, 3, chunk);
            }
            assert_eq!(output.len(), expected.len());
            assert_eq!(written(&mut output, step), expected, "written {step} bytes at a time");
        }
    }
}
