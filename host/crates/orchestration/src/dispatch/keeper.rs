//! Tells whoever keeps what agents use up that there is something new to keep. Every call comes by here, whoever makes it.

use std::sync::{Arc, Weak};

use super::Dispatcher;

/// Keeps what agents have used up from one run of the host to the next.
pub trait Keeper: Send + Sync {
    /// Something was used since [`Dispatcher::take_unsaved`] was asked last. Asked at every call, and so must not wait.
    fn used(self: Arc<Self>);
}

/// Tells it when dropped: however a call ends, what it cost is known by then.
pub(super) struct Using<'a>(&'a Dispatcher);

impl Drop for Using<'_> {
    fn drop(&mut self) {
        self.0.note_used();
    }
}

impl Dispatcher {
    /// From now on this one is told. The first one stays; the dispatcher does not keep it alive.
    pub fn keep_with(&self, keeper: Weak<dyn Keeper>) {
        let _stays = self.keeper.set(keeper);
    }

    pub(super) fn using(&self) -> Using<'_> {
        Using(self)
    }

    pub(super) fn note_used(&self) {
        if let Some(keeper) = self.keeper.get().and_then(Weak::upgrade) {
            keeper.used();
        }
    }
}
