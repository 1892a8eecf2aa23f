//! Programs, and an engine that hands over what a test wants run and remembers how it went.

use std::collections::VecDeque;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use leveret::broker::Now;
use leveret::broker::events::{Event, Listener};
use leveret::broker::message::{Envelope, Message};
use leveret::broker::outbox::Wake;
use leveret::broker::trigger::run::{
    Action, Allowed, Cause, Ended, Exit, Handed, HandedId, Outcome, Run, Runs, Verdict,
};
use leveret::config::settings;
use leveret::protocol::table::Table;
use leveret::runners::{Programs, Runners, Webhooks};
use leveret::server::clock::Clock;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::World;

/// How long a test waits for what must happen.
const WAIT_S: u64 = 20;
/// Nobody's account: what programs run as where the tests run as root.
pub(super) const NOBODY: u32 = 65_534;

/// Runners with programs of the test's own.
pub(super) struct Bench {
    pub(super) dir: TempDir,
    engine: Arc<Engine>,
    runtime: Runtime,
    serving: Mutex<Option<(watch::Sender<bool>, JoinHandle<()>)>>,
    programs: Arc<Programs>,
    ears: Arc<Ears>,
}

impl Bench {
    /// With programs by name and the lines of their files. `@` in a line is the test's directory,
    /// which whoever runs them may write.
    pub(super) fn new(programs: &[(&str, &str)]) -> Self {
        Self::with_room_for(64, programs)
    }

    pub(super) fn with_room_for(runs_max: usize, programs: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let (files, open) = (dir.path().join("programs.d"), dir.path().join("open"));
        for dir in [&files, &open] {
            fs::create_dir(dir).unwrap();
        }
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        for (name, lines) in programs {
            let lines = lines.replace('@', open.to_str().unwrap());
            let text = format!("{}queues = ['*:*']\n{lines}\n", account());
            fs::write(files.join(format!("{name}.toml")), text).unwrap();
        }
        let broker = World::new().broker();
        let ears = Arc::new(Ears::default());
        broker.listen(vec![Arc::clone(&ears) as Arc<dyn Listener>]);
        let programs = Arc::new(Programs::open(Some(files)));
        let engine = Arc::new(Engine::default());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let runners = Runners::new(
            Arc::clone(&engine) as Arc<dyn Runs>,
            broker,
            Arc::clone(&programs),
            Webhooks::new(&settings::Webhooks::default(), "rabbit@test").unwrap(),
            PathBuf::from(env!("CARGO_BIN_EXE_leveret")),
            Clock::start(),
        );
        let (stop, stopped) = watch::channel(false);
        let serving = runtime.spawn(runners.unwrap().serve(runs_max, stopped));
        Self { dir, engine, runtime, serving: Mutex::new(Some((stop, serving))), programs, ears }
    }

    /// A file that programs may have written.
    pub(super) fn open_file(&self, name: &str) -> PathBuf {
        self.dir.path().join("open").join(name)
    }

    /// Waits until a program has written a file, and reads it.
    pub(super) fn await_file(&self, name: &str) -> String {
        let path = self.open_file(name);
        await_that(&format!("{name} is written"), || path.exists());
        fs::read_to_string(path).unwrap()
    }

    /// Has a program run for these messages, without waiting.
    pub(super) fn start(&self, program: &str, messages: Vec<Handed>) -> u64 {
        self.engine.want(run_of(program, messages))
    }

    pub(super) fn want(&self, run: Run) -> u64 {
        self.engine.want(run)
    }

    /// How a run went, once it is over.
    pub(super) fn outcome(&self, id: u64) -> Outcome {
        let outcomes = self.engine.outcomes.lock().unwrap();
        let wait = Duration::from_secs(WAIT_S);
        let missing = |outcomes: &mut Vec<(u64, Outcome)>| !outcomes.iter().any(|it| it.0 == id);
        let (outcomes, late) =
            self.engine.ended.wait_timeout_while(outcomes, wait, missing).unwrap();
        assert!(!late.timed_out(), "run {id} does not end");
        outcomes.iter().find(|it| it.0 == id).unwrap().1.clone()
    }

    /// Has a program run and end.
    pub(super) fn run(&self, program: &str, messages: Vec<Handed>) -> Ended {
        match self.outcome(self.start(program, messages)) {
            Outcome::Ended(ended) => ended,
            other => panic!("{program}: {other:?}"),
        }
    }

    pub(super) fn runs_well(&self, run: Run) {
        let outcome = self.outcome(self.want(run));
        assert!(matches!(&outcome, Outcome::Ended(it) if it.exit == Exit::Code(0)), "{outcome:?}");
    }

    /// Why a program does not start.
    pub(super) fn refusal(&self, run: Run) -> String {
        match self.outcome(self.want(run)) {
            Outcome::CouldNotStart { reason } => reason,
            other => panic!("{other:?}"),
        }
    }

    /// Stops the runners, and waits until they have.
    pub(super) fn stop(&self) {
        let (stop, serving) = self.serving.lock().unwrap().take().unwrap();
        stop.send(true).unwrap();
        let wait = Duration::from_secs(WAIT_S);
        self.runtime
            .block_on(async { tokio::time::timeout(wait, serving).await })
            .unwrap()
            .unwrap();
    }

    pub(super) fn read_programs_again(&self) {
        self.programs.read_again();
    }

    /// The details of the first event of this kind.
    pub(super) fn noted(&self, key: &str) -> Table {
        let events = self.ears.0.lock().unwrap();
        events.iter().find(|(heard, _)| *heard == key).unwrap().1.clone()
    }
}

/// As whom programs run: as nobody, or as the tests do if these are not root.
pub(super) fn account() -> String {
    match is_root() {
        true => format!("user = {NOBODY}\ngroup = {NOBODY}\n"),
        false => String::new(),
    }
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Waits for what other processes do.
pub(super) fn await_that(what: &str, is_so: impl FnMut() -> bool) {
    await_for(Duration::from_secs(WAIT_S), what, is_so);
}

/// The same, for what takes long.
pub(super) fn await_for(wait: Duration, what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..wait.as_millis() / 10 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("never: {what}");
}

pub(super) fn message(body: &str) -> Handed {
    let properties = [0, 0];
    let envelope = Envelope {
        exchange: b"",
        routing_key: b"mail",
        properties: &properties,
        persistent: true,
        hides_bcc: false,
        published_ms: 1_795_000_000_000,
    };
    let message = Message::new(&envelope, body.as_bytes());
    Handed { id: HandedId { queue: 1, place: 1 }, message, redelivered: false, attempt: 1 }
}

pub(super) fn run_of(program: &str, messages: Vec<Handed>) -> Run {
    Run {
        id: 0,
        vhost: "/".into(),
        trigger: "send".into(),
        queue: "mail".into(),
        action: Arc::new(Action::Program { name: program.into(), data: "some data".to_owned() }),
        cause: Cause {
            condition: "first".to_owned(),
            ready: messages.len() as u64,
            oldest_age_ms: Some(0),
            fired_ms: 1_795_000_000_000,
        },
        messages,
        batch_attempt: 1,
        retry_delay_ms: 1_000,
    }
}

/// The verdicts on so many messages.
pub(super) fn verdicts(ended: &Ended, count: usize) -> Vec<Verdict> {
    (0..count).map(|place| ended.verdicts.at(place)).collect()
}

/// Hears every event.
#[derive(Debug, Default)]
struct Ears(Mutex<Vec<(&'static str, Table)>>);

impl Listener for Ears {
    fn wants(&self, _: &str) -> bool {
        true
    }

    fn hear(&self, event: &Event, _: Now) {
        self.0.lock().unwrap().push((event.key, event.fields.clone()));
    }
}

#[derive(Default)]
struct Engine {
    wanted: Mutex<(u64, VecDeque<Run>)>,
    waker: Mutex<Option<Arc<dyn Wake>>>,
    outcomes: Mutex<Vec<(u64, Outcome)>>,
    ended: Condvar,
}

impl Engine {
    fn want(&self, run: Run) -> u64 {
        let id = {
            let mut wanted = self.wanted.lock().unwrap();
            wanted.0 += 1;
            let id = wanted.0;
            wanted.1.push_back(Run { id, ..run });
            id
        };
        if let Some(waker) = &*self.waker.lock().unwrap() {
            waker.wake();
        }
        id
    }
}

impl Runs for Engine {
    fn set_runs_waker(&self, waker: Arc<dyn Wake>) {
        *self.waker.lock().unwrap() = Some(waker);
    }

    fn set_allowed(&self, _: Arc<dyn Allowed>) {}

    fn next_run(&self, _: Now) -> Option<Run> {
        self.wanted.lock().unwrap().1.pop_front()
    }

    fn run_ended(&self, id: u64, outcome: Outcome, _: Now) {
        self.outcomes.lock().unwrap().push((id, outcome));
        self.ended.notify_all();
    }

    fn programs_changed(&self, _: Now) {}
}
