//! TLS of one listener as it is now, and how it becomes another one: when it is told, or when files were seen to change.
//! Files that cannot be taken change nothing of their listener, and connections that are open stay open.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aral_contract::failure::chain;
use aral_contract::{Clock, Digest};
use arc_swap::ArcSwap;
use rustls::pki_types::CertificateDer;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::files::Files;
use super::settings::{self, Settings};
use super::{BadStaple, ClientAuth, ClientCertificate, TlsError, TlsOptions};
use crate::bounds;
use crate::door::{Door, Shared};
use crate::stage::{Current, Stage};

/// One listener's.
pub(crate) struct Tls {
    options: TlsOptions,
    clock: Arc<dyn Clock>,
    now: ArcSwap<Made>,
    /// How often somebody began to read the files again.
    readings: AtomicU64,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tls({})", self.options.certificate_file.display())
    }
}

/// A connection whose handshake has ended.
pub(crate) type Secured<S> = (TlsStream<S>, Option<Arc<ClientCertificate>>);

impl Tls {
    /// Reads the files. `before` is what the listener has until then, whatever it is made from. Whoever names another OCSP response than
    /// before is there and learns what is wrong with it. A server with such a line would not start.
    pub(crate) fn open(options: TlsOptions, clock: Arc<dyn Clock>, before: Option<&Self>) -> Result<Self, TlsError> {
        let bad = if before.is_some_and(|before| before.options.ocsp_file == options.ocsp_file) {
            BadStaple::LeftOut
        } else {
            BadStaple::Refused
        };
        let files = Files::read(&options, bad)?;
        let before = before.map(Self::settings);
        let settings = Settings::make(&options, &files, &clock, bad, before.as_deref())?;
        Ok(Self {
            options,
            clock,
            now: ArcSwap::from_pointee(Made {
                reading: 0,
                settings: Arc::new(settings),
            }),
            readings: AtomicU64::new(0),
        })
    }

    /// Reads the files again. Nothing changes yet.
    pub(crate) fn read_again(self: &Arc<Self>) -> Result<Fresh, TlsError> {
        Ok(Fresh {
            tls: Arc::clone(self),
            made: self.make(self.read())?,
        })
    }

    pub(super) fn read(&self) -> Read {
        // First of all: who begins later reads at least what is there now.
        let reading = self.readings.fetch_add(1, Ordering::AcqRel).saturating_add(1);
        let before = self.settings();
        let files = Files::read(&self.options, BadStaple::LeftOut);
        Read { reading, before, files }
    }

    fn make(&self, read: Read) -> Result<Arc<Made>, TlsError> {
        let Read { reading, before, files } = read;
        let settings = Settings::make(&self.options, &files?, &self.clock, BadStaple::LeftOut, Some(&before))?;
        let settings = Arc::new(settings);
        Ok(Arc::new(Made { reading, settings }))
    }

    /// These hold from now on, unless the reading of what holds began later: that one has seen all that was there when this one began.
    /// It waits for no disk. Returns what held until now; none: it still does.
    fn hold(&self, made: &Arc<Made>) -> Option<Arc<Made>> {
        let newer = |held: &Arc<Made>| Arc::clone(if held.reading > made.reading { held } else { made });
        let before = self.now.rcu(newer);
        (before.reading < made.reading).then_some(before)
    }

    /// Whether it is made from these files.
    pub(crate) fn is_of(&self, options: &TlsOptions) -> bool {
        self.options == *options
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

    /// Whether callers are asked for certificates.
    pub(crate) fn asks_for_certificates(&self) -> bool {
        self.options.clients.is_some()
    }

    /// Whether nobody comes in without a certificate.
    pub(crate) fn requires_certificates(&self) -> bool {
        let clients = self.options.clients.as_ref();
        clients.is_some_and(|clients| clients.auth == ClientAuth::Required)
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.now.load().settings)
    }

    /// Of the files that are in force.
    pub(crate) fn digest(&self) -> Digest {
        self.settings().digest
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

/// Files as they were read.
pub(super) struct Read {
    /// Which reading of the listener's it is, in the order in which they began.
    reading: u64,
    /// What held before they were.
    before: Arc<Settings>,
    files: Result<Files, TlsError>,
}

/// What was made from them.
struct Made {
    reading: u64,
    settings: Arc<Settings>,
}

/// Files of a listener that were read again and do not hold yet.
pub(crate) struct Fresh {
    tls: Arc<Tls>,
    made: Arc<Made>,
}

impl Fresh {
    /// They hold from now on, or newer ones that somebody has taken since they were read.
    pub(crate) fn take(self) {
        let _before = self.tls.hold(&self.made);
    }
}

/// Reads the files of TLS anew, of each listener for itself. Clones are the same one.
#[derive(Debug, Clone)]
pub struct TlsReloader(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    current: Current,
    /// One at a time: the last one that reads is the last one that changes something.
    turn: Mutex<()>,
}

impl TlsReloader {
    pub(crate) fn new(current: Current) -> Self {
        Self(Arc::new(Inner {
            current,
            turn: Mutex::new(()),
        }))
    }

    /// Takes the files as they are now: of each listener all of them, or none. Blocks while it reads.
    ///
    /// # Errors
    /// Files that cannot be taken, of the first listener that has some: what was in force there stays in force, and the others have
    /// theirs. All of it is recorded.
    pub fn reload(&self) -> Result<(), TlsError> {
        let _turn = self.turn();
        let stage = self.stage();
        let taken = secured(&stage).map(|(door, tls)| take(door, tls, tls.read()));
        // One after the other, and also those behind one that is refused.
        let taken: Vec<_> = taken.collect();
        taken.into_iter().collect()
    }

    /// Looks at the files of each listener, and takes what is new.
    pub(super) fn look(&self, mut looks: Looks) -> Looks {
        let _turn = self.turn();
        let stage = self.stage();
        let again = |(door, tls): (&Door, &Tls)| {
            let address = door.listener.address;
            let look = looks.remove(&address).unwrap_or_else(|| Look::of(tls));
            (address, look.again(door, tls))
        };
        secured(&stage).map(again).collect()
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.0.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stage(&self) -> Arc<Stage> {
        self.0.current.stage()
    }
}

fn secured(stage: &Stage) -> impl Iterator<Item = (&Door, &Tls)> {
    let doors = stage.doors.iter();
    doors.filter_map(|door| door.tls.as_deref().map(|tls| (door.as_ref(), tls)))
}

/// Has a listener take its files, unless it has newer ones by now, or says why it does not.
pub(super) fn take(door: &Door, tls: &Tls, read: Read) -> Result<(), TlsError> {
    let address = door.listener.address;
    let made = tls.make(read);
    let made = made.inspect_err(|error| {
        tell_refused(&door.shared, address, error);
    })?;
    let after = made.settings.digest;
    let before = tls.hold(&made).map(|before| before.settings.digest);
    if let Some(before) = before.filter(|before| *before != after) {
        tracing::info!(%address, "files of TLS were renewed");
        door.shared.record_tls_files(Some(before), after);
    }
    tell(door, tls);
    Ok(())
}

/// Says that a listener goes on with the files of before. Returns why.
fn tell_refused(shared: &Shared, address: SocketAddr, error: &TlsError) -> String {
    let why = chain(error);
    tracing::warn!(%address, error = %why, "files of TLS were not taken, the old ones stay in force");
    shared.record_tls_refused(address, why.clone());
    why
}

/// The same, and a sentence for whoever had another configuration read.
pub(crate) fn left_out(shared: &Shared, address: SocketAddr, error: &TlsError) -> String {
    let why = tell_refused(shared, address, error);
    format!("the files of TLS of the listener of `{address}` were not taken, the old ones stay in force: {why}")
}

/// Says once that an OCSP response is not sent, and why, and that a certificate is shown that is not in its time.
fn tell(door: &Door, tls: &Tls) {
    let (settings, now) = (tls.settings(), tls.clock.now().as_second());
    let address = door.listener.address;
    if settings.outlives_certificate(now) {
        tracing::warn!(%address, "the certificate is not in its time: clients refuse it");
        door.shared.record_tls_over(address);
    }
    if let Some(why) = settings.lacks_staple(now) {
        tracing::warn!(%address, error = %why, "the OCSP response of the file is not sent");
        door.shared.record_tls_unstapled(address, why);
    }
}

/// What is known from one look at the files to the next, by the address of the listener.
pub(super) type Looks = BTreeMap<SocketAddr, Look>;

/// What the files say, or why one of them cannot be read.
type Said = Result<Digest, String>;

/// The same of one listener.
#[derive(Debug)]
pub(super) struct Look {
    seen: Said,
    /// What is not tried again.
    refused: Option<Refused>,
}

/// Files that were not taken.
#[derive(Debug)]
struct Refused {
    files: Said,
    /// When they may be taken, in seconds since 1970; none: not as they are.
    valid: Option<RangeInclusive<i64>>,
}

impl Look {
    fn of(tls: &Tls) -> Self {
        Self {
            seen: Ok(tls.settings().digest),
            refused: None,
        }
    }

    /// A change is taken once two looks saw the same one, since files are replaced one after the other; and one that cannot be
    /// taken is tried once, or once more when its time has come.
    fn again(self, door: &Door, tls: &Tls) -> Self {
        tell(door, tls);
        let read = tls.read();
        let now = read.files.as_ref().map(Files::digest).map_err(|error| chain(error));
        if now != self.seen {
            return Self { seen: now, ..self };
        }
        // What is in force may be another one than was taken here last: a configuration that was read again took its own.
        if now == Ok(tls.settings().digest) {
            return Self { refused: None, ..self };
        }
        let second = tls.clock.now().as_second();
        let may_be_taken = |refused: &Refused| refused.valid.as_ref().is_some_and(|valid| valid.contains(&second));
        let is_refused = |refused: &Refused| refused.files == now && !may_be_taken(refused);
        if self.refused.as_ref().is_some_and(is_refused) {
            return self;
        }
        // What cannot be read is tried too: whoever reads the records has to know.
        let refused = take(door, tls, read).err().map(|error| Refused {
            files: now.clone(),
            valid: error.valid(),
        });
        Self { seen: now, refused }
    }
}

/// Looks at the files now and then, for ever.
pub(crate) async fn watch(reloader: TlsReloader) {
    let mut looks = Looks::new();
    loop {
        let every = reloader.stage().bounds().tls_look_ms;
        tokio::time::sleep(bounds::ms(every)).await;
        let one = reloader.clone();
        let looked = tokio::task::spawn_blocking(move || one.look(looks));
        match looked.await {
            Ok(after) => looks = after,
            Err(error) => {
                tracing::error!(%error, "nobody has looked at the files of TLS this time");
                looks = Looks::new();
            }
        }
    }
}
