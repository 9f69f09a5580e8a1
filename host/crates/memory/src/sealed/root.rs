//! What is derived from a root key: a key of its own for each purpose. It knows no file.

use std::sync::Arc;

use aral_contract::id::Namespace;
use aral_runtime::LockedKey;
use quick_cache::sync::Cache;

use super::bytes::joined;
use super::keyring::StoreId;
use crate::crypto::{Cipher, MAC_BYTES, Macs, derive};
use crate::record::RecordName;
use crate::store::StoreError;

/// Which of the two kinds of record: they share a store and never meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Space {
    /// What agents remember.
    Memory,
    /// What operators keep for them.
    Secrets,
}

impl Space {
    pub(crate) const ALL: [Self; 2] = [Self::Memory, Self::Secrets];

    pub(crate) const fn byte(self) -> u8 {
        match self {
            Self::Memory => b'm',
            Self::Secrets => b's',
        }
    }

    /// Its word in a backup.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Secrets => "secrets",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|space| space.as_str() == word)
    }
}

/// Bytes of the tag of a namespace.
pub(crate) const SPACE_TAG_BYTES: usize = 16;
/// Bytes of a record's place: space, tag of the namespace, MAC of the name.
pub(crate) const PLACE_BYTES: usize = 1 + SPACE_TAG_BYTES + MAC_BYTES;

/// Where all records of a namespace lie.
pub(crate) type NamespacePlace = [u8; 1 + SPACE_TAG_BYTES];
/// Namespaces whose places are remembered.
const REMEMBERED_MAX: usize = 1024;
/// Where one record lies. Says nothing to who has no key.
pub(crate) type Place = [u8; PLACE_BYTES];

/// The place of the namespace that a record lies in.
pub(crate) fn namespace_of(place: &Place) -> NamespacePlace {
    place.first_chunk().copied().unwrap_or_default()
}

/// A root key with what is derived from it.
pub(crate) struct Root {
    pub(crate) number: u32,
    pub(crate) first_generation: u32,
    store: StoreId,
    key: LockedKey,
    names: Macs,
    /// What was made of the names of namespaces: asked for with each record, and as long to make as the place of the record.
    places: Cache<Namespace, [NamespacePlace; 2]>,
    tags: Macs,
    cursors: Macs,
    /// Seals the names of namespaces.
    pub(crate) namespaces: Cipher,
}

impl Root {
    pub(crate) fn new(store: &StoreId, number: u32, first_generation: u32, key: LockedKey) -> Result<Self, StoreError> {
        let purpose = |purpose: &str| derive(store, key.expose(), format!("aral.memory/v1/{purpose}").as_bytes());
        let macs = |name: &str| purpose(name).map(|key| Macs::new(key.expose()));
        Ok(Self {
            number,
            first_generation,
            store: *store,
            names: macs("names")?,
            places: Cache::new(REMEMBERED_MAX),
            tags: macs("tags")?,
            cursors: macs("cursors")?,
            namespaces: Cipher::new(purpose("namespaces")?.expose()),
            key,
        })
    }

    pub(crate) fn key(&self) -> &LockedKey {
        &self.key
    }

    /// What seals the slots of a generation.
    pub(crate) fn slots(&self, generation: u32) -> Result<Cipher, StoreError> {
        let purpose = [b"aral.memory/v1/slots".as_slice(), &generation.to_le_bytes()].concat();
        Ok(Cipher::new(derive(&self.store, self.key.expose(), &purpose)?.expose()))
    }

    pub(crate) fn namespace_place(&self, space: Space, namespace: &Namespace) -> NamespacePlace {
        let [memory, secrets] = self.places.get(namespace).unwrap_or_else(|| {
            let places = Space::ALL.map(|space| self.make_namespace_place(space, namespace));
            self.places.insert(namespace.clone(), places);
            places
        });
        match space {
            Space::Memory => memory,
            Space::Secrets => secrets,
        }
    }

    fn make_namespace_place(&self, space: Space, namespace: &Namespace) -> NamespacePlace {
        let mac = self.names.of(&[&[space.byte()], namespace.as_str().as_bytes()]);
        joined(&[&[space.byte()], &mac])
    }

    pub(crate) fn place(&self, namespace: &NamespacePlace, name: &RecordName) -> Place {
        let mac = self.names.of(&[namespace, name.as_str().as_bytes()]);
        joined(&[namespace, &mac])
    }

    /// A name for events.
    pub(crate) fn tag(&self, space: Space, namespace: &Namespace, name: &RecordName) -> [u8; MAC_BYTES] {
        let parts = [&[space.byte()], namespace.as_str().as_bytes(), name.as_str().as_bytes()];
        self.tags.of(&parts)
    }

    /// What makes a cursor good for one namespace and prefix alone.
    pub(crate) fn cursor(&self, namespace: &NamespacePlace, prefix: &str, position: &[u8]) -> [u8; MAC_BYTES] {
        self.cursors.of(&[namespace, prefix.as_bytes(), position])
    }
}

/// The keys in use: every root, and what seals the slots of every generation.
pub(crate) struct Keys {
    /// Oldest first. Never empty.
    pub(crate) roots: Vec<Arc<Root>>,
    newest: Arc<Root>,
    /// By generation.
    slots: Vec<(u32, Arc<Cipher>)>,
    /// Under which slots are written now.
    pub(crate) generation: u32,
}

impl Keys {
    pub(crate) fn new(roots: Vec<Arc<Root>>, generation: u32) -> Result<Self, StoreError> {
        let newest = roots.last().ok_or(StoreError::Corrupt { what: "the keyring" })?;
        let newest = Arc::clone(newest);
        let mut slots = Vec::new();
        let ends = roots.iter().skip(1).map(|next| next.first_generation);
        let ends = ends.chain([generation.saturating_add(1)]);
        for (root, end) in roots.iter().zip(ends) {
            for generation in root.first_generation..end {
                slots.push((generation, Arc::new(root.slots(generation)?)));
            }
        }
        Ok(Self {
            roots,
            newest,
            slots,
            generation,
        })
    }

    /// The root that new records lie under.
    pub(crate) fn newest(&self) -> &Arc<Root> {
        &self.newest
    }

    /// Where a record of this name may lie: under the newest root, or under an older one that it was not moved from yet.
    pub(crate) fn places(&self, space: Space, namespace: &Namespace, name: &RecordName) -> impl Iterator<Item = Place> {
        let roots = self.roots.iter().rev();
        roots.map(move |root| root.place(&root.namespace_place(space, namespace), name))
    }

    /// What seals the slots of a generation; none: there is no such generation any more.
    pub(crate) fn slots(&self, generation: u32) -> Option<&Cipher> {
        self.slots
            .iter()
            .rev()
            .find_map(|(one, cipher)| (*one == generation).then_some(&**cipher))
    }

    pub(crate) fn is_rotating(&self) -> bool {
        self.roots.len() > 1
    }
}
