//! What a handshake agrees on, and what it does not: versions, protocols, sessions, time.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;
use rustls::crypto::aws_lc_rs;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, ServerConfig, ServerConnection, StreamOwned,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::authority::{Authority, ocsp};
use super::peer::{Peer, ask, h1};
use crate::Bounds;
use crate::tests::{Fixture, start_with};
use crate::tls::TlsOptions;

async fn start(options: TlsOptions, bounds: Bounds) -> Fixture {
    start_with(bounds, |listener, _| listener.tls = Some(options)).await
}

#[tokio::test]
async fn tls_1_3_is_spoken_and_nothing_older() {
    let authority = Authority::new("root");
    let it = start(authority.options(), Bounds::default()).await;
    let new = Peer::new(&authority, None).connect(it.address).await.unwrap();
    assert_eq!(new.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let old = Peer::speaking(&authority, None, &[&rustls::version::TLS12]);
    let error = old.connect(it.address).await.unwrap_err().to_string();
    assert!(error.contains("ProtocolVersion"), "{error}");
}

#[tokio::test]
async fn both_versions_of_http_are_agreed_on_and_no_other_protocol() {
    let authority = Authority::new("root");
    let it = start(authority.options(), Bounds::default()).await;
    for (offered, agreed) in [
        (&["h2", "http/1.1"][..], Some("h2")),
        (&["http/1.1"], Some("http/1.1")),
        (&["ftp", "http/1.1"], Some("http/1.1")),
        (&[], None),
    ] {
        let peer = Peer::new(&authority, None).offering(offered);
        let stream = peer.connect(it.address).await.unwrap();
        let found = stream
            .get_ref()
            .1
            .alpn_protocol()
            .map(|name| String::from_utf8_lossy(name).into_owned());
        assert_eq!(found.as_deref(), agreed, "{offered:?}");
    }
    let error = Peer::new(&authority, None)
        .offering(&["smtp"])
        .connect(it.address)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
    // Without a word it is HTTP/1.1.
    let answer = Peer::new(&authority, None)
        .get(it.address, "/ready", None)
        .await
        .unwrap();
    assert_eq!(answer.status, StatusCode::OK);
}

const REQUEST: &[u8] = b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// What a client of one server found at one handshake after another.
#[derive(Debug, PartialEq)]
struct Taken {
    kind: Option<HandshakeKind>,
    /// Whether it had a ticket that lets it send before the handshake ends, and whether what it sent then was taken.
    early: (bool, bool),
    has_tickets: bool,
}

/// Waits for long, and not for ever.
fn patient(tcp: std::net::TcpStream) -> std::net::TcpStream {
    tcp.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    tcp
}

/// Connects, sends as early as the server lets it, and reads the answer.
fn take_up(config: &Arc<ClientConfig>, address: SocketAddr) -> Taken {
    let name = "localhost".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::clone(config), name).unwrap();
    let offered = match client.early_data() {
        Some(mut early) => early.write_all(REQUEST).is_ok(),
        None => false,
    };
    let mut stream = StreamOwned::new(client, patient(std::net::TcpStream::connect(address).unwrap()));
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    let accepted = stream.conn.is_early_data_accepted();
    if !accepted {
        stream.write_all(REQUEST).unwrap();
    }
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
    Taken {
        kind: stream.conn.handshake_kind(),
        early: (offered, accepted),
        has_tickets: stream.conn.tls13_tickets_received() > 0,
    }
}

/// A server that hands out tickets and takes early data, for so many connections.
fn careless(authority: &Authority, connections: usize) -> SocketAddr {
    let pair = authority.server(1);
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![pair.certificate.clone()], pair.key())
        .unwrap();
    config.max_early_data_size = 1024;
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for tcp in listener.incoming().take(connections) {
            let server = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(server, patient(tcp.unwrap()));
            while stream.conn.is_handshaking() {
                stream.conn.complete_io(&mut stream.sock).unwrap();
            }
            let mut asked = Vec::new();
            if let Some(mut early) = stream.conn.early_data() {
                early.read_to_end(&mut asked).unwrap();
            }
            while !asked.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                asked.extend_from_slice(&byte);
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            stream.conn.send_close_notify();
            stream.flush().unwrap();
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_session_is_taken_up_again_and_nothing_is_early() {
    let authority = Authority::new("root");
    let it = start(authority.options(), Bounds::default()).await;
    let new = || {
        let mut config = Peer::new(&authority, None).config;
        config.enable_early_data = true;
        Arc::new(config)
    };
    let full = |has_tickets| Taken {
        kind: Some(HandshakeKind::Full),
        early: (false, false),
        has_tickets,
    };
    let config = new();
    for round in 0..3 {
        assert_eq!(take_up(&config, it.address), full(false), "{round}");
    }
    // The same client does both where it may.
    let (config, address) = (new(), careless(&authority, 2));
    assert_eq!(take_up(&config, address), full(true));
    let again = take_up(&config, address);
    assert_eq!(again.kind, Some(HandshakeKind::Resumed));
    assert_eq!(again.early, (true, true));
}

#[tokio::test]
async fn the_ocsp_response_comes_with_the_certificate() {
    let authority = Authority::new("root");
    let response = ocsp(1, true, "20250101000000Z", "21000101000000Z");
    authority.write("ocsp.der", &response);
    let without = authority.options();
    let with = authority.stapled(without.clone());
    for (options, stapled) in [(with, response), (without, Vec::new())] {
        let it = start(options, Bounds::default()).await;
        let peer = Peer::new(&authority, None);
        peer.connect(it.address).await.unwrap();
        assert_eq!(*peer.stapled.lock().unwrap(), stapled);
    }
}

#[tokio::test]
async fn every_answer_tells_browsers_to_keep_to_tls() {
    let authority = Authority::new("root");
    let it = start(authority.options(), Bounds::default()).await;
    let peer = Peer::new(&authority, None);
    let mut sender = h1(peer.connect(it.address).await.unwrap()).await.unwrap();
    for (path, status) in [("/ready", 200), ("/v1/capabilities", 200), ("/none", 404)] {
        let answer = ask(&mut sender, path, None).await.unwrap();
        assert_eq!(answer.status, status, "{path}");
        for (name, value) in [
            ("strict-transport-security", "max-age=31536000"),
            ("cache-control", "no-store"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            (
                "content-security-policy",
                "default-src 'none'; frame-ancestors 'none'; sandbox",
            ),
        ] {
            assert_eq!(answer.headers.get(name).unwrap(), value, "{path}");
        }
    }
    // Over plain HTTP the field would mean nothing (RFC 6797, section 7.2).
    let plain = start_with(Bounds::default(), |_, _| ()).await;
    let mut stream = TcpStream::connect(plain.address).await.unwrap();
    stream
        .write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!answer.contains("strict-transport-security"), "{answer}");
}

/// How long the server bears a handshake that does not end, if it ends it within three seconds.
async fn borne(it: &Fixture, sent: &[u8]) -> Option<Duration> {
    let mut stream = TcpStream::connect(it.address).await.unwrap();
    let begun = Instant::now();
    stream.write_all(sent).await.unwrap();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(3), stream.read_to_end(&mut answer)).await;
    closed.ok().map(|_| begun.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn handshake_ms() {
    let authority = Authority::new("root");
    let hurried = Bounds {
        handshake_ms: 300,
        ..Bounds::default()
    };
    // Nothing at all, and the beginning of a record of 512 bytes.
    for sent in [&b""[..], &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00]] {
        let it = start(authority.options(), hurried.clone()).await;
        let time = borne(&it, sent).await.expect("it is cut off");
        assert!(time >= Duration::from_millis(250), "{time:?}");
        let patient = start(authority.options(), Bounds::default()).await;
        assert_eq!(borne(&patient, sent).await, None);
    }
}

#[tokio::test]
async fn what_is_no_tls_is_not_answered_in_clear() {
    let authority = Authority::new("root");
    let it = start(authority.options(), Bounds::default()).await;
    let mut stream = TcpStream::connect(it.address).await.unwrap();
    stream
        .write_all(b"GET /ready HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    let _reset = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    // The server goes on.
    assert!(
        Peer::new(&authority, None)
            .get(it.address, "/ready", None)
            .await
            .is_some()
    );
}
