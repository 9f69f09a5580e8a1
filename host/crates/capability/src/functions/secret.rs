//! `aral:capability/secret-read` and `secret-write`. Names, uses and sizes are checked here. A secret that is injected
//! leaves only a mark on the request: the value is filled in when the request is sent, and no guest ever holds it.

pub(crate) mod usage;

use std::sync::Arc;

use aral_contract::event::SecretOperation;
use aral_contract::limits::NAME_BYTES_MAX;
use aral_contract::quote::quoted;
use aral_contract::scope::{SecretScope, SecretUse};
use aral_contract::secret::SECRET_BYTES_MAX;
use aral_contract::{Classification, Permission, Permissions, SecretValue};
use tracing::Instrument as _;
use wasmtime::component::Resource;
use wasmtime_wasi_http::p2::types::HostOutgoingRequest;

use super::{cleared, held_back};
use crate::bindings::aral::capability::secret_read::{Host as ReadHost, HostSecret};
use crate::bindings::aral::capability::secret_write::Host as WriteHost;
use crate::bindings::aral::capability::types::Error;
use crate::call::{CallRecord, sanitised};
use crate::manifest::check::injected;
use crate::state::State;
use usage::{Use, check_present, refuse};

/// A secret that the grant names. Holds the scope and never a value.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Secret(SecretScope);

impl State {
    fn secret(&self, handle: &Resource<Secret>) -> wasmtime::Result<&SecretScope> {
        Ok(&self.table.get(handle)?.0)
    }

    fn attach(&mut self, request: u32, secret: SecretScope) -> Result<(), Error> {
        let name = secret.name.to_string();
        if secret.usage != SecretUse::Inject || secret.header.is_none() || secret.hosts.is_empty() {
            let reason = format!(
                "secret `{name}` may not be attached: its scope needs use = \"inject\", hosts and header in capability.toml"
            );
            return Err(refuse(&self.call, Permission::SecretRead, &name, &reason));
        }
        check_present(&self.call)?;
        self.hooks
            .attach(request, secret)
            .map_err(|reason| refuse(&self.call, Permission::SecretRead, &name, &reason))
    }
}

impl ReadHost for State {
    async fn open(&mut self, name: String) -> wasmtime::Result<Result<Resource<Secret>, Error>> {
        let scope = self.call.frame.grant.permissions.secret_read.as_ref();
        let found = scope
            .and_then(|scope| scope.secrets.iter().find(|one| one.name.as_str() == name))
            .cloned();
        let Some(secret) = found else {
            let shown = sanitised(&name, NAME_BYTES_MAX);
            let is_cut = |cut: &Permissions| {
                let mut secrets = cut.secret_read.iter().flat_map(|scope| &scope.secrets);
                secrets.any(|one| one.name.as_str() == name)
            };
            let what = format!("secret `{shown}`");
            let reason = held_back(&self.call.frame.grant, &what, is_cut).unwrap_or_else(|| {
                let added = injected(&shown);
                format!("{what} is not granted: add to capability.toml, [permissions.\"secret:read\"]: secrets = [{added}], with the hosts and the header that it is for, and to the policy")
            });
            return Ok(Err(refuse(&self.call, Permission::SecretRead, &name, &reason)));
        };
        // Nothing bounds how often a guest opens: it could use up the events of its call, and then act unseen.
        if self.opened.insert(secret.name.clone()) {
            self.call.allowed(Permission::SecretRead, &name);
        }
        Ok(Ok(self.table.push(Secret(secret))?))
    }
}

impl HostSecret for State {
    async fn attach(
        &mut self,
        secret: Resource<Secret>,
        request: Resource<HostOutgoingRequest>,
    ) -> wasmtime::Result<Result<(), Error>> {
        // A handle that is not a request traps here, before anything else is said.
        let _request = self.table.get(&request)?;
        let scope = self.secret(&secret)?.clone();
        Ok(State::attach(self, request.rep(), scope))
    }

    async fn reveal(&mut self, secret: Resource<Secret>) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        let scope = self.secret(&secret)?.clone();
        let call = Arc::clone(&self.call);
        Ok(reveal(&call, scope).await)
    }

    async fn drop(&mut self, secret: Resource<Secret>) -> wasmtime::Result<()> {
        self.table.delete(secret)?;
        Ok(())
    }
}

async fn reveal(call: &Arc<CallRecord>, scope: SecretScope) -> Result<Vec<u8>, Error> {
    if scope.usage != SecretUse::Reveal {
        let name = scope.name.to_string();
        let reason = format!(
            "secret `{name}` may not be revealed: its scope needs use = \"reveal\" in capability.toml, and in the policy"
        );
        return Err(refuse(call, Permission::SecretRead, &name, &reason));
    }
    check_cleared(call, Permission::SecretRead, scope.name.as_str())?;
    let reveal = Use::begin(call, vec![scope.name], SecretOperation::Reveal, None)?;
    let values = reveal.values().instrument(call.span(Permission::SecretRead)).await?;
    reveal.done();
    // From here on it is the guest's: the copy that crosses is not the host's to erase.
    Ok(values.first().map(|value| value.expose().to_vec()).unwrap_or_default())
}

/// What is injected never reaches the guest, and so needs no clearance; what is shown to it or comes from it does.
fn check_cleared(call: &CallRecord, permission: Permission, name: &str) -> Result<(), Error> {
    cleared(call, Classification::Secret).map_err(|reason| refuse(call, permission, name, &reason))
}

impl WriteHost for State {
    async fn put(&mut self, name: String, value: Vec<u8>) -> wasmtime::Result<Result<(), Error>> {
        let call = Arc::clone(&self.call);
        Ok(put(&call, &name, SecretValue::new(value)).await)
    }
}

async fn put(call: &Arc<CallRecord>, name: &str, value: SecretValue) -> Result<(), Error> {
    let scope = call.frame.grant.permissions.secret_write.as_ref();
    let granted = scope.and_then(|scope| scope.names.iter().find(|one| one.as_str() == name));
    let Some(name) = granted else {
        let shown = sanitised(name, NAME_BYTES_MAX);
        let is_cut = |cut: &Permissions| {
            let mut names = cut.secret_write.iter().flat_map(|scope| &scope.names);
            names.any(|one| one.as_str() == name)
        };
        let what = format!("storing secret `{shown}`");
        let reason = held_back(&call.frame.grant, &what, is_cut).unwrap_or_else(|| {
            let added = quoted(&shown);
            format!("{what} is not granted: add to capability.toml, [permissions.\"secret:write\"]: names = [{added}], and to the policy")
        });
        return Err(refuse(call, Permission::SecretWrite, name, &reason));
    };
    if value.expose().is_empty() {
        return Err(Error::InvalidInput("a secret has at least 1 byte".to_owned()));
    }
    check_cleared(call, Permission::SecretWrite, name.as_str())?;
    let store = Use::begin(call, vec![name.clone()], SecretOperation::Write, None)?;
    if value.expose().len() > SECRET_BYTES_MAX {
        let reason = format!("a secret has at most {SECRET_BYTES_MAX} bytes");
        store.refused(&reason);
        return Err(Error::Limit(reason));
    }
    store.store(value).instrument(call.span(Permission::SecretWrite)).await
}

#[cfg(test)]
mod tests;
