//! OpenBao, which speaks the protocol of Vault: in memory, unsealed, with a known token. Tests that need a server of
//! their own, to stop it or to give it a certificate, are told where the program is.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::guard::Guard;
use super::install::Programs;
use super::{Started, free_port};

/// For a server that is reached from this machine alone and forgets everything when it ends.
const TOKEN: &str = "aral-tests-root";

pub(super) fn start(programs: &Programs, folder: &Path) -> Result<Started> {
    let program = programs.wheel("bao")?;
    let port = free_port()?;
    let mut command = Command::new(&program);
    command
        .args(["server", "-dev", "-dev-no-store-token"])
        .arg(format!("-dev-root-token-id={TOKEN}"))
        .arg(format!("-dev-listen-address=127.0.0.1:{port}"))
        .env("HOME", folder);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    Ok(Started {
        guard: Guard::start(&command, folder)?,
        variables: vec![
            ("ARAL_SERVICE_BAO", program.display().to_string()),
            ("ARAL_SERVICE_VAULT_ADDRESS", format!("http://{address}")),
            ("ARAL_SERVICE_VAULT_TOKEN", TOKEN.to_owned()),
        ],
        answers: Box::new(move || {
            let timeout = Duration::from_millis(500);
            let connected = TcpStream::connect_timeout(&address, timeout).is_ok();
            connected && is_unsealed(&program, address)
        }),
    })
}

/// The program's own client says so by its exit code.
fn is_unsealed(program: &Path, address: SocketAddr) -> bool {
    let mut status = Command::new(program);
    status
        .arg("status")
        .env("BAO_ADDR", format!("http://{address}"))
        .env_remove("BAO_NAMESPACE");
    crate::process::succeeds(&mut status)
}
