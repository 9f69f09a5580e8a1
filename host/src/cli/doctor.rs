//! `aral doctor`: what this machine and this configuration are good for, line by line, each with the fix. It changes
//! nothing but what running would change too (the folders of state, of compiled code with its key, and of the audit log are made if they
//! are missing). A store that is there is opened for a moment, and none is made. A server listens for a moment, and answers nobody.

mod audit;
mod checks;
mod lacking;
mod names;
mod people;
mod serve;
mod storage;
mod telemetry;

use aral_contract::Failure;
use serde::Serialize;
use serde_json::json;

use super::configured::Configured;
use super::exit::Exit;
use super::output::{Done, Output};
use super::text;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// As it should be.
    Ok,
    /// It works, less well or less safely than it could.
    Warn,
    /// It does not work.
    Fail,
}

/// One line.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) status: Status,
    pub(crate) detail: String,
    /// What to do, unless all is well.
    pub(crate) fix: Option<String>,
}

impl Check {
    pub(crate) fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self {
            name,
            status: Status::Ok,
            detail: detail.into(),
            fix: None,
        }
    }

    pub(crate) fn warn(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            status: Status::Warn,
            fix: Some(fix.into()),
            ..Self::ok(name, detail)
        }
    }

    pub(crate) fn fail(name: &'static str, detail: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            status: Status::Fail,
            ..Self::warn(name, detail, fix)
        }
    }

    /// What failed, with the fix that it tells of itself, or else with this one.
    pub(crate) fn failed(name: &'static str, failure: Failure, otherwise: impl Into<String>) -> Self {
        let fix = failure.hint.filter(|hint| !hint.is_empty());
        Self::fail(name, failure.message, fix.unwrap_or_else(|| otherwise.into()))
    }
}

pub(crate) fn run(configured: Result<Configured, Failure>, output: &Output) -> Done {
    let mut all = Vec::new();
    match configured {
        Ok(configured) => {
            let (state, earlier) = checks::state(&configured);
            all.push(checks::configuration(&configured));
            all.push(people::trust(&configured));
            all.extend(checks::manifests(&configured, earlier.as_ref()));
            all.extend(people::personas(&configured, earlier.as_ref()));
            all.extend(names::checks(&configured));
            all.extend(checks::odd(&configured));
            all.extend(checks::roots(&configured));
            all.extend([state, checks::pool(&configured)]);
            all.extend(storage::checks(&configured));
            all.push(audit::check(&configured));
            all.extend(telemetry::check(&configured));
            all.extend(serve::checks(&configured));
        }
        Err(failure) => all.push(Check::failed(
            "configuration",
            failure,
            "correct the file, or leave it out with another --config",
        )),
    }
    all.extend(checks::machine());
    all.push(checks::target());
    let failed = all.iter().any(|check| check.status == Status::Fail);
    output.answer(&human(&all), &json!({"healthy": !failed, "checks": all}))?;
    Ok(if failed { Exit::Usage } else { Exit::Success })
}

fn human(checks: &[Check]) -> String {
    let width = checks.iter().map(|check| check.name.len()).max().unwrap_or_default();
    let mut shown = String::new();
    for check in checks {
        let word = match check.status {
            Status::Ok => "ok  ",
            Status::Warn => "warn",
            Status::Fail => "FAIL",
        };
        let name = check.name;
        shown.push_str(&format!("{word}  {name:width$}  {}\n", text::line(&check.detail)));
        if let Some(fix) = &check.fix {
            shown.push_str(&format!("      {:width$}  fix: {}\n", "", text::line(fix)));
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use aral_contract::Code;

    use super::*;

    #[test]
    fn a_failure_without_a_hint_has_the_fix_of_its_check() {
        let failure = || Failure::new(Code::ConfigInvalid, "gone");
        for (failure, fix) in [
            (failure(), "bring it back"),
            (failure().with_hint(""), "bring it back"),
            (failure().with_hint("look below"), "look below"),
        ] {
            let check = Check::failed("a", failure, "bring it back");
            assert_eq!((check.status, check.detail.as_str()), (Status::Fail, "gone"));
            assert_eq!(check.fix.as_deref(), Some(fix));
        }
    }

    #[test]
    fn every_line_that_is_not_well_has_a_fix() {
        let shown = human(&[
            Check::ok("a", "fine"),
            Check::warn("bb", "slow", "make it\nfast"),
            Check::fail("c", "gone", "bring it back"),
        ]);
        let expected = "ok    a   fine\nwarn  bb  slow\n          fix: make it\\u{a}fast\nFAIL  c   gone\n          fix: bring it back\n";
        assert_eq!(shown, expected);
    }
}
