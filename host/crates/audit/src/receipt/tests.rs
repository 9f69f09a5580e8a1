//! Receipts of every record, and every way in which one proves nothing.

use serde_json::json;

use super::*;
use crate::testing::{event, open, options, session, trust};
use crate::{AuditEvent, LogOptions};
use aral_contract::AuditSink as _;

fn lab() -> (tempfile::TempDir, LogOptions) {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        segment_bytes_max: 3000,
        ..options(folder.path())
    };
    for _ in 0..3 {
        session(&options, 20).close().unwrap();
    }
    (folder, options)
}

fn receipt(options: &LogOptions, seq: u64) -> Value {
    serde_json::to_value(prove(&options.directory, seq).unwrap()).unwrap()
}

fn checked(receipt: &Value) -> Result<Checked, ReceiptError> {
    check(receipt.to_string().as_bytes(), &trust())
}

#[test]
fn every_record_has_a_receipt_that_needs_nothing_but_the_key() {
    let (_folder, options) = lab();
    let records = crate::testing::records(&options);
    assert_eq!(records.len(), 63);
    for record in records {
        let checked = checked(&receipt(&options, record.seq)).unwrap();
        assert!(checked.checkpoint.head.size > record.seq);
        assert_eq!(checked.record, record);
    }
    assert!(matches!(
        prove(&options.directory, 63),
        Err(ReceiptError::Unknown { seq: 63 })
    ));
}

#[test]
fn a_receipt_that_was_changed_proves_nothing() {
    let (_folder, options) = lab();
    let (good, other) = (receipt(&options, 30), receipt(&options, 31));
    assert!(checked(&good).is_ok());
    let attack = |change: &dyn Fn(&mut Value)| {
        let mut bad = good.clone();
        change(&mut bad);
        assert_ne!(bad, good);
        checked(&bad).unwrap_err()
    };
    let not_included = |error: ReceiptError| assert!(matches!(error, ReceiptError::NotIncluded { .. }), "{error}");
    let text = good["record"].as_str().unwrap().to_owned();
    not_included(attack(&|bad| bad["record"] = json!(text.replace("started", "stopped"))));
    not_included(attack(&|bad| {
        bad["record"] = json!(text.replace("\"seq\":30", "\"seq\":31"))
    }));
    not_included(attack(&|bad| bad["record"] = other["record"].clone()));
    not_included(attack(&|bad| bad["proof"] = other["proof"].clone()));
    not_included(attack(&|bad| drop(bad["proof"].as_array_mut().unwrap().pop())));
    not_included(attack(&|bad| {
        bad["proof"].as_array_mut().unwrap().push(good["proof"][0].clone())
    }));
    not_included(attack(&|bad| {
        bad["checkpoint"] = receipt(&options, 0)["checkpoint"].clone()
    }));
    let forged = attack(&|bad| bad["checkpoint"]["size"] = json!(9));
    assert!(matches!(
        forged,
        ReceiptError::Checkpoint(DocumentError::Signature { .. })
    ));
    assert!(matches!(attack(&|bad| bad["more"] = json!(1)), ReceiptError::Shape(_)));
    assert!(matches!(
        attack(&|bad| bad["record"] = json!("{}")),
        ReceiptError::Shape(_)
    ));
    assert!(matches!(
        attack(&|bad| bad["schema"] = json!("aral.receipt/v2")),
        ReceiptError::WrongKind(_)
    ));
    let unknown_key = check(good.to_string().as_bytes(), &TrustStore::default()).unwrap_err();
    assert!(matches!(
        unknown_key,
        ReceiptError::Checkpoint(DocumentError::UnknownKey { .. })
    ));
    let twice = good.to_string().replacen('{', "{\"schema\":\"aral.receipt/v1\",", 1);
    assert!(matches!(check(twice.as_bytes(), &trust()), Err(ReceiptError::Json(_))));
    let large = vec![b' '; RECEIPT_BYTES_MAX + 1];
    assert!(matches!(check(&large, &trust()), Err(ReceiptError::TooLarge)));
}

#[test]
fn what_is_not_signed_yet_has_no_receipt_yet() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let log = session(&options, 3);
    assert!(matches!(
        prove(&options.directory, 2),
        Err(ReceiptError::NotSigned { seq: 2 })
    ));
    log.close().unwrap();
    assert!(checked(&receipt(&options, 2)).is_ok());
}

#[test]
fn a_record_that_is_gone_has_no_receipt_and_those_after_it_have() {
    let folder = tempfile::tempdir().unwrap();
    let options = LogOptions {
        segment_bytes_max: 2000,
        retain_bytes_max: 5000,
        ..options(folder.path())
    };
    let log = open(&options);
    for number in 0..60 {
        log.record(event(&number.to_string()));
        log.flush().unwrap();
    }
    log.close().unwrap();
    let records = crate::testing::records(&options);
    let first = records[0].seq;
    assert!(first > 0);
    assert!(matches!(
        prove(&options.directory, first - 1),
        Err(ReceiptError::Unknown { .. })
    ));
    for record in records {
        assert_eq!(checked(&receipt(&options, record.seq)).unwrap().record, record);
    }
}

#[test]
fn whoever_has_the_salt_can_show_what_the_input_was() {
    let trace = aral_contract::TraceId::from_bytes([3; 16]);
    let blinder = crate::testing::blinder();
    let salt = |part| blinder.salt(trace, 0, part);
    let evidence = aral_contract::Evidence {
        version: "1.0.0".parse().unwrap(),
        component: Digest::of(b"component"),
        manifest: Digest::of(b"manifest"),
        persona: "agent".parse().unwrap(),
        persona_digest: Digest::of(b"persona"),
        policy: Digest::of(b"policy"),
        grant: Digest::of(b"grant"),
        permissions: Vec::new(),
        input: salt(Part::Input).commit(b"{}"),
        output: Some(salt(Part::Output).commit(b"1")),
        host_calls: 0,
        host_calls_digest: crate::HostCallList::default().digest(),
    };
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let log = open(&options);
    log.record(aral_contract::Event {
        at: crate::testing::start(),
        trace: Some(trace),
        kind: aral_contract::EventKind::InvocationEnded {
            capability: "probe".parse().unwrap(),
            persona: "analyst".parse().unwrap(),
            code: None,
            usage: aral_contract::Usage::default(),
            user: Some("me".parse().unwrap()),
            callers: Vec::new(),
            evidence: Some(Box::new(evidence)),
        },
    });
    log.close().unwrap();
    let record = checked(&receipt(&options, 1)).unwrap().record;
    let AuditEvent::Invocation(invocation) = record.event else {
        panic!("{record:?}")
    };
    let proven = invocation.evidence.unwrap();
    assert!(proven.commits_to(Part::Input, &salt(Part::Input), b"{}"));
    assert!(proven.commits_to(Part::Output, &salt(Part::Output), b"1"));
    assert!(!proven.commits_to(Part::Input, &salt(Part::Input), b"[]"));
    assert!(!proven.commits_to(Part::Output, &salt(Part::Input), b"1"));
}
