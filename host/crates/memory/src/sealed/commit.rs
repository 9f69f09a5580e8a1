//! One writer at a time, for all who wait: whoever comes first writes for everybody behind, with one sync for all. The order
//! is what makes it safe: new keys, sync, records, sync, old keys destroyed, sync, answer. Where nothing old is touched, new
//! keys and records are synced at the same time. What a request changes is in its plan.

use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};

use super::allocation::Allocation;
use super::beside::Beside;
use super::discard::SLOTS_MAX;
use super::entry::CHUNK_BYTES;
use super::expiry::BelievedTime;
use super::keyring::{Content, Keyring};
use super::open::mark_unsynced;
use super::plan::{Plan, Written};
use super::queue::{Ticket, Turn};
use super::room::Room;
use super::root::Keys;
use super::slots::{self, SlotIndex};
use super::work::{Done, Work};
use super::{Inner, Step};
use crate::record::BATCH_OPERATIONS_MAX;
use crate::store::StoreError;

/// Requests that are written together. Bounds how long the first of them waits for the last.
pub(super) const GROUP_MAX: usize = 256;
/// Bytes that are written together, at least one request whatever its size.
pub(super) const GROUP_BYTES_MAX: u64 = 8 << 20;
/// Slots that one commit dooms at most. What it says of them must be no larger than a chunk, so that sled keeps it where it is
/// synced.
pub(super) const DOOMED_MAX: usize = (CHUNK_BYTES - 8) / 4;
/// Records that are changed together, at least one request's. There is room for the keys of one more that is damaged.
pub(super) const GROUP_RECORDS_MAX: usize = 4000;
const _: () = assert!(GROUP_RECORDS_MAX + SLOTS_MAX < DOOMED_MAX && GROUP_RECORDS_MAX >= BATCH_OPERATIONS_MAX);
/// Seals that are counted at once in the keyring. What is left of them when the process is killed counts as made.
const SEALS_STEP: u64 = 1 << 16;
/// Seals under one key with random nonces. With 2^31 two nonces are the same with a probability below 2^-34 (NIST SP
/// 800-38D allows 2^32).
const SEALS_MAX: u64 = 1 << 31;

/// What only the one writer touches.
pub(super) struct Writer {
    /// Syncs new keys while records are written that need no order.
    beside: Beside,
    pub(super) allocation: Allocation,
    pub(super) keyring: Keyring,
    /// Seals that are counted in the keyring and not made yet.
    pub(super) seals_left: u64,
    /// The newest commit.
    pub(super) commit: u64,
    /// By which what has expired is removed.
    pub(super) time: BelievedTime,
    /// Set when nobody knows what is on the disk: then nothing more is written until the store is opened again.
    failed: bool,
}

impl Writer {
    pub(super) fn new(
        beside: Beside,
        allocation: Allocation,
        keyring: Keyring,
        commit: u64,
        time: BelievedTime,
    ) -> Self {
        Self {
            beside,
            allocation,
            keyring,
            seals_left: 0,
            commit,
            time,
            failed: false,
        }
    }
}

/// What everybody is told once nobody knows what is on the disk.
pub(super) fn failed() -> StoreError {
    let told = "an earlier write failed; the store refuses writes until it is opened again";
    StoreError::io("write", told)
}

impl Inner {
    /// Does one piece of work; when this returns, it is on stable storage or was not done.
    pub(super) fn submit(&self, work: Work) -> Result<Done, StoreError> {
        let mut tickets = self.queue.enqueue([work]);
        let done = tickets.pop().map(|ticket| self.wait(&ticket));
        done.unwrap_or_else(|| Ok(Done::default()))
    }

    /// Does several pieces of work, together as far as they fit. The first failure is told; the others are done or not.
    pub(super) fn submit_all(&self, works: Vec<Work>) -> Result<(), StoreError> {
        self.submit_each(works).into_iter().try_for_each(|done| done.map(drop))
    }

    /// The same, and says of each what became of it.
    pub(super) fn submit_each(&self, works: Vec<Work>) -> Vec<Result<Done, StoreError>> {
        let tickets = self.queue.enqueue(works);
        tickets.iter().map(|ticket| self.wait(ticket)).collect()
    }

    /// Waits for whoever writes, or is the one who does.
    fn wait(&self, ticket: &Arc<Ticket>) -> Result<Done, StoreError> {
        loop {
            match self.queue.turn(ticket) {
                Turn::Done(done) => return done,
                Turn::Waits | Turn::Leads => {
                    let mut lead = self.queue.lead();
                    let writer = self.writer();
                    // Not before: whoever comes while another one has the right to write goes with this one.
                    let group = lead.group();
                    match writer {
                        Ok(mut writer) => self.write_group(&mut writer, group),
                        Err(_) => group.iter().for_each(|ticket| ticket.fail()),
                    }
                    lead.end();
                }
            }
        }
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    /// The right to write. A writer that panicked left nobody knows what.
    pub(super) fn writer(&self) -> Result<MutexGuard<'_, Writer>, StoreError> {
        let writer = self.writer.lock().map_err(|_| failed())?;
        if writer.failed {
            return Err(failed());
        }
        Ok(writer)
    }

    /// From now on nothing is written.
    pub(super) fn refuse_writes(&self) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer.failed = true;
    }

    /// Whether it would be refused. Waits for nobody: while somebody writes, it would not.
    pub(super) fn check_writable(&self) -> Result<(), StoreError> {
        self.tree.log_sync.check()?;
        match self.writer.try_lock() {
            Ok(writer) if writer.failed => Err(failed()),
            Ok(_) | Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Poisoned(_)) => Err(failed()),
        }
    }

    fn write_group(&self, writer: &mut Writer, group: &[Arc<Ticket>]) {
        let mut planned = Vec::with_capacity(group.len());
        let written = self.plan_group(writer, group, &mut planned);
        let outcome = written.and_then(|written| self.write(writer, written));
        match outcome {
            Ok(()) => {
                for (ticket, done) in planned {
                    ticket.tell(done);
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for ticket in group {
                    let failed = StoreError::io("write", Shared(Arc::clone(&error)));
                    // Who asked for what cannot be is told that, whatever happened to the others.
                    let own = planned.iter_mut().find(|(one, _)| Arc::ptr_eq(one, ticket));
                    let done = match own.map(|(_, done)| std::mem::replace(done, Ok(Done::default()))) {
                        Some(Err(own)) => own,
                        Some(Ok(_)) | None => failed,
                    };
                    ticket.tell(Err(done));
                }
            }
        }
    }

    /// The changes of the next commit, none yet.
    pub(super) fn plan<'a>(&'a self, writer: &'a mut Writer) -> Plan<'a> {
        Plan::new(
            &self.tree,
            &self.slots,
            self.keys.load_full(),
            &self.store,
            writer,
            (self.now(), self.now_up()),
        )
    }

    fn plan_group(
        &self,
        writer: &mut Writer,
        group: &[Arc<Ticket>],
        planned: &mut Vec<(Arc<Ticket>, Result<Done, StoreError>)>,
    ) -> Result<Written, StoreError> {
        let mut works: Vec<(&Arc<Ticket>, Work)> = group
            .iter()
            .filter_map(|ticket| Some((ticket, ticket.take()?)))
            .collect();
        let seals = works.iter().map(|(_, work)| work.seals()).sum();
        if let Err(error) = self.count_seals(writer, seals) {
            // Where no key may seal any more, what seals nothing, such as a deletion, is done all the same.
            let error = Arc::new(error);
            for (ticket, _) in works.extract_if(.., |(_, work)| work.seals() > 0) {
                let refused = StoreError::io("write", Shared(Arc::clone(&error)));
                planned.push((Arc::clone(ticket), Err(refused)));
            }
        }
        let room = self.room()?;
        let mut plan = self.plan(writer);
        let keys = Arc::clone(&plan.keys);
        plan.discarded
            .add(works.iter().flat_map(|(_, work)| work.discards(&keys)));
        plan.reserved = works.iter().map(|(_, work)| work.records()).sum();
        for (ticket, work) in works {
            plan.reserved = plan.reserved.saturating_sub(work.records());
            let mut mark = plan.mark();
            let done = admit(&room, &work).and_then(|()| work.plan(&mut plan, &mut mark));
            if done.is_err() {
                plan.back_to(mark);
            }
            planned.push((Arc::clone(ticket), done));
        }
        plan.finish()
    }

    /// Writes in the order that loses nothing, wherever it is cut.
    pub(super) fn write(&self, writer: &mut Writer, written: Written) -> Result<(), StoreError> {
        if written.is_empty {
            return Ok(());
        }
        let made: Vec<u32> = written.slots.iter().map(|(index, _)| *index).collect();
        if !made.is_empty() {
            let stored = self.slots.write(&written.slots).and_then(|()| {
                self.slots.note_durable(writer.commit)?;
                self.steps.reached(Step::SlotsWritten);
                if written.only_adds {
                    return writer.beside.begin().map_err(slots::syncing);
                }
                self.slots.sync()?;
                self.steps.reached(Step::SlotsSynced);
                Ok(())
            });
            if let Err(error) = stored {
                // Their keys are of no use to anybody; they are destroyed all the same.
                let _or_the_writer_has_failed = self.destroy_orphans(writer, &made);
                return Err(error);
            }
        }
        // From here on a failure leaves open what is on the disk.
        writer.commit = writer.commit.saturating_add(1);
        let changing = self.recents.changing(&written.places);
        let applied = self.tree.apply(written.batch);
        drop(changing);
        let mut rest = applied.and_then(|()| self.write_records());
        if written.only_adds {
            rest = writer.beside.wait().map_err(slots::syncing).and(rest);
            self.steps.reached(Step::SlotsSynced);
        }
        let rest = rest.and_then(|()| {
            if written.doomed.is_empty() {
                return Ok(());
            }
            self.slots.destroy(&written.doomed)?;
            self.slots.note_durable(writer.commit)?;
            self.steps.reached(Step::SlotsDestroyed);
            self.slots.sync()
        });
        if rest.is_err() {
            self.fail(writer);
            return rest;
        }
        self.steps.reached(Step::DestructionSynced);
        writer.allocation.give_back(&written.doomed);
        Ok(())
    }

    /// Destroys keys that no record names, and gives their slots back once they are gone from the disk. Where that fails, nobody
    /// knows what the disk has: the system may show zeros that it will not write any more.
    pub(super) fn destroy_orphans(&self, writer: &mut Writer, orphans: &[SlotIndex]) -> Result<(), StoreError> {
        if orphans.is_empty() {
            return Ok(());
        }
        let destroyed = self.slots.destroy(orphans).and_then(|()| self.slots.sync());
        match destroyed {
            Ok(()) => writer.allocation.give_back(orphans),
            Err(_) => self.fail(writer),
        }
        destroyed
    }

    /// Nobody knows any more what is on the disk: nothing is written until the store is opened again.
    pub(super) fn fail(&self, writer: &mut Writer) {
        writer.failed = true;
        mark_unsynced(&self.dir);
    }

    /// Sees to it that the records that were applied stay.
    fn write_records(&self) -> Result<(), StoreError> {
        self.steps.reached(Step::RecordsApplied);
        self.tree.flush()?;
        self.steps.reached(Step::RecordsFlushed);
        self.tree.sync()?;
        self.steps.reached(Step::RecordsSynced);
        Ok(())
    }

    /// Sees to it that no key seals more than it may: then the next generation begins.
    fn count_seals(&self, writer: &mut Writer, wanted: u64) -> Result<(), StoreError> {
        while writer.seals_left < wanted {
            let mut content = writer.keyring.content.clone();
            content.seals = content.seals.saturating_add(SEALS_STEP);
            if content.seals > SEALS_MAX {
                content.generation = writer.keyring.next_generation()?;
                content.seals = SEALS_STEP;
                writer.seals_left = 0;
            }
            let keys = Keys::new(self.keys.load().roots.clone(), content.generation)?;
            self.replace_keyring(writer, content)?;
            self.keys.store(Arc::new(keys));
            writer.seals_left = writer.seals_left.saturating_add(SEALS_STEP);
        }
        writer.seals_left = writer.seals_left.saturating_sub(wanted);
        Ok(())
    }

    /// Nothing is sealed any more: seals that were counted and not made count no longer.
    pub(super) fn give_back_seals(&self, writer: &mut Writer) -> Result<(), StoreError> {
        if writer.seals_left == 0 {
            return Ok(());
        }
        let mut content = writer.keyring.content.clone();
        content.seals = content.seals.saturating_sub(writer.seals_left);
        writer.seals_left = 0;
        self.replace_keyring(writer, content)
    }

    /// Replaces what the keyring says. Where that fails, the system may show both pages alike where the disk has an old one: the
    /// next opening writes them once more.
    pub(super) fn replace_keyring(&self, writer: &mut Writer, content: Content) -> Result<(), StoreError> {
        let replaced = writer.keyring.replace(content);
        if replaced.is_ok() {
            self.wanted.store(Arc::new(writer.keyring.content.keys()));
        } else if matches!(replaced, Err(StoreError::Io { .. })) {
            mark_unsynced(&self.dir);
        }
        replaced
    }

    /// What the disk of the store has left.
    pub(super) fn room(&self) -> Result<Room, StoreError> {
        Room::on(&self.dir, self.free_bytes_min)
    }
}

/// Whether there is room for a piece of work: for what it writes, and once more for what sled makes of it.
fn admit(room: &Room, work: &Work) -> Result<(), StoreError> {
    match work.bytes() {
        0 => Ok(()),
        bytes => room.holds(bytes.saturating_mul(2)),
    }
}

/// One failure, told to everybody whom it hit.
#[derive(Debug)]
struct Shared(Arc<StoreError>);

impl std::fmt::Display for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Shared {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&*self.0)
    }
}
