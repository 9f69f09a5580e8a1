//! `aral diff`: two components or two manifests side by side. The exit code says whether authority grew, so that a
//! pipeline can stop at an update that asks for more.

use std::fmt::Write as _;
use std::path::Path;

use aral_capability::diff::{Diff, Subject, diff};
use aral_capability::manifest;
use aral_contract::Failure;
use serde_json::json;

use super::arguments;
use super::exit::Exit;
use super::output::{Done, Output};
use super::{files, session, text};

pub(crate) fn run(arguments: &arguments::Diff, output: &Output) -> Done {
    let found = diff(&subject(&arguments.old)?, &subject(&arguments.new)?)?;
    output.answer(&human(&found), &json!({ "diff": found }))?;
    Ok(if found.authority_grew {
        Exit::AuthorityGrew
    } else {
        Exit::Success
    })
}

/// A document begins with a brace, whatever its file is called; anything else is looked at as a component.
fn subject(path: &Path) -> Result<Subject, Failure> {
    let bytes = files::component(path)?;
    if bytes.trim_ascii_start().first() == Some(&b'{') {
        let (_, body) = manifest::read_unbelieved(&bytes).map_err(|failure| failure.in_file(path))?;
        return Ok(Subject::Manifest(Box::new(body)));
    }
    let inspection = session::inspect(&bytes).map_err(|failure| failure.in_file(path))?;
    Ok(Subject::Component(Box::new(inspection)))
}

fn human(found: &Diff) -> String {
    if found.is_empty() {
        return "no difference".to_owned();
    }
    let mut shown = String::new();
    for change in &found.changes {
        let mark = if change.grew { "! " } else { "  " };
        let capability = change
            .capability
            .as_ref()
            .map(|id| format!("{id}: "))
            .unwrap_or_default();
        let subject = text::line(&change.subject);
        // Writing to a string cannot fail.
        let _infallible = write!(shown, "{mark}{capability}{subject} {}", change.direction.as_str());
        match (&change.old, &change.new) {
            (Some(old), Some(new)) => {
                let _infallible = writeln!(shown, "\n      - {}\n      + {}", text::line(old), text::line(new));
            }
            (Some(value), None) | (None, Some(value)) => {
                let _infallible = writeln!(shown, " {}", text::line(value));
            }
            (None, None) => shown.push('\n'),
        }
    }
    shown.push_str(match found.authority_grew {
        true => "authority grew: the lines marked `!` allow more than before",
        false => "authority did not grow",
    });
    shown
}

#[cfg(test)]
mod tests {
    use aral_capability::diff::{Change, Direction};

    use super::*;

    #[test]
    fn growth_is_marked_and_lines_cannot_be_forged() {
        let change = Change {
            capability: Some("a".parse().unwrap()),
            subject: "import".to_owned(),
            direction: Direction::Added,
            old: None,
            new: Some("x\n  forged".to_owned()),
            grew: true,
        };
        let found = Diff {
            authority_grew: true,
            changes: vec![change],
        };
        let shown = human(&found);
        assert!(shown.starts_with("! a: import added x\\u{a}  forged\n"), "{shown}");
        assert!(shown.contains("authority grew"));
        assert_eq!(human(&Diff::default()), "no difference");
    }
}
