//! The decoders alone: lengths that lie, nesting without end, strings that
//! end elsewhere. That every method writes back as it was read, `codec.rs` shows.

use leveret::protocol::method::MethodError;
use leveret::protocol::table::NESTING_MAX;
use leveret::protocol::{Method, Properties, RawTable, Summary};

use super::cost;

/// The smallest stack that any thread of the broker has.
const STACK_BYTES: usize = 2 * 1024 * 1024;

/// Tables within tables, or arrays within arrays, as a table's body.
fn nested(tag: u8, depth: usize) -> Vec<u8> {
    let entry = if tag == b'F' { 7 } else { 5 };
    let mut bytes = b"\x01a".to_vec();
    for level in 0..depth {
        if level > 0 && tag == b'F' {
            bytes.extend(b"\x01a");
        }
        bytes.push(tag);
        let inside = (depth - level - 1) * entry;
        bytes.extend(u32::try_from(inside).unwrap().to_be_bytes());
    }
    bytes
}

fn with_length(body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(body);
    bytes
}

/// start-ok with these client properties (length included) and this response.
fn start_ok(properties: &[u8], response: &[u8]) -> Vec<u8> {
    let mut payload = b"\0\x0a\0\x0b".to_vec();
    payload.extend(properties);
    payload.extend(b"\x05PLAIN");
    payload.extend(response);
    payload.extend(b"\x05en_US");
    payload
}

fn bind_with(arguments: &[u8]) -> Vec<u8> {
    let mut payload = b"\0\x32\0\x14\0\0\x01q\x01e\x01k\0".to_vec();
    payload.extend(with_length(arguments));
    payload
}

fn headers_of(table: &[u8]) -> Vec<u8> {
    let mut properties = vec![0x20, 0];
    properties.extend(with_length(table));
    properties
}

#[test]
fn lengths_that_lie_allocate_nothing() {
    let response = with_length(b"\0guest\0guest");
    let lie = b"\xff\xff\xff\xff";
    let table_with = |value: &[u8]| with_length(&[b"\x01a", value, lie].concat());
    let cases = [
        start_ok(lie, &response),
        start_ok(&[0, 0, 0, 0], lie),
        start_ok(&table_with(b"S"), &response),
        start_ok(&table_with(b"x"), &response),
        start_ok(&table_with(b"A"), &response),
        start_ok(&table_with(b"F"), &response),
        bind_with(&[b"\x01aS", &lie[..]].concat()),
    ];
    for payload in cases {
        let (bytes, _) = cost(|| assert!(Method::decode(&payload).is_err()));
        assert!(bytes <= 2 * payload.len() as u64, "{bytes} bytes for {payload:?}");
    }
    let properties = headers_of(&[b"\x01aA", &lie[..]].concat());
    let (bytes, _) = cost(|| assert!(Properties::parse(&properties).is_err()));
    assert!(bytes <= 2 * properties.len() as u64);
}

#[test]
fn twenty_thousand_levels_are_refused_on_a_small_stack() {
    let checked = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(|| {
        for tag in [b'F', b'A'] {
            let deep = nested(tag, 20_000);
            let (response, table) = (with_length(b"\0guest\0guest"), with_length(&deep));
            let payloads = [start_ok(&table, &response), bind_with(&deep)];
            let properties = headers_of(&deep);
            let (bytes, ms) = cost(|| {
                for payload in &payloads {
                    let refused = Method::decode(payload);
                    assert!(matches!(refused, Err(MethodError::Table { .. })), "{refused:?}");
                }
                assert!(Properties::parse(&properties).is_err());
                assert!(Summary::peek(&properties).is_err());
                assert!(RawTable::parse(&deep).is_err());
            });
            assert!(bytes <= 4_096, "{bytes} bytes");
            assert!(ms < 1_000, "{ms} ms");
        }
    });
    checked.unwrap().join().unwrap();
}

#[test]
fn the_deepest_table_that_is_taken_is_copied_and_dropped_on_a_small_stack() {
    let checked = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(|| {
        for tag in [b'F', b'A'] {
            // The table itself is the first level.
            let deepest = nested(tag, NESTING_MAX - 1);
            let copy = RawTable::parse(&deepest).unwrap().to_table();
            let mut written = Vec::new();
            copy.encode_body(&mut written);
            assert_eq!(written, deepest);
            assert!(RawTable::parse(&nested(tag, NESTING_MAX)).is_err());
        }
    });
    checked.unwrap().join().unwrap();
}

#[test]
fn a_wide_table_is_refused_by_its_entries_before_it_is_copied() {
    let void = |n: usize| b"\x01kV".repeat(n);
    assert!(RawTable::parse(&void(8_192)).is_ok());
    let wide = void(40_000);
    let (bytes, ms) = cost(|| assert!(RawTable::parse(&wide).is_err()));
    assert!(bytes <= 1_024, "{bytes} bytes");
    assert!(ms < 1_000, "{ms} ms");
    // Within tables and arrays they are counted together.
    let mut array = b"\x01aA".to_vec();
    array.extend(with_length(&b"V".repeat(9_000)));
    assert!(RawTable::parse(&array).is_err());
}

#[test]
fn a_string_or_table_that_is_longer_or_shorter_than_it_says_shifts_nothing() {
    let good = bind_with(b"\x01aS\0\0\0\x03xyz");
    assert!(Method::decode(&good).is_ok());
    // The last four bytes before the arguments are the table's length.
    let length_at = good.len() - 14;
    for lie in [0_u32, 1, 9, 11, 255, 256, 257, u32::MAX] {
        let mut payload = good.clone();
        payload[length_at..length_at + 4].copy_from_slice(&lie.to_be_bytes());
        assert!(Method::decode(&payload).is_err(), "{lie}");
    }
    for string_at in [6, 8, 10] {
        for lie in [0_u8, 2, 254, 255] {
            let mut payload = good.clone();
            payload[string_at] = lie;
            assert!(Method::decode(&payload).is_err(), "{string_at}: {lie}");
        }
    }
    for extra in [&b"\0"[..], b"\xce", &[0; 300]] {
        assert!(Method::decode(&[&good[..], extra].concat()).is_err());
    }
}
