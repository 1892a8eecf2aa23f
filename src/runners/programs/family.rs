//! Processes that descend from a program and have left its process group.
//!
//! They are found by who is whose parent, which nobody can forge, while the program lives: a
//! process whose parent has ended belongs to nobody in particular any more. A process is known by
//! its number and the moment it began, as numbers are used again.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// A process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    pid: Pid,
    parent: i32,
    group: i32,
    /// In the kernel's ticks since the system began.
    began: u64,
}

/// Processes that descend from one, and are of other groups.
#[derive(Debug, Default)]
pub(super) struct Family(Vec<Member>);

impl Family {
    /// Adds whoever descends from a process now.
    pub(super) fn meet(&mut self, ancestor: Pid) {
        let all: Vec<Member> = numbers().into_iter().filter_map(member).collect();
        let ancestor = ancestor.as_raw_nonzero().get();
        let mut parents = vec![ancestor];
        while let Some(parent) = parents.pop() {
            for child in all.iter().filter(|it| it.parent == parent) {
                parents.push(child.pid.as_raw_nonzero().get());
                if child.group != ancestor && !self.0.contains(child) {
                    self.0.push(*child);
                }
            }
        }
    }

    /// Sends a signal to those who are still there.
    pub(super) fn signal(&self, signal: Signal) {
        for known in &self.0 {
            let now = member(known.pid);
            if now.is_some_and(|now| now.began == known.began) {
                let _ = kill_process(known.pid, signal);
            }
        }
    }
}

fn numbers() -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let number = |entry: fs::DirEntry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?);
    entries.filter_map(|entry| number(entry.ok()?)).collect()
}

fn member(pid: Pid) -> Option<Member> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let (parent, group, began) = parse(&stat)?;
    Some(Member { pid, parent, group, began })
}

/// Parent, group and beginning of `PID (NAME) STATE PARENT GROUP ...`; a name may hold anything.
fn parse(stat: &str) -> Option<(i32, i32, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(1);
    let (parent, group) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((parent, group, fields.nth(16)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_hold_anything() {
        let stat = "4242 (a) b (c)) S 17 18 4242 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 987654 1 2";
        assert_eq!(parse(stat), Some((17, 18, 987_654)));
        assert_eq!(parse("4242 (a) S 17"), None);
    }
}
