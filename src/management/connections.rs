//! `/api/connections` and `/api/channels`.

use serde_json::{Value as Json, json};

use super::consumers;
use super::reply::{Refusal, Reply};
use super::request::{Request, Right};
use super::value;
use crate::broker::alarms::Alarms;
use crate::broker::views::{ChannelView, ConnectionView};

/// What a client is told when an operator gives no reason (header `x-reason`).
const REASON: &str = "Closed via management plugin";
const REASON_BYTES_MAX: usize = 200;

/// `GET /api/connections` and `/api/vhosts/{vhost}/connections`.
pub(super) fn list(request: &Request) -> Result<Reply, Refusal> {
    Ok(shown(request, sorted(request)?))
}

/// `GET /api/connections/username/{user}`.
pub(super) fn of_user(request: &Request) -> Result<Reply, Refusal> {
    let mut connections = sorted(request)?;
    connections.retain(|connection| connection.user == request.name("user"));
    Ok(shown(request, connections))
}

/// `GET /api/connections/{connection}`.
pub(super) fn show(request: &Request) -> Result<Reply, Refusal> {
    let connection = request.connection(Right::See)?;
    Ok(Reply::Document(one(request, &connection)))
}

/// `DELETE /api/connections/{connection}`: the client gets 320 CONNECTION_FORCED with the reason.
pub(super) fn close(request: &Request) -> Result<Reply, Refusal> {
    let connection = request.connection(Right::Close)?;
    request.inspect().close_connection(&connection.name, &reason(request));
    Ok(Reply::Done)
}

/// `DELETE /api/connections/username/{user}`.
pub(super) fn close_of_user(request: &Request) -> Result<Reply, Refusal> {
    let caller = request.caller()?;
    let user = request.name("user");
    if !caller.is_administrator() && caller.name() != user {
        return Err(Refusal::not_authorised("User not authorised to access object"));
    }
    for connection in request.inspect().connections().iter().filter(|c| c.user == user) {
        request.inspect().close_connection(&connection.name, &reason(request));
    }
    Ok(Reply::Done)
}

/// `GET /api/channels` and `/api/vhosts/{vhost}/channels`.
pub(super) fn channels(request: &Request) -> Result<Reply, Refusal> {
    let node = request.inspect().node().name;
    let connections = sorted(request)?;
    let channels = connections.iter().flat_map(|connection| {
        connection.channels.iter().map(|channel| one_channel(connection, channel, &node))
    });
    Ok(Reply::list(channels))
}

/// `GET /api/connections/{connection}/channels`.
pub(super) fn its_channels(request: &Request) -> Result<Reply, Refusal> {
    let node = request.inspect().node().name;
    let connection = request.connection(Right::See)?;
    let channels = connection.channels.iter().map(|c| one_channel(&connection, c, &node));
    Ok(Reply::list(channels))
}

/// `GET /api/channels/{channel}`.
pub(super) fn channel(request: &Request) -> Result<Reply, Refusal> {
    let inspect = request.inspect();
    let node = inspect.node().name;
    let wanted = request.name("channel");
    for connection in request.connections()? {
        let its = connection.channels.iter().find(|c| channel_name(&connection, c) == wanted);
        if let Some(channel) = its {
            let mut shown = one_channel(&connection, channel, &node);
            let queues = inspect.queues(Some(&connection.vhost));
            shown["consumer_details"] =
                consumers::of_channel(&queues, &connection, channel.number, &node);
            shown["publishes"] = json!([]);
            shown["deliveries"] = json!([]);
            return Ok(Reply::Document(shown));
        }
    }
    Err(Refusal::not_found())
}

/// A channel's name, "connection (number)".
pub(super) fn channel_name(connection: &ConnectionView, channel: &ChannelView) -> String {
    format!("{} ({})", connection.name, channel.number)
}

fn sorted(request: &Request) -> Result<Vec<ConnectionView>, Refusal> {
    let mut connections = request.connections()?;
    connections.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(connections)
}

fn shown(request: &Request, connections: Vec<ConnectionView>) -> Reply {
    Reply::list(connections.iter().map(|connection| one(request, connection)))
}

/// The operator's reason, without what could not stand in a short string of a close method.
fn reason(request: &Request) -> String {
    let given = request.header("x-reason").map(str::trim).filter(|reason| !reason.is_empty());
    given.unwrap_or(REASON).chars().take(REASON_BYTES_MAX).collect()
}

/// Whether it goes on in spite of the alarms: one that has not published yet is only about to be
/// blocked.
fn state(connection: &ConnectionView, alarms: Alarms) -> &'static str {
    match (connection.blocked, alarms.any()) {
        (true, _) => "blocked",
        (false, true) => "blocking",
        (false, false) => "running",
    }
}

fn one(request: &Request, connection: &ConnectionView) -> Json {
    let (node, alarms) = (request.inspect().node().name, request.inspect().alarms());
    let (peer_host, peer_port) = &connection.peer;
    let (host, port) = &connection.host;
    let tls = connection.tls.as_deref();
    let certificate = tls.and_then(|tls| tls.certificate.as_ref());
    let mut shown = json!({
        "name": connection.name,
        "node": node,
        "type": "network",
        "state": state(connection, alarms),
        "protocol": "AMQP 0-9-1",
        "user": connection.user,
        "user_who_performed_action": connection.user,
        "vhost": connection.vhost,
        "auth_mechanism": connection.auth_mechanism,
        "peer_host": peer_host,
        "peer_port": peer_port,
        "host": host,
        "port": port,
        "ssl": tls.is_some(),
        "ssl_protocol": tls.map(|tls| tls.protocol),
        "ssl_key_exchange": tls.map(|tls| tls.key_exchange),
        "ssl_cipher": tls.map(|tls| tls.cipher),
        "ssl_hash": tls.map(|tls| tls.hash),
        "peer_cert_subject": certificate.map(|it| &it.subject),
        "peer_cert_issuer": certificate.map(|it| &it.issuer),
        "peer_cert_validity": certificate.map(|it| &it.validity),
        "channels": connection.channels.len(),
        "channel_max": connection.channel_max,
        "frame_max": connection.frame_max,
        "timeout": connection.heartbeat_s,
        "connected_at": connection.connected_at_ms,
        "client_properties": value::table(&connection.client_properties),
        "recv_oct": connection.received_bytes,
        "send_oct": connection.sent_bytes,
    });
    if let Some(name) = &connection.user_provided_name {
        shown["user_provided_name"] = json!(name);
    }
    shown
}

fn one_channel(connection: &ConnectionView, channel: &ChannelView, node: &str) -> Json {
    let (peer_host, peer_port) = &connection.peer;
    json!({
        "name": channel_name(connection, channel),
        "number": channel.number,
        "node": node,
        "vhost": connection.vhost,
        "user": connection.user,
        "user_who_performed_action": connection.user,
        "state": "running",
        "connection_details": {
            "name": connection.name,
            "peer_host": peer_host,
            "peer_port": peer_port,
        },
        "consumer_count": channel.consumers,
        "messages_unacknowledged": channel.unacked,
        "messages_unconfirmed": channel.unconfirmed,
        "messages_uncommitted": channel.uncommitted,
        "prefetch_count": channel.prefetch,
        "global_prefetch_count": channel.global_prefetch,
        "confirm": channel.confirm,
        "transactional": channel.transactional,
    })
}
