//! The one way out of the host for guests. Default is closed: the grant names hosts and methods, the host resolves the
//! name itself, every answered address is checked, and the checked address is the one that is dialled. No redirect is
//! followed, no proxy is asked, and no field goes out in which servers are known to read of hosts or hops but those that the
//! host fills in.

pub mod address;
mod answers;
mod body;
mod connect;
mod exchange;
pub(crate) mod hooks;
pub mod inject;
mod mask;
mod resolve;
mod rules;
pub(crate) mod sending;
mod trace;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;

use aral_contract::{Code, Failure};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::places::Places;
use connect::Tls;
use resolve::Resolver;

/// Connections of all guests together, unless set otherwise. Stops guests from using up the host's descriptors.
pub const CONNECTIONS_MAX: usize = 256;
/// The guests of one persona may have one in so many of them, and at least [`CONNECTIONS_SHARE_MIN`]. Stops those of one from
/// keeping everybody else from the network by asking servers that do not answer.
pub const CONNECTIONS_SHARE: usize = 4;
/// What those of one persona may have at least, if there are as many at all: a guest that sends on what it reads needs two at
/// once, and would wait for itself.
pub const CONNECTIONS_SHARE_MIN: usize = 2;

/// How requests leave the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressOptions {
    /// Name servers; none: those of the system, with its hosts file.
    pub nameservers: Vec<SocketAddr>,
    /// PEM certificates of authorities that are trusted besides those of the system.
    pub extra_roots_pem: Option<Vec<u8>>,
    /// Connections of all guests at once. The guests of one persona have one in [`CONNECTIONS_SHARE`] of them, and at least
    /// [`CONNECTIONS_SHARE_MIN`].
    pub connections_max: usize,
}

impl Default for EgressOptions {
    fn default() -> Self {
        Self {
            nameservers: Vec::new(),
            extra_roots_pem: None,
            connections_max: CONNECTIONS_MAX,
        }
    }
}

/// Sends requests. One for each host; name servers and certificates are read when the first request needs them.
#[derive(Debug)]
pub struct Egress {
    resolver: Resolver,
    tls: Tls,
    places: Places,
}

impl Egress {
    /// Fails if the extra certificates are not PEM.
    pub fn new(options: EgressOptions) -> Result<Self, Failure> {
        let extra_roots = match &options.extra_roots_pem {
            Some(pem) => parse_roots(pem)?,
            None => Vec::new(),
        };
        Ok(Self {
            resolver: Resolver::new(options.nameservers),
            tls: Tls::new(extra_roots),
            places: Places::new(options.connections_max, share(options.connections_max)),
        })
    }
}

/// What the guests of one persona may have of so many connections, where there are as many.
fn share(connections_max: usize) -> usize {
    (connections_max / CONNECTIONS_SHARE).max(CONNECTIONS_SHARE_MIN)
}

fn parse_roots(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match roots {
        Ok(roots) if !roots.is_empty() => Ok(roots),
        Ok(_) => Err(Failure::new(
            Code::ConfigInvalid,
            "the file of extra authorities holds no PEM certificate",
        )),
        Err(error) => {
            Err(Failure::new(Code::ConfigInvalid, "the file of extra authorities is not PEM").with_internal(error))
        }
    }
}
