//! `aral build`: cargo for wasm32-wasip2, then a look at what came out. It runs the build scripts of the capability's
//! dependencies, as cargo does: build what you trust, or build it in a container.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

use aral_capability::manifest::CapabilityToml;
use aral_capability::{Inspection, Warning, check_imports};
use aral_contract::{Code, Digest, Failure};
use serde::Deserialize;
use serde_json::{Value, json};

use super::arguments::Build;
use super::exit::Exit;
use super::output::{Done, Output};
use super::progress::Progress;
use super::{files, inspect, session};

/// What `rustc` calls the only target that is built for.
pub(crate) const TARGET: &str = "wasm32-wasip2";
/// Messages of cargo that are read. Stops a build script from filling memory through cargo.
const MESSAGE_BYTES_MAX: u64 = 256 << 20;
/// Cargo's own words that are kept, to be shown if it fails.
const WORD_BYTES_MAX: u64 = 1 << 20;

pub(crate) fn run(arguments: &Build, output: &Output) -> Done {
    let folder = &arguments.folder;
    if !files::is_there(&folder.join("Cargo.toml")) {
        return Err(Failure::new(
            Code::ConfigInvalid,
            format!("there is no Cargo.toml in `{}`", folder.display()),
        )
        .with_hint("`aral new NAME` writes a capability to begin with")
        .into());
    }
    let source_path = folder.join("capability.toml");
    let source = match files::is_there(&source_path) {
        true => Some(CapabilityToml::parse(&files::named_text(&source_path)?).map_err(Failure::from)?),
        false => None,
    };
    let built = cargo(folder, output)?;
    let component = choose(&built, source.as_ref())?;
    let inspection = session::inspect(&files::named_component(component)?)?;
    let warnings = match &source {
        Some(source) => check(source, &inspection, folder, component)?,
        None => vec![Warning {
            message: "there is no capability.toml: it can be run, but not be put into a manifest".to_owned(),
            hint: "`aral new` shows what stands in one".to_owned(),
        }],
    };
    for warning in &warnings {
        output.warn(&format!("{}\nhint: {}", warning.message, warning.hint));
    }
    let mut object = inspect::object(&inspection);
    if let Some(members) = object.as_object_mut() {
        members.insert("component".to_owned(), json!(component));
        members.insert("warnings".to_owned(), json!(warnings));
    }
    let shown = component.display();
    output.answer(
        &format!("component    {shown}\n{}", inspect::human(&inspection)),
        &object,
    )?;
    Ok(Exit::Success)
}

fn check(
    source: &CapabilityToml,
    inspection: &Inspection,
    folder: &Path,
    component: &Path,
) -> Result<Vec<Warning>, Failure> {
    if inspection.shape != Some(source.shape()) {
        let export = source.shape().export();
        let message = format!(
            "capability.toml says shape \"{}\", and the component does not export `{export}`",
            source.shape()
        );
        return Err(
            Failure::new(Code::ComponentInvalid, message).with_hint(match inspection.shape {
                Some(shape) => format!("write in capability.toml: shape = \"{shape}\""),
                None => "a tool needs `capability! { … }` and crate-type = [\"cdylib\"], a command needs src/main.rs"
                    .to_owned(),
            }),
        );
    }
    let mut warnings = check_imports(inspection, &source.permissions)?;
    let declared = files::named_component(&folder.join(&source.component));
    if !declared.is_ok_and(|bytes| Digest::of(&bytes) == inspection.digest) {
        warnings.push(Warning {
            message: format!(
                "capability.toml names `{}`, which is not what was built",
                source.component.escape_debug()
            ),
            hint: format!(
                "write in capability.toml: component = \"{}\", as a path relative to it",
                component.display()
            ),
        });
    }
    Ok(warnings)
}

/// Runs cargo and returns the `.wasm` files it made of this package.
fn cargo(folder: &Path, output: &Output) -> Result<Vec<PathBuf>, Failure> {
    let mut child = Command::new("cargo")
        .args([
            "build",
            "--release",
            "--target",
            TARGET,
            "--message-format",
            "json-render-diagnostics",
        ])
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(if output.quiet || output.stderr_is_terminal {
            Stdio::piped()
        } else {
            Stdio::inherit()
        })
        .spawn()
        .map_err(|error| {
            Failure::new(Code::ConfigInvalid, format!("cargo cannot be started: {error}"))
                .with_hint("install Rust, for example with rustup, and have `cargo` in PATH")
        })?;
    // Cargo's own words are kept for the case that it fails; a thread reads them, so that cargo never waits for a reader.
    let words = child.stderr.take().map(|stderr| {
        std::thread::spawn(move || {
            let mut stderr = stderr;
            let mut words = Vec::new();
            let _what_was_read_is_enough = stderr.by_ref().take(WORD_BYTES_MAX).read_to_end(&mut words);
            let _nobody_reads_on = io::copy(&mut stderr, &mut io::sink());
            String::from_utf8_lossy(&words).into_owned()
        })
    });
    let built = child
        .stdout
        .take()
        .map(|stdout| artifacts(stdout, &Progress::start(output, "building")));
    let status = child.wait().map_err(Failure::internal)?;
    let words = words.and_then(|thread| thread.join().ok()).unwrap_or_default();
    if status.success() {
        return Ok(built.unwrap_or_default());
    }
    let hint = if words.contains("E0463") || words.contains("target may not be installed") {
        format!("install the target: `rustup target add {TARGET}`; `aral doctor` checks it")
    } else {
        "read what cargo says above".to_owned()
    };
    output.details(&words);
    Err(Failure::new(Code::ConfigInvalid, "cargo could not build the capability").with_hint(hint))
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    #[serde(default)]
    target: Value,
}

fn artifacts(stdout: ChildStdout, progress: &Progress) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in BufReader::new(stdout.take(MESSAGE_BYTES_MAX))
        .lines()
        .map_while(Result::ok)
    {
        let Ok(message) = serde_json::from_str::<Message>(&line) else {
            continue;
        };
        if message.reason == "compiler-artifact" {
            progress.step(message.target.get("name").and_then(Value::as_str).unwrap_or_default());
            let is_component = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "wasm");
            found.extend(message.filenames.into_iter().filter(is_component));
        }
    }
    found
}

/// The one component that was built, or the one that capability.toml names.
fn choose<'a>(built: &'a [PathBuf], source: Option<&CapabilityToml>) -> Result<&'a Path, Failure> {
    let named = source.and_then(|source| Path::new(&source.component).file_name());
    let by_name = built.iter().find(|path| named.is_some() && path.file_name() == named);
    match (built, by_name) {
        (_, Some(path)) => Ok(path),
        ([path], None) => Ok(path),
        ([], None) => Err(Failure::new(Code::ConfigInvalid, "the package builds no component")
            .with_hint("add to Cargo.toml: [lib] crate-type = [\"cdylib\"], or a program in src/main.rs")),
        (several, None) => {
            let names: Vec<_> = several.iter().map(|path| path.display().to_string()).collect();
            Err(Failure::new(
                Code::ConfigInvalid,
                format!("the package builds several components: {}", names.join(", ")),
            )
            .with_hint("name one in capability.toml: component = \"target/wasm32-wasip2/release/NAME.wasm\""))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_component_is_the_only_one_or_the_one_that_is_named() {
        let source = |component: &str| {
            let text = format!("id = \"a\"\nversion = \"1.0.0\"\nshape = \"tool\"\ncomponent = \"{component}\"\n");
            CapabilityToml::parse(&text).unwrap()
        };
        let built = [PathBuf::from("/t/a.wasm"), PathBuf::from("/t/b.wasm")];
        assert_eq!(choose(&built, Some(&source("../x/b.wasm"))).unwrap(), built[1]);
        assert_eq!(choose(&built[..1], Some(&source("c.wasm"))).unwrap(), built[0]);
        assert!(choose(&built, None).unwrap_err().message.contains("several"));
        assert!(choose(&[], None).unwrap_err().message.contains("no component"));
    }
}
