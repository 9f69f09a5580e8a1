//! Looking through the whole store: which damaged records are found and taken out, and what is counted anew.

use std::sync::atomic::Ordering;

use super::super::check::Look;
use super::*;

#[test]
fn damaged_records_are_found_and_taken_out_and_all_others_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for text in ["a", "b", "c", "d", "e"] {
        put(&store, text, text.as_bytes());
    }
    put(&store, "long", &[7; 100_000]);
    assert_eq!(
        check(&store, false),
        (
            Checked {
                records: 6,
                ..Checked::default()
            },
            vec![]
        )
    );
    let slot_of = |text: &str| store.0.entry(&place(&store, text)).unwrap().unwrap().header.slot;
    let slots = [slot_of("b"), slot_of("c"), slot_of("d"), slot_of("e"), slot_of("long")];
    // A value, a header, the number of a slot that is that of another, a key, and a part of a long value.
    damage(&store, "b", |entry| *entry.last_mut().unwrap() ^= 1);
    damage(&store, "c", |entry| entry[1] = 200);
    damage(&store, "d", |entry| {
        entry[4..8].copy_from_slice(&slot_of("a").to_le_bytes())
    });
    let of_nobody = {
        let (keys, drawn) = (store.0.keys.load(), entry::Drawn::draw().unwrap());
        slots::Slot::seal(&keys, &store.0.store, slot_of("e"), &[9; root::PLACE_BYTES], &drawn, 1).unwrap()
    };
    store.0.slots.write(&[(slot_of("e"), of_nobody)]).unwrap();
    let header = store.0.entry(&place(&store, "long")).unwrap().unwrap().header;
    let mut batch = sled::Batch::default();
    batch.remove(tree::key(tree::prefix::CHUNK, &[&header.chunk_place(3)]));
    store.0.tree.apply(batch).unwrap();
    let memory = store.memory();
    assert!(memory.list(&namespace("notes"), "", None, 10).is_err());
    assert!(store.rotate_key(&key(2), &mut |_| {}).is_err());

    let (checked, mut found) = check(&store, false);
    assert_eq!((checked.records, checked.damaged, checked.deleted), (6, 5, 0));
    assert!(
        found
            .iter()
            .all(|one| !one.deleted && !one.is_secret && one.namespace == Some(namespace("notes")))
    );
    found.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<Option<&str>> = found
        .iter()
        .map(|one| one.name.as_ref().map(RecordName::as_str))
        .collect();
    assert_eq!(names, [None, None, None, Some("b"), Some("long")]);

    let (checked, found) = check(&store, true);
    assert_eq!((checked.records, checked.damaged, checked.deleted), (6, 5, 5));
    assert!(found.iter().all(|one| one.deleted));
    assert_eq!(
        check(&store, true),
        (
            Checked {
                records: 1,
                ..Checked::default()
            },
            vec![]
        )
    );
    for slot in slots {
        assert!(store.0.slots.read(slot).unwrap().is_free(), "{slot}");
    }
    let names = memory.list(&namespace("notes"), "", None, 10).unwrap().names;
    assert_eq!(names, [name("a")]);
    assert_eq!(value(&store, "a").as_deref(), Some(&b"a"[..]));
    assert_eq!(memory.usage(&namespace("notes")).unwrap().records, 1);
    // No key is left that would be taken for that of a lost record.
    let copy = copy_of(&folder);
    drop((memory, store));
    let reopened = SealedStore::open(options(&copy, 1)).unwrap();
    assert_eq!(value(&reopened, "a").as_deref(), Some(&b"a"[..]));
    assert_eq!(reopened.reclaimed(), 0);
    reopened.rotate_key(&key(2), &mut |_| {}).unwrap();
}

#[test]
fn all_slots_are_looked_through_once_for_many_records_that_are_taken_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put_all(&store, 0..1000);
    put_all(&store, 1000..2000);
    let slot = |index: usize| {
        let place = place(&store, &format!("name-{index}"));
        store.0.entry(&place).unwrap().unwrap().header.slot
    };
    let lost: Vec<_> = (0..1000).map(|index| (slot(index), slots::Slot::FREE)).collect();
    store.0.slots.write(&lost).unwrap();
    let walks = || store.0.slots.walks.load(Ordering::Relaxed);
    let before = walks();
    let (checked, found) = check(&store, true);
    assert_eq!((checked.records, checked.damaged, checked.deleted), (2000, 1000, 1000));
    assert_eq!(found.iter().filter(|one| one.deleted).count(), 1000);
    // 235 at once.
    assert_eq!(walks() - before, 5);
    assert_eq!(check(&store, true).0.damaged, 0);
    assert_eq!(store.memory().usage(&namespace(NOTES)).unwrap().records, 1000);
    assert_eq!(value(&store, "name-1000").as_deref(), Some(&b"value"[..]));
}

#[test]
fn all_slots_are_looked_through_once_for_a_batch_with_damaged_records_and_never_without() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put_all(&store, 0..20);
    let walks = || store.0.slots.walks.load(Ordering::Relaxed);
    let before = walks();
    put_all(&store, 0..20);
    assert_eq!(walks(), before);
    // None of the first ten names a slot of its own.
    for index in 0..10 {
        damage(&store, &format!("name-{index}"), |entry| entry[4..8].fill(0xff));
    }
    let operations = (0..20).map(|index| {
        let text = format!("name-{index}");
        if index % 2 == 0 {
            return Operation::Put(write(&text, b"new"));
        }
        Operation::Delete {
            name: name(&text),
            precondition: Precondition::Any,
        }
    });
    let memory = store.memory();
    memory
        .apply(&namespace(NOTES), operations.collect(), &Quota::UNLIMITED)
        .unwrap();
    assert_eq!(walks() - before, 1);
    assert_eq!(slots_in_use(&store).len(), 10);
}

#[test]
fn what_was_written_again_since_it_was_looked_at_stays() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"one");
    damage(&store, "a", |entry| *entry.last_mut().unwrap() ^= 1);
    let place = place(&store, "a");
    let Look::Damaged(header) = store.0.look(Space::Memory, &namespace("notes"), &place).unwrap() else {
        panic!("it opens");
    };
    put(&store, "a", b"two");
    for header in [header, None] {
        let done = store.0.submit(work::Work::Discard { place, header }).unwrap();
        assert!(!done.discarded);
    }
    assert_eq!(value(&store, "a").as_deref(), Some(&b"two"[..]));
}

#[test]
fn a_namespace_is_counted_once_for_many_records_that_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put_all(&store, 0..300);
    let usage = store.memory().usage(&namespace(NOTES)).unwrap();
    let (key, backup) = back_up(&store);
    for index in 0..300 {
        damage(&store, &format!("name-{index}"), |entry| entry[0] = 0);
    }
    let counts = || store.0.tree.counts.load(Ordering::Relaxed);
    let before = counts();
    let mut from = std::io::Cursor::new(&backup);
    let mut told = Vec::new();
    let imported = store.import(&key, &mut from, Existing::Replace, &mut |_, arrived| {
        told.push(arrived.len());
        ControlFlow::Continue(())
    });
    assert_eq!(imported.unwrap().restored.records, 300);
    // 235 of them go together, each of which may end as many keys as damage can name. While it is read first nothing arrives.
    told.retain(|arrived| *arrived > 0);
    assert_eq!(told, [235, 65], "after each commit");
    assert!(counts() - before <= 2, "{}", counts() - before);
    assert_eq!(store.memory().usage(&namespace(NOTES)).unwrap(), usage);
}

#[test]
fn a_check_counts_a_namespace_once_however_many_lengths_are_damaged_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put_all(&store, 0..301);
    for index in 0..300 {
        damage(&store, &format!("name-{index}"), |entry| entry[28..32].fill(0xff));
    }
    let counts = || store.0.tree.counts.load(Ordering::Relaxed);
    let before = counts();
    // With two commits.
    assert_eq!(check(&store, true).0.deleted, 300);
    assert_eq!(counts() - before, 1);
    let usage = store.memory().usage(&namespace(NOTES)).unwrap();
    assert_eq!((usage.records, usage.bytes), (1, 13));
}

#[test]
fn a_namespace_that_is_counted_too_low_keeps_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "old", b"one");
    // As taking out what was never counted leaves it, if the process ends before it counts anew.
    let namespace_place = root::namespace_of(&place(&store, "old"));
    let nothing = usage::to_bytes(crate::record::Usage::default());
    let at = tree::key(tree::prefix::USAGE, &[&namespace_place]);
    lay(&store, at, Some(nothing.to_vec()));
    let operations = vec![
        Operation::Put(write("new", b"three")),
        Operation::Delete {
            name: name("old"),
            precondition: Precondition::Any,
        },
    ];
    let memory = store.memory();
    memory
        .apply(&namespace("notes"), operations, &Quota::UNLIMITED)
        .unwrap();
    let usage = memory.usage(&namespace("notes")).unwrap();
    assert_eq!((usage.records, usage.bytes), (1, 8));
    let to = crate::BackupPrivateKey::generate().unwrap().public_key();
    assert_eq!(store.export(&to, &mut Vec::new(), &mut |_| {}).unwrap().records, 1);
    assert_eq!(store.rotate_key(&key(2), &mut |_| {}).unwrap().records, 1);
    assert_eq!(value(&store, "new").as_deref(), Some(&b"three"[..]));
    // And an empty one loses it.
    memory
        .delete(&namespace("notes"), &name("new"), Precondition::Any)
        .unwrap();
    assert!(memory.namespaces(10).unwrap().is_empty());
}

fn is_nameless(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Corrupt {
            what: StoreError::NAMESPACE
        }
    )
}

/// What becomes of the sealed name of a namespace; none: it is gone.
type ChangeName = fn(&[u8]) -> Option<Vec<u8>>;

/// Makes something else of the name of a namespace, or nothing.
fn lose_name(store: &SealedStore, place: &root::NamespacePlace, change: ChangeName) {
    let at = tree::key(tree::prefix::NAMESPACE, &[place]);
    let sealed = store.0.tree.get(&at).unwrap().unwrap();
    lay(store, at, change(&sealed));
}

#[test]
fn a_namespace_that_lost_its_name_is_told_and_gets_it_back() {
    let changes: [ChangeName; 2] = [|_| None, |sealed| Some([sealed, b"?"].concat())];
    for change in changes {
        let folder = tempfile::tempdir().unwrap();
        let store = SealedStore::open(options(&folder, 1)).unwrap();
        let memory = store.memory();
        put(&store, "a", b"one");
        put(&store, "b", b"two");
        memory
            .put(&namespace("other"), write("c", b"three"), &Quota::UNLIMITED)
            .unwrap();
        let place = root::namespace_of(&place(&store, "a"));
        lose_name(&store, &place, change);
        for delete in [false, true] {
            let (checked, found) = check(&store, delete);
            let seen = (checked.records, checked.damaged, checked.deleted, checked.nameless);
            assert_eq!(seen, (1, 0, 0, 1));
            let wanted = Damaged {
                namespace: None,
                is_secret: false,
                name: None,
                place: hex(&place),
                deleted: false,
            };
            assert_eq!(found, [wanted]);
        }
        let to = crate::BackupPrivateKey::generate().unwrap().public_key();
        let export = |out: &mut Vec<u8>| store.export(&to, out, &mut |_| {});
        let mut out = Vec::new();
        match export(&mut out).unwrap_err() {
            crate::BackupError::Store(error) => assert!(is_nameless(&error)),
            other => panic!("{other}"),
        }
        assert!(out.is_empty(), "it was told before anything was written");
        assert!(is_nameless(&store.rotate_key(&key(2), &mut |_| {}).unwrap_err()));
        // Who knows the name reads, and writing puts it back.
        assert_eq!(value(&store, "b").as_deref(), Some(&b"two"[..]));
        put(&store, "a", b"four");
        let (checked, found) = check(&store, false);
        assert_eq!((checked.records, checked.nameless), (3, 0));
        assert_eq!(found, []);
        assert_eq!(memory.namespaces(10).unwrap().len(), 2);
        assert_eq!(export(&mut out).unwrap().records, 3);
        // Also where it is lost under an older root, while keys are rotated.
        let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            store.rotate_key(&key(2), &mut |_| panic!("cut off"))
        }));
        assert!(cut.is_err());
        lose_name(&store, &place, change);
        assert!(is_nameless(&store.rotate_key(&key(2), &mut |_| {}).unwrap_err()));
        put(&store, "d", b"five");
        store.rotate_key(&key(2), &mut |_| {}).unwrap();
        assert_eq!(value(&store, "a").as_deref(), Some(&b"four"[..]));
        assert_eq!(check(&store, false).0.records, 4);
    }
}

#[test]
fn what_nobody_knows_the_namespace_of_can_be_taken_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    let secrets = store.secrets();
    for text in ["a", "b"] {
        let put = secrets.put(&namespace("notes"), write(text, b"hidden"), &Quota::UNLIMITED);
        put.unwrap();
    }
    let place = {
        let keys = store.0.keys.load();
        keys.newest().namespace_place(Space::Secrets, &namespace("notes"))
    };
    assert_eq!(store.nameless().unwrap(), 0);
    lose_name(&store, &place, |_| Some(b"nothing that opens".to_vec()));
    assert_eq!(store.nameless().unwrap(), 1);
    let (checked, found) = check(&store, true);
    assert_eq!((checked.records, checked.damaged, checked.nameless), (0, 0, 1));
    assert!(found.iter().all(|one| one.is_secret && !one.deleted));
    assert!(secrets.get(&namespace("notes"), &name("a")).unwrap().is_some());
    let delete = Delete {
        damaged: false,
        nameless: true,
    };
    let (checked, found) = check_with(&store, delete);
    let nameless = (checked.nameless, checked.nameless_deleted);
    assert_eq!((checked.records, nameless), (0, (1, 1)));
    assert_eq!((found.len(), found[0].deleted), (1, true));
    assert!(secrets.get(&namespace("notes"), &name("a")).unwrap().is_none());
    let status = store.status().unwrap();
    assert_eq!(status.slots_used, 0, "their keys are destroyed");
    assert_eq!(check(&store, false).0, Checked::default());
    assert_eq!(store.nameless().unwrap(), 0);
    store.rotate_key(&key(2), &mut |_| {}).unwrap();
}

/// A check that is ended when it asks for the `last` time whether it goes on, and what it found until then.
fn check_until(store: &SealedStore, delete: Delete, last: usize) -> (Checked, Vec<Damaged>) {
    let (mut found, mut seen, mut asked) = (Vec::new(), Checked::default(), 0);
    let checked = store.check(
        delete,
        &mut |now| {
            seen = *now;
            asked += 1;
            if asked < last {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        },
        &mut |one| found.push(one),
    );
    let error = checked.unwrap_err();
    assert!(matches!(&error, StoreError::Invalid(_)), "{error}");
    (seen, found)
}

#[test]
fn a_check_that_is_ended_within_a_namespace_without_a_name_says_that_something_of_it_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    let all: Vec<String> = (0..1000).map(|index| format!("small-{index}")).collect();
    let puts = all.iter().map(|text| Operation::Put(write(text, b"x"))).collect();
    let memory = store.memory();
    memory.apply(&namespace("notes"), puts, &Quota::UNLIMITED).unwrap();
    let place = root::namespace_of(&place(&store, "small-0"));
    lose_name(&store, &place, |_| None);
    let left = || all.iter().filter(|text| value(&store, text).is_some()).count();
    let delete = Delete {
        damaged: false,
        nameless: true,
    };
    let commit = store.0.tree.commit().unwrap().number;
    // It asks once it has found the namespace, and before each commit.
    let (seen, found) = check_until(&store, delete, 2);
    assert_eq!(store.0.tree.commit().unwrap().number, commit, "it wrote nothing");
    assert_eq!((seen.nameless, seen.nameless_deleted), (1, 0));
    assert_eq!((found.len(), found[0].deleted), (1, false));
    assert_eq!(left(), 1000);
    let (seen, found) = check_until(&store, delete, 3);
    assert_eq!((seen.nameless, seen.nameless_deleted), (1, 0));
    assert_eq!((found.len(), found[0].deleted), (1, true), "it is told of");
    assert!((1..1000).contains(&left()), "{}", left());
    let (checked, found) = check_with(&store, delete);
    assert_eq!((checked.nameless, checked.nameless_deleted), (1, 1));
    assert_eq!((found.len(), found[0].deleted), (1, true));
    assert_eq!(left(), 0);
}

#[test]
fn a_check_tells_of_a_namespace_without_a_name_once_the_first_of_it_is_gone() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    let puts = (0..1000).map(|index| Operation::Put(write(&format!("small-{index}"), b"x")));
    let memory = store.memory();
    memory
        .apply(&namespace("notes"), puts.collect(), &Quota::UNLIMITED)
        .unwrap();
    let place = root::namespace_of(&place(&store, "small-0"));
    lose_name(&store, &place, |_| None);
    let delete = Delete {
        damaged: false,
        nameless: true,
    };
    let found = std::cell::RefCell::new(Vec::new());
    // How many were told of, each time it asks: once it has found the namespace, before each commit, and after the last one.
    let mut told = Vec::new();
    let checked = store.check(
        delete,
        &mut |_| {
            told.push(found.borrow().len());
            ControlFlow::Continue(())
        },
        &mut |one: Damaged| found.borrow_mut().push(one),
    );
    assert_eq!(checked.unwrap().nameless_deleted, 1);
    assert_eq!(told[..4], [0, 0, 1, 1]);
    let found = found.into_inner();
    assert_eq!((found.len(), found[0].deleted), (1, true), "it is told of once");
}

#[test]
fn a_check_that_is_ended_takes_out_nothing_more_and_tells_what_it_found() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for text in ["a", "b", "c", "d", "e"] {
        put(&store, text, text.as_bytes());
        damage(&store, text, |entry| *entry.last_mut().unwrap() ^= 1);
    }
    let delete = Delete {
        damaged: true,
        nameless: false,
    };
    let commit = store.0.tree.commit().unwrap().number;
    // It asks at each record that it sees.
    let (seen, found) = check_until(&store, delete, 5);
    assert_eq!(store.0.tree.commit().unwrap().number, commit, "it wrote nothing");
    assert_eq!((seen.damaged, seen.deleted), (5, 0));
    assert_eq!(found.len(), 4);
    assert!(found.iter().all(|one| !one.deleted), "{found:?}");
    assert_eq!(check(&store, false).0.damaged, 5, "they are all there");
    assert_eq!(check(&store, true).0.deleted, 5);
}

#[test]
fn a_check_that_is_ended_counts_anew_with_one_commit_where_it_took_something_out() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    let namespaces: Vec<Namespace> = (0..300).map(|index| namespace(&format!("notes-{index}"))).collect();
    let puts = namespaces.iter().map(|namespace| work::Work::Apply {
        space: Space::Memory,
        namespace: namespace.clone(),
        operations: ["a", "b"]
            .map(|text| Operation::Put(write(text, text.as_bytes())))
            .into(),
        quota: Quota::UNLIMITED,
    });
    store.0.submit_all(puts.collect()).unwrap();
    for namespace in &namespaces {
        let place = {
            let keys = store.0.keys.load();
            let root = keys.newest();
            root.place(&root.namespace_place(Space::Memory, namespace), &name("a"))
        };
        let at = tree::key(tree::prefix::RECORD, &[&place]);
        let mut entry = store.0.tree.get(&at).unwrap().unwrap().to_vec();
        *entry.last_mut().unwrap() ^= 1;
        lay(&store, at, Some(entry));
    }
    let delete = Delete {
        damaged: true,
        nameless: false,
    };
    let commit = || store.0.tree.commit().unwrap().number;
    let mut ended_at = None;
    let (mut deleted, mut found) = (0, 0);
    let checked = store.check(
        delete,
        &mut |now| {
            deleted = now.deleted;
            if deleted == 0 {
                return ControlFlow::Continue(());
            }
            ended_at.get_or_insert_with(commit);
            ControlFlow::Break(())
        },
        &mut |_| found += 1,
    );
    assert!(matches!(checked, Err(StoreError::Invalid(_))), "{checked:?}");
    assert_eq!((deleted, found), (235, 235));
    assert_eq!(commit() - ended_at.unwrap(), 1);
    let memory = store.memory();
    let records = namespaces
        .iter()
        .map(|namespace| memory.usage(namespace).unwrap().records);
    assert_eq!(records.sum::<u64>(), 600 - 235);
    assert_eq!(check(&store, true).0.deleted, 300 - 235);
}

#[test]
fn large_namespaces_are_counted_anew_with_a_commit_each() {
    for (records, commits) in [(9_000_u32, 1), (11_000, 2), (21_000, 2)] {
        let folder = tempfile::tempdir().unwrap();
        let store = SealedStore::open(options(&folder, 1)).unwrap();
        let namespaces = ["a", "b"].map(|text| {
            let keys = store.0.keys.load();
            keys.newest().namespace_place(Space::Memory, &namespace(text))
        });
        let mut batch = sled::Batch::default();
        for namespace in &namespaces {
            for index in 0..records {
                let mut place: root::Place = [0; size_of::<root::Place>()];
                place[..namespace.len()].copy_from_slice(namespace);
                place[namespace.len()..][..4].copy_from_slice(&index.to_be_bytes());
                batch.insert(tree::key(tree::prefix::RECORD, &[&place]), b"damaged".as_slice());
            }
        }
        store.0.tree.apply(batch).unwrap();
        let commit = || store.0.tree.commit().unwrap().number;
        let before = commit();
        store.0.recount(namespaces.into()).unwrap();
        assert_eq!(commit() - before, commits, "{records} in each");
        for namespace in &namespaces {
            let counted = usage::read(&store.0.tree, namespace).unwrap();
            assert_eq!(counted.records, u64::from(records));
        }
    }
}

/// A name without records says nothing of anything, and keeps nothing from going on.
#[test]
fn a_name_that_does_not_open_and_has_no_records_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"one");
    let nowhere = [[Space::Memory.byte()].as_slice(), &[7; 16]].concat();
    let at = tree::key(tree::prefix::NAMESPACE, &[&nowhere]);
    lay(&store, at, Some(b"nothing that opens".to_vec()));
    assert_eq!(check(&store, false).0.nameless, 0);
    assert_eq!(store.memory().namespaces(10).unwrap().len(), 1);
    store.rotate_key(&key(2), &mut |_| {}).unwrap();
    assert_eq!(value(&store, "a").as_deref(), Some(&b"one"[..]));
}
