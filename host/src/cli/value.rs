//! Values that verbs take and hand out. One comes from standard input, a file or a hidden prompt, never from the command
//! line, and goes to standard output only when that was asked for. It knows no store.

use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::path::Path;

use aral_contract::{Code, Failure, SecretBuffer};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::arguments::storage::Show;
use super::output::{Output, Stop};
use super::{files, prompt, text};

/// Longest line end, in bytes.
const LINE_END_BYTES_MAX: usize = 2;

/// The value that `argument` tells the place of: `@FILE`, `-` for standard input, none for standard input or, on a
/// terminal, a prompt.
pub(crate) fn read(argument: Option<&str>, what: &str, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let value = match argument {
        None if io::stdin().is_terminal() => prompt::hidden(what, bytes_max)?,
        None | Some("-") => from_stdin(bytes_max)?,
        Some(text) => match text.strip_prefix('@') {
            Some(path) => files::value(Path::new(path), bytes_max)?,
            // It is not repeated here: it may well be the value.
            None => {
                return Err(
                    Failure::new(Code::ConfigInvalid, "a value is not taken from the command line").with_hint(
                        "give it with `@FILE` or on standard input; if that was the value, others can have seen it \
                             and the shell has kept it: change it",
                    ),
                );
            }
        },
    };
    Ok(value)
}

/// The same without one line end, which does not count.
pub(crate) fn read_line(argument: Option<&str>, what: &str, bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let value = read(argument, what, bytes_max.saturating_add(LINE_END_BYTES_MAX));
    let place = argument.and_then(|text| text.strip_prefix('@'));
    let place = place.map_or_else(|| "standard input".to_owned(), |path| format!("`{path}`"));
    let value = value.map_err(|failure| match failure.code {
        Code::InputTooLarge => too_large(&place, bytes_max),
        _other => failure,
    })?;
    Ok(without_line_end(value))
}

/// Without the line end that editors and `echo` put after a text.
pub(crate) fn without_line_end(mut value: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if value.last() == Some(&b'\n') {
        value.pop();
        if value.last() == Some(&b'\r') {
            value.pop();
        }
    }
    value
}

fn from_stdin(bytes_max: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let unreadable =
        |error: io::Error| Failure::new(Code::ConfigInvalid, format!("standard input cannot be read: {error}"));
    let mut value = SecretBuffer::default();
    let mut part = Zeroizing::new([0; 4096]);
    let mut stdin = io::stdin().lock();
    loop {
        let count = stdin.read(part.as_mut_slice()).map_err(unreadable)?;
        if count == 0 {
            return Ok(value.into_inner());
        }
        if value.len().saturating_add(count) > bytes_max {
            return Err(too_large("standard input", bytes_max));
        }
        value.extend(part.get(..count).unwrap_or_default());
    }
}

/// The value is larger than may be.
pub(crate) fn too_large(what: &str, bytes_max: usize) -> Failure {
    Failure::new(Code::InputTooLarge, format!("{what} has more than {bytes_max} bytes"))
}

/// An object with one more member.
fn with(mut object: Value, name: &str, value: Value) -> Value {
    if let Some(members) = object.as_object_mut() {
        members.insert(name.to_owned(), value);
    }
    object
}

/// Hands a value out as far as was asked for: to a file, to standard output, or not at all. `facts` and `object` are what
/// may be shown in any case.
pub(crate) fn show(show: &Show, value: &[u8], facts: &str, object: Value, output: &Output) -> Result<(), Stop> {
    if let Some(path) = &show.out {
        files::create_private(path, value)?;
        let object = with(object, "out", json!(path));
        return output.answer(&format!("{facts}\nwrote {} (mode 0600)", path.display()), &object);
    }
    if !show.reveal {
        output.answer(facts, &object)?;
        output.note("hint: to see the value: `--reveal`, or `--out FILE`");
        return Ok(());
    }
    if output.json {
        let text = std::str::from_utf8(value).map_or(Value::Null, |text| json!(text));
        let object = with(object, "value", text);
        let object = with(object, "value_base64", json!(STANDARD.encode(value)));
        return output.answer("", &object);
    }
    let mut stdout = io::stdout().lock();
    if !stdout.is_terminal() {
        stdout.write_all(value)?;
        return Ok(stdout.flush()?);
    }
    let text = std::str::from_utf8(value).map_err(|_| {
        Failure::new(
            Code::ConfigInvalid,
            "the value is not text, and a terminal cannot show it",
        )
        .with_hint("write it to a file: `--out FILE`")
    })?;
    writeln!(stdout, "{}", text::lines(text))?;
    Ok(stdout.flush()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_taken_off_and_no_more() {
        for (given, expected) in [
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            ("a\r", "a\r"),
            ("\n", ""),
            ("a", "a"),
        ] {
            let value = without_line_end(Zeroizing::new(given.as_bytes().to_vec()));
            assert_eq!(*value, expected.as_bytes(), "{given:?}");
        }
    }

    #[test]
    fn a_value_on_the_command_line_is_refused_and_not_repeated() {
        let failure = read(Some("hunter2"), "value", 100).unwrap_err();
        assert_eq!(failure.code, Code::ConfigInvalid);
        assert!(!format!("{failure:?}").contains("hunter2"));
        assert!(failure.hint.unwrap().contains("change it"));
    }
}
