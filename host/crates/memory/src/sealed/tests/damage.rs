//! Damage to what lies on the disk: it costs the record that it is done to and no other, and is told.

use super::*;

#[test]
#[expect(clippy::disallowed_methods, reason = "a test damages files")]
fn a_database_that_lost_records_is_told_and_their_keys_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for index in 0..100 {
        put(&store, &format!("{index}"), &[7; 2000]);
    }
    let whole = copy_of(&folder);
    assert_eq!(
        SealedStore::open(options(&whole, 1))
            .unwrap()
            .status()
            .unwrap()
            .slots_used,
        100
    );
    let slots = std::fs::read(folder.path().join("store/slots")).unwrap();
    let database = std::fs::read(folder.path().join("store/records/db")).unwrap();
    let damages: [&dyn Fn(&std::path::Path); 3] = [
        &|records| std::fs::remove_dir_all(records).unwrap(),
        &|records| std::fs::write(records.join("db"), b"").unwrap(),
        &|records| std::fs::write(records.join("db"), &database[..database.len() / 2]).unwrap(),
    ];
    for damage in damages {
        let damaged = copy_of(&folder);
        damage(&damaged.path().join("store/records"));
        let error = SealedStore::open(options(&damaged, 1)).unwrap_err();
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        assert!(std::fs::read(damaged.path().join("store/slots")).unwrap() == slots);
    }
}

#[test]
fn a_header_that_names_another_slot_destroys_no_other_records_key() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "a", b"one");
    put(&store, "b", b"two");
    let other = store.0.entry(&place(&store, "b")).unwrap().unwrap().header.slot;
    damage(&store, "a", |entry| entry[4..8].copy_from_slice(&other.to_le_bytes()));
    let read = store.memory().get(&namespace("notes"), &name("a"));
    assert!(matches!(read, Err(StoreError::Corrupt { .. })), "{read:?}");
    store
        .memory()
        .delete(&namespace("notes"), &name("a"), Precondition::Any)
        .unwrap();
    assert_eq!(value(&store, "b").as_deref(), Some(&b"two"[..]));
    // Its own is destroyed: a copy of its entry that somebody has is worth nothing, and no record seems lost.
    assert_eq!(slots_in_use(&store), [other]);
    let killed = copy_of(&folder);
    let again = SealedStore::open(options(&killed, 1)).unwrap();
    assert_eq!(value(&again, "b").as_deref(), Some(&b"two"[..]));
    assert_eq!(again.reclaimed(), 0);
}

/// Changes one bit of whose a slot says it is.
#[expect(clippy::disallowed_methods, reason = "a test damages files")]
fn rot(folder: &tempfile::TempDir, slot: slots::SlotIndex) {
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(folder.path().join("store/slots"))
        .unwrap();
    let at = 4096 + u64::from(slot) * slots::SLOT_BYTES as u64 + 70;
    let mut byte = [0];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut byte, at).unwrap();
    byte[0] ^= 1;
    std::os::unix::fs::FileExt::write_all_at(&file, &byte, at).unwrap();
}

#[test]
fn what_takes_the_place_of_a_damaged_record_leaves_no_key_of_it() {
    type Way<'a> = &'a dyn Fn(&SealedStore, &ManualClock);
    let ways: [Way<'_>; 3] = [
        &|store, _| assert_eq!(put(store, "a", b"new"), 1),
        &|store, _| {
            let memory = store.memory();
            memory.delete(&namespace(NOTES), &name("a"), Precondition::Any).unwrap();
        },
        &|store, clock| {
            clock.advance_seconds(100);
            assert_eq!(store.sweep(10).unwrap().records, 1);
        },
    ];
    for (way, act) in ways.into_iter().enumerate() {
        for is_rotten in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let clock = Arc::new(ManualClock::new());
            let store = SealedStore::open(with_clock(options(&folder, 1), &clock)).unwrap();
            put_short(&store, "a", 50);
            put(&store, "b", b"kept");
            let slot = |text: &str| store.0.entry(&place(&store, text)).unwrap().unwrap().header.slot;
            let other = slot("b");
            if is_rotten {
                rot(&folder, slot("a"));
            } else {
                damage(&store, "a", |entry| entry[4..8].copy_from_slice(&other.to_le_bytes()));
            }
            act(&store, &clock);
            assert_eq!(
                slots_in_use(&store).len(),
                1 + usize::from(way == 0),
                "{way}, {is_rotten}"
            );
            let killed = copy_of(&folder);
            let again = SealedStore::open(with_clock(options(&killed, 1), &clock)).unwrap();
            assert_eq!(value(&again, "b").as_deref(), Some(&b"kept"[..]));
            let left = (way == 0).then_some(&b"new"[..]);
            assert_eq!(value(&again, "a").as_deref(), left, "{way}, {is_rotten}");
        }
    }
}

#[test]
fn a_key_whose_record_somebody_took_out_is_told_whatever_names_it() {
    for by_header in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let store = SealedStore::open(options(&folder, 1)).unwrap();
        put(&store, "taken", b"one");
        put(&store, "a", b"two");
        let taken = place(&store, "taken");
        let slot = store.0.entry(&taken).unwrap().unwrap().header.slot;
        lay(&store, tree::key(tree::prefix::RECORD, &[&taken]), None);
        if by_header {
            damage(&store, "a", |entry| entry[4..8].copy_from_slice(&slot.to_le_bytes()));
        }
        // No agent gets it destroyed by a write.
        put(&store, "a", b"three");
        assert!(slots_in_use(&store).contains(&slot));
        let killed = copy_of(&folder);
        let error = SealedStore::open(options(&killed, 1)).unwrap_err();
        assert!(error.to_string().contains("lost records"), "{error}");
    }
}

#[test]
fn more_keys_of_damaged_records_than_one_commit_destroys_are_none_of_others_concern() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put_all(&store, 0..300);
    put(&store, "other", b"kept");
    // Somebody wrote slots that say they are of these, as many as count for each.
    let places: Vec<root::Place> = (0..300).map(|index| place(&store, &format!("name-{index}"))).collect();
    let keys = store.0.keys.load_full();
    let mut forged = Vec::new();
    let total = {
        let mut writer = store.0.writer().unwrap();
        for place in &places {
            for _ in 1..discard::SLOTS_MAX {
                let slot = writer.allocation.take(|total| store.0.slots.grow(total)).unwrap();
                let drawn = entry::Drawn::draw().unwrap();
                let sealed = slots::Slot::seal(&keys, &store.0.store, slot, place, &drawn, 1).unwrap();
                forged.push((slot, sealed));
            }
        }
        forged.sort_unstable_by_key(|(index, _)| *index);
        store.0.slots.write(&forged).unwrap();
        writer.allocation.used()
    };
    // None of them names a slot of its own.
    for index in 0..300 {
        damage(&store, &format!("name-{index}"), |entry| entry[4..8].fill(0xff));
    }
    let deletes = |range: std::ops::Range<usize>| -> Vec<Operation> {
        range
            .map(|index| Operation::Delete {
                name: name(&format!("name-{index}")),
                precondition: Precondition::Any,
            })
            .collect()
    };
    let memory = store.memory();
    let refused = memory.apply(&namespace(NOTES), deletes(0..300), &Quota::UNLIMITED);
    assert!(matches!(refused, Err(StoreError::Corrupt { .. })), "{refused:?}");
    assert_eq!(store.status().unwrap().slots_used, total, "nothing of it is done");
    assert_eq!(put(&store, "other", b"kept"), 2);
    for first in (0..300).step_by(100) {
        memory
            .apply(&namespace(NOTES), deletes(first..first + 100), &Quota::UNLIMITED)
            .unwrap();
        let commit = store.0.tree.commit().unwrap();
        assert!(commit.to_bytes().len() <= entry::CHUNK_BYTES);
    }
    assert_eq!(store.status().unwrap().slots_used, 1);
}

fn assert_damaged(store: &SealedStore, text: &str) {
    let lost = store.memory().get(&namespace(NOTES), &name(text));
    assert!(matches!(lost, Err(StoreError::Corrupt { .. })), "{lost:?}");
}

#[test]
fn what_the_newest_commit_added_without_a_key_is_taken_back_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = torn(&folder, &[], &Cut::Key);
    assert_eq!((value(&store, "a"), value(&store, "b")), (None, None));
    assert_eq!(value(&store, "kept").as_deref(), Some(&b"kept"[..]));
    assert_eq!(store.status().unwrap().slots_used, 1);
    let usage = store.memory().usage(&namespace(NOTES)).unwrap();
    assert_eq!(usage.records, 1);
    assert_eq!(put(&store, "b", b"again"), 1);
    assert_eq!(value(&store, "b").as_deref(), Some(&b"again"[..]));
}

#[test]
fn what_lost_its_key_otherwise_is_damaged_and_not_gone() {
    for (later, cut) in [
        (&["later"][..], Cut::Key),
        (&[], Cut::KnownKey),
        (&[], Cut::RottenKey),
        (&[], Cut::RottenPlace),
        (&["later"], Cut::RottenPlace),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = torn(&folder, later, &cut);
        assert_eq!(value(&store, "a").as_deref(), Some(&b"one"[..]));
        assert_damaged(&store, "b");
        // Killed once more, before anything was written: a key that was destroyed in between would pass for one that never came.
        let killed = copy_of(&folder);
        let again = SealedStore::open(options(&killed, 1)).unwrap();
        if matches!(cut, Cut::RottenKey | Cut::RottenPlace) {
            assert_eq!(value(&again, "a").as_deref(), Some(&b"one"[..]));
            assert_damaged(&again, "b");
        }
    }
}

#[test]
fn an_expired_record_that_is_damaged_stops_no_backup() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let store = SealedStore::open(with_clock(options(&folder, 1), &clock)).unwrap();
    put(&store, "a", b"one");
    put_short(&store, "b", 1);
    damage(&store, "b", |entry| *entry.last_mut().unwrap() ^= 1);
    let to = crate::BackupPrivateKey::generate().unwrap().public_key();
    let export = || store.export(&to, &mut Vec::new(), &mut |_| {});
    assert!(export().is_err());
    clock.advance_seconds(10);
    assert_eq!(export().unwrap().records, 1);
    assert_eq!(
        check(&store, false).0.damaged,
        1,
        "it still keeps keys from being rotated"
    );
}

#[test]
fn a_forged_header_gets_nothing_of_another_record_removed() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "long", &[7; 100_000]);
    let victim = place(&store, "long");
    let entry = store.0.entry(&victim).unwrap().unwrap().entry;
    // Before all others of its namespace, with the header of a record that is good.
    let mut forged = victim;
    forged[root::SPACE_TAG_BYTES + 1..].fill(0);
    let mut batch = sled::Batch::default();
    batch.insert(
        tree::key(tree::prefix::RECORD, &[&forged]),
        &entry[..entry::HEADER_BYTES],
    );
    store.0.tree.apply(batch).unwrap();
    let (checked, found) = check(&store, true);
    assert_eq!(
        (checked.records, checked.damaged, checked.deleted),
        (2, 1, 1),
        "{found:?}"
    );
    assert_eq!(value(&store, "long").as_deref(), Some(&[7; 100_000][..]));
    // It was never counted, and took nothing of what was.
    let usage = store.memory().usage(&namespace("notes")).unwrap();
    assert_eq!((usage.records, usage.bytes), (1, 100_004));
    let to = crate::BackupPrivateKey::generate().unwrap().public_key();
    assert_eq!(store.export(&to, &mut Vec::new(), &mut |_| {}).unwrap().records, 1);
    store.rotate_key(&key(2), &mut |_| {}).unwrap();
}

#[test]
fn what_a_damaged_header_says_counts_for_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for text in ["a", "b", "c"] {
        put(&store, text, b"0123456789");
    }
    // A format that there is not, and a length that no value has.
    damage(&store, "a", |entry| entry[0] = 2);
    damage(&store, "b", |entry| entry[28..32].fill(0xff));
    assert!(store.rotate_key(&key(2), &mut |_| {}).is_err());
    assert_eq!(check(&store, true).0.deleted, 2);
    let usage = store.memory().usage(&namespace("notes")).unwrap();
    assert_eq!((usage.records, usage.bytes), (1, 11));
    assert_eq!(value(&store, "c").as_deref(), Some(&b"0123456789"[..]));
    store.rotate_key(&key(2), &mut |_| {}).unwrap();
}

/// How many parts of values are left.
fn chunks_left(store: &SealedStore) -> usize {
    let mut left = 0;
    let mut count = |_: &[u8], _: &sled::IVec| {
        left += 1;
        Ok(tree::Scan::Next)
    };
    store.0.tree.scan(&[tree::prefix::CHUNK], None, &mut count).unwrap();
    left
}

#[test]
fn what_a_damaged_header_says_of_its_length_decides_no_quota_and_is_not_counted() {
    for length in [0_u32, 5, u32::MAX] {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new());
        let store = SealedStore::open(with_clock(options(&folder, 1), &clock)).unwrap();
        let memory = store.memory();
        put(&store, "a", &[7; 5000]);
        put(&store, "b", &[7; 10]);
        put(&store, "c", &[7; 100_000]);
        put_short(&store, "d", 1);
        for text in ["b", "c", "d"] {
            damage(&store, text, |entry| {
                entry[28..32].copy_from_slice(&length.to_le_bytes())
            });
        }
        clock.advance_seconds(10);
        assert_eq!(store.sweep(10).unwrap().records, 1);
        memory.delete(&namespace(NOTES), &name("c"), Precondition::Any).unwrap();
        assert_eq!(chunks_left(&store), 0, "{length}");
        let quota = Quota {
            bytes_max: 5500,
            ..Quota::UNLIMITED
        };
        let refused = memory.put(&namespace(NOTES), write("b", &[7; 1000]), &quota);
        assert!(
            matches!(refused, Err(StoreError::Quota { .. })),
            "{length}: {refused:?}"
        );
        put(&store, "b", &[7; 1000]);
        let usage = memory.usage(&namespace(NOTES)).unwrap();
        assert_eq!((usage.records, usage.bytes), (2, 6002), "{length}");
    }
}

/// Says another length of a value.
fn damage_length(store: &SealedStore, text: &str, length: u32) {
    damage(store, text, |entry| {
        entry[28..32].copy_from_slice(&length.to_le_bytes())
    });
}

#[test]
fn a_record_whose_header_says_another_length_counts_for_what_is_stored_of_it() {
    // In some of them the last part that the header names is there, or would be as long as the true last one.
    for length in [0, 5, 6 << 14, 100_000 - (1 << 14), 100_000 + (1 << 14), u32::MAX] {
        let folder = tempfile::tempdir().unwrap();
        let store = SealedStore::open(options(&folder, 1)).unwrap();
        let memory = store.memory();
        put(&store, "a", &[7; 1000]);
        put(&store, "b", &[7; 1000]);
        put(&store, "c", &[7; 100_000]);
        let all = memory.usage(&namespace(NOTES)).unwrap().bytes;
        assert_eq!(all, 1001 + 1001 + 100_001);
        for text in ["a", "b", "c"] {
            damage_length(&store, text, length);
        }
        let quota = Quota {
            bytes_max: all - 500,
            ..Quota::UNLIMITED
        };
        // What makes it smaller is done, and has the namespace counted anew, with the others still there.
        memory.put(&namespace(NOTES), write("b", &[7; 10]), &quota).unwrap();
        assert_eq!(memory.usage(&namespace(NOTES)).unwrap().bytes, all - 990, "{length}");
        let refused = memory.put(&namespace(NOTES), write("b", &[7; 1000]), &quota);
        assert!(
            matches!(refused, Err(StoreError::Quota { .. })),
            "{length}: {refused:?}"
        );
        let delete = Operation::Delete {
            name: name("a"),
            precondition: Precondition::Any,
        };
        let narrow = Quota {
            bytes_max: 1,
            ..Quota::UNLIMITED
        };
        memory.apply(&namespace(NOTES), vec![delete], &narrow).unwrap();
        assert_eq!(memory.usage(&namespace(NOTES)).unwrap().bytes, 11 + 100_001, "{length}");
        put(&store, "c", &[7; 10]);
        assert_eq!(memory.usage(&namespace(NOTES)).unwrap().bytes, 22, "{length}");
        assert_eq!(chunks_left(&store), 0, "{length}");
    }
}

/// The quota is judged by what was counted, which is what the header says, although the parts are not found.
#[test]
fn a_long_value_whose_header_names_other_parts_is_replaced_within_its_quota() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    let memory = store.memory();
    put(&store, "c", &[7; 100_000]);
    damage(&store, "c", |entry| entry[32] ^= 1);
    let quota = Quota {
        bytes_max: 100_001,
        ..Quota::UNLIMITED
    };
    memory
        .put(&namespace(NOTES), write("c", &[8; 100_000]), &quota)
        .unwrap();
    let usage = memory.usage(&namespace(NOTES)).unwrap();
    assert_eq!((usage.records, usage.bytes), (1, 100_001));
}

#[test]
fn a_namespace_is_counted_once_for_a_damaged_length_and_never_for_what_was_refused() {
    use std::sync::atomic::Ordering;

    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    put(&store, "b", &[7; 1000]);
    damage_length(&store, "b", 5);
    let put_work = |text: &str, bytes: usize| work::Work::Apply {
        space: Space::Memory,
        namespace: namespace(NOTES),
        operations: vec![Operation::Put(write(text, &vec![7; bytes]))],
        quota: Quota {
            bytes_max: 2000,
            ..Quota::UNLIMITED
        },
    };
    let counts = || store.0.tree.counts.load(Ordering::Relaxed);
    let before = counts();
    let done = store.0.submit_each(vec![put_work("a", 10), put_work("b", 5000)]);
    assert!(matches!(done[..], [Ok(_), Err(StoreError::Quota { .. })]), "{done:?}");
    assert_eq!(counts() - before, 0);
    // One group.
    let works = std::iter::once(put_work("b", 100)).chain((0..50).map(|index| put_work(&format!("{index:02}"), 10)));
    store.0.submit_all(works.collect()).unwrap();
    assert_eq!(counts() - before, 1);
    let usage = store.memory().usage(&namespace(NOTES)).unwrap();
    assert_eq!((usage.records, usage.bytes), (52, 101 + 11 + 50 * 12));
}

#[test]
fn what_a_forged_header_says_decides_nothing_and_is_not_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for text in ["class", "version", "expiry"] {
        put(&store, text, b"one");
        assert_eq!(put(&store, text, b"two"), 2);
    }
    damage(&store, "class", |entry| entry[1] = 0);
    damage(&store, "version", |entry| {
        entry[12..20].copy_from_slice(&9_u64.to_le_bytes())
    });
    damage(&store, "expiry", |entry| {
        entry[20..28].copy_from_slice(&1_u64.to_le_bytes())
    });
    let memory = store.memory();
    let conditions = [Precondition::Absent, Precondition::Version(2), Precondition::Version(9)];
    for text in ["class", "version", "expiry"] {
        for precondition in conditions {
            let new = Write {
                precondition,
                ..write(text, b"forged")
            };
            let written = memory.put(&namespace(NOTES), new, &Quota::UNLIMITED);
            assert!(
                matches!(written, Err(StoreError::Corrupt { .. })),
                "{text}: {written:?}"
            );
            let deleted = memory.delete(&namespace(NOTES), &name(text), precondition);
            assert!(
                matches!(deleted, Err(StoreError::Corrupt { .. })),
                "{text}: {deleted:?}"
            );
        }
    }
    // It can be replaced and removed all the same, as something of which nothing is known.
    assert_eq!(put(&store, "version", b"new"), 1);
    let deleted = memory.delete(&namespace(NOTES), &name("class"), Precondition::Any);
    assert_eq!(deleted.unwrap(), Some(Classification::Secret));
    assert_eq!(value(&store, "version").as_deref(), Some(&b"new"[..]));
}

#[test]
fn a_backup_replaces_also_what_cannot_even_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for text in ["a", "b", "c"] {
        put(&store, text, b"0123456789");
    }
    let usage = store.memory().usage(&namespace(NOTES)).unwrap();
    let (key, backup) = back_up(&store);
    // None of the formats that there may be, and one byte too few.
    damage(&store, "a", |entry| entry[0] = 0);
    damage(&store, "b", |entry| entry.truncate(entry::HEADER_BYTES - 1));
    let import = |existing| {
        let mut from = std::io::Cursor::new(&backup);
        store.import(&key, &mut from, existing, &mut |_, _| ControlFlow::Continue(()))
    };
    assert!(import(Existing::Keep).is_err(), "what is there stays");
    assert_eq!(import(Existing::Replace).unwrap().restored.records, 3);
    for text in ["a", "b", "c"] {
        assert_eq!(value(&store, text).as_deref(), Some(&b"0123456789"[..]));
    }
    assert_eq!(check(&store, false).0.damaged, 0);
    // No key stays without a record, and nothing is counted twice.
    assert_eq!(store.status().unwrap().slots_used, 3);
    assert_eq!(store.memory().usage(&namespace(NOTES)).unwrap(), usage);
}

#[test]
fn a_record_whose_name_does_not_open_is_not_kept_but_restored() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for text in ["a", "b"] {
        put(&store, text, b"0123456789");
    }
    let (key, backup) = back_up(&store);
    put(&store, "b", b"changed");
    damage(&store, "a", |entry| entry[45] ^= 1);
    let mut from = std::io::Cursor::new(&backup);
    let imported = store.import(&key, &mut from, Existing::Keep, &mut |_, _| ControlFlow::Continue(()));
    let imported = imported.unwrap();
    assert_eq!((imported.restored.records, imported.kept), (1, 1));
    assert_eq!(value(&store, "a").as_deref(), Some(&b"0123456789"[..]));
    assert_eq!(value(&store, "b").as_deref(), Some(&b"changed"[..]));
    assert_eq!(check(&store, false).0.damaged, 0);
    assert_eq!(store.status().unwrap().slots_used, 2);
}

#[test]
fn a_backup_replaces_nothing_that_a_newer_version_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let store = SealedStore::open(options(&folder, 1)).unwrap();
    for text in ["a", "b"] {
        put(&store, text, b"0123456789");
    }
    let (key, backup) = back_up(&store);
    put(&store, "b", b"changed");
    damage(&store, "a", |entry| entry[0] = 9);
    let newer = store.0.entry(&place(&store, "a")).map(drop);
    assert!(matches!(newer, Err(StoreError::Version { found: 9, .. })), "{newer:?}");
    let mut from = std::io::Cursor::new(&backup);
    store
        .import(
            &key,
            &mut from,
            Existing::Replace,
            &mut |_, _| ControlFlow::Continue(()),
        )
        .unwrap_err();
    assert_eq!(value(&store, "b").as_deref(), Some(&b"0123456789"[..]));
    // Whoever can read it finds it as it was.
    assert_eq!(store.status().unwrap().slots_used, 2);
    damage(&store, "a", |entry| entry[0] = 1);
    assert_eq!(value(&store, "a").as_deref(), Some(&b"0123456789"[..]));
}

#[test]
fn a_record_whose_key_is_lost_leaves_no_part_of_its_value() {
    for delete in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let store = SealedStore::open(options(&folder, 1)).unwrap();
        put(&store, "long", &[7; 100_000]);
        let slot = store.0.entry(&place(&store, "long")).unwrap().unwrap().header.slot;
        store.0.slots.write(&[(slot, slots::Slot::FREE)]).unwrap();
        let memory = store.memory();
        if delete {
            memory
                .delete(&namespace("notes"), &name("long"), Precondition::Any)
                .unwrap();
        } else {
            assert_eq!(check(&store, true).0.deleted, 1);
        }
        assert_eq!(chunks_left(&store), 0);
    }
}

#[test]
fn an_expired_record_of_an_unknown_format_keeps_no_other_from_being_swept() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new());
    let store = SealedStore::open(with_clock(options(&folder, 1), &clock)).unwrap();
    for text in ["a", "b"] {
        put_short(&store, text, 1);
    }
    damage(&store, "a", |entry| entry[0] = 2);
    clock.advance_seconds(10);
    assert_eq!(store.sweep(10).unwrap().records, 1);
}
