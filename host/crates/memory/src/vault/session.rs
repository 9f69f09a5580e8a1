//! Being logged in and staying so: the token is got when it is first needed, renewed before its time is over, and got
//! anew when it is not taken any more. It knows nothing of what is asked.

use std::sync::{Arc, Weak};
use std::time::Duration;

use aral_contract::Clock;
use rustify::Endpoint;
use serde::Deserialize;
use tokio::sync::{Mutex, Notify, OwnedMutexGuard};
use vaultrs::api::auth::approle::requests::LoginWithApproleRequest;
use vaultrs::api::token::requests::{LookupTokenSelfRequest, RenewTokenSelfRequest};
use zeroize::{Zeroize as _, Zeroizing};

use super::answer::{Answer, VaultFailure, erased, refused_login};
use super::client::{Client, Erased};
use super::options::{VaultError, VaultLogin, plain_path};
use super::pauses::{Pauses, Shown};
use super::token::TokenValue;

/// Shortest and longest time between two attempts to renew a token while the server does not answer.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// One login to one server.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    login: VaultLogin,
    clock: Arc<dyn Clock>,
    token: Arc<Mutex<Option<Token>>>,
    pauses: Pauses,
    changed: Arc<Notify>,
}

/// What the server knows us by.
#[derive(Clone)]
struct Token {
    value: Arc<TokenValue>,
    /// None: it stays valid, or nobody says how long.
    lease: Option<Lease>,
}

/// Times are those of [`Clock::elapsed`].
#[derive(Debug, Clone, Copy)]
struct Lease {
    /// What the login gave. A renewal that gives much less says that the end is near.
    full: Duration,
    until: Duration,
    renewable: bool,
    /// When to do something about it; none: nothing can be done.
    renew_at: Option<Duration>,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token")
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}

/// The `auth` member of a login or renewal.
#[derive(Deserialize)]
struct Granted {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    #[serde(deserialize_with = "erased")]
    client_token: Zeroizing<String>,
    lease_duration: u64,
    renewable: bool,
    /// How often the token may be used; 0: there is no bound. Servers before Vault 1.10 say nothing.
    #[serde(default)]
    num_uses: Option<u64>,
}

/// What a token says of itself.
#[derive(Deserialize)]
struct Looked {
    data: LookedData,
}

#[derive(Deserialize)]
struct LookedData {
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

impl Session {
    pub(super) fn new(client: Client, login: VaultLogin, clock: Arc<dyn Clock>) -> Result<Self, VaultError> {
        if let VaultLogin::AppRole { mount, .. } = &login {
            plain_path(mount, "the mount of a login")?;
        }
        Ok(Self {
            client,
            login,
            clock,
            token: Arc::default(),
            pauses: Pauses::default(),
            changed: Arc::default(),
        })
    }

    pub(super) fn address(&self) -> &str {
        self.client.address()
    }

    /// Told when there is a new lease.
    pub(super) fn changed(&self) -> Arc<Notify> {
        self.changed.clone()
    }

    /// Asks with the token of this session. The server says the same for a token that is not valid any more and for one
    /// that may not do this; which it was, the token itself is asked. In the first case it logs in again, once.
    pub(crate) async fn exchange<E: Endpoint>(self: &Arc<Self>, endpoint: &E) -> Result<Answer, VaultFailure> {
        let token = self.token().await?;
        match self.client.send(endpoint, Some(&token.text)).await {
            Err(VaultFailure::Forbidden) => {
                if self.lookup(&token).await?.is_some() {
                    return Err(VaultFailure::Forbidden);
                }
                self.login_again(&token).await?;
                let token = self.token().await?;
                self.client.send(endpoint, Some(&token.text)).await
            }
            other => other,
        }
    }

    /// Whether the login is taken.
    pub(super) async fn check(self: &Arc<Self>) -> Result<(), VaultFailure> {
        let token = self.token().await?;
        match self.lookup(&token).await? {
            Some(_) => Ok(()),
            None => self.login_again(&token).await,
        }
    }

    /// A token that is valid as far as is known, for one request.
    async fn token(self: &Arc<Self>) -> Result<Arc<TokenValue>, VaultFailure> {
        let held = Arc::clone(&self.token).lock_owned().await;
        let is_due = self.is_due(held.as_ref());
        if let Some(token) = held.as_ref().filter(|token| !is_due && token.value.take()) {
            return Ok(token.value.clone());
        }
        let session = Arc::clone(self);
        to_the_end(async move { session.renewed(held).await }).await
    }

    async fn renewed(&self, mut held: OwnedMutexGuard<Option<Token>>) -> Result<Arc<TokenValue>, VaultFailure> {
        if self.is_due(held.as_ref()) {
            self.renew(&mut held).await?;
        }
        if let Some(token) = held.as_ref().filter(|token| token.value.take()) {
            return Ok(token.value.clone());
        }
        let value = self.log_in(&mut held).await?;
        // A new one has a use left.
        value.take();
        Ok(value)
    }

    fn is_due(&self, token: Option<&Token>) -> bool {
        let renew_at = token.and_then(|token| token.lease?.renew_at);
        renew_at.is_some_and(|moment| moment <= self.clock.elapsed())
    }

    /// In place of a token that the server does not take any more, unless another caller has done it meanwhile. One that came in place of
    /// another a short while ago stays: the policy is the more likely reason then.
    async fn login_again(self: &Arc<Self>, refused: &Arc<TokenValue>) -> Result<(), VaultFailure> {
        let held = Arc::clone(&self.token).lock_owned().await;
        if held.as_ref().is_some_and(|token| token.value.text != refused.text) {
            return Ok(());
        }
        if held.is_some() && self.can_log_in_again() && !self.pauses.may_replace(self.clock.elapsed()) {
            return Err(VaultFailure::Forbidden);
        }
        let (session, refused) = (Arc::clone(self), Arc::clone(refused));
        to_the_end(async move { session.replace(held, &refused).await }).await
    }

    async fn replace(
        &self,
        mut held: OwnedMutexGuard<Option<Token>>,
        refused: &TokenValue,
    ) -> Result<(), VaultFailure> {
        *held = None;
        let token = self.log_in(&mut held).await?;
        if token.text == refused.text {
            *held = None;
            return Err(VaultFailure::refused(
                "the Vault server does not take the token (any more); give the host a new one",
            ));
        }
        Ok(())
    }

    async fn log_in(&self, held: &mut Option<Token>) -> Result<Arc<TokenValue>, VaultFailure> {
        let token = match &self.login {
            VaultLogin::Token(credential) => {
                let value = TokenValue::new(text(credential.read().await?.expose()), None);
                let looked = self.lookup(&value).await?;
                Token {
                    lease: looked.and_then(|data| self.lease(data.ttl, data.renewable, None)),
                    value,
                }
            }
            VaultLogin::AppRole {
                mount,
                role_id,
                secret_id,
            } => {
                let id = secret_id.read().await?;
                let shown = Shown::of(id.expose());
                if self.pauses.is_refused(&shown, self.clock.elapsed()) {
                    return Err(refused_login(VaultFailure::Forbidden));
                }
                let login = LoginWithApproleRequest {
                    mount: mount.clone(),
                    role_id: role_id.clone(),
                    secret_id: String::from_utf8_lossy(id.expose()).into_owned(),
                };
                drop(id);
                let login = Erased::new(login, |login| login.secret_id.zeroize());
                let answer = self.client.send(login.request(), None).await;
                match &answer {
                    Ok(_) => self.pauses.note_login(),
                    Err(VaultFailure::Unavailable { .. } | VaultFailure::NotFound(_)) => {}
                    Err(_) => self.pauses.note_refusal(shown, self.clock.elapsed()),
                }
                let granted: Granted = answer.map_err(refused_login)?.parse()?;
                Token {
                    lease: self.lease(granted.auth.lease_duration, granted.auth.renewable, None),
                    value: TokenValue::new(granted.auth.client_token, granted.auth.num_uses),
                }
            }
        };
        let value = token.value.clone();
        *held = Some(token);
        self.changed.notify_one();
        Ok(value)
    }

    /// What the server says of a token; none: it does not take it, or does not let it ask.
    async fn lookup(&self, token: &TokenValue) -> Result<Option<LookedData>, VaultFailure> {
        if !token.take() {
            return Ok(None);
        }
        let request = LookupTokenSelfRequest {};
        match self.client.send(&request, Some(&token.text)).await {
            Ok(answer) => Ok(Some(answer.parse::<Looked>()?.data)),
            Err(VaultFailure::Forbidden) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// A lease that begins now. It is renewed when two thirds are over.
    fn lease(&self, seconds: u64, renewable: bool, full: Option<Duration>) -> Option<Lease> {
        if seconds == 0 {
            return None;
        }
        let (now, length) = (self.clock.elapsed(), Duration::from_secs(seconds));
        let (early, can) = (length.saturating_mul(2) / 3, renewable || self.can_log_in_again());
        Some(Lease {
            full: full.unwrap_or(length),
            until: now.saturating_add(length),
            renewable,
            renew_at: can.then(|| now.saturating_add(early)),
        })
    }

    fn can_log_in_again(&self) -> bool {
        match self.login {
            VaultLogin::Token(_) => false,
            VaultLogin::AppRole { .. } => true,
        }
    }

    /// Renews the token, or gets another where that is possible. While the old one is valid, a server that does not
    /// answer is no failure.
    async fn renew(&self, held: &mut Option<Token>) -> Result<(), VaultFailure> {
        let Some((token, lease)) = held.as_ref().and_then(|token| Some((token.clone(), token.lease?))) else {
            return Ok(());
        };
        let outcome = self.renew_or_replace(held, &token, lease).await;
        let now = self.clock.elapsed();
        match outcome {
            Ok(()) => Ok(()),
            Err(_) if now < lease.until => {
                let (shortest, longest) = RETRY_AFTER;
                let wait = (lease.until.saturating_sub(now) / 4).clamp(shortest, longest);
                self.keep(held, token, Some(now.saturating_add(wait)));
                Ok(())
            }
            Err(failure) => {
                // What could be tried has been; the next one who asks logs in from the beginning.
                *held = None;
                Err(failure)
            }
        }
    }

    async fn renew_or_replace(
        &self,
        held: &mut Option<Token>,
        token: &Token,
        lease: Lease,
    ) -> Result<(), VaultFailure> {
        if lease.renewable && token.value.take() {
            let request = RenewTokenSelfRequest { increment: None };
            match self.client.send(&request, Some(&token.value.text)).await {
                Ok(answer) => {
                    let granted: Granted = answer.parse()?;
                    let auth = granted.auth;
                    let renewed = self.lease(auth.lease_duration, auth.renewable, Some(lease.full));
                    let ending = Duration::from_secs(auth.lease_duration) < lease.full / 2;
                    *held = Some(Token {
                        value: token.value.clone(),
                        lease: renewed,
                    });
                    self.changed.notify_one();
                    if !(ending && self.can_log_in_again()) {
                        return Ok(());
                    }
                }
                Err(failure @ VaultFailure::Unavailable { .. }) => return Err(failure),
                Err(_) if self.can_log_in_again() => {}
                Err(_) => {
                    // Nothing can be done: it is used until the server does not take it any more.
                    self.keep(held, token.clone(), None);
                    return Ok(());
                }
            }
        }
        self.log_in(held).await.map(drop)
    }

    fn keep(&self, held: &mut Option<Token>, mut token: Token, renew_at: Option<Duration>) {
        token.lease = token.lease.map(|lease| Lease { renew_at, ..lease });
        *held = Some(token);
    }

    /// How long until it is looked whether something must be done; none: nothing, until there is another lease. Never long, since a
    /// timer stands while the machine sleeps, and a lease does not.
    pub(super) async fn rest(&self) -> Option<Duration> {
        let held = self.token.lock().await;
        let renew_at = held.as_ref().and_then(|token| token.lease?.renew_at)?;
        let rest = renew_at.saturating_sub(self.clock.elapsed());
        Some(rest.clamp(RETRY_AFTER.0, RETRY_AFTER.1))
    }

    async fn renew_if_due(&self) {
        let mut held = self.token.lock().await;
        if self.is_due(held.as_ref()) && self.renew(&mut held).await.is_err() {
            tracing::warn!(
                address = self.address(),
                "the login to the Vault server cannot be renewed"
            );
        }
    }
}

/// Does what the server may have done before its answer is here, whether or not somebody still waits for it: a login that is
/// given up has used up its secret id, and its token stays valid and is nobody's. Whoever begins it holds the token, so that
/// there is one at a time, and it takes as long as its requests may take.
async fn to_the_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, VaultFailure>> + Send + 'static,
) -> Result<T, VaultFailure> {
    let joined = tokio::spawn(work).await;
    joined.unwrap_or_else(|_| Err(VaultFailure::ended()))
}

/// Renews the token of an idle session, because one that is over cannot be renewed any more.
pub(super) async fn keep_renewed(session: Weak<Session>, changed: Arc<Notify>) {
    loop {
        let rest = match session.upgrade() {
            Some(session) => session.rest().await,
            None => return,
        };
        match rest {
            None => changed.notified().await,
            Some(rest) => {
                // Either way the lease is looked at anew.
                let _either = tokio::time::timeout(rest, changed.notified()).await;
            }
        }
        match session.upgrade() {
            Some(session) => session.renew_if_due().await,
            None => return,
        }
    }
}

/// A credential has been checked to be printable ASCII.
fn text(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(String::from_utf8_lossy(bytes).into_owned())
}
