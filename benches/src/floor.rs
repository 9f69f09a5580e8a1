//! The floors that a governed call is measured against: plain wasmtime on the same component with fuel and epochs on.
//! Instantiate, call, drop; no grant, no schema, no limiter. *Untuned* takes wasmtime's default pool, *tuned* keeps pages
//! resident between calls as the host's own engine does.

use std::path::Path;

use anyhow::Result;
use wasmtime::component::{Component, ComponentType, InstancePre, Lift, Linker, ResourceTable, TypedFunc};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

/// How the pool is set up.
#[derive(Debug, Clone, Copy)]
pub enum Pool {
    /// `PoolingAllocationConfig::default()`.
    Untuned,
    /// Pages of memories, tables and stacks stay resident, and dirty ones are found by `PAGEMAP_SCAN` where Linux has it.
    Tuned,
    /// The same, and stacks are zeroed between calls as the host's are: without that, wasmtime ignores what is said about
    /// resident stacks.
    TunedZeroing,
}

struct State {
    wasi: WasiCtx,
    table: ResourceTable,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

/// What the guest answers instead of JSON. Read by `Debug` alone.
#[derive(ComponentType, Lift, Debug)]
#[expect(dead_code, reason = "the texts are read by `Debug`")]
#[component(variant)]
enum GuestError {
    #[component(name = "invalid-input")]
    InvalidInput(String),
    #[component(name = "denied")]
    Denied(String),
    #[component(name = "unavailable")]
    Unavailable(String),
    #[component(name = "limit")]
    Limit(String),
    #[component(name = "internal")]
    Internal(String),
}

/// Plain wasmtime, ready to call one component.
pub struct Floor {
    engine: Engine,
    pre: InstancePre<State>,
    export: wasmtime::component::ComponentExportIndex,
}

impl Floor {
    /// Compiles the component in this process.
    pub fn new(component: &Path, pool: Pool) -> Result<Self> {
        let mut pooling = PoolingAllocationConfig::default();
        if matches!(pool, Pool::Tuned | Pool::TunedZeroing) {
            pooling
                .linear_memory_keep_resident(2 << 20)
                .table_keep_resident(64 << 10)
                .async_stack_keep_resident(32 << 10);
            pooling.pagemap_scan(Enabled::Auto);
        }
        let mut config = Config::new();
        config.consume_fuel(true).epoch_interruption(true);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pooling));
        config.async_stack_zeroing(matches!(pool, Pool::TunedZeroing));
        let engine = Engine::new(&config)?;
        let component = Component::from_file(&engine, component)?;
        let mut linker = Linker::<State>::new(&engine);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        linker
            .instance("aral:capability/log@1.0.0")?
            .func_new("log", |_, _, _, _| Ok(()))?;
        let pre = linker.instantiate_pre(&component)?;
        let tool = component.get_export_index(None, "aral:capability/tool@1.0.0");
        let export = tool
            .and_then(|tool| component.get_export_index(Some(&tool), "invoke"))
            .ok_or_else(|| anyhow::anyhow!("the component exports no `aral:capability/tool@1.0.0#invoke`"))?;
        Ok(Self { engine, pre, export })
    }

    /// One call in a fresh instance.
    pub async fn call(&self, input: &str) -> Result<String> {
        let state = State {
            wasi: WasiCtx::builder().build(),
            table: ResourceTable::new(),
        };
        let mut store = Store::new(&self.engine, state);
        store.set_fuel(1_000_000_000)?;
        store.set_epoch_deadline(1_000_000);
        let instance = self.pre.instantiate_async(&mut store).await?;
        let invoke: TypedFunc<(&str,), (Result<String, GuestError>,)> =
            instance.get_typed_func(&mut store, self.export)?;
        let (answer,) = invoke.call_async(&mut store, (input,)).await?;
        answer.map_err(|error| anyhow::anyhow!("the guest refused the input: {error:?}"))
    }
}
