//! Puts `aral serve` under load, beside the same server without a sandbox and beside `wasmtime serve`. `benches/load` sends
//! the requests and prints what it sees; here everything is built that it needs.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::{guests, process, repository, services};

/// The profile of what is deployed, by which other servers are built too.
const DEPLOYED: &str = "dist";

/// What is asked, in the words of `benches/load`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Question {
    /// Requests a second, beside the others: under two minutes.
    Throughput,
    /// How long callers wait at 70 % of that: under three minutes.
    Latency,
    /// Memory of 10,000 connections on which nothing happens.
    Idle,
    /// Memory and errors over ten minutes at 70 %.
    Steady,
}

impl Question {
    fn word(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Latency => "latency",
            Self::Idle => "idle",
            Self::Steady => "steady",
        }
    }
}

/// The verb: guests, programs, and one question or all of them. `seconds` is how long the steady load lasts.
pub(crate) fn run(question: Option<Question>, seconds: u64) -> Result<()> {
    guests::run()?;
    let root = repository::root()?;
    let target = repository::target_directory(&root)?;
    let packages = ["-p", "aral-host", "-p", "aral-benches"];
    let programs = ["--bin", "aral", "--bin", "load"];
    let mut build = process::cargo(&root);
    build
        .args(["build", "--profile", DEPLOYED, "--locked"])
        .args(packages)
        .args(programs);
    process::run(&mut build)?;
    let program = target.join(DEPLOYED).join("load");
    let all = Question::value_variants();
    let asked = question.as_ref().map_or(all, std::slice::from_ref);
    for question in asked {
        ask(&program, *question, seconds, &root, &target)?;
    }
    Ok(())
}

fn ask(program: &Path, question: Question, seconds: u64, root: &Path, target: &Path) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(question.word());
    match question {
        Question::Throughput => command.arg("--wasmtime").arg(services::wasmtime(root, target)?),
        Question::Steady => command.args(["--seconds", &seconds.to_string()]),
        Question::Latency | Question::Idle => &mut command,
    };
    process::run(&mut command)
}
