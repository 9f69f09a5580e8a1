//! The log from outside: numbers, durability, segments, retention, recovery, a full disk, and what is counted together.
#![expect(clippy::disallowed_methods, reason = "tests look at files, and kill processes")]

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use aral_contract::event::{AppendOutcome, AuthenticationMethod, Severity};
use aral_contract::{EventKind, TraceId, rule};

use super::*;
use crate::schema::{LogOpened, LogRetired, Repeated};
use crate::testing::{TestClock, blinder, event, firsts, key, open, options, records, session, start, trust, try_open};
use crate::verify::{Tail, verify};
use crate::{Durability, Record, segment};

fn good(options: &LogOptions) -> crate::Report {
    let report = verify(&options.directory, &trust(), &[]).unwrap();
    assert_eq!(report.finding, None);
    report
}

fn opened(record: &Record) -> &LogOpened {
    let AuditEvent::LogOpened(opened) = &record.event else {
        panic!("{record:?}")
    };
    opened
}

#[test]
fn records_have_their_numbers_in_order_and_a_closed_log_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let id = session(&options, 3).id();
    let log = session(&options, 2);
    assert_eq!((log.id(), log.durable()), (id, 7));
    log.close().unwrap();
    let records = records(&options);
    assert!(records.iter().map(|record| record.seq).eq(0..7));
    assert!(opened(&records[0]).clean && opened(&records[4]).clean);
    let report = good(&options);
    assert_eq!((report.size, report.signed, report.checkpoints), (7, 7, 3));
}

/// Waits until so many records are in the file.
fn until_there_are(options: &LogOptions, count: usize) {
    while records(options).len() < count {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_receipt_of_a_number_that_no_record_has_asks_nothing_of_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        durability: Durability::Sync,
        ..options(folder.path())
    };
    let log = open(&options);
    log.record(event("one"));
    until_there_are(&options, 2);
    for number in [2, u64::MAX] {
        let refused = log.receipt(number, &|_| true);
        assert!(matches!(refused, Err(ReceiptError::Unknown { seq }) if seq == number));
    }
    assert_eq!(log.durable(), 1);
    let _perhaps_not_signed_yet = log.receipt(1, &|_| true);
    assert_eq!(log.durable(), 2, "one that is there is written first");
}

#[tokio::test]
async fn the_disk_is_asked_for_those_who_wait_and_takes_the_others_with_them() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        durability: Durability::Sync,
        ..options(folder.path())
    };
    let log = open(&options);
    log.record(event("one"));
    log.record(event("two"));
    until_there_are(&options, 3);
    assert_eq!(log.durable(), 1, "they are in the file, and nobody waits for the disk");
    log.append(event("three")).await.unwrap();
    assert_eq!(log.durable(), 4);
}

#[tokio::test]
async fn sync_answers_after_the_record_is_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        durability: Durability::Sync,
        ..options(folder.path())
    };
    let log = open(&options);
    for seq in 1..20 {
        let kept = log.append(event("one")).await.unwrap();
        let AppendOutcome::Recorded(reference) = kept else {
            panic!("{kept:?}")
        };
        assert_eq!((reference.log, reference.seq), (log.id(), seq));
        assert!(log.durable() > seq);
        assert!(records(&options).iter().any(|record| record.seq == seq));
    }
}

#[tokio::test]
async fn async_answers_with_the_number_and_a_second_later_it_is_on_the_disk_and_signed() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let clock = Arc::new(TestClock::default());
    let log = try_open(&options, Arc::clone(&clock) as _).unwrap();
    log.flush().unwrap();
    let kept = log.append(event("one")).await.unwrap();
    assert!(matches!(kept, AppendOutcome::Recorded(reference) if reference.seq == 1));
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(log.durable(), 1, "the clock stands still, and nobody asked for more");
    clock.advance(crate::options::CHECKPOINT_INTERVAL);
    log.record(event("two"));
    while log.durable() < 3 {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(log.checkpoint().unwrap().head.size, 3);
}

#[test]
fn after_a_thousand_records_there_is_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let log = session(&options, 2500);
    // One is signed for at once, a thousand after it, and a thousand more.
    assert_eq!(log.checkpoint().unwrap().head.size, 2001);
    log.close().unwrap();
    assert_eq!(good(&options).checkpoints, 4);
}

#[test]
fn a_log_is_signed_for_from_its_first_record_on() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let log = open(&options);
    assert_eq!(log.checkpoint().unwrap().head.size, 1);
    // As a kill leaves it, whenever that comes.
    let copy = folder.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(path(&options), copy.join(segment::file_name(0))).unwrap();
    let report = verify(&copy, &trust(), &[]).unwrap();
    assert_eq!((report.finding, report.size, report.signed), (None, 1, 1));
    drop(log);
}

#[test]
fn one_process_writes() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let log = open(&options);
    let error = try_open(&options, Arc::new(TestClock::default())).unwrap_err();
    assert!(matches!(error, OpenError::Held { .. }), "{error}");
    drop(log);
    open(&options);
}

#[test]
fn segments_end_by_size_and_by_age() {
    for by_age in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let options = LogOptions {
            segment_bytes_max: if by_age { u64::MAX } else { 2000 },
            segment_age_max: Duration::from_secs(60),
            ..options(folder.path())
        };
        let clock = Arc::new(TestClock::default());
        let log = try_open(&options, Arc::clone(&clock) as _).unwrap();
        for number in 0..40 {
            log.record(event(&number.to_string()));
            if by_age && number % 10 == 9 {
                log.flush().unwrap();
                clock.advance(Duration::from_secs(60));
            }
        }
        log.close().unwrap();
        let dir = files::open_root(&options.directory).unwrap();
        let segments = segment::list(&dir).unwrap();
        assert!(segments.len() >= 4, "{segments:?}");
        // What is under way when the limit is reached, and the checkpoint, come on top.
        assert!(
            by_age || segments.iter().all(|segment| segment.bytes < 3500),
            "{segments:?}"
        );
        assert_eq!(good(&options).size, 41);
    }
}

#[test]
fn retention_removes_by_size_and_age_what_no_sink_needs_and_says_so() {
    for by_age in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let options = LogOptions {
            segment_bytes_max: 2000,
            retain_bytes_max: if by_age { u64::MAX } else { 6000 },
            retain_age_max: by_age.then_some(Duration::from_secs(100)),
            ..options(folder.path())
        };
        let clock = Arc::new(TestClock::default());
        let log = try_open(&options, Arc::clone(&clock) as _).unwrap();
        let hold = log.holds().add(0);
        let write = || {
            for number in 0..40 {
                log.record(event(&number.to_string()));
                log.flush().unwrap();
                clock.advance(Duration::from_secs(10));
            }
        };
        write();
        let first = || segment::list(log.dir()).unwrap()[0].first;
        assert_eq!(first(), 0, "a sink has delivered nothing");
        hold.store(10, std::sync::atomic::Ordering::Release);
        write();
        let (kept_from, held) = (first(), 10);
        assert!(kept_from > 0 && kept_from <= held, "{kept_from}");
        drop(hold);
        write();
        let kept_from = first();
        assert!(kept_from > held);
        log.close().unwrap();
        let retired = records(&options).iter().rev().find_map(|record| match record.event {
            AuditEvent::LogRetired(LogRetired { kept_from }) => Some(kept_from),
            _ => None,
        });
        assert!(retired >= Some(kept_from));
        assert_eq!(
            good(&options).first,
            segment::list(&files::open_root(&options.directory).unwrap()).unwrap()[0].first
        );
    }
}

#[test]
fn retention_waits_for_sinks_that_start_and_for_those_that_come_later() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        segment_bytes_max: 4000,
        retain_bytes_max: 1000,
        ..options(folder.path())
    };
    let clock = Arc::new(TestClock::default());
    let log = AuditLog::open_for_sinks(&options, key(1), blinder(), clock).unwrap();
    let write = || {
        for number in 0..60 {
            log.record(event(&number.to_string()));
            log.flush().unwrap();
        }
    };
    let first = || segment::list(log.dir()).unwrap()[0].first;
    let count = || segment::list(log.dir()).unwrap().len();
    let said = || {
        let records = records(&options);
        let retired = |record: &&Record| matches!(record.event, AuditEvent::LogRetired(_));
        records.iter().filter(retired).count()
    };
    write();
    assert_eq!((first(), said()), (0, 0), "nobody knows yet what the sinks need");
    // At the beginning of a segment, so that it does not end, and is signed for, at once.
    let segments = count();
    while count() == segments {
        log.record(event("one more"));
        log.flush().unwrap();
    }
    log.sinks_started();
    while said() == 0 {
        log.record(event("one more"));
        log.flush().unwrap();
    }
    // It is said, and not signed for.
    let hold = log.holds().add(0);
    write();
    assert_eq!(first(), 0, "a sink has delivered nothing");
    drop(hold);
    write();
    assert!(first() > 0);
    log.close().unwrap();
    good(&options);
}

/// Two hours, with 40 records.
fn two_hours(log: &AuditLog, clock: &TestClock) {
    for number in 0..40 {
        log.record(event(&number.to_string()));
        log.flush().unwrap();
        clock.advance(Duration::from_mins(3));
    }
}

/// A log whose segments end after ten minutes and go after a day.
fn by_age(folder: &Path) -> LogOptions {
    LogOptions {
        segment_age_max: Duration::from_mins(10),
        retain_age_max: Some(Duration::from_hours(24)),
        ..options(folder)
    }
}

const YEAR: i64 = 365 * 24 * 3600;

#[test]
fn one_step_of_the_clock_removes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let options = by_age(folder.path());
    let clock = Arc::new(TestClock::default());
    let log = try_open(&options, Arc::clone(&clock) as _).unwrap();
    two_hours(&log, &clock);
    clock.set_ahead(YEAR);
    two_hours(&log, &clock);
    log.close().unwrap();
    assert_eq!(firsts(&options)[0], 0, "nothing is a day old");
    // Nor is it for those that start while the clock is ahead.
    for _ in 0..2 {
        let log = try_open(&options, Arc::clone(&clock) as _).unwrap();
        two_hours(&log, &clock);
        log.close().unwrap();
        assert_eq!(firsts(&options)[0], 0);
    }
    clock.set_ahead(0);
    let log = try_open(&options, Arc::clone(&clock) as _).unwrap();
    two_hours(&log, &clock);
    assert_eq!(firsts(&options)[0], 0);
    // The control: a day passes.
    clock.advance(Duration::from_hours(24));
    two_hours(&log, &clock);
    log.close().unwrap();
    assert!(firsts(&options)[0] > 0);
    good(&options);
}

#[test]
fn a_clock_that_is_set_back_ends_segments_and_removes_them_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let options = by_age(folder.path());
    let clock = Arc::new(TestClock::default());
    // It is a year ahead when the host starts, and is set right.
    clock.set_ahead(YEAR);
    let log = try_open(&options, Arc::clone(&clock) as _).unwrap();
    two_hours(&log, &clock);
    let ahead = firsts(&options).len();
    assert!(ahead > 5);
    clock.set_ahead(0);
    two_hours(&log, &clock);
    assert!(firsts(&options).len() > ahead + 5, "segments do not end any more");
    log.close().unwrap();
    let log = try_open(&options, Arc::clone(&clock) as _).unwrap();
    clock.advance(Duration::from_hours(25));
    two_hours(&log, &clock);
    log.close().unwrap();
    assert!(firsts(&options)[0] > 41, "what ended in the future stays");
    good(&options);
}

#[test]
fn a_host_that_started_under_a_clock_that_was_behind_removes_what_is_old_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let options = by_age(folder.path());
    let clock = Arc::new(TestClock::default());
    clock.set_ahead(-YEAR);
    let log = try_open(&options, Arc::clone(&clock) as _).unwrap();
    clock.set_ahead(0);
    two_hours(&log, &clock);
    let days = |days: u64| {
        // It looks once an hour, and no later than behind the next record.
        for hour in 0..days * 24 {
            clock.advance(Duration::from_hours(1));
            log.record(event(&hour.to_string()));
            log.flush().unwrap();
        }
    };
    days(6);
    two_hours(&log, &clock);
    assert_eq!(firsts(&options)[0], 0, "nobody can tell which clock is right");
    days(1);
    two_hours(&log, &clock);
    log.close().unwrap();
    assert!(firsts(&options)[0] > 0);
    good(&options);
}

/// Whether the oldest segment goes in the next minutes, in which nothing is recorded.
fn goes(log: &AuditLog, options: &LogOptions, clock: &TestClock) -> bool {
    (0..300).any(|_| {
        // Whoever asks wakes the writer, which waits for time that does not pass by itself.
        log.flush().unwrap();
        std::thread::sleep(Duration::from_millis(2));
        clock.advance(Duration::from_secs(1));
        firsts(options)[0] > 0
    })
}

#[test]
fn what_gets_old_while_nothing_happens_goes() {
    let folder = tempfile::tempdir().unwrap();
    let options = by_age(folder.path());
    let clock = Arc::new(TestClock::default());
    let log = try_open(&options, Arc::clone(&clock) as _).unwrap();
    two_hours(&log, &clock);
    log.close().unwrap();
    let log = try_open(&options, Arc::clone(&clock) as _).unwrap();
    assert!(!goes(&log, &options, &clock));
    clock.advance(Duration::from_hours(25));
    assert!(goes(&log, &options, &clock));
    log.close().unwrap();
    good(&options);
}

#[test]
fn a_removal_that_failed_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let options = by_age(folder.path());
    let clock = Arc::new(TestClock::default());
    let log = try_open(&options, Arc::clone(&clock) as _).unwrap();
    two_hours(&log, &clock);
    let in_the_way = options.directory.join("checkpoints.jsonl");
    std::fs::create_dir(&in_the_way).unwrap();
    clock.advance(Duration::from_hours(25));
    assert!(!goes(&log, &options, &clock));
    std::fs::remove_dir(&in_the_way).unwrap();
    clock.advance(Duration::from_hours(1));
    assert!(goes(&log, &options, &clock));
    log.close().unwrap();
    good(&options);
}

fn path(options: &LogOptions) -> PathBuf {
    options.directory.join(segment::file_name(0))
}

#[test]
fn a_torn_end_is_cut_off_and_kept_and_the_log_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    session(&options, 5).close().unwrap();
    let whole = std::fs::read(path(&options)).unwrap();
    let next = b"{\"seq\":6,\"prev\":\"";
    for (tail, clean) in [
        (&next[..], false),
        (b"\0\0\0\0\0\0\0\0", false),
        (b"{\"seq\":6}\n{\"seq\":7", false),
        (&vec![b'x'; 200_000], false),
        (b"", true),
    ] {
        std::fs::write(path(&options), [&whole, tail].concat()).unwrap();
        session(&options, 1).close().unwrap();
        let report = good(&options);
        assert_eq!((report.size, report.signed), (8, 8));
        let records = records(&options);
        let opened = opened(&records[6]);
        assert_eq!((opened.clean, opened.cut_bytes), (clean, tail.len() as u64));
        match &opened.cut_file {
            Some(file) => {
                let cut = std::fs::read(options.directory.join(file.as_str())).unwrap();
                assert_eq!(cut, tail);
                assert_eq!(opened.cut_digest, Some(aral_contract::Digest::of(tail)));
            }
            None => assert!(clean),
        }
    }
}

#[test]
fn what_is_cut_off_never_takes_the_place_of_what_was() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    session(&options, 5).close().unwrap();
    let whole = std::fs::read(path(&options)).unwrap();
    let tails = [&b"one"[..], b"another", b"a third"];
    let files = tails.map(|tail| {
        std::fs::write(path(&options), [&whole, tail].concat()).unwrap();
        session(&options, 1).close().unwrap();
        opened(&records(&options)[6]).cut_file.clone().unwrap()
    });
    for (file, tail) in files.iter().zip(tails) {
        assert_eq!(std::fs::read(options.directory.join(file.as_str())).unwrap(), tail);
    }
}

#[test]
fn a_start_that_was_killed_while_it_copied_leaves_no_copy_beside_the_next_one() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    session(&options, 5).close().unwrap();
    let whole = std::fs::read(path(&options)).unwrap();
    let tail = b"{\"seq\":6";
    std::fs::write(path(&options), [&whole[..], tail].concat()).unwrap();
    std::fs::write(options.directory.join("cut.part"), vec![b'x'; 100]).unwrap();
    session(&options, 1).close().unwrap();
    let names = std::fs::read_dir(&options.directory).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let cut: Vec<String> = names.filter(|name| name.starts_with("cut")).collect();
    assert_eq!(
        cut,
        [opened(&records(&options)[6]).cut_file.clone().unwrap().as_str()],
        "a part is there besides"
    );
    assert_eq!(std::fs::read(options.directory.join(&cut[0])).unwrap(), tail);
}

#[test]
fn that_a_host_was_killed_is_on_stable_storage_as_soon_as_the_log_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let running = session(&options, 3);
    // As a killed host leaves it.
    let killed = LogOptions {
        directory: folder.path().join("killed"),
        ..options.clone()
    };
    files::create_private_dir(&killed.directory).unwrap();
    for entry in std::fs::read_dir(&options.directory).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), killed.directory.join(entry.file_name())).unwrap();
    }
    let log = open(&killed);
    let progress = log.progress();
    assert_eq!((progress.next, progress.durable), (5, 5));
    log.close().unwrap();
    assert!(!opened(&records(&killed)[4]).clean);
    drop(running);
}

#[test]
fn without_room_for_the_reserve_nothing_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    session(&options, 5).close().unwrap();
    let whole = std::fs::read(path(&options)).unwrap();
    std::fs::write(path(&options), [&whole[..], b"{\"seq\":6"].concat()).unwrap();
    let too_much = LogOptions {
        reserve_bytes: 1 << 60,
        ..options.clone()
    };
    try_open(&too_much, Arc::new(TestClock::default())).unwrap_err();
    session(&options, 1).close().unwrap();
    let records = records(&options);
    assert_eq!(opened(&records[6]).cut_bytes, 8);
}

#[test]
fn a_record_that_was_changed_at_the_end_is_cut_off_with_all_that_follows() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    session(&options, 5).close().unwrap();
    // As after a kill: nobody noted the end.
    std::fs::remove_file(options.directory.join("end.json")).unwrap();
    let text = std::fs::read_to_string(path(&options)).unwrap();
    std::fs::write(
        path(&options),
        text.replacen("\"subject\":\"3\"", "\"subject\":\"4\"", 1),
    )
    .unwrap();
    session(&options, 1).close().unwrap();
    let records = records(&options);
    // Record 5 is the first that is not chained to what is there; it goes, and what is signed is not what was.
    let opened = opened(&records[5]);
    assert!(!opened.clean && opened.cut_bytes > 0);
    assert_eq!(records[5].event.severity(), Some(aral_contract::event::Severity::Low));
}

fn child(mode: &str, folder: &Path, before: &[&str]) -> Command {
    let tests = std::env::current_exe().unwrap();
    let program = tests
        .parent()
        .and_then(Path::parent)
        .unwrap()
        .join("examples")
        .join("audit_child");
    assert!(
        program.exists(),
        "`{}` is not built; run the tests with cargo",
        program.display()
    );
    let mut words = before.iter().map(std::ffi::OsStr::new).chain([program.as_os_str()]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).arg(mode).arg(folder).stdout(Stdio::piped());
    command
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("log");
    let mut acknowledged: HashSet<u64> = HashSet::new();
    for round in 0..200u64 {
        let mut process = child("write", &directory, &[]).spawn().unwrap();
        // The first lines show that it works; then it is killed after another time in each round.
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = lines.by_ref().take(4).map(|line| line.unwrap().parse::<u64>().unwrap());
        acknowledged.extend(first.collect::<Vec<_>>());
        std::thread::sleep(Duration::from_micros(round * 331 % 7000));
        process.kill().unwrap();
        process.wait().unwrap();
        // The last line may be torn as well.
        acknowledged.extend(lines.map_while(Result::ok).filter_map(|line| line.parse::<u64>().ok()));
    }
    let options = LogOptions::new(directory);
    let report = good(&options);
    let there: HashSet<u64> = records(&options).iter().map(|record| record.seq).collect();
    let lost: Vec<&u64> = acknowledged.difference(&there).collect();
    assert!(lost.is_empty(), "acknowledged, and not there: {lost:?}");
    assert!(acknowledged.len() > 800 && report.size as usize > acknowledged.len());
    assert!(matches!(report.tail, Tail::CannotBeExcluded));
    session(&options, 1).close().unwrap();
    assert!(good(&options).signed > report.size);
}

#[cfg(feature = "services")]
#[test]
fn a_full_disk_refuses_new_work_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    // A mount namespace of its own: the small disk is gone when the process is.
    let script = r#"mount -t tmpfs -o size=2m tmpfs "$2" && "$0" "$1" "$2" && cp -r "$2/log" "$2/../copy""#;
    let disk = folder.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let output = child("fill", &disk, &["unshare", "-rm", "sh", "-c", script])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    let [full, refused, more, nothing, little, back, recorded] = lines[..] else {
        panic!("{said}")
    };
    assert_eq!((full, more), ("the disk is full", "100 more were written"));
    assert!(
        refused.contains("the disk is full") && refused.contains("make room"),
        "{refused}"
    );
    assert_eq!((nothing, back), ("nothing can be written", "it came back"));
    assert_eq!(
        little,
        "with a little room what waits is written, and new work is refused"
    );
    let options = LogOptions::new(folder.path().join("copy"));
    let report = good(&options);
    assert_eq!(recorded, format!("recorded {}", report.size), "{said}");
    assert!(
        records(&options)
            .iter()
            .all(|record| !matches!(record.event, AuditEvent::LogGap(_)))
    );
}

#[tokio::test]
async fn who_finds_no_room_waits_and_who_stops_waiting_is_still_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        queue_records_max: 4,
        ..options(folder.path())
    };
    let log = Arc::new(open(&options));
    log.flush().unwrap();
    {
        // While this thread holds the lock the writer cannot empty the queue.
        let mut state = log.shared().lock();
        for _ in 0..4 {
            state.push_own(start(), AuditEvent::LogGap(crate::schema::LogGap { lost: 0 }));
        }
    }
    drop(log.append(event("nobody waits for this one")));
    let blocked = std::thread::spawn({
        let log = Arc::clone(&log);
        move || (0..100).for_each(|number| log.record(event(&number.to_string())))
    });
    for number in 0..50 {
        let kept = log.append(event(&format!("appended {number}"))).await.unwrap();
        assert!(matches!(kept, AppendOutcome::Recorded(_)));
    }
    blocked.join().unwrap();
    Arc::into_inner(log).unwrap().close().unwrap();
    assert_eq!(good(&options).size, 1 + 4 + 1 + 100 + 50);
}

#[tokio::test]
async fn repeated_failures_of_one_source_become_one_record() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        repeats_max: 3,
        repeat_window: Duration::from_secs(20),
        ..options(folder.path())
    };
    let clock = Arc::new(TestClock::default());
    let log = try_open(&options, Arc::clone(&clock) as _).unwrap();
    let failed = |source: &str| aral_contract::Event {
        at: start(),
        trace: Some(TraceId::from_bytes([1; 16])),
        kind: EventKind::Authentication {
            user: Some(aral_contract::Sensitive::new("hunter2".to_owned())),
            agent: None,
            method: AuthenticationMethod::ApiKey,
            source: Some(source.parse().unwrap()),
            refused: Some("no such key".to_owned()),
        },
    };
    let mut counted = 0;
    for _ in 0..1000 {
        counted += usize::from(log.append(failed("192.0.2.1")).await.unwrap() == AppendOutcome::Aggregated);
    }
    assert!(matches!(
        log.append(failed("192.0.2.2")).await.unwrap(),
        AppendOutcome::Recorded(_)
    ));
    assert_eq!(counted, 997);
    // When the window is over the log says so by itself; the next one begins anew, and ends with the log.
    clock.advance(Duration::from_secs(20));
    log.flush().unwrap();
    let fresh = log.append(failed("192.0.2.1")).await.unwrap();
    assert!(matches!(fresh, AppendOutcome::Recorded(_)));
    for _ in 0..9 {
        log.record(failed("192.0.2.1"));
    }
    log.close().unwrap();
    let records = records(&options);
    let repeated = records.iter().filter_map(|record| match &record.event {
        AuditEvent::Repeated(Repeated { what, from, count, .. }) => {
            Some((record.seq, what.as_str(), from.as_ref().unwrap().as_str(), *count))
        }
        _ => None,
    });
    let expected = [
        (5, "authentication", "192.0.2.1", 997),
        (9, "authentication", "192.0.2.1", 7),
    ];
    assert_eq!(repeated.collect::<Vec<_>>(), expected);
    assert_eq!(records.len(), 1 + 4 + 1 + 3 + 1);
    let text = std::fs::read_to_string(path(&options)).unwrap();
    assert!(
        !text.contains("hunter2"),
        "what somebody typed as a name stands in the log"
    );
}

#[test]
fn each_act_is_a_record_of_its_own_however_many_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let log = open(&options);
    let act = |rule: &'static str, subject: String| {
        log.record(aral_contract::Event {
            at: start(),
            trace: None,
            kind: EventKind::Security {
                severity: Severity::Medium,
                rule,
                subject,
                source: None,
                reason: None,
            },
        });
    };
    for place in 0..1200 {
        act(rule::MEMORY_DAMAGED_DELETED, format!("namespace notes, place {place}"));
    }
    for _ in 0..8 {
        act(rule::MEMORY_EXPORT_BEGUN, "key one".to_owned());
    }
    log.close().unwrap();
    let records = records(&options);
    let count = |wanted: &str| {
        let of = |event: &AuditEvent| matches!(event, AuditEvent::Security(event) if event.rule.as_str() == wanted);
        records.iter().filter(|record| of(&record.event)).count()
    };
    let counts = [rule::MEMORY_DAMAGED_DELETED, rule::MEMORY_EXPORT_BEGUN].map(count);
    // Beside them is the record that says that the log was opened.
    assert_eq!((counts, records.len()), ([1200, 8], 1209));
}

#[test]
fn what_was_counted_is_recorded_by_a_log_that_is_closed_while_the_disk_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        repeats_max: 1,
        ..options(folder.path())
    };
    let log = open(&options);
    for _ in 0..4 {
        log.record(aral_contract::Event {
            at: start(),
            trace: None,
            kind: EventKind::Authentication {
                user: None,
                agent: None,
                method: AuthenticationMethod::ApiKey,
                source: None,
                refused: Some("no such key".to_owned()),
            },
        });
    }
    log.flush().unwrap();
    log.shared().lock().condition = crate::shared::Condition::Reserve("full".to_owned());
    log.shared().work.notify_all();
    // Until the writer waits for room; it looks for that once a second.
    std::thread::sleep(Duration::from_millis(100));
    log.close().unwrap();
    let counted = records(&options).into_iter().find_map(|record| match record.event {
        AuditEvent::Repeated(Repeated { count, .. }) => Some(count),
        _ => None,
    });
    assert_eq!(counted, Some(3));
}

/// A clock that takes folders out of the way of new segments once it is told to, when somebody asks for the time.
#[derive(Debug)]
struct ClearingClock {
    directory: PathBuf,
    clears: std::sync::atomic::AtomicBool,
}

impl ClearingClock {
    fn folders(&self) -> impl Iterator<Item = PathBuf> {
        (1..200).map(move |first| self.directory.join(segment::file_name(first)))
    }
}

impl Clock for ClearingClock {
    fn now(&self) -> jiff::Timestamp {
        if self.clears.load(std::sync::atomic::Ordering::Relaxed) {
            for folder in self.folders() {
                let _not_there = std::fs::remove_dir(folder);
            }
        }
        start()
    }
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

#[test]
fn after_records_were_given_up_none_is_written_under_a_number_of_theirs() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        segment_bytes_max: 4000,
        ..options(folder.path())
    };
    let clock = Arc::new(ClearingClock {
        directory: options.directory.clone(),
        clears: false.into(),
    });
    let log = try_open(&options, Arc::clone(&clock) as _).unwrap();
    for folder in clock.folders() {
        std::fs::create_dir(folder).unwrap();
    }
    {
        // All of them are taken at once, and the segment is full in the middle.
        let mut state = log.shared().lock();
        for _ in 0..100 {
            state.push_own(start(), AuditEvent::LogGap(crate::schema::LogGap { lost: 0 }));
        }
    }
    log.record(event("first"));
    while log.available().is_ok() {
        std::thread::sleep(Duration::from_millis(5));
    }
    log.record(event("second"));
    clock.clears.store(true, std::sync::atomic::Ordering::Relaxed);
    log.end().unwrap_err();
    let written = records(&options);
    assert!(written.len() < 101);
    assert!(
        written
            .iter()
            .all(|record| !matches!(record.event, AuditEvent::Lifecycle(_)))
    );
}

#[tokio::test]
async fn a_closed_log_takes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let log = open(&options);
    log.stop();
    assert!(log.append(event("late")).await.is_err() && log.available().is_err());
    log.record(event("later"));
    assert!(log.flush().is_ok(), "what was taken is on the disk");
    assert_eq!(records(&options).len(), 1);
}

#[test]
fn of_an_end_that_only_seems_to_be_long_the_beginning_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    session(&options, 5).close().unwrap();
    let path = options.directory.join(segment::file_name(0));
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let whole = file.metadata().unwrap().len();
    file.set_len(1 << 40).unwrap();
    session(&options, 1).close().unwrap();
    good(&options);
    let opened = records(&options).into_iter().find_map(|record| match record.event {
        AuditEvent::LogOpened(opened) if opened.cut_bytes > 0 => Some(opened),
        _ => None,
    });
    let opened = opened.unwrap();
    assert_eq!(opened.cut_bytes, (1 << 40) - whole);
    let kept = options.directory.join(opened.cut_file.unwrap().as_str());
    assert_eq!(
        std::fs::metadata(kept).unwrap().len(),
        crate::recover::CUT_KEPT_BYTES_MAX
    );
}

/// A clock that breaks the thread which writes.
#[derive(Debug)]
struct BrokenClock;

impl Clock for BrokenClock {
    fn now(&self) -> jiff::Timestamp {
        start()
    }
    fn elapsed(&self) -> Duration {
        assert_ne!(std::thread::current().name(), Some("aral-audit"), "the clock is broken");
        Duration::ZERO
    }
}

#[tokio::test]
async fn who_waits_for_a_writer_that_broke_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        durability: Durability::Sync,
        ..options(folder.path())
    };
    let log = crate::testing::try_open(&options, Arc::new(BrokenClock)).unwrap();
    assert!(log.flush().is_err() && log.available().is_err());
    assert!(log.append(event("1")).await.is_err());
    log.close().unwrap_err();
}
