//! The personas that a configuration names when it is read again. One that is new is taken, one that holds goes on, and a newer issue
//! of one that holds waits for a restart: none of them keeps the rest from holding. Whatever else stands for a persona is refused.

use std::path::Path;

use aral_contract::document::signed::Kind;
use aral_contract::{Failure, rule};
use aral_orchestration::Session;
use aral_orchestration::budget::Refused;
use aral_persona::{Persona, persona};

use super::{Renewal, lapsed};
use crate::events::security;
use crate::host::Host;
use crate::personas::{Personas, check_serial};

/// A persona that a configuration names.
enum Named {
    /// It is believed.
    Believed(Box<Persona>),
    /// It is there and not believed any more. It stays as it is, so that each of its calls is refused.
    Lapsed(Session),
}

impl Renewal<'_> {
    /// The session of a persona in a file: of one that nobody signed only if `personas` says so. It is there for nobody else
    /// before the configuration holds.
    pub(crate) fn persona_of_file(&self, path: &Path, personas: Personas) -> Result<Session, Failure> {
        let document = self.host.read_persona(path)?;
        let alleged = persona::alleged_id(&document);
        let taken = self.host.noting_refused_persona(Some(path), alleged, || {
            let named = personas.or_unsigned(self.persona(&document), |why| {
                let persona = self.host.dangerous_unsigned(&document, Some(&why))?;
                Ok(Named::Believed(Box::new(persona)))
            });
            match named.inspect_err(|_| self.host.suspect(&document))? {
                Named::Believed(persona) => self.propose(path, *persona),
                Named::Lapsed(session) => Ok(session),
            }
        });
        taken.map_err(|failure| failure.in_file(path))
    }

    fn propose(&self, path: &Path, persona: Persona) -> Result<Session, Failure> {
        let id = persona.body.id.clone();
        let held = self.dispatcher.session(&id).filter(|held| !held.is_of(&persona));
        let (replaced, holds) = match held {
            Some(held) if self.was_replaced(&held) => (Some(held), None),
            holds => (None, holds),
        };
        if let Some(holds) = holds.filter(|holds| is_newer(&persona, holds)) {
            return self.wait(path, persona, holds);
        }
        if replaced.is_none() {
            self.host.check_unchanged(&persona)?;
        }
        let session = if replaced.is_some() {
            self.dispatcher.propose_instead(persona)
        } else {
            self.dispatcher.propose(persona)
        };
        let attempted = |refused| self.host.noting_attempt(&id, refused);
        let session = session.map_err(attempted)?;
        // An issue that was replaced as well says no more than the one that is there: nothing runs under either, and neither keeps
        // newer rules from holding.
        let is_behind = self.known.replaced_by(&session).is_some();
        let session = replaced.filter(|_| is_behind).unwrap_or(session);
        if !self.is_held(&session) {
            check_serial(self.known.personas(), session.persona()).map_err(attempted)?;
        }
        self.check_alone(session.persona())?;
        let mut proposed = self.proposed.borrow_mut();
        // Callers, scopes and the configuration may name one persona.
        if let Some((_, same)) = proposed.iter().find(|(_, other)| other.is_of(session.persona())) {
            return Ok(same.clone());
        }
        proposed.push((path.to_owned(), session.clone()));
        Ok(session)
    }

    /// The session that goes on while a newer issue of its persona waits.
    fn wait(&self, path: &Path, persona: Persona, holds: Session) -> Result<Session, Failure> {
        let serial = check_serial(self.known.personas(), &persona);
        serial.map_err(|refused| self.host.noting_attempt(&persona.body.id, refused))?;
        self.check_alone(&persona)?;
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|(_, other)| is_same(other, &persona)) {
            waiting.push((path.to_owned(), persona));
        }
        Ok(holds)
    }

    /// No configuration names two issues of one persona: at the next start nothing would say which one is meant.
    fn check_alone(&self, persona: &Persona) -> Result<(), Failure> {
        let id = &persona.body.id;
        let (proposed, waiting) = (self.proposed.borrow(), self.waiting.borrow());
        let proposed = proposed.iter().map(|(_, session)| session.persona());
        let mut named = proposed.chain(waiting.iter().map(|(_, persona)| persona));
        let Some(other) = named.find(|other| other.body.id == *id && !is_same(other, persona)) else {
            return Ok(());
        };
        self.host.attempted(id);
        let (id, last) = (id.clone(), other.header.serial);
        Err(Refused::Override { id, last }.into())
    }

    /// Whether another process has admitted a newer issue of a persona than the one that is there: a file that names that overrides
    /// nothing that goes on.
    fn was_replaced(&self, held: &Session) -> bool {
        held.is_replaced() || self.known.replaced_by(held).is_some()
    }

    /// A persona that the new trust believes; or one that is there and that it does not believe any more.
    fn persona(&self, bytes: &[u8]) -> Result<Named, Failure> {
        let now = self.host.0.clock.now();
        match persona::verify(bytes, &self.trust, now) {
            Ok(persona) => Ok(Named::Believed(Box::new(persona))),
            Err(error) => {
                // That the document lapsed is what it says of its own signer: the persona that is there must be refused, too.
                let there = lapsed(Kind::Persona, bytes, &error).and_then(|digest| {
                    let mut sessions = self.host.sessions().into_iter();
                    sessions.find(|session| {
                        let persona = session.persona();
                        persona.digest == digest && persona.check(&self.trust, now).is_err()
                    })
                });
                let Some(session) = there else {
                    return Err(error.into());
                };
                let lapse = (format!("persona `{}`", session.persona().body.id), error.to_string());
                let mut lapses = self.lapses.borrow_mut();
                // Callers and scopes may name one persona.
                if !lapses.contains(&lapse) {
                    lapses.push(lapse);
                }
                Ok(Named::Lapsed(session))
            }
        }
    }
}

/// Whether they are one document, signed by the same key.
fn is_same(one: &Persona, other: &Persona) -> bool {
    (&one.digest, &one.signer) == (&other.digest, &other.signer)
}

/// Whether a persona is a newer issue of the one that holds, signed by a key that is trusted: it would take its place at a start.
fn is_newer(persona: &Persona, holds: &Session) -> bool {
    persona.signer.is_some() && persona.header.serial > holds.persona().header.serial
}

impl Host {
    /// Somebody has to restart the host for the newer issue of a persona. Returns what is on record.
    pub(super) fn note_waiting(&self, path: &Path, persona: &Persona) -> String {
        let (id, serial, path) = (&persona.body.id, persona.header.serial, path.display());
        let subject = format!(
            "persona `{id}`: the issue with serial {serial} in `{path}` waits for a restart; until then the one that was taken before holds"
        );
        tracing::warn!("{subject}");
        self.record(security(rule::PERSONA_WAITS, subject.clone()));
        subject
    }
}
