//! What an agent may use at most. Pure answers to single questions; how they combine with manifest and policy is
//! decided a layer above.

use aral_contract::{AllowList, CapabilityId, CapabilityPattern, HostPattern, Permission, PersonaId};
use semver::Version;
use serde::{Deserialize, Serialize};

use crate::list;

/// Items in one list, `"*"` aside: as many as in a scope of a manifest. Stops a persona whose lists take long to check at every call.
pub const LIST_ITEMS_MAX: usize = 256;

/// The constraints of a persona. An absent list allows nothing; `"*"` allows everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constraints {
    /// The permissions that capabilities may use for this agent.
    #[serde(default, deserialize_with = "list::allowed")]
    pub allowed_permissions: AllowList<Permission>,
    /// The capabilities that this agent may call: ids, beginnings with `*`, each optionally with versions.
    #[serde(default, deserialize_with = "list::allowed")]
    pub allowed_capabilities: AllowList<CapabilityPattern>,
    /// The hosts that requests and secrets may travel to for this agent. Bounds `network:read`, `network:write` and the
    /// hosts of secrets.
    #[serde(default, deserialize_with = "list::hosts")]
    pub allowed_domains: Vec<HostPattern>,
    /// The agents that this one may call, by the ids of their personas.
    #[serde(default, deserialize_with = "list::allowed")]
    pub allowed_agents: AllowList<PersonaId>,
    /// How deep calls may be made for this agent: 0 is a call of its own, each agent or step of reasoning in between is
    /// one more. Absent: what the policy says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_reasoning_depth: Option<u32>,
    /// What all calls of an hour may cost together, in millionths of the operator's unit. Absent: what the policy says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_cost_per_hour: Option<u64>,
    /// How many calls there may be.
    #[serde(default)]
    pub rate_limits: RateLimits,
}

/// How many calls there may be in a time. Absent: what the policy says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimits {
    /// In any 60 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// In any 3,600 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_hour: Option<u64>,
}

impl Constraints {
    /// Whether this agent may call this version of this capability.
    pub fn allows_capability(&self, id: &CapabilityId, version: &Version) -> bool {
        self.allowed_capabilities.allows(|pattern| pattern.covers(id, version))
    }

    /// Whether capabilities may use this permission for this agent at all.
    pub fn allows_permission(&self, permission: Permission) -> bool {
        self.allowed_permissions.allows(|one| *one == permission)
    }

    /// Whether this agent may call that one.
    pub fn allows_agent(&self, agent: &PersonaId) -> bool {
        self.allowed_agents.allows(|one| one == agent)
    }

    /// Whether a document with these lists is taken: none is longer than [`LIST_ITEMS_MAX`].
    pub fn lists_fit(&self) -> bool {
        let counts = [
            self.allowed_permissions.count(),
            self.allowed_capabilities.count(),
            self.allowed_domains.len(),
            self.allowed_agents.count(),
        ];
        counts.into_iter().all(|count| count <= LIST_ITEMS_MAX)
    }

    /// The names of the lists in which `*` allows everything.
    pub fn wildcards(&self) -> Vec<&'static str> {
        let domains = self.allowed_domains.iter().any(HostPattern::is_any);
        [
            ("allowed_permissions", self.allowed_permissions.is_any()),
            ("allowed_capabilities", self.allowed_capabilities.is_any()),
            ("allowed_domains", domains),
            ("allowed_agents", self.allowed_agents.is_any()),
        ]
        .into_iter()
        .filter_map(|(name, any)| any.then_some(name))
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constraints(text: &str) -> Constraints {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn each_list_decides_and_absent_means_none() {
        let id = "text-grep".parse().unwrap();
        let version = Version::new(1, 2, 0);
        let none = constraints("{}");
        assert!(!none.allows_capability(&id, &version) && !none.allows_permission(Permission::FileRead));
        assert_eq!(none.wildcards(), <[&str; 0]>::default());
        for (list, expected) in [
            (r#"["text-grep"]"#, true),
            (r#"["text-*"]"#, true),
            (r#"["text-grep@^2"]"#, false),
            (r#"["notes"]"#, false),
            (r#"["*"]"#, true),
        ] {
            let allowed = constraints(&format!(r#"{{"allowed_capabilities":{list}}}"#));
            assert_eq!(allowed.allows_capability(&id, &version), expected, "{list}");
        }
        let agents = constraints(r#"{"allowed_agents":["helper"]}"#);
        assert!(agents.allows_agent(&"helper".parse().unwrap()) && !agents.allows_agent(&"other".parse().unwrap()));
        assert!(!none.allows_agent(&"helper".parse().unwrap()));
        let reads = constraints(r#"{"allowed_permissions":["file:read"]}"#);
        assert!(reads.allows_permission(Permission::FileRead) && !reads.allows_permission(Permission::FileWrite));
    }

    #[test]
    fn every_star_is_named() {
        let names = [
            "allowed_permissions",
            "allowed_capabilities",
            "allowed_domains",
            "allowed_agents",
        ];
        for name in names {
            assert_eq!(constraints(&format!(r#"{{"{name}":["*"]}}"#)).wildcards(), [name]);
        }
    }
}
