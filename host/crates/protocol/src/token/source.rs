//! Where the keys of an issuer come from: a file, or an address whose answer is kept for a while. A key that is not known is
//! asked for, but seldom, so that tokens with made-up ids do not become a flood at the issuer; and while the issuer does not
//! answer, the last keys serve on, but not for ever.

use std::sync::Arc;
use std::time::Duration;

use aral_contract::Clock;
use aral_runtime::outbound::{self, ServerUrl};
use arc_swap::ArcSwapOption;
use jsonwebtoken::DecodingKey;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::keys::{KeySet, KeySetError, TokenAlgorithm};

/// Largest set of keys, in bytes. Stops an answer that fills memory.
const KEYS_BYTES_MAX: usize = 256 << 10;

/// Where the keys of an issuer are.
#[derive(Debug, Clone)]
pub enum KeysPlace {
    /// They were read at start, and are the same until the server ends.
    Fixed(Arc<KeySet>),
    /// At an address.
    Url(RemoteKeys),
}

/// Keys at an address.
#[derive(Debug, Clone)]
pub struct RemoteKeys {
    /// Which.
    pub server: ServerUrl,
    /// Who fetches them.
    pub client: reqwest::Client,
    /// How long an answer is as good as a new one.
    pub ttl: Duration,
    /// How long it serves if there is no new one.
    pub stale: Duration,
    /// The least time between two requests, whatever the first came to.
    pub refetch: Duration,
}

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct Keys {
    place: KeysPlace,
    clock: Arc<dyn Clock>,
    loaded: ArcSwapOption<Loaded>,
    /// When they were last asked for. Whoever asks holds it.
    asked: Arc<Mutex<Option<Duration>>>,
}

#[derive(Debug)]
struct Loaded {
    at: Duration,
    keys: Arc<KeySet>,
}

/// Why there are no new keys.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the issuer's keys cannot be fetched")]
    Connection(#[source] reqwest::Error),
    #[error("the issuer answers {0} instead of its keys")]
    Status(u16),
    #[error("the issuer's keys have more than {KEYS_BYTES_MAX} bytes")]
    TooLarge,
    #[error("the issuer's keys are not taken")]
    Keys(#[source] KeySetError),
}

impl Keys {
    pub(super) fn new(place: KeysPlace, clock: Arc<dyn Clock>) -> Self {
        let loaded = match &place {
            KeysPlace::Fixed(keys) => Some(Arc::new(Loaded {
                at: Duration::ZERO,
                keys: Arc::clone(keys),
            })),
            KeysPlace::Url(_) => None,
        };
        Self {
            place,
            clock,
            loaded: ArcSwapOption::new(loaded),
            asked: Arc::default(),
        }
    }

    /// The key for a token. The reason is for the record.
    pub(super) async fn find(
        self: &Arc<Self>,
        id: Option<&str>,
        algorithm: TokenAlgorithm,
    ) -> Result<DecodingKey, &'static str> {
        let (ttl, stale) = match &self.place {
            KeysPlace::Fixed(_) => (Duration::MAX, Duration::MAX),
            KeysPlace::Url(remote) => (remote.ttl, remote.stale),
        };
        let known = self.within(stale).and_then(|keys| keys.find(id, algorithm).cloned());
        if let Some(key) = &known
            && self.within(ttl).is_some()
        {
            return Ok(key.clone());
        }
        self.refresh(known.is_some()).await;
        let keys = self.within(stale).ok_or("a token whose issuer's keys cannot be had")?;
        keys.find(id, algorithm).cloned().ok_or("a token with an unknown key")
    }

    /// The keys, if they are not older than that.
    fn within(&self, age: Duration) -> Option<Arc<KeySet>> {
        let loaded = self.loaded.load_full()?;
        let fresh = self.clock.elapsed().saturating_sub(loaded.at) < age;
        fresh.then(|| Arc::clone(&loaded.keys))
    }

    /// Asks for new keys, if that was not done a moment ago. `known`: who waits has a key that will do, so that it waits for
    /// no other's question.
    async fn refresh(self: &Arc<Self>, known: bool) {
        let KeysPlace::Url(remote) = &self.place else { return };
        let asked = Arc::clone(&self.asked);
        let mut asked = match asked.try_lock_owned() {
            Ok(asked) => asked,
            Err(_busy) if known => return,
            Err(_busy) => Arc::clone(&self.asked).lock_owned().await,
        };
        let now = self.clock.elapsed();
        if asked.is_some_and(|last| now.saturating_sub(last) < remote.refetch) {
            return;
        }
        *asked = Some(now);
        // A task of its own: a caller that goes away would end the question that others wait for.
        let asking = tokio::spawn(Arc::clone(self).replace(remote.clone(), asked));
        let _replaced_or_logged = asking.await;
    }

    async fn replace(self: Arc<Self>, remote: RemoteKeys, _asked: OwnedMutexGuard<Option<Duration>>) {
        match remote.fetch().await {
            Ok(keys) => self.loaded.store(Some(Arc::new(Loaded {
                at: self.clock.elapsed(),
                keys: Arc::new(keys),
            }))),
            Err(error) => tracing::warn!(
                error = &error as &(dyn std::error::Error + 'static),
                "the tokens of an issuer are checked with its last keys, or refused"
            ),
        }
    }
}

impl RemoteKeys {
    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let request = self.client.get(self.server.url().clone());
        let request = request.header(http::header::ACCEPT, "application/jwk-set+json, application/json");
        let response = request.send().await.map_err(FetchError::Connection)?;
        if response.status() != http::StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let body = outbound::body(response, KEYS_BYTES_MAX)
            .await
            .map_err(FetchError::Connection)?;
        if body.len() > KEYS_BYTES_MAX {
            return Err(FetchError::TooLarge);
        }
        KeySet::parse(&body).map_err(FetchError::Keys)
    }
}
