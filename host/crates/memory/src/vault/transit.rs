//! Keys in the transit engine of a Vault-compatible server: the [`KeyService`] that needs no other machine than the one
//! that keeps the secrets. It blocks; the exchanges run on the server's own thread.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use vaultrs::api::transit::KeyType;
use vaultrs::api::transit::requests::{
    CreateKeyRequest, DecryptDataRequest, DeleteKeyRequest, EncryptDataRequest, ReadKeyRequest,
    UpdateKeyConfigurationRequest,
};
use zeroize::{Zeroize as _, Zeroizing};

use super::answer::erased;
use super::client::Erased;
use super::options::{VaultError, is_plain_path, plain_path};
use super::session::Session;
use super::{Vault, VaultFailure};
use crate::key_service::{KeyService, KeyServiceError};

/// Most bytes that are wrapped: keys are small, and a key is not made to encrypt what should be in the store.
const WRAPPED_BYTES_MAX: usize = 64 << 10;

/// Keys in one transit engine.
#[derive(Debug, Clone)]
pub struct TransitKeys {
    vault: Vault,
    mount: Arc<str>,
}

/// What the engine says of a key.
#[derive(Deserialize)]
struct Key {
    data: KeyData,
}

/// All three must be there: an engine that does not say whether there can be a copy of a key is not asked to keep one.
#[derive(Deserialize)]
struct KeyData {
    exportable: bool,
    allow_plaintext_backup: bool,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Encrypted {
    data: Ciphertext,
}

#[derive(Deserialize)]
struct Ciphertext {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Decrypted {
    data: Plaintext,
}

#[derive(Deserialize)]
struct Plaintext {
    #[serde(deserialize_with = "erased")]
    plaintext: Zeroizing<String>,
}

/// What to do about a key that a store is sealed under, and that does not keep what it wraps.
const LEAVE_IT: &str = "to seal the store under another one, take `read` on this key from the policy of the login, with which it still \
                        decrypts, and start `aral memory rotate-key`, or `rotate-epoch` where it is the key of an epoch";

/// The types of keys that authenticate what they wrap.
const AUTHENTICATING: [&str; 4] = [
    "aes256-gcm96",
    "aes128-gcm96",
    "chacha20-poly1305",
    "xchacha20-poly1305",
];

/// What is wrong with a key that does not keep what it wraps. A copy of a key would open that without the engine, also once the key is
/// destroyed there. And under a key that does not authenticate, such as one of RSA, whoever knows its public half wraps a root key of
/// their own for the store.
fn fault(key: &KeyData) -> Option<String> {
    if key.exportable || key.allow_plaintext_backup {
        return Some("it can be exported or backed up in plain, so that a copy could outlive it".to_owned());
    }
    if AUTHENTICATING.contains(&key.kind.as_str()) {
        return None;
    }
    let kind: String = key.kind.escape_debug().take(32).collect();
    let known = AUTHENTICATING.join(", ");
    Some(format!(
        "its type `{kind}` is none of those that authenticate what they wrap ({known}), so that others could wrap a key of their own \
         for the store"
    ))
}

async fn look(session: &Arc<Session>, mount: String, name: String) -> Result<KeyData, VaultFailure> {
    let found: Key = session.exchange(&ReadKeyRequest { mount, name }).await?.parse()?;
    Ok(found.data)
}

/// Refuses a key that does not keep what it wraps.
async fn keeps(session: &Arc<Session>, mount: String, name: String, instead: &str) -> Result<(), VaultFailure> {
    match fault(&look(session, mount, name).await?) {
        Some(why) => Err(VaultFailure::refused(format!("{why}; {instead}"))),
        None => Ok(()),
    }
}

/// What is asked of a key before something is wrapped with it.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    /// That it keeps what it wraps.
    Keeps,
    /// That it is there, as far as the login may see that.
    There,
}

impl Wanted {
    async fn check(self, session: &Arc<Session>, mount: String, name: String) -> Result<(), VaultFailure> {
        match self {
            Self::Keeps => keeps(session, mount, name, "name another key").await,
            Self::There => match session.exchange(&ReadKeyRequest { mount, name }).await {
                Ok(_) | Err(VaultFailure::Forbidden) => Ok(()),
                Err(other) => Err(other),
            },
        }
    }
}

impl TransitKeys {
    /// Keys in the engine at `mount`, such as `transit`.
    ///
    /// # Errors
    /// [`VaultError::Name`] if no engine can be there.
    pub fn new(vault: Vault, mount: &str) -> Result<Self, VaultError> {
        let mount = plain_path(mount, "the mount of a transit engine")?.into();
        Ok(Self { vault, mount })
    }

    fn ask<T, F>(&self, key: &str, work: impl FnOnce(Arc<Session>, String, String) -> F) -> Result<T, KeyServiceError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, VaultFailure>> + Send + 'static,
    {
        if key.contains('/') || !is_plain_path(key) {
            return Err(self.error(key, VaultFailure::refused("a name has A-Z a-z 0-9 - _ . alone")));
        }
        let (mount, name) = (self.mount.to_string(), key.to_owned());
        self.vault
            .run_blocking(|session| work(session, mount, name))
            .map_err(|failure| self.error(key, failure))
    }

    fn encrypt(&self, key: &str, plain: &[u8], wanted: Wanted) -> Result<Vec<u8>, KeyServiceError> {
        if plain.len() > WRAPPED_BYTES_MAX {
            return Err(self.error(key, VaultFailure::refused("it wraps 64 KiB at most")));
        }
        let plain = Zeroizing::new(STANDARD.encode(plain));
        self.ask(key, move |session, mount, name| async move {
            // The engine makes a key that is not there on the way, for a login that may create one.
            wanted.check(&session, mount.clone(), name.clone()).await?;
            let encrypt = EncryptDataRequest {
                mount,
                name,
                plaintext: plain.to_string(),
                ..EncryptDataRequest::default()
            };
            let encrypt = Erased::new(encrypt, |encrypt| encrypt.plaintext.zeroize());
            let encrypted: Encrypted = session.exchange(encrypt.request()).await?.parse()?;
            Ok(encrypted.data.ciphertext.into_bytes())
        })
    }

    fn error(&self, key: &str, failure: VaultFailure) -> KeyServiceError {
        let place = self.place();
        let key = key.chars().take(128).collect();
        match failure {
            VaultFailure::NotFound(_) | VaultFailure::NoKey => {
                let mount = self.mount.to_string();
                KeyServiceError::NotFound { place, mount, key }
            }
            VaultFailure::Unavailable { reason, source } => KeyServiceError::Unavailable { place, reason, source },
            refused @ (VaultFailure::Forbidden | VaultFailure::Conflict | VaultFailure::Refused { .. }) => {
                let reason = refused.reason();
                KeyServiceError::Refused { place, key, reason }
            }
        }
    }
}

impl KeyService for TransitKeys {
    fn place(&self) -> String {
        format!("the transit engine `{}` at {}", self.mount, self.vault.address())
    }

    fn mount(&self) -> &str {
        &self.mount
    }

    fn create(&self, key: &str) -> Result<(), KeyServiceError> {
        self.ask(key, |session, mount, name| async move {
            let request = CreateKeyRequest {
                mount: mount.clone(),
                name: name.clone(),
                key_type: Some(KeyType::Aes256Gcm96),
                exportable: Some(false),
                allow_plaintext_backup: Some(false),
                derived: Some(false),
                ..CreateKeyRequest::default()
            };
            session.exchange(&request).await?;
            // A key of this name may have been there before, made by somebody else to be copied.
            keeps(&session, mount, name, "it is there already; use another name").await
        })
    }

    fn wrap(&self, key: &str, plain: &[u8]) -> Result<Vec<u8>, KeyServiceError> {
        self.encrypt(key, plain, Wanted::Keeps)
    }

    fn wrap_again(&self, key: &str, plain: &[u8]) -> Result<Vec<u8>, KeyServiceError> {
        self.encrypt(key, plain, Wanted::There)
    }

    fn unwrap(&self, key: &str, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyServiceError> {
        let ciphertext = match str::from_utf8(wrapped) {
            Ok(text) if text.starts_with("vault:v") && text.len() <= 2 * WRAPPED_BYTES_MAX => text.to_owned(),
            Ok(_) | Err(_) => {
                return Err(self.error(key, VaultFailure::refused("the bytes were not wrapped by it")));
            }
        };
        self.ask(key, |session, mount, name| async move {
            match keeps(&session, mount.clone(), name.clone(), LEAVE_IT).await {
                // Decrypting says itself that there is no key. A login need not be allowed to see what a key is.
                Ok(()) | Err(VaultFailure::Forbidden | VaultFailure::NotFound(_) | VaultFailure::NoKey) => {}
                Err(other) => return Err(other),
            }
            let request = DecryptDataRequest {
                mount,
                name,
                ciphertext,
                ..DecryptDataRequest::default()
            };
            let decrypted: Decrypted = session.exchange(&request).await?.parse()?;
            let plain = STANDARD.decode(decrypted.data.plaintext.as_bytes());
            plain.map(Zeroizing::new).map_err(|_| VaultFailure::nonsense())
        })
    }

    fn unfit(&self, key: &str) -> Result<Option<String>, KeyServiceError> {
        self.ask(key, |session, mount, name| async move {
            match look(&session, mount, name).await {
                Ok(key) => Ok(fault(&key).map(|why| format!("{why}; {LEAVE_IT}"))),
                Err(VaultFailure::Forbidden) => Ok(None),
                // A login that is refused, too, says nothing of the key.
                Err(other) => Err(other),
            }
        })
    }

    fn is_there(&self, key: &str) -> Result<bool, KeyServiceError> {
        let read = self.ask(key, |session, mount, name| async move {
            session.exchange(&ReadKeyRequest { mount, name }).await.map(drop)
        });
        match read {
            Ok(()) => Ok(true),
            Err(KeyServiceError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn destroy(&self, key: &str) -> Result<(), KeyServiceError> {
        self.ask(key, |session, mount, name| async move {
            let allow = UpdateKeyConfigurationRequest {
                mount: mount.clone(),
                name: name.clone(),
                deletion_allowed: Some(true),
                ..UpdateKeyConfigurationRequest::default()
            };
            let delete = DeleteKeyRequest {
                mount: mount.clone(),
                name: name.clone(),
            };
            for outcome in [session.exchange(&allow).await, session.exchange(&delete).await] {
                match outcome {
                    // What these two say of a key that is not there differs between servers: what counts is below.
                    Ok(_) | Err(VaultFailure::NotFound(_) | VaultFailure::NoKey | VaultFailure::Refused { .. }) => {}
                    Err(other) => return Err(other),
                }
            }
            match session.exchange(&ReadKeyRequest { mount, name }).await {
                Err(VaultFailure::NotFound(_) | VaultFailure::NoKey) => Ok(()),
                Ok(_) => Err(VaultFailure::refused("it is still there after it was deleted")),
                Err(other) => Err(other),
            }
        })
    }
}
