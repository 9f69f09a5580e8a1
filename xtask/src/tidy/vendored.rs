//! The vendored WASI interfaces have no local edits: they are, byte for byte, those of the library that implements them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::repository::Metadata;

/// Our copy.
const COPY: &str = "wit/1.0.0/deps";
/// The package whose `wit/deps` it is a copy of, in the version that Cargo.lock selects.
const ORIGIN: &str = "wasmtime-wasi-http";

type Files = BTreeMap<String, Vec<u8>>;

/// One finding for each file that is missing, too many or different.
pub(super) fn check(metadata: &Metadata, root: &Path) -> Result<Vec<String>> {
    let package = metadata.packages.iter().find(|package| package.name == ORIGIN);
    let manifest = &package
        .with_context(|| format!("{ORIGIN} is not among the dependencies"))?
        .manifest_path;
    let origin = manifest.parent().context("a manifest has a folder")?.join("wit/deps");
    let (origin, copy) = (files(&origin)?, files(&root.join(COPY))?);
    ensure!(!origin.is_empty(), "{ORIGIN} ships no interfaces any more");
    Ok(compare(&origin, &copy))
}

fn files(folder: &Path) -> Result<Files> {
    let mut files = Files::new();
    for entry in fs::read_dir(folder).with_context(|| format!("could not list {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            files.extend(
                self::files(&path)?
                    .into_iter()
                    .map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)),
            );
        } else {
            files.insert(
                name,
                fs::read(&path).with_context(|| format!("could not read {}", path.display()))?,
            );
        }
    }
    Ok(files)
}

fn compare(origin: &Files, copy: &Files) -> Vec<String> {
    let mut findings = Vec::new();
    for (name, bytes) in origin {
        match copy.get(name) {
            None => findings.push(format!("{COPY}/{name}: missing, {ORIGIN} has it")),
            Some(own) if own != bytes => findings.push(format!("{COPY}/{name}: differs from {ORIGIN}")),
            Some(_) => {}
        }
    }
    for name in copy.keys().filter(|name| !origin.contains_key(*name)) {
        findings.push(format!("{COPY}/{name}: {ORIGIN} does not have it"));
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(entries: &[(&str, &str)]) -> Files {
        entries
            .iter()
            .map(|(name, text)| ((*name).to_owned(), text.as_bytes().to_vec()))
            .collect()
    }

    #[test]
    fn a_local_edit_is_a_finding() {
        let origin = set(&[("http.wit", "a"), ("io.wit", "b")]);
        assert_eq!(compare(&origin, &origin), [""; 0]);
        let copy = set(&[("http.wit", "a "), ("own.wit", "c")]);
        assert_eq!(
            compare(&origin, &copy),
            [
                "wit/1.0.0/deps/http.wit: differs from wasmtime-wasi-http",
                "wit/1.0.0/deps/io.wit: missing, wasmtime-wasi-http has it",
                "wit/1.0.0/deps/own.wit: wasmtime-wasi-http does not have it",
            ]
        );
    }

    #[test]
    fn folders_are_read_to_the_bottom() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("io")).unwrap();
        fs::write(folder.path().join("io/a.wit"), "x").unwrap();
        assert_eq!(files(folder.path()).unwrap(), set(&[("io/a.wit", "x")]));
    }
}
