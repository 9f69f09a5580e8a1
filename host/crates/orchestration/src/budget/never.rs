//! Numbers with which no call is ever let through, whatever was used so far: a rate of 0, a cost above what an hour may cost.

use std::fmt;

use aral_contract::id::TierName;
use aral_contract::{Code, Failure};
use serde::Serialize;

use super::terms::TermRow;
use crate::authorize::Party;
use crate::authorize::lines::{persona_number, policy_number};
use crate::authorize::row::they;

/// A number that is too low for a single call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Never {
    /// Its name, with the unit.
    pub name: &'static str,
    /// Whose it is.
    pub by: Vec<Party>,
    /// The number.
    pub granted: u64,
    /// What it has to be at least.
    pub wanted: u64,
    /// The lines with which it would be, all of which are needed.
    pub lines: Vec<String>,
}

impl fmt::Display for Never {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let they = they(&self.by, "lets", "let");
        let (name, granted, wanted) = (self.name, self.granted, self.wanted);
        write!(
            f,
            "{they} no call through: `{name}` is {granted}, and a call can take {wanted}"
        )
    }
}

impl From<&Never> for Failure {
    fn from(never: &Never) -> Self {
        Self::new(Code::PermissionDenied, never.to_string()).with_hint(never.lines.join("\n"))
    }
}

/// What a single call takes of a number, if it takes any.
pub(crate) fn taken_of(name: &str, call_cost_max_micro: u64) -> u64 {
    match name {
        "requests_per_minute" | "requests_per_hour" => 1,
        "cost_per_hour_micro" => call_cost_max_micro,
        // A call that nobody else makes is not deep.
        _ => 0,
    }
}

/// The numbers among these that are too low for one call of that cost.
pub(crate) fn never(rows: &[TermRow], tier: Option<&TierName>, call_cost_max_micro: u64) -> Vec<Never> {
    let too_low = |row: &TermRow| {
        let wanted = taken_of(row.name, call_cost_max_micro);
        let (persona, policy) = (row.persona.is_some_and(|most| most < wanted), row.policy < wanted);
        let parties = [(Party::Persona, persona), (Party::Policy, policy)];
        let by: Vec<Party> = parties
            .into_iter()
            .filter(|(_, low)| *low)
            .map(|(party, _)| party)
            .collect();
        let line = |party: &Party| match party {
            Party::Persona => persona_number(row.name, wanted),
            Party::Policy => policy_number(tier, row.name, wanted),
        };
        (!by.is_empty()).then(|| Never {
            name: row.name,
            granted: row.granted,
            wanted,
            lines: by.iter().map(line).collect(),
            by,
        })
    };
    rows.iter().filter_map(too_low).collect()
}
