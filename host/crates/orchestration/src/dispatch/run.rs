//! A component without a manifest, for development: whoever runs it names its permissions, and they become manifest,
//! persona and policy at once. From the three yeses on it takes the same path as every call.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use aral_capability::manifest::{self, ManifestBody};
use aral_capability::{Capability, Registry, Services, Ungranted, inspect_by};
use aral_contract::document::Verified;
use aral_contract::document::signed::{Kind, dangerous_accept_unsigned};
use aral_contract::event::RoomFuture;
use aral_contract::scope::AbsolutePath;
use aral_contract::{
    AllowList, AuditSink, Code, Digest, Event, EventKind, Failure, HostPattern, Limits, LimitsRequest, Permission,
    Permissions, TraceId,
};
use aral_persona::Persona;
use aral_runtime::Looker;
use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::ended::Asked;
use super::granted::{self, Granted};
use super::{Dispatcher, Outcome, Papers};
use crate::authorize::{Decision, authorize};
use crate::policy::{AgentLimits, BreakerLimits, Policy, PolicyParts, Prices};

/// How long the made-up documents are valid: longer than any call.
const VALIDITY: SignedDuration = SignedDuration::from_hours(24);

/// A component to run as it is, with the permissions that whoever runs it names.
#[derive(Debug, Clone)]
pub struct DevelopmentRun {
    /// The component.
    pub component: Vec<u8>,
    /// What it may do.
    pub permissions: Permissions,
    /// How much of it; absent fields take the built-in defaults.
    pub limits: LimitsRequest,
    /// Networks that are not public and may be reached.
    pub networks: Vec<IpNet>,
    /// What becomes of its imports that the permissions do not cover. What it is refused is reported either way.
    pub ungranted: Ungranted,
}

/// One attempt that a host function refused.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Refusal {
    /// The permission that it would have needed.
    pub permission: Permission,
    /// What the guest wanted to reach.
    pub target: String,
    /// Why it was refused, with the line that would allow it.
    pub reason: String,
}

/// How a run for development ended.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// The answer and what it cost.
    pub outcome: Outcome,
    /// What was granted.
    pub decision: Decision,
    /// What host functions refused, in the order of the attempts.
    pub refusals: Vec<Refusal>,
}

impl Dispatcher {
    /// Runs a component without a manifest, under permissions that nobody signed. For development alone.
    ///
    /// # Errors
    /// What is wrong with the component, or with the permissions. That the run itself failed is part of the report.
    pub async fn dangerous_run(&self, run: &DevelopmentRun, input: &[u8]) -> Result<RunReport, Failure> {
        self.check_recordable().await?;
        let context = self.begin_trace();
        let trace = context.trace;
        let now = self.clock.now();
        let digest = Digest::of(&run.component);
        self.warn_development(Some(trace), format!("component {digest} without a manifest"));
        let capability = capability(run, digest, &self.runtime.looker(), now)?;
        let persona = persona(now)?;
        let policy = Policy::new(policy_parts(&run.permissions, &run.limits, &run.networks))?;
        let decision = authorize(&capability.entry, capability.manifest_digest(), &persona, &policy);
        let papers = Papers {
            manifest: capability.manifest_digest(),
            persona: persona.digest,
            policy: policy.digest(),
        };
        self.record_decision(&decision, papers, Some(trace));
        let grant = match &decision.outcome {
            Ok(grant) => Arc::new(grant.clone()),
            Err(denial) => return Err(Failure::from(denial)),
        };
        let recorder = Arc::new(Recorder::before(Arc::clone(&self.sink)));
        let services = Services {
            sink: Arc::clone(&recorder) as Arc<dyn AuditSink>,
            roots: granted::roots(&policy),
            trace_hosts: policy.trace_hosts.clone(),
            ..self.services.clone()
        };
        let granted = Granted::new(
            capability,
            grant,
            persona.digest,
            decision.terms.clone(),
            Arc::new(services),
            run.ungranted,
        );
        let asked = Asked {
            context: &context,
            session: None,
            input,
            told: None,
            until: None,
        };
        Ok(RunReport {
            outcome: self.run(asked, &granted, None, None).await,
            decision,
            refusals: recorder.into_refusals(),
        })
    }

    /// Says, for people and for the record, that something runs which only development allows. Each time.
    pub fn warn_development(&self, trace: Option<TraceId>, subject: String) {
        tracing::warn!(%subject, "only development allows this");
        self.record(trace, || EventKind::DevelopmentOnly { subject });
    }
}

fn capability(
    run: &DevelopmentRun,
    component: Digest,
    looker: &Looker,
    now: Timestamp,
) -> Result<Arc<Capability>, Failure> {
    let inspection = inspect_by(looker, &run.component)?;
    let shape = inspection.shape.ok_or_else(|| {
        Failure::new(Code::ComponentInvalid, "the component is neither a tool nor a command")
            .with_hint("`aral inspect` shows what it exports")
    })?;
    let document = json!({
        "schema": Kind::Manifest.schema(), "serial": 0, "issued_at": now, "expires_at": until(now),
        "capabilities": [{
            "id": "run", "version": "0.0.0", "shape": shape, "component": component,
            "title": "A component without a manifest", "description": "A component without a manifest.",
            "input_schema": {}, "output_schema": {}, "permissions": run.permissions, "limits": run.limits,
        }],
    });
    let manifest: Verified<ManifestBody> = manifest::dangerous_accept_unsigned(document.to_string().as_bytes(), now)?;
    let registry = Registry::inspecting_by(looker.clone());
    let bytes = |_: &manifest::Entry| Ok(run.component.clone());
    let admitted = match run.ungranted {
        Ungranted::Refuse => registry.admit(&manifest, &bytes)?,
        Ungranted::Observe => registry.dangerous_admit_uncovered(&manifest, &bytes)?,
    };
    let first = admitted.into_iter().next().map(|(capability, _)| capability);
    first.ok_or_else(|| Failure::internal("a manifest with one entry admitted none"))
}

fn until(now: Timestamp) -> Timestamp {
    now.saturating_add(VALIDITY).unwrap_or(Timestamp::MAX)
}

fn persona(now: Timestamp) -> Result<Persona, Failure> {
    let document = json!({
        "schema": Kind::Persona.schema(), "serial": 0, "issued_at": now, "expires_at": until(now),
        "id": "development", "name": "Whoever runs this", "clearance": "secret",
        "constraints": {"allowed_permissions": ["*"], "allowed_capabilities": ["*"], "allowed_domains": ["*"]},
    });
    Ok(dangerous_accept_unsigned(
        Kind::Persona,
        document.to_string().as_bytes(),
        now,
    )?)
}

/// A policy that allows exactly what is asked for.
fn policy_parts(permissions: &Permissions, limits: &LimitsRequest, networks: &[IpNet]) -> PolicyParts {
    let network = [&permissions.network_read, &permissions.network_write]
        .into_iter()
        .flatten();
    let secrets = permissions.secret_read.iter().flat_map(|scope| &scope.secrets);
    let hosts: Vec<HostPattern> = network
        .flat_map(|scope| &scope.hosts)
        .chain(secrets.flat_map(|one| &one.hosts))
        .cloned()
        .collect();
    let read = permissions.file_read.iter().flat_map(|scope| &scope.paths);
    let written = || permissions.file_write.iter().flat_map(|scope| &scope.paths);
    let memory = permissions.memory_write.as_ref();
    let ceiling = Limits::default().with(limits);
    PolicyParts {
        permissions: AllowList::any(),
        capabilities: AllowList::any(),
        hosts,
        networks: networks.to_vec(),
        trace_hosts: None,
        read_roots: read.map(|path| path.host.clone()).collect::<Vec<AbsolutePath>>(),
        write_roots: written().map(|path| path.host.clone()).collect(),
        file_bytes_max: written().map(|path| path.bytes_max).max().unwrap_or(0),
        file_count_max: written().map(|path| path.files_max).max().unwrap_or(0),
        secrets: AllowList::any(),
        secret_reveal: true,
        // Whoever runs it has named the hosts, each with its scheme.
        secret_plain_loopback: true,
        namespaces: AllowList::any(),
        memory_bytes_max: memory.map_or(0, |scope| scope.bytes_max),
        memory_records_max: memory.map_or(0, |scope| scope.records_max),
        programs: permissions
            .exec
            .iter()
            .flat_map(|scope| scope.programs.clone())
            .collect(),
        defaults: ceiling.clone(),
        ceiling,
        // Whoever runs it once, runs it once.
        agents: AgentLimits::default(),
        tiers: BTreeMap::new(),
        prices: Prices::default(),
        breaker: BreakerLimits::default(),
        overrides: BTreeMap::new(),
    }
}

/// Passes events on, and keeps what was refused.
#[derive(Debug)]
struct Recorder {
    next: Arc<dyn AuditSink>,
    refusals: Mutex<Vec<Refusal>>,
}

impl Recorder {
    fn before(next: Arc<dyn AuditSink>) -> Self {
        Self {
            next,
            refusals: Mutex::default(),
        }
    }

    fn into_refusals(self: Arc<Self>) -> Vec<Refusal> {
        std::mem::take(&mut *self.refusals.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl AuditSink for Recorder {
    fn record(&self, event: Event) {
        if let EventKind::HostCall {
            permission,
            target,
            allowed: false,
            reason,
            ..
        } = &event.kind
        {
            let refusal = Refusal {
                permission: *permission,
                target: target.clone(),
                reason: reason.clone().unwrap_or_default(),
            };
            self.refusals
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(refusal);
        }
        self.next.record(event);
    }

    fn room(&self) -> Option<RoomFuture> {
        self.next.room()
    }
}
