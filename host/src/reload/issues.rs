//! The personas that a configuration names when it is read again. One that is new is taken, one that holds goes on, and a newer signed
//! issue takes the place of one that holds, in one step with the rest of the configuration: no issue ever runs under rules that were
//! not written for it. Whatever else stands for a persona is refused.

use std::path::Path;

use aral_contract::Failure;
use aral_contract::document::signed::Kind;
use aral_orchestration::Session;
use aral_orchestration::budget::Refused;
use aral_persona::{Persona, persona};

use super::{Renewal, lapsed};
use crate::personas::{Personas, check_serial};

/// A persona that a configuration names.
enum Named {
    /// It is believed.
    Believed(Box<Persona>),
    /// It is there and not believed any more, for this reason. It stays as it is, so that each of its calls is refused.
    Lapsed(Session, String),
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
                Named::Believed(persona) => self.propose(*persona),
                Named::Lapsed(session, why) => self.leave(session, why),
            }
        });
        taken.map_err(|failure| failure.in_file(path))
    }

    fn propose(&self, persona: Persona) -> Result<Session, Failure> {
        let id = persona.body.id.clone();
        let held = self.dispatcher.session(&id).filter(|held| !held.is_of(&persona));
        let gives_way = held.filter(|held| self.was_replaced(held) || is_newer(&persona, held));
        if gives_way.is_none() {
            self.host.check_unchanged(&persona)?;
        }
        let session = if gives_way.is_some() {
            self.dispatcher.propose_instead(persona)
        } else {
            self.dispatcher.propose(persona)
        };
        let attempted = |refused| self.host.noting_attempt(&id, refused);
        let session = session.map_err(attempted)?;
        // An issue that was replaced elsewhere as well says no more than the one that is there: nothing runs under either, and neither
        // keeps newer rules from holding.
        let is_behind = self.known.replaced_by(&session).is_some();
        let ends = gives_way.filter(|held| is_behind && self.was_replaced(held));
        let session = ends.unwrap_or(session);
        if !self.is_held(&session) {
            check_serial(self.known.personas(), session.persona()).map_err(attempted)?;
        }
        self.check_alone(session.persona())?;
        let mut proposed = self.proposed.borrow_mut();
        // Callers, scopes and the configuration may name one persona.
        if let Some(same) = proposed.iter().find(|other| other.is_of(session.persona())) {
            return Ok(same.clone());
        }
        proposed.push(session.clone());
        Ok(session)
    }

    /// A persona that is not believed any more.
    fn leave(&self, session: Session, why: String) -> Result<Session, Failure> {
        let persona = session.persona();
        self.check_alone(persona)?;
        let mut lapsed = self.lapsed_personas.borrow_mut();
        // Callers and scopes may name one persona.
        if !lapsed.iter().any(|other| other.is_of(persona)) {
            let subject = format!("persona `{}`", persona.body.id);
            self.lapses.borrow_mut().push((subject, why));
            lapsed.push(session.clone());
        }
        Ok(session)
    }

    /// No configuration names two issues of one persona, whether they are believed or not: each caller would have another one, and at
    /// the next start nothing would say which one is meant.
    fn check_alone(&self, persona: &Persona) -> Result<(), Failure> {
        let id = &persona.body.id;
        let (proposed, lapsed) = (self.proposed.borrow(), self.lapsed_personas.borrow());
        let is_second = |other: &&Session| other.persona().body.id == *id && !other.is_of(persona);
        let Some(other) = proposed.iter().chain(lapsed.iter()).find(is_second) else {
            return Ok(());
        };
        self.host.attempted(id);
        let (id, last) = (id.clone(), other.persona().header.serial);
        Err(Failure::from(Refused::Override { id, last }).with_hint("name one issue of it in aral.toml"))
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
                Ok(Named::Lapsed(session, error.to_string()))
            }
        }
    }
}

/// Whether a persona is a newer issue of the one that holds, signed by a key that is trusted. Whether that one is still believed does not
/// count: the newer issue is what its callers need then.
fn is_newer(persona: &Persona, held: &Session) -> bool {
    persona.signer.is_some() && persona.header.serial > held.persona().header.serial
}
