//! Listing: in the order of the MACs of names, which says nothing of the names, and with a bounded number of looks.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use aral_contract::id::Namespace;

use super::Inner;
use super::entry::Owner;
use super::read::Found;
use super::root::{Keys, NamespacePlace, PLACE_BYTES, Place, Root, Space, namespace_of};
use super::tree::{self, Scan, key, prefix};
use super::usage;
use super::work::Work;
use crate::key::{hex, unhex};
use crate::record::{
    BATCH_OPERATIONS_MAX, LIST_EXAMINED_MAX, NamespaceUsage, PAGE_NAMES_MAX, Page, RecordName, Swept, Usage,
};
use crate::store::StoreError;

/// Bytes of a cursor that prove who made it.
const PROOF_BYTES: usize = 16;

/// Where a listing goes on: behind this place, among the records of this root.
struct Position {
    root: u32,
    place: Place,
}

impl Position {
    fn to_text(&self, root: &Root, namespace: &NamespacePlace, prefix: &str) -> String {
        let mut bytes = [&self.root.to_le_bytes()[..], &self.place].concat();
        let proof = root.cursor(namespace, prefix, &bytes);
        bytes.extend(proof.iter().take(PROOF_BYTES));
        hex(&bytes)
    }

    fn parse(text: &str, roots: &[Arc<Root>], space: Space, of: &Namespace, prefix: &str) -> Option<Self> {
        let bytes = unhex(text)?;
        let (position, proof) = bytes.split_at_checked(bytes.len().checked_sub(PROOF_BYTES)?)?;
        let (number, place) = position.split_first_chunk::<4>()?;
        let number = u32::from_le_bytes(*number);
        let root = roots.iter().find(|root| root.number == number)?;
        let namespace = root.namespace_place(space, of);
        let expected = root.cursor(&namespace, prefix, position);
        let same = subtle::ConstantTimeEq::ct_eq(expected.get(..PROOF_BYTES)?, proof);
        let place = place.try_into().ok()?;
        bool::from(same).then_some(Self { root: number, place })
    }
}

impl Inner {
    pub(super) fn list(
        &self,
        space: Space,
        namespace: &Namespace,
        prefix_of_names: &str,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let keys = self.keys.load_full();
        let parse =
            |text| Position::parse(text, &keys.roots, space, namespace, prefix_of_names).ok_or(StoreError::Cursor);
        let from = cursor.map(parse).transpose()?;
        let limit = limit.clamp(1, PAGE_NAMES_MAX);
        let mut page = Page::default();
        let mut examined = 0_usize;
        // Oldest first: while keys are rotated records move from old roots to new ones, so that one may be seen twice and
        // none is missed.
        for root in &keys.roots {
            if from.as_ref().is_some_and(|from| root.number < from.root) {
                continue;
            }
            let start_of_root = from
                .as_ref()
                .filter(|from| from.root == root.number)
                .map(|from| from.place);
            let namespace_place = root.namespace_place(space, namespace);
            let mut last: Option<Place> = None;
            let mut more = false;
            let start = key(prefix::RECORD, &[&namespace_place]);
            let after = start_of_root.map(|after| key(prefix::RECORD, &[&after]));
            self.tree.scan(&start, after.as_deref(), &mut |at, entry| {
                if page.names.len() == limit || examined == LIST_EXAMINED_MAX {
                    more = true;
                    return Ok(Scan::Stop);
                }
                examined = examined.saturating_add(1);
                let place: Place = tree::place(at).ok_or(DAMAGED)?;
                last = Some(place);
                let found = Found::new(&self.slots, place, entry.clone())?;
                if !found.header.is_expired(|| self.now()) {
                    let name = self.name_of(&keys, self.owner(space, namespace), &found)?;
                    page.names
                        .extend(name.filter(|name| name.as_str().starts_with(prefix_of_names)));
                }
                Ok(Scan::Next)
            })?;
            if more {
                let position = Position {
                    root: root.number,
                    place: last.or(start_of_root).unwrap_or_else(|| edge(&namespace_place, 0)),
                };
                page.cursor = Some(position.to_text(root, &namespace_place, prefix_of_names));
                return Ok(page);
            }
        }
        // A rotation that began meanwhile moves records to where this call did not look: the next page does.
        let newest = keys.newest();
        if self.keys.load().newest().number != newest.number {
            let namespace_place = newest.namespace_place(space, namespace);
            let position = Position {
                root: newest.number,
                place: edge(&namespace_place, 0xff),
            };
            page.cursor = Some(position.to_text(newest, &namespace_place, prefix_of_names));
        }
        Ok(page)
    }

    /// None: it is gone, or was replaced and will be seen at its new state by whoever asks next.
    pub(super) fn name_of(
        &self,
        keys: &Keys,
        owner: Owner<'_>,
        found: &Found,
    ) -> Result<Option<RecordName>, StoreError> {
        match self.open_name(keys, owner, found) {
            Ok(Some(name)) => return Ok(Some(name)),
            Err(error) if !error.is_damage() => return Err(error),
            Ok(None) | Err(_) => {}
        }
        // Its key was destroyed between the two looks, and its slot may hold a later one of this record, or it is damaged:
        // a third look tells.
        let Some(now) = self.entry(&found.place)? else {
            return Ok(None);
        };
        match self.open_name(&self.keys.load_full(), owner, &now) {
            Ok(Some(name)) => Ok(Some(name)),
            Err(error) if !error.is_damage() => Err(error),
            Ok(None) | Err(_) if now.header != found.header => Ok(None),
            Ok(None) => Err(StoreError::DAMAGED_RECORD),
            Err(error) => Err(error),
        }
    }

    pub(super) fn usage(&self, space: Space, namespace: &Namespace) -> Result<Usage, StoreError> {
        let mut sum = Usage::default();
        for root in &self.keys.load().roots {
            sum += usage::read(&self.tree, &root.namespace_place(space, namespace))?;
        }
        Ok(sum)
    }

    pub(super) fn namespaces(&self, space: Space, limit: usize) -> Result<Vec<NamespaceUsage>, StoreError> {
        let mut names: BTreeSet<Namespace> = BTreeSet::new();
        if limit > 0 {
            self.each_namespace(space, &mut |_, namespace| {
                names.extend(namespace);
                Ok(if names.len() == limit { Scan::Stop } else { Scan::Next })
            })?;
        }
        let of = |namespace: Namespace| {
            let usage = self.usage(space, &namespace)?;
            Ok(NamespaceUsage { namespace, usage })
        };
        names.into_iter().map(of).collect()
    }

    /// Shows every namespace of a space, with where its records lie, or none if its name does not open; twice while keys are
    /// rotated.
    pub(super) fn each_namespace(
        &self,
        space: Space,
        show: &mut dyn FnMut(NamespacePlace, Option<Namespace>) -> Result<Scan, StoreError>,
    ) -> Result<(), StoreError> {
        let keys = self.keys.load_full();
        self.tree
            .scan(&[prefix::NAMESPACE, space.byte()], None, &mut |at, sealed| {
                let place: NamespacePlace = at.get(1..).and_then(|place| place.try_into().ok()).ok_or(DAMAGED)?;
                // One more look at the keys: a rotation may have begun meanwhile.
                let namespace = called(&keys, space, &place, sealed);
                show(
                    place,
                    namespace.or_else(|| called(&self.keys.load_full(), space, &place, sealed)),
                )
            })
    }

    /// Shows where records lie of which nothing says any more in which namespace. Who knows its name can read them, and whatever
    /// is written there by that name puts it back.
    pub(super) fn each_nameless(
        &self,
        show: &mut dyn FnMut(Space, NamespacePlace) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for space in Space::ALL {
            let mut after: Option<Vec<u8>> = None;
            while let Some(place) = self.next_namespace(space, after.as_deref())? {
                if self.namespace_at(space, &place)?.is_none() && self.is_nameless(space, &place)? {
                    show(space, place)?;
                }
                after = Some(key(prefix::RECORD, &[&edge(&place, u8::MAX)]));
            }
        }
        Ok(())
    }

    /// Shows every place where a record lies, with whose it is, but those in namespaces whose name does not open. Oldest root
    /// first, and its namespaces when its turn comes: a rotation may have been cut off before, and a write takes a record to
    /// the newest root.
    pub(super) fn each_place<E: From<StoreError>>(
        &self,
        show: &mut dyn FnMut(Space, &Namespace, &Place) -> Result<(), E>,
    ) -> Result<(), E> {
        let keys = self.keys.load_full();
        for root in &keys.roots {
            for space in Space::ALL {
                let mut namespaces: Vec<(NamespacePlace, Namespace)> = Vec::new();
                self.each_namespace(space, &mut |place, namespace| {
                    let of_root = |namespace: &Namespace| root.namespace_place(space, namespace) == place;
                    namespaces.extend(namespace.filter(of_root).map(|namespace| (place, namespace)));
                    Ok(Scan::Next)
                })?;
                for (place, namespace) in namespaces {
                    self.each_some(&place, &mut |some| {
                        some.iter().try_for_each(|place| show(space, &namespace, place))
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Where the next namespace that has records lies.
    fn next_namespace(&self, space: Space, after: Option<&[u8]>) -> Result<Option<NamespacePlace>, StoreError> {
        let mut next = None;
        self.tree.scan(&[prefix::RECORD, space.byte()], after, &mut |at, _| {
            next = tree::place(at).map(|place| namespace_of(&place));
            Ok(if next.is_some() { Scan::Stop } else { Scan::Next })
        })?;
        Ok(next)
    }

    /// Refuses where records would be missed, because nothing says whose they are.
    pub(super) fn all_named(&self) -> Result<(), StoreError> {
        self.each_nameless(&mut |_, _| Err(StoreError::NAMELESS))
    }

    /// Looks while nobody writes: a name comes and goes with the records.
    fn is_nameless(&self, space: Space, place: &NamespacePlace) -> Result<bool, StoreError> {
        let _nobody_writes = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(self.tree.has_records(place)? && self.namespace_at(space, place)?.is_none())
    }

    /// What the namespace is called whose records lie there; none: nothing says so.
    pub(super) fn namespace_at(&self, space: Space, place: &NamespacePlace) -> Result<Option<Namespace>, StoreError> {
        let sealed = self.tree.get(&key(prefix::NAMESPACE, &[place]))?;
        Ok(sealed.and_then(|sealed| called(&self.keys.load(), space, place, &sealed)))
    }

    pub(super) fn sweep(&self, records_max: usize) -> Result<Swept, StoreError> {
        // What is swept at once is a commit like any other: as large as a batch at most. What is left is swept next.
        let records_max = records_max.min(BATCH_OPERATIONS_MAX);
        self.submit(Work::Sweep { records_max }).map(|done| done.swept)
    }
}

/// What a namespace is called; none: no root opens it.
pub(super) fn called(keys: &Keys, space: Space, place: &NamespacePlace, sealed: &[u8]) -> Option<Namespace> {
    let mut roots = keys.roots.iter().rev();
    roots.find_map(|root| usage::open_name(root, space, place, sealed))
}

/// Before all records of a namespace, with 0, or behind them.
fn edge(namespace: &NamespacePlace, fill: u8) -> Place {
    let mut place = [fill; PLACE_BYTES];
    place.iter_mut().zip(namespace).for_each(|(to, from)| *to = *from);
    place
}

const DAMAGED: StoreError = StoreError::Corrupt {
    what: "the index of the store",
};
