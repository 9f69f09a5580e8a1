//! What the tests of this crate share.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use aral_contract::document::{Kind, PrivateKey, TrustStore};
use aral_contract::event::LifecycleChange;
use aral_contract::{AuditSink as _, Clock, Event, EventKind};
use jiff::{SignedDuration, Timestamp};
use zeroize::Zeroizing;

use crate::{AuditLog, Blinder, Cursor, Durability, LogOptions, OpenError, Record};

/// Hears each line of the operator's log where it is written.
pub(crate) struct Listener<F>(pub(crate) F);

impl<F: Fn(&tracing::Event<'_>) + 'static> tracing::Subscriber for Listener<F> {
    fn enabled(&self, _metadata: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _span: &tracing::span::Id, _values: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _span: &tracing::span::Id, _follows: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        (self.0)(event);
    }
    fn enter(&self, _span: &tracing::span::Id) {}
    fn exit(&self, _span: &tracing::span::Id) {}
}

/// A clock that goes on when told, and whose time of day can be set besides.
#[derive(Debug, Default)]
pub(crate) struct TestClock {
    nanoseconds: AtomicU64,
    /// How far the time of day is ahead of what passed, in seconds.
    ahead: AtomicI64,
}

impl TestClock {
    pub(crate) fn advance(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap();
        self.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    /// Sets the time of day, so that it is so many seconds ahead of what passed.
    pub(crate) fn set_ahead(&self, seconds: i64) {
        self.ahead.store(seconds, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        start() + self.elapsed() + SignedDuration::from_secs(self.ahead.load(Ordering::Relaxed))
    }
    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.load(Ordering::Relaxed))
    }
}

pub(crate) fn start() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

pub(crate) fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed(&Zeroizing::new([seed; 32]))
}

/// Trusts key 1 for checkpoints.
pub(crate) fn trust() -> TrustStore {
    trust_in(&[1])
}

/// Trusts these keys for checkpoints.
pub(crate) fn trust_in(seeds: &[u8]) -> TrustStore {
    let mut trust = TrustStore::default();
    for seed in seeds {
        trust.add(key(*seed).public(), &[Kind::Checkpoint]);
    }
    trust
}

pub(crate) fn blinder() -> Arc<Blinder> {
    Arc::new(Blinder::from_key(Zeroizing::new([7; 32])))
}

/// Small, and without a reserve.
pub(crate) fn options(folder: &Path) -> LogOptions {
    LogOptions {
        durability: Durability::Async,
        reserve_bytes: 0,
        ..LogOptions::new(folder.join("log"))
    }
}

pub(crate) fn try_open(options: &LogOptions, clock: Arc<dyn Clock>) -> Result<AuditLog, OpenError> {
    AuditLog::open(options, key(1), blinder(), clock)
}

pub(crate) fn open(options: &LogOptions) -> AuditLog {
    try_open(options, Arc::new(TestClock::default())).unwrap()
}

/// An event that is never counted together with others.
pub(crate) fn event(subject: &str) -> Event {
    Event {
        at: start(),
        trace: None,
        kind: EventKind::Lifecycle {
            change: LifecycleChange::Started,
            subject: subject.to_owned(),
            digest: None,
        },
    }
}

/// The first records of the segments that there are.
pub(crate) fn firsts(options: &LogOptions) -> Vec<u64> {
    let dir = aral_runtime::files::open_root(&options.directory).unwrap();
    let segments = crate::segment::list(&dir).unwrap();
    segments.iter().map(|segment| segment.first).collect()
}

/// What can happen to a segment while later ones are there.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Damage {
    /// The file is gone.
    Gone,
    /// Its last record is gone, and what follows in it.
    Cut,
    /// The same, but for the beginning of that record.
    Torn,
    /// More follows than a line may have.
    Endless,
}

impl Damage {
    pub(crate) const ALL: [Self; 4] = [Self::Gone, Self::Cut, Self::Torn, Self::Endless];

    /// Happens to the third segment of a log. Returns the first record that cannot be read any more.
    #[expect(clippy::disallowed_methods, reason = "a test damages a file")]
    pub(crate) fn happens(self, options: &LogOptions) -> u64 {
        let firsts = firsts(options);
        assert!(firsts.len() >= 5, "{firsts:?}");
        let path = options.directory.join(crate::segment::file_name(firsts[2]));
        let text = std::fs::read_to_string(&path).unwrap();
        let last = text.rfind("{\"seq\":").unwrap();
        let (seq, left) = match self {
            Self::Gone => {
                std::fs::remove_file(&path).unwrap();
                return firsts[2];
            }
            Self::Cut => (firsts[3] - 1, text[..last].to_owned()),
            Self::Torn => (firsts[3] - 1, text[..last + 20].to_owned()),
            Self::Endless => (firsts[3], text + &"x".repeat(70 << 10)),
        };
        std::fs::write(&path, left).unwrap();
        seq
    }
}

/// One session: what opening records, `count` records, and a checkpoint.
pub(crate) fn session(options: &LogOptions, count: usize) -> AuditLog {
    let log = open(options);
    (0..count).for_each(|number| log.record(event(&number.to_string())));
    log.flush().unwrap();
    log
}

/// A line with space in its document, as long as a line and its end may be: whoever has no key can make one of any signed document.
pub(crate) fn padded(line: &str) -> String {
    let pad = " ".repeat(crate::line::LINE_BYTES_MAX - line.len() - 1);
    format!("{}{pad}}}", line.strip_suffix('}').unwrap())
}

pub(crate) fn records(options: &LogOptions) -> Vec<Record> {
    let cursor = Cursor::oldest(&options.directory).unwrap();
    cursor.map(|entry| entry.unwrap().record().unwrap()).collect()
}
