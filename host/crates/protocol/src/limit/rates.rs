//! Every rate of the server, with its default and the attack that it stops. It reads no file.

use std::collections::BTreeMap;

use aral_contract::CapabilityId;
use aral_contract::id::TierName;

use super::rate::{Per, Rate};

/// Keys whose use is remembered, by default. Stops callers from many addresses from filling memory.
pub const KEYS_MAX_DEFAULT: u64 = 100_000;

/// Most that a rate may give in its second or minute. So each interval, which has whole nanoseconds, is exact to a thousandth.
const COUNT_MAX: u64 = 1_000_000;
/// The same of cost, in millionths: a thousand units. So many are given back after a nanosecond each; the more there are, the coarser.
const COST_MAX: u64 = 1_000_000_000;

/// Which limit. The words are those of the configuration and of the field `RateLimit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// All callers together.
    Global,
    /// One address: of IPv6 the network of 64 bits.
    Address,
    /// Refused credentials of one address.
    Failures,
    /// One persona.
    Persona,
    /// All calls of one capability.
    Capability,
    /// What all calls of one capability may cost, in millionths.
    Cost,
    /// Calls of one capability by one caller.
    Caller,
}

impl Limit {
    /// All of them, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::Global,
        Self::Address,
        Self::Failures,
        Self::Persona,
        Self::Capability,
        Self::Cost,
        Self::Caller,
    ];

    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Address => "address",
            Self::Failures => "failures",
            Self::Persona => "persona",
            Self::Capability => "capability",
            Self::Cost => "cost",
            Self::Caller => "caller",
        }
    }

    /// The most that its rate may give in its second or minute.
    pub const fn count_max(self) -> u64 {
        match self {
            Self::Cost => COST_MAX,
            Self::Global | Self::Address | Self::Failures | Self::Persona | Self::Capability | Self::Caller => {
                COUNT_MAX
            }
        }
    }

    /// Whether others count against it too: how much of it is left says something about them, and is not told.
    pub(crate) fn is_common(self) -> bool {
        match self {
            Self::Global | Self::Capability | Self::Cost => true,
            Self::Address | Self::Failures | Self::Persona | Self::Caller => false,
        }
    }
}

/// The rates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rates {
    /// Of all callers together. Stops callers from using up what the host can do, each within its own limits.
    pub global: Rate,
    /// Of one address, before anybody is asked who they are. Stops strangers from keeping the server busy.
    pub address: Rate,
    /// Of refused credentials of one address. Stops guessing.
    pub failures: Rate,
    /// Of one persona that has no tier, or one that is not among `tiers`. Stops one agent from taking the place of others.
    pub persona: Rate,
    /// Of one persona, by its tier.
    pub tiers: BTreeMap<TierName, Rate>,
    /// Of all calls of one capability that is not among `capabilities`. Stops what stands behind it from being flooded.
    pub capability: Rate,
    /// Of all calls of one capability.
    pub capabilities: BTreeMap<CapabilityId, Rate>,
    /// Of what all calls of one capability cost, in millionths. Stops many agents from spending together what each may.
    pub cost: Rate,
    /// Of calls of one capability by one caller. Stops one caller from taking a capability from the others.
    pub caller: Rate,
    /// Keys whose use is remembered: addresses, and what callers need, each apart.
    pub keys_max: u64,
}

impl Default for Rates {
    fn default() -> Self {
        let second = |count, burst| Rate::of(count, Per::Second, burst);
        Self {
            global: second(10_000, 20_000),
            address: second(500, 1_000),
            failures: Rate::of(60, Per::Minute, 100),
            persona: second(500, 1_000),
            tiers: BTreeMap::new(),
            capability: second(2_000, 4_000),
            capabilities: BTreeMap::new(),
            cost: second(1_000_000, 100_000_000),
            caller: second(500, 1_000),
            keys_max: KEYS_MAX_DEFAULT,
        }
    }
}

impl Rates {
    /// The rate of a limit where no tier and no capability has another.
    pub fn of(&self, limit: Limit) -> Rate {
        match limit {
            Limit::Global => self.global,
            Limit::Address => self.address,
            Limit::Failures => self.failures,
            Limit::Persona => self.persona,
            Limit::Capability => self.capability,
            Limit::Cost => self.cost,
            Limit::Caller => self.caller,
        }
    }

    /// The rate of a persona, and its tier if that decides.
    pub(crate) fn of_tier<'a>(&self, tier: Option<&'a TierName>) -> (Rate, Option<&'a TierName>) {
        match tier.and_then(|tier| Some((*self.tiers.get(tier)?, tier))) {
            Some((rate, tier)) => (rate, Some(tier)),
            None => (self.persona, None),
        }
    }

    /// The rate of a capability, and whether it has one of its own.
    pub(crate) fn of_capability(&self, id: &CapabilityId) -> (Rate, bool) {
        match self.capabilities.get(id) {
            Some(rate) => (*rate, true),
            None => (self.capability, false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::rate::RateRequest;

    #[test]
    fn every_default_is_a_rate_that_could_be_configured() {
        for limit in Limit::ALL {
            let rate = Rates::default().of(limit);
            let (count, key) = rate.count();
            let count = Some(u64::from(count));
            let request = RateRequest {
                per_second: count.filter(|_| key == "per_second"),
                per_minute: count.filter(|_| key == "per_minute"),
                burst: Some(u64::from(rate.burst())),
            };
            assert_eq!(Rate::resolve(&request, limit.count_max()), Ok(rate), "{limit:?}");
            assert!(count < Some(limit.count_max()), "{limit:?} can be raised");
        }
    }

    #[test]
    fn every_rate_is_documented_with_its_default() {
        let document = include_str!("../../../../../docs/defaults.md");
        for limit in Limit::ALL {
            let line = format!(
                "\n| [serve.rates] `{}` | {} | ",
                limit.as_str(),
                Rates::default().of(limit)
            );
            assert!(document.contains(&line), "docs/defaults.md has no line{line}");
        }
        let keys = format!("\n| [serve.rates] `keys_max` | {KEYS_MAX_DEFAULT} | ");
        assert!(document.contains(&keys), "docs/defaults.md has no line{keys}");
        let lines = document.lines().filter(|line| line.starts_with("| [serve.rates] "));
        assert_eq!(lines.count(), Limit::ALL.len() + 1);
    }
}
