//! Host calls in any order, by a guest that does what is drawn.
#![no_main]

use std::sync::LazyLock;

use aral_fuzzing::{HostCalls, guest};

static HOST: LazyLock<HostCalls> = LazyLock::new(|| HostCalls::new(&guest("isolation_script")));

libfuzzer_sys::fuzz_target!(|script: &[u8]| {
    HOST.run(script);
});
