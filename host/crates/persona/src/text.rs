//! Texts for people and models, none of which may be longer than its place allows.

use serde::{Deserialize as _, Deserializer, de};

/// Reads a text of at most `MAX` bytes.
pub(crate) fn bounded<'de, D: Deserializer<'de>, const MAX: usize>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() > MAX {
        let size = text.len();
        return Err(de::Error::custom(format_args!(
            "a text of {size} bytes is longer than {MAX}"
        )));
    }
    Ok(text)
}
