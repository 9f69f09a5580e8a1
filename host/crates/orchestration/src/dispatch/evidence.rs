//! What a call ran under and what it did, gathered for its record, and what its caller needs to prove it later. It
//! decides nothing and writes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aral_audit::{Blinder, HostCalls, Part, Salt};
use aral_contract::event::{Evidence, RecordReference};
use aral_contract::{Digest, TraceId};
use aral_runtime::entropy;
use serde::Serialize;

use super::granted::Granted;

/// Where the record of a call is, and what opens the commitments in it. `aral audit prove` makes a receipt from the number;
/// whoever holds a salt and the text can show that the text was the one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ReceiptReference {
    /// The record.
    pub record: RecordReference,
    /// Opens the commitment to the input; none: the call never got a grant, and commits to nothing.
    pub input_salt: Option<Salt>,
    /// Opens the commitment to the output.
    pub output_salt: Option<Salt>,
}

/// Makes the salts of calls, no two of them the same.
#[derive(Debug)]
pub(super) struct Witness {
    blinder: Arc<Blinder>,
    /// Begins anywhere, so that a host that was started again goes on with other numbers.
    next: AtomicU64,
}

impl Witness {
    pub(super) fn new(blinder: Arc<Blinder>) -> Self {
        let mut start = [0; 8];
        start
            .iter_mut()
            .zip(entropy::trace_id().as_bytes())
            .for_each(|(to, from)| *to = *from);
        Self {
            blinder,
            next: AtomicU64::new(u64::from_be_bytes(start)),
        }
    }

    /// A call begins.
    pub(super) fn begin(&self, trace: TraceId, input: &[u8]) -> Proof {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let salt = |part| self.blinder.salt(trace, number, part);
        let (input_salt, output_salt) = (salt(Part::Input), salt(Part::Output));
        Proof {
            input: input_salt.commit(input),
            input_salt,
            output_salt,
            host_calls: HostCalls::default(),
        }
    }
}

/// What is known of a call so far.
#[derive(Debug)]
pub(super) struct Proof {
    input: Digest,
    pub(super) input_salt: Salt,
    pub(super) output_salt: Salt,
    pub(super) host_calls: HostCalls,
}

impl Proof {
    /// What its record says. `output` is the answer that the caller gets.
    pub(super) fn evidence(&self, granted: &Granted, output: Option<&str>) -> Box<Evidence> {
        let grant = granted.grant();
        let host_calls = self.host_calls.list();
        Box::new(Evidence {
            version: grant.version.clone(),
            component: grant.component,
            manifest: grant.manifest,
            persona: grant.persona.clone(),
            persona_digest: granted.persona_digest(),
            policy: grant.policy,
            grant: grant.digest(),
            permissions: host_calls.permissions(),
            input: self.input,
            output: output.map(|output| self.output_salt.commit(output.as_bytes())),
            host_calls: host_calls.count(),
            host_calls_digest: host_calls.digest(),
        })
    }
}
