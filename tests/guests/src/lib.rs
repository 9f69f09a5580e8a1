//! What the guests share: reading the input, writing the answer, marking that the attacking line is next, and the
//! imports of the ABI without any of the manners of the SDK. It knows nothing of what the host should answer.

pub mod http;
pub mod report;

/// The imports of the ABI, as they are.
pub mod imports {
    wit_bindgen::generate!({
        path: "../../wit/1.0.0",
        inline: r#"
            package aral:test-guests;
            world imports {
                import aral:capability/log@1.0.0;
                import aral:capability/context@1.0.0;
                import aral:capability/memory-read@1.0.0;
                import aral:capability/memory-write@1.0.0;
                import aral:capability/secret-read@1.0.0;
                import aral:capability/secret-write@1.0.0;
                import aral:capability/exec@1.0.0;
                import wasi:http/outgoing-handler@0.2.12;
                import wasi:random/random@0.2.12;
            }
        "#,
        world: "aral:test-guests/imports",
        generate_all,
    });
}

pub use report::{attempt, marker, marker_log, run};

/// Exports `fn(&str) -> Result<String, Error>` as a tool. `Error` is the variant of the ABI.
#[macro_export]
macro_rules! tool {
    ($serve:path) => {
        mod exported {
            wit_bindgen::generate!({
                path: "../../wit/1.0.0",
                inline: r#"
                    package aral:test-guests;
                    world tool {
                        export aral:capability/tool@1.0.0;
                    }
                "#,
                world: "aral:test-guests/tool",
                generate_all,
            });
        }
        pub use exported::exports::aral::capability::tool::Error;

        struct Tool;

        impl exported::exports::aral::capability::tool::Guest for Tool {
            fn describe() -> exported::exports::aral::capability::tool::Descriptor {
                exported::exports::aral::capability::tool::Descriptor {
                    title: "a guest of the tests".to_owned(),
                    description: "attacks or probes the host".to_owned(),
                    input_schema: "true".to_owned(),
                    output_schema: "true".to_owned(),
                }
            }

            fn invoke(input: String) -> Result<String, Error> {
                $serve(&input)
            }
        }

        exported::export!(Tool with_types_in exported);
    };
}
