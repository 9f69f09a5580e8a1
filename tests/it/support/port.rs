//! Ports for programs that cannot be told to take any.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// A port of the loopback that nobody has. It is below those that the system gives to whoever takes any, and each process of
/// the tests has its own: nobody else takes it before it is used.
pub(crate) fn free_port() -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(8);
    loop {
        let number = first.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % 20_000;
        let port = 10_000 + u16::try_from(number).expect("less than 20,000");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
