//! How a call ended when it did not end well. Translates what wasmtime reports into one exhaustive list; who is to
//! blame and which code a caller sees is decided above. Errors that a host function raised on purpose carry their own
//! type: look for it before asking here.

use std::time::Duration;

use aral_contract::Limits;
use wasmtime::{PoolConcurrencyLimitError, Trap};

use crate::guard::{Guard, LimitReached};

/// Longest text taken over from wasmtime, in bytes. A guest chooses part of it: names of functions in a backtrace.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Why a call did not return.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The guest broke: unreachable code, memory out of bounds, a value that is not of its declared type.
    #[error("the guest trapped: {message}")]
    Trap {
        /// What happened, without the backtrace.
        message: String,
        /// The functions of the guest that led there, for the operator.
        backtrace: Option<String>,
    },
    /// `fuel` is used up.
    #[error("`fuel` is used up")]
    Fuel,
    /// `compute_ms` is used up.
    #[error("`compute_ms` is used up")]
    Compute,
    /// `wall_ms` is used up.
    #[error("`wall_ms` is used up")]
    Wall,
    /// `memory_bytes` is used up.
    #[error("`memory_bytes` is used up")]
    Memory,
    /// `table_elements` is used up.
    #[error("`table_elements` is used up")]
    Table,
    /// `instances` is used up, or a component has more memories or tables than one call may have.
    #[error("{message}")]
    Instances {
        /// Which of the three.
        message: String,
    },
    /// The guest's stack is used up.
    #[error("the guest's stack is used up")]
    Stack,
    /// The guest passed more bytes to the host in one call than the host copies, holds more handles or resources than it
    /// keeps, or asked for more random bytes at once than it draws.
    #[error("{message}")]
    Resource {
        /// Which of these.
        message: String,
    },
    /// More calls run at once than there are slots.
    #[error("more calls run at once than this host has room for")]
    Busy,
    /// The machine refused something that the host needed.
    #[error("the host failed: {message}")]
    Host {
        /// What, for the operator.
        message: String,
    },
}

/// Waits for `call`, at most `wall_ms`. When the time is up the call is dropped where it stands, in the guest or in a
/// host function, and its store with it.
pub async fn within_wall<R>(limits: &Limits, call: impl Future<Output = R>) -> Result<R, Fault> {
    tokio::time::timeout(Duration::from_millis(limits.wall_ms), call)
        .await
        .map_err(|_| Fault::Wall)
}

/// What an error of instantiating or calling a guest means. `guard` is the account of that call.
pub fn fault_of(error: &wasmtime::Error, guard: &Guard) -> Fault {
    if let Some(limit) = error.downcast_ref::<LimitReached>() {
        return match limit {
            LimitReached::Memory => Fault::Memory,
            LimitReached::Table => Fault::Table,
            LimitReached::Compute => Fault::Compute,
        };
    }
    if error.downcast_ref::<PoolConcurrencyLimitError>().is_some() {
        return Fault::Busy;
    }
    let is_of_the_system = error.downcast_ref::<std::io::Error>().is_some()
        || error.downcast_ref::<rustix::io::Errno>().is_some()
        || error.downcast_ref::<wasmtime::OutOfMemory>().is_some();
    if is_of_the_system {
        return Fault::Host {
            message: bounded(&format!("{error:#}")),
        };
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::OutOfFuel) => Fault::Fuel,
        Some(Trap::Interrupt) => Fault::Compute,
        Some(Trap::StackOverflow) => Fault::Stack,
        Some(_) if guard.is_starved() => Fault::Host {
            message: "the machine has no memory for a growth that the limits allow".to_owned(),
        },
        Some(other) => trap(&other.to_string(), error),
        None => fault_of_text(&error.root_cause().to_string(), error),
    }
}

/// wasmtime reports these as text alone; the tests of the engine hold it to the words.
fn fault_of_text(message: &str, error: &wasmtime::Error) -> Fault {
    if message.starts_with("resource limit exceeded: ") {
        return Fault::Instances {
            message: bounded(message),
        };
    }
    let random_bytes = message.starts_with("requested len ") && message.contains(" exceeds limit ");
    if message.contains("fuel allocated for hostcalls has been exhausted")
        || message.contains("store handle limit exceeded")
        || message == "resource table has no free keys"
        || random_bytes
    {
        return Fault::Resource {
            message: bounded(message),
        };
    }
    trap(message, error)
}

fn trap(message: &str, error: &wasmtime::Error) -> Fault {
    Fault::Trap {
        message: bounded(message),
        backtrace: error
            .downcast_ref::<wasmtime::WasmBacktrace>()
            .map(|backtrace| bounded(&backtrace.to_string())),
    }
}

fn bounded(text: &str) -> String {
    let end = text.floor_char_boundary(MESSAGE_BYTES_MAX);
    text.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    #[test]
    fn what_the_machine_refuses_is_no_trap_of_the_guest() {
        let guard = Guard::new(&Limits::default());
        let fault = |error: wasmtime::Error| fault_of(&error.context("a call"), &guard);
        let refused = fault(wasmtime::Error::new(Errno::NOMEM));
        assert!(matches!(refused, Fault::Host { .. }), "{refused:?}");
        let full = fault(wasmtime::Error::new(std::io::Error::from(Errno::NOMEM)));
        assert!(matches!(full, Fault::Host { .. }), "{full:?}");
        let own = fault(wasmtime::Error::msg("a guest says: Cannot allocate memory"));
        assert!(matches!(own, Fault::Trap { .. }), "{own:?}");
    }
}
