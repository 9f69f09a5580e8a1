//! Until when a listener can show and go by what its files say, for whoever has to renew them. It decides nothing.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use x509_parser::oid_registry::OID_X509_EXT_ISSUER_DISTRIBUTION_POINT;
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
        let files = self
            .clients
            .iter()
            .flat_map(|clients| &clients.crl_files)
            .zip(&files.crls);
        let mut ders = Vec::new();
        for (file, bytes) in files {
            ders.extend(lists::of_file(file, bytes)?.into_iter().map(|der| (file, der)));
        }
        let mut lists = Vec::new();
        for (file, der) in &ders {
            lists.extend(CertificateRevocationList::from_der(der).map(|(_, list)| (file, list)));
        }
        let mut newest = HashMap::new();
        for (_, list) in &lists {
            let issued = newest.entry(part(list)).or_insert_with(|| list.last_update());
            *issued = list.last_update().max(*issued);
        }
        // An older one says nothing any more, and its end is nobody's. A list of all certificates is one for each part of them.
        let holding = lists.iter().filter(|(_, list)| {
            let (issuer, point) = part(list);
            let same = [(issuer, point), (issuer, None)].into_iter();
            let mut issued = same.filter_map(|part| newest.get(&part));
            issued.all(|issued| *issued <= list.last_update())
        });
        all.extend(holding.filter_map(|(file, list)| of_list(file, list)));
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

/// The issuer of a list, and for which part of its certificates the list holds; none: for all.
fn part<'a>(list: &'a CertificateRevocationList<'_>) -> (&'a [u8], Option<&'a [u8]>) {
    let mut extensions = list.extensions().iter();
    let point = extensions.find(|extension| extension.oid == OID_X509_EXT_ISSUER_DISTRIBUTION_POINT);
    (list.issuer().as_raw(), point.map(|point| point.value))
}

fn of_list(file: &Path, list: &CertificateRevocationList<'_>) -> Option<TlsTerm> {
    let (from, to) = (list.last_update().timestamp(), list.next_update()?.timestamp());
    TlsTerm::new(TlsPart::RevocationList, file, from, to)
}
