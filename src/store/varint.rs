//! Numbers of variable length in records of the store: 7 bits a byte, the lowest first, the upper
//! bit set in all but the last.

/// Appends a number.
pub(crate) fn put_varint(record: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        record.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    record.push(value.to_le_bytes()[0]);
}

/// Takes a number off the front. `None` when there is none, or it exceeds 64 bits.
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        let low = u64::from(byte & 0x7f);
        if low.leading_zeros() < shift {
            return None;
        }
        value |= low << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}
