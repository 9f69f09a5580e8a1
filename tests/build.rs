//! Finds the guests that `cargo xtask guests` has built, makes components of those that are text, and writes a constant
//! for each with a macro for each suite. It never builds a guest: a missing or stale one fails the build and says how to
//! make it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, Result, bail, ensure};
use wit_component::{ComponentEncoder, StringEncoding};

/// The prefixes of guest names. Each has a module of the same name in `it/`.
const SUITES: [&str; 4] = ["filesystem", "isolation", "network", "runtime"];
/// The components of the example capabilities that are tested from end to end.
const CAPABILITIES: [&str; 9] = [
    "http_fetch",
    "markdown_render",
    "notes",
    "report_write",
    "run_program",
    "table_query",
    "text_grep",
    "webhook_post",
    "word-count",
];
/// What runs when something is missing.
const REMEDY: &str = "run `cargo xtask guests`";

struct Guest {
    name: String,
    component: PathBuf,
    /// The variant of `Shape`.
    shape: &'static str,
}

fn main() -> Result<()> {
    let package = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let sources = package.join("guests");
    let built = target_directory(&sources)?.join("wasm32-wasip2/release");

    let newest_shared = newest(&sources.join("src"), "rs")?;
    let mut guests = Vec::new();
    for (folder, products, shape) in [
        ("src/bin", built.clone(), "Command"),
        ("examples", built.join("examples"), "Tool"),
    ] {
        for source in files(&sources.join(folder), "rs")? {
            guests.push(compiled(&source, &products, shape, newest_shared)?);
        }
    }
    for source in files(&sources.join("wat"), "wat")? {
        if stem(&source)? != "prelude" {
            guests.push(from_text(&source, &package, &out)?);
        }
    }
    println!(
        "cargo::rustc-env=ARAL_CAPABILITIES={}",
        capabilities(&package.join("../capabilities"))?.display()
    );
    println!("cargo::rerun-if-changed={}", package.join("../wit/1.0.0").display());
    println!("cargo::rerun-if-changed={}", sources.display());
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_DIR");
    println!("cargo::rustc-env=ARAL_GUESTS={}", out.join("guests.rs").display());
    fs::write(out.join("guests.rs"), generate(&guests)?)?;
    Ok(())
}

/// Where the guests' own workspace puts what it builds. Asked of cargo, which knows the configuration.
fn target_directory(workspace: &Path) -> Result<PathBuf> {
    let cargo = std::env::var_os("CARGO").context("cargo sets CARGO")?;
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(workspace)
        .output()?;
    ensure!(
        output.status.success(),
        "cargo metadata failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let folder = metadata.get("target_directory").and_then(serde_json::Value::as_str);
    Ok(folder.context("cargo names no target directory")?.into())
}

/// The folder with the example capabilities, all of which must be built. Their own tests watch over their sources; here
/// it matters that what runs is there.
fn capabilities(workspace: &Path) -> Result<PathBuf> {
    let built = target_directory(workspace)?.join("wasm32-wasip2/release");
    for name in CAPABILITIES {
        let component = built.join(name).with_extension("wasm");
        ensure!(
            component.is_file(),
            "the capability `{name}` is not built ({} is missing): {REMEDY}",
            component.display()
        );
        println!("cargo::rerun-if-changed={}", component.display());
    }
    Ok(built)
}

fn files(folder: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|found| found == extension) {
            files.push(path);
        }
    }
    ensure!(
        !files.is_empty(),
        "there is no .{extension} file in {}",
        folder.display()
    );
    files.sort();
    Ok(files)
}

fn stem(path: &Path) -> Result<String> {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    Ok(stem
        .with_context(|| format!("{} has no name", path.display()))?
        .to_owned())
}

fn newest(folder: &Path, extension: &str) -> Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    for file in files(folder, extension)? {
        newest = newest.max(fs::metadata(&file)?.modified()?);
    }
    Ok(newest)
}

/// A guest in Rust: its component must be there, and younger than its sources.
fn compiled(source: &Path, products: &Path, shape: &'static str, newest_shared: SystemTime) -> Result<Guest> {
    let name = stem(source)?;
    let component = products.join(&name).with_extension("wasm");
    let Ok(found) = fs::metadata(&component) else {
        bail!(
            "the guest `{name}` is not built ({} is missing): {REMEDY}",
            component.display()
        );
    };
    let changed = fs::metadata(source)?.modified()?.max(newest_shared);
    ensure!(
        found.modified()? >= changed,
        "the guest `{name}` is older than its source: {REMEDY}"
    );
    println!("cargo::rerun-if-changed={}", component.display());
    Ok(Guest { name, component, shape })
}

/// A guest in text: a whole component, or the fields of a module that becomes a tool.
fn from_text(source: &Path, package: &Path, out: &Path) -> Result<Guest> {
    let name = stem(source)?;
    let text = fs::read_to_string(source)?;
    let bytes = if text.starts_with("(component") {
        wat::parse_str(&text)
    } else {
        let prelude = fs::read_to_string(package.join("guests/wat/prelude.wat"))?;
        wat::parse_str(format!("(module\n{prelude}\n{text}\n)"))
    };
    let mut bytes = bytes.with_context(|| format!("{} is not WebAssembly text", source.display()))?;
    if !text.starts_with("(component") {
        bytes = encode(bytes, package).with_context(|| format!("{} does not make a tool", source.display()))?;
    }
    let component = out.join(&name).with_extension("wasm");
    fs::write(&component, bytes)?;
    Ok(Guest {
        name,
        component,
        shape: "Tool",
    })
}

fn encode(mut module: Vec<u8>, package: &Path) -> Result<Vec<u8>> {
    let mut resolve = wit_parser::Resolve::default();
    resolve.push_dir(package.join("../wit/1.0.0"))?;
    let world =
        "package aral:tests; world text { import aral:capability/log@1.0.0; export aral:capability/tool@1.0.0; }";
    let tests = resolve.push_str("text.wit", world)?;
    let world = resolve.select_world(&[tests], Some("text"))?;
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
    ComponentEncoder::default().module(&module)?.validate(true).encode()
}

/// A constant for each guest, and for each suite a macro that hands the name of each of its guests to another macro.
fn generate(guests: &[Guest]) -> Result<String> {
    let mut text = String::new();
    let mut suites: BTreeMap<&str, Vec<&str>> = SUITES.into_iter().map(|suite| (suite, Vec::new())).collect();
    for guest in guests {
        let (suite, _) = guest
            .name
            .split_once('_')
            .with_context(|| format!("`{}` has no suite", guest.name))?;
        let names = suites.get_mut(suite).with_context(|| {
            format!(
                "`{}` begins with none of {SUITES:?}: name the file after the suite that tests it",
                guest.name
            )
        })?;
        ensure!(
            !names.contains(&guest.name.as_str()),
            "there are two guests with the name `{}`",
            guest.name
        );
        names.push(&guest.name);
        writeln!(
            text,
            "/// The guest of this name.\npub(crate) const {}: Guest = Guest {{ name: {:?}, path: {:?}, shape: Shape::{} }};",
            guest.name.to_uppercase(),
            guest.name,
            guest.component,
            guest.shape
        )?;
    }
    for (suite, names) in suites {
        writeln!(text, "macro_rules! foreach_{suite} {{ ($macro:ident) => {{")?;
        for name in names {
            writeln!(text, "    $macro!({name});")?;
        }
        writeln!(text, "}} }}\npub(crate) use foreach_{suite};")?;
    }
    Ok(text)
}
