//! The typed settings and their defaults. Defaults are RabbitMQ 4.2's; where ours differ the field
//! says so. A `Settings` that exists is valid: ranges were checked when the text was read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::encrypted::Algorithm;
use crate::secret::Secret;

pub use super::backends::{AuthBackend, BackendPair, HttpAuth, HttpMethod, OAuth2};
pub use super::tls::{
    AlternativeName, CertificateLogin, LoginFrom, TlsIdentity, TlsOptions, TlsVersion,
};

/// Everything that can be configured.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// AMQP listeners (`listeners.*`).
    pub listeners: Listeners,
    /// Certificates of those listeners that use TLS, and who may connect (`ssl_options.*`).
    pub tls: TlsOptions,
    /// Options of accepted sockets (`tcp_listen_options.*`).
    pub tcp: TcpOptions,
    /// What clients may ask for.
    pub limits: Limits,
    /// What an empty data directory is filled with.
    pub defaults: Defaults,
    /// Who may log in, and how.
    pub auth: Auth,
    /// The memory limit.
    pub memory: Memory,
    /// The disk limit.
    pub disk_free_limit: DiskFreeLimit,
    /// How the node and its cluster are called, and what it says it is.
    pub identity: Identity,
    /// The management API.
    pub management: Management,
    /// The metrics page.
    pub prometheus: Prometheus,
    /// The log.
    pub log: Log,
    /// The audit log.
    pub audit: Audit,
    /// Where backups are made; `None`: in the data directory.
    pub backup_dir: Option<PathBuf>,
    /// How encrypted values are read.
    pub secrets: Secrets,
    /// Where and how safely messages are kept.
    pub store: Store,
    /// What holds for queues that do not say otherwise.
    pub queues: Queues,
    /// What triggers may start.
    pub triggers: Triggers,
}

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenAddress {
    /// The interface; `None` is every one, IPv6 and IPv4.
    pub ip: Option<IpAddr>,
    /// The port; 0 lets the system choose.
    pub port: u16,
}

impl ListenAddress {
    /// A port on every interface.
    #[must_use]
    pub const fn any(port: u16) -> Self {
        Self { ip: None, port }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            None => write!(f, "[::]:{}", self.port),
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:{}", self.port),
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
        }
    }
}

/// AMQP listeners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listeners {
    /// By the name after `listeners.tcp.`, in the order of those names. Empty: none.
    pub tcp: BTreeMap<String, ListenAddress>,
    /// The same after `listeners.ssl.`: those that use TLS.
    pub ssl: BTreeMap<String, ListenAddress>,
    /// How long a TLS handshake may take.
    pub ssl_handshake_timeout_ms: Option<u64>,
    /// Unix sockets by the name after `leveret.listeners.unix.`.
    pub unix: BTreeMap<String, PathBuf>,
    /// The mode of their files.
    pub unix_mode: u32,
    /// Whether clients come through load balancers that say on whose behalf.
    pub proxy_protocol: bool,
    /// Those load balancers' networks.
    pub trusted_proxies: BTreeMap<String, Network>,
}

impl Default for Listeners {
    fn default() -> Self {
        Self {
            tcp: BTreeMap::from([("default".to_owned(), ListenAddress::any(5672))]),
            ssl: BTreeMap::new(),
            ssl_handshake_timeout_ms: Some(5_000),
            unix: BTreeMap::new(),
            unix_mode: 0o660,
            proxy_protocol: false,
            trusted_proxies: BTreeMap::new(),
        }
    }
}

/// Addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// One of them.
    pub ip: IpAddr,
    /// The bits that they share.
    pub bits: u8,
}

/// Options of listening and accepted sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpOptions {
    /// Connections that may wait to be accepted.
    pub backlog: u32,
    /// Send small segments at once.
    pub nodelay: bool,
    /// Let the system probe idle connections.
    pub keepalive: bool,
    /// The kernel's send buffer; `None` leaves it to the system.
    pub sndbuf_bytes: Option<u32>,
    /// The kernel's receive buffer; `None` leaves it to the system.
    pub recbuf_bytes: Option<u32>,
}

impl Default for TcpOptions {
    fn default() -> Self {
        Self {
            backlog: 128,
            nodelay: true,
            keepalive: false,
            sndbuf_bytes: None,
            recbuf_bytes: None,
        }
    }
}

/// What clients may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The heartbeat interval that the server proposes, in seconds; 0 proposes none.
    pub heartbeat_s: u16,
    /// Channels per connection that the server proposes; 0 is no limit.
    pub channel_max: u16,
    /// The largest frame after tuning, in bytes, head and end octet included.
    pub frame_max_bytes: u32,
    /// The largest frame before tuning, in bytes.
    pub initial_frame_max_bytes: u32,
    /// The largest message body, in bytes.
    pub message_bytes_max: u64,
    /// How long a client may take from connecting to `connection.open`; `None` is for ever.
    pub handshake_timeout_ms: Option<u64>,
    /// Client connections at once; `None` is no limit.
    pub connection_max: Option<u64>,
    /// Channels at once, of all connections; `None` is no limit.
    pub channel_max_per_node: Option<u64>,
    /// Vhosts at once; `None` is no limit.
    pub vhost_max: Option<u64>,
    /// Queues at once, of all vhosts; `None` is no limit.
    pub queue_max: Option<u64>,
    /// Exchanges at once, of all vhosts; `None` is no limit.
    pub exchange_max: Option<u64>,
    /// Connections at once that have not logged in; `None` is no limit.
    pub half_open_max: Option<u64>,
    /// Those of one address; `None` is no limit.
    pub half_open_max_per_address: Option<u64>,
    /// Failed logins of one address in a minute before the next ones wait; `None` is no limit.
    pub login_failures_per_minute: Option<u64>,
    /// How long they wait.
    pub login_rest_ms: u64,
    /// How long a refused login waits for its answer.
    pub login_refusal_ms: u64,
    /// Consumers on one channel; `None` is no limit.
    pub consumer_max_per_channel: Option<u64>,
    /// How long a delivery may stay unacknowledged before its channel is closed.
    pub consumer_timeout_ms: u64,
}

impl Limits {
    /// The smallest `frame_max` a client or the operator may ask for (AMQP 0-9-1, 4.2.3). RabbitMQ
    /// takes 8192 as its lower bound for clients; we hold to the protocol's.
    pub const FRAME_MAX_BYTES_MIN: u32 = 4096;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            heartbeat_s: 60,
            channel_max: 2047,
            frame_max_bytes: 131_072,
            initial_frame_max_bytes: 8192,
            message_bytes_max: 16 * 1024 * 1024,
            handshake_timeout_ms: Some(10_000),
            connection_max: None,
            channel_max_per_node: None,
            vhost_max: None,
            queue_max: None,
            exchange_max: None,
            half_open_max: Some(1_000),
            half_open_max_per_address: Some(64),
            login_failures_per_minute: Some(20),
            login_rest_ms: 5_000,
            login_refusal_ms: 1_000,
            consumer_max_per_channel: None,
            consumer_timeout_ms: 1_800_000,
        }
    }
}

/// The vhost and the user that an empty data directory is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    /// The user's name.
    pub user: String,
    /// The user's password.
    pub password: Secret,
    /// The user's tags.
    pub user_tags: BTreeSet<String>,
    /// The vhost.
    pub vhost: String,
    /// The user's permissions in it.
    pub permissions: Permissions,
}

impl Default for Defaults {
    fn default() -> Self {
        Self {
            user: "guest".to_owned(),
            password: "guest".into(),
            user_tags: BTreeSet::from(["administrator".to_owned()]),
            vhost: "/".to_owned(),
            permissions: Permissions::default(),
        }
    }
}

/// The three patterns of a permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// What may be declared and deleted.
    pub configure: String,
    /// What may be written to.
    pub write: String,
    /// What may be read from.
    pub read: String,
}

impl Default for Permissions {
    fn default() -> Self {
        Self { configure: ".*".to_owned(), write: ".*".to_owned(), read: ".*".to_owned() }
    }
}

/// A way to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMechanism {
    /// AMQPLAIN: login and password in a field table.
    AmqPlain,
    /// ANONYMOUS: as [`Auth::anonymous_login_user`].
    Anonymous,
    /// EXTERNAL: as [`Auth::certificate_login`] says.
    External,
    /// PLAIN.
    Plain,
}

impl AuthMechanism {
    /// Its SASL name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AmqPlain => "AMQPLAIN",
            Self::Anonymous => "ANONYMOUS",
            Self::External => "EXTERNAL",
            Self::Plain => "PLAIN",
        }
    }
}

/// Who may log in, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// Mechanisms in the order in which they are offered.
    pub mechanisms: Vec<AuthMechanism>,
    /// Whom an anonymous login logs in as; `None` refuses them.
    pub anonymous_login_user: Option<String>,
    /// Whom to ask who someone is and what they may do, in this order.
    pub backends: Vec<BackendPair>,
    /// The web service that the backend `http` asks.
    pub http: HttpAuth,
    /// The tokens that the backend `oauth2` takes.
    pub oauth2: OAuth2,
    /// Who a client's certificate says it is.
    pub certificate_login: CertificateLogin,
    /// How passwords are hashed that are set from now on.
    pub password_hashing: PasswordHashing,
    /// Users who may only log in from this machine.
    pub loopback_users: BTreeSet<String>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            // RabbitMQ offers ANONYMOUS, too; here it must be asked for.
            mechanisms: vec![AuthMechanism::Plain, AuthMechanism::AmqPlain],
            anonymous_login_user: Some("guest".to_owned()),
            backends: vec![BackendPair::default()],
            http: HttpAuth::default(),
            oauth2: OAuth2::default(),
            certificate_login: CertificateLogin::default(),
            password_hashing: PasswordHashing::Sha256,
            loopback_users: BTreeSet::from(["guest".to_owned()]),
        }
    }
}

/// A way to hash passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordHashing {
    /// Salted SHA-256.
    Sha256,
    /// Salted SHA-512.
    Sha512,
    /// argon2id.
    Argon2id,
}

impl PasswordHashing {
    /// Their names in the configuration.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("rabbit_password_hashing_sha256", Self::Sha256),
        ("rabbit_password_hashing_sha512", Self::Sha512),
        ("argon2id", Self::Argon2id),
    ];
}

/// A share of what there is, or an amount.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Amount {
    /// Bytes.
    Absolute(u64),
    /// A part of the machine's memory: 0.6 is 60 %.
    Relative(f64),
}

impl Amount {
    /// The amount in bytes on a machine with this much memory.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a share of a memory size: rounding is harmless, the cast saturates"
    )]
    pub fn bytes(self, memory_total_bytes: u64) -> u64 {
        match self {
            Self::Absolute(bytes) => bytes,
            Self::Relative(share) => (memory_total_bytes as f64 * share) as u64,
        }
    }
}

/// The memory limit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Memory {
    /// Above it publishers are blocked.
    pub high_watermark: Amount,
    /// The machine's memory, when it is not to be asked.
    pub total_available_override_bytes: Option<u64>,
}

impl Default for Memory {
    fn default() -> Self {
        Self { high_watermark: Amount::Relative(0.6), total_available_override_bytes: None }
    }
}

/// The free space below which publishers are blocked. Relative amounts are shares of the
/// machine's memory, as in RabbitMQ.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DiskFreeLimit(pub Amount);

impl Default for DiskFreeLimit {
    fn default() -> Self {
        Self(Amount::Absolute(50_000_000))
    }
}

/// How the node and its cluster are called, and what it says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `rabbit@host`; `None` makes it from the host's name.
    pub node_name: Option<String>,
    /// `None` takes the node's name, as RabbitMQ does.
    pub cluster_name: Option<String>,
    /// The product that the management API and the build metric name.
    pub product_name: String,
    /// The product's version there.
    pub product_version: String,
    /// The product that AMQP clients see. Clients switch on it, so it is RabbitMQ by default.
    pub compat_product: String,
    /// The RabbitMQ version that AMQP clients and tools see.
    pub compat_version: String,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            node_name: None,
            cluster_name: None,
            product_name: "Leveret".to_owned(),
            product_version: env!("CARGO_PKG_VERSION").to_owned(),
            compat_product: "RabbitMQ".to_owned(),
            compat_version: "4.2.4".to_owned(),
        }
    }
}

/// The management API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Management {
    /// Where it listens; `None`: nowhere.
    pub listener: Option<ListenAddress>,
    /// Where it listens by TLS.
    pub tls_listener: Option<ListenAddress>,
    /// That listener's TLS (`management.ssl.*`).
    pub tls: TlsOptions,
    /// A path put before every route, such as "/rabbit"; empty for none.
    pub path_prefix: String,
    /// The largest request body, in bytes.
    pub body_bytes_max: usize,
    /// Connections at once.
    pub connections_max: usize,
}

impl Default for Management {
    fn default() -> Self {
        Self {
            listener: Some(ListenAddress::any(15672)),
            tls_listener: None,
            tls: TlsOptions::default(),
            path_prefix: String::new(),
            body_bytes_max: 20 * 1024 * 1024,
            connections_max: 1024,
        }
    }
}

/// The metrics page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prometheus {
    /// Where it listens; `None`: nowhere.
    pub listener: Option<ListenAddress>,
    /// Where it listens by TLS.
    pub tls_listener: Option<ListenAddress>,
    /// That listener's TLS (`prometheus.ssl.*`).
    pub tls: TlsOptions,
    /// The page's path.
    pub path: String,
    /// Whether the page itself shows every queue, channel and connection.
    pub per_object: bool,
    /// Whether a login with the monitoring tag is asked for.
    pub authentication: bool,
    /// Connections at once.
    pub connections_max: usize,
}

impl Default for Prometheus {
    fn default() -> Self {
        Self {
            listener: Some(ListenAddress::any(15692)),
            tls_listener: None,
            tls: TlsOptions::default(),
            path: "/metrics".to_owned(),
            per_object: false,
            authentication: false,
            connections_max: 256,
        }
    }
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// The usual.
    Info,
    /// Normal but rare (shown as info: there is no such level here).
    Notice,
    /// What deserves a look.
    Warning,
    /// What failed. RabbitMQ's critical, alert and emergency count as this.
    Error,
    /// Nothing.
    None,
}

/// The log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// Written to standard output or error. On by default, as in RabbitMQ's image.
    pub console: bool,
    /// Standard error rather than standard output.
    pub console_to_stderr: bool,
    /// The console's level.
    pub console_level: LogLevel,
    /// The directory of log files.
    pub dir: Option<PathBuf>,
    /// A file to log to.
    pub file: Option<PathBuf>,
    /// That file's level.
    pub file_level: LogLevel,
    /// Levels of single categories (`log.connection.level`); `default` is everything else.
    pub categories: BTreeMap<String, LogLevel>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            console: true,
            console_to_stderr: false,
            console_level: LogLevel::Info,
            dir: None,
            file: None,
            file_level: LogLevel::Info,
            categories: BTreeMap::new(),
        }
    }
}

impl Log {
    /// Where a file of this name is: in the directory of log files unless it is absolute.
    #[must_use]
    pub fn path(&self, name: &Path) -> PathBuf {
        self.dir.clone().unwrap_or_default().join(name)
    }
}

/// The audit log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// The file, in the directory of log files unless absolute; `None`: there is none.
    pub file: Option<PathBuf>,
}

/// How encrypted values of other keys are read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    /// The file that holds the passphrase.
    pub passphrase_file: Option<PathBuf>,
    /// How they were encrypted.
    pub algorithm: Algorithm,
}

/// Where and how safely messages are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// The data directory.
    pub path: PathBuf,
    /// Bytes not yet on disk above which sockets are not read.
    pub backlog_bytes_max: u64,
    /// Whether a message is synced before it is confirmed, where its queue asks for nothing else.
    pub syncs_before_confirm: bool,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            path: PathBuf::from("/var/lib/leveret"),
            backlog_bytes_max: 64 * 1024 * 1024,
            syncs_before_confirm: true,
        }
    }
}

/// The type of queues declared without `x-queue-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueueType {
    /// A classic queue.
    #[default]
    Classic,
    /// A quorum queue.
    Quorum,
}

/// Settings of queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Queues {
    /// The type of queues declared without `x-queue-type`.
    pub default_type: QueueType,
    /// Memory that the waiting messages of all queues may take together; derived from the memory
    /// watermark if unset.
    pub memory_bytes_max: Option<u64>,
}

/// What triggers may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Triggers {
    /// Where the files of programs are; `None`: there are no programs.
    pub programs_dir: Option<PathBuf>,
    /// Runs at once on this node.
    pub runs_max: usize,
    /// What may be called.
    pub webhooks: Webhooks,
}

impl Default for Triggers {
    fn default() -> Self {
        Self { programs_dir: None, runs_max: 64, webhooks: Webhooks::default() }
    }
}

/// Which web addresses may be called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Webhooks {
    /// Hosts, with `*` for any text, by the names after `leveret.triggers.webhook.hosts.`. Empty:
    /// every host.
    pub hosts: BTreeMap<String, String>,
    /// Whether hosts may be on this machine or in its networks.
    pub private_addresses: bool,
    /// Whose certificates are believed; `None`: the system's.
    pub cacertfile: Option<PathBuf>,
}
