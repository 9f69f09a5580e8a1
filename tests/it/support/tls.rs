//! A certificate authority of the test, servers' and clients' certificates signed by it, and a client over TLS.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
    date_time_ymd,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme, StreamOwned,
};

use super::desk::Desk;
use super::wire::{Reply, request};

/// The serial number of a certificate that [`Authority::install`] makes.
pub(crate) const INSTALLED: u8 = 1;

/// The authority.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // A name of its own: what has the name of its issuer is taken for signed by itself.
        params
            .distinguished_name
            .push(DnType::CommonName, "authority of the tests");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).expect("a certificate"),
        }
    }

    /// For the configuration of the host.
    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// For a server with these names.
    pub(crate) fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(names).expect("names");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a pair");
        Arc::new(config)
    }

    /// Writes `chain.pem` and `key.pem` for a server of this machine, and `clients.pem` for those who call it.
    pub(crate) fn install(&self, desk: &Desk) {
        self.install_changed(desk, |_| ());
    }

    /// The same with a certificate changed as the test wants.
    pub(crate) fn install_changed(&self, desk: &Desk, change: impl FnOnce(&mut CertificateParams)) {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(names).expect("names");
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from(u64::from(INSTALLED)));
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        desk.write("chain.pem", certificate.pem().as_bytes());
        desk.write("key.pem", key.serialize_pem().as_bytes());
        desk.write("clients.pem", self.pem().as_bytes());
        for file in ["chain.pem", "key.pem", "clients.pem"] {
            desk.private(file);
        }
    }

    /// A client that trusts this authority and shows no certificate.
    pub(crate) fn client(&self) -> Client {
        Client::new(self, None)
    }

    /// One whose certificate has this URI.
    pub(crate) fn client_named(&self, uri: &str) -> Client {
        self.client_numbered(uri, 2)
    }

    /// The same with this serial number.
    pub(crate) fn client_numbered(&self, uri: &str, serial: u64) -> Client {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.serial_number = Some(SerialNumber::from(serial));
        params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("a URI"))];
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Client::new(self, Some((certificate.der().clone(), key)))
    }
}

impl Authority {
    /// The list of what was revoked, in PEM: these serial numbers.
    pub(crate) fn revoked(&self, serials: &[u64]) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2025, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2025, 1, 1),
            next_update: date_time_ymd(2100, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = params.signed_by(&self.issuer).expect("a list");
        list.pem().expect("PEM")
    }
}

/// A value in DER.
fn der(tag: u8, content: &[&[u8]]) -> Vec<u8> {
    let content = content.concat();
    let length = u16::try_from(content.len()).expect("it is short").to_be_bytes();
    let mut value = match length {
        [0, short] if short < 0x80 => vec![tag, short],
        [0, byte] => vec![tag, 0x81, byte],
        [high, low] => vec![tag, 0x82, high, low],
    };
    value.extend(content);
    value
}

/// An OCSP response (RFC 6960, section 4.2.1) that a certificate is good, with a signature that nobody checks here.
pub(crate) fn ocsp(serial: u8) -> Vec<u8> {
    let (from, to) = (b"20250101000000Z", b"21000101000000Z");
    let sha1 = der(0x30, &[&[0x06, 0x05, 0x2b, 0x0e, 0x03, 0x02, 0x1a], &[0x05, 0x00]]);
    let hash = der(0x04, &[&[7; 20]]);
    let about = der(0x30, &[&sha1, &hash, &hash, &der(0x02, &[&[serial]])]);
    let until = der(0xa0, &[&der(0x18, &[to])]);
    let answer = der(0x30, &[&about, &der(0x80, &[]), &der(0x18, &[from]), &until]);
    let by_key = der(0xa2, &[&hash]);
    let data = der(0x30, &[&by_key, &der(0x18, &[from]), &der(0x30, &[&answer])]);
    let ecdsa_with_sha256 = der(0x30, &[&[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]]);
    let basic = der(0x30, &[&data, &ecdsa_with_sha256, &der(0x03, &[&[0; 33]])]);
    let basic_type = [0x06, 0x09, 0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x30, 0x01, 0x01];
    let bytes = der(0x30, &[&basic_type, &der(0x04, &[&basic])]);
    der(0x30, &[&[0x0a, 0x01, 0x00], &der(0xa0, &[&bytes])])
}

/// Checks the server as usual, and keeps the OCSP response that it showed.
#[derive(Debug)]
struct Watching {
    usual: Arc<WebPkiServerVerifier>,
    stapled: Arc<Mutex<Vec<u8>>>,
}

impl ServerCertVerifier for Watching {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.stapled.lock().expect("nobody panicked") = ocsp.to_vec();
        self.usual.verify_server_cert(own, rest, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls12_signature(message, own, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.usual.verify_tls13_signature(message, own, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

/// A client over TLS, a connection for each request.
pub(crate) struct Client {
    config: Arc<ClientConfig>,
    own: Option<CertificateDer<'static>>,
    stapled: Arc<Mutex<Vec<u8>>>,
}

impl Client {
    fn new(authority: &Authority, shows: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.issuer.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let stapled = Arc::default();
        let watching = Watching {
            usual: usual.build().expect("a root"),
            stapled: Arc::clone(&stapled),
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(watching));
        let own = shows.as_ref().map(|(certificate, _)| certificate.clone());
        let config = match shows {
            Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).expect("a pair"),
            None => builder.with_no_client_auth(),
        };
        Self {
            config: Arc::new(config),
            own,
            stapled,
        }
    }

    /// The certificate that it shows.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        self.own.as_ref().expect("it shows one")
    }

    /// One request; an error: the other side ended the handshake or the connection.
    pub(crate) fn ask(
        &self,
        address: SocketAddr,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> std::io::Result<Reply> {
        let tcp = TcpStream::connect(address)?;
        tcp.set_read_timeout(Some(Duration::from_secs(30)))?;
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = ClientConnection::new(Arc::clone(&self.config), name).expect("a client");
        let mut stream = StreamOwned::new(tls, tcp);
        let mut all = vec![("Connection", "close")];
        all.extend_from_slice(fields);
        stream.write_all(request(method, path, &all, body).as_bytes())?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes)?;
        Ok(Reply::of(&bytes))
    }

    /// Calls a capability.
    pub(crate) fn invoke(
        &self,
        address: SocketAddr,
        id: &str,
        fields: &[(&str, &str)],
        input: &str,
    ) -> std::io::Result<Reply> {
        let mut all = vec![("Content-Type", "application/json")];
        all.extend_from_slice(fields);
        self.ask(address, "POST", &format!("/v1/invoke/{id}"), &all, input)
    }

    /// A connection of HTTP/2 on which nothing is said yet.
    pub(crate) fn http2(&self, address: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
        let mut config = ClientConfig::clone(&self.config);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from("localhost").expect("a name");
        let tls = ClientConnection::new(Arc::new(config), name).expect("a client");
        StreamOwned::new(tls, TcpStream::connect(address).expect("it listens"))
    }

    /// The certificate that the other side shows.
    pub(crate) fn shown(&self, address: SocketAddr) -> CertificateDer<'static> {
        let mut tcp = TcpStream::connect(address).expect("it listens");
        let name = ServerName::try_from("localhost").expect("a name");
        let mut tls = ClientConnection::new(Arc::clone(&self.config), name).expect("a client");
        tls.complete_io(&mut tcp).expect("a handshake");
        tls.peer_certificates().expect("certificates")[0].clone().into_owned()
    }

    /// The OCSP response that the other side shows with it; empty: none.
    pub(crate) fn stapled(&self, address: SocketAddr) -> Vec<u8> {
        self.shown(address);
        self.stapled.lock().expect("nobody panicked").clone()
    }
}
