//! Threads that the system refuses. The library of the async runtime panics where it can start none: for its workers, and for work that
//! blocks while no other thread for such work is there.

use std::future;
use std::io::Error;
use std::sync::{RwLock, mpsc};
use std::thread;

use aral_contract::{Code, Failure};
use tokio::runtime::{Builder, Runtime};

use crate::process;

/// A runtime with so many workers, none: one on this thread. As long as it lives it keeps a thread for work that blocks, so that more of
/// such work waits, and does not panic, where the system refuses another one. Without workers, `shutdown_timeout` takes all its time: drop
/// it, or leave what blocks behind with `shutdown_background`.
///
/// # Errors
/// The system lets this process have no more threads or descriptors.
pub fn runtime(workers: Option<usize>) -> Result<Runtime, Error> {
    // The one for work that blocks is another one.
    check(workers.unwrap_or(0).saturating_add(1), thread::Builder::new)?;
    let runtime = match workers {
        Some(workers) => Builder::new_multi_thread().worker_threads(workers).enable_all().build(),
        None => Builder::new_current_thread().enable_all().build(),
    }?;
    let (alive, ended) = mpsc::channel::<()>();
    // This is dropped with the runtime, and then the thread ends.
    drop(runtime.spawn(async move {
        let _alive = alive;
        future::pending::<()>().await;
    }));
    drop(runtime.spawn_blocking(move || ended.recv()));
    Ok(runtime)
}

/// What to tell where a thread or a runtime cannot be started.
pub fn refused(error: Error) -> Failure {
    let message = format!("the system lets this process have no more threads or descriptors: {error}");
    Failure::new(Code::Unavailable, message).with_hint(process::HAVE_MORE)
}

/// Starts so many threads beside each other, and ends them.
fn check(count: usize, thread: fn() -> thread::Builder) -> Result<(), Error> {
    let all_started = RwLock::new(());
    let starting = all_started.write();
    thread::scope(|scope| {
        let mut all = 0..count;
        let started = all.try_for_each(|_| thread().spawn_scoped(scope, || drop(all_started.read())).map(drop));
        drop(starting);
        started
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn threads_that_cannot_be_started_are_an_error() {
        assert!(check(3, thread::Builder::new).is_ok());
        // No machine has room for such a stack.
        assert!(check(3, || thread::Builder::new().stack_size(1 << 47)).is_err());
    }

    /// The threads of this process that a runtime has made.
    #[expect(clippy::disallowed_methods, reason = "the system tells of this process there")]
    fn made() -> Vec<String> {
        let all = std::fs::read_dir("/proc/self/task")
            .unwrap()
            .map(|task| task.unwrap().path());
        let of_a_runtime = all.filter(|task| {
            let name = std::fs::read_to_string(task.join("comm"));
            name.is_ok_and(|name| name.starts_with("tokio-rt"))
        });
        of_a_runtime.map(|task| task.display().to_string()).collect()
    }

    #[test]
    fn a_runtime_has_a_thread_for_work_that_blocks_from_its_beginning_to_its_end() {
        let runtime = runtime(None).unwrap();
        let until = |wanted: usize| {
            let is_so = (0..6000).any(|_| {
                thread::sleep(Duration::from_millis(5));
                made().len() == wanted
            });
            assert!(is_so, "{:?}", made());
        };
        until(1);
        let done = runtime.block_on(async { tokio::task::spawn_blocking(|| 1).await });
        assert_eq!(done.unwrap(), 1, "another one does what blocks");
        drop(runtime);
        until(0);
    }
}
