//! Signed manifests that somebody changed, and strange ones that their owner signed.
#![no_main]

libfuzzer_sys::fuzz_target!(|edits: aral_fuzzing::Edits| aral_fuzzing::manifest(&edits));
