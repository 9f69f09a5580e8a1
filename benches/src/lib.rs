//! What the benchmarks share: the floors, and a host that is ready to call the echo capability.
#![forbid(unsafe_code)]

pub mod floor;
pub mod governed;
pub mod records;
pub mod resident;
#[cfg(feature = "sqlcipher")]
pub mod sqlcipher;
pub mod ways;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The input of every call that is measured: a small JSON document.
pub const INPUT: &str = r#"{"query":"capital of France","limit":5,"tags":["geography","europe"],"exact":false}"#;

/// The echo capability, which `cargo xtask guests` builds.
pub fn echo_component() -> Result<PathBuf> {
    guest("../capabilities", "echo")
}

/// A test guest that sleeps for `{"ms": …}`, which `cargo xtask guests` builds.
pub fn sleep_component() -> Result<PathBuf> {
    guest("../tests/guests", "runtime_sleep")
}

/// The component that `wasmtime serve` answers with the same, which `cargo xtask guests` builds.
pub fn echo_http_component() -> Result<PathBuf> {
    guest("../tests/guests", "examples/echo_http")
}

fn guest(workspace: &str, name: &str) -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join(workspace).join("target"),
        PathBuf::from,
    );
    let path = target.join("wasm32-wasip2/release").join(name).with_extension("wasm");
    path.canonicalize()
        .with_context(|| format!("`{}` is not there: run `cargo xtask guests`", path.display()))
}
