//! Dialling a checked address, and TLS over it. The name of the certificate is the name of the URL; what was resolved is
//! not asked again.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use aral_contract::host_pattern::{Host, Origin, Scheme};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::{CertificateResult, ErrorKind};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::Error;

/// Addresses of one name that are tried.
const TRIES_MAX: usize = 4;

/// A connection of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// TLS for outgoing connections: versions 1.3 and 1.2, the authorities of the system and those the operator adds.
pub(super) struct Tls {
    extra_roots: Vec<CertificateDer<'static>>,
    connector: OnceCell<TlsConnector>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("extra_roots", &self.extra_roots.len())
            .finish_non_exhaustive()
    }
}

impl Tls {
    pub(super) fn new(extra_roots: Vec<CertificateDer<'static>>) -> Self {
        Self {
            extra_roots,
            connector: OnceCell::new(),
        }
    }

    /// What connects: made once, unless the authorities of the system could not be read.
    async fn connector(&self) -> Result<TlsConnector, Error> {
        let make = || async {
            match self.make().await {
                Ok((connector, Keep::Yes)) => Ok(connector),
                Ok((connector, Keep::No)) => Err(Ok(connector)),
                Err(error) => Err(Err(error)),
            }
        };
        match self.connector.get_or_try_init(make).await {
            Ok(kept) => Ok(kept.clone()),
            Err(not_kept) => not_kept,
        }
    }

    async fn make(&self) -> Result<(TlsConnector, Keep), Error> {
        // Reading the system's store takes tens of milliseconds, off the executor's threads.
        let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
        let loaded = loaded.map_err(|error| Error::InternalError(Some(error.to_string())))?;
        let (roots, keep) = roots(loaded, &self.extra_roots)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&versions);
        let builder = builder.map_err(|error| Error::InternalError(Some(error.to_string())))?;
        let mut config = builder.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok((TlsConnector::from(Arc::new(config)), keep))
    }
}

/// Whether authorities are those of the requests to come too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}

/// The authorities of the system, as far as they can be read, and those that are added. None at all is an error. Where none of the
/// system's could be read they are read again for the next request: descriptors may be used up, or the store be rewritten at this
/// moment.
fn roots(loaded: CertificateResult, extra: &[CertificateDer<'static>]) -> Result<(RootCertStore, Keep), Error> {
    if let Some(first) = loaded.errors.first() {
        let unreadable = loaded.errors.len();
        tracing::warn!(unreadable, %first, "authorities of the system for outgoing TLS cannot be read");
    }
    let is_unread = loaded
        .errors
        .iter()
        .any(|error| matches!(error.kind, ErrorKind::Io { .. }));
    let mut roots = RootCertStore::empty();
    let (system, _unreadable) = roots.add_parsable_certificates(loaded.certs);
    let (extra, _unreadable) = roots.add_parsable_certificates(extra.iter().cloned());
    tracing::debug!(system, extra, "authorities for outgoing TLS");
    if roots.is_empty() {
        let message = "the host has no authority that it could verify a server with";
        return Err(Error::InternalError(Some(message.to_owned())));
    }
    let keep = if system == 0 && is_unread { Keep::No } else { Keep::Yes };
    Ok((roots, keep))
}

/// Connects to one of the addresses, in the order of the answer, before `deadline`.
pub(super) async fn connect(
    tls: &Tls,
    origin: &Origin,
    addresses: &[IpAddr],
    deadline: Instant,
) -> Result<Box<dyn Stream>, Error> {
    let tcp = dial(addresses, origin.port, deadline).await?;
    let _kept_with_delay = tcp.set_nodelay(true);
    match origin.scheme {
        Scheme::Http => Ok(Box::new(tcp)),
        Scheme::Https => {
            let handshake = async {
                tls.connector()
                    .await?
                    .connect(server_name(&origin.host)?, tcp)
                    .await
                    .map_err(tls_error)
            };
            let stream = timeout_at(deadline, handshake)
                .await
                .map_err(|_| Error::ConnectionTimeout)??;
            Ok(Box::new(stream))
        }
    }
}

async fn dial(addresses: &[IpAddr], port: u16, deadline: Instant) -> Result<TcpStream, Error> {
    let mut last = Error::DestinationUnavailable;
    let tries = addresses.len().min(TRIES_MAX);
    for (index, address) in addresses.iter().take(TRIES_MAX).enumerate() {
        // A silent first address leaves its share of the time to the next.
        let share = u32::try_from(tries.saturating_sub(index)).unwrap_or(1);
        let now = Instant::now();
        let until = now + deadline.saturating_duration_since(now) / share.max(1);
        last = match timeout_at(until, TcpStream::connect(SocketAddr::new(*address, port))).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
            Ok(Err(error)) => Error::Connect(error),
            Err(_) => Error::ConnectionTimeout,
        };
    }
    Err(last)
}

fn server_name(host: &Host) -> Result<ServerName<'static>, Error> {
    match host {
        Host::Address(address) => Ok(ServerName::from(*address)),
        Host::Name(name) => ServerName::try_from(name.clone()).map_err(|_| Error::HttpRequestUriInvalid),
    }
}

fn tls_error(error: io::Error) -> Error {
    let certificate = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match certificate {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        _ => Error::Tls(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority() -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate().unwrap();
        let authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
        authority.self_signed(&key).unwrap().der().clone()
    }

    /// What the system gives when it has no descriptor left.
    fn unread() -> CertificateResult {
        let inner = io::Error::from_raw_os_error(rustix::io::Errno::MFILE.raw_os_error());
        let path = "/etc/ssl/cert.pem".into();
        let mut loaded = CertificateResult::default();
        loaded.errors.push(rustls_native_certs::Error {
            context: "opening directory",
            kind: ErrorKind::Io { inner, path },
        });
        loaded
    }

    #[test]
    fn a_store_without_any_authority_is_not_one() {
        for loaded in [CertificateResult::default(), unread()] {
            assert!(matches!(roots(loaded, &[]), Err(Error::InternalError(Some(_)))));
        }
        let (store, keep) = roots(CertificateResult::default(), &[authority()]).unwrap();
        assert_eq!((store.len(), keep), (1, Keep::Yes));
    }

    #[test]
    fn authorities_that_could_not_be_read_are_read_again_whatever_is_added() {
        let (store, keep) = roots(unread(), &[authority()]).unwrap();
        assert_eq!((store.len(), keep), (1, Keep::No));
        // Some of them are those that there are: one file may be nobody's to read.
        let mut some = unread();
        some.certs.push(authority());
        assert_eq!(roots(some, &[authority()]).unwrap().1, Keep::Yes);
    }
}
