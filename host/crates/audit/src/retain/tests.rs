//! What somebody who can write the folder does to have the host remove records, and sign that it did.
#![expect(clippy::disallowed_methods, reason = "tests change files as an attacker does")]

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::testing::{TestClock, blinder, firsts, key, options, session, trust, trust_in};
use crate::verify::{What, verify};
use crate::{AuditLog, LogOptions};

const SESSION_RECORDS: usize = 40;

/// Larger than any log here.
const ROOM: u64 = 1 << 20;

/// A log of many segments of a few records each, of which nothing went, and how much of it is to be kept from now on. Its age is not
/// reached.
fn lab(folder: &tempfile::TempDir, retain_bytes_max: u64) -> LogOptions {
    let options = LogOptions {
        segment_bytes_max: 1200,
        retain_bytes_max: ROOM,
        retain_age_max: Some(Duration::from_hours(1)),
        ..options(folder.path())
    };
    session(&options, SESSION_RECORDS).close().unwrap();
    assert!(firsts(&options).len() > 6);
    LogOptions {
        retain_bytes_max,
        ..options
    }
}

/// When so much passed since a log was opened.
fn after(passed: Duration) -> Moment {
    let opened = crate::testing::start();
    let now = opened + passed;
    Moment { opened, now, said: now }
}

/// Where the last line of a segment is parted from those before it.
fn before_last_line(whole: &[u8]) -> usize {
    let lines = &whole[..whole.len() - 1];
    lines.iter().rposition(|byte| *byte == b'\n').unwrap()
}

fn path(options: &LogOptions, place: usize) -> PathBuf {
    options.directory.join(segment::file_name(firsts(options)[place]))
}

/// Whether a host that goes on, with this key, removed something or said that it did.
fn removes(options: &LogOptions, seed: u8) -> bool {
    let log = AuditLog::open(options, key(seed), blinder(), Arc::new(TestClock::default())).unwrap();
    for number in 0..SESSION_RECORDS {
        aral_contract::AuditSink::record(&log, crate::testing::event(&number.to_string()));
    }
    log.close().unwrap();
    // The log may be damaged: what is in it is looked for as text.
    let said = (0..firsts(options).len()).any(|place| {
        std::fs::read_to_string(path(options, place))
            .unwrap()
            .contains("\"log_retired\"")
    });
    assert_eq!(said, firsts(options)[0] > 0, "it is done if and only if it is said");
    said
}

#[test]
fn what_is_over_goes() {
    let folder = tempfile::tempdir().unwrap();
    let options = lab(&folder, ROOM);
    assert!(!removes(&options, 1), "neither size nor age is reached");
    let small = LogOptions {
        retain_bytes_max: 8000,
        ..options
    };
    assert!(removes(&small, 1), "the control: the size is reached");
    assert!(verify(&small.directory, &trust(), &[]).unwrap().is_good());
}

#[test]
fn a_segment_that_says_that_it_was_begun_long_ago_stays() {
    let folder = tempfile::tempdir().unwrap();
    let options = lab(&folder, ROOM);
    for place in 0..firsts(&options).len() {
        let text = std::fs::read_to_string(path(&options, place)).unwrap();
        let forged = text.replacen("\"opened_at\":\"2026", "\"opened_at\":\"2020", 1);
        assert_ne!(forged, text);
        std::fs::write(path(&options, place), forged).unwrap();
    }
    assert!(!removes(&options, 1));
    assert!(
        verify(&options.directory, &trust(), &[]).unwrap().is_good(),
        "nothing was lost"
    );
}

#[test]
fn a_segment_that_was_made_longer_takes_nothing_with_it() {
    for place in [0, 3] {
        let folder = tempfile::tempdir().unwrap();
        let options = lab(&folder, ROOM);
        // As long as all that is kept, in no space, and ended as it was.
        let whole = std::fs::read(path(&options, place)).unwrap();
        let last = before_last_line(&whole);
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(path(&options, place))
            .unwrap();
        file.set_len(2 << 20).unwrap();
        file.write_all(&whole[last..]).unwrap();
        assert!(!removes(&options, 1), "segment {place}");
        let finding = verify(&options.directory, &trust(), &[]).unwrap().finding.unwrap();
        assert_eq!(finding.what, What::NotALine);
    }
}

#[test]
fn a_checkpoint_that_was_made_longer_takes_nothing_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let options = lab(&folder, ROOM);
    let all = firsts(&options).len();
    for place in 0..all - 1 {
        let text = std::fs::read_to_string(path(&options, place)).unwrap();
        let (before, last) = text.trim_end().rsplit_once('\n').unwrap();
        let text = format!("{before}\n{}\n", crate::testing::padded(last));
        std::fs::write(path(&options, place), text).unwrap();
    }
    let tight = LogOptions {
        // More than there was, and less than there seems to be.
        retain_bytes_max: 100_000,
        ..options
    };
    assert!(all < 40);
    assert!(!removes(&tight, 1));
}

#[test]
fn segments_that_are_taken_away_while_the_host_runs_take_nothing_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let options = lab(&folder, ROOM);
    let dir = files::open_root(&options.directory).unwrap();
    let log = SegmentReader::open(&dir, 0).unwrap().header.log;
    let mut retention = Retention::new(ROOM, Some(Duration::from_hours(1)), log, trust());
    let before = retention.kept(&dir, &Holds::default(), &after(Duration::ZERO));
    assert!(
        before.from.is_none() && before.stopped.is_none(),
        "all of it is known now"
    );
    let later = after(Duration::from_hours(2));
    // All but the oldest and the newest.
    let all = firsts(&options);
    for first in &all[1..all.len() - 1] {
        std::fs::rename(
            options.directory.join(segment::file_name(*first)),
            folder.path().join(segment::file_name(*first)),
        )
        .unwrap();
    }
    let kept = retention.kept(&dir, &Holds::default(), &later);
    assert_eq!(kept.from, None);
    assert!(matches!(kept.stopped, Some(KeptError::Differs { .. })));
    for first in &all[1..all.len() - 1] {
        std::fs::rename(
            folder.path().join(segment::file_name(*first)),
            options.directory.join(segment::file_name(*first)),
        )
        .unwrap();
    }
    let kept = retention.kept(&dir, &Holds::default(), &later);
    assert_eq!(kept.from, all.last().copied(), "the control");
}

#[test]
fn a_segment_that_was_parted_at_its_checkpoints_counts_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        retain_bytes_max: 1 << 20,
        ..options(folder.path())
    };
    // One segment with many checkpoints, and another one behind it.
    for _ in 0..12 {
        session(&options, 5).close().unwrap();
    }
    let small = LogOptions {
        segment_bytes_max: 1200,
        ..options
    };
    session(&small, 5).close().unwrap();
    let dir = files::open_root(&small.directory).unwrap();
    let whole = files::read_capped(&dir, segment::file_name(0), 1 << 20).unwrap();
    let mut reader = SegmentReader::open(&dir, 0).unwrap();
    let (mut header, mut tree) = (reader.header.clone(), crate::merkle::Tree::default());
    let (mut prev, mut parts) = (header.prev, Vec::new());
    while reader.advance().unwrap() == crate::line::Next::Whole {
        match Line::parse(reader.lines.line()) {
            Line::Record(_) => {
                prev = crate::merkle::leaf_hash(reader.lines.line());
                tree.push(prev);
            }
            Line::Checkpoint(_) => {
                let mut part = header.line();
                part.resize(usize::try_from(reader.lines.offset()).unwrap() - 1, 0);
                part.push(b'\n');
                part.extend_from_slice(reader.lines.line());
                part.push(b'\n');
                parts.push((header.first, part));
                header = Header::after(header.log, &tree, prev, header.opened_at);
            }
            _ => {}
        }
    }
    assert!(parts.len() > 10 && whole.len() > 8000);
    for (first, part) in parts {
        std::fs::write(small.directory.join(segment::file_name(first)), part).unwrap();
    }
    let sum: u64 = segment::list(&dir).unwrap().iter().map(|segment| segment.bytes).sum();
    let tight = LogOptions {
        // More than there was, and less than there seems to be.
        retain_bytes_max: whole.len() as u64 * 3,
        ..small
    };
    assert!(sum > tight.retain_bytes_max);
    assert!(!removes(&tight, 1));
}

#[test]
fn a_segment_that_was_cut_at_an_older_checkpoint_stays_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let old = Duration::from_hours(2);
    let options = LogOptions {
        segment_bytes_max: 6000,
        retain_age_max: Some(Duration::from_hours(1)),
        ..options(folder.path())
    };
    let clock = Arc::new(TestClock::default());
    let records = |count: usize| {
        let log = AuditLog::open(&options, key(1), blinder(), clock.clone()).unwrap();
        for number in 0..count {
            aral_contract::AuditSink::record(&log, crate::testing::event(&number.to_string()));
        }
        log.close().unwrap();
    };
    records(3);
    // The checkpoint of these is old enough, and no segment ended then.
    clock.advance(old);
    records(3);
    let dir = files::open_root(&options.directory).unwrap();
    let whole = files::read_capped(&dir, segment::file_name(0), 1 << 20).unwrap();
    let mut reader = SegmentReader::open(&dir, 0).unwrap();
    let (mut tree, mut prev) = (crate::merkle::Tree::default(), reader.header.prev);
    let cut = loop {
        assert_eq!(reader.advance().unwrap(), crate::line::Next::Whole);
        match Line::parse(reader.lines.line()) {
            Line::Record(_) => {
                prev = crate::merkle::leaf_hash(reader.lines.line());
                tree.push(prev);
            }
            Line::Checkpoint(_) if tree.size() == 4 => break reader.lines.next_offset(),
            _ => {}
        }
    };
    let cut = usize::try_from(cut).unwrap();
    std::fs::write(options.directory.join(segment::file_name(0)), &whole[..cut]).unwrap();
    let mut rest = Header::after(reader.header.log, &tree, prev, reader.header.opened_at).line();
    let without_checkpoints = whole[cut..].split_inclusive(|byte| *byte == b'\n');
    without_checkpoints
        .filter(|line| line.starts_with(b"{\"seq\""))
        .for_each(|line| rest.extend_from_slice(line));
    std::fs::write(options.directory.join(segment::file_name(4)), rest).unwrap();
    records(60);
    assert!(firsts(&options).len() > 3);
    assert_eq!(firsts(&options)[0], 0, "nothing went before it was old enough");
    let finding = verify(&options.directory, &trust(), &[]).unwrap().finding.unwrap();
    assert_eq!((finding.seq, finding.what), (4, What::NotEnded));
}

#[test]
fn the_first_segment_that_cannot_go_is_told_wherever_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let options = lab(&folder, ROOM);
    let dir = files::open_root(&options.directory).unwrap();
    let log = SegmentReader::open(&dir, 0).unwrap().header.log;
    let asked = || Retention::new(0, None, log, trust()).kept(&dir, &Holds::default(), &after(Duration::ZERO));
    let good = asked();
    assert_eq!(good.from, firsts(&options).last().copied());
    assert!(good.stopped.is_none());
    let (third, fifth) = (path(&options, 2), path(&options, 4));
    for bad in [&fifth, &third] {
        std::fs::OpenOptions::new()
            .append(true)
            .open(bad)
            .unwrap()
            .write_all(b"\n")
            .unwrap();
        let kept = asked();
        let name = bad.file_name().unwrap().to_str().unwrap();
        assert!(kept.stopped.unwrap().to_string().contains(name));
        assert!(kept.from.is_some(), "those before it go");
    }
    assert_eq!(asked().from, Some(firsts(&options)[2]));
}

#[test]
fn what_a_kill_left_of_a_removal_is_removed_and_the_log_stays_good() {
    let folder = tempfile::tempdir().unwrap();
    let options = lab(&folder, 24_000);
    let dir = files::open_root(&options.directory).unwrap();
    let before: Vec<(u64, Vec<u8>)> = firsts(&options)
        .into_iter()
        .map(|first| {
            (
                first,
                files::read_capped(&dir, segment::file_name(first), 1 << 20).unwrap(),
            )
        })
        .collect();
    assert!(removes(&options, 1));
    // All but the first of those that went are still there.
    let gone = before.iter().filter(|(first, _)| *first < firsts(&options)[0]).skip(1);
    let gone: Vec<_> = gone.collect();
    assert!(
        gone.len() > 1 && gone.len() + 2 < before.len(),
        "some went, and not the last"
    );
    for (first, bytes) in gone {
        std::fs::write(options.directory.join(segment::file_name(*first)), bytes).unwrap();
    }
    let report = verify(&options.directory, &trust(), &[]).unwrap();
    assert!(report.is_good(), "{report:?}");
    removes(&options, 1);
    let report = verify(&options.directory, &trust(), &[]).unwrap();
    assert!(report.is_good(), "{report:?}");
}

#[test]
fn a_segment_that_does_not_end_as_it_was_signed_for_stays_with_all_that_follow() {
    type Change = fn(&[u8]) -> Vec<u8>;
    let changes: [Change; 3] = [
        // Its checkpoint is gone.
        |whole| whole[..=before_last_line(whole)].to_vec(),
        // A record of it is gone.
        |whole| {
            let mut lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
            lines.remove(1);
            lines.concat()
        },
        // It ends with nothing.
        |_| Vec::new(),
    ];
    for change in changes {
        let folder = tempfile::tempdir().unwrap();
        let options = lab(&folder, 8000);
        let whole = std::fs::read(path(&options, 0)).unwrap();
        std::fs::write(path(&options, 0), change(&whole)).unwrap();
        assert!(!removes(&options, 1));
        std::fs::write(path(&options, 0), whole).unwrap();
        assert!(removes(&options, 1), "the control");
    }
}

#[test]
fn segments_are_removed_part_by_part_and_none_is_vouched_for_twice() {
    let folder = tempfile::tempdir().unwrap();
    let options = lab(&folder, ROOM);
    let dir = files::open_root(&options.directory).unwrap();
    let log = SegmentReader::open(&dir, 0).unwrap().header.log;
    let mut retention = Retention::new(ROOM, None, log, trust());
    let firsts = firsts(&options);
    let before: Vec<Vec<u8>> = firsts
        .iter()
        .map(|first| files::read_capped(&dir, segment::file_name(*first), 1 << 20).unwrap())
        .collect();
    retention.remove_before(&dir, firsts[4]).unwrap();
    let kept = read_kept(&dir).unwrap();
    assert_eq!(kept.iter().filter(|byte| **byte == b'\n').count(), 4);
    // As a kill leaves it: they are vouched for, and still there.
    for (first, bytes) in firsts.iter().zip(&before).take(4).skip(2) {
        std::fs::write(options.directory.join(segment::file_name(*first)), bytes).unwrap();
    }
    retention.remove_before(&dir, firsts[5]).unwrap();
    let now = read_kept(&dir).unwrap();
    assert!(now.starts_with(&kept));
    assert_eq!(now.iter().filter(|byte| **byte == b'\n').count(), 5);
    assert_eq!(crate::testing::firsts(&options)[0], firsts[5]);
}

#[test]
fn of_what_is_gone_the_newest_checkpoints_are_kept() {
    let text = b"1\n22\n3\n";
    for (lines_max, kept) in [(0, &b"3\n"[..]), (1, b"3\n"), (2, b"22\n3\n"), (3, text), (4, text)] {
        assert_eq!(newest_lines(text, lines_max), kept, "{lines_max}");
    }
    assert!(newest_lines(b"", 1).is_empty());
    let folder = tempfile::tempdir().unwrap();
    let options = lab(&folder, 4000);
    assert!(removes(&options, 1));
    let kept = options.directory.join(CHECKPOINTS_FILE);
    let lines = std::fs::read_to_string(&kept).unwrap();
    let (_, newest) = lines.trim_end().rsplit_once('\n').unwrap();
    std::fs::write(&kept, format!("{newest}\n")).unwrap();
    assert!(
        verify(&options.directory, &trust(), &[]).unwrap().is_good(),
        "the last of them is enough"
    );
    std::fs::write(&kept, format!("{newest}\n{newest}\n")).unwrap();
    let finding = verify(&options.directory, &trust(), &[]).unwrap().finding.unwrap();
    assert_eq!(finding.what, What::CheckpointOrder, "none is there twice");
    std::fs::remove_file(&kept).unwrap();
    std::fs::create_dir(&kept).unwrap();
    let finding = verify(&options.directory, &trust(), &[]).unwrap().finding.unwrap();
    assert_eq!(finding.what, What::NotALine);
}

#[test]
fn a_segment_before_one_that_is_gone_stays() {
    let folder = tempfile::tempdir().unwrap();
    let options = lab(&folder, 4000);
    std::fs::remove_file(path(&options, 1)).unwrap();
    assert!(!removes(&options, 1));
}

#[test]
fn what_a_key_signed_that_was_replaced_goes_once_that_is_trusted() {
    let folder = tempfile::tempdir().unwrap();
    let options = lab(&folder, 8000);
    assert!(!removes(&options, 2), "this host knows nothing of key 1");
    let knows = LogOptions {
        trust: trust_in(&[1]),
        ..options
    };
    assert!(removes(&knows, 2));
    let report = verify(&knows.directory, &trust_in(&[1, 2]), &[]).unwrap();
    assert!(report.is_good(), "{report:?}");
}

#[test]
fn what_is_in_the_way_is_told_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let options = lab(&folder, 8000);
    let dir = files::open_root(&options.directory).unwrap();
    let log = SegmentReader::open(&dir, 0).unwrap().header.log;
    let asked =
        |log, trust| Retention::new(8000, None, log, trust).kept(&dir, &Holds::default(), &after(Duration::ZERO));
    let error = asked(log, trust_in(&[2])).stopped.unwrap();
    assert!(matches!(error, KeptError::NotSigned { .. }));
    let told = aral_contract::failure::chain(&error);
    let hint = "aral.toml, [[trust]]: public_key = \"OLD.pub.pem\" and kinds = [\"checkpoint\"]";
    assert!(told.contains(hint) && told.contains("is not trusted"), "{told}");
    assert!(asked(log, trust()).from.is_some());
    let error = asked(LogId::from_bytes([9; 16]), trust()).stopped.unwrap();
    assert!(matches!(error, KeptError::Differs { .. }), "another log: {error}");
}

#[test]
fn what_is_too_old_only_by_a_leap_of_the_clock_stays_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let options = lab(&folder, ROOM);
    let dir = files::open_root(&options.directory).unwrap();
    let log = SegmentReader::open(&dir, 0).unwrap().header.log;
    let mut retention = Retention::new(ROOM, Some(Duration::from_hours(1)), log, trust());
    let year = Duration::from_hours(365 * 24);
    let opened = crate::testing::start() + year;
    let mut asked = |passed: Duration| {
        let now = opened + passed;
        let moment = Moment { opened, now, said: now };
        retention.kept(&dir, &Holds::default(), &moment)
    };
    let doubted = asked(Duration::ZERO);
    assert_eq!(doubted.from, None);
    assert!(doubted.doubt.leap && !doubted.doubt.ahead);
    let settled = asked(crate::age::CLOCK_DOUBT);
    assert_eq!(settled.from, firsts(&options).last().copied());
    assert_eq!(settled.doubt, Doubt::default());
    // While the host is at work, too.
    let opened = crate::testing::start();
    let moment = Moment {
        opened,
        now: opened,
        said: opened + year,
    };
    let doubted = retention.kept(&dir, &Holds::default(), &moment);
    assert_eq!((doubted.from, doubted.doubt.leap), (None, true));
    // A clock that is behind instead: they ended in the future.
    let opened = crate::testing::start() - year;
    let moment = Moment {
        opened,
        now: opened,
        said: opened,
    };
    let ahead = retention.kept(&dir, &Holds::default(), &moment);
    assert_eq!(ahead.from, None);
    assert!(ahead.doubt.ahead && !ahead.doubt.leap);
}
