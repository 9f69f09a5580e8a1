//! The two engines, the compiler and the cache in one handle that is cheap to clone. Engines are made on first use, so
//! that a program which runs one capability pays for one engine.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use aral_contract::limits::COMPILE_MS_MAX;
use aral_contract::{Digest, Metering};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use wasmtime::component::Component;

use crate::admit;
use crate::cache::{Cache, CacheError, CacheOptions, EntryName};
use crate::compile::{self, CompileError, CompilerKind, Looker};
use crate::danger::{self, TrustedCode};
use crate::engine::{Allocation, Engine, EngineError, PoolSize};

/// Calls at once by default.
pub const CONCURRENT_CALLS_MAX_DEFAULT: u32 = 1000;
/// The most calls at once: pools of both engines for so many fit into the address space of a process.
pub const CONCURRENT_CALLS_MAX: u32 = 2000;
/// Largest linear memory by default, in bytes. Address space and not memory; what a call may use is in its limits.
pub const MEMORY_BYTES_SLOT_MAX_DEFAULT: u64 = 4 << 30;
/// Largest table, in elements. Address space, as above.
pub const TABLE_ELEMENTS_SLOT_MAX: u32 = 1 << 20;
/// Compilations at once. Each may take `COMPILE_MEMORY_BYTES_MAX`; more callers wait.
const COMPILATIONS_AT_ONCE_MAX: usize = 2;
/// Components that are loaded from the cache at once; more callers wait. Each may take twice the size of the largest code, and
/// goes on when its caller has gone: stops those who call and hang up from filling all memory, and from taking all threads.
const LOADS_AT_ONCE_MAX: usize = 2;

/// What a runtime is made from.
#[derive(Debug, Clone)]
pub struct RuntimeOptions {
    /// Where instances come from.
    pub allocation: Allocation,
    /// Calls at once, on each engine. A pool for 1,000 takes some milliseconds to set up, so a program that runs one
    /// call asks for few. One call more fails as [`crate::Fault::Busy`] when instances come from a pool.
    pub concurrent_calls_max: u32,
    /// Largest linear memory that the pool holds, in bytes, at most 4 GiB: no limit of a call reaches beyond it.
    pub memory_bytes_slot_max: u64,
    /// Where compiled code is kept, and what was found in components; none compiles and looks anew in each process.
    pub cache: Option<CacheOptions>,
    /// Where components are compiled.
    pub compiler: CompilerKind,
}

impl Default for RuntimeOptions {
    /// A pool for 1,000 calls, no cache, and a compiler in this process.
    fn default() -> Self {
        Self {
            allocation: Allocation::Auto,
            concurrent_calls_max: CONCURRENT_CALLS_MAX_DEFAULT,
            memory_bytes_slot_max: MEMORY_BYTES_SLOT_MAX_DEFAULT,
            cache: None,
            compiler: CompilerKind::InProcess,
        }
    }
}

/// The runtime could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// An option makes no sense.
    #[error("`{name}` must be between 1 and {max}, and is {value}")]
    Option {
        /// Which.
        name: &'static str,
        /// What it is.
        value: u64,
        /// What it may be at most.
        max: u64,
    },
    /// An engine could not be made.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The cache could not be opened.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// The engines, the compiler and the cache.
#[derive(Debug, Clone)]
pub struct Runtime(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    allocation: Allocation,
    pool: PoolSize,
    compiler: CompilerKind,
    cache: Option<Arc<Cache>>,
    compilations: Arc<Semaphore>,
    loads: Arc<Semaphore>,
    metered: OnceLock<Engine>,
    epoch_only: OnceLock<Engine>,
    making: Mutex<()>,
}

impl Runtime {
    /// Opens the cache, and makes nothing else yet.
    pub fn new(options: RuntimeOptions) -> Result<Self, RuntimeError> {
        check(
            "concurrent_calls_max",
            u64::from(options.concurrent_calls_max),
            u64::from(CONCURRENT_CALLS_MAX),
        )?;
        check("memory_bytes_slot_max", options.memory_bytes_slot_max, 4 << 30)?;
        Ok(Self(Arc::new(Inner {
            allocation: options.allocation,
            pool: PoolSize {
                calls_max: options.concurrent_calls_max,
                memory_bytes_max: options.memory_bytes_slot_max,
                table_elements_max: TABLE_ELEMENTS_SLOT_MAX,
            },
            compiler: options.compiler,
            cache: options.cache.map(Cache::open).transpose()?.map(Arc::new),
            compilations: Arc::new(Semaphore::new(COMPILATIONS_AT_ONCE_MAX)),
            loads: Arc::new(Semaphore::new(LOADS_AT_ONCE_MAX)),
            metered: OnceLock::new(),
            epoch_only: OnceLock::new(),
            making: Mutex::new(()),
        })))
    }

    /// Who looks at components: what compiles, with the cache.
    pub fn looker(&self) -> Looker {
        Looker::new(self.0.compiler.clone(), self.0.cache.clone())
    }

    /// The engine of this kind, made now if nobody asked before.
    pub fn engine(&self, metering: Metering) -> Result<&Engine, RuntimeError> {
        let slot = match metering {
            Metering::Metered => &self.0.metered,
            Metering::EpochOnly => &self.0.epoch_only,
        };
        if let Some(engine) = slot.get() {
            return Ok(engine);
        }
        // One at a time: two pools of the same kind would take twice the address space for a moment.
        let _making = self.0.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(engine) = slot.get() {
            return Ok(engine);
        }
        let engine = Engine::new(metering, self.0.allocation, self.0.pool)?;
        Ok(slot.get_or_init(|| engine))
    }

    /// Instances that are taken from the pools of the engines that were made, and how many there can be; zero without a pool.
    pub fn pool_use(&self) -> (u64, u64) {
        let engines = [&self.0.metered, &self.0.epoch_only];
        let uses = engines
            .into_iter()
            .filter_map(OnceLock::get)
            .filter_map(Engine::pool_use);
        uses.fold((0, 0), |sum, one| {
            (sum.0.saturating_add(one.0), sum.1.saturating_add(one.1))
        })
    }

    /// When somebody who asks now has waited long enough for room to compile.
    pub fn compiler_deadline() -> Instant {
        Instant::now() + Duration::from_millis(COMPILE_MS_MAX)
    }

    /// The component, ready to be linked: from the cache, else compiled and then kept there. Refuses what is too
    /// large, not a component, not valid, or compiled already.
    pub async fn compile(&self, component: &[u8], metering: Metering) -> Result<Component, CompileError> {
        self.compile_by(Self::compiler_deadline(), component, metering).await
    }

    /// The same for one who may have waited for others before: nothing is begun for them after `deadline`.
    ///
    /// # Errors
    /// [`CompileError::Busy`] at the deadline.
    pub async fn compile_by(
        &self,
        deadline: Instant,
        component: &[u8],
        metering: Metering,
    ) -> Result<Component, CompileError> {
        admit::glance(component)?;
        let engine = self.engine(metering)?;
        let name = EntryName {
            component: Digest::of(component),
            settings: engine.settings_digest(),
        };
        if let Some(loaded) = self.load_cached(deadline, metering, name).await? {
            return Ok(loaded);
        }
        // Room that is there is taken also after the deadline, if it is asked for.
        if Instant::now() >= deadline {
            return Err(BUSY);
        }
        let permit = place_in(&self.0.compilations, deadline).await?;
        let (code, permit) = compile::compile(&self.0.compiler, engine.settings(), component, permit).await?;
        let (loaded, code) = self.load(metering, code, permit).await?;
        self.keep(name, code).await;
        Ok(loaded)
    }

    /// Off the executor: there may be hundreds of megabytes to copy. Gives the code back. The room in which it was compiled
    /// is kept until it is loaded, so that no more code than that waits to be.
    async fn load(
        &self,
        metering: Metering,
        code: Vec<u8>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Result<(Component, Vec<u8>), CompileError> {
        let runtime = self.clone();
        let load = move || -> Result<(Component, Vec<u8>), CompileError> {
            let _permit = permit;
            let engine = runtime.engine(metering)?;
            let loaded = danger::load(engine, &TrustedCode::from_own_compiler(&code));
            Ok((loaded.map_err(|error| unloaded(&error))?, code))
        };
        let loaded = tokio::task::spawn_blocking(load).await;
        loaded.map_err(|error| CompileError::Load {
            message: error.to_string(),
        })?
    }

    /// Off the executor: it waits for the disk. The component is ready whether or not this works out.
    async fn keep(&self, name: EntryName, code: Vec<u8>) {
        let Some(cache) = self.0.cache.clone() else { return };
        match tokio::task::spawn_blocking(move || cache.store(&name, &code)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "compiled code is not kept"),
            Err(error) => tracing::warn!(%error, "compiled code is not kept"),
        }
    }

    /// Nothing, if there is no cache, no such entry, or one that is not to be trusted: then it is made anew. Code that does not fit
    /// would be the same once more. Off the executor: it waits for the disk, and all that was read goes through the MAC.
    async fn load_cached(
        &self,
        deadline: Instant,
        metering: Metering,
        name: EntryName,
    ) -> Result<Option<Component>, CompileError> {
        let Some(cache) = self.0.cache.clone() else {
            return Ok(None);
        };
        let permit = place_in(&self.0.loads, deadline).await?;
        let runtime = self.clone();
        let load = move || -> Result<Option<Component>, CompileError> {
            // Here, as a caller who goes does not stop this.
            let _permit = permit;
            let Some(entry) = cache.load(&name) else {
                return Ok(None);
            };
            let engine = runtime.engine(metering)?;
            match danger::load(engine, &TrustedCode::from_verified_entry(entry.code())) {
                Ok(component) => Ok(Some(component)),
                Err(error) => match unloaded(&error) {
                    unfit @ CompileError::Unfit { .. } => Err(unfit),
                    error => {
                        tracing::warn!(%error, "compiled code from the cache does not load; compiling anew");
                        Ok(None)
                    }
                },
            }
        };
        match tokio::task::spawn_blocking(load).await {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::warn!(%error, "compiled code from the cache is not read; compiling anew");
                Ok(None)
            }
        }
    }
}

/// Whose fault it is that code does not load. The limits of the pool are looked at when it is loaded, and wasmtime has no type for
/// what it says then: all of it names the pool, and nothing else that fails meanwhile does, such as mapping memory.
fn unloaded(error: &wasmtime::Error) -> CompileError {
    let message = format!("{error:#}");
    if message.contains("pooling allocator") {
        CompileError::Unfit { message }
    } else {
        CompileError::Load { message }
    }
}

/// There was no room until the deadline.
const BUSY: CompileError = CompileError::Busy {
    timeout_ms: COMPILE_MS_MAX,
};

/// Waits for a place, until the deadline; one that is there is taken also after it.
async fn place_in(places: &Arc<Semaphore>, deadline: Instant) -> Result<Option<OwnedSemaphorePermit>, CompileError> {
    let place = tokio::time::timeout_at(deadline, Arc::clone(places).acquire_owned()).await;
    Ok(place.map_err(|_| BUSY)?.ok())
}

fn check(name: &'static str, value: u64, max: u64) -> Result<(), RuntimeError> {
    if (1..=max).contains(&value) {
        Ok(())
    } else {
        Err(RuntimeError::Option { name, value, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{component, one_thread};

    #[test]
    fn loads_that_nobody_waits_for_do_not_pile_up() {
        let folder = tempfile::tempdir().unwrap();
        let open = || {
            Runtime::new(RuntimeOptions {
                concurrent_calls_max: 2,
                cache: Some(CacheOptions {
                    directory: folder.path().join("cache"),
                    key_file: folder.path().join("keys/cache.key"),
                    bytes_max: 1 << 30,
                }),
                ..RuntimeOptions::default()
            })
            .unwrap()
        };
        let bytes = component(5, 20);
        one_thread().block_on(async {
            open().compile(&bytes, Metering::Metered).await.unwrap();
            // The only thread for what blocks is taken: what is begun stays where it is.
            let (go_on, wait) = std::sync::mpsc::channel::<()>();
            let taken = tokio::task::spawn_blocking(move || wait.recv());
            let runtime = open();
            for _ in 0..10 {
                let loading = runtime.compile(&bytes, Metering::Metered);
                assert!(tokio::time::timeout(Duration::ZERO, loading).await.is_err());
            }
            // Each that was begun holds the runtime, and so does this test.
            assert_eq!(Arc::strong_count(&runtime.0), LOADS_AT_ONCE_MAX + 1);
            let past = Instant::now();
            let error = runtime.compile_by(past, &bytes, Metering::Metered).await.err();
            assert!(matches!(error, Some(CompileError::Busy { .. })), "{error:?}");
            drop(go_on);
            assert!(runtime.compile(&bytes, Metering::Metered).await.is_ok());
            assert!(taken.await.unwrap().is_err());
        });
    }
}
