//! A host in this process with one capability, for those who ask it and for those who are it.

use std::path::Path;
use std::sync::Arc;

use aral_contract::document::Kind;
use aral_contract::{Digest, Failure};
use aral_host::{Config, Host, HostBuilder};
use aral_memory::{CacheLimits, LocalSecrets, RecordStore, SealedStore, Secrets, SecretsParts};
use serde_json::{Value, json};

use crate::given;
use crate::scratch::{self, Stands};
use crate::store;

/// Where the guest is that `cargo xtask guests` has built, for a fuzzer: the folder of all of them stands in the environment.
///
/// # Panics
/// There is no such guest.
pub fn guest(name: &str) -> Vec<u8> {
    let folder = std::env::var_os("ARAL_FUZZ_GUESTS").expect("ARAL_FUZZ_GUESTS: run `cargo xtask fuzz`");
    let file = Path::new(&folder).join(name).with_extension("wasm");
    std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}: run `cargo xtask guests`", file.display()))
}

/// What becomes of the lab.
pub(crate) struct Lab {
    pub(crate) host: Host,
    pub(crate) config: Config,
    pub(crate) memory: Arc<dyn RecordStore>,
    /// What is behind [`Secrets`], of which none is kept elsewhere.
    pub(crate) secrets: Arc<dyn RecordStore>,
    _folder: tempfile::TempDir,
}

/// What it is made from.
pub(crate) struct Setup<'a> {
    pub(crate) component: &'a [u8],
    pub(crate) shape: &'a str,
    /// What the manifest asks for; the policy allows it.
    pub(crate) permissions: Value,
    /// More of `aral.toml`.
    pub(crate) config: Value,
    /// What the host has besides.
    pub(crate) builder: HostBuilder,
}

fn sign(kind: Kind, body: &Value) -> Vec<u8> {
    given::sign(kind, body, &scratch::key(1)).to_string().into_bytes()
}

/// The persona of the lab, which may do everything.
pub(crate) fn persona() -> Vec<u8> {
    sign(Kind::Persona, &given::persona())
}

impl Lab {
    pub(crate) fn new(folder: tempfile::TempDir, setup: Setup<'_>) -> Self {
        match Self::try_new(folder, setup) {
            Ok(lab) => lab,
            Err(failure) => panic!("{failure}, {:?}, {:?}", failure.hint, failure.internal),
        }
    }

    fn try_new(folder: tempfile::TempDir, setup: Setup<'_>) -> Result<Self, Failure> {
        let often = 1_u64 << 50;
        let root = folder.path();
        let programs = setup.permissions["exec"]["programs"].as_array();
        let programs = programs.cloned().unwrap_or_default();
        let mut config = json!({
            "state_dir": "state",
            "audit": { "durability": "async", "reserve_bytes": 0 },
            "trust": [{ "public_key": "key.pub.pem", "kinds": ["manifest", "persona"] }],
            "policy": {
                "permissions": ["*"],
                "capabilities": ["*"],
                "network": { "hosts": ["*"], "networks": ["127.0.0.1/32"] },
                "file": { "read_roots": [root], "write_roots": [root] },
                "secret": { "names": ["*"], "reveal": true },
                "memory": { "namespaces": ["*"] },
                "exec": { "programs": programs },
                "agent": { "requests_per_minute": often, "requests_per_hour": often, "cost_per_hour_micro": often },
            },
        });
        if let (Some(config), Some(more)) = (config.as_object_mut(), setup.config.as_object()) {
            config.extend(more.clone());
        }
        let public = scratch::key(1).public().to_pem().expect("a key");
        let text = toml::to_string(&config).expect("TOML");
        let files = [
            ("key.pub.pem", public.as_bytes()),
            ("persona.json", &*persona()),
            ("aral.toml", text.as_bytes()),
        ];
        scratch::put(root, files);
        let config = Config::load(&root.join("aral.toml"))?;
        let store = SealedStore::open(store::options(root)).expect("a store");
        let memory = store.memory();
        let parts = SecretsParts {
            local: Some(LocalSecrets::new(store.secrets())),
            cache: CacheLimits {
                ttl_ms: 0,
                ..CacheLimits::default()
            },
            ..SecretsParts::default()
        };
        let secrets = Secrets::new(parts, Arc::new(Stands)).expect("randomness");
        let host = setup
            .builder
            .config(config.clone())
            .memory(Arc::clone(&memory))
            .secrets(secrets)
            .build()?;
        let entry = json!({
            "id": "guest",
            "version": "1.0.0",
            "shape": setup.shape,
            "component": Digest::of(setup.component).to_string(),
            "title": "a guest",
            "description": "of a fuzzer",
            "input_schema": {},
            "output_schema": {},
            "permissions": setup.permissions,
            "limits": { "wall_ms": 2000 },
        });
        let manifest = sign(Kind::Manifest, &json!({ "capabilities": [entry] }));
        host.register_manifest(&manifest, &|_entry| Ok(setup.component.to_vec()))?;
        Ok(Self {
            host,
            config,
            memory,
            secrets: store.secrets(),
            _folder: folder,
        })
    }
}
