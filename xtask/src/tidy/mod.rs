//! The house rules that no compiler checks. Each rule is a function over text or data, so that each has a test with a bad input.

mod layers;
mod manifests;
mod sources;
mod vendored;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::repository;

/// The verb: every broken rule is printed, then the run fails.
pub(crate) fn run() -> Result<()> {
    let root = repository::root()?;
    let metadata = repository::metadata(&root)?;
    let files = repository::tracked_files(&root)?;
    let mut findings = layers::check(&metadata, &root);
    for path in &files {
        findings.extend(check_file(&root, path)?);
    }
    findings.extend(vendored::check(&metadata, &root)?);
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} house rules are broken", findings.len());
    }
    println!("tidy: {} files keep the house rules", files.len());
    Ok(())
}

fn check_file(root: &Path, path: &str) -> Result<Vec<String>> {
    let read = || fs::read_to_string(root.join(path)).with_context(|| format!("could not read {path}"));
    if path.ends_with(".rs") {
        Ok(sources::check(path, &read()?))
    } else if path == "Cargo.toml" || path.ends_with("/Cargo.toml") {
        manifests::check(path, &read()?)
    } else {
        Ok(Vec::new())
    }
}
