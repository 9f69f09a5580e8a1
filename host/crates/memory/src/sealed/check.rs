//! Looking through the whole store for records that do not open, and taking those out that nothing opens any more. One of them
//! stops whatever has to open all: a listing, a rotation, a backup.

use std::collections::HashSet;
use std::ops::ControlFlow;

use aral_contract::id::Namespace;

use super::commit::GROUP_RECORDS_MAX;
use super::discard::SLOTS_MAX;
use super::entry::{Header, Owner};
use super::read::{Found, Read};
use super::root::{Keys, NamespacePlace, Place, Space, namespace_of};
use super::tree::{self, Scan, key, prefix};
use super::whole_record::WholeRecord;
use super::work::Work;
use super::{Inner, SealedStore};
use crate::key::hex;
use crate::record::RecordName;
use crate::store::StoreError;

/// Places that are looked up, records that are taken out, and namespaces that are counted anew, at once. Bounds memory, and how long
/// who writes meanwhile waits. As many as are taken out with one commit: each one that is takes a look through all slots.
const AT_ONCE: usize = GROUP_RECORDS_MAX / (SLOTS_MAX + 1);
/// Records that are looked through for one commit that counts namespaces anew, or those of one namespace. Nobody else writes meanwhile.
const COUNTED_AT_ONCE: usize = 20_000;

/// A record that does not open, or all records of a namespace whose name does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// In which namespace; none: nothing says so any more. Who knows its name can read the records, and whatever is written
    /// by that name puts it back.
    pub namespace: Option<Namespace>,
    /// Whether it is a secret.
    pub is_secret: bool,
    /// Its name, if that still opens.
    pub name: Option<RecordName>,
    /// Where it lies: what the database knows it by, in hex. Of a namespace: with what that of each of its records begins.
    pub place: String,
    /// Whether it was taken out. Of a namespace: whether anything was, which is told when the first of it is gone; whether that was
    /// all of it says how many of them [`Checked`] counts.
    pub deleted: bool,
}

/// What was seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checked {
    /// Records that were looked at.
    pub records: u64,
    /// Of these, how many do not open.
    pub damaged: u64,
    /// Of these, how many were taken out.
    pub deleted: u64,
    /// Namespaces whose name does not open. Their records are none of those that were looked at.
    pub nameless: u64,
    /// Of these, of how many all records were taken out.
    pub nameless_deleted: u64,
}

/// What a check takes out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Delete {
    /// Records that do not open.
    pub damaged: bool,
    /// All records of a namespace whose name does not open. Who knows the name can read them until then.
    pub nameless: bool,
}

/// What lies at a place.
pub(super) enum Look {
    /// Nothing, or nothing any more.
    Gone,
    /// A record, expired or not.
    Whole(WholeRecord),
    /// Something that did not open twice, and was the same both times. None: not even its header can be read.
    Damaged(Option<Header>),
}

impl SealedStore {
    /// Opens every record of both spaces, and tells of each that does not open, and of each namespace whose name does not. What
    /// `delete` says is taken out and its keys destroyed: whatever of it could still be saved must be saved before. Reading and
    /// writing go on meanwhile. It ends where `progress` says so, which is asked before each commit that takes something
    /// out: what was taken out until then was told of, and what was only found stays. After that only those namespaces are counted
    /// anew of which something is gone, many of them with one commit.
    ///
    /// # Errors
    /// [`StoreError::Busy`] while keys are rotated or a backup is made; [`StoreError::Corrupt`] if the database cannot be
    /// read as such; [`StoreError::Invalid`] if it was ended; and as [`RecordStore::apply`](crate::RecordStore::apply).
    pub fn check(
        &self,
        delete: Delete,
        progress: &mut dyn FnMut(&Checked) -> ControlFlow<()>,
        found: &mut dyn FnMut(Damaged),
    ) -> Result<Checked, StoreError> {
        // A record that moves between roots while this runs could be missed in both.
        let _alone = self.0.alone()?;
        let mut run = Run {
            checked: Checked::default(),
            progress,
            is_ended: false,
        };
        self.0.check_nameless(&mut run, delete.nameless, found)?;
        self.0.check_records(&mut run, delete.damaged, found)?;
        Ok(run.checked)
    }
}

/// A check under way: what it has seen, who is told of that and may end it, and whether that happened.
struct Run<'a> {
    checked: Checked,
    progress: &'a mut dyn FnMut(&Checked) -> ControlFlow<()>,
    is_ended: bool,
}

impl Run<'_> {
    /// Says how far it is. An error: it is to end here.
    fn step(&mut self) -> Result<(), StoreError> {
        if (self.progress)(&self.checked).is_continue() {
            return Ok(());
        }
        self.is_ended = true;
        Err(StoreError::Invalid("the check was ended before it was done".to_owned()))
    }
}

fn count(one: &mut u64) {
    *one = one.saturating_add(1);
}

impl Inner {
    /// Tells of each namespace whose name does not open, and takes out all of it where `delete` says so.
    fn check_nameless(
        &self,
        run: &mut Run<'_>,
        delete: bool,
        found: &mut dyn FnMut(Damaged),
    ) -> Result<(), StoreError> {
        self.each_nameless(&mut |space, place| {
            count(&mut run.checked.nameless);
            run.step()?;
            let mut tell = |deleted: bool| {
                found(Damaged {
                    namespace: None,
                    is_secret: space == Space::Secrets,
                    name: None,
                    place: hex(&place),
                    deleted,
                });
            };
            if !delete {
                tell(false);
                return run.step();
            }
            let mut is_told = false;
            let all = self.discard_all(&place, &mut || run.step(), &mut || {
                is_told = true;
                tell(true);
            });
            if !is_told {
                tell(false);
            }
            all?;
            count(&mut run.checked.nameless_deleted);
            run.step()
        })
    }

    /// Opens every record, tells of each that does not open, and takes those out where `delete` says so.
    fn check_records(&self, run: &mut Run<'_>, delete: bool, found: &mut dyn FnMut(Damaged)) -> Result<(), StoreError> {
        let mut changed: HashSet<NamespacePlace> = HashSet::new();
        let mut doomed: Vec<(Place, Option<Header>, Damaged)> = Vec::new();
        let looked = self.each_place(&mut |space, namespace, place| {
            let header = match self.look(space, namespace, place)? {
                Look::Gone => return Ok(()),
                Look::Whole(_) => {
                    count(&mut run.checked.records);
                    return run.step();
                }
                Look::Damaged(header) => header,
            };
            count(&mut run.checked.records);
            count(&mut run.checked.damaged);
            run.step()?;
            let one = Damaged {
                namespace: Some(namespace.clone()),
                is_secret: space == Space::Secrets,
                name: self.name_at(space, namespace, place),
                place: hex(place),
                deleted: false,
            };
            if !delete {
                found(one);
                return Ok(());
            }
            doomed.push((*place, header, one));
            if doomed.len() == AT_ONCE {
                self.discard_some(&mut doomed, &mut run.checked, &mut changed, found)?;
                run.step()?;
            }
            Ok::<(), StoreError>(())
        });
        let discarded = if run.is_ended {
            // Whoever ends it may be unable to record what more is taken out.
            doomed.drain(..).for_each(|(_, _, one)| found(one));
            Ok(())
        } else {
            // What was found goes, whatever else keeps more from being found.
            self.discard_some(&mut doomed, &mut run.checked, &mut changed, found)
        };
        let _at_its_end = (run.progress)(&run.checked);
        // Nothing that a damaged record said of itself counts, and what was never counted may have been taken out.
        let recounted = self.recount(changed);
        looked.and(discarded).and(recounted)
    }

    /// Takes damaged records out, together: all slots are looked through for what belongs to them. Notes of which namespaces something
    /// is gone.
    fn discard_some(
        &self,
        doomed: &mut Vec<(Place, Option<Header>, Damaged)>,
        checked: &mut Checked,
        changed: &mut HashSet<NamespacePlace>,
        found: &mut dyn FnMut(Damaged),
    ) -> Result<(), StoreError> {
        let discard = |(place, header, _): &(Place, Option<Header>, Damaged)| Work::Discard {
            place: *place,
            header: *header,
        };
        let works = doomed.iter().map(discard).collect();
        let mut discarded = Ok(());
        for (done, (place, _, one)) in self.submit_each(works).into_iter().zip(doomed.drain(..)) {
            let deleted = match done {
                Ok(done) => done.discarded,
                Err(error) => {
                    discarded = discarded.and(Err(error));
                    false
                }
            };
            if deleted {
                changed.insert(namespace_of(&place));
            }
            checked.deleted = checked.deleted.saturating_add(deleted.into());
            found(Damaged { deleted, ..one });
        }
        discarded
    }

    /// Has namespaces counted anew, some with each commit: who writes meanwhile gets a turn in between.
    pub(super) fn recount(&self, namespaces: HashSet<NamespacePlace>) -> Result<(), StoreError> {
        let (mut some, mut left) = (Vec::new(), COUNTED_AT_ONCE);
        let mut recounted = Ok(());
        for namespace in namespaces {
            // One that cannot be looked through fails when it is counted.
            let records = self.records_in(&namespace).unwrap_or(COUNTED_AT_ONCE);
            if some.len() == AT_ONCE || records > left {
                recounted = recounted.and(self.submit_all(std::mem::take(&mut some)));
                left = COUNTED_AT_ONCE;
            }
            left = left.saturating_sub(records);
            some.push(Work::Recount { namespace });
        }
        recounted.and(self.submit_all(some))
    }

    /// How many records lie in a namespace, as far as that makes a difference to [`Self::recount`].
    fn records_in(&self, namespace: &NamespacePlace) -> Result<usize, StoreError> {
        let mut records = 0_usize;
        self.tree.scan(&key(prefix::RECORD, &[namespace]), None, &mut |_, _| {
            records = records.saturating_add(1);
            Ok(if records == COUNTED_AT_ONCE {
                Scan::Stop
            } else {
                Scan::Next
            })
        })?;
        Ok(records)
    }

    /// Takes out all that lies in a namespace, but what is written again meanwhile. `step` is asked before each commit, and `begun` is
    /// told once, after the first one that took something out: all of it may take long, and be cut off at any time.
    fn discard_all(
        &self,
        namespace: &NamespacePlace,
        step: &mut dyn FnMut() -> Result<(), StoreError>,
        begun: &mut dyn FnMut(),
    ) -> Result<(), StoreError> {
        let discard = |place: &Place| {
            let entry = self.tree.get(&key(prefix::RECORD, &[place]))?;
            let header = entry.and_then(|entry| Header::read(&entry).ok());
            Ok(Work::Discard { place: *place, header })
        };
        let mut is_any = false;
        let taken = self.each_some(namespace, &mut |some| {
            step()?;
            let works = some.iter().map(discard).collect::<Result<_, StoreError>>()?;
            let mut discarded = Ok(());
            for done in self.submit_each(works) {
                match done {
                    Ok(done) if done.discarded && !is_any => {
                        is_any = true;
                        begun();
                    }
                    Ok(_) => {}
                    Err(error) => discarded = discarded.and(Err(error)),
                }
            }
            discarded
        });
        if !is_any {
            return taken;
        }
        let namespace = *namespace;
        let recounted = self.submit(Work::Recount { namespace }).map(drop);
        taken.and(recounted)
    }

    /// Shows the places of the records of a namespace, some at a time: what is shown may be changed meanwhile.
    pub(super) fn each_some<E: From<StoreError>>(
        &self,
        namespace: &NamespacePlace,
        show: &mut dyn FnMut(&[Place]) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = key(prefix::RECORD, &[namespace]);
        let mut after: Option<Vec<u8>> = None;
        loop {
            let mut some: Vec<Place> = Vec::with_capacity(AT_ONCE);
            self.tree.scan(&start, after.as_deref(), &mut |at, _| {
                some.extend(tree::place(at));
                Ok(if some.len() == AT_ONCE { Scan::Stop } else { Scan::Next })
            })?;
            let Some(last) = some.last() else { return Ok(()) };
            after = Some(key(prefix::RECORD, &[last]));
            show(&some)?;
        }
    }

    /// Opens what lies at a place. What does not open may have been replaced between two looks, so that a second one tells.
    pub(super) fn look(&self, space: Space, namespace: &Namespace, place: &Place) -> Result<Look, StoreError> {
        let owner = self.owner(space, namespace);
        let mut before: Option<Option<Header>> = None;
        loop {
            let keys = self.keys.load_full();
            let Some(entry) = self.tree.get(&key(prefix::RECORD, &[place]))? else {
                return Ok(Look::Gone);
            };
            let header = match Header::read(&entry) {
                Err(error) if error.is_damage() => None,
                other => Some(other?),
            };
            let opened = Found::new(&self.slots, *place, entry);
            let read: Read<'_> = &|at| self.tree.get(at);
            match opened.and_then(|found| self.whole(&keys, owner, &found, read)) {
                Ok(record) => return Ok(Look::Whole(record)),
                Err(error) if !error.is_damage() => return Err(error),
                Err(_) if before == Some(header) => return Ok(Look::Damaged(header)),
                Err(_) => before = Some(header),
            }
        }
    }

    /// All that makes up a record; `read` has what lies beside it.
    pub(super) fn whole(
        &self,
        keys: &Keys,
        owner: Owner<'_>,
        found: &Found,
        read: Read<'_>,
    ) -> Result<WholeRecord, StoreError> {
        let damaged = StoreError::DAMAGED_RECORD;
        let name = self.open_name(keys, owner, found)?.ok_or(damaged)?;
        let record = self.open_record(keys, owner, &name, found, read)?;
        Ok(WholeRecord {
            space: owner.space,
            namespace: owner.namespace.clone(),
            name,
            value: record.value.into(),
            version: record.version,
            expires: found.header.expires,
            classification: record.classification,
        })
    }

    /// The name of a record whose value does not open; none: that does not open either.
    pub(super) fn name_at(&self, space: Space, namespace: &Namespace, place: &Place) -> Option<RecordName> {
        let found = self.entry(place).ok().flatten()?;
        let keys = self.keys.load_full();
        let owner = self.owner(space, namespace);
        self.open_name(&keys, owner, &found).ok().flatten()
    }
}
