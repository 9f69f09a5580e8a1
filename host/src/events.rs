//! Hands every event to the embedder's sinks and to whoever watches. Watching never holds up the host: a watcher that is
//! too slow loses events, and learns how many.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aral_contract::event::{AppendOutcome, LifecycleChange, RecordFuture, RoomFuture, Severity, SinkUnavailable};
use aral_contract::{AuditSink, Event, EventKind};
use futures::Stream;
use tokio::sync::broadcast::{self, Sender, error::RecvError};
use tokio::sync::watch;

/// Events kept for a watcher that is behind.
pub(crate) const EVENTS_KEPT_MAX: usize = 1024;

/// What a watcher sees.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "almost every notice is an event, and none is kept for long"
)]
pub enum Notice {
    /// Something happened.
    Event(Event),
    /// The watcher was too slow, and this many events are gone.
    Missed(u64),
}

/// Something that whoever watches over security should see.
pub(crate) fn security(rule: &'static str, subject: String) -> EventKind {
    EventKind::Security {
        severity: Severity::Medium,
        rule,
        subject,
        reason: None,
        source: None,
    }
}

/// Writes every event to the log, at level `info` under the target `aral::events`: the kind, the request and the event as
/// JSON. What a record of the audit log does not hold, such as the arguments of a program, is not in it. For a host whose events
/// nobody else keeps.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogSink;

impl AuditSink for LogSink {
    fn record(&self, event: Event) {
        // Serialising takes longer than a short call.
        if !tracing::enabled!(target: "aral::events", tracing::Level::INFO) {
            return;
        }
        let event = aral_audit::shown(event);
        let trace = event.trace.map(|trace| trace.to_string());
        match serde_json::to_string(&event.kind) {
            Ok(kind) => {
                let kind = visible(&kind);
                tracing::info!(target: "aral::events", at = %event.at, trace = trace.as_deref(), event = %kind);
            }
            Err(error) => tracing::error!(target: "aral::events", %error, "an event cannot be written"),
        }
    }
}

/// JSON in which every character can be seen: what others wrote must not move the cursor of whoever reads the log. The
/// escapes mean the same.
fn visible(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for character in json.chars() {
        let is_plain = |character: char| character.is_ascii() && !character.is_ascii_control();
        if is_plain(character) || character.escape_debug().count() == 1 {
            shown.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                shown.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    shown
}

#[derive(Debug)]
pub(crate) struct EventBus {
    sinks: Vec<Arc<dyn AuditSink>>,
    watchers: Sender<Event>,
    /// Told when callers may be able to call something else than before.
    changes: watch::Sender<()>,
    /// Whether the host has ended: nothing begins any more that would be recorded.
    ended: AtomicBool,
}

impl EventBus {
    pub(crate) fn new(sinks: Vec<Arc<dyn AuditSink>>) -> Self {
        Self {
            sinks,
            watchers: Sender::new(EVENTS_KEPT_MAX),
            changes: watch::Sender::new(()),
            ended: AtomicBool::new(false),
        }
    }

    /// Nothing is to begin from now on. False: that was so already.
    pub(crate) fn end(&self) -> bool {
        !self.ended.swap(true, Ordering::AcqRel)
    }

    /// Whether the host has ended: what happens from now on is on no record.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Changes whenever somebody may be able to call something else than before. Several changes in a row may be one.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Somebody may be able to call something else, which no event says.
    pub(crate) fn tell_changes(&self) {
        self.changes.send_replace(());
    }

    /// Everything from now on, until the host is gone.
    pub(crate) fn watch(&self) -> impl Stream<Item = Notice> + Send + Unpin + use<> {
        let next = |mut receiver: broadcast::Receiver<Event>| async move {
            match receiver.recv().await {
                Ok(event) => Some((Notice::Event(event), receiver)),
                Err(RecvError::Lagged(count)) => Some((Notice::Missed(count), receiver)),
                Err(RecvError::Closed) => None,
            }
        };
        Box::pin(futures::stream::unfold(self.watchers.subscribe(), next))
    }
}

impl EventBus {
    fn show(&self, event: &Event) {
        if changes_what_can_be_called(&event.kind) {
            self.tell_changes();
        }
        if self.watchers.receiver_count() > 0 {
            // The only failure is that the last watcher has just left.
            let _nobody = self.watchers.send(event.clone());
        }
    }
}

fn changes_what_can_be_called(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::CapabilityRegistered { .. }
            // A start has nothing before it, and nobody who knew anything else.
            | EventKind::ConfigurationChanged { before: Some(_), .. }
            | EventKind::Lifecycle {
                change: LifecycleChange::Withdrawn,
                ..
            }
    )
}

impl AuditSink for EventBus {
    fn record(&self, event: Event) {
        self.show(&event);
        if let Some((last, rest)) = self.sinks.split_last() {
            rest.iter().for_each(|sink| guarded(&**sink, event.clone()));
            guarded(&**last, event);
        }
    }

    /// Kept once all sinks keep it. What comes back is the reference of the first that has one.
    fn append(&self, event: Event) -> RecordFuture {
        self.show(&event);
        let nothing = || -> RecordFuture { Box::pin(std::future::ready(Ok(AppendOutcome::Unreferenced))) };
        let Some((first, rest)) = self.sinks.split_first() else {
            return nothing();
        };
        let appended = |sink: &dyn AuditSink, event| {
            let appended = std::panic::catch_unwind(AssertUnwindSafe(|| sink.append(event)));
            appended.unwrap_or_else(|_panic| {
                tracing::error!(?sink, "a sink panicked and lost an event");
                nothing()
            })
        };
        if rest.is_empty() {
            return appended(&**first, event);
        }
        // All of them at once: each may wait for a disk of its own.
        let all = futures::future::try_join_all(self.sinks.iter().map(|sink| appended(&**sink, event.clone())));
        Box::pin(async move {
            let kept = all.await?;
            let referenced = kept.into_iter().find(|kept| *kept != AppendOutcome::Unreferenced);
            Ok(referenced.unwrap_or(AppendOutcome::Unreferenced))
        })
    }

    fn available(&self) -> Result<(), SinkUnavailable> {
        if self.has_ended() {
            return Err(SinkUnavailable {
                reason: "the host has ended".to_owned(),
            });
        }
        self.sinks.iter().try_for_each(|sink| sink.available())
    }

    /// In all sinks.
    fn room(&self) -> Option<RoomFuture> {
        let mut waits: Vec<RoomFuture> = self.sinks.iter().filter_map(|sink| sink.room()).collect();
        let last = waits.pop()?;
        Some(Box::pin(async move {
            for wait in waits {
                wait.await?;
            }
            last.await
        }))
    }
}

/// A sink of the embedder that panics loses the event and nothing else: ends of calls are recorded while a call may
/// already be unwinding, where a second panic would end the process.
fn guarded(sink: &dyn AuditSink, event: Event) {
    if std::panic::catch_unwind(AssertUnwindSafe(|| sink.record(event))).is_err() {
        tracing::error!(?sink, "a sink panicked and lost an event");
    }
}

#[cfg(test)]
mod tests {
    use std::io::Seek as _;

    use aral_contract::EventKind;
    use futures::StreamExt as _;

    use super::*;

    fn event(number: usize) -> Event {
        Event {
            at: jiff::Timestamp::UNIX_EPOCH,
            trace: None,
            kind: EventKind::DevelopmentOnly {
                subject: number.to_string(),
            },
        }
    }

    #[test]
    fn nothing_in_the_log_is_active() {
        let event = serde_json::json!({"a": "\u{7f}\u{9b}2J \u{202e} \u{e0041} ä 🦀\n"}).to_string();
        let shown = visible(&event);
        assert!(
            shown.contains("\\u007f\\u009b2J \\u202e") && shown.contains("ä 🦀\\n"),
            "{shown}"
        );
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&shown), read(&event));
    }

    #[test]
    fn arguments_of_a_refused_program_stand_in_no_log() {
        let mut kept = tempfile::tempfile().unwrap();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(kept.try_clone().unwrap())
            .with_ansi(false)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            LogSink.record(Event {
                kind: EventKind::HostCall {
                    capability: "echo".parse().unwrap(),
                    persona: "analyst".parse().unwrap(),
                    permission: aral_contract::Permission::Exec,
                    target: "curl".to_owned(),
                    allowed: false,
                    reason: Some("[[exec]]: program = \"curl\", args = [\"marker\"]".to_owned()),
                },
                ..event(1)
            });
        });
        kept.rewind().unwrap();
        let text = std::io::read_to_string(kept).unwrap();
        assert!(text.contains("curl") && !text.contains("marker"), "{text}");
    }

    #[tokio::test]
    async fn a_slow_watcher_learns_what_it_missed_and_holds_up_nobody() {
        let bus = EventBus::new(Vec::new());
        let mut watcher = bus.watch();
        for number in 0..EVENTS_KEPT_MAX + 7 {
            bus.record(event(number));
        }
        assert_eq!(watcher.next().await, Some(Notice::Missed(7)));
        assert_eq!(watcher.next().await, Some(Notice::Event(event(7))));
        drop(bus);
        assert_eq!(watcher.count().await, EVENTS_KEPT_MAX - 1);
    }

    #[tokio::test]
    async fn there_is_room_where_every_sink_has_some() {
        #[derive(Debug)]
        struct Full(&'static str);
        impl AuditSink for Full {
            fn record(&self, _event: Event) {}
            fn room(&self) -> Option<RoomFuture> {
                let reason = self.0.to_owned();
                let answer = if reason.is_empty() {
                    Ok(())
                } else {
                    Err(SinkUnavailable { reason })
                };
                Some(Box::pin(std::future::ready(answer)))
            }
        }
        let sink = |full: Full| Arc::new(full) as Arc<dyn AuditSink>;
        assert!(EventBus::new(vec![Arc::new(LogSink)]).room().is_none());
        let soon = EventBus::new(vec![Arc::new(LogSink), sink(Full("")), sink(Full(""))]);
        assert_eq!(soon.room().unwrap().await, Ok(()));
        for sinks in [["full", ""], ["", "full"]] {
            let bus = EventBus::new(sinks.map(|reason| sink(Full(reason))).to_vec());
            assert_eq!(bus.room().unwrap().await.unwrap_err().reason, "full");
        }
    }

    #[test]
    fn every_sink_keeps_an_event_at_the_same_time() {
        /// Keeps nothing before the other one has begun to.
        #[derive(Debug)]
        struct Together([Arc<AtomicBool>; 2]);
        impl AuditSink for Together {
            fn record(&self, _event: Event) {}
            fn append(&self, _event: Event) -> RecordFuture {
                let [own, other] = self.0.clone();
                Box::pin(futures::future::poll_fn(move |_| {
                    own.store(true, Ordering::Relaxed);
                    if other.load(Ordering::Relaxed) {
                        return std::task::Poll::Ready(Ok::<_, SinkUnavailable>(AppendOutcome::Aggregated));
                    }
                    std::task::Poll::Pending
                }))
            }
        }
        let [one, other] = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        let sinks =
            [[&one, &other], [&other, &one]].map(|pair| Arc::new(Together(pair.map(Arc::clone))) as Arc<dyn AuditSink>);
        let mut kept = EventBus::new(sinks.to_vec()).append(event(1));
        let mut poll = || futures::FutureExt::now_or_never(&mut kept);
        let found = poll().or_else(poll);
        assert_eq!(found, Some(Ok(AppendOutcome::Aggregated)));
    }

    #[test]
    fn a_sink_that_panics_takes_nobody_with_it() {
        #[derive(Debug, Default)]
        struct Count(std::sync::atomic::AtomicU64);
        impl AuditSink for Count {
            fn record(&self, _event: Event) {
                self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
        }
        #[derive(Debug)]
        struct Broken;
        impl AuditSink for Broken {
            fn record(&self, _event: Event) {
                panic!("the disk is full");
            }
        }
        let count = Arc::new(Count::default());
        let bus = EventBus::new(vec![Arc::new(Broken), Arc::clone(&count) as _, Arc::new(Broken)]);
        bus.record(event(1));
        bus.record(event(2));
        assert_eq!(count.0.load(std::sync::atomic::Ordering::Relaxed), 2);
    }
}
