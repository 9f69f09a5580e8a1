//! A session: for whom calls are made. It holds a persona that was checked, and is cheap to clone.

use std::sync::Arc;

use aral_contract::document::DocumentError;
use aral_persona::Persona;
use jiff::Timestamp;

/// For whom calls are made. The persona's validity is checked again at every call.
#[derive(Debug, Clone)]
pub struct Session {
    persona: Arc<Persona>,
}

impl Session {
    /// For a persona that was checked.
    pub fn new(persona: Persona) -> Self {
        Self {
            persona: Arc::new(persona),
        }
    }

    /// The persona.
    pub fn persona(&self) -> &Persona {
        &self.persona
    }

    /// Whether nobody signed the persona, so that the session came through a door for development.
    pub fn is_development(&self) -> bool {
        self.persona.signer.is_none()
    }

    pub(crate) fn check_time(&self, now: Timestamp) -> Result<(), DocumentError> {
        self.persona.check_time(now)
    }
}
