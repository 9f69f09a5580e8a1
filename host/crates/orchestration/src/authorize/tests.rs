//! Three yeses. For each permission there is a manifest, a persona and a policy that together allow it; then each line of
//! each is taken away alone, and the decision flips.

use aral_capability::manifest::{Entry, Shape};
use aral_contract::document::signed::{Kind, dangerous_accept_unsigned};
use aral_contract::scope::AbsolutePath;
use serde_json::{Value, json};

use super::*;
use crate::policy::RawPolicy;

fn entry(permissions: &Value) -> Entry {
    Entry {
        id: "tool".parse().unwrap(),
        version: Version::new(1, 2, 0),
        shape: Shape::Tool,
        component: Digest::of(b"component"),
        title: "Tool".to_owned(),
        description: "A tool.".to_owned(),
        input_schema: json!({}),
        output_schema: json!({}),
        permissions: serde_json::from_value(permissions.clone()).unwrap(),
        limits: serde_json::from_value(json!({"fuel": 2_000_000_000u64, "wall_ms": 7})).unwrap(),
    }
}

fn persona(constraints: &Value) -> Persona {
    let document = json!({
        "schema": "aral.persona/v1", "serial": 1, "issued_at": "2026-01-01T00:00:00Z", "expires_at": "2027-01-01T00:00:00Z",
        "id": "analyst", "name": "Analyst", "constraints": constraints,
    });
    let now = "2026-06-01T00:00:00Z".parse().unwrap();
    dangerous_accept_unsigned(Kind::Persona, document.to_string().as_bytes(), now).unwrap()
}

fn policy(lines: &[&str]) -> Policy {
    let raw: RawPolicy = toml::from_str(&lines.join("\n")).unwrap();
    Policy::resolve(raw, &"/etc/aral".parse::<AbsolutePath>().unwrap()).unwrap()
}

fn texts(lines: &[Line]) -> Vec<String> {
    lines.iter().map(Line::to_string).collect()
}

fn decide(permissions: &Value, constraints: &Value, lines: &[&str]) -> Decision {
    authorize(
        &entry(permissions),
        Digest::of(b"manifest"),
        &persona(constraints),
        &policy(lines),
    )
}

/// One permission with everything that it takes.
struct Case {
    asked: Value,
    constraints: Value,
    policy: Vec<&'static str>,
}

fn cases() -> Vec<Case> {
    let case = |permission: &str, scope: Value, domains: Option<&str>, policy: &[&'static str]| {
        let mut constraints = json!({"allowed_permissions": [permission], "allowed_capabilities": ["tool"]});
        if let Some(domain) = domains {
            constraints["allowed_domains"] = json!([domain]);
        }
        Case {
            asked: json!({ permission: scope }),
            constraints,
            policy: [&["capabilities = [\"tool\"]"], policy].concat(),
        }
    };
    let host = "https://api.example.com";
    let hosts = json!({"hosts": [host]});
    let program = json!({"programs": [{"path": "/usr/bin/git", "args": ["log", "{word}"]}]});
    let inject = json!({"secrets": [{"name": "token", "hosts": [host], "header": "authorization"}]});
    let written = json!({"paths": [{"guest": "/out", "host": "/srv/out", "bytes_max": 10, "files_max": 1}]});
    vec![
        case(
            "network:read",
            hosts.clone(),
            Some("https://*.example.com"),
            &[
                "permissions = [\"network:read\"]",
                "network.hosts = [\"https://api.example.com\"]",
            ],
        ),
        case(
            "network:write",
            hosts,
            Some(host),
            &[
                "permissions = [\"network:write\"]",
                "network.hosts = [\"https://*.example.com\"]",
            ],
        ),
        case(
            "file:read",
            json!({"paths": [{"guest": "/data", "host": "/srv/data"}]}),
            None,
            &["permissions = [\"file:read\"]", "file.read_roots = [\"/srv\"]"],
        ),
        case(
            "file:write",
            written,
            None,
            &["permissions = [\"file:write\"]", "file.write_roots = [\"/srv/out\"]"],
        ),
        case(
            "secret:read",
            inject,
            Some(host),
            &[
                "permissions = [\"secret:read\"]",
                "secret.names = [\"token\"]",
                "network.hosts = [\"https://api.example.com\"]",
            ],
        ),
        case(
            "secret:read",
            json!({"secrets": [{"name": "token", "use": "reveal"}]}),
            None,
            &[
                "permissions = [\"secret:read\"]",
                "secret.names = [\"token\"]",
                "secret.reveal = true",
            ],
        ),
        case(
            "secret:write",
            json!({"names": ["token"]}),
            None,
            &["permissions = [\"secret:write\"]", "secret.names = [\"token\"]"],
        ),
        case(
            "memory:read",
            json!({"namespaces": ["notes"]}),
            None,
            &["permissions = [\"memory:read\"]", "memory.namespaces = [\"notes\"]"],
        ),
        case(
            "memory:write",
            json!({"namespaces": ["notes"], "bytes_max": 10, "records_max": 1}),
            None,
            &["permissions = [\"memory:write\"]", "memory.namespaces = [\"notes\"]"],
        ),
        case(
            "exec",
            program,
            None,
            &[
                "permissions = [\"exec\"]",
                "exec.programs = [{ path = \"/usr/bin/git\", args = [\"log\", \"{word}\"] }]",
            ],
        ),
    ]
}

#[test]
fn all_three_yeses_grant_exactly_what_was_asked() {
    for case in cases() {
        let decision = decide(&case.asked, &case.constraints, &case.policy);
        let grant = decision.outcome.unwrap();
        let asked = case.asked.to_string();
        let warned = ["reveal", "secret:write", "memory:write"]
            .iter()
            .any(|what| asked.contains(what));
        assert_eq!(grant.permissions, serde_json::from_value(case.asked).unwrap());
        assert!(decision.rows.iter().all(|row| row.missing().is_none()));
        assert_eq!(decision.warnings.len(), usize::from(warned), "{:?}", decision.warnings);
    }
}

#[test]
fn every_line_of_the_policy_decides() {
    for case in cases() {
        for skipped in 0..case.policy.len() {
            let mut lines = case.policy.clone();
            let removed = lines.remove(skipped);
            let denial = decide(&case.asked, &case.constraints, &lines).outcome.unwrap_err();
            assert_eq!(denial.missing.len(), 1, "without {removed}: {denial:?}");
            assert_eq!(denial.missing[0].by, [Party::Policy], "without {removed}");
            let key = removed.split([' ', '.']).next().unwrap();
            let line = denial.missing[0].lines[0].to_string();
            assert!(line.contains(key), "without {removed} the hint is {line}");
        }
    }
}

#[test]
fn every_line_of_the_persona_decides() {
    for case in cases() {
        let names: Vec<String> = case.constraints.as_object().unwrap().keys().cloned().collect();
        for name in names {
            let mut constraints = case.constraints.clone();
            constraints.as_object_mut().unwrap().remove(&name);
            let denial = decide(&case.asked, &constraints, &case.policy).outcome.unwrap_err();
            assert_eq!(denial.missing[0].by, [Party::Persona], "without {name}");
            assert!(
                denial.missing[0].lines[0].to_string().contains(&name),
                "without {name}: {denial:?}"
            );
            let failure = Failure::from(&denial);
            assert_eq!(failure.code, Code::PermissionDenied);
            assert!(failure.hint.unwrap().contains(&name));
        }
    }
}

#[test]
fn every_line_of_the_manifest_decides() {
    for case in cases() {
        let grant = decide(&json!({}), &case.constraints, &case.policy).outcome.unwrap();
        assert_eq!(grant.permissions.present(), [], "nobody asked, nobody gets");
    }
}

#[test]
fn scopes_narrow_and_what_is_lost_is_shown() {
    let asked = json!({"network:read": {"hosts": ["https://a.com", "https://*.b.com", "https://c.com"]}});
    let constraints = json!({
        "allowed_permissions": ["*"], "allowed_capabilities": ["*"], "allowed_domains": ["https://a.com", "https://*.b.com"],
    });
    let lines = [
        "permissions = [\"*\"]",
        "capabilities = [\"t*\"]",
        "network.hosts = [\"https://x.b.com\", \"https://c.com\"]",
    ];
    let decision = decide(&asked, &constraints, &lines);
    let grant = decision.outcome.unwrap();
    assert_eq!(
        grant.permissions.network_read.clone().unwrap().hosts,
        ["https://x.b.com".parse().unwrap()]
    );
    let row = &decision.rows[1];
    assert_eq!(
        (row.persona.verdict, row.policy.verdict),
        (Verdict::Part, Verdict::Part)
    );
    assert_eq!(
        texts(&row.persona.lines),
        ["persona, constraints: \"allowed_domains\": [\"https://c.com\"]"]
    );
    let line = "aral.toml, [policy.network]: hosts = [\"https://a.com\", \"https://*.b.com\"]";
    assert_eq!(texts(&row.policy.lines), [line]);
    assert_eq!(decision.warnings.len(), 3);
}

#[test]
fn parts_without_anything_in_common_are_a_denial_by_both() {
    let asked = json!({"network:read": {"hosts": ["https://a.com", "https://b.com"]}});
    let constraints =
        json!({"allowed_permissions": ["*"], "allowed_capabilities": ["*"], "allowed_domains": ["https://a.com"]});
    let lines = [
        "permissions = [\"*\"]",
        "capabilities = [\"*\"]",
        "network.hosts = [\"https://b.com\"]",
    ];
    let denial = decide(&asked, &constraints, &lines).outcome.unwrap_err();
    assert_eq!(denial.missing[0].by, [Party::Persona, Party::Policy]);
    assert_eq!(denial.missing[0].lines.len(), 2);
}

#[test]
fn a_hint_has_each_list_once_with_all_that_it_lacks() {
    let asked = json!({
        "network:read": {"hosts": ["https://a.com", "https://b.com"]},
        "network:write": {"hosts": ["https://b.com", "https://c.com"]},
    });
    let constraints = json!({"allowed_capabilities": ["tool"]});
    let denial = decide(&asked, &constraints, &["capabilities = [\"tool\"]"])
        .outcome
        .unwrap_err();
    assert_eq!(denial.missing.len(), 2);
    let hint = Failure::from(&denial).hint.unwrap();
    let lines: Vec<&str> = hint.lines().collect();
    assert_eq!(
        lines,
        [
            "persona, constraints: \"allowed_domains\": [\"https://a.com\", \"https://b.com\", \"https://c.com\"]",
            "persona, constraints: \"allowed_permissions\": [\"network:read\", \"network:write\"]",
            "aral.toml, [policy.network]: hosts = [\"https://a.com\", \"https://b.com\", \"https://c.com\"]",
            "aral.toml, [policy]: permissions = [\"network:read\", \"network:write\"]",
        ]
    );
}

#[test]
fn programs_that_come_to_more_than_a_policy_may_list_are_a_denial() {
    use crate::policy::POLICY_ITEMS_MAX;
    let constraints = json!({"allowed_permissions": ["*"], "allowed_capabilities": ["*"]});
    let program = |args: [String; 2]| json!({"path": "/bin/x", "args": args});
    let asked = |count: usize| {
        let one = |number: usize| program([format!("a{number}"), "{word}".to_owned()]);
        json!({"exec": {"programs": (0..count).map(one).collect::<Vec<_>>()}})
    };
    let allowed = (0..32).map(|number| format!("{{ path = \"/bin/x\", args = [\"{{word}}\", \"b{number}\"] }}"));
    let programs = format!("exec.programs = [{}]", allowed.collect::<Vec<_>>().join(", "));
    let lines = ["permissions = [\"*\"]", "capabilities = [\"*\"]", &programs];
    let most = POLICY_ITEMS_MAX / 32;
    let grant = decide(&asked(most), &constraints, &lines).outcome.unwrap();
    let left = grant.permissions.exec.as_ref().unwrap();
    assert_eq!(left.programs.len(), POLICY_ITEMS_MAX);
    let denial = decide(&asked(most + 1), &constraints, &lines).outcome.unwrap_err();
    // One line for each of them would do, and then the grant is what was asked for.
    assert_eq!(denial.missing[0].by, [Party::Policy]);
    assert_eq!(denial.missing[0].lines.len(), 1, "{denial:?}");
}

#[test]
fn a_folder_outside_every_root_is_a_denial_even_beside_a_good_one() {
    let asked = json!({"file:read": {"paths": [
        {"guest": "/a", "host": "/srv/a"}, {"guest": "/b", "host": "/srv-b"},
    ]}});
    let constraints = json!({"allowed_permissions": ["file:read"], "allowed_capabilities": ["tool"]});
    let lines = [
        "permissions = [\"file:read\"]",
        "capabilities = [\"tool\"]",
        "file.read_roots = [\"/srv\"]",
    ];
    let denial = decide(&asked, &constraints, &lines).outcome.unwrap_err();
    assert_eq!(
        texts(&denial.missing[0].lines),
        ["aral.toml, [policy.file]: read_roots = [\"/srv-b\"]"]
    );
}

#[test]
fn a_line_that_is_to_be_added_says_what_is_missing_and_nothing_else() {
    let constraints = json!({"allowed_permissions": ["*"], "allowed_capabilities": ["*"]});
    let open = ["permissions = [\"*\"]", "capabilities = [\"*\"]"];
    let line = |asked: &Value, place: &str| {
        let denial = decide(asked, &constraints, &open).outcome.unwrap_err();
        let line = denial.missing[0].lines[0].to_string();
        let line = line.strip_prefix(place).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{denial:?}"))
    };
    let folder = "/srv/data\", \"/b\\c";
    let asked = json!({"file:read": {"paths": [{"guest": "/data", "host": folder}]}});
    let roots = line(&asked, "aral.toml, [policy.file]: ");
    let taken = policy(&[&format!("file.{roots}")]);
    assert_eq!(taken.read_roots, [folder.parse().unwrap()], "{roots}");

    let args = [
        "say \"no\"",
        "a\\b",
        "\u{7f}",
        "\u{9b}1m",
        "\u{202e}x",
        "\u{e0001}",
        "\n",
        "ä]",
        "{word}",
    ];
    let asked = json!({"exec": {"programs": [{"path": "/bin/a\" b", "args": args}]}});
    let programs = line(&asked, "aral.toml, [policy.exec]: ");
    assert!(
        !programs.contains(char::is_control) && !programs.contains('\u{202e}'),
        "{programs}"
    );
    let taken = policy(&[&format!("exec.{programs}")]);
    let asked = entry(&asked).permissions.exec.unwrap().programs;
    assert_eq!(taken.programs, asked, "{programs}");
}

#[test]
fn numbers_narrow_to_the_policy_and_nothing_left_is_a_denial() {
    let constraints = json!({"allowed_permissions": ["*"], "allowed_capabilities": ["*"]});
    let written =
        json!({"file:write": {"paths": [{"guest": "/out", "host": "/srv", "bytes_max": 100, "files_max": 10}]}});
    let memory = json!({"memory:write": {"namespaces": ["n"], "bytes_max": 100, "records_max": 10}});
    let open = [
        "permissions = [\"*\"]",
        "capabilities = [\"*\"]",
        "file.write_roots = [\"/srv\"]",
        "memory.namespaces = [\"n\"]",
    ];
    let with = |more: &[&'static str]| [&open[..], more].concat();

    let decision = decide(
        &written,
        &constraints,
        &with(&["file.bytes_max = 7", "file.files_max = 3"]),
    );
    assert_eq!(
        texts(&decision.rows[1].policy.lines),
        [
            "aral.toml, [policy.file]: bytes_max = 100",
            "aral.toml, [policy.file]: files_max = 10"
        ]
    );
    let path = decision
        .outcome
        .unwrap()
        .permissions
        .file_write
        .clone()
        .unwrap()
        .paths
        .remove(0);
    assert_eq!((path.bytes_max, path.files_max), (7, 3));
    assert!(
        decide(
            &written,
            &constraints,
            &with(&["file.bytes_max = 0", "file.files_max = 0"])
        )
        .outcome
        .is_err()
    );

    let decision = decide(
        &memory,
        &constraints,
        &with(&["memory.bytes_max = 7", "memory.records_max = 3"]),
    );
    assert_eq!(
        (decision.rows[1].policy.verdict, decision.rows[1].policy.lines.len()),
        (Verdict::Part, 2)
    );
    let scope = decision.outcome.unwrap().permissions.memory_write.clone().unwrap();
    assert_eq!((scope.bytes_max, scope.records_max), (7, 3));
    assert!(
        decide(&memory, &constraints, &with(&["memory.records_max = 0"]))
            .outcome
            .is_err()
    );
}

#[test]
fn rows_show_every_number_and_word_that_a_right_is_made_of() {
    let constraints = json!({"allowed_permissions": ["*"], "allowed_capabilities": ["*"], "allowed_domains": ["*"]});
    let lines = [
        "permissions = [\"*\"]",
        "capabilities = [\"*\"]",
        "network.hosts = [\"*\"]",
        "secret.names = [\"*\"]",
        "memory = { namespaces = [\"n\", \"m\"], bytes_max = 50, records_max = 5 }",
        "exec.programs = [{ path = \"/bin/sh\", args = [\"-c\", \"a b\"] }, { path = \"/bin/sh\", args = [\"-c\", \"a\", \"b\"] }]",
    ];
    let row = |asked: Value| {
        let decision = decide(&asked, &constraints, &lines);
        assert!(decision.is_allowed(), "{decision:?}");
        let row = &decision.rows[1];
        (row.asked.clone(), row.granted.clone())
    };
    let (asked, granted) =
        row(json!({"memory:write": {"namespaces": ["n", "m"], "bytes_max": 100, "records_max": 10}}));
    assert_eq!(
        asked,
        [
            "n (up to 100 bytes, 10 records in it)",
            "m (up to 100 bytes, 10 records in it)"
        ]
    );
    assert_eq!(
        granted,
        [
            "n (up to 50 bytes, 5 records in it)",
            "m (up to 50 bytes, 5 records in it)"
        ]
    );
    let secret = |change: Value| {
        let mut secret = json!({"name": "k", "hosts": ["https://a.com", "https://b.com"], "header": "x-key"});
        secret
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let (asked, granted) = row(json!({"secret:read": {"secrets": [secret]}}));
        assert_eq!(asked, granted);
        asked
    };
    assert_eq!(
        secret(json!({})),
        ["k injected for https://a.com, https://b.com as `x-key: …`"]
    );
    assert_eq!(
        secret(json!({"header": "authorization", "prefix": "Bearer "})),
        ["k injected for https://a.com, https://b.com as `authorization: Bearer …`"]
    );
    let program = |args: &[&str]| row(json!({"exec": {"programs": [{"path": "/bin/sh", "args": args}]}})).1;
    assert_eq!(
        program(&["-c", "a b"]),
        ["{ path = \"/bin/sh\", args = [\"-c\", \"a b\"] }"]
    );
    assert_eq!(
        program(&["-c", "a", "b"]),
        ["{ path = \"/bin/sh\", args = [\"-c\", \"a\", \"b\"] }"]
    );
}

#[test]
fn nothing_is_a_yes_in_words_and_not_in_fact() {
    let constraints = json!({
        "allowed_permissions": ["*"], "allowed_capabilities": ["*"], "allowed_domains": ["https://api.example.com"],
    });
    let quotas = [0_u64, 1, 2];
    let pairs = || quotas.iter().flat_map(|one| quotas.iter().map(move |two| (*one, *two)));
    // No manifest is taken that asks for quotas with which nothing can be written. If there were one, nothing would be granted.
    let written = |(bytes, files): (u64, u64)| {
        let path = json!({"guest": "/out", "host": "/srv/out", "bytes_max": bytes, "files_max": files});
        json!({ "file:write": { "paths": [path] } })
    };
    let kept = |(bytes, records): (u64, u64)| {
        let scope = json!({"namespaces": ["notes"], "bytes_max": bytes, "records_max": records});
        json!({ "memory:write": scope })
    };
    let asked = cases().into_iter().map(|case| case.asked);
    let asked: Vec<Value> = asked.chain(pairs().map(written)).chain(pairs().map(kept)).collect();
    let open = "permissions = [\"*\"]\ncapabilities = [\"*\"]\nnetwork.hosts = [\"*\"]\nfile.read_roots = [\"/srv\"]\n\
                file.write_roots = [\"/srv\"]\nsecret.names = [\"*\"]\nsecret.reveal = true\nmemory.namespaces = [\"*\"]\n\
                exec.programs = [{ path = \"/usr/bin/git\", args = [\"log\", \"{word}\"] }]";
    for (bytes, count) in pairs() {
        let file = format!("file.bytes_max = {bytes}\nfile.files_max = {count}");
        let memory = format!("memory.bytes_max = {bytes}\nmemory.records_max = {count}");
        for asked in &asked {
            let decision = decide(asked, &constraints, &[open, &file, &memory]);
            let permissions = entry(asked).permissions;
            let all = |grant: &Grant| permissions.present().into_iter().all(|one| grant.permissions.has(one));
            let words = format!("{asked} under {file} {memory}: {decision:?}");
            for row in &decision.rows {
                let answers = [&row.persona, &row.policy].map(|answer| answer.verdict);
                assert_eq!(row.granted.is_empty(), answers.contains(&Verdict::No), "{words}");
                let missing = row.missing().is_none_or(|missing| !missing.by.is_empty());
                assert!(missing, "nobody is named: {words}");
            }
            if let Ok(grant) = &decision.outcome {
                assert!(all(grant), "{words}");
            }
        }
    }
    for (bytes, records) in [(0, 1), (1, 0), (0, 0)] {
        let decision = decide(&kept((bytes, records)), &constraints, &[open]);
        assert!(decision.outcome.is_err(), "{decision:?}");
    }
}

#[test]
fn a_secret_in_clear_text_needs_a_policy_that_allows_it_on_loopback() {
    let host = "http://127.0.0.1:8080";
    let asked = json!({"secret:read": {"secrets": [{"name": "token", "hosts": [host], "header": "authorization"}]}});
    let constraints = json!({"allowed_permissions": ["*"], "allowed_capabilities": ["*"], "allowed_domains": [host]});
    let open = [
        "permissions = [\"*\"]",
        "capabilities = [\"*\"]",
        "secret.names = [\"*\"]",
        "network.hosts = [\"http://127.0.0.1:8080\"]",
    ];
    let denial = decide(&asked, &constraints, &open).outcome.unwrap_err();
    assert_eq!(
        texts(&denial.missing[0].lines),
        ["aral.toml, [policy.secret]: plain_loopback = true"]
    );
    let other = [&open[..], &["network.networks = [\"127.0.0.0/8\"]"]].concat();
    assert!(decide(&asked, &constraints, &other).outcome.is_err());
    let loopback = [&open[..], &["secret.plain_loopback = true"]].concat();
    let grant = decide(&asked, &constraints, &loopback).outcome.unwrap();
    assert!(grant.secret_plain_loopback, "egress must learn of it");
    assert_eq!(grant.networks, [], "no network permission, no network");
    let secure =
        json!({"secret:read": {"secrets": [{"name": "token", "hosts": ["https://127.0.0.1:8080"], "header": "x"}]}});
    let constraints = json!({"allowed_permissions": ["*"], "allowed_capabilities": ["*"], "allowed_domains": ["*"]});
    let any = [
        "permissions = [\"*\"]",
        "capabilities = [\"*\"]",
        "secret.names = [\"*\"]",
        "network.hosts = [\"*\"]",
    ];
    let grant = decide(&secure, &constraints, &any).outcome.unwrap();
    assert!(!grant.secret_plain_loopback, "closed by default");
}

#[test]
fn limits_networks_and_engine_come_from_the_policy() {
    let asked = json!({"network:read": {"hosts": ["https://a.com"]}});
    let constraints = json!({"allowed_permissions": ["*"], "allowed_capabilities": ["*"], "allowed_domains": ["*"]});
    let lines = [
        "permissions = [\"*\"]",
        "capabilities = [\"*\"]",
        "network.hosts = [\"*\"]",
        "network.networks = [\"10.0.0.0/8\"]",
        "defaults.compute_ms = 9",
        "limits.memory_bytes = 11",
        "capability.tool.engine = \"epoch-only\"",
        "capability.tool.limits.fuel = 3000000000",
    ];
    let decision = decide(&asked, &constraints, &lines);
    let fuel = decision.limits.iter().find(|row| row.name == "fuel").unwrap();
    assert_eq!(
        (fuel.asked, fuel.ceiling, fuel.granted),
        (Some(2_000_000_000), 3_000_000_000, 2_000_000_000)
    );
    let grant = decision.outcome.unwrap();
    assert_eq!(
        (grant.limits.wall_ms, grant.limits.compute_ms, grant.limits.memory_bytes),
        (7, 9, 11)
    );
    assert_eq!(grant.metering, aral_contract::Metering::EpochOnly);
    assert_eq!(grant.networks.len(), 1);
    let without = decide(&asked, &constraints, &lines[..7]).outcome.unwrap();
    assert_eq!(without.limits.fuel, 1_000_000_000);
    assert_ne!(without.digest(), grant.digest());
}

#[test]
fn a_secret_that_the_capability_would_see_is_warned_about() {
    let constraints = json!({"allowed_permissions": ["secret:read"], "allowed_capabilities": ["tool"], "allowed_domains": ["https://a.com"]});
    let lines = [
        "permissions = [\"secret:read\"]",
        "capabilities = [\"tool\"]",
        "secret.names = [\"token\"]",
        "secret.reveal = true",
        "network.hosts = [\"https://a.com\"]",
    ];
    let reveal = json!({"secret:read": {"secrets": [{"name": "token", "use": "reveal"}]}});
    let mut cleared = persona(&constraints);
    cleared.body.clearance = Classification::Secret;
    let warnings = authorize(&entry(&reveal), Digest::of(b""), &cleared, &policy(&lines)).warnings;
    assert!(
        warnings.iter().any(|one| one.contains("`token` is revealed")),
        "{warnings:?}"
    );
    let inject = json!({"secret:read": {"secrets": [{"name": "token", "hosts": ["https://a.com"], "header": "x"}]}});
    assert_eq!(decide(&inject, &constraints, &lines).warnings, <[String; 0]>::default());
    // What is not granted is not warned about.
    let closed = [&lines[..3], &lines[4..]].concat();
    let denied = decide(&reveal, &constraints, &closed);
    assert!(
        denied.outcome.is_err() && denied.warnings.is_empty(),
        "{:?}",
        denied.warnings
    );
}

#[test]
fn what_is_granted_and_would_be_refused_all_the_same_is_warned_about() {
    let lines = [
        "permissions = [\"*\"]",
        "capabilities = [\"tool\"]",
        "network.hosts = [\"http://127.0.0.1:8080\", \"http://localhost\", \"https://a.com\"]",
        "memory.namespaces = [\"notes\"]",
    ];
    let asked = json!({
        "network:read": {"hosts": ["http://127.0.0.1:8080", "http://localhost", "https://a.com"]},
        "memory:write": {"namespaces": ["notes"], "bytes_max": 10, "records_max": 1},
    });
    let constraints = json!({
        "allowed_permissions": ["network:read", "memory:write"], "allowed_capabilities": ["tool"],
        "allowed_domains": ["http://127.0.0.1:8080", "http://localhost", "https://a.com"],
    });
    let warned = |clearance: Classification, lines: &[&str]| {
        let mut persona = persona(&constraints);
        persona.body.clearance = clearance;
        let decision = authorize(&entry(&asked), Digest::of(b"manifest"), &persona, &policy(lines));
        assert!(decision.outcome.is_ok());
        let warnings = decision.warnings.into_iter();
        warnings
            .filter(|one| !one.contains("allows everything"))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        warned(Classification::Public, &lines),
        [
            "requests to `http://127.0.0.1:8080`, `http://localhost` are refused, because the address is not public: aral.toml, \
             [policy.network]: networks = [\"127.0.0.1/32\", \"::1/128\"]",
            "memory:write: the persona is cleared for `public` alone, and the SDK writes `internal` where a capability says nothing \
             else: persona, \"clearance\": \"internal\"",
        ]
    );
    let open = [&lines[..], &["network.networks = [\"127.0.0.0/8\"]"]].concat();
    assert_eq!(warned(Classification::Internal, &open), <[&str; 0]>::default());
}

#[test]
fn secrets_that_are_granted_to_a_persona_that_is_not_cleared_for_them_are_warned_about() {
    let shown = json!({"secrets": [{"name": "token", "use": "reveal"}]});
    let stored = json!({"names": ["token"]});
    let constraints = json!({"allowed_permissions": ["secret:read", "secret:write"], "allowed_capabilities": ["tool"]});
    let lines = [
        "permissions = [\"secret:read\", \"secret:write\"]",
        "capabilities = [\"tool\"]",
        "secret.names = [\"token\"]",
        "secret.reveal = true",
    ];
    let warned = |asked: &Value, clearance: Classification| {
        let mut persona = persona(&constraints);
        persona.body.clearance = clearance;
        let decision = authorize(&entry(asked), Digest::of(b"manifest"), &persona, &policy(&lines));
        assert!(decision.outcome.is_ok());
        decision.warnings
    };
    for (asked, what) in [
        (json!({"secret:read": shown}), "revealing secrets"),
        (json!({"secret:write": stored}), "storing secrets"),
        (
            json!({"secret:read": shown, "secret:write": stored}),
            "revealing and storing secrets",
        ),
    ] {
        let expected = format!(
            "{what} is refused, because the persona is cleared up to `confidential`: persona, \"clearance\": \"secret\""
        );
        assert_eq!(warned(&asked, Classification::Confidential), [expected]);
        let of_cleared = warned(&asked, Classification::Secret);
        assert!(
            !of_cleared.iter().any(|one| one.contains("is refused")),
            "{of_cleared:?}"
        );
    }
}

#[test]
fn what_is_cut_of_a_grant_is_kept_with_whoever_gives_less_of_it() {
    let hosts = ["https://a.example", "https://b.example", "https://c.example"];
    let secret = |hosts: &[&str]| json!({"name": "token", "hosts": hosts, "header": "x-key"});
    let shown = json!({"name": "shown", "use": "reveal"});
    let asked = json!({
        "network:read": {"hosts": hosts},
        "memory:read": {"namespaces": ["n", "m"]},
        "secret:read": {"secrets": [secret(&hosts), shown]},
    });
    let constraints = json!({
        "allowed_permissions": ["*"], "allowed_capabilities": ["*"],
        "allowed_domains": ["https://a.example", "https://c.example"],
    });
    let lines = [
        "capabilities = [\"*\"]",
        "permissions = [\"*\"]",
        "network.hosts = [\"https://a.example\", \"https://b.example\"]",
        "memory.namespaces = [\"n\"]",
        "secret.names = [\"token\"]",
    ];
    let grant = decide(&asked, &constraints, &lines).outcome.unwrap();
    let permissions = |value: Value| serde_json::from_value::<Permissions>(value).unwrap();
    let by_persona = json!({
        "network:read": {"hosts": ["https://b.example"]},
        "secret:read": {"secrets": [secret(&["https://b.example"])]},
    });
    let by_policy = json!({
        "network:read": {"hosts": ["https://c.example"]},
        "memory:read": {"namespaces": ["m"]},
        "secret:read": {"secrets": [secret(&["https://c.example"]), shown]},
    });
    assert_eq!(grant.cut.persona, permissions(by_persona));
    assert_eq!(grant.cut.policy, permissions(by_policy));
    let uncut = Grant::new(GrantParts {
        cut: Cut::default(),
        ..GrantParts::clone(&grant)
    });
    assert_eq!(grant.digest(), uncut.digest(), "it gives nothing");
}
