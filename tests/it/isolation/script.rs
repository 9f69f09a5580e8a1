//! A guest that has no plan: it does what is drawn, with every handle that a host gives, and reaches nothing that it was not granted.

use std::cell::Cell;

use aral_fuzzing::HostCalls;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::support::guests::ISOLATION_SCRIPT;

#[test]
pub(super) fn isolation_script() {
    let host = HostCalls::new(&ISOLATION_SCRIPT.bytes());
    let done = Cell::new(0);
    let scripts = prop::collection::vec(any::<u8>(), 0..800);
    let run = |script: Vec<u8>| {
        done.set(done.get() + host.run(&script).unwrap_or_default());
        Ok(())
    };
    TestRunner::new(ProptestConfig::with_cases(60))
        .run(&scripts, run)
        .expect("no script reaches more");
    assert!(
        done.get() > 100,
        "the host did {} steps: the guest tries nothing",
        done.get()
    );
}
