//! Fields of log lines for people. A field may quote a document, a guest or a stranger, so each field stays on its line.

use std::fmt::{self, Debug};

use tracing::field::{Field, Visit};
use tracing_subscriber::field::{RecordFields, VisitOutput as _};
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::{DefaultVisitor, Writer};

use crate::cli::text;

/// Writes the fields of events and spans as the library does, without characters that steer a terminal or begin a line.
pub(super) struct Fields;

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut filtered = Filtered(DefaultVisitor::new(writer, true));
        fields.record(&mut filtered);
        filtered.0.finish()
    }
}

/// Every other kind of value comes as `record_debug` as well.
struct Filtered<'writer>(DefaultVisitor<'writer>);

impl Visit for Filtered<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let said = format!("{value:?}");
        self.0.record_debug(field, &format_args!("{}", text::line(&said)));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Seek as _};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn what_a_field_quotes_neither_steers_the_terminal_nor_begins_a_line() {
        let mut kept = tempfile::tempfile().unwrap();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(kept.try_clone().unwrap())
            .with_ansi(false)
            .without_time()
            .fmt_fields(Fields);
        let quoted = "a\u{1b}[2J\u{202e}\nWARN forged";
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let span = tracing::info_span!("step", of_span = %quoted);
            let _inside = span.enter();
            tracing::warn!(failure = %quoted, text = quoted, count = 3_u64, "said {quoted}");
        });
        kept.rewind().unwrap();
        let log = io::read_to_string(kept).unwrap();
        assert_eq!(log.lines().count(), 1, "{log:?}");
        assert!(!log.contains(['\u{1b}', '\u{202e}']), "{log:?}");
        let shown = "a\\u{1b}[2J\\u{202e}\\u{a}WARN forged";
        for part in [
            format!("of_span={shown}"),
            format!("failure={shown}"),
            format!("said {shown}"),
            "count=3".to_owned(),
        ] {
            assert!(log.contains(&part), "{part} is not in {log:?}");
        }
    }
}
