//! The sources of settings, in the order in which they apply: defaults, files in the order given,
//! environment variables, `--set KEY=VALUE`. A later source overrides an earlier one, key by key.
//!
//! Nothing is guessed: an unknown key, a malformed value or line and a key whose effect we cannot
//! give are refused with their origin, all of them at once. RabbitMQ's keys that make no difference
//! here are accepted with a warning.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::encrypted::{self, Vault};
use super::keys::{Draft, Key, keys, open_names};
use super::known::{IGNORED, REFUSED};
use super::settings::Settings;
use super::{parse, suggest};
use crate::secret::Secret;

/// Largest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// The longest passphrase, in bytes.
const PASSPHRASE_BYTES_MAX: u64 = 4096;
/// Unknown keys for which a known one is looked for: a file with more is some other file.
const HINTS_MAX: usize = 100;
/// Rights of a passphrase's file that make it no secret: of its group and of others.
const MODE_REFUSED: u32 = 0o077;

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A line of a file, counted from 1.
    File {
        /// The file as it was named.
        name: String,
        /// The line.
        line: u32,
    },
    /// An environment variable.
    Environment(String),
    /// The n-th `--set`, counted from 1.
    Set(usize),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line } => write!(f, "{name}:{line}"),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Set(index) => write!(f, "--set #{index}"),
        }
    }
}

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {reason}")]
pub struct Problem {
    /// Where.
    pub origin: Origin,
    /// What, such as `unknown key 'hearbeat'; did you mean 'heartbeat'?`.
    pub reason: String,
}

/// Everything that is wrong with the configuration, a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// At least one problem, in the order of the sources.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// A setting that was accepted without effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Where.
    pub origin: Origin,
    /// The key and why it has no effect.
    pub text: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.text)
    }
}

/// What came of reading a configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// To be logged.
    pub warnings: Vec<Warning>,
}

/// Gathers sources, then makes [`Settings`] of them.
///
/// ```
/// # use leveret::config::Loader;
/// let loaded = Loader::new()
///     .file("rabbitmq.conf", "heartbeat = 30\nlisteners.tcp.default = 5673")
///     .set("frame_max=65536")
///     .load()
///     .expect("a valid configuration");
/// assert_eq!(loaded.settings.limits.heartbeat_s, 30);
/// ```
#[derive(Default)]
pub struct Loader {
    data_dir: Option<PathBuf>,
    files: Vec<(String, Zeroizing<String>)>,
    environment: BTreeMap<String, String>,
    sets: Vec<Zeroizing<String>>,
}

impl Loader {
    /// Nothing but the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Where data is kept when no source says otherwise.
    #[must_use]
    pub fn default_data_dir(mut self, dir: PathBuf) -> Self {
        self.data_dir = Some(dir);
        self
    }

    /// Adds a file's text; `name` is how messages call it.
    #[must_use]
    pub fn file(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.files.push((name.into(), Zeroizing::new(text.into())));
        self
    }

    /// Adds environment variables; those that mean nothing to us are not looked at, except by
    /// `$(NAME)` in a file's values.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment.extend(variables);
        self
    }

    /// Adds a `KEY=VALUE` from the command line.
    #[must_use]
    pub fn set(mut self, assignment: impl Into<String>) -> Self {
        self.sets.push(Zeroizing::new(assignment.into()));
        self
    }

    /// Applies every source.
    ///
    /// # Errors
    /// With every unknown key, malformed line or value, and refused key there is.
    pub fn load(self) -> Result<Loaded, ConfigError> {
        let mut reading = Reading::default();
        if let Some(dir) = self.data_dir {
            reading.draft.data_dir(dir);
        }
        reading.environment_defaults(&self.environment);
        for (name, text) in &self.files {
            reading.file(name, text, &self.environment);
        }
        reading.environment_overrides(&self.environment);
        for (i, assignment) in self.sets.iter().enumerate() {
            let origin = Origin::Set(i + 1);
            match parse::assignment(assignment) {
                Ok((key, value)) => reading.setting(origin, &key, &value),
                Err(reason) => {
                    let found = first_word(assignment);
                    reading.problem(origin, format!("{reason}, found '{found}'"));
                }
            }
        }
        reading.decrypt();
        if reading.problems.is_empty() {
            Ok(Loaded { settings: reading.draft.finish(), warnings: reading.warnings })
        } else {
            Err(ConfigError { problems: reading.problems })
        }
    }
}

/// Reads a configuration file whole.
///
/// # Errors
/// When it cannot be read, is not UTF-8 or is larger than 4 MiB.
pub fn read_file(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other("larger than 4 MiB"));
    }
    Ok(text)
}

/// Reads the first line of a file that holds a passphrase.
///
/// # Errors
/// When it cannot be read, is empty, or anyone but its owner may read it.
pub fn read_passphrase(path: &Path) -> std::io::Result<Secret> {
    let file = std::fs::File::open(path)?;
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & MODE_REFUSED != 0 {
        let reason = format!("its mode is {mode:04o}: only its owner may read it (chmod 600)");
        return Err(std::io::Error::other(reason));
    }
    let mut text = Zeroizing::new(Vec::new());
    file.take(PASSPHRASE_BYTES_MAX + 1).read_to_end(&mut text)?;
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() || line.len() as u64 > PASSPHRASE_BYTES_MAX {
        let reason = format!("expected a line of 1 to {PASSPHRASE_BYTES_MAX} bytes");
        return Err(std::io::Error::other(reason));
    }
    Ok(line.into())
}

/// A value that waits until it is known how to decrypt it.
struct Encrypted {
    origin: Origin,
    key: Vec<String>,
    /// Without its prefix.
    encoded: String,
}

#[derive(Default)]
struct Reading {
    draft: Draft,
    encrypted: Vec<Encrypted>,
    warnings: Vec<Warning>,
    problems: Vec<Problem>,
    /// Unknown keys so far.
    unknown: usize,
}

impl Reading {
    /// Variables that stand below the files: the node's name and its default listener.
    fn environment_defaults(&mut self, environment: &BTreeMap<String, String>) {
        let listener = |problem: &str, name: &str, found: &str| {
            (Origin::Environment(name.to_owned()), format!("expected {problem}, found '{found}'"))
        };
        if let Some(text) = present(environment, "RABBITMQ_NODE_PORT") {
            match text.parse() {
                Ok(port) => self.draft.default_listener().port = port,
                Err(_) => {
                    let (origin, reason) = listener("a port", "RABBITMQ_NODE_PORT", text);
                    self.problem(origin, reason);
                }
            }
        }
        if let Some(text) = present(environment, "RABBITMQ_NODE_IP_ADDRESS") {
            match super::value::ip(text) {
                Ok(ip) => self.draft.default_listener().ip = Some(ip),
                Err(_) => {
                    let (origin, reason) =
                        listener("an IP address", "RABBITMQ_NODE_IP_ADDRESS", text);
                    self.problem(origin, reason);
                }
            }
        }
        if let Some(name) = present(environment, "RABBITMQ_NODENAME") {
            self.draft.node_name(name.to_owned());
        }
    }

    /// Variables that stand above the files, as in RabbitMQ: the default user and vhost.
    fn environment_overrides(&mut self, environment: &BTreeMap<String, String>) {
        for (variable, key) in [
            ("RABBITMQ_DEFAULT_USER", "default_user"),
            ("RABBITMQ_DEFAULT_PASS", "default_pass"),
            ("RABBITMQ_DEFAULT_VHOST", "default_vhost"),
        ] {
            if let Some(value) = present(environment, variable) {
                let origin = Origin::Environment(variable.to_owned());
                self.setting(origin, &[key.to_owned()], value);
            }
        }
    }

    fn file(&mut self, name: &str, text: &str, environment: &BTreeMap<String, String>) {
        let (entries, malformed) = parse::file(text);
        let origin = |line| Origin::File { name: name.to_owned(), line };
        let first = self.problems.len();
        for line in malformed {
            self.problem(origin(line.line), line.reason.to_owned());
        }
        for entry in entries {
            match interpolate(&entry.value, environment) {
                Ok(value) => {
                    let value = Zeroizing::new(value);
                    self.setting(origin(entry.line), &entry.key, &value);
                }
                Err(reason) => {
                    let reason = format!("{}: {reason}", parse::written(&entry.key));
                    self.problem(origin(entry.line), reason);
                }
            }
        }
        self.problems[first..].sort_by_key(|problem| match problem.origin {
            Origin::File { line, .. } => line,
            Origin::Environment(_) | Origin::Set(_) => 0,
        });
    }

    fn setting(&mut self, origin: Origin, key: &[String], value: &str) {
        self.encrypted.retain(|earlier| earlier.key != key);
        let is_secret = |k: &Key| k.is_secret && open_names(k.pattern, key).is_some();
        if let Some(encoded) = value.strip_prefix(encrypted::PREFIX)
            && keys().any(is_secret)
        {
            let (key, encoded) = (key.to_vec(), encoded.to_owned());
            self.encrypted.push(Encrypted { origin, key, encoded });
            return;
        }
        self.apply(origin, key, value);
    }

    fn apply(&mut self, origin: Origin, key: &[String], value: &str) {
        let written = parse::written(key);
        if let Some(result) = keys().find_map(|k| k.apply(&mut self.draft, key, value)) {
            if let Err(reason) = result {
                self.problem(origin, format!("{written}: {reason}"));
            }
        } else if let Some(reason) = listed(REFUSED, key) {
            self.problem(origin, format!("{written}: {reason}"));
        } else if let Some(reason) = listed(IGNORED, key) {
            let text = format!("'{written}' has no effect: {reason}");
            self.warnings.push(Warning { origin, text });
        } else {
            self.unknown += 1;
            let near = match self.unknown {
                ..=HINTS_MAX => suggest::nearest(&written, patterns()),
                _ => None,
            };
            let hint = near.map_or_else(String::new, |near| format!("; did you mean '{near}'?"));
            self.problem(origin, format!("unknown key '{written}'{hint}"));
        }
    }

    /// Decrypts what is encrypted, now that every source has been read.
    fn decrypt(&mut self) {
        let encrypted = std::mem::take(&mut self.encrypted);
        if encrypted.is_empty() {
            return;
        }
        let secrets = self.draft.secrets().clone();
        let passphrase = match &secrets.passphrase_file {
            None => {
                Err("the value is encrypted, and leveret.secrets.passphrase_file is not set"
                    .to_owned())
            }
            Some(path) => {
                read_passphrase(path).map_err(|error| format!("{}: {error}", path.display()))
            }
        };
        let vault = passphrase.map(|passphrase| Vault::new(passphrase, secrets.algorithm));
        for Encrypted { origin, key, encoded } in encrypted {
            let value = vault.clone().and_then(|vault| vault.decrypt(&encoded)).and_then(|value| {
                str::from_utf8(value.expose())
                    .map(|text| Zeroizing::new(text.to_owned()))
                    .map_err(|_| "the decrypted value is not UTF-8".to_owned())
            });
            match value {
                // Whatever it looks like, it is what was meant.
                Ok(value) => self.apply(origin, &key, &value),
                Err(reason) => {
                    self.problem(origin, format!("{}: {reason}", parse::written(&key)));
                }
            }
        }
    }

    fn problem(&mut self, origin: Origin, reason: String) {
        self.problems.push(Problem { origin, reason });
    }
}

/// Keys under a shared reason.
pub(super) type Listing = &'static [(&'static str, &'static [&'static str])];

fn listed(listing: Listing, key: &[String]) -> Option<&'static str> {
    let fits = |patterns: &[&str]| patterns.iter().any(|p| open_names(p, key).is_some());
    listing.iter().find(|(_, patterns)| fits(patterns)).map(|(reason, _)| *reason)
}

fn patterns() -> impl Iterator<Item = &'static str> {
    let known = IGNORED.iter().flat_map(|(_, patterns)| patterns.iter().copied());
    keys().map(|key| key.pattern).chain(known)
}

/// A variable that is set and not empty: an empty one counts as unset, as in RabbitMQ's scripts.
fn present<'a>(environment: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    environment.get(name).map(String::as_str).filter(|value| !value.is_empty())
}

/// How a text that is no setting begins: the rest may be a password.
fn first_word(text: &str) -> &str {
    let part_of_key = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '-');
    text.split(|c| !part_of_key(c)).next().unwrap_or_default()
}

/// Replaces `$(NAME)` by the variable's value.
fn interpolate(text: &str, environment: &BTreeMap<String, String>) -> Result<String, String> {
    let mut done = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("$(") {
        let Some((name, tail)) = after.split_once(')') else { break };
        let value = environment
            .get(name)
            .ok_or_else(|| format!("environment variable '{name}' is not set"))?;
        done.push_str(before);
        done.push_str(value);
        rest = tail;
    }
    done.push_str(rest);
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::super::settings::{Amount, ListenAddress, LogLevel, QueueType};
    use super::*;

    fn load(text: &str) -> Settings {
        Loader::new().file("leveret.conf", text).load().expect("a valid configuration").settings
    }

    fn refusals(text: &str) -> Vec<String> {
        let loaded = Loader::new().file("leveret.conf", text).load();
        let error = loaded.expect_err("a refused configuration");
        error.problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_given_means_rabbitmqs_defaults() {
        let settings = load("");
        assert_eq!(settings, Settings::default());
        assert_eq!(settings.listeners.tcp["default"], ListenAddress::any(5672));
        assert_eq!(settings.limits.frame_max_bytes, 131_072);
        assert!(settings.auth.loopback_users.contains("guest"));
    }

    #[test]
    fn the_images_own_configuration_is_accepted() {
        let settings = load("loopback_users.guest = false\nlog.console = true\n");
        assert!(settings.auth.loopback_users.is_empty());
        assert!(settings.log.console);
    }

    #[test]
    fn a_typical_production_file_is_understood() {
        let settings = load(
            "listeners.tcp.1 = 127.0.0.1:5672\nlisteners.tcp.2 = ::1:5673\n\
             default_user = ops\ndefault_pass = s3cr'et\ndefault_user_tags.monitoring = true\n\
             vm_memory_high_watermark.absolute = 2GiB\ndisk_free_limit.relative = 1.5\n\
             management.tcp.ip = 10.0.0.1\nprometheus.tcp.listener = none\n\
             default_queue_type = quorum\nlog.console.level = warning\n\
             max_message_size = 134217728\n",
        );
        assert_eq!(settings.listeners.tcp.len(), 2);
        assert_eq!(settings.listeners.tcp["2"].to_string(), "[::1]:5673");
        assert_eq!(settings.defaults.password, "s3cr'et".into());
        assert!(!settings.defaults.user_tags.contains("administrator"));
        assert_eq!(settings.memory.high_watermark, Amount::Absolute(2 << 30));
        assert_eq!(settings.disk_free_limit.0.bytes(1000), 1500);
        assert_eq!(
            settings.management.listener.map(|l| l.to_string()).as_deref(),
            Some("10.0.0.1:15672")
        );
        assert_eq!(settings.prometheus.listener, None);
        assert_eq!(settings.queues.default_type, QueueType::Quorum);
        assert_eq!(settings.log.console_level, LogLevel::Warning);
    }

    #[test]
    fn of_very_many_unknown_keys_all_are_named_and_the_first_ones_get_hints() {
        let keys = 20_000;
        let refusals = refusals(&"hearbeat = 1\n".repeat(keys));
        assert_eq!(refusals.len(), keys);
        let hinted = refusals.iter().filter(|it| it.ends_with("did you mean 'heartbeat'?"));
        assert_eq!(hinted.count(), HINTS_MAX);
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line_and_the_nearest_key() {
        assert_eq!(
            refusals("# first\n\nhearbeat = 30"),
            ["leveret.conf:3: unknown key 'hearbeat'; did you mean 'heartbeat'?"]
        );
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        assert_eq!(
            refusals("heartbeat = soon\nframe_max = 100\nrubbish\ndefault_queue_type = stream"),
            [
                "leveret.conf:1: heartbeat: expected a whole number, from 0 to 65535, found 'soon'",
                "leveret.conf:2: frame_max: expected a number of bytes such as 64MB or 1GiB, \
                 from 4096 to 536870912, found '100'",
                "leveret.conf:3: expected 'key = value'",
                "leveret.conf:4: default_queue_type: expected classic, quorum, \
                 rabbit_classic_queue or rabbit_quorum_queue, found 'stream'",
            ]
        );
    }

    const ENCRYPTED: &str = "default_pass = encrypted:YC+dnbq1RLEDJR1DHs0p/4xbuTvFFgVYx09yTwD9gj\
                             wyPK9gDJqiNtw8jv6rgAVeD4slWtwPtoO2+Yeqlrui3g==\n";

    /// A file that holds a passphrase, with this mode.
    fn passphrase(text: &str, mode: u32) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(file.path(), permissions).unwrap();
        file
    }

    fn with_passphrase(file: &tempfile::NamedTempFile) -> String {
        format!("{ENCRYPTED}leveret.secrets.passphrase_file = {}", file.path().display())
    }

    #[test]
    fn an_encrypted_value_is_read_wherever_its_passphrase_is_named() {
        let file = passphrase("mypassphrase\n", 0o600);
        let settings = load(&with_passphrase(&file));
        assert_eq!(settings.defaults.password, "s3cret-value".into());
        let later = Loader::new()
            .file("leveret.conf", with_passphrase(&file))
            .set("default_pass=plain")
            .load()
            .unwrap();
        assert_eq!(later.settings.defaults.password, "plain".into());
        assert_eq!(
            load("cluster_name = encrypted:no").identity.cluster_name.unwrap(),
            "encrypted:no",
            "only what is secret is ever decrypted"
        );
    }

    #[test]
    fn an_encrypted_value_that_cannot_be_read_is_refused_and_not_shown() {
        let [only] = refusals(ENCRYPTED).try_into().unwrap();
        let reason = "the value is encrypted, and leveret.secrets.passphrase_file is not set";
        assert_eq!(only, format!("leveret.conf:1: default_pass: {reason}"));
        for (text, mode, why) in [
            ("mypassphrase", 0o640, "its mode is 0640: only its owner may read it (chmod 600)"),
            ("", 0o600, "expected a line of 1 to 4096 bytes"),
            ("another", 0o600, "cannot be decrypted: was it encrypted with this passphrase"),
        ] {
            let file = passphrase(text, mode);
            let [only] = refusals(&with_passphrase(&file)).try_into().unwrap();
            assert!(only.starts_with("leveret.conf:1: default_pass: "), "{only}");
            assert!(only.contains(why) && !only.contains("YC+dnbq1"), "{only}");
        }
    }

    #[test]
    fn what_would_be_unsafe_to_ignore_is_refused_with_the_reason() {
        assert_eq!(
            refusals("ssl_options.versions.1 = tlsv1.1\nssl_options.crl_check = peer"),
            [
                "leveret.conf:1: ssl_options.versions.1: tlsv1.1 is not safe and not available; \
                 take tlsv1.2 or tlsv1.3",
                "leveret.conf:2: ssl_options.crl_check: lists of revoked certificates are not \
                 available: expected false, found 'peer'",
            ]
        );
    }

    #[test]
    fn http_by_tls_alone_has_no_listener_without() {
        let ports = |text: &str| {
            let settings = load(text);
            let [plain, tls] = [settings.management.listener, settings.management.tls_listener];
            [plain.map(|it| it.port), tls.map(|it| it.port)]
        };
        assert_eq!(ports(""), [Some(15672), None]);
        assert_eq!(ports("management.ssl.port = 1"), [None, Some(1)]);
        assert_eq!(ports("management.ssl.certfile = /a.pem"), [None, Some(15671)]);
        assert_eq!(
            ports("management.ssl.ip = ::1\nmanagement.tcp.port = 2"),
            [Some(2), Some(15671)]
        );
        assert_eq!(ports("management.ssl.port = 1\nleveret.management.enabled = off"), [None; 2]);
        let settings = load("prometheus.tcp.listener = none\nprometheus.ssl.port = 1");
        assert_eq!(settings.prometheus.listener, None);
        assert_eq!(settings.prometheus.tls_listener, Some(ListenAddress::any(1)));
    }

    #[test]
    fn a_harmless_key_is_accepted_with_a_warning() {
        let loaded = Loader::new()
            .file("leveret.conf", "num_acceptors.tcp = 10\nproxy_protocol = false")
            .load()
            .expect("a valid configuration");
        assert_eq!(loaded.settings, Settings::default());
        let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(warnings.len(), 1);
        assert!(warnings[0].starts_with("leveret.conf:1: 'num_acceptors.tcp' has no effect: "));
    }

    #[test]
    fn set_overrides_the_environment_which_overrides_files() {
        let environment = [
            ("RABBITMQ_DEFAULT_USER".to_owned(), "env".to_owned()),
            ("RABBITMQ_DEFAULT_PASS".to_owned(), "env".to_owned()),
            ("RABBITMQ_DEFAULT_VHOST".to_owned(), String::new()),
        ];
        let text = "default_user = file\ndefault_pass = file\ndefault_vhost = file";
        let loaded = Loader::new()
            .file("leveret.conf", text)
            .environment(environment)
            .set("default_user=set")
            .load()
            .expect("a valid configuration");
        let defaults = loaded.settings.defaults;
        assert_eq!(defaults.user, "set");
        assert_eq!(defaults.password, "env".into());
        assert_eq!(defaults.vhost, "file");
    }

    #[test]
    fn a_bad_set_is_refused_with_its_index() {
        let error = Loader::new().set("heartbeat=30").set("frame_mx=1").set("x").load();
        assert_eq!(
            error.expect_err("a refused configuration").to_string(),
            "--set #2: unknown key 'frame_mx'; did you mean 'frame_max'?\n\
             --set #3: expected KEY=VALUE, found 'x'"
        );
    }

    #[test]
    fn variables_are_put_into_values() {
        let environment = [("PW".to_owned(), "s=#x".to_owned())];
        let load = |text: &str| {
            Loader::new().environment(environment.clone()).file("leveret.conf", text).load()
        };
        let loaded = load("default_pass = a-$(PW)-b").expect("a valid configuration");
        assert_eq!(loaded.settings.defaults.password, "a-s=#x-b".into());
        assert_eq!(
            load("default_pass = $(NOPE)").expect_err("a refused configuration").to_string(),
            "leveret.conf:1: default_pass: environment variable 'NOPE' is not set"
        );
    }

    #[test]
    fn no_listener_at_all_can_be_asked_for() {
        assert!(
            load("listeners.tcp.default = 5672\nlisteners.tcp = none").listeners.tcp.is_empty()
        );
        assert!(load("loopback_users = none").auth.loopback_users.is_empty());
        assert_eq!(load("leveret.management.enabled = false").management.listener, None);
    }

    #[test]
    fn the_port_of_the_environment_yields_to_listeners_in_a_file() {
        let environment = [("RABBITMQ_NODE_PORT".to_owned(), "5690".to_owned())];
        let load = |text: &str| {
            let loader = Loader::new().environment(environment.clone());
            loader.file("leveret.conf", text).load().expect("a valid configuration").settings
        };
        assert_eq!(load("").listeners.tcp["default"].port, 5690);
        let listeners = load("listeners.tcp.1 = 5672").listeners.tcp;
        assert_eq!(
            listeners.into_iter().collect::<Vec<_>>(),
            [("1".to_owned(), ListenAddress::any(5672))]
        );
    }

    #[test]
    fn a_password_is_not_shown_by_debug() {
        let settings = load("default_pass = hush");
        assert!(!format!("{settings:?}").contains("hush"));
    }
}
