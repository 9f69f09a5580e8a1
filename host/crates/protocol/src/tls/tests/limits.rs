//! Handshakes under the limits of addresses: how many there may be, and what a certificate counts as that is refused in one.

use std::sync::Arc;
use std::time::Duration;

use aral_contract::event::AuthenticationMethod;
use aral_contract::{Clock, Digest, EventKind};
use ipnet::IpNet;
use rcgen::{SanType, date_time_ymd};

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

/// Waits until the credentials of an address are not looked at any more.
async fn used_up(it: &Fixture) {
    for _ in 0..2000 {
        let used_up = |kind: &EventKind| {
            matches!(
                kind,
                EventKind::Security {
                    rule: "rates.failures",
                    ..
                }
            )
        };
        if it.sink.take().iter().any(used_up) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("they are looked at for ever");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_wrong_certificates_is_not_heard_any_more() {
    let (authority, stranger) = (Authority::new("root"), Authority::new("root"));
    let listeners = [authority.mutual(ClientAuth::Optional), authority.options()];
    let it = start(listeners, |server| server.rates.failures = few(2)).await;
    let (good, foreign) = (authority.client(2, names()), stranger.client(2, names()));
    assert!(comes_in(&it, &authority, Some(&good)).await);
    for _ in 0..2 {
        assert!(!comes_in(&it, &authority, Some(&foreign)).await);
    }
    used_up(&it).await;
    for shown in [Some(&good), Some(&foreign), None] {
        let refused = Peer::new(&authority, shown).connect(it.address).await;
        assert!(refused.is_err(), "the handshake does not begin");
    }
    assert!(!it.sink.take().iter().any(is_refusal), "none was looked at");
    // Where no certificate is asked for, a handshake shows nobody.
    let other = Peer::new(&authority, None);
    let status = async |path, key| other.get(it.addresses[1], path, key).await.unwrap().status;
    assert_eq!(status("/ready", None).await, 200);
    assert_eq!(status(LIST, Some(KEY)).await, 429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_none_or_one_that_is_over_in_a_handshake_keeps_nobody_out() {
    let authority = Authority::new("root");
    let options = authority.mutual(ClientAuth::Required);
    let list = |year| authority.write("revoked.pem", authority.revoked(&[5], year));
    list(2100);
    let it = start([options], |server| server.rates.failures = few(1)).await;
    let over = authority.sign(3, |params| {
        (params.subject_alt_names, params.not_after) = (names(), date_time_ymd(2001, 1, 1));
    });
    let early = authority.sign(4, |params| {
        (params.subject_alt_names, params.not_before) = (names(), date_time_ymd(2100, 1, 1));
    });
    let (revoked, good) = (authority.client(5, names()), authority.client(6, names()));
    for shown in [Some(&over), Some(&early), Some(&revoked), None] {
        assert!(!comes_in(&it, &authority, shown).await);
    }
    refused(&it, 4).await;
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
        (server.rates.address, server.rates.failures) = (few(2), few(1));
    })
    .await;
    let (good, foreign) = (authority.client(2, names()), stranger.client(2, names()));
    for _ in 0..3 {
        assert!(!comes_in(&it, &authority, Some(&foreign)).await);
    }
    refused(&it, 3).await;
    assert!(comes_in(&it, &authority, Some(&good)).await);
}
