//! What makes the encrypted store believable: it is killed, cut off from power, filled up, damaged, and attacked by somebody
//! who has every file and the master key. The attacker reads docs/store-format.md and shares no code with the store.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test fails by panicking, and looks at files"
)]

mod attacker;
mod child;
#[expect(dead_code, reason = "the writing program alone lets time go by")]
mod clock;
mod damage;
mod deletion;
#[cfg(feature = "services")]
mod disk;
mod format;
#[cfg(feature = "services")]
mod full;
mod kill;
mod outcome;
#[cfg(feature = "services")]
mod power;
mod script;
mod support;
#[cfg(feature = "services")]
mod trace;
mod vectors;
