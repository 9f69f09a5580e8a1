//! Lines for the operator's log, kept under the trace id of the call. Needs no permission. On the build machine they go to
//! standard error.

use std::fmt::Display;

use crate::bindings::aral::capability::log as host;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step, for a person who debugs the capability.
    Trace,
    /// What a developer wants to see.
    Debug,
    /// What an operator wants to see.
    Info,
    /// Something is odd and the call goes on.
    Warn,
    /// Something failed.
    Error,
}

/// Writes one line. The host escapes control characters; past the log limit of a call it drops and counts lines. A short line
/// counts as 64 bytes.
#[expect(clippy::print_stderr, reason = "on the build machine standard error is the log")]
pub fn log(level: Level, message: impl Display) {
    if cfg!(not(target_family = "wasm")) {
        eprintln!("{level:?}: {message}");
        return;
    }
    let level = match level {
        Level::Trace => host::Level::Trace,
        Level::Debug => host::Level::Debug,
        Level::Info => host::Level::Info,
        Level::Warn => host::Level::Warn,
        Level::Error => host::Level::Error,
    };
    host::log(level, &message.to_string());
}

/// Writes a line that shows a step.
pub fn trace(message: impl Display) {
    log(Level::Trace, message);
}

/// Writes a line for a developer.
pub fn debug(message: impl Display) {
    log(Level::Debug, message);
}

/// Writes a line for an operator: `log::info(format_args!("read {count} files"))`.
pub fn info(message: impl Display) {
    log(Level::Info, message);
}

/// Writes a line about something odd.
pub fn warn(message: impl Display) {
    log(Level::Warn, message);
}

/// Writes a line about something that failed.
pub fn error(message: impl Display) {
    log(Level::Error, message);
}
