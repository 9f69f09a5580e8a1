//! What the verbs do several things at once with. Where the system lets the process have no more threads or descriptors, the failure
//! says so, and what gives more.

use std::io::Error;
use std::sync::RwLock;
use std::thread;

use aral_contract::{Code, Failure};
use aral_runtime::process;
use tokio::runtime::{Builder, Runtime};

/// For what a verb does on its own thread: a second one would take longer to start.
pub(crate) fn on_this_thread() -> Result<Runtime, Failure> {
    Builder::new_current_thread().enable_all().build().map_err(refused)
}

/// For a server: a thread for each processor.
pub(crate) fn on_all_processors() -> Result<Runtime, Failure> {
    let workers = thread::available_parallelism().map_or(1, usize::from);
    // The runtime panics where one of its threads cannot be started.
    check_threads(workers, thread::Builder::new).map_err(refused)?;
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(workers).enable_all().build().map_err(refused)
}

/// Starts so many threads beside each other, and ends them.
fn check_threads(count: usize, thread: fn() -> thread::Builder) -> Result<(), Error> {
    let all_started = RwLock::new(());
    let starting = all_started.write();
    thread::scope(|scope| {
        let mut all = 0..count;
        let started = all.try_for_each(|_| thread().spawn_scoped(scope, || drop(all_started.read())).map(drop));
        drop(starting);
        started
    })
}

/// What to tell where a thread or a runtime cannot be started.
pub(crate) fn refused(error: Error) -> Failure {
    let message = format!("the system lets this process have no more threads or descriptors: {error}");
    Failure::new(Code::Unavailable, message).with_hint(process::HAVE_MORE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_cannot_be_started_are_a_failure_with_what_gives_more() {
        assert!(check_threads(3, thread::Builder::new).is_ok());
        // No machine has room for such a stack.
        let error = check_threads(3, || thread::Builder::new().stack_size(1 << 47)).unwrap_err();
        let failure = refused(error);
        assert_eq!(failure.code, Code::Unavailable);
        assert!(failure.hint.unwrap().contains("TasksMax="), "{}", failure.message);
    }
}
