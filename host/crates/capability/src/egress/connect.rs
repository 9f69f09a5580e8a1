//! Dialling a checked address, and TLS over it. The name of the certificate is the name of the URL; what was resolved is
//! not asked again.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aral_contract::host_pattern::{Host, Origin, Scheme};
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use rustls_native_certs::{CertificateResult, ErrorKind};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use wasmtime_wasi_http::Error;

/// Addresses of one name that are tried. Stops one request from dialling every address of a list.
pub(super) const TRIES_MAX: usize = 4;
/// After so long the authorities of the system are read again, where they could not be. Until then requests go on with what there is:
/// guests must not have files read and warnings written at their own rate.
const UNREAD_FOR: Duration = Duration::from_secs(5);

/// Reads the authorities of the system.
type Load = dyn Fn() -> CertificateResult + Send + Sync;

/// A connection of either kind.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// TLS for outgoing connections: versions 1.3 and 1.2, the authorities of the system and those the operator adds, and a whole
/// handshake each time.
pub(super) struct Tls {
    extra_roots: Arc<[CertificateDer<'static>]>,
    load: Arc<Load>,
    made: Arc<Mutex<Option<Made>>>,
}

/// What was made of the authorities that there were.
struct Made {
    /// None: why it could not be made.
    connector: Result<TlsConnector, String>,
    /// None: it is good for ever.
    until: Option<Instant>,
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
        Self::with(extra_roots, Arc::new(rustls_native_certs::load_native_certs))
    }

    fn with(extra_roots: Vec<CertificateDer<'static>>, load: Arc<Load>) -> Self {
        Self {
            extra_roots: extra_roots.into(),
            load,
            made: Arc::default(),
        }
    }

    /// What connects: made once, unless the authorities of the system could not be read. Whoever comes meanwhile waits for it. What was
    /// begun goes on when nobody waits any more: a guest says how long it waits, and the next one would begin anew.
    async fn connector(&self) -> Result<TlsConnector, Error> {
        let mut kept = Arc::clone(&self.made).lock_owned().await;
        let now = Instant::now();
        let is_good = |made: &&Made| made.until.is_none_or(|until| now < until);
        let connector = match kept.as_ref().filter(is_good) {
            Some(made) => made.connector.clone(),
            None => {
                let (load, extra_roots) = (Arc::clone(&self.load), Arc::clone(&self.extra_roots));
                let making = tokio::spawn(async move {
                    let (connector, keep) = match make(load, &extra_roots).await {
                        Ok((connector, keep)) => (Ok(connector), keep),
                        Err(error) => (Err(error), Keep::No),
                    };
                    let until = (keep == Keep::No).then(|| Instant::now() + UNREAD_FOR);
                    kept.insert(Made { connector, until }).connector.clone()
                });
                making.await.map_err(|error| error.to_string()).flatten()
            }
        };
        connector.map_err(|error| Error::InternalError(Some(error)))
    }
}

async fn make(load: Arc<Load>, extra_roots: &[CertificateDer<'static>]) -> Result<(TlsConnector, Keep), String> {
    // Reading the system's store takes tens of milliseconds, off the executor's threads.
    let loaded = tokio::task::spawn_blocking(move || load()).await;
    let loaded = loaded.map_err(|error| error.to_string())?;
    let (roots, keep) = roots(loaded, extra_roots)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&versions);
    let builder = builder.map_err(|error| error.to_string())?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A session that is taken up again skips the certificate, for as long as the server gives new tickets, and tells the server
    // which requests are of one host, whatever their personas.
    config.resumption = Resumption::disabled();
    Ok((TlsConnector::from(Arc::new(config)), keep))
}

/// Whether authorities are those of the requests to come too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Yes,
    No,
}

/// The authorities of the system, as far as they can be read, and those that are added. None at all is an error. Where none of the
/// system's could be read they are read again after a while: descriptors may be used up, or the store be rewritten at this moment.
/// What was read in part stays as it is: one file may be nobody's to read.
fn roots(loaded: CertificateResult, extra: &[CertificateDer<'static>]) -> Result<(RootCertStore, Keep), String> {
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
        return Err("the host has no authority that it could verify a server with".to_owned());
    }
    let keep = if system == 0 && is_unread { Keep::No } else { Keep::Yes };
    Ok((roots, keep))
}

/// Connects to one of the first [`TRIES_MAX`] addresses, in their order, before `deadline`.
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
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::FutureExt as _;

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
            assert!(roots(loaded, &[]).is_err_and(|error| error.contains("no authority")));
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

    #[tokio::test]
    async fn authorities_are_read_once_also_for_guests_that_do_not_wait() {
        let loads = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&loads);
        let load = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            CertificateResult::default()
        };
        let tls = Tls::with(vec![authority()], Arc::new(load));
        for _ in 0..20 {
            assert!(
                tls.connector().now_or_never().is_none(),
                "it takes longer than a guest waits"
            );
        }
        tls.connector().await.unwrap();
        assert_eq!(loads.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn authorities_that_cannot_be_read_are_not_read_at_the_rate_of_requests() {
        for extra in [vec![authority()], Vec::new()] {
            let loads = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&loads);
            let load = move || {
                counted.fetch_add(1, Ordering::Relaxed);
                unread()
            };
            let has_authority = !extra.is_empty();
            let tls = Arc::new(Tls::with(extra, Arc::new(load)));
            for expected in 1..3 {
                let requests: Vec<_> = (0..100)
                    .map(|_| {
                        let tls = Arc::clone(&tls);
                        tokio::spawn(async move { tls.connector().await.is_ok() })
                    })
                    .collect();
                for request in requests {
                    assert_eq!(request.await.unwrap(), has_authority);
                }
                assert_eq!(loads.load(Ordering::Relaxed), expected);
                tokio::time::advance(UNREAD_FOR).await;
            }
        }
    }
}
