//! Asks a candidate policy about what the audit log says was decided: the same manifests and personas, another policy. It
//! changes nothing and decides nothing; what it cannot ask again it says, with the reason.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use aral_audit::schema::AuditEvent;
use aral_audit::{Filter, ReadError, Record, query};
use aral_capability::Entry;
use aral_capability::manifest::ManifestBody;
use aral_contract::document::Verified;
use aral_contract::scope::AbsolutePath;
use aral_contract::{CapabilityId, Digest, Grant, Permission, PersonaId};
use aral_orchestration::authorize::authorize;
use aral_orchestration::{Decision, Policy};
use aral_persona::Persona;
use semver::Version;
use serde::Serialize;

/// Different decisions that are kept at once. Bounds memory: a log may hold decisions about any number of personas.
pub const DECISIONS_MAX: usize = 100_000;

/// The documents that decisions are asked again with. Only the very ones that were decided about will do.
#[derive(Debug, Default)]
pub struct Documents {
    /// Manifests.
    pub manifests: Vec<Verified<ManifestBody>>,
    /// Personas.
    pub personas: Vec<Persona>,
}

/// What was decided about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Question {
    /// Which capability.
    pub capability: CapabilityId,
    /// Which version of it.
    pub version: Version,
    /// For whom.
    pub persona: PersonaId,
    /// SHA-256 of the manifest.
    pub manifest: Digest,
    /// SHA-256 of the persona.
    pub persona_digest: Digest,
}

/// What the log says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recorded {
    /// The newest record that says so.
    pub seq: u64,
    /// Whether it was allowed then.
    pub allowed: bool,
    /// SHA-256 of the policy then.
    pub policy: Digest,
    /// How many calls ended or were denied under it.
    pub calls: u64,
}

/// What the candidate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Answer {
    /// The same.
    Same,
    /// It would be allowed, and was denied.
    Allowed,
    /// It would be denied, and was allowed.
    Denied {
        /// What would be missing, and the lines that would give it.
        missing: Vec<String>,
    },
    /// Allowed as before, with other rights or limits. Known only of decisions under the policy that is in force.
    Otherwise {
        /// What would be other: `permissions`, `limits`, `metering`, `networks`, `secret_plain_loopback`, `trace_hosts`; `folders`: the
        /// root from which one of them is opened, and below which links are followed; or `agent`: how much the agent may use up, or
        /// what a call costs.
        members: Vec<&'static str>,
    },
    /// It cannot be asked again.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// One decision, then and under the candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Simulated {
    /// What was decided about.
    #[serde(flatten)]
    pub question: Question,
    /// What the log says.
    pub recorded: Recorded,
    /// What the candidate says.
    #[serde(flatten)]
    pub answer: Answer,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Simulation {
    /// One for each question, in their order.
    pub decisions: Vec<Simulated>,
    /// Records about decisions beyond [`DECISIONS_MAX`], which were not looked at.
    pub left_out: u64,
}

/// Asks `candidate` everything that the records of a filter decided. `current` is the policy in force, if it is known.
///
/// # Errors
/// The log cannot be read.
pub fn simulate(
    log: &Path,
    filter: Filter,
    documents: &Documents,
    current: Option<&Policy>,
    candidate: &Policy,
) -> Result<Simulation, ReadError> {
    let (questions, left_out) = gathered(log, filter, DECISIONS_MAX)?;
    let answered = |(question, Said { recorded, .. })| Simulated {
        answer: answer(&question, &recorded, documents, current, candidate),
        question,
        recorded,
    };
    Ok(Simulation {
        decisions: questions.into_iter().map(answered).collect(),
        left_out,
    })
}

/// What records say of a question.
#[derive(Debug)]
struct Said {
    recorded: Recorded,
    /// Whether one of them is the decision itself, and not the end of a call.
    is_decision: bool,
}

impl Said {
    /// Takes what the next record says. The end of a call says what was decided before that began, perhaps under a policy that was
    /// replaced meanwhile: it counts, but says nothing newer than a decision under another policy.
    fn update(&mut self, next: Self) {
        let calls = self.recorded.calls.saturating_add(next.recorded.calls);
        if next.is_decision || !self.is_decision || next.recorded.policy == self.recorded.policy {
            self.is_decision |= next.is_decision;
            self.recorded = next.recorded;
        }
        self.recorded.calls = calls;
    }
}

/// What the records of a filter decided of the first `questions_max` questions, and how many of them are about others.
fn gathered(log: &Path, filter: Filter, questions_max: usize) -> Result<(BTreeMap<Question, Said>, u64), ReadError> {
    let mut questions: BTreeMap<Question, Said> = BTreeMap::new();
    let mut left_out = 0u64;
    for found in query(log, filter)? {
        let (_, record) = found?;
        let Some((question, said)) = decided(&record) else {
            continue;
        };
        if let Some(before) = questions.get_mut(&question) {
            before.update(said);
        } else if questions.len() < questions_max {
            questions.insert(question, said);
        } else {
            left_out = left_out.saturating_add(1);
        }
    }
    Ok((questions, left_out))
}

/// The decision that a record speaks of. Decisions are kept while they hold, so the end of a call speaks of one too.
fn decided(record: &Record) -> Option<(Question, Said)> {
    match &record.event {
        AuditEvent::Decision(decision) => Some((
            Question {
                capability: decision.capability.clone(),
                version: decision.version.clone(),
                persona: decision.persona.clone(),
                manifest: decision.manifest,
                persona_digest: decision.persona_digest,
            },
            Said {
                recorded: Recorded {
                    seq: record.seq,
                    allowed: decision.grant.is_some(),
                    policy: decision.policy,
                    // What was allowed is counted when it ends.
                    calls: u64::from(decision.grant.is_none()),
                },
                is_decision: true,
            },
        )),
        AuditEvent::Invocation(invocation) => {
            let proven = invocation.evidence.as_ref()?;
            Some((
                Question {
                    capability: invocation.capability.clone(),
                    version: proven.version.clone(),
                    persona: proven.persona.clone(),
                    manifest: proven.manifest,
                    persona_digest: proven.persona_digest,
                },
                Said {
                    recorded: Recorded {
                        seq: record.seq,
                        allowed: true,
                        policy: proven.policy,
                        calls: 1,
                    },
                    is_decision: false,
                },
            ))
        }
        AuditEvent::Authentication(_)
        | AuditEvent::InvocationStarted(_)
        | AuditEvent::HostCall(_)
        | AuditEvent::MemoryAccess(_)
        | AuditEvent::DataAccess(_)
        | AuditEvent::Security(_)
        | AuditEvent::Lifecycle(_)
        | AuditEvent::ConfigurationChanged(_)
        | AuditEvent::Repeated(_)
        | AuditEvent::LogOpened(_)
        | AuditEvent::LogRetired(_)
        | AuditEvent::LogGap(_) => None,
    }
}

fn answer(
    question: &Question,
    recorded: &Recorded,
    documents: &Documents,
    current: Option<&Policy>,
    candidate: &Policy,
) -> Answer {
    let unknown = |reason: String| Answer::Unknown { reason };
    let Some(entry) = documents.entry(question) else {
        return unknown(format!(
            "its manifest {} is not among those that are loaded",
            question.manifest
        ));
    };
    let persona = documents
        .personas
        .iter()
        .find(|persona| persona.digest == question.persona_digest);
    let Some(persona) = persona else {
        return unknown(format!(
            "its persona {} is not among those that are loaded",
            question.persona_digest
        ));
    };
    let decide = |policy| authorize(entry, question.manifest, persona, policy);
    let now = decide(candidate);
    match (&now.outcome, recorded.allowed) {
        (Ok(_), false) if now.is_allowed() => Answer::Allowed,
        (Ok(_) | Err(_), false) => Answer::Same,
        (Err(denial), true) => Answer::Denied {
            missing: denial.missing.iter().map(|one| with_lines(one, &one.lines)).collect(),
        },
        (Ok(_), true) => {
            let known = current.filter(|policy| policy.digest() == recorded.policy);
            let then = known.map(decide);
            if !now.is_allowed() && then.as_ref().is_none_or(Decision::is_allowed) {
                let missing = now.never.iter().map(|never| with_lines(never, &never.lines));
                return Answer::Denied {
                    missing: missing.collect(),
                };
            }
            let then = known.zip(then.as_ref());
            then.map_or(Answer::Same, |then| compared(then, (candidate, &now)))
        }
    }
}

impl Documents {
    fn entry(&self, question: &Question) -> Option<&Entry> {
        let manifest = self
            .manifests
            .iter()
            .find(|manifest| manifest.digest == question.manifest)?;
        let mut entries = manifest.body.capabilities().iter();
        entries.find(|entry| entry.id == question.capability && entry.version == question.version)
    }
}

fn with_lines(missing: &impl fmt::Display, lines: &[impl fmt::Display]) -> String {
    let lines: String = lines.iter().map(|line| format!("\n{line}")).collect();
    format!("{missing}{lines}")
}

/// What two decisions of one question differ in, each with the policy that it comes from.
fn compared((old, before): (&Policy, &Decision), (new, after): (&Policy, &Decision)) -> Answer {
    let (Ok(then), Ok(now)) = (&before.outcome, &after.outcome) else {
        return Answer::Same;
    };
    let network = now.permissions.has(Permission::NetworkRead) || now.permissions.has(Permission::NetworkWrite);
    let members: Vec<&'static str> = [
        ("permissions", then.permissions != now.permissions),
        ("limits", then.limits != now.limits),
        ("metering", then.metering != now.metering),
        ("networks", then.networks != now.networks),
        (
            "secret_plain_loopback",
            then.secret_plain_loopback != now.secret_plain_loopback,
        ),
        // These two are no part of a grant: a call gets them from the policy.
        ("trace_hosts", network && old.trace_hosts != new.trace_hosts),
        ("folders", roots(then, old) != roots(now, new)),
        ("agent", before.terms != after.terms),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect();
    if members.is_empty() {
        Answer::Same
    } else {
        Answer::Otherwise { members }
    }
}

/// The root that each folder of a grant is opened from.
fn roots<'a>(grant: &Grant, policy: &'a Policy) -> Vec<Option<&'a AbsolutePath>> {
    let read = grant.permissions.file_read.iter().flat_map(|scope| &scope.paths);
    let read = read.map(|path| path.host.nearest_of(&policy.read_roots));
    let written = grant.permissions.file_write.iter().flat_map(|scope| &scope.paths);
    read.chain(written.map(|path| path.host.nearest_of(&policy.write_roots)))
        .collect()
}
