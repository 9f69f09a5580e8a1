//! Whatever somebody sends to a listener: the server answers what it takes for requests, ends the connection, and goes on.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use aral_host::Personas;
use serde_json::json;
use tokio::runtime::Runtime;

use crate::lab::{Lab, Setup};
use crate::scratch;

/// How long somebody waits who gets no answer, since what was sent is no whole request.
const WAIT: Duration = Duration::from_millis(30);
/// A server that is well answers before.
const PATIENCE: Duration = Duration::from_secs(20);
const READY: &[u8] = b"GET /ready HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
const SENT_BYTES_MAX: usize = 64 << 10;

/// The server.
pub struct Connections {
    address: SocketAddr,
    _runtime: Runtime,
    _lab: Lab,
}

impl Connections {
    /// One that serves `runtime_echo_tool` to everybody.
    ///
    /// # Panics
    /// It does not listen.
    pub fn new(component: &[u8]) -> Self {
        let often = json!({ "per_second": 1_000_000, "burst": 1_000_000 });
        let limits = [
            "global",
            "address",
            "failures",
            "persona",
            "capability",
            "cost",
            "caller",
        ];
        let rates: serde_json::Map<_, _> = limits
            .map(|limit| (limit.to_owned(), often.clone()))
            .into_iter()
            .collect();
        let setup = Setup {
            component,
            shape: "tool",
            permissions: json!({}),
            config: json!({
                "serve": {
                    "listener": [{ "address": "127.0.0.1:0", "anonymous": "tester" }],
                    "caller": [{ "name": "tester", "persona": "persona.json" }],
                    "limits": { "public_per_second": 1_000_000, "idle_ms": 2000, "header_ms": 2000, "body_ms": 2000 },
                    "rates": rates,
                },
            }),
        };
        let lab = Lab::new(scratch::folder(), &setup);
        let runtime = Runtime::new().expect("threads");
        let config = lab.config.serve.clone().expect("a listener");
        let server = runtime
            .block_on(lab.host.server(&config, Personas::Signed))
            .expect("a port");
        let address = server.addresses().first().copied().expect("a listener");
        runtime.spawn(server.run(std::future::pending()));
        Self {
            address,
            _runtime: runtime,
            _lab: lab,
        }
    }

    /// Sends bytes, and reads what comes.
    ///
    /// # Panics
    /// The server gives no answer of its own, fails, or is gone.
    pub fn send(&self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(SENT_BYTES_MAX)];
        let answer = self.exchange(bytes, WAIT);
        if !answer.is_empty() && !answer.starts_with(b"HTTP/1.") {
            // The first frame of HTTP/2 is that of the settings.
            assert!(bytes.starts_with(b"PRI "), "this is no answer: {answer:?}");
            assert_eq!(answer.get(3), Some(&4), "this is no answer: {answer:?}");
        }
        let failed = answer.windows(13).any(|window| window == b"HTTP/1.1 500 ");
        assert!(!failed, "the host failed: {}", String::from_utf8_lossy(&answer));
        let ready = self.exchange(READY, PATIENCE);
        let is_ready = ready.starts_with(b"HTTP/1.1 200 ");
        assert!(is_ready, "it goes on: {}", String::from_utf8_lossy(&ready));
    }

    /// What comes until the server ends the connection, or waits for more for so long.
    fn exchange(&self, bytes: &[u8], patience: Duration) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).expect("the server listens");
        stream.set_read_timeout(Some(patience)).expect("a socket");
        // A server may have had enough before it has read all of it.
        let _cut = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _cut = stream.read_to_end(&mut answer);
        answer
    }
}
