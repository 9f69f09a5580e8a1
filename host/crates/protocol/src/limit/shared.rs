//! Limits that several servers share, in Redis: one script for all keys of a request, which counts all or none, by the
//! server's own clock. While the server does not answer nobody waits for it, one task looks whether it is there, and both
//! changes are recorded, once each.

mod script;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aral_contract::event::Severity;
use aral_contract::{AuditSink, Clock, Event, EventKind, rule};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, IntoConnectionInfo as _, RedisResult, Script, TlsCertificates};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::charge::{Charge, Key, Refused, Verdict};
use super::rates::{Limit, Rates};
use super::server::{RedisOptions, WhenDown};
use crate::meters;
use script::{Act, Answered};
use state::{Connected, Loss, State};

/// How often a server that does not answer is tried. Also the least time between two losses, so that one that answers and
/// fails in turns does not fill the audit log.
const RETRY: Duration = Duration::from_secs(1);

/// How often a server that answers is asked where nobody else asks. Whatever it sends meanwhile is kept until somebody does:
/// stops one that sends without end from filling memory, and lets one that is gone be known before a caller waits for it.
const LOOK: Duration = Duration::from_secs(1);

/// How long the answer to a question is waited for after nobody does who asked it: what it counts is given back. No longer, for
/// whatever the server sends meanwhile is kept.
const LATE: Duration = Duration::from_secs(1);

/// Why a server counts as one that is down.
const NOT_IN_TIME: &str = "it did not answer in time";

/// Why the shared limits cannot be asked. The log has the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Down;

/// The limits. The task that looks after the connection ends with this.
#[derive(Debug)]
pub(crate) struct Shared {
    link: Arc<Link>,
    keeper: AbortHandle,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Takes both changes.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sink: Arc<dyn AuditSink>,
}

#[derive(Debug)]
struct Link {
    state: Mutex<State>,
    lost: Notify,
    script: Script,
    options: RedisOptions,
    recorder: Recorder,
}

impl Shared {
    /// Connects, or notes that the server is down; it is looked after from here on.
    ///
    /// # Errors
    /// Certificates that are none.
    pub(crate) async fn start(options: RedisOptions, recorder: Recorder) -> RedisResult<Self> {
        let client = client(&options)?;
        let link = Arc::new(Link {
            state: Mutex::default(),
            lost: Notify::new(),
            script: Script::new(include_str!("take.lua")),
            options,
            recorder,
        });
        link.try_connect(&client, 0).await;
        let keeper = tokio::spawn(keep(Arc::clone(&link), client)).abort_handle();
        Ok(Self { link, keeper })
    }

    /// Which server, and how it is spoken to.
    pub(crate) fn options(&self) -> &RedisOptions {
        &self.link.options
    }

    /// Why the server cannot be asked; none: it can.
    pub(crate) fn fault(&self) -> Option<String> {
        let why = self.link.lock().why_down.clone()?;
        let when_down = self.when_down().as_str();
        Some(format!(
            "the shared limits cannot be asked (when_down = \"{when_down}\"): {why}"
        ))
    }

    /// What holds while the server does not answer.
    pub(crate) fn when_down(&self) -> WhenDown {
        self.link.options.when_down
    }

    /// Counts all, or none. Also when what is put aside ends at the latest, in microseconds by the server's clock.
    pub(crate) async fn take(&self, charges: &[Charge]) -> Result<(Verdict, u64), Down> {
        // What can never pass need not be asked, and the script has no word for it.
        if let Some(never) = charges.iter().find(|charge| !charge.fits()) {
            return Ok((Verdict::Refused(Refused::new(never, 0, None)), 0));
        }
        let answered = self.link.run(charges, Act::Take).await?;
        Ok((answered.verdict, answered.end_us))
    }

    /// The call has ended for which this was put aside until then, and used so much of it. If the server does not answer, all of it
    /// counts from that end on.
    pub(crate) async fn end(&self, charge: Charge, used: u32, end_us: u64) {
        let used_ns = charge.ns_of(used);
        let _all_of_it_counts = self.link.run(&[charge], Act::GiveBack { used_ns, end_us }).await;
    }
}

/// What came of it, and the server's time in microseconds; the error is for the log.
type Answer = Result<(Answered, u64), String>;

impl Link {
    async fn run(self: &Arc<Self>, charges: &[Charge], act: Act) -> Result<Answered, Down> {
        let Connected { number, connection } = self.lock().connected.clone().ok_or(Down)?;
        let asking = Arc::clone(self).ask(connection.clone(), charges.to_vec(), act);
        let mut asking = Box::pin(asking);
        let answer = match tokio::time::timeout(self.timeout(), &mut asking).await {
            Ok(answer) => answer,
            Err(_elapsed) => {
                if matches!(act, Act::Take) {
                    tokio::spawn(Arc::clone(self).undo(asking, connection, charges.to_vec()));
                }
                Err(NOT_IN_TIME.to_owned())
            }
        };
        match answer {
            Ok((answered, _now)) => Ok(answered),
            Err(error) => {
                self.lose(number, &error);
                Err(Down)
            }
        }
    }

    /// Gives back what is counted by an answer that nobody waits for any more. On its own connection, since the server is taken for one
    /// that is down by then.
    async fn undo(
        self: Arc<Self>,
        asking: impl Future<Output = Answer> + Send,
        connection: MultiplexedConnection,
        charges: Vec<Charge>,
    ) {
        let undoing = async move {
            if let Ok((answered, _now)) = asking.await
                && let Verdict::Passed(_) = answered.verdict
            {
                let undo = Act::GiveBack {
                    used_ns: 0,
                    end_us: answered.end_us,
                };
                let _comes_back_with_time = self.ask(connection, charges, undo).await;
            }
        };
        let _comes_back_with_time = tokio::time::timeout(LATE, undoing).await;
    }

    /// Waits as long as the connection does.
    async fn ask(self: Arc<Self>, mut connection: MultiplexedConnection, charges: Vec<Charge>, act: Act) -> Answer {
        let question = script::question(&self.script, self.options.prefix.as_str(), &charges, act);
        let answer = question.invoke_async::<Vec<u64>>(&mut connection).await;
        let answer = answer.map_err(|error| error.to_string())?;
        script::read(&charges, &answer).ok_or_else(|| "it answered something else".to_owned())
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(self.options.timeout_ms)
    }

    /// One attempt.
    async fn try_connect(self: &Arc<Self>, client: &Client, number: u64) {
        match self.connect(client).await {
            Ok(connection) => self.came_up(Connected { number, connection }),
            Err(error) => self.went_down(&mut self.lock(), &error),
        }
    }

    /// What is asked is what requests ask, so that a server that takes connections and keeps nothing counts as down.
    async fn connect(self: &Arc<Self>, client: &Client) -> Result<MultiplexedConnection, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout()))
            .set_response_timeout(Some(self.timeout().saturating_add(LATE)));
        let connection = client.get_multiplexed_async_connection_with_config(&config);
        let connection = tokio::time::timeout(self.timeout(), connection).await;
        let connection = connection.map_err(|_elapsed| "it takes no connection in time".to_owned())?;
        let connection = connection.map_err(|error| error.to_string())?;
        let asking = Arc::clone(self).ask(connection.clone(), vec![probe()], Act::Take);
        let answer = tokio::time::timeout(self.timeout(), asking).await;
        let _taken = answer.map_err(|_elapsed| NOT_IN_TIME.to_owned())??;
        Ok(connection)
    }

    /// Whether the server still answers, without leaving anything there. One that does not is lost, as if a request had found
    /// that out.
    async fn look(self: &Arc<Self>) {
        let nothing = Act::GiveBack { used_ns: 0, end_us: 0 };
        let _answered = self.run(&[probe()], nothing).await;
    }

    /// Something failed on this connection.
    fn lose(&self, number: u64, error: &str) {
        let mut state = self.lock();
        if state
            .connected
            .as_ref()
            .is_some_and(|connected| connected.number == number)
        {
            self.went_down(&mut state, error);
            self.lost.notify_one();
        }
    }

    fn went_down(&self, state: &mut State, error: &str) {
        let loss = state.lose(error, Instant::now());
        meters::redis_answers(false);
        if loss != Loss::Known {
            let (why, when_down) = (state.why_down.as_deref(), self.options.when_down.as_str());
            tracing::warn!(error = %why.unwrap_or_default(), when_down, "the shared limits cannot be asked");
        }
        if loss == Loss::Begun {
            self.record(Severity::High, rule::RATES_REDIS_DOWN);
        }
    }

    fn came_up(&self, connected: Connected) {
        let mut state = self.lock();
        let was_down = state.find(connected);
        meters::redis_answers(true);
        if was_down {
            // Told as loudly as that they could not: else the log ends with that.
            tracing::warn!("the shared limits can be asked again");
            self.record(Severity::Info, rule::RATES_REDIS_UP);
        }
    }

    fn is_down(&self) -> bool {
        self.lock().connected.is_none()
    }

    fn record(&self, severity: Severity, rule: &'static str) {
        // Nobody waits for it: requests do for the lock.
        drop(self.recorder.sink.append(Event {
            at: self.recorder.clock.now(),
            trace: None,
            kind: EventKind::Security {
                severity,
                rule,
                subject: format!("when_down = \"{}\"", self.options.when_down.as_str()),
                reason: None,
                source: None,
            },
        }));
    }

    /// Held for a look or a change, and while a change is recorded, so that records come in the order of changes.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Connects anew as often as the connection is lost, and finds out that it is.
async fn keep(link: Arc<Link>, client: Client) {
    let mut number = 1_u64;
    let mut tried = Instant::now();
    loop {
        while link.is_down() {
            tokio::time::sleep_until(tried.checked_add(RETRY).unwrap_or(tried)).await;
            tried = Instant::now();
            link.try_connect(&client, number).await;
            number = number.saturating_add(1);
        }
        tokio::select! {
            () = link.lost.notified() => {}
            () = tokio::time::sleep(LOOK) => link.look().await,
        }
    }
}

/// What is asked to see whether the server answers. It counts against nobody.
fn probe() -> Charge {
    Charge::one(Key::new(Limit::Global, &["probe"]), Rates::default().global)
}

/// Connects to nothing yet.
pub(super) fn client(options: &RedisOptions) -> RedisResult<Client> {
    let url = options.url.url();
    let is_tls = url.scheme() == "rediss";
    let mut info = url.into_connection_info()?;
    if let Some(password) = &options.password {
        // Goes to the server alone, over TLS or within this machine.
        let text = String::from_utf8_lossy(password.expose());
        let settings = info.redis_settings().clone().set_password(text);
        info = info.set_redis_settings(settings);
    }
    if let Some(pem) = &options.ca_pem {
        check_certificates(pem)?;
    }
    if is_tls {
        let certificates = TlsCertificates {
            client_tls: None,
            root_cert: options.ca_pem.clone(),
        };
        Client::build_with_tls(info, certificates)
    } else {
        Client::open(info)
    }
}

/// The library takes a file without one, and then trusts nobody.
fn check_certificates(pem: &[u8]) -> RedisResult<()> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    if certificates.is_ok_and(|certificates| !certificates.is_empty()) {
        return Ok(());
    }
    Err((ErrorKind::InvalidClientConfig, "there is no certificate in it").into())
}

#[cfg(test)]
mod tests;
