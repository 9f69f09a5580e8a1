//! `aral audit tail`: the end of the log, and what comes after it. It reads beside the host that writes.

use std::collections::VecDeque;
use std::time::Duration;

use aral_audit::{Cursor, Entry, ReadError};

use super::{folder, read_failure, words};
use crate::cli::arguments::audit::AuditTail;
use crate::cli::configured::Configured;
use crate::cli::exit::Exit;
use crate::cli::output::{Done, Output, Stop};
use crate::cli::text;

/// How often it looks whether there is more.
const LOOK: Duration = Duration::from_millis(100);

pub(super) fn run(arguments: &AuditTail, configured: &Configured, output: &Output) -> Done {
    let folder = folder(&arguments.place, configured)?;
    let mut cursor = Cursor::last(&folder, arguments.lines).map_err(|error| read_failure(&error))?;
    let most = usize::try_from(arguments.lines).unwrap_or(usize::MAX);
    let mut last = VecDeque::new();
    let end = loop {
        match next(&mut cursor) {
            Ok(Some(entry)) => {
                if last.len() == most {
                    last.pop_front();
                }
                if most > 0 {
                    last.push_back(entry);
                }
            }
            Ok(None) => break Ok(()),
            Err(damage) => break Err(damage),
        }
    };
    // What stands before damage is shown all the same.
    for entry in &last {
        show(entry, output)?;
    }
    end?;
    if !arguments.follow {
        return Ok(Exit::Success);
    }
    let mut wanted = cursor.position();
    loop {
        match next(&mut cursor)? {
            Some(entry) => {
                if let Some(words) = missed(wanted, entry.seq) {
                    output.warn(&words);
                }
                wanted = entry.seq.saturating_add(1);
                show(&entry, output)?;
            }
            None => std::thread::sleep(LOOK),
        }
    }
}

/// What is to be said where record `found` comes instead of record `wanted`.
fn missed(wanted: u64, found: u64) -> Option<String> {
    let last = found.checked_sub(1).filter(|last| *last >= wanted)?;
    Some(format!(
        "retention removed records {wanted} to {last} before they were read"
    ))
}

fn next(cursor: &mut Cursor) -> Result<Option<Entry>, Stop> {
    cursor.advance().map_err(|error: ReadError| read_failure(&error).into())
}

/// With `--json` the record as it stands, one a line: there is no end at which an object could be closed.
fn show(entry: &Entry, output: &Output) -> Result<(), Stop> {
    if output.json {
        return output.part(&format!("{}\n", text::json(&String::from_utf8_lossy(&entry.line))));
    }
    let record = entry.record().map_err(|error| read_failure(&error))?;
    output.part(&format!("{}\n", words::line(&record)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_unread_is_told() {
        assert_eq!(missed(7, 7), None);
        assert_eq!(missed(0, 0), None);
        let words = missed(7, 9).expect("words");
        assert_eq!(words, "retention removed records 7 to 8 before they were read");
    }
}
