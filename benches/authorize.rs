//! What does the decision cost on the path of a call: registry, validity of both documents, cached grant? It must not
//! allocate; this program fails if it does.

use anyhow::{Result, ensure};
use aral_benches::INPUT;
use aral_benches::governed::{Documents, Governed};
use criterion::Criterion;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let state = tempfile::tempdir()?;
    let governed = runtime.block_on(Governed::new(&Documents::echo()?, &state.path().join("state"), INPUT))?;
    let decide = || governed.host.authorize(&governed.session, &governed.capability, None);

    let mut allowed = false;
    let allocations = allocation_counter::measure(|| allowed = decide().is_ok());
    ensure!(allowed, "the call is not allowed");
    ensure!(
        allocations.count_total == 0,
        "the decision allocates {} times",
        allocations.count_total
    );

    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("authorize/cached", |bencher| bencher.iter(decide));
    criterion.final_summary();
    Ok(())
}
