//! An issuer of tokens in the test's hands: it signs what it is told, serves its keys over http or https, changes them, and
//! counts how often it is asked.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aral_contract::document::PrivateKey;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// What its tokens say as `iss`.
pub(crate) const ISSUER: &str = "https://issuer.test";
/// What they say as `aud`.
pub(crate) const AUDIENCE: &str = "https://aral.example";

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    i64::try_from(now.as_secs()).expect("before the end of time")
}

/// One of its keys.
pub(crate) struct IssuerKey {
    id: &'static str,
    key: PrivateKey,
}

impl IssuerKey {
    pub(crate) fn new(id: &'static str, seed: u8) -> Self {
        Self {
            id,
            key: PrivateKey::from_seed(&Zeroizing::new([seed; 32])),
        }
    }

    /// As it stands in a set of keys.
    fn public(&self) -> Value {
        let pem = self.key.public().to_pem().expect("PEM");
        let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let der = base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
        let raw = der.get(der.len() - 32..).expect("a key");
        json!({ "kty": "OKP", "crv": "Ed25519", "kid": self.id, "use": "sig", "x": URL_SAFE_NO_PAD.encode(raw) })
    }

    /// A good token, changed.
    pub(crate) fn token(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let mut header = json!({ "alg": "EdDSA", "typ": "at+jwt", "kid": self.id });
        let mut claims = json!({
            "iss": ISSUER, "sub": "alice", "aud": AUDIENCE, "iat": now(), "exp": now() + 600, "scope": "aral:agent",
        });
        change(&mut header, &mut claims);
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(&claims));
        let signature = URL_SAFE_NO_PAD.encode(self.key.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

/// The text of a set of keys.
pub(crate) fn key_set(keys: &[&IssuerKey]) -> String {
    let keys: Vec<Value> = keys.iter().map(|key| key.public()).collect();
    json!({ "keys": keys }).to_string()
}

/// The server of the keys. It ends with the process of the test.
pub(crate) struct KeyServer {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    /// None: it answers 503.
    keys: Option<String>,
    asked: usize,
}

impl KeyServer {
    /// Over https if there is a configuration.
    pub(crate) fn start(keys: &[&IssuerKey], tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let keys = Some(key_set(keys));
        let state = Arc::new(Mutex::new(State { keys, asked: 0 }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, shared) = (tls.clone(), Arc::clone(&shared));
                std::thread::spawn(move || match tls {
                    None => answer(stream, &shared),
                    Some(config) => {
                        let connection = ServerConnection::new(config).expect("a connection");
                        answer(StreamOwned::new(connection, stream), &shared);
                    }
                });
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/jwks", self.address)
    }

    /// From now on it has these.
    pub(crate) fn set(&self, keys: &[&IssuerKey]) {
        self.state.lock().expect("no panic").keys = Some(key_set(keys));
    }

    /// From now on it does not answer as it should.
    pub(crate) fn fail(&self) {
        self.state.lock().expect("no panic").keys = None;
    }

    pub(crate) fn asked(&self) -> usize {
        self.state.lock().expect("no panic").asked
    }
}

/// One request; whoever does not get that far is not counted.
fn answer(mut stream: impl Read + Write, state: &Mutex<State>) {
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let body = {
        let mut state = state.lock().expect("no panic");
        state.asked += 1;
        state.keys.clone()
    };
    let (status, body) = match body {
        Some(keys) => ("200 OK", keys),
        None => ("503 Service Unavailable", String::new()),
    };
    let length = body.len();
    let text = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    let _gone = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
}

/// A proxy that knows one server, whatever name it is asked for, and keeps what it was asked.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub(crate) fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || tunnel(stream, server, &shared));
            }
        });
        Self { address, asked }
    }

    /// The first line of each request.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

fn tunnel(mut client: TcpStream, server: SocketAddr, asked: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") {
        match client.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).expect("text");
    asked
        .lock()
        .expect("no panic")
        .push(head.lines().next().unwrap_or_default().to_owned());
    let Ok(mut server) = TcpStream::connect(server) else {
        return;
    };
    let _gone = client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n");
    let (Ok(mut from), Ok(mut to)) = (client.try_clone(), server.try_clone()) else {
        return;
    };
    let there = std::thread::spawn(move || {
        let _ended = std::io::copy(&mut from, &mut to);
        let _closed = to.shutdown(std::net::Shutdown::Write);
    });
    let _ended = std::io::copy(&mut server, &mut client);
    let _closed = client.shutdown(std::net::Shutdown::Both);
    let _ended = there.join();
}
