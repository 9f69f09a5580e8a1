//! Which public keys are trusted for which kind of document, from when to when, and which are revoked.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::key::PublicKey;
use super::signed::{DocumentError, Kind};
use crate::id::{Digest, KeyId};

/// From when to when a key is trusted. An absent end is open.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Validity {
    /// Not trusted before.
    pub not_before: Option<Timestamp>,
    /// Not trusted from here on.
    pub not_after: Option<Timestamp>,
}

/// A key and what it may sign.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Trusted {
    /// Worked out once: it is asked for at every call.
    id: KeyId,
    key: PublicKey,
    kinds: Vec<Kind>,
    validity: Validity,
}

/// The trusted keys. Empty by default: nothing is trusted. What holds for a key holds for every document that it signed,
/// also for those that were taken before: whoever runs something under one asks again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustStore {
    keys: Vec<Trusted>,
    revoked: BTreeSet<KeyId>,
}

impl TrustStore {
    /// Trusts a key for these kinds at all times, in addition to what it is already trusted for.
    pub fn add(&mut self, key: PublicKey, kinds: &[Kind]) {
        self.add_for(key, kinds, Validity::default());
    }

    /// Trusts a key for these kinds for a time, in addition to what it is already trusted for.
    pub fn add_for(&mut self, key: PublicKey, kinds: &[Kind], validity: Validity) {
        self.keys.push(Trusted {
            id: key.id(),
            key,
            kinds: kinds.to_vec(),
            validity,
        });
    }

    /// Trusts a key no longer, whatever was or will be said in its favour.
    pub fn revoke(&mut self, key: KeyId) {
        self.revoked.insert(key);
    }

    /// Whether a key is revoked.
    pub fn is_revoked(&self, key: KeyId) -> bool {
        self.revoked.contains(&key)
    }

    /// The keys that are revoked.
    pub fn revoked(&self) -> impl Iterator<Item = KeyId> {
        self.revoked.iter().copied()
    }

    /// Whether nothing is trusted.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The id of each trusted key, with what it may sign and when.
    pub fn keys(&self) -> impl Iterator<Item = (KeyId, &[Kind], Validity)> {
        self.keys.iter().map(|one| (one.id, one.kinds.as_slice(), one.validity))
    }

    /// SHA-256 of all that the store says, for records of its changes.
    pub fn digest(&self) -> Digest {
        let mut lines: Vec<String> = self
            .keys()
            .map(|(id, kinds, validity)| format!("{id} {kinds:?} {validity:?}"))
            .chain(self.revoked.iter().map(|id| format!("{id} revoked")))
            .collect();
        lines.sort_unstable();
        lines.dedup();
        Digest::of(lines.join("\n").as_bytes())
    }

    /// Whether a document of this kind by this key may be believed at this moment. Asked at every call.
    ///
    /// # Errors
    /// Why it may not.
    pub fn check(&self, key: KeyId, kind: Kind, now: Timestamp) -> Result<(), DocumentError> {
        self.find(key, kind, now).map(|_| ())
    }

    pub(super) fn find(&self, key: KeyId, kind: Kind, now: Timestamp) -> Result<&PublicKey, DocumentError> {
        if self.is_revoked(key) {
            return Err(DocumentError::RevokedKey { kind, key });
        }
        let mut refused = DocumentError::UnknownKey { kind, key };
        for trusted in self.keys.iter().filter(|trusted| trusted.id == key) {
            match trusted.check(kind, now) {
                Ok(()) => return Ok(&trusted.key),
                // That the key is known for the kind, but not now, says more than that another entry is for another kind.
                Err(error @ DocumentError::WrongKeyKind { .. }) => {
                    if matches!(refused, DocumentError::UnknownKey { .. }) {
                        refused = error;
                    }
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

impl Trusted {
    fn check(&self, kind: Kind, now: Timestamp) -> Result<(), DocumentError> {
        let key = self.id;
        if !self.kinds.contains(&kind) {
            return Err(DocumentError::WrongKeyKind { kind, key });
        }
        match self.validity {
            // What never expires stays believable when the key that signed it has been replaced.
            _ if !kind.expires() => Ok(()),
            Validity {
                not_before: Some(not_before),
                ..
            } if now < not_before => Err(DocumentError::KeyNotYetValid {
                kind,
                key,
                not_before,
                now,
            }),
            Validity {
                not_after: Some(not_after),
                ..
            } if now >= not_after => Err(DocumentError::KeyExpired {
                kind,
                key,
                not_after,
                now,
            }),
            Validity { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::document::PrivateKey;

    fn key(seed: u8) -> PublicKey {
        PrivateKey::from_seed(&Zeroizing::new([seed; 32])).public()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn between(from: &str, to: &str) -> Validity {
        Validity {
            not_before: Some(at(from)),
            not_after: Some(at(to)),
        }
    }

    #[test]
    fn two_keys_are_valid_while_one_replaces_the_other() {
        let (old, new) = (key(1), key(2));
        let mut store = TrustStore::default();
        store.add_for(
            old.clone(),
            &[Kind::Persona],
            between("2026-01-01T00:00:00Z", "2026-07-01T00:00:00Z"),
        );
        store.add_for(
            new.clone(),
            &[Kind::Persona],
            between("2026-06-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        );
        for (time, old_valid, new_valid) in [
            ("2025-12-31T23:59:59Z", false, false),
            ("2026-01-01T00:00:00Z", true, false),
            ("2026-05-31T23:59:59Z", true, false),
            ("2026-06-01T00:00:00Z", true, true),
            ("2026-06-30T23:59:59Z", true, true),
            ("2026-07-01T00:00:00Z", false, true),
            ("2027-01-01T00:00:00Z", false, false),
        ] {
            let valid = |key: &PublicKey| store.check(key.id(), Kind::Persona, at(time)).is_ok();
            assert_eq!((valid(&old), valid(&new)), (old_valid, new_valid), "{time}");
        }
    }

    #[test]
    fn the_reason_is_the_one_that_matters() {
        let mut store = TrustStore::default();
        let (known, now) = (key(1), at("2026-06-01T00:00:00Z"));
        let check = |store: &TrustStore, kind| store.check(known.id(), kind, now).unwrap_err();
        assert!(matches!(check(&store, Kind::Persona), DocumentError::UnknownKey { .. }));
        store.add(known.clone(), &[Kind::Manifest]);
        assert!(matches!(
            check(&store, Kind::Persona),
            DocumentError::WrongKeyKind { .. }
        ));
        store.add_for(
            known.clone(),
            &[Kind::Persona],
            between("2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"),
        );
        assert!(matches!(check(&store, Kind::Persona), DocumentError::KeyExpired { .. }));
        store.add_for(
            known.clone(),
            &[Kind::Persona],
            between("2030-01-01T00:00:00Z", "2031-01-01T00:00:00Z"),
        );
        assert!(matches!(
            check(&store, Kind::Persona),
            DocumentError::KeyNotYetValid { .. }
        ));
        store.add(known.clone(), &[Kind::Persona]);
        assert!(store.check(known.id(), Kind::Persona, now).is_ok());
        let before = store.digest();
        store.revoke(known.id());
        assert!(matches!(check(&store, Kind::Persona), DocumentError::RevokedKey { .. }));
        assert!(matches!(
            check(&store, Kind::Manifest),
            DocumentError::RevokedKey { .. }
        ));
        assert_ne!(store.digest(), before);
    }

    #[test]
    fn a_checkpoint_outlives_the_time_of_its_key_but_not_its_revocation() {
        let mut store = TrustStore::default();
        store.add_for(
            key(1),
            &[Kind::Checkpoint],
            between("2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"),
        );
        let now = at("2026-06-01T00:00:00Z");
        assert!(store.check(key(1).id(), Kind::Checkpoint, now).is_ok());
        store.revoke(key(1).id());
        assert!(store.check(key(1).id(), Kind::Checkpoint, now).is_err());
    }
}
