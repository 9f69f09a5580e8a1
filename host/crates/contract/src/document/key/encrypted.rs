//! Private keys under a passphrase: PKCS#8 with PBES2, scrypt and AES-256-CBC, as `openssl pkcs8 -scrypt` writes and reads
//! them. Salt and initialisation vector come from whoever owns the randomness.

use ed25519_dalek::SigningKey;
use pkcs8::der::pem::{LineEnding, PemLabel as _};
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::{self, Kdf};
use pkcs8::{
    DecodePrivateKey as _, EncodePrivateKey as _, EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef, SecretDocument,
};
use zeroize::Zeroizing;

use super::{KeyError, PrivateKey};

/// Cost of scrypt: N = 2^14, r = 8, p = 5. 16 MiB, which OpenSSL still reads, and as much work as N = 2^17 with p = 1.
const SCRYPT: (u8, u32, u32) = (14, 8, 5);
/// Most memory times lanes that a key may ask for when it is opened. Stops a file from taking the machine.
const SCRYPT_WORK_MAX: u64 = 1 << 30;
/// Most rounds of PBKDF2 that a key may ask for. Stops the same.
const PBKDF2_ROUNDS_MAX: u32 = 10_000_000;

/// Whether this is a PEM text with an encrypted private key.
pub(super) fn is_encrypted(text: &str) -> bool {
    let label = EncryptedPrivateKeyInfoRef::PEM_LABEL;
    text.lines().any(|line| {
        line.trim_end()
            .strip_prefix("-----BEGIN ")
            .and_then(|rest| rest.strip_suffix("-----"))
            == Some(label)
    })
}

impl PrivateKey {
    /// From PEM that is encrypted with this passphrase, or from PEM that is not encrypted.
    ///
    /// # Errors
    /// [`KeyError::Passphrase`] if it is another one, [`KeyError::Cost`] if finding out would take too long.
    pub fn from_pem_with(text: &str, passphrase: &[u8]) -> Result<Self, KeyError> {
        if !is_encrypted(text) {
            return Self::from_pem(text);
        }
        let (label, document) = SecretDocument::from_pem(text).map_err(|_| KeyError::Private)?;
        EncryptedPrivateKeyInfoRef::validate_pem_label(label).map_err(|_| KeyError::Private)?;
        let sealed = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|_| KeyError::Private)?;
        check_cost(&sealed.encryption_algorithm)?;
        let opened = sealed.decrypt(passphrase).map_err(|_| KeyError::Passphrase)?;
        SigningKey::from_pkcs8_der(opened.as_bytes())
            .map(Self)
            .map_err(|_| KeyError::Passphrase)
    }

    /// To PEM under a passphrase. `salt` and `iv` are random and never used twice.
    ///
    /// # Errors
    /// [`KeyError::Encode`] if the library refuses, which it does for no key that exists.
    pub fn to_encrypted_pem(
        &self,
        passphrase: &[u8],
        salt: &[u8; 16],
        iv: [u8; 16],
    ) -> Result<Zeroizing<String>, KeyError> {
        let (log_n, r, p) = SCRYPT;
        let params = pbes2_params(log_n, r, p, salt, iv)?;
        let plain = self.bytes().to_pkcs8_der().map_err(|_| KeyError::Encode)?;
        let plain = PrivateKeyInfoRef::try_from(plain.as_bytes()).map_err(|_| KeyError::Encode)?;
        let sealed = plain
            .encrypt_with_params(params, passphrase)
            .map_err(|_| KeyError::Encode)?;
        sealed
            .to_pem(EncryptedPrivateKeyInfoRef::PEM_LABEL, LineEnding::LF)
            .map_err(|_| KeyError::Encode)
    }
}

fn pbes2_params(log_n: u8, r: u32, p: u32, salt: &[u8; 16], iv: [u8; 16]) -> Result<pbes2::Parameters, KeyError> {
    let cost = pkcs8::pkcs5::scrypt::Params::new(log_n, r, p).map_err(|_| KeyError::Encode)?;
    pbes2::Parameters::generate_scrypt_aes256cbc(cost, salt, iv).map_err(|_| KeyError::Encode)
}

/// The file says how costly it is to open, so that a file could say: for ever.
fn check_cost(scheme: &EncryptionScheme) -> Result<(), KeyError> {
    let EncryptionScheme::Pbes2(params) = scheme else {
        return Err(KeyError::Cost);
    };
    let fits = match &params.kdf {
        Kdf::Scrypt(scrypt) => [u64::from(scrypt.block_size), u64::from(scrypt.parallelization), 128]
            .into_iter()
            .try_fold(scrypt.cost_parameter, u64::checked_mul)
            .is_some_and(|work| work <= SCRYPT_WORK_MAX),
        Kdf::Pbkdf2(pbkdf2) => pbkdf2.iteration_count <= PBKDF2_ROUNDS_MAX,
        _unknown => false,
    };
    if fits { Ok(()) } else { Err(KeyError::Cost) }
}

#[cfg(test)]
mod tests {
    use pkcs8::der::asn1::OctetStringRef;

    use super::*;

    const SALT: [u8; 16] = [1; 16];
    const IV: [u8; 16] = [2; 16];

    fn scrypt(log_n: u8, p: u32) -> EncryptionScheme {
        EncryptionScheme::Pbes2(pbes2_params(log_n, 8, p, &SALT, IV).unwrap())
    }

    fn pbkdf2(rounds: u32) -> EncryptionScheme {
        let params = pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(rounds, &SALT, IV);
        EncryptionScheme::Pbes2(params.unwrap())
    }

    #[test]
    fn a_key_may_cost_so_much_to_open_and_no_more() {
        for (scheme, expected) in [
            (scrypt(20, 1), Ok(())),
            (scrypt(21, 1), Err(KeyError::Cost)),
            (scrypt(20, 2), Err(KeyError::Cost)),
            // More than a number holds.
            (scrypt(50, 1 << 10), Err(KeyError::Cost)),
            (pbkdf2(10_000_000), Ok(())),
            (pbkdf2(10_000_001), Err(KeyError::Cost)),
        ] {
            assert_eq!(check_cost(&scheme), expected, "{scheme:?}");
        }
    }

    #[test]
    fn a_file_that_asks_for_too_much_is_not_opened() {
        let sealed = EncryptedPrivateKeyInfoRef {
            encryption_algorithm: pbkdf2(10_000_001),
            encrypted_data: OctetStringRef::new(&[0; 64]).unwrap(),
        };
        let document = SecretDocument::try_from(&sealed).unwrap();
        let pem = document.to_pem(EncryptedPrivateKeyInfoRef::PEM_LABEL, LineEnding::LF);
        let opened = PrivateKey::from_pem_with(&pem.unwrap(), b"a passphrase");
        assert_eq!(opened.unwrap_err(), KeyError::Cost);
    }
}
