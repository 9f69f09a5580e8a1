//! What the folder of the log is made into while no host runs, beside a file that nobody can write.
#![expect(clippy::disallowed_methods, reason = "tests change files as an attacker does")]

use std::sync::Arc;

use aral_runtime::files::FilesError;

use crate::recover::OpenError;
use crate::schema::AuditEvent;
use crate::testing::{TestClock, options, records, session, trust, try_open};
use crate::verify::{What, verify};
use crate::{AuditLog, LogOptions, segment};

/// A log of two sessions of six records, and what its folder held after the first one.
fn signed(folder: &tempfile::TempDir) -> (LogOptions, Vec<u8>) {
    let options = LogOptions {
        head_file: Some(folder.path().join("state").join("audit.head")),
        ..options(folder.path())
    };
    session(&options, 5).close().unwrap();
    let first = std::fs::read(path(&options)).unwrap();
    session(&options, 5).close().unwrap();
    (options, first)
}

fn path(options: &LogOptions) -> std::path::PathBuf {
    options.directory.join(segment::file_name(0))
}

fn opened(options: &LogOptions) -> Option<OpenError> {
    try_open(options, Arc::new(TestClock::default())).err()
}

fn checked(options: &LogOptions) -> Result<bool, OpenError> {
    let log = AuditLog::check(&options.directory, options.head_file.as_deref(), &trust())?;
    Ok(log.is_some())
}

fn refused(options: &LogOptions) -> bool {
    let before = std::fs::read(path(options)).ok();
    let checked = matches!(checked(options), Err(OpenError::NotGoneOn { size: 12, .. }));
    let refused = matches!(opened(options), Some(OpenError::NotGoneOn { size: 12, .. }));
    assert_eq!(checked, refused, "whoever asks beforehand is told the same");
    assert_eq!(
        std::fs::read(path(options)).ok(),
        before,
        "what was found is left as it is"
    );
    refused
}

#[test]
fn the_file_is_named_by_its_whole_path_where_it_cannot_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    let (options, _) = signed(&folder);
    let head_file = options.head_file.clone().unwrap();
    std::fs::remove_file(&head_file).unwrap();
    std::fs::create_dir(&head_file).unwrap();
    let error = opened(&options).unwrap();
    assert!(
        matches!(&error, OpenError::Files(FilesError::Io { path, .. }) if *path == head_file),
        "it is in another folder than the segments: {error:?}"
    );
}

#[test]
fn a_log_that_was_removed_cut_back_or_made_anew_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let (options, first) = signed(&folder);
    let whole = std::fs::read(path(&options)).unwrap();
    std::fs::write(path(&options), &first).unwrap();
    assert!(refused(&options), "cut back to the checkpoint before");
    let text = String::from_utf8(whole.clone()).unwrap();
    let edited = text.replacen("\"subject\":\"3\"", "\"subject\":\"4\"", 1);
    assert_ne!(edited, text);
    std::fs::write(path(&options), edited).unwrap();
    std::fs::remove_file(options.directory.join("end.json")).unwrap();
    assert!(refused(&options), "edited");
    let unsigned: String = text
        .lines()
        .filter(|line| !line.contains("checkpoint"))
        .map(|line| format!("{line}\n"))
        .collect();
    std::fs::write(path(&options), unsigned.replace("\"4\"", "\"5\"")).unwrap();
    assert!(refused(&options), "edited at the end, and unsigned");
    std::fs::remove_file(path(&options)).unwrap();
    assert!(refused(&options), "removed");
    std::fs::write(path(&options), &whole).unwrap();
    assert!(opened(&options).is_none());
}

#[test]
fn a_log_is_checked_while_it_is_written_and_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let (options, _) = signed(&folder);
    let open = session(&options, 3);
    assert!(checked(&options).unwrap());
    open.close().unwrap();
    let head_file = options.head_file.clone().unwrap();
    std::fs::remove_file(&head_file).unwrap();
    assert!(checked(&options).unwrap());
    std::fs::remove_dir_all(&options.directory).unwrap();
    std::fs::create_dir(&options.directory).unwrap();
    assert!(!checked(&options).unwrap(), "no log was begun");
    assert!(!head_file.exists() && !path(&options).exists());
}

#[test]
fn what_was_kept_is_an_anchor_and_an_older_one_does_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let (options, first) = signed(&folder);
    let head_file = options.head_file.clone().unwrap();
    let anchor = std::fs::read(&head_file).unwrap();
    let whole = std::fs::read(path(&options)).unwrap();
    std::fs::write(path(&options), &first).unwrap();
    let finding = verify(&options.directory, &trust(), std::slice::from_ref(&anchor))
        .unwrap()
        .finding
        .unwrap();
    assert_eq!(finding.what, What::CutBack { anchor: 12 });
    std::fs::write(path(&options), &whole).unwrap();
    // As a power cut leaves it.
    session(&options, 3).close().unwrap();
    for old in [&anchor[..], b"", b"{", &[0; 2048]] {
        std::fs::write(&head_file, old).unwrap();
        session(&options, 1).close().unwrap();
        let report = verify(&options.directory, &trust(), &[std::fs::read(&head_file).unwrap()]).unwrap();
        assert!(report.is_good());
    }
}

/// How many records say that the log was compared with nothing.
fn unanchored(options: &LogOptions) -> usize {
    let records = records(options).into_iter();
    let says_so =
        |event: &AuditEvent| matches!(event, AuditEvent::Security(event) if event.rule.as_str() == "audit.unanchored");
    records.filter(|record| says_so(&record.event)).count()
}

#[test]
fn a_log_that_was_compared_with_nothing_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (options, _) = signed(&folder);
    let head_file = options.head_file.clone().unwrap();
    assert_eq!(unanchored(&options), 0, "a new log, and then one with a checkpoint");
    let whole = std::fs::read(&head_file).unwrap();
    let cases = [None, Some(&b""[..]), Some(&[0; 2048][..]), Some(&whole[..100])];
    for (number, kept) in cases.into_iter().enumerate() {
        match kept {
            None => std::fs::remove_file(&head_file).unwrap(),
            Some(bytes) => std::fs::write(&head_file, bytes).unwrap(),
        }
        // The second one finds what the first has kept.
        for _ in 0..2 {
            session(&options, 1).close().unwrap();
            assert_eq!(unanchored(&options), number + 1, "{kept:?}");
        }
    }
    // Of the log nothing is left, and of the checkpoint nothing that is of use.
    std::fs::remove_dir_all(&options.directory).unwrap();
    std::fs::write(&head_file, [0_u8; 2048]).unwrap();
    session(&options, 1).close().unwrap();
    assert_eq!(unanchored(&options), 1);
}

#[test]
fn a_log_that_was_made_behind_what_was_signed_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let (options, _) = signed(&folder);
    let dir = aral_runtime::files::open_root(&options.directory).unwrap();
    let log = segment::SegmentReader::open(&dir, 0).unwrap().header.log;
    for size in [13, 1000, 1 << 40] {
        let mut tree = crate::merkle::Tree::default();
        for _ in 0..size.min(1000) {
            tree.push(aral_contract::Digest::of(b"made up"));
        }
        let mut made = segment::Header::after(
            log,
            &tree,
            aral_contract::Digest::of(b"before"),
            crate::testing::start(),
        );
        if size > tree.size() {
            (made.first, made.peaks) = (size, vec![aral_contract::Digest::of(b"made up")]);
        }
        let made_path = options.directory.join(segment::file_name(size));
        std::fs::write(&made_path, made.line()).unwrap();
        assert!(refused(&options), "{size}");
        std::fs::remove_file(made_path).unwrap();
    }
    assert!(opened(&options).is_none(), "the control");
}

#[test]
fn a_beginning_that_names_another_record_before_it_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let (options, _) = signed(&folder);
    let small = LogOptions {
        segment_bytes_max: 1,
        ..options.clone()
    };
    // Each record ends a segment, so that the newest one has none.
    session(&small, 1).close().unwrap();
    let newest = *crate::testing::firsts(&options).last().unwrap();
    let path = options.directory.join(segment::file_name(newest));
    let good = std::fs::read_to_string(&path).unwrap();
    assert_eq!(good.lines().count(), 1);
    let at = good.find("\"prev\":\"").unwrap() + 8;
    std::fs::write(&path, format!("{}{}{}", &good[..at], "07".repeat(32), &good[at + 64..])).unwrap();
    for _ in 0..2 {
        let refused = opened(&options);
        assert!(matches!(refused, Some(OpenError::NotGoneOn { .. })), "{refused:?}");
        let _there_or_not = std::fs::remove_file(options.directory.join("end.json"));
    }
    // Nor where records stand behind it that nobody has signed for.
    let head_file = options.head_file.clone().unwrap();
    let head = std::fs::read(&head_file).unwrap();
    std::fs::write(&path, &good).unwrap();
    session(&options, 0).close().unwrap();
    std::fs::write(&head_file, &head).unwrap();
    let one = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = one.lines().take(2).collect();
    let prev = &good[at..at + 64];
    for (forged, is_refused) in [("07".repeat(32), true), (prev.to_owned(), false)] {
        let forged: String = lines
            .iter()
            .map(|line| format!("{}\n", line.replace(prev, &forged)))
            .collect();
        std::fs::write(&path, forged).unwrap();
        let _there_or_not = std::fs::remove_file(options.directory.join("end.json"));
        let refused = matches!(opened(&options), Some(OpenError::NotGoneOn { .. }));
        assert_eq!(refused, is_refused);
    }
}

#[test]
fn a_log_goes_on_over_segments_and_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        segment_bytes_max: 1200,
        retain_bytes_max: 4000,
        ..signed(&folder).0
    };
    for _ in 0..3 {
        session(&options, 7).close().unwrap();
    }
    let end = segment::list(&aral_runtime::files::open_root(&options.directory).unwrap())
        .unwrap()
        .pop()
        .unwrap()
        .first;
    let last = options.directory.join(segment::file_name(end));
    let mut torn = std::fs::read(&last).unwrap();
    torn.extend_from_slice(b"{\"seq\":");
    std::fs::write(&last, torn).unwrap();
    session(&options, 1).close().unwrap();
    assert!(verify(&options.directory, &trust(), &[]).unwrap().is_good());
}

#[test]
fn a_beginning_behind_what_was_signed_needs_a_checkpoint_of_just_there() {
    let folder = tempfile::tempdir().unwrap();
    let (options, _) = signed(&folder);
    let head_file = options.head_file.clone().unwrap();
    let old = std::fs::read(&head_file).unwrap();
    let options = LogOptions {
        segment_bytes_max: 1200,
        retain_bytes_max: 4000,
        ..options
    };
    for _ in 0..6 {
        session(&options, 7).close().unwrap();
    }
    let dir = aral_runtime::files::open_root(&options.directory).unwrap();
    let first = segment::list(&dir).unwrap()[0].first;
    assert!(
        first > 12,
        "retention removed what the old checkpoint is about: {first}"
    );
    // As a power cut leaves it: the newest checkpoint was not kept.
    std::fs::write(&head_file, &old).unwrap();
    assert!(opened(&options).is_none(), "the log itself says how it was shortened");
    // Somebody removes all of it, and begins a log that claims to go on behind what was signed.
    let newest = segment::list(&dir).unwrap().pop().unwrap().first;
    for one in segment::list(&dir).unwrap() {
        if one.first != newest {
            std::fs::remove_file(options.directory.join(segment::file_name(one.first))).unwrap();
        }
    }
    let _there_or_not = std::fs::remove_file(options.directory.join("end.json"));
    std::fs::write(&head_file, &old).unwrap();
    assert!(
        matches!(opened(&options), Some(OpenError::NotGoneOn { size: 12, .. })),
        "no checkpoint is kept of where it begins"
    );
}
