//! The thread that writes. It takes what is queued, chains and hashes it, signs a checkpoint now and then, and brings many
//! records to the disk at once. When the disk says no it says so, and tries again: what was queued is not lost.

mod segments;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aral_contract::Digest;
use aral_contract::document::PrivateKey;
use cap_std::fs::Dir;

use crate::age::{Opening, SegmentAge};
use crate::checkpoint::{Checkpoint, Head};
use crate::ending::Ending;
use crate::holds::Holds;
use crate::keepsake::Keepsake;
use crate::line::{Link, write_checkpoint, write_record};
use crate::merkle::{Tree, leaf_hash};
use crate::options::{CHECKPOINT_INTERVAL, CHECKPOINT_RECORDS, Durability};
use crate::output::Output;
use crate::reserve::Reserve;
use crate::retain::Retention;
use crate::schema::{AuditEvent, LogGap};
use crate::shared::{Condition, Prepared, Shared, State, queue_of};

/// How long the writer lets records gather before it takes them, where nobody waits for the disk.
const GATHER: Duration = Duration::from_millis(2);
/// How long it waits after the disk said no, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// After how long the writer looks for old segments where none is begun: they get old while nothing happens, too.
pub(crate) const LOOK_BACK: Duration = Duration::from_hours(1);

/// When a segment is full.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rotation {
    pub(crate) bytes_max: u64,
    pub(crate) age_max: Duration,
}

/// What the thread works with.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) dir: Arc<Dir>,
    pub(crate) key: PrivateKey,
    pub(crate) holds: Arc<Holds>,
    pub(crate) rotation: Rotation,
    pub(crate) retention: Retention,
    pub(crate) reserve: Reserve,
    pub(crate) keepsake: Option<Keepsake>,
    pub(crate) output: Output,
    /// The body of the last record; its place is used again.
    pub(crate) body: Vec<u8>,
    pub(crate) tree: Tree,
    /// The leaf of the last record.
    pub(crate) prev: Digest,
    /// The first record of the current segment, and how old that is.
    pub(crate) first: u64,
    pub(crate) segment_age: SegmentAge,
    /// The current segment is ended, and the next one is to be begun before anything else is written.
    pub(crate) ended: bool,
    /// Size of the log at the last checkpoint, and when that was signed; none: a log that was just begun is signed at once.
    pub(crate) signed_size: u64,
    pub(crate) signed_at: Option<Duration>,
    /// A checkpoint that is not on stable storage yet.
    pub(crate) unsynced_checkpoint: Option<Arc<Checkpoint>>,
    pub(crate) opening: Opening,
    /// When it was last seen whether old segments are to go.
    pub(crate) looked_back_at: Duration,
    /// A segment was begun, or much time passed, and that has to be seen again.
    pub(crate) looks_back: bool,
    /// Once record `.0` is on stable storage and signed for, and no sink needs them, those before `.1` are removed.
    pub(crate) retiring: Option<(u64, u64)>,
}

/// What is to be done next.
#[derive(Default)]
struct Batch {
    records: Vec<Prepared>,
    stopping: bool,
    flush: bool,
}

/// The disk said no, and the host is stopping: what is not written stays unwritten.
struct GivenUp;

impl Writer {
    /// Works until the log is closed.
    pub(crate) fn run(mut self) {
        let mut spare = queue_of(self.shared.queue_max());
        loop {
            let mut batch = self.next_batch(std::mem::take(&mut spare));
            self.shared.announce();
            let done = self.work(&batch).is_ok();
            self.restore();
            // What was given up has its numbers: whatever came behind it would get wrong ones.
            if batch.stopping || !done {
                let mut state = self.shared.lock();
                // Under one lock: whoever comes later learns that nobody writes any more.
                if !done || state.queue.is_empty() {
                    state.stopped = true;
                    drop(state);
                    self.note_end();
                    break;
                }
            }
            batch.records.clear();
            spare = batch.records;
        }
        self.shared.announce();
    }

    /// So that the next one need not look for it. It can, where this fails.
    fn note_end(&self) {
        if self.signed_size != self.tree.size() || !self.output.is_synced() {
            return;
        }
        let ending = Ending::new(self.first, self.output.length(), &self.tree);
        if let Err(error) = ending.write(&self.dir) {
            tracing::warn!(%error, "the next host has to look for the end of the audit log");
        }
    }

    /// Waits for something to do.
    fn next_batch(&self, spare: Vec<Prepared>) -> Batch {
        let mut state = self.shared.lock();
        let mut gathered = false;
        loop {
            let elapsed = self.shared.clock.elapsed();
            self.push_own(&mut state, elapsed);
            let flush = state.flush_to > state.durable;
            let urgent = state.stopping || flush || state.queue.len() >= self.shared.queue_max().div_ceil(2);
            let until_look = self.until_look_back(elapsed);
            let due = self.until_checkpoint(elapsed).is_some_and(|wait| wait.is_zero()) || until_look.is_zero();
            if !state.queue.is_empty() || urgent || due {
                if !gathered && !urgent && !due && self.shared.durability == Durability::Async {
                    gathered = true;
                    state = self.wait(state, Some(GATHER));
                    continue;
                }
                state.asleep = false;
                let records = self.shared.take_queue(&mut state, spare);
                let stopping = state.stopping;
                return Batch {
                    records,
                    stopping,
                    flush,
                };
            }
            let restore = (state.condition != Condition::Ready).then_some(RETRY.1);
            let waits = [
                self.until_checkpoint(elapsed),
                state.repeats.wait(elapsed),
                restore,
                Some(until_look),
            ];
            state.asleep = true;
            state = self.wait(state, waits.into_iter().flatten().min());
            state.asleep = false;
            if restore.is_some() && !state.stopping {
                return Batch {
                    records: spare,
                    ..Batch::default()
                };
            }
        }
    }

    fn wait<'a>(
        &self,
        state: std::sync::MutexGuard<'a, State>,
        timeout: Option<Duration>,
    ) -> std::sync::MutexGuard<'a, State> {
        let work = &self.shared.work;
        match timeout {
            Some(timeout) => work
                .wait_timeout(state, timeout)
                .map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state),
            None => work.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner),
        }
    }

    /// Queues what the log has to say itself.
    fn push_own(&self, state: &mut State, elapsed: Duration) {
        let now = self.shared.clock.now();
        let repeated = if state.stopping {
            state.repeats.all()
        } else {
            state.repeats.over(elapsed)
        };
        for repeated in repeated {
            state.push_own(now, AuditEvent::Repeated(repeated));
        }
        if state.lost > 0 {
            let lost = std::mem::take(&mut state.lost);
            state.push_own(now, AuditEvent::LogGap(LogGap { lost }));
        }
    }

    /// How long until a checkpoint is due; none: there is nothing new to sign.
    fn until_checkpoint(&self, elapsed: Duration) -> Option<Duration> {
        let due = |signed_at| CHECKPOINT_INTERVAL.saturating_sub(elapsed.saturating_sub(signed_at));
        (self.tree.size() > self.signed_size || !self.output.is_synced())
            .then(|| self.signed_at.map_or(Duration::ZERO, due))
    }

    /// How long until old segments are looked for, whatever else happens.
    fn until_look_back(&self, elapsed: Duration) -> Duration {
        LOOK_BACK.saturating_sub(elapsed.saturating_sub(self.looked_back_at))
    }

    fn work(&mut self, batch: &Batch) -> Result<(), GivenUp> {
        if self.ended {
            self.begin_segment()?;
        }
        for record in &batch.records {
            self.add(record);
            if self.is_segment_full() {
                self.end_segment()?;
                self.begin_segment()?;
                continue;
            }
            if self.tree.size().saturating_sub(self.signed_size) >= CHECKPOINT_RECORDS {
                self.sign();
            }
            if self.output.is_full() {
                self.sync()?;
            }
        }
        let due = self
            .until_checkpoint(self.shared.clock.elapsed())
            .is_some_and(|wait| wait.is_zero());
        if due || batch.stopping {
            self.sign();
        }
        if due || batch.stopping || batch.flush {
            self.sync()?;
        } else {
            self.retry(Output::write)?;
        }
        self.retire();
        Ok(())
    }

    /// Writes a record behind those before it.
    fn add(&mut self, record: &Prepared) {
        record.write(&mut self.body);
        let link = Link {
            seq: self.tree.size(),
            prev: self.prev,
        };
        let buffer = self.output.buffer();
        let start = buffer.len();
        write_record(&link, self.body.get(1..).unwrap_or_default(), buffer);
        self.prev = leaf_hash(buffer.get(start..).unwrap_or_default());
        buffer.push(b'\n');
        self.tree.push(self.prev);
    }

    /// Signs what there is, if there is anything new.
    fn sign(&mut self) {
        self.signed_at = Some(self.shared.clock.elapsed());
        if self.tree.size() != self.signed_size {
            self.write_checkpoint(false);
        }
    }

    fn write_checkpoint(&mut self, ends: bool) {
        let head = Head {
            log: self.shared.log,
            size: self.tree.size(),
            root: self.tree.root(),
            last: self.prev,
            first: self.first,
            offset: self.output.length(),
            ends,
        };
        match Checkpoint::sign(head, self.shared.clock.now(), &self.key) {
            Ok(checkpoint) => {
                write_checkpoint(&checkpoint.document, self.output.buffer());
                self.signed_size = self.tree.size();
                self.ended = ends;
                self.unsynced_checkpoint = Some(Arc::new(checkpoint));
            }
            Err(error) => tracing::error!(%error, "the audit log cannot sign a checkpoint"),
        }
    }

    /// Brings everything to stable storage, and says so.
    fn sync(&mut self) -> Result<(), GivenUp> {
        self.retry(Output::sync)?;
        let mut state = self.shared.lock();
        state.durable = self.tree.size();
        let signed = self.unsynced_checkpoint.take();
        if let Some(checkpoint) = &signed {
            state.checkpoint = Some(Arc::clone(checkpoint));
        }
        drop(state);
        self.shared.announce();
        if let (Some(keepsake), Some(checkpoint)) = (&self.keepsake, &signed)
            && let Err(error) = keepsake.keep(checkpoint)
        {
            tracing::warn!(%error, "the newest checkpoint cannot be kept beside the audit log");
        }
        Ok(())
    }

    /// Does what needs the disk, again and again until it succeeds or the host stops.
    fn retry(&mut self, mut act: impl FnMut(&mut Output) -> io::Result<()>) -> Result<(), GivenUp> {
        let (mut wait, mut is_failing) = (RETRY.0, false);
        loop {
            let Err(error) = act(&mut self.output) else {
                if is_failing {
                    // New work waits for the reserve; the log itself has something to say before that.
                    let reason = "what waits is written first, and its reserve needs room".to_owned();
                    self.shared.set_condition(Condition::Reserve(reason));
                }
                return Ok(());
            };
            let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
            if full && self.reserve.release() {
                let reason =
                    "the disk is full, and what is under way is written into the reserve; make room".to_owned();
                self.shared.set_condition(Condition::Reserve(reason));
                continue;
            }
            is_failing = true;
            self.shared
                .set_condition(Condition::Failing(format!("the disk said: {error}")));
            let state = self.shared.lock();
            if state.stopping {
                return Err(GivenUp);
            }
            drop(self.wait(state, Some(wait)));
            wait = wait.saturating_mul(2).min(RETRY.1);
        }
    }

    /// After a failure: everything is as it should be only once the reserve is there again.
    fn restore(&mut self) {
        if self.shared.lock().condition == Condition::Ready || !self.output.is_written() {
            return;
        }
        if self.reserve.is_held() || self.reserve.hold().is_ok() {
            self.shared.lock().condition = Condition::Ready;
            tracing::info!("the audit log can be written again");
            self.shared.announce();
        }
    }
}
