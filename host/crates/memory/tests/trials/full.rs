//! A disk that is full, and one that is read-only: an error, and nothing that was acknowledged is lost. The disks are real
//! ones in memory, in a namespace of mounts of its own.

use std::process::Command;

use crate::child::{self, Run};
use crate::outcome::settle;
use crate::script::{Act, Change, State, Turn, Value};
use crate::support::{KEY, Place, START, assert_usable, copy_folder, files_below, open, read_all};

/// Runs `prepare` and then the writer where `$DISK` may be mounted; afterwards what is on it is copied to `$AFTER`.
fn on_a_disk(place: &Place, run: &Run<'_>, prepare: &str) -> child::Ended {
    let disk = place.store();
    std::fs::create_dir_all(&disk).expect("a folder");
    let mut arguments = child::arguments(run);
    arguments[0] = disk.join("store").into_os_string().into_string().expect("UTF-8");
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg(format!(
            "set -e; {prepare}\n\"$WRITER\" \"$@\" && ended=0 || ended=$?\ncp -a \"$DISK\" \"$AFTER\"; exit $ended"
        ))
        .arg("sh")
        .args(arguments)
        .env("DISK", &disk)
        .env("BEFORE", place.beside("before"))
        .env("AFTER", place.beside("after"))
        .env("WRITER", child::program());
    child::listen(command, run.turns).end()
}

fn puts(thread: usize, from: usize, count: usize, bytes: usize) -> Vec<Turn> {
    let put = |index: usize| Change::Put {
        name: format!("thread-{thread}-name-{index}"),
        value: Value {
            text: format!("the-value-of-{index}-bytes-{bytes}."),
            bytes,
        },
        ttl_seconds: None,
        class: 1,
    };
    let act = |index| Act::Apply {
        namespace: "space".to_owned(),
        changes: vec![put(index)],
    };
    (from..from + count)
        .map(|index| Turn {
            thread,
            act: act(index),
        })
        .collect()
}

/// Fills a disk of 12 MiB, and says what the writer complained of.
fn fill(bytes: usize, prepare: &str) -> String {
    let place = Place::new();
    let turns = [
        puts(0, 0, 20_000_000 / bytes, bytes),
        puts(1, 0, 20_000_000 / bytes, bytes),
    ]
    .concat();
    let run = Run {
        place: &place,
        key: KEY,
        now: START,
        turns: &turns,
        killed_at: None,
    };
    let ended = on_a_disk(
        &place,
        &run,
        &format!("mount -t tmpfs -o size=12m none \"$DISK\"; {prepare}"),
    );
    assert!(ended.is_open && !ended.is_ended, "{ended:?}");
    // The same files on a disk with room.
    let after = place.beside("after").join("store");
    let store = open(&after, KEY, START).expect("the store opens where there is room");
    let found = read_all(&*store.memory()).expect("records");
    settle(&State::new(), &turns, &ended.acknowledged, &found, START).expect("what was acknowledged");
    assert_eq!(store.status().expect("a status").slots_used as usize, found.len());
    assert_usable(&store);
    ended.complaint
}

fn assert_told(complaint: &str) {
    let told = complaint.contains("the disk of the store is full") || complaint.contains("the store cannot write");
    assert!(told && !complaint.contains("panicked"), "{complaint}");
}

#[test]
fn a_disk_that_fills_up_is_told_and_loses_nothing() {
    for bytes in [900, 15_000, 150_000] {
        assert_told(&fill(bytes, ""));
    }
}

#[test]
fn a_disk_that_another_program_fills_in_the_middle_of_a_write_loses_nothing() {
    let mut in_the_middle = 0;
    for round in 0..8 {
        // A while after the first record is there.
        let filler = format!(
            "(until [ -s \"$DISK/store/records/db\" ]; do sleep 0.01; done; sleep 0.0{round}; \
             cat /dev/zero > \"$DISK/filler\") > /dev/null 2>&1 < /dev/null &"
        );
        let complaint = fill([900, 150_000][round % 2], &filler);
        assert_told(&complaint);
        in_the_middle += usize::from(complaint.contains("the store cannot write"));
    }
    assert!(in_the_middle > 0, "no write met the end of the disk");
}

#[test]
fn a_disk_that_is_read_only_gives_an_error_and_is_not_touched() {
    let place = Place::new();
    let turns = puts(0, 0, 10, 500);
    let run = Run {
        place: &place,
        key: KEY,
        now: START,
        turns: &turns,
        killed_at: None,
    };
    let ended = child::start(&run).end();
    assert!(ended.is_ended, "{}", ended.complaint);
    copy_folder(&place.store(), &place.beside("before"));
    let before = files_below(&place.beside("before"));
    let mount = "mount -t tmpfs none \"$DISK\"; cp -a \"$BEFORE\" \"$DISK/store\"; mount -o remount,ro \"$DISK\"";
    let ended = on_a_disk(&place, &run, mount);
    assert!(!ended.is_open && ended.acknowledged == [0], "{ended:?}");
    let lock = place.store().join("store/lock");
    let told = format!("cannot open `{}`", lock.display());
    assert!(ended.complaint.contains(&told), "{}", ended.complaint);
    assert!(
        files_below(&place.beside("after").join("store")) == before,
        "a file was touched"
    );
    // The control: the same files where they can be written.
    let store = open(&place.beside("before"), KEY, START).expect("the store opens");
    assert_eq!(read_all(&*store.memory()).expect("records").len(), 10);
}
