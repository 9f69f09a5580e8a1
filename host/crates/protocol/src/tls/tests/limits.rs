//! Handshakes under the limits of addresses: how many there may be, and that certificates that are refused in them keep nobody out.

use std::sync::Arc;
use std::time::Duration;

use aral_contract::event::AuthenticationMethod;
use aral_contract::{Clock, Digest, EventKind};
use ipnet::IpNet;
use rcgen::{CertificateParams, SanType, date_time_ymd};

use super::authority::{Authority, Pair};
use super::peer::{Peer, ask, h1};
use crate::limit::{Rate, RateRequest};
use crate::tests::{Fixture, start_as};
use crate::tls::{ClientAuth, TlsOptions};
use crate::{Bounds, ListenerOptions, Proxies, ServerOptions};

const KEY: &str = "aral_a-key-of-the-test";
const LIST: &str = "/v1/capabilities";

/// The day of this machine, on which no time passes, so that nothing is given back.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> jiff::Timestamp {
        jiff::Timestamp::now()
    }

    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
}

/// A listener for each of these, where a key or the certificate of [`names`] is needed, under the limits that the test wants.
async fn start(options: impl IntoIterator<Item = TlsOptions>, change: impl FnOnce(&mut ServerOptions)) -> Fixture {
    start_as(Arc::new(Still), Bounds::default(), |server, callers| {
        let listener = ListenerOptions {
            anonymous: None,
            ..server.listeners[0].clone()
        };
        let secured = |tls| ListenerOptions {
            tls: Some(tls),
            ..listener.clone()
        };
        server.listeners = options.into_iter().map(secured).collect();
        callers[0].keys = vec![Digest::of(KEY.as_bytes())];
        callers[0].certificates = vec!["uri:spiffe://example/agent".parse().unwrap()];
        change(server);
    })
    .await
}

/// So many at once, and one more each minute.
fn few(count: u64) -> Rate {
    let request = RateRequest {
        per_minute: Some(1),
        burst: Some(count),
        ..RateRequest::default()
    };
    Rate::resolve(&request, 1000).unwrap()
}

fn this_machine() -> Proxies {
    let network: IpNet = "127.0.0.1/32".parse().unwrap();
    Proxies::try_from(vec![network]).unwrap()
}

fn names() -> Vec<SanType> {
    vec![SanType::URI("spiffe://example/agent".try_into().unwrap())]
}

/// Whether somebody who shows this comes in at the first listener.
async fn comes_in(it: &Fixture, authority: &Authority, shown: Option<&Pair>) -> bool {
    let answer = Peer::new(authority, shown).get(it.address, LIST, None).await;
    answer.is_some_and(|answer| answer.status == 200)
}

fn is_refusal(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::Authentication {
            method: AuthenticationMethod::Certificate,
            refused: Some(_),
            ..
        }
    )
}

/// Waits until so many certificates were refused: whoever is refused learns of it before it is on record.
async fn refused(it: &Fixture, wanted: usize) {
    let mut count = 0;
    for _ in 0..2000 {
        count += it.sink.take().iter().filter(|kind| is_refusal(kind)).count();
        if count >= wanted {
            return assert_eq!(count, wanted);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{count} refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_wrong_certificates_in_handshakes_keeps_nobody_of_the_address_out() {
    let (authority, stranger) = (Authority::new("root"), Authority::new("root"));
    let options = authority.mutual(ClientAuth::Required);
    let list = |year| authority.write("revoked.pem", authority.revoked(&[5], year));
    list(2100);
    let it = start([options], |server| server.rates.failures = few(1)).await;
    let over = |params: &mut CertificateParams| {
        (params.subject_alt_names, params.not_after) = (names(), date_time_ymd(2001, 1, 1));
    };
    let early = |params: &mut CertificateParams| {
        (params.subject_alt_names, params.not_before) = (names(), date_time_ymd(2100, 1, 1));
    };
    let wrong = [
        stranger.client(2, names()),
        stranger.sign(3, over),
        stranger.sign(4, early),
        authority.sign(3, over),
        authority.sign(4, early),
        authority.client(5, names()),
    ];
    let good = authority.client(6, names());
    for shown in wrong.iter().map(Some).chain([None]) {
        assert!(!comes_in(&it, &authority, shown).await);
    }
    refused(&it, wrong.len() + 1).await;
    let watching = Peer::new(&authority, Some(&good));
    assert_eq!(watching.get(it.address, "/ready", None).await.unwrap().status, 200);
    assert!(comes_in(&it, &authority, Some(&good)).await);
    list(2001);
    it.reloader.reload().unwrap();
    for _ in 0..2 {
        assert!(!comes_in(&it, &authority, Some(&good)).await, "the list is over");
    }
    refused(&it, 2).await;
    list(2100);
    it.reloader.reload().unwrap();
    assert!(comes_in(&it, &authority, Some(&good)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_guesses_keys_is_not_heard_with_a_certificate_either_and_may_watch_the_server() {
    let authority = Authority::new("root");
    let it = start([authority.mutual(ClientAuth::Optional)], |server| {
        server.rates.failures = few(2);
    })
    .await;
    let good = authority.client(2, names());
    assert!(comes_in(&it, &authority, Some(&good)).await);
    let guesser = Peer::new(&authority, None);
    for status in [401, 401, 429] {
        let answer = guesser.get(it.address, LIST, Some("aral_another")).await;
        assert_eq!(answer.unwrap().status, status);
    }
    for shown in [Some(&good), None] {
        let peer = Peer::new(&authority, shown);
        assert_eq!(peer.get(it.address, LIST, None).await.unwrap().status, 429);
        assert_eq!(peer.get(it.address, "/ready", None).await.unwrap().status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_has_so_many_handshakes_beside_its_requests() {
    let authority = Authority::new("root");
    let it = start([authority.options()], |server| server.rates.address = few(2)).await;
    let peer = Peer::new(&authority, None);
    let mut one = h1(peer.connect(it.address).await.unwrap()).await.unwrap();
    let _second = peer.connect(it.address).await.unwrap();
    assert!(peer.connect(it.address).await.is_err(), "a third one does not begin");
    for status in [200, 200, 429] {
        assert_eq!(ask(&mut one, LIST, Some(KEY)).await.unwrap().status, status);
    }
    let it = start([authority.options()], |server| server.rates.address = few(3)).await;
    for _ in 0..3 {
        peer.connect(it.address).await.unwrap();
    }
    assert!(peer.connect(it.address).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trusted_proxy_hands_on_the_handshakes_of_many() {
    let (authority, stranger) = (Authority::new("root"), Authority::new("root"));
    let it = start([authority.mutual(ClientAuth::Required)], |server| {
        server.trusted_proxies = this_machine();
        server.rates.address = few(2);
    })
    .await;
    let (good, foreign) = (authority.client(2, names()), stranger.client(2, names()));
    for _ in 0..3 {
        assert!(!comes_in(&it, &authority, Some(&foreign)).await);
    }
    refused(&it, 3).await;
    assert!(comes_in(&it, &authority, Some(&good)).await);
}
