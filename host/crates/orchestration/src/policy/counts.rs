//! How long the lists of a policy may be.

use super::{PolicyError, PolicyParts};

/// Items in one list of a policy. An operator is trusted not to write a list in order to harm; this one stops one that is made by a
/// program, and never gets shorter, from slowing down every decision.
pub const POLICY_ITEMS_MAX: usize = 1024;

pub(super) fn check(parts: &PolicyParts) -> Result<(), PolicyError> {
    let trace_hosts = parts.trace_hosts.as_ref().map_or(0, Vec::len);
    let counts = [
        ("[policy] permissions", parts.permissions.count()),
        ("[policy] capabilities", parts.capabilities.count()),
        ("[policy.network] hosts", parts.hosts.len()),
        ("[policy.network] networks", parts.networks.len()),
        ("[policy.network] trace_hosts", trace_hosts),
        ("[policy.file] read_roots", parts.read_roots.len()),
        ("[policy.file] write_roots", parts.write_roots.len()),
        ("[policy.secret] names", parts.secrets.count()),
        ("[policy.memory] namespaces", parts.namespaces.count()),
        ("[policy.exec] programs", parts.programs.len()),
    ];
    match counts.into_iter().find(|(_, count)| *count > POLICY_ITEMS_MAX) {
        Some((place, count)) => Err(PolicyError::Items { place, count }),
        None => Ok(()),
    }
}
