//! The three yeses: what a manifest entry asks for, what the persona lets through, what the policy lets through. Pure:
//! the same three in, the same decision out, with every row of it and the lines that would change it.

mod ask;
mod cut;
pub(crate) mod lines;
mod narrow;
pub mod row;
mod unmet;
mod weigh;
pub mod why_not;

use aral_capability::manifest::Entry;
use aral_contract::id::PersonaId;
use aral_contract::{
    CapabilityId, Classification, Code, Cut, Digest, Failure, Grant, GrantParts, Limits, Permission, Permissions,
};
use aral_persona::{Persona, PersonaBody};
use semver::Version;
use serde::Serialize;

use crate::budget::{Never, TermRow, Terms, agent_rows, never};
use crate::policy::Policy;
pub use lines::Line;
pub use row::{Answer, Missing, Party, Row, Subject, Verdict};
use weigh::Weighing;
pub use why_not::{Change, Document, Lowered, WhyNot};

/// The decision about one capability for one persona under one policy.
#[derive(Debug, Clone, Serialize)]
pub struct Decision {
    /// About which capability.
    pub capability: CapabilityId,
    /// Which version of it.
    pub version: Version,
    /// For whom.
    pub persona: PersonaId,
    /// One row for the capability itself, one for the tier if the persona has one, then one for each permission that the
    /// manifest asks for.
    pub rows: Vec<Row>,
    /// The most sensitive values that a call may be handed or may store.
    pub clearance: Classification,
    /// One row for each number of what the agent may use up; none if the policy does not have its tier.
    pub agent: Vec<TermRow>,
    /// Those of these numbers with which no call is let through, whatever was used so far.
    pub never: Vec<Never>,
    /// What the agent may use up, and what a call costs.
    pub terms: Terms,
    /// One row for each limit.
    pub limits: Vec<LimitRow>,
    /// Every `*` that allows everything, every secret that the capability would see, and what is granted and would be refused all the
    /// same: for people to see.
    pub warnings: Vec<String>,
    /// What came out.
    #[serde(skip)]
    pub outcome: Result<Grant, Denial>,
}

/// How one limit came about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LimitRow {
    /// Its name, with the unit.
    pub name: &'static str,
    /// What the manifest asks for.
    pub asked: Option<u64>,
    /// What the policy allows at most.
    pub ceiling: u64,
    /// What a call gets.
    pub granted: u64,
}

/// A no, with everything that is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Denial {
    /// About which capability.
    pub capability: CapabilityId,
    /// What is missing, and the lines that would give it.
    pub missing: Vec<Missing>,
}

impl Decision {
    /// Whether a call may be made, if nothing is used up yet.
    pub fn is_allowed(&self) -> bool {
        self.outcome.is_ok() && self.never.is_empty()
    }
}

impl Denial {
    /// Who does not give what is missing, each once.
    pub(crate) fn parties(&self) -> Vec<&'static str> {
        let lacks = |party: &Party| self.missing.iter().any(|one| one.by.contains(party));
        let parties = [Party::Persona, Party::Policy].into_iter();
        parties.filter(lacks).map(Party::as_str).collect()
    }
}

impl From<&Denial> for Failure {
    fn from(denial: &Denial) -> Self {
        let what: Vec<String> = denial.missing.iter().map(Missing::to_string).collect();
        let missing = denial.missing.iter().flat_map(|one| &one.lines);
        let mut lines: Vec<String> = lines::merged(missing).iter().map(Line::to_string).collect();
        // Document by document, as whoever adds them does.
        lines.sort_by_key(|line| !line.starts_with(lines::PERSONA));
        let message = format!("capability `{}` may not run: {}", denial.capability, what.join("; "));
        Self::new(Code::PermissionDenied, message).with_hint(lines.join("\n"))
    }
}

/// Decides. `manifest` is the digest of the manifest that `entry` stands in.
pub fn authorize(entry: &Entry, manifest: Digest, persona: &Persona, policy: &Policy) -> Decision {
    let mut weighing = Weighing::new(entry, &persona.body, policy);
    weighing.capability();
    weighing.rows.extend(tier_row(&persona.body, policy));
    for permission in Permission::ALL {
        if entry.permissions.has(permission) {
            weighing.permission(permission);
        }
    }
    let Weighing {
        rows,
        granted,
        cut,
        mut warnings,
        ..
    } = weighing;
    let ceiling = policy.ceiling_of(&entry.id);
    let limits = Limits::resolve(&policy.defaults, &entry.limits, ceiling);
    let limit_rows = limit_rows(entry, ceiling, &limits);
    let agents = policy.agents_of(persona.body.tier.as_ref()).unwrap_or(&policy.agents);
    let terms = Terms::new(&persona.body, agents, policy, &entry.id, &limits);
    let missing: Vec<Missing> = rows.iter().filter_map(Row::missing).collect();
    let outcome = if missing.is_empty() {
        Ok(Grant::new(grant_parts(
            entry, manifest, persona, policy, granted, cut, limits,
        )))
    } else {
        Err(Denial {
            capability: entry.id.clone(),
            missing,
        })
    };
    warnings.extend(outcome.iter().flat_map(unmet::warnings));
    let agent = agent_rows(&persona.body, policy).unwrap_or_default();
    Decision {
        capability: entry.id.clone(),
        version: entry.version.clone(),
        persona: persona.body.id.clone(),
        rows,
        clearance: persona.body.clearance,
        never: never(&agent, persona.body.tier.as_ref(), terms.call_cost_max_micro),
        agent,
        terms,
        limits: limit_rows,
        warnings,
        outcome,
    }
}

/// A tier that the policy does not have has no numbers, and guessing them would be a yes that nobody gave.
fn tier_row(persona: &PersonaBody, policy: &Policy) -> Option<Row> {
    let tier = persona.tier.as_ref()?;
    let known = policy.agents_of(Some(tier)).is_some();
    let yes = Answer {
        verdict: Verdict::Yes,
        lines: Vec::new(),
    };
    let no = || Answer {
        verdict: Verdict::No,
        lines: vec![Line::Whole(lines::tier(tier, policy.agents.requests_per_minute))],
    };
    Some(Row {
        subject: Subject::Tier,
        asked: vec![tier.to_string()],
        persona: yes.clone(),
        policy: if known { yes } else { no() },
        granted: if known { vec![tier.to_string()] } else { Vec::new() },
    })
}

fn grant_parts(
    entry: &Entry,
    manifest: Digest,
    persona: &Persona,
    policy: &Policy,
    permissions: Permissions,
    cut: Cut,
    limits: Limits,
) -> GrantParts {
    let network = permissions.has(Permission::NetworkRead) || permissions.has(Permission::NetworkWrite);
    GrantParts {
        capability: entry.id.clone(),
        version: entry.version.clone(),
        component: entry.component,
        persona: persona.body.id.clone(),
        manifest,
        policy: policy.digest(),
        clearance: persona.body.clearance,
        limits,
        metering: policy.metering_of(&entry.id),
        networks: if network { policy.networks.clone() } else { Vec::new() },
        secret_plain_loopback: policy.secret_plain_loopback && permissions.has(Permission::SecretRead),
        permissions,
        cut,
    }
}

fn limit_rows(entry: &Entry, ceiling: &Limits, granted: &Limits) -> Vec<LimitRow> {
    let asked = entry.limits.entries();
    let rows = granted.entries().into_iter().zip(ceiling.entries());
    rows.map(|((name, granted), (_, ceiling))| LimitRow {
        name,
        asked: asked.iter().find(|(other, _)| *other == name).map(|(_, value)| *value),
        ceiling,
        granted,
    })
    .collect()
}

#[cfg(test)]
mod tests;
