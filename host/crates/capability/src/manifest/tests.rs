//! One case for each rule of an entry, and the way of a manifest from `capability.toml` to what is admitted.

use aral_contract::scope::{SecretScope, SecretUse};
use aral_contract::{Limits, Permission};
use semver::VersionReq;
use serde_json::json;
use zeroize::Zeroizing;

use super::build::Part;
use super::check::{CAPABILITIES_MAX, SCOPE_ITEMS_MAX, SECRETS_MAX};
use super::schema_rules::{NAME_BYTES_MAX, PATH_BYTES_MAX, PATHS_BYTES_MAX, SCHEMA_BYTES_MAX};
use super::*;
use crate::inspect::inspect;
use crate::testing::{component, entry, shown};

const TOOL: &str = "id = \"probe\"\nversion = \"1.0.0\"\nshape = \"tool\"\ncomponent = \"probe.wasm\"\n";

fn tool(rest: &str) -> String {
    match CapabilityToml::parse(&format!("{TOOL}{rest}")) {
        Ok(_) => "taken".to_owned(),
        Err(error) => shown(&error.into()),
    }
}

/// What the rules say of an entry with these members.
fn check_entry(change: Value) -> String {
    match ManifestBody::new(vec![entry(&component(Shape::Tool, &[]), change)]) {
        Ok(_) => "taken".to_owned(),
        Err(error) => shown(&error.into()),
    }
}

fn check_permissions(permissions: Value) -> String {
    check_entry(json!({ "permissions": permissions }))
}

#[test]
fn capability_toml_is_read() {
    let text = format!(
        "{TOOL}[permissions.\"file:read\"]\npaths = [{{ guest = \"/data\", host = \"/srv/data\" }}]\n[limits]\nwall_ms = 5000\n"
    );
    let source = CapabilityToml::parse(&text).unwrap();
    assert_eq!((source.id.as_str(), source.component.as_str()), ("probe", "probe.wasm"));
    assert_eq!((source.shape(), source.limits.wall_ms), (Shape::Tool, Some(5000)));
    assert_eq!(
        source.permissions.file_read.unwrap().paths[0].host.as_str(),
        "/srv/data"
    );

    let command = TOOL.replace("tool", "command");
    let text =
        format!("{command}title = \"T\"\ndescription = \"D\"\ninput_schema = \"i.json\"\noutput_schema = \"o.json\"\n");
    let source = CapabilityToml::parse(&text).unwrap();
    assert_eq!(source.shape(), Shape::Command);
    let described = source::Described::ByFile {
        title: "T".to_owned(),
        description: "D".to_owned(),
        input_schema: "i.json".to_owned(),
        output_schema: "o.json".to_owned(),
    };
    assert_eq!(source.described, described);
}

#[test]
fn unknown_keys_of_capability_toml_are_named_with_the_known_ones() {
    let cases = [
        (
            "titel = \"x\"",
            "line 5: unknown field `titel`, expected one of `id`, `version`, `shape`, `component`, `title`, `description`, `input_schema`, `output_schema`, `permissions`, `limits`",
        ),
        (
            "[permissions.\"network:all\"]\nhosts = []",
            "line 5: unknown field `network:all`, expected one of `network:read`, `network:write`, `file:read`, `file:write`, `secret:read`, `secret:write`, `memory:read`, `memory:write`, `exec`",
        ),
        (
            "[permissions.\"network:read\"]\nhost = [\"https://a.com\"]",
            "line 6: unknown field `host`, expected `hosts`",
        ),
        (
            "[limits]\nmemory_mb = 64",
            "line 6: unknown field `memory_mb`, expected one of `memory_bytes`, `fuel`, ",
        ),
        ("version = \"2.0.0\"", "line 5: duplicate key"),
        (
            "[limits]\nfuel = -1",
            "line 6: invalid value: integer `-1`, expected u64",
        ),
        (
            "[permissions.\"network:read\"]\nhosts = [\"https://user@a.com\"]",
            "line 6: `https://…@a.com` is not a host: user information is not allowed",
        ),
        (
            "[permissions.\"network:read\"]\nhosts = [\"https://exämple.com\"]",
            "is not a host: the name is not ASCII: write its xn-- form",
        ),
        (
            "[permissions.\"file:read\"]\npaths = [{ guest = \"/a\", host = \"/srv/../etc\" }]",
            "line 6: `/srv/../etc` is not an absolute plain path",
        ),
        (
            "[permissions.\"file:write\"]\npaths = [{ guest = \"/a\", host = \"/b\" }]",
            "line 6: missing field `bytes_max`",
        ),
        (
            "[permissions.\"secret:read\"]\nsecrets = [{ name = \"k\", use = \"show\" }]",
            "unknown variant `show`, expected `inject` or `reveal`",
        ),
        (
            "[permissions.exec]\nprograms = [{ path = \"/bin/sh\", args = [\"{any}\"] }]",
            "line 6: `{any}` is not an argument pattern",
        ),
        (
            "input_schema = {}",
            "line 5: invalid type: map, expected the path of a file with a JSON Schema, such as \"input.json\"",
        ),
        ("= 1", "line 5: "),
    ];
    for (rest, expected) in cases {
        let found = tool(rest);
        assert!(
            found.starts_with("document.invalid: `capability.toml`, line "),
            "{rest}: {found}"
        );
        assert!(found.contains(expected), "{rest}: {found}");
    }
    assert_eq!(tool(""), "taken");
}

#[test]
fn keys_of_the_other_shape_and_paths_are_checked() {
    assert_eq!(
        tool("title = \"x\""),
        "document.invalid: `capability.toml`: `title` is for the shape `command`, and this one is `tool`\n\
         hint: remove `title` from capability.toml"
    );
    let command = TOOL.replace("tool", "command");
    let error = CapabilityToml::parse(&format!("{command}title = \"T\"\ndescription = \"D\"\n")).unwrap_err();
    assert_eq!(
        shown(&error.into()),
        "document.invalid: `capability.toml`: `input_schema` is missing: a component of the shape `command` cannot describe itself\n\
         hint: add to capability.toml: input_schema = \"input_schema.json\""
    );
    for bad in ["", "/etc/passwd", "a\\nb"] {
        let text = TOOL.replace("probe.wasm", bad);
        assert!(
            matches!(
                CapabilityToml::parse(&text),
                Err(ManifestError::RelativePath { key: "component", .. })
            ),
            "{bad}"
        );
    }
}

#[test]
fn secrets_are_bound_or_revealed() {
    let secret = |secret: Value| check_permissions(json!({"secret:read": {"secrets": [secret]}}));
    let hosts = json!(["https://api.example.com"]);
    let good = json!({"name": "k", "hosts": hosts, "header": "x-api-key", "prefix": "Bearer "});
    assert_eq!(secret(good), "taken");
    assert_eq!(secret(json!({"name": "k", "use": "reveal"})), "taken");
    let inject_hint = "hint: write: { name = \"k\", hosts = [\"https://api.example.com\"], header = \"authorization\", prefix = \"Bearer \" }";
    for (bad, expected) in [
        (
            json!({"name": "k", "header": "a"}),
            "secret `k` has `use = \"inject\"` without `hosts`: it would be bound to nothing",
        ),
        (
            json!({"name": "k", "hosts": hosts}),
            "secret `k` has `use = \"inject\"` without `header`: it would be bound to nothing",
        ),
        (
            json!({"name": "k", "hosts": ["*"], "header": "a"}),
            "secret `k` may travel to every host: name the hosts it belongs to",
        ),
    ] {
        assert_eq!(
            secret(bad),
            format!("document.invalid: capability `probe`: {expected}\n{inject_hint}")
        );
    }
    for (key, value) in [("hosts", hosts.clone()), ("header", json!("a")), ("prefix", json!("b"))] {
        let found = secret(json!({"name": "k", "use": "reveal", key: value}));
        let expected = format!(
            "capability `probe`: secret `k` has `use = \"reveal\"` and `{key}`: the host cannot bind what the guest may read"
        );
        assert_eq!(
            found,
            format!("document.invalid: {expected}\nhint: write: {{ name = \"k\", use = \"reveal\" }}")
        );
    }
    let header = |header: &str| secret(json!({"name": "k", "hosts": hosts, "header": header}));
    for bad in ["", "Authorization", "a b", "a:", "ä", "a\r\nx", &"a".repeat(129)] {
        assert!(
            header(bad).contains("it is not a header name in lower case"),
            "{bad:?}: {}",
            header(bad)
        );
    }
    for bad in [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "te",
        "upgrade",
        "proxy-authorization",
        "x-forwarded-for",
        "x_forwarded_for",
        "traceparent",
    ] {
        assert!(
            header(bad).contains(
                "it belongs to the host or the connection\nhint: write another header into capability.toml, such as: "
            ),
            "{bad:?}: {}",
            header(bad)
        );
    }
    for bad in ["", "a\r\n", "ä", &"a".repeat(129)] {
        let found = secret(json!({"name": "k", "hosts": hosts, "header": "a", "prefix": bad}));
        assert!(
            found.contains("`prefix` that is empty, over 128 bytes or not printable ASCII"),
            "{bad:?}: {found}"
        );
    }
}

#[test]
fn guest_folders_must_not_overlap() {
    let read = |guests: &[&str]| {
        let paths: Vec<Value> = guests
            .iter()
            .map(|guest| json!({"guest": guest, "host": "/srv"}))
            .collect();
        json!({"paths": paths})
    };
    assert_eq!(
        check_permissions(json!({"file:read": read(&["/a", "/a-b", "/ab", "/b/a"])})),
        "taken"
    );
    let hint = "hint: give each folder a place of its own; a folder under file:write can be read too";
    for (guests, one, two) in [
        (vec!["/a", "/a"], "/a", "/a"),
        (vec!["/a/b/c", "/a.b", "/a"], "/a", "/a/b/c"),
        (vec!["/x", "/"], "/", "/x"),
    ] {
        assert_eq!(
            check_permissions(json!({"file:read": read(&guests)})),
            format!(
                "document.invalid: capability `probe`: the guest folders `{one}` and `{two}` overlap: a call below both would have two answers\n{hint}"
            )
        );
    }
    let write = json!({"paths": [{"guest": "/a/b", "host": "/srv", "bytes_max": 1, "files_max": 1}]});
    let both = check_permissions(json!({"file:read": read(&["/a"]), "file:write": write}));
    assert!(both.contains("`/a` and `/a/b` overlap"), "{both}");
}

#[test]
fn host_folders_that_are_written_to_must_not_overlap() {
    let write = |hosts: &[&str]| {
        let path = |(index, host): (usize, &&str)| json!({"guest": format!("/{index}"), "host": host, "bytes_max": 1, "files_max": 1});
        json!({"paths": hosts.iter().enumerate().map(path).collect::<Vec<_>>()})
    };
    assert_eq!(
        check_permissions(json!({"file:write": write(&["/srv/a", "/srv/a-b", "/srv/b/a"])})),
        "taken"
    );
    // What is read only has no quota.
    let read = json!({"paths": [{"guest": "/r", "host": "/srv"}, {"guest": "/s", "host": "/srv/a"}]});
    assert_eq!(
        check_permissions(json!({"file:read": read, "file:write": write(&["/srv/a"])})),
        "taken"
    );
    for (hosts, one, two) in [
        (vec!["/srv/a", "/srv/a"], "/srv/a", "/srv/a"),
        (vec!["/srv/a/b", "/srv/b", "/srv/a"], "/srv/a", "/srv/a/b"),
        (vec!["/srv", "/"], "/", "/srv"),
    ] {
        let found = check_permissions(json!({"file:write": write(&hosts)}));
        assert!(
            found.contains(&format!("the host folders `{one}` and `{two}` of `file:write` overlap"))
                && found.contains("hint: grant the outer folder alone"),
            "{found}"
        );
    }
}

#[test]
fn quotas_with_which_nothing_can_be_written_are_refused() {
    let folder = |bytes: u64, files: u64| {
        let path = json!({"guest": "/out", "host": "/srv/a \"b\"", "bytes_max": bytes, "files_max": files});
        let good = json!({"guest": "/good", "host": "/srv/good", "bytes_max": 1, "files_max": 1});
        check_permissions(json!({"file:write": {"paths": [good, path]}}))
    };
    // Empty files, and files that are there already.
    assert_eq!((folder(0, 1), folder(1, 0)), ("taken".to_owned(), "taken".to_owned()));
    assert_eq!(
        folder(0, 0),
        "document.invalid: capability `probe`: the folder `/out` of `file:write` has `bytes_max = 0` and `files_max = 0`: \
         nothing could be written in it\n\
         hint: write: { guest = \"/out\", host = \"/srv/a \\\"b\\\"\", bytes_max = 1048576, files_max = 10 }, or leave the folder out"
    );
    let memory = |namespaces: &[&str], bytes: u64, records: u64| {
        let scope = json!({"namespaces": namespaces, "bytes_max": bytes, "records_max": records});
        check_permissions(json!({ "memory:write": scope }))
    };
    assert_eq!(memory(&["n"], 1, 1), "taken");
    assert_eq!(memory(&[], 0, 0), "taken", "that is no permission");
    for (bytes, records, key, line) in [
        (0, 1, "bytes_max", "bytes_max = 1048576"),
        (1, 0, "records_max", "records_max = 1000"),
        (0, 0, "bytes_max", "bytes_max = 1048576"),
    ] {
        assert_eq!(
            memory(&["n"], bytes, records),
            format!(
                "document.invalid: capability `probe`: `memory:write` has `{key} = 0`: nothing could be written\n\
                 hint: write in [permissions.\"memory:write\"]: {line}, also for a capability that only deletes, or leave the permission out"
            )
        );
    }
}

#[test]
fn counts_and_names_are_bounded() {
    let hosts = |count: usize| {
        (0..count)
            .map(|number| format!("https://h{number}.com"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        check_permissions(json!({"network:read": {"hosts": hosts(SCOPE_ITEMS_MAX)}})),
        "taken"
    );
    let found = check_permissions(json!({"network:read": {"hosts": hosts(SCOPE_ITEMS_MAX + 1)}}));
    assert!(
        found.contains("`network:read` lists 257 items, more than 256"),
        "{found}"
    );
    let inject = json!({"name": "k", "header": "a", "hosts": hosts(SCOPE_ITEMS_MAX + 1)});
    let found = check_permissions(json!({"secret:read": {"secrets": [inject]}}));
    assert!(found.contains("`secret:read` lists 257 items"), "{found}");
    let half = |name: &str, count: usize| json!({"name": name, "header": "a", "hosts": hosts(count)});
    let halves = |count: usize| json!({"secret:read": {"secrets": [half("k", SCOPE_ITEMS_MAX / 2), half("l", count)]}});
    assert_eq!(check_permissions(halves(SCOPE_ITEMS_MAX / 2)), "taken");
    let found = check_permissions(halves(SCOPE_ITEMS_MAX / 2 + 1));
    assert!(found.contains("`secret:read` lists 257 items"), "{found}");
    let secrets = |count: usize| {
        let one = |number: usize| json!({"name": format!("k{number}"), "use": "reveal"});
        json!({"secret:read": {"secrets": (0..count).map(one).collect::<Vec<_>>()}})
    };
    assert_eq!(check_permissions(secrets(SECRETS_MAX)), "taken");
    let found = check_permissions(secrets(SECRETS_MAX + 1));
    assert!(
        found.contains("`secret:read` lists 33 secrets, more than 32"),
        "{found}"
    );

    for (permission, scope, item) in [
        (
            "secret:read",
            json!({"secrets": [{"name": "k", "use": "reveal"}, {"name": "k", "use": "reveal"}]}),
            "k",
        ),
        ("secret:write", json!({"names": ["k", "k"]}), "k"),
        ("memory:read", json!({"namespaces": ["n", "m", "n"]}), "n"),
        (
            "memory:write",
            json!({"namespaces": ["n", "n"], "bytes_max": 1, "records_max": 1}),
            "n",
        ),
    ] {
        let found = check_permissions(json!({ permission: scope }));
        assert!(
            found.contains(&format!("`{permission}` lists `{item}` twice")),
            "{found}"
        );
    }
    let program =
        |args: Vec<String>| check_permissions(json!({"exec": {"programs": [{"path": "/bin/x", "args": args}]}}));
    assert_eq!(program(vec!["a".repeat(4096); 64]), "taken");
    for bad in [vec!["a".repeat(4097)], vec![String::new(); 65]] {
        assert!(program(bad).contains("program `/bin/x` has more than 64 arguments, or one over 4096 bytes"));
    }
    for (member, bad) in [
        ("title", String::new()),
        ("title", " ".to_owned()),
        ("title", "a\nb".to_owned()),
        ("title", "a".repeat(257)),
        ("description", "\u{1b}[2J".to_owned()),
        ("description", "a".repeat((16 << 10) + 1)),
    ] {
        let found = check_entry(json!({ member: bad }));
        assert!(found.contains(&format!("`{member}` must be 1 to ")), "{found}");
    }
    let long = format!("1.0.0-{}", "a".repeat(128));
    assert!(check_entry(json!({ "version": long })).contains("`version` must be 1 to 128 bytes"));
    assert_eq!(check_entry(json!({"description": "two\nlines\tand a tab"})), "taken");
}

/// To a requirement both are one version, and to a registry they would be two: a pin would choose the wrong one.
#[test]
fn a_version_with_build_metadata_is_refused() {
    for (version, pin, plain) in [
        ("1.0.0+z", "=1.0.0", "1.0.0"),
        ("2.0.0-rc.1+z", "=2.0.0-rc.1", "2.0.0-rc.1"),
    ] {
        assert!(VersionReq::parse(pin).unwrap().matches(&version.parse().unwrap()));
        assert_eq!(
            check_entry(json!({ "version": version })),
            format!(
                "document.invalid: capability `probe`: the version `{version}` has build metadata (`+z`), which no requirement of a version sees\n\
                 hint: write: version = \"{plain}\", or raise the version"
            )
        );
        assert_eq!(check_entry(json!({ "version": plain })), "taken");
    }
}

#[test]
fn schemas_are_objects_without_references_to_elsewhere() {
    let schema = |schema: Value| check_entry(json!({ "input_schema": schema }));
    let local = json!({"$schema": schema_rules::DIALECT, "$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}, "properties": {"$ref": {"type": "string"}}});
    assert_eq!(schema(local), "taken");
    let hint = "hint: -";
    for (bad, expected) in [
        (
            json!(true),
            "`input_schema` is not a JSON object; a schema that takes everything is `{}`",
        ),
        (
            json!("{}"),
            "`input_schema` is not a JSON object; a schema that takes everything is `{}`",
        ),
        (
            json!({"$ref": "https://evil.example/s.json"}),
            "`input_schema` refers to `https://evil.example/s.json`: only references within the schema (`#/$defs/…`) are followed",
        ),
        (
            json!({"properties": {"a": [{"$dynamicRef": "file:///etc/passwd"}]}}),
            "`input_schema` refers to `file:///etc/passwd`: only references within the schema (`#/$defs/…`) are followed",
        ),
    ] {
        assert_eq!(
            schema(bad),
            format!("document.invalid: capability `probe`: {expected}\n{hint}")
        );
    }
    let found = schema(json!({"$schema": "https://evil.example/meta"}));
    assert!(
        found.contains("`input_schema` is written in `https://evil.example/meta`"),
        "{found}"
    );
    let found = check_entry(json!({"output_schema": {"description": "a".repeat(SCHEMA_BYTES_MAX)}}));
    assert!(found.contains("`output_schema` is 2621"), "{found}");
    let mut deep = json!({});
    for _ in 0..100 {
        deep = json!({ "not": deep });
    }
    assert!(schema(deep).contains("`input_schema` is nested too deeply"));
}

#[test]
fn a_number_that_no_signed_document_holds_is_told_with_its_place_and_the_step() {
    for (change, told, hint) in [
        (
            json!({"input_schema": {"properties": {"b": {"maximum": 1.0}}}}),
            "at `/input_schema/properties/b/maximum`, `1.0` is not an integer below 2^53",
            "hint: write whole numbers into the schema",
        ),
        (
            json!({"output_schema": {"minimum": 0.5}}),
            "at `/output_schema/minimum`, `0.5` is",
            "hint: write whole numbers into the schema",
        ),
        (
            json!({"limits": {"fuel": 1u64 << 53}}),
            "at `/limits/fuel`, `9007199254740992` is",
            "hint: write a whole number there",
        ),
    ] {
        let found = check_entry(change);
        assert!(found.contains(told) && found.contains(hint), "{found}");
    }
}

#[test]
fn a_text_or_a_version_that_is_not_taken_is_told_with_what_it_has() {
    for (change, told) in [
        (
            json!({"description": "a\n\tb\u{7}"}),
            "`description` must be 1 to 16384 bytes without control characters other than line feeds and tabs, and it has `\\u{7}`",
        ),
        (
            json!({"title": "a\nb"}),
            "`title` must be 1 to 256 bytes without control characters, and it has `\\n`",
        ),
        (json!({"title": "a".repeat(257)}), "and it has 257 bytes"),
    ] {
        let found = check_entry(change);
        assert!(found.contains(told), "{found}");
    }
    let error = CapabilityToml::parse(&TOOL.replace("1.0.0", "1.2"))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("`capability.toml`, line 2: `1.2` is not a version (")
            && error.ends_with("write it with three numbers, such as `1.2.0`"),
        "{error}"
    );
}

#[test]
fn a_name_in_a_schema_is_bounded_as_it_stands_in_a_pointer() {
    for (length, taken) in [(NAME_BYTES_MAX, true), (NAME_BYTES_MAX + 1, false)] {
        for name in [
            "n".repeat(length),
            "~".repeat(length.div_ceil(2)),
            "/".repeat(length.div_ceil(2)),
        ] {
            for long in [
                json!({ name.clone(): true }),
                json!({ "properties": { "a": { name.clone(): true } } }),
                json!({ "$id": name }),
                json!({ "$anchor": name }),
                json!({ "$dynamicAnchor": name }),
            ] {
                let found = check_entry(json!({ "input_schema": long }));
                assert_eq!(found == "taken", taken, "{found}");
                let expected = format!("the name `{}…` in `input_schema` has ", &name[..32]);
                assert!(
                    taken || found.contains(&expected) && found.contains("more than 256,"),
                    "{found}"
                );
            }
        }
    }
}

#[test]
fn names_in_a_schema_are_bounded_where_they_stand_above_each_other() {
    let schema = |schema: Value| check_entry(json!({ "input_schema": schema }));
    let too_long = "the names in `input_schema` are too long";
    // With the slash before it, each name has as many bytes as are taken.
    let name = "n".repeat(NAME_BYTES_MAX - 1);
    let below = |levels: usize, inner: Value| (0..levels).fold(inner, |inner, _| json!({ name.clone(): inner }));
    let levels = PATH_BYTES_MAX / NAME_BYTES_MAX;
    assert_eq!(schema(below(levels, json!(true))), "taken");
    assert!(schema(below(levels + 1, json!(true))).contains(too_long));
    let reference = |length: usize| schema(json!({ "$ref": format!("#{}", "n".repeat(length - 1)) }));
    assert_eq!(reference(PATH_BYTES_MAX), "taken");
    assert!(reference(PATH_BYTES_MAX + 1).contains(too_long));
    // Much below a long way.
    let within = |count: usize| schema(below(levels - 1, json!({ "enum": vec![0; count] })));
    let most = PATHS_BYTES_MAX / ((levels - 1) * NAME_BYTES_MAX);
    assert_eq!(within(most - 100), "taken");
    assert!(within(most).contains(too_long));
}

#[test]
fn descriptors_are_parsed_strictly() {
    let parse = |schema: &str| {
        Descriptor::parse("t".to_owned(), "d".to_owned(), schema, "{}").map_err(|error| error.to_string())
    };
    assert_eq!(
        parse("{\"type\":\"object\"}").unwrap().input_schema,
        json!({"type": "object"})
    );
    assert!(
        parse("{\"a\":1,\"a\":2}")
            .unwrap_err()
            .starts_with("`input_schema` is not acceptable JSON: duplicate key `a`")
    );
    assert!(
        parse(&" ".repeat(SCHEMA_BYTES_MAX + 1))
            .unwrap_err()
            .contains("more than 262144")
    );
}

#[test]
fn a_manifest_has_each_version_once_and_not_too_many() {
    let bytes = component(Shape::Tool, &[]);
    let version = |version: &str| entry(&bytes, json!({ "version": version }));
    assert!(ManifestBody::new(vec![version("1.0.0"), version("1.0.1")]).is_ok());
    let error = ManifestBody::new(vec![version("1.0.0"), version("1.0.0")]).unwrap_err();
    assert_eq!(error.to_string(), "capability `probe` 1.0.0 is listed twice");
    let many = (0..=CAPABILITIES_MAX)
        .map(|number| version(&format!("1.0.{number}")))
        .collect();
    assert_eq!(
        ManifestBody::new(many).unwrap_err().to_string(),
        "the manifest lists 257 capabilities, more than 256"
    );
}

fn key(seed: u8) -> PrivateKey {
    PrivateKey::from_seed(&Zeroizing::new([seed; 32]))
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn built() -> ManifestBody {
    let source = CapabilityToml::parse(&format!(
        "{TOOL}[permissions.exec]\nprograms = [{{ path = \"/bin/date\", args = [] }}]\n"
    ))
    .unwrap();
    let bytes = component(Shape::Tool, &["aral:capability/exec@1.0.0"]);
    let descriptor = Descriptor::parse("T".to_owned(), "D".to_owned(), "{}", "{}").unwrap();
    let (body, warnings) = build::body([Part {
        source: &source,
        inspection: &inspect(&bytes).unwrap(),
        descriptor,
    }])
    .unwrap();
    assert_eq!(warnings, []);
    assert_eq!(body.capabilities()[0].component, Digest::of(&bytes));
    body
}

fn header_1() -> Header {
    header(1, at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"))
}

#[test]
fn built_signed_and_verified() {
    let body = built();
    let signed = sign(&header_1(), &body, &key(1)).unwrap().to_string();
    let mut trust = TrustStore::default();
    trust.add(key(1).public(), &[Kind::Manifest]);
    let open =
        |text: &str, now: &str| verify(text.as_bytes(), &trust, at(now)).map_err(|failure| shown(&failure.into()));
    let now = "2026-06-01T00:00:00Z";
    assert_eq!(open(&signed, now).unwrap().body, body);

    let id = key(1).public().id();
    assert_eq!(
        open(&signed.replace("/bin/date", "/bin/dash"), now).unwrap_err(),
        format!(
            "signature.invalid: the signature of the manifest by key `{id}` is wrong: the document was changed after it was signed\nhint: -"
        )
    );
    assert_eq!(
        open(&signed, "2027-01-01T00:00:00Z").unwrap_err(),
        "document.stale: the manifest expired at 2027-01-01T00:00:00Z; it is 2027-01-01T00:00:00Z\n\
         hint: issue it again with a higher serial: `aral manifest sign`"
    );
    let other = sign(&header_1(), &body, &key(2)).unwrap().to_string();
    assert!(
        open(&other, now)
            .unwrap_err()
            .contains("which is not trusted\nhint: add to aral.toml, [[trust]]: public_key = ")
    );
    let plain = unsigned(&header_1(), &body).unwrap().to_string();
    assert_eq!(
        open(&plain, now).unwrap_err(),
        "signature.invalid: the manifest is not signed\nhint: sign it: `aral manifest sign`"
    );
    assert_eq!(dangerous_accept_unsigned(plain.as_bytes(), at(now)).unwrap().body, body);

    for text in [&signed, &plain, &other] {
        assert_eq!(read_unbelieved(text.as_bytes()).unwrap(), (header_1(), body.clone()));
    }
}

#[test]
fn a_signature_does_not_excuse_a_wrong_entry() {
    let mut trust = TrustStore::default();
    trust.add(key(1).public(), &[Kind::Manifest]);
    let now = at("2026-06-01T00:00:00Z");
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut document = unsigned(&header_1(), &built()).unwrap();
        change(&mut document["capabilities"][0]);
        let body = json!({ "capabilities": document["capabilities"] });
        let signed = signed::sign(Kind::Manifest, &header_1(), &body, &key(1)).unwrap();
        let text = signed.to_string();
        let refused = shown(&verify(text.as_bytes(), &trust, now).unwrap_err().into());
        for other in [
            dangerous_accept_unsigned(text.as_bytes(), now).unwrap_err(),
            read_unbelieved(text.as_bytes()).unwrap_err(),
        ] {
            assert_eq!(shown(&other), refused);
        }
        refused
    };
    assert_eq!(
        refused(&|entry| entry["title"] = json!("")),
        "document.invalid: the manifest has a wrong member: capability `probe`: `title` must be 1 to 256 bytes without control characters, and it is empty\nhint: -"
    );
    let secret = json!({"name": "k", "use": "inject", "hosts": ["https://api.example.com"], "header": "baggage"});
    assert_eq!(
        refused(&|entry| entry["permissions"]["secret:read"] = json!({ "secrets": [secret.clone()] })),
        "document.invalid: the manifest has a wrong member: capability `probe`: secret `k` cannot travel in the header `baggage`: \
         it belongs to the host or the connection\n\
         hint: write another header into capability.toml, such as: header = \"authorization\"; then build and sign the manifest again"
    );
}

#[test]
fn unknown_and_missing_members_of_a_manifest_are_named() {
    let read = |change: &dyn Fn(&mut Value)| {
        let mut document = unsigned(&header_1(), &built()).unwrap();
        change(&mut document);
        let (text, now) = (document.to_string(), at("2026-06-01T00:00:00Z"));
        let accepted = shown(&dangerous_accept_unsigned(text.as_bytes(), now).unwrap_err());
        assert_eq!(shown(&read_unbelieved(text.as_bytes()).unwrap_err()), accepted);
        accepted
    };
    assert_eq!(
        read(&|document| document["capabilites"] = json!([])),
        "document.invalid: the manifest has a wrong member: unknown field `capabilites`, expected `capabilities`\nhint: -"
    );
    let found = read(&|document| document["capabilities"][0]["permission"] = json!({}));
    assert!(
        found.contains("unknown field `permission`, expected one of `id`, `version`, `shape`, `component`"),
        "{found}"
    );
    let found = read(&|document| document["capabilities"][0]["permissions"]["exec"]["shell"] = json!(true));
    assert!(found.contains("unknown field `shell`, expected `programs`"), "{found}");
    let found = read(&|document| drop(document["capabilities"][0].as_object_mut().unwrap().remove("component")));
    assert!(found.contains("missing field `component`"), "{found}");
    let found = read(&|document| document["schema"] = json!("aral.persona/v1"));
    assert!(
        found.contains("the document is `aral.persona/v1`, not `aral.manifest/v1`"),
        "{found}"
    );
    let text = unsigned(&header_1(), &built())
        .unwrap()
        .to_string()
        .replacen("\"title\"", "\"id\":\"x\",\"title\"", 1);
    let failure = read_unbelieved(text.as_bytes()).unwrap_err();
    assert!(failure.message.contains("duplicate key `id`"), "{failure}");
    let failure = read_unbelieved(&vec![b' '; (4 << 20) + 1]).unwrap_err();
    assert_eq!(failure.message, "the manifest is 4194305 bytes, more than 4194304");
}

/// The files that ship are read by the code that ships.
#[test]
#[expect(clippy::disallowed_methods, reason = "reads files of the repository")]
fn every_capability_of_the_repository_is_read() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../capabilities");
    let mut read = 0;
    for capability in std::fs::read_dir(folder).unwrap() {
        let Ok(text) = std::fs::read_to_string(capability.unwrap().path().join("capability.toml")) else {
            continue;
        };
        let source = CapabilityToml::parse(&text).unwrap();
        let (component, permissions) = (Digest::of(b""), json!(source.permissions));
        let change =
            json!({"id": source.id, "component": component, "permissions": permissions, "limits": source.limits});
        ManifestBody::new(vec![entry(b"", change)]).unwrap();
        read += 1;
    }
    assert!(read >= 9, "{read}");
}

/// The first example behind this heading of docs/capabilities.md, between these fences.
fn documented(heading: &str, fence: &str) -> &'static str {
    let (_, section) = include_str!("../../../../../docs/capabilities.md")
        .split_once(heading)
        .unwrap();
    let (_, example) = section.split_once(fence).unwrap();
    example.split_once("```").unwrap().0
}

#[test]
fn the_documented_capability_toml_is_taken_and_has_every_member() {
    let text = documented("\n## `capability.toml`\n", "```toml\n");
    // A member that comes is to be put on the page.
    let CapabilityToml {
        id,
        version: _,
        component: _,
        described,
        permissions,
        limits,
    } = CapabilityToml::parse(text).unwrap();
    assert!(matches!(described, source::Described::ByFile { .. }));
    assert_eq!(permissions.present(), Permission::ALL);
    assert_eq!(
        limits.entries(),
        Limits::default().entries(),
        "the page says that these are the defaults"
    );
    // What else may be absent.
    let scope = permissions.secret_read.clone().unwrap();
    let uses = |usage: SecretUse| scope.secrets.iter().find(|secret| secret.usage == usage).unwrap();
    let SecretScope {
        name: _,
        usage: _,
        hosts,
        header,
        prefix,
    } = uses(SecretUse::Inject);
    assert!(!hosts.is_empty() && header.is_some() && prefix.is_some());
    uses(SecretUse::Reveal);
    let change = json!({"id": id, "permissions": permissions, "limits": limits});
    ManifestBody::new(vec![entry(b"", change)]).unwrap();
}

#[test]
fn scopes_are_what_the_page_says_of_them() {
    let refused = |found: String| found != "taken";
    let secret = |secret: Value| check_permissions(json!({"secret:read": {"secrets": [secret]}}));
    assert!(refused(secret(json!({"name": "t"}))));
    assert!(!refused(secret(json!({"name": "t", "use": "reveal"}))));
    let bound = json!({"name": "t", "hosts": ["https://api.example.com"], "header": "authorization"});
    assert!(!refused(secret(bound)));
    let folder = |bytes_max: u64| {
        let path = json!({"guest": "/", "host": "/srv/out", "bytes_max": bytes_max, "files_max": 1});
        check_permissions(json!({"file:write": {"paths": [path]}}))
    };
    assert!(!refused(folder((1 << 53) - 1)));
    assert!(refused(folder(1 << 53)));
    let argument = |text: &str| {
        tool(&format!(
            "[permissions.exec]\nprograms = [{{ path = \"/usr/bin/git\", args = [\"{text}\"] }}]\n"
        ))
    };
    assert!(!refused(argument("stash@0")));
    assert!(refused(argument("stash@{0}")));
}

#[test]
fn the_documented_manifest_is_read_and_has_every_member() {
    let text = documented("\n## The manifest\n", "```json\n");
    let (_, body) = read_unbelieved(text.as_bytes()).unwrap();
    let document: Value = serde_json::from_str(text).unwrap();
    let signature = document["signature"].as_object().expect("it shows a signed one");
    assert!(
        signature
            .keys()
            .map(String::as_str)
            .eq(["algorithm", "key_id", "value"])
    );
    let [entry] = body.capabilities() else {
        panic!("{body:?}");
    };
    let Entry {
        id: _,
        version: _,
        shape: _,
        component: _,
        title: _,
        description: _,
        input_schema: _,
        output_schema: _,
        permissions,
        limits,
    } = entry;
    assert_ne!(*permissions, Permissions::default());
    assert_ne!(*limits, LimitsRequest::default());
}

#[test]
fn building_refuses_what_admission_would_refuse() {
    let build_with = |text: &str, bytes: &[u8], schema: &str| {
        let source = CapabilityToml::parse(text).unwrap();
        let descriptor = Descriptor::parse("T".to_owned(), "D".to_owned(), schema, "{}").unwrap();
        let part = Part {
            source: &source,
            inspection: &inspect(bytes).map_err(|failure| shown(&failure))?,
            descriptor,
        };
        build::body([part])
            .map_err(|failure| shown(&failure))
            .map(|(_, warnings)| warnings.len())
    };
    let build = |text: &str, bytes: &[u8]| build_with(text, bytes, "{}");
    let found = build_with(TOOL, &component(Shape::Tool, &[]), r#"{"pattern": "(a+)\\1"}"#).unwrap_err();
    assert!(
        found.starts_with(
            "document.invalid: capability `probe`: `input_schema` is a JSON Schema that this host does not evaluate: \
             a pattern is none that this host reads"
        ),
        "{found}"
    );
    let exec = "[permissions.exec]\nprograms = [{ path = \"/bin/date\", args = [] }]\n";
    assert_eq!(build(&format!("{TOOL}{exec}"), &component(Shape::Tool, &[])), Ok(1));
    for (log_bytes, warnings) in [(0, 0), (1, 1), (63, 1), (64, 0)] {
        let limits = format!("{TOOL}[limits]\nlog_bytes = {log_bytes}\n");
        assert_eq!(
            build(&limits, &component(Shape::Tool, &[])),
            Ok(warnings),
            "{log_bytes}"
        );
    }
    let found = build(TOOL, &component(Shape::Tool, &["aral:capability/exec@1.0.0"])).unwrap_err();
    assert!(found.starts_with("component.import_uncovered: "), "{found}");
    assert_eq!(
        build(TOOL, &component(Shape::Command, &[])).unwrap_err(),
        "component.invalid: `probe` is declared as a tool, and its component exports `wasi:cli/run`: it is a command\n\
         hint: write in capability.toml: shape = \"command\""
    );
}

proptest::proptest! {
    #[test]
    fn overlapping_folders_are_found_whatever_their_order(
        paths in proptest::collection::vec("/[ab.]{1,2}(/[ab-]{1,2}){0,2}|/", 0..6),
    ) {
        let Ok(paths) = paths.iter().map(|path| path.parse()).collect::<Result<Vec<aral_contract::scope::AbsolutePath>, _>>() else {
            return Ok(());
        };
        let pairs = || (0..paths.len()).flat_map(|one| (0..paths.len()).map(move |two| (one, two)));
        let overlap = pairs().any(|(one, two)| one != two && paths[one].is_within(&paths[two]));
        let scope: Vec<Value> = paths.iter().map(|path| json!({"guest": path, "host": "/srv"})).collect();
        let found = check_permissions(json!({"file:read": {"paths": scope}}));
        proptest::prop_assert_eq!(found != "taken", overlap, "{}", found);
    }

    #[test]
    fn reading_never_panics(text in ".{0,300}") {
        let _ = CapabilityToml::parse(&text);
        let _ = CapabilityToml::parse(&format!("{TOOL}{text}"));
        let _ = read_unbelieved(text.as_bytes());
        let _ = Descriptor::parse(text.clone(), text.clone(), &text, &text);
    }

    #[test]
    fn a_changed_manifest_never_panics(place in 0usize..2000, value in proptest::num::u8::ANY) {
        let mut bytes = unsigned(&header_1(), &built()).unwrap().to_string().into_bytes();
        let place = place % bytes.len();
        bytes[place] = value;
        let _ = read_unbelieved(&bytes);
    }
}
