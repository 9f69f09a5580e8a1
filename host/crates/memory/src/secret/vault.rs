//! Secrets in a KV version 2 engine of a Vault-compatible server: one field of a secret is one secret here. Writing one
//! field keeps the others, also when somebody else writes at the same time.

use std::time::Duration;

use aral_contract::secret::SecretFuture;
use aral_contract::{SecretError, SecretReference, SecretSource, SecretValue};
use rustify::Endpoint;
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use rustify::errors::ClientError;
use vaultrs::api::kv2::requests::ReadSecretRequest;
use zeroize::Zeroizing;

use super::fields::Version;
use super::{CHANGED, is_same, not_mine};
use crate::vault::{Answer, Vault, VaultFailure, is_plain_path};

/// How often a write is tried when others write the same secret.
const ATTEMPTS_MAX: u32 = 8;
/// Waited before the second attempt, twice as long before the next.
const FIRST_WAIT: Duration = Duration::from_millis(10);

/// The secrets of a Vault-compatible server.
#[derive(Debug, Clone)]
pub struct VaultSecrets(Vault);

/// Writes one version, from a body that stands already: the request of `vaultrs` takes the fields parsed.
struct SetFields {
    mount: String,
    path: String,
    body: Zeroizing<Vec<u8>>,
}

impl Endpoint for SetFields {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        format!("{}/data/{}", self.mount, self.path)
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::POST
    }

    fn body(&self) -> Result<Option<Vec<u8>>, ClientError> {
        Ok(Some(self.body.to_vec()))
    }
}

/// What can go wrong beyond what the server says.
enum Failed {
    Vault(VaultFailure),
    NotFound,
    Refused(String),
}

impl From<VaultFailure> for Failed {
    fn from(failure: VaultFailure) -> Self {
        match failure {
            VaultFailure::NotFound(_) => Self::NotFound,
            other => Self::Vault(other),
        }
    }
}

impl VaultSecrets {
    /// The secrets of this server.
    pub fn new(vault: Vault) -> Self {
        Self(vault)
    }

    async fn fetch(&self, reference: &SecretReference) -> Result<SecretValue, SecretError> {
        let (mount, path, field) = parts(reference)?;
        let request = ReadSecretRequest {
            mount,
            path,
            version: None,
        };
        let read = self
            .0
            .run(|session| async move { version_of(&session.exchange(&request).await?) });
        let found = read.await.map_err(Failed::from);
        let found = found.and_then(|version| value_of(&version, &field));
        found.map_err(|failure| told(reference, failure))
    }

    /// With `before` in place of that, and of nothing else. Check-and-set compares the number of the newest version, which stays
    /// when that is deleted or destroyed: whoever does so between the look and the write has the secret back, with all fields.
    async fn store(
        &self,
        reference: &SecretReference,
        before: Option<&SecretValue>,
        value: &SecretValue,
    ) -> Result<SecretReference, SecretError> {
        let (mount, path, field) = parts(reference)?;
        let Ok(text) = str::from_utf8(value.expose()) else {
            return Err(told(
                reference,
                Failed::Refused(
                    "a Vault server keeps text, and the value is not UTF-8; encode it, in base64 say".into(),
                ),
            ));
        };
        let text = Zeroizing::new(text.to_owned());
        let before = before.cloned();
        let write = self.0.run(|session| async move {
            let mut wait = FIRST_WAIT;
            for attempt in 1..=ATTEMPTS_MAX {
                let read = ReadSecretRequest {
                    mount: mount.clone(),
                    path: path.clone(),
                    version: None,
                };
                let current = match session.exchange(&read).await {
                    Ok(answer) => version_of(&answer)?,
                    // A version that was deleted has a number too, and the next one must follow it.
                    Err(VaultFailure::NotFound(answer)) => version_of(&answer).unwrap_or_default(),
                    Err(failure) => return Err(failure),
                };
                if let Some(before) = &before {
                    match value_of(&current, &field) {
                        Ok(there) if is_same(&there, before) => {}
                        Ok(_) => return Ok(Err(Failed::Refused(CHANGED.to_owned()))),
                        Err(failed) => return Ok(Err(failed)),
                    }
                }
                let fields = current.fields.unwrap_or_default();
                let set = SetFields {
                    mount: mount.clone(),
                    path: path.clone(),
                    body: fields
                        .with(&field, &text, current.number)
                        .map_err(|_| VaultFailure::refused("the request cannot be made"))?,
                };
                let outcome = session.exchange(&set).await;
                drop(set);
                match outcome {
                    Ok(_) => return Ok(Ok(())),
                    Err(VaultFailure::Conflict) if attempt < ATTEMPTS_MAX => {
                        tokio::time::sleep(wait).await;
                        wait = wait.saturating_mul(2);
                    }
                    Err(failure) => return Err(failure),
                }
            }
            Err(VaultFailure::Conflict)
        });
        match write.await {
            Ok(Ok(())) => Ok(reference.clone()),
            Ok(Err(failed)) => Err(told(reference, failed)),
            Err(failure) => Err(told(reference, failure.into())),
        }
    }
}

impl SecretSource for VaultSecrets {
    fn read<'a>(&'a self, reference: &'a SecretReference) -> SecretFuture<'a, SecretValue> {
        Box::pin(self.fetch(reference))
    }

    fn write<'a>(
        &'a self,
        reference: &'a SecretReference,
        value: &'a SecretValue,
    ) -> SecretFuture<'a, SecretReference> {
        Box::pin(self.store(reference, None, value))
    }

    fn replace<'a>(
        &'a self,
        reference: &'a SecretReference,
        before: &'a SecretValue,
        value: &'a SecretValue,
    ) -> SecretFuture<'a, SecretReference> {
        Box::pin(self.store(reference, Some(before), value))
    }
}

fn parts(reference: &SecretReference) -> Result<(String, String, String), SecretError> {
    match reference {
        // One that was not parsed but put together may hold anything.
        SecretReference::Vault { mount, path, field } if is_plain_path(mount) && is_plain_path(path) => {
            Ok((mount.clone(), path.clone(), field.clone()))
        }
        SecretReference::Vault { .. } => Err(told(
            reference,
            Failed::Refused("the mount or path has other characters than A-Z a-z 0-9 - _ . /".into()),
        )),
        SecretReference::Local { .. } | SecretReference::Environment { .. } => Err(not_mine(reference)),
    }
}

fn version_of(answer: &Answer) -> Result<Version, VaultFailure> {
    Version::parse(answer.text()?).ok_or_else(VaultFailure::nonsense)
}

fn value_of(version: &Version, field: &str) -> Result<SecretValue, Failed> {
    let fields = version.fields.as_ref().ok_or(Failed::NotFound)?;
    let kind = match fields.text(field) {
        Ok(Some(text)) => return Ok(SecretValue::new(text.as_bytes().to_vec())),
        Ok(None) => return Err(Failed::NotFound),
        Err(kind) => kind,
    };
    Err(Failed::Refused(format!(
        "the field is {kind}, and a secret is a string; store it as one"
    )))
}

fn told(reference: &SecretReference, failure: Failed) -> SecretError {
    let reference = reference.clone();
    match failure {
        Failed::NotFound => SecretError::NotFound { reference },
        Failed::Refused(reason) => SecretError::Refused { reference, reason },
        Failed::Vault(VaultFailure::Unavailable { reason, source }) => SecretError::Unavailable {
            reference,
            reason,
            source,
        },
        Failed::Vault(VaultFailure::Conflict) => SecretError::Unavailable {
            reference,
            reason: VaultFailure::Conflict.reason(),
            source: None,
        },
        Failed::Vault(
            refused @ (VaultFailure::Forbidden
            | VaultFailure::NotFound(_)
            | VaultFailure::NoKey
            | VaultFailure::Refused { .. }),
        ) => SecretError::Refused {
            reference,
            reason: refused.reason(),
        },
    }
}
