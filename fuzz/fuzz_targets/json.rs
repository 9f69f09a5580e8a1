//! Strict JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| aral_fuzzing::json(bytes));
