//! A program that does whatever it is told, with every handle that a host gives: what it was not granted stays as it was, and is
//! not seen.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use aral_contract::{CapabilityId, Code};
use aral_host::{Request, Session};
use aral_memory::record::{Precondition, Quota, Write};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

use crate::lab::{self, Lab, Setup};
use crate::scratch;

/// What stands in everything that was not granted.
const CANARY: &[u8] = b"CANARY";
const BYTES_MAX: u64 = 300_000;
const FILES_MAX: u64 = 8;
/// More steps than these in one script say nothing new.
const SCRIPT_BYTES_MAX: usize = 4096;

/// The host, and what lies around what it grants.
pub struct HostCalls {
    lab: Lab,
    session: Session,
    capability: CapabilityId,
    runtime: Runtime,
    /// Everything but the folder that may be written.
    before: Vec<Seen>,
}

/// A file as it was.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Seen {
    path: PathBuf,
    modified: SystemTime,
    holds: Vec<u8>,
}

impl HostCalls {
    /// With the guest `isolation_script`.
    ///
    /// # Panics
    /// It cannot be run.
    pub fn new(component: &[u8]) -> Self {
        let folder = scratch::folder();
        let path = |name: &str| folder.path().join(name);
        for name in ["readable/folder/inner", "outside"] {
            std::fs::create_dir_all(path(name)).expect("a folder");
        }
        std::fs::write(path("readable/file.txt"), "what may be read").expect("a file");
        std::fs::write(path("readable/folder/inner/a"), "what may be read").expect("a file");
        std::fs::write(path("outside/secret.txt"), CANARY).expect("a file");
        plant(&path("readable"));
        let permissions = json!({
            "file:read": { "paths": [{ "guest": "/in", "host": path("readable") }] },
            "file:write": { "paths": [
                { "guest": "/out", "host": path("writable"), "bytes_max": BYTES_MAX, "files_max": FILES_MAX },
            ] },
            "memory:read": { "namespaces": ["notes", "shared"] },
            "memory:write": { "namespaces": ["notes"], "bytes_max": BYTES_MAX, "records_max": FILES_MAX },
            "secret:read": { "secrets": [{ "name": "b", "use": "reveal" }] },
            "secret:write": { "names": ["b"] },
            "network:read": { "hosts": ["http://allowed.example"] },
            "exec": { "programs": [{ "path": "/usr/bin/true", "args": [] }] },
        });
        let setup = Setup {
            component,
            shape: "command",
            permissions,
            config: json!({}),
        };
        std::fs::create_dir(path("writable")).expect("a folder");
        let lab = Lab::new(folder, &setup);
        let session = lab.host.session(&lab::persona()).expect("a persona");
        let secret = Write {
            name: "a".parse().expect("a name"),
            value: Zeroizing::new(CANARY.to_vec()),
            ttl_seconds: None,
            classification: aral_contract::Classification::Secret,
            precondition: Precondition::Any,
        };
        let other = "other".parse().expect("a namespace");
        lab.memory.put(&other, secret, &Quota::UNLIMITED).expect("a disk");
        let before = seen(lab.folder.path());
        Self {
            session,
            capability: "guest".parse().expect("an id"),
            runtime: Runtime::new().expect("threads"),
            before,
            lab,
        }
    }

    /// Lets the guest run a script. How many steps of it the host did; none: the guest was ended.
    ///
    /// # Panics
    /// It reached something that was not granted, or the host failed.
    pub fn run(&self, script: &[u8]) -> Option<u64> {
        let writable = self.lab.folder.path().join("writable");
        let _absent = std::fs::remove_dir_all(&writable);
        std::fs::create_dir(&writable).expect("a folder");
        plant(&writable);
        let digits: String = script
            .iter()
            .take(SCRIPT_BYTES_MAX)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let input = json!({ "script": digits }).to_string();
        let request = Request {
            capability: &self.capability,
            version: None,
            input: input.as_bytes(),
            trace: None,
        };
        let outcome = self.runtime.block_on(self.lab.host.invoke(&self.session, request));
        let done = match outcome.result {
            Ok(text) => {
                let answer: Value = serde_json::from_str(&text).expect("the answer is JSON");
                assert_eq!(answer["leaked"], false, "something was read that was not granted");
                answer["done"].as_u64()
            }
            Err(failure) => {
                assert_ne!(failure.code, Code::Internal, "{failure}, {:?}", failure.internal);
                None
            }
        };
        assert_eq!(
            seen(self.lab.folder.path()),
            self.before,
            "something was changed that was not granted"
        );
        let (mut files, mut bytes) = (0, 0);
        count(&writable, &mut files, &mut bytes);
        assert!(
            files <= FILES_MAX + PLANTED && bytes <= BYTES_MAX,
            "{files} files, {bytes} bytes"
        );
        let other = "other".parse().expect("a namespace");
        let usage = self.lab.memory.usage(&other).expect("a disk");
        assert_eq!(usage.records, 1, "the namespace was not granted");
        let notes = self
            .lab
            .memory
            .usage(&"notes".parse().expect("a namespace"))
            .expect("a disk");
        assert!(notes.bytes <= BYTES_MAX && notes.records <= FILES_MAX, "{notes:?}");
        done
    }
}

/// What [`plant`] makes.
const PLANTED: u64 = 5;

/// What somebody may have left in a folder that is granted.
fn plant(folder: &Path) {
    for (name, target) in [
        ("link", "../outside"),
        ("dangling", "../outside/nothing"),
        ("abs", "/etc/passwd"),
        ("loop", "loop"),
        ("outside", ".."),
    ] {
        symlink(target, folder.join(name)).expect("a link");
    }
}

/// Everything that the guest must not change.
fn seen(root: &Path) -> Vec<Seen> {
    let mut found = Vec::new();
    let mut folders = vec![root.join("readable"), root.join("outside")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of ours") {
            let path = entry.expect("an entry").path();
            let metadata = path.symlink_metadata().expect("a file of ours");
            let holds = if metadata.is_file() {
                std::fs::read(&path).expect("a file of ours")
            } else {
                Vec::new()
            };
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            let modified = metadata.modified().expect("it has a time");
            found.push(Seen { path, modified, holds });
        }
    }
    found.sort();
    found
}

fn count(folder: &Path, files: &mut u64, bytes: &mut u64) {
    for entry in std::fs::read_dir(folder).expect("a folder of ours") {
        let path = entry.expect("an entry").path();
        let metadata = path.symlink_metadata().expect("a file of ours");
        *files += 1;
        if metadata.is_dir() {
            count(&path, files, bytes);
        } else if metadata.is_file() {
            *bytes += metadata.len();
        }
    }
}
