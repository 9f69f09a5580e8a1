//! What tests of this crate share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use aral_contract::document::PrivateKey;
use aral_contract::document::signed::{Header, Kind, sign};
use aral_contract::event::{AppendOutcome, RecordFuture, RoomFuture, SinkUnavailable};
use aral_contract::testing::ManualClock;
use aral_contract::{AuditSink, Clock, Digest, Event, EventKind};
use aral_orchestration::{Policy, RawPolicy};
use serde_json::{Value, json};
use tokio::sync::watch;
use zeroize::Zeroizing;

/// A key that is the same each time.
pub(crate) fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed(&Zeroizing::new([seed; 32]))
}

/// A component that answers with its input.
pub(crate) fn echo() -> Vec<u8> {
    wat::parse_str(include_str!("../examples/echo.wat")).unwrap()
}

/// What a manifest says of it.
pub(crate) fn echo_entry(id: &str) -> Value {
    json!({
        "id": id, "version": "1.0.0", "shape": "tool", "component": Digest::of(&echo()), "title": "T",
        "description": "D", "input_schema": {}, "output_schema": {},
    })
}

/// A document by key 1, valid whenever a test runs.
pub(crate) fn signed(kind: Kind, serial: u64, body: &Value) -> Vec<u8> {
    signed_by(&key(1), kind, serial, body)
}

pub(crate) fn signed_by(key: &PrivateKey, kind: Kind, serial: u64, body: &Value) -> Vec<u8> {
    let header = Header {
        schema: kind.schema().to_owned(),
        serial,
        issued_at: "2020-01-01T00:00:00Z".parse().unwrap(),
        expires_at: "2120-01-01T00:00:00Z".parse().unwrap(),
    };
    sign(kind, &header, body, key).unwrap().to_string().into_bytes()
}

/// The policy of a text that would stand below `[policy]`.
pub(crate) fn policy(text: &str) -> Policy {
    let raw: RawPolicy = toml::from_str(text).unwrap();
    Policy::resolve(raw, &"/".parse().unwrap()).unwrap()
}

/// Keeps what was recorded.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    events: Mutex<Vec<EventKind>>,
    /// Whether it says that it has no room.
    full: AtomicBool,
}

impl Kept {
    /// What was recorded since this was asked last.
    pub(crate) fn take(&self) -> Vec<EventKind> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }

    /// Says from now on that it has no room.
    pub(crate) fn fill(&self) {
        self.full.store(true, Ordering::Relaxed);
    }
}

impl AuditSink for Kept {
    fn record(&self, event: Event) {
        self.events.lock().unwrap().push(event.kind);
    }

    fn room(&self) -> Option<RoomFuture> {
        let reason = "full".to_owned();
        let is_full = self.full.load(Ordering::Relaxed);
        is_full.then(|| Box::pin(std::future::ready(Err(SinkUnavailable { reason }))) as RoomFuture)
    }
}

/// How a record is kept that somebody waits for; none: not yet.
pub(crate) type WhetherKept = Option<Result<(), SinkUnavailable>>;

/// A log whose disk takes its time.
#[derive(Debug)]
pub(crate) struct Late {
    waited_for: mpsc::Sender<EventKind>,
    kept: watch::Receiver<WhetherKept>,
}

impl Late {
    /// With what is waited for, and what becomes of that and of all that comes later.
    pub(crate) fn new() -> (Arc<Self>, mpsc::Receiver<EventKind>, watch::Sender<WhetherKept>) {
        let (waited_for, waits) = mpsc::channel();
        let (keep, kept) = watch::channel(None);
        (Arc::new(Self { waited_for, kept }), waits, keep)
    }

    /// That it is not.
    pub(crate) fn not_kept() -> WhetherKept {
        let reason = "the disk is full".to_owned();
        Some(Err(SinkUnavailable { reason }))
    }
}

impl AuditSink for Late {
    fn record(&self, _event: Event) {}

    fn append(&self, event: Event) -> RecordFuture {
        let (waited_for, mut kept) = (self.waited_for.clone(), self.kept.clone());
        Box::pin(async move {
            waited_for.send(event.kind).unwrap();
            let answer = kept.wait_for(Option::is_some).await.unwrap().clone();
            answer.unwrap().map(|()| AppendOutcome::Unreferenced)
        })
    }
}

/// Stands for documents, and hurries for whoever waits: a second passes whenever somebody asks how many have.
#[derive(Debug, Default)]
pub(crate) struct Fast(AtomicU64);

impl Clock for Fast {
    fn now(&self) -> jiff::Timestamp {
        ManualClock::new().now()
    }

    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// A log that takes nothing any more.
#[derive(Debug)]
pub(crate) struct Full;

impl AuditSink for Full {
    fn record(&self, _event: Event) {}

    fn available(&self) -> Result<(), SinkUnavailable> {
        let reason = "the disk is full".to_owned();
        Err(SinkUnavailable { reason })
    }
}
