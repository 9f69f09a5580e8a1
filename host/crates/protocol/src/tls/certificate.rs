//! The certificate that a caller showed when its connection began. What was valid then may have ended or been revoked
//! since, and a connection may last for days: it is looked at again.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aral_contract::Digest;
use rustls::pki_types::CertificateDer;
use tokio::time::Instant;

use super::Tls;
use super::name::{self, CertificateName};

/// How long a look at a certificate holds while no file has changed: what ends a certificate or a list within it is seen
/// so much later.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// One certificate, with the way to its root that came with it.
#[derive(Debug)]
pub(crate) struct ClientCertificate {
    chain: Vec<CertificateDer<'static>>,
    names: Vec<CertificateName>,
    looked: Mutex<Looked>,
}

#[derive(Debug, Clone, Copy)]
struct Looked {
    at: Instant,
    /// Of the files that decided.
    digest: Digest,
    valid: bool,
}

impl ClientCertificate {
    /// What a handshake has just found valid with these files.
    pub(super) fn new(chain: Vec<CertificateDer<'static>>, digest: Digest) -> Option<Self> {
        Some(Self {
            names: name::names(chain.first()?),
            chain,
            looked: Mutex::new(Looked {
                at: Instant::now(),
                digest,
                valid: true,
            }),
        })
    }

    /// SHA-256 of it in DER.
    pub(crate) fn digest(&self) -> Option<Digest> {
        self.names.iter().find_map(|name| match name {
            CertificateName::Sha256(digest) => Some(*digest),
            CertificateName::Uri(_) | CertificateName::Dns(_) | CertificateName::Email(_) => None,
        })
    }

    /// Its names, if it is still valid with the files that the listener has now.
    pub(crate) fn names(&self, tls: &Tls) -> Option<&[CertificateName]> {
        let settings = tls.settings();
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        if looked.digest != settings.digest || looked.at.elapsed() >= LOOK_AGAIN {
            *looked = Looked {
                at: Instant::now(),
                digest: settings.digest,
                valid: tls.accepts(&settings, &self.chain),
            };
        }
        looked.valid.then_some(self.names.as_slice())
    }
}
