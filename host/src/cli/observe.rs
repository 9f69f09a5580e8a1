//! `aral run --observe`: from what a component reached for to the entry of capability.toml that would cover it and no
//! more. Pure text; the entry is for a person to read and to cut, it grants nothing by itself.

mod folders;
mod reached;
mod secrets;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use aral_capability::Shape;
use aral_capability::imports::Role;
use aral_capability::imports::check::lines_to_add;
use aral_capability::inspect::Import;
use aral_contract::id::{Namespace, SecretName};
use aral_contract::scope::{AbsolutePath, ProgramScope};
use aral_contract::{CapabilityId, EventKind, HostPattern, Permission, Permissions, Usage};
use jiff::Timestamp;
use serde::Deserialize;

use super::allow::{BYTES_MAX_DEFAULT, RECORDS_MAX_DEFAULT};
use super::text;
use folders::Folders;
use reached::reached;
use secrets::Secrets;

/// Different things reached for that are kept. Stops a guest from filling memory and the file with names.
pub(crate) const ATTEMPTS_MAX: usize = 1000;

/// How often something was reached for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Attempt {
    pub(crate) allowed: u64,
    pub(crate) denied: u64,
    /// Why it was denied, or what else it was used for, each reason once.
    reasons: BTreeSet<String>,
}

/// Different reasons that are kept of one attempt.
const REASONS_MAX: usize = 32;

/// What a component reached for, by permission and target.
#[derive(Debug, Default)]
pub(crate) struct Observed {
    attempts: BTreeMap<Permission, BTreeMap<String, Attempt>>,
    kept: usize,
    /// Attempts beyond [`ATTEMPTS_MAX`] different ones.
    pub(crate) dropped: u64,
}

/// What the entry is about.
pub(crate) struct Facts<'a> {
    pub(crate) id: CapabilityId,
    pub(crate) shape: Shape,
    /// Path of the component as it is to stand in the file.
    pub(crate) component: String,
    /// What `--allow` gave.
    pub(crate) granted: &'a Permissions,
    pub(crate) usage: &'a Usage,
    pub(crate) at: Timestamp,
    pub(crate) imports: &'a [Import],
    /// Whether there is such a folder on this machine: what a guest calls `/data` is often called so here too.
    pub(crate) is_folder: &'a dyn Fn(&str) -> bool,
}

impl Observed {
    /// Collects what was reached for among the events: host calls, records of the memory, secrets.
    pub(crate) fn of<'a>(events: impl IntoIterator<Item = &'a EventKind>) -> Self {
        let mut observed = Self::default();
        for event in events {
            if let Some(one) = reached(event) {
                observed.note(one.permission, one.target, one.allowed, one.reason);
            }
        }
        observed
    }

    fn note(&mut self, permission: Permission, target: &str, allowed: bool, reason: Option<&str>) {
        let targets = self.attempts.entry(permission).or_default();
        if !targets.contains_key(target) {
            if self.kept >= ATTEMPTS_MAX {
                self.dropped = self.dropped.saturating_add(1);
                return;
            }
            self.kept = self.kept.saturating_add(1);
        }
        let attempt = targets.entry(target.to_owned()).or_default();
        let count = if allowed {
            &mut attempt.allowed
        } else {
            &mut attempt.denied
        };
        *count = count.saturating_add(1);
        if let Some(reason) = reason.filter(|_| attempt.reasons.len() < REASONS_MAX) {
            attempt.reasons.insert(reason.to_owned());
        }
    }

    /// What was reached for, in the order of the permissions.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Permission, &str, &Attempt)> {
        self.attempts.iter().flat_map(|(permission, targets)| {
            targets
                .iter()
                .map(|(target, attempt)| (*permission, target.as_str(), attempt))
        })
    }

    /// The entry as capability.toml.
    pub(crate) fn entry(&self, facts: &Facts<'_>) -> String {
        let mut file = head(facts);
        let targets = |permission: Permission| {
            let attempts = self.attempts.get(&permission).into_iter();
            attempts.flat_map(BTreeMap::keys).map(String::as_str)
        };
        let folders = Folders::new(targets(Permission::FileRead), targets(Permission::FileWrite), facts);
        let network = targets(Permission::NetworkRead).chain(targets(Permission::NetworkWrite));
        let secrets = Secrets::new(
            self.attempts.get(&Permission::SecretRead),
            &hosts(&network.collect::<Vec<_>>()),
            facts.granted,
        );
        let mut offered = Vec::new();
        for (permission, targets) in &self.attempts {
            file.push('\n');
            for (target, attempt) in targets {
                file.push_str(&format!("# {}: {}\n", times(attempt), text::line(target)));
            }
            let comments = match permission {
                Permission::SecretRead => secrets.comments(),
                other => folders.comments(*other),
            };
            file.push_str(&comments);
            match scope(*permission, targets, &folders, &secrets, facts.granted) {
                Some(scope) => {
                    offered.push(*permission);
                    let name = match permission {
                        Permission::Exec => "exec".to_owned(),
                        other => quote(other.as_str()),
                    };
                    file.push_str(&format!("[permissions.{name}]\n{scope}"));
                }
                // They say where it is granted, or what is missing.
                None if !comments.is_empty() => {}
                None => file.push_str(&format!("# None of this can be granted as {permission}.\n")),
            }
        }
        if self.dropped > 0 {
            let _infallible = writeln!(file, "\n# {} more attempts are not listed.", self.dropped);
        }
        for import in facts.imports {
            file.push_str(&uncovered(import, &offered));
        }
        file
    }
}

fn scope(
    permission: Permission,
    attempts: &BTreeMap<String, Attempt>,
    folders: &Folders,
    secrets: &Secrets,
    granted: &Permissions,
) -> Option<String> {
    let targets: Vec<&str> = attempts.keys().map(String::as_str).collect();
    match permission {
        Permission::NetworkRead | Permission::NetworkWrite => list("hosts", &hosts(&targets)),
        Permission::FileRead | Permission::FileWrite => folders.scope(permission),
        Permission::SecretRead => secrets.scope(),
        Permission::SecretWrite => list("names", &parsed::<SecretName>(&targets)),
        Permission::MemoryRead => list("namespaces", &namespaces(&targets)),
        Permission::MemoryWrite => list("namespaces", &namespaces(&targets)).map(|namespaces| {
            format!("{namespaces}bytes_max = {BYTES_MAX_DEFAULT}\nrecords_max = {RECORDS_MAX_DEFAULT}\n")
        }),
        Permission::Exec => programs(attempts, granted),
    }
}

/// What would cover an import that nothing of the entry covers, as comments: the run shows no need of it, so that a person has to say
/// yes.
fn uncovered(import: &Import, offered: &[Permission]) -> String {
    let Role::Governed { permissions } = &import.role else {
        return String::new();
    };
    if permissions.iter().any(|one| offered.contains(one)) {
        return String::new();
    }
    let lines: Vec<String> = permissions.iter().map(|one| lines_to_add(*one)).collect();
    let comments: String = lines
        .join("\nor:\n")
        .lines()
        .map(|line| format!("# {}\n", text::line(line)))
        .collect();
    format!(
        "\n# The component imports {}. It is not admitted without the next lines, and this run does not show what they\n\
         # have to say: change them to what you allow, and take off each `# `.\n{comments}",
        text::line(&import.name)
    )
}

fn head(facts: &Facts<'_>) -> String {
    let mut file = format!(
        "# What one run of a component reached for, recorded by `aral run --observe` at {}. Another input may reach for\n\
         # more. Nobody has judged these lines: read each one, and keep what you want it to be allowed.\n\
         # The run used {} bytes of memory, {} ms of computing, {} ms in all",
        facts.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        facts.usage.memory_bytes_peak,
        facts.usage.compute_ms,
        facts.usage.wall_us / 1000,
    );
    if let Some(fuel) = facts.usage.fuel {
        file.push_str(&format!(" and {fuel} of fuel"));
    }
    file.push_str(&format!(
        ".\nid = {}\nversion = \"0.1.0\"\nshape = {}\ncomponent = {}\n",
        quote(facts.id.as_str()),
        quote(facts.shape.as_str()),
        quote(&facts.component),
    ));
    match facts.shape {
        Shape::Tool => {}
        Shape::Command => {
            let title = quote(facts.id.as_str());
            file.push_str(&format!(
                "# Say what it does, and write its schemas into these files.\ntitle = {title}\ndescription = {title}\n\
                 input_schema = \"input.json\"\noutput_schema = \"output.json\"\n"
            ));
        }
    }
    file
}

fn times(attempt: &Attempt) -> String {
    let count = |count: u64| match count {
        1 => "once".to_owned(),
        many => format!("{many} times"),
    };
    match (attempt.denied, attempt.allowed) {
        (0, used) => format!("used {}", count(used)),
        (denied, 0) => format!("denied {}", count(denied)),
        (denied, used) => format!("denied {}, used {}", count(denied), count(used)),
    }
}

/// A text as TOML writes it.
fn quote(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn list(key: &str, items: &BTreeSet<String>) -> Option<String> {
    let quoted: Vec<_> = items.iter().map(|item| quote(item)).collect();
    (!items.is_empty()).then(|| format!("{key} = [{}]\n", quoted.join(", ")))
}

fn parsed<T: std::str::FromStr + Into<String>>(targets: &[&str]) -> BTreeSet<String> {
    targets
        .iter()
        .filter_map(|target| target.parse::<T>().ok())
        .map(Into::into)
        .collect()
}

/// The origins among the targets, whether a method stands before or a path behind.
fn hosts(targets: &[&str]) -> BTreeSet<String> {
    let origin = |target: &str| {
        let word = target.split_whitespace().find(|word| word.contains("://"))?;
        let (scheme, rest) = word.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        format!("{scheme}://{authority}").parse::<HostPattern>().ok()
    };
    targets
        .iter()
        .filter_map(|target| origin(target))
        .map(String::from)
        .collect()
}

fn namespaces(targets: &[&str]) -> BTreeSet<String> {
    let fronts: Vec<&str> = targets
        .iter()
        .map(|target| target.split('/').next().unwrap_or(target))
        .collect();
    parsed::<Namespace>(&fronts)
}

/// Each program with exactly the arguments it was given, which stand in the reason of the denial, or with the shapes
/// that were granted already.
fn programs(attempts: &BTreeMap<String, Attempt>, granted: &Permissions) -> Option<String> {
    let mut lines = BTreeSet::new();
    for (path, attempt) in attempts.iter().filter(|(path, _)| path.parse::<AbsolutePath>().is_ok()) {
        let mut shapes: Vec<ProgramScope> = attempt
            .reasons
            .iter()
            .filter_map(|reason| ProgramsLine::within(reason))
            .flat_map(|line| line.programs)
            .collect();
        if attempt.allowed > 0 {
            shapes.extend(granted.exec.iter().flat_map(|scope| scope.programs.clone()));
        }
        for shape in shapes.into_iter().filter(|shape| shape.path.as_str() == path) {
            let args: Vec<String> = shape
                .args
                .into_iter()
                .map(|argument| quote(&String::from(argument)))
                .collect();
            lines.insert(format!(
                "  {{ path = {}, args = [{}] }},\n",
                quote(path),
                args.join(", ")
            ));
        }
    }
    let lines: String = lines.into_iter().collect();
    (!lines.is_empty()).then(|| {
        format!("# Arguments may be patterns: \"{{integer}}\", \"{{word}}\", \"{{path}}\".\nprograms = [\n{lines}]\n")
    })
}

/// The line of a denial that would allow the command.
#[derive(Deserialize)]
struct ProgramsLine {
    programs: Vec<ProgramScope>,
}

impl ProgramsLine {
    /// The arguments are the guest's and may hold brackets, so that the line ends at the first one that makes it whole.
    fn within(reason: &str) -> Option<Self> {
        let line = reason.get(reason.find("programs = [")?..)?;
        line.match_indices(']')
            .find_map(|(at, _)| toml::from_str(line.get(..=at)?).ok())
    }
}

#[cfg(test)]
mod tests;
