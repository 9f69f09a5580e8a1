//! One admitted capability: its entry, the manifest it came in, its bytes, and its compiled form once it is needed.

use std::fmt;
use std::sync::Arc;

use aral_contract::document::{DocumentError, TrustStore, Verified};
use aral_contract::{Code, Digest, Failure, KeyId, Metering};
use aral_runtime::{CompileError, Runtime};
use jiff::Timestamp;
use tokio::sync::OnceCell;
use wasmtime::component::Component;

use crate::call::sanitised;
use crate::fault::GUEST_MESSAGE_BYTES_MAX;
use crate::inspect::Inspection;
use crate::manifest::{Entry, ManifestBody};

/// An admitted capability. Immutable but for the cells that hold its compiled forms.
pub struct Capability {
    /// What the manifest says of it.
    pub entry: Arc<Entry>,
    /// What its component is.
    pub inspection: Inspection,
    manifest: Arc<Verified<ManifestBody>>,
    bytes: Arc<[u8]>,
    metered: OnceCell<Component>,
    epoch_only: OnceCell<Component>,
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
        inspection: Inspection,
        bytes: Arc<[u8]>,
    ) -> Self {
        Self {
            entry: Arc::new(entry),
            inspection,
            manifest,
            bytes,
            metered: OnceCell::new(),
            epoch_only: OnceCell::new(),
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

    /// The component, compiled for one engine: at the first call of this method, and once. The bytes compiled are the
    /// bytes whose digest was compared. A host has one runtime; a capability must not be shared between two.
    ///
    /// Several who ask at once are served one after the other until one of them has it; each waits as long for room to
    /// compile as if alone.
    pub async fn component(&self, runtime: &Runtime, metering: Metering) -> Result<Component, Failure> {
        let cell = match metering {
            Metering::Metered => &self.metered,
            Metering::EpochOnly => &self.epoch_only,
        };
        let deadline = Runtime::compiler_deadline();
        let compile = || async {
            runtime
                .compile_by(deadline, &self.bytes, metering)
                .await
                .map_err(|error| compile_failure(&error))
        };
        cell.get_or_try_init(compile).await.cloned()
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
        CompileError::Busy { .. } => Failure::new(Code::Unavailable, message),
        CompileError::Precompiled
        | CompileError::CoreModule
        | CompileError::NotWasm
        | CompileError::Invalid { .. }
        | CompileError::Refused { .. } => Failure::new(Code::ComponentInvalid, message),
        CompileError::Child(source) => Failure::internal(format_args!("{message}: {source}")),
        CompileError::Protocol { .. } | CompileError::Load { .. } | CompileError::Runtime(_) => {
            Failure::internal(message)
        }
    }
}
