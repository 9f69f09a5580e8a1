//! TLS of one listener as it is now, and how it becomes another one: when it is told, or when files were seen to change.
//! Files that cannot be taken change nothing, and connections that are open stay open.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aral_contract::failure::chain;
use aral_contract::{Clock, Digest};
use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::files::Files;
use super::settings::{self, Settings};
use super::{ClientAuth, ClientCertificate, Late, TlsError, TlsOptions};
use crate::bounds;
use crate::door::Door;
use crate::stage::{Current, Stage};

/// One listener's.
pub(crate) struct Tls {
    options: TlsOptions,
    clock: Arc<dyn Clock>,
    now: ArcSwap<Settings>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({})", self.options.certificate_file.display())
    }
}

/// A connection whose handshake has ended.
pub(crate) type Secured<S> = (TlsStream<S>, Option<Arc<ClientCertificate>>);

impl Tls {
    /// Reads the files.
    pub(crate) fn open(options: TlsOptions, clock: Arc<dyn Clock>, late: Late) -> Result<Self, TlsError> {
        let files = Files::read(&options)?;
        let settings = Settings::make(&options, &files, &clock, late)?;
        Ok(Self {
            options,
            clock,
            now: ArcSwap::from_pointee(settings),
        })
    }

    /// The handshake with the settings of this moment.
    pub(crate) async fn accept<S>(&self, stream: S) -> std::io::Result<Secured<S>>
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let settings = self.settings();
        let stream = TlsAcceptor::from(Arc::clone(&settings.server)).accept(stream).await?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let chain = chain.iter().map(|one| one.clone().into_owned()).collect();
        let certificate = ClientCertificate::new(chain, settings.digest);
        Ok((stream, certificate.map(Arc::new)))
    }

    /// Whether nobody comes in without a certificate.
    pub(crate) fn requires_certificates(&self) -> bool {
        let clients = self.options.clients.as_ref();
        clients.is_some_and(|clients| clients.auth == ClientAuth::Required)
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        self.now.load_full()
    }

    /// Whether a connection with this certificate would be taken now.
    pub(super) fn accepts(&self, settings: &Settings, chain: &[CertificateDer<'_>]) -> bool {
        let (Some(verifier), Some((own, rest)), Some(now)) = (
            &settings.verifier,
            chain.split_first(),
            settings::unix_time(self.clock.as_ref()),
        ) else {
            return false;
        };
        verifier.verify_client_cert(own, rest, now).is_ok()
    }
}

/// Reads the files of TLS anew, of all listeners together. Clones are the same one.
#[derive(Debug, Clone)]
pub struct TlsReloader(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    current: Current,
    /// One at a time: the last one that reads is the last one that changes something.
    turn: Mutex<()>,
}

/// What the files of one listener came to.
struct Fresh<'a> {
    door: &'a Door,
    tls: &'a Tls,
    settings: Settings,
}

impl TlsReloader {
    pub(crate) fn new(current: Current) -> Self {
        Self(Arc::new(Inner {
            current,
            turn: Mutex::new(()),
        }))
    }

    /// Takes the files as they are now, of all listeners or of none. Blocks while it reads.
    ///
    /// # Errors
    /// Files that cannot be taken: what was in force stays in force. Both are recorded.
    pub fn reload(&self) -> Result<(), TlsError> {
        let _turn = self.0.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let stage = self.stage();
        let mut fresh = Vec::new();
        for (door, tls) in secured(&stage) {
            let made = Files::read(&tls.options)
                .and_then(|files| Settings::make(&tls.options, &files, &tls.clock, Late::LeftOut));
            match made {
                Ok(settings) => fresh.push(Fresh { door, tls, settings }),
                Err(error) => {
                    let address = door.listener.address;
                    tracing::warn!(%address, error = %chain(&error), "files of TLS were not taken, the old ones stay in force");
                    door.shared.record_tls_refused(address);
                    return Err(error);
                }
            }
        }
        for Fresh { door, tls, settings } in fresh {
            let after = settings.digest;
            let before = tls.now.swap(Arc::new(settings)).digest;
            if before != after {
                tracing::info!(address = %door.listener.address, "files of TLS were renewed");
                door.shared.record_tls_renewed(before, after);
            }
            tell(door, tls);
        }
        Ok(())
    }

    /// What all files say now; none: one of them cannot be read.
    fn look(&self) -> Option<Vec<Digest>> {
        let digest = |(_, tls): (_, &Tls)| Some(Files::read(&tls.options).ok()?.digest());
        secured(&self.stage()).map(digest).collect()
    }

    fn in_force(&self) -> Vec<Digest> {
        secured(&self.stage()).map(|(_, tls)| tls.settings().digest).collect()
    }

    fn stage(&self) -> Arc<Stage> {
        self.0.current.stage()
    }
}

fn secured(stage: &Stage) -> impl Iterator<Item = (&Door, &Tls)> {
    let doors = stage.doors.iter();
    doors.filter_map(|door| door.tls.as_deref().map(|tls| (door.as_ref(), tls)))
}

/// Says once that an OCSP response is not sent, since it is not in its time.
fn tell(door: &Door, tls: &Tls) {
    if tls.settings().lacks_staple(tls.clock.now().as_second()) {
        let address = door.listener.address;
        tracing::warn!(%address, "the OCSP response is not in its time: certificates are shown without one");
        door.shared.record_tls_unstapled(address);
    }
}

/// What is known from one look at the files to the next.
struct Look {
    seen: Option<Vec<Digest>>,
    tried: Option<Vec<Digest>>,
    /// When what was tried may be taken, in seconds since 1970; none: not as it is.
    begins: Option<i64>,
}

impl Look {
    fn again(self, reloader: &TlsReloader) -> Self {
        let stage = reloader.stage();
        for (door, tls) in secured(&stage) {
            tell(door, tls);
        }
        let now = reloader.look();
        let second = stage.shared.clock.now().as_second();
        let is_new = now != self.tried || self.begins.is_some_and(|begins| begins <= second);
        if now != self.seen || !is_new {
            return Self { seen: now, ..self };
        }
        // What cannot be read is tried too: whoever reads the records has to know.
        let refused = if now.as_ref() == Some(&reloader.in_force()) {
            None
        } else {
            reloader.reload().err()
        };
        Self {
            seen: now.clone(),
            tried: now,
            begins: refused.and_then(|error| error.begins()),
        }
    }
}

/// Looks at the files now and then, for ever. A change is taken once two looks saw the same one, since files are replaced
/// one after the other; and one that cannot be taken is tried once, or once more when its time has come.
pub(crate) async fn watch(reloader: TlsReloader) {
    let in_force = Some(reloader.in_force());
    let mut look = Look {
        seen: in_force.clone(),
        tried: in_force,
        begins: None,
    };
    loop {
        let every = reloader.stage().bounds().tls_look_ms;
        tokio::time::sleep(bounds::ms(every)).await;
        let one = reloader.clone();
        let looked = tokio::task::spawn_blocking(move || look.again(&one));
        match looked.await {
            Ok(after) => look = after,
            Err(error) => {
                tracing::error!(%error, "nobody looks at the files of TLS any more");
                return std::future::pending().await;
            }
        }
    }
}
