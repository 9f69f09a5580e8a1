//! `aral:capability/memory-read` and `memory-write`: the records of an agent's memory, in the namespaces that the grant
//! names and within its quota. It keeps nothing itself: what passes the checks is asked of the store.

mod ask;
mod check;

use std::sync::Arc;

use aral_contract::event::MemoryOperation;
use aral_contract::id::Namespace;
use aral_contract::limits::NAME_BYTES_MAX;
use aral_contract::quote::quoted;
use aral_contract::{Permission, Permissions};
use aral_memory::record;
use aral_memory::{Outcome, Quota};

use super::{cleared, denied, held_back};
use crate::bindings::aral::capability::memory_read::{Entry, Host as ReadHost, Page};
use crate::bindings::aral::capability::memory_write::{Host as WriteHost, Operation, Precondition, Write};
use crate::bindings::aral::capability::types::Error;
use crate::call::{CallRecord, sanitised};
use crate::state::State;
use ask::{Step, ask};

fn refused_namespace(call: &CallRecord, permission: Permission, namespace: &str) -> Error {
    let shown = sanitised(namespace, NAME_BYTES_MAX);
    let is_cut = |cut: &Permissions| {
        let namespaces = match permission {
            Permission::MemoryWrite => cut.memory_write.as_ref().map(|scope| &scope.namespaces),
            _ => cut.memory_read.as_ref().map(|scope| &scope.namespaces),
        };
        namespaces.is_some_and(|all| all.iter().any(|one| one.as_str() == namespace))
    };
    let what = format!("namespace `{shown}`");
    let reason = held_back(&call.frame.grant, &what, is_cut).unwrap_or_else(|| {
        let added = quoted(&shown);
        format!("{what} is not granted: add to capability.toml, [permissions.\"{permission}\"]: namespaces = [{added}], and to the policy")
    });
    denied(call, permission, namespace, &reason)
}

fn readable(call: &CallRecord, namespace: &str) -> Result<Namespace, Error> {
    let scope = call.frame.grant.permissions.memory_read.as_ref();
    let found = scope.and_then(|scope| scope.namespaces.iter().find(|one| one.as_str() == namespace));
    found
        .cloned()
        .ok_or_else(|| refused_namespace(call, Permission::MemoryRead, namespace))
}

/// The namespace, and what it may hold.
fn writable(call: &CallRecord, namespace: &str) -> Result<(Namespace, Quota), Error> {
    let found = call.frame.grant.permissions.memory_write.as_ref().and_then(|scope| {
        let quota = Quota {
            bytes_max: scope.bytes_max,
            records_max: scope.records_max,
        };
        let name = scope.namespaces.iter().find(|one| one.as_str() == namespace)?;
        Some((name.clone(), quota))
    });
    found.ok_or_else(|| refused_namespace(call, Permission::MemoryWrite, namespace))
}

fn count_of(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

async fn get(call: &Arc<CallRecord>, namespace: &str, name: String) -> Result<Option<Entry>, Error> {
    let namespace = readable(call, namespace)?;
    let name = check::name(name)?;
    let step = Step::new(MemoryOperation::Read, Some(name.clone()));
    let value_bytes_max = call.frame.grant.limits.memory_value_bytes;
    let asker = Arc::clone(call);
    let found = ask(call, &namespace, vec![step], move |store, namespace, steps| {
        let found = store.get(namespace, &name)?;
        if let (Some(record), Some(step)) = (&found, steps.first_mut()) {
            step.classification = Some(record.classification);
            step.amount = count_of(record.value.len());
            cleared(&asker, record.classification).map_err(Error::Denied)?;
            // Written under a larger limit: it would not fit into what the guest may hold.
            check::size(record.value.len(), value_bytes_max)?;
        }
        Ok(found)
    });
    let Some(mut record) = found.await? else {
        return Ok(None);
    };
    Ok(Some(Entry {
        value: std::mem::take(&mut *record.value),
        version: record.version,
        classification: check::guest_classification(record.classification),
        expires_at: record
            .expires_at
            .map(|at| u64::try_from(at.as_second()).unwrap_or_default()),
    }))
}

async fn list(
    call: &Arc<CallRecord>,
    namespace: &str,
    prefix: String,
    cursor: Option<String>,
    limit: u32,
) -> Result<Page, Error> {
    let namespace = readable(call, namespace)?;
    let limit = check::page(&prefix, cursor.as_deref(), limit)?;
    let step = Step::new(MemoryOperation::List, None);
    let page = ask(call, &namespace, vec![step], move |store, namespace, steps| {
        let page = store.list(namespace, &prefix, cursor.as_deref(), limit)?;
        if let Some(step) = steps.first_mut() {
            step.amount = count_of(page.names.len());
        }
        Ok(page)
    });
    let page = page.await?;
    Ok(Page {
        names: page.names.iter().map(ToString::to_string).collect(),
        cursor: page.cursor,
    })
}

async fn put(call: &Arc<CallRecord>, namespace: &str, write: Write) -> Result<u64, Error> {
    let (namespace, quota) = writable(call, namespace)?;
    let write = check::write(write)?;
    check_cleared(call, &namespace, &write)?;
    let step = step_of_write(&write);
    let value_bytes_max = call.frame.grant.limits.memory_value_bytes;
    ask(call, &namespace, vec![step], move |store, namespace, _steps| {
        check::size(write.value.len(), value_bytes_max)?;
        Ok(store.put(namespace, write, &quota)?)
    })
    .await
}

async fn delete(
    call: &Arc<CallRecord>,
    namespace: &str,
    name: String,
    precondition: Precondition,
) -> Result<bool, Error> {
    let (namespace, _quota) = writable(call, namespace)?;
    let name = check::name(name)?;
    let precondition = check::precondition(precondition);
    let step = Step::new(MemoryOperation::Delete, Some(name.clone()));
    ask(call, &namespace, vec![step], move |store, namespace, steps| {
        let was = store.delete(namespace, &name, precondition)?;
        if let Some(step) = steps.first_mut() {
            step.classification = was;
        }
        Ok(was.is_some())
    })
    .await
}

async fn batch(call: &Arc<CallRecord>, namespace: &str, operations: Vec<Operation>) -> Result<(), Error> {
    let (namespace, quota) = writable(call, namespace)?;
    let operations = check::batch(operations)?;
    if operations.is_empty() {
        return Ok(());
    }
    for operation in &operations {
        if let record::Operation::Put(write) = operation {
            check_cleared(call, &namespace, write)?;
        }
    }
    let steps = operations.iter().map(|operation| match operation {
        record::Operation::Put(write) => step_of_write(write),
        record::Operation::Delete { name, .. } => Step::new(MemoryOperation::Delete, Some(name.clone())),
    });
    let value_bytes_max = call.frame.grant.limits.memory_value_bytes;
    ask(call, &namespace, steps.collect(), move |store, namespace, steps| {
        for operation in &operations {
            if let record::Operation::Put(write) = operation {
                check::size(write.value.len(), value_bytes_max)?;
            }
        }
        let outcomes = store.apply(namespace, operations, &quota)?;
        for (step, outcome) in steps.iter_mut().zip(outcomes) {
            if let Outcome::Deleted { classification } = outcome {
                step.classification = Some(classification);
            }
        }
        Ok(())
    })
    .await
}

fn check_cleared(call: &CallRecord, namespace: &Namespace, write: &record::Write) -> Result<(), Error> {
    cleared(call, write.classification)
        .map_err(|reason| denied(call, Permission::MemoryWrite, namespace.as_str(), &reason))
}

fn step_of_write(write: &record::Write) -> Step {
    Step {
        classification: Some(write.classification),
        amount: count_of(write.value.len()),
        ..Step::new(MemoryOperation::Write, Some(write.name.clone()))
    }
}

impl ReadHost for State {
    async fn get(&mut self, namespace: String, name: String) -> wasmtime::Result<Result<Option<Entry>, Error>> {
        let call = Arc::clone(&self.call);
        Ok(get(&call, &namespace, name).await)
    }

    async fn list(
        &mut self,
        namespace: String,
        prefix: String,
        cursor: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Result<Page, Error>> {
        let call = Arc::clone(&self.call);
        Ok(list(&call, &namespace, prefix, cursor, limit).await)
    }
}

impl WriteHost for State {
    async fn put(&mut self, namespace: String, write: Write) -> wasmtime::Result<Result<u64, Error>> {
        let call = Arc::clone(&self.call);
        Ok(put(&call, &namespace, write).await)
    }

    async fn delete(
        &mut self,
        namespace: String,
        name: String,
        precondition: Precondition,
    ) -> wasmtime::Result<Result<bool, Error>> {
        let call = Arc::clone(&self.call);
        Ok(delete(&call, &namespace, name, precondition).await)
    }

    async fn batch(&mut self, namespace: String, operations: Vec<Operation>) -> wasmtime::Result<Result<(), Error>> {
        let call = Arc::clone(&self.call);
        Ok(batch(&call, &namespace, operations).await)
    }
}

#[cfg(test)]
mod tests;
