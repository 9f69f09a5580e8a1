//! Whether `aral serve` would start: it makes the server as that does, from a host that keeps nothing, and lets it go before it
//! answers anybody. So the rules for personas, callers, issuers, listeners and TLS stand in one place. And how long files of TLS
//! are in their time.

use std::collections::BTreeSet;

use aral_contract::{Clock as _, Failure};
use aral_host::config::serve::ServeConfig;
use aral_host::protocol::{TlsPart, TlsTerm};
use aral_host::{Host, Personas, Warning};
use aral_runtime::{Allocation, SystemClock, process};
use jiff::{SignedDuration, Timestamp};

use super::Check;
use super::checks::EXPIRES_SOON_DAYS;
use crate::cli::configured::Configured;
use crate::cli::session;

const NAME: &str = "serve";
const TLS: &str = "tls";

/// One line, if there is something to serve, one where connections lack descriptors, and one for each file of TLS that has to be
/// renewed soon.
pub(super) fn checks(configured: &Configured) -> Vec<Check> {
    let Some(serve) = &configured.config.serve else {
        return Vec::new();
    };
    let mut all = match begin(configured, serve) {
        Ok(()) => told(serve),
        Err(failure) => vec![Check::failed(NAME, failure, "correct [serve] in aral.toml")],
    };
    let lacking = configured.config.descriptors_lacking(process::open_files_max());
    all.extend(lacking.map(|Warning { message, hint }| Check::warn(NAME, message, hint)));
    let now = SystemClock::new().now();
    all.extend(terms(serve).iter().filter_map(|term| ending(term, now)));
    all
}

/// Lines that do nothing; none of them: a server is as it should be.
fn told(serve: &ServeConfig) -> Vec<Check> {
    let lines = serve.lines_for_nothing();
    if lines.is_empty() {
        let well = "personas, callers, issuers and listeners are as a server needs them";
        return vec![Check::ok(NAME, well)];
    }
    let lines = lines.into_iter();
    lines
        .map(|Warning { message, hint }| Check::warn(NAME, message, hint))
        .collect()
}

/// Of all listeners. Files that cannot be taken are what the server is not made for.
fn terms(serve: &ServeConfig) -> BTreeSet<TlsTerm> {
    let secured = serve.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    secured.flat_map(|tls| tls.terms().unwrap_or_default()).collect()
}

/// A warning, where it is time to renew something.
fn ending(term: &TlsTerm, now: Timestamp) -> Option<Check> {
    // What is made for hours or days is renewed by a program, in good time before its last quarter. A warning all the time would hide
    // that this has ended.
    let soon = SignedDuration::from_hours(EXPIRES_SOON_DAYS.saturating_mul(24));
    let soon = soon.min(term.to.duration_since(term.from) / 4);
    let (what, then, fix) = match term.part {
        TlsPart::Certificate => (
            "the certificate",
            "clients refuse it from then on",
            "renew it, and replace the files",
        ),
        TlsPart::OcspResponse => (
            "the OCSP response",
            "the certificate is shown without one from then on",
            "fetch it anew: `openssl ocsp -issuer ISSUER -cert CERTIFICATE -url URL -respout FILE`",
        ),
        TlsPart::RevocationList => (
            "the list of what was revoked",
            "nobody whose certificate its issuer signed comes in from then on",
            "fetch the next list of its issuer, and replace the file",
        ),
    };
    let is_over = term.to < now;
    // The server is not made with such a certificate, which says it.
    let is_told = is_over && term.part == TlsPart::Certificate;
    let is = if is_over { "was" } else { "is" };
    (term.to.duration_since(now) < soon && !is_told).then(|| {
        Check::warn(
            TLS,
            format!(
                "`{}`: {what} {is} in its time until {}; {then}",
                term.file.display(),
                term.to
            ),
            format!("{fix}; a server that runs takes it by itself"),
        )
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

#[cfg(test)]
mod tests {
    use super::*;

    fn term(part: TlsPart, from: &str, to: &str) -> TlsTerm {
        TlsTerm {
            part,
            file: "/tls/file".into(),
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
        }
    }

    #[test]
    fn what_ends_soon_is_told_with_its_end_and_what_renews_it() {
        let told = |term: &TlsTerm, now: &str| ending(term, now.parse().unwrap());
        let certificate = term(TlsPart::Certificate, "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
        assert!(told(&certificate, "2026-01-01T17:00:00Z").is_none());
        assert!(told(&certificate, "2026-01-01T19:00:00Z").is_some());
        let certificate = term(TlsPart::Certificate, "2025-01-01T00:00:00Z", "2026-03-01T00:00:00Z");
        assert!(told(&certificate, "2026-02-15T00:00:00Z").is_none());
        let check = told(&certificate, "2026-02-15T00:00:01Z").unwrap();
        assert!(
            check.detail.contains("`/tls/file`: the certificate") && check.detail.contains("2026-03-01T00:00:00Z"),
            "{check:?}"
        );
        assert!(check.fix.unwrap().contains("renew it"));
        assert!(told(&certificate, "2026-03-01T00:00:00Z").is_some());
        assert!(
            told(&certificate, "2026-03-01T00:00:01Z").is_none(),
            "no server is made with it"
        );
        for (part, fix) in [
            (TlsPart::OcspResponse, "openssl ocsp"),
            (TlsPart::RevocationList, "the next list"),
        ] {
            // Made for four days: for three of them nobody has to do anything.
            let short = term(part, "2026-01-01T00:00:00Z", "2026-01-05T00:00:00Z");
            assert!(told(&short, "2026-01-04T00:00:00Z").is_none());
            let check = told(&short, "2026-01-04T00:00:01Z").unwrap();
            assert!(check.fix.unwrap().contains(fix));
            let over = told(&short, "2026-02-01T00:00:00Z").unwrap();
            assert!(over.detail.contains("was in its time until"), "{over:?}");
            let long = term(part, "2025-01-01T00:00:00Z", "2026-03-01T00:00:00Z");
            assert!(told(&long, "2026-02-15T00:00:00Z").is_none());
            assert!(told(&long, "2026-02-15T00:00:01Z").is_some());
        }
    }
}
