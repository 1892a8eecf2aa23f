//! How time passes for connections that have no sockets: to whom which deadline belongs.
//!
//! The transcripts of `tests/support` have it, too.

use leveret::broker::{Broker, Now};
use leveret::session::Connection;

/// The next moment at which something is to be done, on the monotonic clock.
pub fn next_deadline<'c>(
    broker: &Broker,
    open: impl Iterator<Item = &'c Connection>,
    now: Now,
) -> Option<u64> {
    let mono_to_unix = now.unix_ms - now.mono_ms;
    let timers = broker.timers().next().map(|at_ms| at_ms.saturating_sub(mono_to_unix));
    open.filter_map(Connection::next_timeout_ms).chain(timers).min()
}

/// Moves the clock on to a moment and has connections do what was due by then.
pub fn pass<'c>(now: &mut Now, mono_ms: u64, open: impl Iterator<Item = &'c mut Connection>) {
    let step = mono_ms.saturating_sub(now.mono_ms);
    now.mono_ms += step;
    now.unix_ms += step;
    for connection in open {
        if connection.next_timeout_ms().is_some_and(|due| due <= now.mono_ms) {
            connection.handle_timeout(*now);
            let after = connection.next_timeout_ms();
            assert!(after.is_none_or(|due| due > now.mono_ms), "a deadline is handled once");
        }
    }
}
