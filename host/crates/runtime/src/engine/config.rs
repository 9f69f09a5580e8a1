//! Every wasmtime setting of the host, each with its reason. The compiler's child process uses the same functions as
//! the engines, so that its code fits them.

use std::hash::{Hash as _, Hasher};

use aral_contract::limits::WASM_STACK_BYTES_MAX;
use aral_contract::{Digest, Metering};
use sha2::{Digest as _, Sha256};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, WasmFeatures};

use crate::guard::{MEMORIES_PER_CALL_MAX, TABLES_PER_CALL_MAX};

/// Stack of a call, in bytes: that of the guest, and the rest for the host functions it calls.
const CALL_STACK_BYTES: usize = 2 << 20;
/// Address space of one memory in the pool, in bytes: all that 32-bit code can reach, so that it needs no checks.
const MEMORY_RESERVATION_BYTES: u64 = 4 << 30;
/// Unmapped space after a memory, in bytes, for offsets that instructions add.
const MEMORY_GUARD_BYTES: u64 = 32 << 20;
/// How much of a memory stays resident between two calls, in bytes. What was written is reset in place, which costs
/// less than to unmap it and fault it in again.
const MEMORY_KEEP_RESIDENT_BYTES: usize = 1 << 20;
/// The same for a table.
const TABLE_KEEP_RESIDENT_BYTES: usize = 64 << 10;
/// The same for a stack. All of this is zeroed after each call, used or not: just what ordinary calls use.
const STACK_KEEP_RESIDENT_BYTES: usize = 32 << 10;
/// Slots that keep what they hold resident while nobody uses them.
const WARM_SLOTS_MAX: u32 = 100;
/// Core instances that one component of the pool may have; `instances` of the limits says what a call may.
pub(crate) const CORE_INSTANCES_PER_COMPONENT_MAX: u32 = 256;
/// wasmtime's records of one component instance, and of one core instance, in bytes.
const INSTANCE_RECORD_BYTES_MAX: usize = 1 << 20;

/// Where instances come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Allocation {
    /// From a pool, whose address space is taken when an engine is made; without a pool where there is no room.
    #[default]
    Auto,
    /// Without a pool: each call maps its own memory. Slower, but needs little address space.
    OnDemand,
}

/// The size of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSize {
    /// Calls at once.
    pub calls_max: u32,
    /// Largest linear memory, in bytes.
    pub memory_bytes_max: u64,
    /// Largest table, in elements.
    pub table_elements_max: u32,
}

/// What is compiled into code: code runs only in an engine of the same settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodeSettings {
    pub(crate) metering: Metering,
    pub(crate) memory: MemoryLayout,
}

/// How code reaches its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MemoryLayout {
    /// Each memory has 4 GiB of address space of its own: no access needs a check.
    Reserved,
    /// Each memory has what it uses: each access is checked.
    Checked,
}

/// The settings that code is compiled under. Everything here must be the same in the child that compiles.
pub(crate) fn code(settings: CodeSettings) -> Config {
    let mut config = Config::new();
    limits_of_guests(&mut config, settings.metering);
    features(&mut config);
    memory_layout(&mut config, settings.memory);
    code_generation(&mut config);
    config
}

/// An engine that takes its instances from a pool. Fails where there is no room for the pool.
pub(crate) fn pooled(metering: Metering, pool: PoolSize) -> wasmtime::Result<(wasmtime::Engine, CodeSettings)> {
    let settings = CodeSettings {
        metering,
        memory: MemoryLayout::Reserved,
    };
    check_room(pool)?;
    let mut config = code(settings);
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool_config(pool)?));
    Ok((wasmtime::Engine::new(&config)?, settings))
}

/// An engine that maps memory for each call.
pub(crate) fn on_demand(metering: Metering) -> wasmtime::Result<(wasmtime::Engine, CodeSettings)> {
    let settings = CodeSettings {
        metering,
        memory: MemoryLayout::Checked,
    };
    let mut config = code(settings);
    config.allocation_strategy(InstanceAllocationStrategy::OnDemand);
    Ok((wasmtime::Engine::new(&config)?, settings))
}

/// An engine that compiles for the engines of these settings, and runs nothing.
pub(crate) fn compiler(settings: CodeSettings) -> wasmtime::Result<wasmtime::Engine> {
    wasmtime::Engine::new(&code(settings))
}

/// Names everything that compiled code depends on.
pub(crate) fn digest(engine: &wasmtime::Engine) -> Digest {
    let mut hasher = Sha256Hasher(Sha256::new());
    engine.precompile_compatibility_hash().hash(&mut hasher);
    Digest::from_bytes(hasher.0.finalize().into())
}

fn limits_of_guests(config: &mut Config, metering: Metering) {
    // Every loop and call checks the epoch, on both engines: without it an endless loop holds its thread for ever.
    config.epoch_interruption(true);
    // Fuel is compiled in, and costs up to twice the time in call-heavy code: hence two engines.
    config.consume_fuel(metering == Metering::Metered);
    // Deep recursion ends here, and not in the host's stack.
    config.max_wasm_stack(WASM_STACK_BYTES_MAX);
    config.async_stack_size(CALL_STACK_BYTES);
    // Nothing of one call may be read by the next through its stack.
    config.async_stack_zeroing(true);
}

/// The features of WebAssembly that are on: what toolchains for wasip2 emit. The validator checks against the same set.
/// Off, among others: memory64 and custom page sizes (they need checks at each access), multi-memory (each memory costs
/// a slot of the pool), threads (not covered by wasmtime's promise of security fixes), relaxed SIMD (its results differ
/// between processors), garbage collection and exceptions (a heap that no limit here counts), WASI 0.3 (no security
/// fixes yet), and whatever is unfinished.
pub(crate) const FEATURES: WasmFeatures = WasmFeatures::COMPONENT_MODEL
    .union(WasmFeatures::MUTABLE_GLOBAL)
    .union(WasmFeatures::SATURATING_FLOAT_TO_INT)
    .union(WasmFeatures::SIGN_EXTENSION)
    .union(WasmFeatures::REFERENCE_TYPES)
    .union(WasmFeatures::MULTI_VALUE)
    .union(WasmFeatures::BULK_MEMORY)
    .union(WasmFeatures::SIMD)
    .union(WasmFeatures::FLOATS)
    .union(WasmFeatures::EXTENDED_CONST);

fn features(config: &mut Config) {
    config.wasm_features(WasmFeatures::all().difference(FEATURES), false);
    config.wasm_features(FEATURES, true);
}

fn memory_layout(config: &mut Config, layout: MemoryLayout) {
    match layout {
        MemoryLayout::Reserved => {
            config.memory_reservation(MEMORY_RESERVATION_BYTES);
            config.memory_guard_size(MEMORY_GUARD_BYTES);
            // A memory never moves, so code may keep its address.
            config.memory_may_move(false);
        }
        MemoryLayout::Checked => {
            config.memory_reservation(0);
            config.memory_guard_size(0);
            config.memory_reservation_for_growth(1 << 20);
            config.memory_may_move(true);
        }
    }
    // An access before the start of a memory faults as well: a second line behind the compiler.
    config.guard_before_linear_memory(layout == MemoryLayout::Reserved);
    // The first content of a memory is mapped copy-on-write from the component and not copied for each call.
    config.memory_init_cow(true);
    // Tables are filled as their elements are used.
    config.table_lazy_init(true);
}

fn code_generation(config: &mut Config) {
    // The slower compiler makes the faster code; it runs once per component.
    config.cranelift_opt_level(OptLevel::Speed);
    // The same input gives the same answer on every processor, bit by bit.
    config.cranelift_nan_canonicalization(true);
    // Out-of-bounds accesses fault instead of being tested for. Off would also turn off the defences against Spectre.
    config.signals_based_traps(true);
    // Component-model async is off, so a call is one fiber: dropping its future ends it at once.
    config.concurrency_support(false);
    // A trap names the functions that led to it, for the operator's log; not source lines, which cost time to look up.
    config.wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Disable);
    config.generate_address_map(true);
}

/// Of address space that is limited, a pool takes half at most: code, stacks and the heap need some too.
fn check_room(pool: PoolSize) -> wasmtime::Result<()> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
    let calls = u64::from(pool.calls_max);
    let memories = calls
        .saturating_mul(u64::try_from(MEMORIES_PER_CALL_MAX)?)
        .saturating_mul(MEMORY_RESERVATION_BYTES.saturating_add(MEMORY_GUARD_BYTES));
    match limit {
        Some(limit) if memories > limit / 2 => Err(wasmtime::format_err!(
            "a pool for {calls} calls takes {memories} bytes of address space, and {limit} are allowed"
        )),
        Some(_) | None => Ok(()),
    }
}

/// The pool is address space: nothing of it is resident before a call uses it.
fn pool_config(pool: PoolSize) -> wasmtime::Result<PoolingAllocationConfig> {
    let memories_per_call = u32::try_from(MEMORIES_PER_CALL_MAX)?;
    let tables_per_call = u32::try_from(TABLES_PER_CALL_MAX)?;
    let mut config = PoolingAllocationConfig::new();
    config
        .total_component_instances(pool.calls_max)
        .total_core_instances(pool.calls_max.saturating_mul(CORE_INSTANCES_PER_COMPONENT_MAX))
        .total_stacks(pool.calls_max)
        // As many as all calls together may have, so that no guest can take the slots of its neighbours.
        .total_memories(pool.calls_max.saturating_mul(memories_per_call))
        .total_tables(pool.calls_max.saturating_mul(tables_per_call))
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT_MAX)
        .max_memories_per_component(memories_per_call)
        .max_tables_per_component(tables_per_call)
        .max_memories_per_module(memories_per_call)
        .max_tables_per_module(tables_per_call)
        .max_component_instance_size(INSTANCE_RECORD_BYTES_MAX)
        .max_core_instance_size(INSTANCE_RECORD_BYTES_MAX)
        .max_memory_size(usize::try_from(pool.memory_bytes_max.min(MEMORY_RESERVATION_BYTES))?)
        .table_elements(usize::try_from(pool.table_elements_max)?)
        .async_stack_keep_resident(STACK_KEEP_RESIDENT_BYTES)
        .max_unused_warm_slots(WARM_SLOTS_MAX);
    if can_tell_written_pages() {
        // Together they halve the cost of a fresh instance: only pages that a call wrote are reset. Where the system
        // cannot tell which (Linux before 6.7), all would be, and unmapping is the better choice.
        config
            .pagemap_scan(Enabled::Yes)
            .linear_memory_keep_resident(MEMORY_KEEP_RESIDENT_BYTES)
            .table_keep_resident(TABLE_KEEP_RESIDENT_BYTES);
    }
    Ok(config)
}

/// Whether the system tells which pages were written. The first to ask opens what is needed for it, for good.
pub(crate) fn can_tell_written_pages() -> bool {
    PoolingAllocationConfig::is_pagemap_scan_available()
}

/// Feeds what wasmtime hashes into SHA-256: two settings with the same digest are the same settings.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest: [u8; 32] = self.0.clone().finalize().into();
        digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }
}
