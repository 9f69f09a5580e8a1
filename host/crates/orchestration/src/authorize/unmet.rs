//! What a grant gives and a call would not get all the same, with the lines that would change that. None of it is a no: a call may do
//! without.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aral_capability::egress::address;
use aral_contract::host_pattern::Host;
use aral_contract::scope::SecretUse;
use aral_contract::{Classification, Grant, HostPattern, Permission};
use ipnet::IpNet;

use super::lines::{self, Lines};

/// In words, for people to see.
pub(super) fn warnings(grant: &Grant) -> Vec<String> {
    let hosts: Vec<String> = closed(grant).iter().map(|(host, _)| format!("`{host}`")).collect();
    let network = networks(grant).map(|line| {
        format!(
            "requests to {} are refused, because the address is not public: {line}",
            hosts.join(", ")
        )
    });
    let only_public = grant.permissions.has(Permission::MemoryWrite) && grant.clearance == Classification::Public;
    let memory = only_public.then(|| {
        format!(
            "memory:write: the persona is cleared for `public` alone, and the SDK writes `internal` where a capability says nothing \
             else: {}",
            clearance(Classification::Internal)
        )
    });
    let secrets = uncleared(grant).map(|what| {
        format!(
            "{what} is refused, because the persona is cleared up to `{}`: {}",
            grant.clearance,
            clearance(Classification::Secret)
        )
    });
    network.into_iter().chain(memory).chain(secrets).collect()
}

/// The lines without which such a call is certainly refused something that it is granted.
pub(super) fn lines(grant: &Grant) -> Vec<String> {
    let secrets = uncleared(grant).map(|_| clearance(Classification::Secret));
    networks(grant).into_iter().chain(secrets).collect()
}

/// The line that clears a persona.
fn clearance(needed: Classification) -> String {
    format!("{}: \"{needed}\"", lines::PERSONA_CLEARANCE)
}

/// What a grant gives of secrets that takes a clearance for them, where the persona has none. A secret that the host adds to requests
/// takes none.
fn uncleared(grant: &Grant) -> Option<&'static str> {
    if grant.clearance >= Classification::Secret {
        return None;
    }
    let mut secrets = grant.permissions.secret_read.iter().flat_map(|scope| &scope.secrets);
    let is_shown = secrets.any(|secret| secret.usage == SecretUse::Reveal);
    match (is_shown, grant.permissions.has(Permission::SecretWrite)) {
        (true, true) => Some("revealing and storing secrets"),
        (true, false) => Some("revealing secrets"),
        (false, true) => Some("storing secrets"),
        (false, false) => None,
    }
}

/// The line with the networks that requests of such a call need.
fn networks(grant: &Grant) -> Option<String> {
    let mut lines = Lines::default();
    for network in closed(grant).iter().flat_map(|(_, networks)| networks) {
        lines.add_text(lines::POLICY_NETWORKS, network);
    }
    lines.into_lines().pop().map(|line| line.to_string())
}

/// The hosts of a grant that lead to addresses which it does not open, with the networks of these.
fn closed(grant: &Grant) -> Vec<(&HostPattern, Vec<String>)> {
    let permissions = &grant.permissions;
    let scopes = [&permissions.network_read, &permissions.network_write];
    let mut closed: Vec<(&HostPattern, Vec<String>)> = Vec::new();
    for host in scopes.into_iter().flatten().flat_map(|scope| &scope.hosts) {
        let addresses = addresses(host).into_iter();
        let lacked: Vec<Vec<IpNet>> = addresses.map(|one| lacked(one, &grant.networks)).collect();
        // Which of its addresses a name has, the machine says: one that is open may be all.
        let is_closed = !lacked.is_empty() && lacked.iter().all(|networks| !networks.is_empty());
        if is_closed && !closed.iter().any(|(other, _)| *other == host) {
            closed.push((host, lacked.concat().iter().map(IpNet::to_string).collect()));
        }
    }
    closed
}

/// The networks that are still to be opened for an address: its own, and that of each IPv4 address that it hides.
fn lacked(address: IpAddr, open: &[IpNet]) -> Vec<IpNet> {
    let mut all = open.to_vec();
    while let Err(refused) = address::check(address, &all) {
        all.push(refused.network());
    }
    all.split_off(open.len())
}

/// The addresses of a host that are known without asking.
fn addresses(host: &HostPattern) -> Vec<IpAddr> {
    match host.host() {
        Some(Host::Address(address)) => vec![*address],
        Some(Host::Name(name)) if name == "localhost" => {
            vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
        }
        Some(Host::Name(_)) | None => Vec::new(),
    }
}
