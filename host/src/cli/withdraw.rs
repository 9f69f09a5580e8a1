//! `aral withdraw`: takes one version of a capability from the server that runs.

use aral_contract::id::IdError;
use aral_contract::{CapabilityId, Code, Failure};
use aral_host::admin::answers::{CapabilityList, Withdraw as Asked, Withdrawn};
use semver::Version;

use super::arguments::Withdraw;
use super::configured::Configured;
use super::desk::{Remote, understood};
use super::exit::Exit;
use super::output::{Done, Output};

pub(crate) fn run(arguments: &Withdraw, configured: &Configured, output: &Output) -> Done {
    let (id, version) = exactly(&arguments.capability)?;
    let mut server = Remote::running_told(configured, output)?;
    let asked = Asked { id, version };
    let answer = server.post(Asked::PATH, &asked)?;
    let Withdrawn { withdrawn, warnings } = understood(answer.clone())?;
    let Asked { id, version } = asked;
    if !withdrawn {
        let registered: CapabilityList = server.get(CapabilityList::PATH)?;
        return Err(unknown(&id, &version, &registered).into());
    }
    // Before the answer: whoever reads that may go away.
    warnings.iter().for_each(|warning| output.warn(warning));
    output.answer(&format!("withdrawn {id} {version}"), &answer)?;
    Ok(Exit::Success)
}

/// `ID@VERSION`. No requirement: what else it would match nobody has looked at.
fn exactly(text: &str) -> Result<(CapabilityId, Version), Failure> {
    let wrong = |reason: String| Failure::new(Code::ConfigInvalid, reason).with_hint("write it like `text-grep@1.0.0`");
    let (id, version) = text
        .split_once('@')
        .ok_or_else(|| wrong(format!("`{}` names no version", text.escape_debug())))?;
    let id = id.parse().map_err(|error: IdError| wrong(error.to_string()))?;
    let version = Version::parse(version)
        .map_err(|error| wrong(format!("`{}` is no version: {error}", version.escape_debug())))?;
    Ok((id, version))
}

fn unknown(id: &CapabilityId, version: &Version, registered: &CapabilityList) -> Failure {
    let same = registered.capabilities.iter().filter(|one| one.id == *id);
    let known: Vec<String> = same.map(|one| one.version.to_string()).collect();
    let message = if known.is_empty() {
        format!("the server that runs has no capability `{id}`")
    } else {
        let known = known.join(", ");
        format!("the server that runs has no version `{version}` of `{id}`: there is {known}")
    };
    Failure::new(Code::CapabilityUnknown, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_version_is_named_and_no_requirement() {
        let (id, version) = exactly("text-grep@1.0.0-beta.1").unwrap();
        assert_eq!((id.as_str(), &*version.to_string()), ("text-grep", "1.0.0-beta.1"));
        for bad in [
            "",
            "text-grep",
            "text-grep@",
            "text-grep@1.0",
            "text-grep@^1",
            "A@1.0.0",
        ] {
            let failure = exactly(bad).unwrap_err();
            assert_eq!(failure.code, Code::ConfigInvalid, "{bad:?}");
            assert!(
                failure.hint.is_some_and(|hint| hint.contains("text-grep@1.0.0")),
                "{bad:?}"
            );
        }
    }
}
