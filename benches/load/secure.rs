//! A certificate for a server of this machine, which signs itself and ends with the measurement.

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use aral_runtime::files;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ClientConfig, RootCertStore};

const CHAIN: &str = "chain.pem";
const KEY: &str = "key.pem";
/// Where the server finds them, for its listener.
pub(crate) const SETTING: &str = "tls = { certificate_file = \"chain.pem\", key_file = \"key.pem\" }\n";

/// Writes the files of the server, and says what its callers trust.
pub(crate) fn write(folder: &Path) -> Result<Arc<ClientConfig>> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    std::fs::write(folder.join(CHAIN), cert.pem())?;
    files::create_private_file(&folder.join(KEY), signing_key.serialize_pem().as_bytes())?;
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
