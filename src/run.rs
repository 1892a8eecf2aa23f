//! Running the broker: opening the store, binding the listeners, stopping in order.

use std::fmt::{Display, Formatter};
use std::sync::Arc;
use std::time::Duration;

use leveret::backends;
use leveret::broker::access::{Administer, Hashing, Permission};
use leveret::broker::events;
use leveret::broker::inspect::Inspect;
use leveret::broker::operate::Operate;
use leveret::broker::queue::QueueKind;
use leveret::broker::trigger::operate::OperateTriggers;
use leveret::broker::trigger::run::Runs as _;
use leveret::broker::{Broker, BrokerSettings};
use leveret::config::Settings;
use leveret::config::settings::{
    AuthMechanism, Management, PasswordHashing, Prometheus, QueueType,
};
use leveret::management::{self, Context, LoginPace};
use leveret::metrics::ProcessReader;
use leveret::runners::{OWN_BINARY, Programs, Runners, Webhooks};
use leveret::server::audit::{AuditLog, LoginLog};
use leveret::server::clock::Clock;
use leveret::server::descriptors::Descriptors;
use leveret::server::{self, Door, Hall, LobbyLimits, Reserve};
use leveret::session::{Mechanism, SessionSettings};
use leveret::store::rocks::{Options, RocksStore};
use leveret::store::{Durability, DurableWaker, Lsn, Store, StoreError};
use leveret::tls::TlsError;
use rustix::process::{Resource, getrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};

use crate::doors::{self, Doors, Tls};
use crate::exit;
use crate::log::LogFile;

/// Waiting messages take a sixteenth of the memory watermark, unless configured otherwise...
const QUEUE_MEMORY_SHARE: u64 = 16;
/// ...but no less than this...
const QUEUE_MEMORY_BYTES_MIN: u64 = 16 << 20;
/// ...and no more: a backlog is read faster than it is delivered.
const QUEUE_MEMORY_BYTES_MAX: u64 = 128 << 20;

/// How long the tasks may take to end once everyone was told to.
const STOP_MS_MAX: u64 = 1_000;
/// The same after a failure of the store, clients' good-byes included: nothing that could be waited
/// for can become durable any more, and whoever watches the process should hear of it at once.
const FAILED_STOP_MS_MAX: u64 = 300;

/// Why the broker did not start, or did not stop well.
#[derive(Debug)]
pub(crate) enum RunError {
    /// The data directory cannot be used.
    Store(StoreError),
    /// A setting makes no sense where it is used.
    Setting {
        /// Its key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A port cannot be listened on.
    Listen {
        /// Which.
        address: String,
        /// Why.
        error: std::io::Error,
    },
    /// The audit log cannot be written.
    Audit(std::io::Error),
    /// The operating system refused something.
    System(std::io::Error),
}

impl RunError {
    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Store(error) => exit::of_store(error),
            Self::Audit(_) | Self::System(_) => exit::IO,
            Self::Listen { .. } => exit::UNAVAILABLE,
            Self::Setting { .. } => exit::CONFIG,
        }
    }
}

impl Display for RunError {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Store(error) => error.fmt(f),
            Self::Setting { key, reason } => write!(f, "{key}: {reason}"),
            Self::Listen { address, error } => write!(f, "cannot listen on {address}: {error}"),
            Self::Audit(error) => write!(f, "cannot write the audit log: {error}"),
            Self::System(error) => error.fmt(f),
        }
    }
}

impl From<StoreError> for RunError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<TlsError> for RunError {
    fn from(error: TlsError) -> Self {
        Self::Setting { key: error.key, reason: error.reason }
    }
}

impl From<std::io::Error> for RunError {
    fn from(error: std::io::Error) -> Self {
        Self::System(error)
    }
}

/// What is opened anew on SIGHUP, for those who rotate it.
struct Logs {
    file: Option<Arc<LogFile>>,
    audit: Option<Arc<AuditLog>>,
}

impl Logs {
    fn reopen(&self) {
        if let Some(file) = &self.file {
            file.reopen();
        }
        if let Some(audit) = &self.audit {
            audit.reopen();
        }
    }
}

/// Runs the broker until it is told to stop. `reload` reads the configuration again, with its
/// warnings, or says what is wrong with it.
pub(crate) fn run(
    settings: Arc<Settings>,
    file: Option<Arc<LogFile>>,
    reload: impl Fn() -> Result<(Settings, Vec<String>), String>,
) -> Result<(), RunError> {
    // Whatever is wrong with it is said before anything is opened.
    doors::check(&settings)?;
    let tls = Tls::open(&settings)?;
    let descriptors = descriptors(&settings);
    let files_max = u16::try_from(descriptors.store).unwrap_or(u16::MAX);
    let durability = match settings.store.syncs_before_confirm {
        true => Durability::Fsync,
        false => Durability::Os,
    };
    if durability == Durability::Os {
        tracing::warn!(
            "leveret.durability = os: a power cut can lose messages that were confirmed"
        );
    }
    let options = Options { files_max, durability, ..Options::default() };
    let store = RocksStore::open(&settings.store.path, options)?;
    let store: Arc<dyn Store> = Arc::new(store);
    let clock = Clock::start();
    let entropy = Box::new(|bytes: &mut [u8]| {
        getrandom::fill(bytes).expect("invariant: the operating system gives random bytes");
    });
    let broker =
        Broker::open(broker_settings(&settings)?, Arc::clone(&store), entropy, clock.now())?;
    let unix_ms: backends::Clock = Arc::new(move || clock.now().unix_ms);
    let chain = backends::chain(&settings.auth, &unix_ms)
        .map_err(|error| RunError::Setting { key: error.key.to_owned(), reason: error.reason })?;
    broker.access().ask_others(chain, Box::new(|work| tokio::task::block_in_place(work)));
    let logs = Logs { file, audit: open_audit_log(&settings, &broker, clock)? };
    let readers = server::Readers::start(&broker, clock)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let served =
        runtime.block_on(serve(&settings, &tls, reload, &broker, &logs, descriptors, clock));
    let stop_ms_max = if served.is_ok() { STOP_MS_MAX } else { FAILED_STOP_MS_MAX };
    runtime.shutdown_timeout(Duration::from_millis(stop_ms_max));
    drop(readers);
    if let Some(audit) = &logs.audit {
        audit.close(clock.now());
    }
    store.close()?;
    served
}

/// Opens the audit log, if there is to be one, and gives the broker its listeners.
fn open_audit_log(
    settings: &Settings,
    broker: &Broker,
    clock: Clock,
) -> Result<Option<Arc<AuditLog>>, RunError> {
    let mut listeners: Vec<Arc<dyn events::Listener>> = vec![Arc::new(LoginLog)];
    let audit = match &settings.audit.file {
        None => None,
        Some(name) => {
            let path = settings.log.path(name);
            let node = &broker.settings().node_name;
            let lost = Arc::clone(&broker.counters().audit_lines_lost);
            let log = AuditLog::open(&path, node, lost, clock.now()).map_err(RunError::Audit)?;
            tracing::info!("audit log in {}", path.display());
            Some(Arc::new(log))
        }
    };
    listeners.extend(audit.clone().map(|audit| audit as Arc<dyn events::Listener>));
    broker.listen(listeners);
    Ok(audit)
}

async fn serve(
    settings: &Arc<Settings>,
    tls: &Tls,
    reload: impl Fn() -> Result<(Settings, Vec<String>), String>,
    broker: &Arc<Broker>,
    logs: &Logs,
    descriptors: Descriptors,
    clock: Clock,
) -> Result<(), RunError> {
    // Before anyone is told that the broker has started: a signal that nobody awaits kills.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let (stop, stopped) = watch::channel(false);
    let session = Arc::new(session_settings(settings));
    let hall =
        Hall::new(Arc::clone(broker), session, lobby_limits(settings), descriptors.amqp, clock);
    let opened = Doors::open(settings, tls)?;
    let process = ProcessReader::new(settings);
    // Before anyone is let in: what is short at the start is short for the first publisher, too.
    let reserve = Arc::new(Reserve::open(process.data_dir()));
    server::look_for_alarms(broker, &reserve.levels(process.levels()), clock.now());
    let watched = process.clone();
    let watched_reserve = Arc::clone(&reserve);
    let measure = move || watched_reserve.levels(watched.levels());
    tokio::spawn(server::watch_alarms(Arc::clone(broker), clock, measure));
    let mut doors = tokio::task::JoinSet::new();
    let programs = Arc::new(Programs::open(settings.triggers.programs_dir.clone()));
    broker.set_allowed(Arc::<Programs>::clone(&programs));
    let amqp = Http { settings, broker, process: &process, descriptors, clock }
        .serve(opened, &stopped, &mut doors);
    let runners = runners(settings, broker, &programs, clock)?;
    doors.spawn(runners.serve(descriptors.runs, stopped.clone()));
    for door in amqp {
        doors.spawn(server::serve_amqp(door, hall.clone(), stopped.clone()));
    }
    tokio::spawn(server::watch_certificates(tls.all(), clock));
    tokio::spawn(server::watch_deadlines(Arc::clone(broker), clock));
    tracing::info!(
        "Server startup complete; data in {}, node {}",
        settings.store.path.display(),
        broker.settings().node_name
    );
    let failing = store_failure(broker);
    tokio::pin!(failing);
    let failure = loop {
        tokio::select! {
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            failure = &mut failing => break Some(failure),
            _ = hangup.recv() => {
                logs.reopen();
                take_changes(reload(), settings, &process, tls, clock.now().unix_ms / 1000);
                server::look_for_alarms(broker, &reserve.levels(process.levels()), clock.now());
                programs.read_again();
                broker.programs_changed(clock.now());
            }
        }
    };
    match &failure {
        Some(failure) => tracing::error!("the store has failed, stopping: {failure}"),
        None => tracing::info!("stopping"),
    }
    let _ = stop.send(true);
    let all_gone = async { while doors.join_next().await.is_some() {} };
    match failure {
        None => {
            all_gone.await;
            Ok(())
        }
        Some(failure) => {
            let _ = tokio::time::timeout(Duration::from_millis(FAILED_STOP_MS_MAX), all_gone).await;
            Err(failure.into())
        }
    }
}

/// Who runs what triggers start.
fn runners(
    settings: &Settings,
    broker: &Arc<Broker>,
    programs: &Arc<Programs>,
    clock: Clock,
) -> Result<Runners, RunError> {
    let (calls, node) = (&settings.triggers.webhooks, &broker.settings().node_name);
    let refused = |reason| RunError::Setting {
        key: "leveret.triggers.webhook.cacertfile".to_owned(),
        reason,
    };
    let webhooks = Webhooks::new(calls, node).map_err(refused)?;
    let (runs, operate) = (Arc::<Broker>::clone(broker), Arc::<Broker>::clone(broker));
    let programs = Arc::clone(programs);
    Ok(Runners::new(runs, operate, programs, webhooks, OWN_BINARY.into(), clock)?)
}

/// What is told over HTTP.
struct Http<'h> {
    settings: &'h Settings,
    broker: &'h Arc<Broker>,
    process: &'h ProcessReader,
    descriptors: Descriptors,
    clock: Clock,
}

impl Http<'_> {
    /// Serves it at its doors. Returns those that are left.
    fn serve(
        self,
        opened: Doors,
        stopped: &watch::Receiver<bool>,
        doors: &mut tokio::task::JoinSet<()>,
    ) -> Vec<Door> {
        let Self { settings, broker, process, descriptors, clock } = self;
        let Doors { amqp, management, metrics, listeners } = opened;
        let inspect: Arc<dyn Inspect> = Arc::<Broker>::clone(broker);
        let operate: Arc<dyn Operate> = Arc::<Broker>::clone(broker);
        let administer: Arc<dyn Administer> = Arc::<Broker>::clone(broker);
        let triggers: Arc<dyn OperateTriggers> = Arc::<Broker>::clone(broker);
        let process = process.clone();
        let now = Box::new(move || clock.now());
        let limits = &settings.limits;
        let pace = LoginPace::new(limits.login_refusal_ms, limits.login_rest_ms);
        let context = Arc::new(Context {
            inspect,
            operate,
            administer,
            triggers,
            process,
            listeners,
            pace,
            now,
        });
        let stop = |mut stopped: watch::Receiver<bool>| async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        if !management.is_empty() {
            let context = Arc::clone(&context);
            let connections_max = descriptors.management;
            let settings = Management { connections_max, ..settings.management.clone() };
            let stop = stop(stopped.clone());
            doors.spawn(async move {
                let served = management::serve(management, context, &settings, stop);
                if let Err(error) = served.await {
                    tracing::error!("the management API has stopped: {error}");
                }
            });
        }
        if !metrics.is_empty() {
            let connections_max = descriptors.metrics;
            let settings = Prometheus { connections_max, ..settings.prometheus.clone() };
            let stop = stop(stopped.clone());
            doors.spawn(async move {
                let served = management::serve_metrics(metrics, context, &settings, stop);
                if let Err(error) = served.await {
                    tracing::error!("the metrics page has stopped: {error}");
                }
            });
        }
        amqp
    }
}

/// Takes what can change while the broker runs from a configuration that was read again: the
/// watermarks of memory and disk, and certificates. One that is refused changes nothing.
fn take_changes(
    read: Result<(Settings, Vec<String>), String>,
    running: &Settings,
    process: &ProcessReader,
    tls: &Tls,
    now_s: u64,
) {
    let (settings, warnings) = match read {
        Ok(read) => read,
        Err(error) => {
            tracing::error!("the configuration is refused, nothing changes: {error}");
            return;
        }
    };
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    process.limit(&settings);
    tracing::info!("the watermarks of memory and disk are taken from the configuration anew");
    tls.reload(&settings, now_s);
    let mut wanted = settings;
    wanted.memory = running.memory;
    wanted.disk_free_limit = running.disk_free_limit;
    wanted.tls.clone_from(&running.tls);
    wanted.management.tls.clone_from(&running.management.tls);
    wanted.prometheus.tls.clone_from(&running.prometheus.tls);
    if *running != wanted {
        tracing::warn!("other keys have changed, too: they take effect at the next start");
    }
}

/// Resolves when the store has failed: a broker that cannot keep messages must not go on.
async fn store_failure(broker: &Arc<Broker>) -> StoreError {
    let ended = Arc::new(StoreEnded::default());
    broker.store().notify(Lsn::NEVER, Arc::<StoreEnded>::clone(&ended));
    loop {
        ended.0.notified().await;
        if let Some(failure) = broker.store().failure() {
            return failure;
        }
    }
}

/// Hears of the store's end.
#[derive(Default)]
struct StoreEnded(Notify);

impl DurableWaker for StoreEnded {
    fn wake(&self) {
        self.0.notify_one();
    }
}

fn broker_settings(settings: &Settings) -> Result<BrokerSettings, RunError> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim().split('.').next().unwrap_or_default().to_owned();
    let host = if host.is_empty() { "localhost".to_owned() } else { host };
    let identity = &settings.identity;
    let node_name = identity.node_name.clone().unwrap_or_else(|| format!("rabbit@{host}"));
    let defaults = &settings.defaults;
    let permissions = &defaults.permissions;
    let patterns = [&*permissions.configure, &*permissions.write, &*permissions.read];
    let default_permissions = Permission::new(patterns).map_err(|error| RunError::Setting {
        key: "default_permissions".to_owned(),
        reason: error.to_string(),
    })?;
    Ok(BrokerSettings {
        cluster_name: identity.cluster_name.clone().unwrap_or_else(|| node_name.clone()),
        node_name,
        product: identity.compat_product.clone(),
        version: identity.compat_version.clone(),
        product_name: identity.product_name.clone(),
        product_version: identity.product_version.clone(),
        default_user: defaults.user.clone(),
        default_password: defaults.password.clone(),
        default_user_tags: defaults.user_tags.iter().cloned().collect(),
        default_vhost: defaults.vhost.clone(),
        default_permissions,
        password_hashing: match settings.auth.password_hashing {
            PasswordHashing::Sha256 => Hashing::Sha256,
            PasswordHashing::Sha512 => Hashing::Sha512,
            PasswordHashing::Argon2id => Hashing::Argon2id,
        },
        loopback_users: settings.auth.loopback_users.iter().cloned().collect(),
        connections_max: limit(settings.limits.connection_max),
        channels_max: limit(settings.limits.channel_max_per_node),
        vhosts_max: limit(settings.limits.vhost_max),
        queues_max: limit(settings.limits.queue_max),
        exchanges_max: limit(settings.limits.exchange_max),
        login_failures_max: settings.limits.login_failures_per_minute.unwrap_or_default(),
        default_queue_kind: match settings.queues.default_type {
            QueueType::Classic => QueueKind::Classic,
            QueueType::Quorum => QueueKind::Quorum,
        },
        backup_dir: settings
            .backup_dir
            .clone()
            .unwrap_or_else(|| settings.store.path.join("backups")),
        queue_memory_bytes: settings.queues.memory_bytes_max.unwrap_or_else(|| {
            let watermark = ProcessReader::new(settings).levels().memory_limit_bytes;
            let share = watermark.unwrap_or(u64::MAX) / QUEUE_MEMORY_SHARE;
            share.clamp(QUEUE_MEMORY_BYTES_MIN, QUEUE_MEMORY_BYTES_MAX)
        }),
    })
}

fn session_settings(settings: &Settings) -> SessionSettings {
    let limits = &settings.limits;
    SessionSettings {
        channel_max: limits.channel_max,
        frame_max: limits.frame_max_bytes,
        frame_min: leveret::config::settings::Limits::FRAME_MAX_BYTES_MIN,
        frame_max_initial: limits.initial_frame_max_bytes,
        heartbeat_s: limits.heartbeat_s,
        message_bytes_max: limits.message_bytes_max,
        handshake_ms_max: limits.handshake_timeout_ms.unwrap_or(u64::MAX / 2),
        login_refused_ms: limits.login_refusal_ms,
        login_rests_ms: limits.login_rest_ms,
        consumers_per_channel_max: limit(limits.consumer_max_per_channel),
        ack_ms_max: limits.consumer_timeout_ms,
        store_backlog_bytes_max: settings.store.backlog_bytes_max,
        mechanisms: settings.auth.mechanisms.iter().copied().map(mechanism).collect(),
        anonymous_user: settings.auth.anonymous_login_user.clone(),
    }
}

fn lobby_limits(settings: &Settings) -> LobbyLimits {
    LobbyLimits {
        max: limit(settings.limits.half_open_max),
        max_per_source: limit(settings.limits.half_open_max_per_address),
    }
}

/// What the system grants (`main` has asked for as much as there is), shared among the doors and
/// the store.
fn descriptors(settings: &Settings) -> Descriptors {
    let granted = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let granted = usize::try_from(granted).unwrap_or(usize::MAX);
    let (management, metrics) = (&settings.management, &settings.prometheus);
    let shares = Descriptors::share(
        granted,
        management.connections_max,
        metrics.connections_max,
        settings.triggers.runs_max,
    );
    tracing::info!("{granted} file descriptors: {} for AMQP connections", shares.amqp);
    shares
}

fn mechanism(configured: AuthMechanism) -> Mechanism {
    match configured {
        AuthMechanism::AmqPlain => Mechanism::AmqPlain,
        AuthMechanism::Anonymous => Mechanism::Anonymous,
        AuthMechanism::External => Mechanism::External,
        AuthMechanism::Plain => Mechanism::Plain,
    }
}

/// A limit as the engine counts it: 0 is none.
fn limit(max: Option<u64>) -> usize {
    max.map_or(0, |max| usize::try_from(max).unwrap_or(usize::MAX))
}
