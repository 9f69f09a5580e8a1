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
    /// Destroys the epoch keys that are not needed any more, and looks whether those under another prefix were destroyed by
    /// hand. They are forgotten only when they are gone; what is left is in the log, is returned by name, and is tried again at every opening and rotation.
    pub(super) fn destroy_epochs(&self) -> Vec<String> {
        let Some(epoch) = &self.epoch else { return Vec::new() };
        // Nobody waits for the service meanwhile.
        let past = match self.writer() {
            Ok(writer) => writer.keyring.past_epochs(epoch),
            Err(error) => {
                tracing::error!(%error, "old epoch keys may still be there");
                return Vec::new();
            }
        };
        let mut gone = Vec::new();
        let own = past.own.iter().map(|name| (name, true));
        // One that cannot be destroyed keeps no other. A service that does not answer is asked no more: each question would
        // take its whole time, and whoever opens the store, or ends the host, waits for all of them.
        for (name, is_own) in own.chain(past.foreign.iter().map(|name| (name, false))) {
            let is_gone = if is_own {
                epoch.service.destroy(name).map(|()| true)
            } else {
                epoch.service.is_there(name).map(|is_there| !is_there)
            };
            match is_gone {
                Ok(true) => gone.push(name.clone()),
                Ok(false) => tracing::error!(
                    %name,
                    "an old epoch key has another prefix than [memory.epoch] and stays: if no copy of the store needs it, destroy it in the key service"
                ),
                Err(error) => {
                    tracing::error!(%name, %error, "an old epoch key may still be there");
                    if matches!(error, KeyServiceError::Unavailable { .. }) {
                        break;
                    }
                }
            }
        }
        if let Err(error) = self.forget_epochs(&gone) {
            tracing::error!(%error, "old epoch keys that are gone are still named by the keyring");
        }
        let mut left = past.own;
        left.extend(past.foreign);
        left.retain(|name| !gone.contains(name));
        left
    }

    fn forget_epochs(&self, gone: &[String]) -> Result<(), StoreError> {
        if gone.is_empty() {
            return Ok(());
        }
        let mut writer = self.writer()?;
        let mut content = writer.keyring.content.clone();
        content.epochs_to_destroy.retain(|name| !gone.contains(name));
        self.replace_keyring(&mut writer, content)
    }
}
