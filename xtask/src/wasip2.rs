//! Makes the target of the guests available. The three ways are in `ensure-wasip2.sh`, which may be run by hand too.

use std::process::Command;

use anyhow::{Context, Result};

use crate::{process, repository};

/// Nothing when the target is there; else adds it, or says how.
pub(crate) fn ensure() -> Result<()> {
    let root = repository::root()?;
    let mut script = Command::new("bash");
    script.arg(root.join("xtask/ensure-wasip2.sh")).current_dir(&root);
    process::run(&mut script).with_context(|| format!("the target {} is not available", repository::GUEST_TARGET))
}
