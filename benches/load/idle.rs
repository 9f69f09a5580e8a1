//! Many connections on which nothing happens: after they were opened, and after each had a call. Each call at the end shows
//! that its connection was still there.

use std::time::Duration;

use anyhow::{Context as _, Result};
use aral_benches::resident::mebibytes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::SPARE;
use crate::client::Client;
use crate::server::{self, Server};

/// After that long without a request a connection is one on which nothing happens.
const REST: Duration = Duration::from_secs(4);

/// A server gets the same limit from this program, and lowers it by itself to what its configuration says.
fn allow_descriptors(count: u32) -> Result<()> {
    let wanted = u64::from(count);
    let have = getrlimit(Resource::Nofile);
    if have.current.is_some_and(|current| current < wanted) {
        let maximum = have.maximum.map(|maximum| maximum.max(wanted));
        let current = Some(wanted);
        setrlimit(Resource::Nofile, Rlimit { current, maximum })
            .with_context(|| format!("{wanted} descriptors are needed: `ulimit -Hn`"))?;
    }
    Ok(())
}

pub(crate) fn run(connections: u32) -> Result<()> {
    allow_descriptors(connections + SPARE)?;
    let places = connections + SPARE;
    measure("HTTP/1.1", connections, &server::aral(places)?)?;
    measure("HTTP/1.1 over TLS 1.3", connections, &server::aral_secured(places)?)?;
    println!("  wanted: under 200 MiB");
    Ok(())
}

fn measure(protocol: &str, connections: u32, server: &Server) -> Result<()> {
    println!("idle: {connections} connections of {protocol} to aral serve");
    let tell = |when: &str| -> Result<()> {
        println!("  {when:<28} {:>6.1} MiB resident", mebibytes(server.resident_bytes()?));
        Ok(())
    };
    tell("none yet")?;
    let mut clients = Vec::new();
    for _ in 0..connections {
        clients.push(Client::open(&server.target)?);
    }
    tell("all open")?;
    for when in ["after a call on each", "after another call on each"] {
        for client in &mut clients {
            client.ask()?;
        }
        tell(when)?;
        std::thread::sleep(REST);
        tell("  and some seconds later")?;
    }
    Ok(())
}
