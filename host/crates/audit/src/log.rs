//! The audit log: opens it, takes events, and hands out what it holds.

#[cfg(test)]
mod tests;

use std::fs::TryLockError;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use aral_contract::document::{Kind, PrivateKey, TrustStore};
use aral_contract::event::{RecordFuture, RoomFuture, Severity, SinkUnavailable};
use aral_contract::{AuditSink, Clock, Event, LogId, rule};
use aral_runtime::files;
use cap_std::fs::Dir;

use crate::age::Opening;
use crate::blind::Blinder;
use crate::checkpoint::Checkpoint;
use crate::convert::security;
use crate::holds::Holds;
use crate::keepsake::{self, Keepsake};
use crate::options::LogOptions;
use crate::receipt::{Receipt, ReceiptError, prove_in};
use crate::recover::{self, OpenError, recover};
use crate::repeats::Repeats;
use crate::reserve::Reserve;
use crate::retain::Retention;
use crate::schema::{AuditEvent, Record};
use crate::segment;
use crate::shared::{Shared, State};
use crate::writer::{Rotation, Writer};

const LOCK_FILE: &str = "lock";

/// An open log. Closing or dropping it writes what is queued and a last checkpoint.
#[derive(Debug)]
pub struct AuditLog {
    shared: Arc<Shared>,
    holds: Arc<Holds>,
    dir: Dir,
    /// Records that were there when the log was opened.
    size_before: u64,
    /// Those of them that were signed for.
    signed_before: u64,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Released when the process ends in whatever way.
    _lock: std::fs::File,
}

/// How far the writer of a log has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The number of the next record.
    pub next: u64,
    /// Records that wait for the writer.
    pub queued: u64,
    /// Records below this number are on stable storage.
    pub durable: u64,
    /// Records below this number are signed for by a checkpoint on stable storage.
    pub signed: u64,
}

impl AuditLog {
    /// Opens the log of a folder, or begins one, and goes on where it ended. `key` signs checkpoints.
    ///
    /// # Errors
    /// [`OpenError`]. A log that another process has open, one that is damaged where no crash damages it, and a disk
    /// without room for the reserve are not opened.
    pub fn open(
        options: &LogOptions,
        key: PrivateKey,
        blinder: Arc<Blinder>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        Self::open_with(options, key, blinder, clock, Holds::default())
    }

    /// The same for a log that sinks are about to read: until [`AuditLog::sinks_started`] nothing is removed from it.
    ///
    /// # Errors
    /// As [`AuditLog::open`].
    pub fn open_for_sinks(
        options: &LogOptions,
        key: PrivateKey,
        blinder: Arc<Blinder>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        Self::open_with(options, key, blinder, clock, Holds::awaited())
    }

    /// Whether there is a log in a folder. Then its keys were made before it was begun.
    ///
    /// # Errors
    /// [`OpenError::Files`] and [`OpenError::Segment`], if the folder cannot be looked at.
    pub fn is_begun(directory: &Path) -> Result<bool, OpenError> {
        let dir = match files::open_root(directory) {
            Err(error) if error.is_not_found() => return Ok(false),
            opened => opened?,
        };
        Ok(!segment::list(&dir)?.is_empty())
    }

    /// The log in a folder; none: there is none. One that [`AuditLog::open`] would refuse is refused, as far as reading it shows. It changes nothing
    /// and works beside a process that has the log open. `head_file` is as in the options; `trust` has the key that signs checkpoints.
    ///
    /// # Errors
    /// As [`AuditLog::open`], but for a log that another process has open and for a disk that takes no writes.
    pub fn check(directory: &Path, head_file: Option<&Path>, trust: &TrustStore) -> Result<Option<LogId>, OpenError> {
        // Before the log: a host that writes meanwhile has signed for no more than is read then.
        let kept = head_file.map(Keepsake::look).transpose()?;
        let head = kept.and_then(|kept| keepsake::head(&kept, trust).ok());
        recover::check(directory, &files::open_root(directory)?, trust, head.as_ref())
    }

    /// There is a sink for every copy that is wanted, and each holds what it has not delivered.
    pub fn sinks_started(&self) {
        self.holds.complete();
    }

    fn open_with(
        options: &LogOptions,
        key: PrivateKey,
        blinder: Arc<Blinder>,
        clock: Arc<dyn Clock>,
        holds: Holds,
    ) -> Result<Self, OpenError> {
        let dir = files::create_private_dir(&options.directory)?;
        let lock = hold(&dir, options)?;
        let kept = options.head_file.as_deref().map(Keepsake::open).transpose()?;
        let (keepsake, kept) = kept.unzip();
        let mut trust = options.trust.clone();
        trust.add(key.public(), &[Kind::Checkpoint]);
        let head = kept.as_deref().map(|kept| keepsake::head(kept, &trust));
        let clone = || {
            dir.try_clone().map_err(|source| crate::segment::SegmentError::Read {
                name: ".".to_owned(),
                source,
            })
        };
        // First: what is cut off at the end is gone, and there must be room for the record that says so.
        let mut reserve = Reserve::new(clone()?, options.reserve_bytes);
        reserve.hold()?;
        let found = head.as_ref().and_then(|head| head.as_ref().ok());
        let recovered = recover(options, &dir, &*clock, &trust, found)?;
        let size = recovered.tree.size();
        // A host that begins its first log has kept nothing yet.
        let is_first = size == 0 && kept.is_none_or(|kept| kept.is_empty());
        let unanchored = head.and_then(Result::err).filter(|_| !is_first);
        let log = recovered.opened.log;
        let is_clean = recovered.opened.clean;
        let repeats = Repeats::new(options.repeats_max, options.repeat_window);
        let mut state = State::new(size, repeats, options.queue_records_max);
        state.push_own(clock.now(), AuditEvent::LogOpened(recovered.opened));
        let is_anchored = unanchored.is_none();
        if let Some(reason) = unanchored {
            tracing::warn!(
                %reason,
                "the checkpoint that was kept of the audit log is of no use: nothing was compared with it"
            );
            let event = security(
                Severity::Medium,
                rule::AUDIT_UNANCHORED,
                "audit log",
                Some(&reason),
                None,
            );
            state.push_own(clock.now(), event);
        }
        let shared = Arc::new(Shared::new(
            log,
            options.durability,
            Arc::clone(&clock),
            blinder,
            options.queue_records_max,
            state,
        ));
        let holds = Arc::new(holds);
        let writer = Writer {
            shared: Arc::clone(&shared),
            dir: Arc::new(clone()?),
            key,
            holds: Arc::clone(&holds),
            rotation: Rotation {
                bytes_max: options.segment_bytes_max,
                age_max: options.segment_age_max,
            },
            retention: Retention::new(options.retain_bytes_max, options.retain_age_max, log, trust),
            reserve,
            keepsake,
            body: Vec::new(),
            output: recovered.output,
            signed_size: if recovered.clean { size } else { 0 },
            tree: recovered.tree,
            prev: recovered.prev,
            first: recovered.first,
            segment_age: recovered.segment_age,
            signed_at: (size > 0).then(|| clock.elapsed()),
            ended: recovered.ended,
            unsynced_checkpoint: None,
            opening: Opening::now(&*clock),
            looked_back_at: clock.elapsed(),
            looks_back: false,
            retiring: None,
        };
        let signed_before = writer.signed_size;
        let thread = std::thread::Builder::new()
            .name("aral-audit".to_owned())
            .spawn(move || {
                let _last_word = LastWord(Arc::clone(&writer.shared));
                writer.run();
            })
            .map_err(OpenError::Thread)?;
        let log = Self {
            shared,
            holds,
            dir,
            size_before: size,
            signed_before,
            writer: Mutex::new(Some(thread)),
            _lock: lock,
        };
        if size == 0 || !is_clean || !is_anchored {
            // There is a signed word of a new one before anything else is in it; and one whose end was cut off, or that was compared with
            // nothing, says so before the power can fail. If that cannot be written, whoever asks is told.
            let _not_now = log.flush();
        }
        Ok(log)
    }

    /// Names the log. Its checkpoints say it, so that those of another log by the same key do not pass.
    pub fn id(&self) -> LogId {
        self.shared.log
    }

    /// How many records were there when it was opened.
    pub(crate) fn size_before(&self) -> u64 {
        self.size_before
    }

    /// How many records are on stable storage.
    pub fn durable(&self) -> u64 {
        self.shared.lock().durable
    }

    /// How far the writer has come.
    pub fn progress(&self) -> Progress {
        let state = self.shared.lock();
        Progress {
            next: state.next,
            queued: u64::try_from(state.queue.len()).unwrap_or(u64::MAX),
            durable: state.durable,
            signed: state
                .checkpoint
                .as_ref()
                .map_or(self.signed_before, |checkpoint| checkpoint.head.size),
        }
    }

    /// The newest checkpoint that is on stable storage: keep it elsewhere, and the log cannot be cut back to before it
    /// without somebody noticing.
    pub fn checkpoint(&self) -> Option<Arc<Checkpoint>> {
        self.shared.lock().checkpoint.clone()
    }

    /// Waits, on this thread, until everything that was recorded so far is on stable storage.
    ///
    /// # Errors
    /// The log cannot be written now.
    pub fn flush(&self) -> Result<(), SinkUnavailable> {
        self.shared.flush()
    }

    /// The receipt of a record that is `wanted`. A record that is queued is written first. For a number that no record has, nothing is
    /// written or read.
    ///
    /// # Errors
    /// As [`crate::prove`]; a record that is not `wanted` is as unknown as one that is not there.
    pub fn receipt(&self, seq: u64, wanted: &dyn Fn(&Record) -> bool) -> Result<Receipt, ReceiptError> {
        let Progress { next, durable, .. } = self.progress();
        if seq >= next {
            return Err(ReceiptError::Unknown { seq });
        }
        if seq >= durable {
            // A log that cannot be written has no such record either.
            let _unknown_then = self.flush();
        }
        prove_in(&self.dir, seq, wanted)
    }

    /// What keeps records from being removed.
    pub(crate) fn holds(&self) -> &Arc<Holds> {
        &self.holds
    }

    /// The folder.
    pub(crate) fn dir(&self) -> &Dir {
        &self.dir
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Writes what is queued and a last checkpoint, and takes no more events.
    ///
    /// # Errors
    /// The log cannot be written now, and what was queued is not in it.
    pub fn close(self) -> Result<(), SinkUnavailable> {
        self.end()
    }

    /// The same for a log that others still hold. Nobody else can open it before the last of them lets go of it.
    ///
    /// # Errors
    /// As [`AuditLog::close`].
    pub fn end(&self) -> Result<(), SinkUnavailable> {
        self.stop();
        let state = self.shared.lock();
        if state.durable == state.next {
            return Ok(());
        }
        let lost = state.next.saturating_sub(state.durable);
        Err(SinkUnavailable {
            reason: format!("{lost} records are not on stable storage"),
        })
    }

    fn stop(&self) {
        self.shared.lock().stopping = true;
        self.shared.work.notify_all();
        self.shared.announce();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the thread that writes the audit log panicked");
        }
    }
}

/// Keeps every other process from the log, as long as what it returns is there.
fn hold(dir: &Dir, options: &LogOptions) -> Result<std::fs::File, OpenError> {
    let lock = files::open_lock(dir, LOCK_FILE).map_err(|error| error.below(&options.directory))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Held {
            directory: options.directory.display().to_string(),
        }),
        Err(TryLockError::Error(source)) => Err(crate::segment::SegmentError::Read {
            name: LOCK_FILE.to_owned(),
            source,
        }
        .into()),
    }
}

/// Says that nobody writes any more, whatever ended the writer: whoever waits for it would wait for ever.
struct LastWord(Arc<Shared>);

impl Drop for LastWord {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.announce();
    }
}

impl AuditSink for AuditLog {
    fn record(&self, event: Event) {
        self.shared.record(event);
    }

    fn append(&self, event: Event) -> RecordFuture {
        Box::pin(self.shared.append(event))
    }

    fn available(&self) -> Result<(), SinkUnavailable> {
        self.shared.lock().check_available()
    }

    fn room(&self) -> Option<RoomFuture> {
        self.shared.room()
    }
}

impl Drop for AuditLog {
    fn drop(&mut self) {
        self.stop();
    }
}
