//! A session: for whom calls are made, and through whom. It holds a persona that was checked, and is cheap to clone.
//! Nothing in it can be changed.

use std::sync::Arc;

use aral_contract::document::{DocumentError, TrustStore};
use aral_contract::id::CallerName;
use aral_contract::{Code, Failure, PersonaId};
use aral_persona::Persona;
use jiff::Timestamp;

use crate::budget::Standing;
use crate::policy::agent::DEPTH_MAX;

/// Tells the sessions of one host from those of another one in the same process: each counts and ends its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Home(Arc<()>);

/// For whom calls are made. The persona, the trust in whoever signed it, and all constraints are checked at every call.
#[derive(Debug, Clone)]
pub struct Session(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    home: Home,
    persona: Arc<Persona>,
    standing: Arc<Standing>,
    issue: u64,
    user: Option<CallerName>,
    caller: Option<Session>,
    depth: u32,
}

impl Session {
    /// The session of an agent that nobody called.
    pub(crate) fn root(home: &Home, persona: Persona, standing: Arc<Standing>, issue: u64) -> Self {
        Self(Arc::new(Inner {
            home: home.clone(),
            persona: Arc::new(persona),
            standing,
            issue,
            user: None,
            caller: None,
            depth: 0,
        }))
    }

    /// The same agent, called by another one: calls are made for this agent, one step deeper than the other's. Whether the
    /// other may call this one, and whether that is not too deep for either, is asked at every call.
    #[must_use]
    pub fn called_by(&self, caller: &Self) -> Self {
        let depth = caller.0.depth.saturating_add(1);
        Self(Arc::new(Inner {
            home: self.0.home.clone(),
            persona: Arc::clone(&self.0.persona),
            standing: Arc::clone(&self.0.standing),
            issue: self.0.issue,
            user: caller.0.user.clone(),
            // Too deep for any policy: nobody asks who was before.
            caller: (depth <= DEPTH_MAX).then(|| caller.clone()),
            depth,
        }))
    }

    /// The same agent for a user who was shown to be the one: records of calls name them.
    #[must_use]
    pub fn of_user(&self, user: CallerName) -> Self {
        Self(Arc::new(Inner {
            home: self.0.home.clone(),
            persona: Arc::clone(&self.0.persona),
            standing: Arc::clone(&self.0.standing),
            issue: self.0.issue,
            user: Some(user),
            caller: self.0.caller.clone(),
            depth: self.0.depth,
        }))
    }

    /// The same agent for the same user, called by the same ones, each under the issue of its persona that `find` has.
    pub(crate) fn renewed(&self, find: &impl Fn(&PersonaId) -> Option<Self>) -> Self {
        if !self.is_replaced() {
            return self.clone();
        }
        let held = find(&self.0.persona.body.id).filter(|held| Arc::ptr_eq(&held.0.standing, &self.0.standing));
        let held = held.as_ref().unwrap_or(self);
        Self(Arc::new(Inner {
            home: held.0.home.clone(),
            persona: Arc::clone(&held.0.persona),
            standing: Arc::clone(&held.0.standing),
            issue: held.0.issue,
            user: self.0.user.clone(),
            caller: self.caller().map(|caller| caller.renewed(find)),
            depth: self.0.depth,
        }))
    }

    /// Who asked for it; none: nobody had to say.
    pub fn user(&self) -> Option<&CallerName> {
        self.0.user.as_ref()
    }

    /// The same agent, one step deeper in its own reasoning.
    #[must_use]
    pub fn deeper(&self) -> Self {
        self.called_by(self)
    }

    /// The persona.
    pub fn persona(&self) -> &Persona {
        &self.0.persona
    }

    /// What a model is told before anything else when it acts for this persona. The host itself runs no model and reads
    /// none of it.
    pub fn system_prompt(&self) -> &str {
        &self.0.persona.body.system_prompt
    }

    /// How many steps lie between the agent that began and this one.
    pub fn depth(&self) -> u32 {
        self.0.depth
    }

    /// The session that called this one; none: nobody did.
    pub fn caller(&self) -> Option<&Self> {
        self.0.caller.as_ref()
    }

    /// The agents through which this one was called, the nearest first, at most 64: of a session that is deeper than any policy
    /// allows, none. A step in an agent's own reasoning names the agent itself.
    pub fn callers(&self) -> Vec<PersonaId> {
        std::iter::successors(self.caller(), |session| session.caller())
            .map(|session| session.persona().body.id.clone())
            .collect()
    }

    /// Whether nobody signed the persona, so that the session came through a door for development.
    pub fn is_development(&self) -> bool {
        self.0.persona.signer.is_none()
    }

    pub(crate) fn standing(&self) -> &Arc<Standing> {
        &self.0.standing
    }

    /// Whether its persona is this very document, signed by the same key.
    pub fn is_of(&self, persona: &Persona) -> bool {
        (&self.0.persona.digest, &self.0.persona.signer) == (&persona.digest, &persona.signer)
    }

    /// Whether it is this very one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether another issue was admitted since of its persona, or of that of one through whom it was called, so that its calls
    /// are refused.
    pub fn is_replaced(&self) -> bool {
        self.check_issue().is_err()
    }

    /// Whether it is the issue of the same persona that takes the place of the one that holds now.
    pub(crate) fn is_next_to(&self, held: &Self) -> bool {
        let is_same = Arc::ptr_eq(&self.0.standing, &held.0.standing);
        is_same && self.0.issue == self.0.standing.issue().saturating_add(1)
    }

    /// Whether anybody but the register holds it, or another session of the same persona.
    pub(crate) fn is_shared(&self) -> bool {
        Arc::strong_count(&self.0) > 1 || Arc::strong_count(&self.0.standing) > 1
    }

    /// That it was opened here, and by whom it was called, too.
    pub(crate) fn check_home(&self, home: &Home) -> Result<(), Failure> {
        let mut sessions = std::iter::successors(Some(self), |session| session.caller());
        let Some(stray) = sessions.find(|session| !Arc::ptr_eq(&session.0.home.0, &home.0)) else {
            return Ok(());
        };
        let message = format!(
            "the session of the persona `{}` is another host's",
            stray.persona().body.id
        );
        let hint = "open it with the host that is called: `Host::session`";
        Err(Failure::new(Code::PersonaUnknown, message).with_hint(hint))
    }

    /// Whether this session and all through whom it was called may go on: documents that are valid, signed by keys that are
    /// trusted now, and not replaced.
    pub(crate) fn check(&self, trust: &TrustStore, now: Timestamp) -> Result<(), Failure> {
        let mut next = Some(self);
        while let Some(session) = next {
            session.check_documents(trust, now)?;
            next = session.caller();
        }
        self.check_issue()
    }

    fn check_documents(&self, trust: &TrustStore, now: Timestamp) -> Result<(), DocumentError> {
        self.0.persona.check(trust, now)
    }

    /// That it was not replaced, nor one through whom it was called.
    ///
    /// # Errors
    /// `document.stale`.
    pub fn check_issue(&self) -> Result<(), Failure> {
        let mut sessions = std::iter::successors(Some(self), |session| session.caller());
        let Some(Self(ended)) = sessions.find(|session| session.0.issue != session.0.standing.issue()) else {
            return Ok(());
        };
        let (id, serial) = (&ended.persona.body.id, ended.persona.header.serial);
        let message = format!("the persona `{id}` with serial {serial} was replaced by a newer one");
        let hint = "ask again; a program that holds the session itself opens one with the newer persona first";
        Err(Failure::new(Code::DocumentStale, message).with_hint(hint))
    }
}
