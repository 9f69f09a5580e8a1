//! Certificates of callers: who comes in, who is whom, and who is not any more.

use std::net::SocketAddr;

use aral_contract::EventKind;
use aral_contract::event::AuthenticationMethod;
use rcgen::{CertificateParams, SanType, date_time_ymd};

use super::authority::{Authority, Pair};
use super::peer::{Peer, ask, h1};
use crate::Bounds;
use crate::caller::Caller;
use crate::tests::{Fixture, start_with};
use crate::tls::{CertificateName, ClientAuth, TlsOptions};

const KEY: &str = "aral_a-key-of-the-test";

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// `somebody` has a key and these names, `other` has that of `spiffe://example/other`; whoever says nothing is nobody.
async fn start(options: TlsOptions, names: &[String]) -> Fixture {
    let names: Vec<CertificateName> = names.iter().map(|name| name.parse().unwrap()).collect();
    start_with(Bounds::default(), |listener, callers| {
        listener.tls = Some(options);
        listener.anonymous = None;
        callers.push(Caller {
            name: "other".parse().unwrap(),
            certificates: vec!["uri:spiffe://example/other".parse().unwrap()],
            ..callers[0].clone()
        });
        callers[0].keys = vec![aral_contract::Digest::of(KEY.as_bytes())];
        callers[0].certificates = names;
    })
    .await
}

/// The status of a request to an address that needs a caller; none: no connection.
async fn status(authority: &Authority, pair: Option<&Pair>, address: SocketAddr, key: Option<&str>) -> Option<u16> {
    let answer = Peer::new(authority, pair).get(address, "/v1/capabilities", key).await?;
    Some(answer.status.as_u16())
}

/// Reasons of the refusals that were recorded, and whether each was of a certificate.
fn refusals(it: &Fixture) -> Vec<(bool, String)> {
    let reason = |kind: EventKind| match kind {
        EventKind::Authentication {
            method,
            refused: Some(reason),
            source: Some(source),
            ..
        } if source.is_loopback() => Some((matches!(method, AuthenticationMethod::Certificate), reason)),
        _ => None,
    };
    it.sink.take().into_iter().filter_map(reason).collect()
}

/// The same, once there is one: whoever is refused learns of it before it is on record.
async fn told(it: &Fixture) -> Vec<(bool, String)> {
    for _ in 0..1000 {
        let refusals = refusals(it);
        if !refusals.is_empty() {
            return refusals;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    Vec::new()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_is_a_caller_by_each_of_its_names() {
    let authority = Authority::new("root");
    let names = vec![
        uri("spiffe://example/agent"),
        SanType::DnsName("Agent.Example".try_into().unwrap()),
        SanType::Rfc822Name("agent@example.org".try_into().unwrap()),
    ];
    let pair = authority.client(2, names);
    let fingerprint = aral_contract::Digest::of(&pair.certificate);
    for name in [
        format!("sha256:{fingerprint}"),
        "uri:spiffe://example/agent".to_owned(),
        "dns:agent.example".to_owned(),
        "email:agent@example.org".to_owned(),
    ] {
        let it = start(authority.mutual(ClientAuth::Required), std::slice::from_ref(&name)).await;
        assert_eq!(
            status(&authority, Some(&pair), it.address, None).await,
            Some(200),
            "{name}"
        );
        let believed = it.sink.take().into_iter().any(|kind| {
            matches!(
                kind,
                EventKind::Authentication {
                    method: AuthenticationMethod::Certificate,
                    user: Some(_),
                    refused: None,
                    ..
                }
            )
        });
        assert!(believed, "{name}");
    }
    for name in [
        format!("sha256:{}", aral_contract::Digest::of(b"another")),
        "uri:spiffe://example/agent/more".to_owned(),
        "uri:spiffe://example/Agent".to_owned(),
        "dns:example".to_owned(),
        "email:Agent@example.org".to_owned(),
        // The common name, which is of no kind.
        "dns:number".to_owned(),
    ] {
        let it = start(authority.mutual(ClientAuth::Required), std::slice::from_ref(&name)).await;
        assert_eq!(
            status(&authority, Some(&pair), it.address, None).await,
            Some(401),
            "{name}"
        );
        assert_eq!(
            told(&it).await,
            [(true, "a certificate of no caller".to_owned())],
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_valid_certificates_come_in() {
    let (authority, stranger) = (Authority::new("root"), Authority::new("root"));
    let named = |params: &mut CertificateParams| params.subject_alt_names = vec![uri("spiffe://example/agent")];
    let name = ["uri:spiffe://example/agent".to_owned()];
    let good = authority.sign(2, named);
    let expired = authority.sign(3, |params| {
        named(params);
        params.not_after = date_time_ymd(2001, 1, 1);
    });
    let early = authority.sign(4, |params| {
        named(params);
        params.not_before = date_time_ymd(2100, 1, 1);
    });
    let revoked = authority.sign(5, named);
    let foreign = stranger.sign(2, named);
    let for_servers = authority.sign(6, |params| {
        named(params);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    });
    for (auth, nothing) in [(ClientAuth::Required, None), (ClientAuth::Optional, Some(401))] {
        let options = authority.mutual(auth);
        authority.write("revoked.pem", authority.revoked(&[5], 2100));
        let it = start(options, &name).await;
        assert_eq!(
            status(&authority, Some(&good), it.address, None).await,
            Some(200),
            "{auth:?}"
        );
        assert_eq!(refusals(&it), []);
        assert_eq!(
            status(&authority, None, it.address, None).await,
            nothing,
            "{auth:?}: none"
        );
        assert_eq!(told(&it).await.len(), 1, "{auth:?}: none");
        for (case, pair) in [
            ("expired", &expired),
            ("not yet", &early),
            ("revoked", &revoked),
            ("of another authority", &foreign),
            ("for servers", &for_servers),
        ] {
            assert_eq!(
                status(&authority, Some(pair), it.address, None).await,
                None,
                "{auth:?}: {case}"
            );
            let refusals = told(&it).await;
            assert!(
                matches!(refusals.as_slice(), [(true, _)]),
                "{auth:?}: {case}: {refusals:?}"
            );
        }
        // A key does not help where the connection is refused.
        assert_eq!(
            status(&authority, Some(&revoked), it.address, Some(KEY)).await,
            None,
            "{auth:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_that_is_over_or_of_another_authority_lets_nobody_in() {
    let (authority, other) = (Authority::new("root"), Authority::new("other"));
    let pair = authority.client(2, vec![uri("spiffe://example/agent")]);
    let name = ["uri:spiffe://example/agent".to_owned()];
    let fresh = authority.revoked(&[], 2100);
    for (case, list, expected) in [
        ("fresh", fresh.clone(), Some(200)),
        ("over", authority.revoked(&[], 2001), None),
        ("another's", other.revoked(&[], 2100), None),
        ("both", format!("{}{fresh}", other.revoked(&[], 2100)), Some(200)),
    ] {
        let options = authority.mutual(ClientAuth::Required);
        authority.write("revoked.pem", list);
        let it = start(options, &name).await;
        assert_eq!(
            status(&authority, Some(&pair), it.address, None).await,
            expected,
            "{case}"
        );
    }
    // Without a list nothing is revoked.
    let mut options = authority.mutual(ClientAuth::Required);
    options.clients.as_mut().unwrap().crl_files.clear();
    let it = start(options, &name).await;
    assert_eq!(status(&authority, Some(&pair), it.address, None).await, Some(200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_lists_of_one_authority_the_newest_holds_wherever_it_stands() {
    let authority = Authority::new("root");
    let pair = authority.client(2, vec![uri("spiffe://example/agent")]);
    let name = ["uri:spiffe://example/agent".to_owned()];
    for (case, older, newer, expected) in [
        ("revoked since", (vec![], 2100), (vec![2], 2100), None),
        ("revoked no more", (vec![2], 2100), (vec![], 2100), Some(200)),
        ("the older one is over", (vec![], 2011), (vec![], 2100), Some(200)),
        ("the newer one is over", (vec![], 2100), (vec![], 2011), None),
    ] {
        let older = authority.issued(&older.0, 2000, older.1);
        let newer = authority.issued(&newer.0, 2010, newer.1);
        for (first, second) in [(&older, &newer), (&newer, &older)] {
            for is_one_file in [true, false] {
                let mut options = authority.mutual(ClientAuth::Required);
                if is_one_file {
                    authority.write("revoked.pem", format!("{first}{second}"));
                } else {
                    authority.write("revoked.pem", first);
                    authority.write("more.pem", second);
                    let clients = options.clients.as_mut().unwrap();
                    clients.crl_files.push(authority.path("more.pem"));
                }
                let it = start(options, &name).await;
                assert_eq!(
                    status(&authority, Some(&pair), it.address, None).await,
                    expected,
                    "{case}, the newer one first: {}, in one file: {is_one_file}",
                    first == &newer
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_revoked_ends_on_connections_that_are_open() {
    let authority = Authority::new("root");
    let pair = authority.client(2, vec![uri("spiffe://example/agent")]);
    let it = start(
        authority.mutual(ClientAuth::Required),
        &["uri:spiffe://example/agent".to_owned()],
    )
    .await;
    let mut sender = h1(Peer::new(&authority, Some(&pair)).connect(it.address).await.unwrap())
        .await
        .unwrap();
    assert_eq!(ask(&mut sender, "/v1/capabilities", None).await.unwrap().status, 200);
    authority.write("revoked.pem", authority.revoked(&[2], 2100));
    it.reloader.reload().unwrap();
    it.sink.take();
    assert_eq!(
        ask(&mut sender, "/ready", None).await.unwrap().status,
        200,
        "what asks nobody answers"
    );
    let refused = ask(&mut sender, "/v1/capabilities", None).await.unwrap();
    assert_eq!(refused.status, 401);
    assert_eq!(refused.headers.get("connection").unwrap(), "close");
    assert_eq!(
        told(&it).await,
        [(true, "a certificate that is not valid any more".to_owned())]
    );
    assert!(ask(&mut sender, "/ready", None).await.is_none(), "it has ended");
    authority.write("revoked.pem", authority.revoked(&[], 2100));
    it.reloader.reload().unwrap();
    assert_eq!(status(&authority, Some(&pair), it.address, None).await, Some(200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_over_is_no_guess() {
    const COUNT: usize = 300;
    let authority = Authority::new("root");
    let it = start(
        authority.mutual(ClientAuth::Optional),
        &["uri:spiffe://example/agent".to_owned()],
    )
    .await;
    let pair = authority.client(2, vec![uri("spiffe://example/agent")]);
    let peer = Peer::new(&authority, Some(&pair));
    let mut open = Vec::new();
    for _ in 0..COUNT {
        open.push(h1(peer.connect(it.address).await.unwrap()).await.unwrap());
    }
    // The handshake has ended on both sides.
    for sender in &mut open {
        assert_eq!(ask(sender, "/v1/capabilities", None).await.unwrap().status, 200);
    }
    authority.write("revoked.pem", authority.revoked(&[2], 2100));
    it.reloader.reload().unwrap();
    // More than the refused credentials that one address may show, also beside a good key.
    for (sender, key) in open.iter_mut().zip([None, Some(KEY)].into_iter().cycle()) {
        assert_eq!(ask(sender, "/v1/capabilities", key).await.unwrap().status, 401);
    }
    assert_eq!(
        status(&authority, None, it.address, Some(KEY)).await,
        Some(200),
        "others of the address are let in"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_no_caller_is_no_guess() {
    let authority = Authority::new("root");
    let it = start(authority.mutual(ClientAuth::Required), &[]).await;
    let nobody = authority.client(2, vec![uri("spiffe://example/nobody")]);
    let stream = Peer::new(&authority, Some(&nobody)).connect(it.address).await.unwrap();
    let mut sender = h1(stream).await.unwrap();
    // More than the refused credentials that one address may show.
    for _ in 0..300 {
        assert_eq!(ask(&mut sender, "/v1/capabilities", None).await.unwrap().status, 401);
    }
    let known = ask(&mut sender, "/v1/capabilities", Some(KEY)).await.unwrap();
    assert_eq!(known.status, 200, "it is the way in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_and_certificates_say_the_same_or_are_refused() {
    let authority = Authority::new("root");
    let name = ["uri:spiffe://example/agent".to_owned()];
    let it = start(authority.mutual(ClientAuth::Optional), &name).await;
    let agent = authority.client(2, vec![uri("spiffe://example/agent")]);
    let other = authority.client(3, vec![uri("spiffe://example/other")]);
    let both = authority.client(4, vec![uri("spiffe://example/agent"), uri("spiffe://example/other")]);
    let nobody = authority.client(5, vec![uri("spiffe://example/nobody")]);
    for (case, pair, key, expected) in [
        ("a key alone", None, Some(KEY), 200),
        ("nothing", None, None, 401),
        ("the same caller twice", Some(&agent), Some(KEY), 200),
        ("a certificate of nobody and a key", Some(&nobody), Some(KEY), 200),
        ("a certificate of nobody", Some(&nobody), None, 401),
        ("two callers", Some(&other), Some(KEY), 401),
        ("a certificate of two", Some(&both), None, 401),
        ("a certificate of two and a key", Some(&both), Some(KEY), 401),
        ("a certificate and a wrong key", Some(&agent), Some("aral_wrong"), 401),
        ("another caller", Some(&other), None, 200),
    ] {
        assert_eq!(
            status(&authority, pair, it.address, key).await,
            Some(expected),
            "{case}"
        );
    }
}
