//! Who looks at components, and what they found before: it is kept beside compiled code, and is as trusted as that.

use std::sync::Arc;

use aral_contract::Digest;

use super::CompilerKind;
use super::child::LOOK_HEADER;
use crate::cache::{Cache, EntryName};

/// A compiler, and the cache for what it finds in components, if there is one.
#[derive(Debug, Clone)]
pub struct Looker {
    compiler: CompilerKind,
    cache: Option<Arc<Cache>>,
}

impl From<CompilerKind> for Looker {
    /// One that keeps nothing.
    fn from(compiler: CompilerKind) -> Self {
        Self::new(compiler, None)
    }
}

impl Looker {
    pub(crate) fn new(compiler: CompilerKind, cache: Option<Arc<Cache>>) -> Self {
        Self { compiler, cache }
    }

    /// Who looks.
    pub fn compiler(&self) -> &CompilerKind {
        &self.compiler
    }

    /// What was kept of this component in this form, word for word; nothing if there is none, or none from a holder of the key. Waits
    /// for the disk.
    pub fn kept(&self, component: Digest, form: &str) -> Option<Vec<u8>> {
        let entry = self.cache.as_ref()?.load(&name(component, form))?;
        Some(entry.code().to_vec())
    }

    /// Keeps what was found, in place of what is there. Waits for the disk; that it is not kept is no failure.
    pub fn keep(&self, component: Digest, form: &str, found: &[u8]) {
        let Some(cache) = &self.cache else { return };
        if let Err(error) = cache.store(&name(component, form), found) {
            tracing::warn!(%error, "what was found in a component is not kept");
        }
    }
}

/// Never that of code: there the settings of an engine are hashed, which do not begin like this.
fn name(component: Digest, form: &str) -> EntryName {
    EntryName {
        component,
        settings: Digest::of(format!("{LOOK_HEADER}{form}").as_bytes()),
    }
}
