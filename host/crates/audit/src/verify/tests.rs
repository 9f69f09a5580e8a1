//! One test per attack on a log.
#![expect(clippy::disallowed_methods, reason = "tests change files as an attacker does")]

use std::path::PathBuf;

use super::*;
use crate::line::{Link, write_record};
use crate::merkle::leaf_hash;
use crate::testing::{key, open, options, session, start, trust};
use crate::{LogOptions, Record};

/// A log of three sessions with a checkpoint each, and one after the first record: records 0 to 5, 6 to 11 and 12 to 17 in one
/// segment.
struct Lab {
    folder: tempfile::TempDir,
    options: LogOptions,
    anchors: Vec<Vec<u8>>,
}

const SESSIONS: usize = 3;
const SESSION_RECORDS: usize = 6;

impl Lab {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl Fn(&mut LogOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = options(folder.path());
        change(&mut options);
        let mut lab = Self {
            folder,
            options,
            anchors: Vec::new(),
        };
        for _ in 0..SESSIONS {
            lab.session();
        }
        lab
    }

    fn session(&mut self) {
        let log = session(&self.options, SESSION_RECORDS - 1);
        let shared = std::sync::Arc::clone(log.shared());
        log.close().unwrap();
        let checkpoint = shared.lock().checkpoint.clone().unwrap();
        self.anchors.push(checkpoint.document.clone());
    }

    fn path(&self, first: u64) -> PathBuf {
        self.options.directory.join(segment::file_name(first))
    }

    fn lines(&self, first: u64) -> Vec<String> {
        let text = std::fs::read_to_string(self.path(first)).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn write(&self, first: u64, lines: &[String]) {
        let text: String = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect();
        std::fs::write(self.path(first), text).unwrap();
    }

    fn verify(&self, anchors: &[Vec<u8>]) -> Report {
        verify(&self.options.directory, &trust(), anchors).unwrap()
    }

    /// Changes the lines of the first segment, and says what verification finds.
    fn attack(&self, change: impl FnOnce(&mut Vec<String>)) -> (u64, What) {
        let good = self.lines(0);
        let mut lines = good.clone();
        change(&mut lines);
        assert_ne!(lines, good, "nothing was changed");
        self.write(0, &lines);
        let finding = self.verify(&[]).finding.expect("the attack was not found");
        self.write(0, &good);
        (finding.seq, finding.what)
    }
}

/// Where the line of a record is: behind the header, the records before it and the checkpoints among these.
fn at(seq: usize) -> usize {
    1 + seq + usize::from(seq > 0) + seq / SESSION_RECORDS
}

pub(super) fn edited(line: &str) -> String {
    let edited = line.replace("2026", "2027");
    assert_ne!(edited, line);
    edited
}

/// Makes the chain anew from a line on, as somebody would who knows the format and has no key.
pub(super) fn rechain(lines: &mut [String], from: usize) {
    let mut last: Option<(u64, Digest)> = None;
    for (place, line) in lines.iter_mut().enumerate() {
        let Line::Record(link) = Line::parse(line.as_bytes()) else {
            continue;
        };
        if place >= from
            && let Some((seq, prev)) = last
        {
            let body = line.split_once(",\"at\"").unwrap().1.to_owned();
            let mut new = Vec::new();
            let body = format!("\"at\"{body}");
            write_record(&Link { seq: seq + 1, prev }, body.as_bytes(), &mut new);
            *line = String::from_utf8(new).unwrap();
            last = Some((seq + 1, leaf_hash(line.as_bytes())));
        } else {
            last = Some((link.seq, leaf_hash(line.as_bytes())));
        }
    }
}

#[test]
fn a_good_log_is_good() {
    let lab = Lab::new();
    let report = lab.verify(&[]);
    assert_eq!(report.finding, None);
    assert_eq!((report.first, report.size, report.signed), (0, 18, 18));
    assert_eq!((report.checkpoints, report.tail), (4, Tail::CannotBeExcluded));
    let report = lab.verify(&lab.anchors);
    assert!(report.is_good());
    assert_eq!(report.tail, Tail::Anchored { size: 18 });
}

#[test]
fn an_edited_record_is_named() {
    let lab = Lab::new();
    for seq in [0, 3, 5, 6, 10, 11, 17] {
        let found = lab.attack(|lines| lines[at(seq)] = edited(&lines[at(seq)]));
        assert_eq!(found, (seq as u64, What::Edited), "record {seq}");
    }
}

#[test]
fn an_edited_link_or_number_is_named() {
    let lab = Lab::new();
    let prev = |line: &str| {
        let other = if line.contains("\"prev\":\"0") {
            "\"prev\":\"1"
        } else {
            "\"prev\":\"0"
        };
        format!(
            "{}{other}{}",
            &line[..line.find("\"prev\"").unwrap()],
            &line[line.find("\"prev\"").unwrap() + 9..]
        )
    };
    for seq in [1, 3, 8] {
        let found = lab.attack(|lines| lines[at(seq)] = prev(&lines[at(seq)]));
        assert_eq!(found, (seq as u64, What::Edited), "the link of record {seq}");
    }
    for number in [2, 400] {
        let found = lab.attack(|lines| lines[at(8)] = lines[at(8)].replace("\"seq\":8", &format!("\"seq\":{number}")));
        assert_eq!(found, (8, What::Edited), "record 8 as {number}");
    }
}

#[test]
fn a_record_that_is_no_record_any_more_is_named() {
    let lab = Lab::new();
    assert_eq!(lab.attack(|lines| lines[at(3)] = "{}".to_owned()), (3, What::Edited));
    assert_eq!(lab.attack(|lines| lines[at(3)].push(' ')), (3, What::Edited));
    assert_eq!(
        lab.attack(|lines| lines.insert(at(3), "{}".to_owned())),
        (3, What::NotALine)
    );
    assert_eq!(
        lab.attack(|lines| lines.push("x".repeat(100_000))),
        (18, What::NotALine)
    );
}

#[test]
fn a_removed_record_is_named() {
    let lab = Lab::new();
    for seq in [0, 3, 8] {
        let found = lab.attack(|lines| drop(lines.remove(at(seq))));
        assert_eq!(found, (seq as u64, What::Removed { next: seq as u64 + 1 }));
    }
    let several = lab.attack(|lines| drop(lines.drain(at(7)..at(10))));
    assert_eq!(several, (7, What::Removed { next: 10 }));
    let before_a_checkpoint = lab.attack(|lines| drop(lines.remove(at(11))));
    assert_eq!(before_a_checkpoint, (11, What::Removed { next: 12 }));
    let with_the_chain_made_anew = lab.attack(|lines| {
        lines.remove(at(8));
        rechain(lines, at(8));
    });
    assert_eq!(with_the_chain_made_anew, (11, What::Removed { next: 12 }));
}

#[test]
fn reordered_records_are_named() {
    let lab = Lab::new();
    assert_eq!(lab.attack(|lines| lines.swap(at(7), at(8))), (7, What::Reordered));
    assert_eq!(lab.attack(|lines| lines.swap(at(1), at(4))), (1, What::Reordered));
    let moved_back = lab.attack(|lines| {
        let line = lines.remove(at(7));
        lines.insert(at(9), line);
    });
    assert_eq!(moved_back, (7, What::Reordered));
}

#[test]
fn an_inserted_record_is_named() {
    let lab = Lab::new();
    let forged_in_front = lab.attack(|lines| lines.insert(at(8), edited(&lines[at(8)])));
    assert_eq!(forged_in_front, (8, What::Inserted));
    let copied = lab.attack(|lines| lines.insert(at(9), lines[at(2)].clone()));
    assert_eq!(copied, (2, What::Inserted));
    let chained_to_nothing = lab.attack(|lines| {
        let forged = edited(&lines[at(8)]).replace(&lines[at(8)][18..30], &"0".repeat(12));
        lines.insert(at(8), forged);
    });
    assert_eq!(chained_to_nothing, (8, What::Inserted));
}

#[test]
fn a_chain_that_was_made_anew_does_not_fit_its_checkpoint() {
    let lab = Lab::new();
    let found = lab.attack(|lines| {
        lines[at(8)] = edited(&lines[at(8)]);
        rechain(lines, at(9));
    });
    assert_eq!(found, (6, What::Rewritten { checkpoint: 12 }));
    let inserted = lab.attack(|lines| {
        let forged = edited(&lines[at(8)]);
        lines.insert(at(8), forged);
        rechain(lines, at(9));
    });
    assert_eq!(inserted, (12, What::CheckpointOrder));
}

#[test]
fn a_log_that_was_cut_back_is_found_with_an_anchor_alone() {
    let lab = Lab::new();
    let whole = lab.lines(0);
    for (sessions, extra) in [(1, 0), (2, 0), (2, 3)] {
        let kept = 1 + sessions * (SESSION_RECORDS + 1) + extra;
        lab.write(0, &whole[..=kept]);
        let size = (sessions * SESSION_RECORDS + extra) as u64;
        let without = lab.verify(&[]);
        assert!(without.is_good());
        assert_eq!((without.size, without.tail), (size, Tail::CannotBeExcluded));
        assert_eq!(without.signed, (sessions * SESSION_RECORDS) as u64);
        let older = lab.verify(&lab.anchors[..1]);
        assert_eq!((older.is_good(), older.tail), (true, Tail::Anchored { size: 6 }));
        let with = lab.verify(&lab.anchors);
        let finding = with.finding.unwrap();
        assert_eq!((finding.seq, finding.what), (size, What::CutBack { anchor: 18 }));
        assert_eq!(with.tail, Tail::CannotBeExcluded);
    }
}

#[test]
fn a_history_that_was_signed_twice_does_not_fit_the_anchor() {
    let mut lab = Lab::new();
    let before = lab.lines(0);
    lab.session();
    let anchor = lab.anchors.pop().unwrap();
    lab.write(0, &before);
    let log = open(&lab.options);
    for number in 0..SESSION_RECORDS - 1 {
        aral_contract::AuditSink::record(&log, crate::testing::event(&format!("another {number}")));
    }
    log.close().unwrap();
    assert!(lab.verify(&[]).is_good());
    let finding = lab.verify(&[anchor]).finding.unwrap();
    assert_eq!((finding.seq, finding.what), (23, What::AnchorDiffers { anchor: 24 }));
}

#[test]
fn a_forged_checkpoint_is_named() {
    let lab = Lab::new();
    let line = at(5) + 1;
    let changed = lab.attack(|lines| lines[line] = lines[line].replace("\"serial\":6", "\"serial\":7"));
    assert!(
        matches!(changed, (5, What::CheckpointForged(DocumentError::Signature { .. }))),
        "{changed:?}"
    );
    let unsigned = lab.attack(|lines| lines[line] = "{\"checkpoint\":{}}".to_owned());
    assert!(
        matches!(unsigned, (5, What::CheckpointForged(DocumentError::WrongKind { .. }))),
        "{unsigned:?}"
    );
    let head = |lines: &[String]| {
        let Line::Checkpoint(document) = Line::parse(lines[line].as_bytes()) else {
            unreachable!()
        };
        crate::checkpoint::dangerous_unverified_head(document).unwrap()
    };
    let signed = |head, seed| {
        let mut text = Vec::new();
        let checkpoint = Checkpoint::sign(head, start(), &key(seed)).unwrap();
        crate::line::write_checkpoint(&checkpoint.document, &mut text);
        String::from_utf8(text).unwrap().trim_end().to_owned()
    };
    let other_key = lab.attack(|lines| lines[line] = signed(head(lines), 2));
    assert!(
        matches!(other_key, (5, What::CheckpointForged(DocumentError::UnknownKey { .. }))),
        "{other_key:?}"
    );
    let other_log = aral_contract::LogId::from_bytes([9; 16]);
    let of_another_log = lab.attack(|lines| {
        let head = crate::Head {
            log: other_log,
            ..head(lines)
        };
        lines[line] = signed(head, 1);
    });
    assert_eq!(of_another_log, (5, What::OtherLog(other_log)));
    let moved = lab.attack(|lines| {
        let checkpoint = lines.remove(line);
        lines.insert(at(8), checkpoint);
    });
    assert_eq!(moved, (1, What::OpenedSigned { opened: 6 }));
}

#[test]
fn a_checkpoint_that_stands_elsewhere_than_where_it_was_signed_for_is_named() {
    let lab = Lab::new();
    let line = at(5) + 1;
    let twice = lab.attack(|lines| lines.insert(line, lines[line].clone()));
    assert_eq!(twice, (5, What::CheckpointMoved));
}

#[test]
fn a_checkpoint_with_space_in_it_is_named() {
    let lab = Lab::new();
    let line = at(5) + 1;
    for edited in [crate::testing::padded, |line: &str| line.replace(",\"", ", \"")] {
        let found = lab.attack(|lines| lines[line] = edited(&lines[line]));
        assert_eq!(found, (5, What::CheckpointEdited));
    }
    let (lab, firsts) = many_segments(|options| options.retain_bytes_max = 4000);
    assert!(firsts[0] > 0 && lab.verify(&[]).is_good());
    let path = lab.options.directory.join(retain::CHECKPOINTS_FILE);
    let kept = std::fs::read_to_string(&path).unwrap();
    let (first, rest) = kept.split_once('\n').unwrap();
    std::fs::write(&path, format!("{}\n{rest}", crate::testing::padded(first))).unwrap();
    assert_eq!(lab.verify(&[]).finding.unwrap().what, What::CheckpointEdited);
}

#[test]
fn records_that_nobody_signed_where_a_host_found_a_checkpoint_are_named() {
    let lab = Lab::new();
    let found = lab.attack(|lines| {
        lines[at(8)] = edited(&lines[at(8)]);
        rechain(lines, at(9));
        let first = at(5) + 1;
        let mut place = 0;
        lines.retain(|line| {
            place += 1;
            place <= first + 1 || !line.starts_with("{\"checkpoint\"")
        });
    });
    assert_eq!(found, (6, What::OpenedSigned { opened: 12 }));
}

#[test]
fn a_log_without_any_checkpoint_is_signed_by_nobody() {
    let lab = Lab::new();
    let found = lab.attack(|lines| {
        lines.truncate(at(5) + 1);
        lines.remove(at(1) - 1);
        lines[at(2)] = edited(&lines[at(2)]);
        rechain(lines, at(3));
    });
    assert_eq!(found, (0, What::NothingSigned));
}

#[test]
fn a_first_line_that_says_nothing_is_named() {
    let lab = Lab::new();
    for damage in ["{}", "", "{\"segment\":{}}", "\0\0\0\0"] {
        let found = lab.attack(|lines| lines[0] = damage.to_owned());
        assert_eq!(found, (0, What::SegmentStart), "{damage:?}");
    }
    let found = lab.attack(|lines| lines[0] = lines[0].replace("audit/v3", "audit/v4"));
    assert_eq!(found, (0, What::Format("aral.audit/v4".to_owned())));
    let found = lab.attack(|lines| lines[0] = lines[0].replace("{\"schema", "{  \"schema"));
    assert_eq!(found, (0, What::SegmentStart), "it has one form");
    std::fs::write(lab.path(0), "").unwrap();
    let report = lab.verify(&lab.anchors);
    assert_eq!((report.log, report.is_good()), (None, false));
}

#[test]
fn an_anchor_that_is_none_or_of_another_log_is_refused() {
    let lab = Lab::new();
    let error = verify(&lab.options.directory, &trust(), &[b"{}".to_vec()]).unwrap_err();
    assert!(matches!(error, VerifyError::Anchor(_)));
    let other = Lab::new();
    let finding = lab.verify(&other.anchors).finding.unwrap();
    assert!(matches!(finding.what, What::OtherLog(_)));
}

#[test]
fn without_the_key_nothing_is_believed() {
    let lab = Lab::new();
    let report = verify(&lab.options.directory, &TrustStore::default(), &[]).unwrap();
    assert!(matches!(
        report.finding.unwrap().what,
        What::CheckpointForged(DocumentError::UnknownKey { .. })
    ));
}

#[test]
fn a_log_of_no_records_is_good() {
    let lab = Lab::new();
    let header = lab.lines(0)[0].clone();
    lab.write(0, &[header]);
    let report = lab.verify(&[]);
    assert_eq!((report.finding, report.size), (None, 0));
}

#[test]
fn there_is_a_difference_between_no_log_and_a_good_one() {
    let folder = tempfile::tempdir().unwrap();
    let error = verify(folder.path(), &trust(), &[]).unwrap_err();
    assert!(matches!(error, VerifyError::Empty { .. }));
}

/// One segment for each record or two.
fn many_segments(change: impl Fn(&mut LogOptions)) -> (Lab, Vec<u64>) {
    let lab = Lab::with(|options| {
        options.segment_bytes_max = 1200;
        change(options);
    });
    let firsts = crate::testing::firsts(&lab.options);
    (lab, firsts)
}

#[test]
fn segments_that_are_gone_or_strange_are_named() {
    let (lab, firsts) = many_segments(|_| {});
    assert!(firsts.len() > 4, "{firsts:?}");
    assert!(lab.verify(&lab.anchors).is_good());
    let (second, third) = (firsts[1], firsts[2]);
    let good = std::fs::read(lab.path(second)).unwrap();
    std::fs::remove_file(lab.path(second)).unwrap();
    let finding = lab.verify(&[]).finding.unwrap();
    assert_eq!((finding.seq, finding.what), (second, What::Removed { next: third }));
    let changed = String::from_utf8(good.clone())
        .unwrap()
        .replacen("\"peaks\":[\"", "\"peaks\":[\"0000", 1);
    std::fs::write(lab.path(second), &changed).unwrap();
    let finding = lab.verify(&[]).finding.unwrap();
    assert_eq!(
        (finding.seq, finding.what),
        (second, What::SegmentStart),
        "a peak of 68 digits"
    );
    let text = String::from_utf8(good.clone()).unwrap();
    let place = text.find("\"peaks\":[\"").unwrap() + 10;
    let digit = if text[place..].starts_with('0') { "1" } else { "0" };
    std::fs::write(
        lab.path(second),
        format!("{}{digit}{}", &text[..place], &text[place + 1..]),
    )
    .unwrap();
    let finding = lab.verify(&[]).finding.unwrap();
    assert_eq!((finding.seq, finding.what), (second, What::SegmentStart));
    std::fs::write(lab.path(second), &good).unwrap();
    let other = many_segments(|_| {}).0;
    std::fs::copy(other.path(second), lab.path(second)).unwrap();
    let finding = lab.verify(&[]).finding.unwrap();
    assert!(matches!(finding.what, What::OtherLog(_)), "{finding}");
}

#[test]
fn a_beginning_that_is_gone_needs_a_checkpoint_and_the_words_of_the_log() {
    let (lab, firsts) = many_segments(|_| {});
    let line = {
        let lines = lab.lines(0);
        lines.last().unwrap().clone()
    };
    assert!(line.starts_with("{\"checkpoint\":"));
    std::fs::remove_file(lab.path(0)).unwrap();
    let finding = lab.verify(&[]).finding.unwrap();
    assert_eq!((finding.seq, finding.what), (firsts[1], What::StartNotVouched));
    let kept = lab.options.directory.join(retain::CHECKPOINTS_FILE);
    std::fs::write(&kept, format!("{line}\n")).unwrap();
    let finding = lab.verify(&[]).finding.unwrap();
    assert_eq!((finding.seq, finding.what), (firsts[1], What::StartNotRetired));
    std::fs::write(&kept, "{}\n").unwrap();
    assert_eq!(lab.verify(&[]).finding.unwrap().what, What::NotALine);
    std::fs::write(&kept, format!("{}\n", line.replace("\"serial\":", "\"serial\":1"))).unwrap();
    assert!(matches!(
        lab.verify(&[]).finding.unwrap().what,
        What::CheckpointForged(_)
    ));
}

#[test]
fn what_retention_leaves_is_good_and_its_beginning_is_still_proven() {
    let (lab, firsts) = many_segments(|options| options.retain_bytes_max = 4000);
    assert!(firsts[0] > 0, "nothing was removed");
    let report = lab.verify(&lab.anchors[2..]);
    assert_eq!(report.finding, None);
    assert_eq!((report.first, report.size), (firsts[0], lab.verify(&[]).size));
    let kept = std::fs::read_to_string(lab.options.directory.join(retain::CHECKPOINTS_FILE)).unwrap();
    assert!(kept.lines().count() > 0 && report.checkpoints as usize >= kept.lines().count());
    // The first record that is kept was not edited: the checkpoint of what is gone says what came before it.
    let mut lines = lab.lines(firsts[0]);
    lines[1] = edited(&lines[1]);
    lab.write(firsts[0], &lines);
    let finding = lab.verify(&[]).finding.unwrap();
    assert_eq!(finding.seq, firsts[0], "{finding}");
}

#[test]
fn an_anchor_about_records_that_are_gone_says_nothing_or_what_was_kept_of_them() {
    let (lab, firsts) = many_segments(|options| options.retain_bytes_max = 2500);
    assert!(firsts[0] > 6, "{firsts:?}");
    let kept = std::fs::read_to_string(lab.options.directory.join(retain::CHECKPOINTS_FILE)).unwrap();
    let document = |line: &str| match Line::parse(line.as_bytes()) {
        Line::Checkpoint(document) => document.to_vec(),
        other => panic!("{other:?}"),
    };
    let anchor = document(kept.lines().next().unwrap());
    let head = Checkpoint::verify(&anchor, &trust()).unwrap().head;
    let inside = crate::Head {
        size: head.size - 1,
        ..head.clone()
    };
    let inside = Checkpoint::sign(inside, start(), &key(1)).unwrap().document;
    let gone = lab.verify(std::slice::from_ref(&inside));
    assert_eq!(
        (gone.is_good(), gone.tail, gone.anchor_gone),
        (true, Tail::CannotBeExcluded, Some(head.size - 1))
    );
    // Beside one that says something it is told all the same.
    let newest = lab.anchors.last().unwrap().clone();
    let size = Checkpoint::verify(&newest, &trust()).unwrap().head.size;
    let both = lab.verify(&[inside, newest]);
    assert_eq!(
        (both.tail, both.anchor_gone),
        (Tail::Anchored { size }, Some(head.size - 1))
    );
    let confirmed = lab.verify(std::slice::from_ref(&anchor));
    assert_eq!(
        (confirmed.is_good(), confirmed.tail, confirmed.anchor_gone),
        (true, Tail::Anchored { size: head.size }, None)
    );
    let other = crate::Head {
        last: Digest::of(b"another history"),
        ..head.clone()
    };
    let other = Checkpoint::sign(other, start(), &key(1)).unwrap().document;
    let finding = lab.verify(&[other]).finding.unwrap();
    assert_eq!(finding.what, What::AnchorDiffers { anchor: head.size });
}

#[test]
fn a_segment_that_does_not_end_with_a_checkpoint_that_says_so_is_named() {
    let (lab, firsts) = many_segments(|_| {});
    let good = lab.lines(0);
    // It ends with a record, and its checkpoint is at the end of no segment.
    lab.write(0, &good[..good.len() - 1]);
    let finding = lab.verify(&[]).finding.unwrap();
    assert_eq!((finding.seq, finding.what), (firsts[1], What::NotEnded));
    let mut lines = good;
    let Some(Line::Checkpoint(document)) = lines.last().map(|line| Line::parse(line.as_bytes())) else {
        panic!("no checkpoint");
    };
    let head = Checkpoint::verify(document, &trust()).unwrap().head;
    assert!(head.ends, "the control");
    let head = crate::Head { ends: false, ..head };
    let mut inner = Vec::new();
    let checkpoint = Checkpoint::sign(head, start(), &key(1)).unwrap();
    crate::line::write_checkpoint(&checkpoint.document, &mut inner);
    *lines.last_mut().unwrap() = String::from_utf8(inner).unwrap().trim_end().to_owned();
    lab.write(0, &lines);
    let finding = lab.verify(&[]).finding.unwrap();
    assert_eq!((finding.seq, finding.what), (firsts[1], What::NotEnded));
}

#[test]
fn what_stands_behind_the_end_of_a_segment_is_named_and_the_next_host_does_not_take_it() {
    let (lab, firsts) = many_segments(|_| {});
    let last = *firsts.last().unwrap();
    let ended = firsts[firsts.len() - 2];
    let next = lab
        .lines(ended)
        .iter()
        .rev()
        .find_map(|line| match Line::parse(line.as_bytes()) {
            Line::Record(_) => Some(Link {
                seq: last,
                prev: leaf_hash(line.as_bytes()),
            }),
            _ => None,
        });
    let mut forged = Vec::new();
    write_record(&next.unwrap(), b"\"at\":\"2026-01-01T00:00:00Z\"}", &mut forged);
    let mut lines = lab.lines(ended);
    lines.push(String::from_utf8(forged).unwrap());
    for is_last in [false, true] {
        if is_last {
            std::fs::remove_file(lab.path(last)).unwrap();
        }
        lab.write(ended, &lines);
        let finding = lab.verify(&[]).finding.unwrap();
        assert_eq!((finding.seq, finding.what), (last, What::AfterEnd));
    }
    session(&lab.options, 1).close().unwrap();
    let report = lab.verify(&[]);
    assert_eq!(report.finding, None);
    assert!(lab.path(last).exists(), "it goes on in the next segment");
    assert_eq!(report.taken_over.cut_bytes, lines.last().unwrap().len() as u64 + 1);
}

#[test]
fn a_host_that_died_between_two_segments_left_a_good_log() {
    let (lab, firsts) = many_segments(|_| {});
    let last = *firsts.last().unwrap();
    // Once read from end to end, and once from what says where it ended.
    for says_where in [false, true] {
        std::fs::remove_file(lab.path(last)).unwrap();
        if says_where {
            let ended = firsts[firsts.len() - 2];
            let dir = files::open_root(&lab.options.directory).unwrap();
            let bytes = files::size(&dir, segment::file_name(ended)).unwrap();
            let mut reader = SegmentReader::open(&dir, last)
                .map_or_else(|_| SegmentReader::open(&dir, ended), Ok)
                .unwrap();
            let mut tree = reader.header.tree().unwrap();
            while reader.advance().unwrap() == Next::Whole {
                if let Line::Record(_) = Line::parse(reader.lines.line()) {
                    tree.push(leaf_hash(reader.lines.line()));
                }
            }
            crate::ending::Ending::new(ended, bytes, &tree).write(&dir).unwrap();
        }
        assert_eq!(lab.verify(&[]).finding, None);
        open(&lab.options).close().unwrap();
        let report = lab.verify(&[]);
        assert_eq!((report.finding, report.taken_over), (None, TakenOver::default()));
        assert!(lab.path(last).exists(), "it goes on in the next segment");
        for first in segment::list(&files::open_root(&lab.options.directory).unwrap()).unwrap() {
            if first.first > last {
                std::fs::remove_file(lab.path(first.first)).unwrap();
            }
        }
    }
}

#[test]
fn a_folder_that_is_too_full_to_be_looked_through_is_refused() {
    let lab = Lab::new();
    for number in 0..segment::SEGMENTS_MAX {
        std::fs::create_dir(lab.options.directory.join(number.to_string())).unwrap();
    }
    let error = verify(&lab.options.directory, &trust(), &[]).unwrap_err();
    assert!(matches!(error, VerifyError::Segment(SegmentError::TooMany)), "{error}");
    let error =
        crate::testing::try_open(&lab.options, std::sync::Arc::new(crate::testing::TestClock::default())).unwrap_err();
    assert!(error.to_string().contains("more than 100000 entries"), "{error}");
}

#[test]
fn a_record_that_is_being_written_is_no_finding() {
    let lab = Lab::new();
    let mut bytes = std::fs::read(lab.path(0)).unwrap();
    let good = lab.verify(&[]);
    bytes.extend_from_slice(b"{\"seq\":18,\"prev\":\"00");
    std::fs::write(lab.path(0), bytes).unwrap();
    assert_eq!(lab.verify(&[]), good);
    drop(lab.folder);
}

#[test]
fn every_record_fits_the_typed_form() {
    let lab = Lab::new();
    for record in crate::testing::records(&lab.options) {
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(lab.lines(0)[at(usize::try_from(record.seq).unwrap())], text);
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
