//! Runs one of the programs that the manifest lists, without a shell. Which programs and which arguments is the host's
//! decision; this code only passes them on and turns the output into text.

use aral_guest::prelude::*;
use exec::{Command, Status};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Input {
    /// The absolute path of the program, such as `/usr/bin/git`.
    program: String,
    /// Its arguments, each passed as it stands.
    #[serde(default)]
    arguments: Vec<String>,
    /// What it reads from standard input.
    #[serde(default)]
    stdin: String,
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
struct Output {
    /// Whether the program ended with code 0.
    success: bool,
    /// Its exit code; absent if a signal ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u8>,
    /// The signal that ended it, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<u8>,
    /// Its standard output; bytes that are not UTF-8 appear as U+FFFD.
    stdout: String,
    /// Its standard error, likewise.
    stderr: String,
    /// Whether either was cut at the host's limit.
    truncated: bool,
}

fn run(input: Input) -> Result<Output> {
    let output = command_of(&input)?
        .run()
        .context(|| format!("running `{}`", input.program))?;
    Ok(output_of(output))
}

fn command_of(input: &Input) -> Result<Command> {
    if !input.program.starts_with('/') {
        return Err(Error::invalid_input(
            "`program` must be an absolute path: nothing is looked up",
        ));
    }
    if input.program.contains('\0') || input.arguments.iter().any(|argument| argument.contains('\0')) {
        return Err(Error::invalid_input("`program` and `arguments` cannot hold NUL"));
    }
    Ok(Command::new(&input.program)
        .arguments(&input.arguments)
        .stdin(input.stdin.as_str()))
}

fn output_of(output: exec::Output) -> Output {
    let (exit_code, signal) = match output.status {
        Status::Exited(code) => (Some(code), None),
        Status::Signalled(signal) => (None, Some(signal)),
    };
    Output {
        success: exit_code == Some(0),
        exit_code,
        signal,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        truncated: output.truncated,
    }
}

capability! {
    title: "Run a program",
    description: "Runs one of the programs that the operator allows, with allowed arguments, and returns its output.",
    run: run,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_an_absolute_path() {
        for bad in [
            r#"{"program":"git"}"#,
            r#"{"program":""}"#,
            r#"{"program":"./git"}"#,
            r#"{"program":"/usr/bin/git","arguments":["a\u0000b"]}"#,
            r#"{"program":"/usr/bin/git","shell":true}"#,
        ] {
            assert!(
                matches!(aral_guest::serve(run, bad), Err(Error::InvalidInput(_))),
                "{bad}"
            );
        }
        let good = r#"{"program":"/usr/bin/git","arguments":["log","--oneline","-n","3"]}"#;
        assert!(matches!(aral_guest::serve(run, good), Err(Error::Unavailable(_))));
    }

    #[test]
    fn real_output_becomes_text() {
        let output = output_of(exec::Output {
            status: Status::Exited(0),
            stdout: include_bytes!("../tests/data/git-log.txt").to_vec(),
            stderr: vec![b'a', 0xfe],
            truncated: false,
        });
        assert!(output.success);
        assert_eq!(output.stdout.lines().count(), 3);
        assert_eq!(output.stderr, "a\u{fffd}");
    }

    #[test]
    fn a_signal_is_no_success() {
        let output = output_of(exec::Output {
            status: Status::Signalled(9),
            stdout: Vec::new(),
            stderr: Vec::new(),
            truncated: true,
        });
        assert_eq!(
            (output.success, output.exit_code, output.signal),
            (false, None, Some(9))
        );
    }
}
