//! Threads that read back what queues have left to the store, so that nobody else waits for the
//! disk.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};

use super::clock::Clock;
use crate::broker::Broker;
use crate::broker::outbox::Wake;

/// How many there are. Queues want what comes next in order, so more help only many long queues.
const READERS: usize = 2;

/// What there is to do, as far as the threads know.
#[derive(Debug, Default)]
struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    asked: bool,
    stopped: bool,
}

impl Signal {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until something is asked for; false once all is over.
    fn wait(&self) -> bool {
        let waiting = |state: &mut State| !state.asked && !state.stopped;
        let state = self.changed.wait_while(self.lock(), waiting);
        let mut state = state.unwrap_or_else(PoisonError::into_inner);
        state.asked = false;
        !state.stopped
    }
}

impl Wake for Signal {
    fn wake(&self) {
        self.lock().asked = true;
        self.changed.notify_one();
    }
}

/// The running threads.
#[derive(Debug)]
pub struct Readers {
    signal: Arc<Signal>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Starts them.
    ///
    /// # Errors
    /// When the system has no more threads.
    pub fn start(broker: &Arc<Broker>, clock: Clock) -> io::Result<Self> {
        let signal = Arc::new(Signal::default());
        let mut readers = Self { signal: Arc::clone(&signal), threads: Vec::new() };
        broker.paging().set_waker(Arc::<Signal>::clone(&signal));
        for _ in 0..READERS {
            let (broker, signal) = (Arc::clone(broker), Arc::clone(&signal));
            let read = move || {
                // What recovery asked for is asked for already.
                while !signal.lock().stopped {
                    if !read_back(&broker, clock) && !signal.wait() {
                        break;
                    }
                }
            };
            readers.threads.push(Builder::new().name("store-read".to_owned()).spawn(read)?);
        }
        Ok(readers)
    }
}

/// Reads for one queue. A fault in one queue is logged and the others go on: it was taken from the
/// list before it was looked at.
fn read_back(broker: &Broker, clock: Clock) -> bool {
    let read = std::panic::AssertUnwindSafe(|| broker.read_back(clock.now()));
    std::panic::catch_unwind(read).unwrap_or_else(|_| {
        tracing::error!("a read from the store was lost to a fault of the broker");
        true
    })
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.signal.lock().stopped = true;
        self.signal.changed.notify_all();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
