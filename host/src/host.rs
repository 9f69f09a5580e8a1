//! The embedding API. Thin: it turns bytes and files into checked documents and hands them to the dispatch path.

mod register;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Weak};

use aral_capability::Capability;
use aral_contract::event::LifecycleChange;
use aral_contract::{AuditSink, CapabilityId, Clock, Digest, Event, EventKind, Failure, Permissions};
use aral_memory::Secrets;
use aral_orchestration::authorize::WhyNot;
use aral_orchestration::dispatch::{Admission, DevelopmentRun, Explanation, Granted, RunReport};
use aral_orchestration::{Dispatcher, Outcome, Request, Session};
use arc_swap::{ArcSwap, ArcSwapOption};
use futures::Stream;
use semver::VersionReq;

use crate::audit::Audit;
use crate::builder::HostBuilder;
use crate::config::Taken;
use crate::events::{EventBus, Notice};
use crate::health::Places;
use crate::reload::{Advice, InForce, Revoked};
use crate::serials::SerialFile;
use crate::storage::{LazyStore, Storage};
use crate::used::Unkept;
pub use register::Registered;

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
    /// Keys that were revoked since the start, whatever rules come.
    pub(crate) revoked: Revoked,
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
    /// Held by whoever ends the host.
    pub(crate) end: Mutex<()>,
    /// What was taken out of the environment.
    pub(crate) taken: Taken,
}

/// What the host is called in its own records.
pub(crate) const SUBJECT: &str = "host";

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
