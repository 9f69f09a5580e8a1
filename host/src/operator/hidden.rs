//! Values on their way between a verb and the process that keeps them: base64 in JSON, and nowhere shown.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// A value that is erased when dropped, and that no log can print.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(Zeroizing<Vec<u8>>);

impl Hidden {
    /// Takes the value over.
    pub fn new(value: Zeroizing<Vec<u8>>) -> Self {
        Self(value)
    }

    /// The value. Name the place where it goes next to each call of this.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// The value itself.
    pub fn into_inner(self) -> Zeroizing<Vec<u8>> {
        self.0
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(self.0.as_slice())))
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // The parser's own words would show the value, or a part of it.
        let wrong = || <D::Error as serde::de::Error>::custom("a value is not base64");
        let text = Zeroizing::new(String::deserialize(deserializer).map_err(|_| wrong())?);
        let value = STANDARD.decode(text.as_bytes()).map_err(|_| wrong())?;
        Ok(Self(Zeroizing::new(value)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_travels_and_is_not_shown() {
        let hidden = Hidden::new(Zeroizing::new(b"\0hunter2\xff".to_vec()));
        let text = serde_json::to_string(&hidden).unwrap();
        assert_eq!(serde_json::from_str::<Hidden>(&text).unwrap(), hidden);
        assert_eq!(format!("{hidden:?}"), "[hidden]");
        for (text, value) in [("\"hunter2!\"", "hunter2"), ("271828", "271828")] {
            let error = serde_json::from_str::<Hidden>(text).unwrap_err();
            assert!(!error.to_string().contains(value), "{error}");
        }
    }
}
