//! Who runs what triggers start: programs of the operator's, and calls of web addresses.
//!
//! The engine (`broker::trigger`) decides when; here it is done. One task takes a run whenever
//! there is one to take and room for it, each run is a task of its own, and how it went is told to
//! the engine. When the node stops, runs that go on are ended.
//!
//! Invariants: there are never more runs at once than configured; every run that was taken is ended
//! exactly once, also if its task is lost to a fault.

#[doc(hidden)]
pub mod checked;
pub mod launcher;
mod programs;
mod shown;
#[cfg(test)]
mod tests;
mod webhooks;
mod wildcard;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::broker::operate::Operate;
use crate::broker::outbox::Wake;
use crate::broker::trigger::run::{Action, Outcome, Run, Runs};
use crate::protocol::table::Table;
use crate::server::clock::Clock;
pub use programs::Programs;
use programs::Starter;
pub use webhooks::Webhooks;

/// Turns true when the node stops.
type Stop = watch::Receiver<bool>;

/// The binary that launches programs: this one, even if another lies in its place by now.
pub const OWN_BINARY: &str = "/proc/self/exe";

/// Everything that runs need.
pub struct Runners {
    runs: Arc<dyn Runs>,
    operate: Arc<dyn Operate>,
    programs: Arc<Programs>,
    webhooks: Webhooks,
    starter: Starter,
    clock: Clock,
}

impl Runners {
    /// Runners that have programs launched by the binary `launcher`.
    ///
    /// # Errors
    /// When there can be no thread that starts programs.
    pub fn new(
        runs: Arc<dyn Runs>,
        operate: Arc<dyn Operate>,
        programs: Arc<Programs>,
        webhooks: Webhooks,
        launcher: PathBuf,
        clock: Clock,
    ) -> io::Result<Self> {
        let starter = Starter::new(launcher)?;
        Ok(Self { runs, operate, programs, webhooks, starter, clock })
    }

    /// Runs what there is to run, `runs_max` at a time, until `stop` turns true and all has ended.
    pub async fn serve(self, runs_max: usize, mut stop: watch::Receiver<bool>) {
        let runners = Arc::new(self);
        let waker = Arc::new(RunsWaker::default());
        runners.runs.set_runs_waker(Arc::<RunsWaker>::clone(&waker));
        let mut going = JoinSet::new();
        loop {
            while going.len() < runs_max
                && let Some(run) = runners.runs.next_run(runners.clock.now())
            {
                going.spawn(Arc::clone(&runners).go(run, stop.clone()));
            }
            tokio::select! {
                () = waker.0.notified() => {}
                Some(_) = going.join_next(), if !going.is_empty() => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        while going.join_next().await.is_some() {}
    }

    async fn go(self: Arc<Self>, run: Run, stop: Stop) {
        let owed = Owed { runners: &self, run: Some(&run) };
        let outcome = match &*run.action {
            Action::Program { name, .. } => {
                programs::run(&self.programs, &self.starter, name, &run, self.clock, stop).await
            }
            Action::Webhook(webhook) => self.webhooks.call(webhook, &run, self.clock, stop).await,
        };
        owed.settle(outcome);
    }

    fn ended(&self, run: &Run, outcome: Outcome) {
        let now = self.clock.now();
        if let Outcome::CouldNotStart { reason } = &outcome {
            tracing::warn!(
                vhost = &*run.vhost,
                trigger = &*run.trigger,
                queue = &*run.queue,
                "a trigger cannot start what it is to start: {reason}"
            );
            let details = Table::new()
                .with("vhost", &*run.vhost)
                .with("trigger", &*run.trigger)
                .with("queue", &*run.queue)
                .with("reason", reason.as_str());
            self.operate.note("trigger.start.failed", None, details, now);
        }
        self.runs.run_ended(run.id, outcome, now);
    }
}

/// A run whose end the engine has not been told of.
struct Owed<'r> {
    runners: &'r Runners,
    run: Option<&'r Run>,
}

impl Owed<'_> {
    fn settle(mut self, outcome: Outcome) {
        if let Some(run) = self.run.take() {
            self.runners.ended(run, outcome);
        }
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        if let Some(run) = self.run {
            let reason = "lost to a fault of the broker".to_owned();
            self.runners.ended(run, Outcome::CouldNotStart { reason });
        }
    }
}

/// Wakes the task that takes runs.
#[derive(Debug, Default)]
struct RunsWaker(Notify);

impl Wake for RunsWaker {
    fn wake(&self) {
        self.0.notify_one();
    }
}

/// Text for people, from bytes of which the beginning may be missing.
fn tail(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}
