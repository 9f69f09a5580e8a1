//! The lines that would change an answer: where they stand and how they are written. Words alone; nothing here decides.

use std::collections::BTreeMap;

use aral_contract::CapabilityId;
use aral_contract::id::TierName;
use aral_contract::quote::quoted;

/// How the lines of a persona begin.
pub(super) const PERSONA: &str = "persona";
/// Where the lines of a persona stand.
pub(super) const PERSONA_PERMISSIONS: &str = "persona, constraints: \"allowed_permissions\"";
pub(super) const PERSONA_CAPABILITIES: &str = "persona, constraints: \"allowed_capabilities\"";
pub(super) const PERSONA_DOMAINS: &str = "persona, constraints: \"allowed_domains\"";
/// Where the lines of a policy stand.
pub(super) const POLICY_PERMISSIONS: &str = "aral.toml, [policy]: permissions";
pub(super) const POLICY_CAPABILITIES: &str = "aral.toml, [policy]: capabilities";
pub(super) const POLICY_HOSTS: &str = "aral.toml, [policy.network]: hosts";
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
    format!("{PERSONA}, constraints: \"rate_limits\": {{ {} }}", rates.join(", "))
}

/// The line with which a number of the policy for agents is another one: of this tier, or of all.
pub(crate) fn policy_number(tier: Option<&TierName>, name: &str, number: u64) -> String {
    match tier {
        Some(tier) => format!("aral.toml, [policy.tier.{tier}]: {name} = {number}"),
        None => format!("aral.toml, [policy.agent]: {name} = {number}"),
    }
}

/// The line with which the most that one capability gets of a limit is another number.
pub(super) fn ceiling(capability: &CapabilityId, name: &str, number: u64) -> String {
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

    /// Every place with its value: as `key = value` for the policy, as `"key": value` for the persona.
    pub(super) fn into_lines(self) -> Vec<String> {
        let line = |(place, value): (&str, LineValue)| {
            let sign = if place.starts_with(PERSONA) { ":" } else { " =" };
            match value {
                LineValue::List(values) => format!("{place}{sign} [{}]", values.join(", ")),
                LineValue::One(value) => format!("{place}{sign} {value}"),
            }
        };
        self.0.into_iter().map(line).collect()
    }
}
