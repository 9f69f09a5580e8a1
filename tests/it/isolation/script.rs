//! A guest that has no plan: it does what is drawn, with the handles that a host gives, and reaches nothing that it was not granted.
//! What would find it if it did is tried with a grant that is too wide.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use aral_fuzzing::{Around, HostCalls};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::support::guests::ISOLATION_SCRIPT;

/// Makes `a` in the folder that may be written, the second handle.
const MAKE: [u8; 7] = [0, 1, 0, 0, 0, 1, 3];

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

#[test]
fn what_is_granted_a_script_does_each_time() {
    let host = HostCalls::new(&ISOLATION_SCRIPT.bytes());
    for (case, script, done) in [
        ("makes a file", &MAKE[..], 1),
        ("writes a record once", &[194, 0, 0, 1, 1, 3, 1], 1),
        ("writes a secret and reads it", &[198, 0, 1, 98, 197, 0, 1], 2),
        ("runs a program", &[202, 0, 0, 0, 0, 0, 0], 1),
        ("asks a host", &[204, 0, 0, 0, 0, 0, 0, 0, 0], 1),
        (
            "keeps a short method and no long one",
            &[205, 0, 0, 205, 0, 1, 0, 3, 205, 0, 1, 0, 200],
            2,
        ),
    ] {
        for time in 0..2 {
            assert_eq!(host.run(script), Some(done), "{case}, {time}");
        }
    }
}

/// What the guest was not granted, all of it.
fn widen(around: &Around, permissions: &mut Value) {
    let made = around.root.join("outside/made");
    permissions["file:write"]["paths"][0]["host"] = json!(around.root);
    for (permission, list, more) in [
        (
            "file:read",
            "paths",
            json!({ "guest": "/more", "host": around.root.join("outside") }),
        ),
        ("memory:read", "namespaces", json!("other")),
        ("memory:write", "namespaces", json!("other")),
        ("memory:write", "namespaces", json!("shared")),
        ("secret:read", "secrets", json!({ "name": "a", "use": "reveal" })),
        ("secret:write", "names", json!("a")),
        (
            "network:read",
            "hosts",
            json!(format!("http://127.0.0.1:{}", around.closed)),
        ),
        ("exec", "programs", json!({ "path": "/usr/bin/touch", "args": [made] })),
    ] {
        permissions[permission][list].as_array_mut().expect("a list").push(more);
    }
}

#[test]
fn what_a_grant_that_is_too_wide_reaches_is_found() {
    let bytes = ISOLATION_SCRIPT.bytes();
    let (host, wide) = (HostCalls::new(&bytes), HostCalls::wider(&bytes, widen));
    // The handles of the wide one: `/in`, `/more`, which is the folder outside, and `/out`, which is all of it.
    let (given, changed) = ("something was given", "something was changed");
    for (case, script, finding) in [
        ("a file beside the folders", &[0, 2, 0, 0, 0, 1, 3][..], changed),
        ("a file in another folder", &[0, 2, 0, 1, 24, 0, 1, 3], changed),
        ("a file that was read", &[0, 1, 0, 0, 16, 0, 1, 3, 3, 100, 0], given),
        ("a name that was read", &[9, 1, 255], given),
        ("a record that was read", &[192, 1, 0], given),
        ("a record that was written", &[194, 1, 0, 1, 1, 3, 0], "`other` `a`"),
        ("a record where one may read", &[194, 3, 0, 1, 1, 3, 0], "`shared`"),
        ("a secret that was read", &[197, 0, 0], given),
        ("a secret that was written", &[198, 0, 0, 98], "`secrets` `a`"),
        ("a host that was asked", &[204, 0, 0, 0, 1, 0, 0, 0, 0], "the host was"),
        ("a program that ran", &[202, 0, 0, 0, 1, 1, 0], changed),
        ("a file that is gone", &[14, 2, 1, 24, 16], changed),
    ] {
        host.run(script);
        let found = catch_unwind(AssertUnwindSafe(|| wide.run(script))).expect_err(case);
        let said = found.downcast_ref::<String>().map(String::as_str);
        let said = said.or(found.downcast_ref::<&str>().copied()).unwrap_or_default();
        assert!(said.contains(finding), "{case}: {said}");
    }
}

/// What a fuzzer begins with, and what it found once: nothing of it is found again.
#[test]
fn scripts_that_were_kept_find_nothing() {
    let host = HostCalls::new(&ISOLATION_SCRIPT.bytes());
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds/host_calls");
    let mut done = 0;
    for entry in std::fs::read_dir(folder).expect("seeds") {
        let script = std::fs::read(entry.expect("a seed").path()).expect("a seed");
        done += host.run(&script).unwrap_or_default();
    }
    assert!(done > 10, "the host did {done} steps");
}
