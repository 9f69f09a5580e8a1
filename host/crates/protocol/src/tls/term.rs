//! Until when a listener can show and go by what its files say, for whoever has to renew them. It decides nothing.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use x509_parser::prelude::{CertificateRevocationList, FromDer as _, X509Certificate};

use super::files::Files;
use super::settings::{certificates, read_staple};
use super::{BadStaple, TlsError, TlsOptions, lists};

/// What in the files of a listener has an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsPart {
    /// The certificate that it shows, or one of those that lead to its root.
    Certificate,
    /// The OCSP response beside it.
    OcspResponse,
    /// A list of what was revoked.
    RevocationList,
}

/// When one of them is in its time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TlsTerm {
    /// What.
    pub part: TlsPart,
    /// Where it stands.
    pub file: PathBuf,
    /// Not before.
    pub from: Timestamp,
    /// Not after.
    pub to: Timestamp,
}

impl TlsOptions {
    /// Of everything in the files that has an end, when it is in its time. Reads the files.
    ///
    /// # Errors
    /// Files that a listener would not take, but for an OCSP response: it is left out.
    pub fn terms(&self) -> Result<Vec<TlsTerm>, TlsError> {
        let files = Files::read(self, BadStaple::LeftOut)?;
        let chain = certificates(&self.certificate_file, &files.certificate)?;
        // Clients refuse the chain as soon as one of them is over. They have roots of their own, and look at none that stands behind.
        let shown = chain.iter().enumerate().filter_map(|(place, der)| {
            let (_, one) = X509Certificate::from_der(der).ok()?;
            let is_looked_at = place == 0 || !is_root(&one);
            is_looked_at.then(|| of_certificate(&self.certificate_file, &one))?
        });
        let mut all: Vec<TlsTerm> = shown.collect();
        // A response that clients would not take has no time, and keeps no other end from being known.
        if let (Some(file), Some(Ok(times))) = (&self.ocsp_file, read_staple(self, &files, &chain)?) {
            all.extend(TlsTerm::new(TlsPart::OcspResponse, file, *times.start(), *times.end()));
        }
        for (file, bytes) in self
            .clients
            .iter()
            .flat_map(|clients| &clients.crl_files)
            .zip(&files.crls)
        {
            let lists = lists::of_file(file, bytes)?;
            all.extend(lists.iter().filter_map(|list| of_list(file, list)));
        }
        Ok(all)
    }
}

impl TlsTerm {
    /// In seconds since 1970; none: it ends in no year that is known.
    fn new(part: TlsPart, file: &Path, from: i64, to: i64) -> Option<Self> {
        Some(Self {
            part,
            file: file.to_owned(),
            from: Timestamp::from_second(from).ok()?,
            to: Timestamp::from_second(to).ok()?,
        })
    }
}

/// Whether its issuer is its subject.
fn is_root(one: &X509Certificate<'_>) -> bool {
    one.issuer().as_raw() == one.subject().as_raw()
}

fn of_certificate(file: &Path, one: &X509Certificate<'_>) -> Option<TlsTerm> {
    let validity = one.validity();
    let (from, to) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    TlsTerm::new(TlsPart::Certificate, file, from, to)
}

fn of_list(file: &Path, der: &[u8]) -> Option<TlsTerm> {
    let (_, list) = CertificateRevocationList::from_der(der).ok()?;
    let (from, to) = (list.last_update().timestamp(), list.next_update()?.timestamp());
    TlsTerm::new(TlsPart::RevocationList, file, from, to)
}
