//! Whether traces and metrics can be exported. It asks no collector.

use aral_host::telemetry::Telemetry;

use super::Check;
use crate::cli::configured::Configured;

/// A line, if something is exported.
pub(super) fn check(configured: &Configured) -> Option<Check> {
    const NAME: &str = "telemetry";
    let config = &configured.config;
    let otlp = config.telemetry.otlp.as_ref()?;
    Some(match Telemetry::check(&config.telemetry, &config.outbound) {
        Ok(()) => Check::ok(
            NAME,
            format!("traces and metrics go to `{}`", otlp.collector.server.address),
        ),
        Err(failure) => Check::failed(NAME, failure, "correct [telemetry.otlp] in aral.toml"),
    })
}
