//! How much does `aral serve` bear, beside the same axum without a sandbox and beside `wasmtime serve`? Server and load share
//! the machine, so that only ratios of one run say something. `cargo xtask load` runs it.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

mod client;
mod drive;
mod floor;
mod idle;
mod machine;
mod secure;
mod server;
mod steady;
mod throughput;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

use machine::Times;

/// Connections that send requests: more than there are processors many times over, as in front of a server.
const CONNECTIONS: u32 = 64;
/// The part of what a server can do at most that it is under in the long run, in percent.
const USUAL_LOAD: u8 = 70;
/// Connections and descriptors besides those.
const SPARE: u32 = 64;
/// Before anything is counted.
const WARM: Duration = Duration::from_secs(2);

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    question: Question,
}

#[derive(Subcommand)]
enum Question {
    /// How many requests a second, and how many do the others?
    Throughput {
        /// The program `wasmtime`
        #[arg(long)]
        wasmtime: PathBuf,
        #[arg(long, default_value_t = 7)]
        rounds: usize,
        /// Of each server in each round
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        #[arg(long, default_value_t = CONNECTIONS)]
        connections: u32,
    },
    /// How much longer than half of the callers does one in a hundred wait, under usual load?
    Latency {
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        #[arg(long, default_value_t = 20)]
        seconds: u64,
        #[arg(long, default_value_t = USUAL_LOAD)]
        percent: u8,
    },
    /// How much memory do connections take on which nothing happens?
    Idle {
        #[arg(long, default_value_t = 10_000)]
        connections: u32,
    },
    /// Does memory grow, and does anything fail, under usual load for a long time?
    Steady {
        #[arg(long, default_value_t = 600)]
        seconds: u64,
    },
    /// The server that the others are compared with.
    #[command(hide = true)]
    Floor,
}

fn main() -> ExitCode {
    match answer(Arguments::parse().question) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn answer(question: Question) -> Result<()> {
    let begin = Times::now()?;
    match question {
        Question::Throughput {
            wasmtime,
            rounds,
            seconds,
            connections,
        } => throughput::run(&wasmtime, rounds, Duration::from_secs(seconds), connections),
        Question::Latency {
            rounds,
            seconds,
            percent,
        } => steady::latency(rounds, Duration::from_secs(seconds), percent),
        Question::Idle { connections } => idle::run(connections),
        Question::Steady { seconds } => steady::run(Duration::from_secs(seconds)),
        Question::Floor => floor::run(),
    }?;
    println!(
        "  meanwhile {:.1} % of the time of the processors was given to other machines",
        Times::now()?.stolen_since(begin)
    );
    Ok(())
}

/// The one in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
