//! Changes as lines: of what was found to be needed, and of what a call that may run does not get whole.

use super::super::lines::{self, Line, Lines};
use super::super::{Decision, unmet};
use super::candidates::{Candidate, Value};
use super::{Change, Document};

/// The lines of what is needed, those of one list in one, and what a call needs besides once it is decided so.
pub(super) fn of(needed: &[&Candidate], decision: Option<&Decision>) -> Vec<Change> {
    let (mut merged, mut whole, mut rates) = (Lines::default(), Vec::new(), Vec::new());
    for Candidate { place, value, .. } in needed {
        match value {
            Value::Text(text) => merged.add_text(place, text),
            Value::Plain(value) => merged.add(place, value.clone()),
            Value::On => merged.switch_on(place),
            Value::Number(number) => merged.raise(place, *number),
            Value::Line(line) => whole.push(line.clone()),
            Value::Rate(name, number) => rates.push((*name, *number)),
        }
    }
    let mut lines: Vec<String> = merged.into_lines().iter().map(Line::to_string).collect();
    if !rates.is_empty() {
        lines.push(lines::persona_rates(&rates));
    }
    lines.extend(whole);
    lines.extend(decision.into_iter().flat_map(unmet_lines));
    in_documents(lines)
}

/// The lines with which persona and policy would give all that the manifest asks for.
pub(super) fn rest(decision: Decision) -> Vec<Change> {
    let unmet = unmet_lines(&decision);
    let answers = decision.rows.into_iter().flat_map(|row| [row.persona, row.policy]);
    let lacked: Vec<Line> = answers.flat_map(|answer| answer.lines).collect();
    let mut lines: Vec<String> = lines::merged(&lacked).iter().map(Line::to_string).collect();
    lines.extend(unmet);
    lines.sort_unstable();
    in_documents(lines)
}

/// The lines without which a call is refused what it is granted.
pub(super) fn besides(decision: &Decision) -> Vec<Change> {
    in_documents(unmet_lines(decision))
}

fn unmet_lines(decision: &Decision) -> Vec<String> {
    decision.outcome.iter().flat_map(unmet::lines).collect()
}

/// With the document that each belongs to: first those of the persona, then those of the policy.
fn in_documents(lines: Vec<String>) -> Vec<Change> {
    let change = |line: String| Change {
        document: if line.starts_with(lines::PERSONA) {
            Document::Persona
        } else {
            Document::Policy
        },
        line,
    };
    let mut changes: Vec<Change> = lines.into_iter().map(change).collect();
    changes.sort_by_key(|change| change.document == Document::Policy);
    changes
}
