//! Why a session may or may not call a capability, for people. Nothing is counted, cached or recorded here.

use std::sync::Arc;

use aral_contract::{CapabilityId, Digest, Failure, Grant, KeyId, Permissions};
use semver::VersionReq;

use super::Dispatcher;
use crate::authorize::Decision;
use crate::authorize::why_not::{WhyNot, why_not};
use crate::budget::{agent_rows, never};
use crate::session::Session;

/// A decision and the documents it rests on.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Explanation {
    /// The decision, row by row.
    pub decision: Decision,
    /// SHA-256 of the component.
    pub component: Digest,
    /// SHA-256 of the manifest.
    pub manifest: Digest,
    /// Who signed the manifest; none: nobody did.
    pub manifest_signer: Option<KeyId>,
    /// SHA-256 of the persona.
    pub persona: Digest,
    /// Who signed the persona; none: nobody did.
    pub persona_signer: Option<KeyId>,
    /// SHA-256 of the policy.
    pub policy: Digest,
}

impl Dispatcher {
    /// The decision with all its rows and the documents it rests on, for people. Nothing is cached or recorded.
    ///
    /// # Errors
    /// `capability.unknown`, `document.stale`, `signature.invalid`. A denial is no error here but an outcome.
    pub fn explain(
        &self,
        session: &Session,
        capability: &CapabilityId,
        version: Option<&VersionReq>,
    ) -> Result<Explanation, Failure> {
        let capability = self.registry.find(capability, version)?;
        self.check_documents(session, &capability, self.clock.now())?;
        let ruling = self.ruling.load();
        Ok(Explanation {
            decision: self.decide(session, &capability, ruling.policy()),
            component: capability.entry.component,
            manifest: capability.manifest_digest(),
            manifest_signer: capability.signer(),
            persona: session.persona().digest,
            persona_signer: session.persona().signer,
            policy: ruling.policy().digest(),
        })
    }

    /// The grant with which this session could call this capability, if nothing is used up yet: the one that is kept, or one that is
    /// computed now. Nothing is counted, cached or recorded, since nothing was asked for.
    ///
    /// # Errors
    /// As [`Dispatcher::authorize`]; `permission.denied` also where no call is let through, whatever was used so far.
    pub fn allowed(
        &self,
        session: &Session,
        capability: &CapabilityId,
        version: Option<&VersionReq>,
    ) -> Result<Arc<Grant>, Failure> {
        let capability = self.registry.find(capability, version)?;
        self.check_documents(session, &capability, self.clock.now())?;
        let ruling = self.ruling.load();
        let (never, outcome) = match ruling.find(&capability, session) {
            Some(kept) => {
                let persona = &session.persona().body;
                let rows = agent_rows(persona, ruling.policy()).unwrap_or_default();
                let never = never(&rows, persona.tier.as_ref(), kept.terms().call_cost_max_micro);
                (never, Ok(Arc::clone(kept.grant())))
            }
            None => {
                let decision = self.decide(session, &capability, ruling.policy());
                (decision.never, decision.outcome.map(Arc::new))
            }
        };
        match never.first() {
            Some(never) => Err(Failure::from(never)),
            None => outcome.map_err(|denial| Failure::from(&denial)),
        }
    }

    /// The smallest change of manifest, persona and policy with which this session may call this capability, and the call may
    /// do what is `wanted` besides what the manifest asks for. It is found, and never made.
    ///
    /// # Errors
    /// As [`Dispatcher::explain`].
    pub fn why_not(
        &self,
        session: &Session,
        capability: &CapabilityId,
        version: Option<&VersionReq>,
        wanted: &Permissions,
    ) -> Result<WhyNot, Failure> {
        let capability = self.registry.find(capability, version)?;
        self.check_documents(session, &capability, self.clock.now())?;
        let ruling = self.ruling.load();
        let (entry, persona) = (&capability.entry, session.persona());
        Ok(why_not(entry, persona, ruling.policy(), wanted))
    }
}
