//! Many connections at once: as fast as answers come, or at a rate that does not ask whether they do.

use std::num::NonZeroU64;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::client::{Client, Target};

/// After an error, so that a server that is gone is not asked in a loop.
const PAUSE: Duration = Duration::from_millis(10);

/// When the next request is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pace {
    /// When the last answer is there: what the server can do at most.
    Saturating,
    /// So many a second over all connections, at even distances. How long an answer took is counted from the moment that
    /// its request was due, so that a server that stalls does not hide the requests that it kept waiting.
    Rate(f64),
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Driven {
    /// How long each right answer took, in order of size.
    pub(crate) latencies: Vec<Duration>,
    pub(crate) errors: u64,
    /// What the first one was.
    pub(crate) error: Option<String>,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
}

impl Driven {
    /// Right answers a second.
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The time that this part of all answers took at most.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        // Rounded to the next rank, which is what a quantile of so many is known to.
        let rank = (part * last as f64).round() as usize;
        self.latencies.get(rank.min(last)).copied().unwrap_or_default()
    }

    /// An error if there was one.
    pub(crate) fn check(&self) -> Result<()> {
        let first = self.error.as_deref().unwrap_or_default();
        ensure!(self.errors == 0, "{} requests failed, the first: {first}", self.errors);
        ensure!(!self.latencies.is_empty(), "nothing was answered");
        Ok(())
    }

    fn failed(&mut self, error: &anyhow::Error) {
        self.errors += 1;
        self.error.get_or_insert_with(|| format!("{error:#}"));
        thread::sleep(PAUSE);
    }
}

/// Drives one server for some time.
pub(crate) fn drive(target: &Target, connections: u32, pace: Pace, length: Duration) -> Driven {
    let begin = Instant::now();
    let mut driven = Driven::default();
    thread::scope(|scope| {
        let start = |index| scope.spawn(move || one(target, begin, Turns::new(pace, connections, index), length));
        let threads: Vec<_> = (0..connections).map(start).collect();
        for thread in threads {
            match thread.join() {
                Ok(part) => {
                    driven.latencies.extend(part.latencies);
                    driven.errors += part.errors;
                    driven.error = driven.error.take().or(part.error);
                }
                Err(_) => driven.errors += 1,
            }
        }
    });
    driven.elapsed = begin.elapsed();
    driven.latencies.sort_unstable();
    driven
}

/// When the requests of one connection are due.
#[derive(Debug, Clone, Copy)]
struct Turns {
    /// Of the first; none: at once, always.
    first: Option<Duration>,
    interval: Duration,
}

impl Turns {
    fn new(pace: Pace, connections: u32, index: u32) -> Self {
        match pace {
            Pace::Saturating => Self {
                first: None,
                interval: Duration::ZERO,
            },
            Pace::Rate(rate) => Self {
                first: Some(Duration::from_secs_f64(f64::from(index) / rate)),
                interval: Duration::from_secs_f64(f64::from(connections) / rate),
            },
        }
    }
}

fn one(target: &Target, begin: Instant, turns: Turns, length: Duration) -> Driven {
    let mut driven = Driven::default();
    // The system rounds the end of a sleep up, to save wake-ups; here it would be counted as the server's.
    let _not_here = rustix::thread::set_current_timer_slack(Some(NonZeroU64::MIN));
    let mut client = None;
    let mut next = turns.first;
    loop {
        let due = next.unwrap_or_else(|| begin.elapsed());
        if due >= length {
            return driven;
        }
        thread::sleep(due.saturating_sub(begin.elapsed()));
        next = next.map(|due| due + turns.interval);
        let asked = match client.take() {
            Some(client) => Ok(client),
            None => Client::open(target),
        };
        let asked = asked.and_then(|mut client| client.ask().map(|()| client));
        match asked {
            Ok(again) => {
                driven.latencies.push(begin.elapsed().saturating_sub(due));
                client = Some(again);
            }
            Err(error) => driven.failed(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_ranks() {
        let driven = Driven {
            latencies: (0..=100).map(Duration::from_millis).collect(),
            ..Driven::default()
        };
        for (part, wanted) in [(0.0, 0), (0.5, 50), (0.99, 99), (1.0, 100)] {
            assert_eq!(driven.quantile(part), Duration::from_millis(wanted), "{part}");
        }
        assert_eq!(Driven::default().quantile(0.5), Duration::ZERO);
    }
}
