//! Log lines as JSON objects, one a line: time, level, part, message, and the call and the step of it that a line belongs to.

use std::fmt;

use aral_contract::Clock as _;
use aral_runtime::SystemClock;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::cli::text;

/// Longest text of one field, in bytes.
const TEXT_BYTES_MAX: usize = 8 << 10;

/// Keeps the trace id of a span, and nothing else that it says.
pub(super) struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut said = Said::default();
        fields.record(&mut said);
        match said.fields.get("trace_id").and_then(Value::as_str) {
            Some(trace) => writer.write_str(trace),
            None => Ok(()),
        }
    }

    /// A span has its trace id from the beginning.
    fn add_fields(&self, _current: &'writer mut FormattedFields<Self>, _fields: &Record<'_>) -> fmt::Result {
        Ok(())
    }
}

/// Writes events.
#[derive(Default)]
pub(super) struct Lines(SystemClock);

impl<S> FormatEvent<S, Fields> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, Fields>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let mut line = Map::new();
        let mut put = |key: &str, value: Value| drop(line.insert(key.to_owned(), value));
        let metadata = event.metadata();
        let target = said.of_library().unwrap_or_else(|| metadata.target().into());
        put("timestamp", self.0.now().to_string().into());
        put("level", metadata.level().as_str().into());
        put("target", target);
        if let Some(message) = said.fields.remove("message") {
            put("message", message);
        }
        let mut trace = said.fields.remove("trace").filter(Value::is_string);
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let formatted = extensions.get::<FormattedFields<Fields>>();
            let of_span = formatted.map(|one| one.fields.as_str()).filter(|one| !one.is_empty());
            trace = trace.or_else(|| of_span.map(Value::from));
        }
        if let Some(trace) = trace {
            put("trace_id", trace);
        }
        if let Some(span) = context.lookup_current() {
            put("span", span.name().into());
        }
        if !said.fields.is_empty() {
            put("fields", said.fields.into());
        }
        // What others wrote must not steer the terminal of whoever reads it.
        writeln!(writer, "{}", text::json(&Value::from(line).to_string()))
    }
}

#[derive(Default)]
struct Said {
    fields: Map<String, Value>,
}

impl Said {
    fn put(&mut self, field: &Field, value: Value) {
        self.fields.insert(field.name().to_owned(), value);
    }

    /// Takes out what stands beside a message of a library that logs through the crate `log`: the part that speaks, which is the one to
    /// name in `ARAL_LOG`, and where its source was when it was built.
    fn of_library(&mut self) -> Option<Value> {
        for place in ["log.module_path", "log.file", "log.line"] {
            self.fields.remove(place);
        }
        self.fields.remove("log.target")
    }

    fn text(&mut self, field: &Field, text: &str) {
        let end = text.floor_char_boundary(TEXT_BYTES_MAX);
        self.put(field, text.get(..end).unwrap_or_default().into());
    }
}

impl Visit for Said {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Seek as _};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    fn lines(act: impl FnOnce()) -> Vec<Value> {
        let mut kept = tempfile::tempfile().unwrap();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(kept.try_clone().unwrap())
            .fmt_fields(Fields)
            .event_format(Lines::default());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), act);
        kept.rewind().unwrap();
        let text = io::read_to_string(kept).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_says_to_which_call_it_belongs() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let lines = lines(|| {
            tracing::warn!(count = 3_u64, "before");
            let request = tracing::info_span!(
                "request",
                trace_id = trace,
                secret = "marker",
                status = tracing::field::Empty
            );
            request.in_scope(|| {
                let run = tracing::info_span!("run");
                run.in_scope(|| tracing::error!(detail = "a\u{1b}[2J\u{202e}\nb", "it failed"));
            });
            request.record("status", 500);
            request.in_scope(|| tracing::info!("after"));
            tracing::info!(trace = %"1".repeat(32), "without a span");
        });
        let [before, inside, after, without] = &lines[..] else {
            panic!("{lines:?}")
        };
        assert_eq!(
            (&before["message"], &before["level"]),
            (&"before".into(), &"WARN".into())
        );
        assert_eq!(before["fields"]["count"], 3);
        assert!(before.get("trace_id").is_none() && before.get("span").is_none());
        assert_eq!((&inside["trace_id"], &inside["span"]), (&trace.into(), &"run".into()));
        assert_eq!(inside["fields"]["detail"], "a\u{1b}[2J\u{202e}\nb");
        assert_eq!((&after["trace_id"], &after["span"]), (&trace.into(), &"request".into()));
        assert_eq!(without["trace_id"], Value::from("1".repeat(32)));
        assert!(before["timestamp"].as_str().unwrap().ends_with('Z'));
        assert!(!format!("{lines:?}").contains("marker"));
    }

    #[test]
    fn a_line_of_a_library_names_the_part_that_speaks_and_no_file() {
        let lines = lines(|| {
            tracing::warn!(
                target: "log",
                {
                    log.target = "rustls::msgs::handshake",
                    log.module_path = "rustls::msgs::handshake",
                    log.file = "/registry/handshake.rs",
                    log.line = 348_u64
                },
                "an extension"
            );
        });
        assert_eq!(lines[0]["target"], "rustls::msgs::handshake");
        assert!(lines[0].get("fields").is_none(), "{lines:?}");
    }
}
