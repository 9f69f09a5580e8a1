//! What a call's end means for its caller: a stable code and a message without internals. The guest's own words are
//! cleaned before anybody sees them.

use aral_contract::{Code, Failure};
use aral_runtime::Fault;

use crate::bindings::aral::capability::types::Error;
use crate::call::sanitised;

/// Longest message of a guest that is passed on, in bytes.
pub(crate) const GUEST_MESSAGE_BYTES_MAX: usize = 2048;

/// Longest list of a guest's functions that goes into the operator's log, in bytes.
const BACKTRACE_BYTES_MAX: usize = 8192;

/// A guest answered with an error.
pub(crate) fn of_guest_error(error: &Error) -> Failure {
    let (code, text) = match error {
        Error::InvalidInput(text) => (Code::InputInvalid, text),
        Error::Denied(text) => (Code::PermissionDenied, text),
        Error::Unavailable(text) => (Code::Unavailable, text),
        Error::Limit(text) => (Code::LimitHostCall, text),
        Error::Internal(text) => (Code::GuestError, text),
    };
    Failure::new(code, sanitised(text, GUEST_MESSAGE_BYTES_MAX))
}

/// A guest did not answer.
pub(crate) fn of_fault(fault: Fault) -> Failure {
    let limit = |code: Code, name: &str| {
        Failure::new(code, format!("the limit `{name}` of the call is used up")).with_hint(format!(
            "raise `{name}` under [limits] in capability.toml, and in the policy if it is the ceiling"
        ))
    };
    match fault {
        Fault::Trap { message, backtrace } => {
            let shown = sanitised(&message, GUEST_MESSAGE_BYTES_MAX);
            let failure = Failure::new(Code::GuestTrap, format!("the guest trapped: {shown}"));
            match backtrace {
                // The guest named its functions: a line end in a name would forge a line of the operator's log.
                Some(backtrace) => failure.with_internal(sanitised(&backtrace, BACKTRACE_BYTES_MAX)),
                None => failure,
            }
        }
        Fault::Fuel => limit(Code::LimitFuel, "fuel"),
        Fault::Compute => limit(Code::LimitCompute, "compute_ms"),
        Fault::Wall => limit(Code::LimitWall, "wall_ms"),
        Fault::Memory => limit(Code::LimitMemory, "memory_bytes"),
        Fault::Table => limit(Code::LimitTable, "table_elements"),
        Fault::Instances { message } => limit(Code::LimitInstances, "instances").with_internal(message),
        Fault::Stack => Failure::new(Code::LimitStack, "the guest's stack is used up"),
        Fault::Resource { message } => Failure::new(Code::LimitResource, sanitised(&message, GUEST_MESSAGE_BYTES_MAX)),
        Fault::Busy => Failure::new(Code::Unavailable, "more calls run at once than this host has room for"),
        Fault::Host { message } => Failure::internal(message),
    }
}

/// A guest still ran, or its input was still being checked, when nobody waited for it any longer.
pub(crate) fn too_late() -> Failure {
    let message = "the call did not end within the time that the server has for one";
    Failure::new(Code::LimitWall, message).with_hint("aral.toml, [serve.limits]: handler_ms = N, N above what it is")
}

/// The time of a guest was over while what it does could not be recorded, or had gone by with that.
pub(crate) fn unrecorded() -> Failure {
    let message = "the time of the call was over: for too much of it the audit log had no room for what it does";
    Failure::new(Code::AuditUnavailable, message).with_hint("see what it did before you call again")
}

/// A guest ended itself with `exit` where an answer was due.
pub(crate) fn of_exit(code: i32) -> Failure {
    let ended = ended(code);
    Failure::new(
        Code::GuestExit,
        format!("the guest ended itself {ended} instead of answering"),
    )
}

/// How a guest ended by this exit code. The function `exit` of WASI says done or failed and no code; the library writes 0 or 1 for that.
pub(crate) fn ended(code: i32) -> String {
    match code {
        0 => "as done".to_owned(),
        1 => "as failed".to_owned(),
        code => format!("with exit code {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_documents_what_becomes_of_each_error_of_a_guest() {
        let document = include_str!("../../../../guest-sdk/README.md");
        let text = String::new;
        for (kind, error) in [
            ("invalid-input", Error::InvalidInput(text())),
            ("denied", Error::Denied(text())),
            ("unavailable", Error::Unavailable(text())),
            ("limit", Error::Limit(text())),
            ("internal", Error::Internal(text())),
        ] {
            let code = of_guest_error(&error).code;
            let blame = format!("{:?}", code.blame()).to_lowercase();
            let row = format!("\n| `{kind}` | `{code}` | {blame} | ");
            assert!(document.contains(&row), "guest-sdk/README.md has no row{row}");
        }
    }

    #[test]
    fn each_error_of_a_guest_has_its_code_and_is_cleaned() {
        let text = || "a\u{1b}b".to_owned();
        for (error, code) in [
            (Error::InvalidInput(text()), Code::InputInvalid),
            (Error::Denied(text()), Code::PermissionDenied),
            (Error::Unavailable(text()), Code::Unavailable),
            (Error::Limit(text()), Code::LimitHostCall),
            (Error::Internal(text()), Code::GuestError),
        ] {
            let failure = of_guest_error(&error);
            assert_eq!((failure.code, failure.message.as_str()), (code, "a\\u{1b}b"));
        }
        let long = of_guest_error(&Error::Internal("x".repeat(1 << 20)));
        assert!(long.message.len() < GUEST_MESSAGE_BYTES_MAX + 10);
    }

    #[test]
    fn a_trap_shows_no_backtrace_to_the_caller() {
        let failure = of_fault(Fault::Trap {
            message: "unreachable".to_owned(),
            backtrace: Some("secret_function\nERROR forged".to_owned()),
        });
        assert_eq!(failure.code, Code::GuestTrap);
        assert!(!failure.to_string().contains("secret_function"));
        let internal = failure.internal.unwrap();
        assert!(
            internal.contains("secret_function") && !internal.contains('\n'),
            "{internal}"
        );
    }
}
