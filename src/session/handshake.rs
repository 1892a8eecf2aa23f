//! The handshake: from the protocol header to open-ok.
//!
//! Each phase holds only what it needs, and an input either leads to the next phase, ends with a
//! refusal that the client is told, or ends in silence, as RabbitMQ's does: a client that fails
//! before it is tuned sees its socket closed three seconds later.

use std::sync::Arc;

use super::core::Capabilities;
use super::sasl::{self, Claim, Mechanism, SaslError};
use super::{PeerAddress, SessionSettings};
use crate::broker::access::{Candidate, Identity, Taken};
use crate::broker::events::fields;
use crate::broker::vhost::Vhost;
use crate::broker::views::NodeCounters;
use crate::broker::{Broker, Now};
use crate::protocol::frame;
use crate::protocol::method::{Method, connection as methods};
use crate::protocol::refusal::{self, Refusal};
use crate::protocol::table::{RawTable, Table, Value};

/// Why the handshake ends.
#[derive(Debug)]
pub(super) enum HandshakeEnd {
    /// The client is told.
    Refused(Refusal),
    /// The socket closes after a pause, without a word.
    Silent(&'static str),
}

/// Logged in.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) identity: Identity,
    pub(super) mechanism: String,
    pub(super) capabilities: Capabilities,
    pub(super) client_properties: Table,
}

/// Logged in and tuned.
#[derive(Debug)]
pub(super) struct Tuned {
    pub(super) login: Login,
    pub(super) channel_max: u16,
    pub(super) frame_max: u32,
    pub(super) heartbeat_s: u16,
}

/// Writes connection.start.
pub(super) fn start(
    broker: &Broker,
    settings: &SessionSettings,
    peer: &PeerAddress,
    out: &mut Vec<u8>,
) {
    let mut encoded = Vec::new();
    server_properties(broker).encode_body(&mut encoded);
    let Ok(server_properties) = RawTable::parse(&encoded) else { return };
    let mechanisms: Vec<&str> = offered(settings, peer).iter().map(|it| it.name()).collect();
    let mechanisms = mechanisms.join(" ");
    let start = methods::Start {
        version_major: 0,
        version_minor: 9,
        server_properties,
        mechanisms: mechanisms.as_bytes(),
        locales: b"en_US",
    };
    frame::method(out, 0, &Method::ConnectionStart(start));
}

/// The mechanisms that this client can use: EXTERNAL is for those whose certificate was found good.
fn offered(settings: &SessionSettings, peer: &PeerAddress) -> Vec<Mechanism> {
    let can_use = |it: &Mechanism| *it != Mechanism::External || peer.certificate().is_some();
    settings.mechanisms.iter().copied().filter(can_use).collect()
}

/// What the server says of itself. Client libraries branch on `product` and `version`, so they name
/// what is imitated; who we are stands beside them.
fn server_properties(broker: &Broker) -> Table {
    let settings = broker.settings();
    let text = |value: &str| Value::LongStr(value.as_bytes().to_vec());
    let mut capabilities = Table::default();
    for capability in [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ] {
        capabilities.insert(capability, Value::Bool(true));
    }
    let mut table = Table::default();
    table.insert("capabilities", Value::Table(capabilities));
    table.insert("cluster_name", text(&settings.cluster_name));
    table.insert("copyright", text("The Leveret developers"));
    table.insert("information", text("Licensed under the Apache License 2.0"));
    table.insert("platform", text("Rust"));
    table.insert("product", text(&settings.product));
    table.insert("product_name", text(&settings.product_name));
    table.insert("product_version", text(&settings.product_version));
    table.insert("version", text(&settings.version));
    table
}

/// Handles start-ok: checks the login.
pub(super) fn on_start_ok(
    broker: &Broker,
    settings: &SessionSettings,
    peer: &PeerAddress,
    start_ok: &methods::StartOk<'_>,
    now: Now,
) -> Result<Login, HandshakeEnd> {
    let capabilities = capabilities(start_ok.client_properties);
    let mechanism = start_ok.mechanism;
    let offered = offered(settings, peer);
    let claim =
        sasl::claim(&offered, mechanism, start_ok.response).map_err(|error| match error {
            SaslError::UnknownMechanism => HandshakeEnd::Silent("unknown login mechanism"),
            SaslError::Malformed => HandshakeEnd::Silent("malformed login response"),
        })?;
    let access = broker.access();
    let from_here = |name| Candidate { name, from_loopback: peer.is_loopback };
    let (claimed, identity) = match claim {
        Claim::Password(claimed) => {
            let identity = access.log_in(from_here(&claimed.user), claimed.password.expose());
            (Some(claimed.user), identity)
        }
        Claim::Anonymous | Claim::Certificate => {
            let name = match claim {
                Claim::Anonymous => settings.anonymous_user.clone(),
                _ => peer.certificate().and_then(|shown| shown.login.clone()),
            };
            let user = name.as_deref().and_then(|name| access.find_for_peer(from_here(name)));
            (name, user.map(|user| Identity { user, authority: None }))
        }
    };
    let known = identity.as_ref().map(|identity| identity.user.name.as_str());
    tell_login(broker, peer, mechanism, known.or(claimed.as_deref()), known.is_some(), now);
    let Some(identity) = identity else {
        NodeCounters::add(&broker.counters().auth_failed, 1);
        broker.login_failures().note(peer.source, now.mono_ms);
        return Err(if capabilities.authentication_failure_close {
            HandshakeEnd::Refused(refusal::connection_login_refused(mechanism))
        } else {
            HandshakeEnd::Silent("login refused")
        });
    };
    NodeCounters::add(&broker.counters().auth_succeeded, 1);
    // Copied only now: many small values take more memory than they do on the wire.
    let client_properties = start_ok.client_properties.to_table();
    Ok(Login { identity, mechanism: mechanism.to_owned(), capabilities, client_properties })
}

/// Tells those who listen to the event exchange of a login.
fn tell_login(
    broker: &Broker,
    peer: &PeerAddress,
    mechanism: &str,
    user: Option<&str>,
    succeeded: bool,
    now: Now,
) {
    let key = match succeeded {
        true => "user.authentication.success",
        false => "user.authentication.failure",
    };
    broker.emit(key, now, || {
        let mut fields = Table::new()
            .with("connection_type", "network")
            .with("name", user.unwrap_or_default())
            .with("host", fields::address(&peer.host.0))
            .with("connection_name", peer.connection_name())
            .with("peer_host", fields::address(&peer.peer.0))
            .with("peer_port", fields::integer(peer.peer.1))
            .with("protocol", fields::PROTOCOL)
            .with("auth_mechanism", mechanism)
            .with("ssl", peer.tls.is_some());
        if let Some(tls) = &peer.tls {
            fields.insert("ssl_protocol", tls.protocol).insert("ssl_cipher", tls.cipher);
        }
        if let Some(shown) = peer.certificate() {
            fields
                .insert("peer_cert_issuer", &*shown.issuer)
                .insert("peer_cert_subject", &*shown.subject)
                .insert("peer_cert_validity", &*shown.validity);
        }
        if !succeeded {
            // A text is a list of characters in Erlang, and so it arrives.
            let error = format!("user '{}' - invalid credentials", user.unwrap_or_default());
            let characters = error.chars().map(fields::integer).collect::<Vec<_>>();
            fields.insert("error", characters);
        }
        fields
    });
}

fn capabilities(client_properties: RawTable<'_>) -> Capabilities {
    let declared = client_properties.get("capabilities").and_then(|it| it.as_table());
    let Some(declared) = declared else { return Capabilities::default() };
    let has = |name: &str| declared.get(name).and_then(|it| it.as_bool()) == Some(true);
    Capabilities {
        authentication_failure_close: has("authentication_failure_close"),
        consumer_cancel_notify: has("consumer_cancel_notify"),
        connection_blocked: has("connection.blocked"),
    }
}

/// Writes connection.tune.
pub(super) fn tune(settings: &SessionSettings, out: &mut Vec<u8>) {
    let tune = methods::Tune {
        channel_max: settings.channel_max,
        frame_max: settings.frame_max,
        heartbeat: settings.heartbeat_s,
    };
    frame::method(out, 0, &Method::ConnectionTune(tune));
}

/// Handles tune-ok: the client may lower limits, not lift them; its heartbeat counts.
pub(super) fn on_tune_ok(
    settings: &SessionSettings,
    login: Login,
    tune_ok: &methods::TuneOk,
) -> Result<Tuned, HandshakeEnd> {
    let lifted = |asked: u32, offered: u32| offered != 0 && (asked == 0 || asked > offered);
    if lifted(tune_ok.channel_max.into(), settings.channel_max.into()) {
        return Err(HandshakeEnd::Silent("channel_max above the offered one"));
    }
    if tune_ok.frame_max != 0 && tune_ok.frame_max < settings.frame_min {
        return Err(HandshakeEnd::Silent("frame_max below the minimum"));
    }
    if lifted(tune_ok.frame_max, settings.frame_max) {
        return Err(HandshakeEnd::Silent("frame_max above the offered one"));
    }
    let frame_max = tune_ok.frame_max;
    Ok(Tuned { login, channel_max: tune_ok.channel_max, frame_max, heartbeat_s: tune_ok.heartbeat })
}

/// A vhost that a connection may enter, and its places under the limits of the node, the vhost and
/// the user.
pub(super) struct Admission {
    pub(super) vhost: Arc<Vhost>,
    pub(super) places: [Taken; 3],
}

/// Handles connection.open: is there room for a connection more, and may this user enter this
/// vhost?
pub(super) fn on_open(
    broker: &Broker,
    peer: &PeerAddress,
    identity: &Identity,
    open: &methods::Open<'_>,
) -> Result<Admission, HandshakeEnd> {
    admit(broker, peer, identity, open.virtual_host).map_err(HandshakeEnd::Refused)
}

fn admit(
    broker: &Broker,
    peer: &PeerAddress,
    identity: &Identity,
    name: &str,
) -> Result<Admission, Refusal> {
    let user = &identity.user;
    if let Some(refusal) = broker.stopping() {
        return Err(refusal.clone());
    }
    let of_node = broker.take_connection_place()?;
    let vhost = broker.vhost(name).ok_or_else(|| refusal::connection_vhost_not_found(name))?;
    let of_vhost = vhost.take_connection().ok_or_else(|| {
        let max = vhost.limits().connections_max.unwrap_or_default();
        refusal::connection_vhost_limit(name, &user.name, max)
    })?;
    let of_user = broker.access().take_connection(user).ok_or_else(|| {
        let max = user.limits.connections_max.unwrap_or_default();
        refusal::connection_user_limit(&user.name, max)
    })?;
    if !identity.may_enter(broker.access(), name, Some(&peer.peer.0)) {
        return Err(refusal::connection_vhost_refused(name, &user.name));
    }
    Ok(Admission { vhost, places: [of_node, of_vhost, of_user] })
}
