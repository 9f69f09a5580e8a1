//! What the writer does with whole segments: it ends the current one and begins the next, and removes old ones.

use std::sync::Arc;

use aral_contract::failure::chain;
use aral_runtime::files;

use super::{GivenUp, Writer};
use crate::age::SegmentAge;
use crate::output::{files_error, segment_error};
use crate::schema::{AuditEvent, LogRetired};
use crate::segment::{Header, file_name};

impl Writer {
    /// Whether the next record belongs into another one.
    pub(super) fn is_segment_full(&self) -> bool {
        let old = self.segment_age.now(&*self.shared.clock) >= self.rotation.age_max;
        self.tree.size() > self.first && (old || self.output.length() >= self.rotation.bytes_max)
    }

    /// Ends the segment with a checkpoint that says so.
    pub(super) fn end_segment(&mut self) -> Result<(), GivenUp> {
        self.signed_at = Some(self.shared.clock.elapsed());
        self.write_checkpoint(true);
        self.sync()
    }

    /// Begins the next segment.
    pub(super) fn begin_segment(&mut self) -> Result<(), GivenUp> {
        let now = self.shared.clock.now();
        let header = Header::after(self.shared.log, &self.tree, self.prev, now).line();
        let (dir, first) = (Arc::clone(&self.dir), self.tree.size());
        self.retry(|output| {
            files::write_atomic(&dir, file_name(first), &header, 0o600).map_err(files_error)?;
            output.go_on(&dir, first, header.len() as u64).map_err(segment_error)
        })?;
        self.segment_age = SegmentAge::begun(&*self.shared.clock);
        (self.first, self.ended) = (first, false);
        self.looks_back |= self.retiring.is_none();
        Ok(())
    }

    /// Removes old segments once the log says that it did, under a signature: anybody can say so without one.
    pub(super) fn retire(&mut self) {
        let elapsed = self.shared.clock.elapsed();
        if self.until_look_back(elapsed).is_zero() {
            self.looked_back_at = elapsed;
            self.looks_back |= self.retiring.is_none();
        }
        if self.looks_back && !self.holds.are_awaited() {
            self.looks_back = false;
            let moment = self.opening.moment(&*self.shared.clock);
            let kept_from = self.retention.kept_from(&self.dir, &self.holds, &moment);
            let now = self.shared.clock.now();
            self.retiring = kept_from.map(|kept_from| {
                let event = AuditEvent::LogRetired(LogRetired { kept_from });
                (self.shared.lock().push_own(now, event), kept_from)
            });
        }
        if self.retiring.is_none() {
            return;
        }
        let needed = self.holds.lowest();
        let checkpoint = self.shared.lock().checkpoint.clone();
        let signed = checkpoint.map_or(0, |checkpoint| checkpoint.head.size);
        if let Some((_, kept_from)) = self.retiring.take_if(|(seq, from)| *seq < signed && *from <= needed)
            && let Err(error) = self.retention.remove_before(&self.dir, kept_from)
        {
            // At the next look it is said and tried again.
            tracing::error!(error = chain(&error), "old segments of the audit log cannot be removed");
        }
    }
}
