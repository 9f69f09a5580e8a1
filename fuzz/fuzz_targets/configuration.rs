//! `aral.toml`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| aral_fuzzing::configuration(bytes));
