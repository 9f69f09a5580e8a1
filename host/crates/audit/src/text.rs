//! The texts that a record may hold. What the host chose stands in clear, cut and escaped; what somebody else chose
//! stands as a keyed hash, or not at all. It knows no event.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// Longest text in a record, in bytes. Stops a guest from filling the log with one name.
pub const TEXT_BYTES_MAX: usize = 512;
/// Stands at the end of a text that was cut.
const CUT: &str = "…";

/// A text in clear: at most [`TEXT_BYTES_MAX`] bytes, and no control character.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Text(String);

/// A text that no record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a text of a record has at most {TEXT_BYTES_MAX} bytes and no control characters")]
pub struct TextError;

impl Text {
    /// Cuts, and escapes control characters: a line of the log stays one line on every screen.
    pub fn new(text: &str) -> Self {
        if text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control) {
            return Self(text.to_owned());
        }
        let mut kept = String::new();
        for character in text.chars() {
            let before = kept.len();
            if character.is_control() {
                let _to_memory = write!(kept, "{}", character.escape_default());
            } else {
                kept.push(character);
            }
            if kept.len() > TEXT_BYTES_MAX.saturating_sub(CUT.len()) {
                kept.truncate(before);
                kept.push_str(CUT);
                break;
            }
        }
        Self(kept)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Text {
    type Error = TextError;
    fn try_from(text: String) -> Result<Self, TextError> {
        if text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
            Err(TextError)
        } else {
            Ok(Self(text))
        }
    }
}

impl From<Text> for String {
    fn from(text: Text) -> String {
        text.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_a_character_and_control_characters_are_escaped() {
        assert_eq!(Text::new("plain é").as_str(), "plain é");
        assert_eq!(Text::new("a\nb\u{1b}[0m").as_str(), "a\\nb\\u{1b}[0m");
        for long in ["é".repeat(TEXT_BYTES_MAX), "\n".repeat(TEXT_BYTES_MAX), "€".repeat(171)] {
            let text = Text::new(&long);
            assert!(text.as_str().len() <= TEXT_BYTES_MAX && text.as_str().ends_with(CUT));
            assert_eq!(Text::try_from(String::from(text.clone())), Ok(text));
        }
        assert_eq!(Text::new(&"a".repeat(TEXT_BYTES_MAX)).as_str().len(), TEXT_BYTES_MAX);
    }

    #[test]
    fn a_reader_takes_no_other_texts() {
        assert!(Text::try_from("a".repeat(TEXT_BYTES_MAX + 1)).is_err());
        assert!(Text::try_from("a\nb".to_owned()).is_err());
    }
}
