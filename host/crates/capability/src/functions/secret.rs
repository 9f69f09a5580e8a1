//! `aral:capability/secret-read` and `secret-write`. Names, uses and sizes are checked here, before any store is asked.
//! This host has no secret store: what passes the checks is answered `unavailable`, and no request ever carries a secret.

use aral_contract::Permission;
use aral_contract::limits::NAME_BYTES_MAX;
use aral_contract::scope::{SecretScope, SecretUse};
use wasmtime::component::Resource;
use wasmtime_wasi_http::p2::types::HostOutgoingRequest;

use super::denied;
use crate::bindings::aral::capability::secret_read::{Host as ReadHost, HostSecret};
use crate::bindings::aral::capability::secret_write::Host as WriteHost;
use crate::bindings::aral::capability::types::Error;
use crate::call::sanitised;
use crate::state::State;

/// Longest secret, in bytes.
const SECRET_BYTES_MAX: usize = 64 << 10;

const NO_STORE: &str = "this host has no secret store";

/// A secret that the grant names. Holds the scope and never a value.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Secret(SecretScope);

impl State {
    fn secret(&self, handle: &Resource<Secret>) -> wasmtime::Result<&SecretScope> {
        Ok(&self.table.get(handle)?.0)
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
            let reason = format!(
                "secret `{shown}` is not granted: add to capability.toml [permissions.\"secret:read\"] secrets = [{{ name = \"{shown}\" }}], and to the policy"
            );
            return Ok(Err(denied(&self.call, Permission::SecretRead, &name, &reason)));
        };
        self.call.allowed(Permission::SecretRead, &name);
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
        let scope = self.secret(&secret)?;
        if scope.usage != SecretUse::Inject || scope.header.is_none() || scope.hosts.is_empty() {
            let name = scope.name.to_string();
            let reason = format!(
                "secret `{name}` may not be attached: its scope needs use = \"inject\", hosts and header in capability.toml"
            );
            return Ok(Err(denied(&self.call, Permission::SecretRead, &name, &reason)));
        }
        Ok(Err(Error::Unavailable(NO_STORE.to_owned())))
    }

    async fn reveal(&mut self, secret: Resource<Secret>) -> wasmtime::Result<Result<Vec<u8>, Error>> {
        let scope = self.secret(&secret)?;
        if scope.usage != SecretUse::Reveal {
            let name = scope.name.to_string();
            let reason = format!(
                "secret `{name}` may not be revealed: its scope needs use = \"reveal\" in capability.toml, and in the policy"
            );
            return Ok(Err(denied(&self.call, Permission::SecretRead, &name, &reason)));
        }
        Ok(Err(Error::Unavailable(NO_STORE.to_owned())))
    }

    async fn drop(&mut self, secret: Resource<Secret>) -> wasmtime::Result<()> {
        self.table.delete(secret)?;
        Ok(())
    }
}

impl WriteHost for State {
    async fn put(&mut self, name: String, value: Vec<u8>) -> wasmtime::Result<Result<(), Error>> {
        let scope = self.call.frame.grant.permissions.secret_write.as_ref();
        if !scope.is_some_and(|scope| scope.names.iter().any(|one| one.as_str() == name)) {
            let shown = sanitised(&name, NAME_BYTES_MAX);
            let reason = format!(
                "storing secret `{shown}` is not granted: add to capability.toml [permissions.\"secret:write\"] names = [\"{shown}\"], and to the policy"
            );
            return Ok(Err(denied(&self.call, Permission::SecretWrite, &name, &reason)));
        }
        if value.len() > SECRET_BYTES_MAX {
            return Ok(Err(Error::Limit(format!(
                "a secret has at most {SECRET_BYTES_MAX} bytes"
            ))));
        }
        self.call.allowed(Permission::SecretWrite, &name);
        Ok(Err(Error::Unavailable(NO_STORE.to_owned())))
    }
}

#[cfg(test)]
mod tests;
