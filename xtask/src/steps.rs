//! Runs named steps one after the other, tells how long each took, and stops at the first that fails.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A run of steps, with a summary at the end.
pub(crate) struct Steps {
    verb: &'static str,
    done: Vec<(String, Duration)>,
    /// Those that could not run here, and why.
    left_out: Vec<(String, String)>,
}

impl Steps {
    /// No step yet.
    pub(crate) fn new(verb: &'static str) -> Self {
        Self {
            verb,
            done: Vec::new(),
            left_out: Vec::new(),
        }
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

    /// Goes on without one that cannot run here. It is in the summary, and in the last line.
    pub(crate) fn leave_out(&mut self, name: &str, reason: String) {
        println!("==> {name}");
        println!("    NOT CHECKED {name}: {reason}");
        self.left_out.push((name.to_owned(), reason));
    }

    /// Every step that ran passed.
    pub(crate) fn finish(self) {
        self.print_summary();
        println!("{}", self.verdict());
    }

    fn verdict(&self) -> String {
        let total = self.done.iter().map(|(_, elapsed)| *elapsed).sum();
        let (verb, count) = (self.verb, self.done.len());
        let left_out: Vec<&str> = self.left_out.iter().map(|(name, _)| name.as_str()).collect();
        if left_out.is_empty() {
            format!("cargo xtask {verb}: all {count} steps passed in {}", show(total))
        } else {
            format!(
                "cargo xtask {verb}: {count} steps passed in {}, NOT CHECKED: {}",
                show(total),
                left_out.join(", ")
            )
        }
    }

    fn print_summary(&self) {
        println!("==> summary of `cargo xtask {}`", self.verb);
        for (name, elapsed) in &self.done {
            println!("    ok {:>8}  {name}", show(*elapsed));
        }
        for (name, reason) in &self.left_out {
            println!("    NOT CHECKED  {name}: {reason}");
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

    #[test]
    fn what_was_left_out_does_not_pass() {
        let mut steps = Steps::new("probe");
        steps.run("first", || Ok(())).unwrap();
        assert!(steps.verdict().starts_with("cargo xtask probe: all 1 steps passed in "));
        steps.leave_out("second", "there is no network".to_owned());
        let verdict = steps.verdict();
        assert!(
            verdict.starts_with("cargo xtask probe: 1 steps passed in "),
            "{verdict}"
        );
        assert!(verdict.ends_with(", NOT CHECKED: second"), "{verdict}");
    }
}
