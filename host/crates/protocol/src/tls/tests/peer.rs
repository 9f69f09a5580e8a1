//! A client of TLS, with what it saw of the handshake, and what it speaks inside.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::authority::{Authority, Pair};

pub(super) type Stapled = Arc<Mutex<Vec<u8>>>;
pub(super) type Stream = TlsStream<TcpStream>;
pub(super) type RequestBody = BoxBody<Bytes, std::convert::Infallible>;

/// Checks the server as usual, and keeps the OCSP response that it showed.
#[derive(Debug)]
struct Watching {
    inner: Arc<WebPkiServerVerifier>,
    stapled: Stapled,
}

impl ServerCertVerifier for Watching {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.stapled.lock().unwrap() = ocsp.to_vec();
        self.inner.verify_server_cert(own, rest, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, own, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, own, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// Trusts one authority.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) config: ClientConfig,
    pub(super) stapled: Stapled,
}

impl Peer {
    pub(super) fn new(authority: &Authority, shows: Option<&Pair>) -> Self {
        Self::speaking(authority, shows, &[&rustls::version::TLS13])
    }

    pub(super) fn speaking(
        authority: &Authority,
        shows: Option<&Pair>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.root()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let stapled = Stapled::default();
        let watching = Watching {
            inner: inner.build().unwrap(),
            stapled: Arc::clone(&stapled),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(watching));
        let config = match shows {
            Some(pair) => builder
                .with_client_auth_cert(vec![pair.certificate.clone()], pair.key())
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        Self { config, stapled }
    }

    /// Offers these protocols.
    pub(super) fn offering(mut self, protocols: &[&str]) -> Self {
        self.config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        self
    }

    /// The handshake, as far as this side sees it: in TLS 1.3, that of the other side may still fail.
    pub(super) async fn connect(&self, address: SocketAddr) -> std::io::Result<Stream> {
        let tcp = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let connecting = TlsConnector::from(Arc::new(self.config.clone())).connect(name, tcp);
        tokio::time::timeout(Duration::from_secs(20), connecting).await.unwrap()
    }

    /// One request over HTTP/1.1 on a connection of its own; none: there was no connection.
    pub(super) async fn get(&self, address: SocketAddr, path: &str, key: Option<&str>) -> Option<Answer> {
        let stream = self.connect(address).await.ok()?;
        let mut sender = h1(stream).await?;
        ask(&mut sender, path, key).await
    }

    /// A connection of HTTP/2.
    pub(super) async fn h2(&self, address: SocketAddr, builder: &http2::Builder<TokioExecutor>) -> H2 {
        let stream = self.clone().offering(&["h2"]).connect(address).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
        let task = tokio::spawn(async move {
            let _ended = connection.await;
        });
        H2 { sender, task }
    }
}

/// An answer that was read to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
}

pub(super) type H1 = http1::SendRequest<Empty<Bytes>>;

pub(super) async fn h1(stream: Stream) -> Option<H1> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(async move {
        let _ended = connection.await;
    });
    Some(sender)
}

pub(super) async fn ask(sender: &mut H1, path: &str, key: Option<&str>) -> Option<Answer> {
    let mut request = Request::get(path).header("host", "localhost");
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    sender.ready().await.ok()?;
    let response = sender.send_request(request.body(Empty::new()).unwrap()).await.ok()?;
    let (head, body) = response.into_parts();
    body.collect().await.ok()?;
    Some(Answer {
        status: head.status,
        headers: head.headers,
    })
}

/// A connection of HTTP/2.
pub(super) struct H2 {
    pub(super) sender: http2::SendRequest<RequestBody>,
    pub(super) task: tokio::task::JoinHandle<()>,
}

impl H2 {
    pub(super) async fn get(&mut self, path: &str) -> Option<Answer> {
        let request = Request::get(format!("https://localhost{path}")).body(Empty::new().boxed());
        self.send(request.unwrap()).await
    }

    pub(super) async fn send(&mut self, request: Request<RequestBody>) -> Option<Answer> {
        self.sender.ready().await.ok()?;
        let response = self.sender.send_request(request).await.ok()?;
        let (head, body) = response.into_parts();
        body.collect().await.ok()?;
        Some(Answer {
            status: head.status,
            headers: head.headers,
        })
    }

    /// Whether the other side ends the connection within this time.
    pub(super) async fn ends_within(&mut self, ms: u64) -> bool {
        tokio::time::timeout(Duration::from_millis(ms), &mut self.task)
            .await
            .is_ok()
    }
}

/// A call of a capability that is not there.
pub(super) fn invoke(body: RequestBody) -> Request<RequestBody> {
    Request::post("https://localhost/v1/invoke/none")
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

pub(super) fn whole(text: impl Into<Bytes>) -> RequestBody {
    Full::new(text.into()).boxed()
}
