//! The numbers that hold for one agent and one capability: worked out once with the grant, and only compared at a call.

use aral_contract::id::TierName;
use aral_contract::{CapabilityId, Limits, Metering, Usage};
use aral_persona::PersonaBody;
use serde::Serialize;

use crate::authorize::Party;
use crate::policy::{AgentLimits, Policy};

/// A number, and who says that it is no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Bound {
    /// The number.
    pub most: u64,
    /// Whose it is.
    pub by: Party,
}

impl Bound {
    /// The policy's number, unless the persona's is lower.
    fn of(persona: Option<u64>, policy: u64) -> Self {
        match persona {
            Some(most) if most < policy => Self {
                most,
                by: Party::Persona,
            },
            Some(_) | None => Self {
                most: policy,
                by: Party::Policy,
            },
        }
    }
}

/// What holds for the calls of one capability by one agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Terms {
    /// The tier whose numbers these are; none: those of all agents.
    pub tier: Option<TierName>,
    /// Calls in any 60 seconds.
    pub requests_per_minute: Bound,
    /// Calls in any 3,600 seconds.
    pub requests_per_hour: Bound,
    /// Cost of all calls in any 3,600 seconds, in millionths.
    pub cost_per_hour_micro: Bound,
    /// How deep calls may be made.
    pub reasoning_depth: Bound,
    /// What each call costs.
    pub price_micro: u64,
    /// What 1,000,000,000 units of fuel cost.
    pub gigafuel_micro: u64,
    /// What a second costs.
    pub second_micro: u64,
    /// What one call can cost at most: what is put aside for it.
    pub call_cost_max_micro: u64,
}

/// How one of these numbers came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct TermRow {
    /// Its name, with the unit.
    pub name: &'static str,
    /// What the persona says.
    pub persona: Option<u64>,
    /// What the policy says.
    pub policy: u64,
    /// What holds.
    pub granted: u64,
}

impl Terms {
    /// For an agent whose tier the policy has as `agents`.
    pub(crate) fn new(
        persona: &PersonaBody,
        agents: &AgentLimits,
        policy: &Policy,
        capability: &CapabilityId,
        limits: &Limits,
    ) -> Self {
        let constraints = &persona.constraints;
        let rates = &constraints.rate_limits;
        let mut terms = Self {
            tier: persona.tier.clone(),
            requests_per_minute: Bound::of(rates.requests_per_minute, agents.requests_per_minute),
            requests_per_hour: Bound::of(rates.requests_per_hour, agents.requests_per_hour),
            cost_per_hour_micro: Bound::of(constraints.max_cost_per_hour, agents.cost_per_hour_micro),
            reasoning_depth: depth_bound(persona, agents),
            price_micro: policy.price_of(capability),
            gigafuel_micro: policy.prices.gigafuel_micro,
            second_micro: policy.prices.second_micro,
            call_cost_max_micro: 0,
        };
        let fuel = match policy.metering_of(capability) {
            Metering::Metered => Some(limits.fuel),
            Metering::EpochOnly => None,
        };
        terms.call_cost_max_micro = terms.cost_micro(&Usage {
            fuel,
            wall_us: limits.wall_ms.saturating_mul(1_000),
            ..Usage::default()
        });
        terms
    }

    /// What a call cost that used this, each part rounded up.
    pub fn cost_micro(&self, usage: &Usage) -> u64 {
        let part = |amount: u64, price: u64, per: u64| {
            let product = u128::from(amount).saturating_mul(u128::from(price));
            u64::try_from(product.div_ceil(u128::from(per))).unwrap_or(u64::MAX)
        };
        self.price_micro
            .saturating_add(part(usage.fuel.unwrap_or(0), self.gigafuel_micro, 1_000_000_000))
            .saturating_add(part(usage.wall_us, self.second_micro, 1_000_000))
    }
}

/// How deep an agent may call, and others behind it, if the policy has its tier as `agents`.
pub(crate) fn depth_bound(persona: &PersonaBody, agents: &AgentLimits) -> Bound {
    Bound::of(
        persona.constraints.max_reasoning_depth.map(u64::from),
        u64::from(agents.reasoning_depth),
    )
}

/// What an agent may use up, each number with what both say; none: the policy does not have the persona's tier.
pub fn agent_rows(persona: &PersonaBody, policy: &Policy) -> Option<Vec<TermRow>> {
    let agents = policy.agents_of(persona.tier.as_ref())?;
    let constraints = &persona.constraints;
    let rates = &constraints.rate_limits;
    let depth = constraints.max_reasoning_depth.map(u64::from);
    let rows = [
        (
            "requests_per_minute",
            rates.requests_per_minute,
            agents.requests_per_minute,
        ),
        ("requests_per_hour", rates.requests_per_hour, agents.requests_per_hour),
        (
            "cost_per_hour_micro",
            constraints.max_cost_per_hour,
            agents.cost_per_hour_micro,
        ),
        ("reasoning_depth", depth, u64::from(agents.reasoning_depth)),
    ];
    let row = |(name, persona, policy)| TermRow {
        name,
        persona,
        policy,
        granted: Bound::of(persona, policy).most,
    };
    Some(rows.into_iter().map(row).collect())
}
