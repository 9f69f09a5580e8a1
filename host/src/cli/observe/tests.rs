//! What was reached for becomes an entry that the host reads back, and nothing in it is broader than the attempts.

use aral_capability::manifest::{CapabilityToml, ManifestBody};
use aral_contract::Digest;
use aral_contract::event::{MemoryOperation, SecretOperation};
use serde_json::{Value, json};

use super::*;
use crate::cli::allow::FILES_MAX_DEFAULT;

fn call(permission: Permission, target: &str, allowed: bool) -> EventKind {
    EventKind::HostCall {
        capability: "probe".parse().unwrap(),
        persona: "analyst".parse().unwrap(),
        permission,
        target: target.to_owned(),
        allowed,
        reason: None,
    }
}

/// The folders of this machine.
const FOLDERS: [&str; 8] = [
    "/data",
    "/data/deep",
    "/data/x",
    "/etc",
    "/srv/known",
    "/x",
    "/x/y",
    "/z",
];

fn written(events: &[EventKind], granted: &Permissions, shape: Shape) -> String {
    importing(&[], events, granted, shape)
}

fn importing(imports: &[Import], events: &[EventKind], granted: &Permissions, shape: Shape) -> String {
    let usage = Usage {
        fuel: Some(7),
        ..Usage::default()
    };
    Observed::of(events).entry(&Facts {
        id: "probe".parse().unwrap(),
        shape,
        component: "target/probe.wasm".to_owned(),
        granted,
        usage: &usage,
        at: "2026-01-02T03:04:05Z".parse().unwrap(),
        imports,
        is_folder: &|path| FOLDERS.contains(&path),
    })
}

fn check(permission: Permission, targets: &[&str], granted: &Value, expected: &Value) {
    let events: Vec<_> = targets.iter().map(|target| call(permission, target, false)).collect();
    let granted: Permissions = serde_json::from_value(granted.clone()).unwrap();
    let file = written(&events, &granted, Shape::Tool);
    let read = CapabilityToml::parse(&file).unwrap_or_else(|error| panic!("{error}\n{file}"));
    assert_eq!(serde_json::to_value(&read.permissions).unwrap(), *expected, "{file}");
}

#[test]
fn every_permission_goes_round() {
    let none = json!({});
    check(
        Permission::NetworkRead,
        &[
            "https://a.example",
            "GET https://b.example:8443/x?y",
            "https://user@c.example",
        ],
        &none,
        &json!({"network:read": {"hosts": ["https://a.example", "https://b.example:8443"]}}),
    );
    check(
        Permission::NetworkWrite,
        &["http://127.0.0.1:8080"],
        &none,
        &json!({"network:write": {"hosts": ["http://127.0.0.1:8080"]}}),
    );
    check(
        Permission::FileRead,
        &[
            "/data/a.txt",
            "/data/deep/b.txt",
            "/etc/passwd",
            "/srv/known",
            "/x/y",
            "/x/y/z/.",
            "/top",
            "/",
        ],
        &none,
        &json!({"file:read": {"paths": [
            {"guest": "/data", "host": "/data"}, {"guest": "/etc", "host": "/etc"},
            {"guest": "/srv/known", "host": "/srv/known"}, {"guest": "/x/y", "host": "/x/y"}
        ]}}),
    );
    check(
        Permission::FileRead,
        &["/."],
        &none,
        &json!({"file:read": {"paths": [{"guest": "/data", "host": "/data"}]}}),
    );
    check(
        Permission::FileWrite,
        &["/data/deep/b.txt"],
        &json!({"file:read": {"paths": [{"guest": "/data", "host": "/srv/data"}]}}),
        &json!({"file:write": {"paths": [
            {"guest": "/data", "host": "/srv/data", "bytes_max": BYTES_MAX_DEFAULT, "files_max": FILES_MAX_DEFAULT}
        ]}}),
    );
    check(
        Permission::SecretRead,
        &["token", "Not A Name"],
        &json!({"secret:read": {"secrets": [{"name": "token", "use": "reveal"}]}}),
        &json!({"secret:read": {"secrets": [{"name": "token", "use": "reveal"}]}}),
    );
    check(
        Permission::SecretWrite,
        &["token"],
        &none,
        &json!({"secret:write": {"names": ["token"]}}),
    );
    check(
        Permission::MemoryRead,
        &["notes", "notes/today"],
        &none,
        &json!({"memory:read": {"namespaces": ["notes"]}}),
    );
    check(
        Permission::MemoryWrite,
        &["notes"],
        &none,
        &json!({"memory:write": {
            "namespaces": ["notes"], "bytes_max": BYTES_MAX_DEFAULT, "records_max": RECORDS_MAX_DEFAULT
        }}),
    );
}

#[test]
fn no_folder_is_offered_in_another_one_nor_for_reading_and_for_writing() {
    fn check(
        reads: &[&str],
        writes: &[&str],
        granted: &Value,
        expected: &[(Permission, &str, &str)],
        comments: &[&str],
    ) {
        let reached = |permission, targets: &[&str]| {
            let calls = targets.iter().map(|target| call(permission, target, false));
            calls.collect::<Vec<_>>()
        };
        let events = [
            reached(Permission::FileRead, reads),
            reached(Permission::FileWrite, writes),
        ];
        let granted: Permissions = serde_json::from_value(granted.clone()).unwrap();
        let file = written(&events.concat(), &granted, Shape::Tool);
        let found = CapabilityToml::parse(&file).unwrap_or_else(|error| panic!("{error}\n{file}"));
        let (read, write) = (found.permissions.file_read, found.permissions.file_write);
        let read = read.iter().flat_map(|scope| &scope.paths);
        let read = read.map(|path| (Permission::FileRead, path.guest.as_str(), path.host.as_str()));
        let write = write.iter().flat_map(|scope| &scope.paths);
        let write = write.map(|path| (Permission::FileWrite, path.guest.as_str(), path.host.as_str()));
        assert_eq!(read.chain(write).collect::<Vec<_>>(), expected, "{file}");
        assert!(!file.contains("None of this"), "{file}");
        for comment in comments {
            let line = |line: &str| line.strip_prefix("# ").is_some_and(|rest| rest.starts_with(comment));
            assert!(file.lines().any(line), "`{comment}` is not in {file}");
        }
        let explained = ["may be read.", "another one.", "is granted."];
        let explained = file
            .lines()
            .filter(|line| explained.iter().any(|end| line.ends_with(end)));
        assert_eq!(explained.count(), comments.len(), "{file}");
    }
    let none = json!({});
    let (read, write) = (Permission::FileRead, Permission::FileWrite);
    check(
        &["/data/a.txt"],
        &["/data/b.txt"],
        &none,
        &[(write, "/data", "/data")],
        &["/data: /data is offered for writing"],
    );
    check(
        &["/data"],
        &["/data/deep/b.txt"],
        &json!({"file:read": {"paths": [{"guest": "/data", "host": "/srv/data"}]}}),
        &[(write, "/data", "/srv/data")],
        &["/data: /data is offered for writing"],
    );
    let wider = ["/x is wider than what was written", "/x: /x is offered for writing"];
    check(&["/x/a"], &["/x/y/b"], &none, &[(write, "/x", "/x")], &wider);
    check(
        &["/x/y/a", "/z/a"],
        &["/x/b"],
        &none,
        &[(read, "/z", "/z"), (write, "/x", "/x")],
        &["/x/y: /x is offered for writing"],
    );
    // That it is a folder is known from the other one.
    let same = ["/x/y: /x/y is offered for writing"];
    check(&["/x/y"], &["/x/y/b"], &none, &[(write, "/x/y", "/x/y")], &same);
    check(&["/x/y/b"], &["/x/y"], &none, &[(write, "/x/y", "/x/y")], &same);
    let around = ["A look at / finds"];
    check(&["/"], &["/data/x/b"], &none, &[(write, "/data/x", "/data/x")], &around);
    check(&["/", "/z/a"], &[], &none, &[(read, "/z", "/z")], &around);
    check(&["/"], &[], &none, &[(read, "/data", "/data")], &[]);
}

#[test]
fn what_is_no_folder_of_this_machine_is_told_and_not_offered() {
    let reached = |permission: Permission, targets: &[&str]| {
        let calls = targets.iter().map(|target| call(permission, target, false));
        calls.collect::<Vec<_>>()
    };
    let check = |events: &[EventKind], granted: Value, expected: Value, missing: &[&str]| {
        let granted: Permissions = serde_json::from_value(granted).unwrap();
        let file = written(events, &granted, Shape::Tool);
        let found = CapabilityToml::parse(&file).unwrap_or_else(|error| panic!("{error}\n{file}"));
        assert_eq!(serde_json::to_value(&found.permissions).unwrap(), expected, "{file}");
        let told = file
            .lines()
            .filter(|line| line.contains("there is no such folder on this machine"));
        assert_eq!(told.count(), missing.len(), "{file}");
        for line in missing {
            assert!(file.contains(line), "`{line}` is not in {file}");
        }
        assert!(!file.contains("None of this"), "{file}");
    };
    // What a search finds in one folder, and looks for at the root.
    let granted = json!({"file:read": {"paths": [{"guest": "/data", "host": "/srv/data"}]}});
    check(
        &reached(Permission::FileRead, &["/", "/.gitignore", "/.ignore", "/data/a.txt"]),
        granted.clone(),
        granted,
        &[
            "# /.gitignore: there is no such folder on this machine.",
            "add where it is: { guest = \"/.ignore\", host = \"WHERE\" }\n",
        ],
    );
    let gone = [
        reached(Permission::FileRead, &["/gone/y", "/gone/y/b"]),
        reached(Permission::FileWrite, &["/out/a.txt"]),
    ];
    let out = format!(
        "{{ guest = \"/out\", host = \"WHERE\", bytes_max = {BYTES_MAX_DEFAULT}, files_max = {FILES_MAX_DEFAULT} }}\n"
    );
    check(
        &gone.concat(),
        json!({}),
        json!({}),
        &["# /gone/y: there is no such", &out],
    );
}

#[test]
fn what_an_import_needs_and_the_run_did_not_use_stands_there_as_comments() {
    let import = |name: &str| Import {
        name: name.to_owned(),
        kind: "instance",
        role: aral_capability::imports::role_of(name),
        reveals: false,
    };
    let imports = [
        import("aral:capability/log@1.0.0"),
        import("aral:capability/memory-read@1.0.0"),
        import("aral:capability/memory-write@1.0.0"),
        import("wasi:http/outgoing-handler@0.2.12"),
        import("wasi:filesystem/types@0.2.12"),
    ];
    let events = [
        call(Permission::MemoryRead, "notes", true),
        call(Permission::NetworkWrite, "https://a.example", true),
    ];
    let file = importing(&imports, &events, &Permissions::default(), Shape::Tool);
    let present = |text: &str| CapabilityToml::parse(text).unwrap().permissions.present();
    assert_eq!(
        present(&file),
        [Permission::NetworkWrite, Permission::MemoryRead],
        "{file}"
    );
    let (front, comments) = file.split_once("# The component imports ").unwrap();
    assert!(comments.starts_with("aral:capability/memory-write@1.0.0. "), "{file}");
    assert!(!comments.contains("component imports"), "one is not covered: {file}");
    let (_, lines) = comments.split_once("`# `.\n").unwrap();
    let taken: String = lines.lines().map(|line| format!("{}\n", &line[2..])).collect();
    let all = present(&format!("{front}{taken}"));
    assert_eq!(
        all,
        [
            Permission::NetworkWrite,
            Permission::MemoryRead,
            Permission::MemoryWrite
        ],
        "{file}"
    );
}

#[test]
fn programs_come_with_the_arguments_that_were_refused_or_the_shapes_that_were_granted() {
    let mut refused = call(Permission::Exec, "/usr/bin/git", false);
    if let EventKind::HostCall { reason, .. } = &mut refused {
        let line = r#"[permissions.exec]: programs = [{ path = "/usr/bin/git", args = ["log", "[a] ]"] }]"#;
        *reason = Some(format!(
            "not granted: add to capability.toml, {line}, and to the policy"
        ));
    }
    let events = [
        refused,
        call(Permission::Exec, "/bin/date", true),
        call(Permission::Exec, "sh", false),
    ];
    let granted = json!({"exec": {"programs": [{"path": "/bin/date", "args": ["{word}"]}]}});
    let file = written(&events, &serde_json::from_value(granted).unwrap(), Shape::Tool);
    let read = CapabilityToml::parse(&file).unwrap();
    assert_eq!(
        serde_json::to_value(&read.permissions).unwrap(),
        json!({"exec": {"programs": [
            {"path": "/bin/date", "args": ["{word}"]}, {"path": "/usr/bin/git", "args": ["log", "[a] ]"]}
        ]}}),
        "{file}"
    );
}

#[test]
fn a_secret_is_offered_for_the_hosts_that_were_reached_for() {
    let events = [
        call(Permission::SecretRead, "token", false),
        call(Permission::NetworkWrite, "https://a.example", true),
        call(Permission::NetworkRead, "http://b.example", true),
    ];
    let file = written(&events, &Permissions::default(), Shape::Tool);
    let read = CapabilityToml::parse(&file).unwrap();
    let secret = &read.permissions.secret_read.unwrap().secrets[0];
    assert_eq!(secret.hosts, ["https://a.example".parse().unwrap()]);
    assert!(file.contains("# denied once: token") && file.contains("# used once: https://a.example"));
}

#[test]
fn a_secret_that_was_granted_is_offered_as_it_was_granted() {
    let of_secret = |name: &str, allowed: bool, said: Option<&str>| {
        let mut event = call(Permission::SecretRead, name, allowed);
        if let EventKind::HostCall { reason, .. } = &mut event {
            *reason = said.map(str::to_owned);
        }
        event
    };
    let events = [
        of_secret("plain", true, None),
        of_secret("wider", true, None),
        of_secret(
            "wider",
            false,
            Some(
                "secret `wider` may not go to `https://b.example`: add \"https://b.example\" to its `hosts` in capability.toml",
            ),
        ),
        of_secret(
            "wanted",
            false,
            Some("its scope needs use = \"reveal\" in capability.toml"),
        ),
        of_secret("shown", true, None),
        call(Permission::NetworkRead, "https://a.example", true),
    ];
    let inject = |name: &str, hosts: Value| json!({"name": name, "use": "inject", "hosts": hosts, "header": "x-api-key", "prefix": "Key "});
    let granted = json!({"secret:read": {"secrets": [
        inject("plain", json!(["http://127.0.0.1:18099"])),
        inject("wider", json!(["https://a.example"])),
        inject("wanted", json!(["https://a.example"])),
        {"name": "shown", "use": "reveal"},
        {"name": "unused", "use": "reveal"},
    ]}});
    let file = written(&events, &serde_json::from_value(granted).unwrap(), Shape::Tool);
    let permissions = CapabilityToml::parse(&file).unwrap().permissions;
    let scope = serde_json::to_value(&permissions.secret_read).unwrap();
    let expected = json!({"secrets": [
        inject("plain", json!(["http://127.0.0.1:18099"])),
        {"name": "shown", "use": "reveal"},
        {"name": "wanted", "use": "reveal"},
        inject("wider", json!(["https://a.example", "https://b.example"])),
    ]});
    assert_eq!(scope, expected, "{file}");
    let entry = json!({
        "id": "probe", "version": "1.0.0", "shape": "tool", "component": Digest::of(b"c"), "title": "T",
        "description": "D", "input_schema": {}, "output_schema": {}, "permissions": permissions,
    });
    ManifestBody::new(vec![serde_json::from_value(entry).unwrap()]).unwrap();
}

#[test]
fn a_secret_that_was_seen_to_travel_nowhere_is_told_and_not_offered() {
    let events = [
        call(Permission::SecretRead, "token", false),
        call(Permission::NetworkRead, "http://b.example", true),
    ];
    let file = written(&events, &Permissions::default(), Shape::Tool);
    assert_eq!(CapabilityToml::parse(&file).unwrap().permissions.secret_read, None);
    assert!(
        file.contains("# token: the run does not show where it travels.") && !file.contains("None of this"),
        "{file}"
    );
}

#[test]
fn a_command_and_an_empty_run_are_read_back() {
    for shape in [Shape::Tool, Shape::Command] {
        let file = written(&[], &Permissions::default(), shape);
        let read = CapabilityToml::parse(&file).unwrap();
        assert_eq!((read.shape(), read.permissions), (shape, Permissions::default()));
        assert!(
            file.contains("7 of fuel") && file.contains("2026-01-02T03:04:05Z"),
            "{file}"
        );
    }
}

#[test]
fn a_guest_cannot_write_lines_of_its_own() {
    let target = "/x\n[permissions.exec]\nprograms = [{ path = \"/bin/sh\", args = [] }]\n#";
    let file = written(
        &[call(Permission::FileRead, target, false)],
        &Permissions::default(),
        Shape::Tool,
    );
    let read = CapabilityToml::parse(&file).unwrap();
    assert_eq!(read.permissions, Permissions::default(), "{file}");
    assert!(file.contains("None of this can be granted"));
}

#[test]
fn a_flood_of_names_is_counted_and_not_kept() {
    let events: Vec<_> = (0..ATTEMPTS_MAX + 5)
        .map(|number| call(Permission::SecretRead, &format!("s{number}"), false))
        .collect();
    let observed = Observed::of(&events);
    assert_eq!((observed.iter().count(), observed.dropped), (ATTEMPTS_MAX, 5));
}

#[test]
fn what_was_done_with_records_and_secrets_counts_as_reached_for() {
    let data = |operation| EventKind::MemoryAccess {
        capability: Some("probe".parse().unwrap()),
        persona: None,
        operation,
        namespace: "notes".parse().unwrap(),
        record: None,
        classification: None,
        amount: 0,
        refused: Some("this host has no memory store".to_owned()),
    };
    let secret = |name: &str, operation| EventKind::SecretAccess {
        capability: Some("probe".parse().unwrap()),
        persona: None,
        secret: name.parse().unwrap(),
        operation,
        target: None,
        refused: None,
    };
    let events = [
        data(MemoryOperation::List),
        data(MemoryOperation::Delete),
        secret("shown", SecretOperation::Reveal),
        secret("stored", SecretOperation::Write),
        secret("sent", SecretOperation::Inject),
        call(Permission::NetworkRead, "https://a.example", true),
    ];
    let file = written(&events, &Permissions::default(), Shape::Tool);
    let read = CapabilityToml::parse(&file).unwrap_or_else(|error| panic!("{error}\n{file}"));
    let permissions = serde_json::to_value(&read.permissions).unwrap();
    assert_eq!(permissions["memory:read"], json!({"namespaces": ["notes"]}), "{file}");
    assert_eq!(permissions["memory:write"]["namespaces"], json!(["notes"]), "{file}");
    assert_eq!(permissions["secret:write"], json!({"names": ["stored"]}), "{file}");
    assert_eq!(
        permissions["secret:read"]["secrets"],
        json!([
            {"name": "sent", "use": "inject", "hosts": ["https://a.example"], "header": "authorization"},
            {"name": "shown", "use": "reveal"},
        ]),
        "{file}"
    );
}
