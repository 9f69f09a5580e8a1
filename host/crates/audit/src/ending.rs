//! Where a log ended when it was closed, kept beside it: whoever opens it next need not read its newest segment from end to
//! end. It is believed as far as the last line of that segment is a checkpoint that this host signed and that says the same.

use std::io::Write as _;

use aral_contract::document::TrustStore;
use aral_contract::{Digest, LogId};
use aral_runtime::files::{self, FilesError};
use cap_std::fs::{Dir, OpenOptions};
use serde::{Deserialize, Serialize};

use crate::checkpoint::{Checkpoint, Head};
use crate::merkle::Tree;
use crate::retain::last_checkpoint;
use crate::segment::{self, Listed, SegmentError};

const FILE: &str = "end.json";
/// Longest file, in bytes: 64 roots and a few numbers have fewer.
const BYTES_MAX: u64 = 16 << 10;

/// The end of a log.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ending {
    /// The first record of the newest segment.
    first: u64,
    /// Length of that segment.
    bytes: u64,
    /// How many records there are.
    size: u64,
    /// The roots of the whole subtrees over them.
    peaks: Vec<Digest>,
}

impl Ending {
    /// The end after `tree`, in the segment that begins with record `first` and has this length.
    pub(crate) fn new(first: u64, bytes: u64, tree: &Tree) -> Self {
        Self {
            first,
            bytes,
            size: tree.size(),
            peaks: tree.peaks().to_vec(),
        }
    }

    /// Waits for no disk: half a file, or an old one, is one that the checkpoint does not say the same as.
    pub(crate) fn write(&self, dir: &Dir) -> Result<(), SegmentError> {
        // Writing to memory fails only for maps with keys that are not text, and there are none here.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        let mut file = segment::open(dir, FILE, OpenOptions::new().write(true).create(true).truncate(true))?;
        let failed = |source| FilesError::Io {
            action: "write",
            path: FILE.into(),
            source,
        };
        Ok(file.write_all(&bytes).map_err(failed)?)
    }

    /// The tree over all records, and the checkpoint that the newest segment ends with, if it still ends as it did. None: nobody
    /// knows, and it has to be read.
    pub(crate) fn read(dir: &Dir, newest: &Listed, log: LogId, trust: &TrustStore) -> Option<(Tree, Head)> {
        let bytes = files::read_capped(dir, FILE, BYTES_MAX).ok()?;
        let ending: Self = serde_json::from_slice(&bytes).ok()?;
        if (ending.first, ending.bytes) != (newest.first, newest.bytes) {
            return None;
        }
        let tree = Tree::from_peaks(ending.size, ending.peaks)?;
        let last = last_checkpoint(dir, newest).ok()??;
        let head = Checkpoint::verify(&last.document, trust).ok()?.head;
        let stands_there = (head.first, Some(head.offset)) == (newest.first, last.offset);
        let says_the_same = head.log == log && head.size == tree.size() && head.root == tree.root() && stands_there;
        says_the_same.then_some((tree, head))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::LogOptions;
    use crate::testing::{options, records, session, trust, trust_in};
    use crate::verify::verify;
    use crate::verify::{Finding, What};

    /// A log of six records, closed.
    fn closed(folder: &Path) -> LogOptions {
        let options = options(folder);
        session(&options, 5).close().unwrap();
        options
    }

    fn read(options: &LogOptions, seed: u8) -> Option<u64> {
        let dir = files::open_root(&options.directory).unwrap();
        let newest = crate::segment::list(&dir).unwrap().pop().unwrap();
        let reader = crate::segment::SegmentReader::open(&dir, newest.first).unwrap();
        let found = Ending::read(&dir, &newest, reader.header.log, &trust_in(&[seed]));
        found.map(|(tree, _)| tree.size())
    }

    fn write(options: &LogOptions, name: &str, bytes: &[u8]) {
        let dir = files::open_root(&options.directory).unwrap();
        files::write_atomic(&dir, name, bytes, 0o600).unwrap();
    }

    fn segment(options: &LogOptions) -> Vec<u8> {
        let dir = files::open_root(&options.directory).unwrap();
        files::read_capped(&dir, crate::segment::file_name(0), 1 << 20).unwrap()
    }

    #[test]
    fn a_log_that_was_closed_goes_on_where_it_ended_without_being_read() {
        let folder = tempfile::tempdir().unwrap();
        let options = closed(folder.path());
        assert_eq!(read(&options, 1), Some(6));
        // Somebody edits a record: the host goes on behind it, and whoever verifies finds it.
        let text = String::from_utf8(segment(&options)).unwrap();
        let edited = text.replacen("started", "stopped", 1);
        assert_ne!(edited, text);
        write(&options, &crate::segment::file_name(0), edited.as_bytes());
        session(&options, 1).close().unwrap();
        assert_eq!(records(&options).len(), 8);
        let report = verify(&options.directory, &trust(), &[]).unwrap();
        assert!(
            matches!(
                report.finding,
                Some(Finding {
                    seq: 1,
                    what: What::Edited,
                    ..
                })
            ),
            "{report:?}"
        );
    }

    #[test]
    fn what_the_checkpoint_does_not_say_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let options = closed(folder.path());
        assert_eq!(read(&options, 2), None, "another key signed it");
        let whole = segment(&options);
        write(&options, &crate::segment::file_name(0), &whole[..whole.len() - 1]);
        assert_eq!(read(&options, 1), None, "another length");
        write(&options, &crate::segment::file_name(0), &whole);
        assert_eq!(read(&options, 1), Some(6));
        let dir = files::open_root(&options.directory).unwrap();
        let ending = files::read_capped(&dir, FILE, BYTES_MAX).unwrap();
        let mut forged: Ending = serde_json::from_slice(&ending).unwrap();
        forged.peaks[0] = Digest::of(b"forged");
        forged.write(&dir).unwrap();
        assert_eq!(read(&options, 1), None, "another tree");
        session(&options, 1).close().unwrap();
        assert!(verify(&options.directory, &trust(), &[]).unwrap().is_good());
        for rubbish in [&b""[..], b"{}", b"[", &[b' '; 20 << 10]] {
            write(&options, FILE, rubbish);
            assert_eq!(read(&options, 1), None);
        }
        session(&options, 1).close().unwrap();
        assert!(verify(&options.directory, &trust(), &[]).unwrap().is_good());
    }
}
