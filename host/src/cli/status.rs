//! `aral status`: how the server that runs is.

use aral_host::admin::answers::{ServerStatus, StatusCheck};
use serde_json::Value;

use super::configured::Configured;
use super::desk::{Remote, understood};
use super::exit::Exit;
use super::output::{Done, Output};
use super::text;

/// A server that is not well has answered nevertheless: that is success, and what it says is the answer.
pub(crate) fn run(configured: &Configured, output: &Output) -> Done {
    let answer: Value = Remote::running_told(configured, output)?.get(ServerStatus::PATH)?;
    let status: ServerStatus = understood(answer.clone())?;
    output.answer(&shown(&status), &answer)?;
    Ok(Exit::Success)
}

fn shown(status: &ServerStatus) -> String {
    let none = || "none".to_owned();
    let listening: Vec<String> = status.listening.iter().map(ToString::to_string).collect();
    let mut shown = format!(
        "status         {}\nversion        {}\nfile           {}\nconfiguration  {}\npolicy         {}\nlistening      {}\nstore          {}\nchecks\n",
        status.status,
        status.version,
        status.file.clone().unwrap_or_else(none),
        status.configuration.map_or_else(none, |digest| digest.to_string()),
        status.policy,
        listening.join(", "),
        status
            .store
            .as_ref()
            .map_or_else(none, |store| store.display().to_string()),
    );
    let width = text::column(status.checks.iter().map(|one| one.name.as_str()));
    for StatusCheck { name, fault } in &status.checks {
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
            "policy": "aa".repeat(32),
            "listening": ["127.0.0.1:1", "[::1]:2"],
            "store": "/store",
        });
        let digest = "aa".repeat(32);
        let words = format!(
            "\
status         failing
version        1.2.3
file           /etc/aral/aral.toml
configuration  none
policy         {digest}
listening      127.0.0.1:1, [::1]:2
store          /store
checks
  audit  ok
  disk   `/state` has 1 bytes free, less than 2
"
        );
        let status: ServerStatus = understood(answer).unwrap();
        assert_eq!(shown(&status), words);
    }
}
