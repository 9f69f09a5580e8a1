//! Hides what the log must be able to prove and must not show. Inputs and outputs stand in it as commitments whose salt
//! the log does not hold, names that somebody else chose as keyed hashes. Both come from one key, which only the host
//! has: whoever reads the log cannot try values out, and whoever is given the salt of one call can check that one.

use aral_contract::{Digest, TraceId};
use aral_runtime::entropy::{self, EntropyError};
use aral_runtime::files::{self, FilesError};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::path::Path;
use zeroize::Zeroizing;

const KEY_BYTES: usize = 32;
/// Domain of a commitment: no other hash of this project begins with it.
const COMMITMENT: &[u8] = b"aral.commitment/v1\0";
const SALT: &[u8] = b"aral.commitment.salt/v1\0";
const TAG: &[u8] = b"aral.audit.tag/v1\0";

/// What a commitment is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The input of a call.
    Input,
    /// Its output.
    Output,
}

impl Part {
    const fn domain(self) -> &'static [u8] {
        match self {
            Self::Input => b"input\0",
            Self::Output => b"output\0",
        }
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum BlindError {
    /// The file holds something else.
    #[error(
        "`{path}` does not hold a key of {KEY_BYTES} bytes; a new one would make old commitments unprovable, so restore it"
    )]
    Malformed {
        /// Which file.
        path: String,
    },
    /// The file cannot be read or made, or others have access to it.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The system has no randomness for a new key.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// The key, taken in by HMAC as far as it goes without a text. Prints as nothing, and is erased when dropped.
pub struct Blinder(Hmac<Sha256>);

impl std::fmt::Debug for Blinder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Blinder")
    }
}

impl Blinder {
    /// From the key itself.
    pub fn from_key(key: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let mut block = Zeroizing::new([0u8; 64]);
        block.iter_mut().zip(key.iter()).for_each(|(to, from)| *to = *from);
        // A key of one block is a key that HMAC takes as it is, so that this cannot fail.
        Self(Hmac::new((&*block).into()))
    }

    /// Reads the key, or makes one if there is none. The file must not lie beside the log: a copy of the log with the key
    /// shows what the log hides.
    ///
    /// # Errors
    /// [`BlindError`].
    pub fn load_or_create(path: &Path) -> Result<Self, BlindError> {
        if let Err(error) = files::read_private(path, KEY_BYTES as u64) {
            if !error.is_not_found() {
                return Err(error.into());
            }
            files::create_private_parent(path)?;
            // Whoever comes second finds the first one's key, whole: the name appears with the content behind it.
            files::create_private_file(path, entropy::seed32()?.as_slice())?;
        }
        let bytes = files::read_private(path, KEY_BYTES as u64)?;
        match <[u8; KEY_BYTES]>::try_from(bytes.as_slice()) {
            Ok(key) => Ok(Self::from_key(Zeroizing::new(key))),
            Err(_) => Err(BlindError::Malformed {
                path: path.display().to_string(),
            }),
        }
    }

    /// The salt of one part of one call: the `number`th of whoever counts them, since a request may make several. It goes
    /// to the caller with the receipt, and into no record.
    pub fn salt(&self, trace: TraceId, number: u64, part: Part) -> Salt {
        Salt(self.mac(&[SALT, part.domain(), trace.as_bytes(), &number.to_be_bytes()]))
    }

    /// A keyed hash of a name: the same for the same name, and nothing without the key. `domain` says what names it is
    /// among, so that equal names of different things do not show that they are equal.
    pub fn tag(&self, domain: &str, name: &str) -> Tag {
        let length = (domain.len() as u64).to_be_bytes();
        let full = self.mac(&[TAG, &length, domain.as_bytes(), name.as_bytes()]);
        let mut tag = [0; 16];
        tag.iter_mut().zip(full.as_bytes()).for_each(|(to, from)| *to = *from);
        Tag(TraceId::from_bytes(tag))
    }

    fn mac(&self, parts: &[&[u8]]) -> Digest {
        let mut mac = self.0.clone();
        parts.iter().for_each(|part| mac.update(part));
        Digest::from_bytes(mac.finalize().into_bytes().into())
    }
}

/// The salt of a commitment. With it and the value anybody can check the commitment.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Salt(Digest);

impl std::fmt::Debug for Salt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Salt")
    }
}

impl Salt {
    /// As 64 hex digits, for the caller alone. Name the place where it goes next to each call of this.
    pub fn expose(&self) -> String {
        self.0.to_string()
    }

    /// The commitment to `value`.
    pub fn commit(&self, value: &[u8]) -> Digest {
        let hash = Sha256::new()
            .chain_update(COMMITMENT)
            .chain_update(self.0.as_bytes())
            .chain_update(value);
        Digest::from_bytes(hash.finalize().into())
    }
}

/// A keyed hash of a name: 32 lower-case hex digits in text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tag(TraceId);

#[cfg(test)]
mod tests {
    use super::*;

    fn blinder(byte: u8) -> Blinder {
        Blinder::from_key(Zeroizing::new([byte; KEY_BYTES]))
    }

    #[test]
    fn a_commitment_is_to_one_value_of_one_part_of_one_call_under_one_key() {
        let (one, two) = (TraceId::from_bytes([1; 16]), TraceId::from_bytes([2; 16]));
        let commit = |key: u8, trace, number, part, value: &[u8]| blinder(key).salt(trace, number, part).commit(value);
        let expected = commit(1, one, 0, Part::Input, b"a");
        assert_eq!(commit(1, one, 0, Part::Input, b"a"), expected);
        for other in [
            commit(2, one, 0, Part::Input, b"a"),
            commit(1, two, 0, Part::Input, b"a"),
            commit(1, one, 1, Part::Input, b"a"),
            commit(1, one, 0, Part::Output, b"a"),
            commit(1, one, 0, Part::Input, b"b"),
        ] {
            assert_ne!(other, expected);
        }
    }

    #[test]
    fn tags_part_domains_and_keys() {
        let tag = blinder(1).tag("file", "a");
        assert_eq!(blinder(1).tag("file", "a"), tag);
        assert_ne!(blinder(2).tag("file", "a"), tag);
        assert_ne!(blinder(1).tag("user", "a"), tag);
        assert_ne!(blinder(1).tag("fil", "ea"), tag);
    }

    #[test]
    fn the_key_is_made_once_and_a_damaged_one_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys").join("blind");
        let tag = Blinder::load_or_create(&path).unwrap().tag("a", "b");
        assert_eq!(Blinder::load_or_create(&path).unwrap().tag("a", "b"), tag);
        files::write_path(&path, b"short", 0o600, files::Replace::Allow).unwrap();
        let error = Blinder::load_or_create(&path).unwrap_err();
        assert!(matches!(error, BlindError::Malformed { .. }), "{error}");
        files::write_path(&path, &[7; KEY_BYTES], 0o644, files::Replace::Allow).unwrap();
        assert!(matches!(
            Blinder::load_or_create(&path).unwrap_err(),
            BlindError::Files(_)
        ));
        assert_eq!(
            format!(
                "{:?} {:?}",
                blinder(1),
                blinder(1).salt(TraceId::from_bytes([0; 16]), 0, Part::Input)
            ),
            "Blinder Salt"
        );
    }
}
