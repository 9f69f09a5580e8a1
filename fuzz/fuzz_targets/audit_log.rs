//! Logs that somebody changed.
#![no_main]

libfuzzer_sys::fuzz_target!(|edits: aral_fuzzing::Edits| aral_fuzzing::audit_log(&edits));
