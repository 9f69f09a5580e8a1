//! How `[telemetry.otlp]` reaches its collector: whom it takes for it, and what it shows. What a real one makes of it is in
//! `telemetry`.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use rustix::process::Signal;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use super::metrics::metrics;
use super::reload::until;
use crate::support::desk::Desk;
use crate::support::guests::*;
use crate::support::server::{Server, desk};
use crate::support::tls::Authority;

const EMPTY: &[u8] = b"";

/// What a collector got: the head of a request in lower case, and its body.
struct Request {
    head: String,
    body: Vec<u8>,
}

impl Request {
    fn is_for(&self, path: &str) -> bool {
        self.head.starts_with(&format!("post {path} "))
    }
}

/// A collector, and what it gets. `answer` says with which status and body it answers.
fn listen(
    tls: Option<Arc<ServerConfig>>,
    answer: fn(&Request) -> (u16, &'static [u8]),
) -> (SocketAddr, Receiver<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let (got, requests) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (tls, got) = (tls.clone(), got.clone());
            std::thread::spawn(move || match tls {
                Some(config) => {
                    let connection = ServerConnection::new(config).expect("a connection");
                    serve(&mut StreamOwned::new(connection, stream), &got, answer);
                }
                None => serve(&mut stream, &got, answer),
            });
        }
    });
    (address, requests)
}

/// One request. Whoever does not like the certificate asks nothing.
fn serve(stream: &mut (impl Read + Write), got: &Sender<Request>, answer: fn(&Request) -> (u16, &'static [u8])) {
    if let Some(request) = read(stream) {
        let (status, body) = answer(&request);
        let _test_has_ended = got.send(request);
        let length = body.len();
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
        let all = [head.as_bytes(), body].concat();
        let _gone = stream.write_all(&all).and_then(|()| stream.flush());
    }
}

/// A request, once all of it is there.
fn read(stream: &mut impl Read) -> Option<Request> {
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
    Some(Request { head, body })
}

/// A desk whose server tells this collector, with a capability.
fn telling(address: SocketAddr, more: &Value) -> Desk {
    let desk = desk(|config| {
        let mut otlp = json!({ "address": format!("http://{address}"), "timeout_ms": 5000 });
        let more = more.as_object().expect("keys").clone();
        otlp.as_object_mut().expect("keys").extend(more);
        config["telemetry"] = json!({ "otlp": otlp });
    });
    desk.guest(RUNTIME_ECHO_TOOL, |_| ());
    desk
}

/// Makes a call, and returns what the server said on standard error to its end, before which it sends what is left.
fn called(desk: &Desk) -> String {
    let server = Server::start(desk);
    assert_eq!(server.invoke("runtime-echo-tool", "1").status, 200);
    server.signal(Signal::TERM);
    let (code, words) = server.wait();
    assert_eq!(code, Some(0), "{words}");
    words
}

#[test]
fn a_collector_is_one_that_its_authority_vouches_for_and_is_shown_the_credential() {
    let authority = Authority::new();
    for (trusted, shows) in [(true, true), (true, false), (false, true)] {
        let (address, requests) = listen(Some(authority.server(&["127.0.0.1"])), |_| (200, EMPTY));
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
        called(&desk);
        let heads: Vec<String> = requests.try_iter().map(|request| request.head).collect();
        assert_eq!(!heads.is_empty(), trusted, "{heads:?}");
        let shown = |head: &String| head.contains("\r\nauthorization: bearer of-the-file\r\n");
        assert!(heads.iter().all(|head| shown(head) == shows), "{heads:?}");
    }
}

#[test]
fn a_collector_that_takes_nothing_is_told_of_once_with_the_reason() {
    for (shows_an_open_file, reason) in [(false, "it answered with status 401"), (true, "mode")] {
        let (address, requests) = listen(None, |_| (401, EMPTY));
        let more = if shows_an_open_file {
            json!({ "authorization_file": "otel.auth" })
        } else {
            json!({})
        };
        let desk = telling(address, &more);
        desk.write("otel.auth", b"Bearer of-the-file\n");
        let others_may_read_it = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(desk.path("otel.auth"), others_may_read_it).expect("a file of ours");
        let words = called(&desk);
        for what in ["spans", "metrics"] {
            let told = format!("does not take all {what}");
            let told: Vec<&str> = words.lines().filter(|line| line.contains(&told)).collect();
            assert!(told.len() == 1 && told[0].contains(reason), "{what}, {reason}: {words}");
        }
        assert_eq!(requests.try_iter().count() == 0, shows_an_open_file, "{words}");
    }
}

#[test]
fn spans_that_a_collector_refuses_while_it_takes_others_are_lost() {
    // `partial_success` with one that was refused, and why.
    const ONE_REFUSED: &[u8] = b"\x0a\x09\x08\x01\x12\x05quota";
    let (address, _requests) = listen(None, |request| match request.is_for("/v1/traces") {
        true => (200, ONE_REFUSED),
        false => (200, EMPTY),
    });
    let desk = telling(address, &json!({}));
    let server = Server::start(&desk);
    assert_eq!(server.invoke("runtime-echo-tool", "1").status, 200);
    until("one is lost", || {
        let told = metrics(&desk);
        told.contains("aral_telemetry_spans_dropped_total{reason=\"refused\"} ")
            && told.contains("\naral_telemetry_spans_exported_total ")
    });
    server.signal(Signal::TERM);
    let (code, words) = server.wait();
    assert_eq!(code, Some(0));
    assert!(words.contains("it refused 1 of them: quota"), "{words}");
    assert!(!words.contains("take all metrics"), "{words}");
}

#[test]
fn servers_with_one_configuration_are_told_apart_at_the_collector() {
    let (address, requests) = listen(None, |_| (200, EMPTY));
    let mut instances = BTreeSet::new();
    for _ in 0..2 {
        called(&telling(address, &json!({})));
        let got: Vec<Request> = requests.try_iter().collect();
        for path in ["/v1/traces", "/v1/metrics"] {
            assert!(got.iter().any(|request| request.is_for(path)), "{path}");
        }
        let of_server: BTreeSet<String> = got.iter().map(|request| instance(&request.body)).collect();
        assert_eq!(of_server.len(), 1, "spans and metrics are of one: {of_server:?}");
        instances.extend(of_server);
    }
    assert_eq!(instances.len(), 2, "{instances:?}");
}

/// The `service.instance.id` in a message of Protocol Buffers: a text behind its key, with a byte for the length of each.
fn instance(body: &[u8]) -> String {
    const KEY: &[u8] = b"service.instance.id";
    let place = body.windows(KEY.len()).position(|bytes| bytes == KEY);
    let value = &body[place.expect("there is one") + KEY.len()..];
    // Tag and length of the value, and of the text in it.
    assert_eq!((value[0], value[2]), (0x12, 0x0a));
    let text = &value[4..][..usize::from(value[3])];
    String::from_utf8(text.to_vec()).expect("text")
}
