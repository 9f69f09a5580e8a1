//! What is asked of a call once more before it begins, and whose session it is.

use aral_contract::document::PrivateKey;
use aral_contract::document::signed::{self, Kind};
use zeroize::Zeroizing;

use super::*;

#[tokio::test]
async fn a_call_that_has_waited_does_not_begin_under_a_persona_that_was_replaced_meanwhile() {
    let gate = GateOptions {
        concurrent_max: 1,
        ..GateOptions::default()
    };
    let fixture = fixture(OPEN, gate);
    fixture.admit("echo", &echo(), json!({}));
    let place = fixture.dispatcher.gate.enter().await.unwrap();
    let mut call = std::pin::pin!(fixture.call("echo", "{}"));
    assert!(futures::poll!(call.as_mut()).is_pending());
    fixture.dispatcher.end(&fixture.session);
    drop(place);
    let outcome = call.await;
    assert_eq!((code(&outcome), outcome.cost_micro), (Code::DocumentStale, 0));
    let is_begin = |kind: &EventKind| matches!(kind, EventKind::InvocationStarted { .. });
    assert!(!fixture.events().iter().any(is_begin));
}

/// Signed by a key; until the day after the fixture's.
fn short_manifest(component: &[u8], key: &PrivateKey) -> Vec<u8> {
    let [from, to] = ["2026-01-01T00:00:00Z", "2026-06-02T00:00:00Z"].map(|time| time.parse().unwrap());
    let body = json!({"capabilities": [{
        "id": "echo", "version": "1.0.0", "shape": "tool", "component": Digest::of(component), "title": "T",
        "description": "D", "input_schema": {}, "output_schema": {},
    }]});
    let document = signed::sign(Kind::Manifest, &manifest::header(1, from, to), &body, key);
    document.unwrap().to_string().into_bytes()
}

#[tokio::test]
async fn a_call_that_has_waited_does_not_begin_under_a_manifest_that_is_believed_no_longer() {
    let gate = GateOptions {
        concurrent_max: 1,
        ..GateOptions::default()
    };
    type Change = fn(&Fixture, &PrivateKey);
    let changes: [(Change, Option<Code>); 4] = [
        (|_, _| (), None),
        (
            |fixture, key| fixture.dispatcher.revoke(key.public().id()),
            Some(Code::SignatureInvalid),
        ),
        (
            |fixture, _| fixture.set_clock("2026-06-02T00:00:00Z"),
            Some(Code::DocumentStale),
        ),
        (
            // Another configuration holds, and the call is still under the rules of before.
            |fixture, _| {
                let (registry, policy) = (Registry::default(), policy(OPEN));
                let next = fixture.dispatcher.renewed(registry, policy, TrustStore::default());
                next.come_into_force();
            },
            Some(Code::SignatureInvalid),
        ),
    ];
    for (number, (change, expected)) in changes.into_iter().enumerate() {
        let fixture = fixture(OPEN, gate);
        let key = PrivateKey::from_seed(&Zeroizing::new([3; 32]));
        let mut trust = TrustStore::default();
        trust.add(key.public(), &[Kind::Manifest]);
        fixture.dispatcher.set_trust(trust.clone());
        let document = short_manifest(&echo(), &key);
        let manifest = manifest::verify(&document, &trust, fixture.clock.now()).unwrap();
        let admitted = fixture.dispatcher.registry().admit(&manifest, &|_| Ok(echo()));
        admitted.unwrap();
        let place = fixture.dispatcher.gate.enter().await.unwrap();
        let mut call = std::pin::pin!(fixture.call("echo", "{}"));
        assert!(futures::poll!(call.as_mut()).is_pending());
        change(&fixture, &key);
        drop(place);
        let outcome = call.await;
        let began = |kind: &EventKind| matches!(kind, EventKind::InvocationStarted { .. });
        let has_begun = fixture.events().iter().any(began);
        let refused = outcome.result.err().map(|failure| failure.code);
        assert_eq!((refused, has_begun), (expected, expected.is_none()), "{number}");
    }
}

#[tokio::test]
async fn a_session_of_another_host_is_refused_also_behind_one_that_is_called() {
    let fixture = open();
    fixture.admit("echo", &echo(), json!({}));
    let own = fixture.session.clone();
    let stray = Session::root(&Home::default(), own.persona().clone(), Arc::new(Standing::new()), 0);
    for session in [&stray, &own.called_by(&stray)] {
        let outcome = fixture.call_as(session, "echo", "{}").await;
        assert_eq!(code(&outcome), Code::PersonaUnknown);
        let failure = outcome.result.unwrap_err();
        assert!(failure.message.contains("`analyst` is another host's"), "{failure}");
        let id = "echo".parse().unwrap();
        assert!(fixture.dispatcher.explain(session, &id, None).is_err());
        assert_eq!(fixture.dispatcher.quote(session, &id, None), None);
    }
    let outcome = fixture.call_as(&own.called_by(&own), "echo", "{}").await;
    assert!(outcome.result.is_ok(), "{outcome:?}");
}
