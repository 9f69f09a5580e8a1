//! What each type of event says that is no use of a permission.

use std::net::IpAddr;

use aral_contract::event::{AuthenticationMethod, LifecycleChange, Severity};
use aral_contract::id::CallerName;
use aral_contract::{CapabilityId, Digest, LogId, Permission, PersonaId};
use jiff::Timestamp;
use schemars::JsonSchema;
use semver::Version;
use serde::{Deserialize, Serialize};

use super::shape;
use crate::blind::Tag;
use crate::text::Text;

/// Somebody said who they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Authentication {
    /// Which user they say they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Name>,
    /// Which agent they say they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Identifier>")]
    pub agent: Option<PersonaId>,
    /// How they show it.
    #[schemars(with = "shape::Method")]
    pub method: AuthenticationMethod,
    /// From where; absent: on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// Whether they are believed.
    pub success: bool,
    /// If not: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Plain>")]
    pub reason: Option<Text>,
}

/// A name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Name {
    /// In clear: the host, or a document that somebody signed, chose it, or it was shown to be theirs.
    Clear(#[schemars(with = "shape::Plain")] Text),
    /// As a keyed hash: somebody else chose it, and it may be anything.
    Tag(#[schemars(with = "shape::Trace")] Tag),
}

/// Manifest, persona and policy were asked whether a capability may run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// Which capability.
    #[schemars(with = "shape::Identifier")]
    pub capability: CapabilityId,
    /// Which version of it.
    #[schemars(with = "shape::Semver")]
    pub version: Version,
    /// SHA-256 of the manifest.
    #[schemars(with = "shape::Sha256")]
    pub manifest: Digest,
    /// For whom.
    #[schemars(with = "shape::Identifier")]
    pub persona: PersonaId,
    /// SHA-256 of the persona.
    #[schemars(with = "shape::Sha256")]
    pub persona_digest: Digest,
    /// SHA-256 of the policy.
    #[schemars(with = "shape::Sha256")]
    pub policy: Digest,
    /// Digest of the grant; absent: denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Sha256>")]
    pub grant: Option<Digest>,
    /// If denied: what was missing, and who did not give it.
    #[schemars(with = "Vec<shape::Plain>")]
    pub missing: Vec<Text>,
}

/// A call is about to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InvocationStarted {
    /// Which capability.
    #[schemars(with = "shape::Identifier")]
    pub capability: CapabilityId,
    /// Its version.
    #[schemars(with = "shape::Semver")]
    pub version: Version,
    /// For whom.
    #[schemars(with = "shape::Identifier")]
    pub persona: PersonaId,
    /// Digest of the grant.
    #[schemars(with = "shape::Sha256")]
    pub grant: Digest,
}

/// A call ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Invocation {
    /// Which capability was asked for.
    #[schemars(with = "shape::Identifier")]
    pub capability: CapabilityId,
    /// For whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Identifier>")]
    pub persona: Option<PersonaId>,
    /// Whether it answered.
    pub success: bool,
    /// If not: the code of the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Plain>")]
    pub code: Option<Text>,
    /// What it used.
    pub resources: Resources,
    /// Who asked for it; absent: nobody had to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Identifier>")]
    pub user: Option<CallerName>,
    /// The agents through which it came, the nearest first; absent: a call of the agent's own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<shape::Identifier>")]
    pub callers: Vec<PersonaId>,
    /// What it ran under and what it did; absent: it never got a grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Proven>,
}

/// What a call used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Fuel units; absent on the engine that does not count them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
    /// Largest sum of all linear memories.
    pub memory_bytes_peak: u64,
    /// Time on a processor.
    pub compute_ms: u64,
    /// From the request to the answer.
    pub wall_us: u64,
    /// Size of the input.
    pub input_bytes: u64,
    /// Size of the output.
    pub output_bytes: u64,
    /// Log text kept, as the limit counts it.
    pub log_bytes: u64,
    /// Log text dropped at the limit, counted in the same way.
    pub log_bytes_dropped: u64,
    /// HTTP requests sent.
    pub http_requests: u64,
}

/// What a call ran under and what it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Proven {
    /// The version that ran.
    #[schemars(with = "shape::Semver")]
    pub version: Version,
    /// SHA-256 of the component.
    #[schemars(with = "shape::Sha256")]
    pub component: Digest,
    /// SHA-256 of the manifest.
    #[schemars(with = "shape::Sha256")]
    pub manifest: Digest,
    /// For whom.
    #[schemars(with = "shape::Identifier")]
    pub persona: PersonaId,
    /// SHA-256 of the persona.
    #[schemars(with = "shape::Sha256")]
    pub persona_digest: Digest,
    /// SHA-256 of the policy.
    #[schemars(with = "shape::Sha256")]
    pub policy: Digest,
    /// Digest of the grant.
    #[schemars(with = "shape::Sha256")]
    pub grant: Digest,
    /// The permissions that it used.
    #[schemars(with = "Vec<shape::Governed>")]
    pub permissions: Vec<Permission>,
    /// Commitment to the input: SHA-256 of `aral.commitment/v1`, a byte 0, the salt and the input.
    #[schemars(with = "shape::Sha256")]
    pub input: Digest,
    /// Commitment to the output; absent: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Sha256>")]
    pub output: Option<Digest>,
    /// How many host functions it called that need a permission.
    pub host_calls: u64,
    /// Hash over the list of these calls with their outcome.
    #[schemars(with = "shape::Sha256")]
    pub host_calls_digest: Digest,
}

/// Something that somebody should look at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Security {
    /// How soon.
    #[schemars(with = "shape::Urgency")]
    pub severity: Severity,
    /// Which rule was broken.
    #[schemars(with = "shape::Plain")]
    pub rule: Text,
    /// By what or at what.
    #[schemars(with = "shape::Plain")]
    pub subject: Text,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Plain>")]
    pub reason: Option<Text>,
    /// From where, if somebody else is at the other end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
}

/// The host, or something that it keeps, came or went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lifecycle {
    /// What became of it.
    #[schemars(with = "shape::Change")]
    pub change: LifecycleChange,
    /// What it is.
    #[schemars(with = "shape::Plain")]
    pub subject: Text,
    /// Its version, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Semver>")]
    pub version: Option<Version>,
    /// SHA-256 of it, if it is a document or a component.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Sha256>")]
    pub digest: Option<Digest>,
}

/// What decides about rights was replaced.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfigurationChanged {
    /// What.
    #[schemars(with = "shape::Plain")]
    pub subject: Text,
    /// SHA-256 of what was in force; absent: nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Sha256>")]
    pub before: Option<Digest>,
    /// SHA-256 of what is in force now.
    #[schemars(with = "shape::Sha256")]
    pub after: Digest,
}

/// More failures of one kind from one source than are recorded one by one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Repeated {
    /// What failed: the type of the events that are not recorded.
    #[schemars(with = "shape::Plain")]
    pub what: Text,
    /// Of what kind these are: the rule, permission or operation, the capability that was asked for, the code, or how
    /// somebody failed to show who they are. Absent: of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Plain>")]
    pub which: Option<Text>,
    /// Who or what it was: an address, a persona, a capability, or `persona ID: CAPABILITY`. Absent: too many to tell apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Plain>")]
    pub from: Option<Text>,
    /// How many more there were.
    pub count: u64,
    /// When the first of them happened.
    #[schemars(with = "shape::Time")]
    pub first: Timestamp,
    /// When the last of them happened.
    #[schemars(with = "shape::Time")]
    pub last: Timestamp,
}

/// The log was opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogOpened {
    /// Which log.
    #[schemars(with = "shape::Trace")]
    pub log: LogId,
    /// Whether what was there ended as a host ends that is stopped: with a checkpoint.
    pub clean: bool,
    /// Bytes at the end that were no whole record, and were cut off.
    pub cut_bytes: u64,
    /// SHA-256 of the first 64 MiB of these; absent: there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Sha256>")]
    pub cut_digest: Option<Digest>,
    /// Where the first 64 MiB of them were copied to, in the folder of the log; absent: there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Plain>")]
    pub cut_file: Option<Text>,
}

/// The records before a number were removed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogRetired {
    /// The first record that is kept.
    pub kept_from: u64,
}

/// Events happened that could not be kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogGap {
    /// How many.
    pub lost: u64,
}
