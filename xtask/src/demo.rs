//! The demonstration: the real program, end to end, on the documents of this repository. Every command is shown as one
//! would type it, and one that does not end as it should ends the demonstration.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use crate::steps::Steps;
use crate::{guests, process, repository, test, wasip2};

/// The exit code of a denial, see `docs/cli.md`.
const DENIED: i32 = 3;

/// The verb.
pub(crate) fn run() -> Result<()> {
    let root = repository::root()?;
    let mut steps = Steps::new("demo");
    steps.run("target of the guests", wasip2::ensure)?;
    let components = steps.run("build the capabilities", || guests::build("capabilities"))?;
    steps.run("build the host", || test::build_host(&root))?;
    let stage = Stage::new(&root)?;
    steps.run("sign", || sign(&stage, &root, &components))?;
    steps.run("allow", || allow(&stage, &root))?;
    steps.run("run", || call(&stage, &root))?;
    steps.run("deny", || deny(&stage))?;
    steps.run("look back", || look_back(&stage))?;
    steps.finish();
    Ok(())
}

/// A folder of its own and the program.
struct Stage {
    folder: tempfile::TempDir,
    aral: PathBuf,
}

impl Stage {
    fn new(root: &Path) -> Result<Self> {
        let aral = repository::target_directory(root)?.join("debug/aral");
        ensure!(aral.is_file(), "{} was not built", aral.display());
        let folder = tempfile::Builder::new().prefix("aral-demo-").tempdir()?;
        println!("    in {}", folder.path().display());
        Ok(Self { folder, aral })
    }

    /// Calls a capability for a persona.
    fn invoke(&self, expected: i32, capability: &str, input: &str, persona: &str) -> Result<()> {
        let arguments = ["--input", input, "--persona", persona, "--development"];
        self.run(expected, &[&["invoke", capability], &arguments[..]].concat())
    }

    /// Shows and runs one command without arguments that have blanks. It must succeed.
    fn aral(&self, line: &str) -> Result<()> {
        self.run(0, &line.split(' ').collect::<Vec<_>>())
    }

    /// Shows and runs one command, whose exit code must be this.
    fn run(&self, expected: i32, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(&self.aral);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_remove("ARAL_CONFIG");
        let shown = process::show(&command);
        println!("\n$ {shown}");
        let status = command.status().with_context(|| format!("could not start `{shown}`"))?;
        match status.code() {
            Some(code) if code == expected && code == 0 => Ok(()),
            Some(code) if code == expected => {
                println!("(exit code {code}, as it should be)");
                Ok(())
            }
            _ => bail!("`{shown}` ended with {status} in place of exit code {expected}"),
        }
    }

    /// Shows and writes one file.
    fn write(&self, name: &str, text: &str) -> Result<()> {
        println!("\n$ cat {name}\n{}", text.trim_end());
        let path = self.folder.path().join(name);
        fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))
    }
}

/// A development key, and a manifest of two capabilities under it.
fn sign(stage: &Stage, root: &Path, components: &Path) -> Result<()> {
    stage.aral("keygen development")?;
    stage_capability(stage, root, components, "text-grep")?;
    stage_capability(stage, root, components, "markdown-render")?;
    stage.aral("inspect text-grep/text_grep.wasm")?;
    stage.aral("manifest build text-grep markdown-render")?;
    stage.aral("manifest sign manifest.json --key development.pem")?;
    stage.aral("manifest verify manifest.json --trust development.pub.pem")
}

/// Copies a component and its `capability.toml`, with the one thing changed that differs between machines: where the
/// granted folder lies.
fn stage_capability(stage: &Stage, root: &Path, components: &Path, id: &str) -> Result<()> {
    let file = format!("{}.wasm", id.replace('-', "_"));
    let folder = stage.folder.path().join(id);
    fs::create_dir(&folder)?;
    fs::copy(components.join(&file), folder.join(&file)).with_context(|| format!("{file} was not built"))?;
    let source = root.join("capabilities").join(id).join("capability.toml");
    let text = fs::read_to_string(&source).with_context(|| format!("could not read {}", source.display()))?;
    let mut table: toml::Table = text
        .parse()
        .with_context(|| format!("{} is not TOML", source.display()))?;
    table.insert("component".to_owned(), file.into());
    if let Some(paths) = table.get_mut("permissions").and_then(|all| all.get_mut("file:read")) {
        let mut granted = toml::Table::from_iter([("guest".to_owned(), "/data".into())]);
        granted.insert("host".to_owned(), documents(root)?.into());
        *paths = toml::Table::from_iter([("paths".to_owned(), vec![toml::Value::Table(granted)].into())]).into();
    }
    stage.write(&format!("{id}/capability.toml"), &toml::to_string(&table)?)
}

/// The folder that is searched: the documents of this repository.
fn documents(root: &Path) -> Result<String> {
    let folder = root.join("docs").canonicalize()?;
    folder
        .into_os_string()
        .into_string()
        .ok()
        .context("the path of the repository is not UTF-8")
}

/// What is on record of all this, and that nobody changed it since.
fn look_back(stage: &Stage) -> Result<()> {
    stage.aral("audit query --type invocation")?;
    stage.aral("audit verify")
}

/// The other two yeses: the operator's policy, and two personas of which one may read no file.
fn allow(stage: &Stage, root: &Path) -> Result<()> {
    let policy = format!(
        "state_dir = \"state\"\n\n[[trust]]\npublic_key = \"development.pub.pem\"\nkinds = [\"manifest\"]\n\n\
         [manifests]\nfiles = [\"manifest.json\"]\n\n\
         [policy]\npermissions = [\"file:read\"]\ncapabilities = [\"text-grep\", \"markdown-render\"]\n\n\
         [policy.file]\nread_roots = [{}]\n",
        toml::Value::from(documents(root)?)
    );
    stage.write("aral.toml", &policy)?;
    let both = "--allow-capability text-grep --allow-capability markdown-render";
    stage.aral(&format!(
        "persona new --id reader --out reader.json --allow-permission file:read {both}"
    ))?;
    stage.aral(&format!("persona new --id guest --out guest.json {both}"))?;
    println!("\nWhat is granted, and by whom:");
    stage.aral("explain text-grep --persona reader.json --development")
}

/// Two calls on real input: one that needs a folder, one that needs nothing.
fn call(stage: &Stage, root: &Path) -> Result<()> {
    let search = json!({ "pattern": "limit\\.[a-z]+", "include": ["*.md"], "matches_max": 5 });
    stage.invoke(0, "text-grep", &search.to_string(), "reader.json")?;
    let readme = fs::read_to_string(root.join("README.md"))?;
    let opening: Vec<&str> = readme.lines().take(3).collect();
    let input = json!({ "markdown": opening.join("\n") });
    stage.invoke(0, "markdown-render", &input.to_string(), "guest.json")
}

/// Two calls that must not succeed: a persona without the permission, and a folder outside of the grant.
fn deny(stage: &Stage) -> Result<()> {
    println!("\nA search for a persona that may read no file:");
    let search = json!({ "pattern": "limit" });
    stage.invoke(DENIED, "text-grep", &search.to_string(), "guest.json")?;
    println!("\nThe right persona, and a folder that nobody granted:");
    let escape = json!({ "pattern": "root", "folder": "/data/../../../../etc" });
    stage.invoke(DENIED, "text-grep", &escape.to_string(), "reader.json")
}
