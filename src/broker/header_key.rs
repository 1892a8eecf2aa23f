//! A header's value as something to look up: what deduplication and message groups go by.
//!
//! Values are the same when a headers exchange would call them equal: integers of every width, and
//! strings and byte arrays, by their value. Long values are kept as a digest, so that what is
//! remembered of a message has a limit.

use sha2::{Digest, Sha256};

use super::exchange::push_header;
use super::message::Message;
use crate::protocol::properties::Properties;
use crate::protocol::table::RawTable;

/// Values up to this size are kept as they are.
const KEPT_BYTES_MAX: usize = 64;
/// Stands before a digest; no encoded value begins with it.
const DIGEST: u8 = 0xff;

/// A header's value.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct HeaderKey(std::sync::Arc<[u8]>);

/// The value of a message's header; `None` when it has none of that name.
pub(super) fn header_key(message: &Message, name: &str) -> Option<HeaderKey> {
    key_in(headers(message)?, name)
}

/// The same from headers that are at hand.
pub(super) fn key_in(headers: RawTable<'_>, name: &str) -> Option<HeaderKey> {
    let mut bytes = Vec::new();
    push_header(headers.get(name)?, &mut bytes);
    if bytes.len() > KEPT_BYTES_MAX {
        let digest = Sha256::digest(&bytes);
        bytes.clear();
        bytes.push(DIGEST);
        bytes.extend_from_slice(&digest);
    }
    Some(HeaderKey(bytes.into()))
}

/// A message's headers, if it has any.
pub(super) fn headers(message: &Message) -> Option<RawTable<'_>> {
    /// The flag of the headers in the first of the two flag bytes (0-9-1 section 4.2.6.1).
    const HEADERS: u8 = 0b0010_0000;
    if message.properties().first().is_none_or(|flags| flags & HEADERS == 0) {
        return None;
    }
    Properties::parse(message.properties()).ok()?.headers
}
