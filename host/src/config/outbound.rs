//! `[outbound]`, resolved: how the host's own requests leave the machine. It connects to nothing.

use std::path::PathBuf;

use aral_runtime::outbound::{Outbound, OutboundError, OutboundOptions};
use serde::Deserialize;

use super::{ConfigError, authorities};

/// `[outbound]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawOutbound {
    proxy: Option<String>,
    no_proxy: Vec<String>,
    ca_file: Option<PathBuf>,
}

/// Why `[outbound]` is not taken.
#[derive(Debug, thiserror::Error)]
#[error("[outbound]")]
pub struct OutboundConfigError(#[from] OutboundError);

impl OutboundConfigError {
    /// The line that repairs it.
    pub fn hint(&self) -> String {
        let line = match &self.0 {
            OutboundError::Proxy(_) | OutboundError::Address { .. } => "proxy = \"http://HOST:PORT\"",
            OutboundError::NoProxy(_) => "no_proxy = [\"example.org\", \"10.0.0.0/8\"]",
            OutboundError::Authorities(_) | OutboundError::Client(_) => "ca_file = \"ca.pem\"",
        };
        format!("aral.toml, [outbound]: {line}")
    }
}

pub(super) fn resolve(raw: RawOutbound, beside: &impl Fn(PathBuf) -> PathBuf) -> Result<Outbound, ConfigError> {
    let options = OutboundOptions {
        proxy: raw.proxy,
        no_proxy: raw.no_proxy,
        ca_pem: authorities("[outbound]", raw.ca_file, beside)?,
    };
    Ok(Outbound::new(&options).map_err(OutboundConfigError)?)
}
