//! `aral memory stats`: what the store holds, and the state of its keys and its disk.

use aral_host::storage::store_failure;
use serde_json::json;

use super::Opened;
use crate::cli::exit::Exit;
use crate::cli::inspect::bytes;
use crate::cli::output::{Done, Output};

/// Namespaces that are shown. Bounds memory: a store may hold millions.
const NAMESPACES_MAX: usize = 10_000;

pub(super) fn run(opened: &Opened, output: &Output) -> Done {
    let status = opened.store.status().map_err(store_failure)?;
    let namespaces = opened.records.namespaces(NAMESPACES_MAX).map_err(store_failure)?;
    let memory = opened.storage.memory()?;
    let state = if status.is_rotating {
        "begun and not ended: start `aral memory rotate-key` again"
    } else {
        "none"
    };
    let mut shown = format!(
        "store      {}\nid         {}\nformat     {}\nkey        {}\nrotation   {state}\nepochs     {}\nslots      {} of {} used\nfree disk  {} (writes need {})\n",
        memory.dir.display(),
        status.store,
        status.format,
        status.keys.join(" or "),
        if status.epochs.is_empty() {
            "none".to_owned()
        } else {
            status.epochs.join(", ")
        },
        status.slots_used,
        status.slots,
        bytes(status.free_bytes),
        bytes(memory.free_bytes_min),
    );
    let width = namespaces
        .iter()
        .map(|one| one.namespace.as_str().len())
        .max()
        .unwrap_or_default();
    shown.push_str(&format!("namespaces {}\n", namespaces.len()));
    for one in &namespaces {
        let name = one.namespace.as_str();
        shown.push_str(&format!(
            "  {name:width$}  {} records, {}\n",
            one.usage.records,
            bytes(one.usage.bytes)
        ));
    }
    let object = json!({
        "store": status.store,
        "dir": memory.dir,
        "format": status.format,
        "keys": status.keys,
        "rotating": status.is_rotating,
        "epochs": status.epochs,
        "slots_used": status.slots_used,
        "slots": status.slots,
        "free_bytes": status.free_bytes,
        "free_bytes_min": memory.free_bytes_min,
        "namespaces": namespaces
            .iter()
            .map(|one| json!({"namespace": one.namespace, "records": one.usage.records, "bytes": one.usage.bytes}))
            .collect::<Vec<_>>(),
        "namespaces_cut": namespaces.len() == NAMESPACES_MAX,
    });
    output.answer(&shown, &object)?;
    Ok(Exit::Success)
}
