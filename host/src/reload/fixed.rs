//! What of a configuration cannot change while the host runs, and the authorities, which change in part.

use aral_contract::{Code, Failure};
use aral_protocol::AdminOptions;

use crate::config::Config;

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

/// Whom they trust besides the system's.
pub(super) fn authorities(config: &Config) -> Option<&[u8]> {
    config.outbound.options().ca_pem.as_deref()
}

/// What the host is made of, it keeps until its end.
pub(super) fn check_fixed(old: &Config, new: &Config) -> Result<(), Failure> {
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
        ("[memory]", old.memory == new.memory),
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
    let changed = changed.join(", ");
    Err(Failure::new(
        Code::ConfigInvalid,
        format!("{changed} cannot change while the host runs"),
    )
    .with_hint(format!("restart it, or leave {changed} in aral.toml as it was")))
}
