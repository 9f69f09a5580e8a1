//! Goes through a log from its first line to its last, and stops at the first that is wrong.

use aral_contract::document::TrustStore;
use aral_contract::{Digest, LogId};
use cap_std::fs::Dir;

use super::finding::{Finding, What};
use super::openings::Openings;
use super::{Report, Tail};
use crate::checkpoint::{Checkpoint, Head, is_in_one_form};
use crate::line::{LINE_BYTES_MAX, Line, Link, Next};
use crate::merkle::{Tree, leaf_hash};
use crate::options::CHECKPOINT_RECORDS;
use crate::segment::{self, Header, SegmentError, SegmentReader};

/// Most records that follow one another without a checkpoint, if hosts opened the log between them: one that is killed over and
/// over again before it has signed leaves some each time.
const UNSIGNED_MAX: u64 = 2 * CHECKPOINT_RECORDS;
/// Lines that are looked through for a record that is missing. One that is farther away counts as removed.
const LOOK_AHEAD_LINES: usize = 100_000;

pub(super) struct Walk<'a> {
    trust: &'a TrustStore,
    anchors: &'a [Checkpoint],
    log: LogId,
    first: u64,
    tree: Tree,
    /// The leaf of the last record.
    prev: Digest,
    /// The leaf of the one before that.
    before: Digest,
    signed: u64,
    checkpoints: u64,
    /// The largest anchor that a checkpoint of what is gone says the same as.
    confirmed: Option<u64>,
    openings: Openings,
    /// The segment has come to its end: the last line was a checkpoint that says so.
    ended: bool,
    file: String,
}

impl<'a> Walk<'a> {
    pub(super) fn new(header: &Header, tree: Tree, trust: &'a TrustStore, anchors: &'a [Checkpoint]) -> Self {
        Self {
            trust,
            anchors,
            log: header.log,
            first: header.first,
            tree,
            prev: header.prev,
            before: header.prev,
            signed: header.first,
            checkpoints: 0,
            confirmed: None,
            openings: Openings::default(),
            ended: false,
            file: segment::file_name(header.first),
        }
    }

    /// A good checkpoint of what is gone: whether it says the same as those that were kept elsewhere.
    pub(super) fn kept(&mut self, head: &Head) -> Option<What> {
        self.count_checkpoint();
        for anchor in self.anchors.iter().filter(|anchor| anchor.head.size == head.size) {
            if !anchor.head.is_of_the_same(head) {
                return Some(What::AnchorDiffers { anchor: head.size });
            }
            self.confirmed = self.confirmed.max(Some(head.size));
        }
        None
    }

    fn count_checkpoint(&mut self) {
        self.checkpoints = self.checkpoints.saturating_add(1);
    }

    /// Reads segment after segment.
    pub(super) fn segments(
        &mut self,
        dir: &Dir,
        firsts: &[u64],
        first: SegmentReader,
    ) -> Result<Option<Finding>, SegmentError> {
        if let Some(finding) = self.anchored() {
            return Ok(Some(finding));
        }
        let mut reader = Some(first);
        for (place, start) in firsts.iter().enumerate() {
            let mut reader = match reader.take() {
                Some(reader) => reader,
                None => match SegmentReader::open(dir, *start) {
                    Err(error) => return Finding::of_first_line(error, self.tree.size()).map(Some),
                    Ok(reader) => reader,
                },
            };
            if let Some(finding) = self.enter(&reader) {
                return Ok(Some(finding));
            }
            let last = place.saturating_add(1) == firsts.len();
            if let Some(finding) = self.lines(dir, &mut reader, last)? {
                return Ok(Some(finding));
            }
        }
        Ok(None)
    }

    /// Compares the beginning of a segment with the end of the one before.
    fn enter(&mut self, reader: &SegmentReader) -> Option<Finding> {
        let header = &reader.header;
        let size = self.tree.size();
        let what = if header.log != self.log {
            What::OtherLog(header.log)
        } else if header.first > size {
            What::Removed { next: header.first }
        } else if header.first < size {
            What::Inserted
        } else if header.peaks != self.tree.peaks() || header.prev != self.prev {
            What::SegmentStart
        } else {
            self.file.clone_from(&reader.name);
            self.ended = false;
            return None;
        };
        // The file that is named is the one that does not fit.
        Some(Finding::in_file(&reader.name, size, what))
    }

    fn lines(&mut self, dir: &Dir, reader: &mut SegmentReader, last: bool) -> Result<Option<Finding>, SegmentError> {
        loop {
            match reader.advance()? {
                Next::Whole => {}
                // A record that is being written, or was when the host died, has no end yet.
                Next::Torn if last && reader.lines.line().len() <= LINE_BYTES_MAX => return Ok(None),
                Next::Torn => return Ok(Some(self.found(self.tree.size(), What::NotALine))),
                Next::End if last || self.ended => return Ok(None),
                Next::End => return Ok(Some(self.found(self.tree.size(), What::NotEnded))),
            }
            let finding = match Line::parse(reader.lines.line()) {
                _ if self.ended => Some(self.found(self.tree.size(), What::AfterEnd)),
                Line::Record(link) if link.seq == self.tree.size() && link.prev == self.prev => {
                    let line = reader.lines.line();
                    let wrong = self.openings.record(line, link.seq, self.signed);
                    self.add(line);
                    let wrong = wrong.map(|(seq, what)| self.found(seq, what));
                    self.anchored().or(wrong).or_else(|| self.unsigned())
                }
                Line::Record(link) => {
                    let leaf = leaf_hash(reader.lines.line());
                    Some(self.misplaced(dir, reader, link, leaf)?)
                }
                Line::Checkpoint(document) => {
                    let place = (reader.header.first, reader.lines.offset());
                    self.checkpoint(dir, place, document)?
                }
                Line::Segment(_) | Line::Unknown => Some(self.not_a_line(reader)?),
            };
            if finding.is_some() {
                return Ok(finding);
            }
        }
    }

    fn add(&mut self, line: &[u8]) {
        self.before = std::mem::replace(&mut self.prev, leaf_hash(line));
        self.tree.push(self.prev);
    }

    /// Whoever has no key can make a chain, and take the checkpoints away that do not fit it.
    fn unsigned(&self) -> Option<Finding> {
        let size = self.tree.size();
        let by_one_host = size.saturating_sub(self.signed.max(self.openings.opened()));
        let in_all = size.saturating_sub(self.signed);
        let too_many = by_one_host > CHECKPOINT_RECORDS || in_all > UNSIGNED_MAX;
        too_many.then(|| self.found(self.signed, What::Unsigned))
    }

    fn checkpoint(
        &mut self,
        dir: &Dir,
        (segment, offset): (u64, u64),
        document: &[u8],
    ) -> Result<Option<Finding>, SegmentError> {
        let size = self.tree.size();
        let last = size.saturating_sub(1);
        let head = match Checkpoint::verify(document, self.trust) {
            Ok(checkpoint) => checkpoint.head,
            Err(error) => return Ok(Some(self.found(last, What::CheckpointForged(error)))),
        };
        let is_of_these = head.root == self.tree.root() && head.last == self.prev;
        let finding = if !is_in_one_form(document) {
            self.found(last, What::CheckpointEdited)
        } else if head.log != self.log {
            self.found(last, What::OtherLog(head.log))
        } else if head.size > size {
            self.found(size, What::Removed { next: head.size })
        } else if head.size < size {
            self.found(last, What::CheckpointOrder)
        } else if is_of_these && (head.first, head.offset) != (segment, offset) {
            self.found(last, What::CheckpointMoved)
        } else if is_of_these {
            self.signed = size;
            self.ended = head.ends;
            self.openings.signed();
            self.count_checkpoint();
            return Ok(None);
        } else if self.last_differs(dir, segment, &head)? {
            self.found(last, What::Edited)
        } else {
            self.found(self.signed, What::Rewritten { checkpoint: size })
        };
        Ok(Some(finding))
    }

    /// Whether the last record alone is not the one that was signed for: with the leaf that the checkpoint names in its
    /// place, the tree is the one that it names.
    fn last_differs(&self, dir: &Dir, segment: u64, head: &Head) -> Result<bool, SegmentError> {
        let mut reader = SegmentReader::open(dir, segment)?;
        let mut tree = reader.header.tree().unwrap_or_default();
        while tree.size().saturating_add(1) < head.size && reader.advance()? == Next::Whole {
            let line = reader.lines.line();
            if let Line::Record(_) = Line::parse(line) {
                tree.push(leaf_hash(line));
            }
        }
        tree.push(head.last);
        Ok(tree.size() == head.size && tree.root() == head.root)
    }

    /// What is wrong with a record that is not the one that should come here.
    fn misplaced(
        &self,
        dir: &Dir,
        reader: &mut SegmentReader,
        link: Link,
        leaf: Digest,
    ) -> Result<Finding, SegmentError> {
        let expected = self.tree.size();
        let last = expected.saturating_sub(1);
        if link.seq != expected && link.prev == self.prev {
            // It stands where it always stood, under another number.
            return Ok(self.found(expected, What::Edited));
        }
        if link.seq > expected {
            let missing = self.ahead(dir, reader, |link| link.seq == expected)?;
            return Ok(match missing {
                // The number is there, later. If this record belongs where it now stands, the missing one was moved
                // back; either way the first place that is wrong is here.
                Some(_) => self.found(expected, What::Reordered),
                None => self.found(expected, What::Removed { next: link.seq }),
            });
        }
        if link.seq < expected {
            // The last record and this one have one number, and this one follows on the same record: the next one tells
            // which of them was put in.
            let twin = link.seq == last && link.prev == self.before;
            let follows_on_this = self.ahead(dir, reader, |link| link.prev == leaf)?.is_some();
            return Ok(if twin && follows_on_this {
                self.found(last, What::Inserted)
            } else if follows_on_this && link.prev != self.prev {
                self.found(link.seq, What::Reordered)
            } else {
                self.found(link.seq, What::Inserted)
            });
        }
        if self.ahead(dir, reader, |next| next.seq == expected)?.is_some() {
            // Another one has the number too, and this one is chained to nothing that is there.
            return Ok(self.found(expected, What::Inserted));
        }
        // The number is right, and the record is chained to another text than the one before it has now.
        let next = self.ahead(dir, reader, |next| next.seq == expected.saturating_add(1))?;
        Ok(match next {
            // Nobody is chained to this record as it stands: it is the one that was edited.
            Some(next) if next.prev != leaf => self.found(expected, What::Edited),
            Some(_) | None if expected > self.first => self.found(last, What::Edited),
            Some(_) | None => self.found(expected, What::Edited),
        })
    }

    /// A line that is none: an edited record, if the one after it goes on where it stands.
    fn not_a_line(&self, reader: &mut SegmentReader) -> Result<Finding, SegmentError> {
        let expected = self.tree.size();
        let next = self.next_record(reader)?;
        let what = match next {
            Some(link) if link.seq == expected.saturating_add(1) => What::Edited,
            Some(_) | None => What::NotALine,
        };
        Ok(self.found(expected, what))
    }

    fn next_record(&self, reader: &mut SegmentReader) -> Result<Option<Link>, SegmentError> {
        while reader.advance()? == Next::Whole {
            if let Line::Record(link) = Line::parse(reader.lines.line()) {
                return Ok(Some(link));
            }
        }
        Ok(None)
    }

    /// The first record after this line, in this segment, that is what is looked for.
    fn ahead(
        &self,
        dir: &Dir,
        reader: &mut SegmentReader,
        wanted: impl Fn(&Link) -> bool,
    ) -> Result<Option<Link>, SegmentError> {
        // Another reader, because several questions are asked from the same place.
        let mut again = SegmentReader::resume(dir, reader.header.first, reader.lines.next_offset())?;
        for _ in 0..LOOK_AHEAD_LINES {
            if again.advance()? != Next::Whole {
                break;
            }
            if let Line::Record(link) = Line::parse(again.lines.line())
                && wanted(&link)
            {
                return Ok(Some(link));
            }
        }
        Ok(None)
    }

    /// Compares with the checkpoints that were kept elsewhere.
    fn anchored(&self) -> Option<Finding> {
        let size = self.tree.size();
        let differs = |anchor: &&Checkpoint| {
            anchor.head.size == size && (anchor.head.root != self.tree.root() || anchor.head.last != self.prev)
        };
        if self.anchors.iter().any(|anchor| anchor.head.log != self.log) {
            let other = self
                .anchors
                .iter()
                .map(|anchor| anchor.head.log)
                .find(|log| *log != self.log);
            return other.map(|log| self.found(self.first, What::OtherLog(log)));
        }
        let anchor = self.anchors.iter().find(differs)?;
        let what = What::AnchorDiffers {
            anchor: anchor.head.size,
        };
        Some(self.found(size.saturating_sub(1), what))
    }

    /// What can only be said at the end.
    pub(super) fn end(&self) -> Option<Finding> {
        let size = self.tree.size();
        let farthest = self.anchors.iter().map(|anchor| anchor.head.size).max().unwrap_or(0);
        if farthest > size {
            return Some(self.found(size, What::CutBack { anchor: farthest }));
        }
        if self.checkpoints == 0 && size > 0 {
            return Some(self.found(self.first, What::NothingSigned));
        }
        if let Some(what) = self.openings.unsigned_for() {
            return Some(self.found(self.signed.max(self.openings.opened()), what));
        }
        (self.openings.retired() < self.first)
            .then(|| Finding::in_file(&segment::file_name(self.first), self.first, What::StartNotRetired))
    }

    pub(super) fn report(self, first: u64, finding: Option<Finding>) -> Report {
        let farthest = self.anchors.iter().map(|anchor| anchor.head.size).max();
        let says_something = |size: &u64| *size >= first || self.confirmed >= Some(*size);
        let tail = match farthest {
            Some(size) if size <= self.tree.size() && says_something(&size) => Tail::Anchored { size },
            Some(_) | None => Tail::CannotBeExcluded,
        };
        let sizes = self.anchors.iter().map(|anchor| anchor.head.size);
        let anchor_gone = sizes.filter(|size| !says_something(size)).max();
        Report {
            log: Some(self.log),
            first,
            size: self.tree.size(),
            signed: self.signed,
            checkpoints: self.checkpoints,
            taken_over: self.openings.taken_over(),
            finding,
            tail,
            anchor_gone,
        }
    }

    fn found(&self, seq: u64, what: What) -> Finding {
        Finding::in_file(&self.file, seq, what)
    }
}
