//! The smallest change that would turn a no into a yes. It is found by trying: everything that could be missing is added to
//! copies of persona and policy, and taken away again one by one as long as the decision stays a yes, in one order after the
//! other. What is left is needed, every piece of it. Nothing here changes anything.

mod candidates;
mod changes;
mod lowered;
mod wanted;

use aral_capability::manifest::Entry;
use aral_capability::manifest::check::check_scopes;
use aral_contract::{Digest, Permissions};
use aral_persona::Persona;
use serde::Serialize;

use super::authorize;
use super::row::{Row, Verdict};
use crate::policy::{Policy, PolicyParts};
use candidates::Candidate;
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
    /// the lines without which it is refused what it is granted: networks of addresses, and a clearance for secrets.
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
            changes: in_manifest.into_iter().chain(changes::besides(&decision)).collect(),
            ..WhyNot::default()
        };
    }
    // What is wanted comes before the patterns that the manifest asks for: they would do, and allow more.
    let hosts = candidates::hosts(alone.iter().chain([&whole]));
    let candidates = candidates::of(&whole, hosts, persona, policy);
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
    WhyNot {
        changes: in_manifest
            .into_iter()
            .chain(changes::of(&smallest, decision.as_ref().ok()))
            .collect(),
        ..WhyNot::default()
    }
}

/// Orders that are tried at most, each of which takes as many decisions. Stops a manifest that asks for very much from taking
/// long; then one order has to do.
const ORDERS_MAX: usize = 64;

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
