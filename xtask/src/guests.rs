//! Builds what runs inside the sandbox. The host's tests and the demo load these files.

use std::path::PathBuf;

use anyhow::Result;

use crate::repository::{self, GUEST_TARGET, GUEST_WORKSPACES};
use crate::{process, wasip2};

/// The verb: target and both workspaces.
pub(crate) fn run() -> Result<()> {
    wasip2::ensure()?;
    for workspace in GUEST_WORKSPACES {
        build(workspace)?;
    }
    Ok(())
}

/// Builds one workspace and returns the folder with its components. The target must be there.
pub(crate) fn build(workspace: &str) -> Result<PathBuf> {
    let folder = repository::workspace(workspace)?;
    process::run(process::cargo(&folder).args([
        "build",
        "--workspace",
        "--release",
        "--locked",
        // The tools among the guests of the tests are examples: one file each, each a library.
        "--lib",
        "--bins",
        "--examples",
        "--target",
        GUEST_TARGET,
    ]))?;
    Ok(repository::target_directory(&folder)?
        .join(GUEST_TARGET)
        .join("release"))
}
