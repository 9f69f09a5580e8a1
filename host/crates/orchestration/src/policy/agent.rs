//! How much an agent may do, and what it costs, by the word of the policy. Numbers alone; who counts against them is
//! elsewhere.

use serde::Serialize;

use super::PolicyError;
use super::raw::{RawAgentLimits, RawPrices};

/// Default of `agent.requests_per_minute`. Stops an agent that runs in circles.
pub const REQUESTS_PER_MINUTE: u64 = 600;
/// Default of `agent.requests_per_hour`. Stops the same where it takes its time.
pub const REQUESTS_PER_HOUR: u64 = 10_000;
/// Default of `agent.cost_per_hour_micro`: ten units. Stops an agent from spending what nobody meant it to, as soon as
/// calls have a price.
pub const COST_PER_HOUR_MICRO: u64 = 10_000_000;
/// Default of `agent.reasoning_depth`. Stops agents that call each other in circles.
pub const REASONING_DEPTH: u32 = 8;
/// Deepest chain that any policy may allow. Stops a chain whose checks take longer than its calls.
pub const DEPTH_MAX: u32 = 64;

/// How much an agent may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct AgentLimits {
    /// The most calls in any 60 seconds.
    pub requests_per_minute: u64,
    /// The most calls in any 3,600 seconds.
    pub requests_per_hour: u64,
    /// What all calls in any 3,600 seconds may cost together, in millionths.
    pub cost_per_hour_micro: u64,
    /// How deep calls may be made.
    pub reasoning_depth: u32,
}

impl Default for AgentLimits {
    fn default() -> Self {
        Self {
            requests_per_minute: REQUESTS_PER_MINUTE,
            requests_per_hour: REQUESTS_PER_HOUR,
            cost_per_hour_micro: COST_PER_HOUR_MICRO,
            reasoning_depth: REASONING_DEPTH,
        }
    }
}

/// What calls cost, in millionths of the operator's unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Prices {
    /// Each call of a capability that has no price of its own.
    pub call_micro: u64,
    /// 1,000,000,000 units of fuel.
    pub gigafuel_micro: u64,
    /// One second from the request to the answer.
    pub second_micro: u64,
}

impl From<RawPrices> for Prices {
    fn from(raw: RawPrices) -> Self {
        Self {
            call_micro: raw.call_micro,
            gigafuel_micro: raw.gigafuel_micro,
            second_micro: raw.second_micro,
        }
    }
}

/// One table, with what it leaves out taken from `otherwise`.
pub(super) fn resolve(raw: RawAgentLimits, otherwise: AgentLimits) -> AgentLimits {
    AgentLimits {
        requests_per_minute: raw.requests_per_minute.unwrap_or(otherwise.requests_per_minute),
        requests_per_hour: raw.requests_per_hour.unwrap_or(otherwise.requests_per_hour),
        cost_per_hour_micro: raw.cost_per_hour_micro.unwrap_or(otherwise.cost_per_hour_micro),
        reasoning_depth: raw.reasoning_depth.unwrap_or(otherwise.reasoning_depth),
    }
}

/// A session does not know through whom it was called where it is deeper than any policy may allow.
pub(super) fn check_depth(place: &str, limits: &AgentLimits) -> Result<(), PolicyError> {
    let depth = limits.reasoning_depth;
    if depth > DEPTH_MAX {
        let place = place.to_owned();
        return Err(PolicyError::Depth { place, depth });
    }
    Ok(())
}
