//! Limits on how often somebody may ask, in whatever time: GCRA, for which each unit is given back at a fixed interval. What
//! is counted, in which order and in which of the two places is said here; who asks and what they are answered is not.
//!
//! Strangers are counted by this process alone, before anybody looks at who they are, in a handshake or in a request: no flood
//! reaches a network or another table than theirs. Callers are counted in one step for all their limits, here or in Redis.

mod admit;
mod charge;
mod fields;
mod forwarded;
mod local;
mod rate;
mod rates;
mod reservation;
mod server;
mod shared;
mod table;

#[cfg(test)]
mod model;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use aral_contract::id::{CallerName, PersonaId, TierName};
use aral_contract::{AuditSink, CapabilityId, Clock};
use tracing::Instrument as _;

use crate::health::Check;

pub(crate) use admit::{callers, handshake, strangers};
pub(crate) use fields::{RATE_LIMIT, RATE_LIMIT_POLICY};
pub(crate) use forwarded::forwarded;
pub use forwarded::{ForwardedField, Proxies, ProxiesError};
pub use rate::{Rate, RateError, RateRequest};
pub use rates::{KEYS_MAX_DEFAULT, Limit, Rates};
pub(crate) use reservation::Reservation;
pub use server::{Prefix, RedisNameError, RedisOptions, RedisUrl, TIMEOUT_MS_DEFAULT, WhenDown};

use charge::{Charge, Key, Level, Refused, Verdict};
use local::Local;
use rate::Per;
use shared::{Down, Recorder, Shared};

/// All limits of a server.
#[derive(Debug)]
pub(crate) struct Limits {
    rates: Rates,
    strangers: Arc<Local>,
    /// Handshakes of TLS, by address.
    handshakes: Arc<Local>,
    /// What asks nobody who they are, by address.
    public: Arc<Local>,
    callers: Arc<Local>,
    /// As it was at the start.
    shared: Option<Arc<Shared>>,
    /// What the configuration says of it now.
    redis: Option<RedisOptions>,
}

/// Who asks for what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) address: IpAddr,
    pub(crate) caller: &'a CallerName,
    pub(crate) persona: &'a PersonaId,
    pub(crate) tier: Option<&'a TierName>,
    /// The call; none: it is none, or one that is denied anyhow and uses nothing up that others need.
    pub(crate) call: Option<Call<'a>>,
}

/// A call that may be made.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) capability: &'a CapabilityId,
    /// What it can cost at most, in millionths.
    pub(crate) cost_micro_max: u64,
    /// How long it takes at most.
    pub(crate) time_max: Duration,
}

/// Where something is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counter {
    Here,
    /// What is put aside there ends then at the latest, in microseconds by its clock.
    Shared {
        end_us: u64,
    },
}

/// A request that may go on.
#[derive(Debug)]
struct Taken {
    levels: Vec<Level>,
    /// What is put aside for the cost of the call.
    reservation: Arc<Reservation>,
}

/// Why a request may not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopped {
    /// A limit is used up.
    Refused(Refused),
    /// The limits cannot be asked, and then nobody gets in.
    Down,
}

impl Limits {
    /// Whether there could be connections to the server that keeps the limits: its certificates are some. It asks nobody.
    pub(crate) fn check(redis: &RedisOptions) -> Result<(), redis::RedisError> {
        shared::client(redis).map(drop)
    }

    /// Connects to the server that keeps the limits, if there is one.
    pub(crate) async fn start(
        rates: Rates,
        redis: Option<RedisOptions>,
        clock: &Arc<dyn Clock>,
        sink: &Arc<dyn AuditSink>,
    ) -> Result<Self, redis::RedisError> {
        let recorder = Recorder {
            clock: Arc::clone(clock),
            sink: Arc::clone(sink),
        };
        let shared = match redis.clone() {
            Some(options) => Some(Arc::new(Shared::start(options, recorder).await?)),
            None => None,
        };
        let keys_max = crate::bounds::size(rates.keys_max);
        Ok(Self {
            rates,
            strangers: Arc::new(Local::new("strangers", keys_max, Arc::clone(clock))),
            handshakes: Arc::new(Local::new("handshakes", keys_max, Arc::clone(clock))),
            public: Arc::new(Local::new("public", keys_max, Arc::clone(clock))),
            callers: Arc::new(Local::new("callers", keys_max, Arc::clone(clock))),
            shared,
            redis,
        })
    }

    /// The same limits with other rates, under a configuration that says this of their server: what was counted is counted. Changes
    /// nothing of this one.
    pub(crate) fn renewed(&self, rates: Rates, redis: Option<RedisOptions>) -> Self {
        Self {
            rates,
            strangers: Arc::clone(&self.strangers),
            handshakes: Arc::clone(&self.handshakes),
            public: Arc::clone(&self.public),
            callers: Arc::clone(&self.callers),
            shared: self.shared.clone(),
            redis,
        }
    }

    /// From now on as much is remembered as these rates say.
    pub(crate) fn rebound(&self) {
        let keys_max = crate::bounds::size(self.rates.keys_max);
        self.strangers.resize(keys_max);
        self.handshakes.resize(keys_max);
        self.public.resize(keys_max);
        self.callers.resize(keys_max);
    }

    /// Whether they are counted there; none: by this server alone. A password or authorities that were renewed are no reason to refuse
    /// a configuration that may revoke something.
    pub(crate) fn is_kept_at(&self, redis: Option<&RedisOptions>) -> bool {
        match (self.kept_at(), redis) {
            (Some(kept), Some(redis)) => kept.is_like(redis),
            (None, None) => true,
            (Some(_), None) | (None, Some(_)) => false,
        }
    }

    /// Whether the configuration names another password or other authorities than that of before, and than their server is asked with.
    pub(crate) fn has_other_credentials(&self, before: &Self) -> bool {
        self.redis != before.redis && self.redis.as_ref() != self.kept_at()
    }

    /// How their server is asked until the end of this one.
    fn kept_at(&self) -> Option<&RedisOptions> {
        self.shared.as_ref().map(|shared| shared.options())
    }

    /// A request from this address, of whoever it is. An address that showed too many wrong credentials is refused before
    /// the next one is looked at, so that it does not learn which is right.
    fn enter(&self, address: IpAddr) -> Result<Level, Refused> {
        self.strangers.look(&self.failure(address))?;
        match self.strangers.take(&[self.address(address)]) {
            Verdict::Refused(refused) => Err(refused),
            Verdict::Passed(levels) => Ok(levels.first().copied().unwrap_or(Level {
                limit: Limit::Address,
                rate: self.rates.address,
                ns: 0,
            })),
        }
    }

    /// A handshake with this address, of which there may be as many as requests, and which uses up none of those. Wrong credentials do
    /// not stand against it: behind it may be whoever watches the server.
    fn shake(&self, address: IpAddr) -> Result<(), Refused> {
        match self.handshakes.take(&[self.address(address)]) {
            Verdict::Refused(refused) => Err(refused),
            Verdict::Passed(_) => Ok(()),
        }
    }

    /// Whether one more request from this address to what asks nobody who they are is within so many a second. Others are not
    /// concerned: nobody keeps whoever watches the server from seeing that it is well.
    pub(crate) fn public(&self, address: IpAddr, per_second: u64) -> bool {
        let count = u32::try_from(per_second).unwrap_or(u32::MAX);
        let key = Key::of_address(Limit::Address, address);
        let charge = Charge::one(key, Rate::of(count, Per::Second, count));
        matches!(self.public.take(&[charge]), Verdict::Passed(_))
    }

    /// A credential from this address was refused. Whether no further one is looked at from now on. Those that were looked at meanwhile
    /// are not counted: whoever guesses many at once would keep all others of the address out for long after it has left.
    fn failed(&self, address: IpAddr) -> bool {
        match self.strangers.take(&[self.failure(address)]) {
            Verdict::Passed(levels) => levels.iter().all(|level| level.remaining() == 0),
            Verdict::Refused(_) => false,
        }
    }

    /// Whether a request of a caller would be let in now, as far as this server counts alone. Counts nothing.
    fn look(&self, asked: &Asked<'_>) -> Result<(), Refused> {
        if self.shared.is_some() {
            return Ok(());
        }
        let charges = self.charges(asked);
        let stopped = charges.iter().filter_map(|charge| self.callers.look(charge).err());
        let longest = stopped.reduce(|longest, other| if other.outlasts(Some(&longest)) { other } else { longest });
        longest.map_or(Ok(()), Err)
    }

    /// Whether the limits that several servers share can be asked; none: there are none.
    pub(crate) fn health(&self) -> Option<Check> {
        let shared = self.shared.as_ref()?;
        Some(Check {
            name: "limits",
            fault: shared.fault(),
        })
    }

    /// Counts a request of a caller under all its limits, or under none.
    async fn take(self: &Arc<Self>, asked: &Asked<'_>) -> Result<Taken, Stopped> {
        let charges = self.charges(asked);
        if let Some(shared) = &self.shared {
            // This process has counted the address for itself already; here all servers count it together.
            let mut together = charges.clone();
            together.push(self.address(asked.address));
            match (self.take_shared(shared, together).await, shared.when_down()) {
                (Ok(taken), _) => return taken,
                (Err(Down), WhenDown::Refuse) => return Err(Stopped::Down),
                (Err(Down), WhenDown::Local) => {}
            }
        }
        self.taken(self.callers.take(&charges), &charges, Counter::Here)
    }

    /// In a task of its own: the server counts also for a request that goes away before the answer comes, and what is put aside for it
    /// is given back then.
    async fn take_shared(
        self: &Arc<Self>,
        shared: &Arc<Shared>,
        charges: Vec<Charge>,
    ) -> Result<Result<Taken, Stopped>, Down> {
        let (limits, shared) = (Arc::clone(self), Arc::clone(shared));
        let asking = async move {
            let taken = shared.take(&charges).await;
            taken.map(|(verdict, end_us)| limits.taken(verdict, &charges, Counter::Shared { end_us }))
        };
        match tokio::spawn(asking.in_current_span()).await {
            Ok(taken) => taken,
            Err(error) => {
                tracing::error!(%error, "the shared limits were not asked");
                Err(Down)
            }
        }
    }

    fn taken(self: &Arc<Self>, verdict: Verdict, charges: &[Charge], counter: Counter) -> Result<Taken, Stopped> {
        match verdict {
            Verdict::Refused(refused) => Err(Stopped::Refused(refused)),
            Verdict::Passed(levels) => {
                let cost = charges.iter().find(|charge| charge.aside.is_some());
                Ok(Taken {
                    levels,
                    reservation: Reservation::new(self, cost.map(|charge| (*charge, counter))),
                })
            }
        }
    }

    /// The call has ended for which this was put aside, and used so much of it.
    fn end(self: &Arc<Self>, charge: Charge, used: u32, counter: Counter) {
        match counter {
            Counter::Here => self.callers.end(&charge, used),
            Counter::Shared { end_us } => {
                let limits = Arc::clone(self);
                // A server that ends has nobody left to say so, and then all of it counts as used.
                let Ok(runtime) = tokio::runtime::Handle::try_current() else {
                    return;
                };
                runtime.spawn(async move {
                    if let Some(shared) = &limits.shared {
                        shared.end(charge, used, end_us).await;
                    }
                });
            }
        }
    }

    fn address(&self, address: IpAddr) -> Charge {
        Charge::one(Key::of_address(Limit::Address, address), self.rates.address)
    }

    fn failure(&self, address: IpAddr) -> Charge {
        Charge::one(Key::of_address(Limit::Failures, address), self.rates.failures)
    }

    fn charges(&self, asked: &Asked<'_>) -> Vec<Charge> {
        let (of_persona, _) = self.rates.of_tier(asked.tier);
        let mut charges = vec![
            Charge::one(Key::new(Limit::Global, &[]), self.rates.global),
            Charge::one(Key::new(Limit::Persona, &[asked.persona.as_str()]), of_persona),
        ];
        let Some(call) = asked.call else { return charges };
        let capability = call.capability.as_str();
        let (of_capability, _) = self.rates.of_capability(call.capability);
        charges.push(Charge::one(Key::new(Limit::Capability, &[capability]), of_capability));
        let caller = Key::new(Limit::Caller, &[asked.caller.as_str(), capability]);
        charges.push(Charge::one(caller, self.rates.caller));
        if let Some(amount) = NonZeroU32::new(u32::try_from(call.cost_micro_max).unwrap_or(u32::MAX)) {
            charges.push(Charge {
                key: Key::new(Limit::Cost, &[capability]),
                rate: self.rates.cost,
                amount,
                aside: Some(call.time_max),
            });
        }
        charges
    }

    /// The line of the configuration that gives a limit.
    fn line(&self, limit: Limit, asked: Option<&Asked<'_>>) -> String {
        let tier = asked.and_then(|asked| self.rates.of_tier(asked.tier).1);
        let capability = asked.and_then(|asked| asked.call).map(|call| call.capability);
        let own = capability.filter(|id| self.rates.of_capability(id).1);
        match (limit, tier, own) {
            (Limit::Persona, Some(tier), _) => format!("[serve.rates.tiers]: {tier}"),
            (Limit::Capability, _, Some(id)) => format!("[serve.rates.capabilities]: {id}"),
            (limit, _, _) => format!("[serve.rates]: {}", limit.as_str()),
        }
    }
}

#[cfg(test)]
mod tests;
