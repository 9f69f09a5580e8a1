//! Names to addresses, and every address through the table. If one answer of many is forbidden the name is refused: a
//! name that sometimes leads inside is an attack, and not a candidate for picking the better half.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use aral_contract::host_pattern::Host;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use ipnet::IpNet;
use tokio::sync::OnceCell;

use super::address::{self, Forbidden};

/// Addresses of one name that are looked at. More is no server but a list.
const ADDRESSES_MAX: usize = 32;
/// Time for one query of one name server.
const QUERY_TIMEOUT: Duration = Duration::from_secs(3);
/// Answers kept, for at most [`CACHED_TIME_MAX`].
const CACHED_ANSWERS_MAX: u64 = 1024;
/// A cached answer is checked like a fresh one; the bound is for names that move.
const CACHED_TIME_MAX: Duration = Duration::from_secs(60);

/// Why a host has no address to dial.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResolveError {
    /// One of the addresses must not be dialled.
    #[error(transparent)]
    Forbidden(#[from] Forbidden),
    /// There is no such name, or it has no address.
    #[error("the name has no address")]
    NoAddress,
    /// The name servers did not answer.
    #[error("the name servers did not answer")]
    Servers(#[source] NetError),
    /// The name has more addresses than this host looks at.
    #[error("the name has more than {ADDRESSES_MAX} addresses")]
    TooMany,
}

/// Resolves names.
pub(super) struct Resolver {
    nameservers: Vec<SocketAddr>,
    resolver: OnceCell<TokioResolver>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver")
            .field("nameservers", &self.nameservers)
            .finish_non_exhaustive()
    }
}

impl Resolver {
    pub(super) fn new(nameservers: Vec<SocketAddr>) -> Self {
        Self {
            nameservers,
            resolver: OnceCell::new(),
        }
    }

    fn make(&self) -> Result<TokioResolver, NetError> {
        let mut builder = if self.nameservers.is_empty() {
            TokioResolver::builder_tokio()?
        } else {
            let servers = self.nameservers.iter().map(|server| {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = server.port();
                    connection
                });
                NameServerConfig::new(server.ip(), true, connections.into())
            });
            let config = ResolverConfig::from_name_servers(servers.collect());
            let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
            // The operator said who answers: then the hosts file does not.
            builder.options_mut().use_hosts_file = ResolveHosts::Never;
            builder
        };
        let options = builder.options_mut();
        options.timeout = QUERY_TIMEOUT;
        options.attempts = 2;
        options.cache_size = CACHED_ANSWERS_MAX;
        options.positive_max_ttl = Some(CACHED_TIME_MAX);
        options.negative_max_ttl = Some(Duration::from_secs(5));
        builder.build()
    }

    /// All addresses of a host, each allowed by the table or named in `networks`.
    pub(super) async fn resolve(&self, host: &Host, networks: &[IpNet]) -> Result<Vec<IpAddr>, ResolveError> {
        let name = match host {
            Host::Address(address) => {
                address::check(*address, networks)?;
                return Ok(vec![*address]);
            }
            Host::Name(name) => name,
        };
        let make = || async { self.make() };
        let resolver = self
            .resolver
            .get_or_try_init(make)
            .await
            .map_err(ResolveError::Servers)?;
        // With the final dot: the system's search list is for people, and would turn a granted name into another.
        let found = resolver
            .lookup_ip(format!("{name}."))
            .await
            .map_err(|error| match &error {
                error if error.is_no_records_found() || error.is_nx_domain() => ResolveError::NoAddress,
                _ => ResolveError::Servers(error),
            })?;
        let addresses: Vec<IpAddr> = found.iter().take(ADDRESSES_MAX.saturating_add(1)).collect();
        if addresses.is_empty() {
            return Err(ResolveError::NoAddress);
        }
        addresses
            .iter()
            .try_for_each(|address| address::check(*address, networks))?;
        if addresses.len() > ADDRESSES_MAX {
            return Err(ResolveError::TooMany);
        }
        Ok(addresses)
    }
}
