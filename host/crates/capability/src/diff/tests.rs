//! What counts as growth: one case for each kind of change, and the laws that hold for all.

use aral_contract::scope::{ArgumentPattern, NetworkScope, SecretUse};
use aral_contract::{HostPattern, Permissions};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::inspect::inspect;
use crate::manifest::Shape;
use crate::testing::{component, entry};

fn inspection(imports: &[&str]) -> Inspection {
    inspect(&component(Shape::Tool, imports)).unwrap()
}

/// The changes as lines: subject, direction, and `!` where authority grew.
fn lines(diff: &Diff) -> Vec<String> {
    assert_eq!(diff.authority_grew, diff.changes.iter().any(|change| change.grew));
    let line = |change: &Change| {
        let mark = if change.grew { "!" } else { "" };
        format!("{} {}{mark}", change.subject, change.direction.as_str())
    };
    diff.changes.iter().map(line).collect()
}

fn components(old: &[&str], new: &[&str]) -> Vec<String> {
    let diff = diff_components(&inspection(old), &inspection(new));
    lines(&diff)
        .into_iter()
        .filter(|line| !line.starts_with("digest ") && !line.starts_with("size "))
        .collect()
}

#[test]
fn a_component_grows_by_asking_for_values_of_secrets() {
    let with = |methods: &str| {
        let text = format!(
            r#"(component (import "aral:capability/secret-read@1.0.0" (instance
                (export "secret" (type $s (sub resource))) {methods})))"#
        );
        inspect(&wat::parse_str(text).unwrap()).unwrap()
    };
    let attach = with(r#"(export "[method]secret.attach" (func (param "self" (borrow $s))))"#);
    let reveal = with(r#"(export "[method]secret.reveal" (func (param "self" (borrow $s)) (result (list u8))))"#);
    let grown = diff_components(&attach, &reveal);
    assert!(grown.authority_grew, "{grown:?}");
    assert!(lines(&grown).contains(&"secret:read added!".to_owned()), "{grown:?}");
    let shrunk = diff_components(&reveal, &attach);
    assert!(!shrunk.authority_grew, "{shrunk:?}");
    assert!(lines(&shrunk).contains(&"secret:read removed".to_owned()), "{shrunk:?}");
    assert!(!diff_components(&reveal, &reveal).authority_grew);
}

#[test]
fn components_grow_by_imports_that_open_something_new() {
    let exec = "aral:capability/exec@1.0.0";
    let http = "wasi:http/outgoing-handler@0.2.3";
    for (old, new, expected) in [
        (vec![], vec![exec], vec!["import added!"]),
        (vec![exec], vec![], vec!["import removed"]),
        (
            vec![http],
            vec!["wasi:http/outgoing-handler@0.2.12"],
            vec!["import changed"],
        ),
        (vec![], vec!["wasi:http/types@0.2.3"], vec!["import added"]),
        (vec![], vec!["wasi:sockets/tcp@0.2.3"], vec!["import added"]),
        (vec![], vec!["wasi:filesystem/preopens@0.2.3"], vec!["import added!"]),
        (
            vec!["wasi:filesystem/types@0.2.3"],
            vec!["wasi:filesystem/types@0.2.3", "wasi:filesystem/preopens@0.2.3"],
            vec!["import added"],
        ),
        // A version that was not linkable becomes one that is.
        (vec!["aral:capability/exec@2.0.0"], vec![exec], vec!["import changed!"]),
        (vec![], vec!["acme:db/query@1.0.0"], vec!["import added"]),
    ] {
        assert_eq!(components(&old, &new), expected, "{old:?} to {new:?}");
    }
    let old = inspect(&component(Shape::Tool, &[])).unwrap();
    let new = inspect(&component(Shape::Command, &[])).unwrap();
    let found = lines(&diff_components(&old, &new));
    assert_eq!(found[0], "digest changed");
    assert_eq!(
        found[found.len() - 3..],
        ["shape changed", "export removed", "export added"]
    );
}

#[test]
fn unlike_things_are_not_compared() {
    let one = Subject::Component(Box::new(inspection(&[])));
    let two = Subject::Manifest(Box::new(ManifestBody::new(Vec::new()).unwrap()));
    let failure = diff(&one, &two).unwrap_err();
    assert_eq!(failure.code, Code::ConfigInvalid);
    assert!(failure.hint.is_some());
    assert!(diff(&one, &one).unwrap().is_empty() && diff(&two, &two).unwrap().is_empty());
}

fn permissions(old: Value, new: Value) -> Vec<String> {
    let of = |value: Value| entry(b"", json!({ "permissions": value }));
    lines(&diff_entries(&of(old), &of(new)))
}

/// Compares one permission.
fn scope(permission: &str, old: Value, new: Value) -> String {
    let lines = permissions(json!({ permission: old }), json!({ permission: new }));
    let changes: Vec<&str> = lines
        .iter()
        .map(|line| line.strip_prefix(permission).unwrap().trim_start())
        .collect();
    if changes.is_empty() {
        return "same".to_owned();
    }
    changes.join(", ")
}

#[test]
fn permissions_come_and_go() {
    let hosts = json!({"hosts": ["https://a.com"]});
    assert_eq!(
        permissions(json!({}), json!({"network:read": hosts})),
        ["network:read added!"]
    );
    assert_eq!(
        permissions(json!({"network:read": hosts}), json!({})),
        ["network:read removed"]
    );
    assert_eq!(
        permissions(json!({"network:read": {"hosts": []}}), json!({})),
        Vec::<String>::new()
    );
    assert_eq!(
        permissions(json!({"network:read": {"hosts": []}}), json!({"network:read": hosts})),
        ["network:read added!"]
    );
    assert_eq!(
        permissions(json!({"network:read": hosts}), json!({"network:write": hosts})),
        ["network:read removed", "network:write added!"]
    );
}

#[test]
fn hosts() {
    for (old, new, expected) in [
        (vec!["https://*.a.com"], vec!["https://x.a.com"], "narrower"),
        (vec!["https://x.a.com"], vec!["https://*.a.com"], "wider!"),
        (vec!["https://a.com"], vec!["http://a.com"], "wider!"),
        (vec!["https://a.com"], vec!["https://a.com:8443"], "wider!"),
        (vec!["https://a.com"], vec!["https://evil-a.com"], "wider!"),
        (vec!["https://a.com"], vec!["*"], "wider!"),
        (vec!["*"], vec!["http://127.0.0.1:1", "https://*.a.com"], "narrower"),
        (
            vec!["https://a.com", "https://b.com"],
            vec!["https://b.com", "https://a.com"],
            "changed",
        ),
        (
            vec!["https://a.com", "https://b.com"],
            vec!["https://b.com", "https://c.com"],
            "wider!",
        ),
        (vec!["https://a.com"], vec!["https://A.com:443"], "same"),
    ] {
        for permission in ["network:read", "network:write"] {
            assert_eq!(
                scope(permission, json!({ "hosts": old }), json!({ "hosts": new })),
                expected,
                "{old:?} to {new:?}"
            );
        }
    }
}

#[test]
fn folders_to_read() {
    let paths = |hosts: &[&str]| {
        let paths: Vec<Value> = hosts
            .iter()
            .enumerate()
            .map(|(index, host)| json!({"guest": format!("/g{index}"), "host": host}))
            .collect();
        json!({ "paths": paths })
    };
    for (old, new, expected) in [
        (vec!["/srv"], vec!["/srv/data"], "narrower"),
        (vec!["/srv/data"], vec!["/srv"], "wider!"),
        (vec!["/srv"], vec!["/srv-2"], "wider!"),
        (vec!["/srv"], vec!["/srv/a", "/srv/b"], "narrower"),
        (vec!["/srv/a", "/srv/b"], vec!["/srv/b", "/srv/a"], "changed"),
    ] {
        assert_eq!(
            scope("file:read", paths(&old), paths(&new)),
            expected,
            "{old:?} to {new:?}"
        );
    }
}

#[test]
fn what_may_be_written_may_be_read() {
    let read = json!({"paths": [{"guest": "/g", "host": "/srv/data"}]});
    let write = |host: &str| json!({"paths": [{"guest": "/g", "host": host, "bytes_max": 1, "files_max": 1}]});
    let turned = |host: &str| permissions(json!({"file:write": write(host)}), json!({ "file:read": read }));
    assert_eq!(turned("/srv"), ["file:read added", "file:write removed"]);
    assert_eq!(turned("/etc"), ["file:read added!", "file:write removed"]);
    assert_eq!(
        permissions(json!({ "file:read": read }), json!({"file:write": write("/srv/data")})),
        ["file:read removed", "file:write added!"]
    );
}

#[test]
fn folders_to_write_and_their_quotas() {
    let paths = |items: &[(&str, &str, u64, u64)]| {
        let path = |(guest, host, bytes, files): &(&str, &str, u64, u64)| json!({"guest": guest, "host": host, "bytes_max": bytes, "files_max": files});
        json!({"paths": items.iter().map(path).collect::<Vec<_>>()})
    };
    let old = [("/g", "/srv", 100, 10)];
    for (new, expected) in [
        (vec![("/g", "/srv", 100, 9)], "narrower"),
        (vec![("/g", "/srv", 101, 10)], "wider!"),
        (vec![("/g", "/srv", 100, 11)], "wider!"),
        (vec![("/g", "/etc", 1, 1)], "wider!"),
        (vec![("/elsewhere", "/srv", 100, 10)], "changed"),
        (vec![("/a", "/srv/a", 50, 5), ("/b", "/srv/b", 50, 5)], "narrower"),
        (vec![("/a", "/srv/a", 100, 5), ("/b", "/srv/b", 1, 5)], "wider!"),
    ] {
        assert_eq!(scope("file:write", paths(&old), paths(&new)), expected, "{new:?}");
    }
}

#[test]
fn secrets() {
    let inject = |hosts: &[&str], header: &str, prefix: &str| json!({"secrets": [{"name": "k", "hosts": hosts, "header": header, "prefix": prefix}]});
    let reveal = json!({"secrets": [{"name": "k", "use": "reveal"}]});
    let bound = inject(&["https://*.a.com"], "authorization", "Bearer ");
    for (old, new, expected) in [
        (bound.clone(), reveal.clone(), "wider!, revealed added!"),
        (reveal.clone(), bound.clone(), "narrower, revealed removed"),
        (
            bound.clone(),
            inject(&["https://x.a.com"], "authorization", "Bearer "),
            "narrower",
        ),
        (
            bound.clone(),
            inject(&["https://b.com"], "authorization", "Bearer "),
            "wider!",
        ),
        (
            bound.clone(),
            inject(&["https://*.a.com"], "x-echo", "Bearer "),
            "wider!",
        ),
        (
            bound.clone(),
            inject(&["https://*.a.com"], "authorization", "Token "),
            "changed",
        ),
        (
            bound,
            json!({"secrets": [{"name": "other", "use": "reveal"}]}),
            "wider!, revealed added!",
        ),
    ] {
        assert_eq!(scope("secret:read", old, new), expected);
    }
    let names = |names: &[&str]| json!({ "names": names });
    assert_eq!(scope("secret:write", names(&["a"]), names(&["a", "b"])), "wider!");
    assert_eq!(scope("secret:write", names(&["a", "b"]), names(&["b"])), "narrower");
}

#[test]
fn memory() {
    let write = |names: &[&str], bytes: u64, records: u64| json!({"namespaces": names, "bytes_max": bytes, "records_max": records});
    let old = write(&["a", "b"], 10, 10);
    for (new, expected) in [
        (write(&["a"], 10, 10), "narrower"),
        (write(&["a", "b"], 9, 10), "narrower"),
        (write(&["a", "c"], 10, 10), "wider!"),
        (write(&["a"], 11, 10), "wider!"),
        (write(&["a"], 10, 11), "wider!"),
    ] {
        assert_eq!(scope("memory:write", old.clone(), new), expected);
    }
    let read = |names: &[&str]| json!({ "namespaces": names });
    assert_eq!(scope("memory:read", read(&["a"]), read(&["b"])), "wider!");
    assert_eq!(scope("memory:read", read(&["a", "b"]), read(&["b"])), "narrower");
}

#[test]
fn programs() {
    let program = |path: &str, args: &[&str]| json!({"programs": [{"path": path, "args": args}]});
    let old = program("/bin/git", &["log", "{word}"]);
    for (new, expected) in [
        (program("/bin/git", &["log", "HEAD"]), "narrower"),
        (program("/bin/git", &["log", "--output=x"]), "wider!"),
        (program("/bin/git", &["log", "{path}"]), "wider!"),
        (program("/bin/git", &["log"]), "wider!"),
        (program("/bin/sh", &["log", "{word}"]), "wider!"),
    ] {
        assert_eq!(scope("exec", old.clone(), new), expected);
    }
}

#[test]
fn a_limit_that_one_side_alone_asks_for_may_be_more_under_some_policy() {
    let default = aral_contract::Limits::default().fuel;
    for (old, new, expected) in [
        (json!({"fuel": 5}), json!({"fuel": 6}), "limits.fuel wider!"),
        (json!({"fuel": 6}), json!({"fuel": 5}), "limits.fuel narrower"),
        (json!({}), json!({"fuel": default + 1}), "limits.fuel changed!"),
        (json!({}), json!({"fuel": default}), "limits.fuel changed!"),
        (json!({}), json!({"fuel": default - 1}), "limits.fuel changed!"),
        (json!({"fuel": default + 1}), json!({}), "limits.fuel changed!"),
        (json!({"fuel": 5}), json!({}), "limits.fuel changed!"),
    ] {
        let of = |limits: &Value| entry(b"", json!({ "limits": limits }));
        assert_eq!(lines(&diff_entries(&of(&old), &of(&new))), [expected], "{old} to {new}");
    }
    let diff = diff_entries(&entry(b"", json!({})), &entry(b"", json!({"limits": {"fuel": 5}})));
    let shown = (diff.changes[0].old.as_deref(), diff.changes[0].new.as_deref());
    assert_eq!(shown, (Some("the policy's default"), Some("5")));
}

#[test]
fn texts_and_schemas_change_without_growth() {
    let old = entry(
        b"1",
        json!({"input_schema": {"properties": {"a/b": {"type": "string"}, "gone": {}}, "required": ["a"]}}),
    );
    let new = entry(
        b"2",
        json!({"version": "1.1.0", "title": "T", "description": "D", "shape": "command", "output_schema": {"type": "object"},
               "input_schema": {"properties": {"a/b": {"type": "integer"}, "new": {}}, "required": []}}),
    );
    let diff = diff_entries(&old, &new);
    assert_eq!(
        lines(&diff),
        [
            "version changed",
            "component changed",
            "shape changed",
            "title changed",
            "description changed",
            "input_schema/properties/a~1b/type changed",
            "input_schema/properties/gone removed",
            "input_schema/properties/new added",
            "input_schema/required changed",
            "output_schema/type added",
        ]
    );
    assert_eq!(diff.changes[5].old.as_deref(), Some("\"string\""));
    let many = |value: u64| {
        let properties: serde_json::Map<_, _> = (0..100).map(|number| (format!("p{number}"), json!(value))).collect();
        entry(b"", json!({"input_schema": properties}))
    };
    let found = lines(&diff_entries(&many(1), &many(2)));
    assert_eq!(found.len(), 17);
    assert_eq!(found[16], "input_schema changed");
}

#[test]
fn manifests_are_matched_by_version_then_by_the_next_lower_one() {
    let one = |id: &str, version: &str, hosts: &[&str]| {
        let permissions = if hosts.is_empty() {
            json!({})
        } else {
            json!({"network:read": {"hosts": hosts}})
        };
        entry(b"", json!({"id": id, "version": version, "permissions": permissions}))
    };
    let manifests = |old: Vec<Entry>, new: Vec<Entry>| {
        let (old, new) = (ManifestBody::new(old).unwrap(), ManifestBody::new(new).unwrap());
        let diff = diff_manifests(&old, &new);
        assert!(diff.changes.iter().all(|change| change.capability.is_some()));
        lines(&diff)
    };
    let (wide, narrow) = (["*"], ["https://a.com"]);
    assert_eq!(
        manifests(vec![one("a", "1.0.0", &narrow)], vec![one("a", "1.1.0", &narrow)]),
        ["version changed"]
    );
    assert_eq!(
        manifests(vec![one("a", "1.0.0", &narrow)], vec![one("a", "1.1.0", &wide)]),
        ["version changed", "network:read wider!"]
    );
    assert_eq!(
        manifests(
            vec![one("a", "1.0.0", &narrow)],
            vec![one("a", "1.1.0", &narrow), one("a", "1.0.0", &narrow)]
        ),
        ["version changed"]
    );
    assert_eq!(manifests(vec![], vec![one("a", "1.0.0", &[])]), ["capability added"]);
    assert_eq!(
        manifests(vec![], vec![one("a", "1.0.0", &narrow)]),
        ["capability added", "network:read added!"]
    );
    assert_eq!(
        manifests(vec![one("a", "1.0.0", &narrow)], vec![]),
        ["capability removed"]
    );
    assert_eq!(
        manifests(
            vec![one("a", "1.0.0", &wide), one("a", "2.0.0", &narrow)],
            vec![one("a", "3.0.0", &narrow)]
        ),
        ["version changed", "capability removed"]
    );
    // Below all of before: it takes the place of the lowest one.
    assert_eq!(
        manifests(
            vec![one("a", "2.0.0", &narrow), one("a", "3.0.0", &wide)],
            vec![one("a", "1.0.0", &wide)]
        ),
        ["version changed", "network:read wider!", "capability removed"]
    );
    // Whoever was given `a@^1` gets what only `a@^2` had.
    let before = || vec![one("a", "1.0.0", &[]), one("a", "2.0.0", &narrow)];
    assert_eq!(
        manifests(before(), [before(), vec![one("a", "1.5.0", &narrow)]].concat()),
        ["version changed", "network:read added!"]
    );
    assert_eq!(
        manifests(before(), vec![one("a", "1.1.0", &narrow)]),
        ["version changed", "network:read added!", "capability removed"]
    );
    assert_eq!(
        manifests(before(), vec![one("a", "1.1.0", &narrow), one("a", "2.1.0", &[])]),
        [
            "version changed",
            "network:read added!",
            "version changed",
            "network:read removed"
        ]
    );
}

#[test]
fn whoever_gets_a_lower_version_in_place_of_one_that_is_gone_may_get_more() {
    let wide = |version: &str| {
        let permissions = json!({"network:read": {"hosts": ["*"]}});
        entry(b"", json!({"version": version, "permissions": permissions}))
    };
    let narrow = |version: &str| {
        let permissions = json!({"network:read": {"hosts": ["https://a.com"]}});
        entry(b"", json!({"version": version, "permissions": permissions}))
    };
    let before = || vec![wide("1.0.0"), narrow("1.2.0")];
    let grown = "network:read wider!";
    for (old, new, expected) in [
        (before(), vec![wide("1.0.0")], vec![grown, "capability removed"]),
        (
            before(),
            vec![wide("1.1.5")],
            vec!["version changed", grown, "capability removed"],
        ),
        (
            before(),
            vec![wide("1.0.0"), wide("1.1.5")],
            vec!["version changed", grown, "capability removed"],
        ),
        // Whoever was given `@^1` does not get what takes its place in another line, nor what is no release.
        (
            before(),
            vec![wide("1.0.0"), narrow("2.0.0")],
            vec!["version changed", grown],
        ),
        (
            before(),
            vec![wide("1.0.0"), narrow("1.3.0-rc.1")],
            vec!["version changed", grown],
        ),
        // Nor had anybody of its line what is no release.
        (
            vec![narrow("1.2.3"), wide("1.3.0-rc.1"), narrow("2.0.0")],
            vec![narrow("1.2.3"), wide("1.3.0-rc.1"), wide("1.3.0"), narrow("2.0.0")],
            vec!["version changed", grown],
        ),
        // Without a version it is the newest of all.
        (
            vec![wide("1.0.0"), narrow("2.0.0")],
            vec![wide("1.0.0")],
            vec![grown, "capability removed"],
        ),
        (
            vec![wide("1.0.0"), narrow("2.0.0"), narrow("3.0.0")],
            vec![wide("1.0.0"), narrow("3.0.0")],
            vec!["capability removed"],
        ),
        (
            vec![wide("0.1.0"), narrow("0.2.0"), narrow("0.3.0")],
            vec![wide("0.1.0"), narrow("0.3.0")],
            vec!["capability removed"],
        ),
        // It is told once.
        (
            vec![narrow("1.1.0"), narrow("1.2.0")],
            vec![wide("1.0.0")],
            vec!["version changed", grown, "capability removed"],
        ),
        // Whoever was given `@~1.2` gets what others of its line do not.
        (
            vec![wide("1.2.0"), narrow("1.2.3"), narrow("1.3.0")],
            vec![wide("1.2.0"), narrow("1.3.0")],
            vec![grown, "capability removed"],
        ),
        // What is called without a version is the newest release, or the newest of all where there is none.
        (
            vec![narrow("1.0.0"), wide("2.0.0-rc.1")],
            vec![wide("2.0.0-rc.1")],
            vec![grown, "capability removed"],
        ),
        (
            vec![narrow("1.0.0"), wide("2.0.0-rc.1")],
            vec![narrow("1.0.0"), wide("2.0.0-rc.1"), wide("2.0.0")],
            vec!["version changed", grown],
        ),
        // What gets less, or the same, did not grow.
        (
            vec![narrow("1.0.0"), wide("1.2.0")],
            vec![narrow("1.0.0")],
            vec!["capability removed"],
        ),
        (before(), vec![wide("1.0.0"), narrow("1.2.1")], vec!["version changed"]),
    ] {
        let (old, new) = (ManifestBody::new(old).unwrap(), ManifestBody::new(new).unwrap());
        assert_eq!(lines(&diff_manifests(&old, &new)), expected, "{old:?} to {new:?}");
    }
}

const HOSTS: [&str; 6] = [
    "*",
    "https://*.a.com",
    "https://x.a.com",
    "https://*.b.a.com",
    "http://a.com:8080",
    "https://[::1]",
];
const FOLDERS: [&str; 4] = ["/", "/srv", "/srv/data", "/srv-data"];
const NAMES: [&str; 3] = ["one", "two", "three"];
const ARGUMENTS: [&str; 5] = ["{integer}", "{word}", "{path}", "log", "7"];

fn some(of: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    proptest::sample::subsequence(of, 0..=of.len())
}

prop_compose! {
    fn any_permissions()(
        read_hosts in some(&HOSTS), write_hosts in some(&HOSTS), inject_hosts in some(&HOSTS),
        reads in proptest::collection::vec(proptest::sample::select(&FOLDERS[..]), 0..4),
        writes in proptest::collection::vec((proptest::sample::select(&FOLDERS[..]), 0u64..5, 0u64..5), 0..4),
        secrets in proptest::collection::vec(any::<bool>(), 0..3),
        names in some(&NAMES), memory in some(&NAMES), quota in 0u64..5,
        arguments in proptest::collection::vec(proptest::sample::select(&ARGUMENTS[..]), 0..3),
    ) -> Permissions {
        let reads: Vec<Value> = reads.iter().enumerate()
            .map(|(index, host)| json!({"guest": format!("/r{index}"), "host": host})).collect();
        let writes: Vec<Value> = writes.iter().enumerate()
            .map(|(index, (host, bytes, files))| json!({"guest": format!("/w{index}"), "host": host, "bytes_max": bytes, "files_max": files}))
            .collect();
        let secrets: Vec<Value> = secrets.iter().zip(NAMES).map(|(reveal, name)| if *reveal {
            json!({"name": name, "use": "reveal"})
        } else {
            json!({"name": name, "hosts": inject_hosts, "header": "h"})
        }).collect();
        serde_json::from_value(json!({
            "network:read": {"hosts": read_hosts}, "network:write": {"hosts": write_hosts},
            "file:read": {"paths": reads}, "file:write": {"paths": writes},
            "secret:read": {"secrets": secrets}, "secret:write": {"names": names},
            "memory:read": {"namespaces": memory},
            "memory:write": {"namespaces": memory, "bytes_max": quota, "records_max": quota},
            "exec": {"programs": [{"path": "/bin/x", "args": arguments}]},
        })).unwrap()
    }
}

/// Narrows by a list of coin tosses, in every way that the scopes have.
fn narrow(permissions: &Permissions, coins: &[bool]) -> Permissions {
    let mut coins = coins.iter().copied().cycle();
    let mut toss = move || coins.next().unwrap_or(false);
    let mut narrowed = permissions.clone();
    let hosts = |hosts: &mut Vec<HostPattern>, toss: &mut dyn FnMut() -> bool| {
        hosts.retain(|_| !toss());
        for host in hosts {
            if toss() {
                let candidates = HOSTS.map(|text| text.parse::<HostPattern>().unwrap());
                *host = candidates.into_iter().rfind(|one| host.includes(one)).unwrap();
            }
        }
    };
    for NetworkScope { hosts: list } in [&mut narrowed.network_read, &mut narrowed.network_write]
        .into_iter()
        .flatten()
    {
        hosts(list, &mut toss);
    }
    if let Some(scope) = &mut narrowed.file_read {
        scope.paths.retain(|_| !toss());
        for path in &mut scope.paths {
            if toss() {
                path.host = format!("{}/below", path.host.as_str().trim_end_matches('/'))
                    .parse()
                    .unwrap();
            }
        }
    }
    if let Some(scope) = &mut narrowed.file_write {
        scope.paths.retain(|_| !toss());
        for path in &mut scope.paths {
            if toss() {
                path.host = format!("{}/below", path.host.as_str().trim_end_matches('/'))
                    .parse()
                    .unwrap();
            }
            path.bytes_max -= u64::from(toss() && path.bytes_max > 0);
            path.files_max -= u64::from(toss() && path.files_max > 0);
        }
    }
    if let Some(scope) = &mut narrowed.secret_read {
        scope.secrets.retain(|_| !toss());
        for secret in &mut scope.secrets {
            if secret.usage == SecretUse::Inject {
                hosts(&mut secret.hosts, &mut toss);
            } else if toss() {
                secret.usage = SecretUse::Inject;
                secret.hosts = vec!["https://a.com".parse().unwrap()];
                secret.header = Some("h".to_owned());
            }
        }
    }
    if let Some(scope) = &mut narrowed.secret_write {
        scope.names.retain(|_| !toss());
    }
    if let Some(scope) = &mut narrowed.memory_write {
        scope.namespaces.retain(|_| !toss());
        scope.bytes_max -= u64::from(toss() && scope.bytes_max > 0);
    }
    if let Some(scope) = &mut narrowed.exec {
        for argument in scope.programs.iter_mut().flat_map(|program| &mut program.args) {
            if toss() && argument.covers("7") {
                *argument = ArgumentPattern::Literal("7".to_owned());
            }
        }
    }
    if toss() {
        narrowed.memory_read = None;
    }
    narrowed
}

fn with(permissions: Permissions, fuel: Option<u64>) -> Entry {
    let mut entry = entry(b"", json!({}));
    entry.permissions = permissions;
    entry.limits.fuel = fuel;
    entry
}

proptest! {
    #[test]
    fn nothing_changes_between_a_thing_and_itself(permissions in any_permissions(), fuel in proptest::option::of(0u64..10)) {
        let entry = with(permissions, fuel);
        prop_assert_eq!(diff_entries(&entry, &entry), Diff::default());
    }

    #[test]
    fn narrowing_is_never_growth(permissions in any_permissions(), coins in proptest::collection::vec(any::<bool>(), 1..60), fuel in 1u64..10) {
        let narrowed = narrow(&permissions, &coins);
        let (old, new) = (with(permissions, Some(fuel)), with(narrowed, Some(fuel - 1)));
        let diff = diff_entries(&old, &new);
        prop_assert!(!diff.authority_grew, "{:?}", diff);
    }

    /// What reaches less one way is growth the other way. Reading stands aside: what may be written may be read.
    #[test]
    fn the_way_back_from_narrower_is_growth(permissions in any_permissions(), coins in proptest::collection::vec(any::<bool>(), 1..60)) {
        let permissions = Permissions { file_read: None, ..permissions };
        let narrowed = narrow(&permissions, &coins);
        let (old, new) = (with(permissions, None), with(narrowed, None));
        let (there, back) = (diff_entries(&old, &new), diff_entries(&new, &old));
        let lost = there.changes.iter().any(|change| matches!(change.direction, Direction::Narrower | Direction::Removed));
        prop_assert_eq!(lost, back.authority_grew, "{:?} and {:?}", there, back);
    }
}
