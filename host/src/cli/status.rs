//! `aral status`: how the server that runs is.

use serde::Deserialize;
use serde_json::Value;

use super::configured::Configured;
use super::desk::{Remote, understood};
use super::exit::Exit;
use super::output::{Done, Output};

#[derive(Deserialize)]
struct Status {
    status: String,
    version: String,
    file: Option<String>,
    configuration: Option<String>,
    policy: String,
    listening: Vec<String>,
    store: Option<String>,
    checks: Vec<Check>,
}

#[derive(Deserialize)]
struct Check {
    name: String,
    fault: Option<String>,
}

/// A server that is not well has answered nevertheless: that is success, and what it says is the answer.
pub(crate) fn run(configured: &Configured, output: &Output) -> Done {
    let answer: Value = Remote::running_told(configured, output)?.get("/v1/status")?;
    let status: Status = understood(answer.clone())?;
    output.answer(&shown(&status), &answer)?;
    Ok(Exit::Success)
}

fn shown(status: &Status) -> String {
    let mut shown = format!(
        "status         {}\nversion        {}\nfile           {}\nconfiguration  {}\npolicy         {}\nlistening      {}\nstore          {}\nchecks\n",
        status.status,
        status.version,
        status.file.as_deref().unwrap_or("none"),
        status.configuration.as_deref().unwrap_or("none"),
        status.policy,
        status.listening.join(", "),
        status.store.as_deref().unwrap_or("none"),
    );
    let width = status.checks.iter().map(|one| one.name.len()).max().unwrap_or_default();
    for Check { name, fault } in &status.checks {
        let fault = fault.as_deref().unwrap_or("ok");
        shown.push_str(&format!("  {name:width$}  {fault}\n"));
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_wrong_stands_beside_what_was_checked() {
        let answer = json!({
            "status": "failing",
            "checks": [
                { "name": "audit", "fault": null },
                { "name": "disk", "fault": "`/state` has 1 bytes free, less than 2" },
            ],
            "version": "1.2.3",
            "file": "/etc/aral/aral.toml",
            "configuration": null,
            "policy": "aa",
            "listening": ["127.0.0.1:1", "[::1]:2"],
            "store": "/store",
        });
        let words = "\
status         failing
version        1.2.3
file           /etc/aral/aral.toml
configuration  none
policy         aa
listening      127.0.0.1:1, [::1]:2
store          /store
checks
  audit  ok
  disk   `/state` has 1 bytes free, less than 2
";
        let status: Status = understood(answer).unwrap();
        assert_eq!(shown(&status), words);
    }
}
