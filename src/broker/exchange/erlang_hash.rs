//! `erlang:phash2` of a list of binaries: what RabbitMQ hashes routing keys with.
//!
//! Erlang promises that the function never changes, across versions and machines. Computing the
//! same numbers lets a message reach the queue that it would reach in RabbitMQ. It is Bob Jenkins'
//! hash of 1996 over 32-bit words, chained from term to term.

/// The hash of `[Key1, Key2, ...]`, 27 bits wide, as `erlang:phash2/1` returns it.
pub(super) fn phash2(keys: &[&[u8]]) -> u32 {
    // A list is hashed element by element; its end counts as a term.
    let elements = keys.iter().fold(0, |hash, key| binary(key, hash));
    let whole = if keys.is_empty() { NIL_ALONE } else { end_of_list(elements) };
    whole & ((1 << 27) - 1)
}

const GOLDEN: u32 = 0x9e37_79b9;
/// The kind of a term goes into its hash as a multiple of the golden ratio.
const BINARY: u32 = GOLDEN.wrapping_mul(13);
const NIL: u32 = GOLDEN.wrapping_mul(2);
const NIL_ALONE: u32 = 3_468_870_702;

fn binary(bytes: &[u8], hash: u32) -> u32 {
    let start = BINARY.wrapping_add(hash);
    if bytes.is_empty() {
        return start;
    }
    let (mut a, mut b, mut c) = (GOLDEN, GOLDEN, start);
    let (blocks, rest) = bytes.as_chunks::<12>();
    for block in blocks {
        a = a.wrapping_add(word(block, 0));
        b = b.wrapping_add(word(block, 4));
        c = c.wrapping_add(word(block, 8));
        (a, b, c) = mix(a, b, c);
    }
    let mut last = [0; 12];
    last[..rest.len()].copy_from_slice(rest);
    a = a.wrapping_add(word(&last, 0));
    b = b.wrapping_add(word(&last, 4));
    // The lowest byte of `c` is left to the length, of which 32 bits count.
    let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    c = c.wrapping_add(len).wrapping_add(word(&last, 8) << 8);
    mix(a, b, c).2
}

fn end_of_list(hash: u32) -> u32 {
    mix(NIL.wrapping_add(2), NIL, hash).2
}

fn word(block: &[u8; 12], at: usize) -> u32 {
    u32::from_le_bytes([block[at], block[at + 1], block[at + 2], block[at + 3]])
}

fn mix(mut a: u32, mut b: u32, mut c: u32) -> (u32, u32, u32) {
    for (right, left, again) in [(13, 8, 13), (12, 16, 5), (3, 10, 15)] {
        a = a.wrapping_sub(b).wrapping_sub(c) ^ (c >> right);
        b = b.wrapping_sub(c).wrapping_sub(a) ^ (a << left);
        c = c.wrapping_sub(a).wrapping_sub(b) ^ (b >> again);
    }
    (a, b, c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_erlangs() {
        // As printed by `erlang:phash2/1` of OTP 25.
        let table: [(&[&[u8]], u32); 8] = [
            (&[], 113_427_502),
            (&[b""], 38_220_213),
            (&[b"a"], 53_691_870),
            (&[b"key"], 48_858_968),
            (&[b"abcdefghijk"], 95_467_487),
            (&[b"abcdefghijkl"], 89_208_944),
            (&[b"abcdefghijklmnopqrstuvwxyz"], 15_239_953),
            (&[b"", b"a", b""], 36_496_655),
        ];
        for (keys, expected) in table {
            assert_eq!(phash2(keys), expected, "{keys:?}");
        }
    }
}
