//! What does governance add to a call? The same component on the same input in a fresh instance, in each of the ways.

use anyhow::Result;
use aral_benches::INPUT;
use aral_benches::ways::Ways;
use criterion::Criterion;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ways = Ways::new(&runtime)?;
    let Ways {
        untuned,
        tuned,
        zeroing,
        governed,
        unrecorded,
        ..
    } = &ways;
    // A wrong answer must not be measured.
    let expected: serde_json::Value = serde_json::from_str(INPUT)?;
    for answer in [
        runtime.block_on(tuned.call(INPUT))?,
        runtime.block_on(governed.call(INPUT))?,
        runtime.block_on(unrecorded.call(INPUT))?,
    ] {
        anyhow::ensure!(
            serde_json::from_str::<serde_json::Value>(&answer)? == expected,
            "the echo is wrong: {answer}"
        );
    }

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("call");
    group.bench_function("floor-untuned", |bencher| {
        bencher.to_async(&runtime).iter(|| untuned.call(INPUT))
    });
    group.bench_function("floor-tuned", |bencher| {
        bencher.to_async(&runtime).iter(|| tuned.call(INPUT))
    });
    group.bench_function("floor-tuned-zeroing", |bencher| {
        bencher.to_async(&runtime).iter(|| zeroing.call(INPUT));
    });
    group.bench_function("governed-unrecorded", |bencher| {
        bencher.to_async(&runtime).iter(|| unrecorded.call(INPUT))
    });
    group.bench_function("governed", |bencher| {
        bencher.to_async(&runtime).iter(|| governed.call(INPUT))
    });
    group.finish();
    criterion.final_summary();
    Ok(())
}
