//! Everything that persona and policy could lack for a call, one by one, with how each is added and how it is written.

use aral_capability::manifest::Entry;
use aral_contract::scope::SecretUse;
use aral_contract::{CapabilityPattern, Digest, HostPattern, Permission};
use aral_persona::{Constraints, Persona, PersonaBody};

use super::super::{ask, authorize, lines};
use crate::budget::taken_of;
use crate::policy::{AgentLimits, Policy, PolicyParts};

/// Writes what is missing.
type Apply = Box<dyn Fn(&mut PersonaBody, &mut PolicyParts)>;

/// Something that could be missing.
pub(super) struct Candidate {
    pub(super) apply: Apply,
    pub(super) place: &'static str,
    pub(super) value: Value,
}

/// How it is written.
pub(super) enum Value {
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

/// All of them, of an entry and of the hosts of what is wanted.
pub(super) fn of(entry: &Entry, hosts: Vec<HostPattern>, persona: &Persona, policy: &Policy) -> Vec<Candidate> {
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
pub(super) fn hosts<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<HostPattern> {
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
