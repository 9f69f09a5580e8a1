//! Requests that wait to be written, and whose turn it is: one of those who wait writes for all that have come by then, and hands
//! on to the next one. Whoever is done learns it from his own ticket, and not by waiting for the right to write, which the next
//! one has by then: so those who are done come again while that one writes, and go together the next time.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::commit::{GROUP_BYTES_MAX, GROUP_MAX, GROUP_RECORDS_MAX, failed};
use super::work::{Done, Work};
use crate::store::StoreError;

/// A request, until who made it knows what became of it.
pub(super) struct Ticket {
    bytes: u64,
    records: usize,
    work: Mutex<Option<Work>>,
    turn: Mutex<Turn>,
    told: Condvar,
}

/// What a request waits for.
pub(super) enum Turn {
    /// Somebody else.
    Waits,
    /// Nobody: whoever made it writes, it and others.
    Leads,
    /// It is over.
    Done(Result<Done, StoreError>),
}

/// Requests that wait. Each has a thread that waits for it, so that it is as bounded as those are.
#[derive(Default)]
pub(super) struct Queue(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    tickets: VecDeque<Arc<Ticket>>,
    /// One of those who wait writes, or was told to.
    is_led: bool,
}

/// What is written together, as far as there is room.
#[derive(Default)]
pub(super) struct Together {
    requests: usize,
    bytes: u64,
    records: usize,
}

impl Together {
    /// Takes one more request, if there is room for it. There is always room for the first.
    pub(super) fn takes(&mut self, bytes: u64, records: usize) -> bool {
        let bytes = self.bytes.saturating_add(bytes);
        let records = self.records.saturating_add(records);
        let is_full = self.requests == GROUP_MAX || bytes > GROUP_BYTES_MAX || records > GROUP_RECORDS_MAX;
        if is_full && self.requests > 0 {
            return false;
        }
        *self = Self {
            requests: self.requests.saturating_add(1),
            bytes,
            records,
        };
        true
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ticket {
    fn new(work: Work) -> Arc<Self> {
        Arc::new(Self {
            bytes: work.bytes(),
            records: work.records(),
            work: Mutex::new(Some(work)),
            turn: Mutex::new(Turn::Waits),
            told: Condvar::new(),
        })
    }

    /// What it asks for, once.
    pub(super) fn take(&self) -> Option<Work> {
        lock(&self.work).take()
    }

    /// Says what became of it.
    pub(super) fn tell(&self, done: Result<Done, StoreError>) {
        self.set(Turn::Done(done));
    }

    /// Nobody takes it any more: it must not stay with its values.
    pub(super) fn fail(&self) {
        drop(self.take());
        self.tell(Err(failed()));
    }

    fn set(&self, turn: Turn) {
        *lock(&self.turn) = turn;
        self.told.notify_one();
    }
}

impl Queue {
    pub(super) fn enqueue(&self, works: impl IntoIterator<Item = Work>) -> Vec<Arc<Ticket>> {
        let tickets: Vec<Arc<Ticket>> = works.into_iter().map(Ticket::new).collect();
        lock(&self.0).tickets.extend(tickets.iter().map(Arc::clone));
        tickets
    }

    /// Waits until a request is done, or who made it has to write.
    pub(super) fn turn(&self, ticket: &Ticket) -> Turn {
        let mut waiting = lock(&self.0);
        let mut turn = lock(&ticket.turn);
        if matches!(*turn, Turn::Waits) && !waiting.is_led {
            waiting.is_led = true;
            return Turn::Leads;
        }
        drop(waiting);
        while matches!(*turn, Turn::Waits) {
            turn = ticket.told.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
        std::mem::replace(&mut *turn, Turn::Waits)
    }

    /// For whoever has the turn.
    pub(super) fn lead(&self) -> Lead<'_> {
        Lead {
            queue: self,
            group: Vec::new(),
            is_over: false,
        }
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        lock(&self.0).tickets.len()
    }
}

/// The turn. Handed on when it is dropped. Whoever panics before he is over with it has left nobody knows what: nobody writes after
/// that, and whoever waits is told so, also who waits behind: the next one may be of the thread that panics.
pub(super) struct Lead<'a> {
    queue: &'a Queue,
    group: Vec<Arc<Ticket>>,
    is_over: bool,
}

impl Lead<'_> {
    /// Takes those that are written together.
    pub(super) fn group(&mut self) -> &[Arc<Ticket>] {
        let mut waiting = lock(&self.queue.0);
        let mut together = Together::default();
        while waiting
            .tickets
            .front()
            .is_some_and(|next| together.takes(next.bytes, next.records))
        {
            self.group.extend(waiting.tickets.pop_front());
        }
        &self.group
    }

    /// All of them were told.
    pub(super) fn end(mut self) {
        self.is_over = true;
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut waiting = lock(&self.queue.0);
        if !self.is_over {
            let untold = self
                .group
                .iter()
                .filter(|ticket| matches!(*lock(&ticket.turn), Turn::Waits));
            untold.for_each(|ticket| ticket.fail());
            waiting.tickets.drain(..).for_each(|ticket| ticket.fail());
        }
        match waiting.tickets.front() {
            Some(next) => next.set(Turn::Leads),
            None => waiting.is_led = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    fn some(queue: &Queue, count: usize) -> Vec<Arc<Ticket>> {
        queue.enqueue((0..count).map(|_| Work::Sweep { records_max: 1 }))
    }

    fn is_done(queue: &Queue, ticket: &Ticket) -> bool {
        matches!(queue.turn(ticket), Turn::Done(_))
    }

    #[test]
    fn who_is_done_does_not_wait_for_who_writes_next() {
        let queue = Queue::default();
        let first = some(&queue, 3);
        assert!(matches!(queue.turn(&first[1]), Turn::Leads));
        let mut lead = queue.lead();
        assert_eq!(lead.group().len(), 3);
        let later = some(&queue, 2);
        first.iter().for_each(|ticket| ticket.tell(Ok(Done::default())));
        lead.end();
        // The next one has the turn from now on.
        let next = queue.lead();
        assert!(first.iter().all(|ticket| is_done(&queue, ticket)));
        assert!(matches!(queue.turn(&later[0]), Turn::Leads));
        next.end();
        assert!(matches!(queue.turn(&later[0]), Turn::Leads), "it is still there");
        let mut next = queue.lead();
        assert_eq!(next.group().len(), 2);
        later.iter().for_each(|ticket| ticket.tell(Ok(Done::default())));
        next.end();
        assert!(is_done(&queue, &later[1]));
        assert!(!lock(&queue.0).is_led);
    }

    #[test]
    fn what_goes_together_is_bounded_by_requests_bytes_and_records() {
        let taken = |bytes, records| {
            let mut together = Together::default();
            (0..=GROUP_MAX).take_while(|_| together.takes(bytes, records)).count()
        };
        assert_eq!(taken(0, 0), GROUP_MAX);
        assert_eq!(taken(GROUP_BYTES_MAX / 4, 0), 4);
        assert_eq!(taken(0, GROUP_RECORDS_MAX / 4), 4);
        // One alone goes whatever its size.
        assert_eq!(taken(u64::MAX, usize::MAX), 1);
    }

    #[test]
    fn a_writer_that_panics_leaves_nobody_waiting() {
        let queue = Queue::default();
        // One more than go together.
        let tickets = some(&queue, GROUP_MAX + 1);
        assert!(matches!(queue.turn(&tickets[0]), Turn::Leads));
        let writes = || {
            let mut lead = queue.lead();
            assert_eq!(lead.group().len(), GROUP_MAX);
            panic!("it writes no more");
        };
        assert!(catch_unwind(AssertUnwindSafe(writes)).is_err());
        for ticket in [&tickets[1], &tickets[GROUP_MAX]] {
            assert!(matches!(queue.turn(ticket), Turn::Done(Err(_))));
            assert!(ticket.take().is_none(), "its value stays with nobody");
        }
        assert_eq!(queue.waiting(), 0);
        let later = some(&queue, 1);
        assert!(matches!(queue.turn(&later[0]), Turn::Leads));
    }

    #[test]
    fn those_who_come_while_another_one_writes_go_together() {
        const WRITERS: usize = 8;
        let queue = Queue::default();
        let groups = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..WRITERS {
                scope.spawn(|| {
                    for _ in 0..100 {
                        let ticket = some(&queue, 1).pop().unwrap();
                        while matches!(queue.turn(&ticket), Turn::Leads) {
                            let mut lead = queue.lead();
                            // What a disk takes.
                            std::thread::sleep(std::time::Duration::from_micros(200));
                            let group = lead.group();
                            lock(&groups).push(group.len());
                            group.iter().for_each(|ticket| ticket.tell(Ok(Done::default())));
                            lead.end();
                        }
                    }
                });
            }
        });
        let groups = lock(&groups);
        assert_eq!(groups.iter().sum::<usize>(), WRITERS * 100, "each is written once");
        assert!(groups.len() < WRITERS * 100 / 2, "{} groups", groups.len());
        assert_eq!(queue.waiting(), 0);
    }
}
