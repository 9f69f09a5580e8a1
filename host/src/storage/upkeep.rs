//! What an open store needs now and then: expired records are removed, and epochs end. It knows no thread.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aral_contract::failure::chain;
use aral_contract::{AuditSink, Clock, Event, EventKind};
use aral_memory::StoreError;
use aral_memory::sealed::SealedStore;

use super::epoch::EpochAge;
use super::keeper::{Next, Work};
use super::rotation;
use crate::config::storage::MemoryConfig;

/// Records that one step removes. Stops a sweep from holding up reads and writes.
const SWEEP_RECORDS_MAX: usize = 256;
/// How often it is looked whether an epoch is over. An epoch is at least an hour.
const EPOCH_LOOK_EVERY: Duration = Duration::from_secs(30);
/// Reasons that are told of an epoch that cannot end. Stops a key service that gives another one each time from filling the
/// audit log.
const REASONS_TOLD_MAX: usize = 8;

/// All of it.
pub(super) fn upkeep(
    store: &SealedStore,
    memory: &MemoryConfig,
    clock: &Arc<dyn Clock>,
    sink: &Arc<dyn AuditSink>,
) -> Vec<Work> {
    let swept = store.clone();
    let mut all = vec![Work {
        name: "sweep",
        every: Duration::from_millis(memory.sweep_ms),
        step: Box::new(move |_| sweep(&swept)),
    }];
    all.extend(memory.epoch.as_ref().map(|epoch| {
        let (store, age) = (
            store.clone(),
            EpochAge::new(&memory.dir, epoch.hours, Arc::clone(clock)),
        );
        let (sink, clock) = (Arc::clone(sink), Arc::clone(clock));
        let record = move |kind| {
            sink.record(Event {
                at: clock.now(),
                trace: None,
                kind,
            });
        };
        let mut told = Told::default();
        Work {
            name: "epoch",
            every: EPOCH_LOOK_EVERY,
            step: Box::new(move |stopping| rotate_if_over(&store, &age, stopping, &mut told, &record)),
        }
    }));
    all
}

/// Removes records that have expired.
fn sweep(store: &SealedStore) -> Result<Next, StoreError> {
    let done = store.sweep(SWEEP_RECORDS_MAX)?;
    Ok(if done.more { Next::Soon } else { Next::Wait })
}

/// What is on record of the end of an epoch that is under way. Where it cannot end it is tried at each look, and each of the
/// first reasons is told once.
#[derive(Debug, Default)]
struct Told {
    begun: bool,
    /// The reasons.
    failed: BTreeSet<String>,
}

fn rotate_if_over(
    store: &SealedStore,
    age: &EpochAge,
    stopping: &AtomicBool,
    told: &mut Told,
    record: &dyn Fn(EventKind),
) -> Result<Next, StoreError> {
    let status = store.status()?;
    // Without any the store is older than its [memory.epoch].
    let is_over = match status.epochs.last() {
        Some(newest) => age.is_over(newest, &|| record(rotation::moved()))?,
        None => true,
    };
    if !(is_over || status.is_rotating) {
        // Somebody else may have ended it.
        *told = Told::default();
        return Ok(Next::Wait);
    }
    let alone = match store.alone() {
        Ok(alone) => alone,
        // The operator rotates keys, checks the store or makes a backup: that passes, and is no failure. One who has begun to change
        // the master key, and does not go on, keeps every epoch from ending: that is one.
        Err(StoreError::Busy) => return Ok(Next::Wait),
        Err(error) => return Err(error),
    };
    if !std::mem::replace(&mut told.begun, true) {
        record(rotation::begun(rotation::EPOCH));
    }
    let rotated = alone.rotate_epoch(&mut |_| {
        if stopping.load(Ordering::Acquire) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    match rotated {
        Ok(rotated) => {
            *told = Told::default();
            record(rotation::rotated(rotation::EPOCH));
            if let Some(reason) = &rotated.unfit {
                record(rotation::unfit(reason));
            }
            tracing::info!(records = rotated.records, "a new epoch has begun");
            Ok(Next::Wait)
        }
        Err(error) => {
            // Whatever ends in the middle because it was told to is no failure.
            if !stopping.load(Ordering::Acquire)
                && told.failed.len() < REASONS_TOLD_MAX
                && told.failed.insert(chain(&error))
            {
                record(rotation::failed(rotation::EPOCH, &error));
            }
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use aral_contract::Classification;
    use aral_contract::testing::ManualClock;
    use aral_memory::sealed::{Epoch, StoreOptions};
    use aral_memory::{KeyService, KeyServiceError, MasterKey, Precondition, Quota, Write};
    use zeroize::Zeroizing;

    use super::*;

    /// Its keys are their names: this is about when they are made and destroyed. It can make none while there is a reason, and says
    /// the other one of each key.
    #[derive(Debug, Default)]
    struct Names(
        Mutex<BTreeSet<String>>,
        Mutex<Option<&'static str>>,
        Mutex<Option<&'static str>>,
    );

    impl Names {
        fn known(&self, key: &str) -> Result<(), KeyServiceError> {
            if self.0.lock().unwrap().contains(key) {
                return Ok(());
            }
            Err(KeyServiceError::NotFound {
                place: self.place(),
                mount: self.mount().to_owned(),
                key: key.to_owned(),
            })
        }
    }

    impl KeyService for Names {
        fn place(&self) -> String {
            "a set".to_owned()
        }

        fn mount(&self) -> &str {
            "set"
        }

        fn create(&self, key: &str) -> Result<(), KeyServiceError> {
            if let Some(reason) = *self.1.lock().unwrap() {
                return Err(KeyServiceError::Unavailable {
                    place: self.place(),
                    reason: reason.to_owned(),
                    source: None,
                });
            }
            self.0.lock().unwrap().insert(key.to_owned());
            Ok(())
        }

        fn wrap(&self, key: &str, plain: &[u8]) -> Result<Vec<u8>, KeyServiceError> {
            self.known(key).map(|()| plain.to_vec())
        }

        fn unwrap(&self, key: &str, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyServiceError> {
            self.known(key).map(|()| Zeroizing::new(wrapped.to_vec()))
        }

        fn unfit(&self, _key: &str) -> Result<Option<String>, KeyServiceError> {
            Ok(self.2.lock().unwrap().map(str::to_owned))
        }

        fn is_there(&self, key: &str) -> Result<bool, KeyServiceError> {
            Ok(self.known(key).is_ok())
        }

        fn destroy(&self, key: &str) -> Result<(), KeyServiceError> {
            self.0.lock().unwrap().remove(key);
            Ok(())
        }
    }

    fn nobody() -> Arc<dyn AuditSink> {
        Arc::<crate::testing::Kept>::default()
    }

    struct Lab {
        folder: tempfile::TempDir,
        clock: Arc<ManualClock>,
        keys: Arc<Names>,
    }

    impl Lab {
        fn new() -> Self {
            Self {
                folder: tempfile::tempdir().unwrap(),
                clock: Arc::default(),
                keys: Arc::default(),
            }
        }

        fn open(&self, with_epochs: bool) -> SealedStore {
            self.open_with(MasterKey::from_text("ab".repeat(32).as_bytes()).unwrap(), with_epochs)
        }

        fn open_with(&self, key: MasterKey, with_epochs: bool) -> SealedStore {
            let options = StoreOptions::new(self.folder.path().join("store"), key, Arc::clone(&self.clock) as _);
            let epoch = with_epochs.then(|| Epoch {
                service: Arc::clone(&self.keys) as _,
                prefix: "e".to_owned(),
            });
            SealedStore::open(StoreOptions {
                epoch,
                free_bytes_min: 0,
                ..options
            })
            .unwrap()
        }

        fn age(&self, hours: u64) -> EpochAge {
            EpochAge::new(&self.folder.path().join("store"), hours, Arc::clone(&self.clock) as _)
        }

        fn go_on(&self, hours: u64) {
            self.clock.advance(Duration::from_secs(hours * 3600));
        }
    }

    fn put(store: &SealedStore) {
        let write = Write {
            name: "todo".parse().unwrap(),
            value: Zeroizing::new(b"value".to_vec()),
            ttl_seconds: None,
            classification: Classification::Internal,
            precondition: Precondition::Any,
        };
        store
            .memory()
            .put(&"notes".parse().unwrap(), write, &Quota::UNLIMITED)
            .unwrap();
    }

    /// A host that looks whether an epoch of an hour is over, and what it put on record.
    struct Looks {
        store: SealedStore,
        lab: Lab,
        told: Told,
        heard: Mutex<Vec<EventKind>>,
    }

    impl Looks {
        /// It has looked once: the epoch has begun.
        fn new() -> Self {
            let lab = Lab::new();
            let store = lab.open(true);
            put(&store);
            let (told, heard) = (Told::default(), Mutex::default());
            let mut looks = Self {
                store,
                lab,
                told,
                heard,
            };
            looks.look().unwrap();
            looks
        }

        fn look(&mut self) -> Result<Next, StoreError> {
            let (age, stopping) = (self.lab.age(1), AtomicBool::new(false));
            let heard = &self.heard;
            rotate_if_over(&self.store, &age, &stopping, &mut self.told, &|kind| {
                heard.lock().unwrap().push(kind);
            })
        }

        /// While there is a reason no key can be made.
        fn fail(&self, reason: Option<&'static str>) {
            *self.lab.keys.1.lock().unwrap() = reason;
        }
    }

    fn words(kinds: Mutex<Vec<EventKind>>) -> Vec<String> {
        let kinds = kinds.into_inner().unwrap();
        let words = kinds.iter().map(|kind| match kind {
            EventKind::Security { rule, subject, .. } => format!("{rule} {subject}"),
            EventKind::Lifecycle { change, subject, .. } => format!("{change:?} {subject}"),
            other => panic!("{other:?}"),
        });
        words.collect()
    }

    #[test]
    fn an_epoch_that_cannot_end_is_told_once_with_each_reason() {
        let mut looks = Looks::new();
        let store = looks.store.clone();
        looks.lab.go_on(1);
        // Nothing is begun and nothing has failed while the operator does what passes.
        let alone = store.alone().unwrap();
        looks.look().unwrap();
        drop(alone);
        // A service that restarts again and again alternates.
        for reason in ["it is away", "it is sealed", "it is away", "it is sealed"] {
            looks.fail(Some(reason));
            for _ in 0..3 {
                looks.look().unwrap_err();
                let _alone = store.alone().unwrap();
                looks.look().unwrap();
            }
        }
        looks.fail(None);
        looks.look().unwrap();
        looks.look().unwrap();
        looks.lab.go_on(1);
        looks.look().unwrap();
        let (begun, rotated) = ("memory_rotation_begun memory epoch", "KeyRotated memory epoch");
        let away = "memory_rotation_failed memory epoch: a set is unavailable: it is away";
        let sealed = "memory_rotation_failed memory epoch: a set is unavailable: it is sealed";
        assert_eq!(words(looks.heard), [begun, away, sealed, rotated, begun, rotated]);
    }

    #[test]
    fn a_rotation_to_another_key_that_was_cut_off_is_told_as_what_keeps_epochs_from_ending() {
        let mut looks = Looks::new();
        let store = looks.store.clone();
        let other = MasterKey::from_text("cd".repeat(32).as_bytes()).unwrap();
        let cut = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            store.rotate_key(&other, &mut |_| panic!("cut off here"))
        }));
        assert!(cut.is_err());
        looks.lab.go_on(1);
        for _ in 0..3 {
            looks.look().unwrap_err();
        }
        store.rotate_key(&other, &mut |_| {}).unwrap();
        looks.look().unwrap();
        looks.lab.go_on(1);
        looks.look().unwrap();
        let (begun, rotated) = ("memory_rotation_begun memory epoch", "KeyRotated memory epoch");
        let failed = "memory_rotation_failed memory epoch: a rotation to another key was begun: end it first, with `aral memory rotate-key`";
        assert_eq!(words(looks.heard), [begun, failed, begun, rotated]);
    }

    #[test]
    fn a_reason_that_is_another_one_each_time_is_not_told_for_ever() {
        let mut looks = Looks::new();
        looks.lab.go_on(1);
        let reasons = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        for reason in reasons {
            looks.fail(Some(reason));
            looks.look().unwrap_err();
        }
        looks.fail(None);
        looks.look().unwrap();
        looks.look().unwrap();
        // The next epoch that cannot end is told again.
        looks.lab.go_on(1);
        looks.fail(Some("j"));
        looks.look().unwrap_err();
        let words = words(looks.heard);
        let failed: Vec<&str> = words
            .iter()
            .filter_map(|word| word.rsplit_once("unavailable: "))
            .map(|(_, reason)| reason)
            .collect();
        assert_eq!(failed, [&reasons[..REASONS_TOLD_MAX], &["j"]].concat());
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test removes a file")]
    fn a_beginning_that_is_lost_is_on_record_and_counts_all_the_same() {
        let lab = Lab::new();
        let store = lab.open(true);
        let (age, heard) = (lab.age(2), Mutex::new(Vec::new()));
        let step = || {
            let told = &mut Told::default();
            rotate_if_over(&store, &age, &AtomicBool::new(false), told, &|kind| {
                heard.lock().unwrap().push(kind)
            })
            .unwrap()
        };
        step();
        for _ in 0..2 {
            lab.go_on(1);
            std::fs::remove_file(lab.folder.path().join("store/epoch")).unwrap();
            step();
        }
        let moved = "memory_epoch_moved memory epoch";
        let ended = ["memory_rotation_begun memory epoch", "KeyRotated memory epoch"];
        assert_eq!(words(heard), [moved, ended[0], ended[1]]);
    }

    #[test]
    fn an_epoch_ends_when_its_hours_are_over() {
        let lab = Lab::new();
        let store = lab.open(true);
        put(&store);
        let heard = Mutex::new(Vec::new());
        let step = |hours: u64| {
            let told = &mut Told::default();
            rotate_if_over(&store, &lab.age(hours), &AtomicBool::new(false), told, &|kind| {
                heard.lock().unwrap().push(kind)
            })
            .unwrap();
            store.status().unwrap().epochs
        };
        let first = step(3);
        lab.go_on(2);
        assert_eq!(step(3), first);
        lab.go_on(1);
        assert_eq!(step(4), first, "the hours are those of the configuration");
        let second = step(3);
        assert!(second.len() == 1 && second != first, "{first:?} {second:?}");
        let kept: Vec<String> = lab.keys.0.lock().unwrap().iter().cloned().collect();
        assert_eq!(kept, second, "the key of the first is destroyed");
        assert_eq!(step(3), second, "and the second has just begun");
        // The first epoch began with the first look.
        let one = ["memory_rotation_begun memory epoch", "KeyRotated memory epoch"];
        assert_eq!(words(heard), one);
    }

    #[test]
    fn a_master_key_that_is_not_fit_any_more_is_told_with_each_epoch() {
        let lab = Lab::new();
        lab.keys.create("master").unwrap();
        let master = MasterKey::service(Arc::clone(&lab.keys) as _, "master");
        let store = lab.open_with(master, true);
        let heard = Mutex::new(Vec::new());
        let look = || {
            let told = &mut Told::default();
            rotate_if_over(&store, &lab.age(1), &AtomicBool::new(false), told, &|kind| {
                heard.lock().unwrap().push(kind);
            })
            .unwrap();
        };
        for unfit in [None, Some("it can be copied"), Some("it can be copied"), None] {
            *lab.keys.2.lock().unwrap() = unfit;
            // The first look begins an epoch.
            look();
            lab.go_on(1);
            look();
        }
        let (begun, rotated) = ("memory_rotation_begun memory epoch", "KeyRotated memory epoch");
        let unfit = "memory_key_unfit memory epoch: the master key `service:set/master`: it can be copied";
        assert_eq!(
            words(heard),
            [
                begun, rotated, begun, rotated, unfit, begun, rotated, unfit, begun, rotated
            ]
        );
    }

    #[test]
    fn a_host_that_ends_in_the_middle_is_not_held_up_and_the_next_goes_on() {
        let lab = Lab::new();
        let store = lab.open(true);
        put(&store);
        let told = &mut Told::default();
        rotate_if_over(&store, &lab.age(1), &AtomicBool::new(false), told, &|_| {}).unwrap();
        lab.go_on(1);
        rotate_if_over(&store, &lab.age(1), &AtomicBool::new(true), told, &|_| {}).unwrap_err();
        assert!(told.begun && told.failed.is_empty(), "it was told to end: {told:?}");
        assert!(store.status().unwrap().is_rotating);
        drop(store);
        let store = lab.open(true);
        rotate_if_over(&store, &lab.age(1), &AtomicBool::new(false), told, &|_| {}).unwrap();
        let status = store.status().unwrap();
        assert!(!status.is_rotating && status.epochs.len() == 1, "{status:?}");
    }

    #[test]
    fn a_store_that_is_older_than_its_epochs_gets_one_at_once() {
        let lab = Lab::new();
        put(&lab.open(false));
        let store = lab.open(true);
        assert!(store.status().unwrap().epochs.is_empty());
        rotate_if_over(
            &store,
            &lab.age(100),
            &AtomicBool::new(false),
            &mut Told::default(),
            &|_| {},
        )
        .unwrap();
        assert_eq!(store.status().unwrap().epochs.len(), 1);
    }

    #[test]
    fn epochs_end_where_there_are_any() {
        let lab = Lab::new();
        let names: Vec<&str> = upkeep(
            &lab.open(true),
            &config(&lab, None),
            &(Arc::clone(&lab.clock) as _),
            &nobody(),
        )
        .iter()
        .map(|work| work.name)
        .collect();
        assert_eq!(names, ["sweep"], "without [memory.epoch] no epoch ends");
        let epoch = crate::config::storage::EpochConfig {
            mount: "transit".to_owned(),
            prefix: "e".to_owned(),
            hours: 1,
        };
        let all = upkeep(
            &lab.open(true),
            &config(&lab, Some(epoch)),
            &(Arc::clone(&lab.clock) as _),
            &nobody(),
        );
        assert_eq!(all.len(), 2);
    }

    fn config(lab: &Lab, epoch: Option<crate::config::storage::EpochConfig>) -> MemoryConfig {
        MemoryConfig {
            dir: lab.folder.path().join("store"),
            cache_bytes_max: 1 << 20,
            free_bytes_min: 0,
            sweep_ms: 1000,
            master_key: crate::config::storage::MasterKeyPlace::Environment("KEY".to_owned()),
            epoch,
        }
    }
}
