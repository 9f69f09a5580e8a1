//! A grant: what one capability may do for one persona under one policy, after all three yeses. Immutable.

use ipnet::IpNet;
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::classification::Classification;
use crate::id::{CapabilityId, Digest, PersonaId};
use crate::limits::Limits;
use crate::scope::Permissions;

/// Which engine runs a capability.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metering {
    /// Fuel and epochs: work is bounded the same on every machine. The default.
    #[default]
    Metered,
    /// Epochs alone: up to twice as fast in call-heavy guests, bounded by time.
    EpochOnly,
}

/// What a manifest asks for and does not get whole.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cut {
    /// What the persona does not give, or of which it gives a part alone.
    pub persona: Permissions,
    /// The same of the policy.
    pub policy: Permissions,
}

impl Cut {
    /// Who gives less of what `is_in` finds, in words. None: it was not cut.
    pub fn who_gives(&self, is_in: impl Fn(&Permissions) -> bool) -> Option<&'static str> {
        match (is_in(&self.persona), is_in(&self.policy)) {
            (true, true) => Some("the persona and the policy give"),
            (true, false) => Some("the persona gives"),
            (false, true) => Some("the policy gives"),
            (false, false) => None,
        }
    }
}

/// What a grant says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GrantParts {
    /// For which capability.
    pub capability: CapabilityId,
    /// For which version of it.
    pub version: Version,
    /// SHA-256 of the component.
    pub component: Digest,
    /// For whom.
    pub persona: PersonaId,
    /// SHA-256 of the manifest that asked.
    pub manifest: Digest,
    /// SHA-256 of the policy that allowed.
    pub policy: Digest,
    /// The most sensitive values that the call may be handed or may store, by the persona's word.
    pub clearance: Classification,
    /// What may be done.
    pub permissions: Permissions,
    /// How much of it.
    pub limits: Limits,
    /// On which engine.
    pub metering: Metering,
    /// Networks that are not public and may be reached nevertheless, by the policy's word.
    pub networks: Vec<IpNet>,
    /// Whether secrets may be injected into requests in clear text to this machine, by the policy's word.
    pub secret_plain_loopback: bool,
    /// What the manifest asks for beyond that. It gives nothing: messages say with it who has to give more. Not in the digest.
    #[serde(skip)]
    pub cut: Cut,
}

/// A grant with its digest. It can be read and cloned, never changed: rights only shrink on the way down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    parts: GrantParts,
    digest: Digest,
}

impl Grant {
    /// Seals the parts. Only the layer that computes the three yeses calls this.
    pub fn new(parts: GrantParts) -> Self {
        // Serialising to memory fails only for maps with keys that are not text, and there are none in `GrantParts`.
        let bytes = serde_json::to_vec(&parts).unwrap_or_default();
        Self {
            digest: Digest::of(&bytes),
            parts,
        }
    }

    /// SHA-256 over the parts; two equal grants have equal digests.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl std::ops::Deref for Grant {
    type Target = GrantParts;
    fn deref(&self) -> &GrantParts {
        &self.parts
    }
}
