//! Servers for the tests: HTTP over TCP and TLS, and a name server, each on a port of its own.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::HandshakeKind;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;

/// Counts what connects, and keeps what the last one said.
pub(in crate::egress) struct Listener {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    seen: Arc<Mutex<String>>,
    handshakes: Arc<Mutex<Vec<HandshakeKind>>>,
}

async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => text.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

async fn answer(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), bytes: &[u8]) {
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    // Reads what is still coming, so that closing does not reset what was answered.
    let _ = tokio::time::timeout(Duration::from_secs(2), stream.read_to_end(&mut Vec::new())).await;
}

impl Listener {
    async fn bind() -> (TcpListener, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let this = Self {
            address,
            accepted: Arc::default(),
            seen: Arc::default(),
            handshakes: Arc::default(),
        };
        (listener, this)
    }

    /// Answers each request with what `answer_to` makes of its head. A request whose head never ends is not answered.
    pub(in crate::egress) async fn plain(answer_to: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let (listener, this) = Self::bind().await;
        let (accepted, seen, answer_to) = (Arc::clone(&this.accepted), Arc::clone(&this.seen), Arc::new(answer_to));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                let (seen, answer_to) = (Arc::clone(&seen), Arc::clone(&answer_to));
                tokio::spawn(async move {
                    let head = head(&mut stream).await;
                    if head.contains("content-length: 5") {
                        return tokio::time::sleep(Duration::from_secs(5)).await;
                    }
                    let bytes = answer_to(&head);
                    *seen.lock().unwrap() = head;
                    answer(&mut stream, &bytes).await;
                });
            }
        });
        this
    }

    /// Sends `start` and then one byte every 50 ms for as long as anybody listens.
    pub(in crate::egress) async fn dripping(start: &'static str) -> Self {
        let (listener, this) = Self::bind().await;
        let accepted = Arc::clone(&this.accepted);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let _ = stream.write_all(start.as_bytes()).await;
                    while start.is_empty() || stream.write_all(b"0").await.is_ok() {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                });
            }
        });
        this
    }

    /// The same over TLS, with a certificate for `name` and tickets for whoever would come back; also gives the
    /// authority that signed it, as PEM.
    pub(in crate::egress) async fn tls(name: &str, response: &'static str) -> (Self, String) {
        let authority_key = rcgen::KeyPair::generate().unwrap();
        let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority_certificate = authority.self_signed(&authority_key).unwrap();
        let issuer = rcgen::Issuer::new(authority, authority_key);
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &issuer)
            .unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (listener, this) = Self::bind().await;
        let (accepted, handshakes) = (Arc::clone(&this.accepted), Arc::clone(&this.handshakes));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::SeqCst);
                let (acceptor, handshakes) = (acceptor.clone(), Arc::clone(&handshakes));
                tokio::spawn(async move {
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        handshakes.lock().unwrap().extend(stream.get_ref().1.handshake_kind());
                        head(&mut stream).await;
                        answer(&mut stream, response.as_bytes()).await;
                    }
                });
            }
        });
        (this, authority_certificate.pem())
    }

    pub(in crate::egress) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(in crate::egress) fn origin(&self, scheme: &str, host: &str) -> String {
        format!("{scheme}://{host}:{}", self.address.port())
    }

    pub(in crate::egress) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    pub(in crate::egress) fn seen(&self) -> String {
        self.seen.lock().unwrap().clone()
    }

    /// Those of TLS that came to an end.
    pub(in crate::egress) fn handshakes(&self) -> Vec<HandshakeKind> {
        self.handshakes.lock().unwrap().clone()
    }
}

/// Answers A and AAAA questions from a table, each good for a minute, and NXDOMAIN for every other name.
pub(in crate::egress) struct NameServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    pub(in crate::egress) async fn start(names: &[(&str, &[&str])]) -> Self {
        let parse = |texts: &[&str]| {
            texts
                .iter()
                .map(|text| text.parse::<IpAddr>().unwrap())
                .collect::<Vec<_>>()
        };
        let names: HashMap<String, Vec<IpAddr>> = names
            .iter()
            .map(|(name, addresses)| ((*name).to_owned(), parse(addresses)))
            .collect();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let this = Self {
            address: socket.local_addr().unwrap(),
            asked: Arc::default(),
        };
        let asked = Arc::clone(&this.asked);
        tokio::spawn(async move {
            let mut packet = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut packet).await {
                if let Some(reply) = reply(&packet[..length], &names, &asked) {
                    let _ = socket.send_to(&reply, peer).await;
                }
            }
        });
        this
    }

    pub(in crate::egress) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How often it was asked for the A records of a name.
    pub(in crate::egress) fn asked(&self, name: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|one| *one == name).count()
    }
}

fn reply(question: &[u8], names: &HashMap<String, Vec<IpAddr>>, asked: &Mutex<Vec<String>>) -> Option<Vec<u8>> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(question.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    let kind = u16::from_be_bytes([*question.get(at)?, *question.get(at + 1)?]);
    let name = labels.join(".");
    let known = names.get(&name);
    if kind == 1 {
        asked.lock().unwrap().push(name);
    }
    let answers: Vec<Vec<u8>> = known
        .into_iter()
        .flatten()
        .filter_map(|address| match (address, kind) {
            (IpAddr::V4(address), 1) => Some(address.octets().to_vec()),
            (IpAddr::V6(address), 28) => Some(address.octets().to_vec()),
            _ => None,
        })
        .collect();
    let mut reply = question.get(..2)?.to_vec();
    let code = if known.is_some() { 0x80 } else { 0x83 };
    reply.extend([0x81, code, 0, 1]);
    reply.extend(u16::try_from(answers.len()).unwrap().to_be_bytes());
    reply.extend([0, 0, 0, 0]);
    reply.extend(question.get(12..at + 4)?);
    for data in answers {
        reply.extend([0xc0, 12]);
        reply.extend(kind.to_be_bytes());
        reply.extend([0, 1, 0, 0, 0, 60]);
        reply.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        reply.extend(data);
    }
    Some(reply)
}
