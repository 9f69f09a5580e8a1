//! Personas of a host: taken once they are verified, never changed, and replaced by a newer signed issue alone. An attempt
//! to put something else in the place of one is recorded as what it is. It decides nothing that the register does not.

use std::path::Path;

use aral_contract::document::TrustStore;
use aral_contract::event::{AuthenticationMethod, Severity};
use aral_contract::{Code, Digest, EventKind, Failure, KeyId, PersonaId, rule};
use aral_orchestration::Session;
use aral_orchestration::budget::Refused;
use aral_persona::{Persona, persona};
use aral_runtime::files;

use crate::components::{in_table, read_document};
use crate::host::Host;
use crate::serials::{Locked, LockedUsed, PersonaSerials};

/// Which personas callers may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Personas {
    /// Signed by a trusted key.
    Signed,
    /// For development: also such that nobody signed, or nobody who is trusted, or that were changed since. Each use is recorded
    /// with the reason, and warned about.
    Development,
}

impl Personas {
    /// A document that is signed by a trusted key is taken as such, also during development.
    pub(crate) fn or_unsigned<T>(
        self,
        signed: Result<T, Failure>,
        unsigned: impl FnOnce(Failure) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        match signed {
            Err(failure) if failure.code == Code::SignatureInvalid && self == Self::Development => unsigned(failure),
            other => other,
        }
    }
}

impl Host {
    /// Opens a session for a signed persona (JSON, at most 4 MiB). Its validity, and the trust in its signer, are checked
    /// again at each call. A newer issue of a persona takes the place of the older one, whose sessions end. With a state
    /// folder it waits for other processes, up to 5 s; in async code call it where blocking is allowed.
    ///
    /// # Errors
    /// `document.invalid`, `signature.invalid`, `document.stale` (also: a serial lower than one already admitted),
    /// `persona.override`, `host.unavailable` if what earlier runs have kept cannot be read, and `host.internal` if it is
    /// damaged.
    pub fn session(&self, persona: &[u8]) -> Result<Session, Failure> {
        self.session_if(None, persona, || self.verified(persona))
    }

    /// The same for a file.
    ///
    /// # Errors
    /// As [`Host::session`], and `config.invalid` if the file cannot be read.
    pub fn session_file(&self, path: &Path) -> Result<Session, Failure> {
        self.session_of_file(path, Personas::Signed)
    }

    /// The same, for a persona that nobody signed only if `personas` says so.
    ///
    /// # Errors
    /// As [`Host::session_file`] and [`Host::dangerous_development_session`].
    pub fn session_of_file(&self, path: &Path, personas: Personas) -> Result<Session, Failure> {
        let persona = self.read_persona(path)?;
        let opened = self.session_if(Some(path), &persona, || self.believed(&persona, personas));
        opened.map_err(|failure| failure.in_file(path))
    }

    /// The same for a file that the configuration names: it names no second issue of a persona.
    pub(crate) fn configured_session(&self, path: &Path, personas: Personas) -> Result<Session, Failure> {
        let document = self.read_persona(path)?;
        let opened = self.session_if(Some(path), &document, || {
            let persona = self.believed(&document, personas)?;
            self.check_unchanged(&persona).map(|()| persona)
        });
        opened.map_err(|failure| failure.in_file(path))
    }

    /// Opens a session for the persona that is `believed`. Either is on record.
    fn session_if(
        &self,
        file: Option<&Path>,
        document: &[u8],
        believed: impl FnOnce() -> Result<Persona, Failure>,
    ) -> Result<Session, Failure> {
        self.noting_refused_persona(file, persona::alleged_id(document), || {
            let persona = believed().inspect_err(|failure| {
                if failure.code != Code::PersonaOverride {
                    self.suspect(document);
                }
            })?;
            self.open(persona)
        })
    }

    fn believed(&self, document: &[u8], personas: Personas) -> Result<Persona, Failure> {
        personas.or_unsigned(self.verified(document), |why| {
            self.dangerous_unsigned(document, Some(&why))
        })
    }

    fn verified(&self, document: &[u8]) -> Result<Persona, Failure> {
        let trust = self.dispatcher().trust();
        Ok(persona::verify(document, &trust, self.0.clock.now())?)
    }

    /// A persona whatever its signature; `why` says why that does not count, if somebody looked.
    pub(crate) fn dangerous_unsigned(&self, document: &[u8], why: Option<&Failure>) -> Result<Persona, Failure> {
        let persona = persona::dangerous_accept_unsigned(document, self.0.clock.now())?;
        let why = why.map_or("nobody looked", |failure| &failure.message);
        let subject = format!("persona `{}` without a signature that counts: {why}", persona.body.id);
        self.dispatcher().warn_development(None, subject);
        Ok(persona)
    }

    /// A document that says what a persona may, from a file.
    pub(crate) fn read_persona(&self, path: &Path) -> Result<Vec<u8>, Failure> {
        self.noting_refused_persona(Some(path), None, || {
            if files::is_there(path) {
                return read_document(path);
            }
            let absent = Failure::new(
                Code::ConfigInvalid,
                format!("there is no persona at `{}`", path.display()),
            );
            Err(absent.with_hint("write one and sign it: `aral persona new`, `aral persona sign`"))
        })
    }

    /// A persona that is refused is something to look at, and somebody who is not believed, whoever that is said to be.
    pub(crate) fn noting_refused_persona<T>(
        &self,
        file: Option<&Path>,
        alleged: Option<PersonaId>,
        act: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        act().inspect_err(|failure| {
            let id = alleged.as_ref().map(|id| format!(" {id}")).unwrap_or_default();
            let file = file.map(|file| format!(" in `{}`", file.display())).unwrap_or_default();
            self.note_refusal(&format!("persona{id}{file}"), failure);
            self.authenticated(alleged, Some(failure.message.clone()));
        })
    }

    pub(crate) fn authenticated(&self, agent: Option<PersonaId>, refused: Option<String>) {
        self.record(EventKind::Authentication {
            user: None,
            agent,
            method: AuthenticationMethod::Persona,
            source: None,
            refused,
        });
    }

    /// Opens a session for a persona whatever its signature. For development: each use is recorded and warned about.
    ///
    /// # Errors
    /// `document.invalid`, `document.stale`, `persona.override` if a signed document stands for the same persona.
    pub fn dangerous_development_session(&self, persona: &[u8]) -> Result<Session, Failure> {
        self.session_if(None, persona, || self.dangerous_unsigned(persona, None))
    }

    /// The session of a persona that the configuration names, or that was opened before.
    ///
    /// # Errors
    /// `persona.unknown`.
    pub fn session_of(&self, id: &PersonaId) -> Result<Session, Failure> {
        self.dispatcher().session(id).ok_or_else(|| {
            Failure::new(Code::PersonaUnknown, format!("there is no persona `{id}`"))
                .with_hint("aral.toml, [personas]: files = [\"PERSONA.json\"]")
        })
    }

    /// One session for each persona, by id.
    pub fn sessions(&self) -> Vec<Session> {
        self.dispatcher().sessions()
    }

    /// Trusts a key no longer. From the next call on nothing that it signed runs, neither a persona nor a capability, also
    /// not after the configuration is read again. It waits for nobody who changes the rules. It is not written down: add the key to
    /// `[revoked]` of the configuration, too.
    pub fn revoke(&self, key: KeyId) {
        let before = self.0.revoked.add(key, || {
            let dispatcher = self.dispatcher();
            let before = dispatcher.trust().digest();
            dispatcher.revoke(key);
            before
        });
        self.record_trust(before);
    }

    /// Replaces the trust as a whole. It holds from the next call on, also for sessions and capabilities that are there. A
    /// configuration that is read again takes its place: what that trusts, with the keys of the builder as far as this
    /// trust has them at all times, and without what this trust revokes. It waits for whoever changes the rules.
    pub fn set_trust(&self, trust: TrustStore) {
        let mut changing = self.changing();
        changing.replace_trust(&trust);
        let before = self.dispatcher().trust().digest();
        let revoked = trust.revoked().collect();
        self.0.revoked.replace(revoked, || self.dispatcher().set_trust(trust));
        self.record_trust(before);
    }

    pub(crate) fn record_trust(&self, before: Digest) {
        let after = self.dispatcher().trust().digest();
        if before != after {
            self.record(EventKind::ConfigurationChanged {
                subject: "trust",
                before: Some(before),
                after,
            });
        }
    }

    pub(crate) fn check_unchanged(&self, persona: &Persona) -> Result<(), Failure> {
        let id = &persona.body.id;
        match self.dispatcher().session(id) {
            Some(session) if !session.is_of(persona) => {
                self.attempted(id);
                let last = session.persona().header.serial;
                Err(Failure::from(Refused::Override { id: id.clone(), last }).with_hint(
                    "name one issue of it in aral.toml; one with other content is signed again, which raises its serial",
                ))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A document was refused that says that it stands for a persona which is there.
    pub(crate) fn suspect(&self, bytes: &[u8]) {
        if let Some(id) = persona::alleged_id(bytes).filter(|id| self.dispatcher().session(id).is_some()) {
            self.attempted(&id);
        }
    }

    pub(crate) fn attempted(&self, id: &PersonaId) {
        self.record(EventKind::Security {
            severity: Severity::High,
            rule: rule::PERSONA_OVERRIDE,
            subject: format!("persona {id}"),
            reason: None,
            source: None,
        });
    }

    /// The register did not take a persona. Returns that for whoever asked.
    pub(crate) fn noting_attempt(&self, id: &PersonaId, refused: Refused) -> Failure {
        if refused.is_override() {
            self.attempted(id);
        }
        refused.into()
    }

    /// Opens a session for a persona that is believed, and records that. What is remembered of it is written first: an
    /// error leaves the persona that was there, and its sessions, as they were.
    pub(crate) fn open(&self, persona: Persona) -> Result<Session, Failure> {
        let id = persona.body.id.clone();
        let opened = self.try_open(persona)?;
        let session = opened.map_err(|refused| self.noting_attempt(&id, refused))?;
        self.authenticated(Some(id), None);
        Ok(session)
    }

    /// Records nothing: other processes wait for the locks, and a record may wait for the disk of the log.
    fn try_open(&self, persona: Persona) -> Result<Result<Session, Refused>, Failure> {
        let (id, serial) = (persona.body.id.clone(), persona.header.serial);
        let signed = persona.signer.is_some();
        let locked = self
            .0
            .serials
            .as_ref()
            .map(|file| file.lock(&*self.0.clock))
            .transpose()?;
        let known = locked
            .as_ref()
            .map_or_else(|| Ok(Default::default()), Locked::personas)?;
        if let Err(refused) = check_serial(&known, &persona) {
            return Ok(Err(refused));
        }
        // Until it is here: what somebody keeps in between would be in neither place.
        let locked_used = locked
            .as_ref()
            .map(|locked| locked.lock_used(&*self.0.clock))
            .transpose()?;
        let used = locked_used.as_ref().map(LockedUsed::used).transpose()?;
        if let Err(refused) = self.dispatcher().check_open(&persona) {
            return Ok(Err(refused));
        }
        self.0.check_here()?;
        if let Some(locked) = &locked
            && signed
            && known.get(&id) != Some(&serial)
        {
            let mut known = known;
            known.insert(id, serial);
            locked.write_personas(&known)?;
        }
        let opened = self.dispatcher().open(persona);
        if let (Ok(_), Some(used)) = (&opened, used) {
            self.dispatcher().load_used(&used);
        }
        Ok(opened)
    }
}

/// No issue before one that was admitted is, whoever signed it.
pub(crate) fn check_serial(known: &PersonaSerials, persona: &Persona) -> Result<(), Refused> {
    let (id, serial) = (&persona.body.id, persona.header.serial);
    match known.get(id).copied() {
        Some(last) if persona.signer.is_some() && serial < last => {
            let id = id.clone();
            Err(Refused::Serial { id, serial, last })
        }
        Some(_) | None => Ok(()),
    }
}

/// A persona that the configuration names, at start.
pub(crate) fn at_start(host: &Host, path: &Path) -> Result<(), Failure> {
    let opened = host.configured_session(path, Personas::Signed);
    opened.map(drop).map_err(configured)
}

/// What is wrong with a persona that the configuration names.
pub(crate) fn configured(failure: Failure) -> Failure {
    in_table("personas", failure)
}

#[cfg(test)]
mod tests;
