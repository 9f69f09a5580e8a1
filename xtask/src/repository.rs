//! Where things are: the root, the workspaces, their target folders, the tracked files. Asked of cargo and git, never assumed.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::process;

/// Workspaces of components that are built for the sandbox, as folders below the root.
pub(crate) const GUEST_WORKSPACES: [&str; 2] = ["capabilities", "tests/guests"];
/// The SDK is a workspace of its own: capabilities outside this repository depend on it.
pub(crate) const SDK: &str = "guest-sdk";
/// What fuzzers run is a workspace of its own: cargo-fuzz builds it with other settings.
pub(crate) const FUZZ: &str = "fuzz";
/// What the host runs on: dependencies of other systems are neither downloaded nor checked.
pub(crate) const HOST_TARGET: &str = "x86_64-unknown-linux-gnu";
/// What guests are built for.
pub(crate) const GUEST_TARGET: &str = "wasm32-wasip2";

/// All workspaces that are built for the sandbox.
pub(crate) fn sandboxed() -> impl Iterator<Item = &'static str> {
    std::iter::once(SDK).chain(GUEST_WORKSPACES)
}

/// What `cargo metadata` says, as far as it is used here.
#[derive(Debug, Deserialize)]
pub(crate) struct Metadata {
    pub(crate) packages: Vec<Package>,
    pub(crate) workspace_members: Vec<String>,
    pub(crate) target_directory: PathBuf,
}

/// One package of the resolved graph.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Package {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) manifest_path: PathBuf,
    pub(crate) dependencies: Vec<Dependency>,
    /// The table `[package.metadata]`, or null.
    pub(crate) metadata: serde_json::Value,
}

/// One line of a `[dependencies]` table.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Dependency {
    pub(crate) name: String,
    /// Set for packages of this repository.
    pub(crate) path: Option<PathBuf>,
}

/// The folder with the workspace's Cargo.toml. Read when we run, not when we are built: a target folder may serve several clones.
pub(crate) fn root() -> Result<PathBuf> {
    let package = env::var_os("CARGO_MANIFEST_DIR").context("run this as `cargo xtask`")?;
    let root = Path::new(&package)
        .parent()
        .context("the xtask package has no parent folder")?;
    Ok(root.to_path_buf())
}

/// A workspace's folder; a missing one is an error that names it.
pub(crate) fn workspace(name: &str) -> Result<PathBuf> {
    let folder = root()?.join(name);
    if !folder.join("Cargo.toml").is_file() {
        bail!(
            "the workspace `{name}` does not exist: there is no {}",
            folder.join("Cargo.toml").display()
        );
    }
    Ok(folder)
}

/// What cargo knows of the workspace in `folder`.
pub(crate) fn metadata(folder: &Path) -> Result<Metadata> {
    let text = process::read(process::cargo(folder).args([
        "metadata",
        "--format-version=1",
        "--locked",
        "--filter-platform",
        HOST_TARGET,
    ]))?;
    serde_json::from_str(&text).context("`cargo metadata` wrote something unexpected")
}

/// The target folder of the workspace in `folder`.
pub(crate) fn target_directory(folder: &Path) -> Result<PathBuf> {
    let text = process::read(process::cargo(folder).args(["metadata", "--format-version=1", "--locked", "--no-deps"]))?;
    let metadata: Metadata = serde_json::from_str(&text).context("`cargo metadata` wrote something unexpected")?;
    Ok(metadata.target_directory)
}

/// The files that git tracks and that still exist, as paths below the root.
pub(crate) fn tracked_files(root: &Path) -> Result<Vec<String>> {
    let text = process::read(Command::new("git").current_dir(root).args(["ls-files", "-z"]))?;
    Ok(text
        .split('\0')
        .filter(|path| !path.is_empty() && root.join(path).is_file())
        .map(str::to_owned)
        .collect())
}
