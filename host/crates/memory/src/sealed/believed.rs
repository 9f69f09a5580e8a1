//! What a record that is there says of itself, before it is replaced or removed. What lies in the tree was not authenticated:
//! no condition is judged by it, and no classification told, before its name has opened under its key.

use aral_contract::id::Namespace;

use super::entry::{self, Header, Owner};
use super::plan::{Located, Plan};
use super::root::Space;
use super::tree::{key, prefix};
use crate::record::{Precondition, RecordName};
use crate::store::StoreError;

/// What is there for whoever writes.
pub(super) enum Believed {
    /// Nothing, or nothing any more: its time is over.
    Absent,
    Live(Header),
    /// Something that does not open, so that nothing is known of it but that it is there.
    Damaged,
}

impl Believed {
    /// Its version, for a condition to be judged by; none: it is not there. What does not open can be replaced and removed, but meets
    /// no condition.
    pub(super) fn version(&self, precondition: Precondition) -> Result<Option<u64>, StoreError> {
        match (self, precondition) {
            (Self::Live(header), _) => Ok(Some(header.version)),
            (Self::Absent, _) | (Self::Damaged, Precondition::Any) => Ok(None),
            (Self::Damaged, Precondition::Absent | Precondition::Version(_)) => Err(StoreError::DAMAGED_RECORD),
        }
    }
}

impl Plan<'_> {
    /// What is to be believed of what was located by this name.
    pub(super) fn believed(
        &self,
        space: Space,
        namespace: &Namespace,
        name: &RecordName,
        located: Option<&Located>,
    ) -> Result<Believed, StoreError> {
        let Some(located) = located else {
            return Ok(Believed::Absent);
        };
        Ok(if !self.opens(space, namespace, name, located)? {
            Believed::Damaged
        } else if located.header.is_expired(|| self.now) {
            Believed::Absent
        } else {
            Believed::Live(located.header)
        })
    }

    fn opens(
        &self,
        space: Space,
        namespace: &Namespace,
        name: &RecordName,
        located: &Located,
    ) -> Result<bool, StoreError> {
        let Located { place, header } = located;
        // What this group writes was made here.
        if self.records.contains_key(place) {
            return Ok(true);
        }
        let Some(entry) = self.tree.get(&key(prefix::RECORD, &[place]))? else {
            return Ok(false);
        };
        let slot = self.slot_file.read(header.slot)?;
        let key_of_record = (slot.generation() == header.generation)
            .then(|| slot.open(&self.keys, self.store, header.slot, place))
            .flatten();
        let Some(key_of_record) = key_of_record else {
            return Ok(false);
        };
        let owner = Owner {
            store: self.store,
            space,
            namespace,
        };
        let opened = entry::open_name(owner, header, &key_of_record, &entry);
        Ok(opened.is_ok_and(|opened| opened == *name))
    }
}
