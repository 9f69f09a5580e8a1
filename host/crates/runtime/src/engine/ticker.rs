//! The thread that counts epochs: one per engine, for as long as the engine lives.

use std::time::Duration;

use aral_contract::limits::EPOCH_MS;

/// Starts it. It holds the engine weakly and ends within an epoch of the engine's end.
pub(super) fn start(engine: &wasmtime::Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    // A thread and not a task: it must tick above all when every worker of the async runtime is inside a guest.
    std::thread::Builder::new()
        .name("aral-epochs".to_owned())
        .spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(EPOCH_MS));
                let Some(engine) = engine.upgrade() else { return };
                engine.increment_epoch();
            }
        })?;
    Ok(())
}
