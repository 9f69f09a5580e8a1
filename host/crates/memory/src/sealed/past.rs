//! Epoch keys of the past: which of those that the keyring names nothing needs any more, and their end. It knows no root.

use super::keyring::Keyring;
use super::{Epoch, Inner};
use crate::key_service::KeyServiceError;
use crate::store::StoreError;

/// Epoch keys that nothing needs any more.
#[derive(Debug, Default)]
pub(super) struct PastEpochs {
    /// To destroy.
    pub(super) own: Vec<String>,
    /// Under another prefix: for the operator to decide.
    pub(super) foreign: Vec<String>,
}

impl Keyring {
    /// The epoch keys of this store's own past that nothing needs any more, whatever else the file may name: those to destroy, and
    /// those under another prefix than that of now. A copy of the store has such, too, and they may be what the other one lives by.
    pub(super) fn past_epochs(&self, epoch: &Epoch) -> PastEpochs {
        let newest = self.content.roots.last().map_or(0, |root| root.number);
        let mut past = PastEpochs::default();
        for name in &self.content.epochs_to_destroy {
            let root = Epoch::root_of(name, &self.store).filter(|root| (1..newest).contains(root));
            let is_needed = self.content.roots.iter().any(|root| root.epoch.as_ref() == Some(name));
            match root.filter(|_| !is_needed) {
                Some(root) if epoch.key_of(&self.store, root) == *name => past.own.push(name.clone()),
                Some(_) => past.foreign.push(name.clone()),
                None => {}
            }
        }
        past
    }
}

impl Inner {
    /// Destroys the epoch keys that are not needed any more. They are forgotten only when they are gone.
    pub(super) fn destroy_epochs(&self) -> Result<(), StoreError> {
        let Some(epoch) = &self.epoch else { return Ok(()) };
        // Nobody waits for the service meanwhile.
        let past = self.writer()?.keyring.past_epochs(epoch);
        for name in &past.foreign {
            tracing::error!(
                %name,
                "an old epoch key has another prefix than [memory.epoch] and stays: if no copy of the store needs it, destroy it in the key service"
            );
        }
        if past.own.is_empty() {
            return Ok(());
        }
        let (mut gone, mut failed) = (Vec::new(), None);
        // One that cannot be destroyed keeps no other. A service that does not answer is asked no more: each question would
        // take its whole time, and whoever opens the store, or ends the host, waits for all of them.
        for name in past.own {
            match epoch.service.destroy(&name) {
                Ok(()) => gone.push(name),
                Err(error) => {
                    let is_away = matches!(error, KeyServiceError::Unavailable { .. });
                    failed = failed.or(Some(error));
                    if is_away {
                        break;
                    }
                }
            }
        }
        let mut writer = self.writer()?;
        let mut content = writer.keyring.content.clone();
        content.epochs_to_destroy.retain(|name| !gone.contains(name));
        writer.keyring.replace(content)?;
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}
