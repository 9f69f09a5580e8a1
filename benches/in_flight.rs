//! How much memory do 1,000 calls at once take? Each waits inside the host with its instance open, long enough for all
//! of them to be there, and each answer is checked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use aral_benches::governed::{Documents, Governed};
use futures::stream::{FuturesUnordered, TryStreamExt as _};

const CALLS: usize = 1_000;
const WAIT: Duration = Duration::from_secs(5);

/// The largest resident memory of this process so far, in bytes.
fn resident_bytes_peak() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("no VmHWM in /proc/self/status")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kilobytes * 1024)
}

async fn one(governed: &Governed, started: &AtomicUsize) -> Result<()> {
    started.fetch_add(1, Ordering::Relaxed);
    let answer = governed.call(&format!(r#"{{"wait_ms":{}}}"#, WAIT.as_millis())).await?;
    // Nobody is done before everybody has begun: so all of them were in flight at once.
    ensure!(
        started.load(Ordering::Relaxed) == CALLS,
        "a call ended before all had begun: wait for longer"
    );
    ensure!(answer == "\"awake\"", "a call got the answer {answer}");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its result")]
fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let state = tempfile::tempdir()?;
    let governed = runtime.block_on(Governed::new(
        &Documents::sleep()?,
        &state.path().join("state"),
        r#"{"wait_ms":0}"#,
    ))?;
    let before = resident_bytes_peak()?;
    let started = AtomicUsize::new(0);
    let start = Instant::now();
    runtime.block_on(async {
        let calls: FuturesUnordered<_> = (0..CALLS).map(|_| one(&governed, &started)).collect();
        calls.try_collect::<Vec<()>>().await
    })?;
    let growth = resident_bytes_peak()?.saturating_sub(before);
    println!(
        "in_flight/{CALLS} all correct, {:.1} s for a wait of {} s, peak resident memory grew by {:.1} MiB",
        start.elapsed().as_secs_f64(),
        WAIT.as_secs(),
        growth as f64 / f64::from(1 << 20)
    );
    Ok(())
}
