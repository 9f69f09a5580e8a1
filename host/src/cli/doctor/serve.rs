//! Whether `aral serve` would start: it makes the server as that does, from a host that keeps nothing, and lets it go before it
//! answers anybody. So the rules for personas, callers, issuers, listeners and TLS stand in one place.

use aral_contract::Failure;
use aral_host::config::serve::ServeConfig;
use aral_host::{Host, Personas};
use aral_runtime::Allocation;

use super::Check;
use crate::cli::configured::Configured;
use crate::cli::serve::{GIVE_A_KEY, without_way};
use crate::cli::session;

const NAME: &str = "serve";

/// One line, if there is something to serve.
pub(super) fn check(configured: &Configured) -> Option<Check> {
    let mut serve = configured.config.serve.clone()?;
    // Whoever counts in it talks to it; one look would be none at its limits.
    serve.redis = None;
    Some(match begin(configured, &serve) {
        Ok(()) => match without_way(&serve) {
            None => Check::ok(
                NAME,
                "personas, callers, issuers and listeners are as a server needs them",
            ),
            Some(without) => Check::warn(NAME, without, GIVE_A_KEY),
        },
        Err(failure) => {
            let fix = failure
                .hint
                .unwrap_or_else(|| "correct [serve] in aral.toml".to_owned());
            Check::fail(NAME, failure.message, fix)
        }
    })
}

fn begin(configured: &Configured, serve: &ServeConfig) -> Result<(), Failure> {
    let mut config = configured.without_storage().config;
    config.manifests.clear();
    config.allocation = Allocation::OnDemand;
    config.state_dir = None;
    // A host with a configuration warns that it has no folder of state.
    config.digest = None;
    let host = Host::builder().config(config).build()?;
    // A server that runs has its ports, and one that starts at this moment must find them free.
    session::block_on(host.check_server(serve, Personas::Signed))?
}
