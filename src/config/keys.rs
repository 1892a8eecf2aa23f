//! The keys that have an effect, and what each sets.
//!
//! `spec/config.toml` describes them for people, one entry for each pattern here; a test compares
//! the two lists and runs every default and example through this table.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::backends::{self, BackendsDraft};
use super::encrypted::{Cipher, Hash};
use super::settings::{
    AlternativeName, Amount, AuthMechanism, DiskFreeLimit, Limits, ListenAddress, LogLevel,
    LoginFrom, PasswordHashing, QueueType, Secrets, Settings, TlsOptions,
};
use super::tls;
use super::value::{self, Reason, Units};
use crate::secret::Secret;

/// Names are AMQP short strings: vhosts, users, queues.
pub(super) const NAME_BYTES_MAX: usize = 255;
pub(super) const TEXT_BYTES_MAX: usize = 4096;
const MANAGEMENT_TLS_PORT: u16 = 15671;
const PROMETHEUS_TLS_PORT: u16 = 15691;
const MESSAGE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// A key that has an effect.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    /// Names between dots; one that starts with `$` stands for any name.
    pub(super) pattern: &'static str,
    /// Its value may be encrypted.
    pub(super) is_secret: bool,
    set: Setter,
}

type Setter = fn(&mut Draft, &Assignment<'_>) -> Result<(), Reason>;

/// A key's open names and its value's text.
#[derive(Debug)]
pub(super) struct Assignment<'a> {
    /// What stands for the pattern's `$` names, in order.
    pub(super) names: Vec<&'a str>,
    /// The value's text.
    pub(super) value: &'a str,
}

impl Assignment<'_> {
    pub(super) fn name(&self) -> String {
        self.names.first().map_or_else(String::new, |name| (*name).to_owned())
    }
}

/// Settings in the making. Lists that replace their default as a whole are kept apart until all
/// sources have spoken.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) settings: Settings,
    listeners: BTreeMap<String, ListenAddress>,
    listeners_none: bool,
    loopback_users: BTreeMap<String, bool>,
    loopback_users_none: bool,
    user_tags: BTreeMap<String, bool>,
    auth_mechanisms: BTreeMap<String, AuthMechanism>,
    pub(super) backends: BackendsDraft,
    ssl_listeners_none: bool,
    management_off: bool,
    management: HttpDoors,
    prometheus: HttpDoors,
}

/// What has been said of an HTTP server's two listeners. Who wants one by TLS and does not name
/// the other has no other, as in RabbitMQ.
#[derive(Debug, Default)]
struct HttpDoors {
    plain_off: bool,
    plain: Option<ListenAddress>,
    tls: Option<ListenAddress>,
}

impl HttpDoors {
    /// The two listeners: the plain one, and the one by TLS on `tls_port`, which a certificate
    /// alone asks for, too.
    fn finish(
        self,
        default: Option<ListenAddress>,
        options: &TlsOptions,
        tls_port: u16,
    ) -> [Option<ListenAddress>; 2] {
        let has_certificate = options.identity.certfile.is_some();
        let by_tls = self.tls.or_else(|| has_certificate.then(|| ListenAddress::any(tls_port)));
        let default = default.filter(|_| by_tls.is_none());
        [self.plain.or(default).filter(|_| !self.plain_off), by_tls]
    }
}

impl Draft {
    /// Names the address of the default listener when nothing else names a listener
    /// (`RABBITMQ_NODE_PORT`, `RABBITMQ_NODE_IP_ADDRESS`).
    pub(super) fn default_listener(&mut self) -> &mut ListenAddress {
        let fresh = ListenAddress::any(5672);
        self.settings.listeners.tcp.entry("default".to_owned()).or_insert(fresh)
    }

    /// Where data is kept unless a key says otherwise.
    pub(super) fn data_dir(&mut self, dir: PathBuf) {
        self.settings.store.path = dir;
    }

    /// The name of the node (`RABBITMQ_NODENAME`).
    pub(super) fn node_name(&mut self, name: String) {
        self.settings.identity.node_name = Some(name);
    }

    /// How encrypted values are read, as far as the sources have said by now.
    pub(super) fn secrets(&self) -> &Secrets {
        &self.settings.secrets
    }

    /// The settings, once every source has been applied.
    pub(super) fn finish(self) -> Settings {
        let mut settings = self.settings;
        if self.listeners_none {
            settings.listeners.tcp.clear();
        } else if !self.listeners.is_empty() {
            settings.listeners.tcp = self.listeners;
        }
        if self.loopback_users_none {
            settings.auth.loopback_users.clear();
        } else if !self.loopback_users.is_empty() {
            settings.auth.loopback_users = names_that_are_true(self.loopback_users).collect();
        }
        if !self.user_tags.is_empty() {
            settings.defaults.user_tags = names_that_are_true(self.user_tags).collect();
        }
        if !self.auth_mechanisms.is_empty() {
            settings.auth.mechanisms = self.auth_mechanisms.into_values().collect();
        }
        self.backends.finish(&mut settings.auth);
        if self.ssl_listeners_none {
            settings.listeners.ssl.clear();
        }
        let management = &mut settings.management;
        [management.listener, management.tls_listener] =
            self.management.finish(management.listener, &management.tls, MANAGEMENT_TLS_PORT);
        if self.management_off {
            [management.listener, management.tls_listener] = [None, None];
        }
        let prometheus = &mut settings.prometheus;
        [prometheus.listener, prometheus.tls_listener] =
            self.prometheus.finish(prometheus.listener, &prometheus.tls, PROMETHEUS_TLS_PORT);
        settings
    }

    fn management_listener(&mut self) -> &mut ListenAddress {
        self.management.plain.get_or_insert(ListenAddress::any(15672))
    }

    fn management_tls_listener(&mut self) -> &mut ListenAddress {
        self.management.tls.get_or_insert(ListenAddress::any(MANAGEMENT_TLS_PORT))
    }

    fn prometheus_listener(&mut self) -> &mut ListenAddress {
        self.prometheus.plain.get_or_insert(ListenAddress::any(15692))
    }

    fn prometheus_tls_listener(&mut self) -> &mut ListenAddress {
        self.prometheus.tls.get_or_insert(ListenAddress::any(PROMETHEUS_TLS_PORT))
    }

    /// The options of AMQP's TLS listeners.
    pub(super) fn amqp_tls(&mut self) -> &mut TlsOptions {
        &mut self.settings.tls
    }

    /// The options of the management API's TLS listener.
    pub(super) fn management_tls(&mut self) -> &mut TlsOptions {
        &mut self.settings.management.tls
    }

    /// The options of the metrics page's TLS listener.
    pub(super) fn prometheus_tls(&mut self) -> &mut TlsOptions {
        &mut self.settings.prometheus.tls
    }
}

impl Key {
    /// Applies the key if `names` is its.
    pub(super) fn apply(
        &self,
        draft: &mut Draft,
        names: &[String],
        value: &str,
    ) -> Option<Result<(), Reason>> {
        let names = open_names(self.pattern, names)?;
        Some((self.set)(draft, &Assignment { names, value }))
    }
}

/// What stands for a pattern's open names, if the key fits the pattern. A last name `*` takes any
/// number of names.
pub(super) fn open_names<'a>(pattern: &str, key: &'a [String]) -> Option<Vec<&'a str>> {
    let mut open = Vec::new();
    let mut key = key.iter();
    for wanted in pattern.split('.') {
        if wanted == "*" {
            return key.next().map(|_| open);
        }
        let name = key.next()?;
        if wanted.starts_with('$') {
            open.push(name.as_str());
        } else if wanted != name {
            return None;
        }
    }
    key.next().is_none().then_some(open)
}

fn names_that_are_true(names: BTreeMap<String, bool>) -> impl Iterator<Item = String> {
    names.into_iter().filter(|(_, wanted)| *wanted).map(|(name, _)| name)
}

/// The keys that have an effect.
pub(super) fn keys() -> impl Iterator<Item = &'static Key> {
    KEYS.iter().chain(backends::KEYS).chain(tls::KEYS.into_iter().flatten())
}

const KEYS: &[Key] = &[
    // Listeners and sockets.
    key("listeners.tcp", |d, a| {
        d.listeners_none = value::word(a.value, &[("none", true)])?;
        Ok(())
    }),
    key("listeners.tcp.$name", |d, a| {
        d.listeners.insert(a.name(), value::listener(a.value)?);
        Ok(())
    }),
    key("listeners.ssl", |d, a| {
        d.ssl_listeners_none = value::word(a.value, &[("none", true)])?;
        Ok(())
    }),
    key("listeners.ssl.$name", |d, a| {
        d.settings.listeners.ssl.insert(a.name(), value::listener(a.value)?);
        Ok(())
    }),
    key("ssl_options", |_, a| value::word(a.value, &[("none", ())])),
    key("ssl_handshake_timeout", |d, a| {
        d.settings.listeners.ssl_handshake_timeout_ms = timeout_ms(a.value)?;
        Ok(())
    }),
    key("leveret.listeners.unix.$name", |d, a| {
        d.settings.listeners.unix.insert(a.name(), path(a.value)?);
        Ok(())
    }),
    key("leveret.listeners.unix_mode", |d, a| {
        d.settings.listeners.unix_mode = value::file_mode(a.value)?;
        Ok(())
    }),
    key("tcp_listen_options.backlog", |d, a| {
        d.settings.tcp.backlog = value::number(a.value, 1..=65_535)?;
        Ok(())
    }),
    key("tcp_listen_options.nodelay", |d, a| {
        d.settings.tcp.nodelay = value::boolean(a.value)?;
        Ok(())
    }),
    key("tcp_listen_options.keepalive", |d, a| {
        d.settings.tcp.keepalive = value::boolean(a.value)?;
        Ok(())
    }),
    key("tcp_listen_options.sndbuf", |d, a| {
        d.settings.tcp.sndbuf_bytes = Some(value::number(a.value, SOCKET_BUFFER_BYTES)?);
        Ok(())
    }),
    key("tcp_listen_options.recbuf", |d, a| {
        d.settings.tcp.recbuf_bytes = Some(value::number(a.value, SOCKET_BUFFER_BYTES)?);
        Ok(())
    }),
    key("handshake_timeout", |d, a| {
        d.settings.limits.handshake_timeout_ms = timeout_ms(a.value)?;
        Ok(())
    }),
    key("proxy_protocol", |d, a| {
        d.settings.listeners.proxy_protocol = value::boolean(a.value)?;
        Ok(())
    }),
    key("leveret.proxy_protocol.trusted.$name", |d, a| {
        d.settings.listeners.trusted_proxies.insert(a.name(), value::network(a.value)?);
        Ok(())
    }),
    // What clients may ask for.
    key("heartbeat", |d, a| {
        d.settings.limits.heartbeat_s = value::number(a.value, 0..=65_535)?;
        Ok(())
    }),
    key("channel_max", |d, a| {
        d.settings.limits.channel_max = value::number(a.value, 0..=65_535)?;
        Ok(())
    }),
    key("max_channels_per_connection", |d, a| {
        d.settings.limits.channel_max = value::number(a.value, 0..=65_535)?;
        Ok(())
    }),
    key("frame_max", |d, a| {
        d.settings.limits.frame_max_bytes = frame_bytes(a.value)?;
        Ok(())
    }),
    key("initial_frame_max", |d, a| {
        d.settings.limits.initial_frame_max_bytes = frame_bytes(a.value)?;
        Ok(())
    }),
    key("max_message_size", |d, a| {
        let bytes = value::bytes(a.value, Units::Decimal, 1..=MESSAGE_BYTES_MAX)?;
        d.settings.limits.message_bytes_max = bytes;
        Ok(())
    }),
    key("connection_max", |d, a| {
        d.settings.limits.connection_max = value::number_or_infinity(a.value)?;
        Ok(())
    }),
    key("max_connections", |d, a| {
        d.settings.limits.connection_max = value::number_or_infinity(a.value)?;
        Ok(())
    }),
    key("consumer_max_per_channel", |d, a| {
        d.settings.limits.consumer_max_per_channel = value::number_or_infinity(a.value)?;
        Ok(())
    }),
    key("consumer_timeout", |d, a| {
        d.settings.limits.consumer_timeout_ms = value::duration_ms(a.value, 1..=u64::MAX)?;
        Ok(())
    }),
    key("channel_max_per_node", |d, a| {
        d.settings.limits.channel_max_per_node = value::number_or_infinity(a.value)?;
        Ok(())
    }),
    key("vhost_max", |d, a| {
        d.settings.limits.vhost_max = value::number_or_infinity(a.value)?;
        Ok(())
    }),
    key("cluster_queue_limit", |d, a| {
        d.settings.limits.queue_max = value::number_or_infinity(a.value)?;
        Ok(())
    }),
    key("cluster_exchange_limit", |d, a| {
        d.settings.limits.exchange_max = value::number_or_infinity(a.value)?;
        Ok(())
    }),
    key("leveret.half_open.max", |d, a| {
        d.settings.limits.half_open_max = value::number_or_infinity(a.value)?;
        Ok(())
    }),
    key("leveret.half_open.max_per_address", |d, a| {
        d.settings.limits.half_open_max_per_address = value::number_or_infinity(a.value)?;
        Ok(())
    }),
    key("leveret.login.failures_per_minute", |d, a| {
        d.settings.limits.login_failures_per_minute = value::number_or_infinity(a.value)?;
        Ok(())
    }),
    key("leveret.login.rest", |d, a| {
        d.settings.limits.login_rest_ms = value::duration_ms(a.value, 0..=60_000)?;
        Ok(())
    }),
    key("leveret.login.refusal_delay", |d, a| {
        d.settings.limits.login_refusal_ms = value::duration_ms(a.value, 0..=60_000)?;
        Ok(())
    }),
    key("default_queue_type", |d, a| {
        let types = [
            ("classic", QueueType::Classic),
            ("quorum", QueueType::Quorum),
            ("rabbit_classic_queue", QueueType::Classic),
            ("rabbit_quorum_queue", QueueType::Quorum),
        ];
        d.settings.queues.default_type = value::word(a.value, &types)?;
        Ok(())
    }),
    // Users.
    key("default_user", |d, a| {
        d.settings.defaults.user = value::text(a.value, NAME_BYTES_MAX)?;
        Ok(())
    }),
    secret_key("default_pass", |d, a| {
        d.settings.defaults.password = secret(a.value)?;
        Ok(())
    }),
    key("default_vhost", |d, a| {
        d.settings.defaults.vhost = value::text(a.value, NAME_BYTES_MAX)?;
        Ok(())
    }),
    key("default_permissions.configure", |d, a| {
        d.settings.defaults.permissions.configure = pattern(a.value)?;
        Ok(())
    }),
    key("default_permissions.write", |d, a| {
        d.settings.defaults.permissions.write = pattern(a.value)?;
        Ok(())
    }),
    key("default_permissions.read", |d, a| {
        d.settings.defaults.permissions.read = pattern(a.value)?;
        Ok(())
    }),
    key("default_user_tags.$tag", |d, a| {
        d.user_tags.insert(a.name(), value::boolean(a.value)?);
        Ok(())
    }),
    key("loopback_users", |d, a| {
        d.loopback_users_none = value::word(a.value, &[("none", true)])?;
        Ok(())
    }),
    key("loopback_users.$user", |d, a| {
        d.loopback_users.insert(a.name(), value::boolean(a.value)?);
        Ok(())
    }),
    key("auth_mechanisms.$name", |d, a| {
        let mechanisms = [
            ("PLAIN", AuthMechanism::Plain),
            ("AMQPLAIN", AuthMechanism::AmqPlain),
            ("ANONYMOUS", AuthMechanism::Anonymous),
            ("EXTERNAL", AuthMechanism::External),
        ];
        d.auth_mechanisms.insert(a.name(), value::word(a.value, &mechanisms)?);
        Ok(())
    }),
    key("anonymous_login_user", |d, a| {
        d.settings.auth.anonymous_login_user = match a.value {
            "none" => None,
            name => Some(value::text(name, NAME_BYTES_MAX)?),
        };
        Ok(())
    }),
    key("ssl_cert_login_from", |d, a| {
        let parts = [
            ("distinguished_name", LoginFrom::DistinguishedName),
            ("common_name", LoginFrom::CommonName),
            ("subject_alternative_name", LoginFrom::SubjectAlternativeName),
            ("subject_alt_name", LoginFrom::SubjectAlternativeName),
        ];
        d.settings.auth.certificate_login.from = value::word(a.value, &parts)?;
        Ok(())
    }),
    key("ssl_cert_login_san_type", |d, a| {
        let kinds = [
            ("dns", AlternativeName::Dns),
            ("ip", AlternativeName::Ip),
            ("email", AlternativeName::Email),
            ("uri", AlternativeName::Uri),
            ("other_name", AlternativeName::OtherName),
        ];
        d.settings.auth.certificate_login.san_type = value::word(a.value, &kinds)?;
        Ok(())
    }),
    key("ssl_cert_login_san_index", |d, a| {
        d.settings.auth.certificate_login.san_index = value::number(a.value, 0..=1000)?;
        Ok(())
    }),
    key("password_hashing_module", |d, a| {
        d.settings.auth.password_hashing = value::word(a.value, &PasswordHashing::WORDS)?;
        Ok(())
    }),
    key("credential_validator.validation_backend", |_, a| {
        value::word(a.value, &[("rabbit_credential_validator_accept_everything", ())])
    }),
    // Memory and disk.
    key("vm_memory_high_watermark.relative", |d, a| {
        d.settings.memory.high_watermark = Amount::Relative(value::share(a.value, 1.0)?);
        Ok(())
    }),
    key("vm_memory_high_watermark.absolute", |d, a| {
        let bytes = value::bytes(a.value, Units::Decimal, 0..=u64::MAX)?;
        d.settings.memory.high_watermark = Amount::Absolute(bytes);
        Ok(())
    }),
    key("total_memory_available_override_value", |d, a| {
        let bytes = value::bytes(a.value, Units::Decimal, 1..=u64::MAX)?;
        d.settings.memory.total_available_override_bytes = Some(bytes);
        Ok(())
    }),
    key("disk_free_limit.absolute", |d, a| {
        let bytes = value::bytes(a.value, Units::Decimal, 0..=u64::MAX)?;
        d.settings.disk_free_limit = DiskFreeLimit(Amount::Absolute(bytes));
        Ok(())
    }),
    key("disk_free_limit.relative", |d, a| {
        let share = value::share(a.value, DISK_SHARE_MAX)?;
        d.settings.disk_free_limit = DiskFreeLimit(Amount::Relative(share));
        Ok(())
    }),
    // Names.
    key("cluster_name", |d, a| {
        d.settings.identity.cluster_name = Some(value::text(a.value, NAME_BYTES_MAX)?);
        Ok(())
    }),
    key("product.name", |d, a| {
        d.settings.identity.product_name = value::text(a.value, NAME_BYTES_MAX)?;
        Ok(())
    }),
    key("product.version", |d, a| {
        d.settings.identity.product_version = value::text(a.value, NAME_BYTES_MAX)?;
        Ok(())
    }),
    key("leveret.compat.product", |d, a| {
        d.settings.identity.compat_product = value::text(a.value, NAME_BYTES_MAX)?;
        Ok(())
    }),
    key("leveret.compat.version", |d, a| {
        d.settings.identity.compat_version = version(a.value)?;
        Ok(())
    }),
    // Management and metrics.
    key("management.tcp.port", set_management_port),
    key("management.tcp.ip", set_management_ip),
    key("management.listener.port", set_management_port),
    key("management.listener.ip", set_management_ip),
    key("management.listener.ssl", |_, a| off_only(a.value, "it is management.ssl.port here")),
    key("management.ssl.port", |d, a| {
        d.management_tls_listener().port = value::port(a.value)?;
        Ok(())
    }),
    key("management.ssl.ip", |d, a| {
        d.management_tls_listener().ip = Some(value::ip(a.value)?);
        Ok(())
    }),
    key("management.tcp.max_connections", |d, a| {
        d.settings.management.connections_max = connections(a.value)?;
        Ok(())
    }),
    key("management.path_prefix", |d, a| {
        d.settings.management.path_prefix = path_prefix(a.value)?;
        Ok(())
    }),
    key("management.http.max_body_size", |d, a| {
        let bytes = value::number(a.value, 1..=BODY_BYTES_MAX)?;
        d.settings.management.body_bytes_max = bytes;
        Ok(())
    }),
    key("management.disable_basic_auth", |_, a| {
        off_only(a.value, "basic authentication is the only kind available")
    }),
    key("leveret.management.enabled", |d, a| {
        d.management_off = !value::boolean(a.value)?;
        Ok(())
    }),
    key("prometheus.tcp.listener", |d, a| {
        d.prometheus.plain_off = value::word(a.value, &[("none", true)])?;
        Ok(())
    }),
    key("prometheus.tcp.port", |d, a| {
        d.prometheus_listener().port = value::port(a.value)?;
        Ok(())
    }),
    key("prometheus.tcp.ip", |d, a| {
        d.prometheus_listener().ip = Some(value::ip(a.value)?);
        Ok(())
    }),
    key("prometheus.ssl.port", |d, a| {
        d.prometheus_tls_listener().port = value::port(a.value)?;
        Ok(())
    }),
    key("prometheus.ssl.ip", |d, a| {
        d.prometheus_tls_listener().ip = Some(value::ip(a.value)?);
        Ok(())
    }),
    key("prometheus.tcp.max_connections", |d, a| {
        d.settings.prometheus.connections_max = connections(a.value)?;
        Ok(())
    }),
    key("prometheus.path", |d, a| {
        let path = path_prefix(a.value)?;
        if path.is_empty() {
            return Err("expected a path such as /metrics".to_owned());
        }
        d.settings.prometheus.path = path;
        Ok(())
    }),
    key("prometheus.return_per_object_metrics", |d, a| {
        d.settings.prometheus.per_object = value::boolean(a.value)?;
        Ok(())
    }),
    key("prometheus.authentication.enabled", |d, a| {
        d.settings.prometheus.authentication = value::boolean(a.value)?;
        Ok(())
    }),
    // The log.
    key("log.console", |d, a| {
        d.settings.log.console = value::boolean(a.value)?;
        Ok(())
    }),
    key("log.console.level", |d, a| {
        d.settings.log.console_level = value::log_level(a.value)?;
        Ok(())
    }),
    key("log.console.stdio", |d, a| {
        let streams = [("stdout", false), ("stderr", true)];
        d.settings.log.console_to_stderr = value::word(a.value, &streams)?;
        Ok(())
    }),
    key("log.console.formatter", |_, a| value::word(a.value, &[("plaintext", ())])),
    key("log.dir", |d, a| {
        d.settings.log.dir = Some(path(a.value)?);
        Ok(())
    }),
    key("log.file", |d, a| {
        d.settings.log.file = match a.value {
            "false" => None,
            name => Some(path(name)?),
        };
        Ok(())
    }),
    key("log.file.level", |d, a| {
        d.settings.log.file_level = value::log_level(a.value)?;
        Ok(())
    }),
    key("log.file.formatter", |_, a| value::word(a.value, &[("plaintext", ())])),
    key("log.connection.level", |d, a| set_category(d, "connection", a.value)),
    key("log.user.level", |d, a| set_category(d, "user", a.value)),
    key("log.default.level", |d, a| set_category(d, "default", a.value)),
    key("leveret.audit.file", |d, a| {
        d.settings.audit.file = match a.value {
            "false" => None,
            name => Some(path(name)?),
        };
        Ok(())
    }),
    key("leveret.backup.dir", |d, a| {
        d.settings.backup_dir = Some(path(a.value)?);
        Ok(())
    }),
    // Encrypted values.
    key("leveret.secrets.passphrase_file", |d, a| {
        d.settings.secrets.passphrase_file = Some(path(a.value)?);
        Ok(())
    }),
    key("leveret.secrets.iterations", |d, a| {
        d.settings.secrets.algorithm.iterations = value::number(a.value, 1..=ITERATIONS_MAX)?;
        Ok(())
    }),
    key("leveret.secrets.cipher", |d, a| {
        d.settings.secrets.algorithm.cipher = value::word(a.value, &Cipher::NAMES)?;
        Ok(())
    }),
    key("leveret.secrets.hash", |d, a| {
        d.settings.secrets.algorithm.hash = value::word(a.value, &Hash::NAMES)?;
        Ok(())
    }),
    // Storage.
    // What triggers may start.
    key("leveret.triggers.programs_dir", |d, a| {
        d.settings.triggers.programs_dir = Some(value::text(a.value, TEXT_BYTES_MAX)?.into());
        Ok(())
    }),
    key("leveret.triggers.runs_max", |d, a| {
        d.settings.triggers.runs_max = value::number(a.value, 1..=10_000)?;
        Ok(())
    }),
    key("leveret.triggers.webhook.hosts.$name", |d, a| {
        let host = value::text(a.value, NAME_BYTES_MAX)?.to_ascii_lowercase();
        d.settings.triggers.webhooks.hosts.insert(a.name(), host);
        Ok(())
    }),
    key("leveret.triggers.webhook.private_addresses", |d, a| {
        d.settings.triggers.webhooks.private_addresses = value::boolean(a.value)?;
        Ok(())
    }),
    key("leveret.triggers.webhook.cacertfile", |d, a| {
        let file = value::text(a.value, TEXT_BYTES_MAX)?.into();
        d.settings.triggers.webhooks.cacertfile = Some(file);
        Ok(())
    }),
    key("leveret.store.path", |d, a| {
        d.settings.store.path = path(a.value)?;
        Ok(())
    }),
    key("leveret.store.backlog_max", |d, a| {
        let range = 1024 * 1024..=u64::MAX;
        d.settings.store.backlog_bytes_max = value::bytes(a.value, Units::Decimal, range)?;
        Ok(())
    }),
    key("leveret.durability", |d, a| {
        let words = [("fsync", true), ("os", false)];
        d.settings.store.syncs_before_confirm = value::word(a.value, &words)?;
        Ok(())
    }),
    key("leveret.queues.memory_max", |d, a| {
        let bytes = value::bytes(a.value, Units::Decimal, 1024..=u64::MAX)?;
        d.settings.queues.memory_bytes_max = Some(bytes);
        Ok(())
    }),
];

const SOCKET_BUFFER_BYTES: std::ops::RangeInclusive<u64> = 1..=0x7fff_ffff;
const BODY_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// RabbitMQ's limit: a disk of more than 2000 times the memory is a mistake.
const DISK_SHARE_MAX: f64 = 2000.0;
/// A key takes a second or so then.
const ITERATIONS_MAX: u64 = 10_000_000;

pub(super) const fn key(pattern: &'static str, set: Setter) -> Key {
    Key { pattern, is_secret: false, set }
}

pub(super) const fn secret_key(pattern: &'static str, set: Setter) -> Key {
    Key { pattern, is_secret: true, set }
}

fn set_management_port(draft: &mut Draft, assignment: &Assignment<'_>) -> Result<(), Reason> {
    draft.management_listener().port = value::port(assignment.value)?;
    Ok(())
}

fn set_management_ip(draft: &mut Draft, assignment: &Assignment<'_>) -> Result<(), Reason> {
    draft.management_listener().ip = Some(value::ip(assignment.value)?);
    Ok(())
}

fn set_category(draft: &mut Draft, category: &str, text: &str) -> Result<(), Reason> {
    let level: LogLevel = value::log_level(text)?;
    draft.settings.log.categories.insert(category.to_owned(), level);
    Ok(())
}

fn frame_bytes(text: &str) -> Result<u32, Reason> {
    let range = u64::from(Limits::FRAME_MAX_BYTES_MIN)..=MESSAGE_BYTES_MAX;
    let bytes = value::bytes(text, Units::Binary, range)?;
    u32::try_from(bytes).map_err(|_| "too large".to_owned())
}

fn connections(text: &str) -> Result<usize, Reason> {
    match text {
        "infinity" => Ok(unlimited_connections()),
        _ => value::number(text, 1..=1_000_000),
    }
}

/// "No limit" is still a number: as many as could ever have a file descriptor.
const fn unlimited_connections() -> usize {
    1_000_000
}

/// Patterns are compiled where they are used; here they are only text of a sane length.
pub(super) fn pattern(text: &str) -> Result<String, Reason> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("expected at most {TEXT_BYTES_MAX} bytes of text"));
    }
    Ok(text.to_owned())
}

fn timeout_ms(text: &str) -> Result<Option<u64>, Reason> {
    match text {
        "infinity" => Ok(None),
        text => value::duration_ms(text, 1..=u64::MAX).map(Some),
    }
}

pub(super) fn secret(text: &str) -> Result<Secret, Reason> {
    if text.is_empty() || text.len() > TEXT_BYTES_MAX {
        return Err(format!("expected 1 to {TEXT_BYTES_MAX} bytes of text"));
    }
    Ok(text.into())
}

pub(super) fn path(text: &str) -> Result<PathBuf, Reason> {
    value::text(text, TEXT_BYTES_MAX).map(PathBuf::from)
}

/// A URL path as RabbitMQ takes it: a leading slash is added, trailing ones go.
fn path_prefix(text: &str) -> Result<String, Reason> {
    let trimmed = text.trim_matches('/');
    if !trimmed.chars().all(|c| c.is_ascii_alphanumeric() || "/-._~".contains(c)) {
        return Err(format!("expected a URL path such as /rabbit, found '{text}'"));
    }
    Ok(if trimmed.is_empty() { String::new() } else { format!("/{trimmed}") })
}

/// `4.2.4`: clients compare the parts as numbers.
fn version(text: &str) -> Result<String, Reason> {
    let parts: Vec<&str> = text.split('.').collect();
    if parts.len() != 3 || parts.iter().any(|part| part.parse::<u16>().is_err()) {
        return Err(format!("expected a version such as 4.2.4, found '{text}'"));
    }
    Ok(text.to_owned())
}

fn off_only(text: &str, reason: &str) -> Result<(), Reason> {
    if value::boolean(text)? { Err(reason.to_owned()) } else { Ok(()) }
}
