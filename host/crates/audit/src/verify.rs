//! Verification: reads a whole log, offline, with public keys alone, and names the first thing that is not as it was
//! written. It reads what an attacker may have written, and believes a signature and nothing else.

mod finding;
mod openings;
mod walk;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use aral_contract::document::{DocumentError, TrustStore};
use aral_contract::{Digest, LogId};
use aral_runtime::files::{self, FilesError};
use cap_std::fs::Dir;

use crate::checkpoint::{Checkpoint, is_in_one_form};
use crate::line::{Line, Next};
use crate::retain;
use crate::segment::{self, Header, SegmentError, SegmentReader};

pub use finding::{Finding, What};
pub use openings::TakenOver;

use walk::Walk;

/// How often a log is read from its beginning whose oldest segment is removed meanwhile.
const ATTEMPTS_MAX: u32 = 20;
/// How much longer each time it waits for the host to remove all that it is going to remove.
const PATIENCE: Duration = Duration::from_millis(50);

/// Why nothing can be said of a log.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no log.
    #[error("there is no audit log in `{directory}`")]
    Empty {
        /// Where it was looked for.
        directory: String,
    },
    /// It cannot be read, or a newer version wrote it.
    #[error(transparent)]
    Segment(#[from] SegmentError),
    /// The folder cannot be opened.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// A checkpoint that was given to compare with is none, or not by a trusted key.
    #[error("the checkpoint is none by a trusted key")]
    Anchor(#[source] DocumentError),
}

/// Whether records at the end can be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// The log reaches at least as far as the checkpoint that was kept elsewhere.
    Anchored {
        /// How many records that one is about.
        size: u64,
    },
    /// Whoever can write the folder can cut the log back to an older checkpoint, and nothing in it would show that.
    CannotBeExcluded,
}

/// What verification says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Which log; none: its first line does not say it any more.
    pub log: Option<LogId>,
    /// The first record that is there. What was before was removed by retention.
    pub first: u64,
    /// How many records the log has, with those that retention removed.
    pub size: u64,
    /// How many of these the last good checkpoint is about. Those after it are chained, but nobody signed for them.
    pub signed: u64,
    /// How many checkpoints were checked.
    pub checkpoints: u64,
    /// What nobody had signed for when a host opened the log and went on behind it: what one that was killed left, or what
    /// somebody put there while none ran. Nothing tells the two apart.
    pub taken_over: TakenOver,
    /// The first thing that is wrong; none: nothing is.
    pub finding: Option<Finding>,
    /// Whether records at the end can be missing.
    pub tail: Tail,
    /// How many records the checkpoint that was kept elsewhere is about that says nothing of those that are there: retention
    /// removed them. Of several the largest.
    pub anchor_gone: Option<u64>,
}

impl Report {
    /// The first line says nothing, and so nobody knows what should follow.
    fn unreadable(first: u64, finding: Finding) -> Self {
        Self {
            log: None,
            first,
            size: first,
            signed: first,
            checkpoints: 0,
            taken_over: TakenOver::default(),
            finding: Some(finding),
            tail: Tail::CannotBeExcluded,
            anchor_gone: None,
        }
    }

    /// Whether nothing is wrong.
    pub fn is_good(&self) -> bool {
        self.finding.is_none()
    }
}

/// Verifies the log in a folder. `anchors` are checkpoints that were kept elsewhere.
///
/// # Errors
/// The log cannot be read, or an anchor is none. What is wrong with the log is no error but a finding.
pub fn verify(directory: &Path, trust: &TrustStore, anchors: &[Vec<u8>]) -> Result<Report, VerifyError> {
    let dir = files::open_root(directory)?;
    let anchors = anchors
        .iter()
        .map(|anchor| Checkpoint::verify(anchor, trust))
        .collect::<Result<Vec<_>, _>>()
        .map_err(VerifyError::Anchor)?;
    let mut attempts = ATTEMPTS_MAX;
    loop {
        let listed = firsts(&dir)?;
        let Some(first) = listed.first().copied() else {
            return Err(VerifyError::Empty {
                directory: directory.display().to_string(),
            });
        };
        let report = verify_listed(&dir, &listed, first, trust, &anchors);
        attempts = attempts.saturating_sub(1);
        // A host that runs may have removed what was listed.
        let is_good = report.as_ref().is_ok_and(Report::is_good);
        if is_good || attempts == 0 || firsts(&dir)?.first() == Some(&first) {
            return Ok(report?);
        }
        std::thread::sleep(PATIENCE.saturating_mul(ATTEMPTS_MAX.saturating_sub(attempts)));
    }
}

fn firsts(dir: &Dir) -> Result<Vec<u64>, SegmentError> {
    Ok(segment::list(dir)?.iter().map(|segment| segment.first).collect())
}

fn verify_listed(
    dir: &Dir,
    firsts: &[u64],
    first: u64,
    trust: &TrustStore,
    anchors: &[Checkpoint],
) -> Result<Report, SegmentError> {
    let reader = match SegmentReader::open(dir, first) {
        Err(error) => return Finding::of_first_line(error, first).map(|finding| Report::unreadable(first, finding)),
        Ok(reader) => reader,
    };
    let tree = reader.header.tree().unwrap_or_default();
    let mut walk = Walk::new(&reader.header, tree, trust, anchors);
    let (header, name) = (reader.header.clone(), reader.name.clone());
    let kept = retain::read_kept(dir);
    // A host that runs may remove the segments meanwhile, so that they come first.
    let walked = walk.segments(dir, firsts, reader)?;
    let finding = match kept {
        Err(SegmentError::Files(FilesError::TooLarge { .. } | FilesError::NotAFile { .. })) => {
            Some(Finding::in_file(retain::CHECKPOINTS_FILE, first, What::NotALine))
        }
        kept => start(&kept?, (&header, &name), &mut walk, trust).or(walked),
    };
    let finding = finding.or_else(|| walk.end());
    Ok(walk.report(first, finding))
}

/// The newest checkpoint in a log that one of the trusted keys signed; none: it has none yet. The records before it are not
/// looked at.
///
/// # Errors
/// The log cannot be read.
pub fn newest_checkpoint(directory: &Path, trust: &TrustStore) -> Result<Option<Checkpoint>, VerifyError> {
    let dir = files::open_root(directory)?;
    for segment in segment::list(&dir)?.iter().rev() {
        let mut reader = SegmentReader::open(&dir, segment.first)?;
        let mut newest = None;
        while reader.advance()? == Next::Whole {
            if let Line::Checkpoint(document) = Line::parse(reader.lines.line()) {
                newest = Some(document.to_vec());
            }
        }
        if let Some(document) = newest {
            return Checkpoint::verify(&document, trust)
                .map(Some)
                .map_err(VerifyError::Anchor);
        }
    }
    Ok(None)
}

/// Checks what the log begins with: nothing, or a state that a kept checkpoint vouches for.
fn start(kept: &[u8], (header, name): (&Header, &str), walk: &mut Walk<'_>, trust: &TrustStore) -> Option<Finding> {
    let mut vouched = header.first == 0 && header.prev == Digest::from_bytes([0; 32]);
    let mut size = 0;
    for line in kept.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let found = |what| Some(Finding::in_file(retain::CHECKPOINTS_FILE, size, what));
        let Line::Checkpoint(document) = Line::parse(line) else {
            return found(What::NotALine);
        };
        let checkpoint = match Checkpoint::verify(document, trust) {
            Ok(checkpoint) => checkpoint,
            Err(error) => return found(What::CheckpointForged(error)),
        };
        let head = &checkpoint.head;
        if !is_in_one_form(document) {
            return found(What::CheckpointEdited);
        }
        if head.log != header.log {
            return found(What::OtherLog(head.log));
        }
        // Each is about more than the one before.
        if head.size <= size {
            return found(What::CheckpointOrder);
        }
        if let Some(what) = walk.kept(head) {
            return found(what);
        }
        size = head.size;
        vouched = vouched || header.goes_on_from(head);
    }
    (!vouched).then(|| Finding::in_file(name, header.first, What::StartNotVouched))
}
