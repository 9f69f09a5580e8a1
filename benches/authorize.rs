//! What does everything cost that is asked before a call? The decision: registry, validity of both documents and of the
//! keys that signed them, cached grant. And all of it: the session of a persona by its id, the decision, callers and depth,
//! requests in a minute and in an hour, cost in an hour, taken and settled. Neither may allocate; this program fails if one does.

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

    let id = governed.session.persona().body.id.clone();
    let admit = || {
        let session = governed.host.session_of(&id)?;
        governed.host.admit(&session, &governed.capability, None)
    };
    let mut admitted = false;
    let allocations = allocation_counter::measure(|| admitted = admit().is_ok());
    ensure!(admitted, "the call is not admitted");
    ensure!(
        allocations.count_total == 0,
        "what is asked before a call allocates {} times",
        allocations.count_total
    );

    let mut criterion = Criterion::default().configure_from_args();
    criterion.bench_function("authorize/cached", |bencher| bencher.iter(decide));
    criterion.bench_function("authorize/session_and_constraints", |bencher| bencher.iter(admit));
    criterion.final_summary();
    Ok(())
}
