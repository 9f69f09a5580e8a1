//! What guests warn of, in the log of a server. Guests write these lines, so each capability has a part of the log and no more, and all
//! of them together have one: they do not fill the disk of the log, nor push out what the host says. A capability that floods the log
//! leaves room for the next one, which is less than that had alone.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use aral_contract::{AuditSink, CapabilityId, Event, EventKind};
use jiff::{SignedDuration, Timestamp};

use crate::LogSink;

/// Bytes of the log that the lines of all capabilities may take in a window. A quarter of what waits for a slow reader of standard error:
/// also at the end of one window and the beginning of the next, the lines of the host find room beside them.
const GUEST_LOG_BYTES_MAX: usize = 256 << 10;
/// One capability may have one in so many of the bytes that the others leave. So there is less for each that floods the log, and
/// something for the next one.
const GUEST_LOG_SHARE: usize = 4;
/// How long a window is.
const GUEST_LOG_WINDOW: SignedDuration = SignedDuration::from_secs(60);
/// What a line costs besides its text, in bytes: the time, the names and the trace in it.
const LINE_COST: usize = 256;

/// Writes every event to the log as [`LogSink`] does, and what guests log as `warn` or `error` at level `warn` under the target
/// `aral::guest`: for a host that nobody watches. Of one capability it writes so many lines in a minute, then one that says so if
/// there is room, and leaves the rest out.
#[derive(Debug, Default)]
pub struct ServerLogSink(Windows);

impl AuditSink for ServerLogSink {
    fn record(&self, event: Event) {
        self.0.show(&event);
        LogSink.record(event);
    }
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Show,
    /// It is the first one that is left out.
    BeginToLeaveOut,
    LeaveOut,
}

#[derive(Debug)]
struct Window {
    begun: Timestamp,
    used: usize,
    is_full: bool,
}

/// What the capabilities that logged in the last minute have used. Their names stand in signed manifests: no guest makes one up.
#[derive(Debug, Default)]
struct Windows(Mutex<BTreeMap<CapabilityId, Window>>);

impl Windows {
    fn show(&self, event: &Event) {
        let EventKind::GuestLog {
            capability,
            level,
            message,
        } = &event.kind
        else {
            return;
        };
        // What nobody sees uses nothing up.
        if !matches!(*level, "warn" | "error") || !tracing::enabled!(target: "aral::guest", tracing::Level::WARN) {
            return;
        }
        let trace = event.trace.map(|trace| trace.to_string());
        let trace = trace.as_deref();
        match self.take(capability, message, event.at) {
            // As a text of its own the line is quoted: it cannot look like another field, or like a line of the host.
            Verdict::Show => {
                let said = message.as_str();
                tracing::warn!(target: "aral::guest", trace, %capability, level, said, "a guest logged a line");
            }
            Verdict::BeginToLeaveOut => tracing::warn!(
                target: "aral::guest",
                trace,
                %capability,
                "further lines of this capability are left out for up to a minute: `-v` shows all"
            ),
            Verdict::LeaveOut => {}
        }
    }

    fn take(&self, capability: &CapabilityId, message: &str, at: Timestamp) -> Verdict {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back ends a window, too.
        windows.retain(|_, window| {
            let age = at.duration_since(window.begun);
            age >= SignedDuration::ZERO && age < GUEST_LOG_WINDOW
        });
        let others = windows.iter().filter(|(other, _)| *other != capability);
        let others = others.fold(0_usize, |sum, (_, window)| sum.saturating_add(window.used));
        let left = GUEST_LOG_BYTES_MAX.saturating_sub(others);
        let window = windows.entry(capability.clone()).or_insert(Window {
            begun: at,
            used: 0,
            is_full: false,
        });
        if window.is_full {
            return Verdict::LeaveOut;
        }
        let with_line = window.used.saturating_add(quoted(message)).saturating_add(LINE_COST);
        if with_line <= left / GUEST_LOG_SHARE {
            window.used = with_line;
            return Verdict::Show;
        }
        window.is_full = true;
        // What says so is a line as well.
        let with_end = window.used.saturating_add(LINE_COST);
        if with_end > left {
            return Verdict::LeaveOut;
        }
        window.used = with_end;
        Verdict::BeginToLeaveOut
    }
}

/// Bytes of a text as a log shows it: in quotes, where one character may become several.
fn quoted(text: &str) -> usize {
    text.chars().flat_map(char::escape_debug).map(char::len_utf8).sum()
}

#[cfg(test)]
mod tests {
    use std::io::Seek as _;

    use aral_contract::TraceId;

    use super::*;

    fn event(capability: &str, level: &'static str, message: &str) -> Event {
        Event {
            at: Timestamp::UNIX_EPOCH,
            trace: Some(TraceId::from_bytes([7; 16])),
            kind: EventKind::GuestLog {
                capability: capability.parse().unwrap(),
                level,
                message: message.to_owned(),
            },
        }
    }

    /// What a log of this level holds of these events.
    fn logged(level: tracing::Level, events: Vec<Event>) -> String {
        let mut kept = tempfile::tempfile().unwrap();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(kept.try_clone().unwrap())
            .with_ansi(false)
            .with_max_level(level)
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            let sink = ServerLogSink::default();
            events.into_iter().for_each(|event| sink.record(event));
        });
        kept.rewind().unwrap();
        std::io::read_to_string(kept).unwrap()
    }

    #[test]
    fn what_a_guest_warns_of_is_in_the_log_and_what_it_tells_is_not() {
        let levels = ["trace", "debug", "info", "warn", "error"];
        let events = || {
            levels
                .map(|level| event("echo", level, &format!("said-{level}")))
                .to_vec()
        };
        let log = logged(tracing::Level::WARN, events());
        assert_eq!(log.lines().count(), 2, "{log}");
        for (line, level) in log.lines().zip(["warn", "error"]) {
            let trace = "07".repeat(16);
            let parts = ["WARN aral::guest", "capability=echo", &trace, &format!("said-{level}")];
            assert!(parts.iter().all(|part| line.contains(part)), "{line}");
        }
        assert_eq!(logged(tracing::Level::ERROR, events()), "");
    }

    #[test]
    fn a_line_of_a_guest_cannot_look_like_a_field_of_the_host() {
        let forged = "no\" trace=\"1\" code=guest.trap";
        let log = logged(tracing::Level::WARN, vec![event("echo", "error", forged)]);
        assert!(log.contains(r#"said="no\" trace=\"1\" code=guest.trap""#), "{log}");
    }

    #[test]
    fn a_capability_that_floods_the_log_hides_no_line_of_another() {
        let flood = (0..100_000).map(|_| event("loud", "error", "x"));
        let events = flood.chain([event("calm", "warn", "the disk is full")]).collect();
        let log = logged(tracing::Level::WARN, events);
        assert!(log.len() < GUEST_LOG_BYTES_MAX / GUEST_LOG_SHARE, "{}", log.len());
        assert!(log.contains("the disk is full"));
        assert_eq!(log.matches("further lines of this capability are left out").count(), 1);
    }

    #[test]
    fn capabilities_that_flood_the_log_together_leave_room_for_the_lines_of_others() {
        // Each character of it is longer in quotes.
        let line = "\"\\\u{300}".repeat(100);
        for (loud, is_heard) in [(8, true), (64, false)] {
            let flood = (0..loud).flat_map(|number| vec![event(&format!("loud-{number}"), "error", &line); 300]);
            let events = flood.chain([event("calm", "warn", "the disk is full")]).collect();
            let log = logged(tracing::Level::WARN, events);
            assert!(log.len() <= GUEST_LOG_BYTES_MAX, "{loud}: {}", log.len());
            assert!(log.contains("capability=loud-7 "), "{loud}");
            assert_eq!(log.contains("the disk is full"), is_heard, "{loud}");
        }
    }

    #[test]
    fn beside_a_flood_a_capability_is_heard_as_long_as_it_has_logged_less_than_its_part() {
        let (calm, loud): (CapabilityId, CapabilityId) = ("calm".parse().unwrap(), "loud".parse().unwrap());
        // Alone it has 64 KiB, and beside a flood about 51.
        for (kib, verdict) in [(46, Verdict::Show), (60, Verdict::BeginToLeaveOut)] {
            let windows = Windows::default();
            let take = |id: &CapabilityId, bytes: usize| windows.take(id, &"x".repeat(bytes), Timestamp::UNIX_EPOCH);
            assert_eq!(take(&calm, (kib << 10) - LINE_COST), Verdict::Show, "{kib}");
            while take(&loud, 1) == Verdict::Show {}
            assert_eq!(take(&calm, 1), verdict, "{kib}");
        }
    }

    #[test]
    fn a_capability_has_its_part_again_after_a_minute_or_once_the_clock_is_set_back() {
        let windows = Windows::default();
        let id: CapabilityId = "loud".parse().unwrap();
        let half = "x".repeat(GUEST_LOG_BYTES_MAX / GUEST_LOG_SHARE / 2 - LINE_COST);
        let take = |second: i64| windows.take(&id, &half, Timestamp::from_second(second).unwrap());
        let expected = [
            (100, Verdict::Show),
            (110, Verdict::Show),
            (159, Verdict::BeginToLeaveOut),
            (159, Verdict::LeaveOut),
            (160, Verdict::Show),
            (50, Verdict::Show),
        ];
        for (second, verdict) in expected {
            assert_eq!(take(second), verdict, "{second}");
        }
        assert_eq!(windows.0.lock().unwrap().len(), 1);
    }

    #[test]
    fn how_much_capabilities_may_log_is_documented() {
        let document = include_str!("../../docs/defaults.md");
        let line = format!(
            "\n| `GUEST_LOG_BYTES_MAX`, `GUEST_LOG_SHARE` | {GUEST_LOG_BYTES_MAX}, {GUEST_LOG_SHARE} | 256 KiB in a minute"
        );
        assert!(document.contains(&line), "docs/defaults.md has no line{line}");
    }
}
