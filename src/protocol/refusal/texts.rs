//! A constructor for every refusal.
//!
//! Generated from `spec/errors.toml` by `tests/it/codegen.rs`; do not edit.
//! `UPDATE_SPEC=1 cargo test codegen` writes it anew.

use std::fmt::Display;

use super::{Refusal, Scope};
use crate::protocol::reply_code::ReplyCode;

/// `frame.too-large`: closes the connection with FRAME_ERROR.
#[must_use]
pub fn frame_too_large(
    frame_type: impl Display,
    size: impl Display,
    limit: impl Display,
) -> Refusal {
    let explanation =
        format_args!("type {frame_type}, all octets = <<>>: {{frame_too_large,{size},{limit}}}");
    Refusal::new("frame.too-large", Scope::Connection, ReplyCode::FRAME_ERROR, explanation)
}

/// `frame.bad-end`: closes the connection with FRAME_ERROR.
#[must_use]
pub fn frame_bad_end(
    frame_type: impl Display,
    octets: impl Display,
    octet: impl Display,
) -> Refusal {
    let explanation =
        format_args!("type {frame_type}, {octets}: {{invalid_frame_end_marker,{octet}}}");
    Refusal::new("frame.bad-end", Scope::Connection, ReplyCode::FRAME_ERROR, explanation)
}

/// `frame.unknown-type`: closes the connection with FRAME_ERROR.
#[must_use]
pub fn frame_unknown_type(frame_type: impl Display, octets: impl Display) -> Refusal {
    let explanation = format_args!("type {frame_type}, {octets}: unknown_frame");
    Refusal::new("frame.unknown-type", Scope::Connection, ReplyCode::FRAME_ERROR, explanation)
}

/// `method.undecodable`: closes the connection with FRAME_ERROR.
#[must_use]
pub fn method_undecodable(method: impl Display) -> Refusal {
    let explanation = format_args!("cannot decode {method}");
    Refusal::new("method.undecodable", Scope::Connection, ReplyCode::FRAME_ERROR, explanation)
}

/// `method.malformed-utf8`: closes the connection with FRAME_ERROR.
#[must_use]
pub fn method_malformed_utf8() -> Refusal {
    let explanation = format_args!("Malformed UTF-8 in shortstr");
    Refusal::new("method.malformed-utf8", Scope::Connection, ReplyCode::FRAME_ERROR, explanation)
}

/// `method.unimplemented`: closes the connection with COMMAND_INVALID.
#[must_use]
pub fn method_unimplemented() -> Refusal {
    let explanation = format_args!("unimplemented method");
    Refusal::new("method.unimplemented", Scope::Connection, ReplyCode::COMMAND_INVALID, explanation)
}

/// `content.malformed-properties`: closes the connection with INTERNAL_ERROR.
#[must_use]
pub fn content_malformed_properties() -> Refusal {
    Refusal::bare("content.malformed-properties", Scope::Connection, ReplyCode::INTERNAL_ERROR)
}

/// `content.unexpected-header`: closes the connection with UNEXPECTED_FRAME.
#[must_use]
pub fn content_unexpected_header() -> Refusal {
    let explanation = format_args!("expected method frame, got non method frame instead");
    Refusal::new(
        "content.unexpected-header",
        Scope::Connection,
        ReplyCode::UNEXPECTED_FRAME,
        explanation,
    )
}

/// `content.header-expected`: closes the connection with UNEXPECTED_FRAME.
#[must_use]
pub fn content_header_expected(class_id: impl Display) -> Refusal {
    let explanation = format_args!(
        "expected content header for class {class_id}, got non content header \
         frame instead"
    );
    Refusal::new(
        "content.header-expected",
        Scope::Connection,
        ReplyCode::UNEXPECTED_FRAME,
        explanation,
    )
}

/// `content.header-class-mismatch`: closes the connection with UNEXPECTED_FRAME.
#[must_use]
pub fn content_header_class_mismatch(
    class_id: impl Display,
    received_class_id: impl Display,
) -> Refusal {
    let explanation = format_args!(
        "expected content header for class {class_id}, got one for class \
         {received_class_id} instead"
    );
    Refusal::new(
        "content.header-class-mismatch",
        Scope::Connection,
        ReplyCode::UNEXPECTED_FRAME,
        explanation,
    )
}

/// `content.body-expected`: closes the connection with UNEXPECTED_FRAME.
#[must_use]
pub fn content_body_expected() -> Refusal {
    let explanation = format_args!("expected content body, got non content body frame instead");
    Refusal::new(
        "content.body-expected",
        Scope::Connection,
        ReplyCode::UNEXPECTED_FRAME,
        explanation,
    )
}

/// `content.body-too-long`: closes the connection with FRAME_ERROR.
#[must_use]
pub fn content_body_too_long() -> Refusal {
    let explanation = format_args!("content body frame exceeds remaining content size");
    Refusal::new("content.body-too-long", Scope::Connection, ReplyCode::FRAME_ERROR, explanation)
}

/// `content.announced-too-large`: closes the connection with FRAME_ERROR.
#[must_use]
pub fn content_announced_too_large(size: impl Display) -> Refusal {
    let explanation =
        format_args!("content body size {size} exceeds maximum allowed size 536870912");
    Refusal::new(
        "content.announced-too-large",
        Scope::Connection,
        ReplyCode::FRAME_ERROR,
        explanation,
    )
}

/// `frame.unexpected`: closes the connection with UNEXPECTED_FRAME.
#[must_use]
pub fn frame_unexpected(frame_type: impl Display, octets: impl Display) -> Refusal {
    let explanation = format_args!("type {frame_type}, {octets}");
    Refusal::new("frame.unexpected", Scope::Connection, ReplyCode::UNEXPECTED_FRAME, explanation)
}

/// `connection.login-refused`: closes the connection with ACCESS_REFUSED.
#[must_use]
pub fn connection_login_refused(mechanism: impl Display) -> Refusal {
    let explanation = format_args!(
        "Login was refused using authentication mechanism {mechanism}. For \
         details see the broker logfile."
    );
    Refusal::new(
        "connection.login-refused",
        Scope::Connection,
        ReplyCode::ACCESS_REFUSED,
        explanation,
    )
}

/// `connection.node-limit`: closes the connection with NOT_ALLOWED.
#[must_use]
pub fn connection_node_limit(max: impl Display) -> Refusal {
    let explanation = format_args!("connection refused: node connection limit ({max}) is reached");
    Refusal::new("connection.node-limit", Scope::Connection, ReplyCode::NOT_ALLOWED, explanation)
}

/// `connection.vhost-not-found`: closes the connection with NOT_ALLOWED.
#[must_use]
pub fn connection_vhost_not_found(vhost: impl Display) -> Refusal {
    let explanation = format_args!("vhost {vhost} not found");
    Refusal::new(
        "connection.vhost-not-found",
        Scope::Connection,
        ReplyCode::NOT_ALLOWED,
        explanation,
    )
}

/// `connection.vhost-refused`: closes the connection with NOT_ALLOWED.
#[must_use]
pub fn connection_vhost_refused(vhost: impl Display, user: impl Display) -> Refusal {
    let explanation = format_args!("access to vhost '{vhost}' refused for user '{user}'");
    Refusal::new("connection.vhost-refused", Scope::Connection, ReplyCode::NOT_ALLOWED, explanation)
}

/// `connection.vhost-limit`: closes the connection with NOT_ALLOWED.
#[must_use]
pub fn connection_vhost_limit(
    vhost: impl Display,
    user: impl Display,
    max: impl Display,
) -> Refusal {
    let explanation = format_args!(
        "access to vhost '{vhost}' refused for user '{user}': connection limit \
         ({max}) is reached"
    );
    Refusal::new("connection.vhost-limit", Scope::Connection, ReplyCode::NOT_ALLOWED, explanation)
}

/// `connection.user-limit`: closes the connection with NOT_ALLOWED.
#[must_use]
pub fn connection_user_limit(user: impl Display, max: impl Display) -> Refusal {
    let explanation = format_args!(
        "connection refused for user '{user}': user connection limit ({max}) is \
         reached"
    );
    Refusal::new("connection.user-limit", Scope::Connection, ReplyCode::NOT_ALLOWED, explanation)
}

/// `connection.user-deleted`: closes the connection with CONNECTION_FORCED.
#[must_use]
pub fn connection_user_deleted(user: impl Display) -> Refusal {
    let explanation = format_args!("user '{user}' is deleted");
    Refusal::new(
        "connection.user-deleted",
        Scope::Connection,
        ReplyCode::CONNECTION_FORCED,
        explanation,
    )
}

/// `connection.secret-refused`: closes the connection with NOT_ALLOWED.
#[must_use]
pub fn connection_secret_refused() -> Refusal {
    let explanation = format_args!("New secret was refused by one of the backends");
    Refusal::new(
        "connection.secret-refused",
        Scope::Connection,
        ReplyCode::NOT_ALLOWED,
        explanation,
    )
}

/// `connection.credential-expired`: closes the connection with CONNECTION_FORCED.
#[must_use]
pub fn connection_credential_expired() -> Refusal {
    let explanation = format_args!("credential expired");
    Refusal::new(
        "connection.credential-expired",
        Scope::Connection,
        ReplyCode::CONNECTION_FORCED,
        explanation,
    )
}

/// `connection.unexpected-method`: closes the connection with CHANNEL_ERROR.
#[must_use]
pub fn connection_unexpected_method(state: impl Display) -> Refusal {
    let explanation = format_args!("unexpected method in connection state {state}");
    Refusal::new(
        "connection.unexpected-method",
        Scope::Connection,
        ReplyCode::CHANNEL_ERROR,
        explanation,
    )
}

/// `connection.forced`: closes the connection with CONNECTION_FORCED.
#[must_use]
pub fn connection_forced(reason: impl Display) -> Refusal {
    let explanation = format_args!("broker forced connection closure with reason '{reason}'");
    Refusal::new("connection.forced", Scope::Connection, ReplyCode::CONNECTION_FORCED, explanation)
}

/// `connection.closed-by-operator`: closes the connection with CONNECTION_FORCED.
#[must_use]
pub fn connection_closed_by_operator(reason: impl Display) -> Refusal {
    let explanation = format_args!("{reason}");
    Refusal::new(
        "connection.closed-by-operator",
        Scope::Connection,
        ReplyCode::CONNECTION_FORCED,
        explanation,
    )
}

/// `vhost.deleted`: closes the connection with CONNECTION_FORCED.
#[must_use]
pub fn vhost_deleted(vhost: impl Display) -> Refusal {
    let explanation = format_args!("vhost '{vhost}' is deleted");
    Refusal::new("vhost.deleted", Scope::Connection, ReplyCode::CONNECTION_FORCED, explanation)
}

/// `connection.internal-error`: closes the connection with INTERNAL_ERROR.
#[must_use]
pub fn connection_internal_error() -> Refusal {
    Refusal::bare("connection.internal-error", Scope::Connection, ReplyCode::INTERNAL_ERROR)
}

/// `channel.not-open`: closes the connection with CHANNEL_ERROR.
#[must_use]
pub fn channel_not_open() -> Refusal {
    let explanation = format_args!("expected 'channel.open'");
    Refusal::new("channel.not-open", Scope::Connection, ReplyCode::CHANNEL_ERROR, explanation)
}

/// `channel.already-open`: closes the connection with CHANNEL_ERROR.
#[must_use]
pub fn channel_already_open() -> Refusal {
    let explanation = format_args!("second 'channel.open' seen");
    Refusal::new("channel.already-open", Scope::Connection, ReplyCode::CHANNEL_ERROR, explanation)
}

/// `channel.max-reached`: closes the connection with NOT_ALLOWED.
#[must_use]
pub fn channel_max_reached(open: impl Display, channel_max: impl Display) -> Refusal {
    let explanation = format_args!(
        "number of channels opened ({open}) has reached the negotiated \
         channel_max ({channel_max})"
    );
    Refusal::new("channel.max-reached", Scope::Connection, ReplyCode::NOT_ALLOWED, explanation)
}

/// `channel.node-limit`: closes the connection with NOT_ALLOWED.
#[must_use]
pub fn channel_node_limit(node: impl Display, limit: impl Display) -> Refusal {
    let explanation = format_args!(
        "number of channels opened on node '{node}' has reached the maximum \
         allowed limit of {limit}"
    );
    Refusal::new("channel.node-limit", Scope::Connection, ReplyCode::NOT_ALLOWED, explanation)
}

/// `channel.flow-inactive`: closes the connection with NOT_IMPLEMENTED.
#[must_use]
pub fn channel_flow_inactive() -> Refusal {
    let explanation = format_args!("active=false");
    Refusal::new(
        "channel.flow-inactive",
        Scope::Connection,
        ReplyCode::NOT_IMPLEMENTED,
        explanation,
    )
}

/// `exchange.not-found`: closes the channel with NOT_FOUND.
#[must_use]
pub fn exchange_not_found(exchange: impl Display, vhost: impl Display) -> Refusal {
    let explanation = format_args!("no exchange '{exchange}' in vhost '{vhost}'");
    Refusal::new("exchange.not-found", Scope::Channel, ReplyCode::NOT_FOUND, explanation)
}

/// `exchange.unknown-type`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn exchange_unknown_type(type_: impl Display) -> Refusal {
    let explanation = format_args!("unknown exchange type '{type_}'");
    Refusal::new(
        "exchange.unknown-type",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `exchange.default-refused`: closes the channel with ACCESS_REFUSED.
#[must_use]
pub fn exchange_default_refused() -> Refusal {
    let explanation = format_args!("operation not permitted on the default exchange");
    Refusal::new("exchange.default-refused", Scope::Channel, ReplyCode::ACCESS_REFUSED, explanation)
}

/// `exchange.reserved-name`: closes the channel with ACCESS_REFUSED.
#[must_use]
pub fn exchange_reserved_name(exchange: impl Display) -> Refusal {
    let explanation = format_args!("exchange name '{exchange}' contains reserved prefix 'amq.*'");
    Refusal::new("exchange.reserved-name", Scope::Channel, ReplyCode::ACCESS_REFUSED, explanation)
}

/// `exchange.cluster-limit`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn exchange_cluster_limit(
    exchange: impl Display,
    vhost: impl Display,
    limit: impl Display,
) -> Refusal {
    let explanation = format_args!(
        "cannot declare exchange '{exchange}' in vhost '{vhost}': exchange limit \
         of {limit} is reached"
    );
    Refusal::new(
        "exchange.cluster-limit",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `exchange.system-deletion`: closes the channel with ACCESS_REFUSED.
#[must_use]
pub fn exchange_system_deletion(exchange: impl Display, vhost: impl Display) -> Refusal {
    let explanation =
        format_args!("deletion of system exchange '{exchange}' in vhost '{vhost}' not allowed");
    Refusal::new("exchange.system-deletion", Scope::Channel, ReplyCode::ACCESS_REFUSED, explanation)
}

/// `exchange.in-use`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn exchange_in_use(exchange: impl Display, vhost: impl Display) -> Refusal {
    let explanation = format_args!("exchange '{exchange}' in vhost '{vhost}' in use");
    Refusal::new("exchange.in-use", Scope::Channel, ReplyCode::PRECONDITION_FAILED, explanation)
}

/// `exchange.internal-publish`: closes the channel with ACCESS_REFUSED.
#[must_use]
pub fn exchange_internal_publish(exchange: impl Display, vhost: impl Display) -> Refusal {
    let explanation =
        format_args!("cannot publish to internal exchange '{exchange}' in vhost '{vhost}'");
    Refusal::new(
        "exchange.internal-publish",
        Scope::Channel,
        ReplyCode::ACCESS_REFUSED,
        explanation,
    )
}

/// `exchange.inequivalent-arg`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn exchange_inequivalent_arg(
    arg: impl Display,
    exchange: impl Display,
    vhost: impl Display,
    received: impl Display,
    current: impl Display,
) -> Refusal {
    let explanation = format_args!(
        "inequivalent arg '{arg}' for exchange '{exchange}' in vhost '{vhost}': \
         received {received} but current is {current}"
    );
    Refusal::new(
        "exchange.inequivalent-arg",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `exchange.invalid-arg-type`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn exchange_invalid_arg_type(
    type_: impl Display,
    arg: impl Display,
    exchange: impl Display,
    vhost: impl Display,
) -> Refusal {
    let explanation = format_args!(
        "invalid type '{type_}' for arg '{arg}' in exchange '{exchange}' in \
         vhost '{vhost}'"
    );
    Refusal::new(
        "exchange.invalid-arg-type",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `exchange.two-hash-sources`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn exchange_two_hash_sources() -> Refusal {
    let explanation = format_args!("hash-header and hash-property are mutually exclusive");
    Refusal::new(
        "exchange.two-hash-sources",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `exchange.unsupported-hash-property`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn exchange_unsupported_hash_property(property: impl Display) -> Refusal {
    let explanation = format_args!("Unsupported property: {property}");
    Refusal::new(
        "exchange.unsupported-hash-property",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `exchange.invalid-history-length`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn exchange_invalid_history_length(value: impl Display) -> Refusal {
    let explanation = format_args!(
        "Invalid argument {value}, 'x-recent-history-length' must be a positive \
         integer"
    );
    Refusal::new(
        "exchange.invalid-history-length",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `exchange.no-delayed-type`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn exchange_no_delayed_type() -> Refusal {
    let explanation =
        format_args!("Invalid argument, 'x-delayed-type' must be an existing exchange type");
    Refusal::new(
        "exchange.no-delayed-type",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `exchange.delayed-twice`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn exchange_delayed_twice() -> Refusal {
    let explanation =
        format_args!("Invalid argument, 'x-delayed-message' can't be used for 'x-delayed-type'");
    Refusal::new(
        "exchange.delayed-twice",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `exchange.invalid-cache-size`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn exchange_invalid_cache_size() -> Refusal {
    let explanation = format_args!(
        "Missing or invalid argument, 'x-cache-size' must be an integer greater \
         than 0"
    );
    Refusal::new(
        "exchange.invalid-cache-size",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `exchange.invalid-cache-ttl`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn exchange_invalid_cache_ttl() -> Refusal {
    let explanation =
        format_args!("Invalid argument, 'x-cache-ttl' must be an integer greater than 0");
    Refusal::new(
        "exchange.invalid-cache-ttl",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `binding.too-many-wildcards`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn binding_too_many_wildcards(key: impl Display, count: impl Display) -> Refusal {
    let explanation = format_args!(
        "Topic binding key '{key}' uses {count} '#' wildcards, at most 2 are \
         allowed"
    );
    Refusal::new(
        "binding.too-many-wildcards",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `binding.invalid-x-match`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn binding_invalid_x_match(value: impl Display) -> Refusal {
    let explanation = format_args!(
        "Invalid x-match field value {value}; expected all, any, all-with-x, or \
         any-with-x"
    );
    Refusal::new(
        "binding.invalid-x-match",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `binding.invalid-x-match-type`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn binding_invalid_x_match_type(type_: impl Display, value: impl Display) -> Refusal {
    let explanation =
        format_args!("Invalid x-match field type {type_} (value {value}); expected longstr");
    Refusal::new(
        "binding.invalid-x-match-type",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `binding.key-not-empty`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn binding_key_not_empty(key: impl Display) -> Refusal {
    let explanation = format_args!("Non empty binding '{key}' key not permitted");
    Refusal::new(
        "binding.key-not-empty",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `binding.queue-type-not-valid`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn binding_queue_type_not_valid(type_: impl Display) -> Refusal {
    let explanation = format_args!("Queue type {type_} not valid for this exchange type");
    Refusal::new(
        "binding.queue-type-not-valid",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `binding.destination-not-found`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn binding_destination_not_found() -> Refusal {
    let explanation = format_args!("Destination not found");
    Refusal::new(
        "binding.destination-not-found",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `binding.weight-not-integer`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn binding_weight_not_integer(key: impl Display) -> Refusal {
    let explanation = format_args!("The binding key must be an integer: {key}");
    Refusal::new(
        "binding.weight-not-integer",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `binding.weight-too-small`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn binding_weight_too_small() -> Refusal {
    let explanation = format_args!("The binding key must be greater than 0");
    Refusal::new(
        "binding.weight-too-small",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `binding.weight-too-large`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn binding_weight_too_large() -> Refusal {
    let explanation = format_args!("The binding key must not exceed 10000");
    Refusal::new(
        "binding.weight-too-large",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `queue.not-found`: closes the channel with NOT_FOUND.
#[must_use]
pub fn queue_not_found(queue: impl Display, vhost: impl Display) -> Refusal {
    let explanation = format_args!("no queue '{queue}' in vhost '{vhost}'");
    Refusal::new("queue.not-found", Scope::Channel, ReplyCode::NOT_FOUND, explanation)
}

/// `queue.none-declared`: closes the channel with NOT_FOUND.
#[must_use]
pub fn queue_none_declared() -> Refusal {
    let explanation = format_args!("no previously declared queue");
    Refusal::new("queue.none-declared", Scope::Channel, ReplyCode::NOT_FOUND, explanation)
}

/// `queue.reserved-name`: closes the channel with ACCESS_REFUSED.
#[must_use]
pub fn queue_reserved_name(queue: impl Display) -> Refusal {
    let explanation = format_args!("queue name '{queue}' contains reserved prefix 'amq.*'");
    Refusal::new("queue.reserved-name", Scope::Channel, ReplyCode::ACCESS_REFUSED, explanation)
}

/// `queue.cluster-limit`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn queue_cluster_limit(queue: impl Display, limit: impl Display) -> Refusal {
    let explanation = format_args!(
        "cannot declare queue '{queue}': queue limit in cluster ({limit}) is \
         reached"
    );
    Refusal::new("queue.cluster-limit", Scope::Channel, ReplyCode::PRECONDITION_FAILED, explanation)
}

/// `queue.server-named-type`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn queue_server_named_type(type_: impl Display) -> Refusal {
    let explanation = format_args!("Cannot declare a server-named queue for type {type_}");
    Refusal::new(
        "queue.server-named-type",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `queue.locked`: closes the channel with RESOURCE_LOCKED.
#[must_use]
pub fn queue_locked(queue: impl Display, vhost: impl Display) -> Refusal {
    let explanation = format_args!(
        "cannot obtain exclusive access to locked queue '{queue}' in vhost \
         '{vhost}'. It could be originally declared on another connection or the \
         exclusive property value does not match that of the original \
         declaration."
    );
    Refusal::new("queue.locked", Scope::Channel, ReplyCode::RESOURCE_LOCKED, explanation)
}

/// `queue.inequivalent-arg`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn queue_inequivalent_arg(
    arg: impl Display,
    queue: impl Display,
    vhost: impl Display,
    received: impl Display,
    current: impl Display,
) -> Refusal {
    let explanation = format_args!(
        "inequivalent arg '{arg}' for queue '{queue}' in vhost '{vhost}': \
         received {received} but current is {current}"
    );
    Refusal::new(
        "queue.inequivalent-arg",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `queue.invalid-arg`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn queue_invalid_arg(
    arg: impl Display,
    queue: impl Display,
    vhost: impl Display,
    reason: impl Display,
) -> Refusal {
    let explanation =
        format_args!("invalid arg '{arg}' for queue '{queue}' in vhost '{vhost}': {reason}");
    Refusal::new("queue.invalid-arg", Scope::Channel, ReplyCode::PRECONDITION_FAILED, explanation)
}

/// `queue.invalid-arg-type`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn queue_invalid_arg_type(
    type_: impl Display,
    arg: impl Display,
    queue: impl Display,
    vhost: impl Display,
) -> Refusal {
    let explanation = format_args!(
        "invalid type '{type_}' for arg '{arg}' in queue '{queue}' in vhost \
         '{vhost}'"
    );
    Refusal::new(
        "queue.invalid-arg-type",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `queue.invalid-arg-for-type`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn queue_invalid_arg_for_type(
    arg: impl Display,
    queue: impl Display,
    vhost: impl Display,
    module: impl Display,
) -> Refusal {
    let explanation = format_args!(
        "invalid arg '{arg}' for queue '{queue}' in vhost '{vhost}' of queue \
         type {module}"
    );
    Refusal::new(
        "queue.invalid-arg-for-type",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `queue.invalid-property`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn queue_invalid_property(
    property: impl Display,
    queue: impl Display,
    vhost: impl Display,
) -> Refusal {
    let explanation =
        format_args!("invalid property '{property}' for queue '{queue}' in vhost '{vhost}'");
    Refusal::new(
        "queue.invalid-property",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `queue.in-use`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn queue_in_use(queue: impl Display, vhost: impl Display) -> Refusal {
    let explanation = format_args!("queue '{queue}' in vhost '{vhost}' in use");
    Refusal::new("queue.in-use", Scope::Channel, ReplyCode::PRECONDITION_FAILED, explanation)
}

/// `queue.not-empty`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn queue_not_empty(queue: impl Display, vhost: impl Display) -> Refusal {
    let explanation = format_args!("queue '{queue}' in vhost '{vhost}' not empty");
    Refusal::new("queue.not-empty", Scope::Channel, ReplyCode::PRECONDITION_FAILED, explanation)
}

/// `queue.exclusive-consumer`: closes the channel with ACCESS_REFUSED.
#[must_use]
pub fn queue_exclusive_consumer(queue: impl Display, vhost: impl Display) -> Refusal {
    let explanation = format_args!("queue '{queue}' in vhost '{vhost}' in exclusive use");
    Refusal::new("queue.exclusive-consumer", Scope::Channel, ReplyCode::ACCESS_REFUSED, explanation)
}

/// `queue.no-global-qos`: closes the connection with NOT_IMPLEMENTED.
#[must_use]
pub fn queue_no_global_qos(queue: impl Display, vhost: impl Display) -> Refusal {
    let explanation =
        format_args!("queue '{queue}' in vhost '{vhost}' does not support global qos");
    Refusal::new("queue.no-global-qos", Scope::Connection, ReplyCode::NOT_IMPLEMENTED, explanation)
}

/// `queue.get-with-single-active-consumer`: closes the channel with RESOURCE_LOCKED.
#[must_use]
pub fn queue_get_with_single_active_consumer(
    queue: impl Display,
    vhost: impl Display,
    kind: impl Display,
) -> Refusal {
    let explanation = format_args!(
        "cannot obtain access to locked queue '{queue}' in vhost '{vhost}'. \
         basic.get operations are not supported by {kind} queues with single \
         active consumer"
    );
    Refusal::new(
        "queue.get-with-single-active-consumer",
        Scope::Channel,
        ReplyCode::RESOURCE_LOCKED,
        explanation,
    )
}

/// `queue.quorum-conditional-delete`: closes the connection with NOT_IMPLEMENTED.
#[must_use]
pub fn queue_quorum_conditional_delete(
    queue: impl Display,
    vhost: impl Display,
    flag: impl Display,
) -> Refusal {
    let explanation = format_args!(
        "cannot delete queue '{queue}' in vhost '{vhost}'. queue.delete \
         operations with {flag} flag set are not supported by quorum queues"
    );
    Refusal::new(
        "queue.quorum-conditional-delete",
        Scope::Connection,
        ReplyCode::NOT_IMPLEMENTED,
        explanation,
    )
}

/// `basic.immediate`: closes the connection with NOT_IMPLEMENTED.
#[must_use]
pub fn basic_immediate() -> Refusal {
    let explanation = format_args!("immediate=true");
    Refusal::new("basic.immediate", Scope::Connection, ReplyCode::NOT_IMPLEMENTED, explanation)
}

/// `basic.message-too-large`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn basic_message_too_large(size: impl Display, max: impl Display) -> Refusal {
    let explanation = format_args!("message size {size} is larger than configured max size {max}");
    Refusal::new(
        "basic.message-too-large",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `basic.user-id-mismatch`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn basic_user_id_mismatch(claimed: impl Display, user: impl Display) -> Refusal {
    let explanation =
        format_args!("user_id property set to '{claimed}' but authenticated user was '{user}'");
    Refusal::new(
        "basic.user-id-mismatch",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `basic.invalid-expiration`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn basic_invalid_expiration(expiration: impl Display, reason: impl Display) -> Refusal {
    let explanation = format_args!("invalid expiration '{expiration}': {reason}");
    Refusal::new(
        "basic.invalid-expiration",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `basic.invalid-cc`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn basic_invalid_cc(header: impl Display, type_: impl Display) -> Refusal {
    let explanation =
        format_args!("invalid message: {{unacceptable_type_in_header,\"{header}\",{type_}}}");
    Refusal::new("basic.invalid-cc", Scope::Channel, ReplyCode::PRECONDITION_FAILED, explanation)
}

/// `basic.unknown-delivery-tag`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn basic_unknown_delivery_tag(tag: impl Display) -> Refusal {
    let explanation = format_args!("unknown delivery tag {tag}");
    Refusal::new(
        "basic.unknown-delivery-tag",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `basic.ack-timeout`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn basic_ack_timeout(channel: impl Display, timeout_ms: impl Display) -> Refusal {
    let explanation = format_args!(
        "delivery acknowledgement on channel {channel} timed out. Timeout value \
         used: {timeout_ms} ms. This timeout value can be configured, see \
         consumers doc guide to learn more"
    );
    Refusal::new("basic.ack-timeout", Scope::Channel, ReplyCode::PRECONDITION_FAILED, explanation)
}

/// `basic.prefetch-size`: closes the connection with NOT_IMPLEMENTED.
#[must_use]
pub fn basic_prefetch_size(size: impl Display) -> Refusal {
    let explanation = format_args!("prefetch_size!=0 ({size})");
    Refusal::new("basic.prefetch-size", Scope::Connection, ReplyCode::NOT_IMPLEMENTED, explanation)
}

/// `basic.consumer-tag-reuse`: closes the connection with NOT_ALLOWED.
#[must_use]
pub fn basic_consumer_tag_reuse(tag: impl Display) -> Refusal {
    let explanation = format_args!("attempt to reuse consumer tag '{tag}'");
    Refusal::new("basic.consumer-tag-reuse", Scope::Connection, ReplyCode::NOT_ALLOWED, explanation)
}

/// `basic.consumer-max`: closes the connection with NOT_ALLOWED.
#[must_use]
pub fn basic_consumer_max(max: impl Display) -> Refusal {
    let explanation = format_args!("reached maximum ({max}) of consumers per channel");
    Refusal::new("basic.consumer-max", Scope::Connection, ReplyCode::NOT_ALLOWED, explanation)
}

/// `basic.recover-no-requeue`: closes the connection with NOT_IMPLEMENTED.
#[must_use]
pub fn basic_recover_no_requeue() -> Refusal {
    let explanation = format_args!("requeue=false");
    Refusal::new(
        "basic.recover-no-requeue",
        Scope::Connection,
        ReplyCode::NOT_IMPLEMENTED,
        explanation,
    )
}

/// `basic.invalid-consume-arg`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn basic_invalid_consume_arg(
    arg: impl Display,
    queue: impl Display,
    reason: impl Display,
) -> Refusal {
    let explanation = format_args!("invalid arg '{arg}' for {queue}: {reason}");
    Refusal::new(
        "basic.invalid-consume-arg",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `reply-to.must-not-ack`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn reply_to_must_not_ack() -> Refusal {
    let explanation = format_args!("reply consumer cannot acknowledge");
    Refusal::new(
        "reply-to.must-not-ack",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `reply-to.already-set`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn reply_to_already_set() -> Refusal {
    let explanation = format_args!("reply consumer already set");
    Refusal::new(
        "reply-to.already-set",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `reply-to.no-consumer`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn reply_to_no_consumer() -> Refusal {
    let explanation = format_args!("fast reply consumer does not exist");
    Refusal::new(
        "reply-to.no-consumer",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `reply-to.binding-refused`: closes the channel with ACCESS_REFUSED.
#[must_use]
pub fn reply_to_binding_refused() -> Refusal {
    let explanation = format_args!("cannot bind or unbind to a volatile (direct reply-to) queue");
    Refusal::new("reply-to.binding-refused", Scope::Channel, ReplyCode::ACCESS_REFUSED, explanation)
}

/// `confirm.on-tx-channel`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn confirm_on_tx_channel() -> Refusal {
    let explanation = format_args!("cannot switch from tx to confirm mode");
    Refusal::new(
        "confirm.on-tx-channel",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `tx.on-confirm-channel`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn tx_on_confirm_channel() -> Refusal {
    let explanation = format_args!("cannot switch from confirm to tx mode");
    Refusal::new(
        "tx.on-confirm-channel",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `tx.partial-completion`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn tx_partial_completion() -> Refusal {
    let explanation = format_args!("partial tx completion");
    Refusal::new(
        "tx.partial-completion",
        Scope::Channel,
        ReplyCode::PRECONDITION_FAILED,
        explanation,
    )
}

/// `tx.not-selected`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn tx_not_selected() -> Refusal {
    let explanation = format_args!("channel is not transactional");
    Refusal::new("tx.not-selected", Scope::Channel, ReplyCode::PRECONDITION_FAILED, explanation)
}

/// `access.refused`: closes the channel with ACCESS_REFUSED.
#[must_use]
pub fn access_refused(right: impl Display, resource: impl Display, user: impl Display) -> Refusal {
    let explanation = format_args!("{right} access to {resource} refused for user '{user}'");
    Refusal::new("access.refused", Scope::Channel, ReplyCode::ACCESS_REFUSED, explanation)
}

/// `access.topic-refused`: closes the channel with ACCESS_REFUSED.
#[must_use]
pub fn access_topic_refused(
    right: impl Display,
    key: impl Display,
    exchange: impl Display,
    vhost: impl Display,
    user: impl Display,
) -> Refusal {
    let explanation = format_args!(
        "{right} access to topic '{key}' in exchange '{exchange}' in vhost \
         '{vhost}' refused for user '{user}'"
    );
    Refusal::new("access.topic-refused", Scope::Channel, ReplyCode::ACCESS_REFUSED, explanation)
}

/// `channel.user-limit`: closes the connection with NOT_ALLOWED.
#[must_use]
pub fn channel_user_limit(user: impl Display, max: impl Display) -> Refusal {
    let explanation = format_args!(
        "number of channels opened for user '{user}' has reached the maximum \
         allowed user limit of ({max})"
    );
    Refusal::new("channel.user-limit", Scope::Connection, ReplyCode::NOT_ALLOWED, explanation)
}

/// `queue.vhost-limit`: closes the channel with PRECONDITION_FAILED.
#[must_use]
pub fn queue_vhost_limit(queue: impl Display, vhost: impl Display, max: impl Display) -> Refusal {
    let explanation = format_args!(
        "cannot declare queue '{queue}': queue limit in vhost '{vhost}' ({max}) \
         is reached"
    );
    Refusal::new("queue.vhost-limit", Scope::Channel, ReplyCode::PRECONDITION_FAILED, explanation)
}
