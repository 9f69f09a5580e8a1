//! The embedding API. Thin: it turns bytes and files into checked documents and hands them to the dispatch path.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use aral_capability::manifest::{self, ManifestBody};
use aral_capability::registry::Serials;
use aral_capability::{Capability, Warning};
use aral_contract::document::Verified;
use aral_contract::event::LifecycleChange;
use aral_contract::{AuditSink, CapabilityId, Clock, Digest, Event, EventKind, Failure, Permissions};
use aral_memory::Secrets;
use aral_orchestration::authorize::WhyNot;
use aral_orchestration::dispatch::{Admission, DevelopmentRun, Explanation, Granted, RunReport};
use aral_orchestration::{Dispatcher, Outcome, Request, Session};
use arc_swap::{ArcSwap, ArcSwapOption};
use futures::Stream;
use semver::{Version, VersionReq};

use crate::audit::Audit;
use crate::builder::HostBuilder;
use crate::components::{Beside, Components, read_document};
use crate::config::Taken;
use crate::events::{EventBus, Notice};
use crate::health::Places;
use crate::reload::{Advice, InForce};
use crate::serials::SerialFile;
use crate::storage::{LazyStore, Storage};
use crate::used::Unkept;

/// A host: it holds what is trusted, registered and allowed, and runs capabilities. Cheap to clone; all clones are the
/// same host. It is safe to use from many tasks and threads at once.
#[derive(Debug, Clone)]
pub struct Host(pub(crate) Arc<Parts>);

/// What a host is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The one path, under the rules of the moment.
    pub(crate) dispatcher: ArcSwap<Dispatcher>,
    /// Held by whoever changes the rules.
    pub(crate) in_force: Mutex<InForce>,
    /// What is only said to whoever changed them.
    pub(crate) advice: Advice,
    /// The digest of the configuration that holds, for whoever only looks.
    pub(crate) configuration: ArcSwapOption<Digest>,
    /// The folders whose disks must have room.
    pub(crate) places: Places,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) events: Arc<EventBus>,
    pub(crate) serials: Option<SerialFile>,
    /// Whether somebody is about to keep what agents have used up.
    pub(crate) keeping: AtomicBool,
    pub(crate) unkept: Unkept,
    pub(crate) storage: Storage,
    pub(crate) store: Option<Arc<LazyStore>>,
    pub(crate) secrets: Option<Secrets>,
    pub(crate) audit: Option<Audit>,
    /// What was taken out of the environment.
    pub(crate) taken: Taken,
}

/// What the host is called in its own records.
pub(crate) const SUBJECT: &str = "host";

/// A capability that was registered, with what was odd about it.
#[derive(Debug, Clone)]
pub struct Registered {
    /// The capability.
    pub capability: Arc<Capability>,
    /// What its author should look at, such as a permission that no import uses.
    pub warnings: Vec<Warning>,
}

impl Host {
    /// Begins a host. Without any setting it is closed.
    pub fn builder() -> HostBuilder {
        HostBuilder::default()
    }

    pub(crate) fn new(parts: Parts) -> Self {
        let parts = Arc::new(parts);
        let keeper: Weak<Parts> = Arc::downgrade(&parts);
        parts.dispatcher.load().keep_with(keeper);
        Self(parts)
    }

    /// Records that the host is there, and under what it decides. `config` is the digest of its configuration file.
    pub(crate) fn started(&self, config: Option<Digest>) {
        self.record(EventKind::Lifecycle {
            change: LifecycleChange::Started,
            subject: SUBJECT.to_owned(),
            digest: config,
        });
        self.record(EventKind::ConfigurationChanged {
            subject: "policy",
            before: None,
            after: self.policy().digest(),
        });
    }

    /// The one path, under the rules of now.
    pub(crate) fn dispatcher(&self) -> Arc<Dispatcher> {
        self.0.dispatcher.load_full()
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.0.clock)
    }

    pub(crate) fn sink(&self) -> Arc<dyn AuditSink> {
        Arc::clone(&self.0.events) as Arc<dyn AuditSink>
    }

    /// Changes whenever somebody may be able to call something else than before.
    pub(crate) fn changes(&self) -> tokio::sync::watch::Receiver<()> {
        self.0.events.changes()
    }

    /// The folders whose disks must have room.
    pub(crate) fn places(&self) -> &Places {
        &self.0.places
    }

    /// Registers all capabilities of a signed manifest (JSON, at most 4 MiB), or none of them. Has the compiler inspect each
    /// component that is new, and compiles nothing yet. With a state folder it waits for other processes that register, up to 5 s; in async code call it
    /// where blocking is allowed.
    ///
    /// # Errors
    /// `document.invalid`, `signature.invalid`, `document.stale` (also: a serial lower than one already admitted),
    /// `component.digest_mismatch`, `component.invalid`, `component.too_large`, `component.import_uncovered`,
    /// `host.internal` if the serials of earlier runs are damaged, `host.unavailable` if they cannot be read or if others change the rules and that takes more than 30 s, and
    /// whatever `components` fails with.
    pub fn register_manifest(&self, bytes: &[u8], components: Components<'_>) -> Result<Vec<Registered>, Failure> {
        self.noting_refusal("manifest", || {
            let manifest = manifest::verify(bytes, &self.dispatcher().trust(), self.0.clock.now())?;
            self.admit_manifest(&manifest, components)
        })
    }

    /// The same for a file; its components are `components/<SHA-256>.wasm` or `<SHA-256>.wasm` beside it.
    ///
    /// # Errors
    /// As [`Host::register_manifest`], and `config.invalid` if a file cannot be read.
    pub fn register_manifest_file(&self, path: &Path) -> Result<Vec<Registered>, Failure> {
        let beside = Beside::of(path)?;
        let registered = self.register_manifest(&read_document(path)?, &|entry| beside.component(entry));
        registered.map_err(|failure| failure.in_file(path))
    }

    /// Registers a manifest whatever its signature. For development: each use is recorded and warned about.
    ///
    /// # Errors
    /// As [`Host::register_manifest`], without `signature.invalid`.
    pub fn dangerous_register_unsigned_manifest(
        &self,
        bytes: &[u8],
        components: Components<'_>,
    ) -> Result<Vec<Registered>, Failure> {
        self.noting_refusal("manifest", || {
            let manifest = manifest::dangerous_accept_unsigned(bytes, self.0.clock.now())?;
            self.dispatcher()
                .warn_development(None, format!("manifest {} without a signature", manifest.digest));
            self.admit_manifest(&manifest, components)
        })
    }

    /// The same for a file, with components as in [`Host::register_manifest_file`].
    ///
    /// # Errors
    /// As [`Host::register_manifest_file`], without `signature.invalid`.
    pub fn dangerous_register_unsigned_manifest_file(&self, path: &Path) -> Result<Vec<Registered>, Failure> {
        let beside = Beside::of(path)?;
        let document = read_document(path)?;
        let registered = self.dangerous_register_unsigned_manifest(&document, &|entry| beside.component(entry));
        registered.map_err(|failure| failure.in_file(path))
    }

    /// Withdraws one version of a capability; says whether it was there. Calls that are under way go on.
    pub fn remove(&self, capability: &CapabilityId, version: &Version) -> bool {
        self.withdraw(&self.changing(), capability, version)
    }

    /// The same, which is refused if others change the rules and that takes long.
    pub(crate) fn remove_soon(&self, capability: &CapabilityId, version: &Version) -> Result<bool, Failure> {
        Ok(self.withdraw(&self.changing_soon()?, capability, version))
    }

    fn withdraw(&self, _changing: &MutexGuard<'_, InForce>, capability: &CapabilityId, version: &Version) -> bool {
        let removed = self.dispatcher().registry().remove(capability, version);
        if removed {
            self.record(EventKind::Lifecycle {
                change: LifecycleChange::Withdrawn,
                subject: format!("{capability} {version}"),
                digest: None,
            });
        }
        removed
    }

    /// All registered capabilities, by name and version.
    pub fn capabilities(&self) -> Vec<Arc<Capability>> {
        self.dispatcher().registry().list()
    }

    /// Runs a capability once. To cancel, drop the future: the guest and all that it holds end with it, and the end is
    /// recorded as `call.cancelled`. Needs a tokio runtime with I/O and timers enabled. A program that the guest runs is attended in a
    /// task of that runtime. It is killed at its deadline or after the drop as soon as the runtime runs, or ends: a runtime of one
    /// thread runs only while it is driven.
    ///
    /// A failed call is an [`Outcome`] too: its `result` says whose fault it was (`failure.code.blame()`), and its
    /// `usage` what it cost.
    pub async fn invoke(&self, session: &Session, request: Request<'_>) -> Outcome {
        self.dispatcher().invoke(session, request).await
    }

    /// Makes everything ready for the first call of a capability by this session (grant, code, links), so that it takes
    /// no longer than any other. Optional.
    ///
    /// # Errors
    /// As [`Host::authorize`], and whatever binding fails with: `component.invalid`, `component.too_large`,
    /// `permission.denied` for a folder that is not there or cannot be opened, `host.internal`.
    pub async fn prepare(
        &self,
        session: &Session,
        capability: &CapabilityId,
        version: Option<&VersionReq>,
    ) -> Result<(), Failure> {
        self.dispatcher().prepare(session, capability, version).await
    }

    /// Runs a component (at most 32 MiB) without a manifest, under permissions that nobody signed. For development: each
    /// use is recorded and warned about.
    ///
    /// # Errors
    /// What is wrong with the component or with the permissions; a failed run is part of the report.
    pub async fn dangerous_run(&self, run: &DevelopmentRun, input: &[u8]) -> Result<RunReport, Failure> {
        let report = self.dispatcher().dangerous_run(run, input).await;
        report.inspect_err(|failure| self.note_refusal("component", failure))
    }

    /// The decision alone: the grant under which this session may call this capability, from the cache (under a
    /// microsecond, without allocation) or computed now.
    ///
    /// # Errors
    /// `capability.unknown`, `document.stale`, `signature.invalid` (a key is not trusted any more), `permission.denied`.
    pub fn authorize(
        &self,
        session: &Session,
        capability: &CapabilityId,
        version: Option<&VersionReq>,
    ) -> Result<Arc<Granted>, Failure> {
        self.dispatcher().authorize(session, capability, version)
    }

    /// Everything that is asked before a call, and counted: the decision, then depth and callers, requests and cost.
    /// [`Host::invoke`] begins with this.
    ///
    /// # Errors
    /// As [`Host::authorize`]; `limit.rate`, `limit.cost`, `limit.depth`.
    pub fn admit(
        &self,
        session: &Session,
        capability: &CapabilityId,
        version: Option<&VersionReq>,
    ) -> Result<Admission, Failure> {
        self.dispatcher().admit(session, capability, version)
    }

    /// Why this session may or may not call this capability: who asked, who allowed, what came out, and the lines that
    /// would change it.
    ///
    /// # Errors
    /// `capability.unknown`, `document.stale`, `signature.invalid`. A denial is no error here.
    pub fn explain(
        &self,
        session: &Session,
        capability: &CapabilityId,
        version: Option<&VersionReq>,
    ) -> Result<Explanation, Failure> {
        self.dispatcher().explain(session, capability, version)
    }

    /// The smallest change of manifest, persona and policy with which this session may call this capability, and the call may
    /// do what is `wanted` besides what the manifest asks for. Nothing is changed.
    ///
    /// # Errors
    /// `capability.unknown`, `document.stale`, `signature.invalid`.
    pub fn why_not(
        &self,
        session: &Session,
        capability: &CapabilityId,
        version: Option<&VersionReq>,
        wanted: &Permissions,
    ) -> Result<WhyNot, Failure> {
        self.dispatcher().why_not(session, capability, version, wanted)
    }

    /// Everything that happens from now on, until the host is gone. A watcher that falls more than 1,024 events behind
    /// loses the oldest and is told how many; it never holds up the host. For records that must be whole, use
    /// [`HostBuilder::sink`].
    pub fn events(&self) -> impl Stream<Item = Notice> + Send + Unpin + use<> {
        self.0.events.watch()
    }

    /// Opens the store of the configuration now, rather than at the first call that needs it: for a server, which fails at
    /// its start rather than later, and keeps other processes from the store. From then on expired records are removed.
    /// Nothing happens if it is open, or if there is none. It waits for a disk, and for a key service if one has the key.
    ///
    /// # Errors
    /// `config.invalid` if its key is not there or the wrong one; `host.unavailable` if another process has it open or the
    /// key service does not answer; `host.internal` if it is damaged.
    pub fn open_store(&self) -> Result<(), Failure> {
        self.0.store.as_ref().map_or(Ok(()), |store| store.open_now())
    }

    /// The audit log; none: there is no folder for one, or the configuration wants none.
    pub fn audit(&self) -> Option<&Audit> {
        self.0.audit.as_ref()
    }

    pub(crate) fn admit_manifest(
        &self,
        manifest: &Verified<ManifestBody>,
        components: Components<'_>,
    ) -> Result<Vec<Registered>, Failure> {
        let _changing = self.changing_soon()?;
        let dispatcher = self.dispatcher();
        let registry = dispatcher.registry();
        let (serial, signer) = (manifest.header.serial, manifest.signer);
        let locked = match &self.0.serials {
            Some(file) if signer.is_some() => Some(file.lock(&*self.0.clock)?),
            Some(_) | None => None,
        };
        let mut serials = locked
            .as_ref()
            .map_or_else(|| Ok(Serials::default()), |locked| locked.manifests())?;
        serials.check(signer, manifest.body.ids(), serial)?;
        // Everything that speaks against it does so here, where nothing is changed by it.
        let trial = registry.renewed(|_| true);
        let admitted = trial.admit(manifest, components)?;
        self.0.check_here()?;
        let known = serials.clone();
        serials.note(signer, manifest.body.ids(), serial);
        // Writing what is there already, safely, would take longer than a short call.
        if let Some(locked) = locked.filter(|_| serials != known) {
            locked.write_manifests(&serials)?;
        }
        registry.adopt(manifest, &trial)?;
        Ok(admitted
            .into_iter()
            .map(|(capability, warnings)| self.registered(capability, warnings))
            .collect())
    }

    pub(crate) fn registered(&self, capability: Arc<Capability>, warnings: Vec<Warning>) -> Registered {
        let entry = &capability.entry;
        self.record(EventKind::CapabilityRegistered {
            capability: entry.id.clone(),
            version: entry.version.clone(),
            component: entry.component,
        });
        Registered { capability, warnings }
    }

    pub(crate) fn noting_refusal<T>(
        &self,
        subject: &str,
        act: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        act().inspect_err(|failure| self.note_refusal(subject, failure))
    }

    pub(crate) fn note_refusal(&self, subject: &str, failure: &Failure) {
        if let Some(detail) = &failure.internal {
            tracing::error!(subject, %detail, "not admitted");
        }
        self.record(EventKind::AdmissionRefused {
            subject: subject.to_owned(),
            code: failure.code,
            reason: failure.message.clone(),
        });
    }

    pub(crate) fn record(&self, kind: EventKind) {
        self.0.events.record(Event {
            at: self.0.clock.now(),
            trace: None,
            kind,
        });
    }
}

#[cfg(test)]
mod tests;
