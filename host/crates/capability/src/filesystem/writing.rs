//! The streams through which a call writes into files: counted, because each keeps what it was given until it is written, and
//! that is not the guest's own memory; and few of them wait for a disk at once, because each does so in a thread.

use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{AtFlags, StatxFlags, statx};
use rustix::io::{Errno, ReadWriteFlags, pwritev2};
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::{FsError, OutputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;

use super::OPEN_FILES_MAX;
use super::quota::{self, Quota, QuotaExceeded};
use super::work::{Turn, Work, counted};
use crate::call::CallRecord;

/// Streams through which one call writes into files, at once: one for each file that it may have open. Stops a guest from filling
/// the memory of the host with what waits to be written, [`WRITE_BYTES_MAX`] each.
pub(super) const WRITE_STREAMS_MAX: usize = OPEN_FILES_MAX;
/// What a stream takes from the guest at once.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// Why something was not written, or not all of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwritten {
    /// It is more than the folder has left.
    #[error(transparent)]
    Quota(#[from] QuotaExceeded),
    /// The system says no.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Unwritten> for FsError {
    fn from(unwritten: Unwritten) -> Self {
        match unwritten {
            Unwritten::Quota(_) => ErrorCode::Quota.into(),
            Unwritten::Io(error) => error.into(),
        }
    }
}

impl Unwritten {
    /// As the guest gets it from a stream, and may ask for its code.
    fn of_stream(self) -> wasmtime::Error {
        match self {
            Self::Quota(error) => error.into(),
            Self::Io(error) => error.into(),
        }
    }
}

/// A file with what its folder may still take. Each byte is paid for before it is written: what then fails is charged all the
/// same. Everything here may block for as long as the file system does: call it where that is allowed.
pub(super) struct Target {
    pub(super) file: Arc<File>,
    pub(super) quota: Arc<Quota>,
    pub(super) call: Arc<CallRecord>,
    /// The guest's path of the file, for the event.
    pub(super) shown: String,
}

impl Target {
    /// Writes all of it, at `offset` or at the end, and pays for the hole before it alone: it is paid for; how many bytes that were.
    fn write_all(&self, bytes: &[u8], offset: Option<u64>) -> Result<u64, Unwritten> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let hole = offset.map_or(Ok(0), |offset| self.hole(offset))?;
        if let Err(exceeded) = self.pay(hole) {
            self.quota.return_bytes(length);
            return Err(exceeded.into());
        }
        match offset {
            Some(offset) => self.file.write_all_at(bytes, offset)?,
            None => End(&self.file).write_all(bytes)?,
        }
        Ok(length)
    }

    /// Writes some of it, at `offset`; how many bytes that were.
    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<u64, Unwritten> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.pay(length.saturating_add(self.hole(offset)?))?;
        let written = self.file.write_at(bytes, offset)?;
        Ok(u64::try_from(written).unwrap_or(u64::MAX))
    }

    /// Makes the file so many bytes long.
    pub(super) fn set_size(&self, size: u64) -> Result<(), Unwritten> {
        self.pay(self.hole(size)?)?;
        Ok(self.file.set_len(size)?)
    }

    /// What the file would grow by before the first byte at `offset`: it is paid for like what is written.
    fn hole(&self, offset: u64) -> io::Result<u64> {
        Ok(offset.saturating_sub(length(&self.file)?))
    }

    fn pay(&self, bytes: u64) -> Result<(), QuotaExceeded> {
        let paid = self.quota.take_bytes(bytes);
        if paid.is_err() {
            quota::record(&self.call, &self.shown, "bytes_max");
        }
        paid
    }
}

/// How long a file is now, in bytes. Nothing else is asked: a file system on a network writes all that waits for it before it says
/// when a file was changed.
fn length(file: &File) -> io::Result<u64> {
    match statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::SIZE) {
        Err(error) if is_unknown(error) => Ok(file.metadata()?.len()),
        found => Ok(found?.stx_size),
    }
}

/// Whether a kernel, or a sandbox around the host, says that it does not know how: some of those call it forbidden. Where it is the
/// file that says so, it says so again to whatever is done instead.
fn is_unknown(error: Errno) -> bool {
    matches!(error, Errno::NOSYS | Errno::PERM)
}

/// The end of a file, wherever that is by then.
struct End<'a>(&'a File);

impl io::Write for End<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match pwritev2(self.0, &[IoSlice::new(bytes)], 0, ReadWriteFlags::APPEND) {
            Err(error) if is_unknown(error) || error == Errno::NOTSUP => append(self.0, bytes),
            written => Ok(written?),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes where a file ends now: two streams that do so in the same moment may write to one place. To have the system find the end
/// would take a flag that all streams of the handle share, and those that write elsewhere would write there, too.
fn append(file: &File, bytes: &[u8]) -> io::Result<usize> {
    file.write_at(bytes, length(file)?)
}

/// A stream into a file, counted for as long as it is there.
pub(super) struct WriteStream {
    target: Arc<Target>,
    /// Of what the guest writes next, in bytes; none: at the end.
    offset: Option<u64>,
    state: State,
    work: Arc<Work>,
    _counted: Arc<()>,
}

enum State {
    Idle,
    /// What was given, and has no turn yet.
    Given(Bytes),
    /// By how many bytes, in the end.
    Writing(AbortOnDropJoinHandle<Result<u64, Unwritten>>),
    Failed(wasmtime::Error),
    Closed,
}

impl WriteStream {
    /// One more of a call, into `target` from `offset` on in bytes, or at its end; none: there are as many as there may be.
    pub(super) fn one_more(work: &Arc<Work>, target: Target, offset: Option<u64>) -> Option<Self> {
        Some(Self {
            target: Arc::new(target),
            offset,
            state: State::Idle,
            _counted: counted(&work.writing, WRITE_STREAMS_MAX)?,
            work: Arc::clone(work),
        })
    }

    /// Begins to write what was given, if there is a turn now.
    fn begin(&mut self) {
        if let State::Given(bytes) = &self.state
            && let Some(turn) = self.work.turn_now()
        {
            let bytes = bytes.clone();
            self.start(turn, bytes);
        }
    }

    fn start(&mut self, turn: Turn, bytes: Bytes) {
        let (target, offset) = (Arc::clone(&self.target), self.offset);
        self.state = State::Writing(turn.start(move || target.write_all(&bytes, offset)));
    }

    /// Why the last write failed, once; from then on the stream is closed.
    fn outcome(&mut self) -> StreamResult<()> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Failed(error) => Err(StreamError::LastOperationFailed(error)),
            State::Closed => Err(StreamError::Closed),
            state @ (State::Idle | State::Given(_) | State::Writing(_)) => {
                self.state = state;
                Ok(())
            }
        }
    }
}

/// What a stream took from a guest that ended before it was written, and without waiting for that.
pub(super) enum Unfinished {
    /// It had no turn: where it goes, from which offset on in bytes.
    Given(Bytes, Arc<Target>, Option<u64>),
    /// A thread is at it, or will be.
    Writing(AbortOnDropJoinHandle<Result<u64, Unwritten>>),
}

impl Unfinished {
    /// Sees to it that it is written. If that fails, there is no guest any more to hear of it.
    pub(super) async fn write(self, work: &Work) {
        match self {
            Self::Given(bytes, target, offset) => {
                let _written = work.run(move || target.write_all(&bytes, offset)).await;
            }
            Self::Writing(mut write) => {
                let _written = (&mut *write).await;
            }
        }
    }
}

impl Drop for WriteStream {
    /// A guest that drops its streams has waited; what one that ended leaves is written before its files are closed.
    fn drop(&mut self) {
        let unfinished = match std::mem::replace(&mut self.state, State::Closed) {
            State::Given(bytes) => Unfinished::Given(bytes, Arc::clone(&self.target), self.offset),
            State::Writing(write) => Unfinished::Writing(write),
            State::Idle | State::Failed(_) | State::Closed => return,
        };
        self.work.leave(unfinished);
    }
}

#[async_trait]
impl Pollable for WriteStream {
    /// Who stops waiting may wait again.
    async fn ready(&mut self) {
        if let State::Given(bytes) = &self.state {
            let bytes = bytes.clone();
            let turn = self.work.turn().await;
            match turn {
                Some(turn) => self.start(turn, bytes),
                None => self.state = State::Closed,
            }
        }
        if let State::Writing(write) = &mut self.state {
            let written = (&mut **write).await;
            self.state = match written {
                Ok(Ok(bytes)) => {
                    self.offset = self.offset.map(|offset| offset.saturating_add(bytes));
                    State::Idle
                }
                Ok(Err(unwritten)) => State::Failed(unwritten.of_stream()),
                Err(panicked) => State::Failed(panicked.into()),
            };
        }
    }
}

#[async_trait]
impl OutputStream for WriteStream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        match self.state {
            State::Idle => {}
            State::Closed => return Err(StreamError::Closed),
            State::Given(_) | State::Writing(_) | State::Failed(_) => {
                return Err(StreamError::trap("a write that `check-write` did not permit"));
            }
        }
        if bytes.len() > WRITE_BYTES_MAX {
            return Err(StreamError::trap("a write longer than `check-write` permitted"));
        }
        if !bytes.is_empty() {
            // Here, as far as no disk is asked: what is refused is on record before the call ends, whether it is written by then or not.
            let paid = self.target.pay(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
            self.state = paid.map_or_else(|exceeded| State::Failed(exceeded.into()), |()| State::Given(bytes));
            // Without a turn it is written later, as while a disk is slow: the guest waits, or asks again.
            self.begin();
        }
        Ok(())
    }

    async fn blocking_write_and_flush(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.ready().await;
        self.outcome()?;
        self.write(bytes)?;
        self.ready().await;
        self.outcome()
    }

    fn flush(&mut self) -> StreamResult<()> {
        self.begin();
        self.outcome()
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        self.begin();
        self.outcome()?;
        match self.state {
            State::Idle => Ok(WRITE_BYTES_MAX),
            State::Given(_) | State::Writing(_) | State::Failed(_) | State::Closed => Ok(0),
        }
    }

    /// What was taken is written: a guest that drops its streams waits for that, so that it neither loses what others leave no turn
    /// for nor piles such writes up.
    async fn cancel(&mut self) {
        self.ready().await;
        self.state = State::Closed;
    }
}

#[cfg(test)]
mod tests {
    use aral_contract::Limits;
    use futures::FutureExt as _;
    use serde_json::json;

    use super::super::reading::ReadStream;
    use super::super::work::FILE_WORK_PER_CALL_MAX;
    use super::*;
    use crate::testing::{self, Trial, with_a_slow_disk};

    fn target(file: &Arc<File>, bytes_max: u64) -> Target {
        Target {
            file: Arc::clone(file),
            quota: Arc::new(Quota::new(bytes_max, 0)),
            call: Trial::new(testing::grant(json!({}), Limits::default(), &[])).call,
            shown: "/out/file".to_owned(),
        }
    }

    fn text(file: &File) -> String {
        let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
        file.read_exact_at(&mut bytes, 0).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_call_holds_few_of_the_threads_that_wait_for_a_disk() {
        with_a_slow_disk(|disk| async move {
            let file = Arc::new(tempfile::tempfile().unwrap());
            let work = Arc::new(Work::alone());
            let begin = || WriteStream::one_more(&work, target(&file, 100), Some(0));
            let mut streams: Vec<WriteStream> = (0..WRITE_STREAMS_MAX).map(|_| begin().unwrap()).collect();
            assert!(begin().is_none());
            for stream in &mut streams {
                assert_eq!(stream.check_write().unwrap(), WRITE_BYTES_MAX);
                stream.write(Bytes::from_static(b"hello")).unwrap();
                assert_eq!(stream.check_write().unwrap(), 0);
                assert!(stream.flush().is_ok());
            }
            let begun = streams
                .iter()
                .filter(|stream| matches!(stream.state, State::Writing(_)));
            assert_eq!(begun.count(), FILE_WORK_PER_CALL_MAX);
            // Reading takes the same turns.
            assert_eq!(work.left(), 0);
            let mut read = ReadStream::one_more(&work, Arc::clone(&file), 0).unwrap();
            assert!(!read.asks());
            // Once it does, all is written.
            drop(disk);
            for stream in &mut streams {
                stream.ready().await;
                assert_eq!(stream.check_write().unwrap(), WRITE_BYTES_MAX);
                assert_eq!(stream.offset, Some(5));
            }
            assert_eq!(work.left(), FILE_WORK_PER_CALL_MAX);
            assert_eq!(text(&file), "hello");
        });
    }

    #[tokio::test]
    async fn what_a_stream_took_is_written_also_if_it_is_dropped_before_it_has_a_turn() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let work = Arc::new(Work::alone());
        let mut stream = WriteStream::one_more(&work, target(&file, 100), Some(0)).unwrap();
        let turns: Vec<Turn> = std::iter::from_fn(|| work.turn_now()).collect();
        stream.write("hello".into()).unwrap();
        let mut dropped = stream.cancel();
        assert!((&mut dropped).now_or_never().is_none());
        drop(turns);
        dropped.await;
        assert_eq!(text(&file), "hello");
    }

    #[tokio::test]
    async fn a_write_that_nothing_permitted_ends_the_guest() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let work = Arc::new(Work::alone());
        let mut stream = WriteStream::one_more(&work, target(&file, u64::MAX), None).unwrap();
        let long = Bytes::from(vec![b'x'; WRITE_BYTES_MAX + 1]);
        assert!(matches!(stream.write(long.clone()), Err(StreamError::Trap(_))));
        assert!(matches!(
            stream.blocking_write_and_flush(long).await,
            Err(StreamError::Trap(_))
        ));
        stream.write(Bytes::from(vec![b'x'; WRITE_BYTES_MAX])).unwrap();
        let early = stream.write(Bytes::from_static(b"y"));
        assert!(matches!(early, Err(StreamError::Trap(_))));
        stream.ready().await;
        assert_eq!(text(&file), "x".repeat(WRITE_BYTES_MAX));
    }

    #[tokio::test]
    async fn what_is_over_the_quota_is_on_record_although_nobody_waits_for_it() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let Trial { call, kept } = Trial::new(testing::grant(json!({}), Limits::default(), &[]));
        let target = Target {
            call,
            ..target(&file, 4)
        };
        let work = Arc::new(Work::alone());
        let mut stream = WriteStream::one_more(&work, target, Some(0)).unwrap();
        let _turns: Vec<Turn> = std::iter::from_fn(|| work.turn_now()).collect();
        stream.write("hello".into()).unwrap();
        drop(stream);
        assert!(kept.denial().1.contains("bytes_max"));
    }

    #[test]
    fn without_help_of_the_kernel_the_end_is_found_and_no_flag_is_changed() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"0123", 0).unwrap();
        let before = rustix::fs::fcntl_getfl(&file).unwrap();
        for bytes in [b"ab", b"cd"] {
            assert_eq!(append(&file, bytes).unwrap(), 2);
            assert_eq!(rustix::fs::fcntl_getfl(&file).unwrap(), before);
        }
        file.write_all_at(b"x", 1).unwrap();
        assert_eq!(text(&file), "0x23abcd");
    }

    #[test]
    fn a_sandbox_that_forbids_what_it_does_not_know_is_no_answer_of_the_file() {
        for error in [Errno::NOSYS, Errno::PERM] {
            assert!(is_unknown(error), "{error}");
        }
        for error in [Errno::IO, Errno::ACCESS, Errno::BADF, Errno::NOSPC] {
            assert!(!is_unknown(error), "{error}");
        }
    }

    #[test]
    fn a_file_is_as_long_as_it_was_made() {
        let file = tempfile::tempfile().unwrap();
        for bytes in [0, 1, 1 << 20] {
            file.set_len(bytes).unwrap();
            assert_eq!(length(&file).unwrap(), bytes);
        }
    }

    #[tokio::test]
    async fn what_is_written_is_paid_for_together_with_the_hole_before_it() {
        let file = Arc::new(tempfile::tempfile().unwrap());
        let work = Arc::new(Work::alone());
        let mut stream = WriteStream::one_more(&work, target(&file, 10), Some(4)).unwrap();
        for bytes in ["ab", "cd"] {
            stream.blocking_write_and_flush(bytes.into()).await.unwrap();
        }
        assert_eq!(text(&file), "\0\0\0\0abcd");
        stream.write("efg".into()).unwrap();
        stream.ready().await;
        let error = stream.check_write().unwrap_err();
        assert!(matches!(error, StreamError::LastOperationFailed(error) if error.is::<QuotaExceeded>()));
        assert!(matches!(stream.check_write(), Err(StreamError::Closed)));
        assert!(matches!(stream.write("e".into()), Err(StreamError::Closed)));
        let mut at_the_end = WriteStream::one_more(&work, target(&file, 2), None).unwrap();
        at_the_end.blocking_write_and_flush("ef".into()).await.unwrap();
        assert_eq!(text(&file), "\0\0\0\0abcdef");
    }
}
