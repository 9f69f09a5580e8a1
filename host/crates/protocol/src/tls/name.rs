//! By what a certificate names its holder: the SHA-256 of the certificate, or one of its alternative names (RFC 5280,
//! section 4.2.1.6). The common name is none: nothing says what kind of name it is.

use std::fmt;
use std::str::FromStr;

use aral_contract::Digest;
use aral_contract::limits::HOST_BYTES_MAX;
use serde::Deserialize;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Longest name of a URI or mailbox, in bytes.
const NAME_BYTES_MAX: usize = 2048;

/// One name, as `sha256:HEX`, `uri:URI`, `dns:NAME` or `email:MAILBOX`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum CertificateName {
    /// SHA-256 of the certificate in DER.
    Sha256(Digest),
    /// A URI, such as a SPIFFE ID. Every byte counts.
    Uri(String),
    /// A DNS name, in lower case; never a pattern.
    Dns(String),
    /// A mailbox. Every byte counts.
    Email(String),
}

/// Why a text is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` names no certificate: write `sha256:` and 64 hex digits, `uri:`, `dns:` or `email:` and a name without patterns", .0.escape_debug())]
pub struct CertificateNameError(String);

impl CertificateName {
    fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':')?;
        let plain = |bytes_max: usize| {
            let visible = name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*');
            (visible && !name.is_empty() && name.len() <= bytes_max).then(|| name.to_owned())
        };
        match kind {
            // As `openssl x509 -fingerprint -sha256` writes it, too.
            "sha256" => name
                .replace(':', "")
                .to_ascii_lowercase()
                .parse()
                .ok()
                .map(Self::Sha256),
            "uri" => plain(NAME_BYTES_MAX).filter(|uri| uri.contains(':')).map(Self::Uri),
            "dns" => plain(HOST_BYTES_MAX).map(|name| Self::Dns(name.to_ascii_lowercase())),
            "email" => plain(NAME_BYTES_MAX).filter(|name| name.contains('@')).map(Self::Email),
            _ => None,
        }
    }
}

impl FromStr for CertificateName {
    type Err = CertificateNameError;

    fn from_str(text: &str) -> Result<Self, CertificateNameError> {
        Self::parse(text).ok_or_else(|| CertificateNameError(text.chars().take(HOST_BYTES_MAX).collect()))
    }
}

impl TryFrom<String> for CertificateName {
    type Error = CertificateNameError;
    fn try_from(text: String) -> Result<Self, CertificateNameError> {
        text.parse()
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(digest) => write!(f, "sha256:{digest}"),
            Self::Uri(name) => write!(f, "uri:{name}"),
            Self::Dns(name) => write!(f, "dns:{name}"),
            Self::Email(name) => write!(f, "email:{name}"),
        }
    }
}

/// All names of a certificate. One that says its other names in a way that cannot be read has its fingerprint alone.
pub(super) fn names(der: &[u8]) -> Vec<CertificateName> {
    let mut names = vec![CertificateName::Sha256(Digest::of(der))];
    if let Ok((_, certificate)) = X509Certificate::from_der(der)
        && let Ok(Some(alternatives)) = certificate.subject_alternative_name()
    {
        names.extend(alternatives.value.general_names.iter().filter_map(alternative));
    }
    names
}

fn alternative(name: &GeneralName<'_>) -> Option<CertificateName> {
    match name {
        GeneralName::URI(uri) => Some(CertificateName::Uri((*uri).to_owned())),
        GeneralName::DNSName(name) => Some(CertificateName::Dns(name.to_ascii_lowercase())),
        GeneralName::RFC822Name(mailbox) => Some(CertificateName::Email((*mailbox).to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_their_kind_and_are_no_patterns() {
        let digest = "ab".repeat(32);
        let colons = vec!["AB"; 32].join(":");
        for (given, taken) in [
            (format!("sha256:{digest}"), format!("sha256:{digest}")),
            (format!("sha256:{colons}"), format!("sha256:{digest}")),
            ("uri:spiffe://a/B".to_owned(), "uri:spiffe://a/B".to_owned()),
            ("dns:Agent.Example".to_owned(), "dns:agent.example".to_owned()),
            ("email:a@b.example".to_owned(), "email:a@b.example".to_owned()),
        ] {
            assert_eq!(given.parse::<CertificateName>().unwrap().to_string(), taken);
        }
        let long = format!("dns:{}", "a".repeat(HOST_BYTES_MAX + 1));
        for bad in [
            "",
            "a",
            "dns:",
            "dns:*.a",
            "dns:a b",
            "uri:a",
            "uri:a:*",
            "email:a",
            "cn:a",
            "sha256:ab",
            &long,
            "dns:é",
        ] {
            let error = bad.parse::<CertificateName>().unwrap_err().to_string();
            assert!(error.contains("names no certificate"), "{bad}: {error}");
        }
    }
}
