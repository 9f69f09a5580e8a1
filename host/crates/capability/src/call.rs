//! What the parts of one call share: for whom it runs, where its events go, and what it has used up. It decides nothing;
//! the host functions decide and report here.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aral_audit::HostCalls;
use aral_contract::metric::HOST_CALLS;
use aral_contract::{Event, EventKind, Grant, Permission, TraceContext, TraceId};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tracing::Span;

use crate::bound::{Running, Services, Ungranted};
use crate::filesystem::Mount;
use crate::functions::log::LogBook;
use crate::storage::STORE_OPERATIONS_PER_CALL_MAX;

/// Host-call events kept of one call: so many of those that were let through, and so many of those that were refused. Stops a
/// guest from filling the audit log.
pub(crate) const HOST_CALL_EVENTS_MAX: u64 = 1024;
/// Spans kept of the host calls of one call. Stops a guest from filling the collector.
const SPANS_MAX: u64 = 128;
/// Longest target of an event, in bytes. Stops a guest from writing pages through names it makes up.
const TARGET_BYTES_MAX: usize = 1024;
/// Programs that one call may run. Stops a guest from keeping the thread that starts all of them busy.
pub(crate) const PROGRAMS_MAX: u64 = 256;

/// What all calls of one bound capability share.
pub(crate) struct Frame {
    pub(crate) grant: Arc<Grant>,
    pub(crate) services: Arc<Services>,
    pub(crate) mounts: Vec<Mount>,
    pub(crate) ungranted: Ungranted,
}

/// One call.
pub(crate) struct CallRecord {
    pub(crate) frame: Arc<Frame>,
    pub(crate) context: TraceContext,
    pub(crate) log: Mutex<LogBook>,
    host_calls: Option<HostCalls>,
    running: Option<Running>,
    ran: AtomicBool,
    guest_ended: AtomicBool,
    /// Until when somebody waits for it; none: as long as its limits allow.
    pub(crate) until: Option<Instant>,
    /// Operations on the store that it may begin besides those under way.
    pub(crate) store_operations: Arc<Semaphore>,
    started: Duration,
    /// Microseconds that it waited for others, which its guest has not used up.
    waited_us: AtomicU64,
    recorded: AtomicU64,
    events_allowed: AtomicU64,
    events_denied: AtomicU64,
    spans: AtomicU64,
    http_requests: AtomicU64,
    memory_calls: AtomicU64,
    secret_calls: AtomicU64,
    programs: AtomicU64,
}

impl CallRecord {
    /// Without a list of its host calls: for what is no call that anybody asks a receipt of.
    pub(crate) fn new(frame: Arc<Frame>, trace: TraceId) -> Arc<Self> {
        Self::listing(frame, TraceContext::begin(trace), None, None, None)
    }

    /// With the list that its host calls go to, with whoever is told that the guest runs, and until when somebody waits.
    pub(crate) fn listing(
        frame: Arc<Frame>,
        context: TraceContext,
        host_calls: Option<HostCalls>,
        running: Option<Running>,
        until: Option<Instant>,
    ) -> Arc<Self> {
        Arc::new(Self {
            host_calls,
            running,
            ran: AtomicBool::new(false),
            guest_ended: AtomicBool::new(false),
            until,
            store_operations: Arc::new(Semaphore::new(STORE_OPERATIONS_PER_CALL_MAX)),
            started: frame.services.clock.elapsed(),
            log: Mutex::new(LogBook::new(frame.grant.limits.log_bytes)),
            frame,
            context,
            waited_us: AtomicU64::new(0),
            recorded: AtomicU64::new(0),
            events_allowed: AtomicU64::new(0),
            events_denied: AtomicU64::new(0),
            spans: AtomicU64::new(0),
            http_requests: AtomicU64::new(0),
            memory_calls: AtomicU64::new(0),
            secret_calls: AtomicU64::new(0),
            programs: AtomicU64::new(0),
        })
    }

    /// Time since the call began, without what it waited for others.
    pub(crate) fn elapsed(&self) -> Duration {
        let passed = self.frame.services.clock.elapsed().saturating_sub(self.started);
        passed.saturating_sub(self.waited())
    }

    /// For how long it waited for others.
    pub(crate) fn waited(&self) -> Duration {
        Duration::from_micros(self.waited_us.load(Ordering::Relaxed))
    }

    /// Waits for others: nothing of that is the call's own time.
    pub(crate) async fn waiting<T>(&self, others: impl Future<Output = T>) -> T {
        let begun = self.frame.services.clock.elapsed();
        let done = others.await;
        let waited = self.frame.services.clock.elapsed().saturating_sub(begun);
        let waited_us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.waited_us.fetch_add(waited_us, Ordering::Relaxed);
        done
    }

    /// Milliseconds until the call is ended.
    pub(crate) fn remaining_ms(&self) -> u64 {
        let spent = u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
        let left = self.frame.grant.limits.wall_ms.saturating_sub(spent);
        let Some(until) = self.until else { return left };
        let waits = until.saturating_duration_since(Instant::now()).as_millis();
        left.min(u64::try_from(waits).unwrap_or(u64::MAX))
    }

    /// The guest runs: it may have done what is not to be done again.
    pub(crate) fn runs(&self) {
        self.ran.store(true, Ordering::Relaxed);
        if let Some(running) = &self.running {
            running.tell();
        }
    }

    /// Whether it came to that.
    pub(crate) fn ran(&self) -> bool {
        self.ran.load(Ordering::Relaxed)
    }

    /// The guest has ended: what it left unfinished stays so. To be said before that is let go of.
    pub(crate) fn end_guest(&self) {
        self.guest_ended.store(true, Ordering::Release);
    }

    /// Whether it has. Whoever finds that something was let go of then finds this, too.
    pub(crate) fn has_guest_ended(&self) -> bool {
        self.guest_ended.load(Ordering::Acquire)
    }

    /// A host function lets something through, and has not done it yet.
    pub(crate) fn allowed(&self, permission: Permission, target: &str) {
        // Also code that runs while the guest is made may call.
        self.runs();
        self.host_call(permission, target, None);
    }

    /// A host function refused something. `reason` says why, with the line that would allow it.
    pub(crate) fn denied(&self, permission: Permission, target: &str, reason: &str) {
        self.host_call(permission, target, Some(reason));
    }

    /// Around the time that a host function takes. What does not wait for anybody has none, and neither has what comes after
    /// the first [`SPANS_MAX`].
    pub(crate) fn span(&self, permission: Permission) -> Span {
        if self.spans.fetch_add(1, Ordering::Relaxed) >= SPANS_MAX {
            return Span::none();
        }
        tracing::info_span!(
            target: "aral::call",
            "host_call",
            permission = permission.as_str(),
            span_id = tracing::field::Empty,
            server = tracing::field::Empty,
        )
    }

    fn host_call(&self, permission: Permission, target: &str, denial: Option<&str>) {
        if let Some(list) = &self.host_calls {
            list.push(permission, target, denial.is_none());
        }
        let outcome = if denial.is_none() { "allowed" } else { "denied" };
        metrics::counter!(HOST_CALLS.name, "permission" => permission.as_str(), "outcome" => outcome).increment(1);
        // Counted apart: nothing that is allowed can be done so often that what is refused afterwards is not seen.
        let events = match denial {
            None => &self.events_allowed,
            Some(_) => &self.events_denied,
        };
        let before = events.fetch_add(1, Ordering::Relaxed);
        if before == HOST_CALL_EVENTS_MAX {
            tracing::warn!(trace = %self.context.trace, capability = %self.frame.grant.capability, "further host calls of this call are not recorded");
        }
        if before >= HOST_CALL_EVENTS_MAX {
            return;
        }
        self.event(EventKind::HostCall {
            capability: self.frame.grant.capability.clone(),
            persona: self.frame.grant.persona.clone(),
            permission,
            target: sanitised(target, TARGET_BYTES_MAX),
            allowed: denial.is_none(),
            reason: denial.map(str::to_owned),
        });
    }

    /// A line that the guest logged.
    pub(crate) fn logged(&self, level: &'static str, message: &str) {
        let line = self.with_log(|log| log.take(message));
        if let Some(message) = line {
            let capability = self.frame.grant.capability.clone();
            // Not counted as recorded: the log of audit keeps none of these, so that whoever waits for room there waits for others.
            self.tell(EventKind::GuestLog {
                capability,
                level,
                message,
            });
        }
    }

    pub(crate) fn with_log<R>(&self, act: impl FnOnce(&mut LogBook) -> R) -> R {
        act(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Records something of this call.
    pub(crate) fn event(&self, kind: EventKind) {
        self.recorded.fetch_add(1, Ordering::Relaxed);
        self.tell(kind);
    }

    fn tell(&self, kind: EventKind) {
        self.frame.services.sink.record(Event {
            at: self.frame.services.clock.now(),
            trace: Some(self.context.trace),
            kind,
        });
    }

    /// How much was recorded of it so far. Lines that the guest logged do not count.
    pub(crate) fn recorded(&self) -> u64 {
        self.recorded.load(Ordering::Relaxed)
    }

    /// Counts one outgoing request; false: the call has none left.
    pub(crate) fn take_http_request(&self) -> bool {
        take(&self.http_requests, 1, self.frame.grant.limits.http_requests)
    }

    /// Counts so many operations on memory records, or none of them; false: the call has not as many left.
    pub(crate) fn take_memory_calls(&self, count: u64) -> bool {
        self.runs();
        take(&self.memory_calls, count, self.frame.grant.limits.memory_calls)
    }

    /// Counts so many uses of secrets, or none of them; false: the call has not as many left.
    pub(crate) fn take_secret_calls(&self, count: u64) -> bool {
        self.runs();
        take(&self.secret_calls, count, self.frame.grant.limits.secret_calls)
    }

    /// Counts one program that is run; false: the call has run as many as it may.
    pub(crate) fn take_program(&self) -> bool {
        take(&self.programs, 1, PROGRAMS_MAX)
    }

    /// Outgoing requests so far.
    pub(crate) fn http_requests(&self) -> u64 {
        self.http_requests.load(Ordering::Relaxed)
    }
}

fn take(counter: &AtomicU64, count: u64, max: u64) -> bool {
    let next = |taken: u64| taken.checked_add(count).filter(|taken| *taken <= max);
    counter.try_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
}

/// A text from a guest, fit for logs, terminals and messages: control characters (and those that reorder or hide text)
/// are escaped, and what is longer than `bytes_max` is cut.
pub(crate) fn sanitised(text: &str, bytes_max: usize) -> String {
    let hidden = |one: char| {
        one.is_control()
            || matches!(one, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
    };
    let mut out = String::with_capacity(text.len().min(bytes_max));
    for one in text.chars() {
        if out.len() >= bytes_max {
            out.push('…');
            break;
        }
        if hidden(one) {
            out.extend(one.escape_default());
        } else {
            out.push(one);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use aral_contract::Limits;
    use serde_json::json;

    use super::*;
    use crate::testing::{self, Trial};

    #[test]
    fn what_a_host_function_lets_through_is_told_before_it_is_done() {
        let Trial { call, .. } = Trial::new(testing::grant(json!({}), Limits::default(), &[]));
        let told = |act: &dyn Fn(&CallRecord)| {
            let told = Arc::new(AtomicBool::new(false));
            let teller = Arc::clone(&told);
            let running = Running::new(move || teller.store(true, Ordering::Relaxed));
            let context = TraceContext::begin(TraceId::from_bytes([7; 16]));
            let record = CallRecord::listing(Arc::clone(&call.frame), context, None, Some(running), None);
            act(record.as_ref());
            assert_eq!(record.ran(), told.load(Ordering::Relaxed));
            record.ran()
        };
        let counted = |act: &dyn Fn(&CallRecord)| {
            let before = call.recorded();
            act(call.as_ref());
            call.recorded() - before
        };
        assert_eq!(counted(&|call| call.denied(Permission::Exec, "/bin/a", "no")), 1);
        assert_eq!(counted(&|call| call.allowed(Permission::Exec, "/bin/a")), 1);
        assert_eq!(counted(&|call| call.logged("info", "a line")), 0);
        assert!(!told(&|call| call.denied(Permission::Exec, "/bin/a", "no")));
        assert!(!told(&|call| call.logged("info", "a line")));
        assert!(told(&|call| call.allowed(Permission::Exec, "/bin/a")));
        assert!(told(&|call| assert!(call.take_memory_calls(1))));
        assert!(told(&|call| assert!(call.take_secret_calls(1))));
        assert!(told(&CallRecord::runs));
    }

    #[test]
    fn what_is_left_of_a_call_ends_with_whoever_waits_for_it() {
        let limits = Limits {
            wall_ms: 60_000,
            ..Limits::default()
        };
        let Trial { call, .. } = Trial::new(testing::grant(json!({}), limits, &[]));
        let left = |until| {
            let context = TraceContext::begin(TraceId::from_bytes([7; 16]));
            CallRecord::listing(Arc::clone(&call.frame), context, None, None, until).remaining_ms()
        };
        let now = Instant::now();
        assert_eq!(left(Some(now)), 0);
        assert!(left(Some(now + Duration::from_secs(1))) <= 1_000);
        for until in [Some(now + Duration::from_secs(3_600)), None] {
            assert!((1_001..=60_000).contains(&left(until)));
        }
    }

    #[test]
    fn what_a_call_waits_for_others_is_not_its_own_time() {
        let limits = Limits {
            wall_ms: 60_000,
            ..Limits::default()
        };
        let Trial { call, .. } = Trial::new(testing::grant(json!({}), limits, &[]));
        call.waited_us.store(u64::MAX, Ordering::Relaxed);
        assert_eq!((call.elapsed(), call.remaining_ms()), (Duration::ZERO, 60_000));
    }

    #[test]
    fn what_a_guest_names_is_recorded_cut_off_and_cleaned() {
        let Trial { call, kept } = Trial::new(testing::grant(json!({}), Limits::default(), &[]));
        let named = format!("\u{1b}[2J{}", "x".repeat(2048));
        call.denied(Permission::Exec, &named, "no");
        call.allowed(Permission::Exec, &named);
        let calls = kept.host_calls();
        assert_eq!(calls.len(), 2);
        for (_, target, _) in calls {
            assert!(target.starts_with("\\u{1b}[2Jx") && target.ends_with("x…"), "{target}");
            assert_eq!(target.len(), 1024 + '…'.len_utf8());
        }
    }

    /// Takes every span.
    struct Spans;

    impl tracing::Subscriber for Spans {
        fn enabled(&self, _metadata: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
            tracing::span::Id::from_u64(1)
        }
        fn record(&self, _span: &tracing::span::Id, _values: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _span: &tracing::span::Id, _follows: &tracing::span::Id) {}
        fn event(&self, _event: &tracing::Event<'_>) {}
        fn enter(&self, _span: &tracing::span::Id) {}
        fn exit(&self, _span: &tracing::span::Id) {}
    }

    #[test]
    fn the_first_host_functions_of_a_call_have_a_span_and_no_others() {
        let Trial { call, .. } = Trial::new(testing::grant(json!({}), Limits::default(), &[]));
        // With one dispatcher alone, `tracing` asks the thread that comes to the span first whether anybody takes it, and remembers the
        // answer for all. That may be the thread of another test. With two it asks the dispatchers.
        let _second = tracing::dispatcher::Dispatch::new(Spans);
        let has_span = |_: &u32| !call.span(Permission::Exec).is_none();
        let taken: Vec<u32> = tracing::subscriber::with_default(Spans, || (0..130).filter(has_span).collect());
        assert_eq!(taken, Vec::from_iter(0..128_u32));
    }

    #[test]
    fn texts_of_guests_cannot_steer_a_terminal() {
        assert_eq!(
            sanitised("a\u{1b}[2Jb\r\nc\u{202e}", 100),
            "a\\u{1b}[2Jb\\r\\nc\\u{202e}"
        );
        assert_eq!(sanitised("grüße", 100), "grüße");
        assert_eq!(sanitised(&"x".repeat(50), 10), format!("{}…", "x".repeat(10)));
    }
}
