//! One call of a tool: arguments in, the one path, and what came of it as MCP tells it. What the capability or the host says
//! of a call is a result with `isError`, for the model to read; an error of the protocol is a tool that is not there.

use std::sync::Arc;
use std::time::Duration;

use aral_contract::document::json::memory_bytes;
use aral_contract::version::exactly;
use aral_contract::{CapabilityId, Code, Failure, TraceContext, TraceId};
use aral_orchestration::dispatch::CallPhase;
use aral_orchestration::{Outcome, Request, Session};
use rmcp::RoleServer;
use rmcp::model::{CallToolResult, ContentBlock, ErrorData, MetaObject, ProgressNotificationParam, ProgressToken};
use rmcp::service::{Peer, RequestContext};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use super::arguments::Arguments;
use super::message::data;
use super::{Toolbox, tool};
use crate::bounds;
use crate::limit::Reservation;
use crate::receipts;
use crate::request_place::RequestPlace;

/// How often a caller that wants to know is told that its call goes on.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How much of a name that nothing has is said again.
const NAME_CHARS_MAX: usize = 128;

/// Who calls, and what the call is called in the records.
pub(super) struct Caller {
    pub(super) session: Session,
    pub(super) context: TraceContext,
    pub(super) toolbox: Toolbox,
    /// What is put aside for the call; none: nobody limits who calls.
    pub(super) reservation: Option<Arc<Reservation>>,
    /// Whose answer waits to be sent; none: nobody counts them.
    pub(super) place: Option<RequestPlace>,
}

impl Caller {
    /// Calls the tool of this name with the arguments that came with the request. The call ends with its request: cancelling the
    /// request, or dropping this, ends the guest.
    pub(super) async fn call(
        &self,
        name: &str,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResult, ErrorData> {
        let Ok(id) = name.parse::<CapabilityId>() else {
            return Err(unknown(name, self.context.trace));
        };
        let (phase, phases) = watch::channel(CallPhase::default());
        // As over HTTP: what takes too long is ended by the path, and here what takes too long to say.
        let until = Instant::now().checked_add(bounds::ms(self.toolbox.handler_ms));
        let most = bounds::call_max(self.toolbox.handler_ms);
        let call = async {
            let outcome = self.outcome(&id, Arguments::of(&context.extensions), &phase, until);
            let ended = tokio::time::timeout(most, outcome).await;
            // From now on there is nothing to tell.
            drop(phase);
            match ended {
                Ok(outcome) => borne(outcome?, self.place.as_ref()),
                Err(_elapsed) => Ok(failed(&self.too_long(), self.context.trace)),
            }
        };
        let token = context.meta.get_progress_token();
        let told = async {
            let (told, ()) = tokio::join!(call, progress(token, &context.peer, phases));
            told
        };
        tokio::select! {
            biased;
            () = context.ct.cancelled() => {
                // Nobody reads it: the library answers no request that was cancelled.
                let failure = Failure::new(Code::Cancelled, "the call was cancelled");
                Ok(failed(&failure, self.context.trace))
            }
            told = told => told,
        }
    }

    async fn outcome(
        &self,
        id: &CapabilityId,
        arguments: Option<&Arguments>,
        phase: &watch::Sender<CallPhase>,
        until: Option<Instant>,
    ) -> Result<Outcome, ErrorData> {
        // What is not there is asked for nevertheless, so that it is recorded like every other refusal.
        let found = self.toolbox.dispatcher.registry().find(id, None).ok();
        let version = found.as_ref().map(|found| exactly(&found.entry.version));
        let input = match &found {
            None => Some("null"),
            Some(found) => tool::input(&found.entry.input_schema, arguments),
        };
        let Some(input) = input else {
            return self.misdirected(id);
        };
        let request = Request {
            capability: id,
            version: version.as_ref(),
            input: input.as_bytes(),
            trace: Some(&self.context),
        };
        if let Some(reservation) = &self.reservation {
            reservation.begin(phase.subscribe());
        }
        let outcome = self
            .toolbox
            .dispatcher
            .invoke_watched(&self.session, request, phase, until)
            .await;
        if let Some(reservation) = &self.reservation {
            reservation.settle(outcome.cost_micro);
        }
        if is_hidden(&outcome) {
            return self.hidden(id);
        }
        Ok(outcome)
    }

    /// What the caller may not call is no tool. Once their session has ended they may call nothing with it, which says nothing of
    /// the tool: the same is told of every name.
    fn hidden(&self, id: &CapabilityId) -> Result<Outcome, ErrorData> {
        match self.session.check_issue() {
            Ok(()) => Err(unknown(id.as_str(), self.context.trace)),
            Err(ended) => Ok(self.refused(id, ended)),
        }
    }

    /// Arguments that are not those of the tool; whoever may not call it does not learn that it is there.
    fn misdirected(&self, id: &CapabilityId) -> Result<Outcome, ErrorData> {
        if self.toolbox.dispatcher.authorize(&self.session, id, None).is_err() {
            return self.hidden(id);
        }
        let failure = Failure::new(Code::InputInvalid, "the arguments are not those of the tool")
            .with_hint("send one argument, `input`, with the whole input");
        Ok(self.refused(id, failure))
    }

    /// Nothing ran.
    fn refused(&self, id: &CapabilityId, failure: Failure) -> Outcome {
        Outcome {
            trace: self.context.trace,
            capability: id.clone(),
            version: None,
            result: Err(failure),
            usage: aral_contract::Usage::default(),
            cost_micro: 0,
            grant: None,
            receipt: None,
        }
    }

    fn too_long(&self) -> Failure {
        let message = format!("the call did not end within {} ms", self.toolbox.handler_ms);
        Failure::new(Code::LimitWall, message).with_hint(bounds::raise("handler_ms", self.toolbox.handler_ms))
    }
}

/// Whether nothing ran because the caller may not call this, or because it is not there. Both look the same: what is not in
/// the list of tools is no tool.
fn is_hidden(outcome: &Outcome) -> bool {
    let code = outcome.result.as_ref().err().map(|failure| failure.code);
    outcome.version.is_none()
        && matches!(
            code,
            Some(Code::CapabilityUnknown | Code::PermissionDenied | Code::DocumentStale | Code::SignatureInvalid)
        )
}

fn unknown(name: &str, trace: TraceId) -> ErrorData {
    let name: String = name.chars().take(NAME_CHARS_MAX).collect();
    let message = format!("there is no tool `{}`", name.escape_debug());
    ErrorData::invalid_params(message, Some(data(Code::CapabilityUnknown.as_str(), trace)))
}

/// The outcome as MCP has it, whose bytes count until it is sent; or the same call, and that there is no room for what it answers.
fn borne(mut outcome: Outcome, place: Option<&RequestPlace>) -> Result<CallToolResult, ErrorData> {
    let result = told(&outcome)?;
    let text = outcome.result.as_ref().map_or(0, String::len);
    let value = result.structured_content.as_ref().map_or(0, memory_bytes);
    let bytes = u64::try_from(text.saturating_add(value)).unwrap_or(u64::MAX);
    match place.map_or(Ok(()), |place| place.weigh(bytes)) {
        Ok(()) => Ok(result),
        Err(failure) => {
            outcome.result = Err(failure);
            told(&outcome)
        }
    }
}

/// The outcome as MCP has it: text for a model, the same as a value for a program, the rest beside it.
fn told(outcome: &Outcome) -> Result<CallToolResult, ErrorData> {
    let mut result = match &outcome.result {
        Err(failure) => failed(failure, outcome.trace),
        Ok(output) => {
            let value: Value = serde_json::from_str(output).map_err(|error| {
                tracing::error!(trace = %outcome.trace, %error, "an output that was checked is no JSON");
                ErrorData::internal_error("the host failed", Some(data(Code::Internal.as_str(), outcome.trace)))
            })?;
            let mut result = CallToolResult::success(vec![ContentBlock::text(output.clone())]);
            result.structured_content = Some(value);
            result.meta = Some(tool::meta([("aral/trace_id", json!(outcome.trace.to_string()))]));
            result
        }
    };
    if let (Some(version), Some(MetaObject(members))) = (&outcome.version, &mut result.meta) {
        members.insert("aral/version".to_owned(), json!(version.to_string()));
        members.insert("aral/usage".to_owned(), json!(outcome.usage));
        if let Some(reference) = &outcome.receipt {
            members.insert("aral/receipt".to_owned(), json!(receipts::reference(reference)));
        }
    }
    Ok(result)
}

/// A failure: its code, what failed, how to repair it, and how the operator finds it.
fn failed(failure: &Failure, trace: TraceId) -> CallToolResult {
    let mut lines = vec![failure.to_string()];
    let mut error = tool::meta([
        ("code", json!(failure.code.as_str())),
        ("message", json!(failure.message)),
    ]);
    if let Some(hint) = &failure.hint {
        lines.push(format!("hint: {hint}"));
        error.0.insert("hint".to_owned(), json!(hint));
    }
    if let Some(ms) = failure.retry_after_ms() {
        lines.push(format!("call again after {ms} ms"));
        error.0.insert("retry_after_ms".to_owned(), json!(ms));
    }
    lines.push(format!("trace: {trace}"));
    let mut result = CallToolResult::error(vec![ContentBlock::text(lines.join("\n"))]);
    result.meta = Some(tool::meta([
        ("aral/trace_id", json!(trace.to_string())),
        ("aral/error", Value::Object(error.0)),
    ]));
    result
}

/// Tells a caller that wants to know, and ends behind the call: what is told is on its way then, and its answer comes after it. If
/// nobody reads, the answer does not wait for ever.
async fn progress(token: Option<ProgressToken>, peer: &Peer<RoleServer>, phases: watch::Receiver<CallPhase>) {
    let Some(token) = token else { return };
    let mut ends = phases.clone();
    let late = async {
        while ends.changed().await.is_ok() {}
        tokio::time::sleep(PROGRESS_EVERY).await;
    };
    tokio::select! {
        () = tell(token, peer, phases) => {}
        () = late => {}
    }
}

/// Tells how far a call is, until it has ended or nobody hears it: seconds since it began, and what it does. How long it takes, nobody
/// knows, so that there is no total.
async fn tell(token: ProgressToken, peer: &Peer<RoleServer>, mut phases: watch::Receiver<CallPhase>) {
    let begun = Instant::now();
    loop {
        let phase = *phases.borrow_and_update();
        let told = ProgressNotificationParam::new(token.clone(), begun.elapsed().as_secs_f64())
            .with_message(phase.to_string());
        if peer.notify_progress(told).await.is_err() {
            return;
        }
        tokio::select! {
            changed = phases.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = tokio::time::sleep(PROGRESS_EVERY) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::Bounds;
    use crate::places::Places;
    use crate::unsent::{Unsent, Weight};

    fn outcome(output: &str) -> Outcome {
        Outcome {
            trace: TraceId::from_bytes([7; 16]),
            capability: "echo".parse().unwrap(),
            version: Some("1.2.3".parse().unwrap()),
            result: Ok(output.to_owned()),
            usage: aral_contract::Usage::default(),
            cost_micro: 0,
            grant: None,
            receipt: None,
        }
    }

    #[test]
    fn an_answer_that_has_no_room_says_that_the_call_was_made() {
        let bounds = Bounds {
            unsent_bytes_max: 1_000,
            unsent_bytes_per_caller_max: 1_000,
            ..Bounds::default()
        };
        let (places, all) = (Places::new(2), Unsent::default());
        let place = || RequestPlace::new(places.try_take().unwrap(), Weight::new(&all, &bounds));
        // A hundred values take more memory than their text.
        let long = format!("[{}0]", "0,".repeat(99));
        let (first, second) = (place(), place());
        let told = borne(outcome(&long), Some(&first)).unwrap();
        assert_eq!(told.is_error, Some(false));
        let refused = borne(outcome("0"), Some(&second)).unwrap();
        assert_eq!(refused.is_error, Some(true));
        let meta = serde_json::to_value(refused.meta.unwrap()).unwrap();
        assert_eq!(meta["aral/error"]["code"], "host.unavailable");
        assert_eq!(meta["aral/version"], "1.2.3");
        drop(first);
        let told = borne(outcome("0"), Some(&second)).unwrap();
        assert_eq!(told.is_error, Some(false));
        assert_eq!(borne(outcome(&long), None).unwrap().is_error, Some(false));
    }
}
