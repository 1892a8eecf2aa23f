//! What holds for any bytes from a peer. Each check panics when it does not.

use leveret::protocol::{FrameError, Method, Properties, RawTable, Summary, Table, frame};

/// Frames are found or refused, whole and byte by byte alike, and write back as they came.
pub fn frame(bytes: &[u8]) {
    const FRAME_MAX: u32 = 4096;
    let mut rest = bytes;
    loop {
        match frame::parse(rest, FRAME_MAX) {
            Ok(Some((found, used))) => {
                let (whole, after) = rest.split_at(used);
                assert_eq!(frame::parse(whole, FRAME_MAX), Ok(Some((found, used))));
                assert_eq!(frame::parse(&whole[..used - 1], FRAME_MAX), Ok(None));
                let mut written = vec![found.kind as u8];
                written.extend(found.channel.to_be_bytes());
                written.extend(u32::try_from(found.payload.len()).unwrap().to_be_bytes());
                written.extend(found.payload);
                written.push(frame::FRAME_END);
                assert_eq!(written, whole);
                rest = after;
            }
            Ok(None) => {
                assert!(rest.len() < FRAME_MAX as usize + frame::OVERHEAD_BYTES);
                return;
            }
            Err(FrameError::TooLarge { size, .. }) => {
                assert!(size > FRAME_MAX);
                assert!(frame::parse(&rest[..frame::HEAD_BYTES], FRAME_MAX).is_err());
                return;
            }
            Err(FrameError::BadEnd { .. } | FrameError::UnknownKind { .. }) => return,
        }
    }
}

/// A method that can be read writes back as one that reads the same.
pub fn method(bytes: &[u8]) {
    let Ok(method) = Method::decode(bytes) else { return };
    let mut written = Vec::new();
    method.encode(&mut written);
    assert_eq!(Method::decode(&written), Ok(method));
    assert_eq!(written[..4], bytes[..4]);
}

/// A table that was accepted can be walked to its end, copied and written again.
pub fn table(bytes: &[u8]) {
    let Ok(raw) = RawTable::parse(bytes) else { return };
    let owned = raw.to_table();
    assert_eq!(raw.iter().count(), owned.len());
    let written = body_of(&owned);
    assert_eq!(written.len(), bytes.len());
    let again = RawTable::parse(&written).expect("what was accepted is accepted again");
    // Bytes are compared, not values: a NaN does not equal itself.
    assert_eq!(body_of(&again.to_table()), written);
}

/// Both readers of properties judge alike, and properties write back as they were read.
pub fn properties(bytes: &[u8]) {
    let parsed = Properties::parse(bytes);
    let summary = Summary::peek(bytes);
    let properties = match (parsed, summary) {
        (Ok(properties), Ok(summary)) => {
            assert_eq!(summary.delivery_mode, properties.delivery_mode);
            assert_eq!(summary.priority, properties.priority);
            assert_eq!(summary.has_headers, properties.headers.is_some());
            assert_eq!(summary.has_expiration, properties.expiration.is_some());
            assert_eq!(summary.has_reply_to, properties.reply_to.is_some());
            assert_eq!(summary.has_user_id, properties.user_id.is_some());
            properties
        }
        (Err(_), Err(_)) => return,
        (parsed, summary) => panic!("{parsed:?} but {summary:?}"),
    };
    let mut written = Vec::new();
    properties.encode(&mut written);
    assert_eq!(Properties::parse(&written), Ok(properties));
    assert_eq!(written[2..], bytes[2..]);
}

fn body_of(table: &Table) -> Vec<u8> {
    let mut body = Vec::new();
    table.encode_body(&mut body);
    body
}
