//! Which public keys are trusted for which kind of document.

use super::key::PublicKey;
use super::signed::Kind;
use crate::id::KeyId;

/// A key and what it may sign.
#[derive(Debug, Clone)]
struct Trusted {
    key: PublicKey,
    kinds: Vec<Kind>,
}

/// The trusted keys. Empty by default: nothing is trusted.
#[derive(Debug, Clone, Default)]
pub struct TrustStore {
    keys: Vec<Trusted>,
}

/// What the store says of a key for a kind of document.
#[derive(Debug)]
pub(super) enum Answer<'store> {
    Trusted(&'store PublicKey),
    OtherKind,
    Unknown,
}

impl TrustStore {
    /// Trusts a key for these kinds, in addition to what it is already trusted for.
    pub fn add(&mut self, key: PublicKey, kinds: &[Kind]) {
        self.keys.push(Trusted {
            key,
            kinds: kinds.to_vec(),
        });
    }

    /// Whether nothing is trusted.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn find(&self, id: KeyId, kind: Kind) -> Answer<'_> {
        let mut answer = Answer::Unknown;
        for trusted in self.keys.iter().filter(|trusted| trusted.key.id() == id) {
            if trusted.kinds.contains(&kind) {
                return Answer::Trusted(&trusted.key);
            }
            answer = Answer::OtherKind;
        }
        answer
    }
}
