//! Does a sweep of 100,000 expired records hold up a reader beside it? The same reads without a sweep and during one, with a cache in
//! which all records lie, and with a small one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aral_benches::records::{CACHE_BYTES, Sealed, shuffled};

const EXPIRED: u64 = 100_000;
const LIVE: u64 = 20_000;
/// A cache for a few hundred records, so that most reads go to the database and its files.
const CACHE_BYTES_SMALL: u64 = 1 << 20;
/// Records in one tick of the sweeper, and the pause after it, as the host has them.
const TICK_RECORDS: usize = 256;
const TICK_PAUSE: Duration = Duration::from_millis(5);

fn reads(sealed: &Sealed, until: impl Fn(usize) -> bool) -> Result<Vec<Duration>> {
    let mut times = Vec::new();
    while !until(times.len()) {
        let start = Instant::now();
        sealed.get(shuffled(times.len() as u64, LIVE))?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

fn quantile(times: &[Duration], per_mille: usize) -> Duration {
    times.get(times.len() * per_mille / 1000).copied().unwrap_or_default()
}

/// How many records it took, and how long.
fn sweep(sealed: &Sealed) -> Result<(usize, Duration)> {
    let start = Instant::now();
    let mut records = 0;
    loop {
        let done = sealed.store.sweep(TICK_RECORDS)?;
        records += done.records;
        if !done.more {
            return Ok((records, start.elapsed()));
        }
        std::thread::sleep(TICK_PAUSE);
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its result")]
fn measure(cache: &str, cache_bytes: u64) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let sealed = Arc::new(Sealed::open(&folder.path().join("store"), cache_bytes)?);
    for first in (0..LIVE).step_by(1000) {
        sealed.put(first..first + 1000, None)?;
    }
    for first in (0..EXPIRED).step_by(1000) {
        sealed.put((first..first + 1000).map(|index| (1 << 40) + index), Some(1))?;
    }
    std::thread::sleep(Duration::from_secs(3));
    let quiet = reads(&sealed, |count| count >= 200_000)?;
    let swept = Arc::new(AtomicBool::new(false));
    let sweeper = std::thread::spawn({
        let (sealed, swept) = (Arc::clone(&sealed), Arc::clone(&swept));
        move || {
            let done = sweep(&sealed);
            // Also where it failed: whoever reads waits for that.
            swept.store(true, Ordering::Release);
            done
        }
    });
    let during = reads(&sealed, |_| swept.load(Ordering::Acquire))?;
    let (records, took) = sweeper.join().map_err(|_| anyhow::anyhow!("the sweeper panicked"))??;
    ensure!(records as u64 == EXPIRED, "{records} records were swept");
    for (name, times) in [("without", &quiet), ("during", &during)] {
        println!(
            "memory_sweep/{cache}/{name:<8} p50 {:>8.1?}  p99 {:>8.1?}  p99.9 {:>8.1?}  ({} reads)",
            quantile(times, 500),
            quantile(times, 990),
            quantile(times, 999),
            times.len(),
        );
    }
    let added = quantile(&during, 990).saturating_sub(quantile(&quiet, 990));
    println!(
        "memory_sweep/{cache}/sweep    {records} records in {:.1} s, which added {added:.1?} to the p99",
        took.as_secs_f64()
    );
    Ok(())
}

fn main() -> Result<()> {
    measure("large-cache", CACHE_BYTES)?;
    measure("small-cache", CACHE_BYTES_SMALL)
}
