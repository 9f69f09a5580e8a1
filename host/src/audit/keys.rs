//! The two keys of the log. The one that signs is made at the first start, unless the operator keeps one; the one that
//! hides is made wherever it is to be. Neither ever replaces one that is there.

use std::path::Path;

use aral_audit::Blinder;
use aral_audit::blind::BlindError;
use aral_contract::document::PrivateKey;
use aral_contract::failure::chain;
use aral_contract::{Code, Failure};
use aral_runtime::entropy;
use aral_runtime::files::{self, FilesError, Replace};

use crate::config::KEY_BYTES_MAX;
use crate::config::audit::AuditPlaces;

/// The key that signs checkpoints.
pub(super) fn signing(places: &AuditPlaces) -> Result<PrivateKey, Failure> {
    let path = &places.key;
    if let Some(public) = &places.public_key {
        make(path)?;
        let key = read(path)?;
        publish(&key, public)?;
        return Ok(key);
    }
    read(path)
}

/// The key that hides.
pub(super) fn blinding(path: &Path) -> Result<Blinder, Failure> {
    Blinder::load_or_create(path).map_err(|error| match error {
        BlindError::Files(error) => unusable(&error, path),
        BlindError::Malformed { .. } => wrong(chain(&error)),
        BlindError::Entropy(error) => Failure::internal(error),
    })
}

fn make(path: &Path) -> Result<(), Failure> {
    match files::read_private(path, KEY_BYTES_MAX) {
        Err(error) if error.is_not_found() => {}
        // What else is wrong with it, reading it says.
        Ok(_) | Err(_) => return Ok(()),
    }
    let key = PrivateKey::from_seed(&entropy::seed32().map_err(Failure::internal)?);
    let pem = key.to_pem().map_err(Failure::internal)?;
    // Whoever comes second finds the first one's key, whole.
    files::create_private_parent(path)
        .and_then(|()| files::create_private_file(path, pem.as_bytes()))
        .map_err(|error| unusable(&error, path))
}

fn read(path: &Path) -> Result<PrivateKey, Failure> {
    let pem = files::read_private(path, KEY_BYTES_MAX).map_err(|error| {
        let is_missing = error.is_not_found();
        let failure = unusable(&error, path);
        if is_missing {
            failure.with_hint(format!("make it: `aral keygen {}`", path.display()))
        } else {
            failure
        }
    })?;
    PrivateKey::from_pem(&String::from_utf8_lossy(&pem))
        .map_err(|error| wrong(format!("`{}`: {error}", path.display())))
}

/// Whoever verifies needs the public half, and nobody should have to touch the private one for it.
fn publish(key: &PrivateKey, path: &Path) -> Result<(), Failure> {
    let pem = key.public().to_pem().map_err(Failure::internal)?;
    match files::write_path(path, pem.as_bytes(), 0o644, Replace::Refuse) {
        Ok(()) => return Ok(()),
        Err(FilesError::Exists { .. }) => {}
        Err(error) => return Err(unusable(&error, path)),
    }
    let found = files::read_path(path, KEY_BYTES_MAX).map_err(|error| unusable(&error, path))?;
    if found == pem.as_bytes() {
        return Ok(());
    }
    Err(wrong(format!(
        "`{}` is not the public half of the key that signs the audit log",
        path.display()
    ))
    .with_hint("if you replaced the key, keep the old public half elsewhere for the old records, and remove that file"))
}

fn wrong(message: String) -> Failure {
    Failure::new(Code::ConfigInvalid, message)
}

/// A file or folder of the log that cannot be used.
pub(super) fn unusable(error: &FilesError, path: &Path) -> Failure {
    let failure = wrong(format!("the audit log: {}", chain(error)));
    match error {
        FilesError::Mode { wanted, .. } => failure.with_hint(format!("chmod {wanted} {}", path.display())),
        FilesError::Owner { .. } => failure.with_hint(format!("chown \"$(id -u)\" {}", path.display())),
        FilesError::Io { .. }
        | FilesError::TooLarge { .. }
        | FilesError::NotAFile { .. }
        | FilesError::Exists { .. } => failure,
    }
}
