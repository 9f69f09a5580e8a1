//! `[telemetry]`, resolved: where traces and metrics go, and which of them. It starts nothing.

use std::path::PathBuf;

use aral_contract::Sampling;
use serde::Deserialize;

use super::ConfigError;
use super::audit::{OtlpConfig, SERVICE_DEFAULT, server, timeout_ms};
use super::range::OutOfRange;

/// Where traces and metrics go. The default is nowhere.
///
/// | Key | Meaning | If absent |
/// |---|---|---|
/// | `[telemetry.otlp]` `address` | the collector: `https://HOST:PORT`, or `http://` on this machine | nothing is exported |
/// | `service` | what the host calls itself there | `aral` |
/// | `ca_file` | PEM file with certificates to trust instead of the system's | the system's |
/// | `authorization_file` | private file with the value of the header `authorization` | none |
/// | `timeout_ms` | how long one delivery may take | 10000 |
/// | `sample_ratio` | the part of all traces that is exported, from 0 to 1 | 1 |
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TelemetryConfig {
    /// The OpenTelemetry collector.
    pub otlp: Option<TelemetryOtlpConfig>,
}

/// A collector of traces and metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryOtlpConfig {
    /// Where it is, and what the host calls itself there.
    pub collector: OtlpConfig,
    /// Which traces it gets.
    pub sampling: Sampling,
}

/// Why `[telemetry]` is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TelemetryConfigError {
    /// A part that is none.
    #[error("[telemetry.otlp] sample_ratio = {0} is not between 0 and 1")]
    Ratio(String),
    /// A time that makes no sense.
    #[error(transparent)]
    Timeout(OutOfRange),
}

impl TelemetryConfigError {
    /// The line that repairs it.
    pub(super) fn hint(&self) -> &'static str {
        match self {
            Self::Ratio(_) => "aral.toml, [telemetry.otlp]: sample_ratio = 0.1",
            Self::Timeout(_) => "aral.toml, [telemetry.otlp]: timeout_ms = 10000",
        }
    }
}

/// `[telemetry]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTelemetry {
    otlp: Option<RawTelemetryOtlp>,
}

/// `[telemetry.otlp]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTelemetryOtlp {
    address: String,
    service: Option<String>,
    ca_file: Option<PathBuf>,
    authorization_file: Option<PathBuf>,
    timeout_ms: Option<u64>,
    sample_ratio: Option<f64>,
}

pub(super) fn resolve(raw: RawTelemetry, beside: &impl Fn(PathBuf) -> PathBuf) -> Result<TelemetryConfig, ConfigError> {
    let otlp = raw.otlp.map(|raw| otlp(raw, beside)).transpose()?;
    Ok(TelemetryConfig { otlp })
}

fn otlp(raw: RawTelemetryOtlp, beside: &impl Fn(PathBuf) -> PathBuf) -> Result<TelemetryOtlpConfig, ConfigError> {
    let sampling = match raw.sample_ratio {
        None => Sampling::ALL,
        Some(ratio) => Sampling::ratio(ratio).ok_or_else(|| TelemetryConfigError::Ratio(ratio.to_string()))?,
    };
    let timeout_ms = timeout_ms("[telemetry.otlp] timeout_ms", raw.timeout_ms);
    let server = server(
        "[telemetry.otlp]",
        raw.address,
        raw.ca_file,
        raw.authorization_file,
        timeout_ms.map_err(TelemetryConfigError::Timeout)?,
        beside,
    )?;
    Ok(TelemetryOtlpConfig {
        collector: OtlpConfig {
            server,
            service: raw.service.unwrap_or_else(|| SERVICE_DEFAULT.to_owned()),
        },
        sampling,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<TelemetryConfig, ConfigError> {
        resolve(toml::from_str(text).unwrap(), &|named| {
            PathBuf::from("/etc/aral").join(named)
        })
    }

    #[test]
    fn every_key_is_read() {
        assert_eq!(read("").unwrap(), TelemetryConfig::default());
        let text = "[otlp]\naddress = \"https://otel.example\"";
        let otlp = read(text).unwrap().otlp.unwrap();
        assert_eq!(
            (otlp.sampling, otlp.collector.service.as_str()),
            (Sampling::ALL, "aral")
        );
        assert_eq!(otlp.collector.server.timeout_ms, 10_000);
        let keys = "\nservice = \"s\"\ntimeout_ms = 5\nsample_ratio = 0.25\nauthorization_file = \"auth\"";
        let otlp = read(&format!("{text}{keys}")).unwrap().otlp.unwrap();
        assert_eq!(otlp.sampling, Sampling::ratio(0.25).unwrap());
        let server = otlp.collector.server;
        assert_eq!((otlp.collector.service.as_str(), server.timeout_ms), ("s", 5));
        assert_eq!(server.authorization_file, Some(PathBuf::from("/etc/aral/auth")));
        assert_eq!(server.address, "https://otel.example");
        for (bad, key) in [
            ("sample_ratio = 1.5", "sample_ratio = 1.5"),
            ("sample_ratio = -1.0", "sample_ratio = -1"),
            ("sample_ratio = nan", "sample_ratio = NaN"),
            ("timeout_ms = 0", "timeout_ms = 0"),
            ("timeout_ms = 600001", "timeout_ms = 600001"),
        ] {
            let error = read(&format!("{text}\n{bad}")).unwrap_err();
            assert!(error.to_string().contains(key), "{error}");
        }
        assert!(toml::from_str::<RawTelemetry>(&format!("{text}\nratio = 1.0")).is_err());
        let none = read(&format!("{text}\nca_file = \"none.pem\"")).unwrap_err();
        assert!(
            none.to_string()
                .starts_with("[telemetry.otlp] ca_file: cannot open `/etc/aral/none.pem`"),
            "{none}"
        );
    }
}
