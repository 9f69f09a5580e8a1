//! Checkpoints: a signed statement of what the log held. It commits to every record before it, so that one signature a
//! second is enough, and one checkpoint that is kept elsewhere shows whether the log was cut back since. It knows no file.

use aral_contract::document::signed::{self, Header};
use aral_contract::document::{DocumentError, Kind, PrivateKey, TrustStore, json};
use aral_contract::{Digest, LogId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The last moment that a time stamp can name: checkpoints do not expire, and every signed document says until when it
/// is valid.
const NEVER_SECONDS: i64 = 253_402_207_200;

/// What a checkpoint says of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Which log.
    pub log: LogId,
    /// How many records it has.
    pub size: u64,
    /// The root of the Merkle tree over them.
    pub root: Digest,
    /// The leaf of the last one: what the next one carries in `prev`.
    pub last: Digest,
    /// The first record of the segment that it stands in.
    pub first: u64,
    /// Where its line begins there, in bytes: how long the segment is, under the signature.
    pub offset: u64,
    /// It is the last line of that segment: no host writes behind it there.
    pub ends: bool,
}

impl Head {
    /// Whether another one says the same of the records, wherever it stands.
    pub fn is_of_the_same(&self, other: &Self) -> bool {
        (self.log, self.size, self.root, self.last) == (other.log, other.size, other.root, other.last)
    }
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// What it says.
    pub head: Head,
    /// When it was signed.
    pub issued_at: Timestamp,
    /// The signed document, in canonical form.
    pub document: Vec<u8>,
}

fn never() -> Timestamp {
    Timestamp::from_second(NEVER_SECONDS).unwrap_or(Timestamp::MAX)
}

impl Checkpoint {
    /// Signs.
    ///
    /// # Errors
    /// A log of 2^53 records has no canonical form.
    pub(crate) fn sign(head: Head, at: Timestamp, key: &PrivateKey) -> Result<Self, DocumentError> {
        let kind = Kind::Checkpoint;
        let shape = |error: serde_json::Error| DocumentError::Shape {
            kind,
            detail: error.to_string(),
            hint: None,
        };
        let header = Header {
            schema: kind.schema().to_owned(),
            // Grows with the log, as the size does, and so needs no memory of its own.
            serial: head.size,
            issued_at: at,
            expires_at: never(),
        };
        let body = serde_json::to_value(&head).map_err(shape)?;
        let document = signed::sign(kind, &header, &body, key)?;
        let document = json::canonical(&document).map_err(|error| DocumentError::Json { kind, error })?;
        Ok(Self {
            head,
            issued_at: at,
            document,
        })
    }

    /// Checks the signature, with no clock: a checkpoint is as good in ten years as it is now.
    ///
    /// # Errors
    /// Why it is none, or not one by a key that is trusted for checkpoints.
    pub fn verify(document: &[u8], trust: &TrustStore) -> Result<Self, DocumentError> {
        let last_moment = Timestamp::from_second(NEVER_SECONDS.saturating_sub(1)).unwrap_or(Timestamp::MAX);
        let verified = signed::verify::<Head>(Kind::Checkpoint, document, trust, last_moment)?;
        Ok(Self {
            head: verified.body,
            issued_at: verified.header.issued_at,
            document: document.to_vec(),
        })
    }
}

/// Whether this is the one form that the log writes a checkpoint in. A signature holds whatever space is put into the document, and
/// what a line of the log may hold must not be up to somebody who has no key.
pub(crate) fn is_in_one_form(document: &[u8]) -> bool {
    let value: Option<serde_json::Value> = serde_json::from_slice(document).ok();
    value.is_some_and(|value| json::canonical(&value).is_ok_and(|form| form == document))
}

/// What a document says that is not verified. For the log's own file, whose end says how it was left, and for readers
/// who have no key.
pub(crate) fn dangerous_unverified_head(document: &[u8]) -> Option<Head> {
    #[derive(Deserialize)]
    struct Alleged {
        log: LogId,
        size: u64,
        root: Digest,
        last: Digest,
        first: u64,
        offset: u64,
        ends: bool,
    }
    let alleged: Alleged = serde_json::from_slice(document).ok()?;
    Some(Head {
        log: alleged.log,
        size: alleged.size,
        root: alleged.root,
        last: alleged.last,
        first: alleged.first,
        offset: alleged.offset,
        ends: alleged.ends,
    })
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    fn key(seed: u8) -> PrivateKey {
        PrivateKey::from_seed(&Zeroizing::new([seed; 32]))
    }

    fn trust(kinds: &[Kind]) -> TrustStore {
        let mut trust = TrustStore::default();
        trust.add(key(1).public(), kinds);
        trust
    }

    #[test]
    fn a_checkpoint_is_checked_without_a_clock_and_by_its_own_kind_of_key() {
        let head = Head {
            log: LogId::from_bytes([1; 16]),
            size: 5,
            root: Digest::of(b"root"),
            last: Digest::of(b"last"),
            first: 3,
            offset: 700,
            ends: false,
        };
        let at = "2026-01-01T00:00:00Z".parse().unwrap();
        let checkpoint = Checkpoint::sign(head.clone(), at, &key(1)).unwrap();
        assert_eq!(
            Checkpoint::verify(&checkpoint.document, &trust(&[Kind::Checkpoint])),
            Ok(checkpoint.clone())
        );
        assert_eq!(dangerous_unverified_head(&checkpoint.document), Some(head.clone()));
        let wrong_kind = Checkpoint::verify(&checkpoint.document, &trust(&[Kind::Manifest, Kind::Persona]));
        assert!(matches!(wrong_kind, Err(DocumentError::WrongKeyKind { .. })));
        let other_key = Checkpoint::sign(head, at, &key(2)).unwrap();
        let unknown = Checkpoint::verify(&other_key.document, &trust(&[Kind::Checkpoint]));
        assert!(matches!(unknown, Err(DocumentError::UnknownKey { .. })));
        let text = String::from_utf8(checkpoint.document).unwrap();
        let changed = text.replace("\"size\":5", "\"size\":4");
        assert_ne!(changed, text);
        let changed = Checkpoint::verify(changed.as_bytes(), &trust(&[Kind::Checkpoint]));
        assert!(matches!(changed, Err(DocumentError::Signature { .. })));
    }

    #[test]
    fn the_last_moment_is_one() {
        assert_eq!(never().to_string(), "9999-12-30T22:00:00Z");
    }
}
