//! Lists of what was revoked (RFC 5280, section 5): how files of them are read, and which of several lists of one authority holds.

use std::cmp::Reverse;
use std::path::Path;

use rustls::CertRevocationListError;
use rustls::pki_types::CertificateRevocationListDer;
use x509_parser::asn1_rs::{Any, FromDer as _};
use x509_parser::prelude::ASN1Time;

use super::settings::from_pem;
use super::{ClientOptions, TlsError};

type List = CertificateRevocationListDer<'static>;

/// Those of one file: one list in DER, or all lists that PEM holds.
pub(super) fn of_file(path: &Path, bytes: &[u8]) -> Result<Vec<List>, TlsError> {
    if !bytes.starts_with(b"-----") {
        return Ok(vec![List::from(bytes.to_vec())]);
    }
    from_pem(path, bytes, "list of revoked certificates")
}

/// Those of all files, the newest first. The TLS library takes the first list of an authority and never looks at a second one, so that an
/// older list in front would hide what was revoked since.
pub(super) fn newest_first(clients: &ClientOptions, crls: &[Vec<u8>]) -> Result<Vec<List>, TlsError> {
    let mut dated = Vec::new();
    for (path, bytes) in clients.crl_files.iter().zip(crls) {
        for list in of_file(path, bytes)? {
            // A list without a date has no place among the others.
            let issued = issued(&list).ok_or_else(|| TlsError::Clients(CertRevocationListError::ParseError.into()))?;
            dated.push((issued, list));
        }
    }
    dated.sort_by_key(|(issued, _)| Reverse(*issued));
    Ok(dated.into_iter().map(|(_, list)| list).collect())
}

/// When a list was issued, in seconds since 1970. What stands behind that is not read: lists may have millions of entries.
fn issued(list: &[u8]) -> Option<i64> {
    let (_, list) = Any::from_der(list).ok()?;
    let (_, signed) = Any::from_der(list.data).ok()?;
    let (rest, _version) = Any::from_der(signed.data).ok()?;
    let (rest, _algorithm) = Any::from_der(rest).ok()?;
    let (rest, _issuer) = Any::from_der(rest).ok()?;
    let (_, issued) = ASN1Time::from_der(rest).ok()?;
    Some(issued.timestamp())
}
