//! Gets the programs of the servers: wheels from `services.txt` and source from `services-source.txt`, each accepted by its
//! digest, in a Python environment below the target folder, and packages of npm beside it. What is there in the right version
//! is left alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::npm::{self, Packages};
use crate::process;

/// What lists the wheels, below the root.
const LIST: &str = "xtask/services.txt";

/// Packages of Debian whose programs are not to be had as wheels. Each has a program of its name.
const DEBIAN: &[&str] = &["redis-server"];

/// What lists the packages that come as source alone.
const SOURCES: &str = "xtask/services-source.txt";

/// What lists the program that the host is measured beside.
const MEASURED: &str = "xtask/load.txt";

/// What is installed.
pub(super) struct Programs {
    wheels: PathBuf,
}

impl Programs {
    /// Programs in this folder.
    pub(super) fn below(wheels: PathBuf) -> Self {
        Self { wheels }
    }

    /// Where everything is installed, each packager's below a folder of its own.
    pub(super) fn folder(&self) -> PathBuf {
        let folder = self.wheels.parent().and_then(Path::parent);
        folder.unwrap_or(&self.wheels).to_owned()
    }

    /// A program that came in a wheel.
    pub(super) fn wheel(&self, name: &str) -> Result<PathBuf> {
        let path = self.wheels.join(name);
        ensure!(
            path.is_file(),
            "{} is not there after installing {LIST}",
            path.display()
        );
        Ok(path)
    }
}

impl Programs {
    /// A program of a package of Debian that has its name.
    pub(super) fn debian(&self, name: &str) -> Result<PathBuf> {
        let path = Path::new("/usr/bin").join(name);
        ensure!(
            path.is_file(),
            "{} is not there: `apt-get install --no-install-recommends {name}`, or what your system has instead",
            path.display()
        );
        Ok(path)
    }

    /// A program that lies inside a package, which its wheel does not link from the folder of programs.
    pub(super) fn package(&self, path: &str) -> Result<PathBuf> {
        let library = self.wheels.with_file_name("lib");
        let versions = fs::read_dir(&library).with_context(|| format!("could not read {}", library.display()))?;
        for version in versions {
            let program = version?.path().join("site-packages").join(path);
            if program.is_file() {
                runnable(&program)?;
                return Ok(program);
            }
        }
        anyhow::bail!("{path} is not below {} after installing {LIST}", library.display())
    }
}

/// A wheel does not say of every program that it is one.
fn runnable(program: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut permissions = fs::metadata(program)?.permissions();
    if permissions.mode() & 0o100 == 0 {
        permissions.set_mode(permissions.mode() | 0o100);
        fs::set_permissions(program, permissions)
            .with_context(|| format!("could not make {} a program", program.display()))?;
    }
    Ok(())
}

/// Installs what is missing.
pub(super) fn all(root: &Path, target: &Path) -> Result<(Programs, Packages)> {
    let folder = target.join("services");
    fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    let environment = folder.join("python");
    let read = |list: &str| fs::read_to_string(root.join(list)).with_context(|| format!("could not read {list}"));
    let wanted = read(LIST)? + &read(SOURCES)?;
    once(&environment, wanted, || wheels(root, &environment))?;
    debian();
    let programs = Programs::below(environment.join("bin"));
    let packages = npm::install(root, &programs)?;
    Ok((programs, packages))
}

/// Installs the `wasmtime` that the host is measured beside, and nothing else, and says where it is.
pub(crate) fn wasmtime(root: &Path, target: &Path) -> Result<PathBuf> {
    let environment = target.join("services/measured");
    let list = root.join(MEASURED);
    let wanted = fs::read_to_string(&list).with_context(|| format!("could not read {MEASURED}"))?;
    once(&environment, wanted, || {
        venv(MEASURED, &environment)?;
        pip(&environment, &["--only-binary=:all:"], &list)
    })?;
    Programs::below(environment.join("bin")).package("wasmtime_cli/wasmtime")
}

/// Installs unless exactly this is there.
fn once(environment: &Path, wanted: String, install: impl FnOnce() -> Result<()>) -> Result<()> {
    let done = environment.join("installed.txt");
    if fs::read_to_string(&done).ok().as_deref() != Some(wanted.as_str()) {
        install()?;
        fs::write(&done, wanted).with_context(|| format!("could not write {}", done.display()))?;
    }
    Ok(())
}

fn venv(list: &str, environment: &Path) -> Result<()> {
    println!("    installing {list} into {}", environment.display());
    process::run(Command::new("python3").args(["-m", "venv"]).arg(environment))
        .context("Python with its module `venv` is needed to install what comes as wheels")
}

fn wheels(root: &Path, environment: &Path) -> Result<()> {
    venv(LIST, environment)?;
    pip(environment, &["--only-binary=:all:"], &root.join(LIST))?;
    // Nothing is fetched to build with: what is needed is there by now.
    pip(
        environment,
        &["--no-binary=:all:", "--no-build-isolation"],
        &root.join(SOURCES),
    )
}

fn pip(environment: &Path, how: &[&str], list: &Path) -> Result<()> {
    process::run(
        // Not `bin/pip`: that names the folder that it was made in, and a target folder may be copied.
        Command::new(environment.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["--require-hashes", "--no-deps"])
            .args(how)
            .arg("-r")
            .arg(list),
    )
}

/// Installs what is missing where that is possible. Where it is not (not root, no apt-get, no network) the server that
/// needs it says what to install.
fn debian() {
    let missing: Vec<&str> = DEBIAN
        .iter()
        .copied()
        .filter(|name| !Path::new("/usr/bin").join(name).is_file())
        .collect();
    if missing.is_empty() {
        return;
    }
    println!("    installing {} with apt-get", missing.join(" "));
    // Lists of packages may be old, or not there at all.
    if let Err(error) = process::run(Command::new("apt-get").args(["update", "--quiet"])) {
        println!("    {error:#}");
    }
    let mut install = Command::new("apt-get");
    install
        .args(["install", "--yes", "--quiet", "--no-install-recommends"])
        .args(&missing)
        .env("DEBIAN_FRONTEND", "noninteractive");
    if let Err(error) = process::run(&mut install) {
        println!("    {error:#}");
    }
}
