//! What clap refuses, as the failure that a script gets to read.

use std::ffi::OsString;

use aral_contract::{Code, Failure};
use clap::CommandFactory as _;
use clap::error::ErrorKind;

use super::arguments::Arguments;

/// clap writes paragraphs: what is wrong, tips, the usage, and where there is more. `words` are those after the program's name.
pub(crate) fn failure(error: &clap::Error, words: impl IntoIterator<Item = OsString>) -> Failure {
    let text = error.to_string();
    let wrong = text.split("\n\n").next().unwrap_or_default();
    let message = match error.kind() {
        // Here clap writes the help instead.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => "a subcommand is missing".to_owned(),
        _other => one_line(wrong.trim_start_matches("error: ")),
    };
    let tips = text.lines().filter_map(|line| line.trim_start().strip_prefix("tip: "));
    let hints: Vec<String> = tips.map(str::to_owned).chain([help(words)]).collect();
    Failure::new(Code::ConfigInvalid, message).with_hint(hints.join("; "))
}

fn one_line(paragraph: &str) -> String {
    paragraph.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

/// How to see the help of the verb that was meant, as far as one was named.
fn help(words: impl IntoIterator<Item = OsString>) -> String {
    let program = Arguments::command();
    let mut command = &program;
    let mut verb = program.get_name().to_owned();
    for word in words {
        if let Some(below) = command.find_subcommand(&word) {
            command = below;
            verb.push(' ');
            verb.push_str(below.get_name());
        }
    }
    format!("`{verb} --help`")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn refused(words: &[&str]) -> (String, String) {
        let error = Arguments::try_parse_from([&["aral"][..], words].concat()).unwrap_err();
        let failure = failure(&error, words.iter().map(OsString::from));
        (failure.message, failure.hint.unwrap())
    }

    #[test]
    fn every_argument_that_is_missing_is_named() {
        let (message, hint) = refused(&["memory", "rotate-key", "--json"]);
        assert!(message.starts_with("the following required arguments"), "{message}");
        assert!(message.contains("--to <FILE>"), "{message}");
        assert!(!message.contains('\n') && !message.contains("Usage"), "{message}");
        assert_eq!(hint, "`aral memory rotate-key --help`");
        let (message, _) = refused(&["manifest", "sign", "--json"]);
        assert!(
            message.contains("--key <KEY.pem>") && message.contains(" <FILE>"),
            "{message}"
        );
    }

    #[test]
    fn tips_stand_in_the_hint_before_the_help_of_the_verb() {
        let (message, hint) = refused(&["--json", "statsu"]);
        assert_eq!(message, "unrecognized subcommand 'statsu'");
        assert!(hint.contains("'status'") && hint.ends_with("; `aral --help`"), "{hint}");
        let (message, hint) = refused(&["--json", "memory"]);
        assert!(message.contains("subcommand") && !message.contains('\n'), "{message}");
        assert_eq!(hint, "`aral memory --help`");
        let (message, hint) = refused(&["manifest", "sign", "a.json", "--key", "k", "--serial", "many", "--json"]);
        assert!(message.contains("'many'") && message.contains("--serial"), "{message}");
        assert_eq!(hint, "`aral manifest sign --help`");
    }
}
