//! Many queues that nobody uses: what declaring one takes, and what it costs to have it.
//!
//! They stay, so that a restart with them can be measured; a later run can look whether all are
//! still there.

use std::thread;

use crate::broker_process::MEMORY_SETTLES;
use crate::clock::{self, seconds_between};
use crate::connection::{ClientError, Connection, Options, QueueOptions, Target};
use crate::engine::{WatchPlan, joined};
use crate::report::{BrokerReport, Flow, Report, load_average};

/// A load of queues.
pub(crate) struct Queues {
    /// What it is called in reports.
    pub(crate) name: String,
    /// The broker.
    pub(crate) target: Target,
    /// Its process.
    pub(crate) watch: WatchPlan,
    /// What names of queues begin with.
    pub(crate) prefix: String,
    /// How many.
    pub(crate) count: usize,
    /// Over how many connections.
    pub(crate) connections: usize,
    /// Whether they survive a restart.
    pub(crate) durable: bool,
    /// Whether they are to be there already.
    pub(crate) existing: bool,
}

/// Declares the queues, or looks at them.
pub(crate) fn run(queues: &Queues) -> Result<Report, ClientError> {
    let watch = queues.watch.start();
    let cost = || watch.as_ref().map(|watch| watch.cost());
    let memory = || watch.as_ref().map(|watch| watch.memory());
    let names: Vec<String> =
        (0..queues.count).map(|queue| format!("{}.many{queue}", queues.prefix)).collect();
    let (from, begin_cpu_ns, begin_ns) = (cost(), clock::own_cpu_ns(), clock::now_ns());
    thread::scope(|scope| {
        let share = names.len().div_ceil(queues.connections.max(1)).max(1);
        let threads: Vec<_> =
            names.chunks(share).map(|some| scope.spawn(move || declare(queues, some))).collect();
        threads.into_iter().try_for_each(joined)
    })?;
    let seconds = seconds_between(begin_ns, clock::now_ns());
    let (to, generator_cpu_s) = (cost(), seconds_between(begin_cpu_ns, clock::own_cpu_ns()));
    thread::sleep(MEMORY_SETTLES);
    let each = queues.count.max(1) as f64;
    let declared = memory().filter(|_| !queues.existing);
    Ok(Report {
        workload: queues.name.clone(),
        operations: Some(Flow::new(queues.count as u64, seconds)),
        broker: memory().zip(from.zip(to)).map(|(memory, (from, to))| {
            BrokerReport::new(from, to, memory, queues.count as u64, generator_cpu_s)
        }),
        generator_cpu_s,
        generator_cpu_us: generator_cpu_s * 1e6 / each,
        bytes_each: declared.map(|it| it.now.saturating_sub(it.before) as f64 / each),
        load_average: load_average(),
        ..Report::default()
    })
}

fn declare(queues: &Queues, names: &[String]) -> Result<(), ClientError> {
    let mut connection = Connection::open(&queues.target, Options::default())?;
    let durable = queues.durable;
    let options = QueueOptions { durable, auto_delete: false, arguments: Vec::new() };
    connection.declare_queues(names, &options, queues.existing)?;
    connection.close()
}
