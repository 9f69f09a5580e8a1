//! What a record says: the one typed form of every event. It is what the log, its readers and other programs agree on,
//! and `docs/audit.schema.json` is made from it. It knows no file and no hash.

mod events;
mod shape;
mod uses;

#[cfg(test)]
mod tests;

use aral_contract::event::Severity;
use aral_contract::{CapabilityId, Digest, PersonaId, TraceId};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use events::{
    Authentication, ConfigurationChanged, Decision, Invocation, InvocationStarted, Lifecycle, LogGap, LogOpened,
    LogRetired, Name, Proven, Repeated, Resources, Security,
};
pub use uses::{DataAccess, HostCall, MemoryAccess};

/// One line of the log. Members stand in this order, without space between them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Its number, from 0. The log has every number once.
    pub seq: u64,
    /// SHA-256 of the byte 0 and the line before, without its line end; all zeros in record 0. It is the leaf of that
    /// line in the Merkle tree.
    #[schemars(with = "shape::Sha256")]
    pub prev: Digest,
    /// When it happened.
    #[schemars(with = "shape::Time")]
    pub at: Timestamp,
    /// In which request; absent in events of the host itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Trace>")]
    pub trace: Option<TraceId>,
    /// What happened.
    pub event: AuditEvent,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum AuditEvent {
    /// Somebody said who they are.
    Authentication(Authentication),
    /// Manifest, persona and policy were asked whether a capability may run.
    Decision(Decision),
    /// A call is about to run. Recorded before it does.
    InvocationStarted(InvocationStarted),
    /// A call ended.
    Invocation(Box<Invocation>),
    /// A guest used a host function that needs a permission.
    HostCall(HostCall),
    /// A record of the store was read, written or deleted, or a namespace was listed.
    MemoryAccess(MemoryAccess),
    /// Data with a classification was used, shown or stored outside of the store of records.
    DataAccess(DataAccess),
    /// Something that somebody should look at.
    Security(Security),
    /// The host, or something that it keeps, came or went.
    Lifecycle(Lifecycle),
    /// What decides about rights was replaced.
    ConfigurationChanged(ConfigurationChanged),
    /// More failures of one kind from one source than are recorded one by one.
    Repeated(Repeated),
    /// The log was opened.
    LogOpened(LogOpened),
    /// The records before a number were removed because the retention of the log says so.
    LogRetired(LogRetired),
    /// Events happened that could not be kept.
    LogGap(LogGap),
}

impl AuditEvent {
    /// Every word of [`AuditEvent::type_name`].
    pub const TYPE_NAMES: [&str; 14] = [
        "authentication",
        "decision",
        "invocation_started",
        "invocation",
        "host_call",
        "memory_access",
        "data_access",
        "security",
        "lifecycle",
        "configuration_changed",
        "repeated",
        "log_opened",
        "log_retired",
        "log_gap",
    ];

    /// The word in the member `type`.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Authentication(_) => "authentication",
            Self::Decision(_) => "decision",
            Self::InvocationStarted(_) => "invocation_started",
            Self::Invocation(_) => "invocation",
            Self::HostCall(_) => "host_call",
            Self::MemoryAccess(_) => "memory_access",
            Self::DataAccess(_) => "data_access",
            Self::Security(_) => "security",
            Self::Lifecycle(_) => "lifecycle",
            Self::ConfigurationChanged(_) => "configuration_changed",
            Self::Repeated(_) => "repeated",
            Self::LogOpened(_) => "log_opened",
            Self::LogRetired(_) => "log_retired",
            Self::LogGap(_) => "log_gap",
        }
    }

    /// Which capability it is about.
    pub fn capability(&self) -> Option<&CapabilityId> {
        match self {
            Self::Decision(event) => Some(&event.capability),
            Self::InvocationStarted(event) => Some(&event.capability),
            Self::Invocation(event) => Some(&event.capability),
            Self::HostCall(event) => Some(&event.capability),
            Self::MemoryAccess(event) => event.capability.as_ref(),
            Self::DataAccess(event) => event.capability.as_ref(),
            Self::Authentication(_)
            | Self::Security(_)
            | Self::Lifecycle(_)
            | Self::ConfigurationChanged(_)
            | Self::Repeated(_)
            | Self::LogOpened(_)
            | Self::LogRetired(_)
            | Self::LogGap(_) => None,
        }
    }

    /// Which persona it is about.
    pub fn persona(&self) -> Option<&PersonaId> {
        match self {
            Self::Authentication(event) => event.agent.as_ref(),
            Self::Decision(event) => Some(&event.persona),
            Self::InvocationStarted(event) => Some(&event.persona),
            Self::Invocation(event) => {
                let proven = event.evidence.as_ref().map(|evidence| &evidence.persona);
                proven.or(event.persona.as_ref())
            }
            Self::HostCall(event) => event.persona.as_ref(),
            Self::MemoryAccess(event) => event.persona.as_ref(),
            Self::DataAccess(event) => event.persona.as_ref(),
            Self::Security(_)
            | Self::Lifecycle(_)
            | Self::ConfigurationChanged(_)
            | Self::Repeated(_)
            | Self::LogOpened(_)
            | Self::LogRetired(_)
            | Self::LogGap(_) => None,
        }
    }

    /// How soon somebody should look at it; none: it is no security event.
    pub fn severity(&self) -> Option<Severity> {
        match self {
            Self::Security(event) => Some(event.severity),
            Self::LogGap(_) => Some(Severity::Critical),
            Self::Repeated(_) => Some(Severity::Medium),
            Self::LogOpened(event) if event.cut_bytes > 0 => Some(Severity::Low),
            Self::Authentication(event) if !event.success => Some(Severity::Low),
            Self::Authentication(_)
            | Self::LogOpened(_)
            | Self::Decision(_)
            | Self::InvocationStarted(_)
            | Self::Invocation(_)
            | Self::HostCall(_)
            | Self::MemoryAccess(_)
            | Self::DataAccess(_)
            | Self::Lifecycle(_)
            | Self::ConfigurationChanged(_)
            | Self::LogRetired(_) => None,
        }
    }
}

/// The JSON Schema of a record, as it stands in `docs/audit.schema.json`.
pub fn json_schema() -> String {
    let schema = schemars::schema_for!(Record);
    // Only maps with keys that are not text cannot be written, and a schema has none.
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}
