//! What every request can reach: the dispatch path, the callers, the bounds. One for each listener, around a state that all
//! listeners share. All of it is made anew when the configuration is read again, except what goes on.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aral_contract::event::{AuthenticationMethod, Severity};
use aral_contract::id::{CallerName, PersonaId};
use aral_contract::{AuditSink, Clock, Digest, Event, EventKind, Failure, Sensitive, TraceId, rule};
use aral_orchestration::Dispatcher;
use bytes::Bytes;
use tokio::sync::watch;

use crate::bounds::{self, Bounds};
use crate::caller::Callers;
use crate::enter::Entrance;
use crate::health::HealthCache;
use crate::invoke::Answer;
use crate::limit::{Limits, Proxies, Rates, RedisOptions};
use crate::listener::ListenerOptions;
use crate::mcp::{Mcp, Toolbox};
use crate::meters;
use crate::places::Places;
use crate::problem::Problem;
use crate::protected::{Protected, Resource};
use crate::receipts::Receipts;
use crate::replay::Replays;
use crate::signature::nonces::Nonces;
use crate::tally::Tally;
use crate::tls::Tls;
use crate::token::Issuers;
use crate::unsent::Unsent;

/// One listener and what it leads to.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) listener: ListenerOptions,
    /// None: what goes over the connections of this listener can be read and changed on its way.
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) shared: Arc<Shared>,
}

/// What all listeners share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) callers: Callers,
    pub(crate) bounds: Bounds,
    pub(crate) health: Arc<HealthCache>,
    pub(crate) replays: Arc<Replays<Answer>>,
    pub(crate) issuers: Issuers,
    pub(crate) protected: Protected,
    /// Signatures that were used.
    pub(crate) nonces: Arc<Nonces>,
    /// How many connections each address has; of IPv6 each network.
    pub(crate) connections_of: Tally<IpAddr>,
    /// Places for requests.
    pub(crate) requests: Places,
    /// How many of these are each caller's.
    pub(crate) requests_of: Tally<CallerName, Unsent>,
    /// What is answered to them and not sent yet.
    pub(crate) unsent: Unsent,
    /// How often somebody may ask.
    pub(crate) limits: Arc<Limits>,
    /// Who may say for whom they ask.
    pub(crate) proxies: Proxies,
    /// Each answer is this one, and no copy.
    pub(crate) openapi: Bytes,
    pub(crate) receipts: Arc<dyn Receipts>,
    /// How many receipts are being made for each caller.
    pub(crate) proving: Tally<CallerName>,
    pub(crate) mcp: Arc<Mcp>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entrance: Entrance,
    sink: Arc<dyn AuditSink>,
    draining: Arc<AtomicBool>,
}

/// What the shared state is made from.
pub(crate) struct SharedParts {
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) callers: Callers,
    pub(crate) issuers: Issuers,
    pub(crate) resource: Option<Resource>,
    pub(crate) bounds: Bounds,
    pub(crate) limits: Limits,
    pub(crate) proxies: Proxies,
    pub(crate) health: Arc<dyn crate::Health>,
    pub(crate) receipts: Arc<dyn Receipts>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) sink: Arc<dyn AuditSink>,
    pub(crate) openapi: Bytes,
    pub(crate) changes: watch::Receiver<()>,
}

/// What another configuration replaces.
pub(crate) struct RenewedParts {
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) callers: Callers,
    pub(crate) issuers: Issuers,
    pub(crate) resource: Option<Resource>,
    pub(crate) bounds: Bounds,
    pub(crate) rates: Rates,
    pub(crate) redis: Option<RedisOptions>,
    pub(crate) proxies: Proxies,
}

impl Shared {
    pub(crate) fn new(parts: SharedParts) -> Self {
        let bounds = parts.bounds;
        parts.issuers.rebound(&bounds);
        Self {
            mcp: Arc::new(Mcp::new(&bounds, parts.changes)),
            entrance: Entrance::new(&parts.clock, parts.dispatcher.sampling()),
            dispatcher: parts.dispatcher,
            callers: parts.callers,
            health: Arc::new(HealthCache::new(parts.health, Arc::clone(&parts.clock))),
            replays: Replays::new(&bounds, Arc::clone(&parts.clock)),
            protected: Protected::new(parts.resource.as_ref(), &parts.issuers),
            issuers: parts.issuers,
            nonces: Arc::new(Nonces::new(
                bounds::size(bounds.signature_nonces_max),
                Arc::clone(&parts.clock),
            )),
            connections_of: Tally::new(),
            requests: Places::new(bounds::size(bounds.requests_max)),
            requests_of: Tally::default(),
            unsent: Unsent::default(),
            limits: Arc::new(parts.limits),
            proxies: parts.proxies,
            openapi: parts.openapi,
            receipts: parts.receipts,
            proving: Tally::new(),
            clock: parts.clock,
            sink: parts.sink,
            draining: Arc::default(),
            bounds,
        }
    }

    /// The same server under another configuration. What is counted and kept goes on: places that are taken, answers that
    /// may be asked for again, how often somebody asked, signatures that were used, keys of issuers until there are newer ones, what
    /// was seen of the host's health, which traces addresses had kept, and that the server ends. Changes nothing of this one.
    pub(crate) fn renewed(&self, parts: RenewedParts) -> Self {
        let RenewedParts {
            dispatcher,
            callers,
            mut issuers,
            resource,
            bounds,
            rates,
            redis,
            proxies,
        } = parts;
        issuers.take_over(&self.issuers);
        Self {
            entrance: self.entrance.renewed(dispatcher.sampling()),
            dispatcher,
            callers,
            protected: Protected::new(resource.as_ref(), &issuers),
            issuers,
            nonces: Arc::clone(&self.nonces),
            health: Arc::clone(&self.health),
            replays: Arc::clone(&self.replays),
            connections_of: self.connections_of.clone(),
            requests: self.requests.clone(),
            requests_of: self.requests_of.clone(),
            unsent: self.unsent.clone(),
            limits: Arc::new(self.limits.renewed(rates, redis)),
            proxies,
            openapi: self.openapi.clone(),
            receipts: Arc::clone(&self.receipts),
            proving: self.proving.clone(),
            mcp: Arc::clone(&self.mcp),
            clock: Arc::clone(&self.clock),
            sink: Arc::clone(&self.sink),
            draining: Arc::clone(&self.draining),
            bounds,
        }
    }

    /// From now on what is shared with earlier configurations has the bounds of this one. Needs a tokio runtime.
    pub(crate) fn rebound(&self) {
        self.requests.resize(bounds::size(self.bounds.requests_max));
        self.replays.rebound(&self.bounds);
        self.nonces.rebound(bounds::size(self.bounds.signature_nonces_max));
        self.limits.rebound();
        self.issuers.rebound(&self.bounds);
        self.mcp.rebound(&self.bounds);
    }

    /// What tells the time.
    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// What tools are made from and called with.
    pub(crate) fn toolbox(&self) -> Toolbox {
        Toolbox::new(Arc::clone(&self.dispatcher), &self.bounds)
    }

    /// From now on the server is not ready.
    pub(crate) fn leave(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Records that somebody said who they are; `refused` says why they are not believed. Whoever is believed comes after
    /// [`Shared::room`].
    pub(crate) fn record_authentication(&self, trace: TraceId, peer: Peer, said: Said<'_>, refused: Option<String>) {
        if refused.is_some() {
            meters::not_believed(said.method);
        }
        let kind = EventKind::Authentication {
            user: said.user.map(|name| Sensitive::new(name.to_string())),
            agent: said.agent.cloned(),
            method: said.method,
            source: Some(peer.address()),
            refused,
        };
        self.note(Some(trace), kind);
    }

    /// Records that somebody tried something that only an attack tries; without a trace, on a connection on which nothing was
    /// asked.
    pub(crate) fn record_security(&self, trace: Option<TraceId>, peer: Peer, rule: &'static str, subject: String) {
        self.note(
            trace,
            EventKind::Security {
                severity: Severity::Medium,
                rule,
                subject,
                reason: None,
                source: Some(peer.address()),
            },
        );
    }

    /// Records that a listener has these files of TLS from now on, and which before; none: its server starts.
    pub(crate) fn record_tls_files(&self, before: Option<Digest>, after: Digest) {
        let subject = "tls";
        self.note(None, EventKind::ConfigurationChanged { subject, before, after });
    }

    /// Records that the files of TLS of a listener are not ones that it can use, and why.
    pub(crate) fn record_tls_refused(&self, listener: SocketAddr, reason: String) {
        self.record_renewal(rule::TLS_RELOAD, listener.to_string(), Some(reason));
    }

    /// Records that a listener shows a certificate that is not in its time.
    pub(crate) fn record_tls_over(&self, listener: SocketAddr) {
        self.record_renewal(rule::TLS_CERTIFICATE, listener.to_string(), None);
    }

    /// Records that a listener has an OCSP response and does not send it, and why.
    pub(crate) fn record_tls_unstapled(&self, listener: SocketAddr, reason: String) {
        self.record_renewal(rule::TLS_OCSP, listener.to_string(), Some(reason));
    }

    /// Records and says that the server of limits is asked with the password and the authorities of the start. Returns
    /// what it said.
    pub(crate) fn tell_old_credentials(&self) -> &'static str {
        let subject = "[serve.rates.redis]: until a restart the password and the ca_file of the start hold";
        tracing::warn!("{subject}");
        self.record_renewal(rule::RATES_REDIS_CREDENTIALS, subject.to_owned(), None);
        subject
    }

    /// Records that something new does not hold.
    fn record_renewal(&self, rule: &'static str, subject: String, reason: Option<String>) {
        self.note(
            None,
            EventKind::Security {
                severity: Severity::Medium,
                rule,
                subject,
                reason,
                source: None,
            },
        );
    }

    /// Waits until what is about to begin can be recorded, as a task and for a while. Where it cannot be, it does not begin.
    pub(crate) async fn room(&self) -> Result<(), Problem> {
        match self.sink.room() {
            None => Ok(()),
            Some(room) => room.await.map_err(|unavailable| Failure::from(unavailable).into()),
        }
    }

    /// For what comes after [`Shared::room`], or is rare, as what is refused: of that the log takes a few and counts the rest. Nobody
    /// waits until it is kept.
    fn note(&self, trace: Option<TraceId>, kind: EventKind) {
        let at = self.clock.now();
        drop(self.sink.append(Event { at, trace, kind }));
    }
}

/// Who somebody says they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Said<'a> {
    pub(crate) method: AuthenticationMethod,
    pub(crate) user: Option<&'a CallerName>,
    pub(crate) agent: Option<&'a PersonaId>,
}

/// Who is at the other end of the connection; behind a proxy that is trusted, of the proxy's (then the port is 0).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

impl Peer {
    /// The address; one of IPv4 as such, also where the listener takes both.
    pub(crate) fn address(self) -> IpAddr {
        self.0.ip().to_canonical()
    }
}

/// The name of one request, everywhere.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trace(pub(crate) TraceId);
