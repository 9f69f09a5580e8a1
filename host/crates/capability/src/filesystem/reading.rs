//! The streams through which a call reads files: counted, because each keeps what it has read ahead until the guest takes
//! it, and that is not the guest's own memory.

use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::p2::{DynInputStream, InputStream, Pollable, StreamResult};

use super::OPEN_FILES_MAX;

/// Streams through which one call reads files, at once: one for each file that it may have open, as a standard library may keep
/// one for as long as the file. Stops a guest from filling the memory of the host with what they have read ahead, 64 KiB each.
pub(super) const READ_STREAMS_MAX: usize = OPEN_FILES_MAX;

/// How many such streams there are in one call.
#[derive(Debug, Default)]
pub(super) struct Reading(Arc<()>);

impl Reading {
    /// Counts one more stream until what is returned is dropped; none: there are as many as there may be.
    pub(super) fn begin(&self) -> Option<Arc<()>> {
        // Each stream holds one reference, and there is one here.
        (Arc::strong_count(&self.0) <= READ_STREAMS_MAX).then(|| Arc::clone(&self.0))
    }
}

/// A stream out of a file, counted for as long as it is there.
pub(super) struct CountedStream {
    pub(super) inner: DynInputStream,
    /// What [`Reading::begin`] gave.
    pub(super) _counted: Arc<()>,
}

#[async_trait]
impl Pollable for CountedStream {
    async fn ready(&mut self) {
        self.inner.ready().await;
    }
}

#[async_trait]
impl InputStream for CountedStream {
    fn read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.inner.read(size)
    }

    async fn blocking_read(&mut self, size: usize) -> StreamResult<Bytes> {
        self.inner.blocking_read(size).await
    }

    fn skip(&mut self, size: usize) -> StreamResult<usize> {
        self.inner.skip(size)
    }

    async fn blocking_skip(&mut self, size: usize) -> StreamResult<usize> {
        self.inner.blocking_skip(size).await
    }

    async fn cancel(&mut self) {
        self.inner.cancel().await;
    }
}
