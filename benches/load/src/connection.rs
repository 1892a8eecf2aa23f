//! One blocking connection to a broker: handshake, the synchronous calls, orderly close.
//!
//! The load loops take over [`Connection::stream`] and [`Connection::inbound`] once everything is
//! declared. Reads return after [`READ_WAIT`] at the latest, so that a loop can look at its stop
//! flag; writes give up when the broker has taken nothing for [`STALL_NS_MAX`].

use std::io::{self, ErrorKind, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::clock;
use crate::stream::Stream;
use crate::wire::{
    Arguments, BodyView, Covers, FRAME_METHOD, Fields, Inbound, MethodId, PROTOCOL_HEADER, Table,
    Value, WireError, method, put_heartbeat, put_method,
};

/// The one channel that each connection uses.
pub(crate) const CHANNEL: u16 = 1;
/// How long a read waits before it returns with nothing.
pub(crate) const READ_WAIT: Duration = Duration::from_millis(100);
/// How long a broker may take nothing, or leave a call unanswered, before that is an error.
pub(crate) const STALL_NS_MAX: u64 = 60 * clock::SECOND_NS;

/// Calls that are sent before the first of their answers is waited for.
const CALLS_AT_ONCE: usize = 200;
const CONNECT_WAIT: Duration = Duration::from_secs(5);
const FRAME_BYTES_MAX: u32 = 131_072;

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The socket failed.
    #[error("socket: {0}")]
    Io(#[from] io::Error),
    /// The broker sent something that is not AMQP 0-9-1.
    #[error("the broker sent {0}")]
    Wire(#[from] WireError),
    /// The broker closed the connection or the channel.
    #[error("the broker closed: {code} {text}")]
    Closed {
        /// The reply code.
        code: u16,
        /// The reply text.
        text: String,
    },
    /// The peer closed the socket without a word.
    #[error("the broker closed the socket")]
    EndOfStream,
    /// Nothing moved for too long.
    #[error("nothing from the broker in {0} s while waiting for {1}")]
    Stalled(u64, &'static str),
    /// The broker broke a promise that the load relies on.
    #[error("unexpected: {0}")]
    Unexpected(String),
}

/// Where the broker is and who logs in: `amqp://user:password@host:port/vhost`, or by TLS
/// `amqps://...?cacertfile=FILE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Host and port.
    pub(crate) address: String,
    /// Who logs in.
    pub(crate) user: String,
    password: String,
    vhost: String,
    /// By TLS: the authorities that may have signed the broker's certificate.
    authorities: Option<PathBuf>,
}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        let (rest, authorities) = match url.strip_prefix("amqps://") {
            Some(rest) => {
                let (rest, file) = rest.split_once("?cacertfile=").ok_or("no ?cacertfile=FILE")?;
                (rest, Some(PathBuf::from(file)))
            }
            None => (url.strip_prefix("amqp://").ok_or("expected amqp://...")?, None),
        };
        let (authority, vhost) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, host) = authority.rsplit_once('@').unwrap_or(("guest:guest", authority));
        let (user, password) = login.split_once(':').ok_or("expected user:password")?;
        let port = if authorities.is_some() { 5671 } else { 5672 };
        let address = if host.contains(':') { host.to_owned() } else { format!("{host}:{port}") };
        let vhost = match vhost {
            "" | "%2F" | "%2f" => "/".to_owned(),
            name => name.to_owned(),
        };
        let (user, password) = (user.to_owned(), password.to_owned());
        Ok(Self { address, user, password, vhost, authorities })
    }
}

impl Target {
    /// The host, as its certificate names it.
    fn host(&self) -> &str {
        self.address.rsplit_once(':').map_or(&*self.address, |(host, _)| host)
    }
}

/// What a connection asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Options {
    /// The heartbeat in seconds; 0 turns it off.
    pub(crate) heartbeat_s: u16,
    /// How bodies are looked at.
    pub(crate) body_view: BodyView,
    /// The receive buffer in bytes.
    pub(crate) inbound_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { heartbeat_s: 0, body_view: BodyView::Start(16), inbound_bytes: 256 * 1024 }
    }
}

/// What is declared, bound and deleted; flags as in the specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueOptions {
    /// Survives a restart.
    pub(crate) durable: bool,
    /// Goes with its last consumer.
    pub(crate) auto_delete: bool,
    /// `x-` arguments.
    pub(crate) arguments: Table,
}

/// An open connection with one open channel, [`CHANNEL`].
pub(crate) struct Connection {
    /// Its bytes; reads return after [`READ_WAIT`].
    pub(crate) stream: Stream,
    /// What has arrived on it.
    pub(crate) inbound: Inbound,
    /// The largest frame that either side sends, in bytes.
    pub(crate) frame_bytes_max: usize,
    out: Vec<u8>,
}

impl Connection {
    /// Connects, logs in and opens the channel.
    pub(crate) fn open(target: &Target, options: Options) -> Result<Self, ClientError> {
        let address = target.address.to_socket_addrs()?.next().ok_or(ClientError::EndOfStream)?;
        let socket = TcpStream::connect_timeout(&address, CONNECT_WAIT)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(READ_WAIT))?;
        socket.set_write_timeout(Some(Duration::from_secs(1)))?;
        let stream = match &target.authorities {
            None => Stream::Plain(socket),
            Some(authorities) => Stream::tls(socket, target.host(), authorities)?,
        };
        let inbound = Inbound::with_capacity(options.inbound_bytes, options.body_view);
        let mut connection =
            Self { stream, inbound, frame_bytes_max: 4096, out: Vec::with_capacity(512) };
        connection.handshake(target, options)?;
        connection.open_channel(CHANNEL)?;
        Ok(connection)
    }

    /// Logs in on a socket as someone whom the broker does not let in. Returns how long its answer
    /// took, in nanoseconds.
    pub(crate) fn refused_login(
        stream: TcpStream,
        user: &str,
        password: &str,
    ) -> Result<u64, ClientError> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(READ_WAIT))?;
        let stream = Stream::Plain(stream);
        let inbound = Inbound::with_capacity(4096, BodyView::Start(16));
        let mut connection = Self { stream, inbound, frame_bytes_max: 4096, out: Vec::new() };
        connection.send(PROTOCOL_HEADER)?;
        connection.wait_for(0, method::CONNECTION_START)?;
        let begin_ns = clock::now_ns();
        match connection.log_in(user, password) {
            Err(ClientError::Closed { code: 403, .. }) => Ok(clock::now_ns() - begin_ns),
            Err(error) => Err(error),
            Ok(_) => Err(ClientError::Unexpected(format!("user '{user}' was let in"))),
        }
    }

    fn log_in(&mut self, user: &str, password: &str) -> Result<Vec<u8>, ClientError> {
        let response = format!("\0{user}\0{password}");
        put_method(&mut self.out, 0, method::CONNECTION_START_OK, |arguments| {
            arguments.table(&client_properties()).short_string("PLAIN");
            arguments.long_string(response.as_bytes()).short_string("en_US");
        });
        self.flush()?;
        self.wait_for(0, method::CONNECTION_TUNE)
    }

    fn handshake(&mut self, target: &Target, options: Options) -> Result<(), ClientError> {
        self.send(PROTOCOL_HEADER)?;
        self.wait_for(0, method::CONNECTION_START)?;
        let tune = self.log_in(&target.user, &target.password)?;
        let mut fields = Fields::new(&tune);
        let (channels_max, offered) = (fields.short()?, fields.long()?);
        let frame_max = if offered == 0 { FRAME_BYTES_MAX } else { offered.min(FRAME_BYTES_MAX) };
        self.frame_bytes_max = frame_max as usize;
        put_method(&mut self.out, 0, method::CONNECTION_TUNE_OK, |arguments| {
            arguments.short(channels_max).long(frame_max).short(options.heartbeat_s);
        });
        put_method(&mut self.out, 0, method::CONNECTION_OPEN, |arguments| {
            arguments.short_string(&target.vhost).short_string("").octet(0);
        });
        self.flush()?;
        self.wait_for(0, method::CONNECTION_OPEN_OK).map(drop)
    }

    /// Opens one more channel.
    pub(crate) fn open_channel(&mut self, channel: u16) -> Result<(), ClientError> {
        self.call(channel, method::CHANNEL_OPEN, method::CHANNEL_OPEN_OK, |arguments| {
            arguments.short_string("");
        })
        .map(drop)
    }

    /// Closes a channel. Everything published on it before has been handled when this returns.
    pub(crate) fn close_channel(&mut self, channel: u16) -> Result<(), ClientError> {
        self.call(channel, method::CHANNEL_CLOSE, method::CHANNEL_CLOSE_OK, |arguments| {
            arguments.short(200).short_string("done").short(0).short(0);
        })
        .map(drop)
    }

    /// Closes the connection.
    pub(crate) fn close(mut self) -> Result<(), ClientError> {
        self.call(0, method::CONNECTION_CLOSE, method::CONNECTION_CLOSE_OK, |arguments| {
            arguments.short(200).short_string("done").short(0).short(0);
        })
        .map(drop)
    }

    /// Declares an exchange.
    pub(crate) fn declare_exchange(
        &mut self,
        name: &str,
        kind: &str,
        durable: bool,
        table: &[(String, Value)],
    ) -> Result<(), ClientError> {
        self.call(CHANNEL, method::EXCHANGE_DECLARE, method::EXCHANGE_DECLARE_OK, |arguments| {
            arguments.short(0).short_string(name).short_string(kind);
            arguments.octet(u8::from(durable) << 1).table(table);
        })
        .map(drop)
    }

    /// Deletes an exchange.
    pub(crate) fn delete_exchange(&mut self, name: &str) -> Result<(), ClientError> {
        self.call(CHANNEL, method::EXCHANGE_DELETE, method::EXCHANGE_DELETE_OK, |arguments| {
            arguments.short(0).short_string(name).octet(0);
        })
        .map(drop)
    }

    /// Declares a queue. Returns the number of messages ready in it.
    pub(crate) fn declare_queue(
        &mut self,
        name: &str,
        options: &QueueOptions,
    ) -> Result<u32, ClientError> {
        let flags = u8::from(options.durable) << 1 | u8::from(options.auto_delete) << 3;
        self.declare(name, flags, &options.arguments)
    }

    /// Asks how many messages are ready in an existing queue (a passive declare).
    pub(crate) fn ready_in(&mut self, name: &str) -> Result<u32, ClientError> {
        self.declare(name, 1, &[])
    }

    fn declare(
        &mut self,
        name: &str,
        flags: u8,
        table: &[(String, Value)],
    ) -> Result<u32, ClientError> {
        let answer =
            self.call(CHANNEL, method::QUEUE_DECLARE, method::QUEUE_DECLARE_OK, |arguments| {
                arguments.short(0).short_string(name).octet(flags).table(table);
            })?;
        let mut fields = Fields::new(&answer);
        fields.short_string()?;
        Ok(fields.long()?)
    }

    /// Deletes a queue, used or not, empty or not.
    pub(crate) fn delete_queue(&mut self, name: &str) -> Result<(), ClientError> {
        self.call(CHANNEL, method::QUEUE_DELETE, method::QUEUE_DELETE_OK, |arguments| {
            arguments.short(0).short_string(name).octet(0);
        })
        .map(drop)
    }

    /// Drops what is ready in a queue.
    pub(crate) fn purge_queue(&mut self, name: &str) -> Result<(), ClientError> {
        self.call(CHANNEL, method::QUEUE_PURGE, method::QUEUE_PURGE_OK, |arguments| {
            arguments.short(0).short_string(name).octet(0);
        })
        .map(drop)
    }

    /// Binds a queue.
    pub(crate) fn bind(
        &mut self,
        queue: &str,
        exchange: &str,
        key: &str,
    ) -> Result<(), ClientError> {
        self.call(CHANNEL, method::QUEUE_BIND, method::QUEUE_BIND_OK, |arguments| {
            arguments.short(0).short_string(queue).short_string(exchange).short_string(key);
            arguments.octet(0).table(&[]);
        })
        .map(drop)
    }

    /// Declares many queues, or with `existing` looks whether they are there (a passive declare).
    pub(crate) fn declare_queues(
        &mut self,
        names: &[String],
        options: &QueueOptions,
        existing: bool,
    ) -> Result<(), ClientError> {
        let flags = if existing { 1 } else { u8::from(options.durable) << 1 };
        let ids = (method::QUEUE_DECLARE, method::QUEUE_DECLARE_OK);
        self.call_each(names, ids, |name, arguments| {
            arguments.short(0).short_string(name).octet(flags).table(&options.arguments);
        })
    }

    /// Binds queues to an exchange, each with its key.
    pub(crate) fn bind_all(
        &mut self,
        exchange: &str,
        bindings: &[(&str, &str)],
    ) -> Result<(), ClientError> {
        let ids = (method::QUEUE_BIND, method::QUEUE_BIND_OK);
        self.call_each(bindings, ids, |(queue, key), arguments| {
            arguments.short(0).short_string(queue).short_string(exchange).short_string(key);
            arguments.octet(0).table(&[]);
        })
    }

    /// Calls the same method for each item, many before the first is answered.
    fn call_each<T>(
        &mut self,
        items: &[T],
        (id, answer): (MethodId, MethodId),
        write: impl Fn(&T, &mut Arguments<'_>),
    ) -> Result<(), ClientError> {
        for some in items.chunks(CALLS_AT_ONCE) {
            for item in some {
                put_method(&mut self.out, CHANNEL, id, |arguments| write(item, arguments));
            }
            self.flush()?;
            for _ in some {
                self.wait_for(CHANNEL, answer)?;
            }
        }
        Ok(())
    }

    /// Undoes a [`Connection::bind`].
    pub(crate) fn unbind(
        &mut self,
        queue: &str,
        exchange: &str,
        key: &str,
    ) -> Result<(), ClientError> {
        self.call(CHANNEL, method::QUEUE_UNBIND, method::QUEUE_UNBIND_OK, |arguments| {
            arguments.short(0).short_string(queue).short_string(exchange).short_string(key);
            arguments.table(&[]);
        })
        .map(drop)
    }

    /// Limits the unacknowledged deliveries of each later consumer; 0 is no limit.
    pub(crate) fn qos(&mut self, prefetch: u16) -> Result<(), ClientError> {
        self.call(CHANNEL, method::BASIC_QOS, method::BASIC_QOS_OK, |arguments| {
            arguments.long(0).short(prefetch).octet(0);
        })
        .map(drop)
    }

    /// Asks for a consumer without waiting for the answer: deliveries of an earlier consumer may
    /// stand before it.
    pub(crate) fn send_consume(
        &mut self,
        queue: &str,
        tag: &str,
        acks: AckMode,
    ) -> Result<(), ClientError> {
        put_method(&mut self.out, CHANNEL, method::BASIC_CONSUME, |arguments| {
            arguments.short(0).short_string(queue).short_string(tag);
            arguments.octet(u8::from(acks == AckMode::Auto) << 1).table(&[]);
        });
        self.flush()
    }

    /// Turns the channel to publisher confirms.
    pub(crate) fn select_confirms(&mut self) -> Result<(), ClientError> {
        self.call(CHANNEL, method::CONFIRM_SELECT, method::CONFIRM_SELECT_OK, |arguments| {
            arguments.octet(0);
        })
        .map(drop)
    }

    /// Turns the channel to transactions.
    pub(crate) fn select_tx(&mut self) -> Result<(), ClientError> {
        self.call(CHANNEL, method::TX_SELECT, method::TX_SELECT_OK, |_| ()).map(drop)
    }

    /// Commits the transaction.
    pub(crate) fn commit_tx(&mut self) -> Result<(), ClientError> {
        self.call(CHANNEL, method::TX_COMMIT, method::TX_COMMIT_OK, |_| ()).map(drop)
    }

    /// Sends a method and waits for its answer, whose arguments it returns. Other frames that
    /// arrive meanwhile are dropped.
    pub(crate) fn call(
        &mut self,
        channel: u16,
        id: MethodId,
        answer: MethodId,
        arguments: impl FnOnce(&mut Arguments<'_>),
    ) -> Result<Vec<u8>, ClientError> {
        put_method(&mut self.out, channel, id, arguments);
        self.flush()?;
        self.wait_for(channel, answer)
    }

    fn wait_for(&mut self, channel: u16, wanted: MethodId) -> Result<Vec<u8>, ClientError> {
        let since_ns = clock::now_ns();
        loop {
            while let Some(frame) = self.inbound.next()? {
                if frame.kind != FRAME_METHOD {
                    continue;
                }
                let (id, _) = frame.method()?;
                if id == wanted && frame.channel == channel {
                    return Ok(frame.payload[4..].to_vec());
                }
                refuse_close(id, frame.payload)?;
            }
            if self.fill()? == 0 && clock::now_ns() - since_ns > STALL_NS_MAX {
                return Err(ClientError::Stalled(STALL_NS_MAX / clock::SECOND_NS, "an answer"));
            }
        }
    }

    /// Reads once. Returns 0 when nothing came within [`READ_WAIT`].
    pub(crate) fn fill(&mut self) -> Result<usize, ClientError> {
        match self.inbound.fill(&mut self.stream) {
            Ok(0) => Err(ClientError::EndOfStream),
            Ok(read) => Ok(read),
            Err(error) if is_timeout(&error) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads what is there without waiting. Returns the number of bytes.
    pub(crate) fn fill_now(&mut self) -> Result<usize, ClientError> {
        match self.stream.read_now(self.inbound.space()) {
            Ok(0) => Err(ClientError::EndOfStream),
            Ok(read) => {
                self.inbound.filled(read);
                Ok(read)
            }
            Err(error) if is_timeout(&error) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes everything, however long the broker takes as long as it takes some.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        send_all(&mut self.stream, bytes)
    }

    /// Tells the broker that this end is alive.
    pub(crate) fn send_heartbeat(&mut self) -> Result<(), ClientError> {
        put_heartbeat(&mut self.out);
        self.flush()
    }

    fn flush(&mut self) -> Result<(), ClientError> {
        let sent = send_all(&mut self.stream, &self.out);
        self.out.clear();
        sent
    }
}

/// How a consumer acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AckMode {
    /// Not at all (`no-ack`).
    Auto,
    /// Each delivery by itself.
    Each,
    /// Every so many deliveries, with `multiple`.
    Every(u32),
}

/// Makes an error of the two close methods; any other method passes.
pub(crate) fn refuse_close(id: MethodId, payload: &[u8]) -> Result<(), ClientError> {
    if id != method::CONNECTION_CLOSE && id != method::CHANNEL_CLOSE {
        return Ok(());
    }
    let mut fields = Fields::new(&payload[4..]);
    let code = fields.short()?;
    let text = String::from_utf8_lossy(fields.short_string()?).into_owned();
    Err(ClientError::Closed { code, text })
}

/// What a broker says of publishes: it has them, or refuses them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Confirm {
    pub(crate) tag: u64,
    pub(crate) covers: Covers,
    pub(crate) refused: bool,
}

/// The next confirm among the frames that have arrived; others are passed over, but for a close.
pub(crate) fn next_confirm(inbound: &mut Inbound) -> Result<Option<Confirm>, ClientError> {
    while let Some(frame) = inbound.next()? {
        if frame.kind != FRAME_METHOD {
            continue;
        }
        let (id, mut fields) = frame.method()?;
        if id != method::BASIC_ACK && id != method::BASIC_NACK {
            refuse_close(id, frame.payload)?;
            continue;
        }
        let tag = fields.longlong()?;
        let covers = if fields.octet()? & 1 == 1 { Covers::UpTo } else { Covers::One };
        return Ok(Some(Confirm { tag, covers, refused: id == method::BASIC_NACK }));
    }
    Ok(None)
}

/// Whether a socket error only says that its time is up.
pub(crate) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Writes everything to a socket; see [`Connection::send`].
pub(crate) fn send_all(stream: &mut impl Write, mut bytes: &[u8]) -> Result<(), ClientError> {
    let mut moved_ns = 0;
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(ClientError::EndOfStream),
            Ok(written) => {
                bytes = &bytes[written..];
                moved_ns = 0;
            }
            Err(error) if is_timeout(&error) => {
                let now_ns = clock::now_ns();
                moved_ns = if moved_ns == 0 { now_ns } else { moved_ns };
                if now_ns - moved_ns > STALL_NS_MAX {
                    return Err(ClientError::Stalled(STALL_NS_MAX / clock::SECOND_NS, "room"));
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// What stock clients announce, so that brokers treat this one alike.
fn client_properties() -> Table {
    let capability = |name: &str| (name.to_owned(), Value::Bool(true));
    let capabilities = vec![
        capability("publisher_confirms"),
        capability("exchange_exchange_bindings"),
        capability("basic.nack"),
        capability("consumer_cancel_notify"),
        capability("connection.blocked"),
        capability("authentication_failure_close"),
    ];
    vec![
        ("product".to_owned(), Value::Text("leveret-load".to_owned())),
        ("version".to_owned(), Value::Text(env!("CARGO_PKG_VERSION").to_owned())),
        ("capabilities".to_owned(), Value::Table(capabilities)),
    ]
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_url_may_leave_out_login_port_and_vhost() {
        let full: Target = "amqp://a:b@host:1/v".parse().unwrap();
        let parts = [&full.address, &full.user, &full.password, &full.vhost];
        assert_eq!(parts, ["host:1", "a", "b", "v"]);
        let bare: Target = "amqp://host".parse().unwrap();
        let parts = [&bare.address, &bare.user, &bare.password, &bare.vhost];
        assert_eq!(parts, ["host:5672", "guest", "guest", "/"]);
        let by_tls: Target = "amqps://a:b@host/v?cacertfile=/ca.pem".parse().unwrap();
        assert_eq!((&*by_tls.address, by_tls.host()), ("host:5671", "host"));
        assert_eq!(by_tls.authorities.as_deref(), Some(Path::new("/ca.pem")));
        for bad in ["http://host", "amqps://host"] {
            assert!(bad.parse::<Target>().is_err(), "{bad}");
        }
    }
}
