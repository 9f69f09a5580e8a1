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
        let file = self.host.0.serials.as_ref();
        let locked = file.map(|file| file.lock(&*self.host.0.clock)).transpose()?;
        match &locked {
            None => drop(self.dispatcher.adopt(&sessions)?),
            Some(locked) => {
                let (manifests, personas, used) = (locked.manifests()?, locked.personas()?, locked.used()?);
                for (file, session) in &proposed {
                    let (id, persona) = (session.persona().body.id.clone(), session.persona());
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
        for session in sessions {
            self.host.authenticated(Some(session.persona().body.id.clone()), None);
        }
        Ok(())
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
        personas.extend(signed.map(|persona| (persona.body.id.clone(), persona.header.serial)));
        Ok((manifests, personas))
    }
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

/// Those of manifests, as earlier processes have left them.
pub(super) fn of_manifests(host: &Host) -> Result<Serials, Failure> {
    let file = host.0.serials.as_ref();
    let locked = file.map(|file| file.lock(&*host.0.clock)).transpose()?;
    locked.map_or_else(|| Ok(Serials::default()), |locked| locked.manifests())
}
