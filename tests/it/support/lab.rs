//! A host in this process, made from a few lines: capabilities from guests, a policy that allows what they ask for, a
//! persona that allows everything, and an ear for events. What a test wants closed, it closes.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aral_contract::document::PrivateKey;
use aral_contract::document::signed::{self, Header, Kind};
use aral_contract::{
    AuditSink, CapabilityId, Code, Digest, Event, EventKind, Failure, Limits, Permission, TraceId, Usage,
};
use aral_host::{Config, Host, Request, Session};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::guests::{Guest, RUNTIME_ECHO_TOOL};

/// A call that is to be contained may take this long, on a machine that is busy with other things: more than the
/// limits that the tests set, and less than the default limits, which would then have been what ended it.
const CONTAINED_WITHIN: Duration = Duration::from_secs(20);
/// Where compiled guests are kept from one test process to the next, beside everything else that cargo builds.
pub(crate) const STATE: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/state");

/// The key that the tests' hosts trust.
pub(crate) fn key() -> PrivateKey {
    PrivateKey::from_seed(&Zeroizing::new([42; 32]))
}

/// A signed document, valid now.
pub(crate) fn sign(kind: Kind, body: &Value, key: &PrivateKey) -> Value {
    let header = Header {
        schema: kind.schema().to_owned(),
        serial: 1,
        issued_at: "2025-01-01T00:00:00Z".parse().expect("a time"),
        expires_at: "2100-01-01T00:00:00Z".parse().expect("a time"),
    };
    signed::sign(kind, &header, body, key).expect("a document")
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

/// The body of a persona that allows everything.
pub(crate) fn persona() -> Value {
    json!({
        "id": "tester",
        "name": "Tester",
        "constraints": { "allowed_permissions": ["*"], "allowed_capabilities": ["*"], "allowed_domains": ["*"] },
    })
}

/// What a lab is made from.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    entries: Vec<(Guest, Value)>,
    networks: Vec<String>,
    nameserver: Option<std::net::SocketAddr>,
    authority: Option<String>,
    root: Option<PathBuf>,
    ceiling: Value,
    defaults: Value,
    policy: String,
    change: fn(&mut Value),
    change_persona: fn(&mut Value),
}

impl Setup {
    /// One capability that asks for nothing, beside the neighbour.
    pub(crate) fn of(guest: Guest) -> Self {
        Self {
            entries: vec![(guest, entry(guest))],
            networks: Vec::new(),
            nameserver: None,
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

    fn config(&self, folder: &Path) -> String {
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
            "trust": [{ "public_key": "key.pub.pem", "kinds": ["manifest", "persona"] }],
            "policy": {
                "permissions": ["*"],
                "capabilities": ["*"],
                "network": { "hosts": ["*"], "networks": self.networks },
                "file": { "read_roots": roots, "write_roots": roots, "bytes_max": 1_u64 << 40, "files_max": 1_u64 << 40 },
                "secret": { "names": ["*"], "reveal": true },
                "memory": { "namespaces": ["*"] },
                "exec": { "programs": programs },
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

/// Keeps every event.
#[derive(Debug, Default)]
struct Ear(Mutex<Vec<Event>>);

impl AuditSink for Ear {
    fn record(&self, event: Event) {
        self.0.lock().expect("no panic while listening").push(event);
    }
}

/// The running host.
pub(crate) struct Lab {
    pub(crate) host: Host,
    pub(crate) session: Session,
    ear: Arc<Ear>,
    _folder: tempfile::TempDir,
}

impl Lab {
    pub(crate) async fn start(setup: Setup) -> Self {
        match Self::try_start(setup).await {
            Ok(lab) => lab,
            Err(failure) => panic!(
                "the host did not start: {failure}, hint {:?}, internal {:?}",
                failure.hint, failure.internal
            ),
        }
    }

    /// Or why the host or its capabilities were not taken.
    pub(crate) async fn try_start(mut setup: Setup) -> Result<Self, Failure> {
        if setup
            .entries
            .iter()
            .all(|(guest, _)| guest.name != RUNTIME_ECHO_TOOL.name)
        {
            setup = setup.also(Setup::of(RUNTIME_ECHO_TOOL));
        }
        let folder = tempfile::tempdir().expect("a folder");
        let public = key().public().to_pem().expect("a key");
        std::fs::write(folder.path().join("key.pub.pem"), public).expect("a file");
        std::fs::write(folder.path().join("aral.toml"), setup.config(folder.path())).expect("a file");
        let ear = Arc::new(Ear::default());
        let config = Config::load(&folder.path().join("aral.toml"))?;
        let host = Host::builder().config(config).sink(ear.clone()).build()?;
        let entries: Vec<&Value> = setup.entries.iter().map(|(_, entry)| entry).collect();
        let manifest = sign(Kind::Manifest, &json!({ "capabilities": entries }), &key()).to_string();
        let component = |digest: Digest| {
            let found = setup
                .entries
                .iter()
                .map(|(guest, _)| guest.bytes())
                .find(|bytes| Digest::of(bytes) == digest);
            found.ok_or_else(|| Failure::new(Code::ConfigInvalid, "no such component"))
        };
        host.register_manifest(manifest.as_bytes(), &|entry| component(entry.component))?;
        let mut persona = persona();
        (setup.change_persona)(&mut persona);
        let session = host.session(sign(Kind::Persona, &persona, &key()).to_string().as_bytes())?;
        Ok(Self {
            host,
            session,
            ear,
            _folder: folder,
        })
    }

    /// Calls a guest and waits for the end.
    pub(crate) async fn call(&self, guest: Guest, input: Value) -> Outcome {
        self.call_bytes(guest, input.to_string().as_bytes()).await
    }

    /// The same with whatever bytes.
    pub(crate) async fn call_bytes(&self, guest: Guest, input: &[u8]) -> Outcome {
        let capability: CapabilityId = guest.id().parse().expect("an id");
        let request = Request {
            capability: &capability,
            version: None,
            input,
            trace: None,
        };
        let outcome = self.host.invoke(&self.session, request).await;
        let events = self.events_of(outcome.trace);
        Outcome {
            elapsed: elapsed(&events),
            events,
            result: outcome
                .result
                .map(|text| serde_json::from_str(&text).expect("the answer is JSON")),
            usage: outcome.usage,
        }
    }

    /// The attack: it must fail with this code, after its marker, in time, and leave the neighbour alone.
    pub(crate) async fn contained(&self, guest: Guest, input: Value, code: Code, marker: &str) -> Outcome {
        let outcome = self.call(guest, input).await;
        let found = outcome.result.as_ref().map_err(|failure| failure.code);
        match found {
            Err(found) if found == code => {}
            other => {
                let shown = format!("{other:?} {:?}", outcome.result.as_ref().err());
                panic!(
                    "{}: `{code}` expected, not {}",
                    guest.name,
                    shown.chars().take(600).collect::<String>()
                );
            }
        }
        outcome.assert_marker(marker);
        assert!(
            outcome.elapsed < CONTAINED_WITHIN,
            "{} took {:?}",
            guest.name,
            outcome.elapsed
        );
        self.neighbour_works().await;
        outcome
    }

    /// The next call of another capability in this process works.
    pub(crate) async fn neighbour_works(&self) {
        let input = json!({ "still": ["here", 1, null] });
        assert_eq!(self.call(RUNTIME_ECHO_TOOL, input.clone()).await.answer(), &input);
    }

    /// How many calls have ended with this code. The end of a dropped call may be recorded a moment later.
    pub(crate) async fn ended(&self, wanted: Code) -> usize {
        let ends = |event: &&Event| matches!(&event.kind, EventKind::InvocationEnded { code: Some(code), .. } if *code == wanted);
        let count = || {
            self.ear
                .0
                .lock()
                .expect("no panic while listening")
                .iter()
                .filter(ends)
                .count()
        };
        let mut last = count();
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let now = count();
            if now == last && now > 0 {
                break;
            }
            last = now;
        }
        last
    }

    fn events_of(&self, trace: TraceId) -> Vec<Event> {
        let events = self.ear.0.lock().expect("no panic while listening");
        events
            .iter()
            .filter(|event| event.trace == Some(trace))
            .cloned()
            .collect()
    }
}

/// From the moment when the component was ready to run to the end of the call: compiling is not the guest's time.
fn elapsed(events: &[Event]) -> Duration {
    let at = |wanted: fn(&EventKind) -> bool| events.iter().find(|event| wanted(&event.kind)).map(|event| event.at);
    let started = at(|kind| matches!(kind, EventKind::InvocationStarted { .. }));
    let ended = at(|kind| matches!(kind, EventKind::InvocationEnded { .. }));
    let elapsed = started.zip(ended).map(|(started, ended)| ended.duration_since(started));
    elapsed.map_or(Duration::ZERO, |elapsed| {
        Duration::try_from(elapsed).unwrap_or_default()
    })
}

/// How a call ended, and what was heard meanwhile.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) result: Result<Value, Failure>,
    pub(crate) usage: Usage,
    pub(crate) elapsed: Duration,
    events: Vec<Event>,
}

impl Outcome {
    /// The answer; a failure ends the test.
    pub(crate) fn answer(&self) -> &Value {
        match &self.result {
            Ok(answer) => answer,
            Err(failure) => panic!(
                "{failure} (hint {:?}, internal {:?}; log {:?})",
                failure.hint,
                failure.internal,
                self.logs()
            ),
        }
    }

    /// The failure; an answer ends the test.
    pub(crate) fn failure(&self) -> &Failure {
        match &self.result {
            Err(failure) => failure,
            Ok(answer) => panic!(
                "it answered {}",
                answer.to_string().chars().take(600).collect::<String>()
            ),
        }
    }

    /// The guest's log lines.
    pub(crate) fn logs(&self) -> Vec<String> {
        let message = |event: &Event| match &event.kind {
            EventKind::GuestLog { message, .. } => Some(message.clone()),
            _ => None,
        };
        self.events.iter().filter_map(message).collect()
    }

    /// The guest said that the attacking line comes next.
    pub(crate) fn assert_marker(&self, text: &str) {
        let marker = format!("marker: {text}");
        let logs = self.logs();
        assert!(
            logs.iter().any(|line| line.contains(&marker)),
            "no line `{marker}` among {:?}",
            logs.iter().take(20).collect::<Vec<_>>()
        );
    }

    /// A host function refused something under this permission, and said why.
    pub(crate) fn assert_denied(&self, wanted: Permission) {
        let denied = |event: &Event| {
            matches!(&event.kind, EventKind::HostCall { permission, allowed: false, reason: Some(reason), .. }
                if *permission == wanted && !reason.is_empty())
        };
        assert!(
            self.events.iter().any(denied),
            "no denial under {wanted} among {:?}",
            self.events
        );
    }
}
