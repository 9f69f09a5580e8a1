//! The use of secrets: counted, within its deadline, and recorded however it ends. The value passes through here and is
//! shown to nobody; where a secret is kept goes to the log and not to the guest.

use std::sync::Arc;
use std::time::Duration;

use aral_contract::event::SecretOperation;
use aral_contract::id::SecretName;
use aral_contract::{EventKind, Permission, SecretError, SecretReference, SecretValue};
use aral_memory::Secrets;

use super::super::denied;
use crate::bindings::aral::capability::types::Error;
use crate::call::CallRecord;

const NO_SECRETS: &str = "this host has no secret store: add to aral.toml [secrets.names] with a line for each secret, such as NAME = \"env://VARIABLE\", or [memory] to store them here";

/// A use that has begun. It is recorded when it ends; if nobody says how, it was given up.
pub(crate) struct Use {
    call: Arc<CallRecord>,
    secrets: Vec<SecretName>,
    operation: SecretOperation,
    target: Option<String>,
    ended: bool,
}

impl Use {
    /// Counts the use of these secrets; an error: the call has not as many left.
    pub(crate) fn begin(
        call: &Arc<CallRecord>,
        secrets: Vec<SecretName>,
        operation: SecretOperation,
        target: Option<String>,
    ) -> Result<Self, Error> {
        let wanted = u64::try_from(secrets.len()).unwrap_or(u64::MAX);
        if !call.take_secret_calls(wanted) {
            let max = call.frame.grant.limits.secret_calls;
            let reason = format!(
                "the call may use secrets {max} times: raise secret_calls under [limits] in capability.toml, and in the policy"
            );
            let permission = match operation {
                SecretOperation::Inject | SecretOperation::Reveal => Permission::SecretRead,
                SecretOperation::Write | SecretOperation::Delete => Permission::SecretWrite,
            };
            for secret in &secrets {
                call.denied(permission, secret.as_str(), &reason);
            }
            return Err(Error::Limit(reason));
        }
        Ok(Self {
            call: Arc::clone(call),
            secrets,
            operation,
            target,
            ended: false,
        })
    }

    pub(crate) fn call(&self) -> &Arc<CallRecord> {
        &self.call
    }

    /// It was done.
    pub(crate) fn done(&mut self) {
        self.end(None);
    }

    /// It was not.
    pub(crate) fn refused(&mut self, reason: &str) {
        self.end(Some(reason));
    }

    fn end(&mut self, refused: Option<&str>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        for secret in &self.secrets {
            self.call.event(EventKind::SecretAccess {
                capability: Some(self.call.frame.grant.capability.clone()),
                secret: secret.clone(),
                operation: self.operation,
                target: self.target.clone(),
                refused: refused.map(str::to_owned),
            });
        }
    }

    /// The values of its secrets, in their order.
    pub(crate) async fn values(&mut self) -> Result<Vec<SecretValue>, Error> {
        let names = self.secrets.clone();
        self.within_deadline(async |secrets: &Secrets| {
            let mut values = Vec::with_capacity(names.len());
            for name in &names {
                values.push(secrets.get(name).await.map_err(|error| (name.clone(), error))?);
            }
            Ok(values)
        })
        .await
    }

    /// Stores a value under the name of its one secret.
    pub(crate) async fn store(&mut self, value: SecretValue) -> Result<(), Error> {
        let names = self.secrets.clone();
        self.within_deadline(async |secrets: &Secrets| {
            for name in &names {
                let stored: Result<SecretReference, SecretError> = secrets.put(name, &value).await;
                stored.map_err(|error| (name.clone(), error))?;
            }
            Ok(())
        })
        .await
    }

    async fn within_deadline<T>(
        &mut self,
        act: impl AsyncFnOnce(&Secrets) -> Result<T, (SecretName, SecretError)>,
    ) -> Result<T, Error> {
        let limit_ms = self.call.frame.grant.limits.secret_ms;
        let done = match &self.call.frame.secrets {
            None => Err(Error::Unavailable(NO_SECRETS.to_owned())),
            Some(secrets) => match tokio::time::timeout(Duration::from_millis(limit_ms), act(secrets)).await {
                Ok(Ok(value)) => Ok(value),
                Ok(Err((name, error))) => Err(told(&self.call, &name, &error)),
                Err(_) => Err(Error::Limit(format!(
                    "the place of secrets did not answer within `secret_ms`, {limit_ms} ms; what was to be stored may have been stored: raise it under [limits] in capability.toml, and in the policy"
                ))),
            },
        };
        if let Err(error) = &done {
            self.refused(reason_of(error));
        }
        done
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.end(Some("given up before it was done"));
    }
}

/// Whether there is any place for secrets; what cannot be had is better said before a request is built.
pub(super) fn check_present(call: &CallRecord) -> Result<(), Error> {
    match &call.frame.secrets {
        Some(_) => Ok(()),
        None => Err(Error::Unavailable(NO_SECRETS.to_owned())),
    }
}

/// A refusal of the host itself, recorded.
pub(super) fn refuse(call: &CallRecord, permission: Permission, name: &str, reason: &str) -> Error {
    denied(call, permission, name, reason)
}

/// The words of an error.
pub(crate) fn reason_of(error: &Error) -> &str {
    match error {
        Error::InvalidInput(text)
        | Error::Denied(text)
        | Error::Unavailable(text)
        | Error::Limit(text)
        | Error::Internal(text) => text,
    }
}

/// What the guest may know of a failure: not where its secrets are kept.
fn told(call: &CallRecord, name: &SecretName, error: &SecretError) -> Error {
    let source = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(trace = %call.context.trace, %error, source, "a secret could not be used");
    Error::Unavailable(match error {
        SecretError::NotFound { .. } => format!("there is no secret `{name}` where the operator keeps it"),
        SecretError::Unavailable { .. } => format!("the place of secret `{name}` does not answer"),
        SecretError::Refused { .. } => format!("the place of secret `{name}` refuses; the log of the host says why"),
        SecretError::Size { .. } => format!("secret `{name}` is empty, or longer than a secret may be"),
    })
}
