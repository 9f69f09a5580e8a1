//! `cargo xtask`: all automation of the repository. Needs nothing but a Rust toolchain (and Python for real servers); knows nothing of what the host does inside.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line program")]

mod bench;
mod ci;
mod demo;
mod deny;
mod fuzz;
mod guests;
mod load;
mod process;
mod repository;
mod services;
mod steps;
mod test;
mod tidy;
mod wasip2;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "All automation of the repository"
)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build the host and the example capabilities and run two of them end to end.
    Demo,
    /// Build everything and run the tests that need nothing else.
    Test {
        /// Add the tests that need real servers, which are installed and started for them, and those that need namespaces, `strace` or root.
        #[arg(long)]
        services: bool,
        /// Run only the host's tests whose name contains one of these.
        filter: Vec<String>,
    },
    /// Start the real servers of the tests for hand work, say where they are, and stop them on ctrl-c.
    Services,
    /// Build the example capabilities and the guests of the tests for `wasm32-wasip2`.
    Guests,
    /// Run the benchmarks and print each as a ratio to the floors of its group.
    Bench {
        /// Run only this file of `benches`, or if it is none, the benchmarks of criterion whose name contains this.
        filter: Option<String>,
    },
    /// Run the fuzzers of `fuzz/`, each for a while. Needs a nightly compiler.
    Fuzz {
        /// Run this one alone.
        target: Option<String>,
        /// How long each of them runs.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// Put `aral serve` under load and compare it with other servers.
    Load {
        /// Ask this alone.
        question: Option<load::Question>,
        /// How long the steady load lasts.
        #[arg(long, default_value_t = 600)]
        seconds: u64,
    },
    /// Check the house rules: layers, file headers and lengths, lints, `unsafe`, vendored WIT, documents.
    Tidy,
    /// Everything that must pass before a change is accepted: test, fmt, tidy, cargo-deny, demo, clippy, documentation.
    Ci {
        /// Leave out the tests, for a caller that has just run `cargo xtask test`.
        #[arg(long)]
        without_tests: bool,
    },
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().verb {
        Verb::Demo => demo::run(),
        Verb::Test { services, filter } => test::run(&filter, services),
        Verb::Services => services::run(),
        Verb::Guests => guests::run(),
        Verb::Bench { filter } => bench::run(filter.as_deref()),
        Verb::Fuzz { target, seconds } => fuzz::run(target.as_deref(), seconds),
        Verb::Load { question, seconds } => load::run(question, seconds),
        Verb::Tidy => tidy::run(),
        Verb::Ci { without_tests: false } => ci::run(),
        Verb::Ci { without_tests: true } => ci::run_without_tests(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
