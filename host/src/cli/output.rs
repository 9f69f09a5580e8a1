//! What the user sees: the answer on standard output, everything else on standard error. With `--json`, standard output
//! holds exactly one JSON object, also for a failure. Every text passes the filter of `text`.

use std::io::{self, IsTerminal as _, Write as _};

use aral_contract::Failure;
use serde_json::{Value, json};

use super::exit::Exit;
use super::{files, report, stderr, text};

/// Why a verb ends before it is done.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It failed.
    Failure(Failure),
    /// Whoever read a long list or the answer of a capability went away, as `head` does. That is no failure and needs no message.
    Closed,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Failure(failure)
    }
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failure(files::unwritten("standard output", &error)),
        }
    }
}

/// What a verb returns.
pub(crate) type Done = Result<Exit, Stop>;

/// Where the user's texts go, and in which form.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// One JSON object on standard output.
    pub(crate) json: bool,
    /// Nothing on standard error but failures and warnings.
    pub(crate) quiet: bool,
    /// Colour on standard error.
    pub(crate) color: bool,
    /// Whether a person is likely to read standard error.
    pub(crate) stderr_is_terminal: bool,
    stdout_is_terminal: bool,
}

impl Output {
    /// `no_color` is the user's wish; without a terminal there is no colour either.
    pub(crate) fn new(json: bool, quiet: bool, no_color: bool) -> Self {
        let stderr_is_terminal = io::stderr().is_terminal();
        Self {
            json,
            quiet,
            color: stderr_is_terminal && !no_color,
            stderr_is_terminal,
            stdout_is_terminal: io::stdout().is_terminal(),
        }
    }

    /// The answer: `human` as text, or `object` with `--json`. Whether somebody reads it changes nothing: what a verb found is its exit
    /// code, too.
    pub(crate) fn answer(&self, human: &str, object: &Value) -> Result<(), Stop> {
        is_read(self.one_of_many(human, object)).map(drop)
    }

    /// The same of answers without an end: where nobody reads them, that is their end.
    pub(crate) fn one_of_many(&self, human: &str, object: &Value) -> Result<(), Stop> {
        if self.json {
            self.object(object)
        } else {
            write_stdout(&text::lines(human))
        }
    }

    /// The answer of what changed something. `unrecorded`: why the record of that may be lost. Then there is a warning and another exit
    /// code, and the answer all the same: nothing else may say what was done.
    pub(crate) fn changed(&self, human: &str, object: Value, unrecorded: Option<&str>) -> Done {
        let (object, exit) = with_unrecorded(object, unrecorded);
        if let Some(reason) = unrecorded {
            self.warn(&format!("this was done, and the record of it may be lost: {reason}"));
        }
        self.answer(human, &object)?;
        Ok(exit)
    }

    /// The answer of a capability: JSON in either form, laid out for a person if one is reading.
    pub(crate) fn guest_answer(&self, answer: &str, object: &Value) -> Result<(), Stop> {
        if self.json {
            return self.object(object);
        }
        let pretty = if self.stdout_is_terminal {
            serde_json::from_str::<Value>(answer)
                .ok()
                .and_then(|value| serde_json::to_string_pretty(&value).ok())
        } else {
            None
        };
        write_stdout(&text::json(pretty.as_deref().unwrap_or(answer)))
    }

    /// A part of an answer that is too long to be held at once. The caller has filtered it and cares for line ends.
    pub(crate) fn part(&self, shown: &str) -> Result<(), Stop> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(shown.as_bytes())?;
        Ok(())
    }

    fn object(&self, object: &Value) -> Result<(), Stop> {
        write_stdout(&text::json(&object.to_string()))
    }

    /// What a person wants to know and a script does not. Nothing with `--quiet` or `--json`.
    pub(crate) fn note(&self, message: &str) {
        if !self.quiet && !self.json {
            write_stderr(&text::lines(message));
        }
    }

    /// Another program's account of a failure: shown always.
    pub(crate) fn details(&self, words: &str) {
        if !words.is_empty() {
            write_stderr(&text::lines(words.trim_end()));
        }
    }

    /// A warning: shown always, `--quiet` or not.
    pub(crate) fn warn(&self, message: &str) {
        let label = self.paint("33;1", "warning:");
        write_stderr(&format!("{label} {}", text::lines(message)));
    }

    /// A failure, with the line that would fix it. `object` is what `--json` prints; it has the member `error`. Says whether somebody
    /// reads it, which changes nothing of what the verb found.
    pub(crate) fn failure(&self, failure: &Failure, object: &Value) -> Result<bool, Stop> {
        if self.json {
            return is_read(self.object(object));
        }
        let label = self.paint("31;1", "error:");
        let message = text::lines(&failure.message);
        let mut shown = format!("{label} {message} ({})", failure.code);
        if let Some(hint) = &failure.hint {
            shown.push_str(&format!("\n{} {}", self.paint("36;1", "hint:"), text::lines(hint)));
        }
        if let Some(trace) = failure.trace {
            shown.push_str(&format!("\ntrace: {trace}"));
        }
        write_stderr(&shown);
        Ok(true)
    }

    fn paint(&self, style: &str, label: &str) -> String {
        if self.color {
            format!("\x1b[{style}m{label}\x1b[0m")
        } else {
            label.to_owned()
        }
    }
}

/// Whether what was written is read.
fn is_read(written: Result<(), Stop>) -> Result<bool, Stop> {
    match written {
        Ok(()) => Ok(true),
        Err(Stop::Closed) => Ok(false),
        Err(failure @ Stop::Failure(_)) => Err(failure),
    }
}

/// What `--json` shows of what changed something, and how the verb ends.
fn with_unrecorded(mut object: Value, unrecorded: Option<&str>) -> (Value, Exit) {
    let Some(reason) = unrecorded else {
        return (object, Exit::Success);
    };
    report::insert(&mut object, "unrecorded", json!(reason));
    (object, Exit::Unavailable)
}

/// A failure as the caller sees it: without internals.
pub(crate) fn failure_object(failure: &Failure) -> Value {
    json!({
        "code": failure.code,
        "message": failure.message,
        "hint": failure.hint,
        "retry_after_ms": failure.retry_after_ms(),
        "trace_id": failure.trace,
    })
}

fn write_stdout(text: &str) -> Result<(), Stop> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        stdout.write_all(b"\n")?;
    }
    Ok(stdout.flush()?)
}

fn write_stderr(text: &str) {
    stderr::write(format!("{text}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use aral_contract::Code;

    use super::*;

    #[test]
    fn a_closed_pipe_is_not_a_failure_and_a_full_disk_is_none_of_the_configuration() {
        assert!(matches!(
            Stop::from(io::Error::from(io::ErrorKind::BrokenPipe)),
            Stop::Closed
        ));
        assert!(matches!(
            Stop::from(io::Error::from(io::ErrorKind::StorageFull)),
            Stop::Failure(failure) if failure.code == Code::Unavailable && failure.message.contains("standard output")
        ));
    }

    #[test]
    fn what_was_done_and_may_be_on_no_record_is_an_answer_with_exit_code_8() {
        let done = || json!({"key_id": "k"});
        assert_eq!(with_unrecorded(done(), None), (done(), Exit::Success));
        let (object, exit) = with_unrecorded(done(), Some("the disk is full"));
        assert_eq!(object, json!({"key_id": "k", "unrecorded": "the disk is full"}));
        assert_eq!(exit, Exit::of(Code::AuditUnavailable));
    }

    #[test]
    fn the_json_form_of_a_failure_has_no_internals() {
        let failure = Failure::new(Code::PermissionDenied, "no")
            .with_hint("add a line")
            .with_internal("/etc/shadow");
        let mut expected = json!({
            "code": "permission.denied", "message": "no", "hint": "add a line", "retry_after_ms": null, "trace_id": null,
        });
        assert_eq!(failure_object(&failure), expected);
        expected["retry_after_ms"] = json!(1_500);
        let later = failure.with_retry_after(std::time::Duration::from_millis(1_500));
        assert_eq!(failure_object(&later), expected);
    }
}
