//! A broker as a child process that is killed and started again.
//!
//! It is a process group of its own, so that a signal reaches whatever the command line starts;
//! dropping it kills the group.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use super::CrashError;
use crate::clock::{self, seconds_between};
use crate::connection::{Connection, Options, Target};

const POLL: Duration = Duration::from_millis(5);
/// How long the members of a killed group may take to be gone.
const GONE_S: f64 = 10.0;

/// A running broker.
pub(crate) struct Broker {
    child: Child,
    group: Pid,
}

impl Broker {
    /// Starts the shell command, which is to listen on the target; what it prints goes to the end
    /// of `log`. An error when somebody else listens there, who would be taken for it.
    pub(crate) fn spawn(command: &str, log: &Path, target: &Target) -> io::Result<Self> {
        if TcpStream::connect(&target.address).is_ok() {
            let text = format!("somebody else listens on {}", target.address);
            return Err(io::Error::other(text));
        }
        let out: File = OpenOptions::new().create(true).append(true).open(log)?;
        let child = Command::new("sh")
            .arg("-c")
            .arg(command)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()?;
        let group = Pid::from_child(&child);
        Ok(Self { child, group })
    }

    /// Waits until a client can log in.
    pub(crate) fn wait_ready(&mut self, target: &Target, limit_s: f64) -> io::Result<()> {
        let since_ns = clock::now_ns();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Err(io::Error::other(format!("the broker ended by itself: {status}")));
            }
            let error = match Connection::open(target, Options::default()) {
                Ok(connection) => {
                    let _ = connection.close();
                    return Ok(());
                }
                Err(error) => error,
            };
            if seconds_between(since_ns, clock::now_ns()) > limit_s {
                let text = format!("the broker is not ready after {limit_s} s: {error}");
                return Err(io::Error::other(text));
            }
            thread::sleep(POLL);
        }
    }

    /// Kills it, as a power cut of the process would (SIGKILL), and waits until all is gone.
    pub(crate) fn kill(mut self) -> io::Result<()> {
        self.kill_group()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(kill_process_group(self.group, signal)?)
    }

    /// Whether it has ended: with its exit code, unless a signal ended it.
    pub(crate) fn ended(&mut self) -> io::Result<Option<Option<i32>>> {
        Ok(self.child.try_wait()?.map(|status| status.code()))
    }

    /// The same, waiting for it up to `limit_s` seconds.
    pub(crate) fn wait_end(&mut self, limit_s: f64) -> io::Result<Option<Option<i32>>> {
        let since_ns = clock::now_ns();
        loop {
            let ended = self.ended()?;
            if ended.is_some() || seconds_between(since_ns, clock::now_ns()) > limit_s {
                return Ok(ended);
            }
            thread::sleep(POLL);
        }
    }

    /// Asks it to end (SIGTERM). An error when it has not within `limit_s` seconds.
    pub(crate) fn terminate(mut self, limit_s: f64) -> Result<(), CrashError> {
        self.signal(Signal::TERM)?;
        if self.wait_end(limit_s)?.is_none() {
            return Err(CrashError::Breach(format!("still there {limit_s} s after SIGTERM")));
        }
        Ok(self.kill_group()?)
    }

    fn kill_group(&mut self) -> io::Result<()> {
        // No such group: everything has ended already.
        let _ = kill_process_group(self.group, Signal::KILL);
        self.child.wait()?;
        let since_ns = clock::now_ns();
        while test_kill_process_group(self.group).is_ok() {
            if seconds_between(since_ns, clock::now_ns()) > GONE_S {
                return Err(io::Error::other("a killed process does not go away"));
            }
            thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.kill_group();
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn nobody() -> Target {
        "amqp://127.0.0.1:1".parse().unwrap()
    }

    #[test]
    fn nobody_else_is_taken_for_the_broker() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = format!("amqp://{}", other.local_addr().unwrap()).parse().unwrap();
        let log = std::env::temp_dir().join(format!("leveret-load-other-{}", std::process::id()));
        let error = Broker::spawn("sleep 60", &log, &target).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains("somebody else"), "{error}");
    }

    #[test]
    fn a_kill_reaches_what_the_command_line_started() {
        let log = std::env::temp_dir().join(format!("leveret-load-broker-{}", std::process::id()));
        let broker = Broker::spawn("sleep 60 & sleep 60", &log, &nobody()).unwrap();
        let group = broker.group;
        assert!(test_kill_process_group(group).is_ok());
        broker.kill().unwrap();
        assert!(test_kill_process_group(group).is_err());
        std::fs::remove_file(log).unwrap();
    }

    #[test]
    fn a_broker_that_ends_by_itself_is_an_error_at_once() {
        let log = std::env::temp_dir().join(format!("leveret-load-ended-{}", std::process::id()));
        let mut broker = Broker::spawn("exit 3", &log, &nobody()).unwrap();
        let error = broker.wait_ready(&nobody(), 30.0).unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
        std::fs::remove_file(log).unwrap();
    }
}
