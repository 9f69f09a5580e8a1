//! Notes that an agent keeps from one conversation to the next, as records of its memory. It decides nothing about who
//! may read them: the namespace and the quota are the host's.

use aral_guest::prelude::*;
use memory::{Precondition, PutOptions};

const NAMESPACE: &str = "notes";

/// Characters of a name: short enough to list, and under the 128 bytes that the host takes.
const NAME_CHARS_MAX: usize = 64;

/// Bytes of one note: what is longer is a document, and belongs into a file.
const TEXT_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "action", rename_all = "lowercase", deny_unknown_fields)]
enum Input {
    /// Stores a note.
    Add {
        /// What the note is called: 1 to 64 letters, digits, spaces and `.`, `_`, `-`.
        #[schemars(length(min = 1, max = 64))]
        name: String,
        /// What it says; at most 64 KiB.
        text: String,
        /// Whether a note of this name is replaced. Otherwise that is an error.
        #[serde(default)]
        replace: bool,
        /// Days until it is forgotten; kept for good if absent.
        #[schemars(range(min = 1, max = 36500))]
        days: Option<u32>,
    },
    /// Reads a note.
    Get {
        /// What it is called.
        name: String,
    },
    /// Names the notes.
    List {
        /// Only names that begin like this.
        #[serde(default)]
        prefix: String,
        /// Where to go on, from the answer before.
        cursor: Option<String>,
    },
    /// Forgets a note.
    Delete {
        /// What it is called.
        name: String,
    },
}

#[derive(Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "action", rename_all = "lowercase")]
enum Output {
    /// It is stored.
    Added {
        /// How often a note of this name was written.
        version: u64,
    },
    /// The note; `text` is absent if there is none of this name.
    Note {
        /// What it says.
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    /// Some names.
    Names {
        /// The names.
        names: Vec<String>,
        /// Where to go on; absent after the last.
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<String>,
    },
    /// It is forgotten.
    Deleted {
        /// Whether there was one.
        existed: bool,
    },
}

fn notes(input: Input) -> Result<Output> {
    match input {
        Input::Add {
            name,
            text,
            replace,
            days,
        } => add(&name, &text, replace, days),
        Input::Get { name } => {
            let text = match memory::get(NAMESPACE, checked_name(&name)?)? {
                Some(entry) => Some(String::from_utf8(entry.value).context(|| format!("reading note `{name}`"))?),
                None => None,
            };
            Ok(Output::Note { text })
        }
        Input::List { prefix, cursor } => {
            let page = memory::list(NAMESPACE, &prefix, cursor.as_deref(), 100)?;
            Ok(Output::Names {
                names: page.names,
                cursor: page.cursor,
            })
        }
        Input::Delete { name } => Ok(Output::Deleted {
            existed: memory::delete(NAMESPACE, checked_name(&name)?, Precondition::Any)?,
        }),
    }
}

fn add(name: &str, text: &str, replace: bool, days: Option<u32>) -> Result<Output> {
    let name = checked_name(name)?;
    if text.len() > TEXT_BYTES_MAX {
        return Err(Error::limit(format!(
            "a note is at most {TEXT_BYTES_MAX} bytes, this one has {}",
            text.len()
        )));
    }
    let options = PutOptions {
        ttl_seconds: ttl_seconds(days)?,
        precondition: if replace {
            Precondition::Any
        } else {
            Precondition::Absent
        },
        ..PutOptions::default()
    };
    let version =
        memory::put(NAMESPACE, name, text.as_bytes(), options).context(|| format!("storing note `{name}`"))?;
    Ok(Output::Added { version })
}

fn checked_name(name: &str) -> Result<&str> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || " ._-".contains(character);
    let good = !name.is_empty() && name.len() <= NAME_CHARS_MAX && name.chars().all(allowed) && name.trim() == name;
    if good {
        Ok(name)
    } else {
        Err(Error::invalid_input(format!(
            "`{}` is not a name for a note: 1 to {NAME_CHARS_MAX} letters, digits, inner spaces and `.`, `_`, `-`",
            name.chars().take(NAME_CHARS_MAX).collect::<String>().escape_debug()
        )))
    }
}

fn ttl_seconds(days: Option<u32>) -> Result<Option<u64>> {
    match days {
        None => Ok(None),
        Some(days @ 1..=36_500) => Ok(Some(u64::from(days) * 86_400)),
        Some(_) => Err(Error::invalid_input("`days` is 1 to 36500")),
    }
}

capability! {
    title: "Notes",
    description: "Keeps short notes across conversations: add, get, list and delete them by name.",
    run: notes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "Shopping list", "2026-11-23_plan.v2", &"x".repeat(64)] {
            assert_eq!(checked_name(good), Ok(good));
        }
        for bad in ["", " a", "a ", "a/b", "a\0b", "\u{e4}", "a\nb", &"x".repeat(65)] {
            assert!(
                matches!(checked_name(bad), Err(Error::InvalidInput(_))),
                "{bad:?} was taken"
            );
        }
    }

    #[test]
    fn times_to_live() {
        assert_eq!(ttl_seconds(None), Ok(None));
        assert_eq!(ttl_seconds(Some(2)), Ok(Some(172_800)));
        assert!(ttl_seconds(Some(0)).is_err() && ttl_seconds(Some(36_501)).is_err());
    }

    #[test]
    fn real_calls_parse_and_reach_the_host() {
        for line in include_str!("../tests/data/calls.jsonl").lines() {
            // There is no host here, and only the host is missing.
            let answer = aral_guest::serve(notes, line);
            assert!(matches!(answer, Err(Error::Unavailable(_))), "{line}: {answer:?}");
        }
    }

    #[test]
    fn bad_calls_fail_before_the_host_is_asked() {
        for bad in [
            r#"{"action":"burn"}"#,
            r#"{"action":"get"}"#,
            r#"{"action":"get","name":"../x"}"#,
            r#"{"action":"list","surprise":1}"#,
            r#"{"action":"add","name":"a","text":"b","days":0}"#,
            r#"{"action":"add","name":"a","text":7}"#,
        ] {
            let answer = aral_guest::serve(notes, bad);
            assert!(matches!(answer, Err(Error::InvalidInput(_))), "{bad}: {answer:?}");
        }
        let long = format!(
            r#"{{"action":"add","name":"a","text":"{}"}}"#,
            "x".repeat(TEXT_BYTES_MAX + 1)
        );
        assert!(matches!(aral_guest::serve(notes, &long), Err(Error::Limit(_))));
    }
}
