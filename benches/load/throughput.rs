//! Requests a second at most. The three servers take turns, so that what the machine does besides meets all of them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::drive::{Pace, drive};
use crate::server::{self, Server};
use crate::{SPARE, WARM, median};

/// One round of one server.
struct Round {
    /// Right answers a second.
    rate: f64,
    /// Time of processors that the server took for each, in microseconds. Without what the load takes.
    computed_us: f64,
}

fn round(server: &Server, length: Duration, connections: u32) -> Result<Round> {
    let before = server.computed()?;
    let driven = drive(&server.target, connections, Pace::Saturating, length);
    driven.check().with_context(|| server.name)?;
    let computed = server.computed()?.saturating_sub(before);
    Ok(Round {
        rate: driven.rate(),
        computed_us: computed.as_secs_f64() * 1e6 / driven.latencies.len() as f64,
    })
}

pub(crate) fn run(wasmtime: &Path, rounds: usize, length: Duration, connections: u32) -> Result<()> {
    let servers = [
        server::floor()?,
        server::aral(connections + SPARE)?,
        server::wasmtime(wasmtime)?,
    ];
    for server in &servers {
        round(server, WARM, connections)?;
    }
    let mut done: [Vec<Round>; 3] = Default::default();
    for _ in 0..rounds {
        for (server, done) in servers.iter().zip(&mut done) {
            done.push(round(server, length, connections)?);
        }
    }
    let rates = |of: &[Round]| median(of.iter().map(|round| round.rate).collect());
    let computed = |of: &[Round]| median(of.iter().map(|round| round.computed_us).collect());
    let [floor, _, beside] = &done;
    let (floor, beside) = (rates(floor), rates(beside));
    println!(
        "throughput: {connections} connections, median of {rounds} rounds of {} s each",
        length.as_secs()
    );
    for (server, done) in servers.iter().zip(&done) {
        let each: Vec<String> = done.iter().map(|round| format!("{:.0}", round.rate)).collect();
        println!(
            "  {:<14} {:>7.0} requests/s  {:>5.2}x floor-axum  {:>5.2}x wasmtime serve  {:>6.1} µs of processor each  [{}]",
            server.name,
            rates(done),
            rates(done) / floor,
            rates(done) / beside,
            computed(done),
            each.join(" "),
        );
    }
    println!("  wanted of aral serve: 0.6x floor-axum, 1.5x wasmtime serve");
    Ok(())
}
