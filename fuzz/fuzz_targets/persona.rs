//! The same of personas.
#![no_main]

libfuzzer_sys::fuzz_target!(|edits: aral_fuzzing::Edits| aral_fuzzing::persona(&edits));
