//! The body of a message in a crash test: who sent it, its number, and a checksum over all of it.

/// Bytes of the smallest body.
pub(crate) const BODY_BYTES_MIN: usize = 20;

/// A message's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessageId {
    /// The run, so that messages left over from another one are told apart.
    pub(crate) run: u32,
    /// The publisher.
    pub(crate) publisher: u32,
    /// The publisher's count, from 0.
    pub(crate) seq: u64,
}

/// Writes a body of `bytes` bytes (at least [`BODY_BYTES_MIN`]). What fills it depends on the
/// identity, so that parts of two bodies never pass for one.
pub(crate) fn encode(id: MessageId, bytes: usize, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&id.run.to_be_bytes());
    out.extend_from_slice(&id.publisher.to_be_bytes());
    out.extend_from_slice(&id.seq.to_be_bytes());
    let mut random = Random::new(id.seq ^ u64::from(id.publisher) << 40);
    while out.len() < bytes {
        out.extend_from_slice(&random.next().to_be_bytes());
    }
    out.truncate(bytes.max(BODY_BYTES_MIN));
    let crc = crc32fast::hash(&out[4..]);
    out[..4].copy_from_slice(&crc.to_be_bytes());
}

/// Reads a body back; `None` when it is not as it was written.
pub(crate) fn decode(body: &[u8]) -> Option<MessageId> {
    let (crc, rest) = body.split_first_chunk()?;
    if u32::from_be_bytes(*crc) != crc32fast::hash(rest) {
        return None;
    }
    let (run, rest) = rest.split_first_chunk()?;
    let (publisher, rest) = rest.split_first_chunk()?;
    let (seq, _) = rest.split_first_chunk()?;
    Some(MessageId {
        run: u32::from_be_bytes(*run),
        publisher: u32::from_be_bytes(*publisher),
        seq: u64::from_be_bytes(*seq),
    })
}

/// A small generator of repeatable random numbers (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// Starts from a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high.max(low) - low + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_back_unless_a_bit_of_it_has_changed() {
        let id = MessageId { run: 1, publisher: 2, seq: 3 };
        let mut body = Vec::new();
        for bytes in [0, BODY_BYTES_MIN, 21, 1000] {
            encode(id, bytes, &mut body);
            assert_eq!(body.len(), bytes.max(BODY_BYTES_MIN));
            assert_eq!(decode(&body), Some(id));
            for at in 0..body.len() {
                body[at] ^= 0x10;
                assert_eq!(decode(&body), None, "byte {at} of {bytes}");
                body[at] ^= 0x10;
            }
            assert_eq!(decode(&body[..body.len() - 1]), None);
        }
    }
}
