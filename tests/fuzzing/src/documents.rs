//! Documents that somebody signed or sealed, in the hands of somebody who has no key: whatever is taken is what was signed. And
//! documents of somebody who has the key and writes strange things: they are refused, or mean the same each time they are read.

use std::io::Cursor;
use std::ops::ControlFlow;
use std::sync::{Arc, LazyLock};

use aral_audit::{AuditLog, Blinder, Checkpoint, LogOptions, newest_checkpoint, receipt};
use aral_capability::manifest::{self, ManifestBody};
use aral_contract::document::signed::{self, Header, Verified};
use aral_contract::document::{DocumentError, Kind, json as strict};
use aral_contract::event::LifecycleChange;
use aral_contract::{AuditSink as _, Event, EventKind};
use aral_memory::sealed::Existing;
use aral_memory::{BackupPrivateKey, SealedStore};
use aral_persona::{PersonaBody, persona as personas};
use serde::Serialize;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::edits::Edits;
use crate::scratch::{self, Stands};
use crate::store;

fn header(kind: Kind) -> Header {
    Header {
        schema: kind.schema().to_owned(),
        serial: 7,
        issued_at: "2026-01-01T00:00:00Z".parse().expect("a time"),
        expires_at: "2027-01-01T00:00:00Z".parse().expect("a time"),
    }
}

fn text(document: &Value) -> Vec<u8> {
    serde_json::to_vec(document).expect("JSON")
}

/// The one form of a document; none: it is none.
fn form(document: &[u8]) -> Option<Vec<u8>> {
    strict::canonical(&strict::parse(document).ok()?).ok()
}

/// What a forger gets through is what was signed.
fn unforged<T>(edits: &Edits, good: &[u8], verify: impl Fn(&[u8]) -> Result<T, DocumentError>) {
    if let Err(error) = verify(good) {
        panic!("what was signed is taken: {error}");
    }
    let changed = edits.of(good);
    if verify(&changed).is_ok() {
        assert_eq!(form(&changed), form(good), "nobody signed this");
    }
}

/// What the owner of the key signs is refused, or means the same when it is written and read again.
fn steady<T: Serialize + PartialEq + std::fmt::Debug>(
    kind: Kind,
    edits: &Edits,
    good: &[u8],
    verify: impl Fn(&[u8]) -> Result<Verified<T>, DocumentError>,
) {
    let Ok(body) = strict::parse(&edits.of(good)) else {
        return;
    };
    let Ok(document) = signed::sign(kind, &header(kind), &body, &scratch::key(1)) else {
        return;
    };
    let Ok(taken) = verify(&text(&document)) else { return };
    let body = serde_json::to_value(&taken.body).expect("what was read can be written");
    let document = signed::sign(kind, &header(kind), &body, &scratch::key(1)).expect("it can be signed");
    let again = verify(&text(&document)).unwrap_or_else(|error| panic!("it was taken before: {error}"));
    assert_eq!(again.body, taken.body, "it means the same");
}

fn signed(kind: Kind, body: &[u8]) -> Vec<u8> {
    let body = strict::parse(body).expect("JSON");
    text(&signed::sign(kind, &header(kind), &body, &scratch::key(1)).expect("a document"))
}

/// A manifest.
pub fn manifest(edits: &Edits) {
    const BODY: &[u8] = include_bytes!("../good/manifest.json");
    static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| signed(Kind::Manifest, BODY));
    let verify = |bytes: &[u8]| manifest::verify(bytes, &scratch::trust(), scratch::now());
    unforged(edits, &GOOD, verify);
    steady::<ManifestBody>(Kind::Manifest, edits, BODY, verify);
}

/// A manifest that was made here means the same when it is signed and read.
pub(crate) fn holds(body: &ManifestBody) {
    let document = manifest::sign(&header(Kind::Manifest), body, &scratch::key(1)).expect("it can be signed");
    let taken = manifest::verify(&text(&document), &scratch::trust(), scratch::now());
    let taken = taken.unwrap_or_else(|error| panic!("what was made is taken: {error}"));
    assert_eq!(taken.body, *body, "it means the same");
}

/// A persona.
pub fn persona(edits: &Edits) {
    const BODY: &[u8] = include_bytes!("../good/persona.json");
    static GOOD: LazyLock<Vec<u8>> = LazyLock::new(|| signed(Kind::Persona, BODY));
    let verify = |bytes: &[u8]| personas::verify(bytes, &scratch::trust(), scratch::now());
    let _alleged = personas::alleged_id(&edits.of(&GOOD));
    unforged(edits, &GOOD, verify);
    steady::<PersonaBody>(Kind::Persona, edits, BODY, verify);
}

/// A log of two checkpoints: its files, its newest checkpoint, and the receipt of a record.
pub(crate) struct Kept {
    pub(crate) files: Vec<(String, Vec<u8>)>,
    pub(crate) checkpoint: Vec<u8>,
    receipt: Vec<u8>,
}

pub(crate) static KEPT: LazyLock<Kept> = LazyLock::new(|| {
    let folder = scratch::folder();
    let options = LogOptions {
        reserve_bytes: 0,
        ..LogOptions::new(folder.path().join("log"))
    };
    let blinder = Arc::new(Blinder::from_key(Zeroizing::new([7; 32])));
    for session in 0..2 {
        let log = AuditLog::open(&options, scratch::key(1), Arc::clone(&blinder), Arc::new(Stands)).expect("a log");
        for number in 0..6 {
            log.record(Event {
                at: scratch::now(),
                trace: None,
                kind: EventKind::Lifecycle {
                    change: LifecycleChange::Started,
                    subject: format!("{session}.{number}"),
                    digest: None,
                },
            });
        }
        log.flush().expect("a disk");
    }
    let newest = newest_checkpoint(&options.directory, &scratch::trust()).expect("a log");
    let receipt = receipt::prove(&options.directory, 4).expect("a record");
    Kept {
        files: scratch::files(&options.directory),
        checkpoint: newest.expect("a checkpoint").document,
        receipt: serde_json::to_vec(&receipt).expect("JSON"),
    }
});

/// A checkpoint of the audit log.
pub fn checkpoint(edits: &Edits) {
    unforged(edits, &KEPT.checkpoint, |bytes| {
        Checkpoint::verify(bytes, &scratch::trust())
    });
}

/// The receipt of a call: whatever it proves, it proved before.
pub fn receipt(edits: &Edits) {
    let check = |bytes: &[u8]| receipt::check(bytes, &scratch::trust());
    let good = check(&KEPT.receipt).expect("what was proved is proved");
    if let Ok(checked) = check(&edits.of(&KEPT.receipt)) {
        assert_eq!(checked.record, good.record, "the log has no such record");
        assert_eq!(checked.checkpoint.head, good.checkpoint.head, "nobody signed this");
    }
}

/// A backup of a store, and the only key that opens it.
static BACKUP: LazyLock<(Vec<u8>, BackupPrivateKey)> = LazyLock::new(|| {
    let folder = scratch::folder();
    let store = SealedStore::open(store::options(folder.path())).expect("a store");
    store::fill(&store);
    let key = BackupPrivateKey::generate().expect("a key");
    let mut sealed = Vec::new();
    store
        .export(&key.public_key(), &mut sealed, &mut |_| ())
        .expect("a backup");
    (sealed, key)
});

/// A backup: all of it comes back as it went out, or nothing at all.
pub fn backup(edits: &Edits) {
    let (good, key) = &*BACKUP;
    let changed = edits.of(good);
    let folder = scratch::folder();
    let store = SealedStore::open(store::options(folder.path())).expect("a store");
    let imported = store.import(key, &mut Cursor::new(&changed), Existing::Keep, &mut |_, _| {
        ControlFlow::Continue(())
    });
    assert_eq!(imported.is_ok(), changed == *good, "{imported:?}");
    if changed == *good {
        store::holds_all(&store);
    } else {
        store::holds_nothing(&store);
    }
}
