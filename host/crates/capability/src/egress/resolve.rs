//! Names to addresses, and every address through the table. If one answer of many is forbidden the name is refused: a
//! name that sometimes leads inside is an attack, and not a candidate for picking the better half.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use aral_contract::host_pattern::Host;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use ipnet::IpNet;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::address::{self, Forbidden};
use super::answers::Answers;

/// Addresses of one name that are looked at. More is no server but a list.
const ADDRESSES_MAX: usize = 32;
/// Time for one query of one name server.
const QUERY_TIMEOUT: Duration = Duration::from_secs(3);
/// A cached answer is checked like a fresh one; the bound is for names that move.
const CACHED_TIME_MAX: Duration = Duration::from_secs(60);
/// The same for the answer that there is no such name.
const CACHED_ABSENCE_TIME_MAX: Duration = Duration::from_secs(5);

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
    families: [Family; 2],
}

/// Addresses of one kind: name servers are asked for each by itself, answer for each by itself, and say of each how long it is good.
struct Family {
    strategy: LookupIpStrategy,
    resolver: OnceCell<TokioResolver>,
    answers: Answers,
}

impl Family {
    fn new(strategy: LookupIpStrategy) -> Self {
        Self {
            strategy,
            resolver: OnceCell::new(),
            answers: Answers::default(),
        }
    }
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
            families: [LookupIpStrategy::Ipv6Only, LookupIpStrategy::Ipv4Only].map(Family::new),
        }
    }

    fn make(&self, strategy: LookupIpStrategy) -> Result<TokioResolver, NetError> {
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
        options.ip_strategy = strategy;
        // The library keeps whole messages, however long: a zone that answers with thousands of addresses would fill memory.
        options.cache_size = 0;
        builder.build()
    }

    /// All addresses of a host, each allowed by the table or named in `networks`. Those of both families come in turns.
    pub(super) async fn resolve(&self, host: &Host, networks: &[IpNet]) -> Result<Vec<IpAddr>, ResolveError> {
        let name = match host {
            Host::Address(address) => {
                address::check(*address, networks)?;
                return Ok(vec![*address]);
            }
            Host::Name(name) => name,
        };
        let [first, second] = &self.families;
        let addresses = match tokio::join!(self.ask(first, name), self.ask(second, name)) {
            (Ok(first), Ok(second)) => in_turns(&first, &second),
            (Ok(found), Err(_)) | (Err(_), Ok(found)) => found,
            (Err(error), Err(_)) => return Err(error),
        };
        let addresses: Vec<IpAddr> = addresses.into_iter().take(ADDRESSES_MAX.saturating_add(1)).collect();
        if addresses.is_empty() {
            return Err(ResolveError::NoAddress);
        }
        addresses
            .iter()
            .try_for_each(|address| address::check(*address, networks))?;
        if addresses.len() > ADDRESSES_MAX {
            self.families.iter().for_each(|family| family.answers.forget(name));
            return Err(ResolveError::TooMany);
        }
        Ok(addresses)
    }

    /// What is kept of the addresses of one family, or else what the name servers say, which is then kept unless it is too much. At
    /// most one address more than are looked at.
    async fn ask(&self, family: &Family, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        if let Some(addresses) = family.answers.get(name, Instant::now()) {
            return addresses.ok_or(ResolveError::NoAddress);
        }
        let make = || async { self.make(family.strategy) };
        let resolver = family
            .resolver
            .get_or_try_init(make)
            .await
            .map_err(ResolveError::Servers)?;
        // With the final dot: the system's search list is for people, and would turn a granted name into another.
        let found = resolver.lookup_ip(format!("{name}.")).await;
        let now = Instant::now();
        match found {
            Ok(found) => {
                let addresses: Vec<IpAddr> = found.iter().take(ADDRESSES_MAX.saturating_add(1)).collect();
                if addresses.len() <= ADDRESSES_MAX {
                    let until = Instant::from_std(found.valid_until()).min(now + CACHED_TIME_MAX);
                    family.answers.keep(name, Some(addresses.clone()), until, now);
                }
                Ok(addresses)
            }
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                let time = Duration::from_secs(none.negative_ttl.unwrap_or(0).into());
                let until = now + time.min(CACHED_ABSENCE_TIME_MAX);
                family.answers.keep(name, None, until, now);
                Err(ResolveError::NoAddress)
            }
            Err(error) => Err(ResolveError::Servers(error)),
        }
    }
}

/// One of each family after the other, as RFC 8305, section 4, has it: few addresses are tried, and a machine without a way to one
/// family has to come to the other.
fn in_turns(first: &[IpAddr], second: &[IpAddr]) -> Vec<IpAddr> {
    let turns = 0..first.len().max(second.len());
    let turns = turns.flat_map(|turn| [first.get(turn), second.get(turn)]);
    turns.flatten().copied().collect()
}
