//! The audit log in the hands of somebody who may write its folder and has no key.

use aral_audit::{Cursor, verify};

use crate::documents::KEPT;
use crate::edits::Edits;
use crate::scratch;

/// A log, one of whose files was changed: verification with a checkpoint that was kept elsewhere calls it good only if it has the
/// records that were written and no others, and whoever reads it comes to an end.
pub fn audit_log(edits: &Edits) {
    let folder = scratch::folder();
    let segment = KEPT.files.iter().rfind(|(name, _)| name.ends_with(".jsonl"));
    let (name, good) = segment.expect("a segment");
    let changed = edits.of(good);
    let unchanged = KEPT.files.iter().filter(|(other, _)| other != name);
    let files = unchanged.map(|(name, bytes)| (name.as_str(), bytes.as_slice()));
    scratch::put(folder.path(), files.chain([(name.as_str(), changed.as_slice())]));
    let report = verify(folder.path(), &scratch::trust(), std::slice::from_ref(&KEPT.checkpoint));
    if report.as_ref().is_ok_and(aral_audit::Report::is_good) {
        assert_eq!(
            records(&changed),
            records(good),
            "it is good, and not what was written: {report:?}"
        );
    } else {
        assert_ne!(changed, *good, "nothing was changed: {report:?}");
    }
    let others = KEPT
        .files
        .iter()
        .filter(|(other, _)| other != name)
        .flat_map(|(_, bytes)| bytes);
    let lines = others.chain(&changed).filter(|byte| **byte == b'\n').count();
    if let Ok(cursor) = Cursor::oldest(folder.path()) {
        let read = cursor.take_while(Result::is_ok).take(lines + 1).count();
        assert!(read <= lines, "there are no more records than lines");
    }
}

/// The lines that are records. One without its end is what a crash leaves of one that was never kept.
fn records(log: &[u8]) -> Vec<&[u8]> {
    let lines = log.split_inclusive(|byte| *byte == b'\n');
    lines
        .filter(|line| line.starts_with(b"{\"seq\":") && line.ends_with(b"\n"))
        .collect()
}
