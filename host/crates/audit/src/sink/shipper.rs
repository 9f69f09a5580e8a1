//! Reads the log on, hands batches to an exporter, waits longer after each failure, and remembers where it stands.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aral_contract::failure::chain;
use cap_std::fs::Dir;
use tokio::sync::watch;

use super::doubted::{Doubted, InVain, REFUSED_AGAIN_MAX, probe_at};
use super::position::{self, PositionError};
use super::unwinding::Unwinding;
use super::{BATCH_BYTES_MAX, BATCH_RECORDS_MAX, Delivery, Exporter, Outgoing, Refused, SinkName};
use crate::AuditLog;
use crate::cursor::{Cursor, ReadError};
use crate::holds::Holds;
use crate::segment;
use crate::shared::Shared;

/// How long it waits after a failure, at first and at most.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));
/// How long it waits at least for a record that is on stable storage and in no file. Then that is gone.
const IN_NO_FILE: Duration = Duration::from_secs(45);

/// How a sink is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SinkStatus {
    /// Everything before this record was delivered.
    pub position: u64,
    /// How many records were refused for good.
    pub refused: u64,
    /// Why it does not go on at the moment; none: it does.
    pub failing: Option<String>,
    /// It does not go on any more, until somebody does something about that.
    pub stopped: bool,
}

/// One sink at work.
#[derive(Debug)]
pub struct Shipper {
    name: SinkName,
    shared: Arc<Shared>,
    dir: Dir,
    exporter: Unwinding,
    cursor: Cursor,
    holds: Arc<Holds>,
    hold: Arc<AtomicU64>,
    status: watch::Sender<SinkStatus>,
    batch_max: usize,
    /// What was taken last of a batch out of its turn, or in its turn where that is further on.
    good: Option<Outgoing>,
    /// How many records from further on were tried in vain since something was taken.
    in_vain: u64,
}

impl Shipper {
    /// A sink of this log that goes on where it stood. What it has not delivered is not removed while this value lives.
    ///
    /// # Errors
    /// Its position cannot be read or written, or is not one in this log; or the log cannot be listed.
    pub fn new(log: &AuditLog, name: SinkName, exporter: Box<dyn Exporter>) -> Result<Self, PositionError> {
        let clone = || {
            let failed = |source| aral_runtime::files::FilesError::Io {
                action: "open",
                path: ".".into(),
                source,
            };
            log.dir().try_clone().map_err(failed)
        };
        let (dir, id) = (clone()?, log.id());
        // Held before the position is looked at, so that nothing goes in between.
        let hold = log.holds().add(0);
        let stood = position::of(log, &name)?;
        let oldest = segment::list(&dir)?.first().map(|segment| segment.first);
        let next = stood.unwrap_or(0);
        let from = next.max(oldest.unwrap_or(0));
        if from > next && stood.is_some() {
            tracing::error!(sink = %name, lost = from.saturating_sub(next), "retention removed records while this sink was not at work");
        }
        hold.store(from, Ordering::Release);
        if stood.is_none() {
            // A process that does not run this sink sees from now on that there is one.
            position::write(&dir, name.as_str(), id, from)?;
        }
        let status = SinkStatus {
            position: from,
            ..SinkStatus::default()
        };
        Ok(Self {
            name,
            shared: Arc::clone(log.shared()),
            cursor: Cursor::new(clone()?, from),
            dir,
            exporter: Unwinding(exporter),
            holds: Arc::clone(log.holds()),
            hold,
            status: watch::Sender::new(status),
            batch_max: BATCH_RECORDS_MAX,
            good: None,
            in_vain: 0,
        })
    }

    /// For a sink that another process runs: what that has not delivered is not removed while the log is open, and the log of the
    /// host says so where that is more than the newest segment. One that was never at work needs nothing.
    pub fn elsewhere(log: &AuditLog, name: &SinkName) {
        let needed = match position::of(log, name) {
            Ok(None) => return,
            Ok(Some(needed)) => needed,
            Err(error) => {
                tracing::warn!(sink = %name, error = %chain(&error), "nobody knows what a sink needs of the audit log, and all of it stays");
                0
            }
        };
        log.holds().keep(log.holds().add(needed));
        let segments = segment::list(log.dir()).unwrap_or_default();
        if segments.last().is_some_and(|newest| needed < newest.first) {
            tracing::warn!(sink = %name, needed, "the retention of the audit log waits for a copy that this process does not make: have a host serve, which does, or take it out of [audit]");
        }
    }

    /// How it is doing, now and whenever that changes.
    pub fn status(&self) -> watch::Receiver<SinkStatus> {
        self.status.subscribe()
    }

    /// Delivers until the log is closed and everything is delivered. Dropping the future loses nothing.
    ///
    /// # Errors
    /// What comes next is damaged or gone: then [`SinkStatus::stopped`] says so, and what was not delivered is not removed while
    /// the log is open. What the disk refuses for a while is tried again.
    pub async fn run(mut self) -> Result<(), ReadError> {
        let (mut wait, mut in_no_file) = (BACK_OFF.0, Duration::ZERO);
        loop {
            let from = self.cursor.position();
            let end = self.durable_beyond(from).await;
            if end <= from {
                return Ok(());
            }
            let mut read = self.read(end);
            // What is waited for is that alone: a disk or a server may have been waited for before.
            let is_in_no_file = matches!(&read, Ok(nothing) if nothing.is_empty());
            if is_in_no_file && in_no_file >= IN_NO_FILE {
                read = Err(ReadError::Damaged { seq: from });
            }
            in_no_file = if is_in_no_file {
                in_no_file.saturating_add(wait)
            } else {
                Duration::ZERO
            };
            let (rest, trouble) = match read {
                Ok(batch) if !batch.is_empty() => match self.deliver(batch).await {
                    Ok(()) => {
                        self.remember(self.cursor.position()).await;
                        wait = BACK_OFF.0;
                        continue;
                    }
                    Err((first, reason)) => {
                        if first > from {
                            // What stands before it is over.
                            self.remember(first).await;
                            wait = BACK_OFF.0;
                        }
                        (first, reason)
                    }
                },
                Ok(_nothing) => (from, format!("record {from} was written, and is not in the file")),
                Err(error) if error.is_for_good() => {
                    self.holds.keep(Arc::clone(&self.hold));
                    self.status.send_modify(|status| {
                        status.failing = Some(chain(&error));
                        status.stopped = true;
                    });
                    return Err(error);
                }
                Err(error) => (from, chain(&error)),
            };
            // What was read of the batch is read again.
            self.cursor.go_to(rest);
            self.back_off(trouble, &mut wait).await;
        }
    }

    /// Remembers where it stands, however long it takes until that can be written.
    async fn remember(&self, next: u64) {
        let mut wait = BACK_OFF.0;
        while let Err(error) = position::write(&self.dir, self.name.as_str(), self.shared.log, next) {
            self.back_off(chain(&error), &mut wait).await;
        }
        self.hold.store(next, Ordering::Release);
        self.status.send_modify(|status| {
            status.position = next;
            status.failing = None;
        });
    }

    /// Says why it does not go on, and waits; longer the next time.
    async fn back_off(&self, reason: String, wait: &mut Duration) {
        self.failing(reason);
        tokio::time::sleep(*wait).await;
        *wait = wait.saturating_mul(2).min(BACK_OFF.1);
    }

    /// Waits until there is something that is on stable storage, or the log is closed. Only that is delivered: a copy
    /// must not hold what the log can still lose.
    async fn durable_beyond(&self, next: u64) -> u64 {
        loop {
            let mut changed = std::pin::pin!(self.shared.changed());
            changed.as_mut().enable();
            {
                let state = self.shared.lock();
                if state.durable > next || state.stopped {
                    return state.durable;
                }
            }
            changed.await;
        }
    }

    fn read(&mut self, end: u64) -> Result<Vec<Outgoing>, ReadError> {
        let mut batch = Vec::new();
        let mut bytes = 0usize;
        while batch.len() < BATCH_RECORDS_MAX && bytes < BATCH_BYTES_MAX && self.cursor.position() < end {
            let from = self.cursor.position();
            match Outgoing::read(&mut self.cursor) {
                Ok(Some(outgoing)) => {
                    bytes = bytes.saturating_add(outgoing.entry.line.len());
                    batch.push(outgoing);
                }
                Ok(None) => break,
                Err(error) if batch.is_empty() => return Err(error),
                // What stands before it is delivered first; then it is met again.
                Err(_) if self.cursor.position() == from => break,
                Err(_) => {
                    self.cursor.go_to(from);
                    break;
                }
            }
        }
        Ok(batch)
    }

    /// Delivers a batch, in whatever pieces and however often it takes.
    ///
    /// # Errors
    /// The first record that was refused while nothing else was taken, and why. All before it are over.
    async fn deliver(&mut self, batch: Vec<Outgoing>) -> Result<(), (u64, String)> {
        let mut waiting = batch;
        // What was taken for an earlier batch, the other end has by now. A log that has grown has a newer one to try.
        self.good = None;
        let mut doubted = Doubted::default();
        let mut wait = BACK_OFF.0;
        loop {
            if let Some(in_vain) = doubted.in_vain(&waiting) {
                self.doubt(in_vain).await?;
            }
            if let Some(refused) = doubted.wants_probe(waiting.is_empty()) {
                let first = waiting.first().map(|outgoing| outgoing.entry.seq);
                if !self.probe(first.unwrap_or(self.cursor.position())).await {
                    return Err(refused);
                }
                doubted.taken(&mut waiting);
            }
            if waiting.is_empty() {
                return Ok(());
            }
            let count = doubted.together(&waiting).min(self.batch_max);
            let (piece, _) = waiting.split_at_checked(count).unwrap_or((waiting.as_slice(), &[]));
            match self.exporter.deliver(self.shared.log, piece).await {
                Delivery::Done { refused } if refused.len() < count => {
                    self.refused(&refused);
                    let last = waiting.drain(..count).next_back().filter(|_| refused.is_empty());
                    let good = self.good.take().into_iter().chain(last);
                    self.good = good.max_by_key(|outgoing| outgoing.entry.seq);
                    doubted.taken(&mut waiting);
                    // A piece that was small enough may have been smaller than need be.
                    self.batch_max = self.batch_max.saturating_mul(2).min(BATCH_RECORDS_MAX);
                    wait = BACK_OFF.0;
                    self.in_vain = 0;
                    self.status.send_if_modified(|status| status.failing.take().is_some());
                }
                Delivery::Done { refused } => doubted.refused(&mut waiting, count, refused),
                Delivery::Again {
                    seqs,
                    refused,
                    reason,
                    after,
                } => {
                    // Where nothing was taken, what was refused is sent again as well.
                    if seqs.len().saturating_add(refused.len()) < count {
                        self.refused(&refused);
                        self.in_vain = 0;
                        let mut place = 0;
                        waiting.retain(|outgoing| {
                            place += 1;
                            place > count || seqs.contains(&outgoing.entry.seq)
                        });
                        doubted.taken(&mut waiting);
                    }
                    if let Some(in_vain) = doubted.give_up() {
                        return Err((in_vain.first, reason));
                    }
                    // The other end may ask for more patience than that, and not for less.
                    let pause = after.map_or(wait, |after| after.max(wait).min(BACK_OFF.1));
                    self.failing(reason);
                    tokio::time::sleep(pause).await;
                    wait = wait.saturating_mul(2).min(BACK_OFF.1);
                }
                Delivery::Split { reason } if count > 1 => {
                    self.failing(reason);
                    self.batch_max = count.div_ceil(2);
                }
                Delivery::Split { reason } => {
                    let refused = waiting.iter().take(count).map(|outgoing| Refused {
                        seq: outgoing.entry.seq,
                        reason: reason.clone(),
                    });
                    let refused = refused.collect();
                    doubted.refused(&mut waiting, count, refused);
                }
            }
        }
    }

    /// What was refused again each time is refused for good only if something behind it is taken now: whoever refuses everything by
    /// now says nothing about it. That is tried as often as each piece was sent again, so that one of two servers that take turns
    /// does not hold it up.
    ///
    /// # Errors
    /// Nothing was taken: the first record of it, and why it was refused.
    async fn doubt(&mut self, in_vain: InVain) -> Result<(), (u64, String)> {
        let InVain { first, last, refused } = in_vain;
        for _ in 0..REFUSED_AGAIN_MAX {
            if self.probe(last.saturating_add(1)).await {
                self.refused(&refused);
                return Ok(());
            }
        }
        let reason = refused.into_iter().next().map(|one| one.reason);
        Err((first, reason.unwrap_or_default()))
    }

    /// Sends one record from `untried` on out of its turn, that which was taken like this last where it is one, and says whether it
    /// was taken. None from before: a server may well take what it has already, and nothing new any more.
    async fn probe(&mut self, untried: u64) -> bool {
        let good = self.good.take().filter(|good| good.entry.seq >= untried);
        let Some(tried) = good.or_else(|| self.further_on(untried)) else {
            return false;
        };
        let probe = std::slice::from_ref(&tried);
        let is_taken = match self.exporter.deliver(self.shared.log, probe).await {
            Delivery::Done { refused } => refused.is_empty(),
            Delivery::Again { seqs, refused, .. } => seqs.is_empty() && refused.is_empty(),
            Delivery::Split { .. } => false,
        };
        if is_taken {
            self.good = Some(tried);
            self.in_vain = 0;
        }
        is_taken
    }

    /// A record from `untried` on, each time another one. It is sent again in its turn.
    fn further_on(&mut self, untried: u64) -> Option<Outgoing> {
        let end = self.shared.lock().durable;
        let at = probe_at(untried, end, self.in_vain)?;
        self.in_vain = self.in_vain.saturating_add(1);
        let mut cursor = Cursor::new(self.dir.try_clone().ok()?, at);
        // What cannot be read is met in its turn.
        Outgoing::read(&mut cursor).ok()?
    }

    fn refused(&self, refused: &[Refused]) {
        for one in refused {
            tracing::error!(sink = %self.name, seq = one.seq, reason = %one.reason, "a sink refused a record for good; it stays in the file");
        }
        let count = refused.len() as u64;
        self.status.send_if_modified(|status| {
            status.refused = status.refused.saturating_add(count);
            count > 0
        });
    }

    fn failing(&self, reason: String) {
        let is_new = self.status.send_if_modified(|status| {
            let is_new = status.failing.as_ref() != Some(&reason);
            if is_new {
                status.failing = Some(reason.clone());
            }
            is_new
        });
        // Whoever asks how it is doing does not wait for whoever reads this.
        if is_new {
            tracing::warn!(sink = %self.name, %reason, "a sink does not go on; records wait in the file");
        }
    }
}
