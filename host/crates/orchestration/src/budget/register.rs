//! The personas for which there are or were sessions: one document for each id, and its standing. A document that was
//! taken is never changed. Only a newer one by the same id, signed and with a higher serial, takes its place, and then
//! no session under the old one goes on.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use aral_contract::{Code, Failure, PersonaId};
use aral_persona::Persona;

use super::ledger::{Ledger, Spent};
use super::moment::Moment;
use super::standing::Standing;
use crate::session::{Home, Session};

/// Personas with a session at once, or with anything used up in the last hour. Stops callers with many personas from
/// filling memory.
pub const AGENTS_MAX: usize = 4096;

/// Why there is no session for a persona that was checked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Older than the one that holds.
    #[error("the persona `{id}` has serial {serial}, and was admitted before with serial {last}")]
    Serial {
        /// Which one.
        id: PersonaId,
        /// What it has.
        serial: u64,
        /// What the one that holds has.
        last: u64,
    },
    /// Another document with the same serial, or one that nobody signed in place of one that somebody did.
    #[error("another document stands for the persona `{id}`, with serial {last}: it cannot be changed")]
    Override {
        /// Which one.
        id: PersonaId,
        /// The serial of the one that holds.
        last: u64,
    },
    /// There are too many.
    #[error("{AGENTS_MAX} personas have sessions or were used in the last hour: there is no room for more")]
    Full,
}

impl Refused {
    /// Whether somebody tried to put something else in the place of a persona that holds.
    pub fn is_override(&self) -> bool {
        match self {
            Self::Serial { .. } | Self::Override { .. } => true,
            Self::Full => false,
        }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        let (code, hint) = match &refused {
            Refused::Serial { last, .. } => (
                Code::DocumentStale,
                format!("issue it again with serial {last} or higher: `aral persona sign`"),
            ),
            Refused::Override { last, .. } => (
                Code::PersonaOverride,
                format!("issue it again with a serial above {last}: `aral persona sign`"),
            ),
            Refused::Full => (Code::Unavailable, "end sessions that nobody uses".to_owned()),
        };
        Self::new(code, refused.to_string()).with_hint(hint)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Register {
    home: Home,
    sessions: RwLock<HashMap<PersonaId, Session>>,
}

impl Register {
    #[cfg(test)]
    pub(crate) fn at(home: Home) -> Self {
        Self {
            home,
            ..Self::default()
        }
    }

    /// What all its sessions have in common, and no other's.
    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// The session of a persona that is there. Allocates nothing.
    pub(crate) fn find(&self, id: &PersonaId) -> Option<Session> {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        sessions.get(id).cloned()
    }

    /// All of them, by id.
    pub(crate) fn list(&self) -> Vec<Session> {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<Session> = sessions.values().cloned().collect();
        list.sort_by(|one, other| one.persona().body.id.cmp(&other.persona().body.id));
        list
    }

    /// Whether [`Register::open`] would give a session now.
    pub(crate) fn check(&self, persona: &Persona, now: Moment) -> Result<(), Refused> {
        let sessions = self.sessions.read().unwrap_or_else(PoisonError::into_inner);
        check_open(&sessions, persona, now)
    }

    /// The session of a persona that was checked, if nothing stands against it.
    pub(crate) fn open(&self, persona: Persona, now: Moment) -> Result<Session, Refused> {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        check_open(&sessions, &persona, now)?;
        let id = persona.body.id.clone();
        let session = match sessions.get(&id) {
            Some(held) if held.is_of(&persona) => {
                return Ok(held.clone());
            }
            Some(held) => {
                let standing = Arc::clone(held.standing());
                let issue = standing.reissue();
                Session::root(&self.home, persona, standing, issue)
            }
            None => {
                if sessions.len() >= AGENTS_MAX {
                    sessions.retain(|_, session| !may_go(session, now));
                }
                Session::root(&self.home, persona, Arc::new(Standing::new()), 0)
            }
        };
        sessions.insert(id, session.clone());
        Ok(session)
    }

    /// The session that a persona has or, if nothing stands against it, would have: nobody finds it before it is adopted.
    pub(crate) fn propose(&self, persona: Persona) -> Result<Session, Refused> {
        match self.find(&persona.body.id) {
            Some(held) if held.is_of(&persona) => Ok(held),
            Some(held) => Err(Refused::Override {
                id: persona.body.id,
                last: held.persona().header.serial,
            }),
            None => Ok(Session::root(&self.home, persona, Arc::new(Standing::new()), 0)),
        }
    }

    /// The same, for a persona that has a session already: a newer issue takes its place once it is adopted, and what was used counts on.
    pub(crate) fn propose_instead(&self, persona: Persona) -> Result<Session, Refused> {
        match self.find(&persona.body.id) {
            Some(held) if !held.is_of(&persona) => {
                check_replacement(held.persona(), &persona)?;
                let standing = Arc::clone(held.standing());
                let issue = standing.issue().saturating_add(1);
                Ok(Session::root(&self.home, persona, standing, issue))
            }
            Some(_) | None => self.propose(persona),
        }
    }

    /// Takes sessions that were proposed, one for each persona: all of them, or none, and then nothing has changed and `hold` was not run.
    /// It runs when those whose place they take have ended, and before anybody finds a session again.
    pub(crate) fn adopt<T>(&self, proposed: &[Session], now: Moment, hold: impl FnOnce() -> T) -> Result<T, Refused> {
        let mut sessions = self.sessions.write().unwrap_or_else(PoisonError::into_inner);
        let mut new = Vec::new();
        for session in proposed {
            let id = &session.persona().body.id;
            let replaces = match sessions.get(id) {
                Some(held) if held.is(session) => continue,
                Some(held) if session.is_next_to(held) => true,
                // Somebody opened one meanwhile.
                Some(held) => {
                    return Err(Refused::Override {
                        id: id.clone(),
                        last: held.persona().header.serial,
                    });
                }
                None => false,
            };
            new.push((session, replaces));
        }
        let more = new.iter().filter(|(_, replaces)| !replaces).count();
        let is_full = |sessions: &HashMap<_, _>| sessions.len().saturating_add(more) > AGENTS_MAX;
        if is_full(&sessions) {
            sessions.retain(|_, session| !may_go(session, now));
        }
        if is_full(&sessions) {
            return Err(Refused::Full);
        }
        for (session, replaces) in new {
            if replaces {
                session.standing().reissue();
            }
            sessions.insert(session.persona().body.id.clone(), session.clone());
        }
        Ok(hold())
    }

    /// What was used since this was asked last.
    pub(crate) fn take_unsaved(&self, now: Moment) -> Ledger {
        let spent = self.list().into_iter().filter_map(|session| {
            let spent = session.standing().take_unsaved(now);
            (!spent.is_empty()).then(|| (session.persona().body.id.clone(), spent))
        });
        Ledger {
            personas: spent.collect(),
        }
    }

    /// What was taken could not be kept.
    pub(crate) fn give_back(&self, ledger: &Ledger, now: Moment) {
        for (id, spent) in &ledger.personas {
            if let Some(session) = self.find(id) {
                session.standing().give_back(spent, now);
            }
        }
    }

    /// What is kept holds from now on.
    pub(crate) fn load(&self, ledger: &Ledger, now: Moment) {
        let nothing = Spent::default();
        for session in self.list() {
            let spent = ledger.personas.get(&session.persona().body.id).unwrap_or(&nothing);
            session.standing().load(spent, now);
        }
    }
}

/// What stands against a session for a persona that was checked.
fn check_open(sessions: &HashMap<PersonaId, Session>, persona: &Persona, now: Moment) -> Result<(), Refused> {
    match sessions.get(&persona.body.id) {
        Some(held) if held.is_of(persona) => Ok(()),
        Some(held) => check_replacement(held.persona(), persona),
        None if sessions.len() < AGENTS_MAX || sessions.values().any(|session| may_go(session, now)) => Ok(()),
        None => Err(Refused::Full),
    }
}

/// Whether a session is let go of to make room.
fn may_go(session: &Session, now: Moment) -> bool {
    !session.is_shared() && session.standing().is_idle(now)
}

/// Signed outranks unsigned; of two signed ones the higher serial; during development, of two unsigned ones the last.
fn check_replacement(held: &Persona, new: &Persona) -> Result<(), Refused> {
    let (id, serial, last) = (new.body.id.clone(), new.header.serial, held.header.serial);
    match (held.signer, new.signer) {
        (None, _) => Ok(()),
        (Some(_), None) => Err(Refused::Override { id, last }),
        (Some(_), Some(_)) if serial > last => Ok(()),
        (Some(_), Some(_)) if serial < last => Err(Refused::Serial { id, serial, last }),
        (Some(_), Some(_)) => Err(Refused::Override { id, last }),
    }
}

#[cfg(test)]
mod tests {
    use aral_contract::document::{PrivateKey, TrustStore, signed::Kind};
    use aral_persona::persona;
    use jiff::Timestamp;
    use serde_json::json;
    use zeroize::Zeroizing;

    use super::*;

    fn day() -> Timestamp {
        "2026-06-01T00:00:00Z".parse().unwrap()
    }

    fn now() -> Moment {
        Moment {
            elapsed_ms: 0,
            day_ms: day().as_millisecond(),
        }
    }

    fn persona(id: &str, serial: u64, name: &str, key: Option<u8>) -> Persona {
        let header = persona::header(
            serial,
            "2026-01-01T00:00:00Z".parse().unwrap(),
            "2027-01-01T00:00:00Z".parse().unwrap(),
        );
        let body = serde_json::from_value(json!({"id": id, "name": name})).unwrap();
        let Some(seed) = key else {
            let text = persona::unsigned(&header, &body).unwrap().to_string();
            return persona::dangerous_accept_unsigned(text.as_bytes(), day()).unwrap();
        };
        let key = PrivateKey::from_seed(&Zeroizing::new([seed; 32]));
        let mut trust = TrustStore::default();
        trust.add(key.public(), &[Kind::Persona]);
        let text = persona::sign(&header, &body, &key).unwrap().to_string();
        persona::verify(text.as_bytes(), &trust, day()).unwrap()
    }

    #[test]
    fn only_a_newer_signed_document_takes_the_place_of_one() {
        let register = Register::default();
        let open = |serial, name, key| register.open(persona("a", serial, name, key), now());
        let first = open(5, "A", Some(1)).unwrap();
        assert!(Arc::ptr_eq(first.standing(), open(5, "A", Some(1)).unwrap().standing()));
        let same_serial = open(5, "B", Some(1)).unwrap_err();
        assert!(matches!(same_serial, Refused::Override { .. }) && same_serial.is_override());
        assert!(matches!(
            open(4, "A", Some(1)).unwrap_err(),
            Refused::Serial { serial: 4, last: 5, .. }
        ));
        assert!(
            matches!(open(4, "A", Some(2)).unwrap_err(), Refused::Serial { .. }),
            "whoever signed"
        );
        assert!(matches!(open(9, "A", None).unwrap_err(), Refused::Override { .. }));
        assert!(first.check_issue().is_ok());
        let second = open(6, "B", Some(2)).unwrap();
        assert!(second.check_issue().is_ok());
        assert_eq!(first.check_issue().unwrap_err().code, Code::DocumentStale);
        assert!(matches!(open(5, "A", Some(1)).unwrap_err(), Refused::Serial { .. }));
        assert_eq!(register.find(&"a".parse().unwrap()).unwrap().persona().body.name, "B");
    }

    #[test]
    fn during_development_the_last_one_holds() {
        let register = Register::default();
        let first = register.open(persona("a", 1, "A", None), now()).unwrap();
        register.open(persona("a", 1, "B", None), now()).unwrap();
        assert!(first.check_issue().is_err());
        assert!(register.open(persona("a", 0, "C", Some(1)), now()).is_ok());
    }

    #[test]
    fn there_is_room_for_so_many_and_for_more_when_some_are_let_go() {
        let register = Register::default();
        let open = |number: usize| register.open(persona(&format!("p{number}"), 1, "P", None), now());
        let held: Vec<Session> = (0..AGENTS_MAX).map(|number| open(number).unwrap()).collect();
        let one_more = persona("one-more", 1, "P", None);
        assert_eq!(register.check(&one_more, now()), Err(Refused::Full));
        assert_eq!(open(AGENTS_MAX).unwrap_err(), Refused::Full);
        drop(held);
        assert_eq!(register.check(&one_more, now()), Ok(()));
        assert_eq!(register.list().len(), AGENTS_MAX, "asking lets go of none");
        open(AGENTS_MAX).unwrap();
        assert_eq!(register.list().len(), 1);
    }
    #[test]
    fn what_is_proposed_is_there_once_it_is_adopted_all_of_it_or_none() {
        let register = Register::default();
        let held = register.open(persona("a", 1, "A", Some(1)), now()).unwrap();
        let propose = |id, serial, name| register.propose(persona(id, serial, name, Some(1)));
        let (same, new) = (propose("a", 1, "A").unwrap(), propose("b", 1, "B").unwrap());
        assert!(same.is(&held));
        assert!(matches!(propose("a", 2, "A"), Err(Refused::Override { last: 1, .. })));
        assert_eq!(register.list().len(), 1, "nobody finds it yet");
        register.adopt(&[same.clone(), new.clone()], now(), || ()).unwrap();
        assert!(register.find(&"a".parse().unwrap()).unwrap().is(&held));
        assert!(register.find(&"b".parse().unwrap()).unwrap().is(&new));
        let (one, other) = (propose("c", 1, "C").unwrap(), propose("d", 1, "D").unwrap());
        register.open(persona("d", 1, "D", Some(1)), now()).unwrap();
        let never: fn() = || unreachable!();
        let refused = register.adopt(&[one, other], now(), never).unwrap_err();
        assert!(
            matches!(refused, Refused::Override { .. }),
            "somebody opened it meanwhile"
        );
        assert!(register.find(&"c".parse().unwrap()).is_none());
    }

    #[test]
    fn what_holds_gives_its_place_and_its_standing_to_a_newer_issue() {
        let register = Register::default();
        let held = register.open(persona("a", 5, "A", Some(1)), now()).unwrap();
        let id: PersonaId = "a".parse().unwrap();
        let instead = |serial, key| register.propose_instead(persona("a", serial, "B", key));
        assert!(matches!(instead(4, Some(1)), Err(Refused::Serial { .. })));
        assert!(matches!(instead(5, Some(1)), Err(Refused::Override { .. })));
        assert!(matches!(instead(6, None), Err(Refused::Override { .. })));
        // Nothing has changed yet, and of two that were proposed one is taken.
        let (one, other) = (instead(6, Some(1)).unwrap(), instead(7, Some(1)).unwrap());
        assert!(held.check_issue().is_ok() && register.find(&id).unwrap().is(&held));
        // Nor does anything end where another is refused.
        register.open(persona("b", 1, "B", Some(1)), now()).unwrap();
        let late = Session::root(
            &register.home,
            persona("b", 2, "B", Some(1)),
            Arc::new(Standing::new()),
            0,
        );
        let never: fn() = || unreachable!();
        let refused = register.adopt(&[one.clone(), late], now(), never).unwrap_err();
        assert!(matches!(refused, Refused::Override { .. }) && held.check_issue().is_ok());
        let hold = || (held.is_replaced(), register.sessions.try_read().is_err());
        let (has_ended, nobody_looks) = register.adopt(std::slice::from_ref(&one), now(), hold).unwrap();
        assert!(has_ended && nobody_looks);
        assert!(one.check_issue().is_ok() && register.find(&id).unwrap().is(&one));
        assert!(held.is_replaced() && Arc::ptr_eq(one.standing(), held.standing()));
        assert!(matches!(
            register.adopt(&[other], now(), || ()),
            Err(Refused::Override { .. })
        ));
    }

    #[test]
    fn what_is_adopted_has_room_or_is_refused() {
        let register = Register::default();
        let open = |number: usize| register.open(persona(&format!("p{number}"), 1, "P", None), now());
        let held: Vec<Session> = (0..AGENTS_MAX).map(|number| open(number).unwrap()).collect();
        let new = register.propose(persona("new", 1, "N", None)).unwrap();
        let refused = register.adopt(std::slice::from_ref(&new), now(), || ()).unwrap_err();
        assert_eq!(refused, Refused::Full);
        drop(held);
        register.adopt(&[new], now(), || ()).unwrap();
        assert_eq!(register.list().len(), 1);
    }
}
