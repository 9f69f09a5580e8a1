//! The layer map: a crate of the host depends on lower layers only. The number stands in its `[package.metadata]`.

use std::path::Path;

use crate::repository::{Metadata, Package};

/// Folder of the crates that have a layer.
const LAYERED: &str = "host";

/// One finding for each edge that does not go down and each crate without a layer.
pub(super) fn check(metadata: &Metadata, root: &Path) -> Vec<String> {
    let members: Vec<&Package> = metadata
        .packages
        .iter()
        .filter(|package| metadata.workspace_members.contains(&package.id))
        .collect();
    let layered = |package: &&Package| package.manifest_path.starts_with(root.join(LAYERED));
    let mut findings = Vec::new();
    for package in members.iter().copied().filter(layered) {
        let Some(own) = layer(package) else {
            findings.push(format!("{}: no `layer = N` in [package.metadata]", package.name));
            continue;
        };
        for dependency in package
            .dependencies
            .iter()
            .filter(|dependency| dependency.path.is_some())
        {
            let target = members.iter().copied().find(|member| member.name == dependency.name);
            match target.and_then(layer) {
                Some(other) if other < own => {}
                Some(other) => {
                    findings.push(format!(
                        "{} (layer {own}) depends on {} (layer {other})",
                        package.name, dependency.name
                    ));
                }
                None => findings.push(format!(
                    "{} (layer {own}) depends on {}, which has no layer",
                    package.name, dependency.name
                )),
            }
        }
    }
    findings
}

fn layer(package: &Package) -> Option<u64> {
    package.metadata.get("layer")?.as_u64()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn package(name: &str, folder: &str, metadata: Value, dependencies: &[&str]) -> Value {
        let dependencies: Vec<_> = dependencies
            .iter()
            .map(|name| json!({ "name": name, "path": format!("/r/{name}") }))
            .collect();
        json!({
            "id": name, "name": name, "manifest_path": format!("/r/{folder}/Cargo.toml"),
            "metadata": metadata, "dependencies": dependencies,
        })
    }

    fn findings(packages: &[Value]) -> Vec<String> {
        let members: Vec<_> = packages.iter().map(|package| package["name"].clone()).collect();
        let metadata = json!({ "packages": packages, "workspace_members": members, "target_directory": "/r/target" });
        check(&serde_json::from_value(metadata).unwrap(), Path::new("/r"))
    }

    #[test]
    fn an_edge_goes_down_or_is_a_finding() {
        let low = package("low", "host/crates/low", json!({ "layer": 0 }), &[]);
        let high = package("high", "host/crates/high", json!({ "layer": 2 }), &["low"]);
        assert_eq!(findings(&[low.clone(), high]), Vec::<String>::new());

        let same = package("same", "host/crates/same", json!({ "layer": 0 }), &["low"]);
        assert_eq!(
            findings(&[low.clone(), same]),
            ["same (layer 0) depends on low (layer 0)"]
        );

        let upward = package("low", "host/crates/low", json!({ "layer": 0 }), &["high"]);
        let high = package("high", "host/crates/high", json!({ "layer": 2 }), &[]);
        assert_eq!(findings(&[upward, high]), ["low (layer 0) depends on high (layer 2)"]);
    }

    #[test]
    fn a_crate_of_the_host_without_a_layer_is_a_finding() {
        let bare = package("bare", "host/crates/bare", Value::Null, &[]);
        assert_eq!(
            findings(std::slice::from_ref(&bare)),
            ["bare: no `layer = N` in [package.metadata]"]
        );
        let above = package("above", "host", json!({ "layer": 8 }), &["tests"]);
        let tests = package("tests", "tests", Value::Null, &[]);
        assert_eq!(
            findings(&[above, tests]),
            ["above (layer 8) depends on tests, which has no layer"]
        );
    }
}
