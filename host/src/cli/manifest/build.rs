//! `aral manifest build`: from folders of capabilities to an unsigned manifest with the components beside it. Components
//! that describe themselves do so here, once, in an empty sandbox.

use std::path::Path;

use aral_capability::manifest::build::{Part, body};
use aral_capability::manifest::source::Described;
use aral_capability::manifest::{self, CapabilityToml, ManifestError};
use aral_capability::registry::compile_failure;
use aral_capability::{Descriptor, Inspection, describe};
use aral_contract::document::{Kind, json as strict};
use aral_contract::{Clock as _, Failure, Metering};
use aral_runtime::{Runtime, SystemClock};
use serde_json::{Value, json};

use super::verify::COMPONENTS;
use crate::cli::arguments::ManifestBuild;
use crate::cli::exit::Exit;
use crate::cli::files::Place;
use crate::cli::output::{Done, Output};
use crate::cli::progress::Progress;
use crate::cli::{files, session};

/// For how long an unsigned manifest is valid; `aral manifest sign` sets its own time.
const UNSIGNED_DAYS: u32 = 90;

/// What one source leads to.
struct Found {
    source: CapabilityToml,
    component: Vec<u8>,
    inspection: Inspection,
    descriptor: Descriptor,
}

pub(crate) fn run(arguments: &ManifestBuild, output: &Output) -> Done {
    // Before the components are described, which takes a while.
    let place = files::place_or_free(&arguments.out)?;
    refuse_loss(&arguments.out, &place)?;
    let runtime = session::plain_runtime()?;
    let progress = Progress::start(output, "describing");
    let mut found = Vec::new();
    for source in &arguments.sources {
        progress.step(&source.display().to_string());
        found.push(find(source, &runtime)?);
    }
    drop(progress);
    let parts = found.iter().map(|one| Part {
        source: &one.source,
        inspection: &one.inspection,
        descriptor: one.descriptor.clone(),
    });
    let (body, warnings) = body(parts)?;
    for warning in &warnings {
        output.warn(&format!("{}\nhint: {}", warning.message, warning.hint));
    }
    let now = SystemClock::new().now();
    let header = manifest::header(1, now, super::expiry(now, UNSIGNED_DAYS)?);
    let document = manifest::unsigned(&header, &body)?;
    let components = arguments.out.with_file_name(COMPONENTS);
    files::ensure_folder(&components)?;
    for one in &found {
        // Its name is known to whoever made the folder, who may have put a link there.
        let path = components.join(format!("{}.wasm", one.inspection.digest));
        files::put(&path, &one.component)?;
    }
    let written = place.write(format!("{document:#}\n").as_bytes());
    written.map_err(files::failure)?;
    let shown = arguments.out.display();
    output.answer(
        &format!("wrote {shown}, unsigned\n{}", super::listing(&body)),
        &json!({"manifest": arguments.out, "signed": false, "capabilities": body.capabilities(), "warnings": warnings}),
    )?;
    output.note(&format!("hint: sign it: `aral manifest sign {shown} --key KEY.pem`"));
    Ok(Exit::Success)
}

/// Refuses to write over anything but what building leaves there: a manifest that nobody signed.
fn refuse_loss(out: &Path, place: &Place) -> Result<(), Failure> {
    let Some(bytes) = place.bytes() else {
        return Ok(());
    };
    let document = strict::parse(bytes).unwrap_or_default();
    let is_manifest = document.get("schema").and_then(Value::as_str) == Some(Kind::Manifest.schema());
    match (is_manifest, document.get("signature")) {
        (true, None) => Ok(()),
        (true, Some(_)) => Err(files::exists(out).with_hint(
            "a signed manifest is there, and a new one is unsigned: \
             build with `--out NEW.json` in the same folder, sign that, and then give it this name: `mv`",
        )),
        (false, _) => Err(files::exists(out)),
    }
}

fn find(source: &Path, runtime: &Runtime) -> Result<Found, Failure> {
    let is_folder = files::is_folder(source).map_err(files::failure)?;
    let (path, text) = if is_folder {
        let path = source.join("capability.toml");
        let text = files::named_text(&path);
        (path, text)
    } else {
        (source.to_owned(), files::text(source))
    };
    let text = text.map_err(|failure| match failure.hint {
        None => failure.with_hint("name a folder with a capability.toml, or that file; it names the component"),
        Some(_) => failure,
    })?;
    let in_file = |error: ManifestError| Failure::from(error).in_file(&path);
    let source = CapabilityToml::parse(&text).map_err(in_file)?;
    let component_path = path.with_file_name(&source.component);
    let component = files::named_component(&component_path).map_err(|failure| match failure.hint {
        None => failure.with_hint("build it first: `aral build`, or correct `component` in capability.toml"),
        Some(_) => failure,
    })?;
    // Looked at before it runs: what is no tool gets a clear word instead of a trap.
    let inspection = session::inspect(&component).map_err(|failure| failure.in_file(&component_path))?;
    let descriptor = match &source.described {
        Described::ByItself => session::block_on(async {
            let compiled = runtime.compile(&component, Metering::Metered).await;
            describe(runtime, &compiled.map_err(|error| compile_failure(&error))?).await
        })?
        .map_err(|failure: Failure| failure.in_file(&component_path))?,
        Described::ByFile {
            title,
            description,
            input_schema,
            output_schema,
        } => {
            let (input, answer) = (
                files::text_beside(&path, input_schema)?,
                files::text_beside(&path, output_schema)?,
            );
            Descriptor::parse(title.clone(), description.clone(), &input, &answer).map_err(in_file)?
        }
    };
    Ok(Found {
        source,
        component,
        inspection,
        descriptor,
    })
}
