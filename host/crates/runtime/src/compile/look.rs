//! Has the compiler's child look at a component that nobody compiles yet. Whoever reads one follows what its bytes say, and no bound
//! that is counted from them alone has been the last one: the system counts here.

use std::path::Path;

use aral_contract::limits::COMPILE_MS_MAX;

use super::CompileError;
use super::child::{LOOK_HEADER, Order, ask};

/// Memory of a child that looks at a component, in bytes: its address space, with the program and twice the largest component in it.
const LOOK_MEMORY_BYTES_MAX: u64 = 1 << 30;
/// Processor time of a child that looks at a component, in seconds. The largest ones take one.
const LOOK_CPU_SECONDS_MAX: u64 = 10;

/// What it may take to look at one component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LookLimits {
    /// Memory of the child, in bytes.
    pub memory_bytes: u64,
    /// Its processor time, in seconds.
    pub cpu_seconds: u64,
    /// After this many milliseconds it is killed.
    pub timeout_ms: u64,
    /// Largest answer that is taken, in bytes.
    pub answer_bytes: u64,
}

impl Default for LookLimits {
    /// The named limits, and an answer of 1 MiB.
    fn default() -> Self {
        Self {
            memory_bytes: LOOK_MEMORY_BYTES_MAX,
            cpu_seconds: LOOK_CPU_SECONDS_MAX,
            timeout_ms: COMPILE_MS_MAX,
            answer_bytes: 1 << 20,
        }
    }
}

/// A component was not looked at.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The child was killed.
    #[error("the component takes longer than {timeout_ms} ms to look at")]
    Timeout {
        /// The limit.
        timeout_ms: u64,
    },
    /// The system ended the child: in any case the fault of what it looked at.
    #[error(
        "the component takes more than {memory_bytes} bytes of memory or {cpu_seconds} seconds of processor time to look at, or crashes who does (signal {signal})"
    )]
    Starved {
        /// How much memory there was.
        memory_bytes: u64,
        /// How much processor time there was.
        cpu_seconds: u64,
        /// The signal.
        signal: i32,
    },
    /// More was found than is taken.
    #[error("what is found in the component has more than {bytes_max} bytes")]
    TooLarge {
        /// The most that is taken.
        bytes_max: u64,
    },
    /// The child could not be run, is no compiler, or was ended by somebody.
    #[error(transparent)]
    Child(CompileError),
}

/// Has a child process look at a component: one of [`super::CompilerKind::Child`], whose [`super::child_main`] has an inspector. What
/// comes back is what that inspector says, word for word; nothing proves it.
///
/// Waits for it, on a thread of its own: it may be called on any thread, and holds that up.
///
/// # Errors
/// That the limits were not enough, or that there is no such child.
pub fn look(program: &Path, args: &[String], limits: LookLimits, component: &[u8]) -> Result<Vec<u8>, LookError> {
    let order = Order {
        program,
        args,
        memory_bytes: limits.memory_bytes,
        cpu_seconds: limits.cpu_seconds,
        timeout_ms: limits.timeout_ms,
        answer_bytes: limits.answer_bytes,
        header: LOOK_HEADER,
        component,
    };
    // One thread more, as no runtime can be waited for on a thread of another one.
    let asked = std::thread::scope(|scope| {
        let wait = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(CompileError::Child)?.block_on(ask(&order))
        };
        let thread = std::thread::Builder::new().name("aral-look".to_owned());
        let waiting = thread.spawn_scoped(scope, wait).map_err(CompileError::Child)?;
        let panicked = |_| CompileError::Protocol {
            message: "nobody waits for it any more".to_owned(),
        };
        waiting.join().map_err(panicked)?
    });
    asked.map_err(|error| match error {
        CompileError::Timeout { timeout_ms } => LookError::Timeout { timeout_ms },
        CompileError::Killed { signal } => LookError::Starved {
            memory_bytes: limits.memory_bytes,
            cpu_seconds: limits.cpu_seconds,
            signal,
        },
        CompileError::CodeTooLarge { bytes_max } => LookError::TooLarge { bytes_max },
        // Of a compiler: an inspector has one kind of answer.
        CompileError::Invalid { message } | CompileError::Refused { message } => {
            LookError::Child(CompileError::Protocol { message })
        }
        other => LookError::Child(other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::child_program;

    fn looked(args: &[&str], limits: LookLimits, component: &str) -> Result<String, LookError> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let found = look(&child_program(), &args, limits, component.as_bytes())?;
        Ok(String::from_utf8(found).unwrap())
    }

    #[test]
    fn what_the_inspector_of_the_child_says_comes_back() {
        assert_eq!(
            looked(&["compile"], LookLimits::default(), "hello").unwrap(),
            "seen: hello"
        );
    }

    #[tokio::test]
    async fn one_may_be_looked_at_by_who_runs_on_a_runtime() {
        assert_eq!(
            looked(&["compile"], LookLimits::default(), "hello").unwrap(),
            "seen: hello"
        );
    }

    #[test]
    fn what_takes_too_much_memory_ends_the_child_and_nobody_else() {
        let within = |memory_bytes: u64| {
            let limits = LookLimits {
                memory_bytes,
                ..LookLimits::default()
            };
            looked(&["compile"], limits, "take 700")
        };
        let error = within(700 << 20).unwrap_err();
        assert!(
            matches!(
                error,
                LookError::Starved {
                    signal: libc::SIGABRT,
                    ..
                }
            ),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .starts_with("the component takes more than 734003200 bytes of memory or 10 seconds"),
            "{error}"
        );
        assert_eq!(within(2 << 30).unwrap(), "taken");
    }

    #[test]
    fn what_takes_too_much_processor_time_is_ended() {
        let limits = LookLimits {
            cpu_seconds: 1,
            timeout_ms: 600_000,
            ..LookLimits::default()
        };
        let error = looked(&["compile"], limits, "spin").unwrap_err();
        assert!(
            matches!(
                error,
                LookError::Starved {
                    cpu_seconds: 1,
                    signal: libc::SIGKILL,
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn who_is_not_done_in_time_is_killed() {
        let limits = LookLimits {
            timeout_ms: 300,
            cpu_seconds: 600,
            ..LookLimits::default()
        };
        let error = looked(&["compile"], limits, "spin").unwrap_err();
        assert_eq!(error.to_string(), "the component takes longer than 300 ms to look at");
    }

    #[test]
    fn an_answer_has_no_more_bytes_than_are_asked_for() {
        let within = |answer_bytes: u64| {
            let limits = LookLimits {
                answer_bytes,
                ..LookLimits::default()
            };
            looked(&["compile"], limits, "say 2000").map(|said| said.len())
        };
        assert_eq!(within(2000).unwrap(), 2000);
        let error = within(1999).unwrap_err();
        assert!(matches!(error, LookError::TooLarge { bytes_max: 1999 }), "{error}");
        let error = looked(&["chatter"], LookLimits::default(), "").unwrap_err();
        assert!(matches!(error, LookError::TooLarge { .. }), "{error}");
    }

    #[test]
    fn a_program_that_looks_at_nothing_is_found_out() {
        let error = looked(&["no-such-verb"], LookLimits::default(), "hello").unwrap_err();
        assert!(
            matches!(error, LookError::Child(CompileError::Protocol { .. })),
            "{error}"
        );
        let error = look(Path::new("/nonexistent/compiler"), &[], LookLimits::default(), b"").unwrap_err();
        assert!(matches!(error, LookError::Child(CompileError::Child(_))), "{error}");
    }
}
