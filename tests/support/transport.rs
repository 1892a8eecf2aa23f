//! What lies between a client and its broker: in this process, or a socket.
//!
//! Invariant: only a socket ever waits. What no client of a real broker can see or do has a
//! default here that ends the test as skipped, so that it never passes unseen.

use super::oracle::skip;

/// How long it takes to be certain of what has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// Something is due: until it is there, or much too late.
    Due,
    /// Perhaps nothing more comes: until all has been quiet for a while.
    Rest,
}

/// One client's way to the broker and back.
pub(super) trait Transport {
    /// The client sends bytes.
    fn send(&self, bytes: &[u8]);

    /// Appends what has come to the client; false when nothing did.
    fn receive(&self, into: &mut Vec<u8>, patience: Patience) -> bool;

    /// Whether the server has dropped the transport.
    fn is_closed(&self, patience: Patience) -> bool;

    /// The client goes away without a word.
    fn lose(&self);

    /// The client has seen an answer on this channel.
    fn answered(&self, _channel: u16) {}

    /// What the vhost that tests call `/` is named.
    fn vhost(&self) -> &str {
        "/"
    }

    /// The task that serves the client panics.
    fn crash(&self) {
        skip("a task of the broker panics")
    }

    /// The client takes so many bytes more, or everything from now on.
    fn set_reading(&self, _reads: Option<usize>) {
        skip("it depends on how many bytes a transport holds")
    }

    /// Why the server ended the connection, as its log would say.
    fn ended_because(&self) -> Option<String> {
        None
    }

    /// Whether the server takes input.
    fn is_listened_to(&self) -> bool {
        skip("only the broker knows whether it reads")
    }

    /// Bytes sent that the server has not taken.
    fn unheard_bytes(&self) -> usize {
        skip("only the broker knows what it has not read")
    }

    /// Bytes written to the client that it has not read.
    fn unread_bytes(&self) -> usize {
        skip("only the broker knows what it has written")
    }
}
