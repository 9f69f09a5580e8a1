//! Secrets by name: where they are, storing them there, and taking them away.

use aral_contract::event::SecretOperation;
use aral_contract::id::SecretName;
use aral_contract::{EventKind, Failure, SecretError, SecretReference, SecretValue};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Act, Changed, HEAR, Hidden, Operator, Tell};
use crate::storage::{secret_failure, store_failure};

/// Secrets in one page of a listing.
const PAGE_MAX: usize = 1000;

/// Says where a secret is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretGet {
    /// Which.
    pub name: SecretName,
    /// Whether its value is handed out.
    pub reveal: bool,
}

/// Where a secret is.
#[derive(Debug, Serialize, Deserialize)]
pub struct SecretAnswer {
    /// None: nowhere.
    pub reference: Option<SecretReference>,
    /// The value, if that was asked for.
    pub value: Option<Hidden>,
}

/// Stores a secret.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretPut {
    /// Which.
    pub name: SecretName,
    /// The value.
    pub value: Hidden,
    /// Only in place of another one that is there.
    pub rotate: bool,
}

/// Deletes a secret.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretDelete {
    /// Which.
    pub name: SecretName,
}

/// Lists a page of secrets, never their values.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretList {
    /// Where the page begins: `cursor` of the one before.
    pub cursor: Option<String>,
}

/// A page of secrets.
#[derive(Debug, Serialize, Deserialize)]
pub struct SecretNames {
    /// Those of the page.
    pub secrets: Vec<SecretStored>,
    /// Where the next page begins; none: this is the last.
    pub cursor: Option<String>,
}

/// A secret and where it is.
#[derive(Debug, Serialize, Deserialize)]
pub struct SecretStored {
    /// Which.
    pub name: SecretName,
    /// Where.
    pub reference: SecretReference,
}

impl Act for SecretGet {
    const PATH: &'static str = "/v1/secrets/get";
    type Answer = SecretAnswer;

    fn act(self, operator: &Operator, _: Tell<'_>) -> Result<Self::Answer, Failure> {
        let secrets = operator.secrets()?;
        if !self.reveal {
            let located = operator.wait(HEAR, secrets.locate(&self.name))?;
            let reference = located.map_err(store_failure)?;
            return Ok(SecretAnswer { reference, value: None });
        }
        let reference = secrets.reference(&self.name);
        if reference.is_none() {
            return Ok(SecretAnswer { reference, value: None });
        }
        operator.check_recorded()?;
        let (read, noted) = operator.noted_secret(&self.name, SecretOperation::Reveal, secrets.get(&self.name));
        let value = operator.handed_out(read, noted)?;
        Ok(SecretAnswer {
            reference,
            // To the operator who asked for it.
            value: Some(Hidden::new(Zeroizing::new(value.expose().to_vec()))),
        })
    }
}

impl Act for SecretPut {
    const PATH: &'static str = "/v1/secrets/put";
    type Answer = Changed<SecretReference>;

    fn act(self, operator: &Operator, _: Tell<'_>) -> Result<Self::Answer, Failure> {
        operator.check_recorded()?;
        let secrets = operator.secrets()?;
        let value = SecretValue::new(std::mem::take(&mut *self.value.into_inner()));
        let write = async {
            if self.rotate {
                secrets.rotate(&self.name, &value).await
            } else {
                secrets.put(&self.name, &value).await
            }
        };
        let (written, noted) = operator.noted_secret(&self.name, SecretOperation::Write, write);
        operator.changed(written, noted)
    }
}

impl Act for SecretDelete {
    const PATH: &'static str = "/v1/secrets/delete";
    type Answer = Changed<SecretReference>;

    fn act(self, operator: &Operator, _: Tell<'_>) -> Result<Self::Answer, Failure> {
        operator.check_recorded()?;
        let secrets = operator.secrets()?;
        let (deleted, noted) = operator.noted_secret(&self.name, SecretOperation::Delete, secrets.delete(&self.name));
        operator.changed(deleted, noted)
    }
}

impl Act for SecretList {
    const PATH: &'static str = "/v1/secrets/list";
    type Answer = SecretNames;

    fn act(self, operator: &Operator, _: Tell<'_>) -> Result<Self::Answer, Failure> {
        let listed = operator.wait(HEAR, operator.secrets()?.list(self.cursor.as_deref(), PAGE_MAX))?;
        let page = listed.map_err(store_failure)?;
        let stored = |place: aral_memory::SecretPlace| SecretStored {
            name: place.name,
            reference: place.reference,
        };
        Ok(SecretNames {
            secrets: page.secrets.into_iter().map(stored).collect(),
            cursor: page.cursor,
        })
    }
}

impl Operator {
    /// Waits for it: what it comes to, and what is to be noted of that. Of a change this is also that nobody knows, since what was
    /// given up may be done.
    fn noted_secret<T>(
        &self,
        secret: &SecretName,
        operation: SecretOperation,
        act: impl Future<Output = Result<T, SecretError>>,
    ) -> (Result<T, Failure>, EventKind) {
        let changes = matches!(operation, SecretOperation::Write | SecretOperation::Delete);
        let mut is_begun = false;
        let act = async {
            is_begun = true;
            act.await
        };
        let done = self.wait(HEAR, act).map_err(|mut failure| {
            if is_begun && changes {
                failure.message.push_str(", and nobody knows whether it was done");
            }
            failure
        });
        let refused = match &done {
            Ok(done) => done.as_ref().err().map(ToString::to_string),
            Err(failure) => Some(failure.message.clone()),
        };
        let noted = EventKind::SecretAccess {
            capability: None,
            persona: None,
            secret: secret.clone(),
            operation,
            target: None,
            refused,
        };
        let done = done.and_then(|done| done.map_err(|error| secret_failure(&error)));
        (done, noted)
    }
}
