//! Each no has its smallest change, which is enough, and of which nothing can be left out.

use aral_capability::manifest::Shape;
use aral_contract::document::signed::{Kind, dangerous_accept_unsigned};
use aral_contract::scope::AbsolutePath;
use semver::Version;
use serde_json::{Value as Json, json};

use super::*;
use crate::policy::{POLICY_ITEMS_MAX, RawPolicy};

fn found(permissions: &Json, persona: Json, policy: &str) -> WhyNot {
    found_with(permissions, persona, policy, json!({}))
}

fn entry(permissions: &Json) -> Entry {
    Entry {
        id: "tool".parse().unwrap(),
        version: Version::new(1, 2, 0),
        shape: Shape::Tool,
        component: Digest::of(b""),
        title: "T".to_owned(),
        description: "D".to_owned(),
        input_schema: json!({}),
        output_schema: json!({}),
        permissions: serde_json::from_value(permissions.clone()).unwrap(),
        limits: serde_json::from_value(json!({})).unwrap(),
    }
}

fn found_with(permissions: &Json, persona: Json, policy: &str, wanted: Json) -> WhyNot {
    found_of(&entry(permissions), persona, policy, wanted)
}

fn found_of(entry: &Entry, persona: Json, policy: &str, wanted: Json) -> WhyNot {
    let wanted = serde_json::from_value(wanted).unwrap();
    let mut document = json!({
        "schema": "aral.persona/v1", "serial": 1, "issued_at": "2026-01-01T00:00:00Z",
        "expires_at": "2027-01-01T00:00:00Z", "id": "analyst", "name": "Analyst",
    });
    document
        .as_object_mut()
        .unwrap()
        .extend(persona.as_object().unwrap().clone());
    let now = "2026-06-01T00:00:00Z".parse().unwrap();
    let persona = dangerous_accept_unsigned(Kind::Persona, document.to_string().as_bytes(), now).unwrap();
    let raw: RawPolicy = toml::from_str(policy).unwrap();
    let policy = Policy::resolve(raw, &"/etc".parse::<AbsolutePath>().unwrap()).unwrap();
    why_not(entry, &persona, &policy, &wanted)
}

fn check(permissions: Json, persona: Json, policy: &str, expected: &[&str]) {
    let found = found(&permissions, persona, policy);
    let lines: Vec<&str> = found.changes.iter().map(|change| change.line.as_str()).collect();
    assert_eq!(lines, expected, "{permissions}");
    assert_eq!(found.allowed, expected.is_empty());
}

#[test]
fn what_is_allowed_needs_no_change() {
    let persona = json!({"constraints": {"allowed_capabilities": ["tool"]}});
    check(json!({}), persona, "capabilities = [\"tool\"]", &[]);
}

#[test]
fn a_closed_persona_and_a_closed_policy_lack_both() {
    let permissions = json!({"file:read": {"paths": [{"guest": "/data", "host": "/srv/data"}]}});
    check(
        permissions,
        json!({}),
        "",
        &[
            "persona, constraints: \"allowed_capabilities\": [\"tool\"]",
            "persona, constraints: \"allowed_permissions\": [\"file:read\"]",
            "aral.toml, [policy.file]: read_roots = [\"/srv/data\"]",
            "aral.toml, [policy]: capabilities = [\"tool\"]",
            "aral.toml, [policy]: permissions = [\"file:read\"]",
        ],
    );
}

#[test]
fn a_call_that_may_run_is_told_what_would_give_it_the_rest() {
    let hosts = json!({"hosts": ["https://a.example", "https://b.example"]});
    let permissions = json!({
        "network:read": hosts, "network:write": hosts,
        "memory:write": {"namespaces": ["m", "n"], "bytes_max": 20, "records_max": 10},
    });
    let found = |domains: &[&str], memory: &str| {
        let persona = json!({"constraints": {
            "allowed_capabilities": ["*"], "allowed_permissions": ["*"], "allowed_domains": domains,
        }});
        let policy = "capabilities = [\"*\"]\npermissions = [\"*\"]\nnetwork.hosts = [\"*\"]\n";
        let found = found(&permissions, persona, &format!("{policy}{memory}"));
        assert!(found.allowed && found.changes.is_empty(), "{found:?}");
        found.rest.into_iter().map(|change| change.line).collect::<Vec<_>>()
    };
    assert_eq!(
        found(
            &["https://a.example"],
            "memory.namespaces = [\"n\"]\nmemory.bytes_max = 15\n"
        ),
        [
            "persona, constraints: \"allowed_domains\": [\"https://b.example\"]",
            "aral.toml, [policy.memory]: bytes_max = 20",
            "aral.toml, [policy.memory]: namespaces = [\"m\"]",
        ]
    );
    // With exactly that it has all of it.
    let both = ["https://a.example", "https://b.example"];
    let rest = found(&both, "memory.namespaces = [\"n\", \"m\"]\nmemory.bytes_max = 20\n");
    assert_eq!(rest, <[&str; 0]>::default());
}

#[test]
fn an_address_that_is_not_public_needs_its_network_besides() {
    let hosts = json!(["http://127.0.0.1:8080", "http://10.0.0.1", "https://a.example"]);
    let permissions = json!({"network:read": {"hosts": hosts}});
    let constraints = |domains: &Json| {
        json!({"constraints": {
            "allowed_capabilities": ["tool"], "allowed_permissions": ["network:read"], "allowed_domains": domains,
        }})
    };
    let lines = |changes: Vec<Change>| changes.into_iter().map(|change| change.line).collect::<Vec<_>>();
    let policy = "capabilities = [\"tool\"]\nnetwork.hosts = [\"*\"]\n";
    let allows = format!("{policy}permissions = [\"network:read\"]\n");
    let line = "aral.toml, [policy.network]: networks = [\"127.0.0.1/32\", \"10.0.0.1/32\"]";
    let allowed = found(&permissions, constraints(&hosts), &allows);
    assert!(allowed.allowed, "{allowed:?}");
    assert_eq!(lines(allowed.rest), [line]);
    let denied = found(&permissions, constraints(&hosts), policy);
    assert_eq!(
        lines(denied.changes),
        ["aral.toml, [policy]: permissions = [\"network:read\"]", line]
    );
    let open = format!("{allows}network.networks = [\"127.0.0.0/8\", \"10.0.0.1/32\"]\n");
    let open = found(&permissions, constraints(&hosts), &open);
    assert_eq!(lines(open.rest), <[&str; 0]>::default());
    // An address that hides another one needs both.
    let hiding = json!(["http://[::ffff:10.0.0.5]", "http://[64:ff9b::a00:6]"]);
    let permissions_hiding = json!({"network:read": {"hosts": hiding}});
    let rest = |policy: &str| lines(found(&permissions_hiding, constraints(&hiding), policy).rest);
    let both = "[\"::ffff:10.0.0.5/128\", \"10.0.0.5/32\", \"64:ff9b::a00:6/128\", \"10.0.0.6/32\"]";
    assert_eq!(
        rest(&allows),
        [format!("aral.toml, [policy.network]: networks = {both}")]
    );
    let with_both = format!("{allows}network.networks = {both}\n");
    assert_eq!(rest(&with_both), <[&str; 0]>::default());
    // What the call would not be given needs no network.
    let narrow = found(&permissions, constraints(&json!(["https://a.example"])), policy);
    assert_eq!(
        lines(narrow.changes),
        ["aral.toml, [policy]: permissions = [\"network:read\"]"]
    );
    let wanted = json!({"network:read": {"hosts": ["http://127.0.0.1:8080"]}});
    let wanted = found_with(&json!({}), constraints(&hosts), &allows, wanted);
    assert_eq!(
        lines(wanted.changes),
        [
            "capability.toml, [permissions.\"network:read\"]: hosts = [\"http://127.0.0.1:8080\"]",
            "aral.toml, [policy.network]: networks = [\"127.0.0.1/32\"]",
        ]
    );
}

#[test]
fn one_host_that_both_allow_is_enough() {
    let permissions = json!({"network:read": {"hosts": ["https://a.example", "https://b.example"]}});
    let persona = json!({"constraints": {
        "allowed_capabilities": ["tool"], "allowed_permissions": ["network:read"], "allowed_domains": ["https://b.example"],
    }});
    let policy = "capabilities = [\"tool\"]\npermissions = [\"network:read\"]\n";
    // The persona has the second one, so that the policy alone has to change, by one host and not by two.
    let found = found(&permissions, persona, policy);
    assert_eq!(found.changes.len(), 1, "{found:?}");
    assert_eq!(found.changes[0].document, Document::Policy);
    assert_eq!(
        found.changes[0].line,
        "aral.toml, [policy.network]: hosts = [\"https://b.example\"]"
    );
}

#[test]
fn every_folder_that_is_written_is_needed_and_no_quota_that_is_large_enough() {
    let path =
        |guest: &str, host: &str| json!({"guest": guest, "host": host, "bytes_max": 1_u64 << 40, "files_max": 5});
    let permissions = json!({"file:write": {"paths": [path("/a", "/srv/a"), path("/b", "/srv/b")]}});
    let persona = json!({"constraints": {"allowed_capabilities": ["*"], "allowed_permissions": ["*"]}});
    check(
        permissions,
        persona,
        "capabilities = [\"*\"]\npermissions = [\"*\"]\n",
        &["aral.toml, [policy.file]: write_roots = [\"/srv/a\", \"/srv/b\"]"],
    );
}

#[test]
fn a_secret_that_is_shown_needs_its_name_the_switch_and_the_clearance() {
    let permissions = json!({"secret:read": {"secrets": [{"name": "token", "use": "reveal"}]}});
    let persona = json!({"constraints": {"allowed_capabilities": ["*"], "allowed_permissions": ["*"]}});
    check(
        permissions,
        persona,
        "capabilities = [\"*\"]\npermissions = [\"*\"]\n",
        &[
            "persona, \"clearance\": \"secret\"",
            "aral.toml, [policy.secret]: names = [\"token\"]",
            "aral.toml, [policy.secret]: reveal = true",
        ],
    );
    // The persona is cleared up to `public`: with permissions alone each reveal and each stored secret is refused.
    let both = json!({
        "secret:read": {"secrets": [{"name": "token", "use": "reveal"}]}, "secret:write": {"names": ["token"]},
    });
    let rest = |clearance: &str| {
        let constraints = json!({"allowed_capabilities": ["*"], "allowed_permissions": ["*"]});
        let persona = json!({"clearance": clearance, "constraints": constraints});
        let policy =
            "capabilities = [\"*\"]\npermissions = [\"*\"]\nsecret.names = [\"token\"]\nsecret.reveal = true\n";
        let found = found(&both, persona, policy);
        assert!(found.allowed, "{found:?}");
        found.rest.into_iter().map(|change| change.line).collect::<Vec<_>>()
    };
    assert_eq!(rest("confidential"), ["persona, \"clearance\": \"secret\""]);
    assert_eq!(rest("secret"), <[&str; 0]>::default());
}

#[test]
fn programs_and_records_and_tiers() {
    let permissions = json!({
        "exec": {"programs": [{"path": "/usr/bin/head", "args": ["-c", "{integer}"]}]},
        "memory:write": {"namespaces": ["n"], "bytes_max": 10, "records_max": 10},
    });
    let persona =
        json!({"tier": "gold", "constraints": {"allowed_capabilities": ["*"], "allowed_permissions": ["exec"]}});
    check(
        permissions,
        persona,
        "capabilities = [\"*\"]\npermissions = [\"*\"]\nmemory.bytes_max = 0\n",
        &[
            "persona, constraints: \"allowed_permissions\": [\"memory:write\"]",
            "aral.toml, [policy.exec]: programs = [{ path = \"/usr/bin/head\", args = [\"-c\", \"{integer}\"] }]",
            "aral.toml, [policy.memory]: bytes_max = 10",
            "aral.toml, [policy.memory]: namespaces = [\"n\"]",
            "aral.toml, [policy.tier.gold]: requests_per_minute = 600",
        ],
    );
}

#[test]
fn what_the_manifest_does_not_ask_for_is_a_line_of_its_own() {
    let asked = json!({"network:read": {"hosts": ["https://*.example.org"]}});
    let persona = json!({"constraints": {
        "allowed_capabilities": ["*"], "allowed_permissions": ["network:read"], "allowed_domains": ["https://a.example.org"],
    }});
    let policy =
        "capabilities = [\"*\"]\npermissions = [\"*\"]\nnetwork.hosts = [\"*\"]\nmemory.namespaces = [\"n\"]\n";
    let lines = |wanted: Json| {
        let found = found_with(&asked, persona.clone(), policy, wanted);
        assert_eq!(found.allowed, found.changes.is_empty());
        found.changes.into_iter().map(|change| change.line).collect::<Vec<_>>()
    };
    let host = |host: &str| json!({"network:read": {"hosts": [host]}});
    assert_eq!(lines(host("https://a.example.org")), <[&str; 0]>::default());
    // The manifest asks for it by its pattern, and the persona narrows that away.
    assert_eq!(
        lines(host("https://b.example.org")),
        ["persona, constraints: \"allowed_domains\": [\"https://b.example.org\"]"],
        "and not the whole pattern"
    );
    assert_eq!(
        lines(host("https://c.example")),
        [
            "capability.toml, [permissions.\"network:read\"]: hosts = [\"https://c.example\"]",
            "persona, constraints: \"allowed_domains\": [\"https://c.example\"]",
        ]
    );
    assert_eq!(
        lines(json!({
            "memory:write": {"namespaces": ["n"], "bytes_max": 5, "records_max": 6},
            "file:read": {"paths": [{"guest": "/data", "host": "/srv"}]},
        })),
        [
            "capability.toml, [permissions.\"file:read\"]: paths = [{ guest = \"/data\", host = \"/srv\" }]",
            "capability.toml, [permissions.\"memory:write\"]: namespaces = [\"n\"], bytes_max = 5, records_max = 6",
            "persona, constraints: \"allowed_permissions\": [\"file:read\", \"memory:write\"]",
            "aral.toml, [policy.file]: read_roots = [\"/srv\"]",
        ]
    );
}

/// What a manifest asks for beside what is wanted of it, with persona and policy open.
fn lines_of_manifest(wanted: &Json, more: &str) -> Option<Vec<String>> {
    let asked = json!({
        "file:read": {"paths": [{"guest": "/data", "host": "/srv/data"}]},
        "file:write": {"paths": [{"guest": "/out", "host": "/srv/out", "bytes_max": 10, "files_max": 5}]},
        "memory:write": {"namespaces": ["notes"], "bytes_max": 10, "records_max": 5},
        "secret:read": {"secrets": [
            {"name": "token", "hosts": ["https://a.example", "https://b.example"], "header": "x-key"},
        ]},
    });
    let open = json!({"allowed_capabilities": ["*"], "allowed_permissions": ["*"], "allowed_domains": ["*"]});
    let policy = format!(
        "capabilities = [\"*\"]\npermissions = [\"*\"]\nnetwork.hosts = [\"*\"]\nsecret.names = [\"*\"]\n\
         secret.reveal = true\nfile.read_roots = [\"/srv\"]\nfile.write_roots = [\"/srv\"]\n\
         memory.namespaces = [\"*\"]\n{more}"
    );
    let found = found_with(&asked, json!({ "constraints": open }), &policy, wanted.clone());
    if !found.allowed && found.changes.is_empty() {
        return None;
    }
    assert_eq!(found.allowed, found.changes.is_empty());
    let whole = wanted::added(&entry(&asked), &serde_json::from_value(wanted.clone()).unwrap());
    assert_eq!(check_scopes(&whole.unwrap().whole.permissions), Ok(()), "{wanted}");
    Some(found.changes.into_iter().map(|change| change.line).collect())
}

fn folder(guest: &str, host: &str) -> Json {
    json!({"paths": [{"guest": guest, "host": host}]})
}

fn written(guest: &str, host: &str, bytes: u64) -> Json {
    json!({"paths": [{"guest": guest, "host": host, "bytes_max": bytes, "files_max": 5}]})
}

#[test]
fn what_lies_in_what_the_manifest_asks_for_is_no_change_of_it() {
    let secret = json!({"secrets": [{"name": "token", "hosts": ["https://b.example"], "header": "x-key"}]});
    for wanted in [
        json!({"file:read": folder("/data", "/srv/data")}),
        json!({"file:read": folder("/data/2024", "/srv/data/2024")}),
        json!({"file:read": folder("/out", "/srv/out")}),
        json!({"file:read": folder("/out/a", "/srv/out/a")}),
        json!({"file:write": written("/out/a", "/srv/out/a", 10)}),
        json!({"memory:write": {"namespaces": ["notes"], "bytes_max": 10, "records_max": 5}}),
        json!({"secret:read": secret}),
    ] {
        assert_eq!(lines_of_manifest(&wanted, ""), Some(Vec::new()), "{wanted}");
    }
}

#[test]
fn every_change_of_a_manifest_that_is_proposed_makes_one_that_a_host_takes() {
    let memory =
        |name: &str, bytes: u64| json!({"memory:write": {"namespaces": [name], "bytes_max": bytes, "records_max": 5}});
    let low = "memory.bytes_max = 15\n";
    let line = |permission: &str, line: &str| format!("capability.toml, [permissions.\"{permission}\"]: {line}");
    for (wanted, more, expected) in [
        (memory("notes", 20), "", vec![line("memory:write", "bytes_max = 20")]),
        (
            memory("notes", 20),
            low,
            vec![
                line("memory:write", "bytes_max = 20"),
                "aral.toml, [policy.memory]: bytes_max = 20".to_owned(),
            ],
        ),
        (
            memory("other", 20),
            "",
            vec![line("memory:write", "namespaces = [\"other\"], bytes_max = 20")],
        ),
        (
            memory("other", 5),
            "",
            vec![line("memory:write", "namespaces = [\"other\"]")],
        ),
        // What is wanted may lie in what else is wanted.
        (
            json!({"file:read": folder("/new", "/srv/new"), "file:write": written("/new", "/srv/new", 10)}),
            "",
            vec![line(
                "file:write",
                "paths = [{ bytes_max = 10, files_max = 5, guest = \"/new\", host = \"/srv/new\" }]",
            )],
        ),
        (
            json!({"file:read": {"paths": [
                {"guest": "/new/a", "host": "/srv/new/a"}, {"guest": "/new", "host": "/srv/new"},
            ]}}),
            "",
            vec![line("file:read", "paths = [{ guest = \"/new\", host = \"/srv/new\" }]")],
        ),
    ] {
        assert_eq!(lines_of_manifest(&wanted, more), Some(expected), "{wanted}");
    }
    let secret = |secret: Json| json!({"secret:read": {"secrets": [secret]}});
    // Beside what the manifest asks for these would be refused: that has to be changed.
    for wanted in [
        json!({"file:read": folder("/data/a", "/srv/other")}),
        json!({"file:read": folder("/", "/srv")}),
        json!({"file:write": written("/out", "/srv/out", 11)}),
        json!({"file:write": written("/x", "/srv/out/x", 10)}),
        json!({"file:write": written("/data", "/srv/data", 10)}),
        secret(json!({"name": "token", "use": "reveal"})),
        secret(json!({"name": "token", "hosts": ["https://c.example"], "header": "x-key"})),
        secret(json!({"name": "token", "hosts": ["https://a.example"], "header": "x-other"})),
    ] {
        assert_eq!(lines_of_manifest(&wanted, ""), None, "{wanted}");
    }
}

#[test]
fn numbers_that_let_no_call_through_are_raised_where_they_are_too_low() {
    let persona = |rates: Json, cost: Option<u64>, tier: Option<&str>| {
        let mut constraints = json!({"allowed_capabilities": ["tool"], "rate_limits": rates});
        if let Some(cost) = cost {
            constraints["max_cost_per_hour"] = cost.into();
        }
        let mut persona = json!({"constraints": constraints});
        if let Some(tier) = tier {
            persona["tier"] = tier.into();
        }
        persona
    };
    let policy = |more: &str| format!("capabilities = [\"tool\"]\nprice.call_micro = 50\n{more}");
    check(json!({}), persona(json!({}), Some(50), None), &policy(""), &[]);
    check(
        json!({}),
        persona(
            json!({"requests_per_minute": 0, "requests_per_hour": 0}),
            Some(49),
            None,
        ),
        &policy("agent.cost_per_hour_micro = 10"),
        &[
            "persona, constraints.rate_limits: \"requests_per_minute\": 1, \"requests_per_hour\": 1",
            "persona, constraints: \"max_cost_per_hour\": 50",
            "aral.toml, [policy.agent]: cost_per_hour_micro = 50",
        ],
    );
    check(
        json!({}),
        persona(json!({"requests_per_hour": 9}), None, Some("gold")),
        &policy("tier.gold.requests_per_hour = 0"),
        &["aral.toml, [policy.tier.gold]: requests_per_hour = 1"],
    );
    check(
        json!({}),
        persona(json!({}), None, Some("gold")),
        &policy("agent.requests_per_minute = 0"),
        &["aral.toml, [policy.tier.gold]: requests_per_minute = 1"],
    );
}

#[test]
fn a_list_that_is_full_matters_only_where_something_is_to_be_added_to_it() {
    use aral_persona::constraints::LIST_ITEMS_MAX;
    let hosts = |count: usize| {
        let one = |number: usize| format!("https://h{number}.example");
        (0..count).map(one).collect::<Vec<_>>()
    };
    let asked = |hosts: &[&str]| json!({"network:read": {"hosts": hosts}});
    let persona = |domains: &[String]| {
        json!({"constraints": {
            "allowed_capabilities": ["*"], "allowed_permissions": ["*"], "allowed_domains": domains,
        }})
    };
    let any = ["*".to_owned()];
    let policy = |permission: &str, hosts: &[String]| {
        format!("capabilities = [\"*\"]\npermissions = [{permission}]\nnetwork.hosts = {hosts:?}\n")
    };
    let full = hosts(POLICY_ITEMS_MAX);
    check(
        asked(&["https://h7.example"]),
        persona(&any),
        &policy("", &full),
        &["aral.toml, [policy]: permissions = [\"network:read\"]"],
    );
    let none = |found: WhyNot| assert!(!found.allowed && found.changes.is_empty(), "{found:?}");
    let other = asked(&["https://other.example"]);
    none(found(&other, persona(&any), &policy("\"*\"", &full)));
    none(found(&other, persona(&hosts(LIST_ITEMS_MAX)), &policy("\"*\"", &any)));
    // Where there is room for one, and one will do.
    check(
        asked(&["https://other.example", "https://another.example"]),
        persona(&hosts(LIST_ITEMS_MAX - 1)),
        &policy("\"*\"", &any),
        &["persona, constraints: \"allowed_domains\": [\"https://other.example\"]"],
    );
}

#[test]
fn no_manifest_is_proposed_that_lists_more_than_a_host_takes() {
    use aral_capability::manifest::check::SECRETS_MAX;
    let secrets = |numbers: std::ops::Range<usize>| {
        let one = |number: usize| json!({"name": format!("k{number}"), "use": "reveal"});
        json!({"secret:read": {"secrets": numbers.map(one).collect::<Vec<_>>()}})
    };
    let constraints = json!({"allowed_capabilities": ["*"], "allowed_permissions": ["*"]});
    let persona = json!({"clearance": "secret", "constraints": constraints});
    let policy = "capabilities = [\"*\"]\npermissions = [\"*\"]\nsecret.names = [\"*\"]\nsecret.reveal = true\n";
    let found = |asked: usize| {
        let wanted = secrets(SECRETS_MAX..SECRETS_MAX + 1);
        found_with(&secrets(0..asked), persona.clone(), policy, wanted)
    };
    let fits = found(SECRETS_MAX - 1);
    assert!(!fits.allowed && fits.changes.len() == 1, "{fits:?}");
    let full = found(SECRETS_MAX);
    assert!(!full.allowed && full.changes.is_empty(), "{full:?}");
}

#[test]
fn a_number_that_one_document_lowers_is_told_with_its_line() {
    let mut entry = entry(&json!({}));
    // The default of `log_bytes`, and of `input_bytes` more than that, which the policy gives.
    let asked = json!({"fuel": 2_000_000_000, "wall_ms": 1000, "log_bytes": 65_536, "input_bytes": 2_000_000});
    entry.limits = serde_json::from_value(asked).unwrap();
    let persona = json!({"constraints": {
        "rate_limits": {"requests_per_minute": 20, "requests_per_hour": 5}, "max_reasoning_depth": 2,
    }});
    let policy = "limits.input_bytes = 3000000\nagent.requests_per_minute = 10\nagent.requests_per_hour = 50\nagent.reasoning_depth = 2\n";
    let lowered = |policy: &str| found_of(&entry, persona.clone(), policy, json!({})).lowered;
    let fuel = "aral.toml, [policy.capability.tool.limits]: fuel = 2000000000";
    let minute = "aral.toml, [policy.agent]: requests_per_minute = 20";
    let hour = "persona, constraints.rate_limits: \"requests_per_hour\": 50";
    let wall = "capability.toml, [limits]: wall_ms = 30000";
    let one = |name, granted, by, otherwise, line: &str| Lowered {
        name,
        granted,
        by,
        otherwise,
        line: line.to_owned(),
    };
    let all = [
        one("fuel", 1_000_000_000, Document::Policy, 2_000_000_000, fuel),
        one("wall_ms", 1000, Document::Manifest, 30_000, wall),
        one("requests_per_minute", 10, Document::Policy, 20, minute),
        one("requests_per_hour", 5, Document::Persona, 50, hour),
    ];
    assert_eq!(lowered(policy), all);
    // With its line one of them is gone, and the others stay.
    let raised = format!("{policy}capability.tool.limits.fuel = 2000000000\n");
    assert_eq!(lowered(&raised), all[1..]);
}

#[test]
fn the_line_of_a_number_is_one_that_a_policy_takes_where_a_name_has_a_dot() {
    let mut entry = entry(&json!({}));
    entry.id = "acme.grep".parse().unwrap();
    entry.limits = serde_json::from_value(json!({"fuel": 2_000_000_000})).unwrap();
    let persona = json!({"tier": "eu.gold", "constraints": {"rate_limits": {"requests_per_minute": 20}}});
    let lowered = |policy: &str| found_of(&entry, persona.clone(), policy, json!({})).lowered;
    let mut policy = "agent.requests_per_minute = 10\ntier.\"eu.gold\".requests_per_hour = 60\n".to_owned();
    let told = lowered(&policy);
    assert_eq!(told.len(), 2, "{told:?}");
    for one in &told {
        let line = one.line.strip_prefix("aral.toml, [policy.").unwrap();
        let (section, number) = line.split_once("]: ").unwrap();
        policy.push_str(&format!("{section}.{number}\n"));
    }
    assert!(lowered(&policy).is_empty(), "{policy}");
}
