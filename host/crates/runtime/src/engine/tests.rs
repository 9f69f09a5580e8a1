//! Each limit stops its attack, and the same guest succeeds once that limit is opened. The guests are real components.
#![expect(clippy::disallowed_methods, reason = "tests measure time")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aral_contract::limits::COMPONENT_HANDLES_MAX;
use aral_contract::{Limits, Metering};
use wasmtime::component::{Component, Linker, TypedFunc};
use wasmtime::{Store, StoreContextMut, UpdateDeadline};

use crate::fault::{Fault, fault_of, within_wall};
use crate::guard::{Guard, Guarded, MEMORIES_PER_CALL_MAX, TABLES_PER_CALL_MAX};
use crate::runtime::{Runtime, RuntimeOptions};
use crate::{Allocation, Engine};

/// Within this time whatever ends has ended, on a slow machine too. What it is told from takes ten times as long.
const AT_ALL: Duration = Duration::from_secs(60);

struct Data {
    guard: Guard,
    dropped: Arc<AtomicBool>,
}

impl Guarded for Data {
    fn guard(&mut self) -> &mut Guard {
        &mut self.guard
    }
    fn guard_ref(&self) -> &Guard {
        &self.guard
    }
}

impl Drop for Data {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::SeqCst);
    }
}

fn runtime(allocation: Allocation) -> Runtime {
    Runtime::new(RuntimeOptions {
        allocation,
        concurrent_calls_max: 4,
        ..RuntimeOptions::default()
    })
    .unwrap()
}

/// A component whose only module exports `run` and may use what `fields` define.
fn guest(fields: &str, run: &str) -> String {
    format!(
        r#"(component
            (core module $m {fields} (func (export "run") (result i32) {run}))
            (core instance $i (instantiate $m))
            (func (export "run") (result u32) (canon lift (core func $i "run"))))"#
    )
}

/// A loop of `count` turns that the compiler cannot leave out.
fn work(count: u64) -> String {
    guest(
        "",
        &format!(
            "(local $i i64) (local $x i64)
            (loop $again
                (local.set $x (i64.add (i64.mul (local.get $x) (i64.const 6364136223846793005)) (local.get $i)))
                (local.set $i (i64.add (local.get $i) (i64.const 1)))
                (br_if $again (i64.lt_u (local.get $i) (i64.const {count}))))
            (i32.or (i32.wrap_i64 (local.get $x)) (i32.const 1))"
        ),
    )
}

fn forever() -> String {
    guest("", "(loop $again (br $again)) (i32.const 1)")
}

async fn compile(runtime: &Runtime, metering: Metering, text: &str) -> Component {
    runtime.compile(&wat::parse_str(text).unwrap(), metering).await.unwrap()
}

fn linker(engine: &Engine) -> Linker<Data> {
    let mut linker = Linker::new(engine.wasmtime());
    linker
        .root()
        .func_wrap_async("sleep-ms", |_: StoreContextMut<'_, Data>, (ms,): (u32,)| {
            Box::new(async move {
                tokio::time::sleep(Duration::from_millis(u64::from(ms))).await;
                Ok(())
            })
        })
        .unwrap();
    linker
        .root()
        .func_wrap("take", |_: StoreContextMut<'_, Data>, (bytes,): (Vec<u8>,)| {
            Ok((bytes.len() as u32,))
        })
        .unwrap();
    linker
}

/// One whole call.
async fn call(engine: &Engine, component: &Component, limits: &Limits) -> (Result<u32, Fault>, Arc<AtomicBool>) {
    let dropped = Arc::new(AtomicBool::new(false));
    let data = Data {
        guard: Guard::new(limits),
        dropped: Arc::clone(&dropped),
    };
    let mut store = engine.store(data, limits);
    let result = within_wall(limits, async {
        let instance = linker(engine).instantiate_async(&mut store, component).await?;
        let run: TypedFunc<(), (u32,)> = instance.get_typed_func(&mut store, "run")?;
        Ok(run.call_async(&mut store, ()).await?.0)
    })
    .await
    .and_then(|result: wasmtime::Result<u32>| result.map_err(|error| fault_of(&error, store.data().guard_ref())));
    (result, dropped)
}

/// The attack ends as the fault, on both ways to allocate; with the limit opened the same guest succeeds.
async fn check(metering: Metering, text: &str, closed: Limits, open: Limits, is_expected: impl Fn(&Fault) -> bool) {
    for allocation in [Allocation::Auto, Allocation::OnDemand] {
        let runtime = runtime(allocation);
        let engine = runtime.engine(metering).unwrap();
        assert_eq!(engine.is_pooled(), allocation == Allocation::Auto);
        let component = compile(&runtime, metering, text).await;
        let fault = call(engine, &component, &closed).await.0.unwrap_err();
        assert!(is_expected(&fault), "{allocation:?}: {fault:?}");
        let control = call(engine, &component, &open).await.0;
        assert!(
            control.as_ref().is_ok_and(|value| *value != 0),
            "{allocation:?}: {control:?}"
        );
        // The next call of another guest works.
        let neighbour = compile(&runtime, metering, &guest("", "(i32.const 7)")).await;
        assert_eq!(call(engine, &neighbour, &Limits::default()).await.0, Ok(7));
    }
}

#[tokio::test]
async fn fuel_ends_work_and_is_counted() {
    let closed = Limits {
        fuel: 10_000,
        ..Limits::default()
    };
    check(Metering::Metered, &work(100_000), closed, Limits::default(), |fault| {
        *fault == Fault::Fuel
    })
    .await;

    let runtime = runtime(Allocation::Auto);
    let engine = runtime.engine(Metering::Metered).unwrap();
    let limits = Limits::default();
    let component = compile(&runtime, Metering::Metered, &work(1000)).await;
    let mut store: Store<Guard> = engine.store(Guard::new(&limits), &limits);
    let linker = Linker::new(engine.wasmtime());
    let instance = linker.instantiate_async(&mut store, &component).await.unwrap();
    let run: TypedFunc<(), (u32,)> = instance.get_typed_func(&mut store, "run").unwrap();
    run.call_async(&mut store, ()).await.unwrap();
    let used = engine.fuel_used(&store, &limits).unwrap();
    assert!((5_000..50_000).contains(&used), "{used}");
}

#[tokio::test]
async fn a_call_that_the_wall_cuts_off_has_reported_its_fuel() {
    let runtime = runtime(Allocation::OnDemand);
    let engine = runtime.engine(Metering::Metered).unwrap();
    let component = compile(&runtime, Metering::Metered, &forever()).await;
    let limits = Limits {
        fuel: u64::MAX / 2,
        wall_ms: 300,
        ..Limits::default()
    };
    let data = Data {
        guard: Guard::new(&limits),
        dropped: Arc::new(AtomicBool::new(false)),
    };
    let mut store = engine.store(data, &limits);
    let ended = within_wall(&limits, async {
        let instance = linker(engine).instantiate_async(&mut store, &component).await?;
        let run: TypedFunc<(), (u32,)> = instance.get_typed_func(&mut store, "run")?;
        run.call_async(&mut store, ()).await
    })
    .await;
    assert!(matches!(ended, Err(Fault::Wall)), "{ended:?}");
    let used = engine.fuel_used(&store, &limits).unwrap();
    assert!(used >= super::FUEL_REPORT_UNITS, "only {used} units were reported");
}

#[tokio::test]
async fn bulk_operations_cost_fuel_by_the_byte() {
    let fill = guest(
        "(memory 16)",
        "(memory.fill (i32.const 0) (i32.const 1) (i32.const 1048576)) (i32.const 1)",
    );
    let closed = Limits {
        fuel: 1_000_000,
        ..Limits::default()
    };
    check(Metering::Metered, &fill, closed, Limits::default(), |fault| {
        *fault == Fault::Fuel
    })
    .await;
}

#[tokio::test]
async fn the_epoch_ends_computing_on_both_engines() {
    let closed = Limits {
        compute_ms: 20,
        fuel: u64::MAX,
        ..Limits::default()
    };
    let open = Limits {
        fuel: u64::MAX,
        ..Limits::default()
    };
    for metering in [Metering::Metered, Metering::EpochOnly] {
        let start = Instant::now();
        check(metering, &work(300_000_000), closed.clone(), open.clone(), |fault| {
            *fault == Fault::Compute
        })
        .await;
        assert!(start.elapsed() < AT_ALL);
    }
}

#[tokio::test]
async fn epoch_only_has_no_fuel() {
    let runtime = runtime(Allocation::Auto);
    let engine = runtime.engine(Metering::EpochOnly).unwrap();
    let limits = Limits {
        fuel: 0,
        ..Limits::default()
    };
    let component = compile(&runtime, Metering::EpochOnly, &work(1000)).await;
    assert!(call(engine, &component, &limits).await.0.is_ok());
    assert_eq!(
        engine.fuel_used(&engine.store(Guard::new(&limits), &limits), &limits),
        None
    );
}

#[tokio::test]
async fn waiting_in_a_host_function_does_not_count_as_computing() {
    let runtime = runtime(Allocation::Auto);
    let engine = runtime.engine(Metering::Metered).unwrap();
    let component = compile(&runtime, Metering::Metered, &sleeper(300)).await;
    let limits = Limits {
        compute_ms: 50,
        ..Limits::default()
    };
    let start = Instant::now();
    assert_eq!(call(engine, &component, &limits).await.0, Ok(1));
    assert!(start.elapsed() >= Duration::from_millis(300));
}

/// Sleeps once in a host function and returns 1.
fn sleeper(ms: u32) -> String {
    format!(
        r#"(component
            (import "sleep-ms" (func $sleep (param "ms" u32)))
            (core func $sleep-core (canon lower (func $sleep)))
            (core module $m
                (import "host" "sleep" (func $sleep (param i32)))
                (func (export "run") (result i32) (call $sleep (i32.const {ms})) (i32.const 1)))
            (core instance $i (instantiate $m (with "host" (instance (export "sleep" (func $sleep-core))))))
            (func (export "run") (result u32) (canon lift (core func $i "run"))))"#
    )
}

#[tokio::test]
async fn the_wall_ends_a_call_that_waits_and_drops_its_store() {
    let runtime = runtime(Allocation::Auto);
    let engine = runtime.engine(Metering::Metered).unwrap();
    let component = compile(&runtime, Metering::Metered, &sleeper(600_000)).await;
    let limits = Limits {
        wall_ms: 50,
        ..Limits::default()
    };
    let start = Instant::now();
    let (result, dropped) = call(engine, &component, &limits).await;
    assert_eq!(result, Err(Fault::Wall));
    assert!(start.elapsed() < AT_ALL);
    assert!(dropped.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_call_is_cancelled_by_dropping_it() {
    let runtime = runtime(Allocation::Auto);
    let engine = runtime.engine(Metering::EpochOnly).unwrap();
    let component = compile(&runtime, Metering::EpochOnly, &forever()).await;
    let limits = Limits {
        compute_ms: 600_000,
        wall_ms: 600_000,
        ..Limits::default()
    };
    let start = Instant::now();
    let cancelled = tokio::time::timeout(Duration::from_millis(100), call(engine, &component, &limits)).await;
    assert!(cancelled.is_err());
    assert!(start.elapsed() < AT_ALL);
    // Its slot of the pool is free again: as many calls as there are slots work.
    let neighbour = compile(&runtime, Metering::EpochOnly, &guest("", "(i32.const 7)")).await;
    for _ in 0..8 {
        assert_eq!(call(engine, &neighbour, &limits).await.0, Ok(7));
    }
}

#[tokio::test]
async fn memory_is_limited_in_sum() {
    let limited = |memory_bytes| Limits {
        memory_bytes,
        ..Limits::default()
    };
    let bomb = guest("(memory 1)", "(drop (memory.grow (i32.const 31))) (memory.size)");
    check(Metering::Metered, &bomb, limited(1 << 20), limited(2 << 20), |fault| {
        *fault == Fault::Memory
    })
    .await;
    // Two memories, each below the limit.
    let two = r#"(component
        (core module $a (memory 10))
        (core module $b (memory 10) (func (export "run") (result i32) (i32.const 1)))
        (core instance (instantiate $a))
        (core instance $i (instantiate $b))
        (func (export "run") (result u32) (canon lift (core func $i "run"))))"#;
    check(Metering::Metered, two, limited(15 << 16), limited(20 << 16), |fault| {
        *fault == Fault::Memory
    })
    .await;
}

#[tokio::test]
async fn growth_past_a_guests_own_maximum_is_no_fault() {
    let runtime = runtime(Allocation::Auto);
    let engine = runtime.engine(Metering::Metered).unwrap();
    let polite = guest("(memory 1 2)", "(i32.eq (memory.grow (i32.const 5)) (i32.const -1))");
    let component = compile(&runtime, Metering::Metered, &polite).await;
    assert_eq!(call(engine, &component, &Limits::default()).await.0, Ok(1));
}

#[tokio::test]
async fn tables_are_limited_in_sum() {
    let limited = |table_elements| Limits {
        table_elements,
        ..Limits::default()
    };
    let bomb = guest(
        "(table $t 1 funcref)",
        "(drop (table.grow $t (ref.null func) (i32.const 999))) (table.size $t)",
    );
    check(Metering::Metered, &bomb, limited(999), limited(1000), |fault| {
        *fault == Fault::Table
    })
    .await;
}

#[tokio::test]
async fn instances_are_limited() {
    let limited = |instances| Limits {
        instances,
        ..Limits::default()
    };
    let many = r#"(component
        (core module $a)
        (core instance (instantiate $a)) (core instance (instantiate $a)) (core instance (instantiate $a))
        (core module $b (func (export "run") (result i32) (i32.const 1)))
        (core instance $i (instantiate $b))
        (func (export "run") (result u32) (canon lift (core func $i "run"))))"#;
    let is_expected =
        |fault: &Fault| matches!(fault, Fault::Instances { message } if message.contains("instance count"));
    check(Metering::Metered, many, limited(3), limited(4), is_expected).await;
}

/// What the compiler of an engine makes of a component, without any look at it.
fn engine_code(runtime: &Runtime, component: &[u8]) -> Vec<u8> {
    let engine = runtime.engine(Metering::Metered).unwrap();
    engine.wasmtime().precompile_component(component).unwrap()
}

/// A guest with more memories or tables than its share of the pool is stopped on either way to allocate.
#[tokio::test]
async fn memories_and_tables_are_counted() {
    let many = |field: &str, count: usize| {
        let modules = format!(
            "(core module $a {field}) {}",
            "(core instance (instantiate $a))".repeat(count)
        );
        guest("", "(i32.const 1)").replacen("(component", &format!("(component {modules}"), 1)
    };
    for (field, count_max) in [
        ("(memory 1)", MEMORIES_PER_CALL_MAX),
        ("(table 1 funcref)", TABLES_PER_CALL_MAX),
    ] {
        let limits = Limits {
            instances: 100,
            ..Limits::default()
        };
        let on_demand = runtime(Allocation::OnDemand);
        let engine = on_demand.engine(Metering::Metered).unwrap();
        let modest = compile(&on_demand, Metering::Metered, &many(field, count_max)).await;
        assert_eq!(call(engine, &modest, &limits).await.0, Ok(1));
        let greedy = compile(&on_demand, Metering::Metered, &many(field, count_max + 1)).await;
        let fault = call(engine, &greedy, &limits).await.0.unwrap_err();
        assert!(
            matches!(&fault, Fault::Instances { message } if message.contains("count too high")),
            "{fault:?}"
        );

        let pooled = runtime(Allocation::Auto);
        compile(&pooled, Metering::Metered, &many(field, count_max)).await;
        let greedy = wat::parse_str(many(field, count_max + 1)).unwrap();
        let error = pooled.compile(&greedy, Metering::Metered).await.err().unwrap();
        assert!(matches!(&error, crate::CompileError::Refused { .. }), "{error}");
        assert!(
            error.to_string().contains(&format!("more than {count_max} ")),
            "{error}"
        );
        // What was not looked at before it was compiled does not load.
        let code = engine_code(&pooled, &greedy);
        let loaded = crate::danger::load(
            pooled.engine(Metering::Metered).unwrap(),
            &crate::danger::TrustedCode::from_own_compiler(&code),
        );
        assert!(format!("{:#}", loaded.err().unwrap()).contains("pooling allocator"));
    }
}

#[tokio::test]
async fn recursion_ends_at_the_guests_own_stack() {
    let recursion = |depth: u32| {
        guest(
            "(func $down (param i32) (result i32)
                (if (result i32) (i32.eqz (local.get 0))
                    (then (i32.const 1))
                    (else (i32.add (i32.const 1) (call $down (i32.sub (local.get 0) (i32.const 1)))))))",
            &format!("(call $down (i32.const {depth}))"),
        )
    };
    let runtime = runtime(Allocation::Auto);
    let engine = runtime.engine(Metering::Metered).unwrap();
    let deep = compile(&runtime, Metering::Metered, &recursion(10_000_000)).await;
    assert_eq!(call(engine, &deep, &Limits::default()).await.0, Err(Fault::Stack));
    let shallow = compile(&runtime, Metering::Metered, &recursion(100)).await;
    assert_eq!(call(engine, &shallow, &Limits::default()).await.0, Ok(101));
}

/// Hands a list of `bytes` to the host, which tells its length.
fn giver(bytes: u32) -> String {
    format!(
        r#"(component
            (import "take" (func $take (param "bytes" (list u8)) (result u32)))
            (core module $memory (memory (export "memory") 256))
            (core instance $memory (instantiate $memory))
            (core func $take-core (canon lower (func $take) (memory $memory "memory")))
            (core module $m
                (import "host" "take" (func $take (param i32 i32) (result i32)))
                (func (export "run") (result i32) (call $take (i32.const 0) (i32.const {bytes}))))
            (core instance $i (instantiate $m (with "host" (instance (export "take" (func $take-core))))))
            (func (export "run") (result u32) (canon lift (core func $i "run"))))"#
    )
}

#[tokio::test]
async fn what_a_host_call_copies_is_limited() {
    // The quiet limit follows the largest value that the limits of the call allow.
    let open = Limits {
        memory_value_bytes: 10 << 20,
        ..Limits::default()
    };
    let is_expected = |fault: &Fault| matches!(fault, Fault::Resource { message } if message.contains("hostcalls"));
    check(Metering::Metered, &giver(9 << 20), Limits::default(), open, is_expected).await;
}

#[tokio::test]
async fn handles_are_limited() {
    let hoarder = |count: usize| {
        format!(
            r#"(component
                (type $r (resource (rep i32)))
                (core func $new (canon resource.new $r))
                (core module $m
                    (import "host" "new" (func $new (param i32) (result i32)))
                    (func (export "run") (result i32) (local $i i32)
                        (loop $again
                            (drop (call $new (i32.const 1)))
                            (local.set $i (i32.add (local.get $i) (i32.const 1)))
                            (br_if $again (i32.lt_u (local.get $i) (i32.const {count}))))
                        (local.get $i)))
                (core instance $i (instantiate $m (with "host" (instance (export "new" (func $new))))))
                (func (export "run") (result u32) (canon lift (core func $i "run"))))"#
        )
    };
    let runtime = runtime(Allocation::Auto);
    let engine = runtime.engine(Metering::Metered).unwrap();
    let greedy = compile(&runtime, Metering::Metered, &hoarder(COMPONENT_HANDLES_MAX + 1)).await;
    let fault = call(engine, &greedy, &Limits::default()).await.0.unwrap_err();
    assert!(
        matches!(&fault, Fault::Resource { message } if message.contains("handle limit")),
        "{fault:?}"
    );
    let modest = compile(&runtime, Metering::Metered, &hoarder(COMPONENT_HANDLES_MAX)).await;
    assert_eq!(
        call(engine, &modest, &Limits::default()).await.0,
        Ok(COMPONENT_HANDLES_MAX as u32)
    );
}

#[tokio::test]
async fn a_trap_is_the_guests_and_names_its_functions() {
    let runtime = runtime(Allocation::Auto);
    let engine = runtime.engine(Metering::Metered).unwrap();
    let broken = guest("(func $inner (unreachable))", "(call $inner) (i32.const 1)");
    let component = compile(&runtime, Metering::Metered, &broken).await;
    let fault = call(engine, &component, &Limits::default()).await.0.unwrap_err();
    let Fault::Trap { message, backtrace } = fault else {
        panic!("{fault:?}")
    };
    assert!(message.contains("unreachable"), "{message}");
    assert!(backtrace.unwrap().contains("inner"));
}

#[tokio::test]
async fn one_call_too_many_is_busy_and_the_slot_comes_back() {
    let runtime = Runtime::new(RuntimeOptions {
        concurrent_calls_max: 1,
        ..RuntimeOptions::default()
    })
    .unwrap();
    let engine = runtime.engine(Metering::Metered).unwrap();
    let limits = Limits::default();
    let component = compile(&runtime, Metering::Metered, &guest("(memory 1)", "(i32.const 7)")).await;
    let mut holder = engine.store(Guard::new(&limits), &limits);
    Linker::new(engine.wasmtime())
        .instantiate_async(&mut holder, &component)
        .await
        .unwrap();
    assert_eq!(call(engine, &component, &limits).await.0, Err(Fault::Busy));
    drop(holder);
    assert_eq!(call(engine, &component, &limits).await.0, Ok(7));
}

/// Tells whether it found anything but zeros in its memory, table and global, and leaves something in each.
#[tokio::test]
async fn nothing_of_one_call_is_seen_by_the_next_in_the_same_slot() {
    let nosy = guest(
        r#"(memory 32) (table $t 100 funcref) (global $g (mut i32) (i32.const 0)) (elem declare func $f) (func $f)"#,
        "(local $i i32) (local $found i32)
        (local.set $found (global.get $g))
        (loop $scan
            (local.set $found (i32.or (local.get $found) (i32.load (local.get $i))))
            (local.set $i (i32.add (local.get $i) (i32.const 4)))
            (br_if $scan (i32.lt_u (local.get $i) (i32.const 2097152))))
        (local.set $found (i32.or (local.get $found) (i32.eqz (ref.is_null (table.get $t (i32.const 99))))))
        (global.set $g (i32.const 64))
        (table.set $t (i32.const 99) (ref.func $f))
        (memory.fill (i32.const 0) (i32.const 0xAA) (i32.const 2097152))
        (i32.add (local.get $found) (i32.const 1))",
    );
    let runtime = Runtime::new(RuntimeOptions {
        concurrent_calls_max: 1,
        ..RuntimeOptions::default()
    })
    .unwrap();
    let engine = runtime.engine(Metering::Metered).unwrap();
    assert!(engine.is_pooled());
    let component = compile(&runtime, Metering::Metered, &nosy).await;
    for _ in 0..3 {
        assert_eq!(call(engine, &component, &Limits::default()).await.0, Ok(1));
    }
}

#[derive(Clone, Copy, PartialEq)]
enum AtEachEpoch {
    Yield,
    GoOn,
}

/// On two workers two guests compute until their budget ends. How long do ten short sleeps and ten short calls of a
/// neighbour take meanwhile?
fn neighbour_beside_two_endless_guests(budget_ms: u64, at_each_epoch: AtEachEpoch) -> Duration {
    let workers = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    workers.block_on(async move {
        let runtime = runtime(Allocation::Auto);
        let limits = Limits {
            compute_ms: budget_ms,
            fuel: u64::MAX,
            ..Limits::default()
        };
        let neighbour = compile(&runtime, Metering::Metered, &guest("", "(i32.const 7)")).await;
        let mut components = Vec::new();
        for metering in [Metering::Metered, Metering::EpochOnly] {
            components.push((metering, compile(&runtime, metering, &forever()).await));
        }
        let start = Instant::now();
        let (mut endless, inside) = (Vec::new(), Arc::new(AtomicUsize::new(0)));
        for (metering, component) in components {
            let (runtime, limits, inside) = (runtime.clone(), limits.clone(), Arc::clone(&inside));
            endless.push(tokio::spawn(async move {
                let engine = runtime.engine(metering).unwrap();
                let mut store = engine.store(Guard::new(&limits), &limits);
                if at_each_epoch == AtEachEpoch::GoOn {
                    let mut is_first = true;
                    store.epoch_deadline_callback(move |mut store| {
                        inside.fetch_add(usize::from(std::mem::take(&mut is_first)), Ordering::SeqCst);
                        store.data_mut().tick()?;
                        Ok(UpdateDeadline::Continue(1))
                    });
                }
                let linker = Linker::new(engine.wasmtime());
                let instance = linker.instantiate_async(&mut store, &component).await.unwrap();
                let run: TypedFunc<(), (u32,)> = instance.get_typed_func(&mut store, "run").unwrap();
                let error = run.call_async(&mut store, ()).await.unwrap_err();
                assert_eq!(fault_of(&error, store.data()), Fault::Compute);
            }));
        }
        match at_each_epoch {
            // Both guests are inside their loops by now. Where the machine is so slow that they are not, nobody is starved either.
            AtEachEpoch::Yield => std::thread::sleep(Duration::from_millis(100)),
            AtEachEpoch::GoOn => {
                while inside.load(Ordering::SeqCst) < 2 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
        tokio::spawn(async move {
            let engine = runtime.engine(Metering::Metered).unwrap();
            for _ in 0..10 {
                tokio::time::sleep(Duration::from_millis(10)).await;
                assert_eq!(call(engine, &neighbour, &Limits::default()).await.0, Ok(7));
            }
        })
        .await
        .unwrap();
        let elapsed = start.elapsed();
        for guest in endless {
            guest.abort();
            let _aborted = guest.await;
        }
        elapsed
    })
}

#[test]
fn two_endless_guests_on_two_workers_starve_neither_timer_nor_neighbour() {
    let elapsed = neighbour_beside_two_endless_guests(600_000, AtEachEpoch::Yield);
    assert!(
        elapsed < AT_ALL,
        "ten sleeps of 10 ms and ten short calls took {elapsed:?}"
    );
}

/// The control of the test above: guests that do not yield do starve everybody until their budget ends.
#[test]
fn guests_that_would_not_yield_starve_everybody() {
    let elapsed = neighbour_beside_two_endless_guests(2_000, AtEachEpoch::GoOn);
    assert!(
        elapsed > Duration::from_millis(1_000),
        "ten sleeps of 10 ms and ten short calls took {elapsed:?}"
    );
}

#[test]
fn the_ticker_ends_with_its_engine() {
    let runtime = runtime(Allocation::Auto);
    let weak = runtime.engine(Metering::Metered).unwrap().wasmtime().weak();
    drop(runtime);
    let deadline = Instant::now() + AT_ALL;
    while weak.upgrade().is_some() {
        assert!(Instant::now() < deadline, "the engine is still held");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn settings_that_differ_have_digests_that_differ() {
    let digest = |allocation, metering| {
        let runtime = runtime(allocation);
        runtime.engine(metering).unwrap().settings_digest()
    };
    let all = [
        digest(Allocation::Auto, Metering::Metered),
        digest(Allocation::Auto, Metering::EpochOnly),
        digest(Allocation::OnDemand, Metering::Metered),
        digest(Allocation::OnDemand, Metering::EpochOnly),
    ];
    let distinct: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
    assert_eq!(digest(Allocation::Auto, Metering::Metered), all[0]);
}

#[tokio::test]
async fn no_memory_outgrows_its_slot_of_the_pool() {
    let with_slots = |memory_bytes_slot_max| {
        Runtime::new(RuntimeOptions {
            concurrent_calls_max: 2,
            memory_bytes_slot_max,
            ..RuntimeOptions::default()
        })
        .unwrap()
    };
    let grows = guest("(memory 1)", "(drop (memory.grow (i32.const 31))) (memory.size)");
    for (slot_bytes, expected) in [(1 << 20, Err(Fault::Memory)), (2 << 20, Ok(32))] {
        let runtime = with_slots(slot_bytes);
        let component = compile(&runtime, Metering::Metered, &grows).await;
        let engine = runtime.engine(Metering::Metered).unwrap();
        assert_eq!(call(engine, &component, &Limits::default()).await.0, expected);
    }
    // A memory that starts larger than the slot is refused before any call.
    let large = wat::parse_str(guest("(memory 17)", "(i32.const 1)")).unwrap();
    let error = with_slots(1 << 20)
        .compile(&large, Metering::Metered)
        .await
        .err()
        .unwrap();
    assert!(matches!(&error, crate::CompileError::Unfit { .. }), "{error}");
}

#[test]
fn options_without_sense_are_refused() {
    for (concurrent_calls_max, memory_bytes_slot_max) in [(0, 1 << 20), (u32::MAX, 1 << 20), (1, 0), (1, 5 << 30)] {
        let options = RuntimeOptions {
            concurrent_calls_max,
            memory_bytes_slot_max,
            ..RuntimeOptions::default()
        };
        assert!(
            Runtime::new(options)
                .unwrap_err()
                .to_string()
                .contains("must be between")
        );
    }
}

/// The largest pool that may be asked for fits twice, once for each engine.
#[test]
fn the_largest_pools_fit() {
    let runtime = Runtime::new(RuntimeOptions {
        concurrent_calls_max: crate::runtime::CONCURRENT_CALLS_MAX,
        ..RuntimeOptions::default()
    })
    .unwrap();
    for metering in [Metering::Metered, Metering::EpochOnly] {
        assert!(runtime.engine(metering).unwrap().is_pooled());
    }
}
