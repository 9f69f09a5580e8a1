//! Identifiers. Each is a type of its own with a private field, so that a value that exists has been checked.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::limits::NAME_BYTES_MAX;

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Empty, too long, or with a character outside `[a-z0-9._-]`, or not beginning with `[a-z0-9]`.
    #[error("`{}` is not an identifier: 1 to {NAME_BYTES_MAX} of a-z 0-9 . _ - and a letter or digit first", .0.escape_debug())]
    Name(String),
    /// Not the given number of lower-case hex digits.
    #[error("`{}` is not {digits} lower-case hex digits", .text.escape_debug())]
    Hex {
        /// What was given.
        text: String,
        /// How many digits are needed.
        digits: usize,
    },
}

fn check_name(text: &str) -> Result<(), IdError> {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ok = text.len() <= NAME_BYTES_MAX
        && text.as_bytes().first().is_some_and(&plain)
        && text
            .bytes()
            .all(|byte| plain(&byte) || matches!(byte, b'.' | b'_' | b'-'));
    if ok {
        Ok(())
    } else {
        Err(IdError::Name(text.chars().take(NAME_BYTES_MAX).collect()))
    }
}

// Every event names the capability and the persona, and is freed on another thread: a name is shared, not copied.
macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                check_name(text).map(|()| Self(text.into()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name_type! {
    /// Names a capability in manifests, policies and calls: 1 to 128 of `a-z 0-9 . _ -`, a letter or digit first.
    CapabilityId
}
name_type! {
    /// Names a persona. Same form as [`CapabilityId`].
    PersonaId
}
name_type! {
    /// Names a tier of personas, for which the policy has numbers of its own. Same form as [`CapabilityId`].
    TierName
}
name_type! {
    /// Names somebody who may call the server. Same form as [`CapabilityId`].
    CallerName
}
name_type! {
    /// Names a memory namespace. Same form as [`CapabilityId`].
    Namespace
}
name_type! {
    /// Names a secret. Same form as [`CapabilityId`].
    SecretName
}

fn hex_bytes<const N: usize>(text: &str) -> Result<[u8; N], IdError> {
    let error = || IdError::Hex {
        text: text.chars().take(NAME_BYTES_MAX).collect(),
        digits: N * 2,
    };
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(error()),
    };
    if text.len() != N * 2 {
        return Err(error());
    }
    let mut bytes = [0u8; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        if let [high, low] = pair {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
    }
    Ok(bytes)
}

/// Writes two digits for each byte, and gives them back as a text.
fn hex_digits<'a>(bytes: &[u8], digits: &'a mut [u8]) -> &'a str {
    let digit = |half: u8| if half < 10 { b'0' + half } else { b'a' + half - 10 };
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        if let [high, low] = pair {
            (*high, *low) = (digit(byte >> 4), digit(byte & 0x0f));
        }
    }
    std::str::from_utf8(digits).unwrap_or_default()
}

macro_rules! hex_type {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// From the raw bytes.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                hex_bytes(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.to_string()
            }
        }

        // The digits are made at once and without an allocation: a record of the audit log holds many.
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut digits = [0; $bytes * 2];
                serializer.serialize_str(hex_digits(&self.0, &mut digits))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut digits = [0; $bytes * 2];
                f.write_str(hex_digits(&self.0, &mut digits))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }
    };
}

hex_type! {
    /// SHA-256 of some bytes: 64 lower-case hex digits in text.
    Digest, 32
}
hex_type! {
    /// One request, everywhere: a W3C Trace Context trace-id, 32 lower-case hex digits in text.
    TraceId, 16
}
hex_type! {
    /// One step within a request: a W3C Trace Context parent-id, 16 lower-case hex digits in text.
    SpanId, 8
}
hex_type! {
    /// Names an audit log: drawn when the log is made, 32 lower-case hex digits in text.
    LogId, 16
}
hex_type! {
    /// Names a public key: the first 8 bytes of the SHA-256 of the raw key, 16 lower-case hex digits in text.
    KeyId, 8
}

impl Digest {
    /// The SHA-256 of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The SHA-256 of what these are together.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = Sha256::new();
        parts.into_iter().for_each(|part| hasher.update(part));
        Self(hasher.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_parts_is_that_of_the_whole() {
        let parts = ["a".as_bytes(), b"", b"\0bc"];
        assert_eq!(Digest::of_parts(parts), Digest::of(b"a\0bc"));
        assert_eq!(Digest::of_parts([]), Digest::of(b""));
    }

    #[test]
    fn names() {
        for good in ["a", "text-grep", "0.x_y", &"a".repeat(NAME_BYTES_MAX)] {
            assert_eq!(good.parse::<CapabilityId>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "-a",
            ".a",
            "A",
            "a b",
            "a/b",
            "ä",
            "a\0",
            &"a".repeat(NAME_BYTES_MAX + 1),
        ] {
            assert!(bad.parse::<CapabilityId>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn hex_round_trip_and_strictness() {
        let digest = Digest::of(b"abc");
        assert_eq!(
            digest.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert!(digest.to_string().to_uppercase().parse::<Digest>().is_err());
        assert!("abc".parse::<TraceId>().is_err());
        assert!("é".repeat(16).parse::<TraceId>().is_err());
    }
}
