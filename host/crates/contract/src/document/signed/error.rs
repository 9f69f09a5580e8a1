//! Why a document is not admitted, and what the caller is told about it.

use jiff::Timestamp;

use super::Kind;
use crate::document::json::JsonError;
use crate::failure::{Code, Failure};
use crate::id::KeyId;
use crate::limits::DOCUMENT_BYTES_MAX;

/// Why a document is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Longer than [`DOCUMENT_BYTES_MAX`].
    #[error("the {} is {size} bytes, more than {DOCUMENT_BYTES_MAX}", .kind.as_str())]
    TooLarge {
        /// What it should be.
        kind: Kind,
        /// Its size.
        size: usize,
    },
    /// Not strict JSON.
    #[error("the {} is {error}", .kind.as_str())]
    Json {
        /// What it should be.
        kind: Kind,
        /// What is wrong.
        error: JsonError,
    },
    /// Members that are missing, unknown or of the wrong type.
    #[error("the {} has a wrong member: {detail}", .kind.as_str())]
    Shape {
        /// What it should be.
        kind: Kind,
        /// What is wrong.
        detail: String,
        /// The line that fixes it, where there is one.
        hint: Option<String>,
    },
    /// Another kind of document, or another version.
    #[error("the document is `{}`, not `{}`", .found.escape_debug(), .kind.schema())]
    WrongKind {
        /// What it should be.
        kind: Kind,
        /// What it says.
        found: String,
    },
    /// There is no signature.
    #[error("the {} is not signed", .kind.as_str())]
    Unsigned {
        /// What it is.
        kind: Kind,
    },
    /// Signed with something else than Ed25519.
    #[error("the {} is signed with `{}`, not `Ed25519`", .kind.as_str(), .algorithm.escape_debug())]
    Algorithm {
        /// What it is.
        kind: Kind,
        /// What it says.
        algorithm: String,
    },
    /// The key is not in the trust store.
    #[error("the {} is signed by key `{key}`, which is not trusted", .kind.as_str())]
    UnknownKey {
        /// What it is.
        kind: Kind,
        /// Which key.
        key: KeyId,
    },
    /// The key is in the trust store, but not for this kind of document.
    #[error("the {} is signed by key `{key}`, which is not trusted for this kind of document", .kind.as_str())]
    WrongKeyKind {
        /// What it is.
        kind: Kind,
        /// Which key.
        key: KeyId,
    },
    /// The key was revoked.
    #[error("the {} is signed by key `{key}`, which is revoked", .kind.as_str())]
    RevokedKey {
        /// What it is.
        kind: Kind,
        /// Which key.
        key: KeyId,
    },
    /// The key is trusted later.
    #[error("the {} is signed by key `{key}`, which is not trusted before {not_before}; it is {now}", .kind.as_str())]
    KeyNotYetValid {
        /// What it is.
        kind: Kind,
        /// Which key.
        key: KeyId,
        /// From when.
        not_before: Timestamp,
        /// The time of the check.
        now: Timestamp,
    },
    /// The key was trusted earlier.
    #[error("the {} is signed by key `{key}`, which is not trusted since {not_after}; it is {now}", .kind.as_str())]
    KeyExpired {
        /// What it is.
        kind: Kind,
        /// Which key.
        key: KeyId,
        /// Since when.
        not_after: Timestamp,
        /// The time of the check.
        now: Timestamp,
    },
    /// The signature fits another way of writing the same text.
    #[error("the signature of the {} by key `{key}` is over a form in which letters beyond ASCII are escaped", .kind.as_str())]
    Escaped {
        /// What it is.
        kind: Kind,
        /// Which key.
        key: KeyId,
    },
    /// The signature does not fit.
    #[error("the signature of the {} by key `{key}` is wrong: the document was changed after it was signed", .kind.as_str())]
    Signature {
        /// What it is.
        kind: Kind,
        /// Which key.
        key: KeyId,
    },
    /// Issued in the future.
    #[error("the {} is not valid before {issued_at}; it is {now}", .kind.as_str())]
    NotYetValid {
        /// What it is.
        kind: Kind,
        /// From when.
        issued_at: Timestamp,
        /// The time of the check.
        now: Timestamp,
    },
    /// Expired.
    #[error("the {} expired at {expires_at}; it is {now}", .kind.as_str())]
    Expired {
        /// What it is.
        kind: Kind,
        /// Since when.
        expires_at: Timestamp,
        /// The time of the check.
        now: Timestamp,
    },
}

impl DocumentError {
    /// Whether the document may have been good once, and only time or the trust speaks against it.
    pub fn is_lapse(&self) -> bool {
        matches!(
            self,
            Self::Expired { .. }
                | Self::KeyExpired { .. }
                | Self::RevokedKey { .. }
                | Self::UnknownKey { .. }
                | Self::WrongKeyKind { .. }
        )
    }

    /// With the line that fixes a wrong member, which only whoever knows the members can tell.
    #[must_use]
    pub fn or_hint(mut self, known: impl FnOnce() -> Option<String>) -> Self {
        if let Self::Shape { hint: hint @ None, .. } = &mut self {
            *hint = known();
        }
        self
    }

    fn code_and_hint(&self) -> (Code, Option<String>) {
        match self {
            Self::Shape { hint, .. } => (Code::DocumentInvalid, hint.clone()),
            Self::TooLarge { .. } | Self::Json { .. } | Self::WrongKind { .. } => (Code::DocumentInvalid, None),
            Self::Unsigned { kind } => (
                Code::SignatureInvalid,
                Some(match kind {
                    Kind::Manifest => "sign it: `aral manifest sign`".to_owned(),
                    Kind::Persona => "sign it: `aral persona sign FILE --key KEY.pem`".to_owned(),
                    Kind::Checkpoint => "take the checkpoint as the audit log wrote it".to_owned(),
                }),
            ),
            Self::UnknownKey { kind, .. } | Self::WrongKeyKind { kind, .. } => (
                Code::SignatureInvalid,
                Some(format!(
                    "add to aral.toml, [[trust]]: public_key = \"KEY.pub.pem\" and kinds = [\"{}\"]",
                    kind.as_str()
                )),
            ),
            Self::RevokedKey { kind, .. } | Self::KeyExpired { kind, .. } => (
                Code::SignatureInvalid,
                Some(match kind {
                    Kind::Manifest => "sign it with a key that is trusted: `aral manifest sign`".to_owned(),
                    Kind::Persona => "sign it with a key that is trusted: `aral persona sign`".to_owned(),
                    Kind::Checkpoint => "nothing makes what a revoked key signed believable again".to_owned(),
                }),
            ),
            Self::KeyNotYetValid { key, not_before, .. } => (
                Code::SignatureInvalid,
                Some(format!("wait until {not_before}, or change not_before of key `{key}` in aral.toml, [[trust]]")),
            ),
            Self::Escaped { .. } => (
                Code::SignatureInvalid,
                Some(
                    "sign the canonical form of RFC 8785; in Python: json.dumps(document, sort_keys=True, separators=(\",\", \":\"), ensure_ascii=False).encode()"
                        .to_owned(),
                ),
            ),
            Self::Algorithm { .. } | Self::Signature { .. } => (Code::SignatureInvalid, None),
            Self::NotYetValid { .. } => (Code::DocumentStale, None),
            Self::Expired { kind, .. } => (
                Code::DocumentStale,
                Some(match kind {
                    Kind::Manifest => "issue it again with a higher serial: `aral manifest sign`".to_owned(),
                    Kind::Persona => "issue it again with a higher serial: `aral persona sign`".to_owned(),
                    Kind::Checkpoint => {
                        "checkpoints of an audit log do not expire: this one is of something else".to_owned()
                    }
                }),
            ),
        }
    }
}

impl From<DocumentError> for Failure {
    fn from(error: DocumentError) -> Self {
        let (code, hint) = error.code_and_hint();
        Self {
            hint,
            ..Self::new(code, error.to_string())
        }
    }
}
