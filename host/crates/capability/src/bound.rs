//! A capability bound to a grant, and one invocation of it. The one place where a guest runs: a fresh store for each
//! call, bounded in every direction, thrown away after it. It asks nobody for permission: the grant is the answer.

mod answer;
mod room;
pub(crate) mod stdio;
mod timed;

#[cfg(test)]
mod tests;

use std::pin::pin;
use std::sync::Arc;

use aral_audit::HostCalls;
use aral_contract::metric::CALL_STAGE_SECONDS;
use aral_contract::scope::AbsolutePath;
use aral_contract::{AuditSink, Clock, Code, Failure, Grant, HostPattern, TraceContext, Usage};
use aral_memory::Secrets;
use aral_runtime::{Engine, Fault, Guarded, Runtime, fault_of, within_wall};
use metrics::{Histogram, histogram};
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, Span};
use wasmtime::Store;
use wasmtime::component::Component;
use wasmtime_wasi::I32Exit;
use wasmtime_wasi::p2::bindings::CommandPre;

use crate::bindings::CapabilityPre;
use crate::call::{CallRecord, Frame, sanitised};
use crate::egress::Egress;
use crate::filesystem::FileWork;
use crate::functions::exec::Programs;
use crate::manifest::Shape;
use crate::registry::Capability;
use crate::schema::Schemas;
use crate::state::State;
use crate::storage::{Memory, SecretUses};
use crate::{fault, filesystem, linker};
use answer::{Check, Side};
use stdio::{CappedOutput, StandardStreams};
use timed::Timed;

/// Longest reason why a component does not fit, in bytes: it holds names that the component chose.
const UNFIT_BYTES_MAX: usize = 1024;

/// What the host lends to the capabilities it runs. One for each host.
#[derive(Debug, Clone)]
pub struct Services {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Takes the events.
    pub sink: Arc<dyn AuditSink>,
    /// Sends requests.
    pub egress: Arc<Egress>,
    /// Bounds what guests do with files at once.
    pub file_work: FileWork,
    /// Bounds what programs guests run at once.
    pub programs: Programs,
    /// Where folders may be mounted from.
    pub roots: Roots,
    /// Keeps records; none: memory functions answer `unavailable`.
    pub memory: Option<Memory>,
    /// Finds secrets; none: secret functions answer `unavailable`.
    pub secrets: Option<Secrets>,
    /// Bounds what the guests of one persona do with secrets at once.
    pub secret_uses: SecretUses,
    /// The hosts that learn to which trace a request belongs; none: all of them, and no `tracestate`.
    pub trace_hosts: Option<Vec<HostPattern>>,
}

/// The folders below which the operator lets capabilities work. A granted folder is opened from its root, and no symbolic
/// link on the way leads out of that.
#[derive(Debug, Clone, Default)]
pub struct Roots {
    /// For reading.
    pub read: Vec<AbsolutePath>,
    /// For writing.
    pub write: Vec<AbsolutePath>,
}

/// What becomes of an import that the grant does not cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ungranted {
    /// It is not linked: the component cannot be bound.
    Refuse,
    /// It is linked, and each use is denied and recorded. For `aral run --observe`.
    Observe,
}

/// One call.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The request it belongs to.
    pub context: &'a TraceContext,
    /// JSON text.
    pub input: &'a [u8],
    /// Where its host calls are listed; none: nowhere, because nobody keeps receipts.
    pub host_calls: Option<&'a HostCalls>,
    /// Who is told that the guest runs; none: nobody.
    pub running: Option<&'a Running>,
    /// Until when somebody waits for it, so that a guest that still runs then is ended; none: as long as its limits allow.
    pub until: Option<Instant>,
}

/// Is told that the guest of a call runs: once it is there to be called, or before a host function first lets something
/// through, which may be earlier. What was never told did nothing that anybody else could notice, however the call ended.
#[derive(Clone)]
pub struct Running(Arc<dyn Fn() + Send + Sync>);

impl Running {
    /// `tell` is called at least once for a guest that runs, and possibly often: it must be quick.
    pub fn new(tell: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    pub(crate) fn tell(&self) {
        (self.0)();
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Running")
    }
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// The answer as JSON text that satisfies the output schema, or why there is none.
    pub result: Result<String, Failure>,
    /// What the call used, however it ended.
    pub usage: Usage,
    /// Whether the guest ran, as [`Running`] says.
    pub ran: bool,
}

enum Program {
    Tool(CapabilityPre<State>),
    Command(CommandPre<State>),
}

/// A capability bound to a grant: linked, its folders opened. Made once for each grant; calls may run at the same time. All
/// who are bound to one capability share its schemas.
pub struct Bound {
    runtime: Runtime,
    frame: Arc<Frame>,
    program: Program,
    schemas: Arc<Schemas>,
    instantiate: Histogram,
    run: Histogram,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let grant = &self.frame.grant;
        write!(f, "Bound({} {} for {})", grant.capability, grant.version, grant.persona)
    }
}

/// Binds a capability to a grant that was computed for it.
pub async fn bind(
    runtime: &Runtime,
    capability: &Capability,
    grant: Arc<Grant>,
    services: Arc<Services>,
    ungranted: Ungranted,
) -> Result<Bound, Failure> {
    if grant.component != capability.entry.component {
        return Err(Failure::internal("the grant was computed for another component"));
    }
    let component = capability.component(runtime, grant.metering, &*services.clock).await?;
    let mounts = filesystem::mounts(&grant, &services.roots, &services.file_work, ungranted).await?;
    let (shape, schemas) = (capability.entry.shape, Arc::clone(&capability.schemas));
    let frame = Frame {
        grant,
        services,
        mounts,
        ungranted,
    };
    bind_component(runtime, &component, shape, schemas, frame)
}

/// The same for a compiled component and its two schemas.
pub(crate) fn bind_component(
    runtime: &Runtime,
    component: &Component,
    shape: Shape,
    schemas: Arc<Schemas>,
    frame: Frame,
) -> Result<Bound, Failure> {
    let engine = engine(runtime, &frame.grant)?;
    let linker =
        linker::build(engine.wasmtime(), &frame.grant.permissions, frame.ungranted).map_err(Failure::internal)?;
    let unfit = |error: wasmtime::Error| {
        let reason = sanitised(&format!("{error:#}"), UNFIT_BYTES_MAX);
        Failure::new(
            Code::ComponentInvalid,
            format!("the component does not fit this grant: {reason}"),
        )
    };
    let instance = linker.instantiate_pre(component).map_err(unfit)?;
    let program = match shape {
        Shape::Tool => Program::Tool(CapabilityPre::new(instance).map_err(unfit)?),
        Shape::Command => Program::Command(CommandPre::new(instance).map_err(unfit)?),
    };
    Ok(Bound {
        runtime: runtime.clone(),
        frame: Arc::new(frame),
        program,
        schemas,
        instantiate: histogram!(CALL_STAGE_SECONDS.name, "stage" => "instantiate"),
        run: histogram!(CALL_STAGE_SECONDS.name, "stage" => "run"),
    })
}

fn engine<'a>(runtime: &'a Runtime, grant: &Grant) -> Result<&'a Engine, Failure> {
    runtime.engine(grant.metering).map_err(Failure::internal)
}

impl Bound {
    /// Runs the capability once. To cancel, drop the future: the guest, its host functions and its connections end with
    /// it. A program that it runs is killed as soon as the tokio runtime runs, or ends.
    pub async fn invoke(&self, call: Call<'_>) -> Completion {
        let record = CallRecord::listing(
            Arc::clone(&self.frame),
            call.context.clone(),
            call.host_calls.cloned(),
            call.running.cloned(),
            call.until,
        );
        let mut usage = Usage {
            input_bytes: u64::try_from(call.input.len()).unwrap_or(u64::MAX),
            ..Usage::default()
        };
        let result = self.checked(&record, call.input, &mut usage).await;
        usage.http_requests = record.http_requests();
        (usage.log_bytes, usage.log_bytes_dropped) = record.with_log(|log| (log.kept(), log.dropped()));
        usage.wall_us = u64::try_from(record.elapsed().as_micros()).unwrap_or(u64::MAX);
        Completion {
            result: result.map_err(|failure| failure.with_trace(call.context.trace)),
            usage,
            ran: record.ran(),
        }
    }

    /// Input checks, the run, output checks.
    async fn checked(&self, record: &Arc<CallRecord>, input: &[u8], usage: &mut Usage) -> Result<String, Failure> {
        let limits = &self.frame.grant.limits;
        let check = Check::new(Side::Input, limits.input_bytes, &self.schemas);
        let input = check.text(input, record).await?;
        let output = self.run(record, input, usage).await?;
        usage.output_bytes = u64::try_from(output.len()).unwrap_or(u64::MAX);
        let check = Check::new(Side::Output, limits.output_bytes, &self.schemas);
        check.text(output, record).await
    }

    async fn run(&self, record: &Arc<CallRecord>, input: String, usage: &mut Usage) -> Result<Vec<u8>, Failure> {
        let limits = &self.frame.grant.limits;
        let engine = engine(&self.runtime, &self.frame.grant)?;
        let stdout = CappedOutput::new(limits.output_bytes);
        let mut tool_input = None;
        let streams = match &self.program {
            Program::Tool(_) => {
                tool_input = Some(input);
                StandardStreams::Log
            }
            Program::Command(_) => StandardStreams::answer(input, &stdout),
        };
        let mut store = engine.store(State::new(Arc::clone(record), streams), limits);
        let (mut ended, stands) = (None, room::Stands::begin());
        let in_time = {
            // Pinned here and lent: each function that takes a future by value keeps it twice, and copies it.
            let run = pin!(async {
                ended = Some({
                    let guest = pin!(async {
                        match &self.program {
                            Program::Tool(tool) => {
                                self.run_tool(tool, &mut store, &tool_input.unwrap_or_default()).await
                            }
                            Program::Command(command) => self.run_command(command, &mut store, &stdout).await,
                        }
                    });
                    room::given(&self.frame.services.sink, || record.recorded(), &stands, guest).await
                });
                // Whoever has the answer finds what the guest wrote. A disk that takes too long for that takes no answer away.
                store.data_mut().close_files().await;
            });
            let run = within_wall(limits, run);
            match record.until {
                Some(until) => timeout_at(until, run).await.ok(),
                None => Some(run.await),
            }
        };
        usage.fuel = engine.fuel_used(&store, limits);
        usage.memory_bytes_peak = store.data().guard_ref().memory_bytes_peak();
        usage.compute_ms = store.data().guard_ref().compute_ms();
        match (ended, in_time) {
            (Some(Ok(answer)), _) => answer,
            (Some(Err(error)), _) => Err(self.failure_of(&error, &stdout, &store)),
            (None, _) if stands.is_why() => Err(fault::unrecorded()),
            (None, Some(Err(wall))) => Err(fault::of_fault(wall)),
            (None, _) => Err(fault::too_late()),
        }
    }

    fn failure_of(&self, error: &wasmtime::Error, stdout: &CappedOutput, store: &Store<State>) -> Failure {
        if stdout.overflowed() {
            return answer::too_large(self.frame.grant.limits.output_bytes);
        }
        if let Some(I32Exit(code)) = error.downcast_ref() {
            return fault::of_exit(*code);
        }
        let fault = fault_of(error, store.data().guard_ref());
        if let Fault::Host { message } = &fault {
            tracing::error!(message, capability = %self.frame.grant.capability, "a call failed on the host's side");
        }
        fault::of_fault(fault)
    }
}

type Ended = Result<Vec<u8>, Failure>;

impl Bound {
    async fn run_tool(
        &self,
        tool: &CapabilityPre<State>,
        store: &mut Store<State>,
        input: &str,
    ) -> wasmtime::Result<Ended> {
        let instance = {
            let _timed = self.timed(&self.instantiate);
            tool.instantiate_async(&mut *store).instrument(instantiating()).await?
        };
        store.data().call.runs();
        let _timed = self.timed(&self.run);
        let tool = instance.aral_capability_tool();
        let answer = tool.call_invoke(&mut *store, input).instrument(running()).await?;
        Ok(answer
            .map(String::into_bytes)
            .map_err(|error| fault::of_guest_error(&error)))
    }

    async fn run_command(
        &self,
        command: &CommandPre<State>,
        store: &mut Store<State>,
        stdout: &CappedOutput,
    ) -> wasmtime::Result<Ended> {
        let instance = {
            let _timed = self.timed(&self.instantiate);
            command
                .instantiate_async(&mut *store)
                .instrument(instantiating())
                .await?
        };
        store.data().call.runs();
        let _timed = self.timed(&self.run);
        let failed = |code| {
            let ended = fault::ended(code);
            Err(Failure::new(Code::GuestError, format!("the program ended {ended}")))
        };
        let run = instance.wasi_cli_run();
        match run.call_run(&mut *store).instrument(running()).await {
            Ok(Ok(())) => Ok(Ok(stdout.take())),
            Ok(Err(())) => Ok(failed(1)),
            Err(error) => match error.downcast_ref() {
                Some(I32Exit(0)) => Ok(Ok(stdout.take())),
                Some(I32Exit(code)) => Ok(failed(*code)),
                None => Err(error),
            },
        }
    }

    fn timed<'a>(&'a self, histogram: &'a Histogram) -> Timed<'a> {
        Timed::begin(&*self.frame.services.clock, histogram)
    }
}

fn instantiating() -> Span {
    tracing::info_span!(target: "aral::call", "instantiate")
}

fn running() -> Span {
    tracing::info_span!(target: "aral::call", "run")
}
