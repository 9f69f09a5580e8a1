//! What does sealing cost? Values of 1 KiB, read and written by our store, by bare sled under the same rule for syncing, and
//! (`--features sqlcipher`) by SQLCipher. Throughput of one is the inverse of its time.
#![expect(clippy::expect_used, reason = "a benchmark that fails has no result")]

use std::hint::black_box;
#[cfg(feature = "sqlcipher")]
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use aral_benches::records::{CACHE_BYTES, GROUP, Sealed, Sled, shuffled};
use criterion::{Criterion, criterion_group, criterion_main};

const RECORDS: u64 = 50_000;
/// Threads that write beside each other, each one record and then the next.
const WRITERS: u64 = 16;

struct Stores {
    sealed: Sealed,
    sled: Sled,
    #[cfg(feature = "sqlcipher")]
    sqlcipher: Mutex<aral_benches::sqlcipher::SqlCipher>,
    _folder: tempfile::TempDir,
}

impl Stores {
    fn open() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let stores = Self {
            sealed: Sealed::open(&folder.path().join("sealed"), CACHE_BYTES)?,
            sled: Sled::open(&folder.path().join("sled"))?,
            #[cfg(feature = "sqlcipher")]
            sqlcipher: Mutex::new(aral_benches::sqlcipher::SqlCipher::open(
                &folder.path().join("sqlcipher"),
            )?),
            _folder: folder,
        };
        Ok(stores)
    }

    fn fill(&self) -> anyhow::Result<()> {
        for first in (0..RECORDS).step_by(500) {
            self.sealed.put(first..first + 500, None)?;
            self.sled.put(first..first + 500)?;
            #[cfg(feature = "sqlcipher")]
            self.sqlcipher().put(first..first + 500)?;
        }
        Ok(())
    }

    /// It writes for one at a time, and so does its file.
    #[cfg(feature = "sqlcipher")]
    fn sqlcipher(&self) -> std::sync::MutexGuard<'_, aral_benches::sqlcipher::SqlCipher> {
        self.sqlcipher.lock().expect("no thread panicked")
    }
}

/// `count` writes with one sync; `shift` says whether names are new or are there already.
fn put(criterion: &mut Criterion, stores: &Stores, group: &str, count: u64, shift: u64) {
    let mut group = criterion.benchmark_group(group);
    let mut round = 0;
    let mut next = |count: u64| {
        round += 1;
        let from = round * count;
        (0..count).map(move |at| {
            if shift == 0 {
                shuffled(from + at, RECORDS)
            } else {
                shift + from + at
            }
        })
    };
    group.bench_function("floor-sled", |bench| {
        bench.iter(|| stores.sled.put(next(count)).expect("sled writes"));
    });
    group.bench_function("sealed", |bench| {
        bench.iter(|| stores.sealed.put(next(count), None).expect("the store writes"));
    });
    #[cfg(feature = "sqlcipher")]
    group.bench_function("floor-sqlcipher", |bench| {
        bench.iter(|| stores.sqlcipher().put(next(count)).expect("SQLCipher writes"));
    });
    group.finish();
}

/// The same for one write a sync, by many threads beside each other: who waits for a sync may share it with others.
fn put_beside(criterion: &mut Criterion, stores: &Stores, group: &str, shift: u64) {
    let mut group = criterion.benchmark_group(group);
    let begun = AtomicU64::new(0);
    let name = |at: u64| if shift == 0 { shuffled(at, RECORDS) } else { shift + at };
    let beside = |count: u64, write: &(dyn Fn(u64) + Sync)| -> Duration {
        let left = AtomicU64::new(count);
        let start = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..WRITERS {
                scope.spawn(|| {
                    let take = |left: u64| left.checked_sub(1);
                    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                        write(name(begun.fetch_add(1, Ordering::Relaxed)));
                    }
                });
            }
        });
        start.elapsed()
    };
    group.bench_function("floor-sled", |bench| {
        let write = |at| stores.sled.put(std::iter::once(at)).expect("sled writes");
        bench.iter_custom(|count| beside(count, &write));
    });
    group.bench_function("sealed", |bench| {
        let write = |at| stores.sealed.put(std::iter::once(at), None).expect("the store writes");
        bench.iter_custom(|count| beside(count, &write));
    });
    #[cfg(feature = "sqlcipher")]
    group.bench_function("floor-sqlcipher", |bench| {
        let write = |at| {
            stores.sqlcipher().put(std::iter::once(at)).expect("SQLCipher writes");
        };
        bench.iter_custom(|count| beside(count, &write));
    });
    group.finish();
}

fn memory(criterion: &mut Criterion) {
    let stores = Stores::open().expect("the stores open");
    stores.fill().expect("the stores take records");
    let mut group = criterion.benchmark_group("memory_get");
    let mut round = 0;
    let mut next = || {
        round += 1;
        shuffled(round, RECORDS)
    };
    group.bench_function("floor-sled", |bench| {
        bench.iter(|| black_box(stores.sled.get(next()).expect("sled reads")));
    });
    group.bench_function("sealed", |bench| {
        bench.iter(|| black_box(stores.sealed.get(next()).expect("the store reads")));
    });
    #[cfg(feature = "sqlcipher")]
    group.bench_function("floor-sqlcipher", |bench| {
        bench.iter(|| black_box(stores.sqlcipher().get(next()).expect("SQLCipher reads")));
    });
    group.finish();
    put(criterion, &stores, "memory_put_one", 1, 1 << 40);
    put(criterion, &stores, "memory_put_64", GROUP, 1 << 41);
    put(criterion, &stores, "memory_replace_64", GROUP, 0);
    put_beside(criterion, &stores, "memory_put_beside", 1 << 42);
    put_beside(criterion, &stores, "memory_replace_beside", 0);
}

criterion_group!(benches, memory);
criterion_main!(benches);
