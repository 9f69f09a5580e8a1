//! The end of the current segment. What is not yet known to be on stable storage is kept in memory, and written again
//! after a disk said no: after a failed sync nobody knows which of the written pages are there.

use std::io;
use std::os::unix::fs::FileExt as _;

use aral_runtime::files::FilesError;
use cap_std::fs::{Dir, OpenOptions};

use crate::line::LINE_BYTES_MAX;
use crate::segment::{SegmentError, file_name, open};

/// Bytes kept in memory at most before they are synced. Bounds memory, and what a power cut can take.
pub(crate) const UNSYNCED_BYTES_MAX: usize = 8 << 20;

#[derive(Debug)]
pub(crate) struct Output {
    file: std::fs::File,
    /// Length of what is on stable storage.
    synced: u64,
    /// What comes after.
    unsynced: Vec<u8>,
    /// How much of that the system has taken.
    written: usize,
}

impl Output {
    /// The segment that begins with record `first`, of which `length` bytes are good and on stable storage.
    pub(crate) fn open(dir: &Dir, first: u64, length: u64) -> Result<Self, SegmentError> {
        let file = open(dir, &file_name(first), OpenOptions::new().read(true).write(true))?;
        Ok(Self {
            file: file.into_std(),
            synced: length,
            // All of it from the start, with the record that fills it and a checkpoint, so that no busy moment leaves pieces of it
            // behind; the system gives pages as they are used.
            unsynced: Vec::with_capacity(UNSYNCED_BYTES_MAX + 2 * LINE_BYTES_MAX),
            written: 0,
        })
    }

    /// Goes on in the segment that begins with record `first`. Everything before it is on stable storage.
    pub(crate) fn go_on(&mut self, dir: &Dir, first: u64, length: u64) -> Result<(), SegmentError> {
        self.file = open(dir, &file_name(first), OpenOptions::new().read(true).write(true))?.into_std();
        self.synced = length;
        Ok(())
    }

    /// Where the lines that are to be written next are collected.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.unsynced
    }

    /// Length of the segment with all that was collected.
    pub(crate) fn length(&self) -> u64 {
        self.synced.saturating_add(self.unsynced.len() as u64)
    }

    /// Whether so much is not synced that it must be.
    pub(crate) fn is_full(&self) -> bool {
        self.unsynced.len() >= UNSYNCED_BYTES_MAX
    }

    /// Whether the system has taken everything.
    pub(crate) fn is_written(&self) -> bool {
        self.written == self.unsynced.len()
    }

    /// Whether everything is on stable storage.
    pub(crate) fn is_synced(&self) -> bool {
        self.unsynced.is_empty()
    }

    /// Hands what was collected to the system. It may be called again after an error.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        let rest = self.unsynced.get(self.written..).unwrap_or_default();
        let at = self.synced.saturating_add(self.written as u64);
        self.file.write_all_at(rest, at)?;
        self.written = self.unsynced.len();
        Ok(())
    }

    /// Puts all that was collected on stable storage. It may be called again after an error.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        if self.unsynced.is_empty() {
            return Ok(());
        }
        self.write()?;
        if let Err(error) = self.file.sync_data() {
            // Whatever the system made of the pages, writing them again makes them new.
            self.written = 0;
            return Err(error);
        }
        self.synced = self.length();
        self.unsynced.clear();
        self.written = 0;
        Ok(())
    }
}

/// What the system said.
pub(crate) fn files_error(error: FilesError) -> io::Error {
    match error {
        FilesError::Io { source, .. } => source,
        other => io::Error::other(other),
    }
}

/// The same of a segment.
pub(crate) fn segment_error(error: SegmentError) -> io::Error {
    match error {
        SegmentError::Files(error) => files_error(error),
        SegmentError::Read { source, .. } => source,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_that_fills_it_and_a_checkpoint_make_it_no_larger() {
        let folder = tempfile::tempdir().unwrap();
        let dir = aral_runtime::files::open_root(folder.path()).unwrap();
        open(&dir, &file_name(0), OpenOptions::new().write(true).create(true)).unwrap();
        let mut output = Output::open(&dir, 0, 0).unwrap();
        let capacity = output.buffer().capacity();
        let line = vec![b' '; LINE_BYTES_MAX];
        output.buffer().push(b' ');
        while !output.is_full() {
            output.buffer().extend_from_slice(&line);
        }
        output.buffer().extend_from_slice(&line);
        assert_eq!(output.buffer().capacity(), capacity);
    }
}
