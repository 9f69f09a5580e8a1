//! What the tests of this crate share: the program `examples/child.rs`, and components of known size.
#![expect(clippy::disallowed_methods, reason = "tests look at files")]

use std::path::PathBuf;

/// The program that plays the far end. It is built together with the tests.
pub(crate) fn child_program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let program = tests
        .parent()
        .and_then(|deps| deps.parent())
        .unwrap()
        .join("examples")
        .join("child");
    assert!(
        program.exists(),
        "`{}` is not built; run the tests with `cargo test` or `cargo nextest run`",
        program.display()
    );
    program
}

/// A runtime of one thread besides the one that may block.
pub(crate) fn one_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap()
}

/// A component that returns `value`, with as many more functions as asked.
pub(crate) fn component(value: u32, functions: usize) -> Vec<u8> {
    let more: String = (0..functions)
        .map(|index| {
            format!(
                "(func $f{index} (export \"f{index}\") (param i32) (result i32) (local i32)
                (loop $again
                    (local.set 1 (i32.add (i32.mul (local.get 0) (local.get 1)) (i32.const {index})))
                    (br_if $again (i32.lt_u (local.get 1) (i32.const 1000))))
                (i32.add (local.get 1) (i32.const {index})))"
            )
        })
        .collect();
    let text = format!(
        r#"(component
            (core module $m {more} (func (export "run") (result i32) (i32.const {value})))
            (core instance $i (instantiate $m))
            (func (export "run") (result u32) (canon lift (core func $i "run"))))"#
    );
    wat::parse_str(text).unwrap()
}

/// Runs a component made by [`component`].
pub(crate) async fn run(engine: &crate::Engine, component: &wasmtime::component::Component) -> u32 {
    let limits = aral_contract::Limits::default();
    let mut store = engine.store(crate::Guard::new(&limits), &limits);
    let linker = wasmtime::component::Linker::new(engine.wasmtime());
    let instance = linker.instantiate_async(&mut store, component).await.unwrap();
    let run = instance.get_typed_func::<(), (u32,)>(&mut store, "run").unwrap();
    run.call_async(&mut store, ()).await.unwrap().0
}
