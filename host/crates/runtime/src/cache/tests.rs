//! The cache: what it stores it finds again, and nothing that anybody else wrote is ever run.
#![expect(clippy::disallowed_methods, reason = "tests look at files")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use aral_contract::{Digest, Metering};

use super::{CacheError, CacheOptions, HEADER_BYTES};
use crate::compile::{CompileError, CompilerKind, Looker};
use crate::files::FilesError;
use crate::runtime::{Runtime, RuntimeError, RuntimeOptions};
use crate::testing::{child_program, component, one_thread, run};

struct Place {
    folder: tempfile::TempDir,
    directory: PathBuf,
    key_file: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            directory: folder.path().join("state/cache"),
            key_file: folder.path().join("keys/cache.key"),
            folder,
        }
    }

    fn options(&self) -> CacheOptions {
        CacheOptions {
            directory: self.directory.clone(),
            key_file: self.key_file.clone(),
            bytes_max: 1 << 30,
        }
    }

    fn open(&self, compiler: CompilerKind) -> Result<Runtime, RuntimeError> {
        Runtime::new(RuntimeOptions {
            concurrent_calls_max: 2,
            cache: Some(self.options()),
            compiler,
            ..RuntimeOptions::default()
        })
    }

    /// A runtime that can compile.
    fn compiling(&self) -> Runtime {
        self.open(CompilerKind::InProcess).unwrap()
    }

    /// A runtime that cannot compile: only what is in the cache comes out.
    fn reading(&self) -> Runtime {
        self.open(CompilerKind::child("/nonexistent/compiler".into(), Vec::new()))
            .unwrap()
    }

    fn entries(&self) -> Vec<PathBuf> {
        let mut entries: Vec<_> = std::fs::read_dir(&self.directory)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        entries
    }

    fn only_entry(&self) -> PathBuf {
        let entries = self.entries();
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries[0].clone()
    }
}

const METERED: Metering = Metering::Metered;

async fn is_cached(runtime: &Runtime, bytes: &[u8], metering: Metering) -> bool {
    match runtime.compile(bytes, metering).await {
        Ok(_) => true,
        Err(CompileError::Child(_)) => false,
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn what_is_compiled_once_is_found_by_the_next_process() {
    let place = Place::new();
    let bytes = component(5, 20);
    assert!(!is_cached(&place.reading(), &bytes, METERED).await);
    place.compiling().compile(&bytes, METERED).await.unwrap();
    let next = place.reading();
    let found = next.compile(&bytes, METERED).await.unwrap();
    assert_eq!(run(next.engine(METERED).unwrap(), &found).await, 5);
    // Neither another engine nor another component is served from it.
    assert!(!is_cached(&next, &bytes, Metering::EpochOnly).await);
    assert!(!is_cached(&next, &component(6, 20), METERED).await);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.directory), 0o700);
    assert_eq!(mode(&place.key_file), 0o600);
    assert_eq!(mode(&place.only_entry()), 0o600);
}

/// Nothing compiles it once more, to find out the same.
#[tokio::test]
async fn what_is_in_the_cache_and_does_not_fit_is_refused_as_it_is() {
    let place = Place::new();
    let bytes = wat::parse_str("(component (core module $m (memory 17)) (core instance (instantiate $m)))").unwrap();
    place.compiling().compile(&bytes, METERED).await.unwrap();
    let smaller = Runtime::new(RuntimeOptions {
        concurrent_calls_max: 2,
        memory_bytes_slot_max: 1 << 20,
        cache: Some(place.options()),
        compiler: CompilerKind::child("/nonexistent/compiler".into(), Vec::new()),
        ..RuntimeOptions::default()
    });
    let error = smaller.unwrap().compile(&bytes, METERED).await.err().unwrap();
    assert!(matches!(&error, CompileError::Unfit { .. }), "{error}");
}

#[test]
fn what_is_in_the_cache_is_loaded_off_the_executor() {
    let place = Place::new();
    let bytes = component(5, 20);
    one_thread().block_on(async {
        place.compiling().compile(&bytes, METERED).await.unwrap();
        // The only thread for what blocks is taken: nobody but the executor could load it now.
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let taken = tokio::task::spawn_blocking(move || wait.recv());
        let next = place.reading();
        let mut loading = std::pin::pin!(next.compile(&bytes, METERED));
        assert!(tokio::time::timeout(Duration::ZERO, &mut loading).await.is_err());
        drop(go_on);
        assert!(loading.await.is_ok());
        assert!(taken.await.unwrap().is_err());
    });
}

/// Each damage is noticed, and compiling again puts a good entry in place of the bad one.
#[tokio::test]
async fn damaged_forged_and_swapped_entries_are_ignored_and_replaced() {
    let place = Place::new();
    let bytes = component(5, 20);
    place.compiling().compile(&bytes, METERED).await.unwrap();
    let entry = place.only_entry();
    let good = std::fs::read(&entry).unwrap();
    let flip = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 1;
        bad
    };
    let other_place = Place::new();
    other_place.compiling().compile(&bytes, METERED).await.unwrap();
    let forged_with_another_key = std::fs::read(other_place.only_entry()).unwrap();
    let damages: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("header cut", good[..HEADER_BYTES - 1].to_vec()),
        ("code cut", good[..good.len() - 1].to_vec()),
        ("code appended", [&good[..], b"x"].concat()),
        ("other magic", flip(0)),
        ("other MAC", flip(HEADER_BYTES - 1)),
        ("first byte of code", flip(HEADER_BYTES)),
        ("last byte of code", flip(good.len() - 1)),
        ("code without MAC", good[HEADER_BYTES..].to_vec()),
        ("zero MAC", [&good[..8], &[0; 32], &good[HEADER_BYTES..]].concat()),
        ("another key", forged_with_another_key),
    ];
    for (name, damage) in damages {
        std::fs::write(&entry, damage).unwrap();
        assert!(!is_cached(&place.reading(), &bytes, METERED).await, "{name} was taken");
        let runtime = place.compiling();
        let compiled = runtime.compile(&bytes, METERED).await.unwrap();
        assert_eq!(run(runtime.engine(METERED).unwrap(), &compiled).await, 5, "{name}");
        assert!(
            is_cached(&place.reading(), &bytes, METERED).await,
            "{name} was not replaced"
        );
    }
}

#[tokio::test]
async fn an_entry_under_the_name_of_another_is_not_taken() {
    let place = Place::new();
    let (first, second) = (component(1, 5), component(2, 5));
    let runtime = place.compiling();
    runtime.compile(&first, METERED).await.unwrap();
    let first_entry = place.only_entry();
    runtime.compile(&second, METERED).await.unwrap();
    runtime.compile(&first, Metering::EpochOnly).await.unwrap();
    let good = std::fs::read(&first_entry).unwrap();
    for entry in place.entries().iter().filter(|entry| **entry != first_entry) {
        std::fs::write(entry, &good).unwrap();
    }
    let reading = place.reading();
    assert!(is_cached(&reading, &first, METERED).await);
    assert!(!is_cached(&reading, &second, METERED).await);
    assert!(!is_cached(&reading, &first, Metering::EpochOnly).await);
}

#[tokio::test]
async fn a_link_or_fifo_in_place_of_an_entry_is_not_followed() {
    let place = Place::new();
    let bytes = component(5, 0);
    place.compiling().compile(&bytes, METERED).await.unwrap();
    let entry = place.only_entry();
    let outside = place.folder.path().join("moved");
    std::fs::rename(&entry, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &entry).unwrap();
    assert!(!is_cached(&place.reading(), &bytes, METERED).await);
    std::fs::remove_file(&entry).unwrap();
    assert!(Command::new("mkfifo").arg(&entry).status().unwrap().success());
    assert!(!is_cached(&place.reading(), &bytes, METERED).await);
    place.compiling().compile(&bytes, METERED).await.unwrap();
    assert!(is_cached(&place.reading(), &bytes, METERED).await);
}

#[tokio::test]
async fn the_oldest_entries_go_when_there_are_too_many() {
    let place = Place::new();
    let all: Vec<Vec<u8>> = (1..=4).map(|value| component(value, 5)).collect();
    let runtime = place.compiling();
    let mut age = 4;
    for bytes in &all[..3] {
        runtime.compile(bytes, METERED).await.unwrap();
    }
    for bytes in &all[..3] {
        let name = super::EntryName {
            component: aral_contract::Digest::of(bytes),
            settings: runtime.engine(METERED).unwrap().settings_digest(),
        };
        let file = std::fs::File::options()
            .write(true)
            .open(place.directory.join(name.file()))
            .unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60 * age))
            .unwrap();
        age -= 1;
    }
    let abandoned = place.directory.join(".aral-tmp-1-2-3");
    let recent = place.directory.join(".aral-tmp-4-5-6");
    for path in [&abandoned, &recent] {
        std::fs::write(path, b"half").unwrap();
    }
    std::fs::File::options()
        .write(true)
        .open(&abandoned)
        .unwrap()
        .set_modified(SystemTime::now() - Duration::from_secs(7200))
        .unwrap();
    let one_entry = std::fs::metadata(place.entries().last().unwrap()).unwrap().len();
    let small = Runtime::new(RuntimeOptions {
        concurrent_calls_max: 2,
        cache: Some(CacheOptions {
            bytes_max: one_entry * 5 / 2,
            ..place.options()
        }),
        ..RuntimeOptions::default()
    })
    .unwrap();
    small.compile(&all[3], METERED).await.unwrap();
    let reading = place.reading();
    let mut kept = Vec::new();
    for bytes in &all {
        kept.push(is_cached(&reading, bytes, METERED).await);
    }
    assert_eq!(kept, [false, false, true, true]);
    assert!(!abandoned.exists() && recent.exists());
}

#[test]
fn what_was_found_in_a_component_is_kept_for_the_next_process() {
    let place = Place::new();
    let (one, other) = (Digest::of(b"one"), Digest::of(b"other"));
    let keep = |found: &[u8]| place.reading().looker().keep(one, "a/1", found);
    let kept = |component: Digest, form: &str| place.reading().looker().kept(component, form);
    assert_eq!(kept(one, "a/1"), None);
    keep(b"found");
    assert_eq!(kept(one, "a/1"), Some(b"found".to_vec()));
    // Neither in another form nor of another component.
    assert_eq!((kept(one, "a/2"), kept(other, "a/1")), (None, None));

    let entry = place.only_entry();
    let mut changed = std::fs::read(&entry).unwrap();
    *changed.last_mut().unwrap() ^= 1;
    std::fs::write(&entry, changed).unwrap();
    assert_eq!(kept(one, "a/1"), None);
    keep(b"again");
    assert_eq!(kept(one, "a/1"), Some(b"again".to_vec()));

    let nowhere = Looker::from(CompilerKind::InProcess);
    nowhere.keep(one, "a/1", b"found");
    assert_eq!(nowhere.kept(one, "a/1"), None);
}

#[test]
fn the_key_must_be_private_whole_and_outside_of_the_cache() {
    let place = Place::new();
    place.compiling();
    let open = || place.open(CompilerKind::InProcess).map(drop);

    std::fs::set_permissions(&place.key_file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = open().unwrap_err();
    assert!(
        matches!(
            error,
            RuntimeError::Cache(CacheError::Files(FilesError::Mode { mode: 0o640, .. }))
        ),
        "{error}"
    );
    assert!(error.to_string().contains("chmod 600"), "{error}");
    std::fs::set_permissions(&place.key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    open().unwrap();

    std::fs::write(&place.key_file, [0; 31]).unwrap();
    assert!(matches!(
        open().unwrap_err(),
        RuntimeError::Cache(CacheError::KeyMalformed { .. })
    ));
    std::fs::write(&place.key_file, [0; 33]).unwrap();
    assert!(matches!(
        open().unwrap_err(),
        RuntimeError::Cache(CacheError::Files(FilesError::TooLarge { .. }))
    ));
    std::fs::write(&place.key_file, [0; 32]).unwrap();
    open().unwrap();

    std::fs::set_permissions(&place.directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    let error = open().unwrap_err();
    assert!(
        matches!(
            error,
            RuntimeError::Cache(CacheError::Files(FilesError::Mode { mode: 0o755, .. }))
        ),
        "{error}"
    );
    std::fs::set_permissions(&place.directory, std::fs::Permissions::from_mode(0o700)).unwrap();

    for inside in [place.directory.join("key"), place.directory.join("../cache/key")] {
        let options = CacheOptions {
            key_file: inside,
            ..place.options()
        };
        let runtime = Runtime::new(RuntimeOptions {
            cache: Some(options),
            ..RuntimeOptions::default()
        });
        assert!(matches!(
            runtime.unwrap_err(),
            RuntimeError::Cache(CacheError::KeyInside { .. })
        ));
    }
}

/// Real processes at once on a new machine: they agree on one key, none fails, and one whole entry is left.
#[tokio::test]
async fn several_processes_at_once_share_one_cache() {
    for _ in 0..3 {
        let place = Place::new();
        let bytes = component(5, 50);
        let file = place.folder.path().join("component.wasm");
        std::fs::write(&file, &bytes).unwrap();
        let children: Vec<_> = (0..8)
            .map(|_| {
                Command::new(child_program())
                    .arg("cache")
                    .args([&place.directory, &place.key_file, &file])
                    .stdout(Stdio::piped())
                    .spawn()
                    .unwrap()
            })
            .collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
        place.only_entry();
        assert!(is_cached(&place.reading(), &bytes, METERED).await);
    }
}
