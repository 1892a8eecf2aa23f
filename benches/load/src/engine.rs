//! Runs publishers and consumers together: sets up, measures, drains, checks, cleans up.
//!
//! Rates are counted over the time in which messages moved: a publisher's ends with the answer to
//! its `channel.close`, before which the broker has handled all it was sent; a consumer's with its
//! last delivery. Costs are counted until everything published is delivered.

use std::sync::atomic::Ordering::Relaxed;
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use crate::batch::Content;
use crate::broker_process::{Cost, MEMORY_SETTLES, Watch};
use crate::clock::{self, SECOND_NS, seconds_between};
use crate::connection::{ClientError, Connection, Options, Target};
use crate::consumer::{Consumer, ConsumerOutcome, ConsumerPlan};
use crate::latency::Latency;
use crate::publisher::{Publisher, PublisherOutcome, PublisherPlan};
use crate::report::{BrokerReport, Flow, Report, load_average};
use crate::shared::{Gauge, Shared, Totals, totals};
use crate::topology::Topology;
use crate::verify::{Seen, Spread, judge};

const POLL: Duration = Duration::from_millis(5);
/// How long nothing may arrive before the rest counts as lost.
const DRAIN_STALL_NS: u64 = 20 * SECOND_NS;

/// So many bindings outweigh whatever else a broker takes memory for while they are made.
const BINDINGS_WEIGHED_MIN: usize = 10_000;

/// The broker to watch, if any.
#[derive(Debug, Clone, Default)]
pub(crate) struct WatchPlan {
    /// Its process.
    pub(crate) pid: Option<u32>,
    /// Its Prometheus page.
    pub(crate) metrics: Option<String>,
}

impl WatchPlan {
    /// Begins to watch.
    pub(crate) fn start(&self) -> Option<Watch> {
        self.pid.map(|pid| Watch::start(pid, self.metrics.clone()))
    }
}

/// When publishing ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Span {
    /// After a time, of which the first part is not measured.
    Seconds {
        /// Not measured.
        warm_up: f64,
        /// Measured.
        measured: f64,
    },
    /// When each publisher has sent its count.
    Count,
}

/// A load of publishers and consumers.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// What it is called in reports.
    pub(crate) name: String,
    /// The broker.
    pub(crate) target: Target,
    /// Its process.
    pub(crate) watch: WatchPlan,
    /// What to declare.
    pub(crate) topology: Topology,
    /// The publishers.
    pub(crate) publishers: Vec<(Content, PublisherPlan)>,
    /// The consumers.
    pub(crate) consumers: Vec<ConsumerPlan>,
    /// How many queues get each message.
    pub(crate) copies: u64,
    /// When publishing ends.
    pub(crate) span: Span,
    /// The limit of the whole run, in seconds.
    pub(crate) timeout_s: f64,
}

/// Costs and counters at one moment.
#[derive(Clone, Copy, Default)]
struct Moment {
    now_ns: u64,
    own_cpu_ns: u64,
    broker: Option<Cost>,
    published: Totals,
    delivered: Totals,
}

/// What the threads brought back.
#[derive(Default)]
struct Outcomes {
    published: Vec<u64>,
    nacked: u64,
    confirm_latency: Latency,
    latency: Latency,
    seen: Vec<(usize, Seen)>,
    error: Option<ClientError>,
}

/// Runs a load.
pub(crate) fn run(load: &Load) -> Result<Report, ClientError> {
    let before = load.watch.start().map(|watch| watch.memory().now);
    let ready = load.topology.set_up(&load.target)?;
    let run = Run::new(load, ready);
    let bindings = load.topology.bindings.len();
    let weighed = run.watch.as_ref().zip(before).filter(|_| bindings >= BINDINGS_WEIGHED_MIN);
    let grown = weighed.map(|(watch, before)| {
        thread::sleep(MEMORY_SETTLES);
        watch.memory().now.saturating_sub(before) as f64 / bindings as f64
    });
    let result = run.run();
    let torn_down = load.topology.tear_down(&load.target);
    let report = result?;
    torn_down?;
    Ok(Report { bytes_each: grown, ..report })
}

struct Run<'a> {
    load: &'a Load,
    ready: u64,
    shared: Shared,
    publishing: Vec<Gauge>,
    consuming: Vec<Gauge>,
    watch: Option<Watch>,
    deadline_ns: u64,
}

impl<'a> Run<'a> {
    fn new(load: &'a Load, ready: u64) -> Self {
        Self {
            load,
            ready,
            shared: Shared::default(),
            publishing: load.publishers.iter().map(|_| Gauge::default()).collect(),
            consuming: load.consumers.iter().map(|_| Gauge::default()).collect(),
            watch: load.watch.start(),
            deadline_ns: clock::now_ns() + seconds_ns(load.timeout_s),
        }
    }

    fn run(&self) -> Result<Report, ClientError> {
        let load = self.load;
        // All connections are open before the first message moves.
        let mut publishers = Vec::new();
        for ((content, plan), gauge) in load.publishers.iter().zip(&self.publishing) {
            let connection = Connection::open(&load.target, Options::default())?;
            let plan = plan.clone();
            publishers.push(Publisher::new(connection, content, plan, &self.shared, gauge)?);
        }
        let mut connections = Vec::new();
        for _ in &load.consumers {
            connections.push(Connection::open(&load.target, Options::default())?);
        }
        let drains_only = load.publishers.is_empty();
        let mut begin = self.moment();
        if matches!(load.span, Span::Count) {
            self.shared.measure_from_ns.store(0, Relaxed);
        }
        let mut consumers = Vec::new();
        for ((plan, gauge), connection) in
            load.consumers.iter().zip(&self.consuming).zip(connections)
        {
            consumers.push(Consumer::new(connection, plan.clone(), &self.shared, gauge)?);
        }
        let mut outcomes = Outcomes::default();
        let end = thread::scope(|scope| {
            let consumers: Vec<_> = consumers
                .into_iter()
                .map(|consumer| scope.spawn(|| self.watched(|| consumer.run())))
                .collect();
            self.wait_until(|| self.shared.consumers_ready.load(Relaxed) >= self.consumer_count());
            if !drains_only {
                begin = self.moment();
            }
            let publishers: Vec<_> = publishers
                .into_iter()
                .map(|publisher| scope.spawn(|| self.watched(|| publisher.run())))
                .collect();
            begin = self.measure(begin, &publishers);
            outcomes.take_publishers(publishers);
            self.drain(&outcomes);
            let end = self.moment();
            self.shared.stop_consuming.store(true, Relaxed);
            outcomes.take_consumers(consumers);
            end
        });
        if let Some(error) = outcomes.error.take() {
            return Err(error);
        }
        Ok(self.report(outcomes, begin, end))
    }

    /// Ends the others when one thread gives up.
    fn watched<T>(&self, work: impl FnOnce() -> Result<T, ClientError>) -> Result<T, ClientError> {
        let result = work();
        if result.is_err() {
            self.shared.fail();
        }
        result
    }

    /// Warms up and lets the publishers run. Returns the moment from which to count.
    fn measure(
        &self,
        begin: Moment,
        publishers: &[ScopedJoinHandle<'_, Result<PublisherOutcome, ClientError>>],
    ) -> Moment {
        let mut from = begin;
        match self.load.span {
            Span::Seconds { warm_up, measured } => {
                if warm_up > 0.0 {
                    self.pause(warm_up);
                    from = self.moment();
                }
                self.shared.measure_from_ns.store(from.now_ns, Relaxed);
                self.pause(measured);
            }
            Span::Count => {
                self.wait_until(|| publishers.iter().all(ScopedJoinHandle::is_finished));
            }
        }
        self.shared.stop_publishing.store(true, Relaxed);
        from
    }

    /// Waits until everything published is delivered, or nothing moves any more.
    fn drain(&self, outcomes: &Outcomes) {
        if self.load.consumers.is_empty() {
            return;
        }
        let expected = self.expected(outcomes);
        let (mut seen, mut moved_ns) = (0, clock::now_ns());
        self.wait_until(|| {
            let (delivered, now_ns) = (totals(&self.consuming).count, clock::now_ns());
            if delivered != seen {
                (seen, moved_ns) = (delivered, now_ns);
            }
            delivered >= expected || now_ns - moved_ns > DRAIN_STALL_NS
        });
    }

    /// How many deliveries there must be in all. What the broker refused may or may not come.
    fn expected(&self, outcomes: &Outcomes) -> u64 {
        let published: u64 = outcomes.published.iter().sum();
        (published - outcomes.nacked) * self.load.copies + self.ready
    }

    fn pause(&self, seconds: f64) {
        let until_ns = clock::now_ns() + seconds_ns(seconds);
        self.wait_until(|| clock::now_ns() >= until_ns);
    }

    fn wait_until(&self, mut done: impl FnMut() -> bool) {
        while !done() && !self.shared.failed.load(Relaxed) && clock::now_ns() < self.deadline_ns {
            thread::sleep(POLL);
        }
    }

    fn consumer_count(&self) -> usize {
        self.load.consumers.iter().map(|plan| plan.queues.len()).sum()
    }

    fn moment(&self) -> Moment {
        Moment {
            now_ns: clock::now_ns(),
            own_cpu_ns: clock::own_cpu_ns(),
            broker: self.watch.as_ref().map(Watch::cost),
            published: totals(&self.publishing),
            delivered: totals(&self.consuming),
        }
    }

    fn report(&self, outcomes: Outcomes, begin: Moment, end: Moment) -> Report {
        let flow = |count: u64, totals: Totals| {
            let from_ns = totals.first_ns.max(begin.now_ns);
            Flow::new(count, seconds_between(from_ns, totals.last_ns))
        };
        let published = end.published.count - begin.published.count;
        let confirmed = end.published.confirmed - begin.published.confirmed;
        let delivered = end.delivered.count - begin.delivered.count;
        let messages = if self.load.consumers.is_empty() { published } else { delivered };
        let generator_cpu_s = seconds_between(begin.own_cpu_ns, end.own_cpu_ns);
        let broker = self.watch.as_ref().zip(begin.broker.zip(end.broker));
        let broker = broker.map(|(watch, (from, to))| {
            BrokerReport::new(from, to, watch.memory(), messages, generator_cpu_s)
        });
        let with_confirms = self.load.publishers.iter().any(|(_, plan)| plan.window > 0);
        let verify = self.load.consumers.iter().any(|plan| plan.verify_publishers.is_some());
        let spread = if self.load.copies > 1 { Spread::ToAll } else { Spread::ToOne };
        let missing = self.expected(&outcomes).saturating_sub(end.delivered.count);
        let verdict = verify.then(|| judge(outcomes.seen, &outcomes.published, spread));
        Report {
            workload: self.load.name.clone(),
            published: (!self.publishing.is_empty()).then(|| flow(published, end.published)),
            confirmed: with_confirms.then(|| flow(confirmed, end.published)),
            delivered: (!self.consuming.is_empty()).then(|| flow(delivered, end.delivered)),
            missing: (!self.consuming.is_empty()).then_some(missing),
            nacked: with_confirms.then_some(outcomes.nacked),
            confirm_latency: outcomes.confirm_latency.summary(),
            latency: outcomes.latency.summary(),
            broker,
            generator_cpu_s,
            generator_cpu_us: generator_cpu_s * 1e6 / messages.max(1) as f64,
            verdict,
            load_average: load_average(),
            ..Report::default()
        }
    }
}

impl Outcomes {
    fn take_publishers(
        &mut self,
        threads: Vec<ScopedJoinHandle<'_, Result<PublisherOutcome, ClientError>>>,
    ) {
        for result in threads.into_iter().map(joined) {
            match result {
                Ok(outcome) => {
                    self.published.push(outcome.published);
                    self.nacked += outcome.nacked;
                    self.confirm_latency.add(&outcome.confirm_latency);
                }
                Err(error) => self.fail(error),
            }
        }
    }

    fn take_consumers(
        &mut self,
        threads: Vec<ScopedJoinHandle<'_, Result<ConsumerOutcome, ClientError>>>,
    ) {
        for result in threads.into_iter().map(joined) {
            match result {
                Ok(outcome) => {
                    self.latency.add(&outcome.latency);
                    self.seen.extend(outcome.seen);
                }
                Err(error) => self.fail(error),
            }
        }
    }

    fn fail(&mut self, error: ClientError) {
        self.error.get_or_insert(error);
    }
}

/// Waits for a thread's result.
pub(crate) fn joined<T>(
    thread: ScopedJoinHandle<'_, Result<T, ClientError>>,
) -> Result<T, ClientError> {
    let panicked = |_| Err(ClientError::Unexpected("a thread panicked".to_owned()));
    thread.join().unwrap_or_else(panicked)
}

/// Seconds as nanoseconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bounded setting")]
pub(crate) fn seconds_ns(seconds: f64) -> u64 {
    (seconds * SECOND_NS as f64) as u64
}
