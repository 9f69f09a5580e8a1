//! A server that speaks Elasticsearch's `_bulk`, in memory. Tests that stop and start one of their own are told where the
//! program is.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::guard::Guard;
use super::install::Programs;
use super::{CONNECT_TIMEOUT, Started, free_port};

pub(super) fn start(programs: &Programs, folder: &Path) -> Result<Started> {
    let program = programs.package("osmem_server/bin/osmem-server")?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let mut command = Command::new(&program);
    command.args(["-addr", &address.to_string(), "-no-stdin-watch"]);
    Ok(Started {
        guard: Guard::start(&command, folder)?,
        variables: vec![
            ("ARAL_SERVICE_OSMEM", program.display().to_string()),
            ("ARAL_SERVICE_ELASTICSEARCH_ADDRESS", format!("http://{address}")),
        ],
        answers: Box::new(move || TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).is_ok()),
    })
}
