//! Bytes to a listener that speaks HTTP/2: what comes after the beginning of a client.
#![no_main]

use std::sync::LazyLock;

use aral_fuzzing::{Connections, guest};

static SERVER: LazyLock<Connections> = LazyLock::new(|| Connections::http2(&guest("examples/runtime_echo_tool")));

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| SERVER.send(bytes));
