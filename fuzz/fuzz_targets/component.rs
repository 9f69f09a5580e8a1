//! Components, before anything is asked of them.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| aral_fuzzing::component(bytes));
