//! How `[telemetry.otlp]` reaches its collector: whom it takes for it, and what it shows. What a real one makes of it is in
//! `telemetry`.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use rustix::process::Signal;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::json;

use crate::support::guests::*;
use crate::support::server::{Server, desk};
use crate::support::tls::Authority;

/// A collector that takes everything, and the head of each request that it got.
fn listen(config: Arc<ServerConfig>) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (got, heads) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (config, got) = (Arc::clone(&config), got.clone());
            std::thread::spawn(move || {
                let connection = ServerConnection::new(config).expect("a connection");
                let mut stream = StreamOwned::new(connection, stream);
                // Whoever does not like the certificate asks nothing.
                if let Some(head) = request(&mut stream) {
                    let _test_has_ended = got.send(head);
                    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    let _gone = stream.write_all(answer).and_then(|()| stream.flush());
                }
            });
        }
    });
    (address, heads)
}

/// The head of a request, in lower case, once all of it is there.
fn request(stream: &mut impl Read) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?.to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length?.trim().parse().ok()?];
    stream.read_exact(&mut body).ok()?;
    Some(head)
}

#[test]
fn a_collector_is_one_that_its_authority_vouches_for_and_is_shown_the_credential() {
    let authority = Authority::new();
    for (trusted, shows) in [(true, true), (true, false), (false, true)] {
        let (address, heads) = listen(authority.server(&["127.0.0.1"]));
        let desk = desk(|config| {
            let mut otlp = json!({ "address": format!("https://{address}"), "timeout_ms": 5000 });
            if trusted {
                otlp["ca_file"] = json!("ca.pem");
            }
            if shows {
                otlp["authorization_file"] = json!("otel.auth");
            }
            config["telemetry"] = json!({ "otlp": otlp });
        });
        desk.guest(RUNTIME_ECHO_TOOL, |_| ());
        desk.write("ca.pem", authority.pem().as_bytes());
        desk.write("otel.auth", b"Bearer of-the-file\n");
        desk.private("otel.auth");
        let server = Server::start(&desk);
        assert_eq!(server.invoke("runtime-echo-tool", "1").status, 200);
        // What is left is sent before the end.
        server.signal(Signal::TERM);
        assert_eq!(server.wait().0, Some(0));
        let heads: Vec<String> = heads.try_iter().collect();
        assert_eq!(!heads.is_empty(), trusted, "{heads:?}");
        let shown = |head: &String| head.contains("\r\nauthorization: bearer of-the-file\r\n");
        assert!(heads.iter().all(|head| shown(head) == shows), "{heads:?}");
    }
}
