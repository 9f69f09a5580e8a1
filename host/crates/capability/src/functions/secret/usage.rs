//! The use of secrets: counted, within its deadline, and recorded however it ends. The value passes through here and is
//! shown to nobody; where a secret is kept goes to the log and not to the guest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aral_contract::event::SecretOperation;
use aral_contract::id::SecretName;
use aral_contract::{EventKind, Permission, SecretError, SecretValue};
use aral_memory::{Secrets, WriteEnded};

use super::super::{denied, reason_of};
use crate::bindings::aral::capability::types::Error;
use crate::call::CallRecord;
use crate::places::Place;

const NO_SECRETS: &str = "this host has no secret store: add to aral.toml [secrets.names] with a line for each secret, such as NAME = \"env://VARIABLE\", or [memory] to store them here";

/// A use that has begun. It is recorded when it ends; if nobody says how, it was given up.
pub(crate) struct Use(Arc<Recorder>);

/// Makes one event of each secret, once, wherever it is first known how the use ended.
struct Recorder {
    call: Arc<CallRecord>,
    secrets: Vec<SecretName>,
    operation: SecretOperation,
    target: Option<String>,
    ended: AtomicBool,
    /// Whether it waits for a place.
    waits: AtomicBool,
}

impl Recorder {
    fn end(&self, refused: Option<&str>) {
        if self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        for secret in &self.secrets {
            self.call.event(EventKind::SecretAccess {
                capability: Some(self.call.frame.grant.capability.clone()),
                persona: Some(self.call.frame.grant.persona.clone()),
                secret: secret.clone(),
                operation: self.operation,
                target: self.target.clone(),
                refused: refused.map(str::to_owned),
            });
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.end(Some(match self.operation {
            SecretOperation::Inject | SecretOperation::Reveal => "given up before it was done",
            SecretOperation::Write | SecretOperation::Delete => {
                "given up before it was known to be done: it may have been done nevertheless"
            }
        }));
    }
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
        Ok(Self(Arc::new(Recorder {
            call: Arc::clone(call),
            secrets,
            operation,
            target,
            ended: AtomicBool::new(false),
            waits: AtomicBool::new(false),
        })))
    }

    pub(crate) fn call(&self) -> &Arc<CallRecord> {
        &self.0.call
    }

    /// It was done.
    pub(crate) fn done(&self) {
        self.0.end(None);
    }

    /// It was not.
    pub(crate) fn refused(&self, reason: &str) {
        self.0.end(Some(reason));
    }

    /// The values of its secrets, in their order.
    pub(crate) async fn values(&self) -> Result<Vec<SecretValue>, Error> {
        self.within_deadline(async |secrets: &Secrets| {
            let mut values = Vec::with_capacity(self.0.secrets.len());
            for name in &self.0.secrets {
                if let Some(value) = secrets.at_hand(name) {
                    values.push(value);
                    continue;
                }
                // Given back before the next one is asked for, which may be in a place that hangs, but not before a local read has
                // ended, also where nobody waits any more.
                let place = self.turn(secrets, name).await;
                let value = secrets.get_holding(name, place).await;
                values.push(value.map_err(|error| failed(&self.0.call, name, &error))?);
            }
            Ok(values)
        })
        .await
    }

    /// Stores a value under the name of its one secret. From here on it may happen whether or not the guest still waits, and is
    /// recorded where that is known.
    pub(crate) async fn store(&self, value: SecretValue) -> Result<(), Error> {
        self.within_deadline(async |secrets: &Secrets| {
            for name in &self.0.secrets {
                let place = self.turn(secrets, name).await;
                let (recorder, own) = (Arc::clone(&self.0), name.clone());
                let ended: WriteEnded = Box::new(move |written| {
                    // Taken until the write has ended, also where nobody waits any more.
                    let _place = place;
                    match written {
                        Ok(()) => recorder.end(None),
                        Err(error) => recorder.end(Some(reason_of(&failed(&recorder.call, &own, error)))),
                    }
                });
                let stored = secrets.put_told(name, &value, ended).await;
                stored.map_err(|error| {
                    // What was told above is in the log.
                    if self.0.ended.load(Ordering::Relaxed) {
                        return told(name, &error);
                    }
                    failed(&self.0.call, name, &error)
                })?;
            }
            Ok(())
        })
        .await
    }

    /// Waits for a place of its persona's where this secret is; none: it needs none.
    async fn turn(&self, secrets: &Secrets, name: &SecretName) -> Option<Place> {
        let frame = &self.0.call.frame;
        let reference = secrets.reference(name)?;
        let places = frame.services.secret_uses.of(&reference)?;
        self.0.waits.store(true, Ordering::Relaxed);
        let place = places.take(&frame.grant.persona).await;
        self.0.waits.store(false, Ordering::Relaxed);
        place
    }

    async fn within_deadline<T>(&self, act: impl AsyncFnOnce(&Secrets) -> Result<T, Error>) -> Result<T, Error> {
        let frame = &self.0.call.frame;
        let limit_ms = frame.grant.limits.secret_ms;
        let done = match &frame.services.secrets {
            None => Err(Error::Unavailable(NO_SECRETS.to_owned())),
            Some(secrets) => {
                let done = tokio::time::timeout(Duration::from_millis(limit_ms), act(secrets)).await;
                done.unwrap_or_else(|_elapsed| Err(Error::Limit(self.late(limit_ms))))
            }
        };
        // Where another one holds the recorder, a write goes on, and how it ends is known there alone.
        if let Err(error) = &done
            && Arc::strong_count(&self.0) == 1
        {
            self.refused(reason_of(error));
        }
        done
    }

    /// What was not in time. That a place does not answer is for the log of the host, too: no guest can repair it.
    fn late(&self, limit_ms: u64) -> String {
        let stores = match self.0.operation {
            SecretOperation::Inject | SecretOperation::Reveal => false,
            SecretOperation::Write | SecretOperation::Delete => true,
        };
        if self.0.waits.load(Ordering::Relaxed) {
            let stored = if stores { "; nothing was stored" } else { "" };
            return format!(
                "the guests of this persona use as many secrets as they may at once, and this use had no turn within `secret_ms`, {limit_ms} ms{stored}: call again later, or raise it under [limits] in capability.toml, and in the policy"
            );
        }
        let names: Vec<&str> = self.0.secrets.iter().map(SecretName::as_str).collect();
        let (trace, secrets) = (self.0.call.context.trace, names.join(", "));
        tracing::warn!(%trace, secrets, limit_ms, "the place of a secret did not answer within `secret_ms`");
        let stored = if stores {
            "; what was to be stored may have been stored"
        } else {
            ""
        };
        format!(
            "the place of secrets did not answer within `secret_ms`, {limit_ms} ms{stored}: if it is slow and not down, raise it under [limits] in capability.toml, and in the policy"
        )
    }
}

/// Whether there is any place for secrets; what cannot be had is better said before a request is built.
pub(super) fn check_present(call: &CallRecord) -> Result<(), Error> {
    match &call.frame.services.secrets {
        Some(_) => Ok(()),
        None => Err(Error::Unavailable(NO_SECRETS.to_owned())),
    }
}

/// A refusal of the host itself, recorded.
pub(super) fn refuse(call: &CallRecord, permission: Permission, name: &str, reason: &str) -> Error {
    denied(call, permission, name, reason)
}

/// A failure, for the log with its cause, and for the guest.
fn failed(call: &CallRecord, name: &SecretName, error: &SecretError) -> Error {
    let source = std::error::Error::source(error).map(ToString::to_string);
    tracing::warn!(trace = %call.context.trace, %error, source, "a secret could not be used");
    told(name, error)
}

/// What the guest may know of a failure: not where its secrets are kept.
fn told(name: &SecretName, error: &SecretError) -> Error {
    Error::Unavailable(match error {
        SecretError::NotFound { .. } => format!("there is no secret `{name}` where the operator keeps it"),
        SecretError::Unavailable { .. } => format!("the place of secret `{name}` does not answer"),
        SecretError::Refused { .. } => format!("the place of secret `{name}` refuses; the log of the host says why"),
        SecretError::Size { .. } => format!("secret `{name}` is empty, or longer than a secret may be"),
    })
}
