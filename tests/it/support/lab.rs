//! A host in this process and an ear for its events. It knows how to call, and how to see that an attack was contained.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aral_contract::document::signed::Kind;
use aral_contract::{AuditSink, CapabilityId, Code, Digest, Event, EventKind, Failure, TraceId};
use aral_host::{Config, Host, Request, Session};
use serde_json::{Value, json};

use super::guests::{Guest, RUNTIME_ECHO_TOOL};
use super::kept::Kept;
use super::outcome::{Outcome, elapsed};
use super::setup::{Setup, key, persona, sign};

/// Any call may take this long, on a machine that is busy with other things: more than the limits that the tests set, and
/// less than the default limits, which would then have been what ended it.
const ENDED_WITHIN: Duration = Duration::from_secs(20);

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
        let mut builder = Host::builder().config(config).sink(ear.clone());
        if setup.keeps {
            let kept = Kept::open(folder.path(), &setup).await;
            builder = builder.memory(kept.memory).secrets(kept.secrets);
        }
        let host = builder.build()?;
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

    /// Calls a guest and waits for the end, which must come in time.
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
        let elapsed = elapsed(&events);
        assert!(elapsed < ENDED_WITHIN, "{} took {elapsed:?}", guest.name);
        Outcome {
            elapsed,
            events,
            result: outcome
                .result
                .map(|text| serde_json::from_str(&text).expect("the answer is JSON")),
            usage: outcome.usage,
        }
    }

    /// The attack: it must fail with this code, after its marker, and leave the neighbour alone.
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
