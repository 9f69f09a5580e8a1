//! Private keys for signing, and the passphrases of those that are encrypted: from a file, from a variable or from a prompt,
//! never from an argument. A passphrase is wiped from memory after use.

use std::io::{self, IsTerminal as _};
use std::path::Path;

use aral_contract::document::{KeyError, PrivateKey};
use aral_contract::{Code, Failure};
use aral_runtime::{entropy, environment};
use zeroize::Zeroizing;

use super::arguments::Passphrase;
use super::{files, prompt, value};

/// Longest passphrase, in bytes.
const PASSPHRASE_BYTES_MAX: usize = 1024;
/// Shortest passphrase that a new key gets, in bytes. Stops a slip from encrypting with next to nothing.
const PASSPHRASE_BYTES_MIN: usize = 8;

/// Reads a private key, and asks for its passphrase only if it is encrypted.
pub(crate) fn private_key(path: &Path, passphrase: &Passphrase) -> Result<PrivateKey, Failure> {
    let wrong = |error: KeyError| Failure::new(Code::ConfigInvalid, format!("`{}` is {error}", path.display()));
    let text = files::private_key_text(path)?;
    match PrivateKey::from_pem(&text) {
        Err(KeyError::Encrypted) => {
            let what = format!("passphrase of {}", path.display());
            let given = given(passphrase)?.map_or_else(|| typed(&what), Ok)?;
            PrivateKey::from_pem_with(&text, &given).map_err(wrong)
        }
        other => other.map_err(wrong),
    }
}

/// The PEM of a new key under a passphrase, which a person types twice.
pub(crate) fn encrypt(key: &PrivateKey, passphrase: &Passphrase) -> Result<Zeroizing<String>, Failure> {
    let given = match given(passphrase)? {
        Some(given) => given,
        None => {
            let first = typed("passphrase of the new key")?;
            if *first != *typed("the same again")? {
                return Err(Failure::new(
                    Code::ConfigInvalid,
                    "the two passphrases are not the same",
                ));
            }
            first
        }
    };
    if given.len() < PASSPHRASE_BYTES_MIN {
        return Err(Failure::new(
            Code::ConfigInvalid,
            format!("the passphrase has fewer than {PASSPHRASE_BYTES_MIN} bytes"),
        )
        .with_hint("several words are easy to remember and hard to guess"));
    }
    let (mut salt, mut iv) = ([0; 16], [0; 16]);
    entropy::fill(&mut salt).map_err(Failure::internal)?;
    entropy::fill(&mut iv).map_err(Failure::internal)?;
    key.to_encrypted_pem(&given, &salt, iv).map_err(Failure::internal)
}

/// What a file or a variable holds, if one is named.
fn given(passphrase: &Passphrase) -> Result<Option<Zeroizing<Vec<u8>>>, Failure> {
    if let Some(path) = &passphrase.passphrase_file {
        let text = files::private_text(path)?;
        return Ok(Some(value::without_line_end(Zeroizing::new(text.as_bytes().to_vec()))));
    }
    let Some(name) = &passphrase.passphrase_variable else {
        return Ok(None);
    };
    let taken = environment::take_variables([name.as_str()])
        .map_err(|error| Failure::new(Code::ConfigInvalid, error.to_string()))?;
    match taken.into_iter().next() {
        Some((_, passphrase)) => Ok(Some(Zeroizing::new(passphrase.expose().to_vec()))),
        None => Err(Failure::new(
            Code::ConfigInvalid,
            format!("the variable `{}` is not set, or is empty", name.escape_debug()),
        )),
    }
}

fn typed(what: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
    if io::stdin().is_terminal() {
        return prompt::hidden(what, PASSPHRASE_BYTES_MAX);
    }
    Err(Failure::new(
        Code::ConfigInvalid,
        format!("the {what} is needed, and nobody is there to type it"),
    )
    .with_hint("give it with `--passphrase-file FILE` or `--passphrase-variable NAME`"))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn key() -> PrivateKey {
        PrivateKey::from_seed(&Zeroizing::new([9; 32]))
    }

    fn from_file(path: PathBuf) -> Passphrase {
        Passphrase {
            passphrase_file: Some(path),
            passphrase_variable: None,
        }
    }

    #[test]
    fn a_key_opens_with_the_passphrase_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        files::create_private(&path("right"), b"a few words\n").unwrap();
        files::create_private(&path("wrong"), b"other words").unwrap();
        files::create_private(&path("short"), b"words\n").unwrap();
        files::create(&path("open"), b"a few words").unwrap();
        let pem = encrypt(&key(), &from_file(path("right"))).unwrap();
        files::create_private(&path("key.pem"), pem.as_bytes()).unwrap();
        let read = |name: &str| private_key(&path("key.pem"), &from_file(path(name)));
        assert_eq!(read("right").unwrap().public(), key().public());
        let wrong = read("wrong").unwrap_err();
        assert!(wrong.message.contains("this passphrase does not open"), "{wrong}");
        assert!(
            read("open").unwrap_err().message.contains("mode"),
            "others could read it"
        );
        let short = encrypt(&key(), &from_file(path("short"))).unwrap_err();
        assert!(short.message.contains("fewer than 8 bytes"), "{short}");
    }

    #[test]
    fn the_public_half_is_told_as_that_and_not_to_be_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pub.pem");
        files::create(&path, key().public().to_pem().unwrap().as_bytes()).unwrap();
        let failure = private_key(&path, &from_file(folder.path().join("none"))).unwrap_err();
        assert!(
            failure
                .message
                .contains("key.pub.pem` is a public key, where the private one"),
            "{failure}"
        );
        assert_eq!(failure.hint, None);
    }

    #[test]
    fn what_is_no_key_is_said_to_be_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        files::create_private(&path, b"k").unwrap();
        let failure = private_key(&path, &from_file(folder.path().join("none"))).unwrap_err();
        assert!(failure.message.contains("aral keygen"), "{failure}");
    }
}
