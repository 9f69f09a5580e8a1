//! Files that were damaged, or that somebody else holds: each a clear error, no value that nobody wrote, and nothing else is
//! touched.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use aral_memory::{SealedStore, StoreError};

use crate::child::{self, Run};
use crate::format::SEGMENT_BYTES;
use crate::script::{Act, Change, State, Turn, Value, perform};
use crate::support::{Dice, KEY, OTHER_KEY, Place, START, copy_folder, expected, files_below, open, read_all};

/// A store with records of several sizes, closed by the process that made it, and not opened since: what sled replays of its
/// file, when it is opened, is all of it.
struct Sound {
    place: Place,
    state: State,
}

/// Sixty batches of so many records each.
fn turns(at_once: usize) -> Vec<Turn> {
    let sizes = [40, 300, 3000, 16_000, 20_000, 70_000];
    let put = |index: usize| Change::Put {
        name: format!("name-{index}"),
        value: Value {
            text: format!("the-value-of-{index}."),
            bytes: sizes[index % sizes.len()],
        },
        ttl_seconds: index.is_multiple_of(5).then_some(1000),
        class: index % 4,
    };
    let apply = |changes| Act::Apply {
        namespace: "space".to_owned(),
        changes,
    };
    // Each is replaced again and again, so that there are old pages too.
    let batch = |first: usize| -> Vec<Change> { (first..first + at_once).map(|index| put(index % 30)).collect() };
    let acts = (0..60).map(|act| apply(batch(act * at_once)));
    acts.map(|act| Turn { thread: 0, act }).collect()
}

impl Sound {
    fn new() -> Self {
        Self::written(1)
    }

    fn written(at_once: usize) -> Self {
        let place = Place::new();
        let turns = turns(at_once);
        let run = Run {
            place: &place,
            key: KEY,
            now: START,
            turns: &turns,
            killed_at: None,
        };
        let ended = child::start(&run).end();
        assert!(ended.is_ended, "{}", ended.complaint);
        let mut state = State::new();
        turns.iter().for_each(|turn| perform(&mut state, &turn.act, START));
        assert_eq!(state.len(), 30);
        Self { place, state }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.place.store().join(file)
    }

    /// The store with one file replaced: what opening it and reading every record comes to.
    fn with(&self, file: &str, content: &[u8], case: &str) -> Outcome {
        self.with_left(file, content, Left::Closed, case)
    }

    fn with_left(&self, file: &str, content: &[u8], left: Left, case: &str) -> Outcome {
        let folder = self.place.beside("damaged");
        copy_folder(&self.place.store(), &folder);
        std::fs::write(folder.join(file), content).expect("a file");
        if left == Left::Killed {
            std::fs::remove_file(folder.join("closed")).expect("a mark");
        }
        let before = keys_of(&folder);
        let outcome = match open(&folder, KEY, START) {
            Ok(store) => self.read(&store, case),
            Err(error) => {
                assert_clear(&error, case);
                assert!(
                    keys_of(&folder) == before,
                    "{case}: a key was touched though the store did not open"
                );
                Outcome::Refused
            }
        };
        std::fs::remove_dir_all(&folder).expect("a folder");
        outcome
    }

    fn read(&self, store: &SealedStore, case: &str) -> Outcome {
        let (mut damaged, mut missing) = (0, 0);
        for ((space, name), wanted) in &self.state {
            let (space, name) = (space.parse().expect("a namespace"), name.parse().expect("a name"));
            match store.memory().get(&space, &name) {
                Ok(Some(record)) => assert_eq!(
                    expected(&record).as_ref(),
                    Some(wanted),
                    "{case}: {name} is another one"
                ),
                Ok(None) => missing += 1,
                Err(error) => {
                    assert_clear(&error, case);
                    damaged += 1;
                }
            }
        }
        // Names are those that were written, or an error.
        match store
            .memory()
            .list(&"space".parse().expect("a namespace"), "", None, 1000)
        {
            Ok(page) => {
                let known = |name: &str| self.state.contains_key(&("space".to_owned(), name.to_owned()));
                assert!(
                    page.names.iter().all(|name| known(name.as_str())),
                    "{case}: {:?}",
                    page.names
                );
            }
            Err(error) => assert_clear(&error, case),
        }
        Outcome::Opened { damaged, missing }
    }
}

/// How the process ended that had the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    Closed,
    Killed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Refused,
    Opened { damaged: usize, missing: usize },
}

const UNHARMED: Outcome = Outcome::Opened { damaged: 0, missing: 0 };

/// The files in which keys are, byte for byte.
fn keys_of(folder: &Path) -> [Option<Vec<u8>>; 2] {
    ["keyring", "slots"].map(|name| std::fs::read(folder.join(name)).ok())
}

/// An error says what it is about, in one line, and is none that a sound store would give.
fn assert_clear(error: &StoreError, case: &str) {
    let text = error.to_string();
    assert!(
        text.len() > 10 && !text.contains('\n') && !text.contains("panicked"),
        "{case}: {text}"
    );
    let fits = matches!(
        error,
        StoreError::Corrupt { .. } | StoreError::Version { .. } | StoreError::WrongKey { .. }
    );
    assert!(fits, "{case}: {error:?}");
}

#[test]
fn a_slot_file_or_settings_that_are_cut_or_missing_are_told_as_damage() {
    let sound = Sound::new();
    let (slots, conf) = ("slots", "records/conf");
    for file in [slots, conf] {
        let content = std::fs::read(sound.path(file)).expect("a file");
        for bytes in [0, 1, content.len() / 2] {
            // Of the slot file less than its header.
            let left = &content[..bytes.min(4000)];
            let outcome = sound.with(file, left, &format!("{file} of {bytes} bytes"));
            // sled writes its settings anew where there are none.
            assert!(
                outcome == Outcome::Refused || (file == conf && outcome == UNHARMED),
                "{file} of {bytes} bytes: {outcome:?}"
            );
        }
        for at in 0..content.len().min(12) {
            let mut changed = content.clone();
            changed[at] ^= 0x20;
            sound.with(file, &changed, &format!("byte {at} of {file}"));
        }
    }
    let mut of_no_format = std::fs::read(sound.path(slots)).expect("a file");
    of_no_format[8] = 0;
    assert_eq!(sound.with(slots, &of_no_format, "format 0"), Outcome::Refused);
    std::fs::remove_file(sound.path(slots)).expect("a file");
    let error = open(&sound.place.store(), KEY, START).map(drop).expect_err("no keys");
    assert!(
        error.to_string().contains("the slot file, which is not there,"),
        "{error}"
    );
}

#[test]
fn a_bit_that_changed_in_a_slot_damages_that_record_alone() {
    let sound = Sound::new();
    let slots = std::fs::read(sound.path("slots")).expect("the slot file");
    let used = slots.iter().rposition(|byte| *byte != 0).expect("a slot") + 1;
    let (mut damaged, mut tried) = (0, 0);
    for at in (4096..used).step_by(29) {
        let mut content = slots.clone();
        content[at] ^= 1 << (at % 8);
        for left in [Left::Closed, Left::Killed] {
            let case = format!("byte {at} of the slots, {left:?}");
            match sound.with_left("slots", &content, left, &case) {
                Outcome::Opened { damaged: 1, missing: 0 } => damaged += 1,
                // A free slot, or one of the bytes that nothing is in.
                UNHARMED => {}
                other => panic!("{case}: {other:?}"),
            }
            tried += 1;
        }
    }
    assert!(damaged * 3 > tried, "{damaged} of {tried} changes were noticed");
}

#[test]
fn a_slot_file_that_is_cut_off_damages_what_is_cut_off() {
    let sound = Sound::new();
    let slots = std::fs::read(sound.path("slots")).expect("the slot file");
    for bytes in [0, 1, 7, 8, 27, 28, 4095] {
        let outcome = sound.with("slots", &slots[..bytes], &format!("{bytes} bytes of the slots"));
        assert_eq!(outcome, Outcome::Refused, "{bytes} bytes");
    }
    let mut before = usize::MAX;
    for bytes in [
        4096,
        4096 + 64,
        4096 + 128,
        4096 + 128 * 10 + 5,
        4096 + 128 * 25,
        slots.len(),
    ] {
        let outcome = sound.with("slots", &slots[..bytes], &format!("{bytes} bytes of the slots"));
        let Outcome::Opened { damaged, missing: 0 } = outcome else {
            panic!("{bytes} bytes: {outcome:?}");
        };
        assert!(damaged <= before, "{bytes} bytes: {damaged}");
        before = damaged;
    }
    assert_eq!(before, 0);
}

#[test]
fn one_page_of_the_keyring_is_enough_and_without_both_the_store_stays_closed() {
    let sound = Sound::new();
    let keyring = std::fs::read(sound.path("keyring")).expect("the keyring");
    let page = keyring.len() / 2;
    // The format, too: without the checksum it says nothing.
    for at in (0..page).step_by(1601).chain(8..13).chain([20, 36, page - 1]) {
        for first in [0, page] {
            let mut one = keyring.clone();
            one[first + at] ^= 0x10;
            let outcome = sound.with("keyring", &one, &format!("byte {at} of one page"));
            assert_eq!(outcome, UNHARMED, "byte {at}");
        }
        let mut both = keyring.clone();
        both[at] ^= 0x10;
        both[page + at] ^= 0x10;
        let outcome = sound.with("keyring", &both, &format!("byte {at} of both pages"));
        assert_eq!(outcome, Outcome::Refused, "byte {at}");
    }
    for bytes in [0, 100, page - 1] {
        let outcome = sound.with("keyring", &keyring[..bytes], &format!("{bytes} bytes of the keyring"));
        assert_eq!(outcome, Outcome::Refused, "{bytes} bytes");
    }
    assert_eq!(sound.with("keyring", &keyring[..page], "one page"), UNHARMED);
}

#[test]
fn a_lost_keyring_is_not_replaced_by_a_new_one() {
    let sound = Sound::new();
    std::fs::remove_file(sound.path("keyring")).expect("the keyring");
    let before = files_below(&sound.place.store());
    let error = open(&sound.place.store(), KEY, START).expect_err("without its keyring the store is noise");
    assert!(error.to_string().contains("keyring"), "{error}");
    let after = files_below(&sound.place.store());
    let same = |name: &str| {
        let content = |files: &[(PathBuf, Vec<u8>)]| {
            let found = files.iter().find(|(path, _)| path == Path::new(name));
            found.map(|(_, content)| content.clone())
        };
        assert!(content(&before) == content(&after), "{name} was touched");
    };
    ["slots", "records/db", "keyring", "closed"].into_iter().for_each(same);
}

/// The number of the segment that was begun last.
fn newest_segment(database: &[u8]) -> u64 {
    let numbers = database.chunks(SEGMENT_BYTES).filter_map(|segment| {
        let lsn = u64::from_le_bytes(segment.get(4..12)?.try_into().ok()?) ^ i64::MAX.unsigned_abs();
        // Those of free segments are zero, and say nothing.
        (lsn < 1 << 40).then_some(lsn / SEGMENT_BYTES as u64)
    });
    numbers.max().unwrap_or(0)
}

#[test]
fn a_damaged_database_gives_errors_and_no_value_that_nobody_wrote() {
    let sound = Sound::written(6);
    let mut dice = Dice::new(21);
    let mut noticed = BTreeMap::<String, usize>::new();
    let files = files_below(&sound.place.store());
    let database = std::fs::read(sound.path("records/db")).expect("the database");
    assert!(
        newest_segment(&database) >= 3,
        "too little is written for damage in the middle"
    );
    for (path, content) in files.iter().filter(|(path, _)| path.starts_with("records")) {
        let name = path.to_str().expect("UTF-8");
        let written = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for round in 0..45 {
            let mut changed = content.clone();
            let at = dice.below(written.max(1));
            match round % 3 {
                0 if written > 0 => changed[at] ^= 1 << dice.below(8),
                1 => changed.truncate(at),
                _ => {
                    let end = (at + 1 + dice.below(4096)).min(changed.len());
                    changed[at..end].fill(0);
                }
            }
            for left in [Left::Closed, Left::Killed] {
                let case = format!("{name}, round {round}, at {at} of {written}, {left:?}");
                let outcome = sound.with_left(name, &changed, left, &case);
                if let Outcome::Opened { missing, .. } = outcome {
                    assert_eq!(missing, 0, "{case}: records are gone, and nobody says so");
                }
                *noticed.entry(name.to_owned()).or_default() += usize::from(outcome != UNHARMED);
            }
        }
    }
    // Each for itself: what is noticed in one says nothing of the other.
    for file in ["records/db", "records/conf"] {
        let times = noticed.get(file).copied().unwrap_or(0);
        assert!(times > 0, "no damage in {file} is noticed: {noticed:?}");
    }
}

#[test]
fn another_process_that_has_the_store_is_named() {
    let place = Place::new();
    let run = Run {
        place: &place,
        key: KEY,
        now: START,
        turns: &[],
        killed_at: None,
    };
    let mut writer = child::start(&run);
    writer.hear_all();
    // Whatever key: who has the store comes first, and the store is not touched.
    for key in [KEY, OTHER_KEY] {
        let error = open(&place.store(), key, START).expect_err("another process has it");
        let text = error.to_string();
        assert!(matches!(error, StoreError::Held { .. }), "{error:?}");
        assert!(
            text.contains(&format!("process {}", writer.id())) && text.contains("`writer`"),
            "{text}"
        );
    }
    writer.kill();
    open(&place.store(), KEY, START).expect("who was killed holds nothing");
}

#[test]
fn a_wrong_key_touches_nothing() {
    let sound = Sound::new();
    let before = files_below(&sound.place.store());
    let error = open(&sound.place.store(), OTHER_KEY, START).expect_err("another key");
    assert!(matches!(error, StoreError::WrongKey { .. }), "{error:?}");
    let known = aral_memory::MasterKey::from_text(KEY.as_bytes()).expect("a key").id();
    assert!(error.to_string().contains(&known), "{error}");
    let after = files_below(&sound.place.store());
    let but_the_lock = |files: Vec<(PathBuf, Vec<u8>)>| -> Vec<_> {
        files
            .into_iter()
            .filter(|(path, _)| path != Path::new("lock"))
            .collect()
    };
    assert!(but_the_lock(before) == but_the_lock(after), "a file was touched");
    let store = open(&sound.place.store(), KEY, START).expect("the right key");
    assert_eq!(read_all(&*store.memory()).expect("records"), sound.state);
}
