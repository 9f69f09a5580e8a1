//! Secrets: a value that prints nothing and is erased, the reference that says where it is kept, and the trait of the
//! places that keep it. It knows no network and no store.

mod buffer;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use buffer::SecretBuffer;

use crate::id::SecretName;
use crate::limits::NAME_BYTES_MAX;

/// Longest secret, in bytes. Stops a value that no header and no index can hold.
pub const SECRET_BYTES_MAX: usize = 64 << 10;
/// Longest reference, in bytes. Stops a configuration or a server from filling logs with one.
pub const REFERENCE_BYTES_MAX: usize = 1024;

/// The value of a secret. It prints nothing, cannot be serialised, and is erased when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Zeroizing<Vec<u8>>);

impl SecretValue {
    /// Takes the bytes over; the caller's copy is the one that is erased later.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The value in clear. Name the place where it goes next to each call of this.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue")
    }
}

/// Where a secret is kept. In text `vault://MOUNT/PATH#FIELD`, `local://NAME` or `env://VARIABLE`. A reference is no
/// secret: it may be shown and logged.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretReference {
    /// A field of a secret in a KV version 2 engine of a Vault-compatible server.
    Vault {
        /// Path of the engine, such as `secret`.
        mount: String,
        /// Path of the secret in it.
        path: String,
        /// Field of the secret.
        field: String,
    },
    /// The local encrypted store.
    Local {
        /// Its name there.
        name: SecretName,
    },
    /// An environment variable, read once at start.
    Environment {
        /// Its name.
        variable: String,
    },
}

/// A text that is no reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} is not a secret reference: {reason}; write vault://MOUNT/PATH#FIELD, local://NAME or env://VARIABLE", shown(.text.as_deref()))]
pub struct ReferenceError {
    /// What was given, cut. None if it begins with no known scheme: then it may be the secret itself, put where its
    /// reference belongs, and must not reach a log.
    pub text: Option<String>,
    /// What is wrong with it.
    pub reason: &'static str,
}

fn shown(text: Option<&str>) -> String {
    text.map_or_else(
        || "a text that is not shown, as it may be the secret itself,".to_owned(),
        |text| format!("`{}`", text.escape_debug()),
    )
}

fn plain_segment(segment: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !segment.is_empty() && segment != "." && segment != ".." && segment.bytes().all(plain)
}

fn vault(rest: &str) -> Result<SecretReference, &'static str> {
    let (place, field) = rest.split_once('#').ok_or("there is no `#FIELD`")?;
    let (mount, path) = place.split_once('/').ok_or("there is no path after the mount")?;
    if !plain_segment(mount) {
        return Err("the mount has other characters than A-Z a-z 0-9 - _ .");
    }
    if !path.split('/').all(plain_segment) {
        return Err("the path has an empty part, `.`, `..` or other characters than A-Z a-z 0-9 - _ . /");
    }
    if !plain_segment(field) {
        return Err("the field is empty or has other characters than A-Z a-z 0-9 - _ .");
    }
    Ok(SecretReference::Vault {
        mount: mount.to_owned(),
        path: path.to_owned(),
        field: field.to_owned(),
    })
}

fn environment(variable: &str) -> Result<SecretReference, &'static str> {
    let name_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if variable.is_empty()
        || variable.len() > NAME_BYTES_MAX
        || !variable.bytes().all(name_byte)
        || variable.as_bytes().first().is_some_and(u8::is_ascii_digit)
    {
        return Err("a variable has 1 to 128 of A-Z a-z 0-9 _ and no digit first");
    }
    Ok(SecretReference::Environment {
        variable: variable.to_owned(),
    })
}

fn local(name: &str) -> Result<SecretReference, &'static str> {
    let name = name
        .parse()
        .map_err(|_| "a name has 1 to 128 of a-z 0-9 . _ - and a letter or digit first")?;
    Ok(SecretReference::Local { name })
}

impl FromStr for SecretReference {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let scheme = text.split_once("://").map(|(scheme, _)| scheme);
        let known = matches!(scheme, Some("vault" | "local" | "env"));
        let parsed = match text.split_once("://") {
            _ if text.len() > REFERENCE_BYTES_MAX => Err("it is longer than 1024 bytes"),
            Some(("vault", rest)) => vault(rest),
            Some(("local", name)) => local(name),
            Some(("env", variable)) => environment(variable),
            Some(_) => Err("there is no such scheme"),
            None => Err("there is no scheme"),
        };
        parsed.map_err(|reason| ReferenceError {
            text: known.then(|| text.chars().take(128).collect()),
            reason,
        })
    }
}

impl TryFrom<String> for SecretReference {
    type Error = ReferenceError;
    fn try_from(text: String) -> Result<Self, ReferenceError> {
        text.parse()
    }
}

impl From<SecretReference> for String {
    fn from(reference: SecretReference) -> String {
        reference.to_string()
    }
}

impl fmt::Display for SecretReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vault { mount, path, field } => write!(f, "vault://{mount}/{path}#{field}"),
            Self::Local { name } => write!(f, "local://{name}"),
            Self::Environment { variable } => write!(f, "env://{variable}"),
        }
    }
}

/// Why a secret cannot be had. No variant holds a value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is nothing at that place.
    #[error("there is no secret at `{reference}`")]
    NotFound {
        /// Where it was looked for.
        reference: SecretReference,
    },
    /// The place does not answer now; the same may succeed later.
    #[error("the secret at `{reference}` is unavailable: {reason}")]
    Unavailable {
        /// Where it is.
        reference: SecretReference,
        /// Why, without internals.
        reason: String,
        /// What the log may know.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The place refuses: no right to it, or it cannot be written.
    #[error("the secret at `{reference}` is refused: {reason}")]
    Refused {
        /// Where it is.
        reference: SecretReference,
        /// Why, with what would fix it.
        reason: String,
    },
    /// The value is larger than a secret may be, or empty.
    #[error("a secret has 1 to {SECRET_BYTES_MAX} bytes; the one at `{reference}` has {bytes}")]
    Size {
        /// Where it is.
        reference: SecretReference,
        /// Its size.
        bytes: usize,
    },
}

/// The answer of a [`SecretSource`], later.
pub type SecretFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, SecretError>> + Send + 'a>>;

/// A place that keeps secrets. It answers for references of its own scheme alone; caching is not its business.
///
/// It may be asked on any runtime, also on one that ends with the answer: what an operator asks for has one of its own. So what has to
/// outlive an answer, such as the task of a connection that is kept for the next question, runs on a runtime that the source holds.
pub trait SecretSource: Send + Sync + fmt::Debug {
    /// The value at `reference`. Called when no valid copy is cached.
    fn read<'a>(&'a self, reference: &'a SecretReference) -> SecretFuture<'a, SecretValue>;

    /// Stores a value at `reference`, in place of the one before. What it returns says where the value is now, never what
    /// it is.
    fn write<'a>(&'a self, reference: &'a SecretReference, value: &'a SecretValue)
    -> SecretFuture<'a, SecretReference>;

    /// The same, in place of `before` and of nothing else: [`SecretError::NotFound`] if there is nothing any more, and
    /// [`SecretError::Refused`] if there is something else by now. A place that cannot compare and write at once does not see
    /// what others do in between; a Vault server does not see that they deleted it.
    fn replace<'a>(
        &'a self,
        reference: &'a SecretReference,
        before: &'a SecretValue,
        value: &'a SecretValue,
    ) -> SecretFuture<'a, SecretReference> {
        let _cannot_be_compared = before;
        self.write(reference, value)
    }

    /// Deletes what is at `reference`, so that nothing reads it again. A place that keeps earlier values for others to read
    /// refuses, because it could not promise that; so does every place that does not say otherwise.
    fn delete<'a>(&'a self, reference: &'a SecretReference) -> SecretFuture<'a, ()> {
        let refused = SecretError::Refused {
            reference: reference.clone(),
            reason: "the host does not delete in this place; delete it there".to_owned(),
        };
        Box::pin(std::future::ready(Err(refused)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_round_trip() {
        for good in [
            "vault://secret/app#token",
            "vault://kv-2/a/b.c/d_e#field.1",
            "local://github",
            "env://API_KEY",
        ] {
            assert_eq!(good.parse::<SecretReference>().unwrap().to_string(), good);
        }
    }

    #[test]
    fn malformed_references_say_what_is_wrong() {
        for (bad, reason) in [
            ("", "no scheme"),
            ("secret/app#token", "no scheme"),
            ("http://secret/app#token", "no such scheme"),
            ("vault://secret/app", "no `#FIELD`"),
            ("vault://secret#token", "no path"),
            ("vault:///app#token", "mount"),
            ("vault://secret/#token", "path"),
            ("vault://secret/a//b#token", "path"),
            ("vault://secret/../sys#token", "path"),
            ("vault://secret/a?version=1#token", "path"),
            ("vault://secret/a%2f#token", "path"),
            ("vault://secret/app#", "field"),
            ("vault://secret/app#a#b", "field"),
            ("vault://secret/app#a\nb", "field"),
            ("local://", "name"),
            ("local://A", "name"),
            ("env://", "variable"),
            ("env://1A", "variable"),
            ("env://A-B", "variable"),
            (&format!("env://{}", "A".repeat(NAME_BYTES_MAX + 1)), "variable"),
        ] {
            let error = bad.parse::<SecretReference>().unwrap_err();
            assert!(error.reason.contains(reason), "{bad:?}: {error}");
        }
        let long = format!("vault://secret/{}#f", "a".repeat(REFERENCE_BYTES_MAX));
        assert!(long.parse::<SecretReference>().is_err());
    }

    #[test]
    fn a_secret_in_place_of_its_reference_is_not_shown() {
        for pasted in ["hunter2", "ghp://hunter2", "hunter2://x", "://hunter2"] {
            let error = pasted.parse::<SecretReference>().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
        }
        let shown = "vault://secret/app".parse::<SecretReference>().unwrap_err();
        assert!(shown.to_string().contains("`vault://secret/app`"), "{shown}");
    }

    #[test]
    fn a_value_prints_nothing() {
        let value = SecretValue::new(b"hunter2".to_vec());
        assert_eq!(format!("{value:?}"), "SecretValue");
        assert_eq!(value.expose(), b"hunter2");
    }
}
