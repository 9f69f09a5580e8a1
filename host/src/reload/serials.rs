//! What a configuration that is taken leaves behind for later processes: the highest serials of its documents. They are looked
//! at first, and no other process changes them until they are written together with it.

use std::sync::Arc;

use aral_capability::registry::Serials;
use aral_contract::{Failure, PersonaId};
use aral_orchestration::{Dispatcher, Session};

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
    /// Takes its documents, which were checked, together with its rules, and remembers that it did: that first, since a session that has
    /// ended does not come back. Nothing ends before everything is done that can fail, and nothing is taken once the host has ended.
    /// Returns the path under the rules before, and the personas that were taken.
    pub(super) fn take_documents(&mut self) -> Result<(Arc<Dispatcher>, Vec<PersonaId>), Failure> {
        let sessions = self.proposed.take();
        let known = std::mem::take(&mut self.known);
        // Until it is here: what somebody keeps in between would be in neither place.
        let locked_used = known
            .locked
            .as_ref()
            .map(|locked| locked.lock_used(&*self.host.0.clock))
            .transpose()?;
        let used = locked_used.as_ref().map(LockedUsed::used).transpose()?;
        self.host.0.check_here()?;
        let (mut taken, mut ended) = (Vec::new(), Vec::new());
        for session in &sessions {
            match known.replaced_by(session) {
                None => taken.push(session.persona().body.id.clone()),
                Some(last) => ended.push((session, last)),
            }
        }
        let hold = || {
            // What holds here already keeps no newer rule from holding. Whoever has taken a newer issue with the same state did not
            // reach it: it ends here, before there are other rules under which it could go on.
            ended.iter().for_each(|(session, _)| self.dispatcher.end(session));
            let hold = || self.host.0.dispatcher.swap(Arc::clone(&self.dispatcher));
            self.host.0.revoked.bring_into_force(&self.dispatcher, hold)
        };
        let before = match &known.locked {
            None => self.dispatcher.adopt(&sessions, hold)?,
            Some(locked) => {
                let kept = (&known.manifests, &known.personas);
                let with_these = known.with(&self.manifests, &sessions);
                let with_these = (&with_these.0, &with_these.1);
                write_serials(locked, kept, with_these)?;
                self.dispatcher.adopt(&sessions, hold).inspect_err(|_| {
                    if let Err(failure) = write_serials(locked, with_these, kept) {
                        tracing::error!(%failure, "serials of documents that were not taken are remembered");
                    }
                })?
            }
        };
        if let Some(used) = used {
            self.dispatcher.load_used(&used);
        }
        drop(locked_used);
        let lapses = ended.into_iter().map(|(session, last)| {
            let subject = format!("persona `{}`", session.persona().body.id);
            (subject, replaced(last))
        });
        self.lapses.borrow_mut().extend(lapses);
        Ok((before, taken))
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
