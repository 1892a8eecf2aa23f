//! What a load balancer writes before a client's first byte.

use leveret::server::proxy::{NoHeader, parse};

/// A header is found at the same place however it arrives, and what is none is none from the first
/// byte that shows it.
pub fn proxy(bytes: &[u8]) {
    let whole = parse(bytes);
    if let Ok(Some(header)) = whole {
        assert!((1..=bytes.len()).contains(&header.len));
        assert_eq!(parse(&bytes[..header.len]), whole);
    }
    // A header that takes longer than this to show is too long.
    let mut before = Ok(None);
    for end in 0..=bytes.len().min(4_200) {
        let now = parse(&bytes[..end]);
        match before {
            Ok(None) => {}
            Ok(Some(_)) => assert_eq!(now, before, "more bytes change nothing"),
            Err(NoHeader) => assert_eq!(now, before, "more bytes make no header"),
        }
        before = now;
    }
    if bytes.len() <= 4_200 {
        assert_eq!(before, whole);
    } else {
        assert_ne!(whole, Ok(None), "no header is that long");
    }
}
