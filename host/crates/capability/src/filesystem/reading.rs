//! The streams through which a call reads files: counted, because each keeps what it has read ahead until the guest takes
//! it, and that is not the guest's own memory; and few of them wait for a disk at once, because each does so in a thread.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{InputStream, Pollable, StreamError, StreamResult};
use wasmtime_wasi::runtime::AbortOnDropJoinHandle;

use super::OPEN_FILES_MAX;
use super::work::{Turn, Work, counted};

/// Streams through which one call reads files, at once: one for each file that it may have open, as a standard library may keep
/// one for as long as the file. Stops a guest from filling the memory of the host with what they have read ahead,
/// [`READ_AHEAD_BYTES_MAX`] each.
pub(super) const READ_STREAMS_MAX: usize = OPEN_FILES_MAX;
/// What a stream reads before the guest waits for it.
const READ_AHEAD_BYTES_MAX: usize = 16 << 10;
/// What a stream reads at once for a guest that waits for it.
const READ_BYTES_MAX: usize = 64 << 10;

/// A stream out of a file, counted for as long as it is there.
pub(super) struct ReadStream {
    file: Arc<File>,
    /// Of what the guest gets next, in bytes.
    offset: u64,
    state: State,
    work: Arc<Work>,
    _counted: Arc<()>,
}

enum State {
    Idle,
    Reading(AbortOnDropJoinHandle<io::Result<Bytes>>),
    /// What was read; empty at the end of the file.
    Read(io::Result<Bytes>),
    Closed,
}

impl ReadStream {
    /// One more of a call, out of `file` from `offset` on in bytes; none: there are as many as there may be.
    pub(super) fn one_more(work: &Arc<Work>, file: Arc<File>, offset: u64) -> Option<Self> {
        Some(Self {
            file,
            offset,
            state: State::Idle,
            _counted: counted(&work.reading, READ_STREAMS_MAX)?,
            work: Arc::clone(work),
        })
    }

    /// Reads up to `bytes`, in a thread that may block.
    fn start(&mut self, turn: Turn, bytes: usize) {
        let (file, offset) = (Arc::clone(&self.file), self.offset);
        self.state = State::Reading(turn.start(move || read_at(&file, offset, bytes)));
    }

    /// Waits for what is being read, and reads up to `bytes` if nothing is. Who stops waiting may wait again.
    async fn wait(&mut self, bytes: usize) {
        if let State::Idle = self.state {
            let Some(turn) = self.work.turn().await else {
                self.state = State::Closed;
                return;
            };
            self.start(turn, bytes);
        }
        if let State::Reading(read) = &mut self.state {
            let read = (&mut **read).await;
            self.state = State::Read(read.unwrap_or_else(|error| Err(io::Error::other(error))));
        }
    }
}

fn read_at(file: &File, offset: u64, bytes: usize) -> io::Result<Bytes> {
    let mut buffer = vec![0_u8; bytes];
    loop {
        match file.read_at(&mut buffer, offset) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer.into());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[async_trait]
impl Pollable for ReadStream {
    async fn ready(&mut self) {
        self.wait(READ_AHEAD_BYTES_MAX).await;
    }
}

#[async_trait]
impl InputStream for ReadStream {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        match std::mem::replace(&mut self.state, State::Closed) {
            State::Idle => {
                self.state = State::Idle;
                // Without a turn the guest has nothing yet, as while a disk is slow: it waits, or asks again.
                if size > 0
                    && let Some(turn) = self.work.turn_now()
                {
                    self.start(turn, size.min(READ_AHEAD_BYTES_MAX));
                }
                Ok(Bytes::new())
            }
            State::Reading(read) => {
                self.state = State::Reading(read);
                Ok(Bytes::new())
            }
            State::Read(Ok(mut bytes)) if !bytes.is_empty() => {
                let taken = bytes.split_to(size.min(bytes.len()));
                self.offset = self
                    .offset
                    .saturating_add(u64::try_from(taken.len()).unwrap_or(u64::MAX));
                self.state = if bytes.is_empty() {
                    State::Idle
                } else {
                    State::Read(Ok(bytes))
                };
                Ok(taken)
            }
            State::Read(Err(error)) => Err(StreamError::LastOperationFailed(error.into())),
            State::Read(Ok(_)) | State::Closed => Err(StreamError::Closed),
        }
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        if size > 0 {
            self.wait(size.min(READ_BYTES_MAX)).await;
        }
        self.read(size)
    }

    async fn cancel(&mut self) {
        if let State::Reading(read) = std::mem::replace(&mut self.state, State::Closed) {
            // A read that has begun goes on: a guest that drops its streams waits, so that it does not pile such reads up.
            read.cancel().await;
        }
    }
}

#[cfg(test)]
impl ReadStream {
    /// Whether it reads, once it is asked to.
    pub(super) fn asks(&mut self) -> bool {
        self.read(1).is_ok() && matches!(self.state, State::Reading(_))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::work::FILE_WORK_PER_CALL_MAX;
    use super::*;
    use crate::testing::with_a_slow_disk;

    #[test]
    fn a_call_holds_few_of_the_threads_that_wait_for_a_disk() {
        with_a_slow_disk(|disk| async move {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(b"hello").unwrap();
            let file = Arc::new(file);
            let work = Arc::new(Work::alone());
            let mut streams: Vec<ReadStream> = (0..READ_STREAMS_MAX)
                .map(|_| ReadStream::one_more(&work, Arc::clone(&file), 0).unwrap())
                .collect();
            assert!(ReadStream::one_more(&work, Arc::clone(&file), 0).is_none());
            for stream in &mut streams {
                assert!(stream.read(100).unwrap().is_empty());
            }
            let waiting = streams
                .iter()
                .filter(|stream| matches!(stream.state, State::Reading(_)));
            assert_eq!(waiting.count(), FILE_WORK_PER_CALL_MAX);
            // Once it does, all are read, though nobody has taken what the first ones have.
            drop(disk);
            for stream in &mut streams {
                stream.ready().await;
            }
            for stream in &mut streams {
                assert_eq!(stream.read(2).unwrap(), "he");
                assert_eq!(stream.blocking_read(100).await.unwrap(), "llo");
                assert!(matches!(stream.blocking_read(100).await, Err(StreamError::Closed)));
            }
            assert_eq!(work.left(), FILE_WORK_PER_CALL_MAX);
        });
    }

    #[tokio::test]
    async fn little_is_read_ahead() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(1 << 20).unwrap();
        let work = Arc::new(Work::alone());
        let mut stream = ReadStream::one_more(&work, Arc::new(file), 0).unwrap();
        assert!(stream.read(1 << 20).unwrap().is_empty());
        stream.ready().await;
        assert_eq!(stream.read(1 << 20).unwrap().len(), READ_AHEAD_BYTES_MAX);
        assert_eq!(stream.blocking_read(1 << 20).await.unwrap().len(), READ_BYTES_MAX);
        stream.offset = 1 << 20;
        assert!(
            stream.blocking_read(0).await.unwrap().is_empty(),
            "nothing was asked for"
        );
        assert!(matches!(stream.blocking_read(1).await, Err(StreamError::Closed)));
    }
}
