//! The rows of a decision: who was asked for what, what each answered, what came out, and which lines would change it.
//! Words alone; nothing here decides.

use std::fmt;

use aral_contract::Permission;
use serde::{Serialize, Serializer};

use super::lines::Line;

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Whether the capability may run at all.
    Capability,
    /// Whether the policy has numbers for the persona's tier.
    Tier,
    /// One permission.
    Permission(Permission),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capability => f.write_str("capability"),
            Self::Tier => f.write_str("tier"),
            Self::Permission(permission) => permission.fmt(f),
        }
    }
}

impl Serialize for Subject {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Who answers. The manifest is the one that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Party {
    /// The agent's persona.
    Persona,
    /// The operator's policy.
    Policy,
}

impl Party {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Persona => "persona",
            Self::Policy => "policy",
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much of what was asked for somebody lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// All of it.
    Yes,
    /// Some of it.
    Part,
    /// Nothing that the capability could run with.
    No,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yes => "yes",
            Self::Part => "part",
            Self::No => "no",
        })
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// How much.
    pub verdict: Verdict,
    /// The lines that would make it a yes; none if it is one.
    pub lines: Vec<Line>,
}

/// One row of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What it is about.
    pub subject: Subject,
    /// What the manifest asks for, one text for each item.
    pub asked: Vec<String>,
    /// What the persona answers.
    pub persona: Answer,
    /// What the policy answers.
    pub policy: Answer,
    /// What came out, one text for each item. Empty: a denial.
    pub granted: Vec<String>,
}

impl Row {
    /// If nothing came out: what is missing.
    pub fn missing(&self) -> Option<Missing> {
        if !self.granted.is_empty() {
            return None;
        }
        let answers = [(Party::Persona, &self.persona), (Party::Policy, &self.policy)];
        // Two answers that are each a part, and have nothing in common, both have to change.
        let short = |answer: &Answer, worst: Verdict| answer.verdict == worst;
        let any_no = answers.iter().any(|(_, answer)| short(answer, Verdict::No));
        let blamed = if any_no { Verdict::No } else { Verdict::Part };
        let blamed: Vec<_> = answers
            .into_iter()
            .filter(|(_, answer)| short(answer, blamed))
            .collect();
        Some(Missing {
            subject: self.subject,
            by: blamed.iter().map(|(party, _)| *party).collect(),
            lines: blamed
                .into_iter()
                .flat_map(|(_, answer)| answer.lines.clone())
                .collect(),
        })
    }
}

/// Something that the manifest requires and somebody does not give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// What.
    pub subject: Subject,
    /// Who does not give it.
    pub by: Vec<Party>,
    /// The lines that would give it.
    pub lines: Vec<Line>,
}

/// These parties and what they do, in words: `one` of one of them, `several` of more.
pub(crate) fn they(parties: &[Party], one: &str, several: &str) -> String {
    let named: Vec<String> = parties.iter().map(|party| format!("the {party}")).collect();
    let verb = if named.len() == 1 { one } else { several };
    format!("{} {verb}", named.join(" and "))
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let they = they(&self.by, "does", "do");
        match self.subject {
            Subject::Capability => write!(f, "{they} not allow it"),
            Subject::Tier => write!(f, "{they} not have the persona's tier"),
            Subject::Permission(permission) => {
                write!(f, "{they} not give `{permission}` with the scope that it asks for")
            }
        }
    }
}
