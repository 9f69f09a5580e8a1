//! A service that holds keys which never leave it: the word that the store and its keys know of it. It knows no server
//! and no protocol.

use std::fmt;

use zeroize::Zeroizing;

/// Holds keys which never leave it. It serves a master key, which then lies nowhere else, and the keys of epochs, which
/// are destroyed in it. Every method may wait for a network: in async code call it where blocking is allowed.
pub trait KeyService: Send + Sync + fmt::Debug {
    /// Where the keys are, for messages, such as ``the transit engine `transit` at https://vault.example.com``.
    fn place(&self) -> String;

    /// Tells it from others of its kind, such as the mount of a transit engine. It is a part of the id of each master key that
    /// is there, so that a store asks no other engine for a key of the same name; it stays the same wherever the server is.
    fn mount(&self) -> &str;

    /// Makes a key that can be destroyed, that authenticates what it wraps, and of which no copy can be taken. Nothing happens if it is
    /// there already and is such a key.
    ///
    /// # Errors
    /// [`KeyServiceError::Refused`] if another kind of key has this name.
    fn create(&self, key: &str) -> Result<(), KeyServiceError>;

    /// Encrypts a few bytes, such as another key, under a key that is there.
    ///
    /// # Errors
    /// [`KeyServiceError::NotFound`] if it is not there: none is made by the way. [`KeyServiceError::Refused`] if a copy of it can be
    /// taken, or if it does not authenticate what it wraps.
    fn wrap(&self, key: &str, plain: &[u8]) -> Result<Vec<u8>, KeyServiceError>;

    /// The same under a key that seals what is kept already. It must work also once a copy of the key can be taken: whoever moves to
    /// another key wraps under both, so that either opens what is kept until the move is done. Without an own one this is
    /// [`KeyService::wrap`].
    ///
    /// # Errors
    /// [`KeyServiceError::NotFound`] if the key is not there, as far as whoever asks may know that.
    fn wrap_again(&self, key: &str, plain: &[u8]) -> Result<Vec<u8>, KeyServiceError> {
        self.wrap(key, plain)
    }

    /// Decrypts what [`KeyService::wrap`] returned for the same key.
    ///
    /// # Errors
    /// [`KeyServiceError::NotFound`] if the key is not there (any more), [`KeyServiceError::Refused`] if the bytes were
    /// not made under it, or if a copy of it can be taken or it does not authenticate, as far as whoever asks may know that.
    fn unwrap(&self, key: &str, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyServiceError>;

    /// Why nothing is sealed under a key for the first time, such as that a copy of it can be taken; none: nothing speaks against that,
    /// as far as whoever asks may know. Without an own one there is never a reason.
    ///
    /// # Errors
    /// As for the others.
    fn unfit(&self, _key: &str) -> Result<Option<String>, KeyServiceError> {
        Ok(None)
    }

    /// Whether a key is there. Nothing happens to it.
    ///
    /// # Errors
    /// As for the others.
    fn is_there(&self, key: &str) -> Result<bool, KeyServiceError>;

    /// Destroys a key; what it wrapped is noise from then on, for ever. A key that is not there is destroyed. When this
    /// returns without an error, the service has been asked and the key was gone.
    ///
    /// # Errors
    /// As for the others; after one, the key may be there or not, and the call can be repeated.
    fn destroy(&self, key: &str) -> Result<(), KeyServiceError>;
}

/// How a key service fails. No variant holds a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyServiceError {
    /// It does not answer now; the same may succeed later.
    #[error("{place} is unavailable: {reason}")]
    Unavailable {
        /// Where the keys are.
        place: String,
        /// Why, without internals.
        reason: String,
        /// What the log may know.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// It refuses: no right to the key, or the bytes are not its own.
    #[error("{place} refuses the key `{}`: {reason}", key.escape_debug())]
    Refused {
        /// Where the keys are.
        place: String,
        /// Name of the key.
        key: String,
        /// Why, with what would fix it.
        reason: String,
    },
    /// There is no such key, or not any more.
    #[error("{place} has no key `{}`", key.escape_debug())]
    NotFound {
        /// Where the keys are.
        place: String,
        /// What tells the service from others of its kind.
        mount: String,
        /// Name of the key.
        key: String,
    },
}
