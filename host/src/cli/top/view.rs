//! How the figures are shown: the same sections as a text and on the whole terminal. Every text that comes from elsewhere is
//! filtered here.

use aral_contract::metric::{
    AUDIT_QUEUE, AUDIT_UNSIGNED, AUDIT_UNSYNCED, AUDIT_WRITABLE, AUTHENTICATION_FAILURES, CALLS_RUNNING,
    CALLS_RUNNING_MAX, CALLS_WAITING, CALLS_WAITING_MAX, HTTP_CONNECTIONS, HTTP_REQUESTS_RUNNING, POOL_INSTANCES,
    POOL_INSTANCES_MAX, PROCESS_RESIDENT,
};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::widgets::{Block, Borders, Paragraph, Row, Table};

use super::figures::{Figures, Quantiles, Refused};
use crate::cli::text;

/// A table with a title.
struct Section {
    title: String,
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Section {
    fn new(title: impl Into<String>, columns: &[&'static str], rows: Vec<Vec<String>>) -> Self {
        let clean = |row: Vec<String>| row.iter().map(|cell| text::line(cell).into_owned()).collect();
        Self {
            title: title.into(),
            columns: columns.to_vec(),
            rows: rows.into_iter().map(clean).collect(),
        }
    }

    /// How wide each column is.
    fn widths(&self) -> Vec<usize> {
        let width = |(place, name): (usize, &&'static str)| {
            let cells = self.rows.iter().filter_map(|row| row.get(place));
            text::column(cells.map(String::as_str).chain([*name]))
        };
        self.columns.iter().enumerate().map(width).collect()
    }

    fn text(&self) -> String {
        let widths = self.widths();
        let line = |cells: &[String]| {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            let line: Vec<String> = padded.collect();
            format!("  {}\n", line.join("  ").trim_end())
        };
        let columns: Vec<String> = self.columns.iter().map(|name| (*name).to_owned()).collect();
        let rows: String = self.rows.iter().map(|row| line(row)).collect();
        format!("{}\n{}{rows}", self.title, line(&columns))
    }

    fn draw(&self, frame: &mut Frame<'_>, area: Rect) {
        let widths = self.widths().into_iter();
        let widths = widths.map(|width| Constraint::Length(u16::try_from(width).unwrap_or(u16::MAX)));
        let header = Row::new(self.columns.clone()).style(Style::new().add_modifier(Modifier::BOLD));
        let rows = self.rows.iter().map(|row| Row::new(row.clone()));
        let block = Block::new().borders(Borders::TOP).title(self.title.clone());
        let table = Table::new(rows, widths).header(header).column_spacing(2).block(block);
        frame.render_widget(table, area);
    }
}

/// As a text.
pub(super) fn text(figures: &Figures) -> String {
    let sections = [host(figures), latency(figures), capabilities(figures), denials(figures)];
    let texts: Vec<String> = sections.iter().map(Section::text).collect();
    texts.join("\n")
}

/// On the whole terminal, whatever its size: what has no room is cut. `silence` says that the figures are old, and is the first
/// line.
pub(super) fn draw(figures: &Figures, silence: Option<&str>, frame: &mut Frame<'_>) {
    let mut area = frame.area();
    if let Some(words) = silence {
        let [line, rest] = Layout::vertical([Constraint::Length(1), Constraint::Fill(1)]).areas(area);
        let words = Paragraph::new(text::line(words)).style(Style::new().add_modifier(Modifier::REVERSED));
        frame.render_widget(words, line);
        area = rest;
    }
    let (host, latency) = (host(figures), latency(figures));
    let height = |section: &Section| u16::try_from(section.rows.len()).unwrap_or(u16::MAX).saturating_add(2);
    let wide = area.width >= 100;
    let top = if wide {
        height(&host).max(height(&latency))
    } else {
        height(&host)
    };
    let [above, below] = Layout::vertical([Constraint::Length(top), Constraint::Fill(1)]).areas(area);
    let (left, right, below) = if wide {
        let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(above);
        (left, right, below)
    } else {
        let [next, rest] = Layout::vertical([Constraint::Length(height(&latency)), Constraint::Fill(1)]).areas(below);
        (above, next, rest)
    };
    host.draw(frame, left);
    latency.draw(frame, right);
    let [calls, refusals] = Layout::vertical([Constraint::Fill(2), Constraint::Fill(1)]).areas(below);
    capabilities(figures).draw(frame, calls);
    denials(figures).draw(frame, refusals);
}

fn host(figures: &Figures) -> Section {
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let of = |some, max| format!("{} of {}", figures.gauge(some), figures.gauge(max));
    let audit = if figures.gauge(AUDIT_WRITABLE) == 1 {
        "writable"
    } else {
        "NOT WRITABLE"
    };
    let mut rows = vec![
        row("calls", format!("{}, {} failed", figures.calls, figures.failed)),
        row("calls/s", format!("{:.1}", figures.calls_per_second)),
        row("requests/s", format!("{:.1}", figures.requests_per_second)),
        row("running", of(CALLS_RUNNING, CALLS_RUNNING_MAX)),
        row("waiting", of(CALLS_WAITING, CALLS_WAITING_MAX)),
        row("pool", of(POOL_INSTANCES, POOL_INSTANCES_MAX)),
        row(
            "connections",
            format!(
                "{}, {} requests",
                figures.gauge(HTTP_CONNECTIONS),
                figures.gauge(HTTP_REQUESTS_RUNNING)
            ),
        ),
        row("memory", format!("{} MiB", figures.gauge(PROCESS_RESIDENT) >> 20)),
        row(
            "audit log",
            format!(
                "{audit}: {} queued, {} unsynced, {} unsigned",
                figures.gauge(AUDIT_QUEUE),
                figures.gauge(AUDIT_UNSYNCED),
                figures.gauge(AUDIT_UNSIGNED)
            ),
        ),
        row("not believed", figures.gauge(AUTHENTICATION_FAILURES).to_string()),
    ];
    for (sink, lag) in &figures.audit_sinks {
        rows.push(row(&format!("copy {sink}"), format!("{lag} records behind")));
    }
    Section::new("host", &["", ""], rows)
}

fn latency(figures: &Figures) -> Section {
    let all = std::iter::once(("whole", figures.seconds)).chain(figures.stages.iter().copied());
    let rows = all.map(|(stage, quantiles)| [vec![stage.to_owned()], cells(quantiles)].concat());
    Section::new("latency in ms", &["stage", "p50", "p90", "p99"], rows.collect())
}

fn capabilities(figures: &Figures) -> Section {
    let row = |one: &super::figures::OfCapability| {
        let counts = vec![
            one.capability.clone(),
            format!("{:.1}", one.calls_per_second),
            one.calls.to_string(),
            one.failed.to_string(),
        ];
        [counts, cells(one.seconds)].concat()
    };
    let rows = figures.capabilities.iter().map(row).collect();
    Section::new(
        "capabilities",
        &["id", "calls/s", "calls", "failed", "p50", "p90", "p99"],
        rows,
    )
}

fn denials(figures: &Figures) -> Section {
    let row = |one: &Refused| {
        vec![
            one.reason.clone(),
            one.by.clone(),
            one.count.to_string(),
            format!("{:.1}", one.per_second),
        ]
    };
    let limited = figures.limited.iter().map(|one| Refused {
        by: "limit".to_owned(),
        ..one.clone()
    });
    let rows = figures
        .denials
        .iter()
        .cloned()
        .chain(limited)
        .map(|one| row(&one))
        .collect();
    Section::new("refused", &["reason", "by", "count", "/s"], rows)
}

fn cells(quantiles: Quantiles) -> Vec<String> {
    let cell = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
    [quantiles.p50_ms, quantiles.p90_ms, quantiles.p99_ms]
        .map(cell)
        .to_vec()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::cli::top::figures::tests::{BEFORE, NOW};
    use crate::cli::top::samples::Samples;

    fn figures() -> Figures {
        Figures::between(&Samples::parse(BEFORE), &Samples::parse(NOW), Duration::from_secs(2))
    }

    #[test]
    fn every_size_of_terminal_will_do() {
        let figures = figures();
        for (width, height) in [(0, 0), (1, 1), (20, 5), (80, 24), (99, 40), (100, 40), (300, 120)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|frame| draw(&figures, None, frame)).unwrap();
            // Of nothing, the backend of the tests cannot make a text.
            let shown = if width == 0 {
                String::new()
            } else {
                terminal.backend().to_string()
            };
            if width >= 80 && height >= 24 {
                for word in ["calls/s", "running", "2 of 8", "whole", "copy otlp", "capabilities"] {
                    assert!(shown.contains(word), "{width}x{height} lacks {word}:\n{shown}");
                }
            }
            assert!(!shown.contains('\u{1b}'));
            let silence = Some("no answer for 7 s: \u{1b}");
            terminal.draw(|frame| draw(&figures, silence, frame)).unwrap();
            if width >= 80 && height >= 24 {
                let shown = terminal.backend().to_string();
                assert!(
                    shown.contains("no answer for 7 s: \\u{1b}") && shown.contains("calls/s"),
                    "{shown}"
                );
            }
        }
    }

    #[test]
    fn a_text_has_every_section_and_nothing_active() {
        let shown = text(&figures());
        for line in [
            "  a        5.0      20     2       100.00  180.00  198.00",
            "permission.denied  policy  3",
            "requests_max",
        ] {
            assert!(shown.contains(line), "{line} is not in\n{shown}");
        }
        assert!(shown.contains("b\\u{1b}") && !shown.contains('\u{1b}'), "{shown}");
    }
}
