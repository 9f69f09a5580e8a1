//! Runs WebAssembly components ("capabilities") for AI agents, each with exactly the rights that its signed manifest, the
//! agent's persona and the operator's policy all allow, and with bounded memory, computing and time.
//!
//! A host is built once and shared. Without settings it is closed; every right is a line that somebody wrote.
//!
//! ```
//! use aral_host::contract::document::{Kind, PublicKey};
//! use aral_host::policy::{Policy, RawPolicy};
//! use aral_host::{Host, Request};
//!
//! /// Calls one capability with signed documents.
//! async fn call(key_pem: &str, manifest: &[u8], component: Vec<u8>, persona: &[u8]) -> anyhow::Result<String> {
//!     let policy: RawPolicy = toml::from_str("capabilities = [\"text-grep\"]\npermissions = [\"file:read\"]")?;
//!     let host = Host::builder()
//!         .trust(PublicKey::from_pem(key_pem)?, &[Kind::Manifest, Kind::Persona])
//!         .policy(Policy::resolve(policy, &"/".parse()?)?)
//!         .build()?;
//!     host.register_manifest(manifest, &|_entry| Ok(component.clone()))?;
//!     let session = host.session(persona)?;
//!     let outcome = host
//!         .invoke(&session, Request {
//!             capability: &"text-grep".parse()?,
//!             version: None,
//!             input: br#"{"pattern": "error"}"#,
//!             trace: None,
//!         })
//!         .await;
//!     println!("used {} bytes of memory", outcome.usage.memory_bytes_peak);
//!     Ok(outcome.result?)
//! }
//! ```
//!
//! `examples/embed.rs` is a whole program.
#![forbid(unsafe_code)]

pub mod admin;
pub mod audit;
mod builder;
mod components;
pub mod config;
pub mod disk;
mod earlier;
mod ending;
pub mod environment;
mod events;
mod guest_log;
mod health;
mod host;
mod mcp;
pub mod operator;
mod personas;
mod reload;
mod serials;
mod serve;
pub mod simulate;
pub mod storage;
pub mod telemetry;
#[cfg(test)]
mod testing;
mod used;

pub use admin::Management;
pub use audit::Audit;
pub use builder::{HostBuilder, check_cache};
pub use components::Components;
pub use config::Config;
pub use earlier::Earlier;
pub use events::{LogSink, Notice};
pub use guest_log::ServerLogSink;
pub use host::{Host, Registered};
pub use personas::Personas;
pub use reload::refuse_older_issues;
pub use serve::{RELOAD_TARGET, Reloader};
pub use storage::Storage;

pub use aral_capability::{Capability, Entry, Shape, Ungranted, Warning};
pub use aral_contract as contract;
pub use aral_orchestration::dispatch::{
    Admission, DevelopmentRun, Explanation, GateOptions, Granted, Outcome, ReceiptReference, Refusal, Request,
    RunReport,
};
pub use aral_orchestration::{Session, policy};
pub use aral_orchestration::{authorize, budget};
pub use aral_protocol as protocol;
pub use aral_runtime::CompilerKind;
