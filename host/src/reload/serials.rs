//! What a configuration that is taken leaves behind for later processes: the highest serials of its documents. They are looked
//! at first, and no other process changes them until they are written together with it.

use aral_capability::registry::Serials;
use aral_contract::Failure;
use aral_orchestration::Session;

use super::{Manifest, Renewal};
use crate::host::Host;
use crate::serials::{Locked, LockedUsed, PersonaSerials};

/// The serials as processes with the same state have left them. As long as this is there, none of them admits anything.
#[derive(Default)]
pub(super) struct Known<'a> {
    /// None: nothing is kept.
    locked: Option<Locked<'a>>,
    manifests: Serials,
    personas: PersonaSerials,
}

impl<'a> Known<'a> {
    /// Waits for other processes.
    pub(super) fn of(host: &'a Host) -> Result<Self, Failure> {
        let Some(file) = &host.0.serials else {
            return Ok(Self::default());
        };
        let locked = file.lock(&*host.0.clock)?;
        Ok(Self {
            manifests: locked.manifests()?,
            personas: locked.personas()?,
            locked: Some(locked),
        })
    }

    pub(super) fn manifests(&self) -> &Serials {
        &self.manifests
    }

    pub(super) fn personas(&self) -> &PersonaSerials {
        &self.personas
    }

    /// The serial of a newer issue of its persona that was admitted.
    pub(super) fn replaced_by(&self, session: &Session) -> Option<u64> {
        let persona = session.persona();
        let last = self.personas.get(&persona.body.id).copied();
        last.filter(|last| persona.signer.is_some() && *last > persona.header.serial)
    }

    /// The same once these documents are taken.
    fn with(&self, manifests: &[Manifest], sessions: &[Session]) -> (Serials, PersonaSerials) {
        let (mut serials, mut personas) = (self.manifests.clone(), self.personas.clone());
        for manifest in manifests {
            serials.note(manifest.signer, manifest.body.ids(), manifest.header.serial);
        }
        let signed = sessions
            .iter()
            .map(Session::persona)
            .filter(|persona| persona.signer.is_some());
        for persona in signed {
            let last = personas.entry(persona.body.id.clone()).or_default();
            *last = (*last).max(persona.header.serial);
        }
        (serials, personas)
    }
}

impl Renewal<'_> {
    /// Takes its documents, which were checked, and remembers that it did: that first, since a session that has ended does not come
    /// back. Nothing ends before everything is done that can fail, and nothing is taken once the host has ended.
    pub(super) fn take_documents(&mut self) -> Result<(), Failure> {
        let proposed = self.proposed.take().into_iter();
        let sessions: Vec<Session> = proposed.map(|(_, session)| session).collect();
        let known = std::mem::take(&mut self.known);
        // Until it is here: what somebody keeps in between would be in neither place.
        let locked_used = known
            .locked
            .as_ref()
            .map(|locked| locked.lock_used(&*self.host.0.clock))
            .transpose()?;
        let used = locked_used.as_ref().map(LockedUsed::used).transpose()?;
        self.host.0.check_here()?;
        match &known.locked {
            None => self.dispatcher.adopt(&sessions)?,
            Some(locked) => {
                let before = (&known.manifests, &known.personas);
                let taken = known.with(&self.manifests, &sessions);
                let taken = (&taken.0, &taken.1);
                write_serials(locked, before, taken)?;
                self.dispatcher.adopt(&sessions).inspect_err(|_| {
                    if let Err(failure) = write_serials(locked, taken, before) {
                        tracing::error!(%failure, "serials of documents that were not taken are remembered");
                    }
                })?;
            }
        }
        if let Some(used) = used {
            self.dispatcher.load_used(&used);
        }
        drop(locked_used);
        for session in &sessions {
            let id = session.persona().body.id.clone();
            let Some(last) = known.replaced_by(session) else {
                self.host.authenticated(Some(id), None);
                continue;
            };
            // What holds here already keeps no newer rule from holding. Whoever has taken a newer issue with the same state did not
            // reach it: it ends here.
            self.dispatcher.end(session);
            self.lapses
                .borrow_mut()
                .push((format!("persona `{id}`"), replaced(last)));
        }
        Ok(())
    }

    /// Whether the session of a persona that was proposed is the one that is there.
    pub(super) fn is_held(&self, session: &Session) -> bool {
        let held = self.dispatcher.session(&session.persona().body.id);
        held.is_some_and(|held| held.is_of(session.persona()))
    }
}

/// Why nothing runs under a document any more that was replaced.
pub(super) fn replaced(last: u64) -> String {
    format!("an issue of it with serial {last} was admitted by another process")
}

/// Both, or neither as far as the disk allows it.
fn write_serials(
    locked: &Locked<'_>,
    before: (&Serials, &PersonaSerials),
    now: (&Serials, &PersonaSerials),
) -> Result<(), Failure> {
    if now.0 != before.0 {
        locked.write_manifests(now.0)?;
    }
    if now.1 == before.1 {
        return Ok(());
    }
    locked.write_personas(now.1).inspect_err(|_| {
        if now.0 != before.0
            && let Err(failure) = locked.write_manifests(before.0)
        {
            tracing::error!(%failure, "serials of manifests that were not taken are remembered");
        }
    })
}
