//! What a plan says of the namespaces that it changes: how much is in them, and what they are called. It knows no record but
//! by its header.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use aral_contract::id::Namespace;
use sled::IVec;

use super::entry::Header;
use super::plan::{Mark, NewRecord, Plan};
use super::root::{NamespacePlace, Root, Space, namespace_of};
use super::tree::{self, Scan, key, prefix};
use super::usage;
use crate::record::Usage;
use crate::store::StoreError;

/// How much will be in a namespace.
#[derive(Clone, Copy)]
pub(super) struct Count {
    pub(super) usage: Usage,
    /// Whether this may be wrong, so that the namespace is counted anew when all is planned.
    is_uncertain: bool,
}

/// What changes of a namespace.
pub(super) struct Change {
    pub(super) count: Count,
    /// Where its name may not be there, or not any more: under which root it lies, and what it is called.
    named: Option<(Arc<Root>, Space, Namespace)>,
}

impl Change {
    pub(super) fn call(&mut self, root: &Arc<Root>, new: &NewRecord<'_>) {
        let named = || (Arc::clone(root), new.space, new.namespace.clone());
        self.named.get_or_insert_with(named);
    }
}

impl Plan<'_> {
    /// What a namespace will hold, under all roots.
    pub(super) fn usage(&mut self, space: Space, namespace: &Namespace) -> Result<Usage, StoreError> {
        let mut sum = Usage::default();
        for root in &Arc::clone(&self.keys).roots {
            let place = root.namespace_place(space, namespace);
            sum += match self.usages.get(&place) {
                Some(change) => change.count.usage,
                None => usage::read(self.tree, &place)?,
            };
        }
        Ok(sum)
    }

    pub(super) fn change(
        &mut self,
        place: NamespacePlace,
        mark: &mut Mark,
        act: impl FnOnce(&mut Change),
    ) -> Result<(), StoreError> {
        let change = match self.usages.entry(place) {
            Entry::Occupied(known) => {
                mark.usages.push((place, Some(known.get().count)));
                known.into_mut()
            }
            Entry::Vacant(new) => {
                mark.usages.push((place, None));
                let count = Count {
                    usage: usage::read(self.tree, &place)?,
                    is_uncertain: false,
                };
                new.insert(Change { count, named: None })
            }
        };
        act(change);
        Ok(())
    }

    /// Plans what is said of the namespaces that change.
    pub(super) fn count(&mut self) -> Result<(), StoreError> {
        for (place, change) in std::mem::take(&mut self.usages) {
            let Count {
                mut usage,
                is_uncertain,
            } = change.count;
            // Also before a namespace is taken for empty. It costs nothing if it is: all that is there is removed here.
            if is_uncertain || usage.records == 0 {
                usage = self.counted(&place)?;
            }
            let (usage_key, name_key) = (key(prefix::USAGE, &[&place]), key(prefix::NAMESPACE, &[&place]));
            if usage.records == 0 {
                self.changes.push((usage_key, None));
                self.changes.push((name_key, None));
                continue;
            }
            self.changes.push((usage_key, Some(usage::to_bytes(usage).to_vec())));
            if let Some((root, space, namespace)) = change.named {
                let opens = |sealed: IVec| usage::open_name(&root, space, &place, &sealed).is_some();
                if !self.tree.get(&name_key)?.is_some_and(opens) {
                    let sealed = usage::seal_name(&root, space, &place, &namespace)?;
                    self.changes.push((name_key, Some(sealed)));
                }
            }
        }
        Ok(())
    }

    /// What will lie in a namespace, whatever was counted.
    fn counted(&self, namespace: &NamespacePlace) -> Result<Usage, StoreError> {
        #[cfg(test)]
        self.tree.counts.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut usage = Usage::default();
        let mut count = |bytes: u64| usage += Usage { bytes, records: 1 };
        self.tree
            .scan(&key(prefix::RECORD, &[namespace]), None, &mut |at, entry| {
                if !tree::place(at).is_some_and(|place| self.records.contains_key(&place)) {
                    count(match Header::read(entry) {
                        Ok(header) => self.tree.stored(&header, entry)?.charged,
                        Err(_) => 0,
                    });
                }
                Ok(Scan::Next)
            })?;
        let planned = self
            .records
            .iter()
            .filter(|(place, _)| namespace_of(place) == *namespace);
        for header in planned.filter_map(|(_, header)| *header) {
            count(header.charged_bytes());
        }
        Ok(usage)
    }

    /// Has a namespace counted anew: once all is planned, however often that is asked for, since who counts looks at all of it
    /// while nobody else writes.
    pub(super) fn recount(&mut self, namespace: NamespacePlace, mark: &mut Mark) -> Result<(), StoreError> {
        self.change(namespace, mark, |change| change.count.is_uncertain = true)
    }
}
