//! Reads the files of TLS, each with a cap and with the owner and mode that its content needs, and tells whether they
//! changed. It understands none of them.

use std::path::Path;

use aral_contract::Digest;
use aral_contract::failure::chain;
use aral_runtime::files::{self, FilesError};
use zeroize::Zeroizing;

use super::ocsp::OcspError;
use super::{BadStaple, TlsError, TlsOptions};

/// Most bytes of a file of certificates, of a key or of an OCSP response.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Most bytes of a list of what was revoked: those of large authorities are long.
const CRL_BYTES_MAX: u64 = 64 << 20;

/// What the files say.
pub(super) struct Files {
    pub(super) certificate: Vec<u8>,
    pub(super) key: Zeroizing<Vec<u8>>,
    pub(super) ocsp: Option<Result<Vec<u8>, OcspError>>,
    pub(super) client_ca: Option<Vec<u8>>,
    pub(super) crls: Vec<Vec<u8>>,
}

impl Files {
    /// Reads all of them. Whoever may write one decides who is let in, so that others may not.
    pub(super) fn read(options: &TlsOptions, bad: BadStaple) -> Result<Self, TlsError> {
        let trusted = |path: &Path, bytes_max| files::read_trusted(path, bytes_max).map_err(TlsError::File);
        let ocsp = options.ocsp_file.as_ref();
        let ocsp = match (ocsp.map(|path| files::read_trusted(path, FILE_BYTES_MAX)), bad) {
            (Some(Err(error)), BadStaple::Refused) => return Err(TlsError::File(error)),
            (read, BadStaple::Refused | BadStaple::LeftOut) => {
                read.map(|read| read.map_err(|error| OcspError::File(chain(&error))))
            }
        };
        let clients = options.clients.as_ref();
        let crls = clients.map(|clients| clients.crl_files.as_slice()).unwrap_or_default();
        Ok(Self {
            certificate: trusted(&options.certificate_file, FILE_BYTES_MAX)?,
            key: private(&options.key_file).map_err(TlsError::File)?,
            ocsp,
            client_ca: clients
                .map(|clients| trusted(&clients.ca_file, FILE_BYTES_MAX))
                .transpose()?,
            crls: crls
                .iter()
                .map(|path| trusted(path, CRL_BYTES_MAX))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Another one as soon as a byte of a file is another one, or the reason for which one cannot be read.
    pub(super) fn digest(&self) -> Digest {
        let mut all = Zeroizing::new(Vec::new());
        let unread = match &self.ocsp {
            Some(Err(error)) => error.to_string(),
            Some(Ok(_)) | None => String::new(),
        };
        let ocsp = self.ocsp.as_ref();
        let fixed = [
            Some(self.certificate.as_slice()),
            Some(self.key.as_slice()),
            ocsp.map(|read| read.as_ref().map_or(unread.as_bytes(), Vec::as_slice)),
            self.client_ca.as_deref(),
        ];
        for file in fixed
            .into_iter()
            .chain(self.crls.iter().map(|list| Some(list.as_slice())))
        {
            let digest = file.map(|bytes| Digest::of(bytes).to_string());
            all.extend_from_slice(digest.unwrap_or_default().as_bytes());
            all.push(b'\n');
        }
        Digest::of(&all)
    }
}

fn private(path: &Path) -> Result<Zeroizing<Vec<u8>>, FilesError> {
    files::read_private(path, FILE_BYTES_MAX)
}
