//! What of a configuration cannot change while the host runs, and the authorities, which change in part.

use std::collections::BTreeMap;

use aral_contract::{Code, Digest, Failure, rule};
use aral_protocol::AdminOptions;

use crate::config::Config;
use crate::config::storage::MemoryConfig;

/// What is refused if the store is another one.
pub(super) const MEMORY: &str = "[memory]";

fn admin(config: &Config) -> Option<&AdminOptions> {
    config.serve.as_ref().map(|serve| &serve.admin)
}

/// Whether something reaches its server until the end of the host as it did at the start. Keys of issuers are fetched anew.
pub(super) fn keeps_outbound(config: &Config) -> bool {
    let secrets = config.secrets.as_ref().is_some_and(|secrets| secrets.vault.is_some());
    let audit = config.audit.as_ref();
    let copies = audit.is_some_and(|audit| audit.elasticsearch.is_some() || audit.otlp.is_some());
    secrets || copies || config.telemetry.otlp.is_some()
}

/// The way that requests to other servers go.
fn way(config: &Config) -> (Option<&str>, &[String]) {
    let options = config.outbound.options();
    (options.proxy.as_deref(), &options.no_proxy)
}

/// What the `ca_file` of each section says that cannot change, by the rule of the event that says that it does not hold yet. It is read
/// once, at the start.
fn ca_files(config: &mut Config) -> [(&'static str, Option<&mut Vec<u8>>); 5] {
    let vault = config.secrets.as_mut().and_then(|secrets| secrets.vault.as_mut());
    let (elasticsearch, otlp) = match &mut config.audit {
        Some(audit) => (audit.elasticsearch.as_mut(), audit.otlp.as_mut()),
        None => (None, None),
    };
    let telemetry = config.telemetry.otlp.as_mut();
    [
        (rule::EGRESS_CA_FILE, config.egress.extra_roots_pem.as_mut()),
        (rule::VAULT_CA_FILE, vault.and_then(|vault| vault.ca_pem.as_mut())),
        (
            rule::ELASTICSEARCH_CA_FILE,
            elasticsearch.and_then(|copy| copy.server.ca_pem.as_mut()),
        ),
        (rule::OTLP_CA_FILE, otlp.and_then(|copy| copy.server.ca_pem.as_mut())),
        (
            rule::TELEMETRY_CA_FILE,
            telemetry.and_then(|export| export.collector.server.ca_pem.as_mut()),
        ),
    ]
}

/// Whom those trust who reach a server until the end of the host as they did at the start, by the rules of the events.
pub(super) fn authorities(config: &Config) -> BTreeMap<&'static str, Option<Digest>> {
    let outbound = config.outbound.options().ca_pem.as_deref();
    let outbound = outbound.filter(|_| keeps_outbound(config)).map(Digest::of);
    let mut copy = config.clone();
    let files = ca_files(&mut copy).map(|(rule, pem)| (rule, pem.map(|pem| Digest::of(pem))));
    files.into_iter().chain([(rule::OUTBOUND_CA_FILE, outbound)]).collect()
}

/// Without what each `ca_file` says: that there is one is of its section, and what it says changes when its authority is renewed. Where
/// it is, nobody compares: it comes to what it says.
fn without_authorities(config: &Config) -> Config {
    let mut config = config.clone();
    for (_, pem) in ca_files(&mut config) {
        if let Some(pem) = pem {
            pem.clear();
        }
    }
    config
}

/// Whether the store is the same one, kept in the same way. Where its key is changes when that is rotated.
fn is_same_memory(old: Option<&MemoryConfig>, new: Option<&MemoryConfig>) -> bool {
    match (old, new) {
        (Some(old), Some(new)) => {
            let renamed = MemoryConfig {
                master_key: new.master_key.clone(),
                ..old.clone()
            };
            renamed == *new
        }
        (old, new) => old == new,
    }
}

/// What the host is made of, it keeps until its end. Authorities that are renewed are no reason to refuse a configuration that may
/// revoke something.
pub(super) fn check_fixed(old: &Config, new: &Config) -> Result<(), Failure> {
    let (old, new) = (&without_authorities(old), &without_authorities(new));
    let sections = [
        ("state_dir", old.state_dir == new.state_dir),
        ("[egress]", old.egress == new.egress),
        (
            "[runtime]",
            old.allocation == new.allocation
                && old.gate == new.gate
                && old.cache_dir == new.cache_dir
                && old.cache_bytes_max == new.cache_bytes_max,
        ),
        (MEMORY, is_same_memory(old.memory.as_ref(), new.memory.as_ref())),
        ("[secrets]", old.secrets == new.secrets),
        ("[audit]", old.audit == new.audit),
        ("[process]", old.process == new.process),
        ("[telemetry]", old.telemetry == new.telemetry),
        ("[outbound]", way(old) == way(new) || !keeps_outbound(old)),
        (
            "[serve.admin]",
            admin(old) == admin(new) || new.serve.is_none() || old.serve.is_none(),
        ),
    ];
    let changed: Vec<&str> = sections
        .into_iter()
        .filter(|(_, same)| !same)
        .map(|(name, _)| name)
        .collect();
    if changed.is_empty() {
        return Ok(());
    }
    Err(refused(&changed.join(", ")))
}

pub(super) fn refused(changed: &str) -> Failure {
    Failure::new(
        Code::ConfigInvalid,
        format!("{changed} cannot change while the host runs"),
    )
    .with_hint(format!("restart it, or leave {changed} in aral.toml as it was"))
}
