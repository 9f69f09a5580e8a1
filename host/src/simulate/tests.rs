//! Each line of a policy, taken away and added, changes what was decided.

use std::sync::Arc;

use aral_audit::{AuditLog, Blinder, LogOptions};
use aral_capability::manifest;
use aral_contract::document::PrivateKey;
use aral_contract::{AuditSink as _, Clock as _, Event, EventKind, Evidence, Usage};
use aral_persona::persona;
use aral_runtime::SystemClock;
use serde_json::json;
use zeroize::Zeroizing;

use super::*;
use crate::testing::policy;

const OPEN: &str = "permissions = [\"memory:read\"]\ncapabilities = [\"notes\"]\n[memory]\nnamespaces = [\"n\"]";

fn documents() -> Documents {
    documents_of(&json!({"memory:read": {"namespaces": ["n"]}}))
}

fn documents_of(permissions: &serde_json::Value) -> Documents {
    let now = "2026-06-01T00:00:00Z".parse().unwrap();
    let dates = json!({"serial": 1, "issued_at": "2026-01-01T00:00:00Z", "expires_at": "2026-12-01T00:00:00Z"});
    let with = |mut more: serde_json::Value| {
        let members = more.as_object_mut().unwrap();
        members.extend(dates.as_object().unwrap().clone());
        more.to_string().into_bytes()
    };
    let document = with(json!({"schema": "aral.manifest/v1", "capabilities": [{
        "id": "notes", "version": "1.0.0", "shape": "tool", "component": Digest::of(b"c"), "title": "T",
        "description": "D", "input_schema": {}, "output_schema": {},
        "permissions": permissions,
    }]}));
    let agent = with(
        json!({"schema": "aral.persona/v1", "id": "agent", "name": "Agent", "constraints": {
            "allowed_permissions": ["*"], "allowed_capabilities": ["*"], "allowed_domains": ["*"],
        }}),
    );
    Documents {
        manifests: vec![manifest::dangerous_accept_unsigned(&document, now).unwrap()],
        personas: vec![persona::dangerous_accept_unsigned(&agent, now).unwrap()],
    }
}

/// A log in which this happened.
fn log(folder: &Path, kinds: impl IntoIterator<Item = EventKind>) {
    let options = LogOptions {
        reserve_bytes: 0,
        ..LogOptions::new(folder.to_owned())
    };
    let seed = Zeroizing::new([1; 32]);
    let blinder = Arc::new(Blinder::from_key(Zeroizing::new([7; 32])));
    let clock = Arc::new(SystemClock::new());
    let log = AuditLog::open(&options, PrivateKey::from_seed(&seed), blinder, clock).unwrap();
    for kind in kinds {
        log.record(Event {
            at: SystemClock::new().now(),
            trace: None,
            kind,
        });
    }
    log.close().unwrap();
}

/// This policy decides.
fn decision(policy: &Policy) -> EventKind {
    decision_about(&documents(), policy)
}

fn decision_about(documents: &Documents, policy: &Policy) -> EventKind {
    let (manifest, persona) = (&documents.manifests[0], &documents.personas[0]);
    let entry = &manifest.body.capabilities()[0];
    let decision = authorize(entry, manifest.digest, persona, policy);
    EventKind::Decision {
        capability: decision.capability,
        version: decision.version,
        manifest: manifest.digest,
        persona: decision.persona,
        persona_digest: persona.digest,
        policy: policy.digest(),
        grant: decision.outcome.as_ref().ok().map(Grant::digest),
        missing: Vec::new(),
    }
}

/// A call under this policy ends.
fn end(policy: &Policy) -> EventKind {
    let documents = documents();
    let (manifest, persona) = (&documents.manifests[0], &documents.personas[0]);
    let entry = &manifest.body.capabilities()[0];
    EventKind::InvocationEnded {
        capability: entry.id.clone(),
        persona: persona.body.id.clone(),
        code: None,
        usage: Usage::default(),
        user: None,
        callers: Vec::new(),
        evidence: Some(Box::new(Evidence {
            version: entry.version.clone(),
            component: Digest::of(b"c"),
            manifest: manifest.digest,
            persona: persona.body.id.clone(),
            persona_digest: persona.digest,
            policy: policy.digest(),
            grant: Digest::of(b"grant"),
            permissions: Vec::new(),
            input: Digest::of(b"input"),
            output: None,
            host_calls: 0,
            host_calls_digest: Digest::of(b"calls"),
        })),
    }
}

fn asked(then: &Policy, current: Option<&Policy>, candidate: &Policy, documents: &Documents) -> Answer {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    log(&path, [decision(then)]);
    let mut simulation = simulate(&path, Filter::default(), documents, current, candidate).unwrap();
    assert_eq!((simulation.decisions.len(), simulation.left_out), (1, 0));
    simulation.decisions.remove(0).answer
}

#[test]
fn each_line_flips_a_decision_either_way() {
    let open = policy(OPEN);
    assert_eq!(asked(&open, None, &open, &documents()), Answer::Same);
    for line in [
        "permissions = [\"memory:read\"]",
        "capabilities = [\"notes\"]",
        "namespaces = [\"n\"]",
    ] {
        let without = policy(&OPEN.replace(line, ""));
        let Answer::Denied { missing } = asked(&open, None, &without, &documents()) else {
            panic!("without {line}");
        };
        assert!(missing[0].contains(line), "{line}: {missing:?}");
        assert_eq!(
            asked(&without, None, &open, &documents()),
            Answer::Allowed,
            "with {line}"
        );
        assert_eq!(asked(&without, None, &without, &documents()), Answer::Same);
    }
}

#[test]
fn other_rights_are_seen_where_the_old_policy_is_known() {
    let open = policy(OPEN);
    let other = policy(&format!("limits.fuel = 7\n{OPEN}"));
    let expected = Answer::Otherwise {
        members: vec!["limits"],
    };
    assert_eq!(asked(&open, Some(&open), &other, &documents()), expected);
    for line in ["agent.requests_per_hour = 9", "price.call_micro = 5"] {
        let other = policy(&format!("{line}\n{OPEN}"));
        let expected = Answer::Otherwise { members: vec!["agent"] };
        assert_eq!(asked(&open, Some(&open), &other, &documents()), expected, "{line}");
    }
    assert_eq!(
        asked(&open, Some(&other), &other, &documents()),
        Answer::Same,
        "nobody knows"
    );
    // With a number that lets no call through it is a no, if it was not one before.
    let never = policy(&format!("agent.requests_per_hour = 0\n{OPEN}"));
    for known in [None, Some(&open)] {
        let answer = asked(&open, known, &never, &documents());
        let Answer::Denied { missing } = &answer else {
            panic!("{answer:?}")
        };
        assert!(
            missing[0].ends_with("\naral.toml, [policy.agent]: requests_per_hour = 1"),
            "{missing:?}"
        );
    }
    assert_eq!(asked(&never, Some(&never), &never, &documents()), Answer::Same);
    assert_eq!(
        asked(&policy(""), None, &never, &documents()),
        Answer::Same,
        "denied before"
    );
}

#[test]
fn what_a_call_gets_from_the_policy_beside_its_grant_is_compared_too() {
    let base = "permissions = [\"*\"]\ncapabilities = [\"notes\"]\nnetwork.hosts = [\"*\"]\nfile.write_roots = [\"/srv/data\"]\n";
    let roots = "file.read_roots = [\"/srv/data\"]";
    let then = policy(&format!("{base}{roots}"));
    let answer = |permissions: &serde_json::Value, candidate: &str| {
        let (folder, documents) = (tempfile::tempdir().unwrap(), documents_of(permissions));
        let path = folder.path().join("log");
        log(&path, [decision_about(&documents, &then)]);
        let candidate = policy(candidate);
        let mut simulation = simulate(&path, Filter::default(), &documents, Some(&then), &candidate).unwrap();
        simulation.decisions.remove(0).answer
    };
    let other = |member| Answer::Otherwise { members: vec![member] };
    let network = json!({"network:read": {"hosts": ["https://a.example"]}});
    let read = json!({"file:read": {"paths": [{"guest": "/data", "host": "/srv/data/in/current"}]}});
    let path = json!({"guest": "/data", "host": "/srv/data/in/current", "bytes_max": 1, "files_max": 1});
    let written = json!({"file:write": {"paths": [path]}});
    let traced = format!("{base}{roots}\nnetwork.trace_hosts = [\"*\"]");
    assert_eq!(answer(&network, &traced), other("trace_hosts"));
    assert_eq!(answer(&read, &traced), Answer::Same, "it sends nothing");
    // Links are followed below the nearest root alone.
    for (candidate, expected) in [
        ("[\"/srv/data\", \"/srv/data/in\"]", other("folders")),
        ("[\"/srv\"]", other("folders")),
        ("[\"/srv\", \"/srv/data\", \"/srv/other\"]", Answer::Same),
    ] {
        let reading = format!("{base}file.read_roots = {candidate}");
        assert_eq!(answer(&read, &reading), expected, "{reading}");
        assert_eq!(answer(&network, &reading), Answer::Same, "{reading}");
        let writing = reading.replace("[\"/srv/data\"]", candidate);
        assert_eq!(answer(&written, &writing), expected, "{writing}");
    }
}

#[test]
fn what_cannot_be_asked_again_says_why() {
    let open = policy(OPEN);
    let reason = |documents: &Documents| match asked(&open, None, &open, documents) {
        Answer::Unknown { reason } => reason,
        other => panic!("{other:?}"),
    };
    let mut without = documents();
    without.manifests.clear();
    assert!(reason(&without).contains("manifest"));
    let mut without = documents();
    without.personas.clear();
    assert!(reason(&without).contains("persona"));
}

#[test]
fn the_newest_decision_counts() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let (open, closed) = (policy(OPEN), policy(""));
    log(&path, [&open, &closed, &closed].map(decision));
    let simulation = simulate(&path, Filter::default(), &documents(), None, &open).unwrap();
    let [one] = &simulation.decisions[..] else {
        panic!("{simulation:?}")
    };
    assert_eq!(
        (one.recorded.seq, one.recorded.allowed, one.recorded.calls),
        (3, false, 2)
    );
    assert_eq!(one.answer, Answer::Allowed);
}

#[test]
fn the_end_of_a_call_under_an_older_policy_takes_the_place_of_no_newer_decision() {
    let (open, closed) = (policy(OPEN), policy(""));
    let recorded = |kinds: Vec<EventKind>, candidate: &Policy| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        log(&path, kinds);
        let mut simulation = simulate(&path, Filter::default(), &documents(), Some(&closed), candidate).unwrap();
        assert_eq!(simulation.decisions.len(), 1);
        let one = simulation.decisions.remove(0);
        let Recorded {
            seq, allowed, calls, ..
        } = one.recorded;
        ((seq, allowed, calls), one.answer)
    };
    let late = || vec![decision(&open), end(&open), decision(&closed), end(&open)];
    assert_eq!(recorded(late(), &closed), ((3, false, 3), Answer::Same));
    assert_eq!(recorded(late(), &open), ((3, false, 3), Answer::Allowed));
    // Under the policy of the newest decision, or where the log tells of none, the end of a call says what was decided.
    for kinds in [
        vec![decision(&closed), decision(&open), end(&open)],
        vec![end(&closed), end(&closed), end(&open)],
    ] {
        let ((seq, allowed, _), answer) = recorded(kinds, &open);
        assert_eq!((seq, allowed, answer), (3, true, Answer::Same));
    }
}

#[test]
fn questions_beyond_so_many_are_counted_and_those_that_are_known_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let (open, closed) = (policy(OPEN), policy(""));
    let mut other = decision(&open);
    if let EventKind::Decision { persona_digest, .. } = &mut other {
        *persona_digest = Digest::of(b"another persona");
    }
    log(&path, [decision(&open), other.clone(), other, decision(&closed)]);
    for (max, expected) in [(1, (vec![4], 2)), (2, (vec![3, 4], 0))] {
        let (questions, left_out) = gathered(&path, Filter::default(), max).unwrap();
        let mut seqs: Vec<u64> = questions.values().map(|said| said.recorded.seq).collect();
        seqs.sort_unstable();
        assert_eq!((seqs, left_out), expected, "{max}");
    }
    assert_eq!(
        simulate(&path, Filter::default(), &documents(), None, &open)
            .unwrap()
            .left_out,
        0
    );
}
