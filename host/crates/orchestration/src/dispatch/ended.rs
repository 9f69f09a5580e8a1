//! Records the end of a call exactly once, also when the caller gives it up half-way.

use aral_contract::event::{AppendOutcome, RecordFuture, RecordReference};
use aral_contract::{CapabilityId, Code, Event, EventKind, Failure, TraceContext, TraceId, Usage};
use tokio::time::Instant;

use super::evidence::{Proof, ReceiptReference};
use super::granted::Granted;
use super::phase::PhaseWatcher;
use super::{Dispatcher, Outcome};
use crate::Session;

/// What is asked of a grant, and by whom.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) context: &'a TraceContext,
    /// None: nobody's, for development.
    pub(super) session: Option<&'a Session>,
    pub(super) input: &'a [u8],
    /// Who is told how far it has come.
    pub(super) told: PhaseWatcher<'a>,
    /// Until when they wait; none: as long as it takes.
    pub(super) until: Option<Instant>,
}

/// Records the end when dropped. Until told otherwise, the end is that the caller gave up.
pub(super) struct Ended<'a> {
    dispatcher: &'a Dispatcher,
    asked: Asked<'a>,
    granted: &'a Granted,
    proof: Option<Proof>,
    is_told: bool,
}

impl<'a> Ended<'a> {
    pub(super) fn new(dispatcher: &'a Dispatcher, asked: Asked<'a>, granted: &'a Granted) -> Self {
        let witness = dispatcher.witness.as_ref();
        Self {
            dispatcher,
            proof: witness.map(|witness| witness.begin(asked.context.trace, asked.input)),
            asked,
            granted,
            is_told: false,
        }
    }

    pub(super) fn proof(&self) -> Option<&Proof> {
        self.proof.as_ref()
    }

    /// Tells the end, at once and whatever becomes of the answer, and waits until it is kept as the log promises.
    pub(super) async fn told(
        mut self,
        result: Result<String, Failure>,
        usage: &Usage,
    ) -> (Result<String, Failure>, Option<ReceiptReference>) {
        self.is_told = true;
        let code = result.as_ref().err().map(|failure| failure.code);
        let event = self.event(code, usage.clone(), result.as_ref().ok().map(String::as_str));
        let kept = self.dispatcher.sink.append(event);
        self.dispatcher
            .kept(self.asked.context.trace, kept, result, self.proof.as_ref())
            .await
    }

    fn event(&self, code: Option<Code>, usage: Usage, output: Option<&str>) -> Event {
        Event {
            at: self.dispatcher.clock.now(),
            trace: Some(self.asked.context.trace),
            kind: EventKind::InvocationEnded {
                capability: self.granted.grant().capability.clone(),
                persona: self.granted.grant().persona.clone(),
                code,
                usage,
                user: self.asked.session.and_then(Session::user).cloned(),
                callers: self.asked.session.map(Session::callers).unwrap_or_default(),
                evidence: self.proof.as_ref().map(|proof| proof.evidence(self.granted, output)),
            },
        }
    }
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        if !self.is_told {
            let event = self.event(Some(Code::Cancelled), Usage::default(), None);
            self.dispatcher.sink.record(event);
        }
    }
}

impl Dispatcher {
    /// A call that never got as far as a grant.
    pub(super) async fn refused(
        &self,
        trace: TraceId,
        session: &Session,
        capability: &CapabilityId,
        failure: Failure,
    ) -> Outcome {
        let failure = self.reported(failure, trace);
        let (result, receipt) = self.refused_on_record(trace, session, capability, failure).await;
        unrun(trace, capability, result, receipt)
    }

    /// The end of such a call. It is recorded like any other.
    async fn refused_on_record(
        &self,
        trace: TraceId,
        session: &Session,
        capability: &CapabilityId,
        failure: Failure,
    ) -> (Result<String, Failure>, Option<ReceiptReference>) {
        let kept = self.sink.append(Event {
            at: self.clock.now(),
            trace: Some(trace),
            kind: EventKind::InvocationEnded {
                capability: capability.clone(),
                persona: session.persona().body.id.clone(),
                code: Some(failure.code),
                usage: Usage::default(),
                user: session.user().cloned(),
                callers: session.callers(),
                evidence: None,
            },
        });
        self.kept(trace, kept, Err(failure), None).await
    }

    /// An end that is not kept has no answer: whoever got one could not be shown to have got it.
    async fn kept(
        &self,
        trace: TraceId,
        kept: RecordFuture,
        result: Result<String, Failure>,
        proof: Option<&Proof>,
    ) -> (Result<String, Failure>, Option<ReceiptReference>) {
        match kept.await {
            Ok(AppendOutcome::Recorded(record)) => (result, Some(receipt(record, proof))),
            Ok(AppendOutcome::Unreferenced | AppendOutcome::Aggregated) => (result, None),
            Err(unavailable) => {
                let failure = Failure {
                    message: "the call ended, but its end could not be recorded, so that there is no answer".to_owned(),
                    hint: Some("see what it did before you call again".to_owned()),
                    ..Failure::from(unavailable)
                };
                (Err(self.reported(failure, trace)), None)
            }
        }
    }
}

fn receipt(record: RecordReference, proof: Option<&Proof>) -> ReceiptReference {
    ReceiptReference {
        record,
        input_salt: proof.map(|proof| proof.input_salt),
        output_salt: proof.map(|proof| proof.output_salt),
    }
}

/// The outcome of a call under which nothing ran.
pub(super) fn unrun(
    trace: TraceId,
    capability: &CapabilityId,
    result: Result<String, Failure>,
    receipt: Option<ReceiptReference>,
) -> Outcome {
    Outcome {
        trace,
        capability: capability.clone(),
        version: None,
        result,
        usage: Usage::default(),
        cost_micro: 0,
        grant: None,
        receipt,
    }
}
