//! Secrets on their way into a request. A mark says which secrets belong to which request; when that is sent, each is
//! checked against its scope, fetched, and filled into its header. The values live here and on the wire, and nowhere else.

mod form;

use std::collections::HashMap;
use std::sync::Arc;

use aral_contract::event::SecretOperation;
use aral_contract::host_pattern::{Host, Origin, Scheme};
use aral_contract::scope::SecretScope;
use aral_contract::{Grant, Permission, Permissions, SecretValue};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use wasmtime_wasi_http::Error;
use zeroize::Zeroizing;

pub(super) use form::unsearchable;

use super::mask::Echoes;
use super::rules;
use crate::bindings::aral::capability::types::Error as GuestError;
use crate::call::CallRecord;
use crate::fields;
use crate::functions::secret::usage::Use;
use crate::functions::{held_back, reason_of};

/// Shortest secret that is injected, in bytes. A shorter one could be guessed by sending every candidate to a server that
/// echoes, and by seeing which one comes back masked.
pub const SECRET_INJECTED_BYTES_MIN: usize = 12;
/// Longest one, in bytes. Stops a secret that no server takes, and bounds what of an answer is held back.
pub const SECRET_INJECTED_BYTES_MAX: usize = 8 << 10;
/// Most secrets on one request. Stops one that has them fetched, and looked for in its answer, without end.
const SECRETS_PER_REQUEST_MAX: usize = 4;

/// Which requests carry which secrets, by their index in the resource table. An index is used again once its request is
/// gone: whoever sends or drops a request forgets its mark first.
#[derive(Default)]
pub(super) struct Marks(HashMap<u32, Vec<SecretScope>>);

impl Marks {
    /// Marks a request; an error says why not.
    pub(super) fn attach(&mut self, request: u32, secret: SecretScope) -> Result<(), String> {
        let marks = self.0.entry(request).or_default();
        if marks.contains(&secret) {
            return Ok(());
        }
        let header = header_of(&secret);
        if let Some(other) = marks.iter().find(|one| fields::are_one(header_of(one), header)) {
            return Err(format!(
                "secrets `{}` and `{}` both belong into header `{header}`: attach one of them to a request",
                other.name, secret.name
            ));
        }
        if marks.len() >= SECRETS_PER_REQUEST_MAX {
            return Err(format!("a request carries at most {SECRETS_PER_REQUEST_MAX} secrets"));
        }
        marks.push(secret);
        Ok(())
    }

    /// The secrets of a request, which has none from now on.
    pub(super) fn take(&mut self, request: u32) -> Vec<SecretScope> {
        self.0.remove(&request).unwrap_or_default()
    }
}

/// Why a request may not carry a secret, with the line that would allow it.
pub(super) struct Denial {
    pub(super) secret: String,
    pub(super) reason: String,
}

/// Whether a request to this origin, with these headers of the guest, may carry these secrets.
pub(super) fn check(
    grant: &Grant,
    secrets: &[SecretScope],
    origin: &Origin,
    headers: &HeaderMap,
) -> Result<(), Denial> {
    for secret in secrets {
        let name = &secret.name;
        let denial = |reason: String| {
            Err(Denial {
                secret: name.to_string(),
                reason,
            })
        };
        if !secret.hosts.iter().any(|host| host.covers(origin)) {
            let is_cut = |cut: &Permissions| {
                let mut secrets = cut.secret_read.iter().flat_map(|scope| &scope.secrets);
                secrets.any(|one| one.name == *name && one.hosts.iter().any(|host| host.covers(origin)))
            };
            let what = format!("secret `{name}` for `{origin}`");
            return denial(held_back(grant, &what, is_cut).unwrap_or_else(|| {
                format!("secret `{name}` may not go to `{origin}`: add \"{origin}\" to its `hosts` in capability.toml, [permissions.\"secret:read\"], and to the policy")
            }));
        }
        if origin.scheme == Scheme::Http && !may_be_plain(grant, &origin.host) {
            return denial(format!(
                "secret `{name}` does not travel in clear text: use https; to this machine alone it may, with aral.toml, [policy.secret]: plain_loopback = true"
            ));
        }
        let header = header_of(secret);
        if headers.keys().any(|name| fields::are_one(name.as_str(), header)) {
            return denial(format!(
                "the request has a header `{header}` of its own, where secret `{name}` belongs: leave it out of the request"
            ));
        }
    }
    Ok(())
}

/// Where a secret belongs.
fn header_of(secret: &SecretScope) -> &str {
    secret.header.as_deref().unwrap_or_default()
}

/// A name is let through here: its addresses are checked once they are known.
fn may_be_plain(grant: &Grant, host: &Host) -> bool {
    grant.secret_plain_loopback
        && match host {
            Host::Name(_) => true,
            Host::Address(address) => address.is_loopback(),
        }
}

/// Secrets that were fetched for one request.
pub(super) struct Injection {
    usage: Use,
    fields: Vec<(HeaderName, HeaderValue)>,
    echoes: Arc<Echoes>,
    /// The first of them, for messages.
    name: String,
}

impl Injection {
    /// Fetches the values for a request that was checked.
    pub(super) async fn fetch(
        call: &Arc<CallRecord>,
        secrets: Vec<SecretScope>,
        origin: &Origin,
    ) -> Result<Option<Self>, Error> {
        let Some(first) = secrets.first() else {
            return Ok(None);
        };
        let name = first.name.to_string();
        let names = secrets.iter().map(|secret| secret.name.clone()).collect();
        let usage = Use::begin(call, names, SecretOperation::Inject, Some(origin.to_string()));
        let usage = usage.map_err(|error| error_of(call, &error))?;
        let values = usage.values().await.map_err(|error| error_of(call, &error))?;
        let mut fields = Vec::with_capacity(secrets.len());
        for (secret, value) in secrets.iter().zip(&values) {
            match field(secret, value) {
                Ok(field) => fields.push(field),
                Err(problem) => {
                    let reason = format!("secret `{}` cannot travel in a header: {problem}", secret.name);
                    call.denied(Permission::SecretRead, secret.name.as_str(), &reason);
                    usage.refused(&reason);
                    return Err(Error::HttpRequestDenied);
                }
            }
        }
        Ok(Some(Self {
            usage,
            fields,
            echoes: Echoes::of(&values),
            name,
        }))
    }

    /// Fills the headers in. What would let a guest have the answer in a form in which echoes cannot be found is left out.
    pub(super) fn fill(&self, headers: &mut HeaderMap) {
        rules::take_out(headers, |name| fields::asks_for_form(name.as_str()));
        let mut accepted = headers.get_all(header::ACCEPT).into_iter();
        if accepted.any(|types| form::names_other_characters(types.as_bytes())) {
            headers.remove(header::ACCEPT);
        }
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        for (name, value) in &self.fields {
            headers.insert(name.clone(), value.clone());
        }
    }

    /// The request goes out now.
    pub(super) fn sent(self) -> Carried {
        self.usage.done();
        Carried {
            call: Arc::clone(self.usage.call()),
            echoes: self.echoes,
            name: self.name,
        }
    }

    /// The addresses of the host are not of this machine.
    pub(super) fn refuse_clear_text(self, origin: &Origin) -> Error {
        let reason = format!(
            "secret `{}` does not travel in clear text, and `{origin}` is not this machine: use https",
            self.name
        );
        self.usage.call().denied(Permission::SecretRead, &self.name, &reason);
        self.usage.refused(&reason);
        Error::HttpRequestDenied
    }
}

/// What is left of secrets that are on their way: the echoes to look for.
pub(super) struct Carried {
    pub(super) echoes: Arc<Echoes>,
    call: Arc<CallRecord>,
    name: String,
}

impl Carried {
    /// The guest does not get the answer.
    pub(super) fn refuse_answer(&self, why: &str) {
        let reason = format!(
            "{why}, where an echo of secret `{}` could not be found: the server has to answer whole, unpacked and in UTF-8",
            self.name
        );
        self.call.denied(Permission::SecretRead, &self.name, &reason);
    }
}

/// Whether a request can carry a secret of this value; an error says what is wrong with the value, and not what it is.
pub fn check_value(bytes: &[u8]) -> Result<(), String> {
    if bytes.len() < SECRET_INJECTED_BYTES_MIN {
        return Err(format!("it is shorter than {SECRET_INJECTED_BYTES_MIN} bytes"));
    }
    if bytes.len() > SECRET_INJECTED_BYTES_MAX {
        return Err(format!("it is longer than {SECRET_INJECTED_BYTES_MAX} bytes"));
    }
    let spaced = bytes.first() == Some(&b' ') || bytes.last() == Some(&b' ');
    if spaced || !bytes.iter().all(|byte| (0x20..0x7f).contains(byte)) {
        return Err(
            "it has a line end or another character that is not printable ASCII, or a space at an end; store it without"
                .to_owned(),
        );
    }
    Ok(())
}

/// The header of a secret; an error says what is wrong.
fn field(secret: &SecretScope, value: &SecretValue) -> Result<(HeaderName, HeaderValue), String> {
    let bytes = value.expose();
    check_value(bytes)?;
    let name = HeaderName::from_bytes(header_of(secret).as_bytes());
    let name = name.map_err(|_| "its header is not one".to_owned())?;
    let prefix = secret.prefix.as_deref().unwrap_or_default();
    let mut text = Zeroizing::new(Vec::with_capacity(prefix.len().saturating_add(bytes.len())));
    text.extend_from_slice(prefix.as_bytes());
    text.extend_from_slice(bytes);
    // Not copied from here to the connection, and erased with the last that holds it.
    let mut value = HeaderValue::from_maybe_shared(Bytes::from_owner(text))
        .map_err(|_| "its prefix does not fit into a header".to_owned())?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// What a guest that sends sees of a failure: it may come again later, or not.
fn error_of(call: &CallRecord, error: &GuestError) -> Error {
    tracing::debug!(trace = %call.context.trace, reason = reason_of(error), "a request was not sent for want of a secret");
    match error {
        GuestError::Limit(_) => Error::ConnectionLimitReached,
        GuestError::Denied(_) | GuestError::InvalidInput(_) => Error::HttpRequestDenied,
        GuestError::Unavailable(_) | GuestError::Internal(_) => Error::DestinationUnavailable,
    }
}

#[cfg(test)]
mod tests;
