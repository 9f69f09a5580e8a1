//! All tests: host, SDK, capabilities, documentation, the embedding example. Those that need real servers, or more of the
//! system than any Linux has, are added on demand.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::repository::{self, SDK};
use crate::services::Services;
use crate::steps::Steps;
use crate::{guests, process, wasip2};

/// Compiles the tests that need real servers, namespaces, `strace` or to be run as root.
pub(crate) const SERVICES_FEATURE: [&str; 2] = [
    "--features",
    "aral-audit/services,aral-memory/services,aral-host/services,aral-protocol/services,aral-tests/services",
];

/// The verb. With a filter, only those tests of the host run.
pub(crate) fn run(filter: &[String], services: bool) -> Result<()> {
    let mut steps = Steps::new("test");
    let services = if services {
        Some(steps.run("real servers", || Services::start(&repository::root()?))?)
    } else {
        None
    };
    run_steps(&mut steps, filter, services.as_ref())?;
    steps.finish();
    Ok(())
}

/// The same, as part of a longer run.
pub(crate) fn run_steps(steps: &mut Steps, filter: &[String], services: Option<&Services>) -> Result<()> {
    let root = repository::root()?;
    steps.run("target of the guests", wasip2::ensure)?;
    steps.run("build the capabilities", || guests::build("capabilities"))?;
    steps.run("build the guests of the tests", || guests::build("tests/guests"))?;
    steps.run("build the host", || build_host(&root))?;
    steps.run("tests of the host", || test_host(&root, filter, services))?;
    if !filter.is_empty() {
        return Ok(());
    }
    steps.run("documentation tests of the host", || {
        process::run(process::cargo(&root).args(["test", "--locked", "--workspace", "--doc"]))
    })?;
    steps.run("embedding example", || embed(&root))?;
    steps.run("tests of the SDK", || test_natively(SDK))?;
    steps.run("tests of the capabilities", || test_natively("capabilities"))
}

/// Builds the program `aral` and the example. The whole workspace is selected and an example is among the targets, so
/// that features come out as they do for the tests and no dependency compiles twice.
pub(crate) fn build_host(root: &Path) -> Result<()> {
    process::run(process::cargo(root).args([
        "build",
        "--locked",
        "--workspace",
        "--bin",
        "aral",
        "--example",
        "embed",
    ]))
}

fn test_host(root: &Path, filter: &[String], services: Option<&Services>) -> Result<()> {
    let has_nextest = process::succeeds(process::cargo(root).args(["nextest", "--version"]));
    let command = || {
        let mut command = process::cargo(root);
        if has_nextest {
            command.args(["nextest", "run", "--locked", "--workspace"]);
        } else {
            command.args(["test", "--locked", "--workspace", "--lib", "--bins", "--tests"]);
        }
        if let Some(services) = services {
            command.args(SERVICES_FEATURE);
            command.envs(services.variables().iter().map(|(name, value)| (name, value)));
        }
        if !filter.is_empty() {
            command.arg("--").args(filter);
        }
        command
    };
    // Unlike nextest, cargo takes it for a success if no test has the name.
    if !has_nextest && !filter.is_empty() && count_listed(&process::read(command().arg("--list"))?) == 0 {
        bail!(
            "no test has `{}` in its name; hint: those that need real servers are there with `--services` alone",
            filter.join("`, `")
        );
    }
    process::run(&mut command())
}

/// How many tests cargo lists.
fn count_listed(list: &str) -> usize {
    list.lines().filter(|line| line.ends_with(": test")).count()
}

fn embed(root: &Path) -> Result<()> {
    let program = repository::target_directory(root)?.join("debug/examples/embed");
    process::run(Command::new(program).current_dir(root))
}

/// The tests of code that is made for the sandbox but whose logic runs anywhere.
fn test_natively(workspace: &str) -> Result<()> {
    let folder = repository::workspace(workspace)?;
    process::run(process::cargo(&folder).args(["test", "--workspace", "--locked"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_that_cargo_lists_are_counted() {
        let one = "serve::start::a_server_starts: test\n\n1 test, 0 benchmarks\n";
        let none = "\n0 tests, 0 benchmarks\n";
        assert_eq!(count_listed(&format!("{none}{one}{none}{one}")), 2);
        assert_eq!(count_listed(none), 0);
    }
}
