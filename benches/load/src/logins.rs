//! Refused logins: whether the time of the answer says if the user exists.
//!
//! Logins of a user that does not exist and of one that does, with a wrong password, take turns, so
//! that whatever else the machine does hits both alike.

use std::thread;

use crate::connection::{ClientError, Connection, Target};
use crate::crowd::{address, connect_from};
use crate::engine::joined;
use crate::report::{Report, TimingReport, load_average};

/// Logins that are to be refused.
pub(crate) struct Logins {
    /// What it is called in reports.
    pub(crate) name: String,
    /// The broker; the user is the one that exists.
    pub(crate) target: Target,
    /// How many, half of them of each kind.
    pub(crate) count: usize,
    /// How many at the same time, each from an address of its own.
    pub(crate) workers: u32,
}

/// Times of answers, in nanoseconds.
#[derive(Default)]
struct Times {
    unknown_user: Vec<f64>,
    wrong_password: Vec<f64>,
}

/// Times the answers.
pub(crate) fn run(logins: &Logins) -> Result<Report, ClientError> {
    let mut all = Times::default();
    thread::scope(|scope| {
        let threads: Vec<_> =
            (0..logins.workers).map(|worker| scope.spawn(move || work(logins, worker))).collect();
        for thread in threads {
            let times = joined(thread)?;
            all.unknown_user.extend(times.unknown_user);
            all.wrong_password.extend(times.wrong_password);
        }
        Ok::<_, ClientError>(())
    })?;
    let (unknown, wrong) = (Sample::of(all.unknown_user), Sample::of(all.wrong_password));
    Ok(Report {
        workload: logins.name.clone(),
        timing: Some(TimingReport {
            unknown_user_us: unknown.median / 1e3,
            wrong_password_us: wrong.median / 1e3,
            ratio: unknown.median / wrong.median,
            welch_t: unknown.welch_t(&wrong),
        }),
        load_average: load_average(),
        ..Report::default()
    })
}

fn work(logins: &Logins, worker: u32) -> Result<Times, ClientError> {
    let target = address(&logins.target)?;
    let mut times = Times::default();
    let each = logins.count / 2 / logins.workers.max(1) as usize;
    for turn in 0..2 * each {
        let stream = connect_from(worker, target)?;
        // As long as the name that exists, or the bytes on the wire would tell.
        let is_unknown = turn % 2 == 0;
        let user = match is_unknown {
            true => "x".repeat(logins.target.user.len()),
            false => logins.target.user.clone(),
        };
        let ns = Connection::refused_login(stream, &user, "not the password")? as f64;
        if is_unknown { times.unknown_user.push(ns) } else { times.wrong_password.push(ns) }
    }
    Ok(times)
}

/// What is known of one kind.
struct Sample {
    count: f64,
    median: f64,
    mean: f64,
    variance: f64,
}

impl Sample {
    fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        let count = times.len().max(1) as f64;
        let mean = times.iter().sum::<f64>() / count;
        let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / count;
        let median = times.get(times.len() / 2).copied().unwrap_or_default();
        Self { count, median, mean, variance }
    }

    /// How far apart two means are, in units of what chance would make of them.
    fn welch_t(&self, other: &Self) -> f64 {
        let spread = (self.variance / self.count + other.variance / other.count).sqrt();
        if spread > 0.0 { (self.mean - other.mean) / spread } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_differ_by_more_than_chance_are_told_apart() {
        let around = |mean: f64| Sample::of((0..1_000).map(|n| mean + f64::from(n % 10)).collect());
        assert!(around(100.0).welch_t(&around(100.0)).abs() < 0.01);
        assert!(around(102.0).welch_t(&around(100.0)) > 4.5);
        assert_eq!(around(100.0).median, 105.0);
    }
}
