//! A text that may hold a secret because somebody else chose it: a user name where people type passwords, a path that a
//! guest made up. It cannot be printed or serialised in clear.

use std::fmt;

use serde::{Serialize, Serializer};
use zeroize::Zeroizing;

/// What stands for such a text wherever it would be shown.
const MASK: &str = "[sensitive]";

/// The text. Erased when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Sensitive(Zeroizing<String>);

impl Sensitive {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The text in clear. Name the place where it goes next to each call of this.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Sensitive {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_shown_nowhere() {
        let text = Sensitive::new("hunter2".to_owned());
        assert_eq!(format!("{text:?}"), MASK);
        assert_eq!(serde_json::to_string(&text).unwrap(), format!("\"{MASK}\""));
        assert_eq!(text.expose(), "hunter2");
    }
}
