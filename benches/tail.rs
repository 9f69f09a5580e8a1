//! How long do the slowest calls take? All ways in turn, call by call, so that noise hits all of them alike.

use std::time::{Duration, Instant};

use anyhow::Result;
use aral_benches::INPUT;
use aral_benches::ways::Ways;

const CALLS: usize = 20_000;
const NAMES: [&str; 5] = [
    "floor-untuned",
    "floor-tuned",
    "floor-tuned-zeroing",
    "governed-unrecorded",
    "governed",
];

#[expect(clippy::print_stdout, reason = "a benchmark prints its result")]
fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ways = Ways::new(&runtime)?;
    let Ways {
        untuned,
        tuned,
        zeroing,
        governed,
        unrecorded,
        ..
    } = &ways;

    let mut times: [Vec<Duration>; NAMES.len()] = Default::default();
    runtime.block_on(async {
        for _ in 0..CALLS {
            let [
                untuned_times,
                tuned_times,
                zeroing_times,
                unrecorded_times,
                governed_times,
            ] = &mut times;
            let start = Instant::now();
            untuned.call(INPUT).await?;
            untuned_times.push(start.elapsed());
            let start = Instant::now();
            tuned.call(INPUT).await?;
            tuned_times.push(start.elapsed());
            let start = Instant::now();
            zeroing.call(INPUT).await?;
            zeroing_times.push(start.elapsed());
            let start = Instant::now();
            unrecorded.call(INPUT).await?;
            unrecorded_times.push(start.elapsed());
            let start = Instant::now();
            governed.call(INPUT).await?;
            governed_times.push(start.elapsed());
        }
        anyhow::Ok(())
    })?;
    for (name, times) in NAMES.into_iter().zip(&mut times) {
        times.sort_unstable();
        let quantile = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or_default();
        println!("tail/{name:<19} p50 {:>8.1?}  p99 {:>8.1?}", quantile(50), quantile(99));
    }
    Ok(())
}
