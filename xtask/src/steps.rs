//! Runs named steps one after the other, tells how long each took, and stops at the first that fails.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A run of steps, with a summary at the end.
pub(crate) struct Steps {
    verb: &'static str,
    done: Vec<(String, Duration)>,
}

impl Steps {
    /// No step yet.
    pub(crate) fn new(verb: &'static str) -> Self {
        Self { verb, done: Vec::new() }
    }

    /// Runs one step. The error names it.
    pub(crate) fn run<T>(&mut self, name: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("==> {name}");
        let start = Instant::now();
        let outcome = step();
        let elapsed = start.elapsed();
        if outcome.is_err() {
            self.print_summary();
            println!("    FAILED {name} after {}", show(elapsed));
        }
        let value = outcome.with_context(|| format!("`cargo xtask {}` stopped at the step `{name}`", self.verb))?;
        println!("    ok {name} in {}", show(elapsed));
        self.done.push((name.to_owned(), elapsed));
        Ok(value)
    }

    /// Every step passed.
    pub(crate) fn finish(self) {
        self.print_summary();
        let total = self.done.iter().map(|(_, elapsed)| *elapsed).sum();
        println!(
            "cargo xtask {}: all {} steps passed in {}",
            self.verb,
            self.done.len(),
            show(total)
        );
    }

    fn print_summary(&self) {
        println!("==> summary of `cargo xtask {}`", self.verb);
        for (name, elapsed) in &self.done {
            println!("    ok {:>8}  {name}", show(*elapsed));
        }
    }
}

fn show(elapsed: Duration) -> String {
    format!("{:.1} s", elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn a_failing_step_is_named_and_the_ones_before_it_are_kept() {
        let mut steps = Steps::new("probe");
        assert_eq!(steps.run("first", || Ok(7)).unwrap(), 7);
        let error = steps.run("second", || -> Result<()> { bail!("broken") }).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "`cargo xtask probe` stopped at the step `second`: broken"
        );
        assert_eq!(steps.done.len(), 1);
    }
}
