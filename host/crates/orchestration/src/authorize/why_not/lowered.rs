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
    let limits = limits.map(|(row, (_, default))| (row.name, row.granted, limit(decision, row, default)));
    let agent = decision.agent.iter();
    let agent = agent.map(|row| (row.name, row.granted, number(decision, row)));
    let lowered = |(name, granted, word): (&'static str, u64, Option<Word>)| {
        let (by, otherwise, line) = word?;
        Some(Lowered {
            name,
            granted,
            by,
            otherwise,
            line,
        })
    };
    limits.chain(agent).filter_map(lowered).collect()
}

/// Which document lowers a number, what the others come to, and the line with which that holds.
type Word = (Document, u64, String);

/// A limit of a call. A persona says nothing of these.
fn limit(decision: &Decision, row: &LimitRow, default: u64) -> Option<Word> {
    let LimitRow { name, granted, .. } = *row;
    let asked = row.asked?;
    // What a manifest that says nothing of it gets.
    let unasked = default.min(row.ceiling);
    if asked > granted {
        let line = lines::ceiling(&decision.capability, name, asked);
        Some((Document::Policy, asked, line))
    } else if asked < unasked {
        Some((Document::Manifest, unasked, lines::manifest_limit(name, unasked)))
    } else {
        None
    }
}

/// What the agent may use up. A manifest says nothing of it.
fn number(decision: &Decision, row: &TermRow) -> Option<Word> {
    let TermRow { name, policy, .. } = *row;
    let persona = row.persona?;
    if persona < policy {
        Some((Document::Persona, policy, lines::persona_number(name, policy)))
    } else if policy < persona {
        let tier = decision.terms.tier.as_ref();
        Some((Document::Policy, persona, lines::policy_number(tier, name, persona)))
    } else {
        None
    }
}
