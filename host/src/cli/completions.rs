//! `aral completions`: the script of a shell, made from the command line itself.

use clap::CommandFactory as _;
use serde_json::json;

use super::arguments::{Arguments, Completions};
use super::exit::Exit;
use super::output::{Done, Output};

pub(crate) fn run(arguments: &Completions, output: &Output) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "aral", &mut script);
    let script = String::from_utf8_lossy(&script);
    output.answer(
        &script,
        &json!({"shell": arguments.shell.to_string(), "script": script}),
    )?;
    Ok(Exit::Success)
}
