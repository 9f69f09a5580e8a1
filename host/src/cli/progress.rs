//! A spinner on standard error while the user waits. Only for a person: without a terminal, or with `--quiet` or
//! `--json`, nothing is drawn.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::output::Output;
use super::text;

/// A spinner; it goes away when dropped.
pub(crate) struct Progress(ProgressBar);

impl Progress {
    /// Starts to spin, if a person is likely to look.
    pub(crate) fn start(output: &Output, what: &'static str) -> Self {
        if !output.stderr_is_terminal || output.quiet || output.json {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new_spinner().with_prefix(what);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {wide_msg} {elapsed}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    /// Shows what is being worked on.
    pub(crate) fn step(&self, name: &str) {
        self.0.inc(1);
        self.0.set_message(text::line(name).into_owned());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
