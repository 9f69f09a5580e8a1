//! An OpenTelemetry collector that writes the logs it gets to its own log and forgets them. Tests that read that log start
//! one of their own, and are told where the program is.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::guard::Guard;
use super::install::Programs;
use super::{CONNECT_TIMEOUT, Started, free_port};

pub(super) fn start(programs: &Programs, folder: &Path) -> Result<Started> {
    let program = programs.package("rotel/rotel-agent")?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let grpc = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let mut command = Command::new(&program);
    command
        .args(["start", "--exporter", "blackhole"])
        .args(["--debug-log", "logs", "--debug-log-verbosity", "detailed"])
        .args(["--otlp-http-endpoint", &address.to_string()])
        .args(["--otlp-grpc-endpoint", &grpc.to_string()]);
    Ok(Started {
        guard: Guard::start(&command, folder)?,
        variables: vec![
            ("ARAL_SERVICE_ROTEL", program.display().to_string()),
            ("ARAL_SERVICE_OTLP_ADDRESS", format!("http://{address}")),
        ],
        answers: Box::new(move || TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok()),
    })
}
