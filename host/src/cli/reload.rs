//! `aral reload`: has the server that runs read its configuration again, and says what came of it.

use serde_json::json;

use super::configured::Configured;
use super::desk::Remote;
use super::exit::Exit;
use super::files;
use super::output::{Done, Output};

pub(crate) fn run(configured: &Configured, output: &Output) -> Done {
    // The server compares it with its own, and stands in another folder.
    let file = configured.path().map(files::absolute_utf8).transpose()?;
    let answer = Remote::running(&configured.config)?.post("/v1/reload", &json!({ "file": file }))?;
    let digest = |name: &str| {
        answer
            .get(name)
            .and_then(|value| value.as_str())
            .unwrap_or("none")
            .to_owned()
    };
    // Before the answer: whoever reads that may go away.
    let warnings = answer.get("warnings").and_then(|value| value.as_array());
    for warning in warnings.into_iter().flatten().filter_map(|value| value.as_str()) {
        output.warn(warning);
    }
    output.answer(
        &format!(
            "configuration  {}\npolicy         {}",
            digest("configuration"),
            digest("policy")
        ),
        &answer,
    )?;
    Ok(Exit::Success)
}
