//! The lines that would change an answer: where they stand and how they are written. Words alone; nothing here decides.

use std::collections::BTreeMap;
use std::fmt;

use aral_contract::CapabilityId;
use aral_contract::id::TierName;
use aral_contract::quote::{key, quoted};
use serde::{Serialize, Serializer};

/// How the lines of a persona begin.
pub(super) const PERSONA: &str = "persona";
/// Where the lines of a persona stand.
pub(super) const PERSONA_PERMISSIONS: &str = "persona, constraints: \"allowed_permissions\"";
pub(super) const PERSONA_CAPABILITIES: &str = "persona, constraints: \"allowed_capabilities\"";
pub(super) const PERSONA_DOMAINS: &str = "persona, constraints: \"allowed_domains\"";
pub(super) const PERSONA_CLEARANCE: &str = "persona, \"clearance\"";
/// Where the lines of a policy stand.
pub(super) const POLICY_PERMISSIONS: &str = "aral.toml, [policy]: permissions";
pub(super) const POLICY_CAPABILITIES: &str = "aral.toml, [policy]: capabilities";
pub(super) const POLICY_HOSTS: &str = "aral.toml, [policy.network]: hosts";
pub(super) const POLICY_NETWORKS: &str = "aral.toml, [policy.network]: networks";
pub(super) const POLICY_READ_ROOTS: &str = "aral.toml, [policy.file]: read_roots";
pub(super) const POLICY_WRITE_ROOTS: &str = "aral.toml, [policy.file]: write_roots";
pub(super) const POLICY_FILE_BYTES: &str = "aral.toml, [policy.file]: bytes_max";
pub(super) const POLICY_FILE_COUNT: &str = "aral.toml, [policy.file]: files_max";
pub(super) const POLICY_SECRETS: &str = "aral.toml, [policy.secret]: names";
pub(super) const POLICY_REVEAL: &str = "aral.toml, [policy.secret]: reveal";
pub(super) const POLICY_PLAIN_LOOPBACK: &str = "aral.toml, [policy.secret]: plain_loopback";
pub(super) const POLICY_NAMESPACES: &str = "aral.toml, [policy.memory]: namespaces";
pub(super) const POLICY_MEMORY_BYTES: &str = "aral.toml, [policy.memory]: bytes_max";
pub(super) const POLICY_MEMORY_RECORDS: &str = "aral.toml, [policy.memory]: records_max";
pub(super) const POLICY_PROGRAMS: &str = "aral.toml, [policy.exec]: programs";

/// The line that makes a tier.
pub(crate) fn tier(name: &TierName, requests_per_minute: u64) -> String {
    policy_number(Some(name), "requests_per_minute", requests_per_minute.max(1))
}

/// The line with which a number of a persona is another one.
pub(crate) fn persona_number(name: &str, number: u64) -> String {
    match name {
        "cost_per_hour_micro" => format!("{PERSONA}, constraints: \"max_cost_per_hour\": {number}"),
        "reasoning_depth" => format!("{PERSONA}, constraints: \"max_reasoning_depth\": {number}"),
        rate => persona_rates(&[(rate, number)]),
    }
}

/// The line with which the rates of a persona are others.
pub(super) fn persona_rates(rates: &[(&str, u64)]) -> String {
    let rates: Vec<String> = rates
        .iter()
        .map(|(name, number)| format!("\"{name}\": {number}"))
        .collect();
    format!("{PERSONA}, constraints.rate_limits: {}", rates.join(", "))
}

/// The line with which a number of the policy for agents is another one: of this tier, or of all.
pub(crate) fn policy_number(tier: Option<&TierName>, name: &str, number: u64) -> String {
    match tier {
        Some(tier) => format!("aral.toml, [policy.tier.{}]: {name} = {number}", key(tier.as_str())),
        None => format!("aral.toml, [policy.agent]: {name} = {number}"),
    }
}

/// A line of a persona or of a policy that would change an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// What a list lacks.
    Values {
        /// Which list.
        place: &'static str,
        /// The values in the words of the file, each once.
        values: Vec<String>,
    },
    /// Anything else, as it is written.
    Whole(String),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Values { place, values } => write!(f, "{place}{} [{}]", sign(place), values.join(", ")),
            Self::Whole(line) => f.write_str(line),
        }
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A place and its value are `key = value` in a policy and `"key": value` in a persona.
fn sign(place: &str) -> &'static str {
    if place.starts_with(PERSONA) { ":" } else { " =" }
}

/// The same lines with each list once: several permissions may lack something of one list, and a document that names a list twice is
/// refused.
pub(super) fn merged<'a>(lines: impl IntoIterator<Item = &'a Line>) -> Vec<Line> {
    let mut merged: Vec<Line> = Vec::new();
    for line in lines {
        let Line::Values { place, values } = line else {
            if !merged.contains(line) {
                merged.push(line.clone());
            }
            continue;
        };
        let same = merged.iter_mut().find_map(|one| match one {
            Line::Values { place: other, values } if *other == *place => Some(values),
            Line::Values { .. } | Line::Whole(_) => None,
        });
        match same {
            Some(all) => {
                for value in values {
                    if !all.contains(value) {
                        all.push(value.clone());
                    }
                }
            }
            None => merged.push(line.clone()),
        }
    }
    merged
}

/// The line with which the most that one capability gets of a limit is another number.
pub(super) fn ceiling(capability: &CapabilityId, name: &str, number: u64) -> String {
    let capability = key(capability.as_str());
    format!("aral.toml, [policy.capability.{capability}.limits]: {name} = {number}")
}

/// The line with which a manifest asks for this much of a limit.
pub(super) fn manifest_limit(name: &str, number: u64) -> String {
    format!("capability.toml, [limits]: {name} = {number}")
}

/// The lines that would have prevented a loss.
#[derive(Default)]
pub(super) struct Lines(BTreeMap<&'static str, LineValue>);

enum LineValue {
    List(Vec<String>),
    One(String),
}

impl Lines {
    /// A value that a list lacks, in the words of the file.
    pub(super) fn add(&mut self, place: &'static str, value: String) {
        let entry = self.0.entry(place).or_insert_with(|| LineValue::List(Vec::new()));
        if let LineValue::List(list) = entry
            && !list.contains(&value)
        {
            list.push(value);
        }
    }

    /// A text that a list lacks.
    pub(super) fn add_text(&mut self, place: &'static str, text: &str) {
        self.add(place, quoted(text));
    }

    /// A switch that is off.
    pub(super) fn switch_on(&mut self, place: &'static str) {
        self.0.insert(place, LineValue::One("true".to_owned()));
    }

    /// A number that is too low: the highest that is asked for.
    pub(super) fn raise(&mut self, place: &'static str, number: u64) {
        let so_far = match self.0.get(place) {
            Some(LineValue::One(text)) => text.parse().unwrap_or(0),
            Some(LineValue::List(_)) | None => 0,
        };
        self.0.insert(place, LineValue::One(number.max(so_far).to_string()));
    }

    /// Every place with its value.
    pub(super) fn into_lines(self) -> Vec<Line> {
        let line = |(place, value): (&'static str, LineValue)| match value {
            LineValue::List(values) => Line::Values { place, values },
            LineValue::One(value) => Line::Whole(format!("{place}{} {value}", sign(place))),
        };
        self.0.into_iter().map(line).collect()
    }
}
