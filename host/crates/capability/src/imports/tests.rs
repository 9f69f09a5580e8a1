//! What imports mean, and that every hint of a refused import is the fix.

use aral_contract::limits::NAME_BYTES_MAX;
use aral_contract::{Code, Failure, Permissions};
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, Store};

use super::check::{Warning, check_imports, lines_to_add};
use super::*;
use crate::inspect::inspect;
use crate::manifest::{CapabilityToml, Shape};
use crate::testing::component;

fn permissions(toml: &str) -> Permissions {
    let text = format!("id = \"x\"\nversion = \"1.0.0\"\nshape = \"tool\"\ncomponent = \"x.wasm\"\n{toml}");
    CapabilityToml::parse(&text).unwrap().permissions
}

fn check(imports: &[&str], toml: &str) -> Result<Vec<Warning>, Failure> {
    check_imports(&inspect(&component(Shape::Tool, imports)).unwrap(), &permissions(toml))
}

#[test]
fn roles() {
    for (name, expected) in [
        (
            "wasi:http/outgoing-handler@0.2.3",
            "needs network:read or network:write, decided per call",
        ),
        ("wasi:http/types@0.2.0", "types only"),
        (
            "wasi:filesystem/types@0.2.12",
            "file:read or file:write, decided per call; empty without",
        ),
        (
            "wasi:filesystem/preopens@0.2.99",
            "file:read or file:write, decided per call; empty without",
        ),
        (
            "wasi:sockets/tcp@0.2.6",
            "refuses every address and name: requests go through wasi:http",
        ),
        ("wasi:cli/environment@0.2.6", "no variable; no argument"),
        ("aral:capability/secret-read@1.0.0", "needs secret:read"),
        ("aral:capability/exec@1.7.0", "needs exec"),
        ("aral:capability/log@1.0.0", "log lines of the call"),
        ("aral:capability/log@2.0.0", "not linkable: the host has version 1.0.0"),
        ("aral:capability/log", "not linkable: the host has version 1.0.0"),
        (
            "aral:capability/root@1.0.0",
            "not linkable: the host has no such interface",
        ),
        (
            "wasi:http/incoming-handler@0.2.3",
            "not linkable: the host has no such interface",
        ),
        ("wasi:http/types@0.3.0", "not linkable: the host has version 0.2.12"),
        (
            "wasi:http/types@0.2.0-rc-2023-12-05",
            "not linkable: the host has version 0.2.12",
        ),
        ("wasi:http/types@0.2", "not linkable: the host has no such interface"),
        (
            "wasi:clocks/timezone@0.2.12",
            "not linkable: the host has no such interface",
        ),
        (
            "wasi_snapshot_preview1",
            "not linkable: it is WASI preview 1: wrap the module with the preview 1 adapter",
        ),
        ("acme:db/query@1.0.0", "not linkable: the host knows no such interface"),
        (
            "evil-wasi:http/types@0.2.3",
            "not linkable: the host knows no such interface",
        ),
    ] {
        assert_eq!(role_of(name).describe(), expected, "{name}");
    }
}

/// The rule is wasmtime's, so wasmtime is asked.
#[test]
fn versions_are_matched_as_wasmtime_links_them() {
    let engine = Engine::default();
    let links = |wanted: &Version, ours: &Version| {
        let mut linker = Linker::<()>::new(&engine);
        let mut instance = linker.instance(&format!("a:b/c@{ours}")).unwrap();
        instance.func_wrap("f", |_, (): ()| Ok(())).unwrap();
        let text = format!("(component (import \"a:b/c@{wanted}\" (instance (export \"f\" (func)))))");
        let component = Component::new(&engine, wat::parse_str(text).unwrap()).unwrap();
        linker.instantiate(Store::new(&engine, ()), &component).is_ok()
    };
    let versions = [
        "0.0.1",
        "0.0.2",
        "0.1.0",
        "0.2.0",
        "0.2.12",
        "0.2.99",
        "0.2.12-rc1",
        "0.3.0",
        "1.0.0",
        "1.0.0-a",
        "1.9.1",
        "2.0.0",
    ];
    let mut linked = 0;
    for wanted in versions.map(|text| Version::parse(text).unwrap()) {
        for ours in [WASI_VERSION, ABI_VERSION] {
            assert_eq!(
                is_compatible(&wanted, &ours),
                links(&wanted, &ours),
                "{wanted} on {ours}"
            );
            linked += usize::from(links(&wanted, &ours));
        }
    }
    assert_eq!(linked, 5);
}

/// A component that imports one interface of the vendored WIT with all its functions.
fn component_with_all_of(resolve: &wit_parser::Resolve, interface: &str) -> Vec<u8> {
    let mut resolve = resolve.clone();
    let world = format!("package probe:probe; world probe {{ import {interface}; }}");
    let package = resolve.push_str("probe.wit", &world).unwrap();
    let world = resolve.select_world(&[package], Some("probe")).unwrap();
    let mut module = wit_component::dummy_module(&resolve, world, wit_parser::ManglingAndAbi::Standard32);
    wit_component::embed_component_metadata(&mut module, &resolve, world, wit_component::StringEncoding::UTF8).unwrap();
    wit_component::ComponentEncoder::default()
        .module(&module)
        .unwrap()
        .encode()
        .unwrap()
}

/// The table and the linker are written in two places and must say the same.
#[test]
fn the_linker_links_what_the_table_says() {
    let wit = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../wit/1.0.0");
    let mut resolve = wit_parser::Resolve::default();
    resolve.push_dir(&wit).unwrap();
    let engine = Engine::default();
    let links = |component: &[u8], permissions: &Permissions| {
        let linker = crate::linker::build(&engine, permissions, crate::Ungranted::Refuse).unwrap();
        linker
            .instantiate_pre(&Component::new(&engine, component).unwrap())
            .map(drop)
            .map_err(|error| format!("{error:#}"))
    };
    let abi = ABI
        .iter()
        .map(|(name, role)| (format!("aral:capability/{name}@{ABI_VERSION}"), role));
    let wasi = WASI
        .iter()
        .map(|(name, role)| (format!("wasi:{name}@{WASI_VERSION}"), role));
    for (interface, role) in abi.chain(wasi) {
        let component = component_with_all_of(&resolve, &interface);
        // An interface brings the interfaces that define its words along; those must be open.
        for import in inspect(&component).unwrap().imports {
            assert!(
                import.name == interface || !matches!(import.role, Role::Governed { .. } | Role::Unknown { .. }),
                "{import:?}"
            );
        }
        let governed = matches!(role, Role::Governed { .. });
        let without = links(&component, &Permissions::default());
        assert_eq!(without.is_err(), governed, "{interface}: {without:?}");
        for permission in role.permissions() {
            assert_eq!(
                links(&component, &permissions(&lines_to_add(*permission))),
                Ok(()),
                "{interface} with {permission}"
            );
        }
    }
    let outside = component_with_all_of(&resolve, &format!("wasi:http/incoming-handler@{WASI_VERSION}"));
    assert!(links(&outside, &Permissions::default()).is_err());
}

#[test]
fn a_governed_import_needs_its_permission_and_the_hint_is_the_fix() {
    for permission in Permission::ALL {
        let import = match permission {
            NetworkRead | NetworkWrite => "wasi:http/outgoing-handler@0.2.3".to_owned(),
            // Every std program imports the file system, so that the import alone is no reason to refuse.
            FileRead | FileWrite => continue,
            other => format!("aral:capability/{}@1.0.0", other.as_str().replace(':', "-")),
        };
        let failure = check(&[&import], "").unwrap_err();
        assert_eq!(failure.code, Code::ImportUncovered);
        assert!(failure.message.contains(&format!("`{import}`")), "{failure}");
        assert!(failure.message.contains(permission.as_str()), "{failure}");
        let lines = lines_to_add(permission);
        let hint = failure.hint.clone().unwrap().replace("\n# ", "\n");
        assert!(hint.contains(&lines), "{failure:?}");
        assert_eq!(check(&[&import], &lines).unwrap(), [], "{lines}");
    }
}

#[test]
fn every_hint_can_stand_at_the_end_of_the_file_together_with_the_others() {
    let all: Vec<String> = Permission::ALL.into_iter().map(lines_to_add).collect();
    assert_eq!(permissions(&all.join("\n")).present(), Permission::ALL);
    assert!(all.iter().all(|lines| lines.len() < NAME_BYTES_MAX * 2));
}

#[test]
fn the_text_of_a_refusal() {
    let failure = check(&["wasi:http/types@0.2.3", "aral:capability/exec@1.0.0"], "").unwrap_err();
    assert_eq!(
        crate::testing::shown(&failure),
        "component.import_uncovered: the component imports `aral:capability/exec@1.0.0`, which needs exec, and its entry does not ask for it\n\
         hint: add to capability.toml, with your own values:\n[permissions.exec]\nprograms = [{ path = \"/usr/bin/date\", args = [] }]"
    );
    let failure = check(&["acme:db/query@1.0.0"], "").unwrap_err();
    assert_eq!(
        crate::testing::shown(&failure),
        "component.invalid: the component imports `acme:db/query@1.0.0`, which this host cannot link: the host knows no such interface\n\
         hint: build it against WASI 0.2.12 (target wasm32-wasip2) and aral:capability@1.0.0, or remove what uses the import"
    );
}

#[test]
fn all_uncovered_imports_are_told_at_once_and_the_lines_can_be_pasted() {
    let imports = [
        "aral:capability/exec@1.0.0",
        "aral:capability/memory-read@1.0.0",
        "wasi:http/outgoing-handler@0.2.3",
        "wasi:http/outgoing-handler@0.2.4",
    ];
    let failure = check(&imports, "").unwrap_err();
    for part in [
        "`aral:capability/exec@1.0.0`, which needs exec, and `",
        "memory-read@1.0.0`, which needs memory:read",
        "which needs network:read or network:write",
        "does not ask for them",
    ] {
        assert!(failure.message.contains(part), "{part}: {failure:?}");
    }
    assert_eq!(failure.message.matches("outgoing-handler").count(), 1, "{failure:?}");
    let hint = failure.hint.unwrap();
    let (_, lines) = hint.split_once('\n').unwrap();
    assert_eq!(check(&imports, lines).unwrap(), [], "{lines}");
    assert_eq!(permissions(lines).present(), [NetworkRead, MemoryRead, Exec]);
}

#[test]
fn an_empty_scope_covers_nothing() {
    let failure = check(&["aral:capability/exec@1.0.0"], "[permissions.exec]\nprograms = []").unwrap_err();
    assert_eq!(failure.code, Code::ImportUncovered);
}

#[test]
fn a_permission_of_another_kind_covers_nothing() {
    let lines = lines_to_add(MemoryRead);
    assert_eq!(
        check(&["aral:capability/memory-write@1.0.0"], &lines).unwrap_err().code,
        Code::ImportUncovered
    );
}

#[test]
fn unused_permissions_warn_and_shared_imports_are_silent() {
    for permission in Permission::ALL {
        let warnings = check(
            &["aral:capability/log@1.0.0", "wasi:http/types@0.2.3"],
            &lines_to_add(permission),
        )
        .unwrap();
        let [warning] = warnings.as_slice() else {
            panic!("{permission}: {warnings:?}")
        };
        assert!(warning.message.contains(permission.as_str()));
        let header = lines_to_add(permission).lines().next().unwrap().to_owned();
        assert_eq!(warning.hint, format!("remove from capability.toml: {header}"));
    }
    let files = &["wasi:filesystem/types@0.2.3", "wasi:filesystem/preopens@0.2.3"];
    assert_eq!(check(files, &lines_to_add(FileRead)).unwrap(), []);
    assert_eq!(check(files, &lines_to_add(FileWrite)).unwrap(), []);
    assert_eq!(check(files, "").unwrap(), []);
    assert_eq!(
        check(&["wasi:http/outgoing-handler@0.2.3"], &lines_to_add(NetworkWrite)).unwrap(),
        []
    );
}
