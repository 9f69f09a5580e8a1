//! One admitted capability: its entry, the manifest it came in, its bytes, and its compiled form once it is needed.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aral_contract::document::{DocumentError, TrustStore, Verified};
use aral_contract::{Clock, Code, Digest, Failure, KeyId, Metering};
use aral_runtime::{CompileError, Runtime};
use jiff::Timestamp;
use tokio::sync::OnceCell;
use wasmtime::component::Component;

use crate::call::sanitised;
use crate::fault::GUEST_MESSAGE_BYTES_MAX;
use crate::inspect::Inspection;
use crate::manifest::{Entry, ManifestBody};
use crate::schema::Schemas;

/// For how long a component is not compiled again that took too long or too much memory, or whose code could not be loaded, which may
/// be the fault of a busy host. Each time that it does so again in a row, it is twice as long.
const COMPILE_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// For how long at most. Stops callers of such a component from taking all room to compile, each time for as long as it may
/// take.
const COMPILE_AGAIN_AFTER_MAX: Duration = Duration::from_secs(300);

/// An admitted capability. Immutable but for the cells that hold the compiled forms of its component.
pub struct Capability {
    /// What the manifest says of it.
    pub entry: Arc<Entry>,
    /// Its schemas.
    pub(crate) schemas: Arc<Schemas>,
    manifest: Arc<Verified<ManifestBody>>,
    pub(super) binary: Arc<Binary>,
}

/// A component that was inspected. Capabilities whose components are the same share one, with what was compiled of it.
pub(super) struct Binary {
    bytes: Box<[u8]>,
    size_bytes: u64,
    pub(super) inspection: Inspection,
    metered: Compiled,
    epoch_only: Compiled,
}

impl Binary {
    pub(super) fn new(bytes: Vec<u8>, mut inspection: Inspection) -> Self {
        // No check asks who made it.
        inspection.producers = Vec::new();
        Self {
            bytes: bytes.into(),
            size_bytes: inspection.size_bytes.saturating_add(names_bytes(&inspection)),
            inspection,
            metered: Compiled::default(),
            epoch_only: Compiled::default(),
        }
    }

    /// What is kept of it, without what was compiled of it.
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}

/// The names in it, which are kept for the checks: they may be as long as the component.
fn names_bytes(inspection: &Inspection) -> u64 {
    let imports = inspection.imports.iter().map(|import| &import.name);
    let exports = inspection.exports.iter().map(|export| &export.name);
    let bytes = imports.chain(exports).map(String::len).fold(0, usize::saturating_add);
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// The component for one engine, or why there is none.
#[derive(Default)]
struct Compiled {
    component: OnceCell<Component>,
    failed: Mutex<Option<Failed>>,
}

struct Failed {
    failure: Failure,
    /// When it may be tried again; none: never, as the bytes stay what they are.
    again: Option<Again>,
}

#[derive(Clone, Copy)]
struct Again {
    /// For how long it is not.
    wait: Duration,
    /// Until when, in elapsed time of the clock.
    until: Duration,
}

impl Compiled {
    /// The failure that still holds.
    fn failed(&self, clock: &dyn Clock) -> Result<(), Failure> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(failed) = &*failed else { return Ok(()) };
        let failure = failed.failure.clone();
        let Some(again) = failed.again else { return Err(failure) };
        let left = again.until.saturating_sub(clock.elapsed());
        if left.is_zero() {
            Ok(())
        } else {
            Err(failure.with_retry_after(left))
        }
    }

    /// Says why it did not compile, and remembers it if the next one would only find out again.
    fn fail(&self, error: &CompileError, clock: &dyn Clock) -> Failure {
        let failure = compile_failure(error);
        let lasts = lasts(error);
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let again = match lasts {
            Lasts::ForGood => None,
            Lasts::AWhile => {
                let before = failed.as_ref().and_then(|failed| failed.again);
                let wait = before.map_or(COMPILE_AGAIN_AFTER, |before| before.wait.saturating_mul(2));
                let wait = wait.min(COMPILE_AGAIN_AFTER_MAX);
                let until = clock.elapsed().saturating_add(wait);
                Some(Again { wait, until })
            }
            Lasts::Not => return failure,
        };
        *failed = Some(Failed {
            failure: failure.clone(),
            again,
        });
        match again {
            Some(again) => failure.with_retry_after(again.wait),
            None => failure,
        }
    }
}

/// How long a component that did not compile is not tried again.
enum Lasts {
    Not,
    AWhile,
    ForGood,
}

fn lasts(error: &CompileError) -> Lasts {
    match error {
        CompileError::TooLarge { .. }
        | CompileError::Precompiled
        | CompileError::CoreModule
        | CompileError::NotWasm
        | CompileError::Invalid { .. }
        | CompileError::TooComplex { .. }
        | CompileError::CodeTooLarge { .. }
        | CompileError::Refused { .. }
        | CompileError::Unfit { .. } => Lasts::ForGood,
        // The next one would take a place to compile for as long again, and may find out no more.
        CompileError::Timeout { .. }
        | CompileError::Killed { .. }
        | CompileError::Protocol { .. }
        | CompileError::Load { .. } => Lasts::AWhile,
        CompileError::Busy { .. } | CompileError::Ended { .. } | CompileError::Child(_) | CompileError::Runtime(_) => {
            Lasts::Not
        }
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Capability({} {} {})",
            self.entry.id, self.entry.version, self.entry.component
        )
    }
}

impl Capability {
    /// Only the registry makes them, after every check.
    pub(super) fn new(
        manifest: Arc<Verified<ManifestBody>>,
        entry: Entry,
        schemas: Schemas,
        binary: Arc<Binary>,
    ) -> Self {
        Self {
            entry: Arc::new(entry),
            schemas: Arc::new(schemas),
            manifest,
            binary,
        }
    }

    /// SHA-256 of the manifest it came in.
    pub fn manifest_digest(&self) -> Digest {
        self.manifest.digest
    }

    /// Who signed that manifest; none: nobody did, and the development door was used.
    pub fn signer(&self) -> Option<KeyId> {
        self.manifest.signer
    }

    /// Whether the manifest is valid now, and its signer still trusted. Asked at every call.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, trust: &TrustStore, now: Timestamp) -> Result<(), DocumentError> {
        self.manifest.check(trust, now)
    }

    /// The component, compiled for one engine: at the first call of this method, and once, also if several
    /// capabilities have this component. The bytes compiled are the bytes whose digest was compared. A host has one runtime; a capability must not be shared between two.
    ///
    /// Several who ask at once are served one after the other until one of them has it; each waits as long for room to
    /// compile as if alone.
    ///
    /// # Errors
    /// Why it does not compile. What is wrong with the bytes is remembered with them, and that they took too long or too
    /// much memory, or broke the compiler off or did not load for a reason that may pass, for 30 seconds by `clock`, and longer each
    /// time in a row, up to five minutes: until then nothing is compiled, and `retry_after` says how long that is.
    pub async fn component(
        &self,
        runtime: &Runtime,
        metering: Metering,
        clock: &dyn Clock,
    ) -> Result<Component, Failure> {
        let compiled = match metering {
            Metering::Metered => &self.binary.metered,
            Metering::EpochOnly => &self.binary.epoch_only,
        };
        let deadline = Runtime::compiler_deadline();
        let compile = || async {
            // Here, as those who waited for the one who failed come here next.
            compiled.failed(clock)?;
            let component = runtime.compile_by(deadline, &self.binary.bytes, metering).await;
            component.map_err(|error| compiled.fail(&error, clock))
        };
        compiled.component.get_or_try_init(compile).await.cloned()
    }
}

/// Who is to blame when a component does not compile. What the compiler says of itself is for the operator's log.
pub fn compile_failure(error: &CompileError) -> Failure {
    // What a compiler says quotes names that the component chose.
    let message = sanitised(&error.to_string(), GUEST_MESSAGE_BYTES_MAX);
    match error {
        CompileError::TooLarge { .. } | CompileError::TooComplex { .. } | CompileError::CodeTooLarge { .. } => {
            Failure::new(Code::ComponentTooLarge, message)
                .with_hint("build it with `--release` and `opt-level = \"s\"`, or split it")
        }
        CompileError::Timeout { .. } | CompileError::Killed { .. } => Failure::new(Code::ComponentTooLarge, message),
        CompileError::Busy { .. } | CompileError::Ended { .. } => Failure::new(Code::Unavailable, message),
        CompileError::Precompiled
        | CompileError::CoreModule
        | CompileError::NotWasm
        | CompileError::Invalid { .. }
        | CompileError::Refused { .. }
        | CompileError::Unfit { .. } => Failure::new(Code::ComponentInvalid, message),
        CompileError::Child(source) => Failure::internal(format_args!("{message}: {source}")),
        CompileError::Protocol { .. } | CompileError::Load { .. } | CompileError::Runtime(_) => {
            Failure::internal(message)
        }
    }
}
