//! Numbers of a call that are lower than they would be if one document said nothing of them: how much holds, whose word that is, and
//! the line that changes it.

use serde::Serialize;

use super::super::{Decision, LimitRow, lines};
use super::Document;
use crate::budget::TermRow;
use crate::policy::Policy;

/// A number that one document lowers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lowered {
    /// Its name, with the unit.
    pub name: &'static str,
    /// What holds.
    pub granted: u64,
    /// Which document says so.
    pub by: Document,
    /// What the others come to.
    pub otherwise: u64,
    /// The line with which that holds.
    pub line: String,
}

/// First the limits of a call, then what the agent may use up.
pub(super) fn of(decision: &Decision, policy: &Policy) -> Vec<Lowered> {
    let defaults = policy.defaults.entries();
    let limits = decision.limits.iter().zip(defaults);
    let limits = limits.filter_map(|(row, (_, default))| limit(decision, row, default));
    let agent = decision.agent.iter().filter_map(|row| number(decision, row));
    limits.chain(agent).collect()
}

/// A limit of a call. A persona says nothing of these.
fn limit(decision: &Decision, row: &LimitRow, default: u64) -> Option<Lowered> {
    let LimitRow { name, granted, .. } = *row;
    let asked = row.asked?;
    // What a manifest that says nothing of it gets.
    let unasked = default.min(row.ceiling);
    let (by, otherwise, line) = if asked > granted {
        (
            Document::Policy,
            asked,
            lines::ceiling(&decision.capability, name, asked),
        )
    } else if asked < unasked {
        (Document::Manifest, unasked, lines::manifest_limit(name, unasked))
    } else {
        return None;
    };
    Some(Lowered {
        name,
        granted,
        by,
        otherwise,
        line,
    })
}

/// What the agent may use up. A manifest says nothing of it.
fn number(decision: &Decision, row: &TermRow) -> Option<Lowered> {
    let TermRow {
        name, policy, granted, ..
    } = *row;
    let persona = row.persona?;
    let (by, otherwise, line) = if persona < policy {
        (Document::Persona, policy, lines::persona_number(name, policy))
    } else if policy < persona {
        let tier = decision.terms.tier.as_ref();
        (Document::Policy, persona, lines::policy_number(tier, name, persona))
    } else {
        return None;
    };
    Some(Lowered {
        name,
        granted,
        by,
        otherwise,
        line,
    })
}
