//! Fuzzing: builds the targets of `fuzz/` with a nightly compiler and runs each for a while. What they find is a file that the
//! same target takes again. It knows no target.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{guests, process, repository, wasip2};

/// What runs the targets.
const CARGO_FUZZ: &str = "0.13.2";
/// The compiler that has sanitizers and tells libFuzzer what was reached.
const TOOLCHAIN: &str = "+nightly";
/// Longer inputs reach nothing that shorter ones do not.
const INPUT_BYTES_MAX: u32 = 4096;
/// What takes longer is a finding, in seconds: the longest limit of a target, and what the sanitizer adds.
const INPUT_SECONDS_MAX: u32 = 60;

/// The verb: the guests of the targets, then each target, or the one that was named, for so many seconds.
pub(crate) fn run(target: Option<&str>, seconds: u64) -> Result<()> {
    let root = repository::root()?;
    let known = targets(&root)?;
    let chosen: Vec<&String> = known
        .iter()
        .filter(|name| target.is_none_or(|one| one == *name))
        .collect();
    ensure!(
        !chosen.is_empty(),
        "there is no target `{}`: one of {}",
        target.unwrap_or_default(),
        known.join(", ")
    );
    wasip2::ensure()?;
    let guests = guests::build("tests/guests")?;
    let folder = repository::target_directory(&root)?.join("fuzz");
    let fuzz = Fuzz {
        program: install(&folder)?,
        folder,
        root,
        guests,
    };
    for name in &chosen {
        process::run(fuzz.command("build")?.arg(name))?;
    }
    let mut found = Vec::new();
    for name in chosen {
        if let Err(error) = fuzz.run(name, seconds) {
            println!("{name}: {error:#}");
            found.push(name.as_str());
        }
    }
    if !found.is_empty() {
        bail!(
            "found by {}: the inputs lie in {}",
            found.join(", "),
            fuzz.folder.join("artifacts").display()
        );
    }
    Ok(())
}

/// The targets, by their files.
fn targets(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| format!("could not list {}", folder.display()))? {
        let path = entry?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        names.extend(stem.map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// cargo-fuzz of the version that is known to work, in a folder of its own.
fn install(folder: &Path) -> Result<PathBuf> {
    let mut nightly = Command::new("cargo");
    ensure!(
        process::succeeds(nightly.args([TOOLCHAIN, "--version"])),
        "there is no nightly compiler; hint: `rustup toolchain install nightly`"
    );
    let root = folder.join("tools");
    let program = root.join("bin/cargo-fuzz");
    let is_there = |program: &Path| {
        let version = process::read(Command::new(program).arg("--version"));
        version.is_ok_and(|version| version.trim().ends_with(CARGO_FUZZ))
    };
    if !program.is_file() || !is_there(&program) {
        let arguments = [
            "install",
            "cargo-fuzz",
            "--locked",
            "--force",
            "--version",
            CARGO_FUZZ,
            "--root",
        ];
        process::run(Command::new("cargo").args(arguments).arg(&root))?;
    }
    Ok(program)
}

struct Fuzz {
    program: PathBuf,
    folder: PathBuf,
    root: PathBuf,
    guests: PathBuf,
}

impl Fuzz {
    fn run(&self, target: &str, seconds: u64) -> Result<()> {
        let corpus = self.folder.join("corpus").join(target);
        let artifacts = self.folder.join("artifacts").join(target);
        for folder in [&corpus, &artifacts] {
            fs::create_dir_all(folder).with_context(|| format!("could not make {}", folder.display()))?;
        }
        let mut command = self.command("run")?;
        command.arg(target).arg(&corpus);
        let seeds = self.root.join("fuzz/seeds").join(target);
        if seeds.is_dir() {
            command.arg(seeds);
        }
        command.arg("--");
        command.arg(format!("-artifact_prefix={}/", artifacts.display()));
        command.arg(format!("-max_total_time={seconds}"));
        command.arg(format!("-max_len={INPUT_BYTES_MAX}"));
        command.arg(format!("-timeout={INPUT_SECONDS_MAX}"));
        command.arg("-print_final_stats=1");
        process::run(&mut command)
    }

    /// cargo-fuzz, as the cargo of the nightly compiler finds and calls it.
    fn command(&self, verb: &str) -> Result<Command> {
        let mut command = Command::new("cargo");
        command
            .current_dir(&self.root)
            .env("PATH", self.path()?)
            .env("ARAL_FUZZ_GUESTS", &self.guests)
            // Looking for leaks needs rights that containers do not give.
            .env("ASAN_OPTIONS", "detect_leaks=0")
            .env_remove("CARGO")
            .env_remove("RUSTUP_TOOLCHAIN")
            .args([TOOLCHAIN, "fuzz", verb, "--fuzz-dir", repository::FUZZ, "--target-dir"])
            .arg(self.folder.join("target"));
        Ok(command)
    }

    /// The path, with cargo-fuzz before everything else.
    fn path(&self) -> Result<std::ffi::OsString> {
        let own = self.program.parent().context("it lies in a folder")?.to_owned();
        let others = std::env::var_os("PATH").unwrap_or_default();
        let all = std::iter::once(own).chain(std::env::split_paths(&others));
        Ok(std::env::join_paths(all)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_is_built_and_nothing_else() {
        let root = repository::root().unwrap();
        let manifest: toml::Value = toml::from_str(&fs::read_to_string(root.join("fuzz/Cargo.toml")).unwrap()).unwrap();
        let built = manifest["bin"].as_array().unwrap().iter();
        let built: Vec<&str> = built.map(|bin| bin["name"].as_str().unwrap()).collect();
        assert_eq!(targets(&root).unwrap(), built);
        for seeds in fs::read_dir(root.join("fuzz/seeds")).unwrap() {
            let name = seeds.unwrap().file_name().into_string().unwrap();
            assert!(built.contains(&name.as_str()), "`{name}` is no target");
        }
    }
}
