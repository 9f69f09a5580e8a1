//! The nine permissions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What a capability may ask for. Everything else that a component can import is either harmless and always there
/// (log, context, clocks, randomness) or never there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Permission {
    /// HTTP GET, HEAD and OPTIONS.
    #[serde(rename = "network:read")]
    NetworkRead,
    /// HTTP POST, PUT, PATCH and DELETE.
    #[serde(rename = "network:write")]
    NetworkWrite,
    /// Reading files below granted folders.
    #[serde(rename = "file:read")]
    FileRead,
    /// Changing files below granted folders, up to a quota.
    #[serde(rename = "file:write")]
    FileWrite,
    /// Using named secrets.
    #[serde(rename = "secret:read")]
    SecretRead,
    /// Storing named secrets.
    #[serde(rename = "secret:write")]
    SecretWrite,
    /// Reading memory namespaces.
    #[serde(rename = "memory:read")]
    MemoryRead,
    /// Writing memory namespaces, up to a quota.
    #[serde(rename = "memory:write")]
    MemoryWrite,
    /// Running listed programs.
    #[serde(rename = "exec")]
    Exec,
}

impl Permission {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 9] = [
        Self::NetworkRead,
        Self::NetworkWrite,
        Self::FileRead,
        Self::FileWrite,
        Self::SecretRead,
        Self::SecretWrite,
        Self::MemoryRead,
        Self::MemoryWrite,
        Self::Exec,
    ];

    /// The name used in every document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NetworkRead => "network:read",
            Self::NetworkWrite => "network:write",
            Self::FileRead => "file:read",
            Self::FileWrite => "file:write",
            Self::SecretRead => "secret:read",
            Self::SecretWrite => "secret:write",
            Self::MemoryRead => "memory:read",
            Self::MemoryWrite => "memory:write",
            Self::Exec => "exec",
        }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Permission> for String {
    fn from(permission: Permission) -> Self {
        permission.as_str().to_owned()
    }
}

/// A text that names no permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{}` is not a permission: one of network:read, network:write, file:read, file:write, secret:read, secret:write, memory:read, memory:write, exec",
    .0.escape_debug()
)]
pub struct UnknownPermission(pub String);

impl FromStr for Permission {
    type Err = UnknownPermission;
    fn from_str(text: &str) -> Result<Self, UnknownPermission> {
        Self::ALL
            .into_iter()
            .find(|one| one.as_str() == text)
            .ok_or_else(|| UnknownPermission(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_the_same_in_text_and_json() {
        for one in Permission::ALL {
            assert_eq!(one.as_str().parse::<Permission>().unwrap(), one);
            assert_eq!(serde_json::to_value(one).unwrap(), one.as_str());
        }
        assert!("network".parse::<Permission>().is_err());
    }
}
