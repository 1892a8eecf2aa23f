//! The edge: sockets, tasks, the clock. The only place, beside the HTTP doors, that names tokio.
//!
//! One task per connection lets its client in, reads, decides and writes; one task watches the
//! queues' deadlines, one memory and disk, one the certificates' files; one accepts per listener.
//! Two threads read back what queues left to the store. A task that panics ends alone: a
//! connection's gives back what it held, the watch over deadlines starts again. Stopping asks every
//! connection to close with 320 and waits for them.

mod alarms;
pub mod audit;
mod buffer;
mod certificates;
pub mod clock;
pub mod descriptors;
mod driver;
mod entrance;
mod listener;
mod lobby;
pub mod proxy;
mod reading;
mod reserve;
mod tls;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use crate::broker::Broker;
use crate::broker::limits::Limit;
use crate::broker::outbox::Wake;
use crate::broker::seldom::Seldom;
use crate::protocol::refusal;
use crate::session::SessionSettings;
pub use alarms::{look_for_alarms, watch_alarms};
pub use certificates::{note_reload, watch_certificates};
use clock::Clock;
pub use entrance::{ByTls, Entrance};
pub use listener::{Door, LocalListener};
pub use lobby::{Lobby, LobbyLimits};
pub use proxy::TrustedProxies;
pub use reading::Readers;
pub use reserve::Reserve;

/// How long a stop waits for clients to say good-bye.
const STOP_MS_MAX: u64 = 5_000;
/// The pause after accept has failed (out of descriptors, usually).
const ACCEPT_PAUSE_MS: u64 = 50;
/// The pause after a deadline could not be handled.
const DEADLINES_PAUSE_MS: u64 = 100;

/// What a door shares with the others that lead to the same node.
#[derive(Clone)]
pub struct Hall {
    /// The node.
    pub broker: Arc<Broker>,
    /// What holds for its connections.
    pub settings: Arc<SessionSettings>,
    /// Where they are until they have logged in.
    pub lobby: Arc<Lobby>,
    /// One for each socket that there is a descriptor for.
    pub sockets: Arc<Semaphore>,
    /// The clock.
    pub clock: Clock,
}

impl Hall {
    /// The doors' common ground, with room for so many connections.
    #[must_use]
    pub fn new(
        broker: Arc<Broker>,
        settings: Arc<SessionSettings>,
        limits: LobbyLimits,
        sockets_max: usize,
        clock: Clock,
    ) -> Self {
        let lobby = Lobby::new(limits, Arc::clone(&broker));
        let sockets = Arc::new(Semaphore::new(sockets_max.min(Semaphore::MAX_PERMITS)));
        Self { broker, settings, lobby, sockets, clock }
    }
}

/// Lets AMQP clients in by a door until `stop` turns true.
pub async fn serve_amqp(door: impl Into<Door>, hall: Hall, mut stop: watch::Receiver<bool>) {
    let door = door.into();
    let full = Seldom::default();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = door.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                note_end(&ended);
                continue;
            }
        };
        match accepted {
            Ok(accepted) => {
                let Ok(place) = Arc::clone(&hall.sockets).try_acquire_owned() else {
                    // Closed at once: whoever is left in the backlog waits for nothing.
                    drop(accepted);
                    hall.broker.counters().limits.note(Limit::Descriptors);
                    if let Some(times) = full.happened(hall.clock.now()) {
                        tracing::warn!(times, "too few file descriptors: a connection is refused");
                    }
                    sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
                    continue;
                };
                let entered = entrance::enter(accepted, door.entrance.clone(), hall.clone());
                connections.spawn(async move {
                    entered.await;
                    drop(place);
                });
                // Each is let in by itself: behind a whole backlog of newcomers, all of whom want
                // to be greeted, those who are here already would wait.
                tokio::task::yield_now().await;
            }
            Err(error) => {
                if let Some(times) = full.happened(hall.clock.now()) {
                    tracing::warn!(%error, times, "cannot accept connections");
                }
                sleep(Duration::from_millis(ACCEPT_PAUSE_MS)).await;
            }
        }
    }
    drop(door);
    hall.broker.close_connections(&refusal::connection_forced("shutdown"));
    let all_gone = async {
        while let Some(ended) = connections.join_next().await {
            note_end(&ended);
        }
    };
    if tokio::time::timeout(Duration::from_millis(STOP_MS_MAX), all_gone).await.is_err() {
        tracing::warn!("some clients did not close in time");
    }
}

/// A connection whose task panicked has given everything back when it was dropped; the log says so.
fn note_end(ended: &Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection was lost to a fault of the broker");
    }
}

/// Wakes the task that watches deadlines.
#[derive(Debug, Default)]
struct TimerWaker(Notify);

impl Wake for TimerWaker {
    fn wake(&self) {
        self.0.notify_one();
    }
}

/// Sees to it that queues expire what they have to, when they have to. A fault in one queue is
/// logged and the others go on: the queue was taken from the timers before it was looked at.
pub async fn watch_deadlines(broker: Arc<Broker>, clock: Clock) {
    let waker = Arc::new(TimerWaker::default());
    let wake: Arc<dyn Wake> = Arc::<TimerWaker>::clone(&waker);
    broker.timers().set_waker(wake);
    let mut watch = JoinSet::new();
    loop {
        watch.spawn(handle_deadlines(Arc::clone(&broker), clock, Arc::clone(&waker)));
        if let Some(Err(error)) = watch.join_next().await {
            tracing::error!(%error, "a deadline was lost to a fault of the broker");
        }
        sleep(Duration::from_millis(DEADLINES_PAUSE_MS)).await;
    }
}

async fn handle_deadlines(broker: Arc<Broker>, clock: Clock, waker: Arc<TimerWaker>) {
    loop {
        let next = broker.handle_deadlines(clock.now());
        let due = async {
            match next {
                Some(at_ms) => sleep_until(Instant::from_std(clock.instant_of_unix(at_ms))).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = due => {}
            () = waker.0.notified() => {}
        }
    }
}
