//! What is on record of all that goes out and comes in, however it ends.
#![expect(clippy::disallowed_methods, reason = "a test damages files")]

use std::io::Cursor;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use aral_contract::id::SecretName;
use aral_contract::{SecretError, SecretValue};
use aral_memory::{Precondition, Quota, Write as Put};
use zeroize::Zeroizing;

use super::*;
use crate::config::Config;
use crate::host::Host;
use crate::operator::{HEAR, Held, MemoryCheck, MemoryDelete, MemoryGet, MemoryPut, Parts, StoreChecked};
use crate::testing::{Kept, Late};

fn to_check(delete_damaged: bool) -> MemoryCheck {
    MemoryCheck {
        delete_damaged,
        delete_nameless: false,
    }
}

/// To the key of 32 such bytes.
fn to_rotate(digits: &str) -> MemoryRotateKey {
    let text = Zeroizing::new(digits.repeat(32).into_bytes());
    MemoryRotateKey {
        key: NewKey::Text(Hidden::new(text)),
    }
}

/// Why a log of [`Late::not_kept`] did not keep it.
const NOT_KEPT: &str = "the audit log cannot be written: the disk is full";

/// What was done, and is on record.
fn done<T>(changed: Changed<T>) -> T {
    assert_eq!(changed.unrecorded, None);
    changed.done
}

struct Lab {
    folder: tempfile::TempDir,
    operator: Operator,
    /// Has the audit log open.
    host: Host,
    kept: Arc<Kept>,
    key: BackupPrivateKey,
}

impl Lab {
    /// A store with two records of agents, larger than a piece, and a secret.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        std::fs::write(place("master.key"), "5a".repeat(32)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(place("master.key"), mode).unwrap();
        let text = "state_dir = \"state\"\n[memory]\nfree_bytes_min = 0\nmaster_key = { file = \"master.key\" }\n\
                    [audit]\nreserve_bytes = 0\n";
        std::fs::write(place("aral.toml"), text).unwrap();
        let kept: Arc<Kept> = Arc::default();
        let config = Config::load(&place("aral.toml")).unwrap();
        let host = Host::builder().config(config).sink(Arc::clone(&kept) as _);
        let host = host.build().unwrap();
        let lab = Self {
            operator: Operator::of(&host, tokio::sync::watch::channel(false).1),
            host,
            kept,
            key: BackupPrivateKey::generate().unwrap(),
            folder,
        };
        let store = lab.operator.store().unwrap();
        let put = |records: &dyn aral_memory::RecordStore, name: &str, classification| {
            let write = Put {
                name: name.parse().unwrap(),
                value: Zeroizing::new(vec![7; 2 * PIECE_BYTES]),
                ttl_seconds: None,
                classification,
                precondition: Precondition::Any,
            };
            records
                .put(&"notes".parse().unwrap(), write, &Quota::UNLIMITED)
                .unwrap();
        };
        put(&*store.memory(), "a", Classification::Internal);
        put(&*store.memory(), "b", Classification::Confidential);
        put(&*store.secrets(), "token", Classification::Secret);
        lab.events();
        lab
    }

    /// A thousand more records, in more than one commit of whatever goes through them.
    fn put_many(&self) {
        let put = |index: u32| {
            let write = Put {
                name: format!("small-{index}").parse().unwrap(),
                value: Zeroizing::new(b"x".to_vec()),
                ttl_seconds: None,
                classification: Classification::Public,
                precondition: Precondition::Any,
            };
            aral_memory::Operation::Put(write)
        };
        let puts = (0..1000).map(put).collect();
        let store = self.operator.store().unwrap();
        let notes = "notes".parse().unwrap();
        store.memory().apply(&notes, puts, &Quota::UNLIMITED).unwrap();
        self.events();
    }

    fn events(&self) -> Vec<String> {
        let events = self.kept.take();
        let shown = |event| match event {
            EventKind::Security { rule, subject, .. } => Some(format!("{rule} {subject}")),
            EventKind::MemoryAccess {
                operation: MemoryOperation::Write,
                namespace,
                record: Some(_),
                classification: Some(classification),
                amount,
                refused: None,
                ..
            } => Some(format!("{namespace}: {amount} {}", classification.as_str())),
            EventKind::SecretAccess {
                operation: SecretOperation::Write,
                secret,
                refused: None,
                ..
            } => Some(format!("secret {secret}")),
            _ => None,
        };
        events.into_iter().filter_map(shown).collect()
    }

    fn export(&self, tell: Tell<'_>) -> Result<Exported, Failure> {
        self.to_export().act(&self.operator, tell)
    }

    fn to_export(&self) -> MemoryExport {
        let to = self.key.public_key().to_pem();
        MemoryExport { to }
    }

    fn to_import(&self) -> MemoryImport {
        MemoryImport {
            key: Hidden::new(Zeroizing::new(self.key.to_pem().as_bytes().to_vec())),
            overwrite: true,
        }
    }

    /// Who acts in this store, and has it recorded by another log.
    fn recorded_by(&self, log: Arc<Late>) -> Operator {
        Operator(Arc::new(Parts {
            storage: self.operator.storage().clone(),
            store: Held::Here(self.operator.store().unwrap()),
            secrets: None,
            sink: log,
            clock: self.host.clock(),
            ending: None,
        }))
    }

    /// What an act comes to whose first record is kept, and not its last. `told`: what it hears when it says how far it is.
    fn unkept<T>(
        &self,
        told: Result<(), Failure>,
        act: impl FnOnce(&Operator, Tell<'_>) -> Result<Changed<T>, Failure>,
    ) -> Result<Changed<T>, Failure> {
        let (log, waits, keep) = Late::new();
        keep.send_replace(Some(Ok(())));
        let acted = act(&self.recorded_by(log), &mut |_| {
            keep.send_replace(Late::not_kept());
            told.clone()
        });
        assert_eq!(waits.try_iter().count(), 2, "the last record is waited for");
        acted
    }

    /// The keys of all records are gone.
    fn destroy_keys(&self) {
        let slots = self.operator.storage().memory().unwrap().dir.join("slots");
        let slots = std::fs::OpenOptions::new().write(true).open(slots).unwrap();
        let bytes = slots.metadata().unwrap().len();
        slots
            .write_all_at(&vec![0; usize::try_from(bytes - 4096).unwrap()], 4096)
            .unwrap();
    }

    fn backup(&self) -> Vec<u8> {
        let mut backup = Vec::new();
        let exported = self.export(&mut |told| {
            if let ActProgress::Data(data) = told {
                backup.extend(data);
            }
            Ok(())
        });
        assert!(exported.unwrap().records >= 3);
        backup
    }

    fn import(&self, backup: &[u8]) -> Result<Imported, Failure> {
        self.import_watched(backup, &mut |_| Ok(()))
    }

    fn import_watched(&self, backup: &[u8], tell: Tell<'_>) -> Result<Imported, Failure> {
        let imported = self.to_import().act(&self.operator, &mut Cursor::new(backup), tell);
        imported.map(done)
    }

    fn check(&self, delete_damaged: bool, tell: Tell<'_>) -> Result<StoreChecked, Failure> {
        to_check(delete_damaged).act(&self.operator, tell).map(done)
    }

    /// The events of one move: `which`, what was written one by one, and how it ended.
    fn assert_recorded(&self, which: &str, written: &[&str], ended: &str) {
        let key = self.key.public_key().id();
        let begin = format!("memory_{which}_begun key {key}");
        let end = format!("memory_{which}ed key {key}: {ended}");
        let mut events = self.events();
        assert_eq!(events.first(), Some(&begin));
        assert_eq!(events.pop(), Some(end));
        let mut between = events.split_off(1);
        between.sort();
        assert_eq!(between, written);
    }
}

#[test]
fn an_export_and_an_import_say_what_went_and_came() {
    let lab = Lab::new();
    let mut backup = lab.backup();
    lab.assert_recorded(
        "export",
        &[],
        "3 records, 1 of them secrets, classified up to secret; whole",
    );
    assert_eq!(lab.import(&backup).unwrap().restored, 3);
    let written = ["notes: 131072 confidential", "notes: 131072 internal", "secret token"];
    lab.assert_recorded(
        "import",
        &written,
        "3 records, 1 of them secrets, classified up to secret; whole",
    );
    backup.pop();
    let failure = lab.import(&backup).map(drop).unwrap_err();
    let ended = format!(
        "0 records, 0 of them secrets, classified up to none; cut off: {}",
        failure.code
    );
    lab.assert_recorded("import", &[], &ended);
}

#[test]
fn an_import_ends_where_nothing_more_can_be_recorded() {
    let lab = Lab::new();
    lab.put_many();
    let backup = lab.backup();
    lab.events();
    let failure = lab.import_watched(&backup, &mut |told| {
        if matches!(told, ActProgress::Progress { done: 1.., .. }) {
            lab.kept.fill();
        }
        Ok(())
    });
    let failure = failure.map(drop).unwrap_err();
    assert_eq!(failure.code, Code::AuditUnavailable);
    let events = lab.events();
    // All that was written is on record, and the import was not gone on with.
    let (begin, rest) = events.split_first().unwrap();
    let (end, written) = rest.split_last().unwrap();
    assert!(begin.starts_with("memory_import_begun"), "{begin}");
    assert!((1..1003).contains(&written.len()), "{}", written.len());
    let counted = format!(": {} records, ", written.len());
    assert!(
        end.contains(&counted) && end.ends_with("cut off: audit.unavailable"),
        "{end}"
    );
}

#[test]
fn an_import_ends_with_its_server_and_not_with_whoever_watches() {
    let lab = Lab::new();
    let backup = lab.backup();
    lab.events();
    let told = |code| lab.import_watched(&backup, &mut |_| Err(Failure::new(code, "nobody hears it")));
    assert_eq!(told(Code::Cancelled).unwrap().restored, 3);
    assert!(lab.events().last().unwrap().ends_with("; whole"));
    let failure = told(Code::Unavailable).map(drop).unwrap_err();
    assert_eq!(failure.code, Code::Unavailable);
    // Nothing was written by then.
    let ended = format!("classified up to none; cut off: {}", failure.code);
    let events = lab.events();
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events[1].ends_with(&ended), "{events:?}");
}

#[test]
fn a_rotation_ends_with_its_server_and_not_with_whoever_watches() {
    let lab = Lab::new();
    let rotate = |digits: &str, told: Option<Code>| {
        let rotated = to_rotate(digits).act(&lab.operator, &mut |_| {
            told.map_or(Ok(()), |code| Err(Failure::new(code, "nobody hears it")))
        });
        rotated.map(done)
    };
    let is_rotating = || lab.operator.store().unwrap().status().unwrap().is_rotating;
    rotate("6b", Some(Code::Unavailable)).map(drop).unwrap_err();
    let last = lab.events().pop().unwrap();
    assert!(last.starts_with("memory_rotation_failed"), "{last}");
    assert!(is_rotating());
    let now = || {
        let stats = lab.operator.act(crate::operator::MemoryStats {}).unwrap();
        (stats.rotating, stats.rotating_now)
    };
    assert_eq!(now(), (true, false), "nobody goes on with it");
    let store = lab.operator.store().unwrap();
    let alone = store.alone().unwrap();
    assert_eq!(now(), (true, true));
    drop(alone);
    assert!(rotate("6b", None).unwrap().resumed);
    assert!(!is_rotating());
    assert!(!rotate("7c", Some(Code::Cancelled)).unwrap().resumed);
    assert!(!is_rotating());
}

#[test]
fn a_master_key_that_is_not_fit_is_on_record_and_in_the_answer_whatever_rotated() {
    let lab = Lab::new();
    for subject in ["memory", rotation::EPOCH] {
        let ended = |unfit: Option<&str>| {
            let rotated = sealed::Rotated {
                records: 1,
                resumed: true,
                epochs_left: Vec::new(),
                unfit: unfit.map(str::to_owned),
            };
            done(ended(&lab.operator, subject, None, Ok(rotated)).unwrap())
        };
        let answer = ended(Some("the master key `a`: a copy"));
        assert_eq!(answer.unfit.as_deref(), Some("the master key `a`: a copy"));
        assert_eq!(
            lab.events(),
            ["memory_key_unfit memory epoch: the master key `a`: a copy"]
        );
        assert_eq!(ended(None).unfit, None);
        assert_eq!(lab.events(), [""; 0]);
    }
}

/// How many of these events say that something was taken out.
fn deleted(events: &[String]) -> usize {
    let deleted = events.iter().filter(|one| one.starts_with("memory_damaged_deleted"));
    deleted.count()
}

#[test]
fn a_check_that_deletes_ends_where_nothing_more_can_be_recorded() {
    let lab = Lab::new();
    lab.put_many();
    lab.destroy_keys();
    let failure = lab.check(true, &mut |told| {
        if matches!(told, ActProgress::Progress { done: 300.., .. }) {
            lab.kept.fill();
        }
        Ok(())
    });
    let failure = failure.map(drop).unwrap_err();
    assert_eq!(failure.code, Code::AuditUnavailable, "{failure}");
    let events = lab.events();
    assert!(events.last().unwrap().ends_with("; cut off"), "{events:?}");
    let deleted = deleted(&events);
    assert!((1..300).contains(&deleted), "{deleted}");
    // One that only looks has nothing to record on its way. All that is gone is on record.
    let left = lab.check(false, &mut |_| Ok(())).unwrap();
    let kept = 1003 - u64::try_from(deleted).unwrap();
    assert_eq!((left.records, left.damaged), (kept, kept));
}

#[test]
fn each_record_that_a_check_takes_out_is_one_of_the_audit_log() {
    let lab = Lab::new();
    lab.put_many();
    lab.destroy_keys();
    assert_eq!(lab.check(true, &mut |_| Ok(())).unwrap().deleted, 1003);
    let audit = lab.host.audit().unwrap();
    audit.log().flush().unwrap();
    let found = aral_audit::query(audit.dir(), aral_audit::Filter::default()).unwrap();
    let lines: Vec<String> = found
        .map(|found| String::from_utf8(found.unwrap().0.line).unwrap())
        .collect();
    let count = |word: &str| lines.iter().filter(|line| line.contains(word)).count();
    assert_eq!((count("\"memory_damaged_deleted\""), count("\"repeated\"")), (1003, 0));
}

#[test]
fn a_check_ends_with_its_server_and_not_with_whoever_watches() {
    let lab = Lab::new();
    lab.destroy_keys();
    let check = |code| lab.check(true, &mut |_| Err(Failure::new(code, "nobody hears it")));
    let failure = check(Code::Unavailable).map(drop).unwrap_err();
    assert_eq!(failure.code, Code::Unavailable, "{failure}");
    let events = lab.events();
    assert_eq!(deleted(&events), 0, "{events:?}");
    assert!(events.last().unwrap().ends_with("; cut off"), "{events:?}");
    assert_eq!(check(Code::Cancelled).unwrap().deleted, 3);
    let events = lab.events();
    assert_eq!(deleted(&events), 3, "{events:?}");
    assert!(events.last().unwrap().ends_with("; whole"), "{events:?}");
}

#[test]
fn nobody_is_given_a_copy_of_a_secret_that_was_replaced_or_taken_out() {
    let lab = Lab::new();
    let secrets = lab.operator.secrets().unwrap();
    let token: SecretName = "token".parse().unwrap();
    let put = |text: &str| {
        let value = SecretValue::new(text.as_bytes().to_vec());
        lab.operator.wait(HEAR, secrets.put(&token, &value)).unwrap().unwrap();
    };
    let get = || {
        let read = lab.operator.wait(HEAR, secrets.get(&token)).unwrap();
        read.map(|value| String::from_utf8(value.expose().to_vec()).unwrap())
    };
    put("one");
    let backup = lab.backup();
    put("two");
    assert_eq!(get().unwrap(), "two");
    lab.import(&backup).unwrap();
    assert_eq!(get().unwrap(), "one");
    lab.destroy_keys();
    assert_eq!(get().unwrap(), "one", "there is a copy");
    // The last time before it is over.
    let mut meanwhile = None;
    let checked = lab.check(true, &mut |_| {
        meanwhile = Some(get());
        Ok(())
    });
    assert_eq!(checked.unwrap().deleted, 4);
    let gone = meanwhile.unwrap().unwrap_err();
    assert!(matches!(gone, SecretError::NotFound { .. }), "{gone:?}");
    let gone = get().unwrap_err();
    assert!(matches!(gone, SecretError::NotFound { .. }), "{gone:?}");
}

#[test]
fn no_piece_of_an_export_is_as_long_as_a_long_record() {
    let lab = Lab::new();
    let mut lengths = Vec::new();
    let exported = lab.export(&mut |told| {
        if let ActProgress::Data(data) = told {
            lengths.push(data.len());
        }
        Ok(())
    });
    assert_eq!(exported.unwrap().records, 3);
    assert!(lengths.iter().all(|length| *length <= PIECE_BYTES), "{lengths:?}");
    assert!(lengths.iter().sum::<usize>() > 3 * 2 * PIECE_BYTES, "{lengths:?}");
}

#[test]
fn who_leaves_before_an_export_is_over_is_on_record() {
    let lab = Lab::new();
    let mut pieces = 0;
    let left = lab.export(&mut |told| {
        pieces += usize::from(matches!(told, ActProgress::Data(_)));
        // Past the pieces of the first record, and the head of the second.
        if pieces < 6 {
            return Ok(());
        }
        Err(Failure::new(Code::Cancelled, "nobody listens"))
    });
    assert_eq!(left.map(drop).unwrap_err().code, Code::Cancelled);
    let events = lab.events();
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events[1].ends_with("cut off: call.cancelled"), "{events:?}");
    assert!(!events[1].contains(": 0 records"), "what went is counted: {events:?}");
}

#[test]
fn an_export_that_meets_damage_is_on_record() {
    let lab = Lab::new();
    let dir = lab.operator.storage().memory().unwrap().dir.clone();
    assert!(dir.starts_with(lab.folder.path()));
    let slots = std::fs::OpenOptions::new().write(true).open(dir.join("slots")).unwrap();
    // The key of the first record that was written.
    slots.write_all_at(&[0; 128], 4096).unwrap();
    let failure = lab.export(&mut |_| Ok(())).map(drop).unwrap_err();
    let events = lab.events();
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(events[1].ends_with(&format!("cut off: {}", failure.code)), "{events:?}");
}

#[test]
fn nothing_goes_out_or_comes_in_before_the_record_that_it_begins_is_kept() {
    let lab = Lab::new();
    let backup = lab.backup();
    let (log, waits, keep) = Late::new();
    let (operator, export, kept) = (lab.recorded_by(log), lab.to_export(), keep.subscribe());
    let exporting = std::thread::spawn(move || {
        export.act(&operator, &mut |_| {
            assert!(kept.borrow().is_some(), "something went out before");
            Ok(())
        })
    });
    let first = waits.recv().unwrap();
    let is_begun = matches!(first, EventKind::Security { rule, .. } if rule == rule::MEMORY_EXPORT_BEGUN);
    assert!(is_begun, "{first:?}");
    keep.send_replace(Some(Ok(())));
    assert_eq!(exporting.join().unwrap().unwrap().records, 3);
    // Where it cannot be kept nothing begins.
    let (log, waits, keep) = Late::new();
    keep.send_replace(Late::not_kept());
    let operator = lab.recorded_by(log);
    for done in [
        lab.to_export().act(&operator, &mut nothing).map(drop),
        lab.to_import()
            .act(&operator, &mut Cursor::new(&backup), &mut nothing)
            .map(drop),
        to_rotate("6b").act(&operator, &mut nothing).map(drop),
        to_check(true).act(&operator, &mut nothing).map(drop),
    ] {
        let failure = done.unwrap_err();
        assert_eq!(failure.code, Code::AuditUnavailable, "{failure}");
        assert!(!failure.message.contains("may be lost"), "{failure}");
    }
    assert_eq!(waits.try_iter().count(), 4, "none of them had an end");
}

fn nothing(told: ActProgress) -> Result<(), Failure> {
    panic!("it has begun: {told:?}")
}

#[test]
fn what_changed_something_says_so_where_its_last_record_is_not_kept() {
    let lab = Lab::new();
    let backup = lab.backup();
    let imported = lab.unkept(Ok(()), |operator, tell| {
        lab.to_import().act(operator, &mut Cursor::new(&backup), tell)
    });
    let imported = imported.unwrap();
    assert_eq!(
        (imported.done.restored, imported.unrecorded.as_deref()),
        (3, Some(NOT_KEPT))
    );
    // The old key opens nothing any more: the id of the new one is what the next start needs.
    let rotated = lab.unkept(Ok(()), |operator, tell| to_rotate("6b").act(operator, tell));
    let rotated = rotated.unwrap();
    let id = MasterKey::from_text("6b".repeat(32).as_bytes()).unwrap().id();
    assert_eq!(
        (rotated.done.key_id, rotated.unrecorded.as_deref()),
        (Some(id), Some(NOT_KEPT))
    );
    // What only looks has changed nothing, and its last record is not waited for.
    let (log, waits, keep) = Late::new();
    keep.send_replace(Some(Ok(())));
    let operator = lab.recorded_by(log);
    assert_eq!(done(operator.act(to_check(false)).unwrap()).damaged, 0);
    assert_eq!(waits.try_iter().count(), 1);
    lab.destroy_keys();
    // Nothing else may say which were destroyed.
    let checked = lab.unkept(Ok(()), |operator, tell| to_check(true).act(operator, tell));
    let checked = checked.unwrap();
    assert_eq!(checked.unrecorded.as_deref(), Some(NOT_KEPT));
    let named = checked
        .done
        .found
        .iter()
        .filter(|one| one.deleted && !one.place.is_empty());
    assert_eq!((checked.done.deleted, named.count()), (3, 3));
}

#[test]
fn what_is_cut_off_says_so_where_its_last_record_is_not_kept_either() {
    let lab = Lab::new();
    let backup = lab.backup();
    let ends = || Err(Failure::new(Code::Unavailable, "the server ends"));
    let imported = lab.unkept(ends(), |operator, tell| {
        lab.to_import().act(operator, &mut Cursor::new(&backup), tell)
    });
    let checked = lab.unkept(ends(), |operator, tell| to_check(true).act(operator, tell));
    let rotated = lab.unkept(ends(), |operator, tell| to_rotate("6b").act(operator, tell));
    let (imported, checked) = (imported.unwrap_err(), checked.unwrap_err());
    for failure in [&imported, &checked] {
        assert_eq!(failure.code, Code::Unavailable, "{failure}");
        assert!(failure.message.starts_with("the server ends"), "{failure}");
    }
    let both = format!("; and the record of that may be lost: {NOT_KEPT}");
    for failure in [imported, checked, rotated.unwrap_err()] {
        assert!(
            failure.message.ends_with(&both) && failure.message.len() > both.len(),
            "{failure}"
        );
    }
}

#[test]
fn what_hands_out_or_changes_a_record_answers_once_that_is_kept() {
    let lab = Lab::new();
    let namespace = || -> aral_contract::id::Namespace { "notes".parse().unwrap() };
    let get = |reveal| MemoryGet {
        namespace: namespace(),
        name: "a".to_owned(),
        reveal,
    };
    let put = || MemoryPut {
        namespace: namespace(),
        name: "a".to_owned(),
        value: Hidden::new(Zeroizing::new(b"value".to_vec())),
        ttl_seconds: None,
        classification: Some(Classification::Internal),
        if_absent: false,
        if_version: None,
    };
    let delete = || MemoryDelete {
        namespace: namespace(),
        name: "a".to_owned(),
        if_version: None,
    };
    let (log, waits, keep) = Late::new();
    keep.send_replace(Some(Ok(())));
    let operator = lab.recorded_by(log);
    assert!(operator.act(get(true)).unwrap().unwrap().value.is_some());
    done(operator.act(put()).unwrap());
    assert_eq!(waits.try_iter().count(), 2, "both were waited for");
    keep.send_replace(Late::not_kept());
    // Nothing is shown, and who changed something learns what was done.
    let failure = operator.act(get(true)).map(drop).unwrap_err();
    assert_eq!(failure.code, Code::AuditUnavailable, "{failure}");
    assert!(!failure.message.contains("may be lost"), "{failure}");
    let written = operator.act(put()).unwrap();
    assert_eq!(written.unrecorded.as_deref(), Some(NOT_KEPT));
    assert_eq!(written.done.classification, Classification::Internal);
    let deleted = operator.act(delete()).unwrap();
    assert_eq!(deleted.unrecorded.as_deref(), Some(NOT_KEPT));
    assert_eq!(deleted.done, Some(Classification::Internal));
    operator.act(put()).unwrap();
    let refused = MemoryPut {
        if_absent: true,
        ..put()
    };
    let refused = operator.act(refused).map(drop).unwrap_err();
    assert_eq!(refused.code, Code::RecordConflict, "{refused}");
    assert!(refused.message.ends_with(NOT_KEPT), "{refused}");
    // What hands out nothing and changes nothing is not waited for.
    assert!(operator.act(get(false)).unwrap().is_some());
}
