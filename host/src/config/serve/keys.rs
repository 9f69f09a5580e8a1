//! `keys` of callers and of who manages: the SHA-256 of each. Whoever takes them for the keys themselves writes a secret there, and
//! errors of the configuration go to logs and to the audit log: what is no digest is not kept, and not shown.

use aral_contract::Digest;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::ServeConfigError;

/// `keys`
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum RawKeys {
    Digests(Vec<Digest>),
    /// Anything else. An error of the parser would show it.
    NotShown(IgnoredAny),
}

impl Default for RawKeys {
    fn default() -> Self {
        Self::Digests(Vec::new())
    }
}

impl RawKeys {
    /// `of` says whose they are.
    pub(super) fn resolve(self, of: impl FnOnce() -> String) -> Result<Vec<Digest>, ServeConfigError> {
        match self {
            Self::Digests(keys) => Ok(keys),
            Self::NotShown(IgnoredAny) => Err(ServeConfigError::Keys(of())),
        }
    }
}
