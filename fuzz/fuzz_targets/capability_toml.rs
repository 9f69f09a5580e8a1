//! What an author writes of a capability.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| aral_fuzzing::capability_toml(bytes));
