//! Everything that the store holds at once: other keys for it, out into a backup, in from one.

use std::io::{self, Write};
use std::ops::ControlFlow;

use aral_contract::event::{MemoryOperation, SecretOperation};
use aral_contract::{Classification, Code, EventKind, Failure, rule};
use aral_memory::backup::{BackupError, BackupPrivateKey, BackupPublicKey};
use aral_memory::sealed::{self, Arrived, Existing, Progress, Tally};
use aral_memory::{MasterKey, SealedStore, StoreError};
use serde::{Deserialize, Serialize};

use super::{Act, ActProgress, Changed, Hidden, Operator, Tell};
use crate::config::storage::MasterKeyPlace;
use crate::events::security;
use crate::storage::{backup_failure, rotation, store_failure};

/// Longest piece of a backup on its way, however long a record is. Bounds the memory that is taken for each.
const PIECE_BYTES: usize = 64 << 10;

/// Seals the store under another master key.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryRotateKey {
    /// Which.
    pub key: NewKey,
}

/// Where another master key is.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NewKey {
    /// Here: 64 hex digits.
    Text(Hidden),
    /// In a transit engine of the server of `[secrets.vault]`.
    Transit {
        /// Where the engine is mounted.
        mount: String,
        /// The name of the key.
        key: String,
    },
}

/// Begins a new epoch and destroys the key of the old one.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryRotateEpoch {}

/// What a rotation did.
#[derive(Debug, Serialize, Deserialize)]
pub struct Rotated {
    /// Id of the master key that opens the store now; none: that has not changed.
    pub key_id: Option<String>,
    /// Records that were written again.
    pub records: u64,
    /// Whether it went on with one that had been cut off.
    pub resumed: bool,
    /// Names of the keys of old epochs that are still there. The log of whoever has the store open says why.
    pub epochs_left: Vec<String>,
    /// Why the master key that a new epoch began under is not fit any more; none: it is, or no epoch began.
    pub unfit: Option<String>,
}

/// Writes everything into a backup, which comes piece by piece.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryExport {
    /// Whose private key can read it: a public key in PEM.
    pub to: String,
}

/// What was exported.
#[derive(Debug, Serialize, Deserialize)]
pub struct Exported {
    /// How many records.
    pub records: u64,
    /// Of the key.
    pub key_id: String,
}

/// Reads a backup into the store. The backup is handed over beside it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryImport {
    /// The private key in PEM.
    pub key: Hidden,
    /// Whether records that are there are replaced.
    pub overwrite: bool,
}

/// What was imported.
#[derive(Debug, Serialize, Deserialize)]
pub struct Imported {
    /// Records that were written.
    pub restored: u64,
    /// Records that were there already, and stayed.
    pub kept: u64,
    /// Records whose time is over.
    pub expired: u64,
}

impl Act for MemoryRotateKey {
    const PATH: &'static str = "/v1/memory/rotate-key";
    const LONG: bool = true;
    const GOES_ON: Option<&'static str> =
        Some("see how it stands: `aral memory stats`; the next start needs a key that it names then");
    type Answer = Changed<Rotated>;

    fn act(self, operator: &Operator, tell: Tell<'_>) -> Result<Self::Answer, Failure> {
        operator.check_recorded()?;
        let store = operator.store()?;
        let key = match self.key {
            NewKey::Text(text) => MasterKey::from_text(text.expose()).map_err(store_failure)?,
            NewKey::Transit { mount, key } => operator.storage().master_key(&MasterKeyPlace::Transit { mount, key })?,
        };
        operator.record_kept(rotation::begun(&format!("memory, to key {}", key.id())))?;
        // Whoever watched may be gone; the store must not stay between two keys for that.
        let mut step = |step| goes_on(tell(progress(step)));
        let rotated = store.alone().and_then(|alone| alone.rotate_key(&key, &mut step));
        ended(operator, "memory", Some(key.id()), rotated)
    }
}

impl Act for MemoryRotateEpoch {
    const PATH: &'static str = "/v1/memory/rotate-epoch";
    const LONG: bool = true;
    const GOES_ON: Option<&'static str> = Some("see how it stands: `aral memory stats`");
    type Answer = Changed<Rotated>;

    fn act(self, operator: &Operator, tell: Tell<'_>) -> Result<Self::Answer, Failure> {
        if operator.storage().memory()?.epoch.is_none() {
            return Err(Failure::new(
                Code::ConfigInvalid,
                "there are no epochs: the configuration has no [memory.epoch]",
            )
            .with_hint("aral.toml, [memory.epoch]: transit = { mount = \"transit\", prefix = \"aral-epoch\" }"));
        }
        operator.check_recorded()?;
        let store = operator.store()?;
        operator.record_kept(rotation::begun(rotation::EPOCH))?;
        let rotated = store.rotate_epoch(&mut |step| goes_on(tell(progress(step))));
        ended(operator, rotation::EPOCH, None, rotated)
    }
}

/// Puts on record how a rotation ended, and says what it did.
fn ended(
    operator: &Operator,
    subject: &str,
    key_id: Option<String>,
    rotated: Result<sealed::Rotated, StoreError>,
) -> Result<Changed<Rotated>, Failure> {
    let last = match &rotated {
        Err(error) => rotation::failed(subject, error),
        Ok(sealed::Rotated {
            unfit: Some(reason), ..
        }) => {
            operator.record(rotation::rotated(subject));
            rotation::unfit(reason)
        }
        Ok(_) => rotation::rotated(subject),
    };
    let rotated = rotated.map(|rotated| Rotated {
        key_id,
        records: rotated.records,
        resumed: rotated.resumed,
        epochs_left: rotated.epochs_left,
        unfit: rotated.unfit,
    });
    operator.changed(rotated.map_err(store_failure), last)
}

impl Act for MemoryExport {
    const PATH: &'static str = "/v1/memory/export";
    const LONG: bool = true;
    type Answer = Exported;

    fn act(self, operator: &Operator, tell: Tell<'_>) -> Result<Self::Answer, Failure> {
        let key = backup_key(&self.to)?;
        operator.check_recorded()?;
        let store = operator.store()?;
        // As many keys of records as there are records.
        let total = u64::from(store.status().map_err(store_failure)?.slots_used);
        let mut gone_out = Tally::default();
        // Before anything moves, so that no way to end leaves nothing.
        operator.record_kept(security(rule::MEMORY_EXPORT_BEGUN, format!("key {}", key.id())))?;
        let ended = written(tell, total, &mut gone_out, |out, progress| {
            store.export(&key, out, progress)
        });
        operator.record(moved(rule::MEMORY_EXPORTED, &key.id(), &gone_out, ended.as_ref().err()));
        ended?;
        Ok(Exported {
            records: gone_out.records,
            key_id: key.id(),
        })
    }
}

/// Whose private key can read a backup.
pub(super) fn backup_key(pem: &str) -> Result<BackupPublicKey, Failure> {
    BackupPublicKey::from_pem(pem)
        .map_err(|error| Failure::new(Code::ConfigInvalid, format!("the key for backups is {error}")))
}

/// Has a backup written, and hands it on piece by piece. `gone_out` is how much of it was written, however that ends.
pub(super) fn written<T>(
    tell: Tell<'_>,
    total: u64,
    gone_out: &mut Tally,
    write: impl FnOnce(&mut dyn Write, &mut dyn FnMut(&Tally)) -> Result<T, BackupError>,
) -> Result<T, Failure> {
    let tell = std::cell::RefCell::new(tell);
    let mut out = io::BufWriter::with_capacity(
        PIECE_BYTES,
        Pieces {
            tell: &tell,
            gone: None,
        },
    );
    let written = write(&mut out, &mut |tally: &Tally| {
        *gone_out = *tally;
        // It ends at the next piece if nobody listens any more.
        let _nobody = (tell.borrow_mut())(ActProgress::Progress {
            done: tally.records,
            total: Some(total.max(tally.records)),
        });
    });
    let flushed = out.flush().map_err(Failure::internal);
    match out.get_mut().gone.take() {
        Some(gone) => Err(gone),
        None => {
            let written = written.map_err(backup_failure)?;
            flushed.map(|()| written)
        }
    }
}

/// Hands on what is written.
struct Pieces<'a, 'b> {
    tell: &'a std::cell::RefCell<Tell<'b>>,
    gone: Option<Failure>,
}

impl Write for Pieces<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // What is longer than its buffer is handed on whole by whoever gathers.
        let piece = bytes.get(..PIECE_BYTES).unwrap_or(bytes);
        match (self.tell.borrow_mut())(ActProgress::Data(piece.to_vec())) {
            Ok(()) => Ok(piece.len()),
            Err(failure) => {
                let words = failure.to_string();
                self.gone = Some(failure);
                Err(io::Error::other(words))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MemoryImport {
    /// Its address at a server. The request begins with this act as one line of JSON; the backup follows.
    pub const PATH: &'static str = "/v1/memory/import";

    /// Reads the backup, which it reads twice: first to the end, to see that it is whole.
    ///
    /// # Errors
    /// What is wrong with the key, the backup or the store.
    pub fn act(
        &self,
        operator: &Operator,
        backup: &mut (impl io::Read + io::Seek),
        tell: Tell<'_>,
    ) -> Result<Changed<Imported>, Failure> {
        let wrong = |detail: String| Failure::new(Code::ConfigInvalid, format!("the key for backups is {detail}"));
        let text = std::str::from_utf8(self.key.expose()).map_err(|_| wrong("not text".to_owned()))?;
        let key = BackupPrivateKey::from_pem(text).map_err(|error| wrong(error.to_string()))?;
        operator.check_recorded()?;
        let existing = if self.overwrite {
            Existing::Replace
        } else {
            Existing::Keep
        };
        let (store, key_id) = (operator.store()?, key.public_key().id());
        let mut come_in = sealed::Imported::default();
        operator.record_kept(security(rule::MEMORY_IMPORT_BEGUN, format!("key {key_id}")))?;
        let mut given_up = None;
        let imported = store.import(&key, backup, existing, &mut |imported, arrived| {
            if imported.restored.secrets > come_in.restored.secrets {
                operator.forget_secrets();
            }
            come_in = *imported;
            arrived.iter().for_each(|one| operator.record(came(&store, one)));
            let told = tell(ActProgress::Progress {
                done: imported.seen(),
                total: None,
            });
            match unless_unwatched(told).and_then(|()| operator.wait_for_room()) {
                Ok(()) => ControlFlow::Continue(()),
                Err(failure) => {
                    given_up = Some(failure);
                    ControlFlow::Break(())
                }
            }
        });
        // What a write did that failed nobody knows.
        operator.forget_secrets();
        let ended = given_up.map_or_else(|| imported.map_err(backup_failure), Err);
        let last = moved(rule::MEMORY_IMPORTED, &key_id, &come_in.restored, ended.as_ref().err());
        let imported = ended.map(|_| Imported {
            restored: come_in.restored.records,
            kept: come_in.kept,
            expired: come_in.expired,
        });
        operator.changed(imported, last)
    }
}

/// A record that an import wrote, as any other one that is written.
fn came(store: &SealedStore, record: &Arrived) -> EventKind {
    let secret = record.is_secret.then(|| record.name.as_str().parse().ok()).flatten();
    if let Some(secret) = secret {
        return EventKind::SecretAccess {
            capability: None,
            persona: None,
            secret,
            operation: SecretOperation::Write,
            target: None,
            refused: None,
        };
    }
    let records = if record.is_secret {
        store.secrets()
    } else {
        store.memory()
    };
    EventKind::MemoryAccess {
        capability: None,
        persona: None,
        operation: MemoryOperation::Write,
        namespace: record.namespace.clone(),
        record: Some(records.tag(&record.namespace, &record.name)),
        classification: Some(record.classification),
        amount: record.bytes,
        refused: None,
    }
}

/// What writes goes on though nobody watches any more, and ends with its server, after which nothing is recorded.
pub(super) fn unless_unwatched(told: Result<(), Failure>) -> Result<(), Failure> {
    match told {
        Err(failure) if failure.code != Code::Cancelled => Err(failure),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The same, for what says itself that it was ended.
fn goes_on(told: Result<(), Failure>) -> ControlFlow<()> {
    match unless_unwatched(told) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_it_goes_on_later) => ControlFlow::Break(()),
    }
}

fn progress(step: Progress) -> ActProgress {
    ActProgress::Progress {
        done: step.done,
        total: Some(step.total),
    }
}

/// What the store holds went out or came in, under a key for backups: all of it, or what was moved before it failed.
fn moved(rule: &'static str, key: &str, tally: &Tally, failure: Option<&Failure>) -> EventKind {
    security(rule, moved_in_words(key, tally, failure))
}

pub(super) fn moved_in_words(key: &str, tally: &Tally, failure: Option<&Failure>) -> String {
    let highest = tally.highest.map_or("none", Classification::as_str);
    let ended = failure.map_or_else(|| "whole".to_owned(), |failure| format!("cut off: {}", failure.code));
    format!(
        "key {key}: {} records, {} of them secrets, classified up to {highest}; {ended}",
        tally.records, tally.secrets
    )
}

#[cfg(test)]
mod tests;
