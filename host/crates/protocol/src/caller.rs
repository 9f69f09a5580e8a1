//! Callers: names of the configuration, each with the session of its persona and the digests of its keys. A key itself is
//! nowhere here.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aral_contract::Digest;
use aral_contract::document::PublicKey;
use aral_contract::id::CallerName;
use aral_orchestration::Session;

use crate::tls::CertificateName;

/// What every key begins with, so that people and scanners of repositories know one when they see it.
pub const KEY_PREFIX: &str = "aral_";
/// What the name of a token's bearer begins with, and no other caller's.
pub const TOKEN_PREFIX: &str = "token-";

/// Who calls.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The name in the configuration.
    pub name: CallerName,
    /// For whom calls are made.
    pub session: Session,
    /// SHA-256 of each key that shows who it is.
    pub keys: Vec<Digest>,
    /// Names of the certificates that show who it is.
    pub certificates: Vec<CertificateName>,
    /// Whose word these names are: they are believed on listeners with one of these files of authorities. Empty: on every listener that
    /// asks for certificates.
    pub client_ca_files: Vec<PathBuf>,
    /// How it signs its requests; none: it does not, and a request that is signed is refused.
    pub signature: Option<SignatureRule>,
}

impl Caller {
    /// Whether its certificates say who it is where these authorities are believed.
    fn is_known_under(&self, client_ca: &Path) -> bool {
        self.client_ca_files.is_empty() || self.client_ca_files.iter().any(|file| file == client_ca)
    }
}

/// How somebody signs requests (RFC 9421).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureRule {
    /// Whether every request must be signed; else one that is must be signed well.
    pub required: bool,
    /// Who signs: one of these.
    pub keys: Vec<PublicKey>,
}

/// Why a list of callers is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallersError {
    /// Two have one name.
    #[error("there are two callers `{0}`")]
    Name(CallerName),
    /// One certificate would be two callers.
    #[error("the certificate `{certificate}` is listed twice, last for `{name}`")]
    Certificate {
        /// Which.
        certificate: CertificateName,
        /// Who has it too.
        name: CallerName,
    },
    /// The name of a token's bearer.
    #[error("the caller `{0}` has a name that begins with `{TOKEN_PREFIX}`, as those of bearers of tokens do")]
    Reserved(CallerName),
    /// Signatures that nobody could make.
    #[error("the caller `{0}` signs its requests with no key")]
    NoSignatureKey(CallerName),
    /// One key would be two callers.
    #[error("the key with the SHA-256 {digest} is listed twice, last for `{name}`")]
    Key {
        /// Of the key.
        digest: Digest,
        /// Who has it too.
        name: CallerName,
    },
}

/// All callers.
#[derive(Debug, Default)]
pub struct Callers {
    names: HashMap<CallerName, Arc<Caller>>,
    keys: HashMap<Digest, Arc<Caller>>,
    certificates: HashMap<CertificateName, Arc<Caller>>,
}

impl Callers {
    /// Takes a list.
    ///
    /// # Errors
    /// A name or a key that is there twice, a name that is reserved, or signatures without a key.
    pub fn new(list: Vec<Caller>) -> Result<Self, CallersError> {
        let mut callers = Self::default();
        let named = |caller: Caller| Caller {
            session: caller.session.of_user(caller.name.clone()),
            ..caller
        };
        for caller in list.into_iter().map(named).map(Arc::new) {
            if caller.name.as_str().starts_with(TOKEN_PREFIX) {
                return Err(CallersError::Reserved(caller.name.clone()));
            }
            if caller.signature.as_ref().is_some_and(|rule| rule.keys.is_empty()) {
                return Err(CallersError::NoSignatureKey(caller.name.clone()));
            }
            for key in &caller.keys {
                match callers.keys.entry(*key) {
                    Entry::Vacant(free) => free.insert(Arc::clone(&caller)),
                    Entry::Occupied(_) => {
                        return Err(CallersError::Key {
                            digest: *key,
                            name: caller.name.clone(),
                        });
                    }
                };
            }
            for certificate in &caller.certificates {
                match callers.certificates.entry(certificate.clone()) {
                    Entry::Vacant(free) => free.insert(Arc::clone(&caller)),
                    Entry::Occupied(_) => {
                        return Err(CallersError::Certificate {
                            certificate: certificate.clone(),
                            name: caller.name.clone(),
                        });
                    }
                };
            }
            match callers.names.entry(caller.name.clone()) {
                Entry::Vacant(free) => free.insert(caller),
                Entry::Occupied(taken) => return Err(CallersError::Name(taken.key().clone())),
            };
        }
        Ok(callers)
    }

    /// The caller of this name.
    pub fn named(&self, name: &CallerName) -> Option<&Arc<Caller>> {
        self.names.get(name)
    }

    /// Whether somebody can show a key.
    pub(crate) fn have_keys(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Whether somebody can show a certificate where these authorities are believed.
    pub(crate) fn have_certificates(&self, client_ca: &Path) -> bool {
        self.certificates
            .values()
            .any(|caller| caller.is_known_under(client_ca))
    }

    /// The files of authorities that callers name, each with who does.
    pub(crate) fn authorities(&self) -> impl Iterator<Item = (&CallerName, &Path)> {
        self.names.values().flat_map(|caller| {
            let files = caller.client_ca_files.iter();
            files.map(move |file| (&caller.name, file.as_path()))
        })
    }

    /// A caller with a name that every authority could put into a certificate; none: each says whose word its names are, or has digests
    /// of certificates alone.
    pub(crate) fn named_by_all(&self) -> Option<(&CallerName, &CertificateName)> {
        let of_all = self
            .certificates
            .iter()
            .filter(|(name, caller)| caller.client_ca_files.is_empty() && !matches!(name, CertificateName::Sha256(_)));
        of_all.map(|(name, caller)| (&caller.name, name)).min()
    }

    /// The callers that a certificate with these names is, where these authorities are believed: one, nobody, or more than one, which is
    /// nobody in particular.
    pub(crate) fn with_certificate(&self, names: &[CertificateName], client_ca: &Path) -> Vec<&Arc<Caller>> {
        let mut found: Vec<&Arc<Caller>> = Vec::new();
        let known = names.iter().filter_map(|name| self.certificates.get(name));
        for caller in known.filter(|caller| caller.is_known_under(client_ca)) {
            if !found.iter().any(|other| Arc::ptr_eq(other, caller)) {
                found.push(caller);
            }
        }
        found
    }

    /// The caller who has this key. What is compared is a digest of it: how long that takes says nothing about the key.
    pub(crate) fn with_key(&self, key: &str) -> Option<&Arc<Caller>> {
        self.keys.get(&Digest::of(key.as_bytes()))
    }
}
