//! Nothing that may hold a secret comes through the conversion in clear.

use std::net::{IpAddr, Ipv4Addr};

use aral_contract::event::{AuthenticationMethod, SecretOperation};
use aral_contract::{CapabilityId, Digest, PersonaId, Sensitive, TraceId};
use serde_json::{Value, json};

use super::*;
use crate::testing::{blinder, start};

/// Something that must not stand in any record.
const SECRET: &str = "hunter2-hunter2";

fn converted(kind: EventKind) -> Value {
    let event = Event {
        at: start(),
        trace: Some(TraceId::from_bytes([1; 16])),
        kind,
    };
    serde_json::to_value(convert(event, &blinder()).unwrap()).unwrap()
}

fn capability() -> CapabilityId {
    "probe".parse().unwrap()
}

fn persona() -> PersonaId {
    "analyst".parse().unwrap()
}

fn host_call(permission: Permission, target: &str, allowed: bool) -> Value {
    converted(EventKind::HostCall {
        capability: capability(),
        persona: persona(),
        permission,
        target: target.to_owned(),
        allowed,
        reason: (!allowed).then(|| format!("`{target}` is not granted")),
    })
}

#[test]
fn a_name_that_was_not_shown_to_be_theirs_is_a_keyed_hash() {
    let authentication = |refused: Option<&str>| {
        converted(EventKind::Authentication {
            user: Some(Sensitive::new(SECRET.to_owned())),
            agent: Some("agent".parse().unwrap()),
            method: AuthenticationMethod::Token,
            source: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            refused: refused.map(str::to_owned),
        })
    };
    let refused = authentication(Some("expired"));
    let tag = blinder().tag("user", SECRET);
    assert_eq!(
        refused,
        json!({"type": "authentication", "user": {"tag": tag}, "agent": "agent", "method": "token",
            "source": "127.0.0.1", "success": false, "reason": "expired"})
    );
    assert!(!refused.to_string().contains(SECRET));
    assert_eq!(authentication(None)["user"], json!({"clear": SECRET}));
}

#[test]
fn what_a_guest_made_up_is_a_keyed_hash_unless_it_shows_where_an_attack_goes() {
    for (permission, target, allowed, clear) in [
        (Permission::FileRead, "/data", true, true),
        (Permission::FileRead, "/data/hunter2", false, false),
        (Permission::FileWrite, "/data/hunter2", false, false),
        (Permission::SecretRead, "token", false, true),
        (Permission::SecretWrite, "Not A Name", false, false),
        (Permission::MemoryRead, "notes", false, true),
        (Permission::MemoryWrite, "Not A Name", false, false),
        (Permission::NetworkRead, "https://evil.example", false, true),
        (Permission::NetworkWrite, "https://api.example", true, true),
        (Permission::Exec, "/usr/bin/git", false, true),
    ] {
        let record = host_call(permission, target, allowed);
        assert_eq!(record["target"].get("clear").is_some(), clear, "{permission} {target}");
        assert_eq!(
            record.to_string().contains(target),
            clear,
            "{permission} {target}: {record}"
        );
        assert_eq!(record["allowed"], allowed);
    }
    let masked = host_call(Permission::FileRead, "/data/x", false);
    assert_eq!(masked["reason"], "`[tagged]` is not granted");
}

#[test]
fn a_long_name_that_a_reason_cuts_is_masked_as_far_as_it_stands_there() {
    let name = format!("{SECRET} {}", "é".repeat(500));
    let shown: String = name.chars().take(70).collect();
    let folder = "/home/hunter2";
    for (permission, target, reason, masked) in [
        (
            Permission::SecretRead,
            name.clone(),
            format!("secret `{shown}…` is not granted: secrets = [{{ name = \"{shown}…\" }}]"),
            "secret `[tagged]…` is not granted: secrets = [{ name = \"[tagged]…\" }]",
        ),
        (
            Permission::MemoryWrite,
            name.clone(),
            format!("namespace `{shown}…` is not granted"),
            "namespace `[tagged]…` is not granted",
        ),
        (
            Permission::FileRead,
            format!("{folder}/x"),
            format!("not granted: paths = [{{ guest = \"{folder}\" }}]"),
            "not granted: paths = [{ guest = \"[tagged]\" }]",
        ),
        (
            Permission::SecretRead,
            "secret key".to_owned(),
            "secret `secret k…` is not granted".to_owned(),
            "secret `[tagged]…` is not granted",
        ),
        (
            Permission::SecretRead,
            "A b".to_owned(),
            "secret `A b` is not granted".to_owned(),
            "secret `[tagged]` is not granted",
        ),
        (
            Permission::SecretRead,
            String::new(),
            "secret `` is not granted".to_owned(),
            "secret `` is not granted",
        ),
    ] {
        let record = converted(EventKind::HostCall {
            capability: capability(),
            persona: persona(),
            permission,
            target,
            allowed: false,
            reason: Some(reason),
        });
        assert!(record["target"].get("tag").is_some(), "{record}");
        assert_eq!(record["reason"], masked);
    }
}

#[test]
fn a_name_is_masked_in_the_line_that_would_allow_it_as_that_writes_it() {
    for name in [
        format!("x\"{SECRET} x"),
        format!("abcd\"{SECRET}"),
        format!("abcd\\{SECRET}"),
        format!("\\\"{SECRET}\\"),
        // As a guest's `\u{200b}` is shown.
        format!("a\\u{{200b}}{SECRET}"),
        format!("a\u{ad}{SECRET}"),
    ] {
        let long = format!("{name}{}", "y".repeat(500));
        let shown: String = long.chars().take(70).collect();
        for (target, shown, masked) in [
            (name.clone(), name.clone(), "[tagged]"),
            (long, format!("{shown}…"), "[tagged]…"),
        ] {
            let reason = |shown: &str, added: &str| {
                format!("secret `{shown}` is not granted: add secrets = [{{ name = {added} }}], and to the policy")
            };
            let record = converted(EventKind::HostCall {
                capability: capability(),
                persona: persona(),
                permission: Permission::SecretRead,
                target,
                allowed: false,
                reason: Some(reason(&shown, &quoted(&shown))),
            });
            assert!(!record.to_string().contains(SECRET), "{record}");
            assert_eq!(record["reason"], reason(masked, &format!("\"{masked}\"")), "{shown}");
        }
    }
}

#[test]
fn a_refused_program_is_recorded_without_its_arguments() {
    let refused = |reason: &str| {
        converted(EventKind::HostCall {
            capability: capability(),
            persona: persona(),
            permission: Permission::Exec,
            target: "/usr/bin/curl".to_owned(),
            allowed: false,
            reason: Some(reason.to_owned()),
        })
    };
    let before = "not granted: add to capability.toml, [permissions.exec]: programs = [{ path = \"/usr/bin/curl\", ";
    let record = refused(&format!(
        "{before}args = [\"-H\", \"Authorization: Bearer {SECRET}\"] }}], and to the policy"
    ));
    assert_eq!(record["reason"], format!("{before}args = […]"));
    assert_eq!(record["target"], json!({"clear": "/usr/bin/curl"}));
    // However the line is written, nothing of it that is not known stands in the record.
    assert_eq!(
        refused(&format!("not granted: [\"{SECRET}\"]"))["reason"],
        "not granted: "
    );
}

#[test]
fn what_a_guest_logs_is_no_audit_event() {
    let event = Event {
        at: start(),
        trace: None,
        kind: EventKind::GuestLog {
            capability: capability(),
            level: "info",
            message: SECRET.to_owned(),
        },
    };
    assert_eq!(convert(event, &blinder()), None);
}

#[test]
fn a_call_is_recorded_with_everything_that_its_receipt_binds() {
    let digest = |text: &str| Digest::of(text.as_bytes());
    let evidence = Evidence {
        version: "1.2.3".parse().unwrap(),
        component: digest("component"),
        manifest: digest("manifest"),
        persona: "agent".parse().unwrap(),
        persona_digest: digest("persona"),
        policy: digest("policy"),
        grant: digest("grant"),
        permissions: vec![Permission::FileRead],
        input: digest("input"),
        output: Some(digest("output")),
        host_calls: 3,
        host_calls_digest: digest("calls"),
    };
    let usage = Usage {
        fuel: Some(1),
        memory_bytes_peak: 2,
        compute_ms: 3,
        wall_us: 4,
        input_bytes: 5,
        output_bytes: 6,
        log_bytes: 7,
        log_bytes_dropped: 8,
        http_requests: 9,
    };
    let bound = serde_json::to_value(&evidence).unwrap();
    let used = serde_json::to_value(&usage).unwrap();
    let callers: Vec<PersonaId> = vec!["lead".parse().unwrap(), "boss".parse().unwrap()];
    let ended = |code, evidence: Option<&Evidence>| {
        converted(EventKind::InvocationEnded {
            capability: capability(),
            persona: "analyst".parse().unwrap(),
            code,
            usage: usage.clone(),
            user: evidence.map(|_| "me".parse().unwrap()),
            callers: evidence.iter().flat_map(|_| callers.clone()).collect(),
            evidence: evidence.map(|evidence| Box::new(evidence.clone())),
        })
    };
    assert_eq!(
        ended(None, Some(&evidence)),
        json!({"type": "invocation", "capability": "probe", "persona": "analyst", "success": true, "resources": used, "user": "me", "callers": ["lead", "boss"], "evidence": bound})
    );
    let failed = ended(Some(Code::GuestTrap), None);
    assert_eq!(
        (&failed["success"], &failed["code"]),
        (&json!(false), &json!("guest.trap"))
    );
    let absent = ["evidence", "user", "callers"]
        .iter()
        .all(|name| failed.get(name).is_none());
    assert!(absent, "{failed}");
}

#[test]
fn of_a_longer_way_through_agents_the_nearest_ones_are_named() {
    let callers: Vec<PersonaId> = (0..=CALLERS_MAX)
        .map(|number| format!("agent-{number}").parse().unwrap())
        .collect();
    let record = converted(EventKind::InvocationEnded {
        capability: capability(),
        persona: persona(),
        code: None,
        usage: Usage::default(),
        user: None,
        callers: callers.clone(),
        evidence: None,
    });
    assert_eq!(CALLERS_MAX, 64, "as docs/audit.md says");
    assert_eq!(record["callers"], json!(callers[..CALLERS_MAX]));
}

#[test]
fn access_to_data_has_its_classification_and_no_value() {
    let memory = converted(EventKind::MemoryAccess {
        capability: Some(capability()),
        persona: Some(persona()),
        operation: MemoryOperation::Write,
        namespace: "notes".parse().unwrap(),
        record: Some("0123".to_owned()),
        classification: Some(Classification::Confidential),
        amount: 17,
        refused: Some("the quota is used up".to_owned()),
    });
    assert_eq!(
        memory,
        json!({"type": "memory_access", "capability": "probe", "persona": "analyst", "operation": "write", "namespace": "notes", "record": "0123",
            "classification": "confidential", "amount": 17, "success": false, "reason": "the quota is used up"})
    );
    let secret = converted(EventKind::SecretAccess {
        capability: None,
        persona: None,
        secret: "token".parse().unwrap(),
        operation: SecretOperation::Inject,
        target: Some("https://api.example".to_owned()),
        refused: None,
    });
    assert_eq!(
        secret,
        json!({"type": "data_access", "secret": "token", "classification": "secret", "operation": "inject",
            "target": "https://api.example", "success": true})
    );
}

#[test]
fn a_forged_document_is_more_urgent_than_a_mistake_in_one() {
    let severity = |code| {
        let record = converted(EventKind::AdmissionRefused {
            subject: "manifest".to_owned(),
            code,
            reason: "because".to_owned(),
        });
        assert_eq!(record["rule"], code.as_str());
        record["severity"].as_str().unwrap().to_owned()
    };
    assert_eq!(severity(Code::SignatureInvalid), "high");
    assert_eq!(severity(Code::DocumentStale), "medium");
    assert_eq!(severity(Code::DocumentInvalid), "low");
}

#[test]
fn texts_are_cut_and_kept_on_one_line() {
    let record = converted(EventKind::Security {
        severity: Severity::High,
        rule: "override",
        subject: format!("a\nb{}", "c".repeat(10_000)),
        reason: Some(format!("d\ne{}", "f".repeat(10_000))),
        source: None,
    });
    for (member, beginning) in [("subject", "a\\nbc"), ("reason", "d\\nef")] {
        let text = record[member].as_str().unwrap();
        assert!(
            text.starts_with(beginning) && text.len() <= crate::text::TEXT_BYTES_MAX,
            "{member}"
        );
    }
    let missing = converted(EventKind::Decision {
        capability: capability(),
        version: "1.0.0".parse().unwrap(),
        manifest: Digest::of(b"manifest"),
        persona: "agent".parse().unwrap(),
        persona_digest: Digest::of(b"persona"),
        policy: Digest::of(b"policy"),
        grant: None,
        missing: vec!["x".repeat(10_000); 1000],
    });
    assert_eq!(missing["missing"].as_array().unwrap().len(), MISSING_MAX);
    assert!(missing.to_string().len() < crate::line::LINE_BYTES_MAX / 2);
}
