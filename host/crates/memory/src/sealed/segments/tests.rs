//! What sled itself writes, and what becomes of that.

use std::io::Write as _;

use aral_runtime::files;
use proptest::prelude::*;

use super::*;

/// The file of a database of some segments, each value of which is another one, and which is closed.
#[expect(clippy::disallowed_methods, reason = "a test reads a file")]
fn database() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let settings = sled::Config::new().path(folder.path()).segment_size(SEGMENT_BYTES);
    let database = settings.open().unwrap();
    let mut seed = 1_u64;
    for index in 0..1000_u32 {
        let value: Vec<u8> = (0..4000)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                seed.to_be_bytes()[0]
            })
            .collect();
        database.insert(index.to_be_bytes(), value).unwrap();
        if index % 10 == 0 {
            database.flush().unwrap();
        }
    }
    database.flush().unwrap();
    drop(database);
    std::fs::read(folder.path().join("db")).unwrap()
}

fn file(database: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(database).unwrap();
    file
}

fn seen(database: &[u8], snapshot: u64) -> bool {
    is_whole(&file(database), snapshot).unwrap()
}

fn header(database: &[u8], from: usize) -> Option<Header> {
    Header::parse(database[from..].first_chunk()?)
}

/// Where segments lie that sled no longer looks for the end of the log in, and the number that the first behind them has.
fn finished(database: &[u8]) -> (Vec<usize>, u64) {
    let at = (0..database.len()).step_by(SEGMENT_BYTES);
    let headers: Vec<(usize, Header)> = at.filter_map(|from| Some((from, header(database, from)?))).collect();
    let stable = headers.iter().map(|(_, header)| header.stable).max().unwrap();
    let floor = stable - stable % SIZE;
    let finished = headers.iter().filter(|(_, header)| header.lsn < floor);
    (finished.map(|(from, _)| *from).collect(), floor)
}

#[test]
fn what_sled_has_written_is_whole_and_any_bit_that_changes_is_seen() {
    let sound = database();
    assert!(seen(&sound, 0));
    let (finished, _) = finished(&sound);
    assert!(finished.len() >= 2, "{finished:?}");
    for from in finished {
        // The last bytes are of no message.
        for at in (0..SEGMENT_BYTES - HEAD_BYTES_MAX).step_by(SEGMENT_BYTES / 31) {
            let mut damaged = sound.clone();
            damaged[from + at] ^= 1 << (at % 8);
            assert!(!seen(&damaged, 0), "byte {at} of {from}");
        }
        for sectors in [0..1, 0..8, 1..2, 2000..2001] {
            let mut half = sound.clone();
            half[from + sectors.start * 512..from + sectors.end * 512].fill(0);
            assert!(!seen(&half, 0), "{sectors:?} of {from}");
        }
        let mut freed = sound.clone();
        freed[from..from + SEGMENT_BYTES].fill(0);
        assert!(seen(&freed, 0), "{from}");
    }
}

#[test]
fn what_a_snapshot_has_is_not_read() {
    let sound = database();
    let (finished, floor) = finished(&sound);
    let mut damaged = sound;
    finished.iter().for_each(|from| damaged[from + 1000] ^= 1);
    assert!(!seen(&damaged, 0));
    assert!(seen(&damaged, floor + 5));
    // Nor is what has lost its header.
    finished.iter().for_each(|from| damaged[from + 7] ^= 1);
    finished.iter().for_each(|from| damaged[from + 1000] ^= 1);
    assert!(!seen(&damaged, 0));
    assert!(seen(&damaged, floor + 5));
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test makes a folder")]
fn the_newest_snapshot_is_the_last_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let records = folder.path().join(tree::NAME);
    std::fs::create_dir(&records).unwrap();
    let dir = files::open_root(folder.path()).unwrap();
    assert_eq!(newest_snapshot(&dir).unwrap(), 0);
    for name in [
        "db",
        "snap.0000000000200005",
        "snap.0000000000A00001",
        "snap.0000000000B00001.generating",
    ] {
        std::fs::write(records.join(name), "").unwrap();
    }
    assert_eq!(newest_snapshot(&dir).unwrap(), 0xa0_0001);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test makes a folder")]
fn a_file_is_read_also_where_somebody_else_reads_it_and_waited_for_where_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let records = folder.path().join(tree::NAME);
    std::fs::create_dir(&records).unwrap();
    std::fs::write(records.join("db"), "").unwrap();
    let dir = files::open_root(folder.path()).unwrap();
    let other = File::open(records.join("db")).unwrap();
    other.try_lock_shared().unwrap();
    assert!(are_whole(&dir));
    other.unlock().unwrap();
    other.try_lock().unwrap();
    std::thread::scope(|scope| {
        let looks = scope.spawn(|| are_whole(&dir));
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(other);
        assert!(looks.join().unwrap());
    });
}

#[test]
fn an_empty_file_is_whole_and_the_beginning_of_one_is_not() {
    assert!(seen(&[], 0) && seen(&[0; 19], 0) && seen(&[0; 4000], 0));
    assert!(!seen(&[7; 3], 0));
}

proptest! {
    #[test]
    fn noise_is_no_message_and_does_no_harm(
        noise in prop::collection::vec(any::<u8>(), 0..600),
        number in any::<u64>(),
        at in 0_usize..700,
    ) {
        message(&noise, at);
        is_whole_to_its_end(&noise, number);
        is_free(&noise, &(number..u64::MAX));
        seen(&noise, number / 2);
    }
}

#[test]
fn what_is_replayed_is_written_once_more_and_nothing_else() {
    use std::os::unix::fs::MetadataExt as _;

    let header = |lsn: u64| {
        let number = |lsn: u64| (lsn.cast_signed() ^ i64::MAX).to_le_bytes();
        let rest = [number(lsn), number(lsn)].concat();
        [(!crc32fast::hash(&rest)).to_le_bytes().to_vec(), rest].concat()
    };
    // Behind their headers there is nothing: only what is written takes room on the disk.
    let file = tempfile::tempfile().unwrap();
    for lsn in [0, SIZE, 2 * SIZE] {
        file.write_all_at(&header(lsn), lsn).unwrap();
        assert_eq!(Header::read(&file, lsn).unwrap(), Some(Header { lsn, stable: lsn }));
    }
    file.set_len(4 * SIZE).unwrap();
    file.sync_all().unwrap();
    let before = file.metadata().unwrap().blocks();
    write_again_from(&file, SIZE + 5).unwrap();
    file.sync_all().unwrap();
    let written = (file.metadata().unwrap().blocks() - before) * 512;
    assert!((2 * SIZE - 65_536..=2 * SIZE + 65_536).contains(&written), "{written}");
    assert_eq!(
        Header::read(&file, 2 * SIZE).unwrap(),
        Some(Header {
            lsn: 2 * SIZE,
            stable: 2 * SIZE
        })
    );
}
