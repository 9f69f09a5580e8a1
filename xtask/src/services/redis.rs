//! Redis, in memory. Tests that stop and start one of their own are told where the program is.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::guard::Guard;
use super::install::Programs;
use super::{CONNECT_TIMEOUT, Started, free_port};

pub(super) fn start(programs: &Programs, folder: &Path) -> Result<Started> {
    let program = programs.debian("redis-server")?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let mut command = Command::new(&program);
    command
        .args(["--bind", "127.0.0.1", "--port", &address.port().to_string()])
        .args(["--save", "", "--appendonly", "no"]);
    Ok(Started {
        guard: Guard::start(&command, folder)?,
        variables: vec![
            ("ARAL_SERVICE_REDIS", program.display().to_string()),
            ("ARAL_SERVICE_REDIS_ADDRESS", format!("redis://{address}")),
        ],
        answers: Box::new(move || TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok()),
    })
}
