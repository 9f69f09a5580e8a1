//! A Vault-compatible server, as far as secrets and keys need one: one connection pool, one login and one thread for all
//! who use it. It knows how to log in and stay logged in, and nothing of what is asked.
//!
//! The requests are those of `vaultrs`. They are sent by a client of this module, because the one of the library reads
//! answers without a bound, follows redirects with the token, asks the environment for a proxy, panics on a token that no
//! header can hold, and logs what the server says.

mod answer;
mod client;
mod options;
mod pauses;
mod session;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod token;
mod transit;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aral_contract::Clock;
use aral_runtime::threads;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

pub(crate) use answer::{Answer, VaultFailure};
pub(crate) use options::is_plain_path;
pub use options::{Credential, VaultError, VaultLogin, VaultOptions};
use session::Session;
pub use transit::TransitKeys;

/// Most exchanges at once. Stops many calls at once from opening a connection each; the others wait within their time.
const EXCHANGES_MAX: usize = 16;

/// A Vault-compatible server. Cheap to clone; the clones share connections and login. Nothing is sent before it is needed.
#[derive(Clone)]
pub struct Vault(Arc<Shared>);

struct Shared {
    session: Arc<Session>,
    exchanges: Arc<Semaphore>,
    timeout: Duration,
    worker: Handle,
    /// The thread ends when this is dropped.
    _alive: oneshot::Sender<()>,
}

impl Vault {
    /// Checks the options and starts the thread on which every exchange runs. Because it is always the same one, a
    /// connection and the renewal of the token outlive the runtime of whoever asked first, and those who have no runtime
    /// can ask too.
    ///
    /// # Errors
    /// [`VaultError`] says which option is wrong.
    pub fn new(options: VaultOptions, clock: Arc<dyn Clock>) -> Result<Self, VaultError> {
        let client = client::Client::new(&options)?;
        let session = Arc::new(Session::new(client, options.login, clock)?);
        let runtime = threads::runtime(None).map_err(VaultError::Thread)?;
        let worker = runtime.handle().clone();
        let (alive, ended) = oneshot::channel::<()>();
        let renewal = session::keep_renewed(Arc::downgrade(&session), session.changed());
        std::thread::Builder::new()
            .name("aral-vault".to_owned())
            .spawn(move || {
                runtime.spawn(renewal);
                // Nothing is ever sent: the channel closes when the last handle is dropped.
                let _closed = runtime.block_on(ended);
                // A file of a credential may never be read to its end: nobody waits for that.
                runtime.shutdown_background();
            })
            .map_err(VaultError::Thread)?;
        Ok(Self(Arc::new(Shared {
            session,
            exchanges: Arc::new(Semaphore::new(EXCHANGES_MAX)),
            timeout: Duration::from_millis(options.timeout_ms),
            worker,
            _alive: alive,
        })))
    }

    /// The address, for messages.
    pub fn address(&self) -> &str {
        self.0.session.address()
    }

    /// Whether the server answers and takes the login. For a health check.
    ///
    /// # Errors
    /// Why not, in words.
    pub async fn check(&self) -> Result<(), VaultError> {
        let checked = self.run(|session| async move { session.check().await });
        checked.await.map_err(|failure| VaultError::Check(failure.reason()))
    }

    /// Does some exchanges one after the other. They end together with the future, or when their time is over; a login or a
    /// renewal that was begun for them goes on.
    pub(crate) fn run<T, F>(&self, work: impl FnOnce(Arc<Session>) -> F) -> Running<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, VaultFailure>> + Send + 'static,
    {
        Running(self.0.worker.spawn(self.bounded(work)))
    }

    /// The same for those who may block.
    pub(crate) fn run_blocking<T, F>(&self, work: impl FnOnce(Arc<Session>) -> F) -> Result<T, VaultFailure>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, VaultFailure>> + Send + 'static,
    {
        let (sender, receiver) = sync_channel(1);
        let bounded = self.bounded(work);
        self.0.worker.spawn(async move {
            // Whoever asked waits longer than this may take; nobody there is no error.
            let _nobody = sender.send(bounded.await);
        });
        receiver.recv().unwrap_or_else(|_| Err(VaultFailure::ended()))
    }

    fn bounded<T, F>(
        &self,
        work: impl FnOnce(Arc<Session>) -> F,
    ) -> impl Future<Output = Result<T, VaultFailure>> + Send + 'static
    where
        T: Send + 'static,
        F: Future<Output = Result<T, VaultFailure>> + Send + 'static,
    {
        let work = work(self.0.session.clone());
        let (exchanges, timeout) = (self.0.exchanges.clone(), self.0.timeout);
        let limited = async move {
            let _permit = exchanges.acquire_owned().await.map_err(|_| VaultFailure::ended())?;
            work.await
        };
        async move {
            match tokio::time::timeout(timeout, limited).await {
                Ok(result) => result,
                Err(_) => Err(VaultFailure::slow(timeout)),
            }
        }
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Vault").field(&self.address()).finish()
    }
}

/// Exchanges that go on while this is there.
pub(crate) struct Running<T>(JoinHandle<Result<T, VaultFailure>>);

impl<T> Future for Running<T> {
    type Output = Result<T, VaultFailure>;
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let joined = ready!(Pin::new(&mut self.0).poll(context));
        Poll::Ready(joined.unwrap_or_else(|_| Err(VaultFailure::ended())))
    }
}

impl<T> Drop for Running<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
