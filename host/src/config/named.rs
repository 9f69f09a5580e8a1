//! Limits that are for one capability or for personas of one tier, and the names that there are: a limit whose name is misspelt
//! is for nothing, and whatever it was meant for runs without it. It reads no document.

use std::collections::BTreeSet;

use aral_capability::Warning;
use aral_contract::CapabilityId;
use aral_contract::id::TierName;
use aral_contract::quote::key;

use super::Config;
use super::parse::nearest;

/// The names that there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// Of capabilities; none: they are not known, so that no limit of one is told of.
    pub capabilities: Option<BTreeSet<CapabilityId>>,
    /// The tiers of personas; none: they are not known.
    pub tiers: Option<BTreeSet<TierName>>,
}

impl Config {
    /// Limits for a capability or a tier that is not among these names, each with the name that was meant most likely.
    pub fn limits_for_nothing(&self, named: &Named) -> Vec<Warning> {
        let mut all = Vec::new();
        let rates = self.serve.as_ref().map(|serve| &serve.rates);
        if let Some(known) = &named.capabilities {
            let known: Vec<&str> = known.iter().map(CapabilityId::as_str).collect();
            let mut look = |place: String, id: &CapabilityId| {
                all.extend(for_nothing(
                    place,
                    id.as_str(),
                    &known,
                    "no manifest of [manifests] has this capability",
                ));
            };
            for id in self.policy.overrides.keys() {
                look(format!("[policy.capability.{}]", key(id.as_str())), id);
            }
            for id in rates.iter().flat_map(|rates| rates.capabilities.keys()) {
                look(format!("[serve.rates.capabilities] {id}"), id);
            }
        }
        if let Some(known) = &named.tiers {
            let known: Vec<&str> = known.iter().map(TierName::as_str).collect();
            let mut look = |place: String, tier: &TierName| {
                all.extend(for_nothing(
                    place,
                    tier.as_str(),
                    &known,
                    "no persona of the configuration has this tier",
                ));
            };
            for tier in self.policy.tiers.keys() {
                look(format!("[policy.tier.{}]", key(tier.as_str())), tier);
            }
            for tier in rates.iter().flat_map(|rates| rates.tiers.keys()) {
                look(format!("[serve.rates.tiers] {tier}"), tier);
            }
        }
        all
    }
}

fn for_nothing(place: String, name: &str, known: &[&str], why: &str) -> Option<Warning> {
    if known.contains(&name) {
        return None;
    }
    let hint = match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "correct the name, or take the line out; it may stay if what has this name comes later".to_owned(),
    };
    Some(Warning {
        message: format!("{place}: {why}, and nothing goes by what stands there"),
        hint,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::load;

    #[test]
    fn a_limit_whose_name_is_misspelt_is_told_with_the_name_that_was_meant() {
        let config = load(
            "[policy.capability.\"acme.jq\"]\n[policy.capability.echo]\n[policy.capability.ecko]\n[policy.tier.glod]\n[serve.rates.capabilities]\n\
             zzz = { per_second = 1 }\n[serve.rates.tiers]\ngold = { per_second = 1 }\nglod = { per_second = 1 }\n",
        );
        let told = |named: &Named| {
            let all = config.limits_for_nothing(named).into_iter();
            let words: Vec<String> = all.map(|one| format!("{} / {}", one.message, one.hint)).collect();
            words
        };
        let capabilities: BTreeSet<CapabilityId> = ["echo".parse().unwrap(), "grep".parse().unwrap()].into();
        let all = told(&Named {
            capabilities: Some(capabilities.clone()),
            tiers: Some(["gold".parse().unwrap()].into()),
        });
        for (one, (place, hint)) in all.iter().zip([
            ("[policy.capability.\"acme.jq\"]: no manifest", "correct the name"),
            ("[policy.capability.ecko]: no manifest", "did you mean `echo`?"),
            ("[serve.rates.capabilities] zzz: no manifest", "correct the name"),
            ("[policy.tier.glod]: no persona", "did you mean `gold`?"),
            ("[serve.rates.tiers] glod: no persona", "did you mean `gold`?"),
        ]) {
            assert!(one.starts_with(place) && one.contains(hint), "{one}");
        }
        assert_eq!(all.len(), 5, "{all:?}");
        let tiers = told(&Named {
            capabilities: None,
            tiers: Some(BTreeSet::new()),
        });
        assert_eq!(tiers.len(), 3, "no persona has a tier: {tiers:?}");
        assert!(told(&Named::default()).is_empty(), "who knows no names tells of none");
    }
}
