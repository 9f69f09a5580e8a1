//! The power goes: every call of a writer to the system is recorded, and the store is opened on what a disk could hold after
//! a cut at many moments. Whatever the disk kept of what was not synced, everything acknowledged is there.

use std::path::Path;
use std::process::Command;

use aral_memory::sealed::Step;

use crate::child::{self, Run};
use crate::disk::{Disk, Keeps};
use crate::kill::{THREADS, Trial};
use crate::outcome::{name_prefix, settle};
use crate::script::{Act, Change, State, Turn, Value};
use crate::support::{Dice, KEY, Place, START, assert_usable, copy_folder, open, read_all};
use crate::trace::{self, Event, Happened};

/// A writer that was recorded.
struct Recording {
    place: Place,
    /// What the store held before, and as which files.
    before: State,
    turns: Vec<Turn>,
    events: Vec<Event>,
    last: usize,
}

/// At which step a writer kills itself, and at which time there.
type Killed = Option<(Step, usize)>;

const BASE: &str = "base";

impl Recording {
    /// Records a writer that does `turns`, on a store that holds `before` already.
    fn new(place: Place, before: State, turns: Vec<Turn>) -> Self {
        Self::of_runs(place, before, vec![(turns, None)])
    }

    /// Records one writer after the other, each with its turns, and the step at which it kills itself.
    fn of_runs(place: Place, before: State, runs: Vec<(Vec<Turn>, Killed)>) -> Self {
        copy_folder(&place.store(), &place.beside(BASE));
        let found = Command::new("strace").arg("-V").output();
        assert!(found.is_ok(), "these tests need `strace`: run `apt-get install strace`");
        let (mut turns, mut text) = (Vec::new(), String::new());
        for (own, killed_at) in runs {
            text.push_str(&traced(&place, &own, killed_at));
            turns.extend(own);
        }
        let events = trace::parse(&text, &place.store());
        let last = text.lines().count();
        Self {
            place,
            before,
            turns,
            events,
            last,
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
        let store = open(folder, KEY, START).map_err(|error| format!("the store does not open: {error:?}"))?;
        let found = read_all(&*store.memory())?;
        let settled = settle(&self.before, &self.turns, &self.acknowledged(moment), &found, START)?;
        let used = store.status().map_err(|error| error.to_string())?.slots_used as usize;
        if used != settled.len() {
            return Err(format!("{used} keys for {} records", settled.len()));
        }
        assert_usable(&store);
        Ok(())
    }

    /// Cuts the power `count` times, at moments that are spread over the recording, and counts what went wrong.
    fn cut_often(&self, deaf: Option<&Path>, count: usize, seed: u64) -> Vec<String> {
        let disk = Disk::new(&self.place.beside(BASE), &self.events, deaf);
        let mut dice = Dice::new(seed);
        // Every moment at which something happened, synced or was told is as good as any.
        let moments: Vec<usize> = self.events.iter().map(|event| event.done).collect();
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

/// What `strace` tells of a writer.
fn traced(place: &Place, turns: &[Turn], killed_at: Killed) -> String {
    let file = place.beside("trace");
    let run = Run {
        place,
        key: KEY,
        now: START,
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
    let ended = child::listen(command, turns).end();
    assert_eq!(ended.is_ended, killed_at.is_none(), "{}", ended.complaint);
    std::fs::read_to_string(&file).expect("a trace")
}

/// A store that has been written to before, and a writer that replaces most of it several times, so that the database
/// uses parts of its file again.
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
    assert!(
        wrong.is_empty(),
        "{} cuts: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
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
        let recording = Recording::of_runs(place, before, runs);
        let wrong = recording.cut_often(None, 60, 5 + round as u64);
        assert!(
            wrong.is_empty(),
            "{step:?}: {} cuts: {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(5)]
        );
    }
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

#[test]
fn a_store_that_was_just_made_loses_nothing_either() {
    let place = Place::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700)
        .create(place.store())
        .expect("an empty folder");
    let turns = Trial::new(13).turns(5);
    let recording = Recording::new(place, State::new(), turns);
    let wrong = recording.cut_often(None, 100, 4);
    assert!(
        wrong.is_empty(),
        "{} cuts: {:#?}",
        wrong.len(),
        &wrong[..wrong.len().min(5)]
    );
}
