//! `aral run`: a component without a manifest, with exactly what `--allow` gives. Nobody signed for it, so that it wants
//! `--development` and is warned about each time.

use std::path::Path;

use aral_capability::{Shape, Ungranted};
use aral_contract::limits::NAME_BYTES_MAX;
use aral_contract::{Blame, CapabilityId, Clock as _, Code, Failure};
use aral_orchestration::dispatch::{DevelopmentRun, RunReport};
use aral_runtime::SystemClock;
use ipnet::IpNet;

use super::arguments::Run;
use super::configured::Configured;
use super::observe::{Facts, Observed};
use super::output::{Done, Output};
use super::watch::Watch;
use super::{allow, files, report, session};

pub(crate) fn run(arguments: &Run, configured: &Configured, output: &Output) -> Done {
    if !arguments.development {
        return Err(Failure::new(
            Code::ConfigInvalid,
            "`aral run` runs what nobody signed, with rights that nobody but you allows",
        )
        .with_hint(
            "add `--development` if that is what you want; for anything else sign a manifest and use `aral invoke`",
        )
        .into());
    }
    let run = DevelopmentRun {
        permissions: allow::permissions(&arguments.allow, files::absolute_text)?,
        limits: allow::limits(&arguments.limit)?,
        networks: networks(&arguments.allow_network)?,
        ungranted: match arguments.observe {
            Some(_) => Ungranted::Observe,
            None => Ungranted::Refuse,
        },
        component: files::component(&arguments.file)?,
    };
    let input = files::input(&arguments.input)?;
    // Before the run: its answer would be lost.
    arguments.observe.as_deref().map_or(Ok(()), files::refuse_existing)?;
    let watch = Watch::new(output);
    let host = session::development_host(configured, &watch)?;
    let mut report =
        session::block_on(session::patiently(output, host.dangerous_run(&run, &input)))?.map_err(|failure| {
            match failure.code {
                Code::ComponentInvalid => failure.in_file(&arguments.file),
                _other => worded(failure),
            }
        })?;
    report.outcome.result = report.outcome.result.map_err(worded);
    let events = watch.take();
    if let Some(path) = &arguments.observe {
        let observed = Observed::of(&events);
        let entry = entry(arguments, &run, &report, &observed, path)?;
        files::create(path, entry.as_bytes())?;
        let denied = observed.iter().filter(|(_, _, attempt)| attempt.denied > 0).count();
        output.note(&format!(
            "wrote {} with the {denied} denied {}: read it before you use it",
            path.display(),
            if denied == 1 { "attempt" } else { "attempts" },
        ));
    }
    report::outcome(&report.outcome, &events, output)
}

/// Here rights and limits come from the command line and not from a capability.toml.
fn worded(failure: Failure) -> Failure {
    match failure.code {
        Code::ImportUncovered => failure.with_hint(
            "give it with `--allow PERMISSION=SCOPE` (`aral run --help`), or see what it reaches for: `--observe OUT.toml`",
        ),
        code if code.blame() == Blame::Limit && failure.hint.is_some() => {
            failure.with_hint("if that is too little, give it more: `--limit NAME=NUMBER`, such as `--limit fuel=1000000`")
        }
        _other => failure,
    }
}

fn entry(
    arguments: &Run,
    run: &DevelopmentRun,
    report: &RunReport,
    observed: &Observed,
    path: &Path,
) -> Result<String, Failure> {
    let component = files::absolute(&arguments.file)?;
    let out = files::absolute(path)?;
    let folder = out.parent().unwrap_or(&out);
    let inspection = session::inspect(&run.component)?;
    let id: CapabilityId = match id_of(&arguments.file).parse() {
        Ok(id) => id,
        Err(_) => "component".parse().map_err(Failure::internal)?,
    };
    Ok(observed.entry(&Facts {
        id,
        shape: inspection.shape.unwrap_or(Shape::Tool),
        component: files::relative(folder, &component).display().to_string(),
        granted: &run.permissions,
        usage: &report.outcome.usage,
        at: SystemClock::new().now(),
        imports: &inspection.imports,
        is_folder: &|path| files::is_folder(Path::new(path)).unwrap_or(false),
    }))
}

/// An id from the name of the file: a person will choose a better one.
fn id_of(file: &Path) -> String {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let plain = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '-';
    let name: String = stem
        .to_ascii_lowercase()
        .chars()
        .map(|one| if plain(one) { one } else { '-' })
        .collect();
    name.trim_matches('-').chars().take(NAME_BYTES_MAX).collect()
}

fn networks(options: &[String]) -> Result<Vec<IpNet>, Failure> {
    let parse = |option: &String| {
        option.parse().map_err(|_| {
            Failure::new(
                Code::ConfigInvalid,
                format!("`--allow-network {}` is not a network", option.escape_debug()),
            )
            .with_hint("write it with its length: `--allow-network 127.0.0.0/8`")
        })
    };
    options.iter().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_out_of_file_names() {
        for (file, id) in [("a/Text_Grep.wasm", "text-grep"), ("x y.wasm", "x-y"), ("_.wasm", "")] {
            assert_eq!(id_of(Path::new(file)), id);
        }
    }

    #[test]
    fn networks_are_read_or_refused_with_the_form() {
        let read = |text: &str| networks(&[text.to_owned()]);
        assert_eq!(read("127.0.0.0/8").unwrap().len(), 1);
        assert_eq!(read("localhost").unwrap_err().code, Code::ConfigInvalid);
    }
}
