//! A store whose key in an engine became one of which a copy can be taken: how it goes on, and how it gets another key.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Mutex;

use aral_contract::Classification;
use zeroize::Zeroizing;

use super::*;
use crate::{Epoch, MasterKey, Precondition, Quota, SealedStore, StoreError, StoreOptions, Write};

const COPIED_KEY: &str = UNFIT_KEYS[0];
const MASTER: &str = "master";

/// What the engine says of each key that it has; none: the login may not see the key.
type EngineKeys = Arc<Mutex<BTreeMap<String, Option<&'static str>>>>;

/// An engine that keeps nothing secret. It makes a key by the way for whoever encrypts, as a real one does for those who may.
fn engine() -> (Server, EngineKeys) {
    let keys = EngineKeys::default();
    keys.lock().unwrap().insert(MASTER.to_owned(), Some(GOOD_KEY));
    let known = Arc::clone(&keys);
    let server = Server::start(move |asked| {
        if asked.path == "/v1/auth/token/lookup-self" {
            return Said::json(200, LASTING);
        }
        let mut keys = known.lock().unwrap();
        let mut parts = asked.path.trim_start_matches("/v1/transit/").split('/');
        let (what, name) = (parts.next().unwrap(), parts.next().unwrap().to_owned());
        let text = |member: &str| {
            let body: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
            body[member].as_str().unwrap().to_owned()
        };
        match (asked.method.as_str(), what) {
            ("GET", "keys") => match keys.get(&name) {
                Some(Some(key)) => Said::json(200, key),
                Some(None) => Said::json(403, r#"{"errors":["permission denied"]}"#),
                None => Said::json(404, r#"{"errors":[]}"#),
            },
            ("DELETE", "keys") => {
                keys.remove(&name);
                Said::json(204, "")
            }
            (_, "keys") if parts.next().is_some() => Said::json(204, ""),
            (_, "keys") => {
                keys.entry(name).or_insert(Some(GOOD_KEY));
                Said::json(204, "")
            }
            (_, "encrypt") => {
                keys.entry(name).or_insert(Some(GOOD_KEY));
                let sealed = format!("vault:v1:{}", text("plaintext"));
                Said::json(200, &format!(r#"{{"data":{{"ciphertext":"{sealed}"}}}}"#))
            }
            (_, "decrypt") if keys.contains_key(&name) => {
                let sealed = text("ciphertext");
                let plain = sealed.trim_start_matches("vault:v1:");
                Said::json(200, &format!(r#"{{"data":{{"plaintext":"{plain}"}}}}"#))
            }
            _ => Said::json(400, r#"{"errors":["encryption key not found"]}"#),
        }
    });
    (server, keys)
}

struct Lab {
    folder: tempfile::TempDir,
    server: Server,
    keys: EngineKeys,
}

impl Lab {
    fn new() -> Self {
        let (server, keys) = engine();
        Self {
            folder: tempfile::tempdir().unwrap(),
            server,
            keys,
        }
    }

    fn say(&self, key: &str, what: Option<&'static str>) {
        assert!(self.keys.lock().unwrap().insert(key.to_owned(), what).is_some());
    }

    fn master(&self) -> MasterKey {
        MasterKey::service(Arc::new(keys(&self.server)), MASTER)
    }

    fn open(&self, key: MasterKey, has_epochs: bool) -> Result<SealedStore, StoreError> {
        let epoch = has_epochs.then(|| Epoch {
            service: Arc::new(keys(&self.server)),
            prefix: "epoch".to_owned(),
        });
        SealedStore::open(StoreOptions {
            epoch,
            free_bytes_min: 0,
            ..StoreOptions::new(self.folder.path().join("store"), key, clock())
        })
    }
}

fn local() -> MasterKey {
    MasterKey::from_text("ab".repeat(32).as_bytes()).unwrap()
}

fn put(store: &SealedStore) {
    let write = Write {
        name: "a".parse().unwrap(),
        value: Zeroizing::new(b"kept".to_vec()),
        ttl_seconds: None,
        classification: Classification::Internal,
        precondition: Precondition::Any,
    };
    let memory = store.memory();
    memory.put(&"notes".parse().unwrap(), write, &Quota::UNLIMITED).unwrap();
}

fn is_kept(store: &SealedStore) -> bool {
    let record = store.memory().get(&"notes".parse().unwrap(), &"a".parse().unwrap());
    record.unwrap().is_some_and(|record| record.value.to_vec() == b"kept")
}

/// Wherever the operator is led: by the refusal of a start to a login that cannot see the key, or by a host that has the store open.
#[test]
fn a_store_leaves_a_master_key_of_which_a_copy_can_be_taken() {
    for is_open in [false, true] {
        for has_epochs in [false, true] {
            let lab = Lab::new();
            let mut store = lab.open(lab.master(), has_epochs).unwrap();
            put(&store);
            lab.say(MASTER, Some(COPIED_KEY));
            if !is_open {
                drop(store);
                let refused = lab.open(lab.master(), has_epochs).unwrap_err().to_string();
                assert!(refused.contains("aral memory rotate-key"), "{refused}");
                lab.say(MASTER, None);
                store = lab.open(lab.master(), has_epochs).unwrap();
            }
            store.rotate_key(&local(), &mut |_| {}).unwrap();
            drop(store);
            lab.keys.lock().unwrap().remove(MASTER);
            assert!(is_kept(&lab.open(local(), has_epochs).unwrap()));
        }
    }
}

#[test]
fn a_store_takes_no_new_master_key_of_which_a_copy_can_be_taken() {
    let lab = Lab::new();
    let store = lab.open(local(), false).unwrap();
    for (said, why) in [
        (Some(COPIED_KEY), "name another key"),
        (None, "its policy needs the path"),
    ] {
        lab.say(MASTER, said);
        let refused = store.rotate_key(&lab.master(), &mut |_| {}).unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
        assert_eq!(*store.keys(), [local().id()]);
    }
}

/// What was deleted has to go, whatever became of the master key meanwhile.
#[test]
fn an_epoch_ends_also_where_nobody_sees_what_the_master_key_is() {
    for said in [None, Some(COPIED_KEY)] {
        let lab = Lab::new();
        let store = lab.open(lab.master(), true).unwrap();
        put(&store);
        let before = store.status().unwrap().epochs;
        lab.say(MASTER, said);
        let rotated = store.rotate_epoch(&mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(rotated.epochs_left, [""; 0]);
        let told = rotated
            .unfit
            .map(|why| why.contains("be exported") && why.contains("aral memory rotate-key"));
        assert_eq!(told, said.map(|_| true), "what it knows it says");
        let after = store.status().unwrap().epochs;
        let held: Vec<String> = lab.keys.lock().unwrap().keys().cloned().collect();
        assert_eq!(held, [after[0].as_str(), MASTER], "the key of {before:?} is gone");
        assert!(before != after && is_kept(&store));
    }
}

#[test]
fn an_epoch_that_a_rotation_to_another_key_ends_first_is_told_under_what_it_began() {
    let lab = Lab::new();
    let store = lab.open(lab.master(), true).unwrap();
    put(&store);
    store.rotate_epoch(&mut |_| ControlFlow::Break(())).unwrap_err();
    // Somebody changes the key while the epoch is ended.
    let rotated = store.rotate_key(&local(), &mut |_| lab.say(MASTER, Some(COPIED_KEY)));
    let unfit = rotated.unwrap().unfit.unwrap();
    assert!(unfit.contains(MASTER) && unfit.contains("be exported"), "{unfit}");
    assert_eq!(*store.keys(), [local().id()]);
    assert!(is_kept(&store));
}

/// Also where a host has the store open whose epoch key it may see: the old root is sealed under the new master key, too.
#[test]
fn a_store_leaves_an_epoch_key_of_which_a_copy_can_be_taken() {
    for by_key in [false, true] {
        let lab = Lab::new();
        let store = lab.open(lab.master(), true).unwrap();
        put(&store);
        let before = store.status().unwrap().epochs;
        lab.say(&before[0], Some(COPIED_KEY));
        if by_key {
            store.rotate_key(&local(), &mut |_| {}).unwrap();
        } else {
            store.rotate_epoch(&mut |_| ControlFlow::Continue(())).unwrap();
        }
        assert!(!lab.keys.lock().unwrap().contains_key(&before[0]));
        assert!(is_kept(&store));
    }
}

/// Who destroys the master key means the store: a host that has it open, and may see that, seals nothing under another one of its name.
#[test]
fn a_master_key_that_is_gone_is_not_made_again_by_a_new_epoch() {
    let lab = Lab::new();
    let store = lab.open(lab.master(), true).unwrap();
    lab.keys.lock().unwrap().remove(MASTER);
    let refused = store.rotate_epoch(&mut |_| ControlFlow::Continue(())).unwrap_err();
    assert!(
        matches!(refused, StoreError::KeyService(KeyServiceError::NotFound { .. })),
        "{refused:?}"
    );
    assert!(!lab.keys.lock().unwrap().contains_key(MASTER));
}
