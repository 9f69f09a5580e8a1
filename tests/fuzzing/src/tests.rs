//! The oracles over what proptest draws: the same promises as under a fuzzer, for a moment, each time the tests run.

use arbitrary::{Arbitrary, Unstructured};
use proptest::prelude::*;

use super::*;

/// What a fuzzer would make of these bytes.
fn drawn<T: for<'a> Arbitrary<'a>>(bytes: &[u8]) -> T {
    Unstructured::new(bytes).arbitrary().expect("short bytes are filled up")
}

/// Nothing, and one to three changes, mostly.
fn edits() -> impl Strategy<Value = Edits> {
    let edit = prop::collection::vec(any::<u8>(), 12).prop_map(|bytes| drawn::<Edit>(&bytes));
    prop::collection::vec(edit, 0..4).prop_map(Edits)
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..200)
}

/// Texts that are nearly JSON.
fn nearly_json() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"a\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "1",
        "-0",
        "1e400",
        "9007199254740993",
        "null",
        " ",
        "true",
        "0.1",
    ]);
    prop::collection::vec(word, 0..24).prop_map(|words| words.concat())
}

const CONFIGURATION: &str = include_str!("../../../fuzz/seeds/configuration/everything");
const CAPABILITY: &str = include_str!("../../../fuzz/seeds/capability_toml/everything");
const TOOL: &str = include_str!("../../../fuzz/seeds/capability_toml/tool");
const JSON: &[u8] = include_bytes!("../../../fuzz/seeds/json/everything");

#[test]
fn nothing_is_changed_by_no_edit_and_something_by_each() {
    let good = b"0123456789".to_vec();
    assert_eq!(Edits(Vec::new()).of(&good), good);
    let edits = [
        (Edit::Set { at: 12, to: b'x' }, "01x3456789"),
        (Edit::Flip { at: 0, bit: 8 }, "1123456789"),
        (Edit::Remove { at: 8, count: 9 }, "01234567"),
        (
            Edit::Insert {
                at: 10,
                bytes: b"ab".to_vec(),
            },
            "0123456789ab",
        ),
        (
            Edit::Copy {
                from: 8,
                to: 1,
                count: 9,
            },
            "0893456789",
        ),
        (Edit::Zero { at: 9, count: 2 }, "012345678\0"),
        (Edit::Cut { at: 3 }, "012"),
    ];
    for (edit, expected) in edits {
        assert_eq!(Edits(vec![edit.clone()]).of(&good), expected.as_bytes(), "{edit:?}");
        assert!(Edits(vec![edit]).of(b"").len() <= 2, "nothing is no place");
    }
}

#[test]
fn what_is_good_is_taken() {
    let folder = scratch::folder();
    scratch::put(folder.path(), [("aral.toml", CONFIGURATION.as_bytes())]);
    aral_host::Config::load(&folder.path().join("aral.toml")).unwrap();
    for text in [CAPABILITY, TOOL] {
        let source = aral_capability::manifest::CapabilityToml::parse(text).unwrap();
        texts::built(&source).unwrap();
    }
    let value = aral_contract::document::json::parse(JSON).unwrap();
    aral_contract::document::json::canonical(&value).unwrap();
    let component = wat::parse_str(COMPONENT).unwrap();
    assert_eq!(aral_capability::inspect(&component).unwrap().imports.len(), 2);
}

/// What a crash leaves at the end of a log is no record more.
#[test]
fn a_torn_end_is_no_finding() {
    let length = documents::KEPT
        .files
        .iter()
        .rfind(|(name, _)| name.ends_with(".jsonl"))
        .map(|(_, bytes)| u32::try_from(bytes.len()).unwrap());
    audit_log(&Edits(vec![Edit::Insert {
        at: length.unwrap(),
        bytes: b"{\"seq\":".to_vec(),
    }]));
}

/// A task's panic is caught by its runtime.
#[test]
fn a_panic_of_the_host_is_a_finding_once() {
    let watched = panics::Watched::new();
    watched.check();
    let task = watched.runtime.spawn(async { "no number".parse::<u8>().unwrap() });
    watched.runtime.block_on(task).unwrap_err();
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| watched.check()));
    assert!(found.is_err(), "nobody has seen it");
    watched.check();
    panics::Watched::new().check();
}

const COMPONENT: &str = r#"(component
    (import "wasi:filesystem/types@0.2.6" (instance))
    (import "aral:capability/log@1.0.0" (instance))
    (component (import "aral:capability/exec@1.0.0" (instance)))
    (core module (func (export "f")))
    (instance $it)
    (export "wasi:cli/run@0.2.0" (instance $it)))"#;

/// A target, and what a fuzzer gives it.
type Oracle = fn(&[u8]);

/// Edits as a fuzzer draws them of all the bytes that it has.
fn found<T: for<'a> Arbitrary<'a>>(bytes: &[u8]) -> T {
    T::arbitrary_take_rest(Unstructured::new(bytes)).expect("short bytes are filled up")
}

/// What fuzzers begin with, and what they found once: nothing of it is found again. Seeds of connections and of host calls need a
/// guest: the integration tests send them.
#[test]
fn seeds_hold() {
    let targets: [(&str, Oracle); 11] = [
        ("json", json),
        ("capability_toml", capability_toml),
        ("configuration", configuration),
        ("component", component),
        ("manifest", |bytes| manifest(&found(bytes))),
        ("persona", |bytes| persona(&found(bytes))),
        ("checkpoint", |bytes| checkpoint(&found(bytes))),
        ("receipt", |bytes| receipt(&found(bytes))),
        ("audit_log", |bytes| audit_log(&found(bytes))),
        ("backup", |bytes| backup(&found(bytes))),
        ("store", |bytes| {
            let (changed, edits): (Changed, Edits) = found(bytes);
            store(changed, &edits);
        }),
    ];
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds");
    for (name, target) in targets {
        let folder = folder.join(name);
        // Edits begin with none, until something was found.
        target(b"");
        if folder.is_dir() {
            scratch::files(&folder).iter().for_each(|(_, seed)| target(seed));
        }
    }
    for name in ["json", "capability_toml", "configuration", "component"] {
        assert!(folder.join(name).is_dir(), "`{name}` has no seed");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn json_has_one_form(text in nearly_json(), bytes in bytes()) {
        json(text.as_bytes());
        json(&bytes);
    }

    #[test]
    fn nobody_forges_a_document(edits in edits()) {
        manifest(&edits);
        persona(&edits);
        checkpoint(&edits);
        receipt(&edits);
    }

    #[test]
    fn texts_are_read_or_refused(edits in edits()) {
        configuration(&edits.of(CONFIGURATION.as_bytes()));
        capability_toml(&edits.of(CAPABILITY.as_bytes()));
    }

    #[test]
    fn components_are_read_or_refused(edits in edits(), bytes in bytes()) {
        component(&edits.of(&wat::parse_str(COMPONENT).unwrap()));
        component(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn no_change_of_a_log_goes_unseen(edits in edits()) {
        audit_log(&edits);
    }

    #[test]
    fn no_change_of_a_backup_comes_back(edits in edits()) {
        backup(&edits);
    }

    #[test]
    fn no_change_of_a_store_changes_a_record(edits in edits(), is_slots in any::<bool>()) {
        store(if is_slots { Changed::Slots } else { Changed::Keyring }, &edits);
    }
}
