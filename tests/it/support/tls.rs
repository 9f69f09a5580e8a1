//! A certificate authority of the test, servers' and clients' certificates signed by it, and a client over TLS.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

use super::desk::Desk;
use super::wire::{Reply, request};

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
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(names).expect("names");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
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
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("a URI"))];
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        Client::new(self, Some((certificate.der().clone(), key)))
    }
}

/// A client over TLS, a connection for each request.
pub(crate) struct Client {
    config: Arc<ClientConfig>,
}

impl Client {
    fn new(authority: &Authority, shows: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.issuer.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let config = match shows {
            Some((certificate, key)) => builder.with_client_auth_cert(vec![certificate], key).expect("a pair"),
            None => builder.with_no_client_auth(),
        };
        Self {
            config: Arc::new(config),
        }
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

    /// The certificate that the other side shows.
    pub(crate) fn shown(&self, address: SocketAddr) -> CertificateDer<'static> {
        let mut tcp = TcpStream::connect(address).expect("it listens");
        let name = ServerName::try_from("localhost").expect("a name");
        let mut tls = ClientConnection::new(Arc::clone(&self.config), name).expect("a client");
        tls.complete_io(&mut tcp).expect("a handshake");
        tls.peer_certificates().expect("certificates")[0].clone().into_owned()
    }
}
