//! An engine: wasmtime under this host's settings, and the thread that counts its epochs. Makes the stores of calls
//! with every limit set. It knows no component and no permission.

mod config;
mod ticker;

#[cfg(test)]
mod tests;

use aral_contract::limits::{COMPONENT_HANDLES_MAX, HOSTCALL_BYTES_MAX};
use aral_contract::{Limits, Metering};
use wasmtime::{Store, UpdateDeadline};

pub use config::{Allocation, PoolSize};
pub(crate) use config::{
    CORE_INSTANCES_PER_COMPONENT_MAX, CodeSettings, FEATURES, MemoryLayout, can_tell_written_pages, compiler,
};

use crate::guard::Guarded;

/// After how many units of fuel a guest reports what it used: what a call that was cut off did not report yet is less.
/// Some milliseconds of computing.
pub const FUEL_REPORT_UNITS: u64 = 10_000_000;

/// An engine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// wasmtime refused its settings.
    #[error("cannot make the engine")]
    Wasmtime(#[source] wasmtime::Error),
    /// The thread that counts epochs did not start; without it no guest could be interrupted.
    #[error("cannot start the thread that counts epochs")]
    Ticker(#[source] std::io::Error),
}

/// wasmtime under this host's settings.
pub struct Engine {
    wasmtime: wasmtime::Engine,
    settings: CodeSettings,
    settings_digest: aral_contract::Digest,
    pool: Option<PoolSize>,
}

impl Engine {
    /// With a pool if `allocation` asks for one and the address space has room for it, else without.
    pub(crate) fn new(metering: Metering, allocation: Allocation, pool: PoolSize) -> Result<Self, EngineError> {
        let (wasmtime, settings, pool) = match allocation {
            Allocation::Auto => match config::pooled(metering, pool) {
                Ok((wasmtime, settings)) => (wasmtime, settings, Some(pool)),
                Err(reason) => {
                    tracing::warn!(reason = %format_args!("{reason:#}"), "no room for a pool of instances: each call maps its own memory");
                    let (wasmtime, settings) = config::on_demand(metering).map_err(EngineError::Wasmtime)?;
                    (wasmtime, settings, None)
                }
            },
            Allocation::OnDemand => {
                let (wasmtime, settings) = config::on_demand(metering).map_err(EngineError::Wasmtime)?;
                (wasmtime, settings, None)
            }
        };
        ticker::start(&wasmtime).map_err(EngineError::Ticker)?;
        Ok(Self {
            settings_digest: config::digest(&wasmtime),
            wasmtime,
            settings,
            pool,
        })
    }

    /// wasmtime's own handle, for linkers and components.
    pub fn wasmtime(&self) -> &wasmtime::Engine {
        &self.wasmtime
    }

    /// Which of the two engines this is.
    pub fn metering(&self) -> Metering {
        self.settings.metering
    }

    /// Whether instances come from a pool.
    pub fn is_pooled(&self) -> bool {
        self.pool.is_some()
    }

    /// Calls that have instances from the pool, and how many can; none: there is no pool.
    pub(crate) fn pool_use(&self) -> Option<(u64, u64)> {
        let pool = self.pool.as_ref()?;
        let taken = self.wasmtime.pooling_allocator_metrics()?;
        Some((taken.component_instances(), u64::from(pool.calls_max)))
    }

    /// What code for this engine must be compiled with.
    pub(crate) fn settings(&self) -> CodeSettings {
        self.settings
    }

    /// Names everything that compiled code depends on: wasmtime's version, its settings, the processor.
    pub(crate) fn settings_digest(&self) -> aral_contract::Digest {
        self.settings_digest
    }

    /// A fresh store under these limits. The guard in `data` is the account that wasmtime asks; make it with
    /// [`crate::Guard::new`] from the same limits. Call into the store with the `_async` functions only: the guest
    /// yields at each epoch.
    pub fn store<T: Guarded>(&self, mut data: T, limits: &Limits) -> Store<T> {
        if let Some(pool) = &self.pool {
            let guard = data.guard();
            guard.cap_memory(pool.memory_bytes_max);
            guard.cap_tables(u64::from(pool.table_elements_max));
        }
        let mut store = Store::new(&self.wasmtime, data);
        store.limiter(|data| data.guard());
        if self.settings.metering == Metering::Metered {
            // Fails only on an engine without fuel; then the call gets none and ends with its first instruction.
            let _set = store.set_fuel(limits.fuel);
            // Guests count in a register and write the sum back only now and then; this makes them do so often enough
            // that what a call cost is known even when the wall cuts it off.
            let _interval = store.fuel_async_yield_interval(Some(FUEL_REPORT_UNITS));
        }
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|mut store| {
            store.data_mut().guard().tick()?;
            // tokio's own yield, and not wasmtime's: it lets the runtime look at timers and sockets before the guest
            // is polled again, so guests in endless loops on every worker cannot delay the timer that ends them.
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())))
        });
        store.set_hostcall_fuel(hostcall_bytes(limits));
        store.set_max_component_handles(COMPONENT_HANDLES_MAX);
        store
    }

    /// The fuel that a call has used, or none on the epoch-only engine.
    pub fn fuel_used<T: 'static>(&self, store: &Store<T>, limits: &Limits) -> Option<u64> {
        match self.settings.metering {
            Metering::Metered => store.get_fuel().ok().map(|left| limits.fuel.saturating_sub(left)),
            Metering::EpochOnly => None,
        }
    }
}

/// What one call between guest and host may copy, in bytes: more than the default only if a limit of the call needs it.
fn hostcall_bytes(limits: &Limits) -> usize {
    let largest = limits
        .output_bytes
        .max(limits.memory_value_bytes)
        .saturating_add(HOSTCALL_SLACK_BYTES);
    usize::try_from(largest).unwrap_or(usize::MAX).max(HOSTCALL_BYTES_MAX)
}

/// What a value takes besides its text.
const HOSTCALL_SLACK_BYTES: u64 = 64 << 10;

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine")
            .field("settings", &self.settings)
            .field("pool", &self.pool)
            .finish_non_exhaustive()
    }
}
