//! What `bindgen!` makes of the world `capability` (wit/1.0.0). The WASI packages are those of wasmtime-wasi and
//! wasmtime-wasi-http, so that a request borrowed by `secret-read` is the request that `wasi:http` made.

wasmtime::component::bindgen!({
    path: "../../../wit/1.0.0",
    world: "aral:capability/capability",
    imports: {
        "aral:capability/exec.run": async | trappable,
        "aral:capability/memory-read": async | trappable,
        "aral:capability/memory-write": async | trappable,
        "aral:capability/secret-read": async | trappable,
        "aral:capability/secret-write": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    require_store_data_send: true,
    with: {
        "wasi:http": wasmtime_wasi_http::p2::bindings::http,
        "wasi:io": wasmtime_wasi::p2::bindings::io,
        "wasi:clocks": wasmtime_wasi::p2::bindings::clocks,
        "aral:capability/secret-read.secret": crate::functions::secret::Secret,
    },
});
