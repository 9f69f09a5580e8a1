//! An authority of the test, and what it gives out: certificates, lists of what was revoked, OCSP responses.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, CrlDistributionPoint,
    CrlIssuingDistributionPoint, DnType, ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose,
    RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::tls::{ClientAuth, ClientOptions, TlsOptions};

/// An authority with a folder for the files that a server reads.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

/// A certificate with its key.
pub(super) struct Pair {
    pub(super) certificate: CertificateDer<'static>,
    pub(super) pem: String,
    key: KeyPair,
}

impl Pair {
    pub(super) fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

impl Authority {
    pub(super) fn new(name: &str) -> Self {
        let mut params = named(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(super) fn root(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// A certificate changed as the test wants.
    pub(super) fn sign(&self, serial: u64, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let mut params = named(&format!("number {serial}"));
        params.serial_number = Some(SerialNumber::from(serial));
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Pair {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            key,
        }
    }

    /// For the server.
    pub(super) fn server(&self, serial: u64) -> Pair {
        self.sign(serial, |params| {
            params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        })
    }

    /// For a caller with these alternative names.
    pub(super) fn client(&self, serial: u64, names: Vec<SanType>) -> Pair {
        self.sign(serial, |params| {
            params.subject_alt_names = names;
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        })
    }

    /// What these certificates were revoked with; the list is over when this year begins.
    pub(super) fn revoked(&self, serials: &[u64], next_year: i32) -> String {
        self.issued(serials, 2000, next_year)
    }

    /// The same in a list that was issued when a year began.
    pub(super) fn issued(&self, serials: &[u64], year: i32, next_year: i32) -> String {
        self.list(serials, year, next_year, None)
    }

    /// The same, and it holds for a part of the certificates alone: those that name this address.
    pub(super) fn issued_in_part(&self, address: &str, year: i32, next_year: i32) -> String {
        let point = CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint {
                uris: vec![address.to_owned()],
            },
            scope: None,
        };
        self.list(&[], year, next_year, Some(point))
    }

    fn list(
        &self,
        serials: &[u64],
        year: i32,
        next_year: i32,
        issuing_distribution_point: Option<CrlIssuingDistributionPoint>,
    ) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2025, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(year, 1, 1),
            next_update: date_time_ymd(next_year, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Replaces a file that nobody else may read.
    pub(super) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        let new = self.path("new");
        std::fs::write(&new, bytes).unwrap();
        std::fs::set_permissions(&new, PermissionsExt::from_mode(0o600)).unwrap();
        std::fs::rename(new, self.path(name)).unwrap();
    }

    /// Writes a certificate with its key for the server.
    pub(super) fn install(&self, pair: &Pair) {
        self.write("chain.pem", &pair.pem);
        self.write("key.pem", pair.key.serialize_pem());
    }

    /// Files of a server with a certificate with the serial number 1.
    pub(super) fn options(&self) -> TlsOptions {
        self.install(&self.server(1));
        TlsOptions {
            certificate_file: self.path("chain.pem"),
            key_file: self.path("key.pem"),
            ocsp_file: None,
            clients: None,
        }
    }

    /// The same with the OCSP response in `ocsp.der`.
    pub(super) fn stapled(&self, options: TlsOptions) -> TlsOptions {
        TlsOptions {
            ocsp_file: Some(self.path("ocsp.der")),
            ..options
        }
    }

    /// The same where callers show certificates of this authority.
    pub(super) fn mutual(&self, auth: ClientAuth) -> TlsOptions {
        self.write("clients.pem", self.issuer.pem());
        self.write("revoked.pem", self.revoked(&[], 2100));
        TlsOptions {
            clients: Some(ClientOptions {
                ca_file: self.path("clients.pem"),
                auth,
                crl_files: vec![self.path("revoked.pem")],
            }),
            ..self.options()
        }
    }
}

/// A value in DER.
fn der(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    let mut value = match length {
        [0, short] if short < 0x80 => vec![tag, short],
        [0, byte] => vec![tag, 0x81, byte],
        [high, low] => vec![tag, 0x82, high, low],
    };
    value.extend(content);
    value
}

/// An OCSP response (RFC 6960, section 4.2.1) about one certificate, with a signature that nobody checks here. Without `to` it has no end.
pub(super) fn ocsp(serial: u8, good: bool, from: &str, to: &str) -> Vec<u8> {
    let sha1 = der(0x30, &[&[0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a], &[0x05, 0x00]]);
    let hash = der(0x04, &[&[7; 20]]);
    let about = der(0x30, &[&sha1, &hash, &hash, &der(0x02, &[&[serial]])]);
    let status = if good {
        der(0x80, &[])
    } else {
        der(0xa1, &[&der(0x18, &[b"20250101000000Z"])])
    };
    let until = if to.is_empty() {
        Vec::new()
    } else {
        der(0xa0, &[&der(0x18, &[to.as_bytes()])])
    };
    let answer = der(0x30, &[&about, &status, &der(0x18, &[from.as_bytes()]), &until]);
    let by_key = der(0xa2, &[&hash]);
    let at = der(0x18, &[from.as_bytes()]);
    let data = der(0x30, &[&by_key, &at, &der(0x30, &[&answer])]);
    let ecdsa_with_sha256 = der(0x30, &[&[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]]);
    let basic = der(0x30, &[&data, &ecdsa_with_sha256, &der(0x03, &[&[0; 33]])]);
    let basic_type = [0x06, 0x09, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
    let bytes = der(0x30, &[&basic_type, &der(0x04, &[&basic])]);
    der(0x30, &[&[0x0a, 0x01, 0x00], &der(0xa0, &[&bytes])])
}
