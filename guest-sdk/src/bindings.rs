//! The ABI as `wit-bindgen` writes it from `wit/1.0.0`. Nothing else of the crate is generated, and nothing outside the
//! crate sees these types: the modules beside this one wrap them.

wit_bindgen::generate!({
    // The world of a tool, and the list of granted folders, which the standard library imports but does not show.
    inline: "
        package aral:guest@1.0.0;
        world sdk {
            include aral:capability/capability@1.0.0;
            import wasi:filesystem/preopens@0.2.12;
        }
    ",
    path: "../wit/1.0.0",
    world: "aral:guest/sdk",
    generate_all,
    pub_export_macro: true,
    export_macro_name: "export_tool",
    default_bindings_module: "aral_guest::bindings",
});
