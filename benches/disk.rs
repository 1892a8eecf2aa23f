//! What benchmarks of what is durable have in common: messages, and waiting for the disk.

use std::sync::{Arc, Condvar, Mutex};

use leveret::broker::message::{Envelope, Message};
use leveret::store::{DurableWaker, Lsn, Store};

/// A persistent message.
pub(crate) fn message(body: &[u8]) -> Message {
    let envelope = Envelope {
        exchange: b"",
        routing_key: b"orders",
        properties: &[0x10, 0x00, 2],
        persistent: true,
        hides_bcc: false,
        published_ms: 1_795_000_000_000,
    };
    Message::new(&envelope, body)
}

/// A body that compresses to about half, as real ones do.
pub(crate) fn body(bytes: usize) -> Vec<u8> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut byte = |at: usize| {
        random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(at as u64);
        if at.is_multiple_of(2) { random.to_be_bytes()[0] } else { b'x' }
    };
    (0..bytes).map(&mut byte).collect()
}

#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    ringing: Condvar,
}

impl DurableWaker for Bell {
    fn wake(&self) {
        *self.rung.lock().unwrap() = true;
        self.ringing.notify_one();
    }
}

/// Waits until it is on disk.
pub(crate) fn wait_for(store: &dyn Store, lsn: Lsn) {
    let bell = Arc::new(Bell::default());
    store.notify(lsn, Arc::clone(&bell) as Arc<dyn DurableWaker>);
    let rung = bell.rung.lock().unwrap();
    drop(bell.ringing.wait_while(rung, |rung| !*rung).unwrap());
    assert!(store.durable() >= lsn, "{:?}", store.failure());
}
