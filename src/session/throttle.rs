//! Whether a connection is read while the node runs short of memory or disk.
//!
//! A client that does not publish is left alone. The first content header or body that comes during
//! an alarm blocks the connection: nothing more of it is read, acknowledgements and closes
//! included, until every alarm is over; what it had begun to publish then goes on. A client that
//! can take connection.blocked hears of both ends, once each, however alarms come and go between.

use super::core::Core;
use crate::broker::alarms::Alarms;
use crate::protocol::method::{Method, connection};

/// One connection's share in the node's alarms.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// As they were when the turn began.
    alarms: Alarms,
    blocked: bool,
}

impl Throttle {
    pub(super) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Looks at the node's alarms, and goes on when they are over.
    pub(super) fn look(&mut self, core: &mut Core) {
        self.alarms = core.broker.alarms();
        if self.blocked && !self.alarms.any() {
            self.blocked = false;
            core.view_changed = true;
            if core.capabilities.connection_blocked {
                core.send(0, &Method::ConnectionUnblocked(connection::Unblocked));
            }
        }
    }

    /// The client has sent a part of a message.
    pub(super) fn on_content(&mut self, core: &mut Core) {
        if self.blocked || !self.alarms.any() {
            return;
        }
        self.blocked = true;
        core.view_changed = true;
        if core.capabilities.connection_blocked {
            let reason = self.alarms.to_string();
            core.send(0, &Method::ConnectionBlocked(connection::Blocked { reason: &reason }));
        }
    }
}
