//! What a use of a permission says, by a call or by the operator.

use aral_contract::event::{MemoryOperation, SecretOperation};
use aral_contract::id::{Namespace, SecretName};
use aral_contract::{CapabilityId, Classification, Permission, PersonaId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::events::Name;
use super::shape;
use crate::text::Text;

/// A guest used a host function that needs a permission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HostCall {
    /// Which capability.
    #[schemars(with = "shape::Identifier")]
    pub capability: CapabilityId,
    /// For whom; absent: an older host recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Identifier>")]
    pub persona: Option<PersonaId>,
    /// Under which permission.
    #[schemars(with = "shape::Governed")]
    pub permission: Permission,
    /// What it wanted to reach.
    pub target: Name,
    /// Whether it was let through.
    pub allowed: bool,
    /// If not: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Plain>")]
    pub reason: Option<Text>,
}

/// A record of the store was read, written or deleted, or a namespace was listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryAccess {
    /// Which capability; absent: the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Identifier>")]
    pub capability: Option<CapabilityId>,
    /// For whom; absent: the operator, or an older host recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Identifier>")]
    pub persona: Option<PersonaId>,
    /// What was done.
    #[schemars(with = "shape::Operation")]
    pub operation: MemoryOperation,
    /// In which namespace.
    #[schemars(with = "shape::Identifier")]
    pub namespace: Namespace,
    /// Which record, as the keyed hash that the store makes of its name; absent in a listing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Plain>")]
    pub record: Option<Text>,
    /// How sensitive it is; absent where there was no record, and in a listing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Sensitivity>")]
    pub classification: Option<Classification>,
    /// Size of the value in bytes, or number of names listed.
    pub amount: u64,
    /// Whether it was done.
    pub success: bool,
    /// If not: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Plain>")]
    pub reason: Option<Text>,
}

/// Data with a classification was used, shown or stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataAccess {
    /// Which capability; absent: the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Identifier>")]
    pub capability: Option<CapabilityId>,
    /// For whom; absent: the operator, or an older host recorded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Identifier>")]
    pub persona: Option<PersonaId>,
    /// Which secret. Documents name it, so its name is no secret.
    #[schemars(with = "shape::Identifier")]
    pub secret: SecretName,
    /// How sensitive it is.
    #[schemars(with = "shape::Sensitivity")]
    pub classification: Classification,
    /// What was done.
    #[schemars(with = "shape::Use")]
    pub operation: SecretOperation,
    /// Where it went: an origin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Plain>")]
    pub target: Option<Text>,
    /// Whether it was done.
    pub success: bool,
    /// If not: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<shape::Plain>")]
    pub reason: Option<Text>,
}
