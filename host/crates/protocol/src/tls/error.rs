//! What can be wrong with the files of TLS, and the line or step that repairs it.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use aral_runtime::files::FilesError;
use rustls::pki_types::pem;
use rustls::server::VerifierBuilderError;

use super::ocsp::OcspError;

/// What is wrong with a file of PEM. The words of the library show what it read, and a file of PEM may hold a private key: not even a
/// part of one belongs in a log or an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PemFault {
    /// The line ends were lost, or one of the two lines was.
    #[error("its BEGIN and END lines do not stand on lines of their own")]
    Lines,
    /// Something between the two lines.
    #[error("what stands between BEGIN and END is no base64")]
    Base64,
    /// Anything else.
    #[error("it cannot be read")]
    Unreadable,
}

impl From<pem::Error> for PemFault {
    fn from(error: pem::Error) -> Self {
        match error {
            pem::Error::MissingSectionEnd { .. } | pem::Error::IllegalSectionStart { .. } => Self::Lines,
            pem::Error::Base64Decode(_) => Self::Base64,
            _ => Self::Unreadable,
        }
    }
}

/// Why files are not taken for TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// One that cannot be read, or that others could have written or read.
    #[error("a file of TLS is not taken")]
    File(#[source] FilesError),
    /// Not PEM.
    #[error("`{}` is not PEM", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        source: PemFault,
    },
    /// PEM without what should be in it.
    #[error("`{}` has no {wanted}", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
        /// What it lacks.
        wanted: &'static str,
    },
    /// The certificate cannot be read.
    #[error("the first certificate of `{}` cannot be read", path.display())]
    Certificate {
        /// Which.
        path: PathBuf,
        /// What the library says of it, if it was asked.
        source: Option<rustls::Error>,
    },
    /// Every client would refuse the certificate.
    #[error("the certificate of `{}` is valid from {from} to {to}, and not now", path.display())]
    Time {
        /// Which.
        path: PathBuf,
        /// When it begins.
        from: String,
        /// When it ends.
        to: String,
        /// From when to when it is valid, in seconds since 1970.
        valid: RangeInclusive<i64>,
    },
    /// A key that cannot be read by itself.
    #[error("the private key of `{}` has a passphrase, and the host asks nobody for it", path.display())]
    Passphrase {
        /// Which.
        path: PathBuf,
    },
    /// A key that the library does not take.
    #[error("the private key of `{}` is broken, or of a kind that is not taken", path.display())]
    KeyKind {
        /// Which.
        path: PathBuf,
    },
    /// A key of another certificate.
    #[error("`{}` is not the key of the first certificate of `{}`", key.display(), certificate.display())]
    Key {
        /// The key.
        key: PathBuf,
        /// The certificate.
        certificate: PathBuf,
    },
    /// An OCSP response that clients would not take for this certificate.
    #[error("`{}` is no OCSP response for the certificate", path.display())]
    Ocsp {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: OcspError,
    },
    /// A root of the callers' certificates.
    #[error("`{}` has a certificate that cannot be a root", path.display())]
    Root {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// Roots and lists that do not fit.
    #[error("the certificates of callers cannot be checked")]
    Clients(#[source] VerifierBuilderError),
    /// The library cannot do what is asked of it.
    #[error("TLS 1.3 is not to be had")]
    Version(#[source] rustls::Error),
}

impl TlsError {
    /// When the same files may be taken, in seconds since 1970; none: never. A clock that was ahead may have refused what is not over.
    pub(super) fn valid(&self) -> Option<RangeInclusive<i64>> {
        let Self::Time { valid, .. } = self else { return None };
        Some(valid.clone())
    }

    /// The line or step that repairs it.
    pub fn hint(&self) -> String {
        match self {
            Self::File(error) => {
                let other = || "in aral.toml, [serve.listener.tls]: name files that can be read".to_owned();
                error.fix().unwrap_or_else(other)
            }
            Self::Pem {
                source: PemFault::Lines,
                ..
            } => "write it again with its line ends: BEGIN and END each have a line of their own".to_owned(),
            Self::Pem { .. } => "convert it: `openssl x509 -in FILE -outform PEM`, or `openssl pkey`".to_owned(),
            Self::Missing { wanted, .. } => {
                format!("in aral.toml, [serve.listener.tls]: name a PEM file that has a {wanted}")
            }
            Self::Certificate { .. } => {
                "in aral.toml, [serve.listener.tls]: let certificate_file name a chain in PEM, the listener's own certificate first"
                    .to_owned()
            }
            Self::Time { .. } => "renew the certificate, or set the clock of this machine".to_owned(),
            Self::Passphrase { .. } => {
                "write a copy without the passphrase, and let key_file name it: `openssl pkey -in FILE -out COPY && chmod 600 COPY`"
                    .to_owned()
            }
            Self::KeyKind { .. } => {
                "make a key that is taken, and a certificate for it: RSA of 2,048 to 8,192 bits, P-256, P-384, P-521 or Ed25519".to_owned()
            }
            Self::Key { .. } => {
                "in aral.toml, [serve.listener.tls]: let key_file name the key that the certificate was made for; certificate_file has \
                 the listener's own certificate first, and those of authorities behind it"
                    .to_owned()
            }
            Self::Ocsp { .. } => {
                "fetch it anew: `openssl ocsp -issuer ISSUER -cert CERTIFICATE -url URL -respout FILE`, or leave out ocsp_file"
                    .to_owned()
            }
            Self::Root { .. } => "in aral.toml, [serve.listener.tls]: let client_ca_file name certificates of authorities".to_owned(),
            Self::Clients(_) => {
                "in aral.toml, [serve.listener.tls]: let client_ca_file name PEM, and crl_files lists in PEM or DER".to_owned()
            }
            Self::Version(_) => "report it".to_owned(),
        }
    }
}
