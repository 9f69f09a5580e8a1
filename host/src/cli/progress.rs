//! A spinner or a bar on standard error while the user waits. Only for a person: without a terminal, or with `--quiet` or
//! `--json`, nothing is drawn. Whatever else is written to standard error meanwhile goes through [`above`], by [`super::stderr`].

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aral_host::operator::ActProgress;
use indicatif::{ProgressBar, ProgressStyle};

use super::output::Output;
use super::text;

/// What is spinning. A process waits for one thing at a time.
static SPINNING: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// A spinner; it goes away when dropped.
pub(crate) struct Progress(());

impl Progress {
    /// Starts to spin, if a person is likely to look.
    pub(crate) fn start(output: &Output, what: &'static str) -> Self {
        if output.stderr_is_terminal && !output.quiet && !output.json {
            let bar = ProgressBar::new_spinner().with_prefix(what);
            if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {wide_msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(100));
            *SPINNING.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
        }
        Self(())
    }

    /// Starts a bar that [`Progress::count`] moves, if a person is likely to look.
    pub(crate) fn counting(output: &Output, what: &'static str) -> Self {
        if output.stderr_is_terminal && !output.quiet && !output.json {
            let bar = ProgressBar::new(0).with_prefix(what);
            if let Ok(style) = ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} {eta}") {
                bar.set_style(style);
            }
            *SPINNING.lock().unwrap_or_else(PoisonError::into_inner) = Some(bar);
        }
        Self(())
    }

    /// How much is done, of how much.
    pub(crate) fn count(&self, done: u64, total: u64) {
        if let Some(bar) = spinning() {
            bar.set_length(total);
            bar.set_position(done);
        }
    }

    /// The same, as an act tells it on its way.
    pub(crate) fn follow(&self, told: &ActProgress) {
        if let ActProgress::Progress { done, total } = told {
            self.count(*done, total.unwrap_or(*done));
        }
    }

    /// Shows what is being worked on.
    pub(crate) fn step(&self, name: &str) {
        if let Some(bar) = spinning() {
            bar.set_message(text::line(name).into_owned());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let bar = SPINNING.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
    }
}

/// Writes to standard error without running into the spinner.
pub(crate) fn above<T>(write: impl FnOnce() -> T) -> T {
    match spinning() {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

fn spinning() -> Option<ProgressBar> {
    SPINNING.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
