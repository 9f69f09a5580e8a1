//! Whatever somebody sends to a listener: the server answers what it takes for requests, ends the connection, and goes on. Whom it
//! believes showed what somebody signed.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aral_contract::event::AuthenticationMethod;
use aral_contract::{AuditSink, Clock, Event, EventKind, TraceId};
use aral_host::{Host, Personas};
use jiff::Timestamp;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use crate::answers::statuses;
use crate::given;
use crate::http2;
use crate::lab::{Lab, Setup};
use crate::panics::Watched;
use crate::scratch;

/// How long somebody waits who gets no answer, since what was sent is no whole request.
const WAIT: Duration = Duration::from_millis(30);
/// A server that is well answers before.
const PATIENCE: Duration = Duration::from_secs(20);
const READY: &[u8] = b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
const CALL: &[u8] = b"POST /v1/invoke/guest HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
    content-length: 9\r\nconnection: close\r\n\r\n{\"a\":[1]}";
/// The same call over HTTP/2.
const CALL_FIELDS: [(&str, &str); 1] = [("content-type", "application/json")];
const CALL_BODY: &str = "{\"a\":[1]}";
const SENT_BYTES_MAX: usize = 64 << 10;

/// A request with a token that is good at [`scratch::now`], of an issuer that has key 2.
const TOKEN: &str = include_str!("../../../fuzz/seeds/connection/token");
/// One that is signed with key 3, and good once.
const SIGNED: &str = include_str!("../../../fuzz/seeds/connection/signed");
/// Key 2, as an issuer shows it.
const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"one","use":"sig","x":"gTl3Dqh9F19Wo1Rmw0x-zMuNipG07jeiXfYPW4_Js5Q"}]}"#;

/// What is spoken on a connection.
enum Spoken {
    /// HTTP/1.1, without TLS.
    Http1,
    /// HTTP/2 over TLS, after the beginning of a client.
    Http2(Arc<ClientConfig>),
}

/// The server.
pub struct Connections {
    address: SocketAddr,
    spoken: Spoken,
    watched: Watched,
    believed: Arc<Believed>,
    /// What was sent before: a record may come late.
    before: Mutex<Vec<u8>>,
    _lab: Lab,
}

impl Connections {
    /// One that serves `runtime_echo_tool` to everybody over HTTP/1.1, and looks at tokens and signatures where there are some.
    ///
    /// # Panics
    /// It does not listen.
    pub fn http1(component: &[u8]) -> Self {
        Self::new(component, Spoken::Http1, json!({}), &[])
    }

    /// The same over HTTP/2.
    ///
    /// # Panics
    /// It does not listen.
    pub fn http2(component: &[u8]) -> Self {
        let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let mut roots = RootCertStore::empty();
        roots.add(own.cert.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("a version")
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = vec![b"h2".to_vec()];
        let tls = json!({ "certificate_file": "chain.pem", "key_file": "chain.key.pem" });
        let (chain, key) = (own.cert.pem(), own.signing_key.serialize_pem());
        let files = [("chain.pem", chain.as_bytes()), ("chain.key.pem", key.as_bytes())];
        Self::new(
            component,
            Spoken::Http2(Arc::new(client)),
            json!({ "tls": tls }),
            &files,
        )
    }

    fn new(component: &[u8], spoken: Spoken, more: Value, files: &[(&str, &[u8])]) -> Self {
        let mut listener = json!({ "address": "127.0.0.1:0", "anonymous": "tester", "mcp": true });
        if let (Some(listener), Some(more)) = (listener.as_object_mut(), more.as_object()) {
            listener.extend(more.clone());
        }
        let config = json!({
            "serve": {
                "listener": [listener],
                "caller": [{
                    "name": "tester", "persona": "persona.json",
                    "signature": "optional", "signature_keys": ["signer.pub.pem"],
                }],
                "resource": "https://aral.example",
                "issuer": [{
                    "issuer": "https://issuer.test", "audiences": ["https://aral.example"],
                    "algorithms": ["EdDSA"], "jwks_file": "jwks.json",
                    "scope": [{ "scope": "aral:agent", "persona": "persona.json" }],
                }],
                "limits": { "public_per_second": 1_000_000, "idle_ms": 2000, "header_ms": 2000, "body_ms": 2000 },
                "rates": given::rates(1_000_000),
            },
        });
        let folder = scratch::folder();
        let signer = scratch::key(3).public().to_pem().expect("a key");
        let known = [("signer.pub.pem", signer.as_bytes()), ("jwks.json", KEYS.as_bytes())];
        scratch::put(folder.path(), known.into_iter().chain(files.iter().copied()));
        let believed = Arc::new(Believed::default());
        let builder = Host::builder()
            .clock(Arc::new(OneDay(Instant::now())))
            .sink(Arc::clone(&believed) as Arc<dyn AuditSink>);
        let setup = Setup {
            component,
            shape: "tool",
            permissions: json!({}),
            config,
            builder,
        };
        let lab = Lab::new(folder, setup);
        let watched = Watched::new();
        let config = lab.config.serve.clone().expect("a listener");
        let server = watched.runtime.block_on(lab.host.server(&config, Personas::Signed));
        let server = server.expect("a port");
        let address = server.addresses().first().copied().expect("a listener");
        watched.runtime.spawn(server.run(std::future::pending()));
        Self {
            address,
            spoken,
            watched,
            believed,
            before: Mutex::default(),
            _lab: lab,
        }
    }

    /// Sends bytes, and looks at what comes.
    ///
    /// # Panics
    /// The server gives no answer of its own, fails, believes somebody it should not, or is gone.
    pub fn send(&self, bytes: &[u8]) {
        self.ask(bytes, WAIT);
    }

    /// The same for somebody who waits for all answers: their statuses.
    ///
    /// # Panics
    /// As [`Connections::send`] does.
    pub fn answers(&self, bytes: &[u8]) -> Vec<u16> {
        self.ask(bytes, PATIENCE)
    }

    fn ask(&self, bytes: &[u8], patience: Duration) -> Vec<u16> {
        let bytes = &bytes[..bytes.len().min(SENT_BYTES_MAX)];
        let found = self.judged(&self.exchange(bytes, patience));
        for good in self.good() {
            let answer = self.exchange(&good, PATIENCE);
            let is_good = self.judged(&answer) == [200];
            assert!(is_good, "it does not go on: {}", String::from_utf8_lossy(&answer));
        }
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = [bytes, before.as_slice()];
        let wrong = self.believed.wrong(&sent);
        *before = bytes.to_vec();
        drop(before);
        assert!(wrong.is_none(), "nobody who was believed has signed this: {wrong:?}");
        self.watched.check();
        found
    }

    /// Requests that a server answers that is well.
    fn good(&self) -> [Vec<u8>; 2] {
        match self.spoken {
            Spoken::Http1 => [READY.to_vec(), CALL.to_vec()],
            Spoken::Http2(_) => [
                http2::request("GET", "/ready", &[], ""),
                http2::request("POST", "/v1/invoke/guest", &CALL_FIELDS, CALL_BODY),
            ],
        }
    }

    /// The statuses of an answer.
    fn judged(&self, answer: &[u8]) -> Vec<u16> {
        let found = match self.spoken {
            Spoken::Http1 => statuses(answer),
            Spoken::Http2(_) => http2::answered(answer).map(|found| found.statuses),
        };
        judge(answer, found)
    }

    /// What comes until the server ends the connection, has ended all that a client of HTTP/2 has asked, or waits for more for so long.
    fn exchange(&self, bytes: &[u8], patience: Duration) -> Vec<u8> {
        let stream = TcpStream::connect(self.address).expect("the server listens");
        match &self.spoken {
            Spoken::Http1 => {
                stream.set_read_timeout(Some(patience)).expect("a socket");
                told(stream, &[bytes], |_| false)
            }
            Spoken::Http2(client) => {
                let name = ServerName::try_from("localhost").expect("a name");
                let mut tls = ClientConnection::new(Arc::clone(client), name).expect("a client");
                let mut stream = stream;
                stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
                while tls.is_handshaking() {
                    tls.complete_io(&mut stream).expect("a handshake");
                }
                stream.set_read_timeout(Some(patience)).expect("a socket");
                let asked = http2::asked(bytes);
                let is_whole = |answer: &[u8]| {
                    let ended = http2::answered(answer).map_or(0, |found| found.ended);
                    ended > 0 && ended >= asked
                };
                told(StreamOwned::new(tls, stream), &[http2::PREFACE, bytes], is_whole)
            }
        }
    }
}

/// Says all of it, and hears what comes until that is whole, or no more does.
fn told(mut stream: impl Read + Write, parts: &[&[u8]], is_whole: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    for part in parts {
        // A server may have had enough before it has read all of it.
        let _cut = stream.write_all(part);
    }
    let mut answer = Vec::new();
    let mut buffer = [0; 16 << 10];
    while !is_whole(&answer)
        && let Ok(count @ 1..) = stream.read(&mut buffer)
    {
        answer.extend_from_slice(&buffer[..count]);
    }
    answer
}

/// Those statuses, if it is an answer of a host that does not fail.
fn judge(answer: &[u8], statuses: Option<Vec<u16>>) -> Vec<u16> {
    let shown = String::from_utf8_lossy(answer);
    let found = statuses.unwrap_or_else(|| panic!("this is no answer: {shown}"));
    assert!(!found.contains(&500), "the host failed: {shown}");
    found
}

/// The time of day stands, so that what was signed once is good; other time passes.
#[derive(Debug)]
struct OneDay(Instant);

impl Clock for OneDay {
    fn now(&self) -> Timestamp {
        scratch::now()
    }
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// How those showed who they are who were believed since this was asked last, in which requests something ran since then, and whether
/// the good signature was used.
#[derive(Debug, Default)]
struct Believed {
    methods: Mutex<Vec<(Option<TraceId>, AuthenticationMethod)>>,
    ran: Mutex<HashSet<Option<TraceId>>>,
    signed: Mutex<bool>,
}

impl AuditSink for Believed {
    fn record(&self, event: Event) {
        match event.kind {
            EventKind::Authentication {
                method, refused: None, ..
            } => {
                let mut methods = self.methods.lock().unwrap_or_else(PoisonError::into_inner);
                methods.push((event.trace, method));
            }
            EventKind::InvocationStarted { .. } => {
                let mut ran = self.ran.lock().unwrap_or_else(PoisonError::into_inner);
                ran.insert(event.trace);
            }
            _ => {}
        }
    }
}

impl Believed {
    /// A way of which nothing was sent that is good.
    fn wrong(&self, sent: &[&[u8]]) -> Option<AuthenticationMethod> {
        let methods = std::mem::take(&mut *self.methods.lock().unwrap_or_else(PoisonError::into_inner));
        let ran = std::mem::take(&mut *self.ran.lock().unwrap_or_else(PoisonError::into_inner));
        let mut signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut methods = methods.into_iter();
        let wrong = methods.find(|(trace, method)| {
            let is_good = match method {
                // Nobody has to show anything, and the persona of a caller is one that is signed.
                AuthenticationMethod::None | AuthenticationMethod::Local | AuthenticationMethod::Persona => true,
                AuthenticationMethod::Token => has(sent, between(TOKEN, "Bearer ", "\r\n")),
                AuthenticationMethod::Signature => {
                    let is_first = !std::mem::replace(&mut *signed, true);
                    // Whoever sent the fields is known also where the body does not come. Then nothing runs.
                    let is_whole = has(sent, between(SIGNED, "\r\n\r\n", "")) || !ran.contains(trace);
                    is_first && is_whole && has(sent, between(SIGNED, "signature: s=:", ":\r\n"))
                }
                AuthenticationMethod::ApiKey | AuthenticationMethod::Certificate => false,
            };
            !is_good
        });
        wrong.map(|(_, method)| method)
    }
}

fn has(sent: &[&[u8]], part: &str) -> bool {
    let part = part.as_bytes();
    sent.iter()
        .any(|bytes| bytes.windows(part.len()).any(|window| window == part))
}

/// A part of a seed; up to an empty text: all that is left.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, rest) = text.split_once(from).expect("a seed has it");
    match to {
        "" => rest,
        to => rest.split_once(to).expect("a seed has it").0,
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use aral_contract::Digest;

    use super::*;

    #[test]
    fn a_wrong_answer_is_a_finding() {
        let judged = |answer: &[u8]| judge(answer, statuses(answer));
        assert_eq!(judged(b"HTTP/1.1 404 X\r\n\r\n"), [404]);
        for answer in [&b"HTTP/1.1 500 X\r\n\r\n"[..], b"what is this"] {
            let found = catch_unwind(|| judged(answer));
            assert!(found.is_err(), "{:?}", String::from_utf8_lossy(answer));
        }
    }

    #[test]
    fn whoever_is_believed_without_what_somebody_signed_is_a_finding() {
        let (at, trace) = (scratch::now(), Some(TraceId::from_bytes([1; 16])));
        let believe = |believed: &Believed, method| {
            let kind = EventKind::Authentication {
                user: None,
                agent: None,
                method,
                source: None,
                refused: None,
            };
            believed.record(Event { at, trace, kind });
        };
        let believed = Believed::default();
        let wrong = |method, sent: &str| {
            believe(&believed, method);
            believed.wrong(&[sent.as_bytes()]).is_some()
        };
        assert!(!wrong(AuthenticationMethod::Persona, ""));
        assert!(!wrong(AuthenticationMethod::Token, TOKEN));
        assert!(!wrong(AuthenticationMethod::Token, TOKEN));
        assert!(wrong(
            AuthenticationMethod::Token,
            &TOKEN.replace("Bearer e", "Bearer f")
        ));
        assert!(!wrong(AuthenticationMethod::Signature, SIGNED));
        assert!(wrong(AuthenticationMethod::Signature, SIGNED), "it is good once");
        let changed = SIGNED.replace("{\"signed\":1}", "{\"signed\":2}");
        for (runs, is_wrong) in [(true, true), (false, false)] {
            let other = Believed::default();
            believe(&other, AuthenticationMethod::Signature);
            if runs {
                let kind = EventKind::InvocationStarted {
                    capability: "guest".parse().unwrap(),
                    version: "1.0.0".parse().unwrap(),
                    persona: "tester".parse().unwrap(),
                    grant: Digest::of(b""),
                };
                other.record(Event { at, trace, kind });
            }
            assert_eq!(
                other.wrong(&[changed.as_bytes()]).is_some(),
                is_wrong,
                "it runs: {runs}"
            );
        }
        assert!(wrong(AuthenticationMethod::ApiKey, ""));
    }
}
