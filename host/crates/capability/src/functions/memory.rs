//! `aral:capability/memory-read` and `memory-write`. Namespaces, names and sizes are checked here, before any store is
//! asked. This host has no memory store: what passes the checks is answered `unavailable`.

use aral_contract::Permission;
use aral_contract::id::Namespace;
use aral_contract::limits::NAME_BYTES_MAX;

use super::denied;
use crate::bindings::aral::capability::memory_read::{Entry, Host as ReadHost, Page};
use crate::bindings::aral::capability::memory_write::{Host as WriteHost, Operation, Precondition, PutOptions, Write};
use crate::bindings::aral::capability::types::Error;
use crate::call::{CallRecord, sanitised};
use crate::state::State;

/// Operations in one batch. Stops a batch that holds the store for long.
const BATCH_OPERATIONS_MAX: usize = 1000;
/// Longest cursor, in bytes.
const CURSOR_BYTES_MAX: usize = 1024;
/// Longest time to live, in seconds: 100 years.
const TTL_SECONDS_MAX: u64 = 3_155_760_000;

const NO_STORE: &str = "this host has no memory store";

fn check_namespace(call: &CallRecord, permission: Permission, namespace: &str) -> Result<(), Error> {
    let permissions = &call.frame.grant.permissions;
    let granted: Option<&[Namespace]> = match permission {
        Permission::MemoryRead => permissions
            .memory_read
            .as_ref()
            .map(|scope| scope.namespaces.as_slice()),
        _ => permissions
            .memory_write
            .as_ref()
            .map(|scope| scope.namespaces.as_slice()),
    };
    if granted.is_some_and(|granted| granted.iter().any(|one| one.as_str() == namespace)) {
        return Ok(());
    }
    let shown = sanitised(namespace, NAME_BYTES_MAX);
    let reason = format!(
        "namespace `{shown}` is not granted: add it to [permissions.\"{permission}\"] namespaces = [\"{shown}\"] in capability.toml, and to the policy"
    );
    Err(denied(call, permission, namespace, &reason))
}

fn check_name(name: &str) -> Result<(), Error> {
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains('\0') {
        Ok(())
    } else {
        Err(Error::InvalidInput(format!(
            "a name has 1 to {NAME_BYTES_MAX} bytes and no NUL"
        )))
    }
}

fn check_options(options: &PutOptions) -> Result<(), Error> {
    match options.ttl_seconds {
        Some(seconds) if !(1..=TTL_SECONDS_MAX).contains(&seconds) => {
            Err(Error::InvalidInput(format!("ttl-seconds is 1 to {TTL_SECONDS_MAX}")))
        }
        Some(_) | None => Ok(()),
    }
}

fn check_write(call: &CallRecord, write: &Write) -> Result<(), Error> {
    check_name(&write.name)?;
    check_options(&write.options)?;
    let max = call.frame.grant.limits.memory_value_bytes;
    if u64::try_from(write.value.len()).unwrap_or(u64::MAX) > max {
        return Err(Error::Limit(format!(
            "the value is longer than `memory_value_bytes`, {max} bytes"
        )));
    }
    Ok(())
}

fn check_operation(call: &CallRecord, operation: &Operation) -> Result<(), Error> {
    match operation {
        Operation::Put(write) => check_write(call, write),
        Operation::Delete(name) => check_name(name),
    }
}

/// Everything is checked and allowed; there is nobody to ask.
fn unavailable<T>(call: &CallRecord, permission: Permission, namespace: &str) -> Result<T, Error> {
    call.allowed(permission, namespace);
    Err(Error::Unavailable(NO_STORE.to_owned()))
}

impl ReadHost for State {
    async fn get(&mut self, namespace: String, name: String) -> wasmtime::Result<Result<Option<Entry>, Error>> {
        let check = || {
            check_namespace(&self.call, Permission::MemoryRead, &namespace)?;
            check_name(&name)
        };
        Ok(check().and_then(|()| unavailable(&self.call, Permission::MemoryRead, &namespace)))
    }

    async fn list(
        &mut self,
        namespace: String,
        prefix: String,
        cursor: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Result<Page, Error>> {
        let check = || {
            check_namespace(&self.call, Permission::MemoryRead, &namespace)?;
            if prefix.len() > NAME_BYTES_MAX || prefix.contains('\0') {
                return Err(Error::InvalidInput(format!(
                    "a prefix has at most {NAME_BYTES_MAX} bytes and no NUL"
                )));
            }
            if cursor.as_ref().is_some_and(|cursor| cursor.len() > CURSOR_BYTES_MAX) {
                return Err(Error::InvalidInput("the cursor is not one of this host".to_owned()));
            }
            if limit == 0 {
                return Err(Error::InvalidInput("limit is at least 1".to_owned()));
            }
            Ok(())
        };
        Ok(check().and_then(|()| unavailable(&self.call, Permission::MemoryRead, &namespace)))
    }
}

impl WriteHost for State {
    async fn put(&mut self, namespace: String, write: Write) -> wasmtime::Result<Result<u64, Error>> {
        let check = || {
            check_namespace(&self.call, Permission::MemoryWrite, &namespace)?;
            check_write(&self.call, &write)
        };
        Ok(check().and_then(|()| unavailable(&self.call, Permission::MemoryWrite, &namespace)))
    }

    async fn delete(
        &mut self,
        namespace: String,
        name: String,
        _precondition: Precondition,
    ) -> wasmtime::Result<Result<bool, Error>> {
        let check = || {
            check_namespace(&self.call, Permission::MemoryWrite, &namespace)?;
            check_name(&name)
        };
        Ok(check().and_then(|()| unavailable(&self.call, Permission::MemoryWrite, &namespace)))
    }

    async fn batch(&mut self, namespace: String, operations: Vec<Operation>) -> wasmtime::Result<Result<(), Error>> {
        let check = || {
            check_namespace(&self.call, Permission::MemoryWrite, &namespace)?;
            if operations.len() > BATCH_OPERATIONS_MAX {
                return Err(Error::Limit(format!(
                    "a batch has at most {BATCH_OPERATIONS_MAX} operations"
                )));
            }
            operations.iter().try_for_each(|one| check_operation(&self.call, one))
        };
        Ok(check().and_then(|()| unavailable(&self.call, Permission::MemoryWrite, &namespace)))
    }
}

#[cfg(test)]
mod tests;
