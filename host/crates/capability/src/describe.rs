//! Asks a tool what it is, once, when its manifest is built: in a sandbox without any permission, under small limits. What
//! it says is an allegation until somebody signs it.

use std::sync::Arc;

use aral_contract::{
    AuditSink, Blame, Classification, Code, Cut, Digest, Event, EventKind, Failure, Grant, GrantParts, Limits,
    Metering, Permissions, TraceId,
};
use aral_runtime::{Guarded, Runtime, SystemClock, fault_of, within_wall};
use semver::Version;
use wasmtime::component::Component;
use wasmtime_wasi::I32Exit;

use crate::bindings::CapabilityPre;
use crate::bound::stdio::StandardStreams;
use crate::bound::{Roots, Services, Ungranted};
use crate::call::{CallRecord, Frame};
use crate::egress::{Egress, EgressOptions};
use crate::filesystem::FileWork;
use crate::functions::exec::Programs;
use crate::manifest::Descriptor;
use crate::state::State;
use crate::storage::SecretUses;
use crate::{fault, linker};

/// Longest schema or text that a guest may give, in bytes: all four together stay below what one host call copies.
const DESCRIPTOR_BYTES_MAX: u64 = 1 << 20;

/// A guest that only returns constants needs little.
fn limits() -> Limits {
    Limits {
        memory_bytes: 64 << 20,
        fuel: 200_000_000,
        compute_ms: 2_000,
        wall_ms: 5_000,
        output_bytes: DESCRIPTOR_BYTES_MAX,
        log_bytes: 4 << 10,
        http_requests: 0,
        ..Limits::default()
    }
}

/// Nobody audits a build; what the guest logs while it describes itself helps its author.
#[derive(Debug)]
struct BuildLog;

impl AuditSink for BuildLog {
    fn record(&self, event: Event) {
        match &event.kind {
            // The message of a panic is such a line, and the trap after it has no text.
            EventKind::GuestLog { level, message, .. } if matches!(*level, "warn" | "error") => {
                tracing::warn!(level, said = message.as_str(), "while the capability described itself");
            }
            kind => tracing::debug!(event = ?kind, "while the capability described itself"),
        }
    }
}

/// How a guest failed while it described itself. No manifest raises the limits here, so a hint that names them would not help.
fn describing(failure: Failure) -> Failure {
    if !matches!(failure.code.blame(), Blame::Guest | Blame::Limit) {
        return failure;
    }
    let message = format!("while it described itself: {}", failure.message);
    Failure { message, ..failure }
        .with_hint("its schemas are made there, with the defaults and examples in them: let these be constants")
}

/// Runs `describe` of a component compiled for the metered engine.
pub async fn describe(runtime: &Runtime, component: &Component) -> Result<Descriptor, Failure> {
    let engine = runtime.engine(Metering::Metered).map_err(Failure::internal)?;
    let frame = frame()?;
    let limits = &frame.grant.limits;
    // Everything is linked and nothing is granted: a tool that imports more than `describe` needs can still be asked.
    let linker =
        linker::build(engine.wasmtime(), &Permissions::default(), Ungranted::Observe).map_err(Failure::internal)?;
    let unfit = |error: wasmtime::Error| {
        Failure::new(
            Code::ComponentInvalid,
            format!("the component is no tool of this host: {}", error.root_cause()),
        )
        .with_internal(format!("{error:#}"))
    };
    let tool = CapabilityPre::new(linker.instantiate_pre(component).map_err(unfit)?).map_err(unfit)?;
    let record = CallRecord::new(Arc::clone(&frame), TraceId::from_bytes([0; 16]));
    let mut store = engine.store(State::new(record, StandardStreams::Log), limits);
    let run = async {
        let instance = tool.instantiate_async(&mut store).await?;
        instance.aral_capability_tool().call_describe(&mut store).await
    };
    let said = within_wall(limits, run)
        .await
        .map_err(|fault| describing(fault::of_fault(fault)))?;
    let said = said.map_err(|error| {
        describing(match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(code)) => fault::of_exit(*code),
            None => fault::of_fault(fault_of(&error, store.data().guard_ref())),
        })
    })?;
    let bytes = [&said.title, &said.description, &said.input_schema, &said.output_schema]
        .map(String::len)
        .iter()
        .sum::<usize>();
    if u64::try_from(bytes).unwrap_or(u64::MAX) > DESCRIPTOR_BYTES_MAX {
        return Err(Failure::new(
            Code::OutputTooLarge,
            format!("the descriptor has {bytes} bytes, more than {DESCRIPTOR_BYTES_MAX}"),
        ));
    }
    Descriptor::parse(said.title, said.description, &said.input_schema, &said.output_schema).map_err(Failure::from)
}

fn frame() -> Result<Arc<Frame>, Failure> {
    let none = Digest::of(b"");
    let grant = Grant::new(GrantParts {
        capability: "describe".parse().map_err(Failure::internal)?,
        version: Version::new(0, 0, 0),
        component: none,
        persona: "nobody".parse().map_err(Failure::internal)?,
        manifest: none,
        policy: none,
        clearance: Classification::Public,
        permissions: Permissions::default(),
        limits: limits(),
        metering: Metering::Metered,
        networks: Vec::new(),
        secret_plain_loopback: false,
        cut: Cut::default(),
    });
    let services = Services {
        clock: Arc::new(SystemClock::new()),
        sink: Arc::new(BuildLog),
        egress: Arc::new(Egress::new(EgressOptions::default())?),
        file_work: FileWork::default(),
        programs: Programs::default(),
        roots: Roots::default(),
        memory: None,
        secrets: None,
        secret_uses: SecretUses::default(),
        trace_hosts: None,
    };
    Ok(Arc::new(Frame {
        grant: Arc::new(grant),
        services: Arc::new(services),
        mounts: Vec::new(),
        ungranted: Ungranted::Observe,
    }))
}
