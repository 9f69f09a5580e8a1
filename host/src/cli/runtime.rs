//! What the verbs do several things at once with. Where the system lets the process have no more threads or descriptors, the failure
//! says so, and what gives more.

use std::thread::available_parallelism;

use aral_contract::Failure;
use aral_runtime::threads;
use tokio::runtime::{Builder, Runtime};

/// For what a verb does on its own thread: a second one would take longer to start.
pub(crate) fn on_this_thread() -> Result<Runtime, Failure> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(threads::refused)
}

/// For a server: a worker for each processor.
pub(crate) fn on_all_processors() -> Result<Runtime, Failure> {
    let workers = available_parallelism().map_or(1, usize::from);
    threads::runtime(Some(workers)).map_err(threads::refused)
}
