//! The hosts of a policy in an order in which one look finds whatever includes one that is asked for. It is worked out once, where
//! the policy is read, and not at every decision.

use aral_contract::HostPattern;

/// Hosts in the order of the tree, each with its place in the list, without those that others of them include.
pub(crate) fn in_order<'a>(hosts: impl IntoIterator<Item = &'a HostPattern>) -> Vec<(usize, &'a HostPattern)> {
    let mut hosts: Vec<_> = hosts.into_iter().enumerate().collect();
    // Of two that are the same, the first in the list stays the first.
    hosts.sort_by(|(_, one), (_, other)| one.tree_cmp(other));
    hosts.dedup_by(|(_, next), (_, kept)| kept.includes(next));
    hosts
}

/// Their places alone.
pub(super) fn places(hosts: &[HostPattern]) -> Vec<usize> {
    in_order(hosts).into_iter().map(|(place, _)| place).collect()
}
