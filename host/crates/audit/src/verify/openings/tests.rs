//! Attacks while no host runs, which the next host signs for without knowing it.
#![expect(clippy::disallowed_methods, reason = "tests change files as an attacker does")]

use aral_runtime::files;

use super::TakenOver;
use crate::LogOptions;
use crate::line::{Line, Link, write_record};
use crate::merkle::leaf_hash;
use crate::retain::CHECKPOINTS_FILE;
use crate::segment::{self, SegmentReader};
use crate::testing::{firsts, options, session, trust};
use crate::verify::tests::{edited, rechain};
use crate::verify::{Report, What, verify};

fn report(options: &LogOptions) -> Report {
    verify(&options.directory, &trust(), &[]).unwrap()
}

fn what(options: &LogOptions) -> Option<(u64, What)> {
    report(options).finding.map(|finding| (finding.seq, finding.what))
}

fn lines(options: &LogOptions, first: u64) -> Vec<String> {
    let text = std::fs::read_to_string(options.directory.join(segment::file_name(first))).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn write(options: &LogOptions, first: u64, lines: &[String]) {
    let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
    std::fs::write(options.directory.join(segment::file_name(first)), text).unwrap();
}

/// Adds a record that follows on the last one, as anybody can.
fn append(options: &LogOptions, event: &str) {
    append_at(options, "2026-01-01T00:00:00Z", event);
}

fn append_at(options: &LogOptions, at: &str, event: &str) {
    append_all(options, &[(at, event, 1)]);
}

fn append_many(options: &LogOptions, events: &[(&str, usize)]) {
    let events: Vec<_> = events
        .iter()
        .map(|(event, times)| ("2026-01-01T00:00:00Z", *event, *times))
        .collect();
    append_all(options, &events);
}

fn append_all(options: &LogOptions, events: &[(&str, &str, usize)]) {
    let first = *firsts(options).last().unwrap();
    let mut lines = lines(options, first);
    let dir = files::open_root(&options.directory).unwrap();
    let header = SegmentReader::open(&dir, first).unwrap().header;
    let last = lines.iter().rev().find_map(|line| match Line::parse(line.as_bytes()) {
        Line::Record(Link { seq, .. }) => Some((seq + 1, leaf_hash(line.as_bytes()))),
        _ => None,
    });
    let (mut seq, mut prev) = last.unwrap_or((first, header.prev));
    for (at, event, times) in events {
        for _ in 0..*times {
            let body = format!("\"at\":\"{at}\",\"event\":{event}}}");
            let mut record = Vec::new();
            write_record(&Link { seq, prev }, body.as_bytes(), &mut record);
            (seq, prev) = (seq + 1, leaf_hash(&record));
            lines.push(String::from_utf8(record).unwrap());
        }
    }
    write(options, first, &lines);
}

#[test]
fn a_history_that_nobody_signed_is_found_also_once_a_host_has_signed_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    session(&options, 2_500).close().unwrap();
    assert!(report(&options).is_good());
    let mut forged = lines(&options, 0);
    forged.retain(|line| !line.starts_with("{\"checkpoint\""));
    forged[3] = edited(&forged[3]);
    rechain(&mut forged, 4);
    write(&options, 0, &forged);
    assert_eq!(what(&options), Some((0, What::Unsigned)));
    session(&options, 1).close().unwrap();
    assert_eq!(what(&options), Some((0, What::Unsigned)));
}

#[test]
fn what_was_written_while_no_host_ran_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    session(&options, 5).close().unwrap();
    session(&options, 5).close().unwrap();
    assert_eq!(
        report(&options).taken_over,
        TakenOver::default(),
        "hosts that were stopped"
    );
    let started = r#"{"type":"lifecycle","change":"started","subject":"forged"}"#;
    append(&options, started);
    append(&options, started);
    session(&options, 1).close().unwrap();
    let good = report(&options);
    assert!(good.is_good());
    let told = TakenOver {
        records: 2,
        first: Some(12),
        cut_bytes: 0,
    };
    assert_eq!((good.signed, good.taken_over), (16, told));
    // Somebody edits a record: what was chained to it is cut off, and what was signed goes with it.
    let mut changed = lines(&options, 0);
    let place = changed
        .iter()
        .position(|line| line.starts_with("{\"seq\":13,"))
        .unwrap();
    changed[place] = edited(&changed[place]);
    write(&options, 0, &changed);
    std::fs::remove_file(options.directory.join("end.json")).unwrap();
    session(&options, 1).close().unwrap();
    let cut = report(&options).taken_over;
    assert_eq!((cut.records, cut.first), (2, Some(12)));
    assert!(cut.cut_bytes > 0);
}

#[test]
fn records_that_span_more_than_a_host_leaves_unsigned_are_found() {
    let started = r#"{"type":"lifecycle","change":"started","subject":"forged"}"#;
    for (last, seconds) in [("2026-01-01T00:01:00Z", None), ("2026-01-01T00:01:01Z", Some(61))] {
        let folder = tempfile::tempdir().unwrap();
        let options = options(folder.path());
        session(&options, 5).close().unwrap();
        append(&options, started);
        append(&options, started);
        append_at(&options, last, started);
        let expected = seconds.map(|seconds| (6, What::UnsignedFor { seconds }));
        assert_eq!(what(&options), expected, "at the end");
        // A host goes on behind them, and signs for them.
        session(&options, 1).close().unwrap();
        assert_eq!(what(&options), expected, "before an opening");
    }
    // Whichever of them is the early one, and a time that is none.
    let folder = tempfile::tempdir().unwrap();
    let options = crate::testing::options(folder.path());
    session(&options, 5).close().unwrap();
    append_at(&options, "2025-12-31T00:00:00Z", started);
    append(&options, started);
    assert_eq!(what(&options), Some((6, What::UnsignedFor { seconds: 86_400 })));
    append_at(&options, "x", started);
    assert_eq!(what(&options), Some((8, What::NotALine)));
    // What a host itself left unsigned for long, and signed for, is no finding: its clock was set, or it slept.
    let folder = tempfile::tempdir().unwrap();
    let options = crate::testing::options(folder.path());
    let clock = std::sync::Arc::new(crate::testing::TestClock::default());
    let log = crate::testing::try_open(&options, std::sync::Arc::clone(&clock) as _).unwrap();
    for _ in 0..3 {
        aral_contract::AuditSink::record(&log, crate::testing::event("a"));
        clock.advance(std::time::Duration::from_secs(600));
    }
    log.close().unwrap();
    assert_eq!(what(&options), None);
}

#[test]
fn one_host_leaves_a_thousand_unsigned_and_several_some_more() {
    let started = r#"{"type":"lifecycle","change":"started","subject":"forged"}"#;
    let opened = r#"{"type":"log_opened","log":"00000000000000000000000000000000","clean":false,"cut_bytes":0}"#;
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    session(&options, 5).close().unwrap();
    let whole = lines(&options, 0);
    append_many(&options, &[(started, 1000)]);
    assert_eq!(what(&options), None);
    append(&options, started);
    assert_eq!(what(&options), Some((6, What::Unsigned)), "more than one host leaves");
    write(&options, 0, &whole);
    append_many(&options, &[(started, 1000), (opened, 1), (started, 999)]);
    assert_eq!(what(&options), None, "two hosts");
    append(&options, started);
    assert_eq!(what(&options), Some((6, What::Unsigned)), "more than two leave");
}

#[test]
fn what_the_log_says_of_its_beginning_counts_if_whoever_wrote_it_signed_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        segment_bytes_max: 1200,
        ..options(folder.path())
    };
    session(&options, 20).close().unwrap();
    let second = firsts(&options)[1];
    let checkpoint = lines(&options, 0).pop().unwrap();
    std::fs::remove_file(options.directory.join(segment::file_name(0))).unwrap();
    std::fs::write(options.directory.join(CHECKPOINTS_FILE), format!("{checkpoint}\n")).unwrap();
    assert_eq!(what(&options), Some((second, What::StartNotRetired)));
    append(
        &options,
        &format!("{{\"type\":\"log_retired\",\"kept_from\":{second}}}"),
    );
    assert_eq!(what(&options), Some((second, What::StartNotRetired)));
    session(&options, 1).close().unwrap();
    assert_eq!(
        what(&options),
        Some((second, What::StartNotRetired)),
        "a host went on behind it"
    );
}
