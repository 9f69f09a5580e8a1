//! What came back, and what it means. A failure says what a caller may know; the text of the server stays here.

use std::error::Error;
use std::time::Duration;

use serde::de::{Deserialize as _, DeserializeOwned, Deserializer};
use zeroize::Zeroizing;

/// A successful answer.
pub(crate) struct Answer(pub(super) Zeroizing<Vec<u8>>);

impl Answer {
    /// The body as JSON.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, VaultFailure> {
        // The message of the parser may quote the body, so it is dropped.
        serde_json::from_slice(&self.0).map_err(|_| VaultFailure::nonsense())
    }

    /// The body as it is.
    pub(crate) fn text(&self) -> Result<&str, VaultFailure> {
        str::from_utf8(&self.0).map_err(|_| VaultFailure::nonsense())
    }
}

/// For a member that is a secret.
pub(super) fn erased<'a, D: Deserializer<'a>>(member: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(member).map(Zeroizing::new)
}

/// Why there is no answer to what was asked.
pub(crate) enum VaultFailure {
    /// The server does not answer now, or not as one.
    Unavailable {
        reason: String,
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// It does not let this token do that.
    Forbidden,
    /// There is nothing there. What came with it says which version was deleted.
    NotFound(Answer),
    /// Somebody else has written meanwhile.
    Conflict,
    /// There is no such key in a transit engine.
    NoKey,
    /// It does not take the request, or the request cannot be made.
    Refused { reason: String },
}

impl VaultFailure {
    pub(super) fn unavailable(reason: impl Into<String>) -> Self {
        Self::Unavailable {
            reason: reason.into(),
            source: None,
        }
    }

    pub(crate) fn refused(reason: impl Into<String>) -> Self {
        Self::Refused { reason: reason.into() }
    }

    pub(crate) fn nonsense() -> Self {
        Self::unavailable("the answer of the Vault server is not what it should be")
    }

    pub(super) fn ended() -> Self {
        Self::unavailable("the host is stopping")
    }

    pub(super) fn slow(timeout: Duration) -> Self {
        Self::unavailable(format!("the Vault server gave no answer in {} ms", timeout.as_millis()))
    }

    /// In words, without the text of the server.
    pub(crate) fn reason(self) -> String {
        match self {
            Self::Unavailable { reason, .. } | Self::Refused { reason } => reason,
            Self::Forbidden => "the Vault server does not let this login do that; its policy needs the path (a token that was revoked or used up meanwhile is replaced within 30 seconds)".to_owned(),
            Self::NotFound(_) => "the Vault server has nothing there".to_owned(),
            Self::Conflict => "the Vault server says that others write the same at the same time".to_owned(),
            Self::NoKey => "the Vault server has no such key".to_owned(),
        }
    }
}

/// What a request that could not be sent, or whose answer broke off, comes to.
pub(super) fn broken(error: reqwest::Error) -> VaultFailure {
    let reason = if error.is_timeout() {
        "the Vault server gave no answer in time"
    } else if mentions(&error, "invalid peer certificate") {
        "the certificate of the Vault server is not trusted; `ca_file` can name the authority that signed it"
    } else if error.is_connect() {
        "the Vault server cannot be reached"
    } else {
        "the connection to the Vault server broke"
    };
    VaultFailure::Unavailable {
        reason: reason.to_owned(),
        // The path is the one of the request and no secret, but nobody needs it twice.
        source: Some(Box::new(error.without_url())),
    }
}

fn mentions(error: &dyn Error, text: &str) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.to_string().contains(text) {
            return true;
        }
        next = error.source();
    }
    false
}

/// What a status means. The body is looked at for two texts alone, which tell apart what has no status of its own.
pub(super) fn judge(status: u16, body: Zeroizing<Vec<u8>>) -> Result<Answer, VaultFailure> {
    let says = |text: &str| contains(&body, text.as_bytes());
    Err(match status {
        200..=204 => return Ok(Answer(body)),
        300..=399 => VaultFailure::unavailable(
            "the Vault server sends to another one, which is not followed; use the address of the active one",
        ),
        400 if says("check-and-set") => VaultFailure::Conflict,
        400 if says("encryption key not found") || says("no existing key named") => VaultFailure::NoKey,
        403 => VaultFailure::Forbidden,
        404 => VaultFailure::NotFound(Answer(body)),
        503 => VaultFailure::unavailable("the Vault server is sealed or in maintenance"),
        // 408, 425 and 429: later. 412: not caught up yet. 472 and 473: a standby.
        408 | 412 | 425 | 429 | 472 | 473 | 500..=599 => {
            VaultFailure::unavailable(format!("the Vault server answers with status {status}"))
        }
        status => VaultFailure::refused(format!("the Vault server does not take the request (status {status})")),
    })
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// What a login that is not taken comes to: the caller cannot tell it from a secret that is not there.
pub(super) fn refused_login(failure: VaultFailure) -> VaultFailure {
    match failure {
        failure @ VaultFailure::Unavailable { .. } => failure,
        VaultFailure::NotFound(_) => {
            VaultFailure::refused("the Vault server has no AppRole login at the `mount` that is configured")
        }
        VaultFailure::Forbidden | VaultFailure::Conflict | VaultFailure::NoKey | VaultFailure::Refused { .. } => {
            VaultFailure::refused(
                "the Vault server does not take the AppRole login; check `role_id` and the secret id (the same one is tried again within 16 minutes, another one at once)",
            )
        }
    }
}
