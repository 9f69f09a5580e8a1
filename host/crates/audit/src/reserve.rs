//! Disk space that is held for the moment when there is no other: what is under way can then still be recorded, while new
//! work is refused.

use aral_runtime::files::FilesError;
use cap_std::fs::{Dir, MetadataExt as _, OpenOptions};
use rustix::fs::FallocateFlags;

use crate::segment::{SegmentError, open};

const FILE: &str = "reserve";
/// What the system counts the space of a file in.
const BLOCK_BYTES: u64 = 512;

/// The space.
#[derive(Debug)]
pub(crate) struct Reserve {
    dir: Dir,
    bytes: u64,
    held: bool,
}

impl Reserve {
    pub(crate) fn new(dir: Dir, bytes: u64) -> Self {
        Self {
            dir,
            bytes,
            held: false,
        }
    }

    /// Takes the space, or says why there is none.
    pub(crate) fn hold(&mut self) -> Result<(), SegmentError> {
        if self.held || self.bytes == 0 {
            return Ok(());
        }
        let file = open(
            &self.dir,
            FILE,
            OpenOptions::new().write(true).create(true).truncate(false),
        )?;
        let failed = |source: std::io::Error| FilesError::Io {
            action: "reserve space in",
            path: FILE.into(),
            source,
        };
        let found = file.metadata().map_err(failed)?;
        let held = found.len();
        if held == self.bytes && found.blocks().saturating_mul(BLOCK_BYTES) >= self.bytes {
            // The host before left it.
            self.held = true;
            return Ok(());
        }
        if held > self.bytes {
            file.set_len(self.bytes).map_err(failed)?;
        }
        let reserved = rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, self.bytes)
            .map_err(|error| failed(error.into()))
            .and_then(|()| file.sync_all().map_err(failed));
        if let Err(error) = reserved {
            self.release();
            return Err(error.into());
        }
        self.held = true;
        Ok(())
    }

    /// Gives the space back to the disk. Says whether there was any.
    pub(crate) fn release(&mut self) -> bool {
        self.held = false;
        self.dir.remove_file(FILE).is_ok()
    }

    pub(crate) fn is_held(&self) -> bool {
        self.held || self.bytes == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_space_is_taken_from_the_disk_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let dir = aral_runtime::files::open_root(folder.path()).unwrap();
        let mut reserve = Reserve::new(dir.try_clone().unwrap(), 1 << 20);
        assert!(!reserve.is_held());
        reserve.hold().unwrap();
        assert!(reserve.is_held());
        assert!(
            dir.metadata(FILE).unwrap().blocks() * 512 >= 1 << 20,
            "the file has a hole"
        );
        Reserve::new(dir.try_clone().unwrap(), 1 << 18).hold().unwrap();
        assert_eq!(
            dir.metadata(FILE).unwrap().len(),
            1 << 18,
            "a smaller reserve keeps the larger file"
        );
        // A hole where space should be is filled.
        dir.open_with(FILE, OpenOptions::new().write(true))
            .unwrap()
            .set_len(0)
            .unwrap();
        dir.open_with(FILE, OpenOptions::new().write(true))
            .unwrap()
            .set_len(1 << 18)
            .unwrap();
        assert_eq!(dir.metadata(FILE).unwrap().blocks(), 0);
        Reserve::new(dir.try_clone().unwrap(), 1 << 18).hold().unwrap();
        assert!(dir.metadata(FILE).unwrap().blocks() * 512 >= 1 << 18);
        assert!(reserve.release() && !reserve.is_held() && !reserve.release());
        assert!(dir.metadata(FILE).is_err());
    }
}
