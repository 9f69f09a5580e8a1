//! The newest checkpoint, kept where the log is not. Whoever can write the folder of the log, and not this file, cannot have
//! the host go on behind another log than the one that it signed for: neither one that was cut back, nor one that was made anew.

#[cfg(test)]
mod tests;

use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use aral_contract::document::TrustStore;
use aral_contract::failure::chain;
use aral_contract::{Digest, LogId};
use aral_runtime::files::{self, FilesError};
use cap_std::fs::{Dir, OpenOptions};

use crate::checkpoint::{Checkpoint, Head};
use crate::line::{Line, Next};
use crate::merkle::{Tree, leaf_hash};
use crate::recover::OpenError;
use crate::retain;
use crate::segment::{self, SegmentError, SegmentReader};

/// Length of the file. A checkpoint is shorter; spaces follow it, so that each one is written over the one before in one go.
const BYTES: usize = 2048;

/// The file.
#[derive(Debug)]
pub(crate) struct Keepsake(std::fs::File);

impl Keepsake {
    /// Opens the file, makes it if it is not there, and says what is in it.
    pub(crate) fn open(path: &Path) -> Result<(Self, Vec<u8>), OpenError> {
        files::create_private_parent(path)?;
        let mut options = OpenOptions::new();
        let file = open(path, options.read(true).write(true).create(true).truncate(false))?;
        let found = read(&file, path)?;
        Ok((Self(file), found))
    }

    /// What is in the file, which is not made.
    pub(crate) fn look(path: &Path) -> Result<Vec<u8>, OpenError> {
        match open(path, OpenOptions::new().read(true)) {
            Ok(file) => read(&file, path),
            Err(OpenError::Files(error)) if error.is_not_found() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Keeps a checkpoint that is on stable storage in the log. Waits for no disk: after a power cut there is an older one, or
    /// none, and then less is known.
    pub(crate) fn keep(&self, checkpoint: &Checkpoint) -> io::Result<()> {
        let mut bytes = checkpoint.document.clone();
        bytes.resize(BYTES.max(bytes.len()), b' ');
        self.0.write_all_at(&bytes, 0)
    }
}

fn open(path: &Path, options: &mut OpenOptions) -> Result<std::fs::File, OpenError> {
    let (dir, name) = files::open_parent(path)?;
    let file = segment::open(&dir, &name.display().to_string(), options);
    let file = file.map_err(|error| match error {
        SegmentError::Read { source, .. } => OpenError::Files(FilesError::Io {
            action: "open",
            path: path.to_owned(),
            source,
        }),
        other => OpenError::Segment(other),
    })?;
    Ok(file.into_std())
}

fn read(file: &std::fs::File, path: &Path) -> Result<Vec<u8>, OpenError> {
    let mut found = vec![0; BYTES];
    let length = file.read_at(&mut found, 0).map_err(|source| FilesError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    found.truncate(length);
    Ok(found)
}

/// The checkpoint in what was kept, if this host signed it; or why it is of no use: it is gone, its key was replaced by one that does not
/// know it, or a power cut tore it.
pub(crate) fn head(kept: &[u8], trust: &TrustStore) -> Result<Head, String> {
    if kept.is_empty() {
        return Err("its file is empty, or was not there".to_owned());
    }
    let checkpoint = Checkpoint::verify(kept, trust);
    checkpoint
        .map(|checkpoint| checkpoint.head)
        .map_err(|error| error.to_string())
}

/// Whether a log that ends in this tree, and with a record of this leaf, goes on from where `head` was signed.
pub(crate) fn goes_on(
    dir: &Dir,
    log: LogId,
    (tree, last): (&Tree, Digest),
    head: &Head,
    trust: &TrustStore,
) -> Result<bool, SegmentError> {
    if head.log != log || head.size > tree.size() {
        return Ok(false);
    }
    if head.size == tree.size() {
        return Ok(head.root == tree.root() && head.last == last);
    }
    let segments = segment::list(dir)?;
    let place = segments.iter().rposition(|segment| segment.first <= head.size);
    let Some(segment) = segments.get(place.unwrap_or(0)) else {
        return Ok(false);
    };
    // What the newest segment begins with is in no signature but that of the one before it.
    let after = segments.iter().skip(place.unwrap_or(0));
    for (one, next) in after.clone().zip(after.skip(1)) {
        if let Err(error) = retain::signed_end(dir, one, next, log, trust) {
            tracing::error!(
                error = chain(&error),
                "the audit log does not go on from what this host signed for"
            );
            return Ok(false);
        }
    }
    if place.is_none() {
        // Retention removed it, and the host was never told of a later one; or somebody says so.
        return retain::vouches(dir, &SegmentReader::open(dir, segment.first)?.header, trust);
    }
    let mut reader = SegmentReader::open(dir, segment.first)?;
    let (mut tree, mut last) = (reader.header.tree().unwrap_or_default(), reader.header.prev);
    while tree.size() < head.size && reader.advance()? == Next::Whole {
        if let Line::Record(_) = Line::parse(reader.lines.line()) {
            last = leaf_hash(reader.lines.line());
            tree.push(last);
        }
    }
    Ok(tree.size() == head.size && tree.root() == head.root && last == head.last)
}
