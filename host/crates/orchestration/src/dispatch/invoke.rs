//! The beginning of a call: the trace that it belongs to, what is counted of it, and everything that is asked before it runs.

use std::time::Duration;

use aral_contract::{Sampling, TraceContext};
use aral_runtime::{Runtime, entropy};
use tokio::time::Instant;
use tracing::Instrument as _;

use super::ended::Asked;
use super::ended::unrun;
use super::gate::Load;
use super::limits::Admission;
use super::phase::PhaseWatcher;
use super::{Dispatcher, Outcome, Request};
use crate::meters::{Counted, Timed};
use crate::session::Session;

impl Dispatcher {
    /// Runs a capability for a session. Dropping the future ends the call, frees all it holds, and records that.
    ///
    /// Needs a tokio runtime with timers.
    pub async fn invoke(&self, session: &Session, request: Request<'_>) -> Outcome {
        self.invoke_told(session, request, None, None).await
    }

    pub(super) async fn invoke_told(
        &self,
        session: &Session,
        request: Request<'_>,
        told: PhaseWatcher<'_>,
        until: Option<Instant>,
    ) -> Outcome {
        let context = request.trace.cloned().unwrap_or_else(|| self.begin_trace());
        let span = tracing::info_span!(
            target: "aral::call",
            "call",
            trace_id = %context.trace,
            parent_span_id = context.parent.map(tracing::field::display),
            sampled = context.sampled,
            capability = tracing::field::Empty,
            version = tracing::field::Empty,
            code = tracing::field::Empty,
        );
        let mut counted = Counted::begin(&self.meters, &*self.clock);
        let outcome = async {
            let outcome = self
                .invoke_counted(session, request, &context, told, until, &mut counted)
                .await;
            let span = tracing::Span::current();
            if let Some(version) = &outcome.version {
                span.record("capability", outcome.capability.as_str());
                span.record("version", tracing::field::display(version));
            }
            if let Err(failure) = &outcome.result {
                span.record("code", failure.code.as_str());
            }
            outcome
        };
        // On the heap: the future of whoever calls stays small, and its type shallow enough for the compiler.
        let outcome = Box::pin(outcome.instrument(span)).await;
        let code = outcome.result.as_ref().err().map(|failure| failure.code);
        counted.end(code, &outcome.usage);
        outcome
    }

    async fn invoke_counted(
        &self,
        session: &Session,
        request: Request<'_>,
        context: &TraceContext,
        told: PhaseWatcher<'_>,
        until: Option<Instant>,
        counted: &mut Counted<'_>,
    ) -> Outcome {
        let trace = context.trace;
        if let Err(unavailable) = self.check_recordable().await {
            self.count_refused(request, counted);
            let result = Err(self.reported(unavailable, trace));
            return unrun(trace, request.capability, result, None);
        }
        let admitted = tracing::info_span!(target: "aral::call", "authorize")
            .in_scope(|| self.admit_traced(session, request.capability, request.version, Some(trace)));
        self.meters.stage(Timed::Authorize, self.since(counted.begun()));
        match admitted {
            Ok(admission) => {
                let _using = self.using();
                let Admission { granted, reservation } = admission;
                counted.is_of(&granted.grant().capability);
                let pass = match self.pass(&granted) {
                    Ok(pass) => pass,
                    Err(failure) => {
                        // Nothing runs, and nothing is paid.
                        drop(reservation);
                        return self.refused(trace, session, request.capability, failure).await;
                    }
                };
                let asked = Asked {
                    context,
                    session: Some(session),
                    input: request.input,
                    told,
                    until,
                };
                self.run(asked, &granted, Some(reservation), Some(pass)).await
            }
            Err(denied) => {
                self.count_refused(request, counted);
                self.meters.denied(denied.failure.code, &denied.by);
                self.refused(trace, session, request.capability, *denied.failure).await
            }
        }
    }

    /// Only what is registered is counted by its name: callers can make up any number of others.
    fn count_refused(&self, request: Request<'_>, counted: &mut Counted<'_>) {
        if self.registry.find(request.capability, request.version).is_ok() {
            counted.is_of(request.capability);
        }
    }

    /// A trace that begins here.
    pub(super) fn begin_trace(&self) -> TraceContext {
        self.sampling.decide(TraceContext::begin(entropy::trace_id()))
    }

    /// Which traces are kept.
    pub fn sampling(&self) -> Sampling {
        self.sampling
    }

    /// How much of the host is in use now.
    pub fn load(&self) -> Load {
        self.gate.load()
    }

    /// What runs capabilities.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    pub(super) fn since(&self, begun: Duration) -> Duration {
        self.clock.elapsed().saturating_sub(begun)
    }
}
