//! `aral reload`: has the server that runs read its configuration again, and says what came of it.

use aral_contract::Digest;
use aral_host::admin::answers::{Reload, Reloaded};

use super::configured::Configured;
use super::desk::{Remote, understood};
use super::exit::Exit;
use super::files;
use super::output::{Done, Output};

pub(crate) fn run(configured: &Configured, output: &Output) -> Done {
    // The server compares it with its own, and stands in another folder.
    let file = configured.path().map(files::absolute_utf8).transpose()?;
    let asked = Reload {
        file: file.map(Into::into),
    };
    let answer = Remote::running(&configured.config)?.post(Reload::PATH, &asked)?;
    let reloaded: Reloaded = understood(answer.clone())?;
    // Before the answer: whoever reads that may go away.
    for warning in &reloaded.warnings {
        output.warn(warning);
    }
    let shown = |digest: Option<Digest>| digest.map_or_else(|| "none".to_owned(), |digest| digest.to_string());
    output.answer(
        &format!(
            "configuration  {}\npolicy         {}",
            shown(reloaded.configuration),
            shown(reloaded.policy)
        ),
        &answer,
    )?;
    Ok(Exit::Success)
}
