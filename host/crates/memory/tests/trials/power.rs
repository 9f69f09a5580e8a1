//! The power goes: every call of a writer to the system is recorded, and the store is opened on what a disk could hold after
//! a cut at many moments. Whatever the disk kept of what was not synced, everything acknowledged is there.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use aral_memory::sealed::Step;
use aral_memory::{MasterKey, SealedStore, StoreError};

use crate::child::{self, Run};
use crate::disk::{Disk, Keeps};
use crate::kill::{THREADS, Trial};
use crate::outcome::{name_prefix, settle};
use crate::script::{Act, Change, State, Turn, Value, forget_expired, perform};
use crate::support::{Dice, KEY, OTHER_KEY, Place, START, assert_usable, copy_folder, open, read_all, read_records};
use crate::trace::{self, Event, Happened};

/// A writer that was recorded.
struct Recording {
    place: Place,
    /// When it was, in seconds since 1970.
    now: i64,
    /// What the store held before, and as which files.
    before: State,
    turns: Vec<Turn>,
    events: Vec<Event>,
    last: usize,
    /// Cuts that left keys half rotated.
    rotating: Cell<usize>,
    /// Cuts that left records which had expired.
    unswept: Cell<usize>,
}

/// At which step a writer kills itself, and at which time there.
type Killed = Option<(Step, usize)>;

const BASE: &str = "base";

impl Recording {
    /// Records a writer that does `turns`, on a store that holds `before` already.
    fn new(place: Place, before: State, turns: Vec<Turn>) -> Self {
        Self::of_runs(place, START, before, vec![(turns, None)])
    }

    /// Records one writer after the other, each with its turns, and the step at which it kills itself.
    fn of_runs(place: Place, now: i64, before: State, runs: Vec<(Vec<Turn>, Killed)>) -> Self {
        Self::of_resting_runs(place, now, before, runs, |_trace| ())
    }

    /// The same of writers that have their store open, when they have written, until `rest` returns. It is given the trace.
    fn of_resting_runs(place: Place, now: i64, before: State, runs: Vec<(Vec<Turn>, Killed)>, rest: fn(&Path)) -> Self {
        copy_folder(&place.store(), &place.beside(BASE));
        let found = Command::new("strace").arg("-V").output();
        assert!(found.is_ok(), "these tests need `strace`: run `apt-get install strace`");
        let (mut turns, mut text) = (Vec::new(), String::new());
        for (own, killed_at) in runs {
            text.push_str(&traced(&place, now, &own, killed_at, rest));
            turns.extend(own);
        }
        let events = trace::parse(&text, &place.store());
        let last = text.lines().count();
        Self {
            place,
            now,
            before,
            turns,
            events,
            last,
            rotating: Cell::default(),
            unswept: Cell::default(),
        }
    }

    /// How many turns of each thread were acknowledged before a line of the trace.
    fn acknowledged(&self, moment: usize) -> Vec<usize> {
        let threads = self.turns.iter().map(|turn| turn.thread + 1).max().unwrap_or(1);
        let mut acknowledged = vec![0; threads];
        for event in self.events.iter().filter(|event| event.done <= moment) {
            if let Happened::Told(line) = &event.what
                && let Some((thread, _)) = line.split_once(' ')
            {
                acknowledged[thread.parse::<usize>().expect("a thread")] += 1;
            }
        }
        acknowledged
    }

    /// Cuts the power once, and says what is wrong with what is left.
    fn cut(&self, disk: &Disk, moment: usize, keeps: Keeps, dice: &mut Dice) -> Result<(), String> {
        let folder = self.place.beside("after");
        disk.cut(moment, keeps, dice, &folder);
        let outcome = self.look(&folder, moment);
        std::fs::remove_dir_all(&folder).expect("a folder");
        outcome.map_err(|error| format!("cut at {moment} of {}, {keeps:?}: {error}", self.last))
    }

    fn look(&self, folder: &Path, moment: usize) -> Result<(), String> {
        let acknowledged = self.acknowledged(moment);
        let (store, next_key) = self.open(folder, &acknowledged)?;
        let found = read_records(&*store.memory())?;
        let settled = settle(&self.before, &self.turns, &acknowledged, &found, self.now)?;
        let told = |error: StoreError| error.to_string();
        // Each key has its record, also one that has expired, and each of those waits for a sweep.
        let status = store.status().map_err(told)?;
        let held = store.memory().namespaces(1000).map_err(told)?;
        let (used, held) = (
            status.slots_used as u64,
            held.iter().map(|one| one.usage.records).sum::<u64>(),
        );
        if used != held {
            return Err(format!("{used} keys for {held} records"));
        }
        if self.swept(&acknowledged) && used != settled.len() as u64 {
            return Err(format!("{used} keys for {} records after a sweep", settled.len()));
        }
        self.rotating.set(self.rotating.get() + usize::from(status.is_rotating));
        self.unswept
            .set(self.unswept.get() + usize::from(used > settled.len() as u64));
        // What was cut off goes on.
        if let Some(key) = next_key {
            let key = MasterKey::from_text(key.as_bytes()).map_err(told)?;
            store.rotate_key(&key, &mut |_| {}).map_err(told)?;
        }
        while store.sweep(100).map_err(told)?.more {}
        if read_all(&*store.memory())? != settled {
            return Err("something is lost once all is done that was cut off".to_owned());
        }
        let used = store.status().map_err(told)?.slots_used as usize;
        if used != settled.len() {
            return Err(format!("{used} keys for {} records once all is done", settled.len()));
        }
        assert_usable(&store);
        Ok(())
    }

    /// Whether a sweep is acknowledged, of a thread that does nothing else.
    fn swept(&self, acknowledged: &[usize]) -> bool {
        let mut sweeps = self.turns.iter().filter(|turn| turn.act == Act::Sweep);
        sweeps.any(|turn| acknowledged[turn.thread] > 0)
    }

    /// The thread that rotates keys, if one does, and to which key.
    fn rotation(&self) -> Option<(usize, &str)> {
        self.turns.iter().find_map(|turn| match &turn.act {
            Act::Rotate { key } => Some((turn.thread, key.as_str())),
            Act::Apply { .. } | Act::Wait { .. } | Act::Read { .. } | Act::Sweep => None,
        })
    }

    /// The old key opens the store until a rotation is acknowledged, or else the new one does. Also, to which key it is still to
    /// be rotated.
    fn open(&self, folder: &Path, acknowledged: &[usize]) -> Result<(SealedStore, Option<&str>), String> {
        let open = |key| open(folder, key, self.now).map_err(|error| format!("the store does not open: {error:?}"));
        let rotation = self.rotation();
        let is_rotated = rotation.is_some_and(|(thread, _)| acknowledged[thread] > 0);
        match (open(KEY), rotation) {
            (Ok(_), Some(_)) if is_rotated => Err("the rotation is over and the old key opens the store".to_owned()),
            (Err(_), Some((_, key))) => Ok((open(key)?, None)),
            (opened, rotation) => Ok((opened?, rotation.map(|(_, key)| key))),
        }
    }

    /// Cuts the power `count` times, at moments that are spread over the recording, and counts what went wrong.
    fn cut_often(&self, deaf: Option<&Path>, count: usize, seed: u64) -> Vec<String> {
        // Every moment at which something happened, synced or was told is as good as any.
        let moments: Vec<usize> = self.events.iter().map(|event| event.done).collect();
        self.cut_at(&moments, deaf, count, seed)
    }

    /// The same at these moments.
    fn cut_at(&self, moments: &[usize], deaf: Option<&Path>, count: usize, seed: u64) -> Vec<String> {
        let disk = Disk::new(&self.place.beside(BASE), &self.events, deaf);
        let mut dice = Dice::new(seed);
        let mut wrong = Vec::new();
        for round in 0..count {
            let moment =
                moments[(round * moments.len() / count + dice.below(moments.len() / count + 1)).min(moments.len() - 1)];
            let keeps = Keeps::ALL[round % Keeps::ALL.len()];
            wrong.extend(self.cut(&disk, moment, keeps, &mut dice).err());
        }
        wrong
    }
}

fn assert_none(wrong: &[String]) {
    assert!(
        wrong.is_empty(),
        "{} cuts: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
}

/// What `strace` tells of a writer.
fn traced(place: &Place, now: i64, turns: &[Turn], killed_at: Killed, rest: fn(&Path)) -> String {
    let file = place.beside("trace");
    let run = Run {
        place,
        key: KEY,
        now,
        turns,
        killed_at,
    };
    let mut command = Command::new("strace");
    command
        .args(["-f", "-y", "-xx", "-s", "100000000", "--seccomp-bpf", "-e"])
        .arg(format!("trace={}", trace::CALLS))
        .arg("-o")
        .arg(&file)
        .arg(child::program())
        .args(child::arguments(&run));
    let mut writer = child::listen(command, turns);
    writer.hear_all();
    rest(&file);
    let ended = writer.end();
    assert_eq!(ended.is_ended, killed_at.is_none(), "{}", ended.complaint);
    std::fs::read_to_string(&file).expect("a trace")
}

/// A store that has been written to before, and a writer that replaces most of it several times.
fn recording(seed: u64, each: usize) -> Recording {
    let mut trial = Trial::new(seed);
    trial.write_all(20);
    let turns = trial.turns(each);
    let (place, before) = trial.into_parts();
    Recording::new(place, before, turns)
}

#[test]
fn whatever_a_disk_keeps_of_what_was_not_synced_nothing_acknowledged_is_lost() {
    let recording = recording(11, 80);
    let wrong = recording.cut_often(None, 150, 1);
    assert_none(&wrong);
}

/// A writer that is killed leaves to the next one what the system has and the disk may not have.
#[test]
fn what_is_built_on_what_a_killed_writer_left_is_not_lost_either() {
    for (round, step) in [Step::RecordsApplied, Step::RecordsFlushed, Step::SlotsDestroyed]
        .into_iter()
        .enumerate()
    {
        let mut trial = Trial::new(14);
        trial.write_all(5);
        let turns = trial.turns(3);
        let fresh = |index: usize| Turn {
            thread: THREADS,
            act: Act::Apply {
                namespace: "one".to_owned(),
                changes: vec![Change::Put {
                    name: format!("{}name-{index}", name_prefix(THREADS)),
                    value: Value {
                        text: format!("after-the-kill-{index}."),
                        bytes: 500,
                    },
                    ttl_seconds: None,
                    class: 0,
                }],
            },
        };
        let (place, before) = trial.into_parts();
        let runs = vec![(turns, Some((step, 1))), ((0..6).map(fresh).collect(), None)];
        let recording = Recording::of_runs(place, START, before, runs);
        let wrong = recording.cut_often(None, 60, 5 + round as u64);
        assert_none(&wrong);
    }
}

#[test]
fn a_rotation_that_loses_power_goes_on_and_loses_nothing() {
    let mut trial = Trial::new(15);
    trial.write_all(20);
    let key = OTHER_KEY.to_owned();
    let turns = trial.turns_beside(10, Act::Rotate { key });
    let (place, before) = trial.into_parts();
    let recording = Recording::new(place, before, turns);
    let wrong = recording.cut_often(None, 100, 6);
    assert_none(&wrong);
    let rotating = recording.rotating.get();
    assert!((1..100).contains(&rotating), "{rotating} cuts were in the rotation");
}

#[test]
fn a_sweep_that_loses_power_loses_nothing_and_brings_nothing_back() {
    let mut trial = Trial::new(16);
    trial.write_all(30);
    let turns = trial.turns_beside(5, Act::Sweep);
    let (place, mut before) = trial.into_parts();
    let now = START + 5000;
    let all = before.len();
    forget_expired(&mut before, now);
    assert!(before.len() < all, "nothing has expired");
    let recording = Recording::of_runs(place, now, before, vec![(turns, None)]);
    let wrong = recording.cut_often(None, 100, 7);
    assert_none(&wrong);
    let unswept = recording.unswept.get();
    assert!(
        (1..100).contains(&unswept),
        "{unswept} cuts were before the end of the sweep"
    );
}

#[test]
fn without_the_syncs_of_the_store_losses_are_found() {
    let recording = recording(12, 15);
    assert_eq!(recording.cut_often(None, 20, 2), [""; 0]);
    for deaf in ["slots", "records/db"] {
        let wrong = recording.cut_often(Some(Path::new(deaf)), 20, 3);
        assert!(!wrong.is_empty(), "nobody noticed that `{deaf}` was never synced");
    }
}

const RECORDS: usize = 2000;

/// What one thread does to its records, so many at a time.
fn turns_of(changes: impl Iterator<Item = Change>, at_once: usize) -> Vec<Turn> {
    let changes: Vec<Change> = changes.collect();
    let together = changes.chunks(at_once).map(|some| Turn {
        thread: 0,
        act: Act::Apply {
            namespace: "one".to_owned(),
            changes: some.to_vec(),
        },
    });
    together.collect()
}

/// The size of sled's segments.
const SEGMENT_BYTES: usize = 2 << 20;

/// What a segment of sled's begins with says where its content is in the order of all; none: it was never used.
fn order_of(segment: &[u8]) -> Option<i64> {
    let order = i64::from_le_bytes(segment.get(4..12)?.try_into().ok()?) ^ i64::MAX;
    (order >= 0 && order % SEGMENT_BYTES as i64 == 0).then_some(order)
}

/// How many segments were begun after this moment where there was an older one.
fn used_again(recording: &Recording, moment: usize) -> usize {
    let base = std::fs::read(recording.place.beside(BASE).join(DATABASE)).expect("a database");
    let mut orders: BTreeMap<u64, i64> = BTreeMap::new();
    for (index, segment) in base.chunks(SEGMENT_BYTES).enumerate() {
        orders.extend(order_of(segment).map(|order| ((index * SEGMENT_BYTES) as u64, order)));
    }
    let mut count = 0;
    for event in &recording.events {
        let Happened::Write { path, at, data } = &event.what else {
            continue;
        };
        let begins = path == Path::new(DATABASE) && at % SEGMENT_BYTES as u64 == 0;
        if let Some(order) = order_of(data).filter(|_| begins) {
            let older = orders.insert(*at, order).filter(|older| *older < order);
            count += usize::from(older.is_some() && event.done > moment);
        }
    }
    count
}

const DATABASE: &str = "records/db";

/// Moments at which the database was written.
fn writes(recording: &Recording, from: usize) -> Vec<usize> {
    let database = Path::new(DATABASE);
    let is_one = |event: &&Event| matches!(&event.what, Happened::Write { path, .. } if path == database);
    let written = recording.events.iter().filter(is_one).map(|event| event.done);
    written.filter(|done| *done > from).collect()
}

/// A writer that deletes most of a store, reads all that is left, and writes again in short commits and in long ones, so that sled
/// cleans and writes over what it has cleaned; and so many threads that read beside it.
fn cleaning(readers: usize) -> Recording {
    let name = |index: usize| format!("{}name-{index}", name_prefix(0));
    let put = |index: usize| Change::Put {
        name: name(index),
        value: Value {
            text: format!("the-value-of-{index}."),
            bytes: 15_000,
        },
        ttl_seconds: None,
        class: 1,
    };
    let read = |thread: usize| Turn {
        thread,
        act: Act::Read {
            namespace: "one".to_owned(),
        },
    };
    let puts = turns_of((0..RECORDS).map(put), 100);
    let place = Place::new();
    let run = Run {
        place: &place,
        key: KEY,
        now: START,
        turns: &puts,
        killed_at: None,
    };
    let ended = child::start(&run).end();
    assert!(ended.is_ended, "{}", ended.complaint);
    let mut before = State::new();
    puts.iter().for_each(|turn| perform(&mut before, &turn.act, START));
    let gone = (0..RECORDS).filter(|index| !index.is_multiple_of(3));
    let mut turns = turns_of(gone.map(|index| Change::Delete { name: name(index) }), 1000);
    turns.push(read(0));
    for (at_once, count) in [(20, 200), (400, 1200), (20, 200)] {
        turns.extend(turns_of((RECORDS..RECORDS + count).map(put), at_once));
    }
    turns.extend((1..=readers).flat_map(|thread| std::iter::repeat_n(read(thread), 6)));
    Recording::of_resting_runs(place, START, before, vec![(turns, None)], |_trace| {
        std::thread::sleep(Duration::from_secs(1));
    })
}

/// sled moves what is left in segments that are mostly empty, and uses their place again, without a sync of its own, also for who
/// only reads: what it has moved must be on the disk before, also where a commit is longer than a segment.
#[test]
fn what_is_cleaned_is_not_lost_and_nothing_is_while_nobody_writes() {
    let mut recording = cleaning(0);
    let told = |event: &&Event| matches!(event.what, Happened::Told(_));
    let told: Vec<usize> = recording.events.iter().filter(told).map(|event| event.done).collect();
    let end = *told.last().expect("the end of what was written");
    assert_eq!(writes(&recording, end), [0; 0], "nobody writes any more");
    assert!(used_again(&recording, 0) > 8, "hardly anything was written over");
    let moments = writes(&recording, 0);
    assert_none(&recording.cut_at(&moments, None, 80, 8));
    // The control: as if nothing was synced but what is acknowledged, before it is.
    let syncs: Vec<usize> = recording
        .events
        .iter()
        .filter(is_of_database)
        .map(|event| event.done)
        .collect();
    let acknowledged = |sync: &usize| {
        let next = told.iter().find(|told| *told > sync);
        !syncs.iter().any(|later| later > sync && Some(later) < next)
    };
    let kept: Vec<usize> = syncs.iter().copied().filter(acknowledged).collect();
    assert!(kept.len() < syncs.len(), "{} of {} syncs", kept.len(), syncs.len());
    recording
        .events
        .retain(|event| !is_of_database(&event) || kept.contains(&event.done));
    let mut seeds = 9..21;
    assert!(
        seeds.any(|seed| !recording.cut_at(&moments, None, 40, seed).is_empty()),
        "nobody noticed that nothing was synced that sled moved"
    );
}

fn is_of_database(event: &&Event) -> bool {
    matches!(&event.what, Happened::Sync(path) if path == Path::new(DATABASE))
}

#[test]
fn what_is_cleaned_while_others_read_is_not_lost() {
    let recording = cleaning(2);
    assert!(used_again(&recording, 0) > 8, "hardly anything was written over");
    let moments = writes(&recording, 0);
    assert_none(&recording.cut_at(&moments, None, 60, 14));
}

#[test]
fn a_store_that_was_just_made_loses_nothing_either() {
    let place = Place::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
        .create(place.store())
        .expect("an empty folder");
    let turns = Trial::new(13).turns(5);
    let recording = Recording::new(place, State::new(), turns);
    let wrong = recording.cut_often(None, 100, 4);
    assert_none(&wrong);
}

const KEYRING: &str = "keyring";

/// A start that mends what the cut before left is cut as well, at each write of the keyring.
#[test]
fn a_keyring_whose_mending_loses_power_is_mended_by_the_next_start() {
    for torn in 0..2 {
        let mut trial = Trial::new(17);
        trial.write_all(5);
        let (place, before) = trial.into_parts();
        let path = place.store().join(KEYRING);
        let mut keyring = std::fs::read(&path).expect("a keyring");
        let page = keyring.len() / 2;
        keyring[torn * page + page / 2..(torn + 1) * page].fill(7);
        std::fs::write(&path, keyring).expect("a keyring");
        // Changes nothing.
        let turn = Turn {
            thread: THREADS,
            act: Act::Read {
                namespace: "one".to_owned(),
            },
        };
        let recording = Recording::new(place, before, vec![turn]);
        let is_one = |event: &&Event| matches!(&event.what, Happened::Write { path, .. } if path == Path::new(KEYRING));
        let written: Vec<usize> = recording.events.iter().filter(is_one).map(|event| event.done).collect();
        assert!(!written.is_empty(), "nothing was mended");
        assert_none(&recording.cut_at(&written, None, 50, 18 + torn as u64));
    }
}

#[test]
fn the_folder_of_a_new_store_is_on_the_disk_before_anything_is_acknowledged() {
    for is_left in [false, true] {
        let place = Place::new();
        if is_left {
            // By a process that was killed before it synced the folder above.
            std::fs::DirBuilder::new()
                .mode(0o700)
                .create(place.store())
                .expect("a folder");
        }
        let turns = Trial::new(20).turns(1);
        let text = traced(&place, START, &turns, None, |_trace| ());
        let events = trace::parse(&text, &place.beside(""));
        let is_made = |event: &Event| event.what == Happened::Mkdir(PathBuf::from("store"));
        let is_told = |event: &Event| matches!(&event.what, Happened::Told(line) if line.contains(' '));
        let made = events.iter().position(is_made);
        assert_eq!(made.is_none(), is_left);
        let told = events.iter().position(is_told).expect("a turn is acknowledged");
        let above = Happened::Sync(PathBuf::new());
        assert!(
            events[made.unwrap_or(0)..told].iter().any(|event| event.what == above),
            "the folder above was never synced"
        );
    }
}

#[test]
fn each_folder_above_a_new_store_is_on_the_disk_before_anything_is_made_in_it() {
    const FOLDERS: [(&str, &str, &str); 2] = [("", "new", "new/deeper"), ("new", "new/deeper", "new/deeper/store")];
    for is_left in [false, true] {
        let place = Place::with_store_at("new/deeper/store");
        if is_left {
            // By a process that was killed before it synced the folder above.
            std::fs::DirBuilder::new()
                .mode(0o700)
                .create(place.beside("new"))
                .expect("a folder");
        }
        let turns = Trial::new(21).turns(1);
        let text = traced(&place, START, &turns, None, |_trace| ());
        let events = trace::parse(&text, &place.beside(""));
        let made = |path: &str| {
            let made = Happened::Mkdir(PathBuf::from(path));
            events.iter().position(|event| event.what == made)
        };
        assert_eq!(made("new").is_none(), is_left);
        for (above, folder, below) in FOLDERS {
            let below = made(below).expect("a folder that is made");
            let synced = Happened::Sync(PathBuf::from(above));
            assert!(
                events[made(folder).unwrap_or(0)..below]
                    .iter()
                    .any(|event| event.what == synced),
                "the name of `{folder}` was not synced"
            );
        }
    }
}
