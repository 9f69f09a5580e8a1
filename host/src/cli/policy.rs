//! `aral policy`: the policy that a running server goes by, and what a candidate would change, read from the audit log.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use aral_audit::Filter;
use aral_capability::manifest;
use aral_contract::{Clock as _, Failure};
use aral_host::Config;
use aral_host::admin::answers::PolicyInForce;
use aral_host::simulate::{Answer, Documents, Simulated, Simulation, simulate};
use aral_persona::persona;
use aral_runtime::SystemClock;
use serde_json::{Value, json};

use super::arguments::policy::{Policy, PolicySimulate};
use super::audit;
use super::configured::Configured;
use super::desk::{Remote, understood};
use super::exit::Exit;
use super::files;
use super::output::{Done, Output};
use super::text;

/// The persona that verbs take when nobody names one.
const PERSONA: &str = "persona.json";

pub(crate) fn run(verb: &Policy, configured: &Configured, output: &Output) -> Done {
    match verb {
        Policy::Show => shown(configured, output),
        Policy::Simulate(arguments) => simulated(arguments, configured, output),
    }
}

fn shown(configured: &Configured, output: &Output) -> Done {
    let answer: Value = Remote::running_told(configured, output)?.get(PolicyInForce::<Value>::PATH)?;
    let in_force: PolicyInForce<Value> = understood(answer.clone())?;
    let policy = serde_json::to_string_pretty(&in_force.policy).map_err(Failure::internal)?;
    output.answer(&format!("digest {}\n{policy}", in_force.digest), &answer)?;
    Ok(Exit::Success)
}

fn simulated(arguments: &PolicySimulate, configured: &Configured, output: &Output) -> Done {
    let candidate = Config::load(&arguments.policy).map_err(|failure| match files::is_absent(&arguments.policy) {
        true => failure.with_hint("name a file that is there: `--policy FILE`"),
        false => failure,
    });
    let candidate = candidate?.policy;
    let log = audit::folder(&arguments.place, configured)?;
    let documents = documents(arguments, configured, output);
    let since = arguments.since.moment(SystemClock::new().now());
    let filter = Filter {
        since: Some(since),
        ..Filter::default()
    };
    let current = &configured.config.policy;
    let simulation =
        simulate(&log, filter, &documents, Some(current), &candidate).map_err(|error| audit::read_failure(&error))?;
    let changed: Vec<&Simulated> = those(&simulation, |answer| {
        !matches!(answer, Answer::Same | Answer::Unknown { .. })
    });
    let unknown: Vec<&Simulated> = those(&simulation, |answer| matches!(answer, Answer::Unknown { .. }));
    let asked = simulation.decisions.len();
    let mut shown: String = changed.iter().chain(&unknown).map(|one| line(one)).collect();
    shown.push_str(&format!(
        "{asked} decisions since {since}: {} would change, {} could not be asked again\n",
        changed.len(),
        unknown.len()
    ));
    if simulation.left_out > 0 {
        shown.push_str(&format!("{} more records were not looked at\n", simulation.left_out));
    }
    output.answer(
        &shown,
        &json!({
            "candidate": candidate.digest(),
            "since": since,
            "decisions": asked,
            "changed": changed,
            "unknown": unknown,
            "left_out": simulation.left_out,
        }),
    )?;
    Ok(Exit::Success)
}

fn those(simulation: &Simulation, which: impl Fn(&Answer) -> bool) -> Vec<&Simulated> {
    simulation.decisions.iter().filter(|one| which(&one.answer)).collect()
}

/// What can be loaded. What cannot is warned about, and its decisions are those that cannot be asked again.
fn documents(arguments: &PolicySimulate, configured: &Configured, output: &Output) -> Documents {
    let trust = configured.trust();
    let now = SystemClock::new().now();
    let mut documents = Documents::default();
    let manifests = configured.config.manifests.iter().chain(&arguments.manifest);
    for path in manifests {
        let read = files::document(path).and_then(|bytes| match manifest::verify(&bytes, trust, now) {
            Err(_) if arguments.development => manifest::dangerous_accept_unsigned(&bytes, now),
            other => Ok(other?),
        });
        documents.manifests.extend(taken(read, path, output));
    }
    let default = PathBuf::from(PERSONA);
    let default = Some(&default).filter(|path| arguments.persona.is_empty() && files::is_there(path));
    let served = configured.config.serve.iter().flat_map(|serve| serve.personas());
    let named = configured.config.personas.iter().chain(served);
    let personas: BTreeSet<&PathBuf> = named.chain(&arguments.persona).chain(default).collect();
    for path in personas {
        let read = files::document(path).and_then(|bytes| match persona::verify(&bytes, trust, now) {
            Err(_) if arguments.development => Ok(persona::dangerous_accept_unsigned(&bytes, now)?),
            other => Ok(other?),
        });
        documents.personas.extend(taken(read, path, output));
    }
    documents
}

fn taken<T>(read: Result<T, Failure>, path: &Path, output: &Output) -> Option<T> {
    read.inspect_err(|failure| output.warn(&format!("`{}` is left out: {failure}", path.display())))
        .ok()
}

fn line(one: &Simulated) -> String {
    let (question, recorded) = (&one.question, &one.recorded);
    let words = match &one.answer {
        Answer::Same => "as before".to_owned(),
        Answer::Allowed => "was denied, would be allowed".to_owned(),
        Answer::Denied { missing } => {
            let missing: Vec<_> = missing.iter().map(|text| text.replace('\n', "\n    hint: ")).collect();
            format!("was allowed, would be denied\n  {}", missing.join("\n  "))
        }
        Answer::Otherwise { members } => format!("was allowed, would get other {}", members.join(", ")),
        Answer::Unknown { reason } => format!("could not be asked again: {reason}"),
    };
    format!(
        "{} {} for {}: {} ({} {}, last record {})\n",
        question.capability,
        question.version,
        question.persona,
        text::lines(&words),
        recorded.calls,
        if recorded.calls == 1 { "call" } else { "calls" },
        recorded.seq
    )
}
