//! What a configuration that is taken leaves behind for later processes: the highest serials of its documents. They are checked
//! before it holds and written together with it.

use aral_capability::registry::Serials;
use aral_contract::Failure;
use aral_orchestration::Session;

use super::Renewal;
use crate::host::Host;
use crate::serials::{Locked, PersonaSerials};

impl Renewal<'_> {
    /// Takes its documents if none is older than one that was admitted, and remembers that it did.
    pub(super) fn take_documents(&self) -> Result<(), Failure> {
        let proposed = self.proposed.take();
        let sessions: Vec<Session> = proposed.iter().map(|(_, session)| session.clone()).collect();
        let mut replaced = Vec::new();
        let file = self.host.0.serials.as_ref();
        let locked = file.map(|file| file.lock(&*self.host.0.clock)).transpose()?;
        match &locked {
            None => drop(self.dispatcher.adopt(&sessions)?),
            Some(locked) => {
                let (manifests, personas, used) = (locked.manifests()?, locked.personas()?, locked.used()?);
                for (file, session) in &proposed {
                    let (id, persona) = (session.persona().body.id.clone(), session.persona());
                    // What holds here already is not taken now, and keeps no newer rule from holding. Whoever has taken a
                    // newer issue with the same state did not reach it: it ends here.
                    if self.is_held(session) {
                        replaced.extend(replaced_by(&personas, session).map(|last| (session, last)));
                        continue;
                    }
                    let check = || self.host.check_serial(&personas, persona);
                    self.host.noting_refused_persona(Some(file), Some(id), check)?;
                }
                let taken = self.serials_with(&manifests, &personas, &sessions)?;
                let adopted = self.dispatcher.adopt(&sessions)?;
                let written = write_serials(locked, &(manifests, personas), &taken);
                written.inspect_err(|_| self.dispatcher.abandon(&adopted))?;
                self.dispatcher.load_used(&used);
            }
        }
        for (session, last) in &replaced {
            self.dispatcher.end(session);
            let subject = format!("persona `{}`", session.persona().body.id);
            let reason = format!("an issue of it with serial {last} was admitted by another process");
            self.lapses.borrow_mut().push((subject, reason));
        }
        let goes_on = |session: &Session| replaced.iter().all(|(other, _)| !other.is_of(session.persona()));
        for session in sessions.iter().filter(|session| goes_on(session)) {
            self.host.authenticated(Some(session.persona().body.id.clone()), None);
        }
        Ok(())
    }

    /// Whether the session of a persona that was proposed is the one that is there.
    fn is_held(&self, session: &Session) -> bool {
        let held = self.dispatcher.session(&session.persona().body.id);
        held.is_some_and(|held| held.is_of(session.persona()))
    }

    /// The highest serials once its documents are taken.
    fn serials_with(
        &self,
        manifests: &Serials,
        personas: &PersonaSerials,
        sessions: &[Session],
    ) -> Result<(Serials, PersonaSerials), Failure> {
        let (mut manifests, mut personas) = (manifests.clone(), personas.clone());
        for manifest in &self.manifests {
            let (signer, serial) = (manifest.signer, manifest.header.serial);
            manifests.check(signer, manifest.body.ids(), serial)?;
            manifests.note(signer, manifest.body.ids(), serial);
        }
        let signed = sessions
            .iter()
            .map(Session::persona)
            .filter(|persona| persona.signer.is_some());
        for persona in signed {
            let last = personas.entry(persona.body.id.clone()).or_default();
            *last = (*last).max(persona.header.serial);
        }
        Ok((manifests, personas))
    }
}

/// The serial of a newer issue of its persona that was admitted.
pub(super) fn replaced_by(personas: &PersonaSerials, session: &Session) -> Option<u64> {
    let persona = session.persona();
    let last = personas.get(&persona.body.id).copied();
    last.filter(|last| persona.signer.is_some() && *last > persona.header.serial)
}

/// Both, or neither as far as the disk allows it.
fn write_serials(
    locked: &Locked<'_>,
    before: &(Serials, PersonaSerials),
    now: &(Serials, PersonaSerials),
) -> Result<(), Failure> {
    if now.0 != before.0 {
        locked.write_manifests(&now.0)?;
    }
    if now.1 == before.1 {
        return Ok(());
    }
    locked.write_personas(&now.1).inspect_err(|_| {
        if now.0 != before.0
            && let Err(failure) = locked.write_manifests(&before.0)
        {
            tracing::error!(%failure, "serials of manifests that were not taken are remembered");
        }
    })
}

/// Those of manifests and of personas, as other processes have left them.
pub(super) fn known(host: &Host) -> Result<(Serials, PersonaSerials), Failure> {
    let file = host.0.serials.as_ref();
    let Some(file) = file else {
        return Ok(Default::default());
    };
    let locked = file.lock(&*host.0.clock)?;
    Ok((locked.manifests()?, locked.personas()?))
}
