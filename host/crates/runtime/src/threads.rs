//! Threads that the system refuses. The library of the async runtime panics where it can start none: for its workers, and for work that
//! blocks while no other thread for such work is there.

use std::io::Error;
use std::sync::mpsc::Receiver;
use std::sync::{RwLock, mpsc};
use std::thread;
use std::time::Duration;

use aral_contract::{Code, Failure};
use tokio::runtime::{Builder, Runtime};
use tokio::task::spawn_blocking;

use crate::process;

/// How long work that blocks waits at most where the system refuses a thread for it.
const STEPS_ASIDE: Duration = Duration::from_secs(1);

/// A runtime with so many workers, none: one on this thread. While it is driven it keeps a thread for work that blocks, which takes what
/// waits now and then: where the system refuses another one, such work does not panic, and is late. Without workers, `shutdown_timeout`
/// takes up to a second: drop it, or leave what blocks behind with `shutdown_background`.
///
/// # Errors
/// The system lets this process have no more threads or descriptors.
pub fn runtime(workers: Option<usize>) -> Result<Runtime, Error> {
    // The one for work that blocks is another one.
    check(workers.unwrap_or(0).saturating_add(1), thread::Builder::new)?;
    match workers {
        Some(workers) => keeping(Builder::new_multi_thread().worker_threads(workers).enable_all()),
        None => keeping(Builder::new_current_thread().enable_all()),
    }
}

/// With a thread for work that blocks.
fn keeping(builder: &mut Builder) -> Result<Runtime, Error> {
    let runtime = builder.build()?;
    let (mut alive, ended) = mpsc::channel::<()>();
    let mut kept = runtime.spawn_blocking(|| keep(ended));
    // This is dropped with the runtime, and then the thread ends.
    drop(runtime.spawn(async move {
        // Between two of these the thread takes what waits.
        while kept.await.is_ok() {
            let (next, ended) = mpsc::channel();
            kept = spawn_blocking(|| keep(ended));
            alive = next;
        }
        drop(alive);
    }));
    Ok(runtime)
}

fn keep(ended: Receiver<()>) {
    let _or_aside = ended.recv_timeout(STEPS_ASIDE);
}

/// What to tell where a thread or a runtime cannot be started.
pub fn refused(error: Error) -> Failure {
    let message = format!("the system lets this process have no more threads or descriptors: {error}");
    Failure::new(Code::Unavailable, message).with_hint(process::HAVE_MORE)
}

/// Starts so many threads beside each other, and waits until they are gone.
fn check(count: usize, thread: fn() -> thread::Builder) -> Result<(), Error> {
    let all_started = RwLock::new(());
    let starting = all_started.write();
    thread::scope(|scope| {
        let start = |_| thread().spawn_scoped(scope, || drop(all_started.read()));
        let started: Vec<Result<_, Error>> = (0..count).map(start).collect();
        drop(starting);
        // The end of the scope would wait for what they do, and not for them: the system may count them still.
        let ended = started
            .into_iter()
            .map(|started| started.map(|thread| drop(thread.join())));
        ended.collect::<Vec<_>>().into_iter().collect()
    })
}

#[cfg(test)]
mod tests {
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
        let done = runtime.block_on(async { spawn_blocking(|| 1).await });
        assert_eq!(done.unwrap(), 1, "another one does what blocks");
        drop(runtime);
        until(0);
    }

    /// As where the system refuses one: what blocks waits for the one that is there.
    #[test]
    fn what_blocks_is_done_by_the_kept_thread_where_there_is_no_other() {
        for mut builder in [Builder::new_current_thread(), Builder::new_multi_thread()] {
            let runtime = keeping(builder.max_blocking_threads(1).enable_all()).unwrap();
            let done = runtime.block_on(async {
                let (one, two) = (spawn_blocking(|| 1), spawn_blocking(|| 2));
                let both = async { one.await.unwrap() + two.await.unwrap() };
                tokio::time::timeout(Duration::from_secs(60), both).await
            });
            assert_eq!(done, Ok(3));
        }
    }
}
