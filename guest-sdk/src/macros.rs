//! The macro that turns a function into a component. It holds no logic: what happens in a call is in `serve`.

/// Makes the function `run` what the component exports: `fn(Input) -> Result<Output, E>`, where `Input` is
/// `Deserialize + JsonSchema`, `Output` is `Serialize + JsonSchema` and `E` becomes an [`Error`](crate::Error).
///
/// Once per crate, in a crate of type `cdylib`. On the build machine it only checks the types.
///
/// ```
/// use aral_guest::prelude::*;
///
/// #[derive(Deserialize, JsonSchema)]
/// struct Input {
///     /// The number to double.
///     number: i64,
/// }
///
/// fn double(input: Input) -> Result<i64> {
///     input.number.checked_mul(2).ok_or_else(|| Error::invalid_input("`number` is too large"))
/// }
///
/// capability! { title: "Double", description: "Doubles a whole number.", run: double }
/// # fn main() {}
/// ```
///
/// A function without a schema is no capability:
///
/// ```compile_fail
/// fn raw(input: Vec<u8>) -> Vec<u8> { input }
/// aral_guest::capability! { title: "Raw", description: "Has no result.", run: raw }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! capability {
    (title: $title:expr, description: $description:expr, run: $run:expr $(,)?) => {
        const _: () = {
            struct Capability;

            impl $crate::expansion::Guest for Capability {
                fn describe() -> $crate::expansion::Descriptor {
                    $crate::expansion::describe($title, $description, $run)
                }

                fn invoke(
                    input: ::std::string::String,
                ) -> ::std::result::Result<::std::string::String, $crate::expansion::Error> {
                    $crate::expansion::invoke($run, &input)
                }
            }

            // On the build machine nothing is exported: symbols of the component ABI would be of no use there.
            #[cfg(not(target_family = "wasm"))]
            const _: (
                fn() -> $crate::expansion::Descriptor,
                fn(::std::string::String) -> ::std::result::Result<::std::string::String, $crate::expansion::Error>,
            ) = (
                <Capability as $crate::expansion::Guest>::describe,
                <Capability as $crate::expansion::Guest>::invoke,
            );

            #[cfg(target_family = "wasm")]
    $crate::expansion::export_tool!(Capability with_types_in $crate::bindings);
        };
    };
}
