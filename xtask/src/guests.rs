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

/// Builds one workspace, with the components that are examples of a package, and returns the folder with its components. The target must be there.
pub(crate) fn build(workspace: &str) -> Result<PathBuf> {
    let folder = repository::workspace(workspace)?;
    let mut command = process::cargo(&folder);
    command.args(["build", "--workspace", "--lib", "--bins", "--examples"]);
    command.args(["--release", "--locked", "--target", GUEST_TARGET]);
    process::run(&mut command)?;
    Ok(repository::target_directory(&folder)?
        .join(GUEST_TARGET)
        .join("release"))
}
