//! Logins in the ordinary log, in RabbitMQ's words and under its category: `log.user.level`.

use crate::broker::Now;
use crate::broker::events::{Event, Listener};
use crate::protocol::table::Value;

/// Logs who logged in and who could not.
#[derive(Debug, Clone, Copy, Default)]
pub struct LoginLog;

impl LoginLog {
    /// The target that its lines have: RabbitMQ's category.
    pub const TARGET: &'static str = "user";
}

impl Listener for LoginLog {
    fn wants(&self, key: &str) -> bool {
        is_success(key) || is_failure(key)
    }

    fn hear(&self, event: &Event, _: Now) {
        let text = |name| event.fields.get(name).and_then(Value::as_str).unwrap_or_default();
        // A name is whatever a stranger sends: it must not look like another line.
        let (user, connection) = (text("name").escape_debug(), text("connection_name"));
        if is_success(event.key) {
            tracing::info!(
                target: LoginLog::TARGET,
                connection,
                "User '{user}' authenticated successfully"
            );
        } else {
            tracing::warn!(
                target: LoginLog::TARGET,
                connection,
                "User '{user}' failed to authenticate: user '{user}' - invalid credentials"
            );
        }
    }
}

fn is_success(key: &str) -> bool {
    key == "user.authentication.success"
}

fn is_failure(key: &str) -> bool {
    matches!(key, "user.authentication.failure" | "http.authentication.failure")
}
