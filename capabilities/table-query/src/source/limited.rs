//! A reader that ends a row which does not end itself.

use std::io::{self, Read};

/// What the error says that the reader gives.
pub(super) const TOO_LONG: &str = "a row is too long";

/// Counts the bytes that were read since the last row was done.
pub(super) struct Limited {
    bytes: Box<dyn Read>,
    since_row: usize,
    row_bytes_max: usize,
}

impl Limited {
    pub(super) fn new(bytes: Box<dyn Read>, row_bytes_max: usize) -> Self {
        Self {
            bytes,
            since_row: 0,
            row_bytes_max,
        }
    }

    pub(super) fn row_done(&mut self) {
        self.since_row = 0;
    }
}

impl Read for Limited {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.since_row > self.row_bytes_max {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, TOO_LONG));
        }
        let count = self.bytes.read(buffer)?;
        self.since_row = self.since_row.saturating_add(count);
        Ok(count)
    }
}
