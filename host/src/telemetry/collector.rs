//! The OpenTelemetry collector that the operator names: how the SDK reaches it. The connection is that of the audit sinks,
//! with the same rules: no redirect, TLS unless it is this machine, the credential read anew each time.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use aral_audit::sink::Transport as _;
use aral_contract::Failure;
use aral_runtime::outbound::Outbound;
use aral_runtime::threads;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::verdict::Verdict;
use crate::audit::transport::Https;
use crate::config::audit::OtlpConfig;

/// What the operator writes it in.
pub(super) const TABLE: &str = "[telemetry.otlp]";
/// What the SDK sends, whatever it says.
const CONTENT_TYPE: &str = "application/x-protobuf";

/// The collector, with the thread on which everything is sent.
#[derive(Debug)]
pub(super) struct Collector {
    transport: Arc<Https>,
    pub(super) runtime: Handle,
    /// Dropped: what is being sent is given up.
    pub(super) leave: oneshot::Sender<()>,
}

/// Sends what is of one kind for the SDK, one request after the other, whichever thread it asks from.
#[derive(Clone)]
pub(super) struct Client {
    transport: Arc<Https>,
    runtime: Handle,
    /// Of the last request. The SDK makes one word of all that can go wrong.
    verdict: Arc<Mutex<Option<Verdict>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({:?})", self.transport)
    }
}

impl Collector {
    pub(super) fn start(config: &OtlpConfig, outbound: &Outbound) -> Result<Self, Failure> {
        let transport = Arc::new(Https::new(&config.server, TABLE, outbound)?);
        let (leave, left) = oneshot::channel::<()>();
        let (ready, made) = std::sync::mpsc::sync_channel(1);
        // Made in its thread: dropping a runtime in a task of another one would panic.
        let work = move || match threads::runtime(None) {
            Ok(runtime) => {
                let _waits_for_it = ready.send(Ok(runtime.handle().clone()));
                let _gone = runtime.block_on(left);
                // A file of a credential may never be read to its end: nobody waits for that.
                runtime.shutdown_background();
            }
            Err(error) => {
                let _waits_for_it = ready.send(Err(error));
            }
        };
        std::thread::Builder::new()
            .name("aral-telemetry".to_owned())
            .spawn(work)
            .map_err(threads::refused)?;
        let runtime = made.recv().map_err(Failure::internal)?.map_err(threads::refused)?;
        Ok(Self {
            transport,
            runtime,
            leave,
        })
    }

    /// For spans, or for metrics.
    pub(super) fn client(&self) -> Client {
        Client {
            transport: Arc::clone(&self.transport),
            runtime: self.runtime.clone(),
            verdict: Arc::default(),
        }
    }
}

impl Client {
    /// What became of the last request; none: there was none since it was last asked.
    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn judge(&self, verdict: Verdict) {
        *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
    }

    /// The address and the credential are those of the configuration, whatever the SDK read in the environment.
    async fn send(self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (transport, path) = (Arc::clone(&self.transport), request.uri().path().to_owned());
        let body = request.into_body().to_vec();
        let sending = async move { transport.post(&path, CONTENT_TYPE, body).await };
        let sent = match self.runtime.spawn(sending).await {
            Ok(sent) => sent.map_err(|error| error.to_string()),
            Err(given_up) => Err(given_up.to_string()),
        };
        let answer = sent.inspect_err(|reason| self.judge(Verdict::failed(reason.clone())))?;
        self.judge(Verdict::of(&answer));
        Ok(Response::builder()
            .status(answer.status)
            .body(Bytes::from(answer.body))?)
    }
}

impl HttpClient for Client {
    fn send_bytes<'me, 'send>(
        &'me self,
        request: Request<Bytes>,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, HttpError>> + Send + 'send>>
    where
        'me: 'send,
        Self: 'send,
    {
        Box::pin(self.clone().send(request))
    }
}
