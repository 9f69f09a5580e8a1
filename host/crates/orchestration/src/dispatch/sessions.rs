//! Sessions of one dispatcher, the trust in those who sign, and what agents have used up, for whoever keeps that.

use std::sync::Arc;

use aral_capability::Capability;
use aral_contract::document::TrustStore;
use aral_contract::{Failure, KeyId, PersonaId};
use aral_persona::Persona;
use jiff::Timestamp;

use super::Dispatcher;
use crate::budget::{Ledger, Moment, Refused};
use crate::session::Session;

impl Dispatcher {
    /// Whether [`Dispatcher::open`] would give a session now. Nothing changes.
    ///
    /// # Errors
    /// As [`Dispatcher::open`].
    pub fn check_open(&self, persona: &Persona) -> Result<(), Refused> {
        self.register.check(persona, Moment::of(&*self.clock))
    }

    /// The session of a persona that was checked. All sessions of one persona count together.
    ///
    /// # Errors
    /// Another document stands for the persona and is not older, or there are too many personas.
    pub fn open(&self, persona: Persona) -> Result<Session, Refused> {
        self.register.open(persona, Moment::of(&*self.clock))
    }

    /// The session that a persona has or would have. A new one is found by nobody before [`Dispatcher::adopt`].
    ///
    /// # Errors
    /// Another document stands for the persona.
    pub fn propose(&self, persona: Persona) -> Result<Session, Refused> {
        self.register.propose(persona)
    }

    /// The same, for a persona that has a session already: a newer issue takes its place with [`Dispatcher::adopt`], and what was used
    /// counts on.
    ///
    /// # Errors
    /// As [`Dispatcher::open`].
    pub fn propose_instead(&self, persona: Persona) -> Result<Session, Refused> {
        self.register.propose_instead(persona)
    }

    /// Takes sessions that were proposed, one for each persona: all of them, or none, and then nothing has changed. `hold` makes the rules
    /// hold under which they are: those whose place they take have ended by then, and nobody finds any session until it is done. It must
    /// not ask for one.
    ///
    /// # Errors
    /// Another document stands for one of the personas now, or there are too many personas. Then `hold` was not run.
    pub fn adopt<T>(&self, proposed: &[Session], hold: impl FnOnce() -> T) -> Result<T, Refused> {
        self.register.adopt(proposed, Moment::of(&*self.clock), hold)
    }

    /// Ends all sessions under the document of this one, because a newer issue of its persona was admitted elsewhere.
    pub fn end(&self, session: &Session) {
        session.standing().reissue();
    }

    /// The session of a persona that was opened before; none: it was not. Takes well under a microsecond.
    pub fn session(&self, id: &PersonaId) -> Option<Session> {
        self.register.find(id)
    }

    /// The same session under the newest issues of its persona and of those of all through whom it was called; itself, if none of them
    /// was replaced.
    #[must_use]
    pub fn renewed_session(&self, session: &Session) -> Session {
        session.renewed(&|id: &PersonaId| self.register.find(id))
    }

    /// The sessions that were opened, one for each persona, by id.
    pub fn sessions(&self) -> Vec<Session> {
        self.register.list()
    }

    /// Whether a session is one of this host, and may go on, as may the capability.
    pub(super) fn check_documents(
        &self,
        session: &Session,
        capability: &Capability,
        now: Timestamp,
    ) -> Result<(), Failure> {
        session.check_home(self.register.home())?;
        let trust = self.trust.load();
        capability.check(&trust, now)?;
        session.check(&trust, now)
    }

    /// Whether a call that was let in may begin: it waited, and others replace personas, revoke keys and read the configuration again
    /// meanwhile. What the newest rules do not trust begins under no earlier ones.
    pub(super) fn check_beginning(&self, session: &Session, capability: &Capability) -> Result<(), Failure> {
        // First, since it says to ask again: the newer issue may have another signer.
        session.check_issue()?;
        let (trust, now) = (self.newest_trust.load(), self.clock.now());
        capability.check(&trust, now)?;
        session.check(&trust, now)
    }

    /// Who may sign what.
    pub fn trust(&self) -> Arc<TrustStore> {
        self.trust.load_full()
    }

    /// Replaces the trust as a whole. It holds from the next call on, also for sessions and capabilities that are there.
    pub fn set_trust(&self, trust: TrustStore) {
        let trust = Arc::new(trust);
        self.trust.store(Arc::clone(&trust));
        self.newest_trust.store(trust);
    }

    /// Trusts a key no longer. Two that are revoked at once are both revoked.
    pub fn revoke(&self, key: KeyId) {
        for trust in [&self.trust, &*self.newest_trust] {
            trust.rcu(|trust| {
                let mut trust = TrustStore::clone(trust);
                trust.revoke(key);
                trust
            });
        }
    }

    /// What agents have used up since this was asked last.
    pub fn take_unsaved(&self) -> Ledger {
        self.register.take_unsaved(Moment::of(&*self.clock))
    }

    /// What was taken could not be kept: it is handed out again the next time.
    pub fn give_back(&self, ledger: &Ledger) {
        self.register.give_back(ledger, Moment::of(&*self.clock));
    }

    /// What is kept holds from now on, together with what has not been taken yet.
    pub fn load_used(&self, ledger: &Ledger) {
        self.register.load(ledger, Moment::of(&*self.clock));
    }
}
