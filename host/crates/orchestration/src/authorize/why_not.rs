//! The smallest change that would turn a no into a yes. It is found by trying: everything that could be missing is added to
//! copies of persona and policy, and taken away again one by one as long as the decision stays a yes, in one order after the
//! other. What is left is needed, every piece of it. Nothing here changes anything.

mod changes;
mod lowered;
mod wanted;

use aral_capability::manifest::Entry;
use aral_capability::manifest::check::check_scopes;
use aral_contract::scope::SecretUse;
use aral_contract::{CapabilityPattern, Digest, HostPattern, Permission, Permissions};
use aral_persona::{Constraints, Persona, PersonaBody};
use serde::Serialize;

use super::ask;
use super::authorize;
use super::lines;
use super::row::{Row, Verdict};
use crate::budget::taken_of;
use crate::policy::{AgentLimits, Policy, PolicyParts};
pub use lowered::Lowered;

/// Which document a change belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Document {
    /// The entry in the manifest, made from capability.toml; the manifest has to be signed again.
    Manifest,
    /// The persona, which has to be signed again.
    Persona,
    /// The section `[policy]` of aral.toml.
    Policy,
}

impl Document {
    /// Its word in texts.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Persona => "persona",
            Self::Policy => "policy",
        }
    }
}

/// One line to add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Where.
    pub document: Document,
    /// Place and value. A list gets these values besides those that it has, and a number is this one from then on.
    pub line: String,
}

/// What would turn a no into a yes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct WhyNot {
    /// Whether it is a yes already, and nothing has to change.
    pub allowed: bool,
    /// The changes, all of which are needed: first of the manifest, then of the persona, then of the policy. Empty although
    /// it is a no: the manifest asks for what no persona and no policy can give, what is wanted cannot stand beside what it asks for,
    /// or what is missing has no room in a list.
    pub changes: Vec<Change>,
    /// Where it is a yes: what would give a call the rest of the permissions that the manifest asks for, of which it gets a part, and
    /// the networks of addresses that it may name and not reach.
    pub rest: Vec<Change>,
    /// Limits of a call, and numbers of its agent, that one document lowers. None of them keeps a call from being let through, unless a
    /// change says so.
    pub lowered: Vec<Lowered>,
}

/// Finds the smallest change with which this entry may be called, and the call may do what is `wanted` besides what the
/// entry asks for.
pub fn why_not(entry: &Entry, persona: &Persona, policy: &Policy, wanted: &Permissions) -> WhyNot {
    let decision = authorize(entry, Digest::of(b""), persona, policy);
    WhyNot {
        lowered: lowered::of(&decision, policy),
        ..smallest(entry, persona, policy, wanted)
    }
}

fn smallest(entry: &Entry, persona: &Persona, policy: &Policy, wanted: &Permissions) -> WhyNot {
    let Some(added) = wanted::added(entry, wanted) else {
        return WhyNot::default();
    };
    let (whole, in_manifest, alone) = (added.whole, added.changes, added.alone);
    // As it stands the entry was checked when it was admitted.
    if !in_manifest.is_empty() && check_scopes(&whole.permissions).is_err() {
        return WhyNot::default();
    }
    let allowed = |with: &[&Candidate]| allowed_with(&whole, &alone, persona, policy, with);
    if allowed(&[]) {
        let decision = authorize(&whole, Digest::of(b""), persona, policy);
        if in_manifest.is_empty() {
            return WhyNot {
                allowed: true,
                rest: changes::rest(decision),
                ..WhyNot::default()
            };
        }
        return WhyNot {
            changes: in_manifest.into_iter().chain(changes::networks(&decision)).collect(),
            ..WhyNot::default()
        };
    }
    // What is wanted comes before the patterns that the manifest asks for: they would do, and allow more.
    let hosts = hosts(alone.iter().chain([&whole]));
    let candidates = candidates(&whole, hosts, persona, policy);
    let all: Vec<&Candidate> = candidates.iter().collect();
    if !allowed(&all) {
        return WhyNot::default();
    }
    // Which of several that would do is left depends on the order: each is given the chance to be kept.
    let orders = if all.len() <= ORDERS_MAX { all.len() } else { 1 };
    let tried = (0..orders).map(|first| {
        let mut kept = all.clone();
        kept.rotate_left(first);
        // From the end, so that the first ones stay.
        for index in (0..kept.len()).rev() {
            let candidate = kept.remove(index);
            if !allowed(&kept) {
                kept.insert(index, candidate);
            }
        }
        kept
    });
    // Only what is left at last has to find room in lists that may be full.
    let taken = tried.filter(|kept| are_taken(persona, policy, kept));
    let Some(smallest) = taken.min_by_key(Vec::len) else {
        return WhyNot::default();
    };
    let (persona, parts) = changed(persona, policy, &smallest);
    let decision = Policy::uncounted(parts).map(|policy| authorize(&whole, Digest::of(b""), &persona, &policy));
    let networks = decision.iter().flat_map(changes::networks);
    WhyNot {
        changes: in_manifest
            .into_iter()
            .chain(changes::of(&smallest))
            .chain(networks)
            .collect(),
        ..WhyNot::default()
    }
}

/// Orders that are tried at most, each of which takes as many decisions. Stops a manifest that asks for very much from taking
/// long; then one order has to do.
const ORDERS_MAX: usize = 64;

/// Writes what is missing.
type Apply = Box<dyn Fn(&mut PersonaBody, &mut PolicyParts)>;

/// Something that could be missing.
struct Candidate {
    apply: Apply,
    place: &'static str,
    value: Value,
}

/// How it is written.
enum Value {
    Text(String),
    Plain(String),
    On,
    Number(u64),
    /// The whole line.
    Line(String),
    /// A rate of a persona, which all stand in one line.
    Rate(&'static str, u64),
}

#[derive(Default)]
struct Candidates(Vec<Candidate>);

impl Candidates {
    fn persona(&mut self, place: &'static str, value: Value, apply: impl Fn(&mut PersonaBody) + 'static) {
        let apply = Box::new(move |persona: &mut PersonaBody, _: &mut PolicyParts| apply(persona));
        self.0.push(Candidate { apply, place, value });
    }

    fn policy(&mut self, place: &'static str, value: Value, apply: impl Fn(&mut PolicyParts) + 'static) {
        let apply = Box::new(move |_: &mut PersonaBody, policy: &mut PolicyParts| apply(policy));
        self.0.push(Candidate { apply, place, value });
    }
}

fn text(one: &impl ToString) -> Value {
    Value::Text(one.to_string())
}

fn candidates(entry: &Entry, hosts: Vec<HostPattern>, persona: &Persona, policy: &Policy) -> Vec<Candidate> {
    let mut all = Candidates::default();
    // An id is always a pattern, of itself.
    if let Ok(pattern) = entry.id.as_str().parse::<CapabilityPattern>() {
        let same = pattern.clone();
        all.persona(lines::PERSONA_CAPABILITIES, text(&entry.id), move |persona| {
            persona.constraints.allowed_capabilities.add(same.clone());
        });
        all.policy(lines::POLICY_CAPABILITIES, text(&entry.id), move |policy| {
            policy.capabilities.add(pattern.clone());
        });
    }
    if let Some(tier) = persona.body.tier.clone() {
        let requests = policy.agents.requests_per_minute.max(1);
        let line = Value::Line(lines::tier(&tier, requests));
        all.policy("", line, move |policy| {
            let mut agents = policy.agents;
            agents.requests_per_minute = requests;
            policy.tiers.entry(tier.clone()).or_insert(agents);
        });
    }
    numbers(entry, persona, policy, &mut all);
    for permission in Permission::ALL {
        if entry.permissions.has(permission) {
            all.persona(lines::PERSONA_PERMISSIONS, text(&permission), move |persona| {
                persona.constraints.allowed_permissions.add(permission);
            });
            all.policy(lines::POLICY_PERMISSIONS, text(&permission), move |policy| {
                policy.permissions.add(permission);
            });
        }
    }
    for host in hosts {
        let same = host.clone();
        all.persona(lines::PERSONA_DOMAINS, text(&host), move |persona| {
            persona.constraints.allowed_domains.push(same.clone());
        });
        all.policy(lines::POLICY_HOSTS, text(&host), move |policy| {
            policy.hosts.push(host.clone())
        });
    }
    files(entry, &mut all);
    kept_things(entry, &mut all);
    all.0
}

/// Numbers with which no call is let through.
fn numbers(entry: &Entry, persona: &Persona, policy: &Policy, all: &mut Candidates) {
    let cost = authorize(entry, Digest::of(b""), persona, policy)
        .terms
        .call_cost_max_micro;
    let own = persona.body.tier.clone();
    let there = own.as_ref().filter(|tier| policy.tiers.contains_key(*tier));
    for (name, in_persona, in_policy) in COUNTED {
        let wanted = taken_of(name, cost);
        let value = match name {
            "cost_per_hour_micro" => Value::Line(lines::persona_number(name, wanted)),
            rate => Value::Rate(rate, wanted),
        };
        all.persona("", value, move |persona| {
            let number = in_persona(&mut persona.constraints);
            *number = number.map(|number| number.max(wanted));
        });
        let line = Value::Line(lines::policy_number(there, name, wanted));
        let (own, is_there) = (own.clone(), there.is_some());
        all.policy("", line, move |policy| {
            // A tier that is not there yet has the numbers of all agents.
            let tier = own.as_ref().and_then(|tier| policy.tiers.get_mut(tier));
            let all = (!is_there).then_some(&mut policy.agents);
            for agents in tier.into_iter().chain(all) {
                let number = in_policy(agents);
                *number = (*number).max(wanted);
            }
        });
    }
}

/// Numbers that a call takes of: the name, and where persona and policy have them.
type Counted = (
    &'static str,
    fn(&mut Constraints) -> &mut Option<u64>,
    fn(&mut AgentLimits) -> &mut u64,
);

const COUNTED: [Counted; 3] = [
    (
        "requests_per_minute",
        |persona| &mut persona.rate_limits.requests_per_minute,
        |policy| &mut policy.requests_per_minute,
    ),
    (
        "requests_per_hour",
        |persona| &mut persona.rate_limits.requests_per_hour,
        |policy| &mut policy.requests_per_hour,
    ),
    (
        "cost_per_hour_micro",
        |persona| &mut persona.max_cost_per_hour,
        |policy| &mut policy.cost_per_hour_micro,
    ),
];

/// Where requests go, and secrets with them.
fn hosts<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<HostPattern> {
    let mut hosts: Vec<HostPattern> = Vec::new();
    for asked in entries.map(|entry| &entry.permissions) {
        let network = [&asked.network_read, &asked.network_write].into_iter().flatten();
        let secrets = asked.secret_read.iter().flat_map(|scope| &scope.secrets);
        let all = network
            .flat_map(|scope| &scope.hosts)
            .chain(secrets.flat_map(|secret| &secret.hosts));
        for host in all {
            if !hosts.contains(host) {
                hosts.push(host.clone());
            }
        }
    }
    hosts
}

fn files(entry: &Entry, all: &mut Candidates) {
    for path in entry.permissions.file_read.iter().flat_map(|scope| &scope.paths) {
        let root = path.host.clone();
        all.policy(lines::POLICY_READ_ROOTS, text(&root), move |policy| {
            policy.read_roots.push(root.clone());
        });
    }
    for path in entry.permissions.file_write.iter().flat_map(|scope| &scope.paths) {
        let (root, bytes, files) = (path.host.clone(), path.bytes_max, path.files_max);
        all.policy(lines::POLICY_WRITE_ROOTS, text(&root), move |policy| {
            policy.write_roots.push(root.clone());
        });
        all.policy(lines::POLICY_FILE_BYTES, Value::Number(bytes), move |policy| {
            policy.file_bytes_max = policy.file_bytes_max.max(bytes);
        });
        all.policy(lines::POLICY_FILE_COUNT, Value::Number(files), move |policy| {
            policy.file_count_max = policy.file_count_max.max(files);
        });
    }
}

/// Secrets, records and programs.
fn kept_things(entry: &Entry, all: &mut Candidates) {
    let asked = &entry.permissions;
    let read = || asked.secret_read.iter().flat_map(|scope| &scope.secrets);
    let written = asked.secret_write.iter().flat_map(|scope| &scope.names);
    for name in read().map(|secret| &secret.name).chain(written) {
        let name = name.clone();
        all.policy(lines::POLICY_SECRETS, text(&name), move |policy| {
            policy.secrets.add(name.clone())
        });
    }
    if read().any(|secret| secret.usage == SecretUse::Reveal) {
        all.policy(lines::POLICY_REVEAL, Value::On, |policy| policy.secret_reveal = true);
    }
    if read().next().is_some() {
        all.policy(lines::POLICY_PLAIN_LOOPBACK, Value::On, |policy| {
            policy.secret_plain_loopback = true
        });
    }
    let read = asked.memory_read.iter().flat_map(|scope| &scope.namespaces);
    let written = asked.memory_write.iter().flat_map(|scope| &scope.namespaces);
    for name in read.chain(written) {
        let name = name.clone();
        all.policy(lines::POLICY_NAMESPACES, text(&name), move |policy| {
            policy.namespaces.add(name.clone())
        });
    }
    if let Some(scope) = &asked.memory_write {
        let (bytes, records) = (scope.bytes_max, scope.records_max);
        all.policy(lines::POLICY_MEMORY_BYTES, Value::Number(bytes), move |policy| {
            policy.memory_bytes_max = policy.memory_bytes_max.max(bytes);
        });
        all.policy(lines::POLICY_MEMORY_RECORDS, Value::Number(records), move |policy| {
            policy.memory_records_max = policy.memory_records_max.max(records);
        });
    }
    for program in asked.exec.iter().flat_map(|scope| &scope.programs) {
        let program = program.clone();
        let value = Value::Plain(ask::program_value(&program));
        all.policy(lines::POLICY_PROGRAMS, value, move |policy| {
            policy.programs.push(program.clone())
        });
    }
}

/// Whether the entry may be called, and everything that is wanted is given whole.
fn allowed_with(entry: &Entry, alone: &[Entry], persona: &Persona, policy: &Policy, with: &[&Candidate]) -> bool {
    let (persona, parts) = changed(persona, policy, with);
    let Ok(policy) = Policy::uncounted(parts) else {
        return false;
    };
    let decide = |entry: &Entry| authorize(entry, Digest::of(b""), &persona, &policy);
    let whole = |row: &Row| row.persona.verdict == Verdict::Yes && row.policy.verdict == Verdict::Yes;
    decide(entry).is_allowed() && alone.iter().all(|one| decide(one).rows.iter().all(whole))
}

/// Whether a host takes both documents with these.
fn are_taken(persona: &Persona, policy: &Policy, with: &[&Candidate]) -> bool {
    let (persona, parts) = changed(persona, policy, with);
    persona.body.constraints.lists_fit() && Policy::new(parts).is_ok()
}

fn changed(persona: &Persona, policy: &Policy, with: &[&Candidate]) -> (Persona, PolicyParts) {
    let (mut persona, mut parts) = (persona.clone(), PolicyParts::clone(policy));
    for candidate in with {
        (candidate.apply)(&mut persona.body, &mut parts);
    }
    (persona, parts)
}

#[cfg(test)]
mod tests;
