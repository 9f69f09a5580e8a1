//! The usual load: a part of what the server can do at most, at a rate that does not wait for answers. For a short time, how
//! long callers wait; for a long time, whether memory grows or anything fails.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use aral_benches::resident::mebibytes;

use crate::drive::{Driven, Pace, drive};
use crate::server::{self, Server};
use crate::{CONNECTIONS, SPARE, USUAL_LOAD, WARM, median, milliseconds};

/// How long what the server can do at most is measured.
const SATURATION: Duration = Duration::from_secs(10);
/// How often the memory of the server is looked at, in the whole time.
const LOOKS: u32 = 60;
/// Of these, at the beginning: pools, caches and the window in which requests are counted are not full yet.
const FILLING: usize = 12;

/// What the server can do at most, requests a second.
fn saturation(server: &Server) -> Result<f64> {
    drive(&server.target, CONNECTIONS, Pace::Saturating, WARM).check()?;
    let driven = drive(&server.target, CONNECTIONS, Pace::Saturating, SATURATION);
    driven.check()?;
    Ok(driven.rate())
}

fn tell(driven: &Driven, rate: f64) {
    let at = |part| milliseconds(driven.quantile(part));
    println!(
        "  at {rate:.0} requests/s: p50 {:.3} ms, p90 {:.3} ms, p99 {:.3} ms, p99.9 {:.3} ms, longest {:.1} ms; p99 is {:.2}x p50",
        at(0.5),
        at(0.9),
        at(0.99),
        at(0.999),
        at(1.0),
        tail(driven),
    );
}

/// How many times as long as half of the callers does one in a hundred wait at least?
fn tail(driven: &Driven) -> f64 {
    driven.quantile(0.99).as_secs_f64() / driven.quantile(0.5).as_secs_f64()
}

/// How long callers wait. The floor takes turns with the server, each under the same part of what it can do itself: what the
/// machine and the load make callers wait, they make them wait there too.
pub(crate) fn latency(rounds: usize, length: Duration, percent: u8) -> Result<()> {
    let servers = [server::floor()?, server::aral(CONNECTIONS + SPARE)?];
    println!(
        "latency: {CONNECTIONS} connections at {percent} % of what the server can do at most, {rounds} rounds of {} s each",
        length.as_secs()
    );
    let mut tails: [Vec<f64>; 2] = Default::default();
    for _ in 0..rounds {
        for (server, tails) in servers.iter().zip(&mut tails) {
            let rate = saturation(server)? * f64::from(percent) / 100.0;
            let driven = drive(&server.target, CONNECTIONS, Pace::Rate(rate), length);
            driven.check().with_context(|| server.name)?;
            println!("  {}", server.name);
            tell(&driven, rate);
            tails.push(tail(&driven));
        }
    }
    for (server, tails) in servers.iter().zip(tails) {
        println!("  {}: median: p99 is {:.2}x p50", server.name, median(tails));
    }
    println!("  wanted of aral serve: under 5x");
    Ok(())
}

/// The memory of the server, in mebibytes, at even distances.
fn watch(server: &Server, length: Duration) -> Result<Vec<f64>> {
    let begin = Instant::now();
    let mut series = Vec::new();
    for look in 1..=LOOKS {
        let due = length * look / LOOKS;
        thread::sleep(due.saturating_sub(begin.elapsed()));
        series.push(mebibytes(server.resident_bytes()?));
    }
    Ok(series)
}

/// Whether memory grows or anything fails.
pub(crate) fn run(length: Duration) -> Result<()> {
    let server = server::aral(CONNECTIONS + SPARE)?;
    let rate = saturation(&server)? * f64::from(USUAL_LOAD) / 100.0;
    println!("steady: {CONNECTIONS} connections, {} s", length.as_secs());
    let (driven, series) = thread::scope(|scope| {
        let watcher = scope.spawn(|| watch(&server, length));
        let driven = drive(&server.target, CONNECTIONS, Pace::Rate(rate), length);
        (driven, watcher.join())
    });
    let series = series.ok().context("the watcher panicked")??;
    tell(&driven, rate);
    println!("  {} right answers, {} errors", driven.latencies.len(), driven.errors);
    println!(
        "  resident memory in MiB, every {:.0} s:",
        length.as_secs_f64() / f64::from(LOOKS)
    );
    for line in series.chunks(12) {
        let line: Vec<String> = line.iter().map(|one| format!("{one:7.1}")).collect();
        println!("   {}", line.join(""));
    }
    let filled = series.get(FILLING..).unwrap_or_default();
    let third = filled.len() / 3;
    let (early, late) = (filled.get(..third), filled.get(filled.len() - third..));
    let middle = |part: Option<&[f64]>| median(part.unwrap_or_default().to_vec());
    println!(
        "  without the first {FILLING}: median of the first third {:.1}, of the last {:.1}: {:+.1} MiB; wanted: no growth, no error",
        middle(early),
        middle(late),
        middle(late) - middle(early),
    );
    driven.check()
}
