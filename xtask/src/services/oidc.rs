//! An OAuth 2.0 issuer, `oidc-provider`: tokens that nobody here wrote, for one client whose secret the tests know.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::guard::Guard;
use super::install::Programs;
use super::npm::Packages;
use super::{CONNECT_TIMEOUT, Started, free_port};

/// What it serves, in its own language.
const SCRIPT: &str = include_str!("oidc.mjs");
/// The library, among the packages.
const LIBRARY: &str = "oidc-provider/lib/index.js";
/// For an issuer that is reached from this machine alone and forgets everything when it ends.
const CLIENT: (&str, &str) = ("aral-tests", "aral-tests-secret");

pub(super) fn start(programs: &Programs, folder: &Path) -> Result<Started> {
    let packages = Packages::of(programs)?;
    let script = folder.join("oidc.mjs");
    std::fs::write(&script, SCRIPT).with_context(|| format!("could not write {}", script.display()))?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let (client, secret) = CLIENT;
    let mut command = Command::new(packages.node());
    command
        .arg(&script)
        .arg(packages.file(LIBRARY)?)
        .args([&address.port().to_string(), client, secret]);
    Ok(Started {
        guard: Guard::start(&command, folder)?,
        variables: vec![
            ("ARAL_SERVICE_ISSUER", format!("http://{address}")),
            ("ARAL_SERVICE_ISSUER_CLIENT", format!("{client}:{secret}")),
        ],
        answers: Box::new(move || TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok()),
    })
}
