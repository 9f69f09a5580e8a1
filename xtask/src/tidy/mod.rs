//! The house rules that no compiler checks. Each rule is a function over text or data, so that each has a test with a bad input.

mod documents;
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
        findings.extend(check_path(path));
        findings.extend(check_file(&root, path)?);
    }
    findings.extend(vendored::check(&metadata, &root)?);
    let exit_codes = read(&root, documents::EXIT_CODES_SOURCE)?;
    findings.extend(documents::check_exit_codes(
        &exit_codes,
        &read(&root, documents::EXIT_CODES_DOCUMENT)?,
    ));
    findings.extend(documents::check_pages(&read(&root, documents::README)?, &files));
    findings.extend(documents::check_crates(&read(&root, documents::ARCHITECTURE)?, &files));
    let specification = read(&root, documents::SPECIFICATION)?;
    findings.extend(documents::check_tests(&specification, &declared(&root, &files)?));
    for finding in &findings {
        eprintln!("{finding}");
    }
    if !findings.is_empty() {
        bail!("{} house rules are broken", findings.len());
    }
    println!("tidy: {} files keep the house rules", files.len());
    Ok(())
}

/// What a build or a measurement leaves belongs to one machine and one moment.
fn check_path(path: &str) -> Option<String> {
    let is_built = path.split('/').any(|part| part == "target");
    is_built.then(|| {
        format!("{path}: a folder `target` is not tracked: `git rm -r --cached` it, and name it in .gitignore")
    })
}

fn check_file(root: &Path, path: &str) -> Result<Vec<String>> {
    if path.ends_with(".rs") {
        Ok(sources::check(path, &read(root, path)?))
    } else if path.ends_with(".md") && !path.contains("/tests/") {
        let exists = |target: &Path| root.join(target).exists();
        Ok(documents::check_links(path, &read(root, path)?, exists))
    } else if path == "Cargo.toml" || path.ends_with("/Cargo.toml") {
        manifests::check(path, &read(root, path)?)
    } else {
        Ok(Vec::new())
    }
}

/// All tests and modules.
fn declared(root: &Path, files: &[String]) -> Result<documents::Declared> {
    let sources = files.iter().filter(|path| path.ends_with(".rs"));
    let sources: Vec<(&str, String)> = sources
        .map(|path| Ok((path.as_str(), read(root, path)?)))
        .collect::<Result<_>>()?;
    Ok(documents::Declared::of(&sources))
}

fn read(root: &Path, path: &str) -> Result<String> {
    fs::read_to_string(root.join(path)).with_context(|| format!("could not read {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_not_tracked() {
        for path in ["target/a", "benches/target/criterion/report/index.html", "fuzz/target"] {
            let found = check_path(path).unwrap();
            assert!(found.starts_with(&format!("{path}: a folder `target`")), "{found}");
        }
        for path in ["host/src/target.rs", "docs/targets/a.md", "a/target-list"] {
            assert_eq!(check_path(path), None);
        }
    }
}
