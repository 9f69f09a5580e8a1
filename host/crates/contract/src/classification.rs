//! How sensitive a value is. The words of the ABI, of the store and of every event.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How sensitive a value is. The order is the order of sensitivity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Classification {
    /// May be shown to anybody.
    Public,
    /// May be shown inside the organisation.
    Internal,
    /// May be shown to those who need it.
    Confidential,
    /// May be shown to nobody but the one who stored it.
    Secret,
}

/// A word that is none of the four.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a classification: public, internal, confidential or secret", .0.escape_debug())]
pub struct ClassificationError(pub String);

impl Classification {
    /// All of them, least sensitive first.
    pub const ALL: [Self; 4] = [Self::Public, Self::Internal, Self::Confidential, Self::Secret];

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Internal => "internal",
            Self::Confidential => "confidential",
            Self::Secret => "secret",
        }
    }
}

impl fmt::Display for Classification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Classification {
    type Err = ClassificationError;
    fn from_str(text: &str) -> Result<Self, ClassificationError> {
        Self::ALL
            .into_iter()
            .find(|one| one.as_str() == text)
            .ok_or_else(|| ClassificationError(text.chars().take(32).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip_and_are_ordered() {
        for one in Classification::ALL {
            assert_eq!(one.to_string().parse::<Classification>().unwrap(), one);
        }
        assert!(Classification::Public < Classification::Secret);
        assert!("Secret".parse::<Classification>().is_err());
    }
}
