//! Admission, check by check, and look-ups.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aral_contract::document::{PrivateKey, TrustStore, signed::Kind};
use aral_contract::limits::COMPILE_MS_MAX;
use aral_contract::{Clock, Code, Metering};
use aral_runtime::{Allocation, CompilerKind, Runtime, RuntimeOptions};
use jiff::Timestamp;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::*;
use crate::inspect::inspect;
use crate::manifest::{self, header};
use crate::testing::{component, entry, shown};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed(&Zeroizing::new([seed; 32]))
}

fn signed_by(seed: u8, serial: u64, entries: Vec<Entry>) -> Verified<ManifestBody> {
    let header = header(serial, at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"));
    let document = manifest::sign(&header, &ManifestBody::new(entries).unwrap(), &key(seed)).unwrap();
    let mut trust = TrustStore::default();
    trust.add(key(seed).public(), &[Kind::Manifest]);
    manifest::verify(document.to_string().as_bytes(), &trust, at("2026-06-01T00:00:00Z")).unwrap()
}

fn signed(serial: u64, entries: Vec<Entry>) -> Verified<ManifestBody> {
    signed_by(1, serial, entries)
}

fn admit(registry: &Registry, manifest: &Verified<ManifestBody>, bytes: &[u8]) -> Result<Vec<Admitted>, String> {
    registry
        .admit(manifest, &|_| Ok(bytes.to_vec()))
        .map_err(|failure| shown(&failure))
}

fn versions(bytes: &[u8], versions: &[&str]) -> Vec<Entry> {
    versions
        .iter()
        .map(|version| entry(bytes, json!({ "version": version })))
        .collect()
}

/// What admission says of a component with this entry.
fn refused(bytes: &[u8], change: Value) -> String {
    let registry = Registry::default();
    let found = admit(&registry, &signed(1, vec![entry(bytes, change)]), bytes).unwrap_err();
    assert!(registry.list().is_empty());
    found
}

#[test]
fn a_limit_with_which_no_line_is_kept_is_warned_of() {
    let bytes = component(Shape::Tool, &[]);
    for (log_bytes, warnings) in [(0, 0), (63, 1), (64, 0)] {
        let manifest = signed(1, vec![entry(&bytes, json!({"limits": {"log_bytes": log_bytes}}))]);
        let admitted = admit(&Registry::default(), &manifest, &bytes).unwrap();
        assert_eq!(admitted[0].1.len(), warnings, "{log_bytes}");
    }
}

#[test]
fn versions_stand_side_by_side_and_the_newest_that_matches_is_found() {
    let bytes = component(Shape::Tool, &["aral:capability/log@1.0.0"]);
    let registry = Registry::default();
    let manifest = signed(1, versions(&bytes, &["1.2.0", "1.10.0", "2.0.0-beta", "0.9.0"]));
    let admitted = admit(&registry, &manifest, &bytes).unwrap();
    assert_eq!(admitted.len(), 4);
    assert!(admitted.iter().all(|(_, warnings)| warnings.is_empty()));
    let id = "probe".parse().unwrap();
    let find = |wanted: Option<&str>| {
        let wanted = wanted.map(|text| text.parse().unwrap());
        registry
            .find(&id, wanted.as_ref())
            .map(|found| found.entry.version.to_string())
            .map_err(|failure| shown(&failure))
    };
    for (wanted, expected) in [
        (None, "1.10.0"),
        (Some("*"), "1.10.0"),
        (Some("^1.2"), "1.10.0"),
        (Some("=1.2.0"), "1.2.0"),
        (Some("<1"), "0.9.0"),
        (Some("=2.0.0-beta"), "2.0.0-beta"),
    ] {
        assert_eq!(find(wanted).unwrap(), expected, "{wanted:?}");
    }
    assert!(find(Some("^3")).unwrap_err().starts_with(
        "capability.unknown: there is no version `^3` of `probe`: there is 0.9.0, 1.2.0, 1.10.0, 2.0.0-beta"
    ));
    for (wanted, hint) in [
        ("=1.0.0", "`probe@^1.0.0` is the newest that is compatible with it"),
        ("=0.8.0", "list what there is"),
        ("=3.0.0", "list what there is"),
        ("=1.11.0", "list what there is"),
        ("=1.9", "list what there is"),
        ("^3", "list what there is"),
    ] {
        let told = find(Some(wanted));
        assert!(
            told.as_ref().is_err_and(|told| told.contains(hint)),
            "{wanted}: {told:?}"
        );
    }
    let failure = registry.find(&"other".parse().unwrap(), None).unwrap_err();
    assert_eq!(
        (failure.code, failure.message.as_str()),
        (Code::CapabilityUnknown, "there is no capability `other`")
    );

    let remove = |version: &str| registry.remove(&id, &version.parse().unwrap());
    assert!(remove("1.10.0") && !remove("1.10.0"));
    assert_eq!(find(None).unwrap(), "1.2.0");
    assert!(remove("1.2.0") && remove("0.9.0"));
    assert_eq!(find(None).unwrap(), "2.0.0-beta");
    assert!(remove("2.0.0-beta") && registry.list().is_empty());
    assert!(find(None).unwrap_err().contains("there is no capability `probe`"));
}

#[test]
fn what_the_schemas_of_a_manifest_keep_for_unevaluated_keywords_is_bounded_together() {
    let many = json!({
        "type": "object", "minimum": 0, "maximum": 1, "exclusiveMinimum": 0, "exclusiveMaximum": 1, "multipleOf": 1,
        "minLength": 0, "maxLength": 1, "minItems": 0, "maxItems": 1, "minProperties": 0, "maxProperties": 9
    });
    let link = |n: usize| {
        let next = json!({ "$ref": format!("#/$defs/d{}", n + 1) });
        (format!("d{n}"), json!({ "dependentSchemas": { "a-name": next } }))
    };
    let mut defs: serde_json::Map<String, Value> = (0..10).map(link).collect();
    defs.insert("d10".to_owned(), json!({ "allOf": vec![many; 250] }));
    let schema = json!({ "$defs": defs, "$ref": "#/$defs/d0", "unevaluatedProperties": false });
    let bytes = component(Shape::Tool, &[]);
    let admit_so_many = |count: usize| {
        let one = |n: usize| entry(&bytes, json!({ "version": format!("1.{n}.0"), "input_schema": schema }));
        let manifest = signed(1, (0..count).map(one).collect());
        admit(&Registry::default(), &manifest, &bytes)
    };
    assert_eq!(admit_so_many(4).unwrap().len(), 4);
    let found = admit_so_many(20).unwrap_err();
    assert!(
        found.contains("of this manifest ask takes more than 64 MiB\nhint: write `additionalProperties`"),
        "{found}"
    );
}

#[test]
fn what_all_schemas_keep_for_unevaluated_keywords_has_room_together() {
    let bytes = component(Shape::Tool, &[]);
    let asked = json!({ "allOf": vec![json!({ "properties": { "a": true } }); 50], "unevaluatedProperties": false });
    let of = |serial: u64, version: &str| {
        signed(
            serial,
            vec![entry(&bytes, json!({ "version": version, "input_schema": asked }))],
        )
    };
    let roomy = Registry::default();
    let admitted = admit(&roomy, &of(3, "1.2.0"), &bytes).unwrap();
    let one = admitted[0].0.schemas.unevaluated_bytes();
    assert!(one > 0);
    let bytes_max = 3 * one - 1;
    let registry = Registry {
        kept_max: kept::KeptMax(bytes_max),
        ..Registry::default()
    };
    admit(&registry, &of(1, "1.0.0"), &bytes).unwrap();
    admit(&registry, &of(2, "1.1.0"), &bytes).unwrap();
    let expected = format!(
        "host.unavailable: what `unevaluatedProperties` and `unevaluatedItems` in the schemas of all capabilities ask may take \
         {bytes_max} bytes together: there is no room for more\nhint: remove capabilities that nobody calls"
    );
    assert_eq!(admit(&registry, &of(3, "1.2.0"), &bytes).unwrap_err(), expected);
    let full = RegistryError::FullOfKept(bytes_max);
    assert_eq!(registry.adopt(&of(3, "1.2.0"), &roomy), Err(full.clone()));
    assert_eq!(registry.renewed(|_| true).adopt(&of(3, "1.2.0"), &roomy), Err(full));
    // What is there already takes no more room, nor does what keeps nothing.
    admit(&registry, &of(3, "1.1.0"), &bytes).unwrap();
    admit(&registry, &signed(3, versions(&bytes, &["2.0.0"])), &bytes).unwrap();
    assert!(registry.remove(&"probe".parse().unwrap(), &"1.0.0".parse().unwrap()));
    assert_eq!(registry.adopt(&of(3, "1.2.0"), &roomy), Ok(true));
}

#[test]
fn a_component_is_looked_at_by_the_compiler_once_and_never_here() {
    // Leaves a file that is named after its process, and finds nothing but an export; one import ends it.
    let script = r#": > "$0/$$"; if /bin/grep -q acme:other; then kill -s ABRT $$; fi
        printf '+{"found":{"imports":[],"exports":[{"name":"aral:capability/tool@1.0.0","kind":"instance"}],"producers":[]}}'"#;
    let folder = tempfile::tempdir().unwrap();
    let args = ["-c", script, folder.path().to_str().unwrap()].map(str::to_owned);
    let registry = Registry::inspecting_by(CompilerKind::child("/bin/sh".into(), args.to_vec()));
    // What it really imports would be refused.
    let bytes = component(Shape::Tool, &["aral:capability/exec@1.0.0"]);
    admit(&registry, &signed(1, versions(&bytes, &["1.0.0", "1.1.0"])), &bytes).unwrap();
    admit(&registry, &signed(2, versions(&bytes, &["1.2.0"])), &bytes).unwrap();
    assert_eq!(folder_entries(folder.path()), 1);
    // A registry that is made from it asks the same compiler.
    let hostile = component(Shape::Tool, &["acme:other/import@1.0.0"]);
    let other = registry.renewed(|_| true);
    let manifest = signed(3, vec![entry(&hostile, json!({"version": "2.0.0"}))]);
    let found = admit(&other, &manifest, &hostile).unwrap_err();
    assert!(
        found.starts_with("component.too_large: the component takes more than"),
        "{found}"
    );
    assert_eq!((other.list().len(), folder_entries(folder.path())), (3, 2));
}

#[test]
fn another_component_than_the_one_named() {
    let named = component(Shape::Tool, &[]);
    let given = component(Shape::Tool, &["aral:capability/log@1.0.0"]);
    let registry = Registry::default();
    let found = admit(&registry, &signed(1, versions(&named, &["1.0.0"])), &given).unwrap_err();
    assert_eq!(
        found,
        format!(
            "component.digest_mismatch: the component of `probe` 1.0.0 has SHA-256 {}, and the manifest names {}\n\
             hint: give the component that was signed, or build and sign the manifest again: `aral manifest build FOLDER… --out NEW.json`, `aral manifest sign NEW.json --key KEY.pem`, `mv NEW.json MANIFEST.json`",
            Digest::of(&given),
            Digest::of(&named)
        )
    );
}

#[test]
fn components_that_cannot_be_admitted() {
    let module = wat::parse_str("(module)").unwrap();
    assert!(refused(&module, json!({})).starts_with("component.invalid: this is a core module"));
    let whole = component(Shape::Tool, &[]);
    assert!(refused(&whole[..whole.len() - 2], json!({})).contains("it is truncated"));
    assert!(refused(&vec![0; COMPONENT_BYTES_MAX + 1], json!({})).starts_with("component.too_large: "));
    assert!(refused(b"\x7fELF", json!({})).contains("machine code"));
    let found = refused(&component(Shape::Tool, &["aral:capability/exec@1.0.0"]), json!({}));
    assert!(found.starts_with("component.import_uncovered: "), "{found}");
    assert!(refused(&whole, json!({"shape": "command"})).contains("hint: write in capability.toml: shape = \"tool\""));
    let found = refused(&whole, json!({"output_schema": {"type": "nonsense"}}));
    assert!(
        found.starts_with("document.invalid: capability `probe`: `output_schema` is not a JSON Schema: "),
        "{found}"
    );
    let other = wat::parse_str("(component (instance $i) (export \"acme:db/query@1.0.0\" (instance $i)))").unwrap();
    assert_eq!(
        refused(&other, json!({})),
        "component.invalid: `probe` is declared as a tool, and its component exports neither a tool nor a command\n\
         hint: it exports `acme:db/query@1.0.0`; export `aral:capability/tool@1.0.0` or `wasi:cli/run@0.2.12`"
    );
}

#[test]
fn a_manifest_is_admitted_whole_or_not_at_all() {
    let good = component(Shape::Tool, &[]);
    let bad = component(Shape::Tool, &["aral:capability/exec@1.0.0"]);
    let entries = vec![entry(&good, json!({"id": "good"})), entry(&bad, json!({"id": "bad"}))];
    let registry = Registry::default();
    let components = |entry: &Entry| {
        Ok(if entry.id.as_str() == "good" {
            good.clone()
        } else {
            bad.clone()
        })
    };
    let failure = registry.admit(&signed(7, entries), &components).unwrap_err();
    assert_eq!(failure.code, Code::ImportUncovered);
    assert!(registry.list().is_empty());
    assert_eq!(registry.lock().serials, Serials::default());
    let missing = |_: &Entry| Err(Failure::new(Code::ComponentInvalid, "no such file"));
    let failure = registry
        .admit(&signed(7, versions(&good, &["1.0.0"])), &missing)
        .unwrap_err();
    assert_eq!(failure.message, "no such file");
}

/// A tool that is another component for each name, of one letter.
fn named(name: &str) -> Vec<u8> {
    // A section of its own, of two bytes: the length of its name, and that.
    [component(Shape::Tool, &[]).as_slice(), &[0, 2, 1], name.as_bytes()].concat()
}

#[test]
fn a_component_is_handed_out_and_kept_once_for_all_who_have_it() {
    let bytes = component(Shape::Tool, &[]);
    let registry = Registry::default();
    let asked = AtomicU64::new(0);
    let components = |_: &Entry| {
        asked.fetch_add(1, Ordering::Relaxed);
        Ok(bytes.clone())
    };
    let manifest = signed(1, versions(&bytes, &["1.0.0", "1.0.1", "1.0.2"]));
    let admitted = registry.admit(&manifest, &components).unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    // Another manifest has to bring it, too; it is kept once nevertheless.
    let other = signed_by(2, 1, vec![entry(&bytes, json!({"id": "other"}))]);
    let again = registry.admit(&other, &components).unwrap();
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    let first = &admitted[0].0.binary;
    for (capability, _) in admitted.iter().chain(&again) {
        assert!(Arc::ptr_eq(&capability.binary, first), "{capability:?}");
    }
}

/// As a host reads its configuration again.
#[test]
fn a_manifest_that_was_issued_again_has_the_component_that_is_there() {
    let bytes = component(Shape::Tool, &[]);
    let old = Registry::default();
    admit(&old, &signed(1, versions(&bytes, &["1.0.0"])), &bytes).unwrap();
    let other = signed_by(2, 1, vec![entry(&bytes, json!({"id": "other"}))]);
    let before = admit(&old, &other, &bytes).unwrap();
    let new = old.renewed(|_| false);
    admit(&new, &signed(2, versions(&bytes, &["1.0.0"])), &bytes).unwrap();
    assert_eq!(new.adopt(&other, &old), Ok(true));
    let found = new.list();
    assert_eq!(found.len(), 2);
    for capability in found {
        assert!(Arc::ptr_eq(&capability.binary, &before[0].0.binary), "{capability:?}");
    }
}

#[test]
fn two_who_read_a_component_at_once_keep_one() {
    let bytes = component(Shape::Tool, &[]);
    let registry = Registry::default();
    // While one reads it, another one has read it.
    let components = |_: &Entry| {
        let meanwhile = signed_by(2, 1, vec![entry(&bytes, json!({"id": "other"}))]);
        admit(&registry, &meanwhile, &bytes).unwrap();
        Ok(bytes.clone())
    };
    registry
        .admit(&signed(1, versions(&bytes, &["1.0.0"])), &components)
        .unwrap();
    let found = registry.list();
    let [one, two] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert!(Arc::ptr_eq(&one.binary, &two.binary));
}

#[test]
fn a_component_that_nobody_has_any_more_is_not_kept() {
    let bytes = component(Shape::Tool, &[]);
    let registry = Registry::default();
    admit(&registry, &signed(1, versions(&bytes, &["1.0.0"])), &bytes).unwrap();
    assert!(registry.kept.find(&Digest::of(&bytes)).is_some());
    assert!(registry.remove(&"probe".parse().unwrap(), &"1.0.0".parse().unwrap()));
    assert!(registry.kept.find(&Digest::of(&bytes)).is_none());
}

#[test]
fn so_many_versions_are_registered_and_no_more() {
    let bytes = component(Shape::Tool, &[]);
    let of = |serial: u64, version: &str| signed(serial, versions(&bytes, &[version]));
    let registry = Registry::default();
    let (one, _) = admit(&registry, &of(1, "1.0.0"), &bytes).unwrap().remove(0);
    // All but one. The same entry again: the schemas of so many would take long to compile.
    let more = (1..4095).map(|patch| (Version::new(1, 0, patch), Arc::clone(&one)));
    registry
        .lock()
        .capabilities
        .get_mut(&one.entry.id)
        .unwrap()
        .extend(more);
    assert_eq!(registry.list().len(), 4095);
    admit(&registry, &of(2, "2.0.0"), &bytes).unwrap();
    let expected = "host.unavailable: 4096 capabilities are registered: there is no room for more\n\
                    hint: remove capabilities that nobody calls";
    assert_eq!(admit(&registry, &of(3, "3.0.0"), &bytes).unwrap_err(), expected);
    // What another registry admitted is one more, too.
    let other = Registry::default();
    admit(&other, &of(3, "3.0.0"), &bytes).unwrap();
    assert_eq!(registry.adopt(&of(3, "3.0.0"), &other), Err(RegistryError::Full));
    assert_eq!(registry.list().len(), 4096);
    // What is there already is not counted again.
    admit(&registry, &of(3, "2.0.0"), &bytes).unwrap();
    assert!(registry.remove(&one.entry.id, &one.entry.version));
    assert_eq!(registry.adopt(&of(3, "3.0.0"), &other), Ok(true));
}

#[test]
fn the_components_of_all_capabilities_have_room_together() {
    let [one, two] = ["a", "b"].map(named);
    // Beside the bytes the names of imports and exports are kept.
    let kept = |bytes: &[u8]| {
        let (imports, exports) = inspect(bytes).map(|found| (found.imports, found.exports)).unwrap();
        let names = imports.iter().map(|import| import.name.len());
        let names = names.chain(exports.iter().map(|export| export.name.len()));
        bytes.len() as u64 + names.sum::<usize>() as u64
    };
    assert!(kept(&one) > one.len() as u64);
    let registry = Registry {
        bytes_max: kept(&one) + kept(&two) - 1,
        ..Registry::default()
    };
    let components = |entry: &Entry| {
        Ok(if entry.component == Digest::of(&one) {
            one.clone()
        } else {
            two.clone()
        })
    };
    let entries = vec![entry(&one, json!({"id": "one"})), entry(&two, json!({"id": "two"}))];
    let expected = format!(
        "host.unavailable: the components of all capabilities may have {} bytes together: there is no room for more\n\
         hint: remove capabilities that nobody calls",
        registry.bytes_max
    );
    let refused = registry.admit(&signed(1, entries), &components).unwrap_err();
    assert_eq!(shown(&refused), expected);
    assert!(registry.list().is_empty());
    // The same component again takes no room, one manifest after the other.
    admit(&registry, &signed(1, versions(&one, &["1.0.0", "1.0.1"])), &one).unwrap();
    admit(&registry, &signed(2, versions(&one, &["1.0.2"])), &one).unwrap();
    assert_eq!(
        admit(&registry, &signed(3, versions(&two, &["2.0.0"])), &two).unwrap_err(),
        expected
    );
    // What another registry admitted has to fit, too.
    let roomy = Registry::default();
    let manifest = signed(3, versions(&two, &["2.0.0"]));
    admit(&roomy, &manifest, &two).unwrap();
    let refused = registry.adopt(&manifest, &roomy).unwrap_err();
    assert_eq!(
        refused,
        RegistryError::FullOfBytes {
            bytes_max: registry.bytes_max
        }
    );
    for version in ["1.0.0", "1.0.1", "1.0.2"] {
        assert!(registry.remove(&"probe".parse().unwrap(), &version.parse().unwrap()));
    }
    assert_eq!(registry.adopt(&manifest, &roomy), Ok(true));
    // What another registry brings is kept beside the same of this one, and so counts beside it.
    let again = signed(4, versions(&two, &["2.0.1"]));
    let other = Registry::default();
    admit(&other, &again, &two).unwrap();
    assert!(matches!(
        registry.adopt(&again, &other),
        Err(RegistryError::FullOfBytes { .. })
    ));
}

#[test]
fn a_lower_serial_of_the_same_signer_is_refused_also_in_the_next_run() {
    let bytes = component(Shape::Tool, &[]);
    let registry = Registry::default();
    let of = |seed: u8, serial: u64, version: &str| signed_by(seed, serial, versions(&bytes, &[version]));
    admit(&registry, &of(1, 5, "1.0.0"), &bytes).unwrap();
    admit(&registry, &of(1, 5, "1.0.0"), &bytes).unwrap();
    let expected = format!(
        "document.stale: the manifest has serial 4, and `probe` was admitted before with serial 5 by key `{}`\n\
         hint: name the newer issue in its place, or sign this one again: `aral manifest sign FILE --key KEY.pem` \
         (its serial must be 5 or higher)",
        key(1).public().id()
    );
    assert_eq!(admit(&registry, &of(1, 4, "1.0.1"), &bytes).unwrap_err(), expected);
    // Another signer counts for itself, and so does another manifest of the same one.
    admit(&registry, &of(2, 1, "3.0.0"), &bytes).unwrap();
    let other = || signed(1, vec![entry(&bytes, json!({"id": "other"}))]);
    admit(&registry, &other(), &bytes).unwrap();
    let both = signed(
        4,
        vec![
            entry(&bytes, json!({"id": "other"})),
            entry(&bytes, json!({"version": "1.0.1"})),
        ],
    );
    assert_eq!(admit(&registry, &both, &bytes).unwrap_err(), expected);

    let kept = serde_json::to_string(&registry.lock().serials).unwrap();
    let next = Registry::default();
    next.lock().serials = serde_json::from_str(&kept).unwrap();
    assert_eq!(admit(&next, &of(1, 4, "1.0.1"), &bytes).unwrap_err(), expected);
    admit(&next, &of(1, 5, "1.0.0"), &bytes).unwrap();
    admit(&next, &other(), &bytes).unwrap();
    admit(&next, &of(1, 6, "1.0.1"), &bytes).unwrap();
}

#[test]
fn what_was_admitted_here_and_replaced_elsewhere_is_told_from_what_is_merely_old() {
    let bytes = component(Shape::Tool, &[]);
    let of = |seed: u8, serial: u64, ids: &[&str]| {
        let entries = ids.iter().map(|id| entry(&bytes, json!({ "id": id })));
        signed_by(seed, serial, entries.collect())
    };
    let registry = Registry::default();
    admit(&registry, &of(1, 5, &["a", "b"]), &bytes).unwrap();
    let known = |of: &[&Verified<ManifestBody>]| {
        let mut known = Serials::default();
        for manifest in of {
            known.note(manifest.signer, manifest.body.ids(), manifest.header.serial);
        }
        known
    };
    let newer = known(&[&of(1, 7, &["b", "c"])]);
    for (manifest, expected) in [
        (of(1, 5, &["a", "b"]), Some(7)),
        (of(1, 6, &["b"]), Some(7)),
        (of(1, 7, &["b"]), None),
        (of(1, 5, &["a"]), None),
        // An older one than was admitted here.
        (of(1, 4, &["b"]), None),
        // Never admitted here.
        (of(1, 1, &["c"]), None),
        (of(2, 5, &["a", "b"]), None),
    ] {
        let (signer, serial) = (manifest.signer, manifest.header.serial);
        assert_eq!(registry.replaced_by(&manifest, &newer), expected, "{signer:?} {serial}");
    }
    let same = known(&[&of(1, 5, &["a", "b"])]);
    assert_eq!(registry.replaced_by(&of(1, 5, &["a", "b"]), &same), None);
}

#[test]
fn a_version_cannot_become_another_component_or_change_hands() {
    let bytes = component(Shape::Tool, &[]);
    let other = component(Shape::Tool, &["aral:capability/log@1.0.0"]);
    let registry = Registry::default();
    admit(&registry, &signed(1, versions(&bytes, &["1.0.0"])), &bytes).unwrap();
    let expected = "document.invalid: `probe` 1.0.0 is registered already, with another component or by another signer\n\
                    hint: raise `version` in capability.toml";
    assert_eq!(
        admit(&registry, &signed(2, versions(&other, &["1.0.0"])), &other).unwrap_err(),
        expected
    );
    assert_eq!(
        admit(&registry, &signed_by(2, 9, versions(&bytes, &["1.0.0"])), &bytes).unwrap_err(),
        expected
    );
    let found = registry.find(&"probe".parse().unwrap(), None).unwrap();
    assert_eq!(
        (found.entry.component, found.signer()),
        (Digest::of(&bytes), Some(key(1).public().id()))
    );
}

#[test]
fn validity_can_be_asked_at_each_call() {
    let bytes = component(Shape::Tool, &[]);
    let registry = Registry::default();
    let manifest = signed(1, versions(&bytes, &["1.0.0"]));
    let admitted = admit(&registry, &manifest, &bytes).unwrap();
    let (capability, _) = &admitted[0];
    assert_eq!(capability.manifest_digest(), manifest.digest);
    let mut trust = TrustStore::default();
    trust.add(key(1).public(), &[Kind::Manifest]);
    assert!(capability.check(&trust, at("2026-12-31T23:59:59Z")).is_ok());
    let failure = Failure::from(capability.check(&trust, at("2027-01-01T00:00:00Z")).unwrap_err());
    assert_eq!(failure.code, Code::DocumentStale);
    assert!(capability.check(&trust, at("2025-12-31T23:59:59Z")).is_err());
    trust.revoke(key(1).public().id());
    assert!(capability.check(&trust, at("2026-12-31T23:59:59Z")).is_err());
}

#[test]
fn unused_permissions_warn() {
    let bytes = component(Shape::Tool, &[]);
    let change = json!({"permissions": {"memory:read": {"namespaces": ["n"]}}});
    let admitted = admit(&Registry::default(), &signed(1, vec![entry(&bytes, change)]), &bytes).unwrap();
    let messages: Vec<&str> = admitted[0].1.iter().map(|warning| warning.message.as_str()).collect();
    assert_eq!(
        messages,
        ["the entry asks for memory:read, and no import of the component can use it"]
    );
}

#[tokio::test]
async fn a_component_is_compiled_once_for_each_engine() {
    let runtime = Runtime::new(RuntimeOptions {
        allocation: Allocation::OnDemand,
        ..RuntimeOptions::default()
    });
    let runtime = runtime.unwrap();
    let bytes = component(Shape::Tool, &["aral:capability/log@1.0.0"]);
    let admitted = admit(&Registry::default(), &signed(1, versions(&bytes, &["1.0.0"])), &bytes).unwrap();
    let (capability, _) = &admitted[0];
    let clock = TestClock::default();
    let (one, two) = tokio::join!(
        capability.component(&runtime, Metering::Metered, &clock),
        capability.component(&runtime, Metering::Metered, &clock)
    );
    let code = |component: &wasmtime::component::Component| component.image_range().start;
    assert_eq!(code(&one.unwrap()), code(&two.unwrap()));
    let other = capability
        .component(&runtime, Metering::EpochOnly, &clock)
        .await
        .unwrap();
    let same = |metering| wasmtime::Engine::same(other.engine(), runtime.engine(metering).unwrap().wasmtime());
    assert!(same(Metering::EpochOnly) && !same(Metering::Metered));
}

/// A runtime whose compiler is this program.
fn compiled_by(program: &str, args: &[&str], timeout_ms: u64) -> Runtime {
    Runtime::new(RuntimeOptions {
        allocation: Allocation::OnDemand,
        compiler: CompilerKind::Child {
            program: program.into(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            timeout_ms,
        },
        ..RuntimeOptions::default()
    })
    .unwrap()
}

/// A clock whose elapsed time, in seconds, is set by hand.
#[derive(Debug, Default)]
struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        at("2026-06-01T00:00:00Z")
    }

    fn elapsed(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

#[tokio::test]
async fn what_did_not_compile_is_not_compiled_again_at_each_call() {
    // Each begins by leaving a file that is named after its process. What the jail lets nobody do is write to it.
    let once = [1; 8];
    let each = [1, 2, 3, 4, 5, 6, 7, 8];
    let (never, longer) = ([None; 8], [30, 1, 60, 1, 120, 240, 300, 300].map(Some));
    for (compiler, code, tried, retry_after_s) in [
        ("printf '!bad'", Code::ComponentInvalid, once, never),
        ("printf -- '-bad'", Code::ComponentInvalid, once, never),
        (
            "kill -s ABRT $$",
            Code::ComponentTooLarge,
            [1, 1, 2, 2, 3, 4, 5, 6],
            longer,
        ),
        // As whoever ends the host ends its children, too.
        ("kill -s TERM $$", Code::Unavailable, each, never),
        ("exit 3", Code::Internal, [1, 1, 2, 2, 3, 4, 5, 6], longer),
        ("printf '+bad'", Code::Internal, [1, 1, 2, 2, 3, 4, 5, 6], longer),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(": > \"$0/$$\"; {compiler}");
        let runtime = compiled_by("/bin/sh", &["-c", &script, folder.path().to_str().unwrap()], 60_000);
        let bytes = component(Shape::Tool, &[]);
        let admitted = admit(&Registry::default(), &signed(1, versions(&bytes, &["1.0.0"])), &bytes).unwrap();
        let clock = TestClock::default();
        let mut first = None;
        let at_s = [0, 29, 30, 89, 90, 210, 450, 750];
        for ((at_s, tried), retry_after_s) in at_s.into_iter().zip(tried).zip(retry_after_s) {
            clock.0.store(at_s, Ordering::Relaxed);
            let compiled = admitted[0].0.component(&runtime, Metering::Metered, &clock).await;
            let mut failure = compiled.unwrap_err();
            assert_eq!(failure.code, code, "{compiler}");
            let retry_after = failure.retry_after.take();
            assert_eq!(
                retry_after,
                retry_after_s.map(Duration::from_secs),
                "{compiler} after {at_s} s"
            );
            assert_eq!(*first.get_or_insert_with(|| failure.clone()), failure, "{compiler}");
            assert_eq!(folder_entries(folder.path()), tried, "{compiler} after {at_s} s");
        }
        // The other engine finds out for itself.
        let other = admitted[0].0.component(&runtime, Metering::EpochOnly, &clock).await;
        assert_eq!(other.unwrap_err().code, code);
        assert_eq!(folder_entries(folder.path()), tried[7] + 1, "{compiler}");
    }
}

/// Loaded once, refused for good: each time that it is compiled it would take a place to compile, and then not load.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "gives the compiler what it answers")]
async fn code_that_does_not_fit_into_the_pool_is_the_fault_of_the_component() {
    let instances = "(core instance (instantiate $m))".repeat(5);
    let bytes = wat::parse_str(format!(
        r#"(component
            (core module $m (memory 1))
            {instances}
            (instance $it)
            (export "aral:capability/tool@1.0.0" (instance $it)))"#
    ))
    .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let begun = folder.path().join("begun");
    std::fs::create_dir(&begun).unwrap();
    let script = r#": > "$0/begun/$$"; printf +; exec /bin/cat "$0/code""#;
    let runtime = Runtime::new(RuntimeOptions {
        concurrent_calls_max: 2,
        compiler: CompilerKind::Child {
            program: "/bin/sh".into(),
            args: ["-c", script, folder.path().to_str().unwrap()]
                .map(str::to_owned)
                .to_vec(),
            timeout_ms: 60_000,
        },
        ..RuntimeOptions::default()
    })
    .unwrap();
    let engine = runtime.engine(Metering::Metered).unwrap().wasmtime();
    let code = engine.precompile_component(&bytes).unwrap();
    std::fs::write(folder.path().join("code"), code).unwrap();
    let admitted = admit(&Registry::default(), &signed(1, versions(&bytes, &["1.0.0"])), &bytes).unwrap();
    let clock = TestClock::default();
    for at_s in [0, 1, 1000] {
        clock.0.store(at_s, Ordering::Relaxed);
        let compiled = admitted[0].0.component(&runtime, Metering::Metered, &clock).await;
        let failure = compiled.unwrap_err();
        assert_eq!(failure.code, Code::ComponentInvalid, "{failure}");
        assert!(failure.message.contains("5 Wasm linear memories"), "{failure}");
        assert_eq!(failure.retry_after, None);
        assert_eq!(folder_entries(&begun), 1, "after {at_s} s");
    }
}

#[expect(clippy::disallowed_methods, reason = "counts what the compilers left behind")]
fn folder_entries(folder: &std::path::Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[tokio::test(start_paused = true)]
async fn several_who_want_one_component_wait_no_longer_for_a_compiler_than_one() {
    let runtime = compiled_by("/bin/sleep", &["600"], 600_000);
    let several = ["a", "b", "c"].map(|id| (id, named(id)));
    let entries = several.iter().map(|(id, bytes)| entry(bytes, json!({ "id": id })));
    let components = |entry: &Entry| {
        let found = several.iter().find(|(id, _)| *id == entry.id.as_str());
        Ok(found.unwrap().1.clone())
    };
    let admitted = Registry::default()
        .admit(&signed(1, entries.collect()), &components)
        .unwrap();
    let clock = TestClock::default();
    let component = |at: usize| admitted[at].0.component(&runtime, Metering::Metered, &clock);
    let begun = tokio::time::Instant::now();
    tokio::select! {
        biased;
        _ = async { tokio::join!(component(0), component(1)) } => panic!("a compiler that sleeps has answered"),
        (one, two, three) = async { tokio::join!(component(2), component(2), component(2)) } => {
            for ended in [one, two, three] {
                assert_eq!(ended.unwrap_err().code, Code::Unavailable);
            }
        }
    }
    let waited = begun.elapsed();
    let most = Duration::from_millis(COMPILE_MS_MAX);
    assert!(waited >= most && waited < most * 3 / 2, "{waited:?}");
}

#[tokio::test]
async fn code_that_does_not_validate_is_the_fault_of_the_component() {
    let mut bytes = wat::parse_str(
        r#"(component
            (core module (func (result i32) i32.const 7))
            (instance $it)
            (export "aral:capability/tool@1.0.0" (instance $it)))"#,
    )
    .unwrap();
    // `i32.const` becomes `i64.const`: the structure is whole, the function is wrong.
    let place = bytes.windows(2).position(|pair| pair == [0x41, 7]).unwrap();
    bytes[place] = 0x42;
    let admitted = admit(&Registry::default(), &signed(1, versions(&bytes, &["1.0.0"])), &bytes).unwrap();
    let runtime = Runtime::new(RuntimeOptions::default()).unwrap();
    let clock = TestClock::default();
    let compiled = admitted[0].0.component(&runtime, Metering::Metered, &clock).await;
    let failure = compiled.unwrap_err();
    assert_eq!(failure.code, Code::ComponentInvalid);
    assert!(failure.message.contains("type mismatch"), "{failure}");
}
