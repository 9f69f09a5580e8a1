//! A host as a user sets it up: a signed manifest, a signed persona, a policy; everything on that is on by default.

use std::path::Path;

use anyhow::Result;
use aral_audit::Durability;
use aral_host::config::audit::AuditConfig;
use aral_host::contract::document::PrivateKey;
use aral_host::contract::document::signed::{self, Header, Kind};
use aral_host::contract::{CapabilityId, Digest};
use aral_host::policy::{Policy, RawPolicy};
use aral_host::{Config, Host, Request, Session};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// The name of the capability.
pub const CAPABILITY: &str = "measured";
/// What is counted is counted, and never used up.
const UNHURRIED: &str = "agent.requests_per_minute = 9007199254740991\nagent.requests_per_hour = 9007199254740991\n";

/// The documents of one operator with one capability.
#[derive(Debug)]
pub struct Documents {
    key: PrivateKey,
    component: Vec<u8>,
    /// The signed manifest.
    pub manifest: Vec<u8>,
    /// The signed persona.
    pub persona: Vec<u8>,
}

impl Documents {
    /// For the echo capability, with schemas as a user would write them.
    pub fn echo() -> Result<Self> {
        let schema = json!({
            "type": "object",
            "properties": {
                "query": {"type": "string", "maxLength": 1000},
                "limit": {"type": "integer", "minimum": 1},
                "tags": {"type": "array", "items": {"type": "string"}},
                "exact": {"type": "boolean"},
            },
            "required": ["query"],
            "additionalProperties": false,
        });
        Self::new(&crate::echo_component()?, "tool", &schema, &schema)
    }

    /// For the guest that sleeps for `{"wait_ms": …}` inside the host.
    pub fn sleep() -> Result<Self> {
        Self::new(
            &crate::sleep_component()?,
            "command",
            &json!({"required": ["wait_ms"]}),
            &json!({}),
        )
    }

    /// Signs a manifest for this component, and a persona that may use it.
    fn new(component: &Path, shape: &str, input_schema: &Value, output_schema: &Value) -> Result<Self> {
        let key = PrivateKey::from_seed(&aral_runtime::entropy::seed32()?);
        let component = std::fs::read(component)?;
        let manifest = json!({"capabilities": [{
            "id": CAPABILITY, "version": "1.0.0", "shape": shape, "component": Digest::of(&component),
            "title": "Measured", "description": "What the benchmarks call.",
            "input_schema": input_schema, "output_schema": output_schema,
        }]});
        let persona =
            json!({"id": "analyst", "name": "Analyst", "constraints": {"allowed_capabilities": [CAPABILITY]}});
        Ok(Self {
            manifest: sign(Kind::Manifest, &key, &manifest)?,
            persona: sign(Kind::Persona, &key, &persona)?,
            key,
            component,
        })
    }

    /// Writes what the `aral` command needs into a folder: the configuration, the public key, both documents and the
    /// component.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let component = folder
            .join(Digest::of(&self.component).to_string())
            .with_extension("wasm");
        let config = format!(
            "state_dir = \"state\"\n[[trust]]\npublic_key = \"key.pub.pem\"\nkinds = [\"manifest\", \"persona\"]\n\
             [manifests]\nfiles = [\"manifest.json\"]\n[policy]\ncapabilities = [\"{CAPABILITY}\"]\n{UNHURRIED}"
        );
        std::fs::write(component, &self.component)?;
        std::fs::write(folder.join("manifest.json"), &self.manifest)?;
        std::fs::write(folder.join("persona.json"), &self.persona)?;
        std::fs::write(folder.join("key.pub.pem"), self.key.public().to_pem()?)?;
        std::fs::write(folder.join("aral.toml"), config)?;
        Ok(())
    }

    /// A host that trusts the key and whose policy allows the capability; it keeps its state in `state`, and an audit log there
    /// or none.
    fn host(&self, state: &Path, audit: Option<AuditConfig>) -> Result<Host> {
        let mut config = Config::closed()?;
        config.audit = audit;
        let policy: RawPolicy = toml::from_str(&format!("capabilities = [\"{CAPABILITY}\"]\n{UNHURRIED}"))?;
        let host = Host::builder()
            .config(config)
            .state_dir(state)
            .trust(self.key.public(), &[Kind::Manifest, Kind::Persona])
            .policy(Policy::resolve(policy, &"/".parse()?)?)
            .build()?;
        self.register(&host)?;
        Ok(host)
    }

    fn register(&self, host: &Host) -> Result<()> {
        host.register_manifest(&self.manifest, &|_entry| Ok(self.component.clone()))?;
        Ok(())
    }
}

/// A host with a session, ready to call.
#[derive(Debug)]
pub struct Governed {
    /// The host.
    pub host: Host,
    /// The session.
    pub session: Session,
    /// The capability.
    pub capability: CapabilityId,
}

impl Governed {
    /// A host from the documents, warmed up by one call. Its audit log does not wait for the disk: how long that takes says more about
    /// the disk than about the host.
    pub async fn new(documents: &Documents, state: &Path, input: &str) -> Result<Self> {
        let mut audit = AuditConfig::default();
        audit.log.durability = Durability::Async;
        Self::of(documents.host(state, Some(audit))?, documents, input).await
    }

    /// The same without an audit log.
    pub async fn unrecorded(documents: &Documents, state: &Path, input: &str) -> Result<Self> {
        Self::of(documents.host(state, None)?, documents, input).await
    }

    async fn of(host: Host, documents: &Documents, input: &str) -> Result<Self> {
        let session = host.session(&documents.persona)?;
        let governed = Self {
            host,
            session,
            capability: CAPABILITY.parse()?,
        };
        governed.call(input).await?;
        Ok(governed)
    }

    /// Withdraws the capability, with all that was made of it.
    pub fn forget(&self) {
        for registered in self.host.capabilities() {
            self.host.remove(&registered.entry.id, &registered.entry.version);
        }
    }

    /// Registers the capability again and makes it ready to be called.
    pub async fn register(&self, documents: &Documents) -> Result<()> {
        documents.register(&self.host)?;
        self.host.prepare(&self.session, &self.capability, None).await?;
        Ok(())
    }

    /// One call through the whole path: grant, schemas, limits, fresh instance, events.
    pub async fn call(&self, input: &str) -> Result<String> {
        let request = Request {
            capability: &self.capability,
            version: None,
            input: input.as_bytes(),
            trace: None,
        };
        Ok(self.host.invoke(&self.session, request).await.result?)
    }
}

fn sign(kind: Kind, key: &PrivateKey, body: &Value) -> Result<Vec<u8>> {
    let now = Timestamp::now();
    let expires_at = now.checked_add(SignedDuration::from_hours(24))?;
    let header = Header {
        schema: kind.schema().to_owned(),
        serial: 1,
        issued_at: now,
        expires_at,
    };
    Ok(signed::sign(kind, &header, body, key)?.to_string().into_bytes())
}
