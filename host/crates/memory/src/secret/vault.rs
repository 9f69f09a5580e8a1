//! Secrets in a KV version 2 engine of a Vault-compatible server: one field of a secret is one secret here. Writing one
//! field keeps the others, also when somebody else writes at the same time.

use std::time::Duration;

use aral_contract::secret::SecretFuture;
use aral_contract::{SecretError, SecretReference, SecretSource, SecretValue};
use serde::Deserialize;
use serde_json::{Map, Value};
use vaultrs::api::kv2::requests::{ReadSecretRequest, SetSecretRequest, SetSecretRequestOptions};
use zeroize::{Zeroize as _, Zeroizing};

use super::not_mine;
use crate::vault::{Answer, Erased, Vault, VaultFailure, is_plain_path};

/// How often a write is tried when others write the same secret.
const ATTEMPTS_MAX: u32 = 8;
/// Waited before the second attempt, twice as long before the next.
const FIRST_WAIT: Duration = Duration::from_millis(10);

/// The secrets of a Vault-compatible server.
#[derive(Debug, Clone)]
pub struct VaultSecrets(Vault);

/// One version of a secret, as the server tells it. Its fields are erased when dropped.
#[derive(Deserialize, Default)]
struct Version {
    #[serde(default)]
    data: Option<Fields>,
    #[serde(default)]
    metadata: Metadata,
}

#[derive(Deserialize, Default)]
struct Fields(Map<String, Value>);

#[derive(Deserialize, Default)]
struct Metadata {
    #[serde(default)]
    version: u32,
}

#[derive(Deserialize, Default)]
struct Body {
    #[serde(default)]
    data: Option<Version>,
}

impl Drop for Fields {
    fn drop(&mut self) {
        self.0.values_mut().for_each(erase);
    }
}

/// As deep as the parser lets a document be.
fn erase(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(values) => values.iter_mut().for_each(erase),
        Value::Object(fields) => fields.values_mut().for_each(erase),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
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
            .run(|session| async move { session.exchange(&request).await?.parse::<Body>() });
        let found = read.await.map_err(Failed::from).and_then(|body| value_of(body, &field));
        found.map_err(|failure| told(reference, failure))
    }

    async fn store(&self, reference: &SecretReference, value: &SecretValue) -> Result<SecretReference, SecretError> {
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
                let mut fields = current.data.unwrap_or_default();
                fields.0.insert(field.clone(), Value::String(text.to_string()));
                let set = SetSecretRequest {
                    mount: mount.clone(),
                    path: path.clone(),
                    data: Value::Object(std::mem::take(&mut fields.0)),
                    options: Some(SetSecretRequestOptions {
                        cas: current.metadata.version,
                    }),
                };
                let set = Erased::new(set, |set| erase(&mut set.data));
                let outcome = session.exchange(set.request()).await;
                drop(set);
                match outcome {
                    Ok(_) => return Ok(()),
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
            Ok(()) => Ok(reference.clone()),
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
        Box::pin(self.store(reference, value))
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
    Ok(answer.parse::<Body>()?.data.unwrap_or_default())
}

fn value_of(body: Body, field: &str) -> Result<SecretValue, Failed> {
    let fields = body.data.and_then(|version| version.data).ok_or(Failed::NotFound)?;
    let kind = match fields.0.get(field) {
        Some(Value::String(text)) => return Ok(SecretValue::new(text.as_bytes().to_vec())),
        None => return Err(Failed::NotFound),
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "a boolean",
        Some(Value::Number(_)) => "a number",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(_)) => "an object",
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
