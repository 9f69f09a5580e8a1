//! What the tests of this crate share: components and entries, and beside them calls, a store of records and a place of secrets.
//! The components are written as text: nothing needs a toolchain.

mod call;
pub(crate) mod secrets;
pub(crate) mod store;

use aral_contract::{Digest, Failure};
use serde_json::{Value, json};

use crate::manifest::{Entry, Shape};

pub(crate) use call::{Kept, LOOK, Trial, Warnings, grant, grant_parts, one_thread, services, told, with_a_slow_disk};

/// A component that imports these interfaces, all empty, and exports an empty interface for its shape.
pub(crate) fn component(shape: Shape, imports: &[&str]) -> Vec<u8> {
    let imports: String = imports
        .iter()
        .map(|name| format!("(import \"{name}\" (instance))"))
        .collect();
    let export = shape.export();
    wat::parse_str(format!(
        "(component {imports} (instance $it) (export \"{export}\" (instance $it)))"
    ))
    .unwrap()
}

/// An entry for a component, without permissions; `change` replaces or adds members.
pub(crate) fn entry(component: &[u8], change: Value) -> Entry {
    let mut entry = json!({
        "id": "probe", "version": "1.0.0", "shape": "tool", "component": Digest::of(component),
        "title": "Probe", "description": "For tests.",
        "input_schema": {}, "output_schema": {},
    });
    let members = entry.as_object_mut().unwrap();
    members.extend(change.as_object().unwrap().clone());
    serde_json::from_value(entry).unwrap()
}

/// Code, message and hint, as a user sees them.
pub(crate) fn shown(failure: &Failure) -> String {
    let hint = failure.hint.as_deref().unwrap_or("-");
    format!("{failure}\nhint: {hint}")
}
