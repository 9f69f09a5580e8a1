//! Files of an encrypted store that somebody changed.
#![no_main]

libfuzzer_sys::fuzz_target!(
    |drawn: (aral_fuzzing::Changed, aral_fuzzing::Edits)| aral_fuzzing::store(drawn.0, &drawn.1)
);
