//! The `aral` command: parse, run, map to an exit code. Everything else is in `cli`, and below it in the library.
#![forbid(unsafe_code)]

mod cli;

fn main() -> std::process::ExitCode {
    cli::main().into()
}
