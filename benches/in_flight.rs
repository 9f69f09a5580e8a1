//! How much memory do 1,000 calls at once take? Each waits inside the host with its instance open, long enough for all
//! of them to be there, and each answer is checked.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use aral_benches::governed::{Documents, Governed};
use aral_benches::resident;
use futures::stream::{FuturesUnordered, TryStreamExt as _};

const CALLS: usize = 1_000;
const WAIT: Duration = Duration::from_secs(5);

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
    // The component was compiled in this process, which takes more than it keeps.
    let before = resident::begin()?;
    let started = AtomicUsize::new(0);
    let start = Instant::now();
    runtime.block_on(async {
        let calls: FuturesUnordered<_> = (0..CALLS).map(|_| one(&governed, &started)).collect();
        calls.try_collect::<Vec<()>>().await
    })?;
    let growth = resident::peak()?.saturating_sub(before);
    println!(
        "in_flight/{CALLS} all correct, {:.1} s for a wait of {} s, resident memory grew by {:.1} MiB from {:.1} MiB",
        start.elapsed().as_secs_f64(),
        WAIT.as_secs(),
        resident::mebibytes(growth),
        resident::mebibytes(before),
    );
    Ok(())
}
