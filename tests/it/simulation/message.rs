//! The messages of a simulation: numbered, and of a length and content that follow from the number.

use super::random::Random;

const NUMBER_BYTES: usize = 8;

/// The body of a message.
pub(super) fn body(id: u32, random: &mut Random) -> Vec<u8> {
    let filler = match random.below(32) {
        0 => 20_000,
        1..8 => 300,
        _ => random.index(40),
    };
    with_filler(id, filler)
}

fn with_filler(id: u32, filler: usize) -> Vec<u8> {
    let mut body = format!("{id:0NUMBER_BYTES$x}").into_bytes();
    body.resize(NUMBER_BYTES + filler, id.to_be_bytes()[3]);
    body
}

/// The number of a message; `None` when this is no body of any.
pub(super) fn id(body: &[u8]) -> Option<u32> {
    let digits = std::str::from_utf8(body.get(..NUMBER_BYTES)?).ok()?;
    let id = u32::from_str_radix(digits, 16).ok()?;
    (body == with_filler(id, body.len() - NUMBER_BYTES)).then_some(id)
}
