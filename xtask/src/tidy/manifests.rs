//! Every package takes the lints of its workspace.

use anyhow::{Context, Result};

/// One finding for a package that opts out. A Cargo.toml without a package has nothing to opt in.
pub(super) fn check(path: &str, text: &str) -> Result<Vec<String>> {
    let manifest: toml::Table = text.parse().with_context(|| format!("{path} is not TOML"))?;
    if !manifest.contains_key("package") {
        return Ok(Vec::new());
    }
    // A package that is a workspace of its own has its lints in place.
    if manifest.contains_key("workspace") && manifest.contains_key("lints") {
        return Ok(Vec::new());
    }
    let shared = manifest
        .get("lints")
        .and_then(|lints| lints.get("workspace"))
        .and_then(toml::Value::as_bool);
    if shared == Some(true) {
        Ok(Vec::new())
    } else {
        Ok(vec![format!("{path}: no `workspace = true` under [lints]")])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_takes_the_lints_of_its_workspace() {
        let check = |text| check("x/Cargo.toml", text).unwrap();
        let missing = ["x/Cargo.toml: no `workspace = true` under [lints]"];
        assert_eq!(check("[package]\nname = 'x'\n"), missing);
        assert_eq!(check("[package]\nname = 'x'\n[lints]\nworkspace = false\n"), missing);
        assert_eq!(check("[package]\nname = 'x'\n[lints]\nworkspace = true\n"), [""; 0]);
        assert_eq!(check("[workspace]\n"), [""; 0]);
        assert_eq!(check("[workspace]\n[package]\nname = 'x'\n"), missing);
        assert_eq!(
            check("[workspace]\n[package]\nname = 'x'\n[lints.rust]\nunused = 'deny'\n"),
            [""; 0]
        );
        assert!(super::check("x/Cargo.toml", "[").is_err());
    }
}
