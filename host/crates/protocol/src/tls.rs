//! TLS of a listener: the files that it is made from, the certificates that it is shown, and how both are renewed while
//! connections stay open. TLS 1.3 alone, without tickets and without early data. It knows no HTTP.

mod certificate;
mod error;
mod files;
mod lists;
mod name;
mod ocsp;
mod reload;
mod settings;
mod term;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use serde::Deserialize;

pub(crate) use certificate::ClientCertificate;
pub use error::{PemFault, TlsError};
pub use name::{CertificateName, CertificateNameError};
pub use ocsp::OcspError;
pub use reload::TlsReloader;
pub(crate) use reload::{Fresh, Tls, left_out, watch};
pub use term::{TlsPart, TlsTerm};

/// The files of one listener. All of them may be replaced while it listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// PEM: the certificate of the listener first, then those that lead to its root.
    pub certificate_file: PathBuf,
    /// PEM: the private key. Nobody else may have access to it.
    pub key_file: PathBuf,
    /// DER: an OCSP response (RFC 6960) for the certificate, which the handshake carries (RFC 6066, section 8).
    pub ocsp_file: Option<PathBuf>,
    /// Whether callers show certificates; none: they are not asked.
    pub clients: Option<ClientOptions>,
}

/// What an OCSP response comes to that clients would not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BadStaple {
    /// It is refused: whoever starts a server, or names another file, is told.
    Refused,
    /// It is not sent, and on record. A server that runs has to take everything else, above all what was revoked.
    LeftOut,
}

/// Certificates of callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOptions {
    /// PEM: the roots that their certificates lead to.
    pub ca_file: PathBuf,
    /// Whether a caller may come without one.
    pub auth: ClientAuth,
    /// PEM or DER: what was revoked. With at least one, a certificate whose issuer has no list that is in its time is refused.
    pub crl_files: Vec<PathBuf>,
}

/// Whether a caller may come without a certificate. One that shows a bad certificate never may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientAuth {
    /// No certificate, no connection.
    #[default]
    Required,
    /// Then something else has to show who calls.
    Optional,
}
