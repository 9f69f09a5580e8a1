//! Makes settings of the TLS library from files: the one place where versions, tickets, early data and protocols are
//! decided.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aral_contract::{Clock, Digest};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{InconsistentKeys, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::files::Files;
use super::ocsp::{self, OcspError, Staple};
use super::{BadStaple, ClientAuth, ClientOptions, TlsError, TlsOptions, lists};

/// What a client may speak inside of TLS, best first. One that offers other names alone is refused (RFC 7301, section 3.2).
pub(super) const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Settings that are in force together.
pub(super) struct Settings {
    pub(super) server: Arc<ServerConfig>,
    /// None: callers are not asked for certificates.
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Of the files.
    pub(super) digest: Digest,
    /// Of the file of the certificate alone.
    certificate: Digest,
    /// When the certificate is valid, in seconds since 1970.
    valid: RangeInclusive<i64>,
    /// Somebody knows that it is not valid now.
    told_over: AtomicBool,
    shown: Arc<Shown>,
    /// What the file of the OCSP response says; none: there is no such file.
    staple: Option<Staple>,
    /// Somebody knows that it is not sent.
    told: AtomicBool,
    /// Somebody knows that none is sent, not even one of before.
    told_none: AtomicBool,
}

impl Settings {
    /// `before` is what the listener has until then. A certificate that it shows already is no worse for being over, and keeps nothing
    /// that was revoked from being taken. An OCSP response that it has for the same certificate is no worse for a bad one that came after it:
    /// who is on the way puts that there, or a responder that is busy.
    pub(super) fn make(
        options: &TlsOptions,
        files: &Files,
        clock: &Arc<dyn Clock>,
        bad: BadStaple,
        before: Option<&Self>,
    ) -> Result<Self, TlsError> {
        let certificate = Digest::of(&files.certificate);
        let is_shown = before.is_some_and(|before| before.certificate == certificate);
        let provider = Arc::new(aws_lc_rs::default_provider());
        let chain = certificates(&options.certificate_file, &files.certificate)?;
        let now = clock.now().as_second();
        let valid = check(options, &chain, now, is_shown)?;
        let staple = read_staple(options, files, &chain)?;
        if bad == BadStaple::Refused {
            check_staple(options, staple.as_ref(), now)?;
        }
        let plain = certified(options, chain, &files.key, &provider)?;
        let read = match (&staple, &files.ocsp) {
            (Some(Ok(times)), Some(Ok(response))) => Some((times.clone(), response.clone())),
            (Some(Ok(_) | Err(_)) | None, _) => None,
        };
        let kept = match (staple.as_ref().and_then(|staple| ocsp::fault(staple, now)), before) {
            (Some(fault), Some(before)) if is_shown && fault != OcspError::NotGood => before.shown.response(now),
            (Some(_) | None, _) => None,
        };
        // One that names no end counts on newer ones that can be had at any time. It would be sent for as long as the file is bad.
        let kept = kept.filter(|(times, _)| *times.end() < i64::MAX);
        let stapled = read.into_iter().chain(kept).map(|(times, response)| {
            let ocsp = Some(response);
            (times, Arc::new(CertifiedKey { ocsp, ..plain.clone() }))
        });
        let shown = Arc::new(Shown {
            stapled: stapled.collect(),
            plain: Arc::new(plain),
            clock: Arc::clone(clock),
        });
        let verifier = match (&options.clients, &files.client_ca) {
            (Some(clients), Some(ca)) => Some(verifier(clients, ca, &files.crls, &provider)?),
            (Some(_), None) | (None, _) => None,
        };
        let time: Arc<dyn TimeProvider> = Arc::new(HostTime(Arc::clone(clock)));
        let builder = ServerConfig::builder_with_details(provider, time)
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsError::Version)?;
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
            None => builder.with_no_client_auth(),
        };
        let mut server = builder.with_cert_resolver(shown.clone());
        // Every connection shows its certificate anew: a session that is taken up again would outlive a revocation, and what
        // comes before the handshake ends (early data) can be sent twice by whoever recorded it.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        server.max_tls13_tickets = 0;
        server.max_early_data_size = 0;
        server.alpn_protocols = PROTOCOLS.iter().map(|name| name.to_vec()).collect();
        Ok(Self {
            server: Arc::new(server),
            verifier,
            digest: files.digest(),
            certificate,
            valid,
            told_over: AtomicBool::new(false),
            shown,
            staple,
            told: AtomicBool::new(false),
            told_none: AtomicBool::new(false),
        })
    }

    /// Whether the certificate is not valid now and nobody knows it yet. Whoever asks does from then on.
    pub(super) fn outlives_certificate(&self, now: i64) -> bool {
        is_news(&self.told_over, !self.valid.contains(&now))
    }

    /// Why there is an OCSP response that is not sent now, and whether the one before it is, if nobody knows it yet. Whoever asks does from
    /// then on.
    pub(super) fn lacks_staple(&self, now: i64) -> Option<String> {
        let why = self.staple.as_ref().and_then(|staple| ocsp::fault(staple, now));
        let sends_none = why.is_some() && self.shown.stapled(now).is_none();
        let news = [is_news(&self.told, why.is_some()), is_news(&self.told_none, sends_none)];
        let instead = if sends_none {
            "none is sent"
        } else {
            "the one before it is sent while it is in its time"
        };
        why.filter(|_| news.contains(&true))
            .map(|why| format!("{why}; {instead}"))
    }
}

/// Whether something is so that was not when this was asked last: what was too early and is in its time now may be over later.
fn is_news(told: &AtomicBool, is_so: bool) -> bool {
    let was_told = told.swap(is_so, Ordering::Relaxed);
    is_so && !was_told
}

/// The certificate, and with it the OCSP response while that is in its time: clients that look at one that is over end the
/// handshake, and take the certificate without any.
#[derive(Debug)]
struct Shown {
    plain: Arc<CertifiedKey>,
    /// With each response that may be sent, and when; the first that is in its time is.
    stapled: Vec<(RangeInclusive<i64>, Arc<CertifiedKey>)>,
    clock: Arc<dyn Clock>,
}

impl Shown {
    fn stapled(&self, now: i64) -> Option<&(RangeInclusive<i64>, Arc<CertifiedKey>)> {
        self.stapled.iter().find(|(times, _)| times.contains(&now))
    }

    /// The response that is sent now.
    fn response(&self, now: i64) -> Option<(RangeInclusive<i64>, Vec<u8>)> {
        let (times, stapled) = self.stapled(now)?;
        Some((times.clone(), stapled.ocsp.clone()?))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let stapled = self.stapled(self.clock.now().as_second());
        Some(Arc::clone(stapled.map_or(&self.plain, |(_, stapled)| stapled)))
    }
}

/// Everything of one kind that PEM holds, at least one.
pub(super) fn from_pem<T: PemObject>(path: &Path, pem: &[u8], wanted: &'static str) -> Result<Vec<T>, TlsError> {
    let all = T::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|error| TlsError::Pem {
        path: path.to_owned(),
        source: error.into(),
    })?;
    if all.is_empty() {
        return Err(TlsError::Missing {
            path: path.to_owned(),
            wanted,
        });
    }
    Ok(all)
}

pub(super) fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    from_pem(path, pem, "certificate")
}

/// A chain with the key of its first certificate.
fn certified(
    options: &TlsOptions,
    chain: Vec<CertificateDer<'static>>,
    key: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let path = || options.key_file.clone();
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
        _ if has_passphrase(key) => TlsError::Passphrase { path: path() },
        pem::Error::NoItemsFound => TlsError::Missing {
            path: path(),
            wanted: "private key",
        },
        error => TlsError::Pem {
            path: path(),
            source: error.into(),
        },
    })?;
    let key = provider.key_provider.load_private_key(key);
    let certified = CertifiedKey::new(chain, key.map_err(|_| TlsError::KeyKind { path: path() })?);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => Err(TlsError::Key {
            key: path(),
            certificate: options.certificate_file.clone(),
        }),
        Err(source) => Err(TlsError::Certificate {
            path: options.certificate_file.clone(),
            source: Some(source),
        }),
    }
}

/// Whether PEM has a key that only a passphrase opens: `ENCRYPTED PRIVATE KEY` of PKCS #8 (RFC 5958), or the field
/// `Proc-Type: 4,ENCRYPTED` (RFC 1421) of older files.
fn has_passphrase(pem: &[u8]) -> bool {
    const WORD: &[u8] = b"ENCRYPTED";
    pem.windows(WORD.len()).any(|part| part == WORD)
}

/// The first certificate of a chain.
fn own<'a>(options: &TlsOptions, chain: &'a [CertificateDer<'_>]) -> Result<X509Certificate<'a>, TlsError> {
    let unreadable = || TlsError::Certificate {
        path: options.certificate_file.clone(),
        source: None,
    };
    let own = chain.first().ok_or_else(unreadable)?;
    let (_, own) = X509Certificate::from_der(own).map_err(|_| unreadable())?;
    Ok(own)
}

/// What every client would refuse is refused here, where somebody is told why, unless it is shown already. The time of the certificate.
fn check(
    options: &TlsOptions,
    chain: &[CertificateDer<'_>],
    now: i64,
    is_shown: bool,
) -> Result<RangeInclusive<i64>, TlsError> {
    let own = own(options, chain)?;
    let validity = own.validity();
    let valid = validity.not_before.timestamp()..=validity.not_after.timestamp();
    if !valid.contains(&now) && !is_shown {
        return Err(TlsError::Time {
            path: options.certificate_file.clone(),
            from: validity.not_before.to_string(),
            to: validity.not_after.to_string(),
            valid,
        });
    }
    Ok(valid)
}

/// What the OCSP response is for the certificate; none: there is no response.
pub(super) fn read_staple(
    options: &TlsOptions,
    files: &Files,
    chain: &[CertificateDer<'_>],
) -> Result<Option<Staple>, TlsError> {
    let Some(response) = &files.ocsp else {
        return Ok(None);
    };
    let own = own(options, chain)?;
    let response = response.as_ref().map_err(OcspError::clone);
    Ok(Some(
        response.and_then(|response| ocsp::check(response, own.raw_serial())),
    ))
}

/// An OCSP response that every client would refuse now is refused here, where somebody is told why.
fn check_staple(options: &TlsOptions, staple: Option<&Staple>, now: i64) -> Result<(), TlsError> {
    let fault = staple.and_then(|staple| ocsp::fault(staple, now));
    match (&options.ocsp_file, fault) {
        (Some(path), Some(source)) => Err(TlsError::Ocsp {
            path: path.clone(),
            source,
        }),
        (Some(_), None) | (None, _) => Ok(()),
    }
}

fn verifier(
    clients: &ClientOptions,
    ca: &[u8],
    crls: &[Vec<u8>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for root in certificates(&clients.ca_file, ca)? {
        roots.add(root).map_err(|source| TlsError::Root {
            path: clients.ca_file.clone(),
            source,
        })?;
    }
    let lists = lists::newest_first(clients, crls)?;
    // A list that is over says nothing about today, so that with lists every certificate needs one that is not.
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .with_crls(lists)
        .enforce_revocation_expiration();
    let builder = match clients.auth {
        ClientAuth::Required => builder,
        ClientAuth::Optional => builder.allow_unauthenticated(),
    };
    builder.build().map_err(TlsError::Clients)
}

/// The clock of the host, as the TLS library asks for it.
#[derive(Debug)]
struct HostTime(Arc<dyn Clock>);

impl TimeProvider for HostTime {
    fn current_time(&self) -> Option<UnixTime> {
        unix_time(self.0.as_ref())
    }
}

/// None before 1970, when no certificate is valid.
pub(super) fn unix_time(clock: &dyn Clock) -> Option<UnixTime> {
    let seconds = u64::try_from(clock.now().as_second()).ok()?;
    Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds)))
}
