//! Where the keys of an issuer come from: a file, or an address whose answer is kept for a while. A key that is not known is
//! asked for, but seldom, so that tokens with made-up ids do not become a flood at the issuer; and while the issuer does not
//! answer, the last keys serve on, but not for ever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aral_contract::Clock;
use aral_runtime::outbound::{self, OutboundOptions, ServerUrl};
use arc_swap::ArcSwapOption;
use jsonwebtoken::DecodingKey;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::Doubt;
use super::keys::{KeySet, KeySetError, TokenAlgorithm};
use crate::places::Places;

/// Largest set of keys, in bytes. Stops an answer that fills memory.
const KEYS_BYTES_MAX: usize = 256 << 10;

/// Where the keys of an issuer are.
#[derive(Debug, Clone)]
pub enum KeysPlace {
    /// They were read with the configuration, and are the same until it is read again.
    Fixed(Arc<KeySet>),
    /// At an address.
    Url(Arc<RemoteKeys>),
}

/// Keys at an address.
#[derive(Debug, Clone)]
pub struct RemoteKeys {
    /// Which.
    pub server: ServerUrl,
    /// Who fetches them.
    pub client: reqwest::Client,
    /// How that reaches the issuer, and whom it trusts on the way.
    pub outbound: OutboundOptions,
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
    /// Shared with the configuration before, if it is the same issuer.
    loaded: Arc<ArcSwapOption<Loaded>>,
    /// What was asked for until then was asked for under the configuration before: other keys are asked for first.
    since: Option<Duration>,
    /// When the last question for them ended, whatever came of it. Whoever asks holds it.
    asked: Arc<Mutex<Option<Duration>>>,
    /// A question has ended.
    has_asked: AtomicBool,
    /// The last one brought no keys.
    in_vain: AtomicBool,
}

#[derive(Debug)]
struct Loaded {
    /// When they were asked for.
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
            loaded: Arc::new(ArcSwapOption::new(loaded)),
            since: None,
            asked: Arc::default(),
            has_asked: AtomicBool::new(false),
            in_vain: AtomicBool::new(false),
        }
    }

    /// Has what is fetched from the same place under the configuration before: it serves, for as long as it would have, if the
    /// issuer does not answer.
    pub(super) fn take_over(&mut self, before: &Self) {
        if let (KeysPlace::Url(now), KeysPlace::Url(then)) = (&self.place, &before.place)
            && now.is_alike(then)
        {
            self.loaded = Arc::clone(&before.loaded);
            self.since = Some(self.clock.elapsed());
        }
    }

    /// The key for a token. `waiting` has places for those who wait for another's question.
    pub(super) async fn find(
        self: &Arc<Self>,
        id: Option<&str>,
        algorithm: TokenAlgorithm,
        waiting: &Places,
    ) -> Result<DecodingKey, Doubt> {
        let (ttl, stale) = self.times();
        let found = |loaded: &Loaded| loaded.keys.find(id, algorithm).cloned();
        let known = self.within(stale);
        let known = known.and_then(|loaded| Some((found(&loaded)?, loaded)));
        let will_do = match known {
            Some((key, loaded)) if self.is_own(&loaded) => {
                if self.age(&loaded) < ttl {
                    return Ok(key);
                }
                true
            }
            // Those of the configuration before will do as well, but only once others were asked for.
            Some(_) => self.has_asked.load(Ordering::Acquire),
            None => false,
        };
        self.refresh(will_do, waiting).await?;
        let keys = self.within(stale).ok_or(Doubt::NoKeys)?;
        found(&keys).ok_or(Doubt::UnknownKey)
    }

    /// Whether they were asked for in vain, and there are none. Those that are only too old, since nobody asked for long, are
    /// not missing: there will be others in a moment.
    pub(super) fn are_missing(&self) -> bool {
        let (_, stale) = self.times();
        self.in_vain.load(Ordering::Acquire) && self.within(stale).is_none()
    }

    /// How long they are as good as new ones, and how long they serve.
    fn times(&self) -> (Duration, Duration) {
        match &self.place {
            KeysPlace::Fixed(_) => (Duration::MAX, Duration::MAX),
            KeysPlace::Url(remote) => (remote.ttl, remote.stale),
        }
    }

    /// The keys, if they are not older than that.
    fn within(&self, age: Duration) -> Option<Arc<Loaded>> {
        self.loaded.load_full().filter(|loaded| self.age(loaded) < age)
    }

    fn is_own(&self, loaded: &Loaded) -> bool {
        self.since.is_none_or(|since| loaded.at > since)
    }

    fn age(&self, loaded: &Loaded) -> Duration {
        self.clock.elapsed().saturating_sub(loaded.at)
    }

    /// Asks for new keys, if that was not done a moment ago. `known`: who waits has a key that will do, so that it waits for
    /// no other's question, nor for its own where the last one brought nothing. It is an error if it would have to, and too many do.
    async fn refresh(self: &Arc<Self>, known: bool, waiting: &Places) -> Result<(), Doubt> {
        let KeysPlace::Url(remote) = &self.place else {
            return Ok(());
        };
        let asked = Arc::clone(&self.asked);
        let asked = match asked.try_lock_owned() {
            Ok(asked) => asked,
            // Nor does whoever would be refused as before: a stranger could hold all places of requests while an issuer hangs.
            Err(_busy) if known || self.are_missing() => return Ok(()),
            Err(_busy) => {
                let _place = waiting.try_take().ok_or(Doubt::NoKeys)?;
                Arc::clone(&self.asked).lock_owned().await
            }
        };
        if asked.is_some_and(|last| self.clock.elapsed().saturating_sub(last) < remote.refetch) {
            return Ok(());
        }
        // A task of its own: a caller that goes away would end the question that others wait for.
        let in_vain = self.in_vain.load(Ordering::Acquire);
        let asking = tokio::spawn(Arc::clone(self).replace(Arc::clone(remote), asked));
        // While an issuer answers, nobody is let in with a key that it withdrew longer ago than `ttl`.
        if !(known && in_vain) {
            let _replaced_or_logged = asking.await;
        }
        Ok(())
    }

    /// Ends once no question is under way.
    #[cfg(test)]
    pub(super) async fn rests(&self) {
        let _nobody_asks = self.asked.lock().await;
    }

    async fn replace(self: Arc<Self>, remote: Arc<RemoteKeys>, mut asked: OwnedMutexGuard<Option<Duration>>) {
        let at = self.clock.elapsed();
        let fetched = remote.fetch().await;
        let in_vain = fetched.is_err();
        match fetched {
            Ok(keys) => {
                // An answer like any other: an issuer that withdraws its last key says so.
                if keys.is_empty() {
                    tracing::warn!(
                        host = remote.server.url().host_str().unwrap_or_default(),
                        "an issuer has no key that verifies signatures: its tokens are refused"
                    );
                }
                let new = Arc::new(Loaded {
                    at,
                    keys: Arc::new(keys),
                });
                // Another configuration may have asked later, and been answered before.
                self.loaded.rcu(|loaded| match loaded {
                    Some(newer) if newer.at > at => Some(Arc::clone(newer)),
                    Some(_) | None => Some(Arc::clone(&new)),
                });
            }
            Err(error) => tracing::warn!(
                error = &error as &(dyn std::error::Error + 'static),
                "the tokens of an issuer are checked with its last keys, or refused"
            ),
        }
        *asked = Some(self.clock.elapsed());
        self.in_vain.store(in_vain, Ordering::Release);
        self.has_asked.store(true, Ordering::Release);
    }
}

impl RemoteKeys {
    /// The same issuer, reached in the same way: whoever could put keys in its place could do so with either.
    fn is_alike(&self, other: &Self) -> bool {
        (&self.server, &self.outbound) == (&other.server, &other.outbound)
    }

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
