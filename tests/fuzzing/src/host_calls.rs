//! A program that does whatever it is told, with the handles that a host gives: what it was not granted stays as it was, and is not
//! seen.

use aral_contract::{CapabilityId, Classification, Code};
use aral_host::{Host, Request, Session};
use aral_memory::RecordStore;
use aral_memory::record::{Precondition, Quota, Write};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::around::{Around, CANARY, HARMLESS, PLANTED, WRITABLE};
use crate::lab::{self, Lab, Setup};
use crate::panics::Watched;
use crate::scratch;

const BYTES_MAX: u64 = 300_000;
const FILES_MAX: u64 = 8;
/// More steps than these in one script say nothing new.
const SCRIPT_BYTES_MAX: usize = 4096;

/// Records that the guest may not write: where, under which name, and what they hold.
const RECORDS: [(&str, &str, &str); 2] = [("other", "a", CANARY), ("shared", "b", HARMLESS)];
/// Secrets that the guest may neither see nor write.
const SECRETS: [&str; 2] = ["a", "folder"];
/// The one that it may.
const SECRET: &str = "b";
/// Where the store of secrets has them.
const SECRETS_NAMESPACE: &str = "secrets";
/// The namespace that the guest may write.
const NOTES: &str = "notes";

/// The host, and what lies around what it grants.
pub struct HostCalls {
    lab: Lab,
    session: Session,
    capability: CapabilityId,
    watched: Watched,
    around: Around,
}

impl HostCalls {
    /// With the guest `isolation_script`.
    ///
    /// # Panics
    /// It cannot be run.
    pub fn new(component: &[u8]) -> Self {
        Self::wider(component, |_around, _permissions| ())
    }

    /// With a grant that `more` makes wider than the one of which is said what it reaches: what cannot be found then is never found.
    ///
    /// # Panics
    /// It cannot be run.
    pub fn wider(component: &[u8], more: impl FnOnce(&Around, &mut Value)) -> Self {
        let folder = scratch::folder();
        let around = Around::new(folder.path());
        let path = |name: &str| folder.path().join(name);
        let mut permissions = json!({
            "file:read": { "paths": [{ "guest": "/in", "host": path("readable") }] },
            "file:write": { "paths": [
                { "guest": "/out", "host": path(WRITABLE), "bytes_max": BYTES_MAX, "files_max": FILES_MAX },
            ] },
            "memory:read": { "namespaces": [NOTES, "shared"] },
            "memory:write": { "namespaces": [NOTES], "bytes_max": BYTES_MAX, "records_max": FILES_MAX },
            "secret:read": { "secrets": [{ "name": SECRET, "use": "reveal" }] },
            "secret:write": { "names": [SECRET] },
            "network:read": { "hosts": [format!("http://127.0.0.1:{}", around.open)] },
            "exec": { "programs": [{ "path": "/usr/bin/true", "args": [] }] },
        });
        more(&around, &mut permissions);
        let setup = Setup {
            component,
            shape: "command",
            permissions,
            config: json!({}),
            builder: Host::builder(),
        };
        let lab = Lab::new(folder, setup);
        Self {
            session: lab.host.session(&lab::persona()).expect("a persona"),
            capability: "guest".parse().expect("an id"),
            watched: Watched::new(),
            around,
            lab,
        }
    }

    /// Lets the guest run a script. How many steps of it the host did; none: the guest was ended.
    ///
    /// # Panics
    /// It reached something that was not granted, or the host failed.
    pub fn run(&self, script: &[u8]) -> Option<u64> {
        self.reset();
        let before = self.around.files();
        let digits: String = script
            .iter()
            .take(SCRIPT_BYTES_MAX)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let input = json!({
            "script": digits,
            "root": self.around.root,
            "ports": [self.around.open, self.around.closed],
        });
        let input = input.to_string();
        let request = Request {
            capability: &self.capability,
            version: None,
            input: input.as_bytes(),
            trace: None,
        };
        let outcome = self
            .watched
            .runtime
            .block_on(self.lab.host.invoke(&self.session, request));
        let done = match outcome.result {
            Ok(text) => {
                let answer: Value = serde_json::from_str(&text).expect("the answer is JSON");
                assert_eq!(answer["leaked"], false, "something was given that was not granted");
                answer["done"].as_u64()
            }
            Err(failure) => {
                assert_ne!(failure.code, Code::Internal, "{failure}, {:?}", failure.internal);
                None
            }
        };
        assert_eq!(
            self.around.files(),
            before,
            "something was changed that was not granted"
        );
        assert!(!self.around.was_asked(), "the host was not granted");
        let (files, bytes) = self.around.written();
        assert!(
            files <= FILES_MAX + PLANTED && bytes <= BYTES_MAX,
            "{files} files, {bytes} bytes"
        );
        self.check_store();
        self.watched.check();
        done
    }

    /// The same world for each script, so that what one finds it finds alone.
    fn reset(&self) {
        self.around.reset();
        let (memory, secrets) = (&*self.lab.memory, &*self.lab.secrets);
        for namespace in memory.namespaces(100).expect("a disk") {
            let namespace = namespace.namespace;
            let page = memory.list(&namespace, "", None, 100).expect("a disk");
            for name in &page.names {
                memory.delete(&namespace, name, Precondition::Any).expect("a disk");
            }
        }
        for (namespace, name, value) in RECORDS {
            put(memory, namespace, name, value);
        }
        for name in SECRETS {
            put(secrets, SECRETS_NAMESPACE, name, CANARY);
        }
        put(secrets, SECRETS_NAMESPACE, SECRET, HARMLESS);
    }

    fn check_store(&self) {
        let usage = |namespace: &str| {
            let namespace = namespace.parse().expect("a namespace");
            self.lab.memory.usage(&namespace).expect("a disk")
        };
        for (namespace, name, value) in RECORDS {
            check(&*self.lab.memory, namespace, name, value);
            assert_eq!(usage(namespace).records, 1, "`{namespace}` was not granted");
        }
        for name in SECRETS {
            check(&*self.lab.secrets, SECRETS_NAMESPACE, name, CANARY);
        }
        let notes = usage(NOTES);
        assert!(notes.bytes <= BYTES_MAX && notes.records <= FILES_MAX, "{notes:?}");
    }
}

/// Writes a record as if for the first time.
fn put(store: &dyn RecordStore, namespace: &str, name: &str, value: &str) {
    let namespace = namespace.parse().expect("a namespace");
    let write = Write {
        name: name.parse().expect("a name"),
        value: Zeroizing::new(value.as_bytes().to_vec()),
        ttl_seconds: None,
        classification: Classification::Secret,
        precondition: Precondition::Any,
    };
    store
        .delete(&namespace, &write.name, Precondition::Any)
        .expect("a disk");
    store.put(&namespace, write, &Quota::UNLIMITED).expect("a disk");
}

/// A record is as [`put`] left it.
fn check(store: &dyn RecordStore, namespace: &str, name: &str, value: &str) {
    let found = store.get(&namespace.parse().expect("a namespace"), &name.parse().expect("a name"));
    let record = found.expect("a disk").expect("nobody may delete it");
    let is_it = record.value.to_vec() == value.as_bytes()
        && record.version == 1
        && record.classification == Classification::Secret
        && record.expires_at.is_none();
    assert!(is_it, "`{namespace}` `{name}` was not granted: {record:?}");
}
