//! What a listener asks of connections from now on holds for those that are open, too.

use hyper::client::conn::http2;
use hyper_util::rt::TokioExecutor;
use rcgen::SanType;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::authority::Authority;
use super::peer::{H2, Peer, ask, h1};
use crate::tests::{Fixture, start_with};
use crate::tls::{ClientAuth, TlsOptions};
use crate::{Bounds, ListenerOptions};

const LIST: &str = "/v1/capabilities";

async fn start(tls: Option<TlsOptions>) -> Fixture {
    start_with(Bounds::default(), |listener, _| listener.tls = tls).await
}

fn h2() -> http2::Builder<TokioExecutor> {
    http2::Builder::new(TokioExecutor::new())
}

/// Whether the next answer says that the connection began too early, and is its last one.
async fn is_sent_away(h2: &mut H2) -> bool {
    let answer = h2.get(LIST).await.unwrap();
    assert!(!answer.headers.contains_key("connection"));
    answer.status == 421 && h2.ends_within(10_000).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_came_without_a_certificate_goes_when_one_is_needed() {
    let authority = Authority::new("root");
    let pair = authority.client(2, vec![SanType::URI("spiffe://example/agent".try_into().unwrap())]);
    let optional = authority.mutual(ClientAuth::Optional);
    let none = TlsOptions {
        clients: None,
        ..optional.clone()
    };
    let required = authority.mutual(ClientAuth::Required);
    for before in [optional.clone(), none] {
        let it = start(Some(before)).await;
        let without = Peer::new(&authority, None);
        let mut one = h1(without.connect(it.address).await.unwrap()).await.unwrap();
        let mut two = without.h2(it.address, &h2()).await;
        assert_eq!(ask(&mut one, LIST, None).await.unwrap().status, 200);
        assert_eq!(two.get(LIST).await.unwrap().status, 200);
        // What is as strict as before, or less so, is nobody's end.
        it.renew(|listener| listener.tls = Some(optional.clone()));
        assert_eq!(ask(&mut one, LIST, None).await.unwrap().status, 200);
        assert_eq!(two.get(LIST).await.unwrap().status, 200);

        it.renew(|listener| listener.tls = Some(required.clone()));
        // What asks nobody who they are, too: there is nothing that such a connection is for.
        let answer = ask(&mut one, "/ready", None).await.unwrap();
        assert_eq!(answer.status, 421);
        assert_eq!(answer.headers.get("connection").unwrap(), "close");
        assert!(ask(&mut one, LIST, None).await.is_none(), "the connection has ended");
        assert!(is_sent_away(&mut two).await);
    }

    // Whoever showed one stays, also while certificates of the listener are renewed.
    let it = start(Some(optional.clone())).await;
    let with = Peer::new(&authority, Some(&pair));
    let mut one = h1(with.connect(it.address).await.unwrap()).await.unwrap();
    let mut two = with.h2(it.address, &h2()).await;
    assert_ne!(ask(&mut one, LIST, None).await.unwrap().status, 421);
    assert_ne!(two.get(LIST).await.unwrap().status, 421);
    it.renew(|listener| listener.tls = Some(required.clone()));
    authority.install(&authority.server(3));
    it.reloader.reload().unwrap();
    assert_eq!(ask(&mut one, "/ready", None).await.unwrap().status, 200);
    assert_eq!(two.get("/ready").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_roots_hold_for_certificates_that_were_shown() {
    let (authority, other) = (Authority::new("root"), Authority::new("other"));
    let name = "uri:spiffe://example/agent";
    let pair = authority.client(2, vec![SanType::URI("spiffe://example/agent".try_into().unwrap())]);
    let mut options = authority.mutual(ClientAuth::Required);
    options.clients.as_mut().unwrap().crl_files.clear();
    let it = start_with(Bounds::default(), |listener, callers| {
        listener.tls = Some(options.clone());
        callers[0].certificates = vec![name.parse().unwrap()];
    })
    .await;
    let mut two = Peer::new(&authority, Some(&pair)).h2(it.address, &h2()).await;
    assert_eq!(two.get(LIST).await.unwrap().status, 200);
    other.mutual(ClientAuth::Required);
    let mut moved = options.clone();
    moved.clients.as_mut().unwrap().ca_file = other.path("clients.pem");
    it.renew(|listener| listener.tls = Some(moved));
    assert_eq!(two.get(LIST).await.unwrap().status, 401);
    assert!(two.ends_within(10_000).await, "whoever has a newer one connects again");
    it.renew(|listener| listener.tls = Some(options));
    let mut two = Peer::new(&authority, Some(&pair)).h2(it.address, &h2()).await;
    assert_eq!(two.get(LIST).await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_nobody_asks_for_any_more_says_nothing() {
    const KEY: &str = "aral_a-key-of-the-test";
    let authority = Authority::new("root");
    let pair = authority.client(2, vec![SanType::URI("spiffe://example/agent".try_into().unwrap())]);
    let asking = authority.mutual(ClientAuth::Required);
    let none = TlsOptions {
        clients: None,
        ..asking.clone()
    };
    let it = start_with(Bounds::default(), |listener, callers| {
        listener.tls = Some(asking.clone());
        listener.anonymous = None;
        callers[0].certificates = vec!["uri:spiffe://example/agent".parse().unwrap()];
        callers[0].keys = vec![aral_contract::Digest::of(KEY.as_bytes())];
    })
    .await;
    let peer = Peer::new(&authority, Some(&pair));
    for tls in [Some(none), None] {
        it.renew(|listener| listener.tls = Some(asking.clone()));
        let mut one = h1(peer.connect(it.address).await.unwrap()).await.unwrap();
        assert_eq!(ask(&mut one, LIST, None).await.unwrap().status, 200);
        it.renew(|listener| listener.tls = tls);
        // Neither a caller nor a guess, and in nobody's way.
        let nobody = ask(&mut one, LIST, None).await.unwrap();
        assert_eq!(nobody.status, 401);
        assert!(!nobody.headers.contains_key("connection"), "it goes on");
        assert_eq!(ask(&mut one, LIST, Some(KEY)).await.unwrap().status, 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_goes_on_in_clear_where_there_is_tls_now() {
    const REQUEST: &[u8] = b"GET /v1/capabilities HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let authority = Authority::new("root");
    let options = authority.options();
    let it = start(None).await;
    let mut plain = TcpStream::connect(it.address).await.unwrap();
    plain.write_all(REQUEST).await.unwrap();
    let mut answer = vec![0; 12];
    plain.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 200");
    let change = |listener: &mut ListenerOptions| listener.tls = Some(options.clone());
    it.renew(change);
    plain.write_all(REQUEST).await.unwrap();
    let mut rest = String::new();
    plain.read_to_string(&mut rest).await.unwrap();
    let (_, last) = rest.split_once("HTTP/1.1 421").expect("it is sent away");
    assert!(
        last.contains("connection: close") && !last.contains("HTTP/1.1 "),
        "{last}"
    );
    // With TLS it is answered.
    let peer = Peer::new(&authority, None);
    assert_eq!(peer.get(it.address, LIST, None).await.unwrap().status, 200);
}
