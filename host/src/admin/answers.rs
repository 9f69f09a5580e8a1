//! What the management of a server is asked, and what it answers: one type for each, which the handlers write and the command line reads.
//! The verbs on the store have theirs in [`crate::operator`].

use std::net::SocketAddr;
use std::path::PathBuf;

use aral_contract::{CapabilityId, Digest, KeyId};
use aral_protocol::Check;
use semver::Version;
use serde::{Deserialize, Serialize};

/// How the server is, in detail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// `ok`, `failing`, or `draining`: it was told to end.
    pub status: String,
    /// What was looked at.
    pub checks: Vec<StatusCheck>,
    /// Of the program.
    pub version: String,
    /// The file that it was started with; none: there is none.
    pub file: Option<String>,
    /// SHA-256 of the configuration that holds; none: there is none.
    pub configuration: Option<Digest>,
    /// SHA-256 of the policy that holds.
    pub policy: Digest,
    /// Where it listens.
    pub listening: Vec<SocketAddr>,
    /// The folder of its store; none: it has no store.
    pub store: Option<PathBuf>,
}

impl ServerStatus {
    /// Where it is asked for.
    pub const PATH: &'static str = "/v1/status";
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusCheck {
    /// What.
    pub name: String,
    /// What is wrong; none: it is well.
    pub fault: Option<String>,
}

impl From<&Check> for StatusCheck {
    fn from(check: &Check) -> Self {
        Self {
            name: check.name.to_owned(),
            fault: check.fault.clone(),
        }
    }
}

/// The policy in force. `P` is whatever holds its members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyInForce<P> {
    /// Its SHA-256, which stands in receipts.
    pub digest: Digest,
    /// The policy, with each default.
    pub policy: P,
}

impl<P> PolicyInForce<P> {
    /// Where it is asked for.
    pub const PATH: &'static str = "/v1/policy";
}

/// What is registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapabilityList {
    /// Each version.
    pub capabilities: Vec<ListedCapability>,
}

impl CapabilityList {
    /// Where it is asked for.
    pub const PATH: &'static str = "/v1/capabilities";
}

/// One version of a capability.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedCapability {
    /// Its name.
    pub id: CapabilityId,
    /// Its version.
    pub version: Version,
    /// SHA-256 of its component.
    pub component: Digest,
    /// SHA-256 of the manifest that it came in.
    pub manifest: Digest,
    /// Who signed that; none: nobody did.
    pub signer: Option<KeyId>,
}

/// Withdraws one version of a capability until the configuration is read again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdraw {
    /// Its name.
    pub id: CapabilityId,
    /// Its version.
    pub version: Version,
}

impl Withdraw {
    /// Where that is asked for.
    pub const PATH: &'static str = "/v1/capabilities/withdraw";
}

/// What came of [`Withdraw`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdrawn {
    /// Whether it was there.
    pub withdrawn: bool,
    /// A sentence for each file of the configuration that names an older issue of it.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Registers a signed manifest until the server ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Register {
    /// Where it is on this machine, its components beside it; from the root.
    pub path: PathBuf,
}

impl Register {
    /// Where that is asked for.
    pub const PATH: &'static str = "/v1/manifests";
}

/// What came of [`Register`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestRegistered {
    /// Each capability of the manifest.
    pub registered: Vec<RegisteredVersion>,
    /// A sentence for each file of the configuration that names an older issue of one of them.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// One version that was registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisteredVersion {
    /// Its name.
    pub id: CapabilityId,
    /// Its version.
    pub version: Version,
    /// What its author should look at.
    pub warnings: Vec<String>,
}

/// Reads the configuration again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    /// Which file whoever asks takes the configuration to be; none: whichever the server has.
    pub file: Option<PathBuf>,
}

impl Reload {
    /// Where that is asked for.
    pub const PATH: &'static str = "/v1/reload";
}

/// What came of [`Reload`]. It has been done by then, and who reads this of another version is told as much as there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// SHA-256 of the configuration that holds.
    pub configuration: Option<Digest>,
    /// SHA-256 of the policy that holds.
    pub policy: Option<Digest>,
    /// A sentence for each thing that does not hold nevertheless.
    #[serde(default)]
    pub warnings: Vec<String>,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Other programs read these members at the port.
    #[test]
    fn every_answer_has_the_members_that_it_had() {
        let digest = Digest::of(b"some");
        let hex = digest.to_string();
        let check = Check {
            name: "disk",
            fault: None,
        };
        let status = ServerStatus {
            status: "ok".to_owned(),
            checks: vec![StatusCheck::from(&check)],
            version: "1.2.3".to_owned(),
            file: None,
            configuration: Some(digest),
            policy: digest,
            listening: vec!["127.0.0.1:1".parse().unwrap()],
            store: Some("/store".into()),
        };
        let expected = json!({
            "status": "ok", "checks": [{ "name": "disk", "fault": null }], "version": "1.2.3", "file": null,
            "configuration": hex, "policy": hex, "listening": ["127.0.0.1:1"], "store": "/store",
        });
        assert_eq!(serde_json::to_value(&status).unwrap(), expected);
        assert_eq!(serde_json::from_value::<ServerStatus>(expected).unwrap(), status);
        let id: CapabilityId = "echo".parse().unwrap();
        let version = Version::new(1, 0, 0);
        let list = CapabilityList {
            capabilities: vec![ListedCapability {
                id: id.clone(),
                version: version.clone(),
                component: digest,
                manifest: digest,
                signer: None,
            }],
        };
        let expected = json!({ "capabilities": [
            { "id": "echo", "version": "1.0.0", "component": hex, "manifest": hex, "signer": null }
        ] });
        assert_eq!(serde_json::to_value(&list).unwrap(), expected);
        let registered = ManifestRegistered {
            registered: vec![RegisteredVersion {
                id,
                version,
                warnings: vec!["odd".to_owned()],
            }],
            warnings: vec!["older".to_owned()],
        };
        let expected = json!({
            "registered": [{ "id": "echo", "version": "1.0.0", "warnings": ["odd"] }], "warnings": ["older"],
        });
        assert_eq!(serde_json::to_value(&registered).unwrap(), expected);
        let withdrawn = Withdrawn {
            withdrawn: true,
            warnings: vec!["older".to_owned()],
        };
        let expected = json!({ "withdrawn": true, "warnings": ["older"] });
        assert_eq!(serde_json::to_value(&withdrawn).unwrap(), expected);
        let policy = PolicyInForce {
            digest,
            policy: json!({ "hosts": [] }),
        };
        let expected = json!({ "digest": hex, "policy": { "hosts": [] } });
        assert_eq!(serde_json::to_value(&policy).unwrap(), expected);
        assert_eq!(
            serde_json::from_value::<PolicyInForce<Value>>(expected).unwrap(),
            policy
        );
    }

    #[test]
    fn what_was_done_is_read_also_where_less_is_said_of_it() {
        let withdrawn: Withdrawn = serde_json::from_value(json!({ "withdrawn": true })).unwrap();
        assert!(withdrawn.withdrawn && withdrawn.warnings.is_empty());
        let registered: ManifestRegistered = serde_json::from_value(json!({ "registered": [] })).unwrap();
        assert!(registered.registered.is_empty() && registered.warnings.is_empty());
        let reloaded: Reloaded = serde_json::from_value(json!({})).unwrap();
        let nothing = Reloaded {
            configuration: None,
            policy: None,
            warnings: Vec::new(),
        };
        assert_eq!(reloaded, nothing);
        assert_eq!(serde_json::from_value::<Reload>(json!({})).unwrap(), Reload::default());
        assert!(serde_json::from_value::<Reload>(json!({ "path": "x" })).is_err());
    }
}
