//! What a lab is made from: capabilities out of guests, a policy that allows what they ask for, a persona that allows
//! everything, and the documents signed. It starts nothing.

use std::path::{Path, PathBuf};

use aral_contract::document::PrivateKey;
use aral_contract::{Digest, Limits};
pub(crate) use aral_fuzzing::given::{persona, sign};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::guests::Guest;

/// Where compiled guests are kept from one test process to the next, beside everything else that cargo builds.
pub(crate) const CACHE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/cache");
/// The folder of state, below that of a test. What agents used up and which serials were seen is its own; the key of the
/// cache is that of all tests.
pub(crate) const STATE: &str = "state";

/// Makes the folder of state below a test's folder.
pub(crate) fn state(folder: &Path) {
    let state = folder.join(STATE);
    let private = |path: &Path, mode| {
        std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).expect("a path of ours");
    };
    std::fs::create_dir(&state).expect("a folder");
    private(&state, 0o700);
    std::fs::write(state.join("cache.key"), [7; 32]).expect("a file");
    private(&state.join("cache.key"), 0o600);
}

/// The key that the tests' hosts trust.
pub(crate) fn key() -> PrivateKey {
    PrivateKey::from_seed(&Zeroizing::new([42; 32]))
}

/// A manifest entry with open schemas.
pub(crate) fn entry(guest: Guest) -> Value {
    json!({
        "id": guest.id(),
        "version": "1.0.0",
        "shape": guest.shape.as_str(),
        "component": Digest::of(&guest.bytes()).to_string(),
        "title": guest.name,
        "description": "a guest of the tests",
        "input_schema": {},
        "output_schema": {},
        "permissions": {},
        "limits": {},
    })
}

/// The persona that allows everything, with all that a document says of itself but a signature.
pub(crate) fn unsigned_persona() -> Value {
    let mut persona = persona();
    for (name, value) in [
        ("schema", json!("aral.persona/v1")),
        ("serial", json!(1)),
        ("issued_at", json!("2025-01-01T00:00:00Z")),
        ("expires_at", json!("2100-01-01T00:00:00Z")),
    ] {
        persona[name] = value;
    }
    persona
}

/// What a lab is made from.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(super) entries: Vec<(Guest, Value)>,
    networks: Vec<String>,
    nameserver: Option<std::net::SocketAddr>,
    pub(super) keeps: bool,
    pub(super) delay: std::time::Duration,
    pub(super) secrets: Vec<(String, String)>,
    authority: Option<String>,
    root: Option<PathBuf>,
    ceiling: Value,
    defaults: Value,
    policy: String,
    change: fn(&mut Value),
    pub(super) change_persona: fn(&mut Value),
}

impl Setup {
    /// One capability that asks for nothing, beside the neighbour.
    pub(crate) fn of(guest: Guest) -> Self {
        Self {
            entries: vec![(guest, entry(guest))],
            networks: Vec::new(),
            nameserver: None,
            keeps: false,
            delay: std::time::Duration::ZERO,
            secrets: Vec::new(),
            authority: None,
            root: None,
            ceiling: json!({}),
            defaults: json!({}),
            policy: String::new(),
            change: |_| (),
            change_persona: |_| (),
        }
    }

    /// Another capability with it.
    pub(crate) fn also(mut self, other: Self) -> Self {
        self.entries.extend(other.entries);
        self
    }

    fn with(mut self, member: &str, value: Value) -> Self {
        let (_, entry) = self.entries.first_mut().expect("a capability");
        entry[member] = value;
        self
    }

    /// What the manifest asks for.
    pub(crate) fn permissions(self, permissions: Value) -> Self {
        self.with("permissions", permissions)
    }

    /// How much of it the manifest asks for.
    pub(crate) fn limits(self, limits: Value) -> Self {
        self.with("limits", limits)
    }

    /// Networks that are not public and that the policy lets be reached.
    pub(crate) fn networks(mut self, networks: &[&str]) -> Self {
        self.networks = networks.iter().map(|network| (*network).to_owned()).collect();
        self
    }

    pub(crate) fn nameserver(mut self, address: std::net::SocketAddr) -> Self {
        self.nameserver = Some(address);
        self
    }

    /// An encrypted store for memory and secrets, and secrets in it.
    pub(crate) fn keeping(mut self, secrets: &[(&str, &str)]) -> Self {
        let owned = secrets
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.secrets = owned.collect();
        self.keeps = true;
        self
    }

    /// How long the store takes for each record and each secret.
    pub(crate) fn slow(mut self, delay: std::time::Duration) -> Self {
        self.delay = delay;
        self
    }

    /// A certificate authority to trust besides the system's.
    pub(crate) fn authority(mut self, pem: &str) -> Self {
        self.authority = Some(pem.to_owned());
        self
    }

    /// The folder below which files may be granted.
    pub(crate) fn files(mut self, root: &Path) -> Self {
        self.root = Some(root.canonicalize().expect("a folder"));
        self
    }

    /// What no call may exceed; what is not named is not in the way.
    pub(crate) fn ceiling(mut self, limits: Value) -> Self {
        self.ceiling = limits;
        self
    }

    /// What a call gets that asks for nothing.
    pub(crate) fn defaults(mut self, limits: Value) -> Self {
        self.defaults = limits;
        self
    }

    /// More lines of `aral.toml`.
    pub(crate) fn policy(mut self, lines: &str) -> Self {
        self.policy = lines.to_owned();
        self
    }

    /// Changes what stands in `aral.toml`.
    pub(crate) fn configure(mut self, change: fn(&mut Value)) -> Self {
        self.change = change;
        self
    }

    /// Changes the body of the persona.
    pub(crate) fn persona(mut self, change: fn(&mut Value)) -> Self {
        self.change_persona = change;
        self
    }

    /// The text of `aral.toml`; the files that it names go into the folder.
    pub(super) fn config(&self, folder: &Path) -> String {
        state(folder);
        let mut ceiling: Map<String, Value> = Limits::default()
            .entries()
            .into_iter()
            .map(|(name, _)| (name.to_owned(), json!(1_u64 << 50)))
            .collect();
        ceiling.extend(self.ceiling.as_object().expect("limits").clone());
        let programs: Vec<Value> = self
            .entries
            .iter()
            .filter_map(|(_, entry)| entry.pointer("/permissions/exec/programs")?.as_array().cloned())
            .flatten()
            .collect();
        let roots: Vec<&Path> = self.root.iter().map(PathBuf::as_path).collect();
        let mut egress = json!({});
        if let Some(address) = self.nameserver {
            egress["nameservers"] = json!([address]);
        }
        if let Some(pem) = &self.authority {
            std::fs::write(folder.join("ca.pem"), pem).expect("a file");
            egress["ca_file"] = json!("ca.pem");
        }
        let mut config = json!({
            "state_dir": STATE,
            "runtime": { "cache_dir": CACHE },
            "audit": { "dir": "audit", "durability": "async", "reserve_bytes": 0 },
            "trust": [{ "public_key": "key.pub.pem", "kinds": ["manifest", "persona"] }],
            "policy": {
                "permissions": ["*"],
                "capabilities": ["*"],
                "network": { "hosts": ["*"], "networks": self.networks },
                "file": { "read_roots": roots, "write_roots": roots, "bytes_max": 1_u64 << 40, "files_max": 1_u64 << 40 },
                "secret": { "names": ["*"], "reveal": true },
                "memory": { "namespaces": ["*"] },
                "exec": { "programs": programs },
                "agent": { "requests_per_minute": 1_u64 << 50, "requests_per_hour": 1_u64 << 50 },
                "limits": ceiling,
                "defaults": self.defaults,
            },
            "egress": egress,
        });
        (self.change)(&mut config);
        let text = toml::to_string(&config).expect("TOML");
        format!("{text}\n{}\n", self.policy)
    }
}
