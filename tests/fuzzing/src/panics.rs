//! Panics of threads that are the host's own: a runtime or a thread of the host catches them, and whoever asked sees no more than
//! an answer that does not come.

use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};

/// How the threads of the host are called that do not belong to one runtime.
const OF_HOST: &str = "aral-";
/// How those are called that do.
const OF_RUNTIME: &str = "aral-fuzzed-";

/// The names of threads that have panicked.
static PANICKED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The threads of one host. Those of tests beside it are not looked at.
pub(crate) struct Watched {
    name: String,
    pub(crate) runtime: Runtime,
}

impl Watched {
    pub(crate) fn new() -> Self {
        static HOOK: Once = Once::new();
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        HOOK.call_once(|| {
            let before = panic::take_hook();
            panic::set_hook(Box::new(move |info| {
                let thread = std::thread::current();
                let name = thread.name().filter(|name| name.starts_with(OF_HOST));
                let mut panicked = PANICKED.lock().unwrap_or_else(PoisonError::into_inner);
                panicked.extend(name.map(str::to_owned));
                drop(panicked);
                before(info);
            }));
        });
        let name = format!("{OF_RUNTIME}{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let runtime = Builder::new_multi_thread()
            .thread_name(name.as_str())
            .enable_all()
            .build();
        let runtime = runtime.expect("threads");
        // Where somebody else has the function `main`, as libFuzzer does, SIGPIPE still ends a process that writes to a program that
        // is gone. With a handler it does not.
        let within = runtime.enter();
        drop(signal(SignalKind::pipe()).expect("a signal"));
        drop(within);
        Self { name, runtime }
    }

    /// # Panics
    /// Some thread did since this was asked last.
    pub(crate) fn check(&self) {
        let mut panicked = PANICKED.lock().unwrap_or_else(PoisonError::into_inner);
        let is_mine = |name: &String| *name == self.name || !name.starts_with(OF_RUNTIME);
        let found = panicked.iter().any(is_mine);
        panicked.retain(|name| !is_mine(name));
        // The hook takes it too.
        drop(panicked);
        assert!(!found, "a thread of the host panicked");
    }
}

/// A fuzzer ends the process where something panics, before anybody can catch it. The host catches what the validator of components
/// asserts; whatever is not caught ends a fuzzer nevertheless.
pub(crate) fn leave_the_validators_alone() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !info
                .location()
                .is_some_and(|place| place.file().contains("/wasmparser-"))
            {
                before(info);
            }
        }));
    });
}
