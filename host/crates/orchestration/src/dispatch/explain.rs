//! Why a session may or may not call a capability, for people. Nothing is counted, cached or recorded here.

use aral_contract::{CapabilityId, Digest, Failure, KeyId, Permissions};
use semver::VersionReq;

use super::Dispatcher;
use crate::authorize::Decision;
use crate::authorize::why_not::{WhyNot, why_not};
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
    /// `capability.unknown`, `document.stale`. A denial is no error here but an outcome.
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
