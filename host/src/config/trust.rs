//! `[[trust]]` and `[revoked]`: who may sign what, and when. The files of keys are read here, once.

use std::path::PathBuf;

use aral_contract::KeyId;
use aral_contract::document::{PublicKey, TrustStore, Validity};

use super::error::KEYGEN;
use super::raw::RawTrust;
use super::{ConfigError, KEY_BYTES_MAX, read_named};

pub(super) fn resolve(
    raw: Vec<RawTrust>,
    revoked: Vec<KeyId>,
    beside: &impl Fn(PathBuf) -> PathBuf,
) -> Result<TrustStore, ConfigError> {
    let mut store = TrustStore::default();
    for one in raw {
        let path = beside(one.public_key);
        let bytes = read_named(&path, KEY_BYTES_MAX, "[[trust]] public_key".to_owned(), KEYGEN)?;
        let key = PublicKey::from_pem(&String::from_utf8_lossy(&bytes));
        let key = key.map_err(|error| ConfigError::Key {
            path: path.clone(),
            error,
        })?;
        let (not_before, not_after) = (one.not_before, one.not_after);
        if let (Some(not_before), Some(not_after)) = (not_before, not_after)
            && not_before >= not_after
        {
            return Err(ConfigError::Never {
                path,
                not_before,
                not_after,
            });
        }
        store.add_for(key, &one.kinds, Validity { not_before, not_after });
    }
    revoked.into_iter().for_each(|key| store.revoke(key));
    Ok(store)
}
