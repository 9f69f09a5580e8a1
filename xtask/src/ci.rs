//! Everything that must pass before a change is accepted.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::repository::{self, FUZZ, GUEST_TARGET};
use crate::steps::Steps;
use crate::{demo, deny, guests, process, test, tidy};

/// The verb.
pub(crate) fn run() -> Result<()> {
    let mut steps = Steps::new("ci");
    test::run_steps(&mut steps, &[], None)?;
    run_checks(&mut steps)?;
    steps.finish();
    Ok(())
}

/// The verb, for a caller that has just run the tests.
pub(crate) fn run_without_tests() -> Result<()> {
    let mut steps = Steps::new("ci --without-tests");
    // The tests' build script embeds the guests, so nothing of that package compiles without them.
    steps.run("guests", guests::run)?;
    // The tests may have run with services. Without them some modules are not there, and no other code may use those.
    steps.run("tests without services compile", || {
        let root = repository::root()?;
        process::run(process::cargo(&root).args(["check", "--locked", "--workspace", "--all-targets"]))
    })?;
    run_checks(&mut steps)?;
    steps.finish();
    Ok(())
}

fn run_checks(steps: &mut Steps) -> Result<()> {
    let root = repository::root()?;
    let sandboxed: Vec<(&str, PathBuf)> = repository::sandboxed()
        .map(|name| Ok((name, repository::workspace(name)?)))
        .collect::<Result<_>>()?;
    let fuzz = repository::workspace(FUZZ)?;
    steps.run("fmt", || {
        let folders = sandboxed.iter().map(|(_, folder)| folder);
        format_check([&root, &fuzz].into_iter().chain(folders))
    })?;
    steps.run("tidy", tidy::run)?;
    steps.run("cargo-deny", deny::run)?;
    match deny::advisories_unavailable()? {
        None => steps.run("advisories", deny::run_advisories)?,
        Some(reason) => steps.leave_out("advisories", reason),
    }
    steps.run("demo", demo::run)?;
    // The benches have the feature `sqlcipher` besides, which compiles OpenSSL: that takes too long for each change.
    let [features, services] = test::SERVICES_FEATURE;
    steps.run("clippy of the host", || {
        clippy(&root, &["--all-targets", features, services])
    })?;
    // By the compiler that everything else is built with: what a fuzzer adds is not looked at here.
    steps.run("clippy of fuzz", || clippy(&fuzz, &[]))?;
    for (name, folder) in &sandboxed {
        steps.run(&format!("clippy of {name}"), || {
            clippy(folder, &["--target", GUEST_TARGET])
        })?;
    }
    steps.run("documentation of the host", || document(&root))
}

fn format_check<'a>(folders: impl Iterator<Item = &'a PathBuf>) -> Result<()> {
    for folder in folders {
        process::run(process::cargo(folder).args(["fmt", "--all", "--check"]))?;
    }
    Ok(())
}

fn clippy(folder: &Path, selection: &[&str]) -> Result<()> {
    let mut command = process::cargo(folder);
    command
        .args(["clippy", "--locked", "--workspace"])
        .args(selection)
        .args(["--", "-D", "warnings"]);
    process::run(&mut command)
}

/// Broken links in the documentation of the public interface are errors. What crates outside may turn on for their tests is part
/// of it, and is compiled as they would: the tests of that crate have it without the feature.
fn document(root: &Path) -> Result<()> {
    let mut command = process::cargo(root);
    command
        .env("RUSTDOCFLAGS", "-D warnings")
        .args(["doc", "--locked", "--workspace", "--no-deps"])
        .args(["--features", "aral-memory/testing"]);
    process::run(&mut command)
}
