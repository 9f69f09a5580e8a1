//! `aral register`: has the server that runs take a signed manifest, until that server ends.

use aral_host::admin::answers::{ManifestRegistered, Register as Asked};

use super::arguments::Register;
use super::configured::Configured;
use super::desk::{Remote, understood};
use super::exit::Exit;
use super::files;
use super::output::{Done, Output};

pub(crate) fn run(arguments: &Register, configured: &Configured, output: &Output) -> Done {
    // The server reads it, and stands in another folder.
    let path = files::absolute_utf8(&arguments.manifest)?.into();
    let answer = Remote::running_told(configured, output)?.post(Asked::PATH, &Asked { path })?;
    let ManifestRegistered { registered, warnings } = understood(answer.clone())?;
    // Before the answer: whoever reads that may go away.
    for one in &registered {
        for warning in &one.warnings {
            output.warn(&format!("{}: {warning}", one.id));
        }
    }
    warnings.iter().for_each(|warning| output.warn(warning));
    let lines: Vec<String> = registered
        .iter()
        .map(|one| format!("registered {} {}", one.id, one.version))
        .collect();
    let shown = if lines.is_empty() {
        "nothing to register: the manifest has no capability".to_owned()
    } else {
        lines.join("\n")
    };
    output.answer(&shown, &answer)?;
    Ok(Exit::Success)
}
