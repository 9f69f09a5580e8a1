//! Calls for the tests of host functions: a grant written as JSON, and a sink that keeps what is recorded.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aral_contract::event::RoomFuture;
use aral_contract::{
    AuditSink, Classification, Cut, Digest, Event, EventKind, Grant, GrantParts, Limits, Metering, Permission, TraceId,
};
use aral_runtime::SystemClock;
use ipnet::IpNet;
use semver::Version;
use serde_json::Value;

use crate::bindings::aral::capability::types::Error;
use crate::bound::{Roots, Services, Ungranted};
use crate::call::{CallRecord, Frame};
use crate::egress::{Egress, EgressOptions};
use crate::filesystem::{self, FileWork};
use crate::functions::exec::Programs;
use crate::storage::SecretUses;

/// A runtime of one thread besides the one that may block.
pub(crate) fn one_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap()
}

/// Runs a future while the thread that may block is held, until the sender is dropped: the disk does not answer.
pub(crate) fn with_a_slow_disk<F: Future<Output = ()>>(act: impl FnOnce(std::sync::mpsc::Sender<()>) -> F) {
    one_thread().block_on(async {
        let (disk, slow) = std::sync::mpsc::channel::<()>();
        let held = tokio::task::spawn_blocking(move || slow.recv().is_err());
        act(disk).await;
        assert!(held.await.unwrap());
    });
}

/// How long it takes whoever waits for room to see that there is some.
pub(crate) const LOOK: Duration = Duration::from_millis(50);

/// Counts what an operator sees in the log by default: warnings, and what is worse.
#[derive(Debug, Clone, Default)]
pub(crate) struct Warnings(Arc<AtomicUsize>);

impl Warnings {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= tracing::Level::WARN
    }
    fn new_span(&self, _span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _span: &tracing::span::Id, _values: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _span: &tracing::span::Id, _follows: &tracing::span::Id) {}
    fn event(&self, _event: &tracing::Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _span: &tracing::span::Id) {}
    fn exit(&self, _span: &tracing::span::Id) {}
}

/// Keeps events, and has no room for as long as a test says so.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<Vec<Event>>, pub(crate) Arc<AtomicBool>);

impl AuditSink for Kept {
    fn record(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }

    fn room(&self) -> Option<RoomFuture> {
        let full = Arc::clone(&self.1);
        let room: RoomFuture = Box::pin(async move {
            while full.load(Ordering::Relaxed) {
                tokio::time::sleep(LOOK).await;
            }
            Ok(())
        });
        self.1.load(Ordering::Relaxed).then_some(room)
    }
}

impl Kept {
    /// Host calls as (permission, target, reason of the denial).
    pub(crate) fn host_calls(&self) -> Vec<(Permission, String, Option<String>)> {
        let events = self.0.lock().unwrap();
        let calls = events.iter().filter_map(|event| match &event.kind {
            EventKind::HostCall {
                permission,
                target,
                allowed,
                reason,
                ..
            } => {
                assert_eq!(*allowed, reason.is_none());
                Some((*permission, target.clone(), reason.clone()))
            }
            _ => None,
        });
        calls.collect()
    }

    /// The last denial: what was wanted and why it was refused.
    pub(crate) fn denial(&self) -> (String, String) {
        let denial = self
            .host_calls()
            .into_iter()
            .rev()
            .find_map(|(_, target, reason)| Some((target, reason?)));
        denial.expect("nothing was denied")
    }

    /// All other events, as they would be written down.
    pub(crate) fn accesses(&self) -> Vec<EventKind> {
        let events = self.0.lock().unwrap();
        let accesses = events
            .iter()
            .map(|event| &event.kind)
            .filter(|kind| matches!(kind, EventKind::MemoryAccess { .. } | EventKind::SecretAccess { .. }));
        accesses.cloned().collect()
    }

    /// Log lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        let events = self.0.lock().unwrap();
        let lines = events.iter().filter_map(|event| match &event.kind {
            EventKind::GuestLog { message, .. } => Some(message.clone()),
            _ => None,
        });
        lines.collect()
    }
}

/// With what a guest is refused: the kind of the error, and its text.
pub(crate) fn told<T: std::fmt::Debug>(result: Result<T, Error>) -> (&'static str, String) {
    match result.unwrap_err() {
        Error::InvalidInput(text) => ("invalid-input", text),
        Error::Denied(text) => ("denied", text),
        Error::Unavailable(text) => ("unavailable", text),
        Error::Limit(text) => ("limit", text),
        Error::Internal(text) => ("internal", text),
    }
}

/// A grant of these permissions.
pub(crate) fn grant(permissions: Value, limits: Limits, networks: &[&str]) -> Arc<Grant> {
    Arc::new(Grant::new(grant_parts(permissions, limits, networks)))
}

/// What such a grant says.
pub(crate) fn grant_parts(permissions: Value, limits: Limits, networks: &[&str]) -> GrantParts {
    let none = Digest::of(b"");
    GrantParts {
        capability: "probe".parse().unwrap(),
        version: Version::new(1, 0, 0),
        component: none,
        persona: "tester".parse().unwrap(),
        manifest: none,
        policy: none,
        clearance: Classification::Secret,
        permissions: serde_json::from_value(permissions).unwrap(),
        limits,
        metering: Metering::Metered,
        networks: networks.iter().map(|text| text.parse::<IpNet>().unwrap()).collect(),
        secret_plain_loopback: false,
        cut: Cut::default(),
    }
}

/// What a host lends that writes its events down here, and no more than it must: it opens no folder and keeps nothing.
pub(crate) fn services(sink: Arc<dyn AuditSink>) -> Services {
    Services {
        clock: Arc::new(SystemClock::new()),
        sink,
        egress: Arc::new(Egress::new(EgressOptions::default()).unwrap()),
        file_work: FileWork::default(),
        programs: Programs::default(),
        roots: Roots::default(),
        memory: None,
        secrets: None,
        secret_uses: SecretUses::default(),
        trace_hosts: None,
    }
}

/// A call under a grant.
pub(crate) struct Trial {
    pub(crate) call: Arc<CallRecord>,
    pub(crate) kept: Arc<Kept>,
}

impl Trial {
    pub(crate) fn new(grant: Arc<Grant>) -> Self {
        Self::lending(grant, Ungranted::Refuse, |least| least)
    }

    /// On a host that lends what `lend` makes of the least that one lends.
    pub(crate) fn lending(grant: Arc<Grant>, ungranted: Ungranted, lend: impl FnOnce(Services) -> Services) -> Self {
        let kept = Arc::new(Kept::default());
        let services = lend(services(Arc::clone(&kept) as Arc<dyn AuditSink>));
        let room = || services.file_work.room_for_folder(&grant.persona);
        let mut mounts = filesystem::mount(&grant.permissions, &services.roots, &room).unwrap();
        if ungranted == Ungranted::Observe {
            mounts.extend(filesystem::mount_nothing(&mounts, &room).unwrap());
        }
        let frame = Frame {
            grant,
            services: Arc::new(services),
            mounts,
            ungranted,
        };
        Self {
            call: CallRecord::new(Arc::new(frame), TraceId::from_bytes([7; 16])),
            kept,
        }
    }
}
