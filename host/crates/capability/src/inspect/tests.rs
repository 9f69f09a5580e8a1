//! Golden inspections, and one test for each wrong file.

use aral_contract::limits::COMPONENT_BYTES_MAX;

use super::*;
use crate::testing::{component, shown};

/// What a component begins with.
const HEADER: &[u8] = b"\0asm\x0d\0\x01\0";

fn leb(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push((value % 0x80) as u8 | 0x80);
        value /= 0x80;
    }
    bytes.push(value as u8);
    bytes
}

fn section(id: u8, bytes: &[u8]) -> Vec<u8> {
    [&[id], leb(bytes.len()).as_slice(), bytes].concat()
}

fn refused(bytes: &[u8]) -> String {
    shown(&inspect(bytes).unwrap_err())
}

#[test]
fn golden_of_a_tool() {
    let imports = [
        "wasi:http/types@0.2.3",
        "wasi:http/outgoing-handler@0.2.3",
        "wasi:filesystem/types@0.2.6",
        "wasi:sockets/tcp@0.2.0",
        "aral:capability/types@1.0.0",
        "aral:capability/memory-write@1.2.0",
        "acme:db/query@0.1.0",
    ];
    insta::assert_json_snapshot!(inspect(&component(Shape::Tool, &imports)).unwrap());
}

#[test]
fn golden_of_a_command_with_producers() {
    let bytes = component(Shape::Command, &["wasi:cli/stdin@0.2.3"]);
    let mut producers = wasm_metadata::Producers::empty();
    producers.add("language", "Rust", "2024\u{1b}[31m");
    producers.add("processed-by", "rustc", "1.97.0");
    let bytes = producers.add_to_wasm(&bytes).unwrap();
    insta::assert_json_snapshot!(inspect(&bytes).unwrap());
}

#[test]
fn imports_of_the_outermost_component_count_alone() {
    let bytes = wat::parse_str(
        r#"(component
            (import "aral:capability/log@1.0.0" (instance))
            (component $inner
                (import "aral:capability/exec@1.0.0" (instance))
                (component (import "aral:capability/secret-read@1.0.0" (instance)))
                (core module $m (func (export "f")))
                (core instance $i (instantiate $m))
                (func $f (canon lift (core func $i "f")))
                (export "hidden" (func $f)))
            (core module (import "wasi_snapshot_preview1" "fd_write" (func)))
            (instance $it)
            (export "wasi:cli/run@0.2.0" (instance $it)))"#,
    );
    let inspection = inspect(&bytes.unwrap()).unwrap();
    let names: Vec<&str> = inspection.imports.iter().map(|import| import.name.as_str()).collect();
    assert_eq!(names, ["aral:capability/log@1.0.0"]);
    assert_eq!(inspection.exports.len(), 1);
    assert_eq!(inspection.shape, Some(Shape::Command));
    assert_eq!(inspection.permissions, []);
}

#[test]
fn asking_for_values_of_secrets_is_told_from_adding_them_to_requests() {
    let with = |methods: &str| {
        let text = format!(
            r#"(component
                (import "aral:capability/secret-read@1.0.0" (instance
                    (export "secret" (type $s (sub resource)))
                    {methods}))
                (instance $it)
                (export "wasi:cli/run@0.2.0" (instance $it)))"#
        );
        let inspection = inspect(&wat::parse_str(text).unwrap()).unwrap();
        let [import] = inspection.imports.as_slice() else {
            panic!("one import: {inspection:?}")
        };
        (import.reveals, import.describe())
    };
    let attach = r#"(export "[method]secret.attach" (func (param "self" (borrow $s))))"#;
    let reveal = r#"(export "[method]secret.reveal" (func (param "self" (borrow $s)) (result (list u8))))"#;
    assert_eq!(
        with(attach),
        (
            false,
            "needs secret:read, to add secrets to requests: it never asks for their values".to_owned()
        )
    );
    let asks = "needs secret:read; asks for values of secrets (`reveal`)".to_owned();
    assert_eq!(with(reveal), (true, asks.clone()));
    assert_eq!(with(&format!("{attach}{reveal}")), (true, asks));
}

#[test]
fn a_component_of_another_world_is_shown_and_has_no_shape() {
    let text = r#"(component
        (import "frobnicate" (func))
        (import "acme:db/query@1.0.0" (instance))
        (instance $it)
        (export "wasi:http/incoming-handler@0.2.3" (instance $it))
        (export "aral:capability/tool@2.0.0" (instance $it)))"#;
    let inspection = inspect(&wat::parse_str(text).unwrap()).unwrap();
    assert_eq!(inspection.shape, None);
    let roles: Vec<String> = inspection.imports.iter().map(|import| import.role.describe()).collect();
    assert_eq!(
        roles,
        [
            "not linkable: it is a func at the top level: the host links interfaces alone",
            "not linkable: the host knows no such interface",
        ]
    );
}

#[test]
fn a_core_module() {
    assert_eq!(
        refused(&wat::parse_str("(module (func))").unwrap()),
        "component.invalid: this is a core module, not a component\n\
         hint: build it for the target wasm32-wasip2, or wrap it: `wasm-tools component new`"
    );
}

#[test]
fn a_truncated_component_at_every_length() {
    let bytes = component(Shape::Tool, &["wasi:http/types@0.2.3", "aral:capability/log@1.0.0"]);
    let whole = inspect(&bytes).unwrap();
    for length in 1..bytes.len() {
        match inspect(&bytes[..length]) {
            // Cut between two sections a component is whole again, and another one: its digest tells.
            Ok(cut) => assert_ne!(cut.digest, whole.digest),
            Err(failure) => assert_eq!(failure.code, Code::ComponentInvalid, "{length}: {failure}"),
        }
    }
    assert_eq!(
        refused(&bytes[..bytes.len() - 3]),
        format!(
            "component.invalid: the component ends in the middle, at byte {}: it is truncated\nhint: copy or build the file again",
            bytes.len() - 3
        )
    );
}

#[test]
fn precompiled_code() {
    let engine = wasmtime::Engine::default();
    let compiled = engine.precompile_component(&component(Shape::Tool, &[])).unwrap();
    assert!(wasmtime::Engine::detect_precompiled(&compiled).is_some());
    assert_eq!(
        refused(&compiled),
        "component.invalid: this is machine code (a precompiled `.cwasm` or a native program), not a component\n\
         hint: give the `.wasm` file that it was made from: code compiled by others is never loaded"
    );
}

#[test]
fn rubbish_text_and_nothing() {
    assert_eq!(refused(b""), "component.invalid: the file is empty\nhint: -");
    assert_eq!(
        refused(b"hello"),
        "component.invalid: this is not WebAssembly: it does not begin with `\\0asm`\nhint: -"
    );
    assert_eq!(
        refused(b"(component)"),
        "component.invalid: this is WebAssembly text, not a binary component\n\
         hint: make it binary: `wasm-tools parse FILE.wat -o FILE.wasm`"
    );
    let failure = inspect(b"\0asm\x0d\0\x01\0\xff\xff\xff\xff").unwrap_err();
    assert_eq!(failure.code, Code::ComponentInvalid);
    assert!(
        failure.message.starts_with("the component is not valid, at byte "),
        "{failure}"
    );
}

#[test]
fn a_hundred_megabytes() {
    let mut bytes = component(Shape::Tool, &[]);
    bytes.resize(100 << 20, 0);
    assert_eq!(
        refused(&bytes),
        format!(
            "component.too_large: the component is 104857600 bytes, more than {COMPONENT_BYTES_MAX}\n\
             hint: build it with `--release`, and strip it: `wasm-tools strip`"
        )
    );
}

#[test]
fn too_many_imports() {
    let names: Vec<String> = (0..=EXTERNS_MAX).map(|number| format!("a:b/i{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    assert!(inspect(&component(Shape::Tool, &names[1..])).is_ok());
    assert_eq!(
        refused(&component(Shape::Tool, &names)),
        "component.invalid: the component has more than 512 imports or exports\nhint: -"
    );
}

#[test]
fn types_that_grow_without_bound_are_refused() {
    let doubled: String = (1..64)
        .map(|n| format!("(type $t{n} (tuple $t{} $t{}))", n - 1, n - 1))
        .collect();
    let bytes = wat::parse_str(format!("(component (type $t0 (tuple u8 u8)) {doubled})")).unwrap();
    let failure = inspect(&bytes).unwrap_err();
    assert_eq!(failure.code, Code::ComponentInvalid);
    assert!(failure.message.contains("type size"), "{failure}");
}

/// 62 KiB that took a validator more than a gibibyte.
#[test]
fn types_that_are_copied_wherever_they_are_imported_are_refused_before_they_are() {
    let with = |imports: usize| {
        let functions: String = (0..2000)
            .map(|n| format!(r#"(export "a{n}" (func (param "a" (own $r))))"#))
            .collect();
        let importing = r#"(type (component (import "a" (instance (type $t)))))"#.repeat(imports);
        let text = format!(
            r#"(component (type $t (instance (export "r" (type $r (sub resource))) {functions})) {importing})"#
        );
        wat::parse_str(text).unwrap()
    };
    assert!(inspect(&with(1)).is_ok());
    assert_eq!(
        refused(&with(2000)),
        "component.invalid: the component's types, imports and exports come to more than 1000000 items, each copy counted\n\
         hint: -"
    );
}

#[test]
fn types_deep_inside_each_other_are_refused() {
    let chain = |levels: usize| {
        let types: String = (1..levels)
            .map(|n| format!(r#"(type $t{n} (instance (export "a" (instance (type $t{})))))"#, n - 1))
            .collect();
        wat::parse_str(format!("(component (type $t0 (instance)) {types})")).unwrap()
    };
    assert!(inspect(&chain(90)).is_ok());
    assert_eq!(
        refused(&chain(200)),
        "component.invalid: the component's types are more than 100 levels deep\nhint: -"
    );
}

/// 112 KiB that took a validator 405 MiB: it copies the name of the module for each import.
#[test]
fn imports_that_share_the_name_of_their_module_are_refused_as_a_feature_that_is_off() {
    let (name, imports) = (100_000, 2000);
    let first = [vec![1], leb(name), vec![b'm'; name], vec![0, 0x7f], leb(imports)].concat();
    let each = (0..imports).flat_map(|n| {
        let name = format!("{n:04}");
        [&[4u8], name.as_bytes(), &[3, 0x7f, 0]].concat()
    });
    let group: Vec<u8> = first.into_iter().chain(each).collect();
    let module = [b"\0asm\x01\0\0\0", section(2, &group).as_slice()].concat();
    let found = refused(&[HEADER, &section(1, &module)].concat());
    assert!(
        found.starts_with("component.invalid: ") && found.contains("compact imports proposal disabled"),
        "{found}"
    );
}

/// Each of them made the validator panic, which holds that no type can be imported twice.
#[test]
fn a_component_that_makes_the_validator_panic_is_not_valid() {
    for bytes in [
        include_bytes!("../../../../../fuzz/seeds/component/twice").as_slice(),
        include_bytes!("../../../../../fuzz/seeds/component/twice_inside"),
    ] {
        assert_eq!(
            refused(bytes),
            "component.invalid: the component is not valid: the validator broke off while it followed its types\nhint: -"
        );
    }
}

#[test]
fn components_in_components_in_components() {
    let nested = |levels: usize| {
        // Section 4 holds a component.
        (0..levels).fold(HEADER.to_vec(), |inner, _| [HEADER, &section(4, &inner)].concat())
    };
    assert!(inspect(&nested(NESTING_MAX)).is_ok());
    assert_eq!(
        refused(&nested(NESTING_MAX + 1)),
        "component.invalid: the component holds components more than 64 levels deep\nhint: -"
    );
    assert!(refused(&nested(5_000)).contains("more than 64 levels deep"));
}

proptest::proptest! {
    #[test]
    fn rubbish_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = inspect(&bytes);
        let _ = inspect(&[b"\0asm\x0d\0\x01\0", bytes.as_slice()].concat());
    }

    #[test]
    fn a_changed_byte_never_panics(place in 0usize..200, value in proptest::num::u8::ANY) {
        let mut bytes = component(Shape::Tool, &["wasi:http/types@0.2.3", "aral:capability/exec@1.0.0"]);
        let place = place % bytes.len();
        bytes[place] = value;
        let _ = inspect(&bytes);
    }
}
